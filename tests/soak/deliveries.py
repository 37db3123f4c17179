"""Transactions while the audit service is down; then it, and the senders, are killed in mid-delivery again and again.

Registry, repository and audit service are the real ones. In the end every transaction has its records, none stands
twice in the index, and the chain holds.
"""

import random
import signal
import threading
import time
import traceback
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.soak.ledger import Ledger
from tests.soak.server import Server
from tests.soak.soaking import Report, counts, judge, settle
from tests.soak.source import Clients, GivenUp, compose, patient_id
from tests.soak.stores import backlog, oldest_waiting
from wire.mllp_client import MllpClient

__all__ = ["DeliveriesPlan", "DeliveriesReport", "deliver"]

PER_PATIENT = 100
SENDERS = ("registry-single", "repository-single")
SENDER_EVERY = 4
"""One of so many kills is of a sender."""

AT_WORK_S = 15.0
"""Longer than a killed sender keeps others away, and than a service takes to start."""


@dataclass(frozen=True)
class DeliveriesPlan:
    """``transactions`` while the audit service is down, ``kills`` of it while it takes the records."""

    seed: int = 1
    transactions: int = 10_000
    kills: int = 100
    threads: int = 6
    settings: dict[str, str] = field(default_factory=dict)
    settle_s: float = 180
    load_s: float = 3600


@dataclass
class DeliveriesReport(Report):
    """``waiting``: records in the outboxes when the audit service came back; ``struck``: kills while it had work."""

    waiting: int = 0
    struck: dict[str, int] = field(default_factory=dict)

    def lines(self):
        """For people."""
        yield f"records that waited {self.waiting}; kills in mid-delivery: {counts(self.struck)}"
        yield from super().lines()


def deliver(plan, data, say=lambda text: None):
    """Run the plan in the empty directory ``data``."""
    began = time.monotonic()
    server, ledger = Server(data, **plan.settings), Ledger()
    report = DeliveriesReport(plan.seed)
    clients = Clients(server, ledger)
    clients.give_up_at = began + plan.load_s
    urls = {name: f"sqlite:///{data}/{name}.db" for name in ("registry", "repository", "audit")}
    try:
        server.start()
        source = _Source(plan, clients, ledger)
        assert server.signal("audit-1", signal.SIGSTOP)
        source.send(plan.transactions, say)
        report.waiting = backlog(urls)
        report.load_s = time.monotonic() - began
        say(f"{plan.transactions} transactions with the audit service down; {report.waiting} records wait")
        server.signal("audit-1", signal.SIGCONT)
        report.struck = dict(_strike(plan, server, source, urls, say))
        settle(plan, server, urls, report, say)
        judge(server, urls, data, ledger, report, say)
    finally:
        clients.close()
        server.end()
    report.total_s = time.monotonic() - began
    report.kills = server.kills
    report.acknowledged = dict(ledger.acknowledged)
    report.patients = len(ledger.by_patient)
    report.documents = len(ledger.documents)
    report.document_bytes = sum(one.size for one in ledger.documents.values())
    report.again = dict(ledger.again)
    report.tracebacks = server.tracebacks()
    report.violations[:0] = ledger.violations
    if report.waiting < plan.transactions:
        report.violations.append(f"only {report.waiting} records waited for {plan.transactions} transactions")
    return report


def _strike(plan, server, source, urls, say):
    """Kill while records are on their way; what was killed is started anew by the supervisor. A few go on sending."""
    rng, struck = random.Random(f"{plan.seed}:kills"), Counter()
    began = time.monotonic()
    next_word = began + 30
    with source.trickling():
        while struck["audit-1"] < plan.kills and time.monotonic() < began + plan.load_s:
            # As often as that a sender dies in its place; the records it had sent it sends again.
            kind = rng.choice(SENDERS) if rng.randrange(SENDER_EVERY) == 0 else "audit-1"
            _delivering(urls)
            time.sleep(rng.uniform(0, 0.15))  # at any point of a batch: this is about how long one takes
            if backlog(urls) and server.kill(kind):
                struck[kind] += 1
            if time.monotonic() > next_word:
                say(f"kills: {counts(struck)}; {backlog(urls)} records wait")
                next_word += 30
    return struck


def _delivering(urls):
    """Wait until records leave: what was killed before is at work again, or another one is."""
    until, before = time.monotonic() + AT_WORK_S, oldest_waiting(urls)
    while time.monotonic() < until:
        now = oldest_waiting(urls)
        if any(one is not None and other is not None and one > other for one, other in zip(now, before, strict=True)):
            return
        before = [one if one is not None else other for one, other in zip(now, before, strict=True)]
        time.sleep(0.02)


class _Source:
    """Sends transactions from several threads, each with the choices of its own seed."""

    def __init__(self, plan, clients, ledger):
        self._plan, self._clients, self._ledger = plan, clients, ledger
        self._number = 0
        self._fed = 0
        with MllpClient(*clients.server.feed, answer_timeout_s=30) as mllp:
            for _ in range(max(2, plan.transactions // PER_PATIENT)):
                self._feed(mllp)

    def _feed(self, mllp):
        with self._ledger.lock:
            self._fed += 1
            number = self._fed
        self._clients.feed(mllp, f"deliveries-{number}", patient_id(f"deliveries-{number}"))

    def send(self, transactions, say=lambda text: None):
        """So many, whatever becomes of the records; returns when all were answered well."""
        threads = []
        for thread in range(self._plan.threads):
            share = transactions // self._plan.threads + (thread < transactions % self._plan.threads)
            self._number += 1
            rng = random.Random(f"{self._plan.seed}:{self._number}")
            threads.append(threading.Thread(target=self._run, args=(rng, share), daemon=True))
        for thread in threads:
            thread.start()
        next_word = time.monotonic() + 30
        while any(thread.is_alive() for thread in threads):
            time.sleep(0.02)
            if time.monotonic() > next_word:
                say(f"acknowledged: {counts(self._ledger.acknowledged)}")
                next_word += 30

    @contextmanager
    def trickling(self):
        """Somebody is always at work meanwhile."""
        stop = threading.Event()

        def trickle():
            while not stop.wait(0.05):
                self.send(self._plan.threads)

        thread = threading.Thread(target=trickle)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def _run(self, rng, count):
        try:
            with MllpClient(*self._clients.server.feed, answer_timeout_s=30) as mllp:
                for _ in range(count):
                    self._one(rng, mllp)
        except GivenUp as error:
            self._ledger.violation(f"{error} never ended well")
        except Exception:
            self._ledger.violation(traceback.format_exc(limit=4))

    def _one(self, rng, mllp):
        """Six queries to two registrations, one document and one patient."""
        dice, patient = rng.randrange(10), rng.choice(self._ledger.patients())
        if dice < 6:
            self._clients.find(patient)
        elif dice < 8:
            self._clients.register(compose(rng, patient, [rng.randbytes(40)], provided=False))
        elif dice < 9:
            self._clients.provide(compose(rng, patient, [rng.randbytes(rng.randrange(1, 20_000))]))
        else:
            self._feed(mllp)
