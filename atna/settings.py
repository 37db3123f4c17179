"""``[audit]``: where the audit service listens and keeps its records, and where every service sends them.

Loopback sinks may be plain HTTP; any other sink takes HTTPS with the certificate of ``[tls]``.
"""

import ipaddress
from datetime import UTC, tzinfo
from typing import Annotated, Final
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

__all__ = ["AuditSettings"]

RECORDS_PATH: Final = "/records"
LATER: Final = ("tls", "tcp", "udp")


def _sink(text: str) -> str:
    try:
        url = urlsplit(text)
        host, _port = url.hostname, url.port
    except ValueError as error:
        raise ValueError("should be a URL such as https://audit.example.org:8040/records") from error
    if url.scheme in LATER:
        raise ValueError(f"a {url.scheme}:// sink (syslog) comes with a later version; use https://host:port/records")
    if url.scheme not in {"http", "https"} or not host:
        raise ValueError("should be https://host:port/records, or http:// on loopback")
    if url.path != RECORDS_PATH or url.query or url.fragment or url.username or url.password:
        raise ValueError("should end with /records: the feed of a Dossier audit service")
    if url.scheme == "http" and not _loopback(host):
        raise ValueError("http:// is for loopback only: audit records hold patient identifiers; use https://")
    return text


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _zone(name: str) -> tzinfo:
    return UTC if name == "UTC" else ZoneInfo(name)


def _known_zone(name: str) -> str:
    try:
        _zone(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        text = "should be a time zone that this machine knows (package tzdata), such as Europe/Luxembourg or UTC"
        raise ValueError(text) from error
    return name


def _kept_for_ever(value: object) -> None:
    if value is not None:
        raise ValueError("this version keeps audit records for ever and removes none; leave it out")


Sink = Annotated[str, AfterValidator(_sink)]


class AuditSettings(BaseModel):
    """``[audit]``.

    listen              of the audit service: feed of records, ITI-81, page of the log (``/log``)
    syslog_tls_listen   RFC 5425, kept for a later version: not opened by this one
    syslog_udp_listen   RFC 5426, kept for a later version: not opened by this one
    database_url        of the audit service: ``sqlite:///…`` or ``postgresql+psycopg://…``
    sinks               where every service sends its records; each record goes to each sink
    retention_days      kept for a later version; ``None``: records are kept for ever, which is what this one does
    max_outbox_rows     records that may wait in a service's outbox; then it refuses work as busy, it drops none
    max_record_bytes    one record on the feed
    max_batch_bytes     one request on the feed
    max_page            greatest ``_count`` of an ITI-81 answer
    time_zone           of the times on the page of the log, e.g. ``Europe/Luxembourg``
    max_export_rows     records in one CSV file of that page
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    listen: str = "127.0.0.1:8040"
    syslog_tls_listen: str | None = None
    syslog_udp_listen: str | None = None
    database_url: str = "sqlite:///audit.db"
    sinks: tuple[Sink, ...] = ("http://127.0.0.1:8040/records",)
    retention_days: Annotated[None, BeforeValidator(_kept_for_ever)] = None
    max_outbox_rows: Annotated[int, Field(gt=0)] = 1_000_000
    max_record_bytes: Annotated[int, Field(ge=8192)] = 128 * 2**20
    max_batch_bytes: Annotated[int, Field(ge=8192)] = 160 * 2**20
    max_page: Annotated[int, Field(gt=0, le=10_000)] = 1000
    time_zone: Annotated[str, AfterValidator(_known_zone)] = "UTC"
    max_export_rows: Annotated[int, Field(gt=0, le=1_000_000)] = 100_000

    @property
    def zone(self) -> tzinfo:
        """The zone named by ``time_zone``."""
        return _zone(self.time_zone)
