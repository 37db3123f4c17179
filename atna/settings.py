"""``[audit]``: where the audit service listens and keeps its records, and where every service sends them.

Sinks off this machine are spoken to over TLS with the certificate of ``[tls]``; only UDP has none, and is allowed by
name. The forms of a sink are in ``atna.sinks``.
"""

from datetime import UTC, tzinfo
from pathlib import Path
from typing import Annotated, Final, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from atna.database_url import DatabaseUrl
from atna.sinks import Kind, loopback, parse_sink

__all__ = ["LONGEST_S", "AuditSettings", "PositiveSeconds"]


def _sink(text: str) -> str:
    parse_sink(text)
    return text


def _off(value: object) -> object:
    return "" if value is False or value is None or value == "false" else value


def _zone(name: str) -> tzinfo:
    return UTC if name == "UTC" else ZoneInfo(name)


def _known_zone(name: str) -> str:
    try:
        _zone(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        text = "should be a time zone that this machine knows (package tzdata), such as Europe/Luxembourg or UTC"
        raise ValueError(text) from error
    return name


Sink = Annotated[str, AfterValidator(_sink)]
Switchable = Annotated[str, BeforeValidator(_off)]
PositiveCount = Annotated[int, Field(gt=0)]
LONGEST_S: Final = 100 * 365 * 86_400
"""A century, for whoever means never: threads wait for no more than some 290 years, databases keep no such times."""
PositiveSeconds = Annotated[float, Field(gt=0, le=LONGEST_S, allow_inf_nan=False)]


class AuditSettings(BaseModel):
    """``[audit]``.

    listen              of the audit service: feed of records, ITI-81, page of the log (``/log``)
    workers             processes of the audit service that take records and answer
    syslog_tls_listen   RFC 5425; without certificates the same frames over plain TCP; ``""`` or false: not opened
    syslog_udp_listen   RFC 5426, never secured, so off loopback only with allow_plaintext; ``""`` or false: not opened
    syslog_max_connections      open at once, of each worker; the next ones wait
    syslog_idle_timeout_s       silence on a connection before it is broken
    syslog_message_timeout_s    from the first to the last octet of a message
    syslog_confirm_timeout_s    how long the end of a connection may wait for the commit of what it brought
    syslog_max_waiting_bytes    memory of messages not yet committed, of each worker; then no more is read
    database_url        of the audit service: ``sqlite:///…`` or ``postgresql+psycopg://…``
    sinks               where every service sends its records; each record goes to each sink. One or more of
                        ``https://host:port/records`` (a Dossier audit service), ``tls://host:port`` (syslog, RFC 5425;
                        ``?close=tcp`` for receivers that never send a close_notify),
                        ``tcp://127.0.0.1:port``, ``udp://host:port`` (RFC 5426), ``fhir+https://host:port/fhir``
    allow_udp_sinks     send records off this machine by ``udp://``: in the clear, and lost where the network loses them
    retention_days      partitions (months) that ended longer ago than this may be removed, by hand: ``dossier audit
                        retention``; ``None``: records are kept for ever
    max_outbox_rows     records that may wait in a service's outbox; then it refuses work as busy, it drops none
    max_record_bytes    one record on the feed; of a longer syslog message the first part is kept
    max_batch_bytes     one request on the feed
    max_fhir_bytes      one request with AuditEvents of FHIR
    checkpoint_key      PEM file (PKCS8, Ed25519, mode 600) that signs the log of the audit service: ``dossier audit
                        key``. In production it has to be there; elsewhere it is made at the first start
    checkpoint_records  a checkpoint is signed after so many records,
    checkpoint_interval_s  and after so many seconds when there are any
    max_page            greatest ``_count`` of an ITI-81 answer
    time_zone           of the times on the page of the log, e.g. ``Europe/Luxembourg``
    max_export_rows     records in one CSV file of that page
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
    database_url: DatabaseUrl = "sqlite:///audit.db"
    sinks: Annotated[tuple[Sink, ...], Field(min_length=1)] = ("http://127.0.0.1:8040/records",)
    allow_udp_sinks: bool = False
    retention_days: Annotated[int, Field(gt=0, le=200 * 366)] | None = None
    max_outbox_rows: Annotated[int, Field(gt=0)] = 1_000_000
    max_record_bytes: Annotated[int, Field(ge=8192)] = 128 * 2**20
    max_batch_bytes: Annotated[int, Field(ge=8192)] = 160 * 2**20
    max_fhir_bytes: Annotated[int, Field(ge=8192)] = 16 * 2**20
    checkpoint_key: Path | None = None
    checkpoint_records: Annotated[int, Field(gt=0)] = 10_000
    checkpoint_interval_s: PositiveSeconds = 900
    max_page: Annotated[int, Field(gt=0, le=10_000)] = 1000
    time_zone: Annotated[str, AfterValidator(_known_zone)] = "UTC"
    max_export_rows: Annotated[int, Field(gt=0, le=1_000_000)] = 100_000

    @model_validator(mode="after")
    def _sinks_fit(self) -> Self:
        places = [parse_sink(sink) for sink in self.sinks]
        if len({(place.kind, place.host, place.port, place.url) for place in places}) < len(places):
            raise ValueError("sinks: one of them stands twice; each record goes to each sink once")
        if any(place.kind is Kind.UDP and not loopback(place.host) for place in places) and not self.allow_udp_sinks:
            raise ValueError(
                "sinks: udp:// off loopback sends patient identifiers in the clear, and nothing tells whether they"
                " arrive; use tls://, or allow it with allow_udp_sinks = true"
            )
        return self

    @property
    def zone(self) -> tzinfo:
        """The zone named by ``time_zone``."""
        return _zone(self.time_zone)
