"""An audit message as a FHIR R4 AuditEvent (RESTful ATNA; FHIR R4 AuditEvent, mapping to DICOM PS3.15 A.5). Pure.

=========================  =======================================
EventID, EventTypeCode     type, subtype
EventActionCode            action
EventDateTime              recorded
EventOutcomeIndicator      outcome, EventOutcomeDescription: outcomeDesc
PurposeOfUse               purposeOfEvent
ActiveParticipant          agent: who.identifier is UserID, type and role RoleIDCodes, altId, name, requestor, network
AuditSourceIdentification  source: observer.identifier is AuditSourceID, site, type
ParticipantObject…         entity: what.identifier is ParticipantObjectID (a patient's CX: system and value);
                           type, role, lifecycle, securityLabel (sensitivity), name or query, detail
=========================  =======================================

What comes out is valid whatever went in: what FHIR has no place or no form for is left out, above all empty texts and
codes outside of a required binding. A codeSystemName that is no URI becomes one (``system_uri``), and back.
"""

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import quote, unquote

from atna.message import AuditMessage, CodedValue, Participant, ParticipantObject
from atna.vocabulary import PERSON, ROLE_PATIENT

__all__ = [
    "ACTION_SYSTEM",
    "ENTITY_ROLE",
    "ENTITY_TYPE",
    "LIFECYCLE",
    "OID_PREFIX",
    "OUTCOME_SYSTEM",
    "SYSTEMS",
    "Patient",
    "audit_event",
    "code_system",
    "instant",
    "parse_patient",
    "print_patient",
    "system_uri",
]

SYSTEMS: Final = {
    "DCM": "http://dicom.nema.org/resources/ontology/DCM",
    "IHE Transactions": "urn:ihe:event-type-code",
    "RFC-3881": "urn:ietf:rfc:3881",
}
"""codeSystemName to the URI that FHIR writes for it."""

