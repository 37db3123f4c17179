"""What the transactions of a repository ask of its store of bytes and of its index of documents.

Two promises hold the crash protocol together (see ``repository.registration``):

* A row of the index is durable before the first byte of its object is written, so no object is ever without a row.
* An object is durable when ``Upload.finish`` returns, and only then may its row become ``available``.

Times are microseconds since 1970, UTC. Sizes are bytes, hashes SHA-1 in lower-case hex, both of the plain document.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, Protocol

__all__ = [
    "Damaged",
    "Document",
    "DocumentIndex",
    "DocumentStore",
    "Envelope",
    "KeyMissing",
    "Keyring",
    "ObjectLocked",
    "ObjectMissing",
    "Origin",
    "State",
    "StoreRefused",
    "StoreUnavailable",
    "StoredObject",
    "Submission",
    "Superseded",
    "Upload",
]


class StoreUnavailable(Exception):  # noqa: N818 - an outcome the actor names to the peer
    """Store or database do not answer or take no more; ``full`` tells a full disk from the rest."""

    def __init__(self, reason: str, *, full: bool = False) -> None:
        super().__init__(reason)
        self.full = full


class StoreRefused(StoreUnavailable):
    """What the settings name cannot be the place of the documents; worded for whoever wrote them."""


class ObjectLocked(StoreUnavailable):
    """The store forbids to remove the object before a time that it knows; asking again later is right."""


class ObjectMissing(Exception):  # noqa: N818 - an outcome: another copy may be whole
    """There is no finished object of this key."""


class Damaged(Exception):  # noqa: N818 - an outcome: another copy may be whole
    """What lies in the store is not what was written there, or not under this key."""


class KeyMissing(Exception):  # noqa: N818 - an outcome: the operator has to bring the key
    """The key-encryption key of this name is not at hand."""


class Superseded(Exception):  # noqa: N818 - an outcome: the work is looked at once more
    """The row is no longer what its caller had read."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One object of the store; ``complete`` is False for an upload that was never finished."""

    key: str
    size: int
    modified: int
    complete: bool


@dataclass(frozen=True, slots=True)
class Envelope:
    """The data key of one object, wrapped: ``kek`` names the key-encryption key. Useless without that key."""

    kek: str
    wrapped: bytes


class Keyring(Protocol):
    """Key-encryption keys: from a file, or held by a key management service. Calls may block.

    ``current`` names the key that wraps new data keys, ``names`` are all at hand. Whoever loses a key has lost every
    document under it.
    """

    @property
    def current(self) -> str: ...

    @property
    def names(self) -> frozenset[str]: ...

    def wrap(self, data_key: bytes, object_key: str) -> Envelope:
        """Wrap the 32 bytes of a data key under the current key, bound to its object.

        Raises StoreUnavailable while it is not certain that the key will be at hand later.
        """
        ...

    def usable(self) -> bool:
        """Whether ``wrap`` would be done now."""
        ...

    def unwrap(self, envelope: Envelope, object_key: str) -> bytes:
        """The data key. Raises KeyMissing; Damaged when it was not wrapped by this key for this object."""
        ...


class Upload(Protocol):
    """An object on its way in. ``finish`` makes it durable and visible, ``abort`` removes it; both may be repeated.

    Where ``finish`` found an object under the key already, ``abort`` leaves that alone.
    """

    def write(self, block: bytes) -> None: ...
    def finish(self) -> None: ...
    def abort(self) -> None: ...


class DocumentStore(Protocol):
    """Objects under random keys, written once, never overwritten, never shared. All calls block.

    Every call may raise ``StoreUnavailable``, ``full=True`` where there is no room.
    """

    def begin(self, key: str) -> Upload:
        """Begin to write an object; ``key`` is 32 lower-case hex digits that were never used before."""
        ...

    def open(self, key: str) -> Iterator[bytes]:
        """The object's blocks in order; raises ``ObjectMissing`` before the first one."""
        ...

    def size(self, key: str) -> int | None:
        """Size of a finished object, None if there is none."""
        ...

    def delete(self, key: str) -> None:
        """Remove an object, finished or not; durable when it returns; no error if there is none.

        Raises ``ObjectLocked`` where the store keeps it against us.
        """
        ...

    def objects(self) -> Iterator[StoredObject]:
        """Everything that lies in the store, in no order; what comes or goes meanwhile may be missed.

        The size of what is unfinished may be 0: object stores do not say it.
        """
        ...

    def free_bytes(self) -> int | None:
        """Room that is left, None where the store does not know."""
        ...


