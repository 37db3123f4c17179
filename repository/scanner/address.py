"""Where a scanner is: the setting ``repository.scanner``."""

from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import unquote, urlsplit

__all__ = ["ScannerAddress", "scanner_address"]

ICAP_PORT: Final = 1344
CLAMD_PORT: Final = 3310
FORMS: Final = "none, clamd://HOST:PORT, clamd:///PATH.sock or icap://HOST:PORT/SERVICE"


@dataclass(frozen=True, slots=True)
class ScannerAddress:
    """``host`` and ``port``, or the ``path`` of a Unix socket; ``service`` is the path of an ICAP service."""

    kind: Literal["none", "clamd", "icap"]
    host: str = ""
    port: int = 0
    path: str = ""
    service: str = ""


def scanner_address(text: str) -> ScannerAddress:
    """Read the setting; raises ValueError that says what it may be."""
    if text == "none":
        return ScannerAddress("none")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"should be {FORMS}: {error}") from None
    service = parts.path.strip("/") + (f"?{parts.query}" if parts.query else "")
    printable = text.isascii() and text.isprintable() and " " not in text
    if parts.username is None and not parts.fragment and printable:
        if parts.scheme == "clamd" and parts.hostname and not service:
            return ScannerAddress("clamd", parts.hostname, port or CLAMD_PORT)
        if parts.scheme == "clamd" and not parts.netloc and service and not parts.query:
            return ScannerAddress("clamd", path=unquote(parts.path))
        if parts.scheme == "icap" and parts.hostname and parts.path.strip("/"):
            return ScannerAddress("icap", parts.hostname, port or ICAP_PORT, service=service)
    raise ValueError(f"should be {FORMS}")
