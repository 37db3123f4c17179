"""Documents in a directory of a local file system (not for network file systems without working ``fsync``).

Layout below the root: ``incoming/KEY`` while an object is uploaded, ``objects/abc/KEY`` afterwards, where ``abc`` are
the first three hex digits of the key. All 4,096 folders are made at the start, so that an upload costs two ``fsync``
(file and folder) and not two more for a new folder. Files are for the service's user alone.
"""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from repository.store.protocol import ObjectMissing, StoredObject, StoreRefused, StoreUnavailable

__all__ = ["DirectoryStore"]

BLOCK_BYTES: Final = 256 * 1024
SHARD_DIGITS: Final = 3
_KEY: Final = re.compile(r"[0-9a-f]{32}")
_SHARD: Final = re.compile(rf"[0-9a-f]{{{SHARD_DIGITS}}}")
_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        full = error.errno in _NO_ROOM
        reason = "no room left in the document store" if full else f"document store: {error.strerror}"
        raise StoreUnavailable(reason, full=full) from error


def _remove(*paths: Path) -> None:
    with _translated():
        for path in paths:
            try:
                path.unlink()
            except FileNotFoundError:
                _must_be_there(path.parent)
                continue
            _sync_folder(path.parent)


def _must_be_there(folder: Path) -> None:
    """A folder that is gone, with the disk that was mounted there, must not look like a document that is gone."""
    if not folder.is_dir():
        raise StoreUnavailable("document store: its folders are not there")


def _sync_folder(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class DirectoryStore:
    """``repository.store.protocol.DocumentStore`` on a directory.

    ``min_free_bytes`` of room are left alone, so that a database on the same disk can still write what happened.
    Folders that are not there are made; raises ``StoreRefused`` where that is not possible.
    """

    def __init__(self, root: Path, *, min_free_bytes: int = 0) -> None:
        self._incoming = root / "incoming"
        self._objects = root / "objects"
        self._min_free_bytes = min_free_bytes
        try:
            self._prepare(root)
        except OSError as error:
            raise StoreRefused(f"document store {error.filename or root}: {error.strerror}") from error

    @staticmethod
    def is_made(root: Path) -> bool:
        """Whether there is a store already, or something that only opening it can tell."""
        try:
            return (root / "objects").is_dir()
        except OSError:
            return True

    def _prepare(self, root: Path) -> None:
        for folder in (root, self._incoming, self._objects):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        present = {path.name for path in self._objects.iterdir()}
        missing = [name for name in (f"{n:0{SHARD_DIGITS}x}" for n in range(16**SHARD_DIGITS)) if name not in present]
        for name in missing:
            (self._objects / name).mkdir(mode=0o700, exist_ok=True)
        if missing:
            _sync_folder(self._objects)
            _sync_folder(root)

    def _object(self, key: str) -> Path:
        return self._objects / _checked(key)[:SHARD_DIGITS] / key

    def begin(self, key: str) -> "_FileUpload":
        """Begin to write an object."""
        self.keep_room(0)
        with _translated():
            return _FileUpload(self, self._incoming / _checked(key), self._object(key))

    def open(self, key: str) -> Iterator[bytes]:
        """The object's blocks; the file is open only while somebody iterates."""
        with _translated():
            try:
                handle = self._object(key).open("rb", buffering=0)
            except FileNotFoundError as error:
                _must_be_there(self._object(key).parent)
                raise ObjectMissing(key) from error
            with handle:
                while block := handle.read(BLOCK_BYTES):
                    yield block

    def size(self, key: str) -> int | None:
        """Size of a finished object."""
        with _translated():
            try:
                return self._object(key).stat().st_size
            except FileNotFoundError:
                _must_be_there(self._object(key).parent)
                return None

    def delete(self, key: str) -> None:
        """Remove object and unfinished upload."""
        _remove(self._incoming / _checked(key), self._object(key))

    def objects(self) -> Iterator[StoredObject]:
        """Everything that lies in the store."""
        with _translated():
            yield from _files(self._incoming, complete=False)
            # What somebody else put beside them (a file manager, a backup) is none of ours.
            for shard in sorted(path for path in self._objects.iterdir() if _SHARD.fullmatch(path.name)):
                yield from _files(shard, complete=True)

    def free_bytes(self) -> int | None:
        """Room for an unprivileged process on this file system; none where it is read-only, as after a disk's fault."""
        with _translated():
            found = os.statvfs(self._objects)
            return 0 if found.f_flag & os.ST_RDONLY else found.f_bavail * found.f_frsize

    def keep_room(self, wanted: int) -> None:
        """Raise ``StoreUnavailable`` unless ``wanted`` bytes fit and ``min_free_bytes`` are left."""
        if self._min_free_bytes and (self.free_bytes() or 0) < wanted + self._min_free_bytes:
            kept = f"no room left in the document store, {self._min_free_bytes} bytes of which are kept free"
            raise StoreUnavailable(f"{kept} (setting min_free_bytes)", full=True)


class _FileUpload:
    """One file in ``incoming`` that ``finish`` moves to its place."""

    def __init__(self, store: DirectoryStore, incoming: Path, target: Path) -> None:
        self._store = store
        self._incoming = incoming
        self._target = target
        self._finished = False
        self._foreign = False
        self._handle: int | None = os.open(incoming, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)

    def write(self, block: bytes) -> None:
        if self._handle is None:
            raise StoreUnavailable("upload is already closed")
        self._store.keep_room(len(block))
        rest = memoryview(block)
        with _translated():
            while rest:
                rest = rest[os.write(self._handle, rest) :]

    def finish(self) -> None:
        if self._finished:
            return
        if self._handle is None:
            raise StoreUnavailable("upload is already closed")
        with _translated():
            try:
                os.fsync(self._handle)
            finally:
                # After a failed fsync the kernel calls the pages clean: asking again would say yes without a reason.
                self._close()
            if self._target.exists():
                self._foreign = True
                raise StoreUnavailable("object key is already in use")
            self._incoming.rename(self._target)
            _sync_folder(self._target.parent)
        self._finished = True

    def abort(self) -> None:
        """Durable: its row will be forgotten next. An object of somebody else under this key stays."""
        self._close()
        if self._foreign:
            _remove(self._incoming)
        else:
            self._store.delete(self._target.name)

    def _close(self) -> None:
        handle, self._handle = getattr(self, "_handle", None), None
        if handle is not None:
            os.close(handle)

    def __del__(self) -> None:
        # A connection that dies leaves the file to the sweep, but must not leave its handle.
        self._close()


def _checked(key: str) -> str:
    if not _KEY.fullmatch(key):
        raise ValueError("not an object key")
    return key


def _files(folder: Path, *, complete: bool) -> Iterator[StoredObject]:
    with os.scandir(folder) as rows:
        for row in rows:
            if not _KEY.fullmatch(row.name):
                continue
            try:
                found = row.stat()
            except FileNotFoundError:  # gone since it was listed
                continue
            yield StoredObject(row.name, found.st_size, found.st_mtime_ns // 1000, complete)
