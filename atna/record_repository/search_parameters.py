"""The search of ITI-81 as parameters of FHIR, parsed into ``Criteria`` (RESTful ATNA; FHIR R4 Search). Pure.

``PARAMETERS`` is the table: what each is called in FHIR R4, in RESTful ATNA and in its older form for STU3, its type,
and what it is compared with; the CapabilityStatement is made of it. ``RESULT_PARAMETERS`` are about the answer.

Commas mean "or", a repeated parameter means "and". Anything else is refused and named, modifiers too: a filter that is
overlooked shows more than was asked for. ``lenient`` (``Prefer: handling=lenient``) ignores the unknown and lists it.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Final

from atna.fhir_audit_event import ACTION_SYSTEM, ENTITY_ROLE, ENTITY_TYPE, OID_PREFIX, OUTCOME_SYSTEM, code_system
from atna.record_repository.indexing import Patient, parse_patient
from atna.record_repository.search_values import ParameterError, date_bounds, texts, tokens
from atna.record_repository.store.protocol import Code, Criteria, Cursor

__all__ = [
    "PARAMETERS",
    "RESULT_PARAMETERS",
    "Parameter",
    "ParameterError",
    "Search",
    "parse_search",
    "print_cursor",
]

DEFAULT_COUNT: Final = 100
MOST_COMMAS: Final = 300
"""In all values of a search: SQLite takes no more than 1000 levels in an expression, and each "or" makes two."""
LARGEST_ROLE: Final = 30
"""Of entity-type and entity-role: a bit each in the database."""


@dataclass(frozen=True, slots=True)
class Search:
    """What to look for, and which page of it.

    ``after`` continues behind a record, with ``backward`` before it. ``total`` is asked for, with ``count`` 0 alone.
    ``pairs`` are the parameters that were understood, ``ignored`` the names of the others.
    """

    criteria: Criteria
    count: int
    oldest_first: bool = False
    after: Cursor | None = None
    backward: bool = False
    total: bool = False
    pairs: tuple[tuple[str, str], ...] = ()
    ignored: tuple[str, ...] = ()


Changes = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Parameter:
    """A search parameter: ``type`` in FHIR, how its value becomes attributes of Criteria, what it is compared with."""

    type: str
    parse: Callable[[str, str], Changes] = field(repr=False)
    documentation: str


def parse_search(pairs: Iterable[tuple[str, str]], *, max_count: int, lenient: bool = False) -> Search:
    """Parse decoded (name, value) pairs; raises ParameterError. ``_count`` above ``max_count`` is cut to it."""
    search = Search(Criteria(), min(DEFAULT_COUNT, max_count))
    dated, seen, commas = False, set(), 0
    for name, value in pairs:
        if name not in PARAMETERS and name not in RESULT_PARAMETERS:
            refusal = _unknown(name)
            if not lenient:
                raise refusal
            search = replace(search, ignored=(*search.ignored, name[:64]))
            continue
        if not value.strip():
            raise ParameterError(name, "has no value")
        commas += value.count(",")
        if commas > MOST_COMMAS:
            text = f"with it the search has more than {MOST_COMMAS} alternatives; search for some at a time"
            raise ParameterError(name, text, "too-costly")
        search = replace(search, pairs=(*search.pairs, (name, value)))
        if name in RESULT_PARAMETERS:
            if name in seen:
                raise ParameterError(name, "may be given once")
            seen.add(name)
            search = RESULT_PARAMETERS[name](search, name, value.strip())
        elif name == "date":
            dated = True
            search = replace(search, criteria=_within(search.criteria, **_date(name, value.strip())))
        else:
            search = replace(search, criteria=_and(search.criteria, PARAMETERS[name].parse(name, value.strip())))
    if not dated:
        raise ParameterError("date", "is required, e.g. date=ge2026-01-01&date=lt2026-02-01", "required")
    return replace(search, count=min(search.count, max_count))


def _unknown(name: str) -> ParameterError:
    base, _, modifier = name.partition(":")
    if modifier and base in PARAMETERS:
        return ParameterError(name, "modifiers are not supported, but :identifier of references", "not-supported")
    known = ", ".join((*PARAMETERS, *RESULT_PARAMETERS))
    return ParameterError(name, f"not supported; known are {known}", "not-supported")


def _date(name: str, value: str) -> Changes:
    since, before = date_bounds(name, value)
    return {"since": since, "before": before}


def _within(known: Criteria, since: int | None, before: int | None) -> Criteria:
    lows = [bound for bound in (known.since, since) if bound is not None]
    highs = [bound for bound in (known.before, before) if bound is not None]
    return replace(known, since=max(lows, default=None), before=min(highs, default=None))


def _and(known: Criteria, changes: Changes) -> Criteria:
    """One more condition; where the attribute has its alternatives already, these have to hold beside them."""
    if all(not getattr(known, name) for name in changes):
        return replace(known, **changes)
    return replace(known, further=(*known.further, Criteria(**changes)))


def _patient(name: str, value: str) -> Changes:
    return {"patients": tuple(_one_patient(*token) for token in tokens(name, value))}


def _one_patient(system: str | None, text: str) -> Patient:
    if "^" in text:
        return parse_patient(text)
    # "" is a system as well: the id of no authority, as FHIR says of a bar with nothing before it.
    return Patient(text, code_system(system).removeprefix(OID_PREFIX) if system is not None else None)


def _patient_reference(name: str, value: str) -> Changes:
    found = [Patient(text if "/" in text else f"Patient/{text}", None) for text in texts(name, value)]
    return {"patients": tuple(found)}


def _values(name: str, value: str) -> tuple[str, ...]:
    """Each alternative as it stands, for an id may hold a bar of its own, and without its system."""
    without_system = (text for _system, text in tokens(name, value, codes=False))
    return tuple(dict.fromkeys([*texts(name, value), *without_system]))


def _plain(attribute: str) -> Callable[[str, str], Changes]:
    return lambda name, value: {attribute: _values(name, value)}


def _beginning(attribute: str) -> Callable[[str, str], Changes]:
    return lambda name, value: {attribute: texts(name, value)}


def _object(name: str, value: str) -> Changes:
    patients = (_one_patient(*token) for token in tokens(name, value, codes=False))
    return {"objects": (*_values(name, value), *dict.fromkeys(patients))}


def _coded(attribute: str) -> Callable[[str, str], Changes]:
    def parse(name: str, value: str) -> Changes:
        found = tokens(name, value)
        codes: tuple[Code, ...] = tuple((code, None if uri is None else code_system(uri)) for uri, code in found)
        return {attribute: codes}

    return parse


def _one_of(
    attribute: str, system: str, allowed: Iterable[str], *, number: bool = True
) -> Callable[[str, str], Changes]:
    known = tuple(allowed)
    others = {system, system.replace("terminology.hl7.org/CodeSystem", "hl7.org/fhir")}
    others |= {one.replace("http://hl7.org/fhir", "http://terminology.hl7.org/CodeSystem") for one in others}

    def parse(name: str, value: str) -> Changes:
        found = tokens(name, value)
        if not {code for _system, code in found} <= set(known):
            raise ParameterError(name, f"should be {', '.join(known[:-1])} or {known[-1]}")
        if not {one for one, _code in found} <= {*others, None}:
            raise ParameterError(name, f"its code system is {system}; the code alone will do")
        return {attribute: tuple(int(code) if number else code for _system, code in found)}

    return parse


def _id(name: str, value: str) -> Changes:
    found = [text for _system, text in tokens(name, value)]
    if not all(re.fullmatch(r"[0-9]{1,18}", text, re.ASCII) for text in found):
        raise ParameterError(name, "should be an id that a search gave")
    return {"numbers": tuple(map(int, found))}


_NUMBERS: Final = [str(number) for number in range(1, LARGEST_ROLE + 1)]
_USER: Final = Parameter("token", _plain("users"), "UserID, UserName or reference of any participant, exact")
_PATIENT: Final = Parameter("token", _patient, "Patient objects: value, system|value or CX")
_ENTITY: Final = Parameter(
    "token", _object, "ParticipantObjectID or reference of any object: value, system|value or CX"
)
_SOURCE: Final = Parameter("token", _plain("sources"), "AuditSourceID, exact")

PARAMETERS: Final = {
    "date": Parameter("date", _date, "EventDateTime; required; eq ge gt sa le lt eb; no zone is UTC; twice: interval"),
    "patient.identifier": _PATIENT,
    "patient:identifier": _PATIENT,
    "patient": Parameter("reference", _patient_reference, "Patient objects of AuditEvents by reference: Patient/17"),
    "agent": replace(_USER, type="reference"),
    "agent.identifier": _USER,
    "agent:identifier": _USER,
    "user": _USER,
    "agent-name": Parameter("string", _beginning("agent_names"), "UserName, from its beginning, in any case"),
    "agent-role": Parameter("token", _coded("roles"), "RoleIDCode of any participant"),
    "altid": Parameter("token", _plain("alternative_ids"), "AlternativeUserID, exact"),
    "address": Parameter("string", _beginning("addresses"), "NetworkAccessPointID, from its beginning, in any case"),
    "policy": Parameter("uri", _beginning("policies"), "agent.policy of AuditEvents, exact"),
    "purpose": Parameter("token", _coded("purposes"), "PurposeOfUse of the event or of an agent"),
    "type": Parameter("token", _coded("events"), "EventID"),
    "subtype": Parameter("token", _coded("types"), "EventTypeCode"),
    "outcome": Parameter("token", _one_of("outcomes", OUTCOME_SYSTEM, ("0", "4", "8", "12")), "EventOutcomeIndicator"),
    "action": Parameter("token", _one_of("actions", ACTION_SYSTEM, "CRUDE", number=False), "EventActionCode"),
    "entity-id": _ENTITY,
    "entity.identifier": _ENTITY,
    "entity:identifier": _ENTITY,
    "entity": replace(_ENTITY, type="reference"),
    "entity-type": Parameter("token", _one_of("entity_types", ENTITY_TYPE, _NUMBERS), "ParticipantObjectTypeCode"),
    "entity-role": Parameter("token", _one_of("entity_roles", ENTITY_ROLE, _NUMBERS), "ParticipantObjectTypeCodeRole"),
    "entity-name": Parameter("string", _beginning("entity_names"), "ParticipantObjectName, its beginning, in any case"),
    "source": replace(_SOURCE, type="reference", documentation="AuditSourceID or a reference of an AuditEvent, exact"),
    "source.identifier": _SOURCE,
    "source:identifier": _SOURCE,
    "site": Parameter("token", _plain("sites"), "AuditEnterpriseSiteID, exact"),
    "_id": Parameter("token", _id, "id of the AuditEvent"),
}  # fmt: skip
"""By name. Those with a dot or a colon are ways to write the parameter before it."""


def print_cursor(cursor: Cursor, up_to: int | None = None) -> str:
    """The value of ``_after`` or ``_back`` that continues at this place, in the log as it was up to that record."""
    place = f"{cursor.event_at}.{cursor.sha256.hex()}"
    return place if up_to is None else f"{place}.{up_to}"


def _count(search: Search, name: str, value: str) -> Search:
    if not re.fullmatch(r"[0-9]{1,9}", value, re.ASCII):
        raise ParameterError(name, "should be a number")
    # _summary=count may have been before it: then no record is wanted, whatever this says.
    count = 0 if search.count == 0 else int(value)
    return replace(search, count=count, total=search.total or count == 0)


def _summary(search: Search, name: str, value: str) -> Search:
    if value not in {"count", "false"}:
        raise ParameterError(name, "should be count or false")
    return replace(search, count=0, total=True) if value == "count" else search


def _total(search: Search, name: str, value: str) -> Search:
    if value not in {"none", "estimate", "accurate"}:
        raise ParameterError(name, "should be none, estimate or accurate")
    return replace(search, total=search.total or value != "none")


def _sort(search: Search, name: str, value: str) -> Search:
    if value not in {"date", "-date"}:
        raise ParameterError(name, "should be date or -date")
    return replace(search, oldest_first=value == "date")


def _place(search: Search, name: str, value: str) -> Search:
    found = re.fullmatch(r"([0-9]{1,18})\.([0-9a-f]{64})(?:\.([0-9]{1,18}))?", value, re.ASCII)
    if found is None or search.after is not None:
        raise ParameterError(name, "comes from a link of an answer, unchanged")
    up_to = None if found[3] is None else int(found[3])
    return replace(
        search,
        after=Cursor(int(found[1]), bytes.fromhex(found[2])),
        backward=name == "_back",
        criteria=replace(search.criteria, up_to=up_to),
    )


def _anything(search: Search, _name: str, _value: str) -> Search:
    """Looked at elsewhere, or of no meaning here."""
    return search


RESULT_PARAMETERS: Final = {
    "_count": _count,
    "_summary": _summary,
    "_total": _total,
    "_sort": _sort,
    "_after": _place,
    "_back": _place,
    "_format": _anything,
    "_pretty": _anything,
}
