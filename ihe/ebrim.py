"""ebRIM 3.0 elements to values and back (ITI TF-3: 4.2.1 and 4.2.3).

Reading takes any order and placement of children and loose classification nodes (they are moved into the package they
classify). Writing uses one form: prefix ``rim`` declared on the object itself, children in the order of the schema,
so that what is written can be kept, joined into an answer and compared byte by byte.
"""

from dataclasses import replace
from typing import Any, Final

from ihe import vocabulary as v
from ihe.datatypes import normalise_uuid
from ihe.registry_objects import (
    Classification,
    ExternalIdentifier,
    Kind,
    LocalizedString,
    RegistryObject,
    Slot,
    SubmittedObjects,
)

_R: Final = f"{{{v.RIM}}}"
_EXTRINSIC, _PACKAGE, _ASSOCIATION = _R + "ExtrinsicObject", _R + "RegistryPackage", _R + "Association"
_CLASSIFICATION, _IDENTIFIER, _SLOT = _R + "Classification", _R + "ExternalIdentifier", _R + "Slot"
_NAME, _DESCRIPTION, _VERSION, _LIST = _R + "Name", _R + "Description", _R + "VersionInfo", _R + "RegistryObjectList"
_LOCALIZED, _VALUE, _OBJECT_REF = _R + "LocalizedString", _R + "Value", _R + "ObjectRef"
_LANG: Final = "{http://www.w3.org/XML/1998/namespace}lang"

_MARKERS: Final = {v.NODE_SUBMISSION_SET: Kind.SUBMISSION_SET, v.NODE_FOLDER: Kind.FOLDER}


def read_submitted_objects(element: Any) -> SubmittedObjects:
    """Read an lcm:SubmitObjectsRequest, query:AdhocQueryResponse or rim:RegistryObjectList; ObjectRefs are left out."""
    objects: list[RegistryObject] = []
    loose: list[Classification] = []
    for child in _list_of(element):
        if child.tag in (_EXTRINSIC, _PACKAGE, _ASSOCIATION):
            objects.append(_object(child))
        elif child.tag == _CLASSIFICATION:
            loose.append(_classification(child))
    return _settled(objects, loose)


def read_object_refs(element: Any) -> tuple[str, ...]:
    """The @id of every rim:ObjectRef in the list, in message order."""
    return tuple(child.get("id", "") for child in _list_of(element) if child.tag == _OBJECT_REF)


def _list_of(element: Any) -> Any:
    if element.tag == _LIST:
        return element
    found = element.find(f".//{_LIST}")
    return found if found is not None else ()


def _settled(objects: list[RegistryObject], loose: list[Classification]) -> SubmittedObjects:
    """Move loose classifications into the object they name, then tell packages apart by their marker."""
    stray: list[str] = []
    places: dict[str, int] = {}
    for at, obj in enumerate(objects if loose else ()):
        if obj.id is not None:
            places.setdefault(normalise_uuid(obj.id), at)
    for classification in loose:
        # Normalised already here, before anything else is: a UUID in capitals on one side alone is the same UUID.
        wanted = normalise_uuid(classification.classified_object or "")
        place = places.get(wanted)
        if place is None:
            stray.append(classification.id or wanted or "without id")
        else:
            owner = objects[place]
            objects[place] = replace(owner, classifications=(*owner.classifications, classification))
    return SubmittedObjects(tuple(_marked(o) for o in objects), tuple(stray))


def _marked(obj: RegistryObject) -> RegistryObject:
    if obj.kind is not Kind.UNMARKED:
        return obj
    kinds = {_MARKERS[c.node] for c in obj.classifications if c.node in _MARKERS}
    return replace(obj, kind=kinds.pop()) if len(kinds) == 1 else obj


def _object(element: Any) -> RegistryObject:
    get = element.get
    slots: list[Slot] = []
    classifications: list[Classification] = []
    identifiers: list[ExternalIdentifier] = []
    name: tuple[LocalizedString, ...] = ()
    description: tuple[LocalizedString, ...] = ()
    version = None
    for child in element:
        tag = child.tag
        if tag == _SLOT:
            slots.append(_slot(child))
        elif tag == _CLASSIFICATION:
            classifications.append(_classification(child))
        elif tag == _IDENTIFIER:
            identifiers.append(_identifier(child))
        elif tag == _NAME:
            name = _strings(child)
        elif tag == _DESCRIPTION:
            description = _strings(child)
        elif tag == _VERSION:
            version = child.get("versionName")
    kind = {_EXTRINSIC: Kind.DOCUMENT_ENTRY, _PACKAGE: Kind.UNMARKED}.get(element.tag, Kind.ASSOCIATION)
    return RegistryObject(
        kind=kind,
        id=get("id"),
        lid=get("lid"),
        home=get("home"),
        status=get("status"),
        object_type=get("objectType"),
        version_name=version,
        mime_type=get("mimeType"),
        is_opaque=get("isOpaque"),
        type=get("associationType"),
        source=get("sourceObject"),
        target=get("targetObject"),
        name=name,
        description=description,
        slots=tuple(slots),
        classifications=tuple(classifications),
        external_identifiers=tuple(identifiers),
    )


def _slot(element: Any) -> Slot:
    return Slot(element.get("name", ""), tuple(value.text or "" for value in element.iter(_VALUE)))


def _strings(element: Any) -> tuple[LocalizedString, ...]:
    return tuple(
        LocalizedString(child.get("value", ""), _language(child.get(_LANG)), child.get("charset"))
        for child in element
        if child.tag == _LOCALIZED
    )


