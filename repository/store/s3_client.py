"""One bucket of an S3 server through minio's client: its time-outs, its retries, its errors in our words.

What minio offers in public cannot drive a multipart upload block by block, nor put an object on a condition. So its
underscored ``_execute``, ``_upload_part``, ``_create_multipart_upload``, ``_abort_multipart_upload`` and
``_list_multipart_uploads`` are used, in this module alone; the tests of this module run them against real servers.

A request is repeated by the connection pool only where that is harmless: GET, HEAD, PUT, DELETE after a broken
connection, a time-out or 500, 502, 503, 504; POST only if nothing was sent. Redirects are not followed.
"""

import base64
import hashlib
import re
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Final, TypeVar, cast

import urllib3
from minio import Minio
from minio.datatypes import CompleteMultipartUploadResult, Object
from minio.error import InvalidResponseError, MinioException, S3Error, ServerError
from urllib3 import BaseHTTPResponse, HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError, SSLError

from repository.store.protocol import ObjectMissing, StoreUnavailable

T = TypeVar("T")

__all__ = ["Head", "S3Client", "S3Failed", "S3Options", "Unfinished", "UploadedPart"]

CONNECTIONS: Final = 32
RETRIES: Final = 2
BACKOFF_S: Final = 0.2
BACKOFF_MAX_S: Final = 2.0
PASSING: Final = frozenset({500, 502, 503, 504})
MARK: Final = "x-amz-meta-dossier-upload"
ENCRYPTED: Final = "x-amz-server-side-encryption"
_MD5: Final = re.compile(r"[0-9a-f]{32}")
_FULL: Final = frozenset({
    "InsufficientStorage", "InsufficientCapacity", "QuotaExceeded", "XMinioAdminBucketQuotaExceeded",
    "XMinioStorageFull",
})  # fmt: skip
_REFUSED: Final = frozenset({
    "AccessDenied", "AllAccessDisabled", "InvalidAccessKeyId", "InvalidToken", "SignatureDoesNotMatch",
})  # fmt: skip
_NOT_OFFERED: Final = frozenset({"MethodNotAllowed", "NotImplemented"})
_MISSPELT: Final = "self._next_upload_id_marker"
_CODE: Final = re.compile(r"[A-Za-z0-9.]{1,64}")


class S3Failed(StoreUnavailable):
    """The server refused or did not answer; ``code`` is S3's word, None when there was no answer that can be read.

    ``unclear``: the request may have been done all the same.
    """

    def __init__(self, reason: str, *, code: str | None = None, full: bool = False, unclear: bool = False) -> None:
        super().__init__(reason, full=full)
        self.code = code
        self.unclear = unclear

    @property
    def refused(self) -> bool:
        """Whether it is a question of rights."""
        return self.code in _REFUSED

    @property
    def not_offered(self) -> bool:
        """Whether the server does not have this operation."""
        return self.code in _NOT_OFFERED


@dataclass(frozen=True, slots=True)
class S3Options:
    """Where the bucket is and how long to wait.

    ``endpoint`` is ``host:port``, ``ca`` a PEM file (None: the system's authorities), times are seconds:
    ``connect_timeout_s`` for a connection, ``timeout_s`` for one part to be sent and for each piece of an answer.
    """

    endpoint: str
    secure: bool
    bucket: str
    access_key: str | None
    secret_key: str | None
    region: str = "us-east-1"
    ca: Path | None = None
    connect_timeout_s: float = 5
    timeout_s: float = 30


@dataclass(frozen=True, slots=True)
class Head:
    """What HEAD says of an object; ``token`` is the one its upload was given."""

    size: int
    token: str | None
    encryption: str | None = None


