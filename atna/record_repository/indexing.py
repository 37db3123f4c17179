"""What ITI-81 searches by, taken out of a record as it came. Pure; never fails: what cannot be read is said so.

What a record is, is told from its bytes alone: a syslog message, or an AuditEvent of FHIR in JSON or XML.

``event_at``       microseconds since 1970 of EventDateTime, else of the syslog timestamp, else 0: of the bytes alone
``agent_roles``    bit n: RoleIDCode 110150 + n of DICOM (other roles are among the texts)
``entity_types``   bit n: ParticipantObjectTypeCode n; ``entity_roles``: bit n: ParticipantObjectTypeCodeRole n
``texts``          (kind, text, code system or ""); names and addresses casefolded, since FHIR compares them so

The check of the log derives all this again from the messages: whoever changes what comes out here has to index every
record anew, in a step of the schema (``store/reindexing.py``).
"""

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from typing import Any, Final

from atna.fhir_audit_event import Patient, parse_patient
from atna.fhir_reading import Form, ResourceRefused, form_of, read_resource
from atna.iti20_record_audit_event import SyslogError, decode_message
from atna.message import AuditMessage, CodedValue, UnreadableError, parse, read_code, read_number, read_root, read_token
from atna.record_repository.fhir_records import agent_patients, message_of, patient_of, policies, texts_of
from atna.vocabulary import PERSON, ROLE_PATIENT

__all__ = [
    "DCM_ROLES",
    "Indexed",
    "Kind",
    "Patient",
    "bits",
    "index",
    "index_resource",
    "microseconds",
    "parse_patient",
    "read",
]

OUTCOMES: Final = frozenset({0, 4, 8, 12})
DCM: Final = "DCM"
DCM_ROLES: Final = {str(110150 + bit): bit for bit in range(6)}
"""RoleIDCodes of DICOM (CID 402) to their bit."""
MOST_BITS: Final = 31
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_DAY: Final = 86_400_000_000
_END_OF_DAY: Final = re.compile(r"(\d{4}-\d\d-\d\d)T24:00(?::00(?:\.0+)?)?(|Z|[+-]\d\d:\d\d)", re.ASCII)


class Kind(IntEnum):
    """What a searched text is; these numbers are in the database."""

    ADDRESS = 1
    ALTERNATIVE_ID = 2
    AGENT_NAME = 3
    ENTITY_NAME = 4
    POLICY = 5
    ROLE = 6
    PURPOSE = 7


# Members of an enumeration are hashed by their names, in Python: too dear for every record.
_ADDRESS, _ALTERNATIVE_ID, _AGENT_NAME, _ENTITY_NAME, _POLICY, _ROLE, _PURPOSE = (int(kind) for kind in Kind)

Text = tuple[int, str, str]


@dataclass(frozen=True, slots=True)
class Indexed:
    """A record with what it is found by; ``readable`` is False when only ``event_at`` could be told."""

    message: bytes
    sha256: bytes
    event_at: int
    readable: bool
    event_code: str | None = None
    event_system: str | None = None
    action: str | None = None
    outcome: int | None = None
    source_id: str | None = None
    site_id: str | None = None
    agent_roles: int = 0
    entity_types: int = 0
    entity_roles: int = 0
    patients: frozenset[Patient] = frozenset()
    users: frozenset[str] = frozenset()
    objects: frozenset[str] = frozenset()
    types: frozenset[tuple[str, str | None]] = frozenset()
    texts: frozenset[Text] = frozenset()


def read(message: bytes) -> AuditMessage:
    """The audit message a record holds, whatever it came as. Raises SyslogError or UnreadableError."""
    if form_of(message) is Form.SYSLOG:
        return parse(decode_message(message).message)
    try:
        return message_of(read_resource(message))
    except ResourceRefused as refused:
        raise UnreadableError(str(refused)) from refused


def index(message: bytes) -> Indexed:
    """Take the searched values out of one record."""
    if form_of(message) is not Form.SYSLOG:
        try:
            return index_resource(message, read_resource(message))
        except ResourceRefused:
            return Indexed(message, hashlib.sha256(message).digest(), 0, readable=False)
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
    return _of_element(message, digest, sent_at, root)


def _of_element(message: bytes, digest: bytes, sent_at: int, root: Any) -> Indexed:
    """Straight from the elements: whole values of every record would cost more than its place in the database."""
    event = root.find("EventIdentification")
    event_id = event.find("EventID")
    action, outcome = read_token(event.get("EventActionCode")), read_number(event.get("EventOutcomeIndicator"))
    source = root.find("AuditSourceIdentification")
    users, agent_roles, texts = _agents(root.iterchildren("ActiveParticipant"))
    objects: set[str] = set()
    patients: set[Patient] = set()
    entity_types = entity_roles = 0
    for item in root.iterchildren("ParticipantObjectIdentification"):
        object_id = item.get("ParticipantObjectID") or ""
        objects.add(object_id)
        kind = read_number(item.get("ParticipantObjectTypeCode"))
        role = read_number(item.get("ParticipantObjectTypeCodeRole"))
        entity_types |= _bit(kind)
        entity_roles |= _bit(role)
        if kind == PERSON and role == ROLE_PATIENT:
            patients.add(parse_patient(object_id))
        for name in item.iterchildren("ParticipantObjectName"):
            if name.text:
                texts.add((_ENTITY_NAME, name.text.casefold(), ""))
    for purpose in event.iterchildren("PurposeOfUse"):
        code = read_code(purpose)
        if code:
            texts.add((_PURPOSE, code, purpose.get("codeSystemName") or ""))
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
        site_id=source.get("AuditEnterpriseSiteID") if source is not None else None,
        agent_roles=agent_roles,
        entity_types=entity_types,
        entity_roles=entity_roles,
        patients=frozenset(patients),
        users=frozenset(users - {""}),
        objects=frozenset(objects - {""}),
        types=types,
        texts=frozenset(texts),
    )


