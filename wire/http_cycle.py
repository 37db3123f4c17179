"""One HTTP request and its answer: uvicorn's request cycle, changed where it copies, logs messages or trusts HTTP/1.1.

An answer the application leaves unfinished ends in a reset, so that it cannot be taken for whole.
"""

import asyncio
import contextlib
import fcntl
import logging
import socket
import struct
import termios
import traceback
from collections.abc import Callable
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

__all__ = ["Connection", "Cycle", "GentleTransport"]

_log = logging.getLogger(__name__)
_INT: Final = struct.Struct("i")
_RESET: Final = struct.pack("ii", 1, 0)
_GONE: Final = (OSError, ValueError)
"""What asking a socket raises that the peer has closed meanwhile; uvloop: ValueError, its descriptor is -1."""


class Connection:
    """``scope["dossier.connection"]``: the connection a request came on, for whoever streams an answer."""

    __slots__ = ("_transport",)

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport

    @property
    def lost(self) -> bool:
        """The connection is gone or going: what is sent now reaches nobody."""
        return self._transport.is_closing()

    @property
    def unsent_bytes(self) -> int:
        """What the peer has not taken yet: in our memory, and in the kernel's where that can be asked (Linux)."""
        waiting = self._transport.get_write_buffer_size()
        raw: socket.socket | None = self._transport.get_extra_info("socket")
        with contextlib.suppress(*_GONE):
            if raw is not None:
                waiting += _INT.unpack(fcntl.ioctl(raw.fileno(), termios.TIOCOUTQ, bytes(_INT.size)))[0]
        return waiting

    def abort(self) -> None:
        """Break the connection now, with a reset, so that an unfinished answer cannot look whole."""
        raw: socket.socket | None = self._transport.get_extra_info("socket")
        with contextlib.suppress(*_GONE):
            if raw is not None and not self._transport.is_closing():
                # asyncio hands out a wrapper with setsockopt, for TLS too
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._transport.abort()


class GentleTransport:
    """What request cycles see of the transport: a close that lets the client read the answer, and fewer system calls.

    After ``hold`` the next write waits for the one behind it: the head of an answer leaves together with its body.
    """

    __slots__ = ("_close", "_held", "_holding", "_write", "is_closing")

    def __init__(
        self, write: Callable[[bytes], None], close: Callable[[], None], is_closing: Callable[[], bool]
    ) -> None:
        self._write = write
        self._close = close
        self.is_closing = is_closing
        self._holding = False
        self._held = b""

    def hold(self) -> None:
        self._holding = True

    def write(self, data: bytes) -> None:
        if self._holding:
            self._holding, self._held = False, data
        elif self._held:
            head, self._held = self._held, b""
            self._write(head + data)
        else:
            self._write(data)

    def close(self) -> None:
        if self._held:
            self.write(b"")
        self._close()


class Cycle(RequestResponseCycle):
    """One request and its answer. Pieces of the body are handed on without being copied together."""

    def __init__(self, connection: Connection, transport: GentleTransport, **given: Any) -> None:
        super().__init__(transport=transport, **given)  # type: ignore[arg-type]
        self._gentle = transport
        self.pieces: list[bytes] = []
        self.waiting_bytes = 0
        self._connection = connection
        self._until_close = False

    async def run_asgi(self, app: Any) -> None:
        try:
            await app(self.scope, self.receive, self.send)
        except Exception as error:  # noqa: BLE001 - the application's defect; its message may hold what it worked on
            _log.error(
                "request failed: %s\n%s", type(error).__name__, "".join(traceback.format_tb(error.__traceback__))
            )
        finally:
            if self.response_started and not self.response_complete:
                self._connection.abort()
        if not self.response_started and not self._connection.lost:
            await self.send_500_response()
        self.on_response = _nothing  # unties the cycle from its protocol

    async def receive(self) -> Any:
        if self.waiting_for_100_continue and not self.transport.is_closing():
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self.waiting_for_100_continue = False
        if not self.disconnected and not self.response_complete:
            self.flow.resume_reading()
            await self.message_event.wait()
            self.message_event.clear()
        if self.disconnected or self.response_complete:
            return {"type": "http.disconnect"}
        pieces, self.pieces, self.waiting_bytes = self.pieces, [], 0
        return {"type": "http.request", "body": b"".join(pieces), "more_body": self.more_body}

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            if self.scope["method"] != "HEAD":  # no body will follow its head
                self._gentle.hold()
            if self.scope["http_version"] == "1.0" and not _has_length(message):
                # HTTP/1.0 knows no chunks: without a length the answer ends where the connection does
                self._until_close = True
                self.chunked_encoding = False
        elif self._until_close:
            await self._send_until_close(message)
            return
        await super().send(message)

    async def _send_until_close(self, message: Any) -> None:
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        if self.scope["method"] != "HEAD":
            self.transport.write(message.get("body", b""))
        if not message.get("more_body", False):
            self.response_complete = True
            self.message_event.set()
            self.transport.close()
            self.on_response()


def _has_length(message: Any) -> bool:
    return any(name.lower() == b"content-length" for name, _ in message.get("headers", ()))


def _nothing() -> None:
    """Stands in for a callback whose time is over."""
