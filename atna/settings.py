"""``[audit]``: where the audit service listens and keeps its records, and where every service sends them.

Sinks off this machine are spoken to over TLS with the certificate of ``[tls]``; only UDP has none, and is allowed by
name. The forms of a sink are in ``atna.sinks``.
"""

from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from atna.sinks import Kind, loopback, parse_sink

__all__ = ["AuditSettings"]


def _sink(text: str) -> str:
    parse_sink(text)
    return text


def _kept_for_ever(value: object) -> None:
    if value is not None:
        raise ValueError("this version keeps audit records for ever and removes none; leave it out")


Sink = Annotated[str, AfterValidator(_sink)]


class AuditSettings(BaseModel):
    """``[audit]``.

    listen              of the audit service: feed of records, ITI-81
    syslog_tls_listen   RFC 5425, kept for a later version: not opened by this one
    syslog_udp_listen   RFC 5426, kept for a later version: not opened by this one
    database_url        of the audit service: ``sqlite:///…`` or ``postgresql+psycopg://…``
    sinks               where every service sends its records; each record goes to each sink. One or more of
                        ``https://host:port/records`` (a Dossier audit service), ``tls://host:port`` (syslog, RFC 5425;
                        ``?close=tcp`` for receivers that never send a close_notify),
                        ``tcp://127.0.0.1:port``, ``udp://host:port`` (RFC 5426), ``fhir+https://host:port/fhir``
    allow_udp_sinks     send records off this machine by ``udp://``: in the clear, and lost where the network loses them
    retention_days      kept for a later version; ``None``: records are kept for ever, which is what this one does
    max_outbox_rows     records that may wait in a service's outbox; then it refuses work as busy, it drops none
    max_record_bytes    one record on the feed
    max_batch_bytes     one request on the feed
    max_page            greatest ``_count`` of an ITI-81 answer
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    listen: str = "127.0.0.1:8040"
    syslog_tls_listen: str | None = None
    syslog_udp_listen: str | None = None
    database_url: str = "sqlite:///audit.db"
    sinks: Annotated[tuple[Sink, ...], Field(min_length=1)] = ("http://127.0.0.1:8040/records",)
    allow_udp_sinks: bool = False
    retention_days: Annotated[None, BeforeValidator(_kept_for_ever)] = None
    max_outbox_rows: Annotated[int, Field(gt=0)] = 1_000_000
    max_record_bytes: Annotated[int, Field(ge=8192)] = 128 * 2**20
    max_batch_bytes: Annotated[int, Field(ge=8192)] = 160 * 2**20
    max_page: Annotated[int, Field(gt=0, le=10_000)] = 1000

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
