"""Delivers batches of audit records to sinks of every kind (the ``post`` of ``atna.sender``)."""

import ssl
from collections.abc import Sequence
from typing import Final

from atna.iti20_record_audit_event import encode_frame
from atna.sender import NotDelivered, Pace
from atna.sinks import Kind, Sink, parse_sink
from wire.fhir_client import FhirClient
from wire.handshake import HandshakeFailed
from wire.records_client import RecordsClient
from wire.settings import TlsSettings
from wire.syslog_client import send_datagrams, send_stream
from wire.tls import client_context, handshake_fault, reason_of, said_by_peer

__all__ = ["Sinks"]

# A connection, and under TLS a handshake, for each batch: so they are gathered for longer (and no longer than 5 s).
_STREAM: Final = Pace(rows=1000, gather_s=2.0)
_PACES: Final = {
    Kind.FHIR: Pace(rows=100, gather_s=0.05),
    Kind.RECORDS: Pace(rows=500, gather_s=0.05, busy_s=0.3),
    Kind.TLS: _STREAM,
    Kind.TCP: _STREAM,
    Kind.UDP: Pace(rows=50, gather_s=0.05, pause_s=0.01),  # at most 5,000 a second: a receiver's buffer is not endless
}


class Sinks:
    """Call it with (sink, messages), from any thread; it keeps what connections may be kept until ``close``.

    Raises NotDelivered, Interrupted, BatchRefused. ``tls`` ``None`` or without certificate: no sink over TLS. For
    syslog its files are read for each new connection, so that a renewed certificate is used. ``handshake_failed`` is
    told of a sink whose certificate does not count (ITI-19): it would have been given everything.
    """

    def __init__(self, tls: TlsSettings | None, handshake_failed: HandshakeFailed | None = None) -> None:
        self._tls = tls
        self._handshake_failed = handshake_failed
        self._records = RecordsClient(tls)
        self._fhir = FhirClient(tls)

    def __call__(self, sink: str, messages: Sequence[bytes]) -> None:
        place = parse_sink(sink)
        try:
            self._deliver(place, messages)
        except NotDelivered as error:
            fault = handshake_fault(error)
            if self._handshake_failed is not None and fault is not None and not said_by_peer(fault):
                self._handshake_failed(place.host, place.port, reason_of(fault))
            raise

    def _deliver(self, place: Sink, messages: Sequence[bytes]) -> None:
        if place.kind is Kind.UDP:
            send_datagrams(place, messages)
        elif place.kind is Kind.TCP:
            send_stream(place, messages, None)
        elif place.kind is Kind.TLS:
            send_stream(place, messages, self._context)
        elif place.kind is Kind.FHIR:
            self._fhir(place.url, messages)
        else:
            self._records(place.url, b"".join(map(encode_frame, messages)))

    def pace(self, sink: str) -> Pace:
        """How this kind of sink likes its batches."""
        return _PACES[parse_sink(sink).kind]

    def _context(self) -> ssl.SSLContext:
        return client_context(self._tls or TlsSettings())

    def close(self) -> None:
        """Close the connections it kept."""
        self._records.close()
        self._fhir.close()
