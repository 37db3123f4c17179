"""What the patient identity feeds ask of their store. ``LostRace`` and ``StoreUnavailable`` as in ``protocol``."""

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

from ihe.registry_objects import RegistryObject
from registry.store.protocol import Defect, Depositor, PatientId, Registration

__all__ = [
    "FeedMessageKey",
    "FeedUnitOfWork",
    "KnownPatient",
    "MergeRefused",
    "Movable",
    "MovableFolder",
    "Move",
    "PatientStore",
]


class MergeRefused(Exception):  # noqa: N818 - an outcome the sender is told
    """A merge or un-merge that contradicts what is known of its ids; nothing was changed.

    ``reason`` is fit for the sender: which rule, no value of the message, ASCII.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class FeedMessageKey:
    """A message as its repetition is known by: who sent it, its MSH-10, the SHA-256 (hex) of its bytes."""

    sender: str
    control_id: str
    sha256: str


@dataclass(frozen=True, slots=True)
class KnownPatient:
    """A patient that stands, with what the feeds told of it; absent is ``None``."""

    id: PatientId
    family: str | None = None
    given: str | None = None
    birth: str | None = None
    sex: str | None = None


@dataclass(frozen=True, slots=True)
class Move:
    """Entries of patient ``old`` whose sourcePatientId is one of ``local_ids`` (CX texts), to be ``new``'s (ITI-64)."""

    old: PatientId
    new: PatientId
    local_ids: frozenset[str]


@dataclass(frozen=True, slots=True)
class MovableFolder:
    """An Approved Folder that holds an entry that moves.

    ``members`` are its Approved entries by entryUUID; ``of_new``: the folder is of the new patient already.
    """

    folder: RegistryObject
    members: frozenset[str]
    of_new: bool


@dataclass(frozen=True, slots=True)
class Movable:
    """Answers about a ``Move``; what is named is locked. Objects are whole: ids, lid, version and slots as stored.

    ``entries`` are Approved and the latest version. ``depositors`` says by entryUUID who had deposited them.
    ``associations`` are Approved and begin or end at one of the entries; ``sets`` are those SubmissionSets,
    ``others`` the Approved entries at their far ends, with whether they are of the new patient.
    """

    patient_key: int
    entries: tuple[RegistryObject, ...] = ()
    depositors: Mapping[str, Depositor] = field(default_factory=dict)
    associations: tuple[RegistryObject, ...] = ()
    folders: tuple[MovableFolder, ...] = ()
    sets: frozenset[str] = frozenset()
    others: Mapping[str, bool] = field(default_factory=dict)


class FeedUnitOfWork(Protocol):
    """One transaction: durable when its block ends, nothing of it kept when the block raises."""

    def answer_to(self, message: FeedMessageKey) -> bytes | None:
        """What the same message was answered when it came before."""
        ...

    def make_known(self, patients: Sequence[PatientId], told: Mapping[str, str | None], now: str) -> int:
        """Add the ids that are new, give all of them the demographics ``told`` (absent keys stay as they are).

        Keys: family, given, birth, sex; ``None`` erases. ``now``: 14 digits, UTC. Returns how many were new.
        """
        ...

    def merge(self, subsumed: PatientId, surviving: PatientId, now: str) -> None:
        """What is kept of ``subsumed`` counts as of ``surviving`` from now on (ADT^A40, PRPA_IN201304UV02).

        No row of a document changes. Raises MergeRefused when the ids are equal or of two assigning authorities, one of
        them is not known, or one of them is subsumed already.
        ``now``: 14 digits, UTC.
        """
        ...

    def unmerge(self, one: PatientId, other: PatientId | None, now: str) -> tuple[PatientId, PatientId]:
        """End a merge: (subsumed, surviving), each on its own again with what it had (ADT^A37).

        ``other`` given: one of the two was merged into the other; ``None``: ``one`` was merged, into whichever.
        Raises MergeRefused when that is not so.
        """
        ...

    def movable(self, move: Move) -> Movable:
        """What a move is about. Raises MergeRefused when an id is not known or is merged, or when it is too much."""
        ...

    def apply(self, registration: Registration) -> None:
        """Write what a move comes to. Raises LostRace when something of it changed since it was looked at."""
        ...

    def remember(self, message: FeedMessageKey, answer: bytes, now: str) -> None:
        """Keep the answer for a repetition; an older message of the same sender and MSH-10 gives way."""
        ...

    def note(self, partner: str, defects: Sequence[Defect], now: str) -> None:
        """Keep what was let pass, for the list of defects by partner. ``now``: 14 digits, UTC."""
        ...

    def record(self, messages: Sequence[bytes]) -> None:
        """Put audit records into the outbox."""
        ...


class PatientStore(Protocol):
    """The patients the registry knows."""

    def unit_of_work(self) -> AbstractContextManager[FeedUnitOfWork]: ...

    def record_alone(self, messages: Sequence[bytes]) -> None:
        """Write audit records of a message that changes nothing; durable when it returns."""
        ...

    def forget_answers(self, before: str) -> int:
        """Drop answers to messages received before ``before`` (14 digits, UTC); returns how many."""
        ...

    def with_ids(self, ids: Collection[PatientId]) -> tuple[KnownPatient, ...]:
        """The patients who have these ids, or survive of them; in the order they became known."""
        ...

    def like(self, keys: Collection[str], sexes: Collection[str], limit: int) -> tuple[KnownPatient, ...]:
        """At most ``limit`` patients of one of these names and births (``ihe.demographics.name_and_birth``).

        ``sexes``, in capitals: of one of these, empty: of any. An id that was merged counts by what was told of it,
        and gives the one that survives of it. In the order they became known.
        """
        ...

    def busy(self) -> bool:
        """Whether the audit outbox is at its bound, so that nothing more may happen here."""
        ...
