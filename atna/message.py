"""The audit message of DICOM PS3.15 A.5, as values and as XML (ITI TF-2: 3.20.4.1.2).

AuditMessage = EventIdentification, ActiveParticipant 1..n, AuditSourceIdentification,
ParticipantObjectIdentification 0..n

``encode`` writes UTF-8 without XML declaration or namespace, in the order the schema asks for. ``parse`` reads what
peers send: also the attribute names of RFC 3881 (``code`` for ``csd-code``), and without what is missing. Characters
that XML cannot carry become U+FFFD; a code or an id that the schema wants and that is blank is written ``unknown``.
The schema is ``schemas/audit/all.xsd``. Not kept by ``parse``: MediaIdentifier, ParticipantObjectDescription.
"""

import base64
import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from functools import lru_cache
from typing import Any, Final

from schemas import XmlRefused, parse_xml

__all__ = [
    "Action",
    "AuditMessage",
    "AuditSource",
    "CodedValue",
    "Detail",
    "EventIdentification",
    "NetworkAccessPoint",
    "Outcome",
    "Participant",
    "ParticipantObject",
    "UnreadableError",
    "encode",
    "parse",
    "read_code",
    "read_number",
    "read_root",
    "read_token",
]


class UnreadableError(ValueError):
    """Not an audit message; the text says why and holds nothing of its content."""


class Action(StrEnum):
    """EventIdentification/@EventActionCode."""

    CREATE = "C"
    READ = "R"
    UPDATE = "U"
    DELETE = "D"
    EXECUTE = "E"


class Outcome(IntEnum):
    """EventIdentification/@EventOutcomeIndicator."""

    SUCCESS = 0
    MINOR_FAILURE = 4
    SERIOUS_FAILURE = 8
    MAJOR_FAILURE = 12


class NetworkAccessPoint(IntEnum):
    """ActiveParticipant/@NetworkAccessPointTypeCode."""

    NAME = 1
    IP = 2
    PHONE = 3
    MAIL = 4
    URI = 5


@dataclass(frozen=True, slots=True)
class CodedValue:
    """A code: csd-code, codeSystemName, originalText, displayName."""

    code: str
    system: str | None
    text: str | None
    display: str | None = None


@dataclass(frozen=True, slots=True)
class EventIdentification:
    """What happened. ``date_time`` is an xs:dateTime with zone; ``None`` until the recorder stamps it."""

    event_id: CodedValue
    action: str | None
    outcome: int | None
    type_codes: tuple[CodedValue, ...] = ()
    outcome_description: str | None = None
    purposes_of_use: tuple[CodedValue, ...] = ()
    date_time: str | None = None


@dataclass(frozen=True, slots=True)
class Participant:
    """Who took part. ``network_type`` is one of NetworkAccessPoint, absent like ``network_id`` for a person."""

    user_id: str
    is_requestor: bool
    roles: tuple[CodedValue, ...] = ()
    alternative_user_id: str | None = None
    user_name: str | None = None
    network_id: str | None = None
    network_type: int | None = None


@dataclass(frozen=True, slots=True)
class AuditSource:
    """Who wrote the record."""

    source_id: str
    enterprise_site_id: str | None = None
    type_codes: tuple[CodedValue, ...] = ()


@dataclass(frozen=True, slots=True)
class Detail:
    """ParticipantObjectDetail: ``value`` before base64."""

    type: str
    value: bytes


@dataclass(frozen=True, slots=True)
class ParticipantObject:
    """What it was about. ``query`` is before base64, and excludes ``name``."""

    id: str
    id_type: CodedValue | None
    type_code: int | None
    role: int | None
    life_cycle: int | None = None
    sensitivity: str | None = None
    name: str | None = None
    query: bytes | None = None
    details: tuple[Detail, ...] = ()


@dataclass(frozen=True, slots=True)
class AuditMessage:
    """One audit record. ``source`` is ``None`` until the recorder gives it."""

    event: EventIdentification
    participants: tuple[Participant, ...]
    objects: tuple[ParticipantObject, ...] = ()
    source: AuditSource | None = None


_BLANKS: Final = " \t\r\n"
_UNKNOWN: Final = "unknown"


def encode(message: AuditMessage, *, date_time: str | None = None, source: AuditSource | None = None) -> bytes:
    """The message as UTF-8 XML; ``date_time`` and ``source`` count before its own.

    Raises ValueError when time, source or participants are missing.
    """
    date_time, source = date_time or message.event.date_time, source or message.source
    if date_time is None or source is None or not message.participants:
        raise ValueError("an audit record needs a time, a source and a participant")
    pieces = ["<AuditMessage>", *_event(message.event, date_time)]
    for participant in message.participants:
        pieces += _participant(participant)
    pieces.append(_source(source))
    for participant_object in message.objects:
        pieces += _object(participant_object)
    pieces.append("</AuditMessage>")
    return "".join(pieces).encode()


