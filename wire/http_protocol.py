"""One HTTP/1 connection: uvicorn's httptools protocol with the bounds it does not have. Only wire.http_server uses it.

Head      bytes and headers counted as they come (httptools has no limit): over it 431, too slow 408
Folding   a header line may go on in the next (RFC 9112: 5.2), as old MIME libraries write their Content-Type; control
          characters in a value are refused
Body      handed to the application as it arrives; reading stops while 64 KiB wait to be taken
Answer    begun before the request was whole: ``connection: close``, and the rest of the request is dropped for a moment
          (closing at once would reset the connection and the client might never see the answer)
Broken    an answer the application does not finish ends in a reset, so that it cannot be taken for whole

What follows uvicorn's own code: the ASGI scope, the request cycle and its send, flow control. Where several requests
were pipelined, a lost connection ends all of them, and an error of a later one waits for the answers of the earlier.
"""

import asyncio
import re
import urllib.parse
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Final

import httptools
import uvicorn
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from wire.forwarded import Forwarded, ForwardedRefused
from wire.handshake import HandshakeFailed, report
from wire.http_cycle import Connection, Cycle, GentleTransport
from wire.settings import LimitSettings
from wire.tls import Peer, peer_of

__all__ = ["Admission", "BoundedHttpProtocol"]

_MAX_PIPELINED: Final = 16
_LINGER_S: Final = 5.0
_LINGER_BYTES: Final = 32 * 2**20
_HEADER_OVERHEAD: Final = 4  # ": " and CRLF
_CONTROL: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")

# Headers: folded lines, and with them control characters, which on_header refuses. Data after close: uvicorn's choice.
_LENIENT: Final = {"lenient_headers": True, "lenient_data_after_close": True}


class _State(Enum):
    IDLE = auto()
    HEAD = auto()
    BODY = auto()


