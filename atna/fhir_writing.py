"""A FHIR resource as bytes, JSON or XML, in the order of ``fhir_types``; what it is given has the shape of JSON."""

import json
import re
from collections.abc import Iterator
from typing import Any, Final

from lxml import etree

from atna.fhir_reading import FHIR
from atna.fhir_types import Element, elements
from schemas import parse_xml

__all__ = ["as_json", "as_xml"]

# What must not stand as itself in an attribute; a control character stands in no value that was read or made by us.
_SPECIAL: Final = re.compile('[&<>"\t\n\r\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]')
_ESCAPED: Final = {
    "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "\t": "&#9;", "\n": "&#10;", "\r": "&#13;",
}  # fmt: skip


def as_json(resource: dict[str, Any]) -> bytes:
    """UTF-8, no blanks."""
    return json.dumps(resource, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")


def as_xml(resource: dict[str, Any]) -> bytes:
    """UTF-8 with a declaration; elements in the order FHIR wants."""
    return ('<?xml version="1.0" encoding="UTF-8"?>' + "".join(_resource(resource, root=True))).encode()


def _resource(resource: dict[str, Any], *, root: bool = False) -> Iterator[str]:
    name = resource["resourceType"]
    namespace = f' xmlns="{FHIR}"' if root else ""
    yield f"<{name}{namespace}>"
    yield from _children(resource, name)
    yield f"</{name}>"


def _children(value: dict[str, Any], type_: str) -> Iterator[str]:
    for element in elements(type_):
        here, companion = value.get(element.name), value.get(f"_{element.name}")
        if element.attribute or (here is None and companion is None):
            continue
        if not element.many:
            yield from _one(element, here, companion)
            continue
        count = len(here if here is not None else companion or ())
        pairs = zip(here or [None] * count, companion or [None] * count, strict=True)
        for one, its_companion in pairs:
            yield from _one(element, one, its_companion)


def _one(element: Element, here: Any, companion: Any) -> Iterator[str]:
    name = element.name
    if element.type == "xhtml":
        # It is a document of its own: parsed and written again, so that it brings its namespaces and nothing else.
        yield etree.tostring(parse_xml(here.encode(), encoding="utf-8"), encoding="unicode")
    elif element.type == "Resource":
        yield f"<{name}>"
        yield from _resource(here)
        yield f"</{name}>"
    elif element.primitive:
        yield from _primitive(name, here, companion or {})
    else:
        yield f"<{name}{_attributes(here, element.type)}>"
        yield from _children(here, element.type)
        yield f"</{name}>"


def _primitive(name: str, here: Any, companion: dict[str, Any]) -> Iterator[str]:
    value = "" if here is None else f' value="{_text(here)}"'
    inner = "".join(_children(companion, "Element"))
    yield f"<{name}{_attributes(companion, 'Element')}{value}" + (f">{inner}</{name}>" if inner else "/>")


def _attributes(value: dict[str, Any], type_: str) -> str:
    present = (element.name for element in elements(type_) if element.attribute and element.name in value)
    return "".join(f' {name}="{_text(value[name])}"' for name in present)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return _SPECIAL.sub(lambda found: _ESCAPED.get(found[0], "\ufffd"), str(value))
