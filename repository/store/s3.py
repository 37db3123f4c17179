"""Documents in a bucket of any S3 server.

An object's name is the prefix and its key. What fits one part is one PUT at ``finish``; anything larger is a multipart
upload whose parts are sent as they fill, while the next one gathers: no thread waits for a slow sender, and a sender
waits only when two of its parts are on their way. A part gathers in a temporary file and is in memory only while it is
sent. Its object appears whole or not at all.

Each upload has a random token in the object's metadata. When an answer is lost, or a repeat is told that the object
is there already, the token says whether it is ours. ``If-None-Match: *`` keeps a server that knows it from replacing an
object; one that does not is left with the random keys.

In a bucket with versions ``delete`` removes every version. A version under object lock cannot be removed before its
time: ``ObjectLocked``. An unfinished multipart upload is listed without a size, and not at all by a MinIO server, which
finds it by its whole name only; the rows of the index hold those names.
"""

import re
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, wait
from datetime import datetime
from functools import partial
from typing import Final

from minio.datatypes import Object
from urllib3.exceptions import HTTPError

from repository.store.protocol import ObjectLocked, ObjectMissing, StoredObject, StoreUnavailable
from repository.store.s3_client import BACKOFF_S, MARK, S3Client, S3Failed, Unfinished, UploadedPart
from repository.store.s3_parts import SENT_AT_ONCE, Part, Senders

__all__ = ["PART_BYTES", "S3Store"]

PART_BYTES: Final = 5 * 2**20
"""The least that S3 takes as a part that is not the last."""
MOST_PARTS: Final = 10_000
BLOCK_BYTES: Final = 256 * 1024
TURNS: Final = 3
_KEY: Final = re.compile(r"[0-9a-f]{32}")
_LOCKED: Final = frozenset({"AccessDenied", "InvalidRequest", "ObjectLocked"})
"""What servers answer to the deletion of a version under lock."""
_NEW: Final[Mapping[str, str]] = {"If-None-Match": "*"}


class S3Store:
    """``repository.store.protocol.DocumentStore`` in a bucket.

    ``prefix`` is empty or ends with ``/``. A part of ``part_bytes`` gathers in a temporary file.
    """

    def __init__(self, client: S3Client, prefix: str = "", *, part_bytes: int = PART_BYTES) -> None:
        self._client = client
        self._prefix = prefix
        self._part_bytes = part_bytes
        self.senders: Final = Senders(part_bytes)
        self._versioned: bool | None = None
        self._condition = _NEW

    def name(self, key: str) -> str:
        """The object's name in the bucket."""
        if not _KEY.fullmatch(key):
            raise ValueError("not an object key")
        return self._prefix + key

    def begin(self, key: str) -> "_S3Upload":
        """Begin to write an object; nothing is sent before its first part is full."""
        return _S3Upload(self, self._client, key, self._part_bytes)

    def open(self, key: str) -> Iterator[bytes]:
        """The object's blocks; a connection is held only while somebody iterates."""
        response = self._client.get(self.name(key))
        whole = False
        try:
            length = response.headers.get("content-length", "")
            if not length.isdecimal():
                raise StoreUnavailable("the object store does not say how long an object is")
            rest = int(length)
            while rest:
                block = _read(response.read, min(rest, BLOCK_BYTES))
                if not block:
                    raise StoreUnavailable("the object store broke off in the middle of an object")
                rest -= len(block)
                yield block
            whole = True
        finally:
            if whole:
                response.drain_conn()
                response.release_conn()
            else:
                response.close()

    def size(self, key: str) -> int | None:
        """Size of a finished object."""
        found = self._client.head(self.name(key))
        return None if found is None else found.size

    def delete(self, key: str) -> None:
        """Remove object, its versions and its unfinished uploads; raises ``ObjectLocked`` while a lock forbids it."""
        name = self.name(key)
        self.abort_uploads(key)
        if self._versioned is None:
            self._versioned = self._client.versioned()
        if not self._versioned:
            try:
                self._versioned = self._client.remove(name) or self._versioned
            except ObjectMissing:
                return
        if self._versioned:
            self._remove_versions(name)

    def objects(self) -> Iterator[StoredObject]:
        """Everything that lies under the prefix."""
        for found in self._uploads(self._prefix):
            key = self._key(found.name)
            if key is not None:
                yield StoredObject(key, 0, _microseconds(found.begun), complete=False)
        for stored in self._client.objects(self._prefix):
            key = self._key(stored.object_name or "")
            if key is not None:
                yield StoredObject(key, stored.size or 0, _microseconds(stored.last_modified), complete=True)

    def free_bytes(self) -> int | None:
        """S3 does not say."""
        return None

    def only_new(self, request: Callable[[Mapping[str, str]], None]) -> None:
        """Make a request on the condition that the object is new, without where a server refuses the condition."""
        try:
            request(self._condition)
        except S3Failed as error:
            if not error.not_offered or not self._condition:
                raise
            self._condition = {}
            request(self._condition)

    def _key(self, name: str) -> str | None:
        key = name.removeprefix(self._prefix)
        return key if _KEY.fullmatch(key) else None

    def _uploads(self, prefix: str) -> Iterator[Unfinished]:
        try:
            yield from self._client.uploads(prefix)
        except S3Failed as error:
            if not error.not_offered:
                raise

    def abort_uploads(self, key: str) -> None:
        """Forget every unfinished upload of an object."""
        name = self.name(key)
        for found in list(self._uploads(name)):
            if found.name == name:
                self._client.abort_upload(name, found.upload_id)

    def _remove_versions(self, name: str) -> None:
        for version in list(self._client.versions(name)):
            if version.object_name == name and version.version_id:
                self._remove_version(name, version)

    def _remove_version(self, name: str, version: Object) -> None:
        assert version.version_id is not None
        try:
            self._client.remove_version(name, version.version_id)
        except ObjectMissing:
            return
        except S3Failed as error:
            if error.code not in _LOCKED:
                raise
            why = self._client.locked_until(name, version.version_id)
            if why is None and error.code != "ObjectLocked":
                raise
            raise ObjectLocked(f"the object store keeps an object: {why or 'locked'}") from error


