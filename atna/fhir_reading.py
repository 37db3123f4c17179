"""A FHIR resource out of bytes, JSON or XML, checked against ``fhir_types``: the first fault is named with its place.

A resource is a dictionary as JSON has it, whatever it came as: lists where an element may repeat, ``_name`` beside a
primitive value with an id or extensions. XML is read in any order of elements.

Refused  what is no JSON or XML, not UTF-8, nested deeper than ``MAX_DEPTH``, a property given twice, a fraction, null
         where no extension stands for it, control characters, anything of a type, name or number unknown to the tables
"""

import base64
import binascii
import json
import re
from collections.abc import Sequence
from datetime import date
from enum import StrEnum
from typing import Any, Final

from lxml import etree

from atna.fhir_types import CODES, NUMBERS, PATTERNS, RESOURCES, Element, by_name, choice_of, required_elements
from schemas import XmlRefused, parse_xml

__all__ = [
    "BOM",
    "DECODER",
    "FHIR",
    "XHTML",
    "Form",
    "ResourceRefused",
    "check",
    "check_part",
    "form_of",
    "read_json",
    "read_resource",
]

FHIR: Final = "http://hl7.org/fhir"
XHTML: Final = "http://www.w3.org/1999/xhtml"
MAX_DEPTH: Final = 32
MAX_DIGITS: Final = 18
MAX_VALUES: Final = 500_000
"""Of the marks between values of JSON: each value takes some hundred bytes of memory; XML is bounded likewise."""
BOM: Final = b"\xef\xbb\xbf"
_BLANKS: Final = b" \t\r\n"
# FHIR R4, datatypes, string: nothing below 32 but tab and line ends; what Unicode and XML do not count as characters.
_NO_TEXT: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")

_DATES: Final = frozenset({"date", "dateTime", "instant"})

Resource = dict[str, Any]


class ResourceRefused(ValueError):  # noqa: N818 - an outcome, not a defect
    """Not a resource we take. ``place`` is a FHIRPath; the text holds nothing of the content.

    ``code`` is one of FHIR's issue types; ``malformed``: it cannot even be read as JSON or XML.
    """

    def __init__(self, code: str, text: str, place: str | None = None, *, malformed: bool = False) -> None:
        super().__init__(f"{place}: {text}" if place else text)
        self.code = code
        self.place = place
        self.malformed = malformed


class Form(StrEnum):
    """What a record's bytes are."""

    SYSLOG = "syslog"
    JSON = "json"
    XML = "xml"


def form_of(data: bytes) -> Form:
    """Told from the first bytes alone: ``{`` JSON, ``<`` and no digit XML, everything else goes as syslog."""
    start = data[:64].removeprefix(BOM).lstrip(_BLANKS)[:2]
    if start[:1] == b"{":
        return Form.JSON
    return Form.XML if start[:1] == b"<" and not start[1:].isdigit() else Form.SYSLOG


def read_resource(data: bytes, types: Sequence[str] = ("AuditEvent",)) -> Resource:
    """One resource of one of the ``types``. Raises ResourceRefused. ``resourceType`` is its first property."""
    form = form_of(data)
    if form is Form.SYSLOG:
        raise ResourceRefused("structure", "neither JSON nor XML", malformed=True)
    resource = read_json(data) if form is Form.JSON else _read_xml(data)
    check(resource, types)
    return resource


def check(resource: Resource, types: Sequence[str] = ("AuditEvent",), place: str | None = None) -> None:
    """Hold a resource against its table. Raises ResourceRefused; ``place`` is where it stands, if inside another."""
    name = resource.get("resourceType")
    if name not in types:
        text = f"should be a resource of type {' or '.join(types)}"
        raise ResourceRefused("structure", text, "resourceType" if place is None else f"{place}.resourceType")
    _check(resource, str(name), place or str(name), 0)


def check_part(value: Any, type_: str, place: str) -> None:
    """The same of a part of a resource, such as a ``Bundle.entry``."""
    _check(value, type_, place, 0)


def read_json(data: bytes) -> Resource:
    """An object of JSON, whatever it says. Raises ResourceRefused."""
    if sum(data.count(mark) for mark in (b",", b"[", b"{", b":")) > MAX_VALUES:
        raise ResourceRefused("too-long", f"more than {MAX_VALUES} values", malformed=True)
    try:
        text = data.removeprefix(BOM).decode()
        value = DECODER.decode(text)
    except UnicodeDecodeError as error:
        raise ResourceRefused("structure", f"byte {error.start} is not UTF-8", malformed=True) from None
    except json.JSONDecodeError as error:
        text = f"not JSON at line {error.lineno}, column {error.colno}"
        raise ResourceRefused("structure", text, malformed=True) from None
    except RecursionError:
        raise ResourceRefused("structure", f"nested deeper than {MAX_DEPTH}", malformed=True) from None
    if not isinstance(value, dict):
        raise ResourceRefused("structure", "should be an object", malformed=True)
    return value


