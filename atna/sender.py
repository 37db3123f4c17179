"""Empties an actor's outbox into its sinks, in batches that the sink acknowledges after its own commit.

One sender per database at a time: a lease guards it, a second process waits. One thread per sink, so that a sink that
is down delays no other. A row is deleted after the sink has answered for it; whatever dies in between is sent again,
and the audit service discards equal bytes. A sink that does not answer is asked again with growing pauses, for ever.
A record that a sink refuses by itself stays in the outbox, is told of in the log and the metrics, and is offered again
when the process starts anew: it is never dropped.

A sink that breaks the connection over a batch may stumble over one record of it. The batch is then halved until that
record is alone; the others go on, and a record that was not taken three times though others were counts as refused.
"""

import logging
import os
import random
import secrets
import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from prometheus_client import Counter, Gauge

from atna.outbox_watch import OutboxWatch
from atna.store.outbox import Outbox, OutboxUnavailable, Row

__all__ = ["BatchRefused", "Interrupted", "NotDelivered", "Pace", "Post", "Sender"]

Post = Callable[[str, Sequence[bytes]], None]
"""Sends a batch of messages to a sink and returns when the sink has answered for all of them."""

LEASE_S: Final = 6.0
"""How long a sender that died still keeps others away."""

IDLE_FIRST_S: Final = 0.02
IDLE_LONGEST_S: Final = 0.1
"""Pauses between looks into an empty outbox; the longest bounds the delay of the first record after silence."""

BUSY_ROWS: Final = 3
"""A batch that has so many is one of many."""

MOST_REFUSED: Final = 100
"""Records set aside per sink; a sink that refuses more than these is broken, and is waited for."""

MOST_SUSPECTS: Final = 10
"""Records that were not taken alone; with more of them it is the sink that stumbles, not a record."""

STRIKES: Final = 3

RETRY_FIRST_S: Final = 0.2
RETRY_LONGEST_S: Final = 20.0
BACKLOG_EVERY_S: Final = 5.0

_log = logging.getLogger(__name__)

DELIVERED: Final = Counter("dossier_audit_delivered", "Audit records a sink has acknowledged", ["sink"])
FAILED: Final = Counter("dossier_audit_failed_batches", "Batches a sink did not acknowledge", ["sink"])
REFUSED: Final = Gauge(
    "dossier_audit_refused", "Records a sink refuses; they stay in the outbox", ["sink"], multiprocess_mode="livemax"
)


class NotDelivered(Exception):  # noqa: N818 - an outcome: the batch is sent again
    """The sink did not acknowledge the batch: unreachable, too slow, or failing. The first ``taken`` it has."""

    def __init__(self, reason: str, *, taken: int = 0) -> None:
        super().__init__(reason)
        self.taken: Final = taken


class Interrupted(NotDelivered):
    """The sink was reached and did not take the batch; whether for its content cannot be told."""


class BatchRefused(NotDelivered):
    """The sink read the batch and refuses it (what comes after ``taken``), as it would every time."""


@dataclass(frozen=True, slots=True)
class Pace:
    """The most ``rows`` of a batch, the pause after one that was not full (the next fills), and after a full one.

    ``busy_s``: the pause after one of ``BUSY_ROWS`` and more, if it is longer: a batch costs the same however many
    records it has, and under load this is what the sender takes from the transactions.
    """

    rows: int = 500
    gather_s: float = 0.05
    pause_s: float = 0.0
    busy_s: float = 0.0

    def after(self, sent: int, most: int) -> float:
        """The pause after a batch of ``sent`` records of ``most``."""
        if sent >= most:
            return self.pause_s
        return max(self.gather_s, self.busy_s) if sent >= BUSY_ROWS else self.gather_s


class Sender:
    """``run`` blocks until ``stop``; give it a thread of the single child."""

    def __init__(
        self,
        outbox: Outbox,
        post: Post,
        *,
        pace: Callable[[str], Pace] = lambda _sink: Pace(),
        holder: str | None = None,
        lease_s: float = LEASE_S,
    ) -> None:
        self._outbox = outbox
        self._holder = holder or f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._lease_s = lease_s
        self._leads = threading.Event()
        self._watch = OutboxWatch(outbox)
        self._lanes = [_Lane(outbox, post, sink, pace(sink)) for sink in outbox.sinks]

    def run(self, stop: threading.Event) -> None:
        """Send until ``stop``; what is left then waits for the next start."""
        threads = [
            threading.Thread(target=lane.serve, args=(self._leads, stop), name=f"audit sender {number}")
            for number, lane in enumerate(self._lanes)
        ]
        for thread in threads:
            thread.start()
        try:
            self._keep_lease(stop)
        finally:
            for thread in threads:
                thread.join()
            if self._leads.is_set():
                self._give_up_lease()

    def _keep_lease(self, stop: threading.Event) -> None:
        next_report = 0.0
        while not stop.is_set():
            try:
                held = self._outbox.hold_lease(self._holder, self._lease_s)
                if next_report <= 0:
                    self._watch.look()
                    next_report = BACKLOG_EVERY_S
            except OutboxUnavailable:
                _log.warning("audit sender: the outbox does not answer")
                held = False
            if held != self._leads.is_set():
                _log.info("audit sender: %s", "sending" if held else "another sender is at work")
            (self._leads.set if held else self._leads.clear)()
            next_report -= self._lease_s / 3
            stop.wait(self._lease_s / 3)

    def _give_up_lease(self) -> None:
        try:
            self._outbox.release_lease(self._holder)
        except OutboxUnavailable:
            _log.info("audit sender: the lease runs out by itself")


