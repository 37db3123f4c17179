"""Room on disk for what has arrived and cannot leave yet: unnamed files in one directory, bounded in their sum.

A file has no name once it is open, so that nothing is left behind however the process ends. What is small stays in
memory. No room is an outcome (``SpoolFull``), for a bound reached and for a disk that takes no more alike.
"""

import os
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final

from wire.limit_reached import reached

__all__ = ["Spool", "SpoolFile", "SpoolFull"]

_IN_MEMORY: Final = 2**18
_READ: Final = 2**18


class SpoolFull(Exception):  # noqa: N818 - an outcome
    """The bytes were not taken: the bound is reached, or the directory takes no more."""


class Spool:
    """Hands out files. ``directory``: that of temporary files if None; ``limit`` names the setting of ``max_bytes``."""

    def __init__(self, directory: Path | None, max_bytes: int, limit: str = "spool") -> None:
        self._directory: Final = directory
        self._max_bytes: Final = max_bytes
        self._limit: Final = limit
        self._lock: Final = threading.Lock()
        self._held = 0

    @property
    def held_bytes(self) -> int:
        """Bytes in all open files."""
        with self._lock:
            return self._held

    def open(self) -> "SpoolFile":
        """A file of its own; close it."""
        return SpoolFile(self)

    def take(self, size: int) -> None:
        """Room for ``size`` bytes more; raises SpoolFull."""
        with self._lock:
            if self._held + size > self._max_bytes:
                reached(self._limit)
                raise SpoolFull(f"{self._max_bytes} bytes are kept already ({self._limit})")
            self._held += size

    def give_back(self, size: int) -> None:
        """Room that is not needed any more."""
        with self._lock:
            self._held -= size

    def file(self) -> IO[bytes]:
        """A file without a name; raises OSError."""
        return tempfile.TemporaryFile(dir=self._directory, buffering=0)


class SpoolFile:
    """Bytes one behind the other; any stretch of them can be read again. For one thread at a time."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._memory = bytearray()
        self._file: IO[bytes] | None = None
        self._closed = False
        self.size = 0

    def append(self, data: bytes) -> None:
        """Take all of ``data``, or raise SpoolFull and be as before."""
        if self._closed:
            raise SpoolFull("the answer is over")
        self._spool.take(len(data))
        try:
            self._store(data)
        except OSError as error:
            self._spool.give_back(len(data))
            raise SpoolFull(f"the directory of temporary files takes no more ({type(error).__name__})") from error
        self.size += len(data)

    def _store(self, data: bytes) -> None:
        if self._file is None:
            if self.size + len(data) <= _IN_MEMORY:
                self._memory += data
                return
            file = self._spool.file()
            try:
                _write(file, self._memory, 0)
            except OSError:
                file.close()
                raise
            self._file, self._memory = file, bytearray()
        _write(self._file, data, self.size)

    def blocks(self, start: int, end: int) -> Iterator[bytes]:
        """The bytes from ``start`` to before ``end``. Raises OSError when they cannot be read back."""
        while start < end:
            if self._closed:
                raise OSError("the file is closed")
            size = min(_READ, end - start)
            if self._file is None:
                data = bytes(self._memory[start : start + size])
            else:
                data = os.pread(self._file.fileno(), size, start)
            if not data:
                raise OSError("what was kept is not there any more")
            start += len(data)
            yield data

    def close(self) -> None:
        """Give the room back; idempotent."""
        if self._closed:
            return
        self._closed = True
        self._spool.give_back(self.size)
        self._memory = bytearray()
        if self._file is not None:
            self._file.close()


def _write(file: IO[bytes], data: bytes | bytearray, at: int) -> None:
    with memoryview(data) as view:
        done = 0
        while done < len(view):
            done += os.pwrite(file.fileno(), view[done:], at + done)