@dataclass(frozen=True, slots=True)
class UploadedPart:
    """A part of a multipart upload as the server named it."""

    number: int
    etag: str


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A multipart upload that was neither completed nor aborted."""

    name: str
    upload_id: str
    begun: datetime


class S3Client:
    """Requests about one bucket; safe for threads, not to be shared by processes.

    Every method may raise ``S3Failed``; names are whole object names.
    """

    def __init__(self, options: S3Options) -> None:
        self.options: Final = options
        self.bucket: Final = options.bucket
        self._minio = Minio(
            options.endpoint,
            access_key=options.access_key,
            secret_key=options.secret_key,
            secure=options.secure,
            region=options.region,
            http_client=_pool(options),
        )

    # ---------------------------------------------------------------------------------------------- writing

    def put(self, name: str, data: bytes | memoryview, headers: Mapping[str, str]) -> None:
        """Write a whole object; the server checks it against its MD5, and we what the server says it has."""
        digest = _md5(data)
        with translated():
            response = self._execute("PUT", name, body=data, headers={**_checked_by_server(digest), **headers})
        _compare(digest, response)

    def create_upload(self, name: str, headers: Mapping[str, str]) -> str:
        """Begin a multipart upload; its id."""
        with translated():
            return self._minio._create_multipart_upload(self.bucket, name, dict(headers))

    def put_part(self, name: str, upload_id: str, number: int, data: bytes | memoryview) -> UploadedPart:
        """Upload one part; numbers begin at 1, the same number again replaces the part."""
        query = {"partNumber": str(number), "uploadId": upload_id}
        digest = _md5(data)
        with translated():
            response = self._execute("PUT", name, body=data, headers=_checked_by_server(digest), query=query)
        _compare(digest, response)
        return UploadedPart(number, _etag(response))

    def complete_upload(
        self, name: str, upload_id: str, parts: tuple[UploadedPart, ...], headers: Mapping[str, str]
    ) -> None:
        """Make one object of the parts. A server may answer 200 and say in the body that it failed."""
        rows = "".join(
            f'<Part><PartNumber>{part.number}</PartNumber><ETag>"{part.etag}"</ETag></Part>' for part in parts
        )
        body = f"<CompleteMultipartUpload>{rows}</CompleteMultipartUpload>".encode()
        sent = {**_checked_by_server(_md5(body)), "Content-Type": "application/xml", **headers}
        with translated():
            response = self._execute("POST", name, body=body, headers=sent, query={"uploadId": upload_id})
            if not CompleteMultipartUploadResult(response).etag:
                raise S3Failed("the object store could not join the parts of an upload", unclear=True)

    def abort_upload(self, name: str, upload_id: str) -> None:
        """Forget a multipart upload and its parts; no error if there is none."""
        try:
            with translated():
                self._minio._abort_multipart_upload(self.bucket, name, upload_id)
        except S3Failed as error:
            if error.code != "NoSuchUpload":
                raise

    # ---------------------------------------------------------------------------------------------- reading

    def head(self, name: str) -> Head | None:
        """Size and token of an object, None if there is none."""
        try:
            with translated():
                found = self._minio.stat_object(self.bucket, name)
        except ObjectMissing:
            # A HEAD has no body to say so: a bucket that is gone must not look like a document that is gone.
            self.check_bucket()
            return None
        headers: Mapping[str, str] = found.metadata or {}
        return Head(found.size or 0, headers.get(MARK), headers.get(ENCRYPTED))

    def get(self, name: str, headers: Mapping[str, str] | None = None) -> BaseHTTPResponse:
        """The object's answer with its body unread: read it, or close it. Raises ``ObjectMissing``."""
        with translated():
            return self._minio.get_object(self.bucket, name, request_headers=dict(headers or {}))

    def check_bucket(self) -> datetime | None:
        """Ask for the bucket; the server's time, when it says one."""
        try:
            with translated():
                response = self._execute("HEAD", None)
        except ObjectMissing as error:
            raise S3Failed("the bucket is not there", code="NoSuchBucket") from error
        try:
            return parsedate_to_datetime(response.headers.get("date", ""))
        except ValueError:
            return None

    def objects(self, prefix: str) -> Iterator[Object]:
        """Current objects, page by page."""
        return self._listed(prefix, versions=False)

    def versions(self, prefix: str) -> Iterator[Object]:
        """Every version and every delete marker, page by page."""
        return self._listed(prefix, versions=True)

    def _listed(self, prefix: str, *, versions: bool) -> Iterator[Object]:
        with translated():
            yield from self._minio.list_objects(self.bucket, prefix, recursive=True, include_version=versions)

    def uploads(self, prefix: str) -> Iterator[Unfinished]:
        """Unfinished multipart uploads, page by page; MinIO's server only knows those of a whole object name."""
        key: str | None = None
        upload_id: str | None = None
        while True:
            with translated():
                page = self._minio._list_multipart_uploads(
                    self.bucket, prefix=prefix, key_marker=key, upload_id_marker=upload_id
                )
            for one in page.uploads:
                if one.upload_id and one.initiated_time:
                    yield Unfinished(one.object_name, one.upload_id, one.initiated_time)
            # minio 7.2.20 keeps the second marker under a misspelt name; SeaweedFS gives that one alone.
            following = page.next_key_marker, page.next_upload_id_marker or vars(page).get(_MISSPELT)
            if not page.is_truncated or following in {(key, upload_id), (None, None)}:
                return
            key, upload_id = following

    # --------------------------------------------------------------------------------------------- removing

    def remove(self, name: str) -> bool:
        """Delete an object; True when the bucket kept it as an older version."""
        with translated():
            headers = self._execute("DELETE", name).headers
        return headers.get("x-amz-delete-marker") == "true" or bool(headers.get("x-amz-version-id"))

    def remove_version(self, name: str, version_id: str, headers: Mapping[str, str] | None = None) -> None:
        """Delete one version or delete marker for good."""
        with translated():
            self._execute("DELETE", name, headers=headers, query={"versionId": version_id})

    # ------------------------------------------------------------------------------------ what a bucket has

    def versioned(self) -> bool | None:
        """Whether the bucket keeps versions; None when it does not say."""
        try:
            with translated():
                return self._minio.get_bucket_versioning(self.bucket).status in {"Enabled", "Suspended"}
        except S3Failed as error:
            if error.refused or error.not_offered:
                return None
            raise

    def locked_until(self, name: str, version_id: str) -> str | None:
        """Why a version cannot be deleted yet, None when no lock is known."""
        if self._told(lambda: self._minio.is_object_legal_hold_enabled(self.bucket, name, version_id)):
            return "under a legal hold"
        retention = self._told(lambda: self._minio.get_object_retention(self.bucket, name, version_id))
        return None if retention is None else f"locked until {retention.retain_until_date:%Y-%m-%d %H:%M:%S} UTC"

    def _told(self, ask: Callable[[], T]) -> T | None:
        """The answer; None where the server has none (each words that in its own way) or may not give it."""
        try:
            with translated():
                return ask()
        except (S3Failed, ObjectMissing):
            return None

    def asked(self, ask: Callable[[Minio], Any]) -> Any:
        """Anything else that minio's client can ask; for the probe."""
        with translated():
            return ask(self._minio)

    def _execute(
        self,
        method: str,
        name: str | None,
        *,
        body: bytes | memoryview | None = None,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
    ) -> BaseHTTPResponse:
        return self._minio._execute(
            method,
            self.bucket,
            name,
            body=cast("bytes | None", body),
            headers=dict(headers or {}),
            query_params=dict(query) if query else None,
            no_body_trace=True,
        )


