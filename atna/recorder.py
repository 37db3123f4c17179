"""The recorder stamps audit messages with time and source and puts them into their syslog form (ITI-20).

EventDateTime has microseconds and strictly increases within a process; with the process id in the header no two records
are ever equal. So a receiver that sees the same bytes twice sees one record sent twice, and may discard one.
"""

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
        self._second, self._text = -1, ""
        self.host: Final = host
        self.process_name: Final = process_name
        self.process_id: Final = f"{os.getpid()}-{secrets.token_hex(6)}"
        names = (header_field(host, 255), header_field(process_name, 48), header_field(self.process_id, 128))
        self._origin = " ".join(names)

    def record(self, message: AuditMessage) -> bytes:
        """The complete RFC 5424 message, ready for the outbox."""
        now = self._now()
        priority = NOTICE if message.event.outcome == Outcome.SUCCESS else WARNING
        return syslog_message(priority, now, self._origin, MSGID, encode(message, date_time=now, source=self._source))

    def _now(self) -> str:
        with self._lock:
            self._last = max(self._last + 1, int(self._clock() * MICROSECONDS))
            second, fraction = divmod(self._last, MICROSECONDS)
            if second != self._second:
                # As text once a second: of all that a record takes this was a fifth.
                self._second = second
                self._text = f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%S}"
            return f"{self._text}.{fraction:06d}Z"
