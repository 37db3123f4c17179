"""What the gateway asks of its own database."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

__all__ = ["GatewayStore", "Remembered", "StoreUnavailable"]


class StoreUnavailable(Exception):  # noqa: N818 - says what happened
    """The database does not answer, or took nothing; the text holds no value of a message."""


class Remembered(NamedTuple):
    """The identifiers (CX) of a patient of ours in a community, none: it does not know him; until when that holds."""

    found: tuple[str, ...]
    expires_at: int


class GatewayStore(Protocol):
    """Every call is a short transaction of its own and raises StoreUnavailable when the database does not answer."""

    def record_alone(self, messages: Sequence[bytes]) -> None:
        """Write audit records, durably, together with those of their neighbours in time."""
        ...

    def remembered(self, community: str, patient: str, now: int) -> Remembered | None:
        """What is kept of a patient of ours there; ``None``: nothing that still holds.

        ``community`` is its home, ``patient`` names ours, what was told of him, and where nobody was found who asked;
        ``now`` is microseconds since 1970.
        """
        ...

    def remember(self, community: str, patient: str, found: Sequence[str], now: int, expires_at: int) -> None:
        """Keep an answer until ``expires_at``, in place of an older one; what expired by ``now`` is dropped."""
        ...

    def busy(self) -> bool:
        """Whether the audit outbox is at its bound."""
        ...
