"""Parts of an object on their way to a bucket: they gather in temporary files, and come into memory to be sent.

A part is sent by a thread of the store's own, so that the next one gathers meanwhile; ``SENT_AT_ONCE`` bounds threads
and memory of a process, however many uploads there are.
"""

import errno
import queue
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Final

from repository.store.protocol import StoreUnavailable
from repository.store.s3_client import UploadedPart
from wire.processor import stay_free

__all__ = ["SENT_AT_ONCE", "Part", "Senders"]

IN_MEMORY_BYTES: Final = 256 * 1024
"""An object up to this size, and the beginning of any other, needs no temporary file."""
SENT_AT_ONCE: Final = 2
"""Parts out of temporary files that are in memory at once, of each process."""


@contextmanager
def _temporary() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        full = error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
        raise StoreUnavailable(f"folder of temporary files: {error.strerror}", full=full) from error


class Part:
    """Blocks of a part until it is full; beyond ``IN_MEMORY_BYTES`` in a file without a name, sealed if they are."""

    def __init__(self) -> None:
        self.size = 0
        self._file = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY_BYTES)  # noqa: SIM115 - closed with the upload

    @property
    def in_file(self) -> bool:
        """Whether it is too large to be in memory beside others."""
        return self.size > IN_MEMORY_BYTES

    def add(self, block: bytes) -> None:
        """Raises StoreUnavailable where the folder of temporary files takes no more."""
        with _temporary():
            self._file.write(block)
        self.size += len(block)

    def take_into(self, buffer: bytearray) -> memoryview:
        """All of it; empty afterwards."""
        view = memoryview(buffer)[: self.size]
        with _temporary():
            self._file.seek(0)
            count = self._file.readinto(view)
            self._file.seek(0)
            self._file.truncate()
        if count != self.size:
            raise StoreUnavailable("folder of temporary files: less came back than was written")
        self.size = 0
        return view

    def close(self) -> None:
        """Give the file back; what it could not write is of no use any more."""
        with suppress(OSError):
            self._file.close()

    def __del__(self) -> None:
        self.close()


class Senders:
    """Threads and memory for parts of ``part_bytes``; the memory is used again: an allocator keeps much of it."""

    def __init__(self, part_bytes: int) -> None:
        self._part_bytes: Final = part_bytes
        self._threads: Final = ThreadPoolExecutor(SENT_AT_ONCE, thread_name_prefix="s3 parts", initializer=stay_free)
        self._free: Final[queue.SimpleQueue[bytearray | None]] = queue.SimpleQueue()
        for _ in range(SENT_AT_ONCE):
            self._free.put(None)

    def send(self, part: Part, put: Callable[[memoryview], UploadedPart]) -> "Future[UploadedPart]":
        """Empty the part and send what was in it; waits for memory, not for the sending."""
        buffer = self._buffer()
        try:
            sending = self._threads.submit(put, part.take_into(buffer))
        except BaseException:
            self._free.put(buffer)
            raise
        sending.add_done_callback(lambda _sent: self._free.put(buffer))
        return sending

    @contextmanager
    def taken(self, part: Part) -> Iterator[memoryview]:
        """All of a part for the caller to send; of those that lay in a file only some are in memory at once."""
        if not part.in_file:
            yield part.take_into(bytearray(part.size))
            return
        buffer = self._buffer()
        try:
            yield part.take_into(buffer)
        finally:
            self._free.put(buffer)

    def _buffer(self) -> bytearray:
        free = self._free.get()
        return bytearray(self._part_bytes) if free is None else free
