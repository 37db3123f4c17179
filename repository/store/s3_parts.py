"""Parts of an object on their way to a bucket: they gather in memory or in temporary files, and are sent from memory.

A part is sent by a thread of the store's own, so that the next one gathers meanwhile. However many uploads there are, a
process has ``SENT_AT_ONCE`` parts in memory to be sent, and as many as ``GATHERED_BYTES`` hold to gather; those of
further uploads, many slow ones say, gather in files and come into memory when their turn has come.
"""

import errno
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Final

from repository.store.protocol import StoreUnavailable
from repository.store.s3_client import UploadedPart
from wire.processor import stay_free

__all__ = ["GATHERED_AT_ONCE", "SENT_AT_ONCE", "Part", "Senders"]

IN_MEMORY_BYTES: Final = 256 * 1024
"""An object up to this size, and the beginning of any other, needs no temporary file."""
SENT_AT_ONCE: Final = 2
"""Parts on their way to the bucket, of each process."""
GATHERED_AT_ONCE: Final = 2
GATHERED_BYTES: Final = 16 * 2**20
"""Parts that gather in memory, of each process: so many, if they are no larger together."""


@contextmanager
def _temporary() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        full = error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
        raise StoreUnavailable(f"folder of temporary files: {error.strerror}", full=full) from error


class Memory:
    """Room for parts of ``part_bytes``; the memory is used again: an allocator keeps much of it."""

    def __init__(self, part_bytes: int) -> None:
        self._part_bytes: Final = part_bytes
        self._idle: Final[list[bytearray]] = []
        self._gathering: Final = threading.BoundedSemaphore(max(1, self.gathered_at_once))
        self._sending: Final = threading.BoundedSemaphore(SENT_AT_ONCE)

    @property
    def gathered_at_once(self) -> int:
        """How many parts may gather in memory."""
        return min(GATHERED_AT_ONCE, GATHERED_BYTES // self._part_bytes)

    def to_gather(self) -> bytearray | None:
        """Room for a part that begins, or None: others have it. To be given to ``sent`` or to ``gathered_in_vain``."""
        if not self.gathered_at_once or not self._gathering.acquire(blocking=False):
            return None
        return self._taken()

    def gathered_in_vain(self, room: bytearray) -> None:
        """The part is given up."""
        self._idle.append(room)
        self._gathering.release()

    def to_send(self, gathered: bytearray | None) -> bytearray:
        """Wait until a part may be sent: room for it, or the room it has ``gathered`` in. To be given to ``sent``."""
        self._sending.acquire()
        if gathered is None:
            return self._taken()
        self._gathering.release()
        return gathered

    def sent(self, room: bytearray) -> None:
        """The part was sent, or could not be."""
        self._idle.append(room)
        self._sending.release()

    def _taken(self) -> bytearray:
        try:
            return self._idle.pop()
        except IndexError:
            return bytearray(self._part_bytes)


class Part:
    """Blocks of a part until it is full.

    Beyond ``IN_MEMORY_BYTES`` in the process's room for parts that gather, or else in a file without a name, sealed if
    they are.
    """

    def __init__(self, memory: Memory) -> None:
        self.size = 0
        self._memory = memory
        self._room: bytearray | None = None
        self._file = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY_BYTES)  # noqa: SIM115 - closed with the upload

    @property
    def is_large(self) -> bool:
        """Whether it is too large to be in memory beside others."""
        return self.size > IN_MEMORY_BYTES

    def add(self, block: bytes) -> None:
        """Raises StoreUnavailable where the folder of temporary files takes no more."""
        size = self.size + len(block)
        if self._room is None and self.size <= IN_MEMORY_BYTES < size:
            self._move_into(self._memory.to_gather())
        if self._room is not None:
            self._room[self.size : size] = block
        else:
            with _temporary():
                self._file.write(block)
        self.size = size

    def _move_into(self, room: bytearray | None) -> None:
        if room is not None:
            self._read_into(memoryview(room)[: self.size])
            self._room = room

    def hand_over(self) -> tuple[bytearray, memoryview]:
        """Wait until it may be sent: room of ``Memory.to_send``, and what is in it. The part is empty afterwards."""
        gathered, self._room = self._room, None
        room = self._memory.to_send(gathered)
        view = memoryview(room)[: self.size]
        if gathered is None:
            try:
                self._read_into(view)
            except BaseException:
                self._memory.sent(room)
                raise
        self.size = 0
        return room, view

    def take(self) -> memoryview:
        """All of a part that is not large; empty afterwards."""
        view = memoryview(bytearray(self.size))
        self._read_into(view)
        self.size = 0
        return view

    def _read_into(self, view: memoryview) -> None:
        """All that is in the file, which is empty afterwards."""
        with _temporary():
            self._file.seek(0)
            count = self._file.readinto(view)
            self._file.seek(0)
            self._file.truncate()
        if count != len(view):
            raise StoreUnavailable("folder of temporary files: less came back than was written")

    def close(self) -> None:
        """Give room and file back; what could not be written is of no use any more."""
        room, self._room = self._room, None
        if room is not None:
            self._memory.gathered_in_vain(room)
        with suppress(OSError):
            self._file.close()

    def __del__(self) -> None:
        self.close()


class Senders:
    """Threads and memory for parts of ``part_bytes``."""

    def __init__(self, part_bytes: int) -> None:
        self.memory: Final = Memory(part_bytes)
        self._threads: Final = ThreadPoolExecutor(SENT_AT_ONCE, thread_name_prefix="s3 parts", initializer=stay_free)

    def send(self, part: Part, put: Callable[[memoryview], UploadedPart]) -> "Future[UploadedPart]":
        """Empty the part and send what was in it; waits until it may be sent, not for the sending."""
        room, view = part.hand_over()
        try:
            sending = self._threads.submit(put, view)
        except BaseException:
            self.memory.sent(room)
            raise
        sending.add_done_callback(lambda _sent: self.memory.sent(room))
        return sending

    @contextmanager
    def taken(self, part: Part) -> Iterator[memoryview]:
        """All of a part for the caller to send; of large ones only some are in memory at once."""
        if not part.is_large:
            yield part.take()
            return
        room, view = part.hand_over()
        try:
            yield view
        finally:
            self.memory.sent(room)
