"""An ITI-41 request as its parts, what identifies it, and the only changes a repository makes to it.

The metadata is passed on as it came: the element itself is completed in place (repositoryUniqueId, hash, size), never
read and written anew (ITI TF-2: 3.41.4.1.3; ITI TF-3: 4.2.3.2.18).
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from lxml import etree

from ihe import vocabulary as v
from ihe.datatypes import loose_dtm, normalise_oid
from ihe.ebrim import read_submitted_objects
from ihe.findings import named, shortened
from ihe.registry_objects import (
    LONG_NAME,
    Classification,
    Kind,
    LocalizedString,
    RegistryObject,
    Slot,
    SubmittedObjects,
)

__all__ = ["Content", "Entry", "Provided", "complete_entry", "digest", "id_key", "read_provided", "written"]

_SUBMIT: Final = f"{{{v.LCM}}}SubmitObjectsRequest"
_DOCUMENT: Final = f"{{{v.XDSB}}}Document"
_LIST: Final = f"{{{v.RIM}}}RegistryObjectList"
_EXTRINSIC: Final = f"{{{v.RIM}}}ExtrinsicObject"
_SLOT, _VALUE_LIST, _VALUE = f"{{{v.RIM}}}Slot", f"{{{v.RIM}}}ValueList", f"{{{v.RIM}}}Value"
LONGEST_CODE: Final = 2 * LONG_NAME
"""Code and scheme together: an index of the database holds them, which takes no long texts."""
OWN_SLOTS: Final = frozenset({"hash", "size", "repositoryUniqueId"})
"""Slots of a DocumentEntry that this repository fills in."""


@dataclass(frozen=True, slots=True)
class Content:
    """The bytes of one Document: size in bytes, SHA-1 in lower-case hex."""

    size: int
    sha1: str


@dataclass(frozen=True, slots=True)
class Entry:
    """A DocumentEntry of the message: the element that is sent on, and what it says."""

    element: Any
    object: RegistryObject

    @property
    def key(self) -> str:
        """Its id, as Document/@id refers to it."""
        return id_key(self.object.id)

    @property
    def unique_id(self) -> str:
        """DocumentEntry.uniqueId without blanks, empty if there is none."""
        return (self.object.identifier(v.ENTRY_UNIQUE_ID) or "").strip()

    @property
    def name(self) -> str:
        """What it is called in a message: by its id, as sent."""
        return named(self.object)

    @property
    def shown(self) -> str:
        """Its uniqueId for a message."""
        return shortened(self.unique_id) or "missing"

    @property
    def patient_id(self) -> str | None:
        """DocumentEntry.patientId as sent."""
        return (self.object.identifier(v.ENTRY_PATIENT_ID) or "").strip() or None

    @property
    def class_code(self) -> str | None:
        """Its classCode as ``code^^scheme``, None unless there is exactly one with both."""
        found = self.object.coded(v.ENTRY_CLASS)
        if len(found) != 1:
            return None
        schemes = [value.strip() for s in found[0].slots if s.name.strip() == "codingScheme" for value in s.values]
        code = (found[0].node_representation or "").strip()
        if not code or len(schemes) != 1 or not schemes[0] or len(code) + len(schemes[0]) > LONGEST_CODE:
            return None
        return f"{code}^^{normalise_oid(schemes[0])}"

    @property
    def created(self) -> int | None:
        """The last instant of creationTime's precision, microseconds since 1970; None where it cannot be read."""
        said = self.said("creationTime")
        try:
            last = datetime.strptime(loose_dtm(said[0]).upper, "%Y%m%d%H%M%S").replace(tzinfo=UTC)
        except (ValueError, IndexError):
            return None
        return int(last.timestamp() + 1) * 1_000_000

    def said(self, slot: str) -> tuple[str, ...]:
        """What the source says about its document in a slot: distinct values without blanks, empty ones left out."""
        values = (value.strip() for s in self.object.slots if s.name.strip() == slot for value in s.values)
        return tuple(dict.fromkeys(value for value in values if value))


