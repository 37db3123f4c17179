"""What the transactions of a registry ask of its store, and what they tell it to write.

One unit of work is one transaction of the database: ``facts_about`` reads, a pure judge decides, ``apply`` and
``record`` write, leaving the block commits. ``LostRace`` means that somebody else was quicker: run the work once more.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

from consent.policy import Visibility
from ihe.metadata import Association, AvailabilityStatus, DocumentEntry, EntryType, Folder, SubmissionSet
from ihe.registry_objects import Kind, RegistryObject
from registry.criteria import Criteria

PatientId = tuple[str, str]
"""(id, assigning authority OID), unescaped."""


class LostRace(Exception):  # noqa: N818 - an outcome: the work is run again
    """Another transaction changed what this one had read."""


class StoreUnavailable(Exception):  # noqa: N818 - an outcome the caller names to the peer
    """The database does not answer or takes no more; ``full`` tells a full disk from the rest."""

    def __init__(self, reason: str, *, full: bool = False) -> None:
        super().__init__(reason)
        self.full = full


Link = tuple[str, str, str]
"""An association by its type, source and target."""


class TooManyFound(Exception):  # noqa: N818 - an outcome: the query is answered with XDSTooManyResults
    """More objects answer a query than may be found; ``limit`` is how many may."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"more than {limit} objects")
        self.limit = limit


@dataclass(frozen=True, slots=True)
class Asked:
    """What a judge needs to know: patients, uniqueIds, entryUUIDs; ``replaced`` are targets of replacements,
    and sources where those are registered, too.

    Updates also ask for the latest versions of ``logical_ids`` and whether associations like ``links`` exist.
    ``builds_on``: the request refers to what is registered, so that nobody else who does may change it meanwhile.
    ``new_uuids`` are to become entryUUIDs.
    """

    patients: frozenset[PatientId]
    unique_ids: frozenset[str]
    entry_uuids: frozenset[str]
    replaced: frozenset[str]
    logical_ids: frozenset[str] = frozenset()
    links: frozenset[Link] = frozenset()
    builds_on: bool = False
    new_uuids: frozenset[str] = frozenset()

    @property
    def of_new_alone(self) -> bool:
        """Whether it comes from a request that names nothing registered, unless one of its own ids is taken."""
        return not (self.builds_on or self.replaced or self.logical_ids or self.links)


@dataclass(frozen=True, slots=True)
class UniqueIdUse:
    """Who uses a uniqueId; hash and size for a stable DocumentEntry."""

    kind: Kind
    object_type: EntryType | None
    hash: str | None
    size: int | None


@dataclass(frozen=True, slots=True)
class Depositor:
    """Who was authenticated as the one who deposited, not what an author slot says."""

    node: str | None = None
    organisation: str | None = None
    person: str | None = None


@dataclass(frozen=True, slots=True)
class KnownObject:
    """A registered object that a submission refers to; ``object_type`` only for a DocumentEntry.

    ``patient_key`` is that of the patient it counts as: the one who survives where patients were merged.
    ``superseded``: a later version exists. ``of_set``: an association whose source is a SubmissionSet; ``source`` is
    that of an association, and it is ``doubled`` where another one of its type joins the same ends and is Approved.
    ``transformation``: an entry that was made from another one, by an XFRM that is Approved.
    """

    kind: Kind
    patient_key: int
    approved: bool
    object_type: EntryType | None = None
    superseded: bool = False
    of_set: bool = False
    source: str | None = None
    doubled: bool = False
    transformation: bool = False


@dataclass(frozen=True, slots=True)
class KnownVersion:
    """The latest version of a logical object; what follows ``unique_id`` is of a DocumentEntry alone.

    ``patient_key`` is that of the patient it counts as: the one who survives where patients were merged.

    ``links`` are its Approved associations that a new version takes over: relationships with other entries, and
    memberships between an Approved folder and an entry. They are whole, as objects to copy.
    """

    entry_uuid: str
    kind: Kind
    patient_key: int
    approved: bool
    version: int
    unique_id: str
    object_type: EntryType | None = None
    hash: str | None = None
    size: int | None = None
    repository_unique_id: str | None = None
    source_patient_id: str | None = None
    availability: str | None = None
    depositor: Depositor = Depositor()
    links: tuple[RegistryObject, ...] = ()


@dataclass(frozen=True, slots=True)
class Facts:
    """Answers to ``Asked``.

    ``patients`` are the ids that stand; ``merged`` those that were merged into another.
    ``children`` maps a replaced entry to the entries appended to it or transformed from it; ``folders`` maps it to
    the approved folders that contain it. ``latest`` maps a logical id to its latest version, ``links`` are those asked
    for that exist and are Approved. ``used_logical_ids`` are those of ``new_uuids`` that later versions of a removed
    first one still have.
    """

    patients: Mapping[PatientId, int]
    unique_ids: Mapping[str, UniqueIdUse]
    objects: Mapping[str, KnownObject]
    children: Mapping[str, tuple[str, ...]]
    folders: Mapping[str, tuple[str, ...]]
    latest: Mapping[str, KnownVersion] = field(default_factory=dict)
    links: frozenset[Link] = frozenset()
    merged: frozenset[PatientId] = frozenset()
    used_logical_ids: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Defect:
    """Something ``warn`` let pass."""

    code: str
    context: str