_CODE_SYSTEM: Final = "http://terminology.hl7.org/CodeSystem"
SOURCE_TYPE: Final = f"{_CODE_SYSTEM}/security-source-type"
ENTITY_TYPE: Final = f"{_CODE_SYSTEM}/audit-entity-type"
ENTITY_ROLE: Final = f"{_CODE_SYSTEM}/object-role"
LIFECYCLE: Final = f"{_CODE_SYSTEM}/dicom-audit-lifecycle"
OUTCOME_SYSTEM: Final = "http://hl7.org/fhir/audit-event-outcome"
ACTION_SYSTEM: Final = "http://hl7.org/fhir/audit-event-action"
OID_PREFIX: Final = "urn:oid:"
_NAMED: Final = "urn:dossier:code-system:"
"""Before the name of a code system that is no URI, percent-encoded."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LAST: Final = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1)
_SOURCE_TYPES: Final = frozenset("123456789")
_ACTIONS: Final = frozenset("CRUDE")
_OUTCOMES: Final = frozenset({0, 4, 8, 12})
_OID: Final = re.compile(r"[0-2](\.(0|[1-9][0-9]*))+")
_URI: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:\S+")


@dataclass(frozen=True, slots=True)
class Patient:
    """A CX as far as a search needs it; ``authority`` is the OID of CX-4, else its namespace, ``None`` without one.

    A patient that FHIR refers to is its reference (``Patient/17``), without authority.
    """

    id: str
    authority: str | None


def parse_patient(text: str) -> Patient:
    """``id^^^namespace&OID&ISO``, leniently: any text names some patient."""
    components = text.strip().split("^")
    authority = components[3].split("&") if len(components) > 3 else []
    universal = authority[1].strip() if len(authority) > 1 else ""
    namespace = authority[0].strip() if authority else ""
    return Patient(components[0].strip(), universal or namespace or None)


def print_patient(patient: Patient) -> str:
    """As CX where the authority is an OID, ``id^^^authority`` for another, the id alone without one."""
    if patient.authority is None:
        return patient.id
    is_oid = _OID.fullmatch(patient.authority) is not None
    return f"{patient.id}^^^&{patient.authority}&ISO" if is_oid else f"{patient.id}^^^{patient.authority}"


def instant(microseconds: int) -> str:
    """Microseconds since 1970 as a FHIR instant; what no calendar holds becomes the last one of the year 9999."""
    # The last hours of 9999 in a zone west of Greenwich are 10000 in UTC, which neither FHIR nor Python can write.
    moment = _EPOCH + timedelta(microseconds=min(microseconds, _LAST))
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def system_uri(name: str | None) -> str | None:
    """The URI of a codeSystemName."""
    if not name or not name.strip():
        return None
    if name in SYSTEMS:
        return SYSTEMS[name]
    if _OID.fullmatch(name):
        return OID_PREFIX + name
    return name if _URI.fullmatch(name) else _NAMED + quote(name.strip(), safe="")


def code_system(uri: str) -> str:
    """The codeSystemName a FHIR system stands for; a URI without one stands for itself."""
    if uri.startswith(_NAMED):
        return unquote(uri.removeprefix(_NAMED))
    return next((name for name, known in SYSTEMS.items() if known == uri), uri)


def audit_event(number: int | None, event_at: int, message: AuditMessage) -> dict[str, Any]:
    """The AuditEvent with id ``number`` (``None``: no id yet); ``event_at`` in microseconds since 1970."""
    event = message.event
    return _without_nothing(
        {
            "resourceType": "AuditEvent",
            "id": None if number is None else str(number),
            "type": _coding(event.event_id) or {"display": "unknown"},
            "subtype": _present(_coding(code) for code in event.type_codes),
            "action": event.action if event.action in _ACTIONS else None,
            "recorded": instant(event_at),
            "outcome": str(event.outcome) if event.outcome in _OUTCOMES else None,
            "outcomeDesc": event.outcome_description,
            "purposeOfEvent": _present(_concept(code) for code in event.purposes_of_use),
            "agent": [_agent(participant) for participant in message.participants]
            or [{"who": {"display": "unknown"}, "requestor": False}],
            "source": _source(message),
            "entity": _present(_entity(item) for item in message.objects),
        }
    )


def _present(values: Any) -> list[Any]:
    return [value for value in values if value]


def _coding(code: CodedValue) -> dict[str, Any]:
    plain = " ".join(code.code.split())
    return _without_nothing(
        {
            "system": system_uri(code.system) if plain else None,
            "code": plain,
            "display": code.display or code.text,
        }
    )


def _concept(code: CodedValue) -> dict[str, Any]:
    return _without_nothing({"coding": _present([_coding(code)]), "text": code.text})


def _agent(participant: Participant) -> dict[str, Any]:
    roles = _present(_concept(role) for role in participant.roles)
    kind = participant.network_type
    network = {
        "address": participant.network_id,
        "type": str(kind) if kind is not None and 1 <= kind <= 5 else None,
    }
    return _without_nothing(
        {
            "type": roles[0] if roles else None,
            "role": roles[1:],
            "who": _without_nothing({"identifier": _without_nothing({"value": participant.user_id})}),
            "altId": participant.alternative_user_id,
            "name": participant.user_name,
            "requestor": participant.is_requestor,
            "network": _without_nothing(network) if participant.network_id else None,
        }
    )


def _source(message: AuditMessage) -> dict[str, Any]:
    source = message.source
    if source is None:
        return {"observer": {"display": "unknown"}}
    types = [
        {"system": SOURCE_TYPE, "code": code.code} if code.code in _SOURCE_TYPES else _coding(code)
        for code in source.type_codes
    ]
    observer = _without_nothing({"identifier": _without_nothing({"value": source.source_id})})
    return _without_nothing(
        {
            "site": source.enterprise_site_id,
            "observer": observer or {"display": "unknown"},
            "type": _present(types),
        }
    )


def _entity(item: ParticipantObject) -> dict[str, Any]:
    identifier: dict[str, Any] = {"type": _concept(item.id_type) if item.id_type is not None else None}
    if (item.type_code, item.role) == (PERSON, ROLE_PATIENT):
        patient = parse_patient(item.id)
        identifier["system"], identifier["value"] = system_uri(patient.authority), patient.id
    else:
        identifier["value"] = item.id
    details = [
        {
            "type": detail.type if detail.type.strip() else "unknown",
            "valueBase64Binary": base64.b64encode(detail.value).decode("ascii"),
        }
        for detail in item.details
        if detail.value
    ]
    sensitivity = " ".join((item.sensitivity or "").split())
    return _without_nothing(
        {
            "what": _without_nothing({"identifier": _without_nothing(identifier)}),
            "type": _number(ENTITY_TYPE, item.type_code),
            "role": _number(ENTITY_ROLE, item.role),
            "lifecycle": _number(LIFECYCLE, item.life_cycle),
            "securityLabel": [{"code": sensitivity}] if sensitivity else None,
            "name": item.name if item.query is None else None,
            "query": base64.b64encode(item.query).decode("ascii") if item.query else None,
            "detail": details,
        }
    )


def _number(system: str, code: int | None) -> dict[str, str] | None:
    return None if code is None else {"system": system, "code": str(code)}


def _without_nothing(values: Mapping[str, Any]) -> dict[str, Any]:
    """FHIR has no null, no empty or blank text and no empty list."""
    return {
        name: value
        for name, value in values.items()
        if value is not None and value not in ("", [], {}) and not (isinstance(value, str) and not value.strip())
    }
