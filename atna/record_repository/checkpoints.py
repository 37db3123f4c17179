"""Writes checkpoints while the service runs: every so many records or seconds, where a partition ended, and at the end.

One thread of the service's single process. A checkpoint that could not be written is written later: the log goes on,
and what it does not sign yet, ``dossier audit verify`` tells.
"""

import logging
import threading
from typing import Final

from atna.record_repository.signing import SigningKey
from atna.record_repository.store.protocol import StoreUnavailable
from atna.record_repository.store.records import RecordStore

__all__ = ["Checkpoints"]

LOOK_S: Final = 2.0
"""How often it is looked whether one is due, in seconds."""

_log = logging.getLogger(__name__)


class Checkpoints:
    """``records`` and ``interval_s``: how many records, or how long after the last one when there are any."""

    def __init__(self, store: RecordStore, key: SigningKey, *, records: int, interval_s: float) -> None:
        self._store = store
        self._key = key
        self._records = records
        self._interval_s = interval_s

    def run(self, stop: threading.Event) -> None:
        """Until ``stop``; the last one is ``write``'s, when everything else has ended."""
        while not stop.wait(min(LOOK_S, self._interval_s)):
            try:
                if self._store.checkpoint_due(records=self._records, interval_s=self._interval_s):
                    self.write()
            except StoreUnavailable:
                _log.warning("the audit database does not answer; the next checkpoint waits")

    def write(self) -> None:
        """Sign what is there now. Logs what goes wrong."""
        try:
            written = self._store.checkpoint(self._key)
        except StoreUnavailable:
            _log.warning("the audit database does not answer; no checkpoint was written")
            return
        if written is not None:
            _log.info("checkpoint %d signs record %d", written.serial, written.number)