def _once(pairs: list[tuple[str, Any]]) -> Resource:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ResourceRefused("structure", "an object has a property twice", malformed=True)
    return found


def _integer(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise ResourceRefused("value", f"a number of more than {MAX_DIGITS} digits", malformed=True)
    return int(text)


def _fraction(_text: str) -> float:
    raise ResourceRefused("value", "a number with a fraction or exponent has no place here", malformed=True)


DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_once, parse_int=_integer, parse_float=_fraction, parse_constant=_fraction
)
"""Strict where Python's own is not; raises ResourceRefused, too."""


def _read_xml(data: bytes) -> Resource:
    try:
        root = parse_xml(data, max_bytes=max(len(data), 1), max_depth=3 * MAX_DEPTH, encoding="utf-8")
    except XmlRefused as refused:
        raise ResourceRefused("structure", refused.reason, malformed=True) from refused
    return _resource(root, etree.QName(root).localname)


def _resource(node: Any, place: str) -> Resource:
    name = etree.QName(node)
    if name.namespace != FHIR or name.localname not in RESOURCES:
        raise ResourceRefused("structure", f"should be a resource of namespace {FHIR}", place)
    return {"resourceType": name.localname, **_object(node, name.localname, place)}


def _object(node: Any, type_: str, place: str) -> Resource:
    """An element with its attributes and children as an object of JSON."""
    known = by_name(type_)
    found: Resource = {}
    for name, value in node.attrib.items():
        if name not in known or not known[name].attribute:
            raise ResourceRefused("structure", "an attribute that FHIR does not have", place)
        found[name] = value
    _no_text(node, place)
    for child in node:
        name = etree.QName(child)
        element = known.get(name.localname)
        if element is None or element.attribute or name.namespace != (XHTML if element.type == "xhtml" else FHIR):
            raise ResourceRefused("structure", f"unknown element in {type_}", place)
        _put(found, element, child, f"{place}.{element.name}")
    return found


def _put(found: Resource, element: Element, child: Any, place: str) -> None:
    name = element.name
    if not element.many and (name in found or f"_{name}" in found):
        raise ResourceRefused("structure", "stands more than once", place)
    if not element.primitive:
        value = _complex(child, element, place)
        if element.many:
            found.setdefault(name, []).append(value)
        else:
            found[name] = value
        return
    value, companion = _primitive(child, element, place)
    if value is None and companion is None:
        raise ResourceRefused("value", "has no value", place)
    if not element.many:
        found |= {key: part for key, part in ((name, value), (f"_{name}", companion)) if part is not None}
        return
    values = found.setdefault(name, [])
    values.append(value)
    if companion is not None or f"_{name}" in found:
        companions = found.setdefault(f"_{name}", [])
        companions += [None] * (len(values) - 1 - len(companions)) + [companion]


def _complex(child: Any, element: Element, place: str) -> Any:
    if element.type == "xhtml":
        return etree.tostring(child, encoding="unicode", with_tail=False)
    if element.type == "Resource":
        _no_text(child, place)
        if len(child) != 1 or child.attrib:
            raise ResourceRefused("structure", "should hold one resource", place)
        return _resource(child[0], place)
    return _object(child, element.type, place)


def _primitive(child: Any, element: Element, place: str) -> tuple[Any, Resource | None]:
    attributes = dict(child.attrib)
    text = attributes.pop("value", None)
    rest = [one for one in child if etree.QName(one) != etree.QName(FHIR, "extension")]
    if rest or set(attributes) - {"id"}:
        raise ResourceRefused("structure", "unknown element or attribute of a value", place)
    _no_text(child, place)
    extensions = [_object(one, "Extension", f"{place}.extension") for one in child]
    companion = {**attributes, **({"extension": extensions} if extensions else {})}
    value: Any = text
    if text is not None and element.type == "boolean":
        value = {"true": True, "false": False}.get(text, text)
    elif text is not None and element.type in NUMBERS and re.fullmatch(r"-?[0-9]{1,10}", text):
        value = int(text)
    return value, companion or None


def _no_text(node: Any, place: str) -> None:
    if any(part and part.strip() for part in (node.text, *(child.tail for child in node))):
        raise ResourceRefused("structure", "text between elements", place)