def _event(event: EventIdentification, date_time: str) -> Iterator[str]:
    yield (
        f"<EventIdentification{_attribute('EventActionCode', event.action)}"
        f"{_attribute('EventDateTime', date_time)}"
        f"{_attribute('EventOutcomeIndicator', event.outcome)}>"
    )
    yield _coded("EventID", event.event_id)
    yield from (_coded("EventTypeCode", code) for code in event.type_codes)
    if event.outcome_description is not None:
        yield f"<EventOutcomeDescription>{_escape(event.outcome_description)}</EventOutcomeDescription>"
    yield from (_coded("PurposeOfUse", code) for code in event.purposes_of_use)
    yield "</EventIdentification>"


def _participant(participant: Participant) -> Iterator[str]:
    yield (
        f'<ActiveParticipant UserID="{_escape(participant.user_id)}"'
        f"{_attribute('AlternativeUserID', participant.alternative_user_id)}"
        f"{_attribute('UserName', participant.user_name)}"
        f' UserIsRequestor="{"true" if participant.is_requestor else "false"}"'
        f"{_attribute('NetworkAccessPointID', participant.network_id)}"
        f"{_attribute('NetworkAccessPointTypeCode', participant.network_type)}>"
    )
    yield from (_coded("RoleIDCode", code) for code in participant.roles)
    yield "</ActiveParticipant>"


# A process has one.
@lru_cache(maxsize=16)
def _source(source: AuditSource) -> str:
    codes = "".join(_coded("AuditSourceTypeCode", code) for code in source.type_codes)
    return (
        f"<AuditSourceIdentification{_attribute('AuditEnterpriseSiteID', source.enterprise_site_id)}"
        f"{_attribute('AuditSourceID', source.source_id)}>{codes}</AuditSourceIdentification>"
    )


def _object(item: ParticipantObject) -> Iterator[str]:
    yield (
        f'<ParticipantObjectIdentification ParticipantObjectID="{_filled(item.id)}"'
        f"{_attribute('ParticipantObjectTypeCode', item.type_code)}"
        f"{_attribute('ParticipantObjectTypeCodeRole', item.role)}"
        f"{_attribute('ParticipantObjectDataLifeCycle', item.life_cycle)}"
        f"{_attribute('ParticipantObjectSensitivity', item.sensitivity)}>"
    )
    yield _coded("ParticipantObjectIDTypeCode", item.id_type or CodedValue("", None, None))
    if item.query is not None:
        yield f"<ParticipantObjectQuery>{_base64(item.query)}</ParticipantObjectQuery>"
    elif item.name is not None:
        yield f"<ParticipantObjectName>{_escape(item.name)}</ParticipantObjectName>"
    for detail in item.details:
        yield f'<ParticipantObjectDetail type="{_filled(detail.type)}" value="{_base64(detail.value)}"/>'
    yield "</ParticipantObjectIdentification>"


# Nearly every record has the same few codes.
@lru_cache(maxsize=512)
def _coded(tag: str, value: CodedValue) -> str:
    return (
        f'<{tag} csd-code="{_filled(value.code)}" codeSystemName="{_filled(value.system)}"'
        f'{_attribute("displayName", value.display)} originalText="{_filled(value.text or value.display)}"/>'
    )


def _attribute(name: str, value: str | int | None) -> str:
    return "" if value is None else f' {name}="{_escape(str(value))}"'


def _filled(text: str | None) -> str:
    return _escape(text) if text and text.strip(_BLANKS) else _UNKNOWN


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


# What must not stand as itself in an attribute or text, and what XML 1.0 (2.2 Char) cannot carry at all.
_SPECIAL: Final = re.compile('[&<>"\t\n\r\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]')
_ESCAPED: Final = {
    "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "\t": "&#9;", "\n": "&#10;", "\r": "&#13;",
}  # fmt: skip


def _escape(text: str) -> str:
    if _SPECIAL.search(text) is None:
        return text
    return _SPECIAL.sub(lambda found: _ESCAPED.get(found[0], "\ufffd"), text)


def read_root(data: bytes) -> Any:
    """The AuditMessage element, namespaces dropped; it has an EventIdentification with an EventID.

    A BOM, a declaration and a namespace are tolerated. Raises UnreadableError.
    """
    try:
        root = parse_xml(data, max_bytes=max(len(data), 1))
    except XmlRefused as refused:
        raise UnreadableError(refused.reason) from refused
    _drop_namespaces(root)
    if root.tag != "AuditMessage":
        raise UnreadableError("the root element is not AuditMessage")
    event = root.find("EventIdentification")
    if event is None:
        raise UnreadableError("EventIdentification is missing")
    if event.find("EventID") is None:
        raise UnreadableError("EventID is missing")
    return root