class _Lane:
    """One sink and what this process knows of it."""

    def __init__(self, outbox: Outbox, post: Post, sink: str, pace: Pace) -> None:
        self._outbox = outbox
        self._post = post
        self._sink = sink
        self._pace = pace
        self._most = pace.rows
        self._refused: set[int] = set()
        self._suspects: dict[int, int] = {}
        """Rows that were not taken alone, and how often others were taken after that."""

    def serve(self, leads: threading.Event, stop: threading.Event) -> None:
        """Send while we lead, until ``stop``."""
        idle, retry = IDLE_FIRST_S, RETRY_FIRST_S
        while not stop.is_set():
            if not leads.wait(IDLE_LONGEST_S):
                continue
            most = self._most
            try:
                sent = self._send_batch()
            except (NotDelivered, OutboxUnavailable) as error:
                FAILED.labels(self._sink).inc()
                _log.warning("audit sender: %s: %s; again in %.1f s", self._sink, error, retry)
                stop.wait(retry * random.uniform(0.75, 1.25))  # noqa: S311 - spreads retries, guards nothing
                # While a batch is halved the sink does answer, and who waits is every other record.
                retry = RETRY_FIRST_S if self._most < most else min(retry * 2, RETRY_LONGEST_S)
                continue
            retry = RETRY_FIRST_S
            if sent == 0:
                stop.wait(idle)
                idle = min(idle * 2, IDLE_LONGEST_S)
                continue
            idle = IDLE_FIRST_S
            stop.wait(self._pace.after(sent, most))

    def _send_batch(self) -> int:
        rows = self._outbox.claim(self._sink, self._most, skip=self._refused | self._suspects.keys())
        if not rows and self._suspects:
            return self._try_suspect()
        if rows:
            try:
                self._deliver(rows)
            except Interrupted as interrupted:
                self._narrow(rows[interrupted.taken :])
                raise
            self._widen()
        return len(rows)

    def _deliver(self, rows: Sequence[Row]) -> None:
        try:
            self._post(self._sink, [row.message for row in rows])
        except NotDelivered as error:
            self._taken(rows[: error.taken])
            rows = rows[error.taken :]
            if not isinstance(error, BatchRefused):
                raise
            if len(self._refused) >= MOST_REFUSED:
                raise NotDelivered("refuses record after record") from error
            if len(rows) == 1:
                self._set_aside(rows[0].id, len(rows[0].message), str(error))
                return
            middle = max(1, len(rows) // 2)
            self._deliver(rows[:middle])
            self._deliver(rows[middle:])
            return
        self._taken(rows)

    def _taken(self, rows: Sequence[Row]) -> None:
        self._outbox.delete(self._sink, [row.id for row in rows])
        DELIVERED.labels(self._sink).inc(len(rows))

    def _set_aside(self, row: int, octets: int, reason: str) -> None:
        self._refused.add(row)
        REFUSED.labels(self._sink).set(len(self._refused))
        _log.error("audit sender: %s refuses outbox row %d (%d octets): %s", self._sink, row, octets, reason)

    # ------------------------------------------------------------------------------- a sink that breaks connections

    def _narrow(self, rows: Sequence[Row]) -> None:
        self._most = max(1, len(rows) // 2)
        if len(rows) == 1:
            self._suspects[rows[0].id] = 0
            if len(self._suspects) > MOST_SUSPECTS:
                self._suspects.clear()

    def _widen(self) -> None:
        """Others were taken: a suspect that still is not, is one for its own sake."""
        self._most = min(self._pace.rows, self._most * 2)
        for row in self._suspects:
            self._suspects[row] += 1

    def _try_suspect(self) -> int:
        """The suspect not looked at for longest, alone, when nothing else waits."""
        row, strikes = next(iter(self._suspects.items()))
        others = self._refused | (self._suspects.keys() - {row})
        claimed = next(iter(self._outbox.claim(self._sink, 1, skip=others)), None)
        if claimed is None or claimed.id != row:  # gone, or a new row came in between and is first
            if claimed is None:
                del self._suspects[row]
            return 0
        try:
            self._deliver([claimed])
        except Interrupted as interrupted:
            del self._suspects[row]
            if strikes < STRIKES:
                self._suspects[row] = strikes  # behind the others
                raise
            self._set_aside(row, len(claimed.message), str(interrupted))
        else:
            del self._suspects[row]
        return 1
