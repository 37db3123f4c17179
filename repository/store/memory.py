"""Documents in memory: the contract of ``DocumentStore`` without a disk, for tests. Nothing survives the process."""

import threading
import time
from collections.abc import Iterator
from typing import Final

from repository.store.protocol import ObjectMissing, StoredObject, StoreUnavailable

__all__ = ["MemoryStore"]

BLOCK_BYTES: Final = 64 * 1024


class MemoryStore:
    """``repository.store.protocol.DocumentStore`` in a dictionary; ``capacity`` bytes, unbounded when None."""

    def __init__(self, capacity: int | None = None) -> None:
        self._capacity = capacity
        self._lock = threading.Lock()
        self._finished: dict[str, tuple[bytes, int]] = {}
        self._unfinished: dict[str, bytearray] = {}

    def begin(self, key: str) -> "_MemoryUpload":
        """Begin to write an object."""
        with self._lock:
            if key in self._finished or key in self._unfinished:
                raise StoreUnavailable("object key is already in use")
            self._unfinished[key] = bytearray()
        return _MemoryUpload(self, key)

    def open(self, key: str) -> Iterator[bytes]:
        """The object's blocks."""
        try:
            data, _ = self._finished[key]
        except KeyError as error:
            raise ObjectMissing(key) from error
        for start in range(0, len(data), BLOCK_BYTES):
            yield data[start : start + BLOCK_BYTES]

    def size(self, key: str) -> int | None:
        """Size of a finished object."""
        found = self._finished.get(key)
        return None if found is None else len(found[0])

    def delete(self, key: str) -> None:
        """Remove object and unfinished upload."""
        with self._lock:
            self._finished.pop(key, None)
            self._unfinished.pop(key, None)

    def objects(self) -> Iterator[StoredObject]:
        """Everything that lies in the store."""
        with self._lock:
            finished, unfinished = dict(self._finished), dict(self._unfinished)
        now = time.time_ns() // 1000
        yield from (StoredObject(key, len(data), now, complete=False) for key, data in unfinished.items())
        yield from (StoredObject(key, len(data), at, complete=True) for key, (data, at) in finished.items())

    def free_bytes(self) -> int | None:
        """Room that is left."""
        if self._capacity is None:
            return None
        with self._lock:
            return self._capacity - self._used()

    def _used(self) -> int:
        return sum(len(data) for data, _ in self._finished.values()) + sum(map(len, self._unfinished.values()))

    def append(self, key: str, block: bytes) -> None:
        """Take one more block of an upload."""
        with self._lock:
            if self._capacity is not None and self._used() + len(block) > self._capacity:
                raise StoreUnavailable("no room left in the document store", full=True)
            if key not in self._unfinished:
                raise StoreUnavailable("upload is already closed")
            self._unfinished[key] += block

    def publish(self, key: str) -> None:
        """Make an upload visible."""
        with self._lock:
            if key in self._unfinished:
                self._finished[key] = (bytes(self._unfinished.pop(key)), time.time_ns() // 1000)


class _MemoryUpload:
    def __init__(self, store: MemoryStore, key: str) -> None:
        self._store = store
        self._key = key

    def write(self, block: bytes) -> None:
        self._store.append(self._key, block)

    def finish(self) -> None:
        self._store.publish(self._key)

    def abort(self) -> None:
        self._store.delete(self._key)