def _agents(elements: Iterable[Any]) -> tuple[set[str], int, set[Text]]:
    """Users, bits of their roles, and their texts."""
    users: set[str] = set()
    texts: set[Text] = set()
    roles = 0
    for participant in elements:
        get = participant.get
        name, address, other = get("UserName"), get("NetworkAccessPointID"), get("AlternativeUserID")
        users.add(get("UserID") or "")
        if name:
            users.add(name)
            texts.add((_AGENT_NAME, name.casefold(), ""))
        if address:
            texts.add((_ADDRESS, address.casefold(), ""))
        if other:
            texts.add((_ALTERNATIVE_ID, other, ""))
        for element in participant.iterchildren("RoleIDCode"):
            roles |= _role(read_code(element), element.get("codeSystemName") or "", texts)
    return users, roles, texts


def _role(code: str, system: str, texts: set[Text]) -> int:
    """The bit of a role, or 0 and a text."""
    if system == DCM and code in DCM_ROLES:
        return 1 << DCM_ROLES[code]
    if code:
        texts.add((_ROLE, code, system))
    return 0


def index_resource(message: bytes, resource: dict[str, Any]) -> Indexed:
    """The same of an AuditEvent that ``read_resource`` has made of ``message``."""
    seen = message_of(resource)
    texts: set[Text] = {(_POLICY, policy, "") for policy in policies(resource)}
    texts |= {(_PURPOSE, code.code, code.system or "") for code in seen.event.purposes_of_use if code.code}
    users: set[str] = set()
    roles = 0
    for agent, participant in zip(resource["agent"], seen.participants, strict=True):
        users |= {participant.user_id, participant.user_name or "", *texts_of(agent.get("who"))}
        texts |= set(_texts_of_agent(participant.user_name, participant.network_id, participant.alternative_user_id))
        for role in participant.roles:
            roles |= _role(role.code, role.system or "", texts)
    entities = resource.get("entity", ())
    texts |= {(_ENTITY_NAME, item.name.casefold(), "") for item in seen.objects if item.name}
    patients = {patient for entity in entities for patient in patient_of(entity)} | set(agent_patients(resource))
    source = seen.source
    return Indexed(
        message,
        hashlib.sha256(message).digest(),
        microseconds(seen.event.date_time) or 0,
        readable=True,
        event_code=seen.event.event_id.code,
        event_system=seen.event.event_id.system,
        action=seen.event.action,
        outcome=seen.event.outcome,
        source_id=source.source_id if source is not None else None,
        site_id=source.enterprise_site_id if source is not None else None,
        agent_roles=roles,
        entity_types=bits(item.type_code for item in seen.objects),
        entity_roles=bits(item.role for item in seen.objects),
        patients=frozenset(patients),
        users=frozenset(users - {""}),
        objects=frozenset({*(item.id for item in seen.objects), *_names_of(entities)} - {""}),
        types=frozenset(_pair(code) for code in seen.event.type_codes),
        texts=frozenset(texts),
    )


def _texts_of_agent(name: str | None, address: str | None, other: str | None) -> Iterator[Text]:
    if name:
        yield (_AGENT_NAME, name.casefold(), "")
    if address:
        yield (_ADDRESS, address.casefold(), "")
    if other:
        yield (_ALTERNATIVE_ID, other, "")


def _names_of(entities: Iterable[dict[str, Any]]) -> Iterator[str]:
    for entity in entities:
        yield from texts_of(entity.get("what"))


def _pair(code: CodedValue) -> tuple[str, str | None]:
    return code.code, code.system


def bits(numbers: Iterable[int | None]) -> int:
    """A bit for each of the numbers; those of no code are left out."""
    found = 0
    for number in numbers:
        found |= _bit(number)
    return found


def _bit(number: int | None) -> int:
    return 1 << number if number is not None and number < MOST_BITS else 0


def microseconds(text: str | None) -> int | None:
    """An xs:dateTime as microseconds since 1970; without zone it counts as UTC; ``None`` if it is none."""
    if not text:
        return None
    # The end of a day is a time of XML Schema; not every version of Python takes it.
    day = _END_OF_DAY.fullmatch(text.strip())
    try:
        moment = datetime.fromisoformat(f"{day[1]}T00:00{day[2]}" if day else text.strip())
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0, (moment - _EPOCH) // _MICROSECOND + (_DAY if day else 0))
