"""The MLLP listener: HL7 v2 messages over TCP or TLS, one answer each, in order (ITI TF-2: 3.8; ITI-19 for TLS).

The event loop gathers bytes; a thread is taken per whole message, never per connection. Bounds: connections, bytes of a
message, time of a message, silence between messages, time to take an answer. A peer that breaks a rule gets an answer
where it can read one, then at most loses its connection; the listener goes on.

On ``stop`` no new connection or message is taken; messages being handled are answered, for at most ``drain_s``.
"""

import asyncio
import contextlib
import logging
import secrets
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from ihe.hl7v2 import AckCode, ErrorCode, Problem, read_header
from ihe.hl7v2_print import print_acknowledgement
from ihe.xua import Caller
from wire.accepting import accept_until
from wire.handshake import HandshakeFailed, Tls, endpoint, open_transport
from wire.mllp_framing import Frame, Framer, Garbage, Whole, frame
from wire.tls import peer_of, reason_of

__all__ = ["MessageHandler", "MllpLimits", "serve_mllp"]

MessageHandler = Callable[[bytes, Caller], bytes]
"""Takes one whole message, returns its acknowledgement; runs in a worker thread. An exception is our own defect."""

READ_BYTES: Final = 65_536
CLOSE_TIMEOUT_S: Final = 5.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class MllpLimits:
    """Bounds of the listener, per process. Bytes and seconds as the names say."""

    max_message_bytes: int = 4 * 2**20
    max_connections: int = 200
    threads: int = 8
    idle_timeout_s: float = 3600
    message_timeout_s: float = 60
    answer_timeout_s: float = 30
    handshake_timeout_s: float = 10
    drain_s: float = 30


async def serve_mllp(
    handler: MessageHandler,
    sock: socket.socket,
    *,
    limits: MllpLimits,
    tls: Tls | None,
    stop: asyncio.Event,
    started: Callable[[], None] = lambda: None,
    handshake_failed: HandshakeFailed | None = None,
) -> None:
    """Serve on the listening socket ``sock`` (not closed here) until ``stop``, then drain and return.

    ``tls`` is asked for each connection.
    """
    threads = ThreadPoolExecutor(limits.threads, thread_name_prefix="mllp")
    listener = _Listener(handler, limits, tls, threads, handshake_failed)
    sock.setblocking(False)
    try:
        await accept_until(stop, listener.accept(sock), drain=listener.drain, tls=tls, started=started)
    finally:
        threads.shutdown(wait=False, cancel_futures=True)