def _check(value: Any, type_: str, place: str, depth: int) -> None:
    """One object against its type."""
    if not isinstance(value, dict):
        raise ResourceRefused("structure", "should be an object", place)
    if depth > MAX_DEPTH:
        raise ResourceRefused("structure", f"nested deeper than {MAX_DEPTH}", place)
    known = by_name(type_)
    present = {}
    for name in value:
        element = known.get(name.removeprefix("_"))
        if name == "resourceType" and type_ in RESOURCES:
            continue
        if element is None or (name.startswith("_") and (element.attribute or not element.primitive)):
            raise ResourceRefused("structure", f"has an element unknown to {type_} of FHIR R4", place)
        present[element.name] = element
    if not present.keys() - {"id"}:
        raise ResourceRefused("structure", "is empty", place)
    for element in required_elements(type_):
        if element.name not in present:
            raise ResourceRefused("required", "is missing", f"{place}.{element.name}")
    for element in present.values():
        _check_element(value, type_, element, f"{place}.{element.name}", depth + 1)
    _check_choice(value, type_, place)
    if type_ == "AuditEvent.entity" and "name" in value and "query" in value:
        raise ResourceRefused("invariant", "has a name or a query, not both (sev-1)", place)


def _check_choice(value: Resource, type_: str, place: str) -> None:
    choices, required = choice_of(type_)
    if not choices:
        return
    chosen = [name for name in choices if name in value or f"_{name}" in value]
    if len(chosen) > 1 or (required and not chosen):
        raise ResourceRefused("structure", f"should have {'one' if required else 'at most one'} value[x]", place)


def _check_element(value: Resource, type_: str, element: Element, place: str, depth: int) -> None:
    name = element.name
    here, companion = value.get(name), value.get(f"_{name}")
    if here is None and companion is None:
        raise ResourceRefused("value", "is null; leave it out", place)
    if not element.many:
        _check_value(here, companion, type_, element, place, depth=depth)
        return
    longest = max(len(part) if isinstance(part, list) else 0 for part in (here, companion))
    lists = [[None] * longest if part is None else part for part in (here, companion)]
    if not longest or any(not isinstance(part, list) or len(part) != longest for part in lists):
        raise ResourceRefused("structure", "should be a list that is not empty", place)
    for number, (one, its_companion) in enumerate(zip(*lists, strict=True)):
        _check_value(one, its_companion, type_, element, f"{place}[{number}]", depth=depth)


def _check_value(here: Any, companion: Any, type_: str, element: Element, place: str, *, depth: int) -> None:
    if companion is not None:
        _check(companion, "Element", place, depth)
    if element.primitive:
        if here is not None:
            _check_primitive(here, element.type, place)
        elif companion is None or "extension" not in companion:
            raise ResourceRefused("value", "has no value", place)
        codes = CODES.get((type_, element.name))
        if codes is not None and here is not None and here not in codes:
            raise ResourceRefused("code-invalid", f"should be one of {', '.join(sorted(codes))}", place)
    elif element.type == "xhtml":
        _check_narrative(here, place)
    elif element.type == "Resource":
        inner = here.get("resourceType") if isinstance(here, dict) else None
        if inner not in RESOURCES:
            raise ResourceRefused("not-supported", "a resource of a type that is not taken", place)
        _check(here, inner, place, depth)
    else:
        _check(here, element.type, place, depth)


def _check_primitive(value: Any, type_: str, place: str) -> None:
    if type_ == "boolean":
        right = isinstance(value, bool)
    elif type_ in NUMBERS:
        right = isinstance(value, int) and not isinstance(value, bool) and NUMBERS[type_] <= value < 2**31
    elif not isinstance(value, str) or not value.strip() or _NO_TEXT.search(value):
        right = False
    elif type_ == "base64Binary":
        right = _is_base64(value)
    else:
        pattern = PATTERNS.get(type_)
        right = pattern is None or pattern.fullmatch(value) is not None
        right = right and (type_ not in _DATES or _is_day(value))
    if not right:
        raise ResourceRefused("value", f"is no {type_} of FHIR", place)


def _is_day(text: str) -> bool:
    """Whether the calendar has the day that was written, if one was."""
    try:
        return len(text) < 10 or bool(date.fromisoformat(text[:10]))
    except ValueError:
        return False


def _is_base64(text: str) -> bool:
    try:
        base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        return False
    return True


def _check_narrative(value: Any, place: str) -> None:
    try:
        root = parse_xml(value.encode() if isinstance(value, str) else b"", max_depth=MAX_DEPTH, encoding="utf-8")
    except (XmlRefused, UnicodeEncodeError):
        raise ResourceRefused("value", "is no XHTML", place) from None
    if root.tag != f"{{{XHTML}}}div":
        raise ResourceRefused("value", "should be a div of XHTML", place)
