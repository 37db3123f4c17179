"""Connections that obey a deadline of the whole call, however often the peer says a little.

A time-out of httpx2 bounds each single wait: a peer that sends one byte a second is never late. Here every wait is cut
to what is left until the deadline of the call that waits. The deadline belongs to the thread: ``until`` sets it around
whatever reads or writes, so that an answer may be read on by another thread.

What a name resolves to is asked of the system, which has its own time-out; no deadline cuts that one short.
"""

import socket
import ssl
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

import httpcore2
import httpx2

__all__ = ["Deadline", "DeadlineTransport", "give_up", "read_until", "remaining", "stale", "until"]


RATE_WINDOW_S: Final = 10.0
"""Seconds of waiting over which the rate of a peer is taken."""
_MOST_HELD: Final = 16 * 2**10


class Deadline:
    """A point of time (``time.monotonic``; ``None``: never) that may be moved while something is still being read."""

    def __init__(self, at: float | None) -> None:
        self.at = at
        self._least_bytes_per_s = 0.0
        self._waited = 0.0
        self._came = 0

    def at_least(self, bytes_per_s: float) -> None:
        """From now on a peer that sends less is given up as one that is late; only waiting counts, not who reads."""
        self._least_bytes_per_s, self._waited, self._came = bytes_per_s, 0.0, 0

    def came(self, size: int, waited: float) -> None:
        """So many bytes came off the connection after so many seconds. Raises ReadTimeout."""
        self._waited += waited
        self._came += size
        if self._waited >= RATE_WINDOW_S:
            slow = self._came < self._least_bytes_per_s * self._waited
            self._waited, self._came = 0.0, 0
            if slow:
                raise httpcore2.ReadTimeout("it comes too slowly")


class _PerThread(threading.local):
    deadline: float | None = None
    reading: Deadline | None = None
    stream: "_Stream | None" = None
    """Where this thread last began a request."""


_this_thread: Final = _PerThread()


@contextmanager
def until(deadline: float | None, reading: Deadline | None = None) -> Iterator[None]:
    """Whatever this thread reads or writes within ends at ``deadline`` (``time.monotonic``); ``None``: no deadline.

    ``reading`` is told of every byte that is read.
    """
    outer = _this_thread.deadline, _this_thread.reading
    _this_thread.deadline, _this_thread.reading = deadline, reading
    try:
        yield
    finally:
        _this_thread.deadline, _this_thread.reading = outer


