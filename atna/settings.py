"""``[audit]``: where the audit service listens and keeps its records, and where every service sends them.

Loopback sinks may be plain HTTP; any other sink takes HTTPS with the certificate of ``[tls]``.
"""

import ipaddress
from typing import Annotated, Final
from urllib.parse import urlsplit

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


def _off(value: object) -> object:
    return "" if value is False or value is None or value == "false" else value


def _kept_for_ever(value: object) -> None:
    if value is not None:
        raise ValueError("this version keeps audit records for ever and removes none; leave it out")


Sink = Annotated[str, AfterValidator(_sink)]
Switchable = Annotated[str, BeforeValidator(_off)]
PositiveCount = Annotated[int, Field(gt=0)]
PositiveSeconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class AuditSettings(BaseModel):
    """``[audit]``.

    listen              of the audit service: feed of records, ITI-81
    workers             processes of the audit service that take records and answer
    syslog_tls_listen   RFC 5425; without certificates the same frames over plain TCP; ``""`` or false: not opened
    syslog_udp_listen   RFC 5426, never secured, so off loopback only with allow_plaintext; ``""`` or false: not opened
    syslog_max_connections      open at once, of each worker; the next ones wait
    syslog_idle_timeout_s       silence on a connection before it is broken
    syslog_message_timeout_s    from the first to the last octet of a message
    syslog_confirm_timeout_s    how long the end of a connection may wait for the commit of what it brought
    syslog_max_waiting_bytes    memory of messages not yet committed, of each worker; then no more is read
    database_url        of the audit service: ``sqlite:///…`` or ``postgresql+psycopg://…``
    sinks               where every service sends its records; each record goes to each sink
    retention_days      kept for a later version; ``None``: records are kept for ever, which is what this one does
    max_outbox_rows     records that may wait in a service's outbox; then it refuses work as busy, it drops none
    max_record_bytes    one record on the feed; of a longer syslog message the first part is kept
    max_batch_bytes     one request on the feed
    max_page            greatest ``_count`` of an ITI-81 answer
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    listen: str = "127.0.0.1:8040"
    workers: PositiveCount = 1
    syslog_tls_listen: Switchable = "127.0.0.1:8041"
    syslog_udp_listen: Switchable = "127.0.0.1:8042"
    syslog_max_connections: PositiveCount = 500
    syslog_idle_timeout_s: PositiveSeconds = 3600
    syslog_message_timeout_s: PositiveSeconds = 300
    syslog_confirm_timeout_s: PositiveSeconds = 60
    syslog_max_waiting_bytes: Annotated[int, Field(ge=2**20)] = 256 * 2**20
    database_url: str = "sqlite:///audit.db"
    sinks: tuple[Sink, ...] = ("http://127.0.0.1:8040/records",)
    retention_days: Annotated[None, BeforeValidator(_kept_for_ever)] = None
    max_outbox_rows: Annotated[int, Field(gt=0)] = 1_000_000
    max_record_bytes: Annotated[int, Field(ge=8192)] = 128 * 2**20
    max_batch_bytes: Annotated[int, Field(ge=8192)] = 160 * 2**20
    max_page: Annotated[int, Field(gt=0, le=10_000)] = 1000
