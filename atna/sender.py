"""Empties an actor's outbox into its sinks, in batches that the sink acknowledges after its own commit.

One sender per database at a time: a lease guards it, a second process waits. One thread per sink, so that a sink that
is down delays no other. A row is deleted after the sink has answered for it; whatever dies in between is sent again,
and the audit service discards equal bytes. A sink that does not answer is asked again with growing pauses, for ever.
A record that a sink refuses by itself stays in the outbox, is told of in the log and the metrics, and is offered again
when the process starts anew: it is never dropped.
"""

import logging
import os
import random
import secrets
import socket
import threading
from collections.abc import Callable, Sequence
from typing import Final

from prometheus_client import Counter, Gauge

from atna.iti20_record_audit_event import encode_frame
from atna.store.outbox import Outbox, OutboxUnavailable, Row

__all__ = ["BatchRefused", "NotDelivered", "Post", "Sender"]

Post = Callable[[str, bytes], None]
"""Sends a batch (frames of RFC 5425, one after the other) to a sink and returns when the sink has committed it."""

BATCH_ROWS: Final = 500
LEASE_S: Final = 6.0
"""How long a sender that died still keeps others away."""

IDLE_FIRST_S: Final = 0.02
IDLE_LONGEST_S: Final = 0.1
"""Pauses between looks into an empty outbox; the longest bounds the delay of the first record after silence."""

GATHER_S: Final = 0.05
"""Pause after a batch that was not full: under load it lets the next one fill instead of posting single records."""

MOST_REFUSED: Final = 100
"""Records set aside per sink; a sink that refuses more than these is broken, and is waited for."""

RETRY_FIRST_S: Final = 0.2
RETRY_LONGEST_S: Final = 20.0
BACKLOG_EVERY_S: Final = 5.0

_log = logging.getLogger(__name__)

DELIVERED: Final = Counter("dossier_audit_delivered", "Audit records a sink has acknowledged", ["sink"])
FAILED: Final = Counter("dossier_audit_failed_batches", "Batches a sink did not acknowledge", ["sink"])
REFUSED: Final = Gauge(
    "dossier_audit_refused", "Records a sink refuses; they stay in the outbox", ["sink"], multiprocess_mode="livemax"
)
ROWS: Final = Gauge("dossier_outbox_rows", "Audit records that wait for a sink", multiprocess_mode="livemax")
OLDEST: Final = Gauge("dossier_outbox_oldest_seconds", "Age of the oldest of them", multiprocess_mode="livemax")


class NotDelivered(Exception):  # noqa: N818 - an outcome: the batch is sent again
    """The sink did not acknowledge the batch: unreachable, too slow, or failing."""


class BatchRefused(NotDelivered):
    """The sink read the batch and refuses it, as it would every time."""


class Sender:
    """``run`` blocks until ``stop``; give it a thread of the single child."""

    def __init__(self, outbox: Outbox, post: Post, *, holder: str | None = None, lease_s: float = LEASE_S) -> None:
        self._outbox = outbox
        self._post = post
        self._holder = holder or f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._lease_s = lease_s
        self._leads = threading.Event()
        self._refused: dict[str, set[int]] = {sink: set() for sink in outbox.sinks}

    def run(self, stop: threading.Event) -> None:
        """Send until ``stop``; what is left then waits for the next start."""
        threads = [
            threading.Thread(target=self._serve, args=(sink, stop), name=f"audit sender {number}")
            for number, sink in enumerate(self._outbox.sinks)
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
                    self._report()
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

    def _report(self) -> None:
        backlog = self._outbox.backlog()
        ROWS.set(backlog.rows)
        OLDEST.set(backlog.oldest_age_s)

    def _serve(self, sink: str, stop: threading.Event) -> None:
        idle, retry = IDLE_FIRST_S, RETRY_FIRST_S
        while not stop.is_set():
            if not self._leads.wait(IDLE_LONGEST_S):
                continue
            try:
                sent = self._send_batch(sink)
            except (NotDelivered, OutboxUnavailable) as error:
                FAILED.labels(sink).inc()
                _log.warning("audit sender: %s: %s; again in %.1f s", sink, error, retry)
                stop.wait(retry * random.uniform(0.75, 1.25))  # noqa: S311 - spreads retries, guards nothing
                retry = min(retry * 2, RETRY_LONGEST_S)
                continue
            retry = RETRY_FIRST_S
            if sent == 0:
                stop.wait(idle)
                idle = min(idle * 2, IDLE_LONGEST_S)
                continue
            idle = IDLE_FIRST_S
            if sent < BATCH_ROWS:
                stop.wait(GATHER_S)

    def _send_batch(self, sink: str) -> int:
        rows = self._outbox.claim(sink, BATCH_ROWS, skip=self._refused[sink])
        if rows:
            self._deliver(sink, rows)
        return len(rows)

    def _deliver(self, sink: str, rows: Sequence[Row]) -> None:
        try:
            self._post(sink, b"".join(encode_frame(row.message) for row in rows))
        except BatchRefused as refused:
            if len(self._refused[sink]) >= MOST_REFUSED:
                raise NotDelivered("refuses record after record") from refused
            if len(rows) == 1:
                self._set_aside(sink, rows[0], refused)
                return
            middle = len(rows) // 2
            self._deliver(sink, rows[:middle])
            self._deliver(sink, rows[middle:])
            return
        self._outbox.delete(sink, [row.id for row in rows])
        DELIVERED.labels(sink).inc(len(rows))

    def _set_aside(self, sink: str, row: Row, refused: BatchRefused) -> None:
        self._refused[sink].add(row.id)
        REFUSED.labels(sink).set(len(self._refused[sink]))
        _log.error("audit sender: %s refuses outbox row %d (%d octets): %s", sink, row.id, len(row.message), refused)
