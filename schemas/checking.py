"""Is a message what its schema asks? Texts for a sender to act on, without a word of what the message says.

libxml2's messages quote values, and values are patient data. So a text is put together here: from the path (names of
elements), the kind of fault, and what the schema allows there. Names of unknown elements and attributes are repeated,
cut to 60 characters: they are markup, and a sender cannot find a misspelt one otherwise.

libxml2 goes on after a fault and lxml notes a path for each, which costs time with the square of their number (16,000
faults: a second). Messages of more than 10,000 nodes are therefore checked object by object, and no further than the
tenth fault; a single object that large is refused.
"""

import re
import threading
from collections.abc import Callable, Iterator
from copy import deepcopy
from itertools import islice
from typing import Any, Final

from lxml import etree

from schemas.loader import compiled

_MOST: Final = 10
_LARGEST_PIECE: Final = 10_000
_LONGEST_NAME: Final = 60

_E: Final = etree.ErrorTypes
_RIM: Final = "urn:oasis:names:tc:ebxml-regrep:xsd:rim:3.0"
_HL7: Final = "urn:hl7-org:v3"
_PREFIXES: Final = {
    "urn:ihe:iti:xds-b:2007": "xdsb",
    "urn:ihe:iti:rmd:2017": "rmd",
    "urn:oasis:names:tc:ebxml-regrep:xsd:lcm:3.0": "lcm",
    "urn:oasis:names:tc:ebxml-regrep:xsd:query:3.0": "query",
    "urn:oasis:names:tc:ebxml-regrep:xsd:rs:3.0": "rs",
    _RIM: "rim",
    _HL7: "hl7",
    "http://www.w3.org/2004/08/xop/include": "xop",
    "http://www.w3.org/2001/XMLSchema-instance": "xsi",
    "http://www.w3.org/XML/1998/namespace": "xml",
}
_REFERENCES: Final = f"{{{_RIM}}}ObjectRefList"
_LISTS: Final = {
    _REFERENCES: frozenset({f"{{{_RIM}}}ObjectRef"}),
    f"{{{_RIM}}}RegistryObjectList": frozenset(
        f"{{{_RIM}}}{name}"
        for name in ("ExtrinsicObject", "RegistryPackage", "Association", "Classification", "ObjectRef")
    ),
}
"""What may stand in the lists that make a message large."""
_ROOTS: Final = frozenset(
    {
        "{urn:ihe:iti:xds-b:2007}ProvideAndRegisterDocumentSetRequest",
        "{urn:ihe:iti:xds-b:2007}RetrieveDocumentSetRequest",
        "{urn:ihe:iti:xds-b:2007}RetrieveDocumentSetResponse",
        "{urn:ihe:iti:rmd:2017}RemoveDocumentsRequest",
        "{urn:oasis:names:tc:ebxml-regrep:xsd:lcm:3.0}SubmitObjectsRequest",
        "{urn:oasis:names:tc:ebxml-regrep:xsd:lcm:3.0}RemoveObjectsRequest",
        "{urn:oasis:names:tc:ebxml-regrep:xsd:query:3.0}AdhocQueryRequest",
        "{urn:oasis:names:tc:ebxml-regrep:xsd:query:3.0}AdhocQueryResponse",
        "{urn:oasis:names:tc:ebxml-regrep:xsd:rs:3.0}RegistryResponse",
        f"{{{_HL7}}}PRPA_IN201301UV02",
        f"{{{_HL7}}}PRPA_IN201302UV02",
        f"{{{_HL7}}}PRPA_IN201304UV02",
        f"{{{_HL7}}}PRPA_IN201305UV02",
        f"{{{_HL7}}}PRPA_IN201306UV02",
        f"{{{_HL7}}}MCCI_IN000002UV01",
    }
)


class _PerThread(threading.local):
    """Compiled on first use in each thread: a schema object keeps the errors of its last check."""

    def __init__(self) -> None:
        self.schemas: dict[str, etree.XMLSchema] = {}
        self.nodes = etree.XPath("count(descendant-or-self::*) + count(descendant-or-self::*/@*)")

    def schema(self, kind: str) -> etree.XMLSchema:
        found = self.schemas.get(kind)
        if found is None:
            found = self.schemas[kind] = compiled(kind)
        return found


