"""What a person who looks through the log asks beyond a search: how many when, and a record's place. No database."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from atna.record_repository.store.protocol import Criteria, Records

__all__ = ["Counts", "LogOverview", "Place", "Span"]


@dataclass(frozen=True, slots=True)
class Span:
    """Records of one span of time by outcome; ``unknown``: the outcome is missing, or the record cannot be read."""

    success: int = 0
    failed: int = 0
    unknown: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.success + self.failed + self.unknown


@dataclass(frozen=True, slots=True)
class Counts:
    """How many records of a search fall into each span; not ``complete``: only the newest were counted."""

    spans: tuple[Span, ...]
    complete: bool = True

    @property
    def total(self) -> int:
        """Records counted."""
        return sum(span.total for span in self.spans)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a record stands in the log.

    ``received_at``  microseconds since 1970      ``repeats``    times the same bytes came again
    ``sha256``       of the message, as kept      ``link``       its link in the chain, as kept
    ``follows``      message, hash and the link before it make this link; only ``dossier audit verify`` checks the whole
    ``via``          how and from whom it came    ``partition``  which part of the log; both "" where none is kept
    """

    number: int
    received_at: int
    repeats: int
    sha256: bytes
    link: bytes
    follows: bool
    via: str = ""
    partition: str = ""


class LogOverview(Records, Protocol):
    """The log for people. Every call blocks; every call raises StoreUnavailable."""

    def count_spans(self, criteria: Criteria, starts: Sequence[int], *, most: int) -> Counts:
        """Count the newest ``most`` records: span n is starts[n] <= event_at < starts[n+1], the last has no end."""
        ...

    def place(self, number: int) -> Place | None:
        """A record's place by its number."""
        ...
