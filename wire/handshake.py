"""From an accepted TCP connection to one whose peer has proved who it is (ITI TF-2: 3.19), for every listener.

The handshake runs in the coroutine of the caller, so that one that fails is seen, timed out, told in the log, counted,
and handed to the audit with the peer's address and port and the reason.
"""

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable
from typing import Any, Final

from prometheus_client import Counter

from wire.last_words import Attempt, attempt
from wire.tls import reason_of

__all__ = ["HandshakeFailed", "Tls", "endpoint", "open_transport", "report"]

Tls = Callable[[], ssl.SSLContext]
"""The TLS of a listener: gives the context for a new connection, see ``wire.reloading``."""

HandshakeFailed = Callable[[str, int, str], None]
"""Called with the peer's address, its port and the reason, for the audit's security alert; must not block."""

SHUTDOWN_S: Final = 5.0

FAILED: Final = Counter("dossier_handshakes_failed", "Peers that could not prove who they are", ["reason"])

_log = logging.getLogger(__name__)


async def open_transport(
    factory: Callable[[], asyncio.BaseProtocol],
    connection: socket.socket,
    address: Any,
    *,
    tls: Tls | None,
    timeout_s: float,
    failed: HandshakeFailed | None,
) -> asyncio.Transport | None:
    """Hand ``connection`` to the protocol of ``factory``, through the handshake where there is TLS.

    ``None`` when that failed: the connection is closed then, the protocol was never told of it, and ``failed`` was.
    ``address`` is what ``accept`` gave; ``timeout_s`` bounds the handshake.
    """
    loop = asyncio.get_running_loop()
    secured: dict[str, Any] = {}
    trial = Attempt(connection)
    attempt.set(trial)
    if tls is not None:
        secured = {"ssl": tls(), "ssl_handshake_timeout": timeout_s, "ssl_shutdown_timeout": SHUTDOWN_S}
    try:
        transport, _protocol = await loop.connect_accepted_socket(factory, connection, **secured)
    except OSError as error:  # ssl.SSLError and TimeoutError are such
        if tls is not None:
            report(*endpoint(address), reason_of(trial.error or error), failed)
        return None
    return transport


def endpoint(address: Any) -> tuple[str, int]:
    """IP address and port of what ``accept`` gave; of a connection without them "" and 0."""
    return (str(address[0]), int(address[1])) if isinstance(address, tuple) and len(address) > 1 else ("", 0)


def report(address: str, port: int, reason: str, failed: HandshakeFailed | None) -> None:
    """Tell log, metrics and audit of a peer that was refused before it could ask anything."""
    _log.warning("peer %s port %s refused: %s", address, port, reason)
    FAILED.labels(reason.partition(":")[0]).inc()
    if failed is not None:
        failed(address, port, reason)
