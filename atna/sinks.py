"""Where audit records are sent, read from the settings' text (ITI TF-2: 3.20.4.1; RESTful ATNA for FHIR).

=====================================  ==========================================================  =====================
text                                   what it is                                                  taken as delivered
=====================================  ==========================================================  =====================
``https://host:port/records``          feed of a Dossier audit service                             answer 200
``tls://host:port``                    syslog over TLS (RFC 5425); port 6514 by default            orderly close
``tcp://127.0.0.1:port``               the same framing without TLS, on loopback only              orderly close
``udp://host:port``                    syslog over UDP (RFC 5426); port 514 by default             once it is sent
``fhir+https://host:port/fhir``        ITI-20 RESTful feed: AuditEvents are posted to              answer 200 or 201
                                       ``https://host:port/fhir/AuditEvent``
=====================================  ==========================================================  =====================

``tls://host:port?close=tcp`` is for receivers that end the connection after us but never send a close_notify (rsyslog
with its gtls driver): there the end of the TCP connection counts, which also a receiver gives that dies with what it
has read. ``http://…/records`` and ``fhir+http://…`` are for loopback. Over UDP nothing tells whether a record came.
"""

import ipaddress
from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from urllib.parse import SplitResult, urlsplit

__all__ = ["Kind", "Sink", "loopback", "parse_sink"]

RECORDS_PATH: Final = "/records"
CLOSE_BY_TCP: Final = "close=tcp"
KNOWN: Final = (
    "https://host:port/records, tls://host:port, tcp://127.0.0.1:port, udp://host:port or fhir+https://host:port/fhir"
)


class Kind(StrEnum):
    """How records travel."""

    RECORDS = "records"
    TLS = "tls"
    TCP = "tcp"
    UDP = "udp"
    FHIR = "fhir"


_SYSLOG_PORTS: Final = {Kind.TLS: 6514, Kind.TCP: None, Kind.UDP: 514}


@dataclass(frozen=True, slots=True)
class Sink:
    """``text`` is the setting, which names the sink in outbox, log and metrics; ``url`` what is posted to, else "".

    ``close_notify``: whether the peer's is waited for, or the end of the TCP connection is enough.
    """

    text: str
    kind: Kind
    host: str
    port: int
    url: str = ""
    close_notify: bool = True


def parse_sink(text: str) -> Sink:
    """Read one sink; raises ValueError with what is wrong and what should stand there."""
    try:
        place = urlsplit(text)
        host, port = place.hostname or "", place.port
    except ValueError as error:
        raise ValueError(f"should be a URL: {KNOWN}") from error
    closing = place.scheme == "tls" and place.query == CLOSE_BY_TCP
    if place.username or place.password or place.fragment or (place.query and not closing):
        raise ValueError("should have no user, password, query or fragment: who we are says the certificate of [tls]")
    if port == 0:
        raise ValueError("should have a port from 1 to 65535")
    if place.scheme in {"tls", "tcp", "udp"}:
        return _syslog(text, place, host, port)
    scheme = place.scheme.removeprefix("fhir+")
    if scheme not in {"http", "https"} or not host:
        raise ValueError(f"should be {KNOWN}")
    if scheme == "http" and not loopback(host):
        raise ValueError("http:// is for loopback only: audit records hold patient identifiers; use https://")
    port = port or (443 if scheme == "https" else 80)
    if place.scheme.startswith("fhir+"):
        return Sink(text, Kind.FHIR, host, port, f"{text.removeprefix('fhir+').rstrip('/')}/AuditEvent")
    if place.path != RECORDS_PATH:
        raise ValueError(
            "should end with /records, the feed of a Dossier audit service; a FHIR server is named fhir+https://…"
        )
    return Sink(text, Kind.RECORDS, host, port, text)


def _syslog(text: str, place: SplitResult, host: str, port: int | None) -> Sink:
    kind = Kind(place.scheme)
    port = port or _SYSLOG_PORTS[kind]
    if not host or port is None or place.path.strip("/"):
        raise ValueError(f"should be {place.scheme}://host:port and nothing more")
    if kind is Kind.TCP and not loopback(host):
        raise ValueError("tcp:// is for loopback only: audit records hold patient identifiers; use tls://")
    return Sink(text, kind, host, port, close_notify=place.query != CLOSE_BY_TCP)


def loopback(host: str) -> bool:
    """Whether only this machine is reached by ``host``."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
