"""``[repository]``: the Document Repository's own settings. Units stand in the names."""

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal, Self
from urllib.parse import unquote, urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from atna.database_url import DatabaseUrl
from ihe.datatypes import normalise_oid
from repository.scanner.address import scanner_address
from repository.store.keyring import read_keys
from wire.settings import HttpUrl, Oid, PositiveInt, PositiveSeconds

__all__ = [
    "KEYS_WANTED",
    "Bucket",
    "Encryption",
    "IdenticalRetry",
    "MediaCheck",
    "RemoveRegistered",
    "RepositorySettings",
    "RetentionRule",
    "store_bucket",
    "store_directory",
]

IdenticalRetry = Literal["accept", "reject"]
Encryption = Literal["auto", "on", "off"]
MediaCheck = Literal["off", "warn", "refuse"]

KEYS_WANTED: Final = "make a file of keys with dossier store keys new FILE, and name it as repository.keyring"
RemoveRegistered = Literal["accept", "reject"]
"""The framework leaves the order of ITI-62 and ITI-86 open, and the NIST testkit (test 50000) removes a document that
is still registered: hence the default; see docs/decisions/0011-removal.md."""

_MIB: Final = 2**20
_GIB: Final = 2**30
_BUCKET: Final = re.compile(
    r"(?P<scheme>s3\+https?)://(?P<host>[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{1,5}))?"
    r"/(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?P<prefix>(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._-]+){0,16})/?"
)
_NO_BUCKET: Final = re.compile(r"\.\.|\.-|-\.|^[0-9]+(\.[0-9]+){3}$")
MOST_PARTS: Final = 10_000
_LONGEST_DAYS: Final = 200 * 366


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket of an S3 server; ``endpoint`` is ``host[:port]``, ``prefix`` is empty or ends with ``/``."""

    endpoint: str
    secure: bool
    name: str
    prefix: str


def store_directory(url: str) -> Path:
    """The directory of a ``file:`` URL; raises ValueError with a plain reason for anything else."""
    parts = urlsplit(url)
    if parts.scheme != "file" or parts.netloc not in {"", "localhost"} or not parts.path.startswith("/"):
        raise ValueError(
            "should be the URL of a directory with an absolute path, file:///var/lib/dossier/documents,"
            " or of a bucket, s3+https://s3.example/bucket"
        )
    if parts.query or parts.fragment:
        raise ValueError("should hold nothing after the path: write ? and # in it as %3F and %23")
    return Path(unquote(parts.path))


def store_bucket(url: str) -> Bucket | None:
    """The bucket of an ``s3+https:`` or ``s3+http:`` URL, None for other schemes; raises ValueError."""
    if not url.startswith("s3"):
        return None
    found = _BUCKET.fullmatch(url)
    if found is None:
        raise ValueError(
            "should be s3+https://host[:port]/bucket[/prefix]; the keys have settings of their own,"
            " store_access_key and store_secret_key"
        )
    if _NO_BUCKET.search(found["bucket"]):
        raise ValueError("should name a bucket without .. or .- or -. in it, and not as an IP address")
    host, port, secure = found["host"], found["port"], found["scheme"] == "s3+https"
    if port is not None and not 0 < int(port) < 65536:
        raise ValueError("should have a port from 1 to 65535")
    if not secure and not _loopback(host):
        raise ValueError("s3+http speaks in the clear and is for loopback addresses only; use s3+https and store_ca")
    prefix = (found["prefix"] or "").strip("/")
    endpoint = host if port is None else f"{host}:{port}"
    return Bucket(endpoint, secure, found["bucket"], f"{prefix}/" if prefix else "")


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _store(url: str) -> str:
    if store_bucket(url) is None:
        store_directory(url)
    return url


def _scanner(text: str) -> str:
    scanner_address(text)
    return text


def _class_code(text: str) -> str:
    code, separator, scheme = text.strip().partition("^^")
    if not code or not separator or not scheme or "^" in scheme:
        raise ValueError("should be the code and its scheme: 11502-2^^2.16.840.1.113883.6.1")
    return f"{code}^^{normalise_oid(scheme)}"


class RetentionRule(BaseModel):
    """``[[repository.retention]]``: how long documents of one class are kept.

    class_code   classCode of the DocumentEntry as it was submitted here, ``code^^scheme``
    days         after this many whole days a document is due
    after        counted from its ``creation`` (creationTime, the end of its precision) or since it was ``stored`` here
    registered   a document that is still registered is left alone (``keep``) or goes as well (``remove``)
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    class_code: Annotated[str, AfterValidator(_class_code)]
    days: Annotated[int, Field(gt=0, le=_LONGEST_DAYS)]
    after: Literal["creation", "stored"] = "creation"
    registered: Literal["keep", "remove"] = "keep"

    @property
    def name(self) -> str:
        """The rule in one line, as audit records and reports name it."""
        return f"class {self.class_code}: {self.days} days after {self.after}"


