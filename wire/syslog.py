"""The syslog listener: RFC 5425 over TLS, the same frames over plain TCP where that is allowed (ITI TF-2: 3.20, 3.19).

RFC 5425 confirms nothing. Here the end of a connection does: the sender's close_notify (FIN on plain TCP) is answered
only when everything that came on the connection is durable, else the connection is broken (RST). We never end one in
order by ourselves, so whoever sees our end knows that all of it is kept.

Bounds: connections, octets of a message, octets that wait (all connections together: then nothing more is read), time
of a handshake, of a message, of silence, of a confirmation. On ``stop`` what has arrived is read and kept first.
"""

import asyncio
import errno
import logging
import socket
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from wire.accepting import accept_until
from wire.handshake import HandshakeFailed, Tls, report
from wire.secure_stream import NoTls, PlainStream, SecureStream, Stream
from wire.syslog_framing import Framer, Piece
from wire.syslog_intake import CONNECTIONS, Intake, Origin, Rooms, Transport, count_broken, count_received, memory_of
from wire.tls import peer_of, reason_of

__all__ = ["SyslogLimits", "serve_syslog"]

WINDOW_BYTES: Final = 2**20
"""Small messages of one connection that may wait: no sender's crowd stands before everybody else's message."""

GRACE_S: Final = 0.1
"""On ``stop`` a connection that was silent for so long has brought what it had."""

_BREATH_S: Final = 0.2
_OUT_OF_RESOURCES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SyslogLimits:
    """Bounds of both listeners, per process. Bytes and seconds as the names say."""

    max_message_bytes: int = 128 * 2**20
    max_connections: int = 500
    idle_timeout_s: float = 3600
    message_timeout_s: float = 300
    handshake_timeout_s: float = 10
    confirm_timeout_s: float = 60
    drain_s: float = 30


async def serve_syslog(
    intake: Intake,
    sock: socket.socket,
    *,
    rooms: Rooms,
    limits: SyslogLimits,
    tls: Tls | None,
    stop: asyncio.Event,
    started: Callable[[], None] = lambda: None,
    handshake_failed: HandshakeFailed | None = None,
) -> None:
    """Serve on the listening socket ``sock`` (not closed here) until ``stop``, then drain and return."""
    listener = _Listener(intake, rooms, limits, tls, handshake_failed)
    sock.setblocking(False)
    await accept_until(stop, listener.accept(sock), drain=listener.drain, tls=tls, started=started)


