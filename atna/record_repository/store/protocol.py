"""What the store of the audit service promises, and the values it deals in. No database here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from atna.audit_check import Checkpoint, Partition
from atna.record_repository.indexing import Indexed, Patient

__all__ = [
    "Code",
    "Criteria",
    "Cursor",
    "Due",
    "Kept",
    "LogPartition",
    "Records",
    "StoreUnavailable",
    "Stored",
    "Trust",
    "Verification",
]


Code = tuple[str, str | None]
"""A code and its system as codeSystemName: ``None`` any, "" none."""


class StoreUnavailable(Exception):  # noqa: N818 - an outcome: answered as 503
    """The database does not answer or refuses; nothing was kept."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What became of a batch: records new, repeated (equal bytes known already), and of the new ones not readable."""

    stored: int
    repeated: int
    unreadable: int


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place between two records in the order of a search."""

    event_at: int
    sha256: bytes


@dataclass(frozen=True, slots=True)
class Criteria:
    """What a search asks for; every attribute given must match, any of its values; and each of ``further``, too.

    ``since`` and ``before`` bound ``event_at``: since <= event_at < before; ``up_to`` bounds the record's number. These
    three count for ``further`` as well, whose own are not looked at.
    ``users`` is UserID and UserName; a Patient among ``objects`` is a patient object by its parts; ``organisations`` is
    source, site, UserID and UserName, the last in any case. ``addresses``, ``agent_names`` and ``entity_names`` match
    from their beginning, in any case; everything else is exact. "Not a success" is ``outcomes=(4, 8, 12)``.
    """

    since: int | None = None
    before: int | None = None
    patients: tuple[Patient, ...] = ()
    users: tuple[str, ...] = ()
    objects: tuple[str | Patient, ...] = ()
    events: tuple[Code, ...] = ()
    types: tuple[Code, ...] = ()
    outcomes: tuple[int, ...] = ()
    actions: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    sites: tuple[str, ...] = ()
    organisations: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    alternative_ids: tuple[str, ...] = ()
    agent_names: tuple[str, ...] = ()
    entity_names: tuple[str, ...] = ()
    policies: tuple[str, ...] = ()
    roles: tuple[Code, ...] = ()
    purposes: tuple[Code, ...] = ()
    entity_types: tuple[int, ...] = ()
    entity_roles: tuple[int, ...] = ()
    numbers: tuple[int, ...] = ()
    readable: bool | None = None
    up_to: int | None = None
    further: tuple["Criteria", ...] = ()


@dataclass(frozen=True, slots=True)
class Stored:
    """A record as it is kept.

    ``via`` says how and from whom it came, ``None`` for records of before that was kept; ``partition`` is the name of
    the part of the log it stands in.
    """

    number: int
    event_at: int
    sha256: bytes
    received_at: int
    readable: bool
    message: bytes
    via: str | None = None
    partition: str | None = None

    @property
    def cursor(self) -> Cursor:
        """The place right after this record."""
        return Cursor(self.event_at, self.sha256)


@dataclass(frozen=True)
class LogPartition(Partition):
    """A partition with what the database alone tells of it. ``removed_at`` to ``signature``: how it was removed."""

    position: int = 0
    opened_at: int = 0
    closed_at: int | None = None
    removed_at: int | None = None
    rule: str | None = None
    key_id: str | None = None
    signature: bytes | None = None


@dataclass(frozen=True, slots=True)
class Due:
    """A partition whose time is over: records that are left of it, their octets, when the first and last came."""

    partition: LogPartition
    records: int
    octets: int
    received_first: int | None
    received_last: int | None


@dataclass(frozen=True, slots=True)
class Trust:
    """What a check goes by beside the log itself.

    ``public_keys``: key id to key; those alone count, and something has to be signed by them; ``None``: the keys that
    the database lists. ``kept``: checkpoints that were kept elsewhere, which the log has to meet.
    """

    public_keys: Mapping[str, bytes] | None = None
    kept: tuple[Checkpoint, ...] = ()


@dataclass(frozen=True, slots=True)
class Verification:
    """Outcome of the check of the log: how many records hold, the last good link, and the first fault.

    ``partition`` is where the fault is. ``checkpoints`` hold, the last of them at ``signed_to`` (0: none).
    ``notes``: what is no fault and still worth telling.
    """

    records: int
    head: bytes
    fault_at: int | None = None
    fault: str | None = None
    partition: str | None = None
    checkpoints: int = 0
    signed_to: int = 0
    notes: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether the log is whole."""
        return self.fault is None


class Records(Protocol):
    """The log. Every call blocks; every call raises StoreUnavailable."""

    def keep(self, batch: Sequence[Indexed], *, via: str | Sequence[str] = "") -> Kept:
        """Append the records that are new, in order; durable when this returns.

        ``via`` says how and from whom they came: one text for all, or one for each.
        """
        ...

    def find(
        self, criteria: Criteria, *, limit: int, oldest_first: bool = False, after: Cursor | None = None
    ) -> list[Stored]:
        """Records by time of the event, newest first; ``after`` continues where a page ended."""
        ...

    def count(self, criteria: Criteria) -> int:
        """How many records there are of this kind."""
        ...

    def last_number(self) -> int:
        """The number of the newest record, 0 when there is none: bounds a search to what is there now."""
        ...

    def numbers_of(self, batch: Sequence[Indexed]) -> list[int | None]:
        """The number under which the bytes of each are kept; ``None`` where they are not."""
        ...

    def get(self, number: int) -> Stored | None:
        """One record by its number."""
        ...

    def verify_chain(self, trust: Trust = Trust(), *, partition: str | None = None) -> Verification:
        """Check every link, every message, what it is found by, and every checkpoint; or of one partition alone."""
        ...