def _one_rule_a_class(rules: tuple[RetentionRule, ...]) -> tuple[RetentionRule, ...]:
    twice = sorted({rule.class_code for rule in rules if sum(r.class_code == rule.class_code for r in rules) > 1})
    if twice:
        raise ValueError(f"more than one rule for class {', '.join(twice)}")
    return rules


class RepositorySettings(BaseModel):
    """``listen`` is ``host:port``.

    listen                 SOAP: ITI-41, ITI-43 and ITI-86
    workers                processes that serve SOAP; at most 2 with SQLite
    unique_id              repositoryUniqueId, an OID
    database_url           ``sqlite:////path/repository.db`` or ``postgresql+psycopg://…``
    store                  where documents lie: ``file:///path`` or ``s3+https://host[:port]/bucket[/prefix]``;
                           ``s3+http://`` on a loopback address only
    store_access_key       of the object store
    store_secret_key       of the object store; best from a file (``DOSSIER_REPOSITORY__STORE_SECRET_KEY_FILE``)
    store_region           what requests to the object store are signed for
    store_ca               PEM file of the authorities that the object store's certificate may come from; without it
                           those of the system
    store_connect_timeout_s  how long a connection to the object store may take
    store_timeout_s        how long one part may take to be sent, and each piece of an answer to come
    upload_part_bytes      a part of an upload to an object store; it gathers in the folder of temporary files
    min_free_bytes         room in the store that is left alone; below it submissions are refused
    registry_url           ITI-42 and ITI-18 go there
    registry_timeout_s     how long the registry may take to answer; longer than its own ``max_registration_s``
    max_registration_s     the registry's setting of this name: what it has not committed by then never comes
    max_documents          documents of one submission
    max_uploads            requests whose documents are being stored while they arrive, of each process
    max_document_bytes     one document
    max_request_bytes      one request with all its documents
    max_inline_bytes       a request whose documents are base64 text in the envelope, and the answer to one
    upload_buffer_bytes    memory for one upload's blocks on their way to an object store
    scanner                malware: ``none`` (nothing is scanned), ``clamd://host:port``, ``clamd:///path.sock``,
                           ``icap://host:port/service``
    scanner_required       a document that could not be scanned is refused, else it is accepted and counted
    scan_timeout_s         how long the scanner may take for one document
    max_scans              documents with the scanner at once, of each process; fewer than ``limits.threads``
    media_check            mimeType against content: not compared (``off``), told in the log (``warn``), ``refuse``
    identical_retry        a submission sent again unchanged: answered as the first was (``accept``), or refused
    encryption             ``on``: new documents are sealed; ``off``: they are not; ``auto``: when there are keys. In
                           production there have to be keys, or ``off``
    keyring                file of the key-encryption keys, one a line, the last one current: ``dossier store keys new``
    keys                   the same lines as text, for who keeps secrets in the environment; read at the start alone
    max_retrieve_documents one ITI-43: documents that are asked for, each as often as it is
    max_remove_documents   one ITI-86: documents that are named
    remove_registered      ITI-86 of a document that is still registered: refused (``reject``) or removed with a warning
    retention              rules (see RetentionRule) for ``dossier store retention``; none: nothing is ever due
    sweep_interval_s       how often submissions without an outcome are looked at
    staging_age_s          an upload whose message never came to its end is removed after this time
    orphan_interval_s      how often the whole store is compared with the index
    scrub_interval_s       how often every document is read back and verified, from the beginning of one reading to that
                           of the next; 0: never by itself
    scrub_bytes_per_s      how fast, at most
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    listen: str = "127.0.0.1:8020"
    workers: PositiveInt = 1
    unique_id: Oid = "1.3.6.1.4.1.21367.2011.2.3.9999"
    database_url: DatabaseUrl = "sqlite:///repository.db"
    store: Annotated[str, AfterValidator(_store)] = "file:///var/lib/dossier/documents"
    store_access_key: str | None = None
    store_secret_key: SecretStr | None = None
    store_region: str = "us-east-1"
    store_ca: Path | None = None
    store_connect_timeout_s: PositiveSeconds = 5
    store_timeout_s: PositiveSeconds = 30
    upload_part_bytes: Annotated[int, Field(ge=5 * _MIB, le=512 * _MIB)] = 5 * _MIB
    min_free_bytes: Annotated[int, Field(ge=0)] = 8 * _MIB
    registry_url: HttpUrl = "http://127.0.0.1:8010/registry"
    registry_timeout_s: PositiveSeconds = 20
    max_registration_s: PositiveSeconds = 15
    max_documents: PositiveInt = 1000
    max_uploads: PositiveInt = 64
    max_document_bytes: PositiveInt = 2 * _GIB
    max_request_bytes: PositiveInt = 3 * _GIB
    max_inline_bytes: PositiveInt = 32 * _MIB
    upload_buffer_bytes: PositiveInt = 32 * _MIB
    scanner: Annotated[str, AfterValidator(_scanner)] = "none"
    scanner_required: bool = True
    scan_timeout_s: PositiveSeconds = 60
    max_scans: PositiveInt = 16
    media_check: MediaCheck = "warn"
    identical_retry: IdenticalRetry = "accept"
    encryption: Encryption = "auto"
    keyring: Path | None = None
    keys: SecretStr | None = None
    max_retrieve_documents: PositiveInt = 1000
    max_remove_documents: PositiveInt = 1000
    remove_registered: RemoveRegistered = "accept"
    retention: Annotated[tuple[RetentionRule, ...], AfterValidator(_one_rule_a_class)] = ()
    sweep_interval_s: PositiveSeconds = 10
    staging_age_s: PositiveSeconds = 6 * 3600
    orphan_interval_s: PositiveSeconds = 24 * 3600
    scrub_interval_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 30 * 24 * 3600
    scrub_bytes_per_s: PositiveInt = 8 * _MIB

    @property
    def has_keys(self) -> bool:
        """Whether key-encryption keys are provided."""
        return self.keyring is not None or self.keys is not None

    @field_validator("keys")
    @classmethod
    def _are_keys(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            read_keys(value.get_secret_value())
        return value

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.keyring is not None and self.keys is not None:
            raise ValueError("keyring and keys are both given; give one of them")
        if self.encryption == "on" and not self.has_keys:
            raise ValueError("encryption is on, but there are no keys: " + KEYS_WANTED)
        return self

    @model_validator(mode="after")
    def _object_store(self) -> Self:
        if store_bucket(self.store) is None:
            return self
        if not self.store_access_key or self.store_secret_key is None or not self.store_secret_key.get_secret_value():
            raise ValueError("store_access_key and store_secret_key are needed for a store in a bucket")
        if self.upload_part_bytes * MOST_PARTS < self.max_document_bytes:
            raise ValueError(f"upload_part_bytes is too small: {MOST_PARTS} parts do not hold max_document_bytes")
        return self