# ------------------------------------------------------------------------------------------------ connections


def _pool(options: S3Options) -> urllib3.PoolManager:
    """Connections with our time-outs, not followed redirects, and repeats only of what may be repeated."""
    retries = urllib3.Retry(
        total=RETRIES,
        redirect=False,
        backoff_factor=BACKOFF_S,
        backoff_max=BACKOFF_MAX_S,
        status_forcelist=PASSING,
        raise_on_status=False,
        respect_retry_after_header=False,
    )
    timeout = urllib3.Timeout(connect=options.connect_timeout_s, read=options.timeout_s)
    more: dict[str, Any] = {}
    if options.secure:
        try:
            more["ssl_context"] = _context(options.ca)
        except (OSError, ssl.SSLError) as error:
            raise StoreUnavailable("store_ca cannot be read as certificates") from error
    pool = urllib3.PoolManager(maxsize=CONNECTIONS, timeout=timeout, retries=retries, **more)
    pool.pool_classes_by_scheme = _pool_classes(options.timeout_s)
    return pool


def _context(ca: Path | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=None if ca is None else str(ca))
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _pool_classes(send_timeout_s: float) -> dict[str, type[HTTPConnectionPool]]:
    """urllib3 sends a whole body within the time that a connection may take: here it has a time of its own."""

    class Plain(HTTPConnection):
        def send(self, data: Any) -> None:
            if self.sock is not None:
                self.sock.settimeout(send_timeout_s)
            super().send(data)

    class Secured(HTTPSConnection):
        def send(self, data: Any) -> None:
            if self.sock is not None:
                self.sock.settimeout(send_timeout_s)
            super().send(data)

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class SecuredPool(HTTPSConnectionPool):
        ConnectionCls = Secured

    return {"http": PlainPool, "https": SecuredPool}