class _Listener:
    """All connections of one socket."""

    def __init__(
        self,
        intake: Intake,
        rooms: Rooms,
        limits: SyslogLimits,
        tls: Tls | None,
        handshake_failed: HandshakeFailed | None,
    ) -> None:
        self.intake = intake
        self.rooms = rooms
        self.limits = limits
        self._tls = tls
        self._handshake_failed = handshake_failed
        self._free = asyncio.Semaphore(limits.max_connections)
        self._open: dict[asyncio.Task[None], _Connection | None] = {}
        self.stopping = False

    async def accept(self, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._free.acquire()  # too many: the next ones wait in the kernel's queue
            try:
                peer, address = await loop.sock_accept(sock)
            except OSError as error:
                self._free.release()
                if error.errno in _OUT_OF_RESOURCES:
                    _log.error("syslog: connections cannot be accepted: %s", error.strerror)
                    await asyncio.sleep(_BREATH_S)
                continue
            except asyncio.CancelledError:
                self._free.release()
                raise
            task = asyncio.create_task(self._serve(peer, str(address[0]), int(address[1])))
            self._open[task] = None
            CONNECTIONS.inc()
            task.add_done_callback(self._forget)

    def _forget(self, task: "asyncio.Task[None]") -> None:
        self._open.pop(task, None)
        self._free.release()
        CONNECTIONS.dec()
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("syslog: a connection ended by a defect", exc_info=error)

    async def _serve(self, peer: socket.socket, address: str, port: int) -> None:
        peer.setblocking(False)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        stream: Stream = PlainStream(peer)
        try:
            origin = Origin(Transport.TCP, address)
            if self._tls is not None:
                stream = secure = SecureStream(peer, self._tls())
                who = await self._introduced(secure, address, port)
                if who is None:
                    return
                origin = Origin(Transport.TLS, who)
            connection = _Connection(self, stream, origin)
            task = asyncio.current_task()
            if task is not None:
                self._open[task] = connection
            await connection.run()
        finally:
            stream.abort()

    async def _introduced(self, stream: SecureStream, address: str, port: int) -> str | None:
        """Who the peer is, after the handshake; ``None`` when that failed."""
        try:
            async with asyncio.timeout(self.limits.handshake_timeout_s):
                await stream.handshake()
        except (NoTls, OSError) as error:  # TimeoutError is an OSError
            cause = error if isinstance(error, OSError) else error.__cause__ or ConnectionResetError()
            report(address, port, reason_of(cause), self._handshake_failed)
            return None
        peer = peer_of(address, stream.certificate)
        return peer.node or peer.fingerprint or peer.address

    async def drain(self) -> None:
        """Everything that has arrived is kept; then the connections are broken, for their senders to come again."""
        self.stopping = True
        for task, connection in self._open.items():
            if connection is None:
                task.cancel()
            else:
                connection.hurry()
        if self._open:
            _, late = await asyncio.wait(set(self._open), timeout=self.limits.drain_s)
            for task in late:
                task.cancel()
            if late:
                _log.warning("syslog: the messages of %d connections were not kept in time", len(late))
                await asyncio.wait(late, timeout=1)


class _Connection:
    """One sender: reads, hands over, and in the end confirms or breaks."""

    def __init__(self, listener: _Listener, stream: Stream, origin: Origin) -> None:
        self._listener = listener
        self._limits = listener.limits
        self._stream = stream
        self._origin = origin
        self._framer = Framer(listener.limits.max_message_bytes)
        self._loop = asyncio.get_running_loop()
        self._began: float | None = None
        self._timeout: asyncio.Timeout | None = None
        self._reserved = 0
        """Octets in the room for large messages that the unfinished message holds."""
        self._waiting = 0
        self._chunks = 0
        self._refused = False
        self._change = asyncio.Event()

    async def run(self) -> None:
        """Until the sender, a bound or ``stop`` ends it."""
        try:
            ended = await self._read_all()
            whole = ended and not self._framer.cut
            if ended and not whole:
                _log.warning("syslog: %s ended inside a frame", self._origin.sender)
            rest = self._framer.end()
            if rest is not None:
                await self._hand_over([rest])
            elif ended and not whole:
                count_broken(self._origin)  # it broke off where there was nothing to keep yet
            async with asyncio.timeout(self._limits.confirm_timeout_s):
                if whole and await self._everything_kept():
                    await self._stream.confirm()
        except TimeoutError:
            _log.warning("syslog: %s is not told that its messages are kept: they are not yet", self._origin.sender)
        except OSError as error:
            _log.info("syslog: connection of %s lost: %s", self._origin.sender, _reason(error))
        finally:
            self._release()

    def hurry(self) -> None:
        """``stop`` was asked for: who waits for the sender waits no longer than a moment."""
        if self._timeout is not None:
            self._timeout.reschedule(self._loop.time() + GRACE_S)

    async def _read_all(self) -> bool:
        """Take what comes; True when the sender ended in order."""
        while True:
            try:
                data = await self._read()
            except TimeoutError:
                if self._framer.inside:
                    _log.warning("syslog: %s left a message unfinished", self._origin.sender)
                return False
            except OSError as error:
                _log.info("syslog: connection of %s lost: %s", self._origin.sender, _reason(error))
                return False
            if not data:
                return True
            pieces = self._framer.feed(data)
            if pieces:
                self._began = None
                await self._hand_over(pieces)
            if self._framer.lost:
                _log.warning("syslog: %s sent no octet count where a frame begins; closed", self._origin.sender)
                return False
            await self._reserve()

    async def _read(self) -> bytes:
        """The next octets. Raises TimeoutError when the sender was silent, or busy with one message, for too long."""
        now = self._loop.time()
        timeout = self._limits.idle_timeout_s
        if self._framer.inside:
            self._began = now if self._began is None else self._began
            timeout = max(0.0, self._began + self._limits.message_timeout_s - now)
        if self._listener.stopping:
            timeout = min(timeout, GRACE_S)
        try:
            async with asyncio.timeout(timeout) as self._timeout:
                return await self._stream.receive()
        finally:
            self._timeout = None

    async def _hand_over(self, pieces: Sequence[Piece]) -> None:
        """Into the intake, as soon as there is room."""
        reserved, self._reserved = self._reserved, 0
        small = memory_of(pieces)
        if reserved:  # it was the unfinished one, so it is the first that was finished
            small -= len(pieces[0].message)
        rooms = self._listener.rooms
        waited = self._loop.time()
        try:
            while self._waiting > WINDOW_BYTES:
                await self._changed()
            await rooms.small.enter(small)
        except asyncio.CancelledError:
            rooms.large.leave(reserved)
            raise
        self._shift(waited)
        self._waiting += small
        self._chunks += 1

        def settled(kept: bool) -> None:
            rooms.small.leave(small)
            if reserved:
                rooms.large.leave(reserved)
            self._waiting -= small
            self._chunks -= 1
            self._refused |= not kept
            self._change.set()

        count_received(self._origin, pieces)
        self._listener.intake.hand_over(self._origin, pieces, settled)

    async def _reserve(self) -> None:
        """Room for a large message before the rest of it is read."""
        wanted = self._framer.wanted_bytes
        if wanted > Rooms.SMALL_BYTES and not self._reserved:
            waited = self._loop.time()
            await self._listener.rooms.large.enter(wanted)
            self._reserved = wanted
            self._shift(waited)

    def _shift(self, waited: float) -> None:
        """The time we let the sender wait does not count as its own."""
        if self._began is not None:
            self._began += self._loop.time() - waited

    def _release(self) -> None:
        if self._reserved:
            self._listener.rooms.large.leave(self._reserved)
            self._reserved = 0

    async def _everything_kept(self) -> bool:
        while self._chunks:
            await self._changed()
        return not self._refused

    async def _changed(self) -> None:
        self._change.clear()
        await self._change.wait()


def _reason(error: BaseException) -> str:
    if isinstance(error, ssl.SSLError):
        return error.reason or "TLS error"
    return str(error) or type(error).__name__
