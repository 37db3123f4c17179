"""What ITI-81 searches by, taken out of a message as it came. Pure; never fails: what cannot be read is said so.

``event_at``  microseconds since 1970 of EventDateTime, else of the syslog timestamp, else 0: of the bytes alone
"""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from atna.iti20_record_audit_event import SyslogError, decode_message
from atna.message import AuditMessage, UnreadableError, parse

__all__ = ["Indexed", "Patient", "index", "microseconds", "parse_patient", "read"]

PERSON, ROLE_PATIENT = 1, 1
OUTCOMES: Final = frozenset({0, 4, 8, 12})
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Patient:
    """A CX as far as a search needs it; ``authority`` is the OID of CX-4, else its namespace, ``None`` without one."""

    id: str
    authority: str | None


@dataclass(frozen=True, slots=True)
class Indexed:
    """A message with what it is found by; ``readable`` is False when only ``event_at`` could be told."""

    message: bytes
    sha256: bytes
    event_at: int
    readable: bool
    event_code: str | None = None
    event_system: str | None = None
    action: str | None = None
    outcome: int | None = None
    source_id: str | None = None
    patients: frozenset[Patient] = frozenset()
    users: frozenset[str] = frozenset()
    objects: frozenset[str] = frozenset()
    types: frozenset[tuple[str, str | None]] = frozenset()


def read(message: bytes) -> AuditMessage:
    """The audit message inside a syslog message. Raises SyslogError or UnreadableError."""
    return parse(decode_message(message).message)


def index(message: bytes) -> Indexed:
    """Take the searched values out of one syslog message."""
    digest = hashlib.sha256(message).digest()
    try:
        syslog = decode_message(message)
    except SyslogError:
        return Indexed(message, digest, 0, readable=False)
    try:
        audit = parse(syslog.message)
    except UnreadableError:
        return Indexed(message, digest, microseconds(syslog.timestamp) or 0, readable=False)
    event = audit.event
    users = {participant.user_id for participant in audit.participants}
    users |= {participant.user_name for participant in audit.participants if participant.user_name}
    return Indexed(
        message,
        digest,
        microseconds(event.date_time) or microseconds(syslog.timestamp) or 0,
        readable=True,
        event_code=event.event_id.code,
        event_system=event.event_id.system,
        action=event.action if event.action and len(event.action) == 1 else None,
        outcome=event.outcome if event.outcome in OUTCOMES else None,
        source_id=audit.source.source_id if audit.source else None,
        patients=frozenset(
            parse_patient(item.id) for item in audit.objects if (item.type_code, item.role) == (PERSON, ROLE_PATIENT)
        ),
        users=frozenset(users),
        objects=frozenset(item.id for item in audit.objects),
        types=frozenset((code.code, code.system) for code in event.type_codes),
    )


def parse_patient(text: str) -> Patient:
    """``id^^^namespace&OID&ISO``, leniently: any text names some patient."""
    components = text.strip().split("^")
    authority = components[3].split("&") if len(components) > 3 else []
    universal = authority[1].strip() if len(authority) > 1 else ""
    namespace = authority[0].strip() if authority else ""
    return Patient(components[0].strip(), universal or namespace or None)


def microseconds(text: str | None) -> int | None:
    """An xs:dateTime as microseconds since 1970; without zone it counts as UTC; ``None`` if it is none."""
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    try:
        return max(0, (moment - _EPOCH) // _MICROSECOND)
    except OverflowError:
        return None
