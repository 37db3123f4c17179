"""What both syslog listeners hand over, to whom, and how much of it may wait (ITI-20, receiving side).

``Origin``   how and from whom messages came
``Intake``   takes them; the listener is told when they are durable
``Room``     octets that may wait: who wants to bring more waits at the door, and meanwhile reads nothing
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

from prometheus_client import Counter, Gauge

from wire.syslog_framing import Piece, Whole

__all__ = ["Intake", "Origin", "Room", "Rooms", "Settled", "Transport", "count_broken", "count_received", "memory_of"]

LONGEST_SENDER: Final = 400
PIECE_BYTES: Final = 1024
"""Memory a message takes beside its octets until it is kept: a stream of empty ones is not free."""

RECEIVED: Final = Counter("dossier_syslog_received", "Syslog messages that came, whole or not", ["transport"])
TOO_LONG: Final = Counter("dossier_syslog_too_long", "Syslog messages of which the first part is kept", ["transport"])
BROKEN: Final = Counter("dossier_syslog_frames_broken", "Frames that could not be followed", ["transport"])
CONNECTIONS: Final = Gauge("dossier_syslog_connections", "Open syslog connections", multiprocess_mode="livesum")
WAITING: Final = Gauge("dossier_syslog_waiting_bytes", "Octets read and not yet durable", multiprocess_mode="livesum")

Settled = Callable[[bool], None]
"""Called once, in the event loop: True when everything handed over is durable, False when it is given up."""


class Transport(StrEnum):
    """How messages travel."""

    TLS = "tls"
    TCP = "tcp"
    UDP = "udp"


@dataclass(frozen=True, slots=True)
class Origin:
    """``sender``: subject of the certificate, else its fingerprint, else the IP address."""

    transport: Transport
    sender: str

    def via(self, whole: Whole) -> str:
        """What is kept beside a record: ``syslog+tls CN=lab``; ``syslog+tls,broken CN=lab`` for a fragment."""
        state = "" if whole is Whole.YES else f",{whole}"
        return f"syslog+{self.transport}{state} {self.sender[:LONGEST_SENDER]}"


class Intake(Protocol):
    """Where messages go."""

    def hand_over(self, origin: Origin, pieces: Sequence[Piece], settled: Settled) -> None:
        """Take them over; returns at once, ``settled`` follows."""
        ...


class Room:
    """Octets in it never exceed ``most``, except for one bringer alone in it. First come, first let in."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._held = 0
        self._door: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def enter(self, octets: int) -> None:
        """Wait until there is room for them."""
        if not self._door and self._fits(octets):
            self._take(octets)
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._door.append((octets, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.leave(octets)
            else:
                self._door.remove((octets, turn))
                self._let_in()
            raise

    def leave(self, octets: int) -> None:
        """They are gone."""
        self._take(-octets)
        self._let_in()

    def _fits(self, octets: int) -> bool:
        return self._held == 0 or self._held + octets <= self._most

    def _take(self, octets: int) -> None:
        self._held += octets
        WAITING.inc(octets)

    def _let_in(self) -> None:
        while self._door and self._fits(self._door[0][0]):
            octets, turn = self._door.popleft()
            self._take(octets)
            turn.set_result(None)


class Rooms:
    """Two, so that a few huge messages that arrive slowly hold up no small ones.

    ``small``   messages that came
    ``large``   messages above ``SMALL_BYTES``, from the moment their length is known
    """

    SMALL_BYTES: Final = 65_536

    def __init__(self, max_waiting_bytes: int) -> None:
        self.small = Room(max(max_waiting_bytes // 8, 4 * self.SMALL_BYTES))
        self.large = Room(max_waiting_bytes - max_waiting_bytes // 8)


def memory_of(pieces: Sequence[Piece]) -> int:
    """What they take while they wait."""
    return sum(len(piece.message) for piece in pieces) + PIECE_BYTES * len(pieces)


def count_received(origin: Origin, pieces: Sequence[Piece]) -> None:
    """Into the metrics."""
    RECEIVED.labels(origin.transport).inc(len(pieces))
    for piece in pieces:
        if piece.whole is Whole.TRUNCATED:
            TOO_LONG.labels(origin.transport).inc()
        elif piece.whole is Whole.BROKEN:
            count_broken(origin)


def count_broken(origin: Origin) -> None:
    """Into the metrics: a frame that could not be followed, whether something of it is kept or not."""
    BROKEN.labels(origin.transport).inc()
