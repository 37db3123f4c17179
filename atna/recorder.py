"""The recorder stamps audit messages with time and source and puts them into their syslog form (ITI-20).

EventDateTime has microseconds and strictly increases within a process; with the process id in the header no two records
are ever equal. So a receiver that sees the same bytes twice sees one record sent twice, and may discard one.
A clock that is put back by more than ``STEP_S`` is followed, and the PROCID counts how often: ``4711-a1b2c3.1``.
"""

import logging
import os
import secrets
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from atna.iti20_record_audit_event import MSGID, header_field, syslog_message
from atna.message import AuditMessage, AuditSource, CodedValue, Outcome, encode

__all__ = ["Recorder"]

MICROSECONDS: Final = 1_000_000
STEP_S: Final = 5
"""Over less than this a clock that goes back is waited for; over more it was wrong, and so would all records be."""

_log = logging.getLogger(__name__)

APPLICATION_SERVER: Final = CodedValue("4", "DCM", "Application Server")
ENVIRONMENT_SYSTEM: Final = "urn:dossier:environment"
"""Code system of the second AuditSourceTypeCode, which tells a test system from the real one."""

NOTICE: Final = 85
WARNING: Final = 84
"""PRI of facility 10 (security) with severity 5 and 4 (RFC 5424: 6.2.1)."""


class Recorder:
    """One per process, made after the process was started; may be used by all its threads.

    ``source_id`` is AuditSourceID, ``enterprise_site_id`` AuditEnterpriseSiteID (the home community id),
    ``process_name`` the APP-NAME (``dossier-registry``), ``host`` the HOSTNAME; ``clock`` gives seconds since 1970.
    """

    def __init__(
        self,
        source_id: str,
        enterprise_site_id: str | None,
        process_name: str,
        host: str,
        clock: Callable[[], float] = time.time,
        *,
        environment: str | None = None,
    ) -> None:
        types: tuple[CodedValue, ...] = (APPLICATION_SERVER,)
        if environment is not None:
            types += (CodedValue(environment, ENVIRONMENT_SYSTEM, f"{environment} environment"),)
        self._source = AuditSource(source_id, enterprise_site_id, types)
        self._clock = clock
        self._lock = threading.Lock()
        self._last = 0
        self._steps = 0
        self._second, self._text = -1, ""
        self.host: Final = host
        self.process_name: Final = process_name
        self.process_id: Final = f"{os.getpid()}-{secrets.token_hex(6)}"
        self._origin = self._printed_origin()

    def record(self, message: AuditMessage) -> bytes:
        """The complete RFC 5424 message, ready for the outbox."""
        now, origin = self._now()
        priority = NOTICE if message.event.outcome == Outcome.SUCCESS else WARNING
        return syslog_message(priority, now, origin, MSGID, encode(message, date_time=now, source=self._source))

    def _now(self) -> tuple[str, str]:
        """A time and an origin that no record had together."""
        with self._lock:
            clock = int(self._clock() * MICROSECONDS)
            if clock < self._last - STEP_S * MICROSECONDS:
                self._step_back(clock)
            self._last = max(self._last + 1, clock)
            second, fraction = divmod(self._last, MICROSECONDS)
            if second != self._second:
                # As text once a second: of all that a record takes this was a fifth.
                self._second = second
                self._text = f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%S}"
            return f"{self._text}.{fraction:06d}Z", self._origin

    def _step_back(self, clock: int) -> None:
        """Begin anew at this time: records of before may have had it, so what follows has another origin."""
        self._steps += 1
        _log.warning("the clock went back by %d s; audit records follow it", (self._last - clock) // MICROSECONDS)
        self._last = clock - 1
        self._origin = self._printed_origin()

    def _printed_origin(self) -> str:
        process_id = f"{self.process_id}.{self._steps}" if self._steps else self.process_id
        fields = (header_field(self.host, 255), header_field(self.process_name, 48), header_field(process_id, 128))
        return " ".join(fields)
