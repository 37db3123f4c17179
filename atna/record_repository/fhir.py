"""An audit record as a FHIR R4 AuditEvent (RESTful ATNA; FHIR R4 AuditEvent, mapping to DICOM PS3.15 A.5). Pure.

=========================  =======================================
EventID, EventTypeCode     type, subtype
EventActionCode            action
EventDateTime              recorded
EventOutcomeIndicator      outcome, EventOutcomeDescription: outcomeDesc
PurposeOfUse               purposeOfEvent
ActiveParticipant          agent: who.identifier is UserID, altId, name, requestor, network
AuditSourceIdentification  source: observer.identifier is AuditSourceID, site, type
ParticipantObject…         entity: what.identifier is ParticipantObjectID; a patient's CX is split into system and value
=========================  =======================================

A record that cannot be read is shown with type ``unreadable``: it is there, and found by its time alone.
"""

import base64
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from atna.message import AuditMessage, CodedValue, Participant, ParticipantObject
from atna.record_repository.indexing import PERSON, ROLE_PATIENT, parse_patient

__all__ = ["SYSTEMS", "audit_event", "code_system", "instant", "unreadable"]

SYSTEMS: Final = {
    "DCM": "http://dicom.nema.org/resources/ontology/DCM",
    "IHE Transactions": "urn:ihe:event-type-code",
}
"""codeSystemName to the URI that FHIR writes for it."""

SOURCE_TYPE: Final = "http://terminology.hl7.org/CodeSystem/security-source-type"
ENTITY_TYPE: Final = "http://terminology.hl7.org/CodeSystem/audit-entity-type"
ENTITY_ROLE: Final = "http://terminology.hl7.org/CodeSystem/object-role"
LIFECYCLE: Final = "http://terminology.hl7.org/CodeSystem/dicom-audit-lifecycle"
OWN_SYSTEM: Final = "urn:dossier:audit"

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SOURCE_TYPES: Final = frozenset("123456789")


def instant(microseconds: int) -> str:
    """Microseconds since 1970 as a FHIR instant."""
    moment = _EPOCH + timedelta(microseconds=microseconds)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def code_system(uri: str) -> str:
    """The codeSystemName a FHIR system stands for; a URI without one stands for itself."""
    return next((name for name, known in SYSTEMS.items() if known == uri), uri)


def audit_event(number: int, event_at: int, message: AuditMessage) -> dict[str, Any]:
    """The AuditEvent with id ``number``; ``event_at`` in microseconds since 1970."""
    event = message.event
    return _without_nothing(
        {
            "resourceType": "AuditEvent",
            "id": str(number),
            "type": _coding(event.event_id),
            "subtype": [_coding(code) for code in event.type_codes],
            "action": event.action,
            "recorded": instant(event_at),
            "outcome": None if event.outcome is None else str(event.outcome),
            "outcomeDesc": event.outcome_description,
            "purposeOfEvent": [_concept(code) for code in event.purposes_of_use],
            "agent": [_agent(participant) for participant in message.participants],
            "source": _source(message),
            "entity": [_entity(item) for item in message.objects],
        }
    )


def unreadable(number: int, event_at: int, received_at: int) -> dict[str, Any]:
    """What can be said of a record that cannot be read."""
    return {
        "resourceType": "AuditEvent",
        "id": str(number),
        "type": {"system": OWN_SYSTEM, "code": "unreadable", "display": "Record kept as received; it cannot be read"},
        "recorded": instant(event_at or received_at),
        "agent": [{"who": {"display": "unknown"}, "requestor": False}],
        "source": {"observer": {"display": "unknown"}},
    }


def _coding(code: CodedValue) -> dict[str, Any]:
    system = SYSTEMS.get(code.system or "", code.system)
    is_uri = system is not None and ":" in system and " " not in system
    return _without_nothing(
        {
            "system": system if is_uri else None,
            "code": code.code,
            "display": code.display or code.text,
        }
    )


def _concept(code: CodedValue) -> dict[str, Any]:
    return _without_nothing({"coding": [_coding(code)], "text": code.text})


def _agent(participant: Participant) -> dict[str, Any]:
    roles = [_concept(role) for role in participant.roles]
    network = {
        "address": participant.network_id,
        "type": None if participant.network_type is None else str(participant.network_type),
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
    return _without_nothing(
        {
            "site": source.enterprise_site_id,
            "observer": {"identifier": {"value": source.source_id}},
            "type": types,
        }
    )


def _entity(item: ParticipantObject) -> dict[str, Any]:
    identifier: dict[str, Any] = {"type": _concept(item.id_type) if item.id_type is not None else None}
    if (item.type_code, item.role) == (PERSON, ROLE_PATIENT):
        patient = parse_patient(item.id)
        system = patient.authority
        identifier["system"] = f"urn:oid:{system}" if system and system.replace(".", "").isdigit() else system
        identifier["value"] = patient.id
    else:
        identifier["value"] = item.id
    details = [
        {"type": detail.type, "valueBase64Binary": base64.b64encode(detail.value).decode("ascii")}
        for detail in item.details
    ]
    return _without_nothing(
        {
            "what": {"identifier": _without_nothing(identifier)},
            "type": _number(ENTITY_TYPE, item.type_code),
            "role": _number(ENTITY_ROLE, item.role),
            "lifecycle": _number(LIFECYCLE, item.life_cycle),
            "name": item.name if item.query is None else None,
            "query": None if item.query is None else base64.b64encode(item.query).decode("ascii"),
            "detail": details,
        }
    )


def _number(system: str, code: int | None) -> dict[str, str] | None:
    return None if code is None else {"system": system, "code": str(code)}


def _without_nothing(values: dict[str, Any]) -> dict[str, Any]:
    """FHIR has no null, no empty text and no empty list."""
    return {name: value for name, value in values.items() if value is not None and value not in ("", [], {})}
