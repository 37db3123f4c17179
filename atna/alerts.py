"""Records failed TLS handshakes beside the event loop, which must not wait for a database (ITI-19; DICOM A.5.3.11)."""

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from atna.node_events import node_authentication_failed
from atna.recorder import Recorder

__all__ = ["Alerts"]

MOST_WAITING: Final = 1000
"""Refused peers waiting to be recorded; a flood beyond that is told of in the log alone."""

_log = logging.getLogger(__name__)


class Alerts:
    """``record`` makes records durable; whatever it raises is logged, for nobody is left to be answered."""

    def __init__(self, recorder: Recorder, record: Callable[[Sequence[bytes]], object]) -> None:
        self._recorder = recorder
        self._keep = record
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="alerts")
        self._room = threading.BoundedSemaphore(MOST_WAITING)

    def handshake_failed(self, address: str, port: int, reason: str) -> None:
        """The peer at ``address`` and ``port`` could not prove who it is; returns at once."""
        if self._room.acquire(blocking=False):
            self._thread.submit(self._record, address, port, reason)
        else:
            _log.warning("peer %s port %s refused: %s; not recorded, too many at once", address, port, reason)

    def close(self) -> None:
        """Wait until everything is recorded."""
        self._thread.shutdown(wait=True)

    def _record(self, address: str, port: int, reason: str) -> None:
        message = node_authentication_failed(
            process_id=self._recorder.process_id,
            address=self._recorder.host,
            peer_address=address,
            peer_port=port,
            reason=reason,
        )
        try:
            self._keep([self._recorder.record(message)])
        except Exception:  # noqa: BLE001 - nobody is left to be answered
            _log.exception("peer %s port %s refused: %s; not recorded", address, port, reason)
        finally:
            self._room.release()
