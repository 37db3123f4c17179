"""ClamAV's daemon, asked with INSTREAM (clamd(8)): chunks with their length before them, a length of zero at the end.

clamd looks at no more than its own limits allow. Beyond StreamMaxLength it says so; beyond MaxFileSize, MaxScanSize and
MaxScanTime only with AlertExceedsMax, as if it were malware. Without that it calls the document clean, so an operator
has to set it. In each case the document counts as not scanned.
"""

from collections.abc import Iterable
from typing import Final

from repository.scanner.address import ScannerAddress
from repository.scanner.connection import Conversation
from repository.scanner.protocol import ScanFailed, malware

__all__ = ["Clamd"]

LONGEST_ANSWER: Final = 4096
LARGEST: Final = 2_147_483_645
"""clamd calls larger documents clean whatever it was told (clamd 1.4: MaxFileSize is cut to this)."""
_END: Final = b"\0"
_STREAM: Final = "stream: "
_TOO_LARGE: Final = "the document is larger than the malware scanner takes"


class Clamd:
    """``repository.scanner.protocol.Scanner`` of a clamd; a connection for each document."""

    scans: Final = True

    def __init__(self, address: ScannerAddress, timeout_s: float) -> None:
        self._address: Final = address
        self._timeout_s: Final = timeout_s

    def scan(self, blocks: Iterable[bytes], size: int) -> str | None:
        """See ``Scanner``."""
        if size > LARGEST:
            raise ScanFailed(_TOO_LARGE, again=False)
        with Conversation(self._address, self._timeout_s) as clamd:
            going = clamd.send(b"zINSTREAM" + _END)
            for block in blocks:
                # A block of length zero would be the end.
                going = going and (not block or clamd.send(len(block).to_bytes(4, "big") + block))
                if not going:
                    break
            if going:
                clamd.send(bytes(4))
            return _verdict(clamd.read_until(_END, LONGEST_ANSWER))

    def check(self) -> bool:
        """Whether it answers PONG."""
        with Conversation(self._address, self._timeout_s) as clamd:
            clamd.send(b"zPING" + _END)
            return clamd.read_until(_END, LONGEST_ANSWER).strip() == b"PONG"


def _verdict(answer: bytes) -> str | None:
    """``stream: OK``, ``stream: NAME FOUND``, or what went wrong and ``ERROR``."""
    text = answer.decode("utf-8", "replace").strip()
    if text == f"{_STREAM}OK":
        return None
    if text.startswith(_STREAM) and text.endswith(" FOUND"):
        return malware(text.removeprefix(_STREAM).removesuffix(" FOUND"))
    if "size limit exceeded" in text:
        raise ScanFailed(_TOO_LARGE, again=False)
    if not text:
        raise ScanFailed("the malware scanner closed the connection without an answer", again=True)
    raise ScanFailed("the malware scanner could not scan the document", again=False)