def read_until(deadline: Deadline, pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The same pieces; each wait for one ends at ``deadline``, whichever thread asks for it."""
    while True:
        with until(deadline.at, deadline):
            piece = next(pieces, None)
        if piece is None:
            return
        yield piece


def remaining(deadline: float | None, timeout: float | None) -> float | None:
    """Seconds to wait at most, zero when the deadline has passed; ``None``: for ever."""
    if deadline is None:
        return timeout
    left = max(deadline - time.monotonic(), 0.0)
    return left if timeout is None else min(left, timeout)


def _left(timeout: float | None, late: type[Exception]) -> float | None:
    """What is left for one wait of this thread; raises ``late`` when nothing is."""
    left = remaining(_this_thread.deadline, timeout)
    if left is not None and left <= 0:
        raise late("the deadline of the call has passed")
    return left


class _Stream(httpcore2.NetworkStream):
    """A connection as httpcore2 made it; head and body of a short request leave together, when the answer is read.

    ``requests`` that began on it; of the last one, whether any of it has left (``sent``) and anything came (``heard``).
    """

    def __init__(self, inner: httpcore2.NetworkStream) -> None:
        self._inner = inner
        self._socket: socket.socket = inner.get_extra_info("socket")
        self._held = b""
        self._reading = True
        self.requests = 0
        self.sent = self.heard = False

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        self._reading = True
        if self._held:
            # A peer may have answered and hung up before it took the request: what it said is worth reading.
            with suppress(httpcore2.WriteError):
                self._send(timeout)
        began = time.monotonic()
        data = self._inner.read(max_bytes, _left(timeout, httpcore2.ReadTimeout))
        self.heard = self.heard or bool(data)
        if data and _this_thread.reading is not None:  # here, as what is read above may be nothing but padding
            _this_thread.reading.came(len(data), time.monotonic() - began)
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        if self._reading:
            self._reading = self.sent = self.heard = False
            self.requests += 1
            _this_thread.stream = self
        self._held += buffer
        if len(self._held) > _MOST_HELD:
            self._send(timeout)

    def _send(self, timeout: float | None) -> None:
        """As the inner stream does, but with what is left anew for each piece that the peer takes."""
        held, self._held = self._held, b""
        self.sent = True
        if _this_thread.deadline is None:
            self._inner.write(held, timeout)
            return
        rest = memoryview(held)
        while rest:
            self._socket.settimeout(_left(timeout, httpcore2.WriteTimeout))
            try:
                rest = rest[self._socket.send(rest) :]
            except TimeoutError as error:
                raise httpcore2.WriteTimeout(str(error)) from error
            except OSError as error:
                raise httpcore2.WriteError(str(error)) from error

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.NetworkStream:
        left = _left(timeout, httpcore2.ConnectTimeout)
        return _Stream(self._inner.start_tls(ssl_context, server_hostname, left))

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


class _Backend(httpcore2.SyncBackend):
    """Opens connections; a name with several addresses has the time-out once, and each a fair part of what is left."""

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.NetworkStream:
        deadline = None if timeout is None else time.monotonic() + timeout
        failed: Exception = httpcore2.ConnectError("the name has no address")
        addresses = _addresses(host, port)
        for at, address in enumerate(addresses):
            left = _left(remaining(deadline, None), httpcore2.ConnectTimeout)
            each = None if left is None else left / (len(addresses) - at)
            try:
                return _Stream(super().connect_tcp(address, port, each, local_address, socket_options))
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failed = error
        raise failed


def _addresses(host: str, port: int) -> tuple[str, ...]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise httpcore2.ConnectError(str(error)) from error
    return tuple(dict.fromkeys(str(where[4][0]) for where in found))


class DeadlineTransport(httpx2.HTTPTransport):
    """httpx2's own transport, on connections that obey ``until``."""

    def __init__(self, verify: ssl.SSLContext | bool, *, max_connections: int, keepalive_expiry: float) -> None:
        context = httpx2.create_ssl_context(verify=verify, trust_env=False)
        super().__init__(verify=context, trust_env=False)
        self._pool = httpcore2.ConnectionPool(
            ssl_context=context,
            max_connections=max_connections,
            keepalive_expiry=keepalive_expiry,
            network_backend=_Backend(),
        )

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """The answer of a connection that is new or was kept.

        What lay there before the request is no answer to it (RFC 9112: 9.2): httpcore2 would take what a peer said too
        much for the next answer, and so on for ever. Raises RemoteProtocolError instead; see ``stale``.
        """
        _this_thread.stream = None
        response = super().handle_request(request)
        stream = _this_thread.stream
        if stream is not None and not stream.heard:
            stream.close()
            response.close()
            raise httpx2.RemoteProtocolError("an answer was there before the request")
        return response


def stale(*, repeatable: bool) -> bool:
    """Whether the last request of this thread failed because the connection was kept too long, and may be sent again.

    So it is where nothing came back on a connection that had been used before; and, unless it is ``repeatable``,
    nothing of the request had left.
    """
    stream = _this_thread.stream
    return stream is not None and stream.requests > 1 and not stream.heard and (repeatable or not stream.sent)


def give_up(response: httpx2.Response) -> None:
    """Use the connection of an answer no more: whose answer the next one on it were is not known."""
    stream = response.extensions.get("network_stream")
    if stream is not None:
        stream.close()
    response.close()
