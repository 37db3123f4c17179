"""From the syslog listeners into the store: what many senders bring is committed together (ITI-20, receiving side).

Messages are taken in the order they came, some hundreds at a time: one thread takes out of each what it is found by,
another commits the batch before. A lone message waits for nobody. While the database is away the batch is tried again,
with growing pauses; the listeners read no more than their rooms hold. What is not committed when the process has to end
is given up and told of in the log; no sender was told that it is kept.
"""

import asyncio
import logging
import random
import socket
from collections import Counter as Tally
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Any, Final

from prometheus_client import Counter

from atna.record_repository.indexing import Indexed, index
from atna.record_repository.store.protocol import Kept, Records, StoreUnavailable
from wire.handshake import HandshakeFailed, Tls
from wire.syslog import SyslogLimits, serve_syslog
from wire.syslog_framing import Piece
from wire.syslog_intake import Origin, Rooms, Settled
from wire.syslog_udp import serve_syslog_udp

__all__ = ["Receiver", "receive"]

BATCH_RECORDS: Final = 500
BATCH_BYTES: Final = 4 * 2**20
RETRY_FIRST_S: Final = 0.2
RETRY_LONGEST_S: Final = 5.0
FAILURES_TOGETHER: Final = 4
"""Attempts at a whole batch before its messages are tried one by one."""

ENOUGH_REFUSED: Final = 8
"""So many refused in a row, and none kept: none of them is to blame."""

LISTENERS_END_S: Final = 2.0
"""What the end of the listeners may take beyond their own bound, and the least time for the last commit."""

STORED: Final = Counter("dossier_syslog_stored", "Syslog messages kept as new records")
REPEATED: Final = Counter("dossier_syslog_repeated", "Syslog messages that were known already, byte for byte")
UNREADABLE: Final = Counter("dossier_syslog_unreadable", "Syslog messages that are no audit record", ["transport"])
REFUSED: Final = Counter("dossier_syslog_refused", "Syslog messages that could not be kept, for their own sake")
GIVEN_UP: Final = Counter("dossier_syslog_given_up", "Syslog messages not kept when the service had to end")

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Chunk:
    """What was handed over at once; ``left`` counts messages not yet settled."""

    settled: Settled
    left: int
    kept: bool = True

    def settle(self, kept: bool) -> None:
        self.left -= 1
        self.kept &= kept
        if not self.left:
            self.settled(self.kept)


@dataclass(frozen=True, slots=True)
class _Arrival:
    origin: Origin
    piece: Piece
    chunk: _Chunk

    @property
    def via(self) -> str:
        return self.origin.via(self.piece.whole)