def parse(data: bytes) -> AuditMessage:
    """Read an audit message; raises UnreadableError."""
    root = read_root(data)
    event = root.find("EventIdentification")
    source = root.find("AuditSourceIdentification")
    return AuditMessage(
        event=_read_event(event),
        participants=tuple(_read_participant(element) for element in root.iterchildren("ActiveParticipant")),
        objects=tuple(_read_object(element) for element in root.iterchildren("ParticipantObjectIdentification")),
        source=_read_source(source) if source is not None else None,
    )


def _drop_namespaces(root: Any) -> None:
    """The message has none; some senders declare one."""
    if root.nsmap:
        for element in root.iter():
            element.tag = element.tag.rpartition("}")[2]


def _codes(element: Any, name: str) -> tuple[CodedValue, ...]:
    return tuple([_read_coded(child) for child in element.iterchildren(name)])


def read_code(element: Any) -> str:
    """The code of a coded value; RFC 3881 calls it ``code``."""
    return read_token(element.get("csd-code") or element.get("code")) or ""


def _read_coded(element: Any) -> CodedValue:
    get = element.get
    return CodedValue(read_code(element), read_token(get("codeSystemName")), get("originalText"), get("displayName"))


def read_token(text: str | None) -> str | None:
    """An attribute that is a token in the schema: blanks around it are no part of its value."""
    return None if text is None else text.strip(_BLANKS)


_NUMBER: Final = re.compile(r"[ \t\r\n]*([0-9]{1,4})[ \t\r\n]*")


def read_number(text: str | None) -> int | None:
    """A small number of an attribute, ``None`` when it is none."""
    found = _NUMBER.fullmatch(text) if text is not None else None
    return int(found[1]) if found is not None else None


def _read_event(element: Any) -> EventIdentification:
    descriptions = [child.text or "" for child in element.iterchildren("EventOutcomeDescription")]
    return EventIdentification(
        event_id=_read_coded(element.find("EventID")),
        action=read_token(element.get("EventActionCode")),
        outcome=read_number(element.get("EventOutcomeIndicator")),
        type_codes=_codes(element, "EventTypeCode"),
        outcome_description=descriptions[0] if descriptions else None,
        purposes_of_use=_codes(element, "PurposeOfUse"),
        date_time=element.get("EventDateTime"),
    )


def _read_participant(element: Any) -> Participant:
    get = element.get
    return Participant(
        user_id=get("UserID") or "",
        is_requestor=(get("UserIsRequestor") or "").strip() in {"true", "1"},
        roles=_codes(element, "RoleIDCode"),
        alternative_user_id=get("AlternativeUserID"),
        user_name=get("UserName"),
        network_id=get("NetworkAccessPointID"),
        network_type=read_number(get("NetworkAccessPointTypeCode")),
    )


def _read_source(element: Any) -> AuditSource:
    # RFC 3881 and some DICOM editions put the type code into an attribute of the element itself.
    own = (CodedValue(element.get("code"), None, None),) if element.get("code") else ()
    return AuditSource(
        source_id=element.get("AuditSourceID") or "",
        enterprise_site_id=element.get("AuditEnterpriseSiteID"),
        type_codes=own + _codes(element, "AuditSourceTypeCode"),
    )


def _read_object(element: Any) -> ParticipantObject:
    get = element.get
    id_types = _codes(element, "ParticipantObjectIDTypeCode")
    names = [child.text or "" for child in element.iterchildren("ParticipantObjectName")]
    queries = [_plain(child.text or "") for child in element.iterchildren("ParticipantObjectQuery")]
    details = element.iterchildren("ParticipantObjectDetail")
    return ParticipantObject(
        id=get("ParticipantObjectID") or "",
        id_type=id_types[0] if id_types else None,
        type_code=read_number(get("ParticipantObjectTypeCode")),
        role=read_number(get("ParticipantObjectTypeCodeRole")),
        life_cycle=read_number(get("ParticipantObjectDataLifeCycle")),
        sensitivity=get("ParticipantObjectSensitivity"),
        name=names[0] if names else None,
        query=queries[0] if queries else None,
        details=tuple(Detail(detail.get("type") or "", _plain(detail.get("value") or "")) for detail in details),
    )


def _plain(text: str) -> bytes:
    """Undo base64; some senders forget to apply it, then the text itself is the value."""
    packed = "".join(text.split())
    try:
        return base64.b64decode(packed, validate=True)
    except (binascii.Error, ValueError):
        return text.encode()
