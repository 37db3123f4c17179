"""Looks at an outbox from time to time: metrics for each sink, and an alarm before it is full.

The alarm is an error in the log, told once, and ``dossier_outbox_alarm``; it ends when the outbox has emptied well
below the mark. Records for a sink that the settings do not name any more wait for ever: that is told, too.
"""

import logging
from typing import Final

from prometheus_client import Gauge

from atna.store.outbox import Backlog, Outbox

__all__ = ["OutboxWatch"]

ALARM_AT: Final = 0.8
"""Share of ``max_outbox_rows`` from which on somebody has to do something."""

ALARM_ENDS: Final = 0.7

_log = logging.getLogger(__name__)

ROWS: Final = Gauge("dossier_outbox_rows", "Audit records that wait for a sink", multiprocess_mode="livemax")
OLDEST: Final = Gauge("dossier_outbox_oldest_seconds", "Age of the oldest of them", multiprocess_mode="livemax")
SINK_ROWS: Final = Gauge(
    "dossier_outbox_sink_rows", "Audit records that wait for this sink", ["sink"], multiprocess_mode="livemax"
)
SINK_OLDEST: Final = Gauge(
    "dossier_outbox_sink_oldest_seconds", "Age of the oldest of them", ["sink"], multiprocess_mode="livemax"
)
ALARM: Final = Gauge(
    "dossier_outbox_alarm", "1 while the outbox is nearly full: requests will be refused", multiprocess_mode="livemax"
)


class OutboxWatch:
    """``look`` is for one thread, every few seconds."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._alarmed = False
        self._abandoned: set[str] = set()

    def look(self) -> None:
        """Raises OutboxUnavailable."""
        waiting = self._outbox.backlogs()
        rows = sum(backlog.rows for backlog in waiting.values())
        ROWS.set(rows)
        OLDEST.set(max((backlog.oldest_age_s for backlog in waiting.values()), default=0.0))
        for sink in {*self._outbox.sinks, *waiting, *self._abandoned}:
            backlog = waiting.get(sink, Backlog(0, 0.0))
            SINK_ROWS.labels(sink).set(backlog.rows)
            SINK_OLDEST.labels(sink).set(backlog.oldest_age_s)
        self._tell_alarm(rows)
        self._tell_abandoned(waiting)

    def _tell_alarm(self, rows: int) -> None:
        share = rows / self._outbox.max_rows
        if not self._alarmed and share >= ALARM_AT:
            _log.error(
                "the outbox holds %d of at most %d audit records (max_outbox_rows); full, it refuses all requests",
                rows,
                self._outbox.max_rows,
            )
            self._alarmed = True
        elif self._alarmed and share < ALARM_ENDS:
            _log.warning("the outbox has room again: %d audit records of at most %d", rows, self._outbox.max_rows)
            self._alarmed = False
        ALARM.set(int(self._alarmed))

    def _tell_abandoned(self, waiting: dict[str, Backlog]) -> None:
        for sink in waiting.keys() - {*self._outbox.sinks} - self._abandoned:
            _log.error(
                "%d audit records wait for %s, which the settings do not name any more; they are kept and sent only"
                " once it is named again",
                waiting[sink].rows,
                sink,
            )
            self._abandoned.add(sink)
