"""What a document store can do, found out by doing it: the work of ``dossier store check``.

Everything happens in a folder of its own below the store's place, so that neither the sweep nor a reader of documents
meets it, and is removed at the end; what cannot be removed is told. In a bucket that locks whatever is written only
one small object is written.
"""

import base64
import hashlib
import os
import secrets
import shutil
import socket
import ssl
import statistics
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from repository.settings import Bucket, RepositorySettings, store_bucket, store_directory
from repository.store.directory import DirectoryStore
from repository.store.opening import NO_KEY, anonymous_client, bucket_client
from repository.store.protocol import DocumentStore, ObjectMissing, StoreUnavailable
from repository.store.s3 import S3Store
from repository.store.s3_client import ENCRYPTED, S3Failed

__all__ = ["Finding", "probe"]

LARGE_BYTES: Final = 12 * 2**20
ROUNDS: Final = 7
MOST_CLOCK_S: Final = 60
LOCK_S: Final = 4
NETWORK: Final = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "fuse.sshfs", "9p"})


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: ``holds`` is None for what was not tried; ``remedy`` says what to do where it does not hold."""

    what: str
    result: str
    needed: bool
    holds: bool | None
    remedy: str | None = None

    @property
    def missing(self) -> bool:
        """Whether production cannot do without it."""
        return self.needed and self.holds is False


class _Lacking(Exception):  # noqa: N818 - an outcome
    """It does not hold; the text is the result."""


def probe(settings: RepositorySettings) -> tuple[Finding, ...]:
    """Try the store of the settings. Raises ``StoreUnavailable`` where it cannot even be opened."""
    folder = f"store-check-{secrets.token_hex(6)}"
    bucket = store_bucket(settings.store)
    if bucket is None:
        return _Directory(settings, store_directory(settings.store), folder).findings()
    return _InBucket(settings, bucket, folder).findings()


class _Probe:
    """What both kinds of store have; ``_try`` turns whatever a check does into a line."""

    def __init__(self, store: DocumentStore) -> None:
        self._store = store
        self._keys: list[str] = []
        self._found: list[Finding] = []

    def _new_key(self) -> str:
        self._keys.append(secrets.token_hex(16))
        return self._keys[-1]

    def _try(self, what: str, check: Callable[[], str], *, needed: bool, remedy: str | None = None) -> bool:
        holds = True
        try:
            result = check()
        except _Lacking as lacking:
            holds, result = False, str(lacking)
        except (StoreUnavailable, ObjectMissing, OSError) as error:
            holds, result = False, str(error) or type(error).__name__
        self._found.append(Finding(what, result, needed, holds, None if holds else remedy))
        return holds

    def _write(self, data: bytes, key: str | None = None) -> str:
        key = key or self._new_key()
        upload = self._store.begin(key)
        try:
            upload.write(data)
            upload.finish()
        except BaseException:
            upload.abort()
            raise
        return key

    def _same(self, size: int) -> str:
        data = os.urandom(size)
        began = time.monotonic()
        key = self._write(data)
        written = time.monotonic()
        if b"".join(self._store.open(key)) != data or self._store.size(key) != size:
            raise _Lacking("other bytes come back than were written")
        rate = size / 2**20
        read = time.monotonic()
        took = f"{rate / (written - began):.0f} MiB/s in, {rate / (read - written):.0f} MiB/s out"
        return took if size >= 2**20 else "the same bytes come back"

    def _no_overwrite(self) -> str:
        key = self._write(b"first")
        with suppress(StoreUnavailable):
            self._write(b"second", key)
        if b"".join(self._store.open(key)) != b"first":
            raise _Lacking("a second object of the same name replaces the first")
        return "a second object of the same name is refused"

    def _listing(self) -> str:
        keys = {self._write(b"x") for _ in range(3)}
        if not keys <= {found.key for found in self._store.objects() if found.complete}:
            raise _Lacking("an object that was just written is not listed")
        return "what was just written is listed"

    def _deleting(self) -> str:
        key = self._write(b"x")
        self._store.delete(key)
        if self._store.size(key) is not None or key in {found.key for found in self._store.objects()}:
            raise _Lacking("a deleted object is still there")
        return "a deleted object is gone at once"

    def _unfinished_listed(self) -> str:
        key = self._new_key()
        self._store.begin(key).write(bytes(LARGE_BYTES))
        if (key, False) not in {(found.key, found.complete) for found in self._store.objects()}:
            raise _Lacking("not listed; they are removed by the names that the database holds")
        return "listed"

    def _latency(self) -> str:
        puts, gets = [], []
        for _ in range(ROUNDS):
            began = time.monotonic()
            key = self._write(bytes(1000))
            puts.append(time.monotonic() - began)
            began = time.monotonic()
            b"".join(self._store.open(key))
            gets.append(time.monotonic() - began)
        times = [statistics.median(one) * 1000 for one in (puts, gets)]
        return f"median of {ROUNDS} small objects: {times[0]:.1f} ms in, {times[1]:.1f} ms out"

    def _common(self) -> None:
        self._try("large object in parts", lambda: self._same(LARGE_BYTES), needed=True)
        self._try(
            "no overwrite", self._no_overwrite, needed=False,
            remedy="names are random and never used twice; a server that knows If-None-Match is safer",
        )  # fmt: skip
        self._try("listing", self._listing, needed=True)
        self._try("deletion", self._deleting, needed=True)
        self._try(
            "unfinished uploads", self._unfinished_listed, needed=False,
            remedy="let the bucket abort unfinished uploads after a week (AbortIncompleteMultipartUpload)",
        )  # fmt: skip
        self._try("latency", self._latency, needed=False)


class _Directory(_Probe):
    """A directory: also room, rights, and what kind of file system it is on."""

    def __init__(self, settings: RepositorySettings, root: Path, folder: str) -> None:
        self._settings = settings
        self._root = root
        self._folder = root / folder
        self._missing = [path for path in (root, *root.parents) if not path.exists()]
        try:
            root.mkdir(mode=0o700, parents=True, exist_ok=True)  # as the service makes it
            super().__init__(DirectoryStore(self._folder, min_free_bytes=settings.min_free_bytes))
        except OSError as error:
            raise StoreUnavailable(f"document store: {error.strerror}") from error

    def findings(self) -> tuple[Finding, ...]:
        try:
            self._try("write and read back", lambda: self._same(65_536), needed=True)
            self._common()
            self._try("free room", self._room, needed=True, remedy="free some, or lower repository.min_free_bytes")
            self._try("for its user alone", self._rights, needed=True, remedy=f"chmod 700 {self._root}")
            self._try("local file system", self._local, needed=True, remedy="use a local disk or an object store")
        finally:
            self._try("nothing left behind", self._tidy, needed=True)
        self._found.append(Finding("encryption at rest", "not known here: that of the disk", needed=False, holds=None))
        return tuple(self._found)

    def _room(self) -> str:
        free = self._store.free_bytes() or 0
        if free <= self._settings.min_free_bytes:
            raise _Lacking(f"{free:,} bytes")
        return f"{free / 2**30:.1f} GiB"

    def _rights(self) -> str:
        mode = self._root.stat().st_mode & 0o777
        if mode & 0o077:
            raise _Lacking(f"mode {mode:03o}: others on this machine may look into it")
        return f"mode {mode:03o}"

    def _local(self) -> str:
        kind = _file_system(self._root)
        if kind in NETWORK:
            raise _Lacking(f"{kind}: a network file system may say that bytes are safe before they are")
        return kind or "not known"

    def _tidy(self) -> str:
        shutil.rmtree(self._folder)
        for path in self._missing:
            try:
                path.rmdir()
            except OSError:  # a service began to use it meanwhile
                break
        return "nothing"


def _file_system(path: Path) -> str | None:
    """Kind of the file system, from /proc/mounts: the longest mount point above the path."""
    try:
        rows = [line.split() for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines()]
    except OSError:
        return None
    above = [row for row in rows if path.resolve().is_relative_to(row[1].replace("\\040", " "))]
    return max(above, key=lambda row: len(row[1]))[2] if above else None


class _InBucket(_Probe):
    """A bucket: also what only a network, a key and a server of others can get wrong."""

    def __init__(self, settings: RepositorySettings, bucket: Bucket, folder: str) -> None:
        self._settings = settings
        self._bucket = bucket
        self._client = bucket_client(settings, bucket)
        self._prefix = f"{bucket.prefix}{folder}/"
        self._s3 = S3Store(self._client, self._prefix)
        self._locks: str | None = None
        super().__init__(self._s3)

    def findings(self) -> tuple[Finding, ...]:
        self._try("TLS", self._tls, needed=True, remedy="use s3+https with a certificate of an authority in store_ca")
        if not self._try("reached with our key", self._reached, needed=True, remedy="see the settings store…"):
            return tuple(self._found)
        self._try("wrong secret", lambda: self._refuses(wrong=True), needed=True, remedy="no server for documents")
        self._try("no key", lambda: self._refuses(wrong=False), needed=True, remedy="make the bucket private")
        self._try("clock", self._clock, needed=True, remedy="let both follow a time server")
        self._try("versioning", self._versioning, needed=False)
        self._try("object lock", self._lock_mode, needed=False)
        try:
            self._try("write and read back", lambda: self._same(65_536), needed=True)
            if self._locks is None:
                self._writing()
        finally:
            self._try("nothing left behind", self._tidy, needed=self._locks is None)
        if self._locks is not None:
            why = f"not tried: the bucket locks what is written ({self._locks})"
            self._found.append(Finding("parts, deletion and the rest", why, needed=False, holds=None))
        return tuple(self._found)

    def _writing(self) -> None:
        self._common()
        self._try("unfinished uploads removed", self._unfinished_removed, needed=True)
        self._try("parts of an object", self._range, needed=False)
        self._try(
            "checksums", self._checksum, needed=True, remedy="a server that does not compare may keep other bytes"
        )
        self._try("object lock holds", self._lock_holds, needed=False)
        self._try("encryption at rest", self._encryption, needed=False, remedy="of the server; ours does not need it")

    def _tls(self) -> str:
        if not self._bucket.secure:
            return "none: a loopback address"
        host, _, port = self._bucket.endpoint.rpartition(":") if ":" in self._bucket.endpoint else ("", "", "443")
        host = (host or self._bucket.endpoint).strip("[]")
        ca = self._settings.store_ca
        context = ssl.create_default_context(cafile=None if ca is None else str(ca))
        wait_s = self._settings.store_connect_timeout_s
        with (
            socket.create_connection((host, int(port)), wait_s) as plain,
            context.wrap_socket(plain, server_hostname=host) as secured,
        ):
            ends = ssl.cert_time_to_seconds(str((secured.getpeercert() or {}).get("notAfter", "")))
            days = (ends - time.time()) / 86_400
            return f"{secured.version()}, certificate good for {days:.0f} days"

    def _reached(self) -> str:
        self._s3.size(NO_KEY)
        return f"bucket {self._bucket.name}"

    def _refuses(self, *, wrong: bool) -> str:
        other = (
            bucket_client(self._settings, self._bucket, secret_key=secrets.token_hex(20))
            if wrong
            else anonymous_client(self._settings, self._bucket)
        )
        asks: tuple[Callable[[], object], ...] = (
            other.check_bucket,
            lambda: next(other.objects(self._prefix), None),
            lambda: other.put(self._s3.name(self._new_key()), b"x", {}),
        )
        for ask in asks:
            try:
                ask()
            except S3Failed as error:
                if not error.refused:
                    raise
            else:
                raise _Lacking("accepted")
        return "refused"

    def _clock(self) -> str:
        theirs = self._client.check_bucket()
        if theirs is None:
            raise _Lacking("the server does not say its time")
        apart = abs((datetime.now(UTC) - theirs).total_seconds())
        if apart > MOST_CLOCK_S:
            raise _Lacking(f"{apart:.0f} s apart; requests are refused from 15 minutes on")
        return f"{apart:.0f} s apart"

    def _versioning(self) -> str:
        versioned = self._client.versioned()
        if versioned is None:
            raise _Lacking("the server does not say")
        return "on: deletion removes every version" if versioned else "off"

    def _lock_mode(self) -> str:
        try:
            found = self._client.asked(lambda client: client.get_object_lock_config(self._bucket.name))
        except S3Failed as error:
            if error.refused or error.not_offered or error.code == "ObjectLockConfigurationNotFoundError":
                raise _Lacking("off") from error
            raise
        if found.mode:
            self._locks = f"{found.mode}, {found.duration} {found.duration_unit}"
            return f"on, by default {self._locks}: what is refused or removed stays until then"
        return "on, nothing is locked by default"

    def _lock_holds(self) -> str:
        name = self._s3.name(self._new_key())
        until = datetime.now(UTC) + timedelta(seconds=LOCK_S)
        lock = {
            "x-amz-object-lock-mode": "GOVERNANCE",
            "x-amz-object-lock-retain-until-date": until.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        try:
            self._client.put(name, b"x", lock)
        except S3Failed as error:
            raise _Lacking("not offered in this bucket") from error
        (version,) = self._client.versions(name)
        try:
            self._client.remove_version(name, version.version_id or "null")
        except S3Failed:
            time.sleep(max(0.0, (until - datetime.now(UTC)).total_seconds() + 1))
            return "a locked object cannot be deleted"
        raise _Lacking("a locked object was deleted")

    def _unfinished_removed(self) -> str:
        key = self._new_key()
        self._store.begin(key).write(bytes(LARGE_BYTES))
        self._store.delete(key)
        if any(found.name.endswith(key) for found in self._client.uploads(self._s3.name(key))):
            raise _Lacking("an unfinished upload stays")
        return "removed"

    def _range(self) -> str:
        key = self._write(bytes(range(100)))
        response = self._client.get(self._s3.name(key), {"Range": "bytes=10-19"})
        try:
            if response.status != 206 or response.read() != bytes(range(10, 20)):
                raise _Lacking("not offered")
        finally:
            response.close()
        return "ten bytes in the middle come back"

    def _checksum(self) -> str:
        wrong = base64.b64encode(hashlib.md5(b"other", usedforsecurity=False).digest()).decode()
        try:
            self._client.put(self._s3.name(self._new_key()), b"x", {"Content-MD5": wrong})
        except S3Failed as error:
            if error.code in {"BadDigest", "InvalidDigest"}:
                return "bytes with a wrong checksum are refused"
            raise
        raise _Lacking("bytes with a wrong checksum are accepted")

    def _encryption(self) -> str:
        name = self._s3.name(self._new_key())
        try:
            self._client.put(name, b"x", {ENCRYPTED: "AES256"})
        except S3Failed as error:
            raise _Lacking(f"not offered: {error}") from error
        found = self._client.head(name)
        if found is None or found.encryption is None:
            raise _Lacking("asked for and ignored")
        return f"offered ({found.encryption})"

    def _tidy(self) -> str:
        for key in self._keys:
            with suppress(StoreUnavailable):
                self._s3.delete(key)
        listed = self._client.versions if self._client.versioned() else self._client.objects
        left = {found.object_name for found in listed(self._prefix)}
        left |= {found.name for key in self._keys for found in self._client.uploads(self._s3.name(key))}
        if left:
            raise _Lacking(f"{len(left)} objects stay under {self._prefix}")
        return "nothing"
