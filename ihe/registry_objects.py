"""The words of the wire: ebRIM 3.0 objects as frozen values, exactly as a message holds them.

``ihe.ebrim`` reads elements into these and writes them back; ``ihe.rules`` judges them; ``ihe.metadata`` holds the
domain words (DocumentEntry, SubmissionSet, ...) they are turned into once they are known to be right.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

LONG_NAME: Final = 256
"""The most characters of an id, a code, a slot's name or value (ebRIM LongName)."""


class Kind(StrEnum):
    """What a submitted object is (ITI TF-3: 4.2); UNMARKED is a RegistryPackage without or with two markers."""

    DOCUMENT_ENTRY = "DocumentEntry"
    SUBMISSION_SET = "SubmissionSet"
    FOLDER = "Folder"
    ASSOCIATION = "Association"
    UNMARKED = "RegistryPackage"


@dataclass(frozen=True, slots=True)
class LocalizedString:
    """rim:LocalizedString; ``lang`` and ``charset`` are ``None`` where the message has none."""

    value: str
    lang: str | None = None
    charset: str | None = None


@dataclass(frozen=True, slots=True)
class Slot:
    """rim:Slot; ``values`` in message order, possibly empty."""

    name: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Classification:
    """rim:Classification: a code or author (``scheme`` set) or a marker (``node`` set).

    ``strange_type`` is an objectType that is not the one ebRIM fixes, which goes without saying; so in the next.
    """

    id: str | None
    scheme: str | None
    node: str | None
    classified_object: str | None
    node_representation: str | None
    name: tuple[LocalizedString, ...] = ()
    description: tuple[LocalizedString, ...] = ()
    slots: tuple[Slot, ...] = ()
    strange_type: str | None = None


@dataclass(frozen=True, slots=True)
class ExternalIdentifier:
    """rim:ExternalIdentifier."""

    id: str | None
    scheme: str | None
    registry_object: str | None
    value: str
    name: tuple[LocalizedString, ...] = ()
    strange_type: str | None = None


@dataclass(frozen=True, slots=True)
class RegistryObject:
    """One rim:ExtrinsicObject, RegistryPackage or Association.

    ``type``, ``source`` and ``target`` are associationType, sourceObject and targetObject; ``None`` for other kinds.
    ``slots`` keep message order and repeated names. Markers (classificationNode) stay among ``classifications``.
    """

    kind: Kind
    id: str | None
    lid: str | None = None
    home: str | None = None
    status: str | None = None
    object_type: str | None = None
    version_name: str | None = None
    mime_type: str | None = None
    is_opaque: str | None = None
    type: str | None = None
    source: str | None = None
    target: str | None = None
    name: tuple[LocalizedString, ...] = ()
    description: tuple[LocalizedString, ...] = ()
    slots: tuple[Slot, ...] = ()
    classifications: tuple[Classification, ...] = ()
    external_identifiers: tuple[ExternalIdentifier, ...] = ()

    def slot(self, name: str) -> tuple[str, ...] | None:
        """Values of the first slot of this name, ``None`` if there is none."""
        return next((slot.values for slot in self.slots if slot.name == name), None)

    def coded(self, scheme: str) -> tuple[Classification, ...]:
        """Classifications of this scheme, in message order."""
        return tuple(c for c in self.classifications if c.scheme == scheme)

    def by_scheme(self) -> dict[str | None, list[Classification]]:
        """All of them by their scheme, in message order."""
        found: dict[str | None, list[Classification]] = {}
        for one in self.classifications:
            found.setdefault(one.scheme, []).append(one)
        return found

    def identifier(self, scheme: str) -> str | None:
        """Value of the first ExternalIdentifier of this scheme."""
        return next((i.value for i in self.external_identifiers if i.scheme == scheme), None)


@dataclass(frozen=True, slots=True)
class SubmittedObjects:
    """What an lcm:SubmitObjectsRequest holds, in message order (ITI TF-3: 4.2.1.4).

    Loose classification nodes beside a RegistryPackage are already moved into the object they classify.
    ``stray`` lists @id or @classifiedObject of loose Classifications that classify nothing in the message.
    """

    objects: tuple[RegistryObject, ...]
    stray: tuple[str, ...] = ()

    def of(self, kind: Kind) -> tuple[RegistryObject, ...]:
        """The objects of one kind, in message order."""
        return tuple(o for o in self.objects if o.kind is kind)
