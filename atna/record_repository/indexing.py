"""What ITI-81 searches by, taken out of a message as it came. Pure; never fails: what cannot be read is said so.

``event_at``  microseconds since 1970 of EventDateTime, else of the syslog timestamp, else 0: of the bytes alone
"""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from atna.iti20_record_audit_event import SyslogError, decode_message
from atna.message import AuditMessage, UnreadableError, parse, read_code, read_number, read_root

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
    sent_at = microseconds(syslog.timestamp) or 0
    try:
        root = read_root(syslog.message)
    except UnreadableError:
        return Indexed(message, digest, sent_at, readable=False)
    return _searched(message, digest, sent_at, root)


def _searched(message: bytes, digest: bytes, sent_at: int, root: Any) -> Indexed:
    """Straight from the elements: whole values of every record would cost more than its place in the database."""
    event = root.find("EventIdentification")
    event_id = event.find("EventID")
    action, outcome = event.get("EventActionCode"), read_number(event.get("EventOutcomeIndicator"))
    source = root.find("AuditSourceIdentification")
    users: set[str] = set()
    for participant in root.iterchildren("ActiveParticipant"):
        users.add(participant.get("UserID") or "")
        users.add(participant.get("UserName") or "")
    objects: set[str] = set()
    patients: set[Patient] = set()
    for item in root.iterchildren("ParticipantObjectIdentification"):
        object_id = item.get("ParticipantObjectID") or ""
        objects.add(object_id)
        kind = read_number(item.get("ParticipantObjectTypeCode"))
        if kind == PERSON and read_number(item.get("ParticipantObjectTypeCodeRole")) == ROLE_PATIENT:
            patients.add(parse_patient(object_id))
    types = frozenset((read_code(code), code.get("codeSystemName")) for code in event.iterchildren("EventTypeCode"))
    return Indexed(
        message,
        digest,
        microseconds(event.get("EventDateTime")) or sent_at,
        readable=True,
        event_code=read_code(event_id),
        event_system=event_id.get("codeSystemName"),
        action=action if action and len(action) == 1 else None,
        outcome=outcome if outcome in OUTCOMES else None,
        source_id=source.get("AuditSourceID") or "" if source is not None else None,
        patients=frozenset(patients),
        users=frozenset(users - {""}),
        objects=frozenset(objects - {""}),
        types=types,
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
