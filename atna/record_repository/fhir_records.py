"""An AuditEvent that came as FHIR, seen as an audit message: the way back of ``atna.fhir_audit_event``. Pure.

A record's words are kept as they came; this is how the log shows and finds them beside those of syslog. What FHIR says
in several ways: an agent is its identifier, else its reference, else its name; purposes of use stand on the event or
(IHE BALP) on its agents; a patient is an entity of role 1 or a reference ``Patient/…``, by identifier or by reference.
"""

import base64
from collections.abc import Iterable, Iterator
from typing import Any, Final

from atna.fhir_audit_event import OID_PREFIX, Patient, code_system, print_patient
from atna.message import (
    AuditMessage,
    AuditSource,
    CodedValue,
    Detail,
    EventIdentification,
    Participant,
    ParticipantObject,
)
from atna.vocabulary import PERSON, ROLE_PATIENT, SYSTEM

__all__ = ["agent_patients", "message_of", "patient_of", "policies", "texts_of"]

Resource = dict[str, Any]

# audit-entity-type has the numbers of DICOM; instead of one a FHIR server writes the type of the resource.
_PERSONS: Final = frozenset({"Patient", "Person", "Practitioner", "RelatedPerson"})
_PATIENT: Final = "Patient/"


def message_of(resource: Resource) -> AuditMessage:
    """The audit message of a checked AuditEvent."""
    agents = resource["agent"]
    purposes = [*resource.get("purposeOfEvent", ()), *(one for a in agents for one in a.get("purposeOfUse", ()))]
    source = resource["source"]
    outcome = resource.get("outcome")
    return AuditMessage(
        EventIdentification(
            event_id=_coded(resource["type"]),
            action=resource.get("action"),
            outcome=None if outcome is None else int(outcome),
            type_codes=tuple(_coded(one) for one in resource.get("subtype", ())),
            outcome_description=resource.get("outcomeDesc"),
            purposes_of_use=tuple(dict.fromkeys(_codes(purposes))),
            date_time=resource.get("recorded"),
        ),
        tuple(_participant(agent) for agent in agents),
        tuple(_object(entity) for entity in resource.get("entity", ())),
        AuditSource(
            next(texts_of(source["observer"]), ""),
            source.get("site"),
            tuple(_coded(one) for one in source.get("type", ())),
        ),
    )


def texts_of(reference: Resource | None) -> Iterator[str]:
    """What a Reference is called, the best name first: identifier, reference, display."""
    if reference is not None:
        names = (reference.get("identifier", {}).get("value"), reference.get("reference"), reference.get("display"))
        yield from (name for name in names if name)


def policies(resource: Resource) -> Iterator[str]:
    """Policies and tokens that let the agents in."""
    for agent in resource["agent"]:
        yield from (policy for policy in agent.get("policy", ()) if policy)


def patient_of(entity: Resource) -> Iterator[Patient]:
    """The patient an entity is, by identifier and by reference."""
    what = entity.get("what", {})
    in_the_role = _number(entity.get("role")) == ROLE_PATIENT and _type(entity.get("type")) in {PERSON, None}
    if in_the_role or _is_patient(what):
        yield from _names_of_patient(what)


def agent_patients(resource: Resource) -> Iterator[Patient]:
    """Patients who act themselves."""
    for agent in resource["agent"]:
        who = agent.get("who", {})
        if _is_patient(who):
            yield from _names_of_patient(who)


def _is_patient(reference: Resource) -> bool:
    target = reference.get("reference", "")
    return reference.get("type") == "Patient" or target.startswith(_PATIENT) or f"/{_PATIENT}" in target


def _names_of_patient(what: Resource) -> Iterator[Patient]:
    identifier = what.get("identifier", {})
    if identifier.get("value"):
        system = identifier.get("system")
        authority = None if system is None else code_system(system).removeprefix(OID_PREFIX)
        yield Patient(identifier["value"], authority)
    if what.get("reference"):
        yield Patient(what["reference"], None)


def _coded(coding: Resource) -> CodedValue:
    system = coding.get("system")
    display = coding.get("display")
    return CodedValue(coding.get("code") or "", None if system is None else code_system(system), display, None)


def _codes(concepts: Iterable[Resource]) -> Iterator[CodedValue]:
    for concept in concepts:
        codings = concept.get("coding", ())
        yield from (_coded({"display": concept.get("text"), **coding}) for coding in codings)
        if not codings and concept.get("text"):
            yield CodedValue("", None, concept["text"])


def _participant(agent: Resource) -> Participant:
    network = agent.get("network", {})
    names = texts_of(agent.get("who"))
    kind = network.get("type")
    first = next(names, None) or agent.get("altId") or agent.get("name") or ""
    concepts = [*([agent["type"]] if "type" in agent else []), *agent.get("role", ())]
    return Participant(
        user_id=first,
        is_requestor=agent.get("requestor") is True,
        roles=tuple(dict.fromkeys(_codes(concepts))),
        alternative_user_id=agent.get("altId"),
        user_name=agent.get("name") or agent.get("who", {}).get("display"),
        network_id=network.get("address"),
        network_type=None if kind is None else int(kind),
    )


def _object(entity: Resource) -> ParticipantObject:
    what = entity.get("what", {})
    patient = next(patient_of(entity), None)
    type_code, role = _type(entity.get("type")), _number(entity.get("role"))
    id_types = tuple(_codes([what["identifier"]["type"]])) if "type" in what.get("identifier", {}) else ()
    query = entity.get("query")
    labels = [label["code"] for label in entity.get("securityLabel", ()) if label.get("code")]
    return ParticipantObject(
        id=next(texts_of(what), entity.get("name") or "") if patient is None else print_patient(patient),
        id_type=id_types[0] if id_types else None,
        type_code=type_code if type_code is not None or patient is None else PERSON,
        role=role if role is not None or patient is None else ROLE_PATIENT,
        life_cycle=_number(entity.get("lifecycle")),
        sensitivity=labels[0] if labels else None,
        name=entity.get("name"),
        query=None if query is None else _decoded(query),
        details=tuple(_detail(detail) for detail in entity.get("detail", ())),
    )


def _detail(detail: Resource) -> Detail:
    if "valueBase64Binary" in detail:
        return Detail(detail.get("type") or "", _decoded(detail["valueBase64Binary"]))
    return Detail(detail.get("type") or "", (detail.get("valueString") or "").encode())


def _decoded(text: str) -> bytes:
    return base64.b64decode("".join(text.split()))


def _number(coding: Resource | None) -> int | None:
    """The number that DICOM has for a code; ``None`` where a code of FHIR's own has none."""
    code = (coding or {}).get("code") or ""
    return int(code) if code.isascii() and code.isdigit() and len(code) <= 4 else None


def _type(coding: Resource | None) -> int | None:
    """The same of entity.type, where a FHIR server may write the type of a resource."""
    code = (coding or {}).get("code") or ""
    if not code[:1].isupper():
        return _number(coding)
    return PERSON if code in _PERSONS else SYSTEM