def _language(tag: str | None) -> str | None:
    """As xs:language has it: senders in Java write ``en_US``, and nothing where they know of none."""
    return tag.strip().replace("_", "-") or None if tag else None


def _classification(element: Any) -> Classification:
    get = element.get
    name: tuple[LocalizedString, ...] = ()
    description: tuple[LocalizedString, ...] = ()
    slots: list[Slot] = []
    for child in element:
        if child.tag == _SLOT:
            slots.append(_slot(child))
        elif child.tag == _NAME:
            name = _strings(child)
        elif child.tag == _DESCRIPTION:
            description = _strings(child)
    return Classification(
        id=get("id"),
        scheme=get("classificationScheme"),
        node=get("classificationNode"),
        classified_object=get("classifiedObject"),
        node_representation=get("nodeRepresentation"),
        name=name,
        description=description,
        slots=tuple(slots),
        strange_type=_strange(get("objectType"), v.TYPE_CLASSIFICATION),
    )


def _strange(object_type: str | None, fixed: str) -> str | None:
    """What stands where one value is allowed, unless it is that or nothing."""
    return object_type if object_type and object_type.strip() not in {"", fixed} else None


def _identifier(element: Any) -> ExternalIdentifier:
    name = next((_strings(child) for child in element if child.tag == _NAME), ())
    return ExternalIdentifier(
        id=element.get("id"),
        scheme=element.get("identificationScheme"),
        registry_object=element.get("registryObject"),
        value=element.get("value", ""),
        name=name,
        strange_type=_strange(element.get("objectType"), v.TYPE_EXTERNAL_IDENTIFIER),
    )


# ---------------------------------------------------------------------------------------------------- writing


def _text(value: str) -> str:
    if "&" in value or "<" in value or ">" in value or "\r" in value:
        value = value.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("\r", "&#13;")
    return value


def _attribute(value: str) -> str:
    value = _text(value)
    if '"' in value or "\n" in value or "\t" in value:
        value = value.replace('"', "&quot;").replace("\n", "&#10;").replace("\t", "&#9;")
    return value


def _optional(name: str, value: str | None) -> str:
    return "" if value is None else f' {name}="{_attribute(value)}"'


def _written_strings(tag: str, strings: tuple[LocalizedString, ...]) -> str:
    if not strings:
        return ""
    inner = "".join(
        f"<rim:LocalizedString{_optional('xml:lang', s.lang)}{_optional('charset', s.charset)}"
        f' value="{_attribute(s.value)}"/>'
        for s in strings
    )
    return f"<rim:{tag}>{inner}</rim:{tag}>"


def _written_slots(slots: tuple[Slot, ...]) -> str:
    return "".join(
        f'<rim:Slot name="{_attribute(slot.name)}"><rim:ValueList>'
        + "".join([f"<rim:Value>{_text(value)}</rim:Value>" for value in slot.values])
        + "</rim:ValueList></rim:Slot>"
        for slot in slots
    )


def _written_classification(c: Classification) -> str:
    head = (
        f"<rim:Classification{_optional('id', c.id)}"
        f' objectType="{v.TYPE_CLASSIFICATION}"'
        f"{_optional('classificationScheme', c.scheme)}{_optional('classificationNode', c.node)}"
        f"{_optional('classifiedObject', c.classified_object)}{_optional('nodeRepresentation', c.node_representation)}"
    )
    inner = _written_slots(c.slots) + _written_strings("Name", c.name) + _written_strings("Description", c.description)
    return f"{head}>{inner}</rim:Classification>" if inner else head + "/>"


def _written_identifier(i: ExternalIdentifier) -> str:
    return (
        f"<rim:ExternalIdentifier{_optional('id', i.id)}"
        f' objectType="{v.TYPE_EXTERNAL_IDENTIFIER}"'
        f"{_optional('registryObject', i.registry_object)}{_optional('identificationScheme', i.scheme)}"
        f' value="{_attribute(i.value)}">{_written_strings("Name", i.name)}</rim:ExternalIdentifier>'
    )


_TAGS: Final = {Kind.DOCUMENT_ENTRY: "ExtrinsicObject", Kind.ASSOCIATION: "Association"}
_TYPES: Final = {Kind.ASSOCIATION: v.TYPE_ASSOCIATION, Kind.DOCUMENT_ENTRY: None}


def write_object(obj: RegistryObject) -> bytes:
    """Serialise one object, UTF-8, with ``xmlns:rim`` declared on it; @objectType is filled where ebRIM fixes it."""
    tag = _TAGS.get(obj.kind, "RegistryPackage")
    object_type = _TYPES.get(obj.kind, v.TYPE_REGISTRY_PACKAGE) or obj.object_type
    version = "" if obj.version_name is None else f'<rim:VersionInfo versionName="{_attribute(obj.version_name)}"/>'
    return "".join(
        [
            f'<rim:{tag} xmlns:rim="{v.RIM}"{_optional("id", obj.id)}{_optional("home", obj.home)}',
            f"{_optional('lid', obj.lid)}{_optional('objectType', object_type)}{_optional('status', obj.status)}",
            f"{_optional('mimeType', obj.mime_type)}{_optional('isOpaque', obj.is_opaque)}",
            f"{_optional('associationType', obj.type)}{_optional('sourceObject', obj.source)}",
            f"{_optional('targetObject', obj.target)}>",
            _written_slots(obj.slots),
            _written_strings("Name", obj.name),
            _written_strings("Description", obj.description),
            version,
            "".join([_written_classification(c) for c in obj.classifications]),
            "".join([_written_identifier(i) for i in obj.external_identifiers]),
            f"</rim:{tag}>",
        ]
    ).encode()
