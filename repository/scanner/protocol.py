"""What a repository asks of a scanner, and the stand-in that scans nothing."""

import threading
from collections.abc import Iterable
from typing import Final, Protocol

__all__ = ["Bounded", "NoScanner", "ScanFailed", "Scanner", "malware"]


class ScanFailed(Exception):  # noqa: N818 - an outcome: nobody knows what is in the document
    """The document was not scanned. ``again``: trying later may help; else it never will (e.g. it is too large).

    The text is fit for a peer: it names no host.
    """

    def __init__(self, reason: str, *, again: bool) -> None:
        super().__init__(reason)
        self.again = again


def malware(name: str) -> str:
    """The name, unless it is ClamAV's way to say that it looked no further; raises ScanFailed then."""
    if name.startswith("Heuristics.Limits.Exceeded"):
        raise ScanFailed("the document is beyond the limits of the malware scanner", again=False)
    return name


class Scanner(Protocol):
    """Asked in worker threads, several at once. Nothing of a document is kept longer than ``scan`` takes.

    ``scans`` is False for the stand-in alone: then no document is read for it.
    """

    @property
    def scans(self) -> bool: ...

    def scan(self, blocks: Iterable[bytes], size: int) -> str | None:
        """Name of the malware found, None for a clean document; raises ScanFailed.

        ``blocks`` are the ``size`` bytes of the document in order, taken one after the other; what the iterable raises
        passes through.
        """
        ...

    def check(self) -> bool:
        """Whether the scanner answers; raises ScanFailed where it does not."""
        ...


class NoScanner:
    """Scans nothing and says so (``scans``): the default, for networks where documents are scanned elsewhere."""

    scans: Final = False

    def scan(self, blocks: Iterable[bytes], size: int) -> str | None:
        """Nothing is found because nothing is looked at."""
        del blocks, size
        return None

    def check(self) -> bool:
        """There is nothing to answer."""
        return True


class Bounded:
    """A scanner that is asked for at most ``most`` documents at once.

    So a scanner that hangs holds some of the worker threads and never all: documents are still given out. Who finds no
    place within ``patience_s`` is told to come again.
    """

    def __init__(self, scanner: Scanner, most: int, *, patience_s: float = 5.0) -> None:
        self._scanner: Final = scanner
        self._places: Final = threading.BoundedSemaphore(most)
        self._patience_s: Final = patience_s

    @property
    def scans(self) -> bool:
        """As the scanner says."""
        return self._scanner.scans

    def scan(self, blocks: Iterable[bytes], size: int) -> str | None:
        """See ``Scanner``."""
        if not self._places.acquire(timeout=self._patience_s):
            raise ScanFailed("the malware scanner has too much to do", again=True)
        try:
            return self._scanner.scan(blocks, size)
        finally:
            self._places.release()

    def check(self) -> bool:
        """See ``Scanner``."""
        return self._scanner.check()