class State(StrEnum):
    """Where a row stands.

    STAGING    its object is being uploaded, its metadata is not known yet
    PENDING    it belongs to a submission of which the registry's answer is not known yet
    AVAILABLE  registered; ITI-43 gives it out
    REMOVING   nobody claims it any more, or it was removed (ITI-86, retention): its data key is destroyed already;
               object first, then row are going away
    REMOVED    of a submission: at least one of its documents was removed; what it was answered is no longer true
    """

    STAGING = "staging"
    PENDING = "pending"
    AVAILABLE = "available"
    REMOVING = "removing"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True)
class Origin:
    """Who sent a submission and where to, kept for audit records that are written by a later process."""

    address: str
    node: str | None
    reply_to: str | None
    endpoint: str


@dataclass(frozen=True, slots=True)
class Submission:
    """One ITI-41 submission, by SubmissionSet.uniqueId.

    ``digest`` tells an identical retry from anything else (see ``repository.submission``). ``attempt`` names the last
    attempt to register it and ``since`` when that began; ``answer`` is the body the source was given, once available.
    ``told`` is True when the source was told that the outcome is unknown.
    """

    unique_id: str
    digest: str
    patient_id: str | None
    origin: Origin
    attempt: str
    since: int
    state: State = State.PENDING
    answer: bytes | None = None
    told: bool = False


@dataclass(frozen=True, slots=True)
class Document:
    """One object of the index. ``staged`` tells that its row exists already, in state STAGING.

    ``envelope`` holds the key its bytes are sealed under, None for plain bytes.
    ``class_code`` (``code^^scheme``) and ``created`` (the end of creationTime's precision) are what the submission
    said; None where it said nothing, or came before version 3 of the database.
    """

    object_key: str
    unique_id: str
    entry_id: str
    hash: str
    size: int
    mime_type: str
    patient_id: str | None
    attempt: str
    since: int
    state: State = State.PENDING
    staged: bool = False
    envelope: Envelope | None = None
    class_code: str | None = None
    created: int | None = None


