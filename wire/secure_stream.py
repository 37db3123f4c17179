"""A connection whose two directions end one after the other, over TLS or plain TCP, for peers that count an end.

``receive``   the next octets; none once the peer has ended its side in order (close_notify; FIN on plain TCP)
``confirm``   answer the peer's end with ours; only now it knows that we have seen its end
``abort``     break the connection (RST): no end of ours, so the peer knows that nothing is confirmed

asyncio and uvloop answer a close_notify by themselves, at once. So TLS is driven here: ``ssl.SSLObject`` between two
buffers in memory, the socket read and written by the loop (RFC 8446: 6.1 lets each side close its own direction).
"""

import asyncio
import contextlib
import socket
import ssl
import struct
from typing import Final, Protocol

__all__ = ["NoTls", "PlainStream", "SecureStream", "Stream", "TruncatedStream"]

READ_BYTES: Final = 65_536
LINGER_S: Final = 2.0
"""How long the peer may take to close after our end; octets it still sends would turn the close into a RST."""

_RST_ON_CLOSE: Final = struct.pack("ii", 1, 0)
_FIN_ON_CLOSE: Final = struct.pack("ii", 0, 0)


class NoTls(Exception):  # noqa: N818 - an outcome
    """TLS was not agreed on; the cause is OpenSSL's error, ``None`` where the peer went away."""


class TruncatedStream(ConnectionError):  # noqa: N818 - a finding
    """The TCP connection ended without close_notify: nobody can tell whether the peer meant to end here."""


class Stream(Protocol):
    """What both kinds offer. ``receive`` raises OSError when the connection is lost."""

    async def receive(self) -> bytes:
        """At most ``READ_BYTES`` octets, none at an end in order."""
        ...

    async def confirm(self) -> None:
        """Answer the peer's end in order, after ``receive`` has returned nothing; then close."""
        ...

    def abort(self) -> None:
        """Break the connection; harmless after ``confirm``."""
        ...


class PlainStream:
    """TCP: a FIN is an end in order, for there is nothing else to tell one."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._loop = asyncio.get_running_loop()
        _break_on_close(sock)

    async def receive(self) -> bytes:
        """See ``Stream``."""
        return await self._loop.sock_recv(self._socket, READ_BYTES)

    async def confirm(self) -> None:
        """See ``Stream``: our FIN."""
        _end_on_close(self._socket)
        self._socket.shutdown(socket.SHUT_WR)
        self._socket.close()

    def abort(self) -> None:
        """See ``Stream``."""
        self._socket.close()


class SecureStream:
    """TLS, server side. ``handshake`` first."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        self._socket = sock
        self._loop = asyncio.get_running_loop()
        self._came = ssl.MemoryBIO()
        self._goes = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._came, self._goes, server_side=True)
        self._fault: ssl.SSLError | None = None
        _break_on_close(sock)

    @property
    def certificate(self) -> bytes | None:
        """The peer's, in DER."""
        return self._tls.getpeercert(binary_form=True)

    async def handshake(self) -> None:
        """Raises NoTls; OSError when the connection is lost."""
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._flush()
                if not await self._pull():
                    raise NoTls("the peer closed the connection") from None
            except ssl.SSLError as error:
                if self._goes.pending:  # without an alert a FIN would look like an end in order to who speaks no TLS
                    with contextlib.suppress(OSError):
                        await self._flush()
                        await self._linger()  # a RST could overtake the alert
                raise NoTls(error.reason or "TLS error") from error
            else:
                await self._flush()
                return

    async def receive(self) -> bytes:
        """See ``Stream``. Raises TruncatedStream, ssl.SSLError (an OSError) when TLS was violated."""
        while True:
            try:
                return self._read()
            except ssl.SSLWantReadError:
                await self._flush()  # an answer to a key update, say
                if not await self._pull():
                    raise TruncatedStream("the connection ended without close_notify") from None

    def _read(self) -> bytes:
        """What can be decrypted without waiting: the records of one arrival, together."""
        if self._fault is not None:
            raise self._fault
        got = bytearray(self._tls.read(READ_BYTES))
        while got and len(got) < READ_BYTES:
            try:
                more = self._tls.read(READ_BYTES - len(got))
            except ssl.SSLWantReadError:
                break
            except ssl.SSLError as error:  # what came before it is handed over first
                self._fault = error
                break
            if not more:
                break  # a close_notify; the next call meets it again
            got += more
        return bytes(got)

    async def confirm(self) -> None:
        """See ``Stream``: our close_notify, then TCP is closed without harm to it."""
        self._tls.unwrap()
        await self._flush()
        with contextlib.suppress(OSError):
            await self._linger()
        self._socket.close()

    def abort(self) -> None:
        """See ``Stream``."""
        self._socket.close()

    async def _linger(self) -> None:
        """Our end of TCP, and a moment for the peer's."""
        _end_on_close(self._socket)
        self._socket.shutdown(socket.SHUT_WR)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER_S):
                while await self._loop.sock_recv(self._socket, READ_BYTES):
                    pass

    async def _pull(self) -> bool:
        data = await self._loop.sock_recv(self._socket, READ_BYTES)
        if data:
            self._came.write(data)
        return bool(data)

    async def _flush(self) -> None:
        if self._goes.pending:
            await self._loop.sock_sendall(self._socket, self._goes.read())


def _break_on_close(sock: socket.socket) -> None:
    """However it is closed: of a killed process the kernel would send a FIN, which looks like an end in order."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST_ON_CLOSE)


def _end_on_close(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _FIN_ON_CLOSE)
