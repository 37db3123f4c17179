"""Records failed TLS handshakes beside the event loop, which must not wait for a database (ITI-19; DICOM A.5.3.11).

A handshake costs whoever knocks next to nothing, a record has to be kept for years, and an outbox that is full stops
all work. So of one address some refusals in a minute are recorded one by one, with port and reason, and of all
addresses some more; what comes beyond is counted, and told in one record for each address and reason when the minute is
over.
"""

import logging
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from atna.node_events import node_authentication_failed
from atna.recorder import Recorder

__all__ = ["Alerts"]

WINDOW_S: Final = 60.0
SINGLY_EACH: Final = 20
"""Refusals of one address that are recorded one by one within a window …"""
SINGLY_ALL: Final = 200
"""… and of all addresses together."""
MOST_COUNTED: Final = 200
"""Addresses with a count of their own within a window; the others share one."""
OTHERS: Final = "other addresses"
MOST_WAITING: Final = 1000
"""Refused peers waiting to be recorded; a flood beyond that is told of in the log alone."""

_log = logging.getLogger(__name__)


class _Tally:
    """One window: who was recorded how often, and what was only counted."""

    def __init__(self) -> None:
        self._recorded: Counter[str] = Counter()
        self._in_all = 0
        self._counted: Counter[tuple[str, str]] = Counter()

    def singly(self, address: str, reason: str) -> bool:
        """Whether this one gets a record of its own; else it is counted."""
        if self._in_all < SINGLY_ALL and self._recorded[address] < SINGLY_EACH:
            self._recorded[address] += 1
            self._in_all += 1
            return True
        known = (address, reason) in self._counted or len(self._counted) < MOST_COUNTED
        self._counted[address if known else OTHERS, reason] += 1
        return False

    def counted(self) -> list[tuple[str, str, int]]:
        """(address, reason, how often) of what has no record of its own."""
        return [(address, reason, times) for (address, reason), times in self._counted.items()]


class Alerts:
    """``record`` makes records durable; whatever it raises is logged, for nobody is left to be answered."""

    def __init__(
        self, recorder: Recorder, record: Callable[[Sequence[bytes]], object], *, window_s: float = WINDOW_S
    ) -> None:
        self._recorder = recorder
        self._keep = record
        self._window_s = window_s
        self._lock = threading.Lock()
        self._tally: _Tally | None = None
        self._timer: threading.Timer | None = None
        self._closed = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="alerts")
        self._room = threading.BoundedSemaphore(MOST_WAITING)

    def handshake_failed(self, address: str, port: int, reason: str) -> None:
        """The peer at ``address`` and ``port`` could not prove who it is; returns at once."""
        with self._lock:
            if not self._closed and self._singly(address, reason):
                self._submit(address, port, reason, 1)

    def close(self) -> None:
        """Wait until everything is recorded, what was counted as well."""
        with self._lock:
            self._closed = True
            timer = self._timer
        if timer is not None:
            timer.cancel()
            timer.join()
        self._end_window()
        self._thread.shutdown(wait=True)

    def _singly(self, address: str, reason: str) -> bool:
        if self._tally is None:
            self._tally = _Tally()
            self._timer = threading.Timer(self._window_s, self._end_window)
            self._timer.name = "alerts of a minute"
            self._timer.daemon = True
            self._timer.start()
        return self._tally.singly(address, reason)

    def _end_window(self) -> None:
        with self._lock:
            tally, self._tally = self._tally, None
        for address, reason, times in tally.counted() if tally is not None else ():
            _log.warning("peer %s refused %d more times within a minute: %s", address, times, reason)
            self._submit(address, None, reason, times)

    def _submit(self, address: str, port: int | None, reason: str, times: int) -> None:
        if self._room.acquire(blocking=False):
            self._thread.submit(self._record, address, port, reason, times)
        else:
            _log.warning("peer %s port %s refused: %s; not recorded, too many at once", address, port, reason)

    def _record(self, address: str, port: int | None, reason: str, times: int) -> None:
        message = node_authentication_failed(
            process_id=self._recorder.process_id,
            address=self._recorder.host,
            peer_address=address,
            peer_port=port,
            reason=reason,
            repeats=times,
        )
        try:
            self._keep([self._recorder.record(message)])
        except Exception:  # noqa: BLE001 - nobody is left to be answered
            _log.exception("peer %s port %s refused: %s; not recorded", address, port, reason)
        finally:
            self._room.release()