_per_thread = _PerThread()


def violations(element: Any) -> tuple[str, ...]:
    """Faults of a request (or answer) against the lenient schema chosen by its tag; ``()`` when right, at most 10."""
    return _check(element, "lenient")


def strict_violations(element: Any) -> tuple[str, ...]:
    """The same against the strict schema, which is what we promise to send. XOP references must be resolved before."""
    return _check(element, "strict")


def _check(element: Any, kind: str) -> tuple[str, ...]:
    if element.tag not in _ROOTS:
        return (f"{_name(element.tag)}: not a message known here",)
    schema = _per_thread.schema(kind)
    if _per_thread.nodes(element) > _LARGEST_PIECE:
        return tuple(islice(_in_pieces(element, schema), _MOST))
    if schema.validate(element):
        return ()
    return tuple(islice(_faults(element, element, schema), _MOST))


# -------------------------------------------------------------------------------------------------- large messages


def _in_pieces(element: Any, schema: etree.XMLSchema) -> Iterator[str]:
    """The message with its object list emptied, then each object by itself."""
    objects = next(element.iter(*_LISTS), None)
    frame = _frame(element, objects)
    yield from _piece(frame, frame, schema)
    if objects is None:
        return
    for listed in objects.iterchildren("*"):
        if listed.tag in _LISTS[objects.tag]:
            yield from _piece(listed, element, schema)
        else:
            yield f"{_path(listed, element)}: not expected here"


def _piece(piece: Any, top: Any, schema: etree.XMLSchema) -> Iterator[str]:
    if _per_thread.nodes(piece) > _LARGEST_PIECE:
        yield f"{_path(piece, top)}: more than {_LARGEST_PIECE} elements and attributes"
    elif not schema.validate(piece):
        yield from _faults(piece, top, schema)


def _frame(element: Any, objects: Any) -> Any:
    """A copy of ``element`` in which the list ``objects`` holds nothing, or one reference where it may not be empty."""
    copy = etree.Element(element.tag, dict(element.attrib), element.nsmap)
    if element is objects:
        if element.tag == _REFERENCES and len(element):
            etree.SubElement(copy, f"{{{_RIM}}}ObjectRef", id="urn:uuid:00000000-0000-4000-8000-000000000000")
        return copy
    copy.text = element.text
    for child in element.iterchildren("*"):
        holds = objects is not None and (child is objects or objects.getparent() is child)
        copy.append(_frame(child, objects) if holds else deepcopy(child))
    return copy


# ------------------------------------------------------------------------------------------------------- the texts


def _faults(checked: Any, top: Any, schema: etree.XMLSchema) -> Iterator[str]:
    reported: tuple[str, str] | None = None
    for entry in schema.error_log:
        found = _ATTRIBUTE.match(entry.message)
        attribute = found[1] if found else ""
        place = (entry.path or "", attribute)
        # a value that breaks a facet is reported twice: for the facet, then at once for the type
        if entry.type == _E.SCHEMAV_CVC_DATATYPE_VALID_1_2_1 and place == reported:
            continue
        reported = place
        where = _path(_found(entry.path or "", checked), top)
        at = f"{where}/@{_name(attribute)}" if attribute else where
        yield f"{at}: {_KINDS.get(entry.type, _other)(entry.message)}"


_ATTRIBUTE: Final = re.compile(r"Element '[^']*', attribute '([^']*)'")
# Each pattern ends at the end of the message, where the schema's own words stand; a quoted value comes before them.
_EXPECTED: Final = re.compile(r".*Expected is (?:one of )?\( ([^()]*) \)\.\s*\Z", re.DOTALL)
_REQUIRED: Final = re.compile(r".*The attribute '([^']*)' is required but missing\.\s*\Z", re.DOTALL)
_ONE_OF: Final = re.compile(r".*' is not an element of the set \{([^{}]*)\}\.\s*\Z", re.DOTALL)
_AT_MOST: Final = re.compile(r".*allowed maximum length of '(\d+)'\.\s*\Z", re.DOTALL)
_OF_TYPE: Final = re.compile(
    r".*is not a valid value of the (?:local )?(?:atomic|union|list) type '([^']*)'\.\s*\Z", re.DOTALL
)