@dataclass(frozen=True, slots=True)
class StatusChange:
    """A registered object that gets another status; it must still have the one it ``was``, else LostRace.

    ``superseded``: because a new version took its place.
    """

    kind: Kind
    entry_uuid: str
    was: AvailabilityStatus
    becomes: AvailabilityStatus
    superseded: bool = False


@dataclass(frozen=True, slots=True)
class LetPass:
    """Defects of a request that registers nothing: whose, and when it came (14 digits, UTC)."""

    partner: str
    found_at: str
    defects: tuple[Defect, ...]


@dataclass(frozen=True, slots=True)
class Registration:
    """Exactly what to write; each object comes as domain value and as the wire object to keep.

    ``replaced`` must still be Approved when it is written, else LostRace; ``deprecated`` become Deprecated whatever
    they are. ``touched_folders`` get lastUpdateTime ``now`` (14 digits, UTC). ``known_unique_ids`` are in use already.
    Of an update: ``status_changes``; ``born_deprecated`` are new objects that are not Approved; ``bytes_told`` maps
    uniqueIds to the hash and size by which their documents are known from now on; ``depositors`` are those of new
    entries, by entryUUID, whose document somebody else had deposited than the one who sends this (``depositor``).
    """

    now: str
    patient_key: int
    submission_set: tuple[SubmissionSet, RegistryObject]
    entries: tuple[tuple[DocumentEntry, RegistryObject], ...]
    folders: tuple[tuple[Folder, RegistryObject], ...]
    associations: tuple[tuple[Association, RegistryObject], ...]
    replaced: tuple[str, ...] = ()
    deprecated: tuple[str, ...] = ()
    touched_folders: tuple[str, ...] = ()
    known_unique_ids: frozenset[str] = frozenset()
    status_changes: tuple[StatusChange, ...] = ()
    born_deprecated: frozenset[str] = frozenset()
    bytes_told: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    depositor: Depositor = Depositor()
    depositors: Mapping[str, Depositor] = field(default_factory=dict)
    partner: str = ""
    defects: tuple[Defect, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class Removable:
    """Answers about objects that are to be removed (ITI-62); all of them are locked.

    ``objects`` maps those that exist to their kind and patient key; ``links`` are all associations that are among the
    ids or begin or end at one of them, as (entry_uuid, source, target); ``kept`` are those objects at the ends of
    removed associations that have other associations too. ``patient_ids`` are CX texts, for the audit record.
    """

    objects: Mapping[str, Kind]
    links: tuple[tuple[str, str, str], ...]
    kept: frozenset[str]
    patient_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Found:
    """What a stored query selected: ids in answer order, whose patients, and the objects' bytes on demand.

    ``objects`` is read once, in any time: only about one block of it is held, and no connection between two blocks. It
    is empty where no objects were wanted in full. It raises StoreUnavailable, also when an object was removed since.
    """

    entry_uuids: Sequence[str]
    patient_ids: frozenset[str]
    objects: Iterator[bytes]


class UnitOfWork(Protocol):
    """One transaction of the database."""

    def facts_about(self, asked: Asked) -> Facts: ...
    def apply(self, registration: Registration) -> None: ...
    def record(self, messages: Sequence[bytes]) -> None: ...
    def note(self, let_pass: LetPass) -> None: ...
    def removable(self, entry_uuids: Sequence[str]) -> Removable: ...

    def remove(self, objects: Mapping[str, Kind]) -> None:
        """Remove objects for good; the version before a removed one is the latest again."""
        ...


class RegistryStore(Protocol):
    """The registry's memory."""

    def unit_of_work(self) -> AbstractContextManager[UnitOfWork]: ...

    def knows_patient(self, patient: PatientId) -> bool:
        """Whether a feed made this patient known and nothing has merged it into another since."""
        ...

    def find(self, criteria: Criteria, visibility: Visibility, limit: int, *, full: bool) -> Found:
        """Select objects in one snapshot; ``full``: with their bytes. Raises TooManyFound above ``limit``."""
        ...

    def record_alone(self, messages: Sequence[bytes], let_pass: LetPass | None = None) -> None:
        """Write audit records of a request that changes nothing, and its defects; durable when it returns."""
        ...

    def busy(self) -> bool:
        """Whether the audit outbox is at its bound, so that nothing more may happen here."""
        ...