class _Refused(Exception):  # noqa: N818 - an outcome
    """Raised in a parser callback; ``status`` is what the client is told."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True, slots=True)
class Admission:
    """Whose word counts for who is calling, and who is told of a peer that was refused."""

    forwarded: Forwarded
    refused: HandshakeFailed | None


async def _busy(_scope: Any, _receive: Any, send: Any) -> None:
    text = b"too many requests at the same time\n"
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(text)), (b"retry-after", b"1")]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": text})


class BoundedHttpProtocol(HttpToolsProtocol):
    """See the module. Once ``begun`` (connection_made ran), ``lost`` is called when the connection has ended."""

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        limits: LimitSettings,
        lost: Callable[[], None],
        admission: Admission,
    ) -> None:
        super().__init__(config, server_state, {})
        self.parser.set_dangerous_leniencies(**_LENIENT)
        self.access_log = False
        self.begun = False
        self._limits = limits
        self._lost = lost
        self._admission = admission
        self._state = _State.IDLE
        self._head_bytes = 0  # of this head, in chunks that ended before the head did
        self._counted_bytes = 0  # of this head, in the request line and headers parsed so far
        self._heads_begun = 0
        self._head_timer: asyncio.TimerHandle | None = None
        self._answer_timer: asyncio.TimerHandle | None = None
        self._open: deque[Cycle] = deque()  # requests whose answer is not complete, oldest first
        self._keep_alive = True
        self._upgrading: bytes | None = None  # the method of a request that offers another protocol
        self._dead = False  # nothing more is parsed
        self._draining = False
        self._linger_left: int | None = None  # bytes still to be dropped before the connection is closed

    # connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.begun = True
        secured = transport.get_extra_info("ssl_object")
        certificate = None if secured is None else secured.getpeercert(binary_form=True)
        self._peer = peer_of(self.client[0] if self.client else "", certificate)
        self.connection = Connection(transport)
        self._gentle = GentleTransport(transport.write, self.close_gently, self.is_closing)
        self._head_timer = self.loop.call_later(self._limits.header_timeout_s, self._head_timeout)

    def connection_lost(self, exc: Exception | None) -> None:
        for cycle in self._open:
            cycle.disconnected = True
            cycle.message_event.set()
        for timer in (self._head_timer, self._answer_timer, self.timeout_keep_alive_task):
            if timer is not None:
                timer.cancel()
        self.pipeline.clear()
        super().connection_lost(exc)
        self._lost()

    def eof_received(self) -> bool:  # type: ignore[override]
        """Keep a half-closed connection while whole requests are being answered (TLS cannot be half-closed)."""
        if self.scheme == "https" or self._linger_left is not None or self._state is not _State.IDLE or not self._open:
            return False
        self._dead = True
        self._open[-1].keep_alive = False
        return True

    def is_closing(self) -> bool:
        """Closed, being closed, or only kept for the client to read the answer."""
        return self._linger_left is not None or self.transport.is_closing()

    def close_gently(self) -> None:
        """Close once the answer is out; while the request is not whole, drop what still comes, for a moment."""
        if self.is_closing():
            return
        if self._state is _State.IDLE and not self._dead:
            self._close()
            return
        self._linger_left = _LINGER_BYTES
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.flow.resume_reading()
        self._stop_head_timer()
        self._head_timer = self.loop.call_later(_LINGER_S, self._close)

    def _close(self) -> None:
        self.transport.close()
        if self._answer_timer is None and self.transport.get_write_buffer_size():
            self._watch_answer()

    def shutdown(self) -> None:
        """The process is to stop: idle connections close, others after the answers they wait for."""
        self._draining = True
        if not self._open:
            self._close()
        for cycle in self._open:
            cycle.keep_alive = False

    # bytes in

    def data_received(self, data: bytes) -> None:
        if self._linger_left is not None:
            self._linger_left -= len(data)
            if self._linger_left < 0:
                self._close()
            return
        if self._dead:
            return
        before = self._state
        self._heads_begun = 0
        self._parse(data)
        if self._state is _State.HEAD and not self._dead:
            if before is not _State.BODY and self._heads_begun <= 1:
                self._head_bytes += len(data)
            if self._head_bytes > self._limits.max_header_bytes:
                self._refuse(431, "request head too large")
            elif self._head_timer is None:
                self._head_timer = self.loop.call_later(self._limits.header_timeout_s, self._head_timeout)

    def _parse(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            rest = data[upgrade.args[0] :]
            self.parser = httptools.HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(**_LENIENT)
            method, self._upgrading = self._upgrading or b"", None
            self._parse(self._head_without_upgrade(method) + rest)
        except httptools.HttpParserError as error:
            cause = error.__context__
            if isinstance(cause, _Refused):
                self._refuse(cause.status, str(cause))
            else:
                self._refuse(400, "not an HTTP/1 request")

    def _head_without_upgrade(self, method: bytes) -> bytes:
        """The request as if no upgrade had been offered: a JDK client offers h2c with every request and goes on in
        HTTP/1.1, while the parser would take the body for the other protocol.
        """
        lines = [b"%s %s HTTP/1.1" % (method, self.url)]
        for name, value in self.headers:
            if name == b"connection":
                tokens = [token.strip() for token in value.split(b",")]
                kept = [token for token in tokens if token.lower() not in {b"upgrade", b"http2-settings"}]
                lines += [b"connection: " + b", ".join(kept)] if kept else []
            elif name not in {b"upgrade", b"http2-settings"}:
                lines.append(name + b": " + value)
        return b"\r\n".join((*lines, b"", b""))

    def _refuse(self, status: int, reason: str) -> None:
        """Answer what cannot be read and end the connection, after the answers that are due before."""
        self._dead = True
        self._stop_head_timer()
        broken = self._open[-1] if self._open and self._open[-1].more_body else None
        if broken is not None:
            broken.disconnected = True
            broken.message_event.set()
            self._open.pop()
            if self._open:
                self.pipeline.popleft()  # it never started
            elif broken.response_started:
                self.connection.abort()
                return
        if self._open:
            self._open[-1].keep_alive = False
            return
        text = reason.encode("ascii") + b"\n"
        self.transport.write(
            STATUS_LINE[status]
            + b"content-type: text/plain\r\nconnection: close\r\n"
            + b"content-length: %d\r\n\r\n" % len(text)
            + text
        )
        self.close_gently()

    def _head_timeout(self) -> None:
        self._head_timer = None
        if self._state is _State.HEAD:
            self._refuse(408, "the request head took too long")
        else:
            self._close()

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    # parser callbacks

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._unset_keepalive_if_required()
        self._state = _State.HEAD
        self._head_bytes = self._counted_bytes = 0
        self._heads_begun += 1

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._count(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        if _CONTROL.search(value):
            raise _Refused(400, "a control character in a header")
        if self.headers[-1][0] == b"host" and sum(header == b"host" for header, _ in self.headers) > 1:
            raise _Refused(400, "two Host headers")  # RFC 9112: 3.2; proxies and we might not mean the same one
        if len(self.headers) > self._limits.max_header_count:
            raise _Refused(431, "too many headers")
        self._count(len(name) + len(value) + _HEADER_OVERHEAD)

    def _count(self, size: int) -> None:
        self._counted_bytes += size
        if self._counted_bytes > self._limits.max_header_bytes:
            raise _Refused(431, "request head too large")

    def on_headers_complete(self) -> None:
        method = self.parser.get_method()
        if self.parser.should_upgrade():
            if method == b"CONNECT":
                raise _Refused(400, "not a proxy")
            self._upgrading = method  # the parser stops now; see _parse
            return
        self._stop_head_timer()
        if len(self._open) >= _MAX_PIPELINED:
            raise _Refused(400, "too many pipelined requests")
        version = self.parser.get_http_version()
        self._fill_scope(version, self._caller())
        self._state = _State.BODY
        busy = len(self.tasks) >= self._limits.max_concurrent_requests
        # Until the request is whole any answer must end the connection; on_message_complete allows more requests
        self._keep_alive = version != "1.0" and self.parser.should_keep_alive()
        self.cycle = cycle = Cycle(
            self.connection,
            scope=self.scope,
            transport=self._gentle,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue and version == "1.1",
            keep_alive=False,
            on_response=self.on_response_complete,
        )
        self._open.append(cycle)
        if len(self._open) == 1:
            self._start_asgi_task(cycle, _busy if busy else self.app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((cycle, self.app))

    def _caller(self) -> Peer:
        """The peer, or whom a proxy speaks for."""
        try:
            return self._admission.forwarded.caller(self._peer, self.headers)
        except ForwardedRefused as refused:
            address, port = self.client or ("", 0)
            report(address, port, refused.reason, self._admission.refused)
            raise _Refused(403, refused.reason) from refused

    def _fill_scope(self, version: str, caller: Peer) -> None:
        url = httptools.parse_url(self.url)
        path = url.path.decode("ascii")
        scope: Any = self.scope
        scope["http_version"] = version
        scope["method"] = self.parser.get_method().decode("ascii")
        scope["path"] = urllib.parse.unquote(path) if "%" in path else path
        scope["raw_path"] = url.path
        scope["query_string"] = url.query or b""
        scope["dossier.peer"] = caller
        scope["dossier.connection"] = self.connection

    def on_body(self, body: bytes) -> None:
        cycle = self.cycle
        if cycle.response_complete:
            return
        cycle.pieces.append(body)  # type: ignore[attr-defined]
        cycle.waiting_bytes += len(body)  # type: ignore[attr-defined]
        if cycle.waiting_bytes > HIGH_WATER_LIMIT:  # type: ignore[attr-defined]
            self.flow.pause_reading()
        cycle.message_event.set()

    def on_message_complete(self) -> None:
        if self._upgrading is not None:
            return
        self._state = _State.IDLE
        cycle = self.cycle
        cycle.more_body = False
        if not cycle.response_started and not self._draining:
            cycle.keep_alive = self._keep_alive
        cycle.message_event.set()

    # bytes out

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        self._open.popleft()
        if self.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
        elif self._state is _State.IDLE:
            self.timeout_keep_alive_task = self.loop.call_later(self._limits.keep_alive_s, self._close)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_answer()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._answer_timer is not None:
            self._answer_timer.cancel()
            self._answer_timer = None

    def _watch_answer(self) -> None:
        """Break the connection when the peer takes not one byte of what waits for it within answer_timeout_s."""
        timeout_s = self._limits.answer_timeout_s
        self._answer_timer = self.loop.call_later(timeout_s, self._judge_answer, self.connection.unsent_bytes)

    def _judge_answer(self, waiting: int) -> None:
        if self.connection.unsent_bytes < waiting:
            self._watch_answer()
        else:
            self.connection.abort()
