"""The syslog listener for datagrams: each is one message (RFC 5426; ITI TF-2: 3.20).

UDP confirms nothing and holds nothing back: what comes while too much waits stays in the kernel's buffer, and what does
not fit there is lost. The kernel counts what it lost; the count is a metric.
"""

import asyncio
import contextlib
import logging
import socket
import struct
from collections.abc import Callable
from functools import partial
from itertools import takewhile
from typing import Any, Final

from prometheus_client import Gauge

from wire.syslog import SyslogLimits
from wire.syslog_framing import Piece, Whole
from wire.syslog_intake import Intake, Origin, Rooms, Transport, count_received, memory_of

__all__ = ["serve_syslog_udp"]

DATAGRAM_BYTES: Final = 65_536
AT_ONCE: Final = 256
RECEIVE_BUFFER_BYTES: Final = 16 * 2**20
_BREATH_S: Final = 0.2

# Linux; the socket module has no names for them.
_SO_RCVBUFFORCE: Final = 33
_SO_RXQ_OVFL: Final = 40
_COUNT: Final = struct.Struct("=I")

LOST: Final = Gauge(
    "dossier_syslog_udp_lost",
    "Datagrams the kernel had no room for, as known with the last one that came",
    multiprocess_mode="livemax",
)

_log = logging.getLogger(__name__)


async def serve_syslog_udp(
    intake: Intake,
    sock: socket.socket,
    *,
    rooms: Rooms,
    limits: SyslogLimits,
    stop: asyncio.Event,
    started: Callable[[], None] = lambda: None,
) -> None:
    """Read the bound socket ``sock`` (not closed here) until ``stop``, then what is left in it, and return."""
    sock.setblocking(False)
    _widen(sock)
    receiver = _Receiver(intake, sock, rooms, limits)
    receiving = asyncio.create_task(receiver.run())
    stopping = asyncio.create_task(stop.wait())
    try:
        started()
        await asyncio.wait({receiving, stopping}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (stopping, receiving):
            task.cancel()
        await asyncio.wait({stopping, receiving})
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limits.drain_s):
                while await receiver.take():
                    pass
    if not receiving.cancelled():
        receiving.result()


def _widen(sock: socket.socket) -> None:
    """The default buffer holds a hundred records. Beyond the system's bound only root may go."""
    for option in (socket.SO_RCVBUF, _SO_RCVBUFFORCE):
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, option, RECEIVE_BUFFER_BYTES)
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, _SO_RXQ_OVFL, 1)


class _Receiver:
    """One socket."""

    def __init__(self, intake: Intake, sock: socket.socket, rooms: Rooms, limits: SyslogLimits) -> None:
        self._intake = intake
        self._socket = sock
        self._room = rooms.small
        self._most = limits.max_message_bytes
        self._loop = asyncio.get_running_loop()
        self._came: list[tuple[str, Piece]] = []

    async def run(self) -> None:
        while True:
            await self._readable()
            await self.take()

    async def _readable(self) -> None:
        arrived = asyncio.Event()
        self._loop.add_reader(self._socket, arrived.set)
        try:
            await arrived.wait()
        finally:
            self._loop.remove_reader(self._socket)

    async def take(self) -> int:
        """Hand over what is there, ``AT_ONCE`` at most; how many that were. Loses nothing when it is cancelled."""
        try:
            while len(self._came) < AT_ONCE and (datagram := self._datagram()) is not None:
                self._came.append(datagram)
        except OSError as error:
            _log.warning("syslog: datagrams cannot be read: %s", error.strerror)
            await asyncio.sleep(_BREATH_S)
        taken = len(self._came)
        while self._came:
            address = self._came[0][0]
            pieces = [piece for _, piece in takewhile(lambda one: one[0] == address, self._came)]  # noqa: B023 - used at once
            octets = memory_of(pieces)
            await self._room.enter(octets)
            del self._came[: len(pieces)]
            origin = Origin(Transport.UDP, address)
            count_received(origin, pieces)
            self._intake.hand_over(origin, pieces, partial(self._settled, octets))
        return taken

    def _settled(self, octets: int, _kept: bool) -> None:
        self._room.leave(octets)

    def _datagram(self) -> tuple[str, Piece] | None:
        try:
            data, ancillary, flags, address = self._socket.recvmsg(DATAGRAM_BYTES, socket.CMSG_SPACE(_COUNT.size))
        except BlockingIOError:
            return None
        _tell_lost(ancillary)
        cut = bool(flags & socket.MSG_TRUNC) or len(data) > self._most
        return str(address[0]), Piece(data[: self._most], Whole.TRUNCATED if cut else Whole.YES)


def _tell_lost(ancillary: list[tuple[int, int, Any]]) -> None:
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, _SO_RXQ_OVFL) and len(data) == _COUNT.size:
            LOST.set(_COUNT.unpack(data)[0])