class Receiver:
    """``wire.syslog_intake.Intake`` in front of ``records``. Made and used within an event loop."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._waiting: deque[_Arrival] = deque()
        self._flying: list[_Batch] = []
        """Batches that are being indexed or committed."""
        self._indexed: asyncio.Queue[_Batch | None] = asyncio.Queue(1)
        self._arrived = asyncio.Event()
        self._ending = False
        self._loop = asyncio.get_running_loop()
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="syslog")

    def hand_over(self, origin: Origin, pieces: Sequence[Piece], settled: Settled) -> None:
        """See ``Intake``."""
        chunk = _Chunk(settled, len(pieces))
        self._waiting.extend(_Arrival(origin, piece, chunk) for piece in pieces)
        self._arrived.set()

    async def run(self) -> None:
        """Keep what is handed over, until ``end`` was called and nothing is left."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._index())
            group.create_task(self._commit())

    def end(self) -> None:
        """Nothing more will be handed over."""
        self._ending = True
        self._arrived.set()

    def give_up(self) -> None:
        """After ``run`` was broken off: what is not kept by now is not kept."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        flying = (arrival for batch in self._flying for arrival in (*batch.arrivals, *batch.defective))
        left = [*flying, *self._waiting]
        if left:
            GIVEN_UP.inc(len(left))
            _log.error("%d syslog messages were not kept: the database did not take them in time", len(left))
        for arrival in left:
            arrival.chunk.settle(kept=False)

    async def _index(self) -> None:
        while not (self._ending and not self._waiting):
            if not self._waiting:
                self._arrived.clear()
                await self._arrived.wait()
                continue
            batch = self._next_batch()
            self._flying.append(batch)
            await self._loop.run_in_executor(self._threads, batch.index)
            await self._indexed.put(batch)
        await self._indexed.put(None)

    def _next_batch(self) -> "_Batch":
        batch = _Batch()
        octets = 0
        while self._waiting and len(batch.arrivals) < BATCH_RECORDS and octets < BATCH_BYTES:
            arrival = self._waiting.popleft()
            octets += len(arrival.piece.message)
            batch.arrivals.append(arrival)
        return batch

    async def _commit(self) -> None:
        while (batch := await self._indexed.get()) is not None:
            refused = await self._kept(batch) if batch.items else frozenset()
            batch.tell_unreadable()
            self._flying.remove(batch)
            for number, arrival in enumerate(batch.arrivals):
                arrival.chunk.settle(kept=number not in refused)
            for arrival in batch.defective:
                arrival.chunk.settle(kept=False)

    async def _kept(self, batch: "_Batch") -> frozenset[int]:
        """Keep the batch, however long the database makes us wait; the places of what it refuses for itself."""
        pause = RETRY_FIRST_S
        for failures in count():
            keep = self._together if failures < FAILURES_TOGETHER else self._apart
            try:
                return await self._loop.run_in_executor(self._threads, keep, batch)
            except StoreUnavailable as error:
                _log.warning("%d syslog messages are not kept yet: %s", len(batch.items), error)
            except Exception:  # noqa: BLE001 - our own defect: told with its trace, and nothing is dropped
                _log.exception("%d syslog messages are not kept yet", len(batch.items))
            self._join(batch)
            await asyncio.sleep(pause)
            pause = min(2 * pause, RETRY_LONGEST_S)
        raise AssertionError  # count() has no end

    def _join(self, batch: "_Batch") -> None:
        """Take the next messages in: one that is refused by itself is known by others that are not."""
        if self._indexed.empty() or len(batch.items) >= BATCH_RECORDS:
            return
        more = self._indexed.get_nowait()
        if more is None:
            self._indexed.put_nowait(None)
            return
        self._flying.remove(more)
        batch.defective += more.defective
        batch.arrivals += more.arrivals
        batch.items += more.items

    def _together(self, batch: "_Batch") -> frozenset[int]:
        _tell_kept(self._records.keep(batch.items, via=[arrival.via for arrival in batch.arrivals]))
        return frozenset()

    def _apart(self, batch: "_Batch") -> frozenset[int]:
        """One by one: a message that the database cannot take must not hold up all others for ever.

        While it takes none of them it is the database's own trouble: StoreUnavailable.
        """
        refused: set[int] = set()
        places = random.sample(range(len(batch.items)), len(batch.items))
        for tried, place in enumerate(places, 1):
            try:
                _tell_kept(self._records.keep([batch.items[place]], via=batch.arrivals[place].via))
            except Exception as error:  # whatever it is, it is this message's
                refused.add(place)
                if len(refused) == tried and tried in {len(places), ENOUGH_REFUSED}:
                    raise StoreUnavailable("the audit database takes none of them") from error
        if refused:
            REFUSED.inc(len(refused))
            _log.error("%d syslog messages are refused by the audit database and not kept", len(refused))
        return frozenset(refused)


@dataclass(eq=False, slots=True)
class _Batch:
    """What is committed together."""

    arrivals: list[_Arrival] = field(default_factory=list)
    items: list[Indexed] = field(default_factory=list)
    defective: list[_Arrival] = field(default_factory=list)
    """What ``index`` failed at, which it never should: not kept, and nobody is told that it is."""

    def index(self) -> None:
        items: list[Indexed] = []
        arrivals: list[_Arrival] = []
        defective: list[_Arrival] = []
        for arrival in self.arrivals:
            try:
                items.append(index(arrival.piece.message))
                arrivals.append(arrival)
            except Exception:  # noqa: BLE001 - one message must not end the service, each time that it is sent again
                defective.append(arrival)
                REFUSED.inc()
                _log.exception("a syslog message of %s is not kept: reading it failed", arrival.origin.sender)
        self.arrivals, self.items, self.defective = arrivals, items, defective

    def tell_unreadable(self) -> None:
        pairs = zip(self.arrivals, self.items, strict=True)
        for origin, number in Tally(arrival.origin for arrival, item in pairs if not item.readable).items():
            UNREADABLE.labels(origin.transport).inc(number)
            _log.warning("%d syslog messages of %s are no audit records; kept as they are", number, origin.sender)


def _tell_kept(kept: Kept) -> None:
    STORED.inc(kept.stored)
    REPEATED.inc(kept.repeated)


async def receive(
    stop: asyncio.Event,
    started: Callable[[], None],
    *,
    records: Records,
    streams: socket.socket | None,
    datagrams: socket.socket | None,
    max_waiting_bytes: int,
    limits: SyslogLimits,
    tls: Tls | None,
    handshake_failed: HandshakeFailed,
) -> None:
    """Both listeners, each if it has a socket, with one ``Receiver`` behind them; until ``stop``, then drain."""
    receiver, rooms = Receiver(records), Rooms(max_waiting_bytes)
    listening: list[asyncio.Task[None]] = []
    if streams is not None:
        serving = partial(serve_syslog, receiver, streams, rooms=rooms, limits=limits, stop=stop)
        listening.append(asyncio.create_task(serving(tls=tls, handshake_failed=handshake_failed)))
    if datagrams is not None:
        receiving = serve_syslog_udp(receiver, datagrams, rooms=rooms, limits=limits, stop=stop)
        listening.append(asyncio.create_task(receiving))
    keeping, stopping = asyncio.create_task(receiver.run()), asyncio.create_task(stop.wait())
    started()
    try:
        await asyncio.wait({*listening, keeping, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if stop.is_set():
            await _drained(receiver, listening, keeping, limits.drain_s)
    finally:
        tasks: list[asyncio.Task[Any]] = [*listening, keeping, stopping]
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        receiver.give_up()
    for task in tasks:
        if not task.cancelled():
            task.result()


async def _drained(
    receiver: Receiver, listening: list["asyncio.Task[None]"], keeping: "asyncio.Task[None]", drain_s: float
) -> None:
    """The listeners end by themselves, within ``drain_s``; what is left of that is for what they brought."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + drain_s
    await asyncio.wait(listening, timeout=drain_s + LISTENERS_END_S)
    receiver.end()
    await asyncio.wait({keeping}, timeout=max(LISTENERS_END_S, deadline - loop.time()))