@dataclass(frozen=True, slots=True)
class Provided:
    """A whole request. ``documents`` are (id key, Document element) in message order."""

    element: Any
    objects: SubmittedObjects
    entries: tuple[Entry, ...]
    documents: tuple[tuple[str, Any], ...]

    @property
    def unique_id(self) -> str | None:
        """SubmissionSet.uniqueId, None unless there is exactly one SubmissionSet and it has one.

        Written as the registry keeps it: it is what the registry is asked by when an outcome is unknown.
        """
        sets = self.objects.of(Kind.SUBMISSION_SET)
        return normalise_oid(sets[0].identifier(v.SUBMISSION_SET_UNIQUE_ID) or "") or None if len(sets) == 1 else None

    @property
    def patient_id(self) -> str | None:
        """SubmissionSet.patientId as sent."""
        found = (o.identifier(v.SUBMISSION_SET_PATIENT_ID) for o in self.objects.of(Kind.SUBMISSION_SET))
        return next((text.strip() for text in found if text and text.strip()), None)


def id_key(text: str | None) -> str:
    """Ids are compared without blanks around them, UUIDs without regard to case (ITI TF-3: 4.2.3.2)."""
    stripped = (text or "").strip()
    return stripped.lower() if stripped.lower().startswith("urn:uuid:") else stripped


def read_provided(body: Any) -> Provided:
    """Read xdsb:ProvideAndRegisterDocumentSetRequest, which the schema has found right."""
    request = body.find(_SUBMIT)
    objects = read_submitted_objects(request)
    elements = request.find(f".//{_LIST}").findall(_EXTRINSIC)
    entries = zip(elements, objects.of(Kind.DOCUMENT_ENTRY), strict=True)
    return Provided(
        request,
        objects,
        tuple(Entry(element, obj) for element, obj in entries),
        tuple((id_key(element.get("id")), element) for element in body.findall(_DOCUMENT)),
    )


def complete_entry(entry: Entry, repository_unique_id: str, content: Content) -> None:
    """Say in the element where the document lies and what its bytes are."""
    _set_slot(entry.element, "repositoryUniqueId", repository_unique_id)
    if not entry.said("hash"):
        _set_slot(entry.element, "hash", content.sha1)
    if not entry.said("size"):
        _set_slot(entry.element, "size", str(content.size))


def _set_slot(element: Any, name: str, value: str) -> None:
    """One slot of this name, first among the children, where the schema wants slots to be."""
    for slot in element.findall(_SLOT):
        if (slot.get("name") or "").strip() == name:
            element.remove(slot)
    slot = element.makeelement(_SLOT, {"name": name})
    element.insert(0, slot)
    values = etree.SubElement(slot, _VALUE_LIST)
    etree.SubElement(values, _VALUE).text = value


def written(provided: Provided) -> bytes:
    """The lcm:SubmitObjectsRequest for ITI-42, with every namespace that was in scope around it."""
    text: bytes = etree.tostring(provided.element, encoding="UTF-8", with_tail=False)
    return text


# ------------------------------------------------------------------------------------------------- identity


def digest(provided: Provided, hashes: Sequence[str]) -> str:
    """SHA-256 (hex) of what a submission says: its metadata and the SHA-1 of each entry's document, in message order.

    Two messages with one digest are one submission sent twice. What a sender's toolkit makes anew for each message does
    not count: symbolic ids, namespace prefixes, the order of slots. UUIDs do: somebody may refer to them already.
    What the repository fills in is left out.
    """
    names = {
        id_key(o.id): f"#{number}"
        for number, o in enumerate(provided.objects.objects)
        if not id_key(o.id).startswith("urn:uuid:")
    }
    said = [_said(o, names) for o in provided.objects.objects]
    text = json.dumps([said, list(hashes)], ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _said(obj: RegistryObject, names: Mapping[str, str]) -> list[Any]:
    def end(text: str | None) -> str:
        return names.get(id_key(text), id_key(text))

    own = OWN_SLOTS if obj.kind is Kind.DOCUMENT_ENTRY else frozenset()
    return [
        obj.kind.value,
        [
            end(obj.id),
            obj.type or "",
            end(obj.source),
            end(obj.target),
            obj.home or "",
            obj.object_type or "",
            obj.mime_type or "",
        ],
        _strings(obj.name),
        _strings(obj.description),
        _slots(obj.slots, own),
        sorted(_classification(c) for c in obj.classifications),
        sorted([i.scheme or "", i.value.strip()] for i in obj.external_identifiers),
    ]


def _strings(strings: Sequence[LocalizedString]) -> list[list[str]]:
    return sorted([s.lang or "", s.value] for s in strings)


def _slots(slots: Sequence[Slot], without: frozenset[str] = frozenset()) -> list[list[Any]]:
    return sorted([slot.name, list(slot.values)] for slot in slots if slot.name.strip() not in without)


def _classification(c: Classification) -> list[Any]:
    return [c.scheme or "", c.node or "", c.node_representation or "", _strings(c.name), _slots(c.slots)]
