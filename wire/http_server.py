"""The HTTP server of every service: uvicorn, held to our bounds. Nothing else imports uvicorn or httptools.

Accepts   TCP first, then the TLS handshake in our own coroutine (wire.handshake): a failed one is seen and audited
Bounds    head bytes and header count (431), time for head and keep-alive, connections, requests (503), unread answers
Tells     ``scope["dossier.peer"]`` (wire.tls.Peer) and ``scope["dossier.connection"]`` (Connection)
Ends      on ``stop``: no new connections, running requests get ``drain_s``, the rest is broken off

An answer that begins before its request was read whole carries ``connection: close``; what still arrives is read and
dropped for a moment, so that the client gets to see the answer (a 413, say) instead of a reset.
"""

import asyncio
import contextlib
import errno
import ipaddress
import logging
import socket
from collections.abc import Callable, Sequence
from email.utils import formatdate
from typing import Any, Final

import uvicorn
from uvicorn.server import ServerState

from wire.forwarded import Forwarded
from wire.handshake import HandshakeFailed, Tls, open_transport
from wire.http_cycle import Connection
from wire.http_protocol import Admission, BoundedHttpProtocol
from wire.reloading import keep_fresh
from wire.settings import LimitSettings
from wire.tls import Peer

__all__ = ["Connection", "Peer", "PlaintextRefused", "check_plaintext", "serve_http"]

_log = logging.getLogger(__name__)
_OUT_OF_RESOURCES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_BREATH_S: Final = 0.2
_DRAIN_STEP_S: Final = 0.02
_BREAK_OFF_S: Final = 5.0
_PATIENCE_S: Final = 0.003
"""What a worker with very many connections lets pass before it takes another one; with ``_MANY``, half of it."""
_MANY: Final = 16
_WAITS_A_SECOND: Final = 50


class PlaintextRefused(ValueError):  # noqa: N818 - a fault of the settings, not of the program
    """A listener without TLS would be reachable from other machines and nobody allowed it."""


def check_plaintext(sockets: Sequence[socket.socket]) -> None:
    """Raise PlaintextRefused when one of the bound sockets can be reached from another machine."""
    for listener in sockets:
        name = listener.getsockname()
        if listener.family in {socket.AF_INET, socket.AF_INET6} and not ipaddress.ip_address(name[0]).is_loopback:
            raise PlaintextRefused(
                f"{name[0]} port {name[1]} would be served without TLS: give tls.certificate, listen on 127.0.0.1, "
                "or set tls.allow_plaintext where the network itself is secured"
            )


async def serve_http(
    app: Any,
    sockets: Sequence[socket.socket],
    *,
    limits: LimitSettings,
    tls: Tls | None,
    stop: asyncio.Event,
    started: Callable[[], None],
    allow_plaintext: bool = False,
    forwarded: Forwarded | None = None,
    handshake_failed: HandshakeFailed | None = None,
    shared: bool = False,
) -> None:
    """Serve ``app`` (ASGI 3, no lifespan) on bound sockets until ``stop`` is set; they are closed on return.

    ``tls`` is asked for each connection; ``forwarded`` says which proxies may name another caller (``None``: none).
    ``shared``: other processes accept on the same sockets. ``started`` is called once connections are accepted. Raises
    PlaintextRefused before anything is accepted.
    """
    if tls is None and not allow_plaintext:
        check_plaintext(sockets)
    admission = Admission(forwarded or Forwarded(None), handshake_failed)
    server = _Server(app, sockets, limits, tls, admission, shared=shared)
    await server.run_until(stop, started)


