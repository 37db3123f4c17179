"""``[repository]``: the Document Repository's own settings. Units stand in the names."""

import re
from pathlib import Path
from typing import Annotated, Final, Literal
from urllib.parse import unquote, urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from repository.scanner.address import scanner_address
from wire.settings import Oid

__all__ = ["IdenticalRetry", "MediaCheck", "RepositorySettings", "store_directory"]

IdenticalRetry = Literal["accept", "reject"]
MediaCheck = Literal["off", "warn", "refuse"]

_MIB: Final = 2**20
_GIB: Final = 2**30
_HTTP: Final = re.compile(r"https?://[^/\s]+(/\S*)?")

Count = Annotated[int, Field(gt=0)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


def store_directory(url: str) -> Path:
    """The directory of a ``file:`` URL; raises ValueError with a plain reason for anything else."""
    parts = urlsplit(url)
    if parts.scheme.startswith("s3"):
        raise ValueError(
            "object stores (s3) are not in this version; name a directory: file:///var/lib/dossier/documents"
        )
    if parts.scheme != "file" or parts.netloc not in {"", "localhost"} or not parts.path.startswith("/"):
        raise ValueError("should be the URL of a directory with an absolute path: file:///var/lib/dossier/documents")
    if parts.query or parts.fragment:
        raise ValueError("should hold nothing after the path: write ? and # in it as %3F and %23")
    return Path(unquote(parts.path))


def _store(url: str) -> str:
    store_directory(url)
    return url


def _scanner(text: str) -> str:
    scanner_address(text)
    return text


def _http_url(url: str) -> str:
    if _HTTP.fullmatch(url) is None:
        raise ValueError("should be an address like https://registry.example/registry")
    return url


class RepositorySettings(BaseModel):
    """``listen`` is ``host:port``.

    listen                 SOAP: ITI-41 and ITI-43
    workers                processes that serve SOAP; at most 2 with SQLite
    unique_id              repositoryUniqueId, an OID
    database_url           ``sqlite:////path/repository.db`` or ``postgresql+psycopg://…``
    store                  where documents lie: ``file:///path``
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
    sweep_interval_s       how often submissions without an outcome are looked at
    staging_age_s          an upload whose message never came to its end is removed after this time
    orphan_interval_s      how often the whole store is compared with the index
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    listen: str = "127.0.0.1:8020"
    workers: Count = 1
    unique_id: Oid = "1.3.6.1.4.1.21367.2011.2.3.9999"
    database_url: str = "sqlite:///repository.db"
    store: Annotated[str, AfterValidator(_store)] = "file:///var/lib/dossier/documents"
    min_free_bytes: Annotated[int, Field(ge=0)] = 8 * _MIB
    registry_url: Annotated[str, AfterValidator(_http_url)] = "http://127.0.0.1:8010/registry"
    registry_timeout_s: Seconds = 20
    max_registration_s: Seconds = 15
    max_documents: Count = 1000
    max_uploads: Count = 64
    max_document_bytes: Count = 2 * _GIB
    max_request_bytes: Count = 3 * _GIB
    max_inline_bytes: Count = 32 * _MIB
    upload_buffer_bytes: Count = 32 * _MIB
    scanner: Annotated[str, AfterValidator(_scanner)] = "none"
    scanner_required: bool = True
    scan_timeout_s: Seconds = 60
    max_scans: Count = 16
    media_check: MediaCheck = "warn"
    identical_retry: IdenticalRetry = "accept"
    sweep_interval_s: Seconds = 10
    staging_age_s: Seconds = 6 * 3600
    orphan_interval_s: Seconds = 24 * 3600
