"""Whether an address can be reached, one step after the other: name, port, TLS, our own certificate (ITI TF-2: 3.19).

For an operator who connects a partner. A service's own calls tell in one line that nothing came; this tells which step
failed, and what the peer's certificate says.
"""

import contextlib
import socket
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final
from urllib.parse import urlsplit

from cryptography import x509

from wire.settings import TlsSettings
from wire.tls import TlsFault, client_context, peer_of, reason_of

__all__ = ["Reached", "Step", "Unreachable", "reach"]

_PORTS: Final = {"http": 80, "https": 443}


class Step(StrEnum):
    """What has to succeed, in this order."""

    ADDRESS = "address"
    CONNECTION = "connection"
    THEIR_CERTIFICATE = "their certificate"
    OUR_CERTIFICATE = "our certificate"


class Unreachable(Exception):  # noqa: N818 - an outcome
    """``step`` did not succeed; the text says why, with nothing of what the peer could have written."""

    def __init__(self, step: Step, reason: str) -> None:
        super().__init__(reason)
        self.step = step


@dataclass(frozen=True, slots=True)
class Reached:
    """The way to a peer is open.

    ``address`` is the IP address and port connected to; ``node`` and ``fingerprint`` are of the peer's certificate and
    ``expires`` is its end, UTC; all of them ``None`` without TLS, as ``protocol`` is, e.g. ``TLSv1.3``.
    """

    address: str
    protocol: str | None = None
    node: str | None = None
    fingerprint: str | None = None
    expires: datetime | None = None


def reach(url: str, tls: TlsSettings, *, timeout_s: float) -> Reached:
    """Connect to the host of ``url`` as a service with the settings ``tls`` does; ``timeout_s`` bounds all of it.

    Sends one ``HEAD``, which no SOAP endpoint acts on: with TLS 1.3 a server says only after the handshake that it does
    not take our certificate. Raises Unreachable.
    """
    deadline = time.monotonic() + timeout_s
    parts = urlsplit(url)
    try:
        host, port = parts.hostname or "", parts.port or _PORTS[parts.scheme]
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (KeyError, ValueError) as error:
        raise Unreachable(Step.ADDRESS, "should begin with http:// or https:// and name a host") from error
    except OSError as error:
        raise Unreachable(Step.ADDRESS, f"the name {host} has no address") from error
    with _connected(list(dict.fromkeys(str(one[4][0]) for one in found)), port, deadline) as plain:
        try:
            where = plain.getpeername()
        except OSError as error:
            raise Unreachable(Step.CONNECTION, "broken off by the peer") from error
        address = f"[{where[0]}]:{where[1]}" if ":" in where[0] else f"{where[0]}:{where[1]}"
        if parts.scheme == "http":
            return Reached(address)
        return _secured(plain, address, host, tls, deadline)


@contextlib.contextmanager
def _connected(addresses: list[str], port: int, deadline: float) -> Iterator[socket.socket]:
    """The first address that answers; each gets a fair part of the time, as one may swallow what is sent to it."""
    reason = "no address"
    for at, address in enumerate(addresses):
        try:
            connection = socket.create_connection((address, port), timeout=_left(deadline) / (len(addresses) - at))
        except OSError as error:
            reason = "time-out" if isinstance(error, TimeoutError) else (error.strerror or type(error).__name__).lower()
            continue
        with connection:
            yield connection
        return
    raise Unreachable(Step.CONNECTION, reason)


def _left(deadline: float) -> float:
    return max(0.001, deadline - time.monotonic())


def _secured(plain: socket.socket, address: str, host: str, tls: TlsSettings, deadline: float) -> Reached:
    try:
        context = client_context(tls) if tls.enabled else ssl.create_default_context()
    except TlsFault as error:
        raise Unreachable(Step.OUR_CERTIFICATE, str(error)) from error
    plain.settimeout(_left(deadline))
    try:
        stream = context.wrap_socket(plain, server_hostname=host)
    except OSError as error:
        # A server of TLS 1.2 refuses our certificate within the handshake.
        step = Step.OUR_CERTIFICATE if _is_alert(error) else Step.THEIR_CERTIFICATE
        raise Unreachable(step, reason_of(error)) from error
    with stream:
        certificate = stream.getpeercert(binary_form=True)
        peer = peer_of(address, certificate)
        expires = x509.load_der_x509_certificate(certificate).not_valid_after_utc if certificate else None
        stream.settimeout(_left(deadline))
        try:
            stream.sendall(f"HEAD / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode("ascii", "replace"))
            spoken = stream.recv(1)
        except OSError as error:
            raise Unreachable(Step.OUR_CERTIFICATE, reason_of(error)) from error
        if not spoken:
            raise Unreachable(Step.OUR_CERTIFICATE, "broken off by the peer")
        return Reached(address, stream.version(), peer.node, peer.fingerprint, expires)


def _is_alert(error: OSError) -> bool:
    return reason_of(error).startswith("refused by the peer")
