"""What peers write differently, written one way before it is judged and kept (ITI TF-3: 4.2.3.1).

``normalise`` does what is always accepted: case of UUIDs and hashes, blanks around ids and codes, ``urn:oid:`` too many
or too few, parameters of mime types, trailing separators, the many ways to write a CX or CXi, owners not named by their
parts.
``mend`` does what only a lenient registry accepts; it is for a submission whose lenient findings were let pass.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from ihe import vocabulary as v
from ihe.datatypes import loose_dtm, normalise_oid, normalise_uuid
from ihe.registry_objects import (
    Classification,
    ExternalIdentifier,
    Kind,
    RegistryObject,
    Slot,
    SubmittedObjects,
)
from ihe.rule_rows import AUTHOR, OBJECT_ROWS, TIME, Datatype, Place, Row

_CODE_SLOTS: Final = MappingProxyType({"codingScheme": Datatype("scheme", str, normalise_oid)})
_MARKERS: Final = {v.NODE_SUBMISSION_SET: Kind.SUBMISSION_SET, v.NODE_FOLDER: Kind.FOLDER}


def _types(rows: Iterable[Row], place: Place) -> Mapping[str, Datatype]:
    return MappingProxyType({row.key: row.type for row in rows if row.place is place and row.type is not None})


_XML: Final = {kind: _types(rows, Place.XML) for kind, rows in OBJECT_ROWS.items()}
_SLOTS: Final = {kind: _types(rows, Place.SLOT) for kind, rows in OBJECT_ROWS.items()}
_IDENTIFIERS: Final = {kind: _types(rows, Place.IDENTIFIER) for kind, rows in OBJECT_ROWS.items()}
_AUTHOR_SLOTS: Final = _types(AUTHOR, Place.SLOT)


def normalise(objects: SubmittedObjects) -> SubmittedObjects:
    """Every object with its known attributes in their one writing; unknown slots and texts stay as they are."""
    return replace(objects, objects=tuple(_object(obj) for obj in objects.objects))


def _object(obj: RegistryObject) -> RegistryObject:
    identifier = _id(obj.id)
    classifications = tuple([_classification(one, identifier) for one in obj.classifications])
    kind = _kind(obj, classifications)
    types = _XML[kind]
    return replace(
        obj,
        kind=kind,
        id=identifier,
        lid=_id(obj.lid),
        source=_id(obj.source),
        target=_id(obj.target),
        type=_stripped(obj.type),
        object_type=_id(obj.object_type),
        classifications=classifications,
        home=_typed(obj.home, types.get("home")),
        mime_type=_typed(obj.mime_type, types.get("mime_type")),
        is_opaque=_boolean(obj.is_opaque),
        slots=_slots(obj.slots, _SLOTS[kind]),
        external_identifiers=tuple(
            [_identifier(one, identifier, _IDENTIFIERS[kind]) for one in obj.external_identifiers]
        ),
    )


def _kind(obj: RegistryObject, classifications: tuple[Classification, ...]) -> Kind:
    """A marker in capitals marks as well."""
    if obj.kind is not Kind.UNMARKED:
        return obj.kind
    kinds = {_MARKERS[one.node] for one in classifications if one.node in _MARKERS}
    return kinds.pop() if len(kinds) == 1 else obj.kind


def _classification(one: Classification, owner: str | None) -> Classification:
    # Most objects come as they ought to be: what is kept need not be made anew (the hottest part of a submission).
    code = _stripped(one.node_representation)
    told = (_id(one.id), _id(one.scheme), _id(one.node), _id(one.classified_object) or owner, code)
    slots = _slots(one.slots, _CODE_SLOTS if code else _AUTHOR_SLOTS)
    if told == (one.id, one.scheme, one.node, one.classified_object, one.node_representation) and slots is one.slots:
        return one
    return Classification(*told, one.name, one.description, slots, one.strange_type)


def _identifier(one: ExternalIdentifier, owner: str | None, types: Mapping[str, Datatype]) -> ExternalIdentifier:
    scheme = _id(one.scheme)
    value = _typed(one.value, types.get(scheme or "")) or ""
    owner = _id(one.registry_object) or owner
    return ExternalIdentifier(_id(one.id), scheme, owner, value, one.name, one.strange_type)


def _slots(slots: tuple[Slot, ...], types: Mapping[str, Datatype]) -> tuple[Slot, ...]:
    """The same tuple when nothing changes."""
    found = [_slot(slot, types.get(slot.name)) for slot in slots]
    return slots if all(new is old for new, old in zip(found, slots, strict=True)) else tuple(found)


def _slot(slot: Slot, datatype: Datatype | None) -> Slot:
    if datatype is None:
        return slot
    values = tuple([datatype.normalise(value) for value in slot.values])
    return slot if values == slot.values else Slot(slot.name, values)


def _typed(text: str | None, datatype: Datatype | None) -> str | None:
    return text if text is None or datatype is None else datatype.normalise(text)


def _boolean(text: str | None) -> str | None:
    """IsOpaque means nothing here; what is no xs:boolean is left out, since it would make every answer invalid."""
    word = (text or "").strip().lower()
    return word if word in {"true", "false", "1", "0"} else None


def _stripped(text: str | None) -> str | None:
    return None if text is None else text.strip()


def _id(text: str | None) -> str | None:
    """An id in its one writing; an empty one is none."""
    return None if text is None else normalise_uuid(text) or None


def mend(objects: SubmittedObjects) -> SubmittedObjects:
    """Empty slots and values left out, slots of one name joined, times with zone or fraction in plain UTC.

    For a normalised submission that has lenient findings only: after it every slot can be read as the framework says.
    """
    return replace(objects, objects=tuple(_mended(obj) for obj in objects.objects))


def _mended(obj: RegistryObject) -> RegistryObject:
    times = {name for name, datatype in _SLOTS[obj.kind].items() if datatype is TIME}
    return replace(
        obj,
        slots=_joined(obj.slots, times),
        classifications=tuple(replace(one, slots=_joined(one.slots, set())) for one in obj.classifications),
    )


def _joined(slots: tuple[Slot, ...], times: set[str]) -> tuple[Slot, ...]:
    """A slot repeated word by word is one slot, otherwise the values follow each other."""
    lists: dict[str, dict[tuple[str, ...], None]] = {}
    for slot in slots:
        values = tuple(value for value in slot.values if value.strip())
        if values:
            lists.setdefault(slot.name, {})[values] = None
    return tuple(
        Slot(name, tuple(_utc(value) if name in times else value for values in found for value in values))
        for name, found in lists.items()
    )


def _utc(text: str) -> str:
    return loose_dtm(text).text
