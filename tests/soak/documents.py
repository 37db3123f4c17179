"""Documents into a repository whose store fails, until all are acknowledged; then everything must be there, once.

Registry, repository and audit service are the real ones, in processes of their own; only the store of the repository
is wrapped (``tests.soak.faulty_worker``). A source does what a real one does: it sends the identical submission again.
"""

import json
import random
import threading
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field

from repository.store.keyring import new_line
from tests.builders import REPOSITORY
from tests.object_store import ObjectStore
from tests.soak.ledger import Ledger
from tests.soak.server import Server
from tests.soak.soaking import Report, counts, judge, look_at_all, settle
from tests.soak.source import NOT_NOW, Clients, GivenUp, compose, patient_id
from tests.soak.writers import fetch
from wire.mllp_client import MllpClient

__all__ = ["DocumentsPlan", "DocumentsReport", "submit"]

KIB, MIB = 2**10, 2**20
PER_PATIENT = 50
STORE_FAILS = NOT_NOW | {"XDSRepositoryError", "XDSRepositoryOutOfResources"}
LARGE_SHARE, MEDIUM_SHARE = 0.01, 0.04
FETCH_SHARE = 0.2


@dataclass(frozen=True)
class DocumentsPlan:
    """``faults``: percent of the store's operations; ``large_bytes``: the largest document.

    ``bucket``: the server that keeps the documents in one of its buckets; ``None``: they lie in a folder.
    """

    seed: int = 1
    documents: int = 10_000
    faults: float = 5
    threads: int = 8
    large_bytes: int = 8 * MIB
    settings: dict[str, str] = field(default_factory=dict)
    settle_s: float = 180
    load_s: float = 3600
    bucket: ObjectStore | None = None


@dataclass
class DocumentsReport(Report):
    """``faults`` by operation and kind; ``scrubbed``: what ``dossier store scrub`` said in the end."""

    faults: dict[str, int] = field(default_factory=dict)
    scrubbed: dict[str, object] = field(default_factory=dict)

    def lines(self):
        """For people."""
        yield f"faults injected {sum(self.faults.values())}: " + counts(self.faults)
        yield f"scrub: {self.scrubbed}"
        yield from super().lines()


def submit(plan, data, say=lambda text: None):
    """Run the plan in the empty directory ``data``."""
    began = time.monotonic()
    (data / "keys").write_text(new_line("soak"))
    settings = {"REPOSITORY__KEYRING": str(data / "keys"), "REPOSITORY__SWEEP_INTERVAL_S": "2"} | plan.settings
    where = None
    if plan.bucket is not None:
        values = plan.bucket.values(store_timeout_s=20)
        settings |= {f"REPOSITORY__{name.upper()}": str(value) for name, value in values.items()}
        where = plan.bucket.place(**values)
    server, ledger = Server(data, child="tests.soak.faulty_worker", **settings), Ledger()
    server.environment["SOAK_FAULTS"] = f"{plan.faults} {plan.seed} {data}"
    report = DocumentsReport(plan.seed)
    clients = Clients(server, ledger, not_now=STORE_FAILS)
    urls = {name: f"sqlite:///{data}/{name}.db" for name in ("registry", "repository", "audit")}
    try:
        server.start()
        report.load_s = _load(plan, server, clients, ledger, say)
        server.child = "dossier.worker"  # from its next start on, which is in ``settle``
        settle(plan, server, urls, report, say)
        report.faults = _injected(data)
        clients.not_now = NOT_NOW
        look_at_all(clients, ledger, say)
        _scrub(server, ledger, report, say)
        judge(server, urls, data, ledger, report, say, where=where)
    finally:
        clients.close()
        server.end()
    report.total_s = time.monotonic() - began
    report.acknowledged = dict(ledger.acknowledged)
    report.documents = len(ledger.retrievable(REPOSITORY))
    report.document_bytes = sum(one.size for one in ledger.documents.values())
    report.patients = len(ledger.by_patient)
    report.again = dict(ledger.again)
    report.tracebacks = server.tracebacks()
    report.violations[:0] = ledger.violations
    if report.documents < plan.documents:
        report.violations.append(f"only {report.documents} documents were acknowledged")
    return report


def _injected(data):
    total = Counter()
    for path in data.glob("faults-*.json"):
        for operation, fault, count in json.loads(path.read_text()):
            total[f"{operation} {fault}"] += count
    return dict(total)


def _load(plan, server, clients, ledger, say):
    """All documents in, by several threads; returns the seconds that took."""
    began = time.monotonic()
    clients.give_up_at = began + plan.load_s
    patients = [patient_id(f"documents-{number}") for number in range(max(1, plan.documents // PER_PATIENT))]
    with MllpClient(*server.feed, answer_timeout_s=30) as mllp:
        for number, patient in enumerate(patients):
            clients.feed(mllp, f"documents-{number}", patient)
    threads = [
        threading.Thread(target=_source, args=(plan, clients, ledger, patients, number), daemon=True)
        for number in range(plan.threads)
    ]
    for thread in threads:
        thread.start()
    next_word = began + 30
    while any(thread.is_alive() for thread in threads):
        time.sleep(0.1)
        if time.monotonic() > next_word:
            say(f"{len(ledger.documents)} documents acknowledged, sent again {sum(ledger.again.values())} times")
            next_word += 30
    say(f"{len(ledger.documents)} documents acknowledged; faults end here")
    return time.monotonic() - began


def _source(plan, clients, ledger, patients, number):
    """Its share of the documents, one to four in a submission; now and then some are looked at."""
    rng = random.Random(f"{plan.seed}:{number}")
    left = plan.documents // plan.threads + (number < plan.documents % plan.threads)
    mine = []
    try:
        while left:
            count = min(left, rng.choice([1, 1, 2, 4]))
            package = compose(rng, rng.choice(patients), [_content(plan, rng) for _ in range(count)])
            clients.provide(package)
            left -= count
            mine += [one.unique_id for one in package.documents]
            if rng.random() < FETCH_SHARE:
                fetch(clients, ledger, rng.sample(mine, min(len(mine), 3)))
    except GivenUp as error:
        ledger.violation(f"source {number}: {error} never ended well")
    except Exception:
        ledger.violation(f"source {number}: {traceback.format_exc(limit=4)}")


def _content(plan, rng):
    """Most 1 to 100 kB, some up to 2 MiB, some from 5 MiB (or a half of the largest) on."""
    dice = rng.random()
    if dice < LARGE_SHARE:
        return rng.randbytes(rng.randrange(min(5 * MIB, plan.large_bytes // 2), plan.large_bytes))
    if dice < LARGE_SHARE + MEDIUM_SHARE:
        return rng.randbytes(rng.randrange(100 * KIB, 2 * MIB))
    return rng.randbytes(rng.randrange(KIB, 100 * KIB))


def _scrub(server, ledger, report, say):
    """The operator's command finds every document right."""
    status, said, errors = server.command("store", "scrub", "--anew", "--rate", "10000", "--data", str(server.data))
    report.scrubbed = said or {}
    say(f"scrub: {said}")
    if status or not said["complete"] or said["verified"] != len(ledger.retrievable(REPOSITORY)):
        report.violations.append(f"scrub ended with {status}: {said} {errors.strip()[:300]}")