class DocumentIndex(Protocol):
    """The repository's memory of what lies in its store. Every method is one transaction, durable when it returns.

    Every call may raise ``StoreUnavailable``. ``messages`` are audit records that belong to the same commit.
    """

    def stage(self, object_key: str, now: int, envelope: Envelope | None = None) -> None:
        """A row in state STAGING, before its object is uploaded."""
        ...

    def unstage(self, object_key: str) -> None:
        """Forget a row in state STAGING, after its object is gone."""
        ...

    def leave(self, object_key: str, now: int) -> None:
        """A row in state STAGING becomes REMOVING: its object could not be removed, or may still appear."""
        ...

    def claim(
        self, submission: Submission, documents: Sequence[Document], *, replacing: Submission | None = None
    ) -> Submission | None:
        """Write a submission and its documents as PENDING; None when that was done.

        If the unique id is in use, nothing is written and what stands there is returned, unless it is exactly
        ``replacing`` (PENDING or REMOVED): then this attempt takes its place. Raises ``Superseded`` when a staged row
        is gone.
        """
        ...

    def touch(self, submission: Submission, now: int) -> None:
        """Move ``since`` of this attempt, before a late ITI-42 is sent. Raises ``Superseded``."""
        ...

    def told(self, submission: Submission, messages: Sequence[bytes]) -> None:
        """Remember that the source was told that the outcome is unknown."""
        ...

    def complete(
        self,
        submission: Submission,
        answer: bytes,
        messages: Sequence[bytes],
        now: int,
        *,
        anyway: Sequence[bytes] = (),
    ) -> Submission:
        """Submission and documents of this attempt become AVAILABLE, ``messages`` are written with them.

        If the submission is no longer PENDING (another attempt was quicker, or its documents were removed since)
        only the records ``anyway`` are written: they tell of what was done all the same. Returns what stands.
        Raises ``Superseded`` if nothing does.
        """
        ...

    def abandon(
        self,
        submission: Submission,
        messages: Sequence[bytes],
        *,
        earlier: Submission | None = None,
        left_at: int | None = None,
    ) -> Submission | None:
        """Forget this attempt, after its objects are gone; the submission too unless another attempt stands.

        If this attempt is the last one, ``earlier`` (the one it had replaced, still without an outcome) stands again.
        ``left_at``: objects are not all gone, or may still appear; rows become REMOVING since then.

        Returns what stands under the unique id, None if nothing does; ``messages`` are written in any case.
        """
        ...

    def release(self, submission: Submission, messages: Sequence[bytes]) -> bool:
        """Forget a PENDING submission if it is still exactly this; its documents become REMOVING."""
        ...

    def remove(self, object_keys: Sequence[str], messages: Sequence[bytes], now: int) -> None:
        """Documents that are AVAILABLE become REMOVING, the submissions they came with REMOVED; ``messages`` with them.

        Raises ``Superseded``, and writes nothing, when one of them is not AVAILABLE any more.
        """
        ...

    def submission(self, unique_id: str) -> Submission | None: ...

    def documents_of(self, submission_unique_id: str) -> tuple[Document, ...]:
        """Rows of every attempt, oldest first."""
        ...

    def available(self, unique_ids: Sequence[str]) -> tuple[Document, ...]:
        """Rows in state AVAILABLE of these documents, oldest first."""
        ...

    def due(
        self, class_code: str, after: Literal["creation", "stored"], before: int, beyond: str, limit: int
    ) -> tuple[Document, ...]:
        """AVAILABLE documents of a class, created or stored before a time, by object key, from behind ``beyond`` on."""
        ...

    def unjudged(self, class_code: str | None) -> int:
        """How many AVAILABLE documents of a class say nothing of their creation; None: how many have no class."""
        ...

    def unresolved(self, before: int) -> tuple[Submission, ...]:
        """PENDING submissions whose last attempt began before a time, oldest first."""
        ...

    def discard(self, staged_before: int, left_before: int, removing_after: int = 0) -> tuple[str, ...]:
        """Mark rows nobody will claim as REMOVING; returns the keys of all that are since ``removing_after``.

        These are STAGING rows older than ``staged_before``, and PENDING rows older than ``left_before`` whose
        submission is not there or available by another attempt.
        """
        ...

    def forget(self, object_keys: Sequence[str], *, left_before: int | None = None) -> int:
        """Delete rows in state REMOVING, after their objects are gone; returns how many.

        ``left_before``: only those not younger than this; of younger ones the object may still appear.
        """
        ...

    def known(self, object_keys: Sequence[str]) -> frozenset[str]:
        """Which of these keys have a row."""
        ...

    def key_counts(self) -> Mapping[str | None, int]:
        """How many rows have a data key under each key-encryption key; under None those of plain bytes."""
        ...

    def sealed_otherwise(self, kek: str, after: str, limit: int) -> tuple[tuple[str, Envelope], ...]:
        """Object keys after one, in order, with data keys under any other key-encryption key than this."""
        ...

    def rewrap(self, changes: Sequence[tuple[str, Envelope, Envelope]]) -> int:
        """Put the second envelope in the place of the first, where that still stands; how many did."""
        ...

    def hold(self, lease: str, holder: str, duration_s: float) -> bool:
        """Become or remain the only process that does some work for ``duration_s``; False while another one is."""
        ...

    def let_go(self, lease: str, holder: str) -> None:
        """Let the next one begin at once."""
        ...

    def record_alone(self, messages: Sequence[bytes]) -> None:
        """Write audit records of a request that changed nothing."""
        ...

    def busy(self) -> bool:
        """Whether the audit outbox is at its bound, so that nothing more may happen here."""
        ...