def _content(message: str) -> str:
    expected = _EXPECTED.match(message)
    what = "something is missing" if "Missing child element" in message[:400] else "not expected here"
    if expected is None:
        return what
    return f"{what}; allowed: {', '.join(_name(name.strip()) for name in expected[1].split(','))}"


def _missing_attribute(message: str) -> str:
    required = _REQUIRED.match(message)
    return f"attribute {required[1]} is missing" if required else _other(message)


def _not_in_set(message: str) -> str:
    allowed = _ONE_OF.match(message)
    return f"not one of {allowed[1]}" if allowed else _other(message)


def _too_long(message: str) -> str:
    most = _AT_MOST.match(message)
    return f"longer than {most[1]} characters" if most else _other(message)


def _not_of_type(message: str) -> str:
    wanted = _OF_TYPE.match(message)
    return f"not a valid {_name(wanted[1])}" if wanted else _other(message)


def _other(_message: str) -> str:
    return "not as the schema asks"


_KINDS: Final[dict[int, Callable[[str], str]]] = {
    _E.SCHEMAV_ELEMENT_CONTENT: _content,
    _E.SCHEMAV_CVC_COMPLEX_TYPE_3_2_1: lambda _: "attribute not allowed",
    _E.SCHEMAV_CVC_COMPLEX_TYPE_3_2_2: lambda _: "attribute not allowed",
    _E.SCHEMAV_CVC_COMPLEX_TYPE_4: _missing_attribute,
    _E.SCHEMAV_CVC_COMPLEX_TYPE_2_1: lambda _: "must be empty",
    _E.SCHEMAV_CVC_COMPLEX_TYPE_2_2: lambda _: "no elements allowed inside",
    _E.SCHEMAV_CVC_COMPLEX_TYPE_2_3: lambda _: "no text allowed between elements",
    _E.SCHEMAV_CVC_TYPE_3_1_2: lambda _: "no elements allowed inside",
    _E.SCHEMAV_CVC_TYPE_3_1_1: lambda _: "attribute not allowed",
    _E.SCHEMAV_CVC_ENUMERATION_VALID: _not_in_set,
    _E.SCHEMAV_CVC_MAXLENGTH_VALID: _too_long,
    _E.SCHEMAV_CVC_PATTERN_VALID: lambda _: "not written in the form its type asks for",
    _E.SCHEMAV_CVC_DATATYPE_VALID_1_2_1: _not_of_type,
    _E.SCHEMAV_CVC_ELT_4_2: lambda _: "xsi:type names no type known here",
    _E.SCHEMAV_CVC_ELT_4_3: lambda _: "xsi:type names a type not allowed here",
}

# -------------------------------------------------------------------------------------------------------- the path

_STEP: Final = re.compile(r"/(?:(\*)|(?:([^/:\[\]]+):)?([^/:\[\]@()]+))(?:\[(\d+)\])?(?=/|\Z)")


def _found(path: str, checked: Any) -> Any:
    """The element libxml2's path means; its first step is ``checked``, and it counts by the sender's prefixes."""
    node = checked
    for step in islice(_STEP.finditer(path), 1, None):
        any_name, prefix, local, number = step.groups()
        same = (
            child
            for child in node.iterchildren("*")
            if any_name or (child.prefix == prefix and child.tag.rpartition("}")[2] == local)
        )
        child = next(islice(same, int(number or 1) - 1, None), None)
        if child is None:
            return node
        node = child
    return node


def _path(node: Any, top: Any) -> str:
    """Names from ``top`` down to ``node``, numbered among siblings of the same name where there are several."""
    steps: list[str] = []
    while node is not top and node is not None:
        parent = node.getparent()
        alike = [] if parent is None else list(parent.iterchildren(node.tag))
        steps.append(_name(node.tag) + (f"[{alike.index(node) + 1}]" if len(alike) > 1 else ""))
        node = parent
    return "/".join([_name(top.tag), *reversed(steps)])


def _name(clark: str) -> str:
    namespace, _, local = clark.rpartition("}")
    local = local[:_LONGEST_NAME]
    if not namespace:
        return local
    prefix = _PREFIXES.get(namespace[1:])
    return f"{prefix}:{local}" if prefix else f"{local} of another namespace"
