"""A soak from its start to its verdict: serve, write, kill, settle, look at everything."""

import random
import time
from dataclasses import dataclass, field

from tests.builders import REPOSITORY
from tests.soak.ledger import Ledger
from tests.soak.server import CHILDREN, KINDS, Server
from tests.soak.source import Clients, GivenUp
from tests.soak.stores import Trail, audit_faults, backlog, store_faults, waiting
from tests.soak.writers import Writers, fetch, look

__all__ = ["Plan", "Report", "counts", "judge", "look_at_all", "settle", "soak"]

FETCH_AT_ONCE = 20
SHOWN = 40
WHOLE = 3
"""The whole server is killed so many times less often than each child: its start takes as long as several of theirs."""


@dataclass(frozen=True)
class Plan:
    """``kills`` of each child, as many as fit into ``seconds`` of load and one at least; ``settings`` of the server."""

    seed: int = 1
    kills: int = 200
    seconds: float = 900
    large_bytes: int = 4 * 2**20
    settings: dict[str, str] = field(default_factory=dict)
    settle_s: float = 120
    kinds: tuple[str, ...] = KINDS


@dataclass
class Report:
    """What came of it; ``violations`` is empty when nothing acknowledged was lost."""

    seed: int
    load_s: float = 0
    total_s: float = 0
    kills: dict[str, int] = field(default_factory=dict)
    acknowledged: dict[str, int] = field(default_factory=dict)
    documents: int = 0
    document_bytes: int = 0
    patients: int = 0
    audit_records: int = 0
    again: dict[str, int] = field(default_factory=dict)
    sweeps: list[dict[str, int]] = field(default_factory=list)
    tracebacks: dict[str, tuple[int, str]] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)

    def lines(self):
        """For people."""
        yield f"seed {self.seed}, load {self.load_s:.0f} s, in all {self.total_s:.0f} s"
        yield f"kills {sum(self.kills.values())}: " + counts(self.kills)
        yield f"acknowledged {sum(self.acknowledged.values())}: " + counts(self.acknowledged)
        yield f"documents {self.documents}, {self.document_bytes:,} bytes, patients {self.patients}"
        yield f"audit records {self.audit_records}"
        yield f"sent again {sum(self.again.values())}: " + counts(self.again)
        for sweep in self.sweeps:
            yield "sweep " + counts({name: count for name, count in sweep.items() if count})
        for count, first in self.tracebacks.values():
            yield f"in the log {count} times: {first}"
        yield f"violations {len(self.violations)}"
        yield from self.violations[:SHOWN]


def counts(numbers):
    return ", ".join(f"{name} {count}" for name, count in sorted(numbers.items())) or "none"


def soak(plan, data, say=lambda text: None):
    """Run the plan in the empty directory ``data``."""
    began = time.monotonic()
    server, ledger = Server(data, **plan.settings), Ledger()
    report = Report(plan.seed)
    clients = Clients(server, ledger)
    urls = {
        name: plan.settings.get(f"{name.upper()}__DATABASE_URL", f"sqlite:///{data}/{name}.db")
        for name in ("registry", "repository", "audit")
    }
    try:
        server.start()
        report.load_s = _load(plan, server, clients, ledger, say)
        settle(plan, server, urls, report, say)
        look_at_all(clients, ledger, say)
        judge(server, urls, data, ledger, report, say)
    finally:
        clients.close()
        server.end()
    report.total_s = time.monotonic() - began
    report.kills = server.kills
    report.acknowledged = dict(ledger.acknowledged)
    report.documents = len(ledger.retrievable(REPOSITORY))
    report.document_bytes = sum(one.size for one in ledger.documents.values() if one.repository == REPOSITORY)
    report.patients = len(ledger.by_patient)
    report.again = dict(ledger.again)
    report.tracebacks = server.tracebacks()
    report.violations[:0] = ledger.violations
    return report


def _load(plan, server, clients, ledger, say):
    """Writers at work and kills at random moments; returns the seconds that took."""
    rng = random.Random(f"{plan.seed}:kills")
    order = [kind for kind in plan.kinds for _ in range(plan.kills if kind in CHILDREN else -(-plan.kills // WHOLE))]
    rng.shuffle(order)
    pause_s = plan.seconds / max(1, len(order))
    writers = Writers(clients, ledger, plan.seed, large_bytes=plan.large_bytes)
    began = time.monotonic()
    until = began + plan.seconds
    writers.start()
    next_word = began + 30
    for kind in order:
        time.sleep(rng.uniform(0, 2 * pause_s))
        while not server.kill(kind):
            time.sleep(0.02)
        if time.monotonic() > next_word:
            say(f"{time.monotonic() - began:.0f} s, {sum(server.kills.values())} kills, {dict(ledger.acknowledged)}")
            next_word += 30
        if time.monotonic() > until and all(server.kills[one] for one in plan.kinds):
            break
    load_s = time.monotonic() - began
    say("load ends; what was begun is repeated until it ends well")
    writers.finish(plan.settle_s)
    return load_s


def settle(plan, server, urls, report, say):
    """Stop in order, start again, sweep until nothing is open, wait until every audit record has gone."""
    status = server.stop()
    if status:
        report.violations.append(f"the services ended with {status} after SIGTERM")
    server.start()
    deadline = time.monotonic() + plan.settle_s
    while True:
        status, swept, errors = server.command("store", "sweep", "--stopped", "--data", str(server.data))
        if status:
            report.violations.append(f"sweep ended with {status}: {errors.strip()[:300]}")
            return
        report.sweeps.append(swept)
        if not waiting(urls) or time.monotonic() > deadline:
            break
        time.sleep(1)
    report.sweeps = [sweep for sweep in report.sweeps if any(sweep.values())]
    say(f"swept: {report.sweeps}")
    _drained(plan, urls, report)


def _drained(plan, urls, report):
    deadline = time.monotonic() + plan.settle_s
    while backlog(urls) and time.monotonic() < deadline:
        time.sleep(0.2)
    left = backlog(urls)
    if left:
        report.violations.append(f"{left} audit records are still in the outboxes")


def look_at_all(clients, ledger, say):
    """Every acknowledged document: found, and byte for byte what it was."""
    clients.give_up_at = time.monotonic() + 30
    say(f"looking at {len(ledger.documents)} documents")
    try:
        for patient in ledger.patients():
            look(clients, ledger, patient)
        stored = ledger.retrievable(REPOSITORY)
        for start in range(0, len(stored), FETCH_AT_ONCE):
            fetch(clients, ledger, stored[start : start + FETCH_AT_ONCE])
    except GivenUp as error:
        ledger.violation(f"{error} does not end well with nothing killed any more")


def judge(server, urls, data, ledger, report, say, *, where=None):
    """Stop, then the databases, the store and the chain; ``where`` as ``store_faults`` takes it, else the folder."""
    deadline = time.monotonic() + 60
    while backlog(urls) and time.monotonic() < deadline:
        time.sleep(0.2)
    status = server.stop()
    if status:
        report.violations.append(f"the services ended with {status} after SIGTERM")
    say("services stopped; reading databases, store and chain")
    report.violations += store_faults(urls, where or data / "documents", ledger)
    report.violations += audit_faults(urls, ledger)
    report.audit_records = Trail.read(urls).records
    status, verified, errors = server.command("audit", "verify", "--data", str(data))
    if status or not verified["holds"]:
        report.violations.append(f"audit verify: {errors.strip()[:300] or verified}")