class _S3Upload:
    """Gathers blocks until a part is full; see the module for how it ends."""

    def __init__(self, store: S3Store, client: S3Client, key: str, part_bytes: int) -> None:
        self._store = store
        self._client = client
        self._key = key
        self._name = store.name(key)
        self._part_bytes = part_bytes
        self._token = secrets.token_hex(16)
        self._part = Part()
        self._size = 0
        self._upload_id: str | None = None
        self._parts: tuple[UploadedPart, ...] = ()
        self._sending: deque[Future[UploadedPart]] = deque()
        self._open = True
        self._finished = False
        self._sent = False
        self._strays = False
        self._foreign = False

    def write(self, block: bytes) -> None:
        """Take a block; sends a part when that is full."""
        self._must_be_open()
        while self._part.size + len(block) > self._part_bytes:
            room = self._part_bytes - self._part.size
            self._hold(block[:room])
            block = block[room:]
            self._send_part()
        self._hold(block)

    def finish(self) -> None:
        """Make the object durable and visible."""
        if self._finished:
            return
        self._must_be_open()
        if self._upload_id is None:
            self._open = False
            self._sent = True
            with self._store.senders.taken(self._part) as data:
                self._settle(lambda: self._store.only_new(partial(self._put, data)), turns=1)
        else:
            self._send_part()
            self._open = False
            self._await_parts(at_most=0)
            upload_id = self._upload_id
            self._settle(lambda: self._store.only_new(partial(self._complete, upload_id)), turns=TURNS)
        self._finished = True
        self._part.close()
        if self._strays:
            self._store.abort_uploads(self._key)

    def abort(self) -> None:
        """Remove whatever was sent; an object of somebody else under this key stays."""
        self._open = False
        self._part.close()
        wait(self._sending)  # what they came to is of no interest any more
        if not self._sent:
            return
        if self._foreign:
            self._store.abort_uploads(self._key)
        else:
            self._store.delete(self._key)
        self._sent = False

    def _must_be_open(self) -> None:
        if not self._open:
            raise StoreUnavailable("upload is already closed")

    def _hold(self, block: bytes) -> None:
        self._part.add(block)
        self._size += len(block)

    def _send_part(self) -> None:
        """One part; after a failure the upload can only be aborted."""
        self._open = False
        number = len(self._parts) + len(self._sending) + 1
        if number > MOST_PARTS:
            raise StoreUnavailable(f"an object of more than {MOST_PARTS} parts; upload_part_bytes is too small")
        if self._upload_id is None:
            self._upload_id = self._create()
        self._await_parts(at_most=SENT_AT_ONCE - 1)
        put = partial(self._client.put_part, self._name, self._upload_id, number)
        self._sending.append(self._store.senders.send(self._part, put))
        self._open = True

    def _await_parts(self, *, at_most: int) -> None:
        """Until so many parts are on their way; raises what a part came to."""
        while len(self._sending) > at_most:
            self._parts += (self._sending.popleft().result(),)

    def _create(self) -> str:
        """Begin the multipart upload; one whose answer was lost is a stray and removed when this one is done."""
        self._sent = True
        headers = {MARK: self._token, "Content-Type": "application/octet-stream"}
        for turn in range(TURNS - 1):
            try:
                return self._client.create_upload(self._name, headers)
            except S3Failed as error:
                if not error.unclear:
                    raise
                self._strays = True
                time.sleep(BACKOFF_S * 2**turn)
        return self._client.create_upload(self._name, headers)

    def _put(self, data: memoryview, condition: Mapping[str, str]) -> None:
        self._client.put(self._name, data, {MARK: self._token, **condition})

    def _complete(self, upload_id: str, condition: Mapping[str, str]) -> None:
        self._client.complete_upload(self._name, upload_id, self._parts, condition)
        if not self._is_ours():
            raise S3Failed("an upload was joined but its object is not there", unclear=True)

    def _settle(self, request: Callable[[], None], *, turns: int) -> None:
        """Make the last request, and where it is unclear whether it was done, look before it is made again."""
        for turn in range(turns):
            try:
                request()
                break
            except S3Failed as error:
                if not error.unclear:
                    raise
                if self._is_ours():
                    break
                if error.code == "NoSuchUpload" or turn + 1 == turns:
                    raise
                time.sleep(BACKOFF_S * 2**turn)

    def _is_ours(self) -> bool:
        """Whether the finished object is the one of this upload; raises if it is somebody else's."""
        found = self._client.head(self._name)
        if found is None:
            return False
        if found.token != self._token:
            self._foreign = True
            raise StoreUnavailable("object key is already in use")
        if found.size != self._size:
            raise StoreUnavailable("the object store has another number of bytes than it was sent")
        return True


def _read(read: Callable[..., bytes], amount: int) -> bytes:
    try:
        return read(amount, decode_content=False)
    except (HTTPError, OSError, ValueError) as error:
        raise StoreUnavailable("the object store broke off in the middle of an object") from error


def _microseconds(when: datetime | None) -> int:
    return 0 if when is None else int(when.timestamp() * 1_000_000)
