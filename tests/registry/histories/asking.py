"""What the histories ask of a registry, as values, and the same as messages.

Every object is sent with an entryUUID of its own, so that the model knows it; associations the registry makes itself
are told to the model afterwards.
"""

from dataclasses import dataclass, replace

from ihe import vocabulary as v
from ihe.registry_objects import Kind, Slot, SubmittedObjects
from tests.builders import association, changed, document_entry, folder, having, submission_set, without_slot

__all__ = [
    "CONTENTS",
    "Link",
    "Merge",
    "Move",
    "New",
    "Register",
    "Remove",
    "Status",
    "Unmerge",
    "Update",
    "Version",
    "objects_of",
]

CONTENTS = (b"aaaa", b"bbbb", b"cccccc")
"""Bytes of documents: of the first two only the hash differs, of the third the size, too."""
_ON_DEMAND = (having(object_type=v.ON_DEMAND), *map(without_slot, ("creationTime", "hash", "size")))


@dataclass(frozen=True)
class New:
    """A first version of an entry (``content``: number of its bytes) or a folder."""

    kind: Kind
    id: str
    patient: str
    unique_id: str
    on_demand: bool = False
    content: int = 0


@dataclass(frozen=True)
class Link:
    """An association; ``membership`` is its SubmissionSetStatus."""

    id: str
    type: str
    source: str
    target: str
    membership: str | None = None


@dataclass(frozen=True)
class Register:
    """ITI-42, or ITI-61 where ``on_demand``."""

    set_id: str
    unique_id: str
    patient: str
    things: tuple[New, ...]
    links: tuple[Link, ...]
    on_demand: bool = False


@dataclass(frozen=True)
class Version:
    """A new version of the logical object ``lid``."""

    kind: Kind
    id: str
    lid: str
    patient: str
    unique_id: str
    previous: int
    on_demand: bool = False
    content: int = 0
    propagates: bool = True


@dataclass(frozen=True)
class Status:
    """A change of availabilityStatus."""

    target: str
    was_approved: bool
    approved: bool


@dataclass(frozen=True)
class Update:
    """ITI-57, or ITI-92 where ``restricted``."""

    set_id: str
    unique_id: str
    patient: str
    versions: tuple[Version, ...] = ()
    statuses: tuple[Status, ...] = ()
    links: tuple[Link, ...] = ()
    restricted: bool = False


@dataclass(frozen=True)
class Remove:
    """ITI-62."""

    ids: tuple[str, ...]


@dataclass(frozen=True)
class Merge:
    """ADT^A40."""

    subsumed: str
    surviving: str


@dataclass(frozen=True)
class Unmerge:
    """ADT^A37 of the two, in either order."""

    one: str
    other: str


@dataclass(frozen=True)
class Move:
    """ADT^A43: all that ``previous`` has is of ``new``; every entry here has one and the same local id."""

    previous: str
    new: str


def objects_of(request):
    """A Register or Update as the objects of its message."""
    first = submission_set(request.set_id, request.patient, request.unique_id)
    if isinstance(request, Register):
        return SubmittedObjects((first, *map(_thing, request.things), *map(_link, request.links)))
    parts = []
    for one in request.versions:
        parts += [replace(_thing(one), lid=one.lid), _brings(request.set_id, one)]
    parts += [_status(request.set_id, one) for one in request.statuses]
    for one in request.links:
        parts += [_link(one), association(v.SUBMIT_ASSOCIATION, request.set_id, one.id)]
    return SubmittedObjects((first, *parts))


def _thing(one):
    if one.kind is Kind.FOLDER:
        return folder(one.id, one.patient, one.unique_id)
    entry = document_entry(one.id, one.patient, CONTENTS[one.content], one.unique_id)
    return changed(entry, _ON_DEMAND if one.on_demand else ())


def _link(one):
    return association(one.type, one.source, one.target, one.id, one.membership)


def _brings(set_id, one):
    member = association(v.HAS_MEMBER, set_id, one.id, None, "Original" if one.kind is Kind.DOCUMENT_ENTRY else None)
    slots = (*member.slots, Slot("PreviousVersion", (str(one.previous),)))
    return replace(member, slots=slots if one.propagates else (*slots, Slot("AssociationPropagation", ("no",))))


def _status(set_id, one):
    names = {True: v.APPROVED, False: v.DEPRECATED}
    slots = (Slot("OriginalStatus", (names[one.was_approved],)), Slot("NewStatus", (names[one.approved],)))
    return replace(association(v.UPDATE_AVAILABILITY_STATUS, set_id, one.target), slots=slots)
