"""An answer to the network: small ones whole with their length, large ones streamed with a block always in preparation.

An answer that breaks breaks the connection; it is never ended as if it were whole. How long a peer may leave it unread
is the server's bound.
"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import Executor
from typing import Any, Final

from wire.exchange import Exchange, Outgoing

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Header = tuple[bytes, bytes]

_LENGTH: Final = b"content-length"


async def send_whole(send: Send, status: int, content_type: str, body: bytes, *headers: Header) -> None:
    """A complete answer."""
    fixed = ((b"content-type", content_type.encode("latin-1")), (_LENGTH, str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": [*fixed, *headers]})
    await send({"type": "http.response.body", "body": body})


class Sender:
    """Sends the answer of one exchange and tells the exchange how that ended."""

    def __init__(self, exchange: Exchange, outgoing: Outgoing, *, workers: Executor, scope: Scope, send: Send) -> None:
        self._exchange = exchange
        self._outgoing = outgoing
        self._workers = workers
        self._connection = scope.get("dossier.connection")
        self._send_message = send
        self._started = False

    async def send_all(self) -> bool:
        """Whether every byte was handed to the network. Raises only before the first byte."""
        whole = False
        try:
            whole = await (self._at_once() if self._outgoing.last else self._streamed())
        except Exception as error:
            if not self._started:
                raise
            self._exchange.answer_broken(error)
        finally:
            # also when cancelled: half an answer must not look like one
            if self._started and not whole and self._connection is not None:
                self._connection.abort()
        return whole

    async def _at_once(self) -> bool:
        await self._start((_LENGTH, str(len(self._outgoing.first)).encode()))
        if self._lost:
            return False
        await self._send(self._outgoing.first, more=False)
        return True

    async def _streamed(self) -> bool:
        await self._start()
        block, last = self._outgoing.first, False
        while not self._lost:
            coming = None if last else self._next_block()
            try:
                await self._send(block, more=True)
            finally:
                if coming is not None:
                    await asyncio.wait([coming])
            if coming is None:
                break
            block, last = coming.result()
        # an empty piece waits until the buffer has drained: only then the bytes are the network's
        await self._send(b"", more=True)
        if self._lost:
            return False
        await self._send(b"", more=False)
        return True

    @property
    def _lost(self) -> bool:
        """Asked before the last piece only: after it the server itself may be closing the connection."""
        return self._connection is not None and bool(self._connection.lost)

    def _next_block(self) -> asyncio.Future[tuple[bytes, bool]]:
        return asyncio.get_running_loop().run_in_executor(self._workers, self._exchange.next_block)

    async def _start(self, *headers: Header) -> None:
        fixed = (b"content-type", self._outgoing.content_type.encode("latin-1"))
        self._started = True
        await self._send_message({"type": "http.response.start", "status": 200, "headers": [fixed, *headers]})

    async def _send(self, body: bytes, *, more: bool) -> None:
        await self._send_message({"type": "http.response.body", "body": body, "more_body": more})
