"""The parts of FHIR R4 that the audit service speaks, as tables: elements in their order, how often, of which type.

Order counts in XML; in JSON the same tables say what is a list, a number or an element nobody knows. One row for each
element: ``name:type`` and ``!`` (exactly one), ``*`` (any number), ``+`` (at least one) or nothing (at most one). Types
with a capital are described here; the others are the primitive types of FHIR R4 (datatypes), checked by a pattern.

Left out on purpose: contained resources, signatures, and of Extension.value[x] what holds decimals or whole resources'
data types (SampledData, Timing, …). No audit pattern known to us uses them; they are refused by name, not dropped.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Final

__all__ = [
    "CODES",
    "NUMBERS",
    "PATTERNS",
    "RESOURCES",
    "Element",
    "by_name",
    "choice_of",
    "elements",
    "required_elements",
]


@dataclass(frozen=True, slots=True)
class Element:
    """One element of a type; ``many``: a list in JSON; ``attribute``: not an element in XML."""

    name: str
    type: str
    required: bool = False
    many: bool = False
    attribute: bool = False

    @property
    def primitive(self) -> bool:
        """Whether JSON has a bare value for it, and XML an attribute ``value``."""
        return self.type[0].islower() and self.type != "xhtml"


_ID: Final = Element("id", "string", attribute=True)
_URL: Final = Element("url", "uri", required=True, attribute=True)


_ELEMENT: Final = "extension:Extension*"
_BACKBONE: Final = f"{_ELEMENT} modifierExtension:Extension*"
_RESOURCE: Final = "meta:Meta implicitRules:uri language:code"
_DOMAIN: Final = f"id:id {_RESOURCE} text:Narrative extension:Extension* modifierExtension:Extension*"

RESOURCES: Final = frozenset({"AuditEvent", "Bundle", "CapabilityStatement", "OperationOutcome"})

_VALUES: Final = (
    "base64Binary", "boolean", "canonical", "code", "date", "dateTime", "id", "instant", "integer", "markdown", "oid",
    "positiveInt", "string", "time", "unsignedInt", "uri", "url", "uuid", "CodeableConcept", "Coding", "ContactPoint",
    "Identifier", "Period", "Reference",
)  # fmt: skip
"""Extension.value[x], in the order of FHIR R4 (extensibility)."""

_TYPES: Final = {
    # resources
    "AuditEvent": f"{_DOMAIN} type:Coding! subtype:Coding* action:code period:Period recorded:instant! outcome:code"
    " outcomeDesc:string purposeOfEvent:CodeableConcept* agent:AuditEvent.agent+ source:AuditEvent.source!"
    " entity:AuditEvent.entity*",
    "Bundle": f"id:id {_RESOURCE} identifier:Identifier type:code! timestamp:instant total:unsignedInt"
    " link:Bundle.link* entry:Bundle.entry*",
    "CapabilityStatement": f"{_DOMAIN} url:uri version:string name:string title:string status:code!"
    " experimental:boolean date:dateTime! publisher:string description:markdown kind:code!"
    " software:CapabilityStatement.software implementation:CapabilityStatement.implementation fhirVersion:code!"
    " format:code+ rest:CapabilityStatement.rest*",
    "OperationOutcome": f"{_DOMAIN} issue:OperationOutcome.issue+",
    # their parts
    "AuditEvent.agent": f"{_BACKBONE} type:CodeableConcept role:CodeableConcept* who:Reference altId:string"
    " name:string requestor:boolean! location:Reference policy:uri* media:Coding network:AuditEvent.agent.network"
    " purposeOfUse:CodeableConcept*",
    "AuditEvent.agent.network": f"{_BACKBONE} address:string type:code",
    "AuditEvent.source": f"{_BACKBONE} site:string observer:Reference! type:Coding*",
    "AuditEvent.entity": f"{_BACKBONE} what:Reference type:Coding role:Coding lifecycle:Coding securityLabel:Coding*"
    " name:string description:string query:base64Binary detail:AuditEvent.entity.detail*",
    "AuditEvent.entity.detail": f"{_BACKBONE} type:string! valueString:string valueBase64Binary:base64Binary",
    "Bundle.link": f"{_BACKBONE} relation:string! url:uri!",
    "Bundle.entry": f"{_BACKBONE} link:Bundle.link* fullUrl:uri resource:Resource search:Bundle.entry.search"
    " request:Bundle.entry.request response:Bundle.entry.response",
    "Bundle.entry.search": f"{_BACKBONE} mode:code",
    "Bundle.entry.request": f"{_BACKBONE} method:code! url:uri! ifNoneMatch:string ifModifiedSince:instant"
    " ifMatch:string ifNoneExist:string",
    "Bundle.entry.response": f"{_BACKBONE} status:string! location:uri etag:string lastModified:instant"
    " outcome:Resource",
    "CapabilityStatement.software": f"{_BACKBONE} name:string! version:string",
    "CapabilityStatement.implementation": f"{_BACKBONE} description:string! url:url",
    "CapabilityStatement.rest": f"{_BACKBONE} mode:code! documentation:markdown"
    " security:CapabilityStatement.rest.security resource:CapabilityStatement.rest.resource*"
    " interaction:CapabilityStatement.rest.interaction*",
    "CapabilityStatement.rest.security": f"{_BACKBONE} cors:boolean service:CodeableConcept* description:markdown",
    "CapabilityStatement.rest.interaction": f"{_BACKBONE} code:code! documentation:markdown",
    "CapabilityStatement.rest.resource": f"{_BACKBONE} type:code! profile:canonical documentation:markdown"
    " interaction:CapabilityStatement.rest.interaction* versioning:code readHistory:boolean updateCreate:boolean"
    " conditionalCreate:boolean searchParam:CapabilityStatement.rest.resource.searchParam*",
    "CapabilityStatement.rest.resource.searchParam": f"{_BACKBONE} name:string! definition:canonical type:code!"
    " documentation:markdown",
    "OperationOutcome.issue": f"{_BACKBONE} severity:code! code:code! details:CodeableConcept diagnostics:string"
    " location:string* expression:string*",
    # data types
    "CodeableConcept": f"{_ELEMENT} coding:Coding* text:string",
    "Coding": f"{_ELEMENT} system:uri version:string code:code display:string userSelected:boolean",
    "Element": _ELEMENT,
    "ContactPoint": f"{_ELEMENT} system:code value:string use:code rank:positiveInt period:Period",
    "Extension": _ELEMENT + "".join(f" value{name[0].upper()}{name[1:]}:{name}" for name in _VALUES),
    "Identifier": f"{_ELEMENT} use:code type:CodeableConcept system:uri value:string period:Period assigner:Reference",
    "Meta": f"{_ELEMENT} versionId:id lastUpdated:instant source:uri profile:canonical* security:Coding* tag:Coding*",
    "Narrative": f"{_ELEMENT} status:code! div:xhtml!",
    "Period": f"{_ELEMENT} start:dateTime end:dateTime",
    "Reference": f"{_ELEMENT} reference:string type:uri identifier:Identifier display:string",
}


@cache
def elements(type_: str) -> tuple[Element, ...]:
    """The elements of a type, in order."""
    found = [] if type_ in RESOURCES else [_ID]
    found += [_URL] if type_ == "Extension" else []
    for row in _TYPES[type_].split():
        name, _, kind = row.partition(":")
        found.append(Element(name, kind.rstrip("!*+"), kind[-1] in "!+", kind[-1] in "*+"))
    return tuple(found)


@cache
def by_name(type_: str) -> Mapping[str, Element]:
    """The same by name."""
    return {element.name: element for element in elements(type_)}


@cache
def required_elements(type_: str) -> tuple[Element, ...]:
    """Those that must be there."""
    return tuple(element for element in elements(type_) if element.required)


@cache
def choice_of(type_: str) -> tuple[frozenset[str], bool]:
    """The names of which a value holds one at most, and whether it has to hold one: value[x] of FHIR."""
    if type_ not in {"Extension", "AuditEvent.entity.detail"}:
        return frozenset(), False
    names = frozenset(element.name for element in elements(type_) if element.name.startswith("value"))
    return names, type_ == "AuditEvent.entity.detail"


_TIME: Final = r"([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?"
_YEAR: Final = r"[0-9]{4}"
_MONTH: Final = rf"{_YEAR}-(0[1-9]|1[0-2])"
_DAY: Final = rf"{_MONTH}-(0[1-9]|[12][0-9]|3[01])"
_ZONE: Final = r"(Z|[+-]((0[0-9]|1[0-3]):[0-5][0-9]|14:00))"

PATTERNS: Final = {
    name: re.compile(pattern)
    for name, pattern in {
        "code": r"\S+(\s\S+)*",
        "date": rf"{_DAY}|{_MONTH}|{_YEAR}",
        "dateTime": rf"{_DAY}T{_TIME}{_ZONE}|{_DAY}|{_MONTH}|{_YEAR}",
        "id": r"[A-Za-z0-9\-.]{1,64}",
        "instant": rf"{_DAY}T{_TIME}{_ZONE}",
        "oid": r"urn:oid:[0-2](\.(0|[1-9][0-9]*))+",
        "time": _TIME,
        "uuid": r"urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}",
        **dict.fromkeys(("canonical", "uri", "url"), r"\S+"),
    }.items()
}
"""What the text of a primitive type looks like, whole (FHIR R4, datatypes); string and markdown are any text."""

NUMBERS: Final = {"integer": -(2**31), "unsignedInt": 0, "positiveInt": 1}
"""The least value of each type that is a number; the greatest is 2^31 - 1."""

CODES: Final = {
    ("AuditEvent", "action"): frozenset("CRUDE"),
    ("AuditEvent", "outcome"): frozenset({"0", "4", "8", "12"}),
    ("AuditEvent.agent.network", "type"): frozenset("12345"),
}
"""The codes of required bindings."""
