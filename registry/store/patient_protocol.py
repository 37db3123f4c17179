"""What the patient identity feeds ask of their store. ``LostRace`` and ``StoreUnavailable`` as in ``protocol``."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from registry.store.protocol import PatientId

__all__ = ["FeedMessageKey", "FeedUnitOfWork", "PatientStore"]


@dataclass(frozen=True, slots=True)
class FeedMessageKey:
    """A message as its repetition is known by: who sent it, its MSH-10, the SHA-256 (hex) of its bytes."""

    sender: str
    control_id: str
    sha256: str


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

    def remember(self, message: FeedMessageKey, answer: bytes, now: str) -> None:
        """Keep the answer for a repetition; an older message of the same sender and MSH-10 gives way."""
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

    def busy(self) -> bool:
        """Whether the audit outbox is at its bound, so that nothing more may happen here."""
        ...
