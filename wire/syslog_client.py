"""Sends audit records as syslog (ITI-20): over TLS (RFC 5425), over TCP on loopback, over UDP (RFC 5426).

TLS, TCP  octet-counted frames, one connection a batch. The batch counts as delivered when we have closed in order and
          the peer's own close followed: what was only written may still lie in a buffer of a peer that has died. A peer
          that closes first, resets or stays silent has confirmed nothing, and the whole batch is sent again. Where
          the sink says so, the end of TCP after our close_notify is enough.
UDP       one datagram a record, confirmed by nobody. A record above the largest datagram is truncated, as ITI TF-2:
          3.20 lets a transport do; that is logged and counted.
"""

import logging
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Final

from prometheus_client import Counter

from atna.iti20_record_audit_event import encode_frame
from atna.sender import Interrupted, NotDelivered
from atna.sinks import Sink
from wire.tls import reason_of

__all__ = ["MOST_DATAGRAM_BYTES", "send_datagrams", "send_stream"]

CONNECT_TIMEOUT_S: Final = 5.0
SILENCE_TIMEOUT_S: Final = 30.0
"""Longest wait for the peer to take some of the batch, and for its close."""

BATCH_TIMEOUT_S: Final = 300.0
"""For a whole batch; a peer that takes it drop by drop is given up."""

END_TIMEOUT_S: Final = 2.0
"""Wait for the end of the connection beneath TLS, after the peer has closed it in order."""

_ENDED: Final = "UNEXPECTED_EOF_WHILE_READING"
"""OpenSSL's word for a connection whose end came without close_notify; a reset is another."""

CHUNK_BYTES: Final = 128 * 2**10
MOST_DATAGRAM_BYTES: Final = 65_507
"""RFC 5426: 3.2: what IPv4 can carry."""

_log = logging.getLogger(__name__)

TRUNCATED: Final = Counter(
    "dossier_audit_truncated", "Audit records sent by UDP without their end: too long for a datagram", ["sink"]
)


def send_stream(sink: Sink, messages: Sequence[bytes], tls: Callable[[], ssl.SSLContext] | None) -> None:
    """One batch over one connection; returns once the peer has closed after us. ``tls`` is asked for its context.

    Raises NotDelivered, and Interrupted when the peer was reached but did not confirm.
    """
    connection = _connected(sink, tls)
    deadline = time.monotonic() + BATCH_TIMEOUT_S
    with connection:
        try:
            for chunk in _chunks(messages):
                _still_listening(connection)
                if time.monotonic() > deadline:
                    raise Interrupted("takes records too slowly")
                connection.sendall(chunk)
            _still_listening(connection)
            _closed_in_order(connection, sink)
        except OSError as error:  # ssl.SSLError is one
            raise Interrupted(f"broke the connection ({_reason(error)})") from error


def _connected(sink: Sink, tls: Callable[[], ssl.SSLContext] | None) -> socket.socket:
    try:
        connection = socket.create_connection((sink.host, sink.port), timeout=CONNECT_TIMEOUT_S)
    except OSError as error:
        raise NotDelivered(f"cannot be reached ({_reason(error)})") from error
    try:
        if tls is not None:
            connection = tls().wrap_socket(connection, server_hostname=sink.host, suppress_ragged_eofs=False)
        connection.settimeout(SILENCE_TIMEOUT_S)
    except (OSError, ValueError) as error:  # ValueError: our own certificate cannot be used any more
        connection.close()
        raise NotDelivered(f"TLS handshake failed ({reason_of(error)})") from error
    return connection


def _chunks(messages: Sequence[bytes]) -> Iterator[bytes]:
    """The frames, joined to pieces of some size."""
    gathered, size = list[bytes](), 0
    for message in messages:
        frame = encode_frame(message)
        gathered.append(frame)
        size += len(frame)
        if size >= CHUNK_BYTES:
            yield b"".join(gathered)
            gathered, size = [], 0
    if gathered:
        yield b"".join(gathered)


def _still_listening(connection: socket.socket) -> None:
    """A receiver says nothing (RFC 5425: 4.3); one that has closed before us has not confirmed what follows."""
    timeout = connection.gettimeout()
    connection.settimeout(0)
    try:
        said = connection.recv(1)
    except (BlockingIOError, ssl.SSLWantReadError):
        return
    finally:
        connection.settimeout(timeout)
    raise Interrupted("answers where nothing is due" if said else "closed the connection before we did")


def _closed_in_order(connection: socket.socket, sink: Sink) -> None:
    """Close, and wait for the peer to do so too: close_notify under TLS, else FIN."""
    if isinstance(connection, ssl.SSLSocket):
        try:
            beneath = connection.unwrap()
        except ssl.SSLError as error:
            if error.reason != _ENDED and not isinstance(error, ssl.SSLEOFError):
                raise
            if sink.close_notify:
                text = "ends the connection without close_notify; for a receiver that never sends one: ?close=tcp"
                raise Interrupted(text) from error
            return
        with suppress(TimeoutError):  # its close_notify has come; how long it keeps the connection is its own affair
            beneath.settimeout(END_TIMEOUT_S)
            beneath.shutdown(socket.SHUT_WR)
            beneath.recv(1)
        return
    connection.shutdown(socket.SHUT_WR)
    if connection.recv(1):
        raise Interrupted("answers where nothing is due")


def send_datagrams(sink: Sink, messages: Sequence[bytes]) -> None:
    """One datagram a record. Raises NotDelivered when this machine cannot send, or a host says nobody listens there."""
    try:
        family, kind, protocol, _name, address = socket.getaddrinfo(sink.host, sink.port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind, protocol) as sending:
            sending.settimeout(SILENCE_TIMEOUT_S)
            sending.connect(address)
            for message in messages:
                sending.send(_datagram(sink, message))
            # Of a port where nobody listens the last datagram's answer may be in by now.
            refused = sending.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    except OSError as error:
        raise NotDelivered(f"cannot be reached ({_reason(error)})") from error
    if refused:
        raise NotDelivered("cannot be reached (nobody listens)")


def _datagram(sink: Sink, message: bytes) -> bytes:
    if len(message) <= MOST_DATAGRAM_BYTES:
        return message
    TRUNCATED.labels(sink.text).inc()
    _log.warning("audit sender: %s: a record of %d octets is sent without its end", sink.text, len(message))
    end = MOST_DATAGRAM_BYTES
    while message[end] & 0xC0 == 0x80:  # not within a character of UTF-8
        end -= 1
    return message[:end]


def _reason(error: Exception) -> str:
    """Short, and without an address."""
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason
    return getattr(error, "strerror", None) or type(error).__name__