class _Server:
    """Accepts, hands over, drains; uvicorn's own Server would hide failed handshakes and accept without bound."""

    def __init__(
        self,
        app: Any,
        sockets: Sequence[socket.socket],
        limits: LimitSettings,
        tls: Tls | None,
        admission: Admission,
        *,
        shared: bool,
    ) -> None:
        self._config = uvicorn.Config(
            app,
            http=BoundedHttpProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="warning",
            access_log=False,
            proxy_headers=False,
            server_header=False,
        )
        self._config.load()
        self._state = ServerState()
        self._sockets = list(sockets)
        self._limits = limits
        self._tls = tls
        self._admission = admission
        self._free = asyncio.Semaphore(limits.max_connections)
        self._connecting: dict[asyncio.Task[None], BoundedHttpProtocol] = {}
        self._shared = shared
        self._second, self._waits = 0.0, 0

    async def run_until(self, stop: asyncio.Event, started: Callable[[], None]) -> None:
        accepting = [asyncio.create_task(self._accept(listener)) for listener in self._sockets]
        accepting.append(asyncio.create_task(keep_fresh(self._tls, self._admission.forwarded.verifier)))
        self._renew_date()
        started()
        try:
            while not stop.is_set():
                self._renew_date()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), 1)
        finally:
            for task in (*accepting, *self._handshakes()):
                task.cancel()
            await asyncio.gather(*accepting, *self._connecting, return_exceptions=True)
            for listener in self._sockets:
                listener.close()
            await self._drain()

    def _handshakes(self) -> list[asyncio.Task[None]]:
        """Connections that may be broken off: those of TLS whose protocol has not begun.

        Any other is a few turns of the loop from being handed over, or has brought a request already. uvloop would
        close it and tell the protocol nothing: its request would fail, and the drain would wait for it to the end.
        """
        return [task for task, protocol in self._connecting.items() if self._tls is not None and not protocol.begun]

    def _renew_date(self) -> None:
        self._state.default_headers = [(b"date", formatdate(usegmt=True).encode("ascii"))]

    async def _accept(self, listener: socket.socket) -> None:
        listener.setblocking(False)
        while True:
            await self._free.acquire()
            try:
                connection, address = await self._next(listener)
            except OSError as error:
                self._free.release()
                if error.errno in _OUT_OF_RESOURCES:
                    _log.error("cannot accept connections: %s", error.strerror)
                    await asyncio.sleep(_BREATH_S)
                continue
            protocol = BoundedHttpProtocol(self._config, self._state, self._limits, self._free.release, self._admission)
            task = asyncio.create_task(self._connect(protocol, connection, address))
            self._connecting[task] = protocol
            task.add_done_callback(self._connecting.pop)

    async def _next(self, listener: socket.socket) -> tuple[socket.socket, Any]:
        """The next connection that no other worker takes.

        All workers are told of it, and one whose loop runs would take all that wait: a client with many connections
        would keep one worker busy and leave the others idle. So a worker lets those go first that have fewer.
        """
        if not self._shared:
            return await asyncio.get_running_loop().sock_accept(listener)
        while True:
            await _readable(listener)
            mine = len(self._state.connections) + len(self._connecting)
            if mine and self._patient():
                await asyncio.sleep(_PATIENCE_S * mine / (mine + _MANY))
            with contextlib.suppress(BlockingIOError):  # another one was faster
                connection, address = listener.accept()
                connection.setblocking(False)
                return connection, address

    def _patient(self) -> bool:
        """Whether there is time to wait: where a flood of connections comes, each of them is short."""
        now = asyncio.get_running_loop().time()
        if now - self._second >= 1:
            self._second, self._waits = now, 0
        self._waits += 1
        return self._waits <= _WAITS_A_SECOND

    async def _connect(self, protocol: BoundedHttpProtocol, connection: socket.socket, address: Any) -> None:
        """Hand an accepted connection to the protocol, through the handshake where there is TLS."""
        try:
            await open_transport(
                lambda: protocol,
                connection,
                address,
                tls=self._tls,
                timeout_s=self._limits.tls_handshake_timeout_s,
                failed=self._admission.refused,
            )
        finally:
            if not protocol.begun:
                self._free.release()

    async def _drain(self) -> None:
        """Let running requests finish within ``drain_s``; then end them and break their connections."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._limits.drain_s
        for connection in list(self._state.connections):
            connection.shutdown()
        while (self._state.connections or self._state.tasks) and loop.time() < deadline:  # noqa: ASYNC110 - they end in any order
            await asyncio.sleep(_DRAIN_STEP_S)
        left = list(self._state.tasks)
        for task in left:
            task.cancel()
        for connection in list(self._state.connections):
            connection.transport.abort()
        if left:
            _log.warning("%s requests were broken off after %s s", len(left), self._limits.drain_s)
            await asyncio.wait(left, timeout=_BREAK_OFF_S)
        await asyncio.sleep(0)


async def _readable(listener: socket.socket) -> None:
    """Wait until somebody connects."""
    loop = asyncio.get_running_loop()
    called = asyncio.Event()
    loop.add_reader(listener, called.set)
    try:
        await called.wait()
    finally:
        loop.remove_reader(listener)
