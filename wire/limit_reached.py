"""A bound of the settings that a request ran into: told to the peer by name and value, counted for the operator.

The text for the peer ends in ``(setting NAME)``: whoever reads it there can tell the operator here what is too small.
"""

from typing import Final

from prometheus_client import Counter

from ihe.errors import FaultCode, SoapFault

__all__ = ["LimitReached", "named", "reached"]

REACHED: Final = Counter("dossier_limit_reached", "Requests refused because they reached a bound", ["limit"])
"""``limit`` is the key of the setting, e.g. ``max_document_bytes``."""


def named(text: str, limit: str) -> str:
    """What a peer is told: the text with its value in it, and the key of the setting."""
    return f"{text} (setting {limit})"


def reached(limit: str) -> None:
    """One request was refused because of this setting."""
    REACHED.labels(limit).inc()


class LimitReached(SoapFault):
    """A fault because of a bound; ``limit`` is the key of its setting. Status 413 unless said otherwise."""

    def __init__(
        self, limit: str, text: str, *, code: FaultCode = FaultCode.SENDER, http_status: int | None = 413
    ) -> None:
        super().__init__(code, named(text, limit), http_status=http_status)
        self.limit = limit
