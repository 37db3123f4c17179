"""A peer that fails a handshake is told why: the TLS alert goes out before the connection ends (RFC 8446: 6.2).

The event loops break the connection as soon as ``do_handshake`` raises, with the alert still in the outgoing buffer; so
the peer's operator sees an unexpected end instead of "certificate expired". A failure is therefore first shown to the
loop as "wants to read", which makes it send what is in the buffer; reading is shut down behind that, and the loop, at
the end of the stream, breaks the connection. ``Attempt.error`` keeps what had happened.
"""

import asyncio
import contextlib
import socket
import ssl
from contextvars import ContextVar

__all__ = ["Attempt", "TellingObject", "attempt"]


class Attempt:
    """One handshake of a connection that was accepted."""

    def __init__(self, connection: socket.socket) -> None:
        self.error: ssl.SSLError | None = None
        self._connection = connection

    def end_after_alert(self, error: ssl.SSLError) -> None:
        """Remember the reason; let the loop send what waits, then see the end."""
        self.error = error
        asyncio.get_running_loop().call_soon(self._shut)

    def _shut(self) -> None:
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RD)


attempt: ContextVar[Attempt | None] = ContextVar("attempt", default=None)
"""Set by who accepts, for the callbacks of this connection; without it a failure is raised at once."""


class TellingObject(ssl.SSLObject):
    """See the module."""

    _attempt: Attempt | None = None

    def do_handshake(self) -> None:
        """As OpenSSL's, but a failure is raised at the second call."""
        if self._attempt is not None and self._attempt.error is not None:
            raise self._attempt.error
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError as error:
            self._attempt = attempt.get()
            if self._attempt is None:
                raise
            self._attempt.end_after_alert(error)
            raise ssl.SSLWantReadError(ssl.SSL_ERROR_WANT_READ, "an alert is to be sent") from error