class _Listener:
    """All connections of one socket."""

    def __init__(
        self,
        handler: MessageHandler,
        limits: MllpLimits,
        tls: Tls | None,
        threads: ThreadPoolExecutor,
        handshake_failed: HandshakeFailed | None,
    ) -> None:
        self.handler = handler
        self.limits = limits
        self.threads = threads
        self._tls = tls
        self._handshake_failed = handshake_failed
        self._open: dict[asyncio.Task[None], _Connection | None] = {}
        self.stopping = False

    async def accept(self, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                peer, address = await loop.sock_accept(sock)
            except OSError as error:  # out of file descriptors, or the peer is gone already
                _log.warning("patient feed: a connection could not be accepted: %s", error)
                await asyncio.sleep(0.2)
                continue
            if len(self._open) >= self.limits.max_connections:
                _log.warning("patient feed: %s refused, %d connections are open", address[0], len(self._open))
                peer.close()
                continue
            task = asyncio.create_task(self._serve(peer, address))
            self._open[task] = None
            task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._open.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("patient feed: a connection ended by a defect", exc_info=error)

    async def _serve(self, peer: socket.socket, address: Any) -> None:
        loop = asyncio.get_running_loop()
        peer.setblocking(False)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        with contextlib.suppress(OSError):
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        reader = asyncio.StreamReader(limit=READ_BYTES)
        protocol = asyncio.StreamReaderProtocol(reader)
        transport = await open_transport(
            lambda: protocol,
            peer,
            address,
            tls=self._tls,
            timeout_s=self.limits.handshake_timeout_s,
            failed=self._handshake_failed,
        )
        if transport is None:
            return
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        connection = _Connection(self, reader, writer, _caller(writer, endpoint(address)[0]))
        task = asyncio.current_task()
        if task is not None:
            self._open[task] = connection
        try:
            await connection.run()
            if not connection.broken:
                # Only a closed writer has sent all it holds; the process may end right after this task.
                writer.close()
                await asyncio.wait_for(writer.wait_closed(), CLOSE_TIMEOUT_S)
        except (OSError, TimeoutError):
            pass  # the peer was quicker, or does not take its last answer
        finally:
            transport.abort()

    async def drain(self) -> None:
        """Idle connections end at once, the others after their answer."""
        self.stopping = True
        for task, connection in self._open.items():
            if connection is None or not connection.answering:
                task.cancel()
        if self._open:
            _, late = await asyncio.wait(set(self._open), timeout=self.limits.drain_s)
            for task in late:
                task.cancel()
            if late:
                _log.warning("patient feed: %d messages were not answered in time", len(late))
                await asyncio.wait(late, timeout=1)


class _Connection:
    """One peer: reads, hands over, answers, one message after the other."""

    def __init__(
        self, listener: _Listener, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, caller: Caller
    ) -> None:
        self._listener = listener
        self._limits = listener.limits
        self._reader = reader
        self._writer = writer
        self._caller = caller
        self._framer = Framer(listener.limits.max_message_bytes)
        self._began: float | None = None
        self.answering = False
        self.broken = False

    async def run(self) -> None:
        """Until the peer or ``stop`` ends it."""
        try:
            await self._conversation()
        except Garbage as error:
            _log.warning("patient feed: %s closed: %s", self._caller.partner, error)
            self.broken = True
        except (OSError, TimeoutError) as error:  # the peer broke off, or takes no answer
            _log.info("patient feed: connection of %s lost: %s", self._caller.partner, reason_of(error))
            self.broken = True

    async def _conversation(self) -> None:
        while not self._listener.stopping:
            data = await self._read()
            if not data:
                rest = self._framer.end()
                if rest is not None:
                    await self._answer(rest)
                return
            for one in self._framer.feed(data):
                self._began = None
                await self._answer(one)
                if self._listener.stopping:
                    return

    async def _read(self) -> bytes:
        """The next bytes; none when the peer ended, or was silent (or busy with one message) for too long."""
        now = asyncio.get_running_loop().time()
        timeout = self._limits.idle_timeout_s
        if self._framer.inside:
            self._began = now if self._began is None else self._began
            timeout = max(0.0, self._began + self._limits.message_timeout_s - now)
        try:
            return await asyncio.wait_for(self._reader.read(READ_BYTES), timeout)
        except TimeoutError:
            _log.info("patient feed: connection of %s closed, it was silent for too long", self._caller.partner)
            return b""

    async def _answer(self, one: Frame) -> None:
        self.answering = True
        try:
            answer = await self._handled(one)
            self._writer.write(frame(answer))
            await asyncio.wait_for(self._writer.drain(), self._limits.answer_timeout_s)
        finally:
            self.answering = False

    async def _handled(self, one: Frame) -> bytes:
        if one.whole is not Whole.YES:
            return _refused(one, self._limits.max_message_bytes)
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._listener.threads, self._listener.handler, one.message, self._caller)
        except Exception:  # noqa: BLE001 - our own defect: the peer gets a number to ask for, the log the trace
            number = secrets.token_hex(6)
            _log.exception("patient feed: message %s of %s was not handled", number, self._caller.partner)
            text = f"internal error {number}; nothing is known to be done, send the message again"
            problem = Problem(AckCode.ERROR, ErrorCode.APPLICATION_INTERNAL_ERROR, text)
            return _acknowledged(one.message, problem)


def _refused(one: Frame, max_message_bytes: int) -> bytes:
    if one.whole is Whole.TOO_LONG:
        text = f"the message is longer than {max_message_bytes} bytes; nothing was done"
        return _acknowledged(one.message, Problem(AckCode.REJECT, ErrorCode.DATA_TYPE_ERROR, text))
    text = "the message was not ended by the end block 0x1C 0x0D, so it may not be whole; nothing was done"
    return _acknowledged(one.message, Problem(AckCode.ERROR, ErrorCode.SEGMENT_SEQUENCE_ERROR, text))


def _acknowledged(message: bytes, problem: Problem) -> bytes:
    now = datetime.now(UTC).strftime("%Y%m%d%H%M%S+0000")
    return print_acknowledgement(read_header(message), control_id=secrets.token_hex(10), time=now, problem=problem)


def _caller(writer: asyncio.StreamWriter, address: str) -> Caller:
    tls = writer.get_extra_info("ssl_object")
    peer = peer_of(address, tls.getpeercert(binary_form=True) if tls is not None else None)
    return Caller(peer.address, peer.node, peer.fingerprint)
