"""What the gateway asks of its own database."""

from collections.abc import Sequence
from typing import Protocol

__all__ = ["GatewayStore", "StoreUnavailable"]


class StoreUnavailable(Exception):  # noqa: N818 - says what happened
    """The database does not answer, or took nothing; the text holds no value of a message."""


class GatewayStore(Protocol):
    """Every call is a short transaction of its own and raises StoreUnavailable when the database does not answer."""

    def record_alone(self, messages: Sequence[bytes]) -> None:
        """Write audit records, durably, together with those of their neighbours in time."""
        ...

    def busy(self) -> bool:
        """Whether the audit outbox is at its bound."""
        ...