# -------------------------------------------------------------------------------------------------- checksums


def _md5(data: bytes | memoryview) -> bytes:
    return hashlib.md5(data, usedforsecurity=False).digest()


def _checked_by_server(digest: bytes) -> dict[str, str]:
    """Content-MD5: every S3 server compares it, and a bucket with object lock asks for it."""
    return {"Content-MD5": base64.b64encode(digest).decode(), "Content-Type": "application/octet-stream"}


def _etag(response: BaseHTTPResponse) -> str:
    return str(response.headers.get("etag", "")).strip('"')


def _compare(digest: bytes, response: BaseHTTPResponse) -> None:
    """The ETag is the MD5 of what was written, unless the server encrypts or has a way of its own."""
    etag = _etag(response)
    encrypted = any(header.lower().startswith(ENCRYPTED) for header in response.headers)
    if not encrypted and _MD5.fullmatch(etag) and etag != digest.hex():
        raise S3Failed("the object store has other bytes than it was sent")


# ----------------------------------------------------------------------------------------------------- errors


@contextmanager
def translated() -> Iterator[None]:
    """Whatever goes wrong between us and the server, as ``S3Failed`` or ``ObjectMissing``; never with a secret."""
    try:
        yield
    except S3Error as error:
        status = error.response.status
        if error.code in {"NoSuchKey", "NoSuchVersion"} or (error.code is None and status == 404):
            raise ObjectMissing("no such object") from error
        raise _of_code(error.code, status) from error
    except ServerError as error:
        raise _of_code(None, error.status_code) from error
    except InvalidResponseError as error:
        raise _of_code(None, error._code) from error
    except HTTPError as error:
        raise S3Failed(_why(error), unclear=True) from error
    except (MinioException, SyntaxError, UnicodeDecodeError, ValueError, OSError) as error:
        raise S3Failed("the object store gave an answer that cannot be read", unclear=True) from error


def _of_code(code: str | None, status: int) -> S3Failed:
    """An answer that is an error: a code, or a bare status where something before the server answered."""
    code = code if code and _CODE.fullmatch(code) else None
    named = code or f"HTTP {status}"
    if code in _FULL or status == 507:
        return S3Failed(f"no room left in the document store ({named})", code=code, full=True)
    if code in _REFUSED or (code is None and status in {401, 403}):
        return S3Failed(f"the object store refuses our key ({named})", code=code or "AccessDenied")
    if code == "NoSuchBucket":
        return S3Failed("the bucket is not there", code=code)
    if code == "RequestTimeTooSkewed":
        return S3Failed("the clock here and that of the object store are too far apart", code=code)
    if code is None and status in {405, 501}:
        return S3Failed(f"the object store does not offer this ({named})", code="NotImplemented")
    unclear = status >= 500 or code in {"ConditionalRequestConflict", "NoSuchUpload", "PreconditionFailed"}
    return S3Failed(f"the object store answered {named}", code=code, unclear=unclear)


def _why(error: BaseException) -> str:
    """A broken connection in plain words; urllib3 wraps the cause, and its own text may hold addresses of objects."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ssl.SSLCertVerificationError):
            return f"the certificate of the object store is not trusted: {seen.verify_message}"
        if isinstance(seen, ConnectTimeoutError | NewConnectionError):
            return "the object store cannot be reached"
        if isinstance(seen, SSLError):
            cause = seen.args[0] if seen.args and isinstance(seen.args[0], ssl.SSLCertVerificationError) else None
            text = f"is not trusted: {cause.verify_message}" if cause else "or its TLS version is not accepted"
            return f"the certificate of the object store {text}"
        seen = getattr(seen, "reason", None) or seen.__cause__ or seen.__context__
        if not isinstance(seen, BaseException):
            break
    return "the connection to the object store broke or timed out"
