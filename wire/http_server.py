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
) -> None:
    """Serve ``app`` (ASGI 3, no lifespan) on bound sockets until ``stop`` is set; they are closed on return.

    ``tls`` is asked for each connection; ``forwarded`` says which proxies may name another caller (``None``: none).
    ``started`` is called once connections are accepted. Raises PlaintextRefused before anything is accepted.
    """
    if tls is None and not allow_plaintext:
        check_plaintext(sockets)
    server = _Server(app, sockets, limits, tls, Admission(forwarded or Forwarded(None), handshake_failed))
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
        loop = asyncio.get_running_loop()
        listener.setblocking(False)
        while True:
            await self._free.acquire()
            try:
                connection, address = await loop.sock_accept(listener)
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
