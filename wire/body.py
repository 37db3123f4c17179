"""A request body as it arrives: bounded in size, in time and in what it may unpack to.

Order of judgement  declared length, transfer rate and silence, bytes received, bytes unpacked
Encodings           identity, gzip (several members too), deflate (with or without the zlib header)
End                 only when the HTTP message is whole. A connection that closes raises ClientGone, compressed data
                    that stops early raises BodyDamaged: neither ever looks like the end of a document.
"""

import asyncio
import time
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from typing import Any, Final

from wire.limit_reached import named
from wire.settings import LimitSettings

__all__ = [
    "BodyDamaged",
    "BodyEncodingUnknown",
    "BodyError",
    "BodyReader",
    "BodyTimeout",
    "BodyTooLarge",
    "ClientGone",
]


class BodyError(Exception):
    """The body cannot be taken; ``status`` is the HTTP status to answer, ``reason`` is fit for a fault.

    ``limit`` is the key of the setting whose bound was reached, if it was one; the text of the exception names it.
    """

    status = 400

    def __init__(self, reason: str, *, limit: str | None = None) -> None:
        super().__init__(reason if limit is None else named(reason, limit))
        self.reason = reason
        self.limit = limit


class BodyTooLarge(BodyError):  # noqa: N818 - says what is wrong with the body
    """More bytes than allowed: declared, received or unpacked."""

    status = 413


class BodyTimeout(BodyError):  # noqa: N818 - says what is wrong with the body
    """The client was silent for too long, or slower than the minimum rate."""

    status = 408


class BodyEncodingUnknown(BodyError):  # noqa: N818 - says what is wrong with the body
    """A Content-Encoding nobody here undoes."""

    status = 415


class BodyDamaged(BodyError):  # noqa: N818 - says what is wrong with the body
    """The compressed body is damaged or ends early."""


class ClientGone(Exception):  # noqa: N818 - says what happened
    """The client broke the connection before its request was whole; nobody is there to be answered."""


Receive = Callable[[], Awaitable[Any]]
_RATIO_SLACK: Final = 2**20
_OUTPUT_BLOCK: Final = 2**18


class BodyReader:
    """Iterates over the body's bytes after Content-Encoding was undone: pieces of 1 byte to some 100 kB, never empty.

    ``max_bytes`` bounds both what is received and what it unpacks to; ``limit`` is the key of its setting, ``None``
    where it has none. The time the consumer needs between two pieces is
    not counted against the client. Raises BodyError and ClientGone from the iteration, BodyEncodingUnknown at once;
    ``receive`` is not called, and so no ``100 Continue`` sent, when the declared length already forbids the body.
    """

    def __init__(
        self,
        scope: Mapping[str, Any],
        receive: Receive,
        *,
        max_bytes: int,
        limits: LimitSettings,
        limit: str | None = "max_request_bytes",
    ) -> None:
        self._receive = receive
        self._max_bytes = max_bytes
        self._limit = limit
        self._limits = limits
        self._window_s = 0.0  # waited for the client since its rate was looked at last, and what came in that time
        self._window_bytes = 0
        self.received_bytes = 0
        self.decoded_bytes = 0
        self._declared, self._encoding = _declared(scope)

    @property
    def to_come(self) -> int | None:
        """Bytes of the body that are still to arrive; ``None`` where no length was declared or it is compressed."""
        plain = self._declared is not None and self._encoding is None
        return self._declared - self.received_bytes if plain and self._declared is not None else None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self._declared is not None and self._declared > self._max_bytes:
            raise self._too_large("is larger than")
        inflater = None if self._encoding is None else _Inflater(self._encoding)
        more = True
        while more:
            message = await self._next()
            data: bytes = message.get("body", b"")
            more = message.get("more_body", False)
            self._count(len(data))
            if inflater is None:
                self.decoded_bytes = self.received_bytes
                if data:
                    yield data
            else:
                for piece in inflater.feed(data):
                    self._count_decoded(len(piece))
                    yield piece
        if inflater is not None:
            inflater.finish()

    async def read(self) -> bytes:
        """The whole body at once, for bodies that fit into memory by their ``max_bytes``."""
        return b"".join([piece async for piece in self])

    async def _next(self) -> Any:
        idle_s = self._limits.body_idle_timeout_s
        before = time.monotonic()
        try:
            async with asyncio.timeout(idle_s):
                message = await self._receive()
        except TimeoutError as error:
            text = f"no byte of the request arrived for {idle_s:g} s"
            raise BodyTimeout(text, limit="body_idle_timeout_s") from error
        if message["type"] != "http.request":
            raise ClientGone
        self._window_s += time.monotonic() - before
        return message

    def _count(self, size: int) -> None:
        self.received_bytes += size
        self._window_bytes += size
        if self.received_bytes > self._max_bytes:
            raise self._too_large("is larger than")
        if self._window_s > self._limits.minimum_rate_grace_s:
            self._judge_rate()

    def _judge_rate(self) -> None:
        """Each window is judged alone: who sent much at first may not hold a connection for days afterwards."""
        rate = self._limits.minimum_rate_bytes_per_s
        if self._window_bytes < rate * self._window_s:
            text = f"the request arrives at less than {rate} bytes per second, over {self._window_s:.0f} s"
            raise BodyTimeout(text, limit="minimum_rate_bytes_per_s")
        self._window_s, self._window_bytes = 0.0, 0

    def _too_large(self, how: str) -> BodyTooLarge:
        text = f"the request {how} the {self._max_bytes} bytes allowed"
        return BodyTooLarge(text, limit=self._limit)

    def _count_decoded(self, size: int) -> None:
        self.decoded_bytes += size
        if self.decoded_bytes > self._max_bytes:
            raise self._too_large("unpacks to more than")
        ratio = self._limits.max_decompression_ratio
        if self.decoded_bytes > _RATIO_SLACK + ratio * self.received_bytes:
            text = f"the request unpacks to more than {ratio} times its size"
            raise BodyTooLarge(text, limit="max_decompression_ratio")


def _declared(scope: Mapping[str, Any]) -> tuple[int | None, str | None]:
    """The declared Content-Length, and the Content-Encoding (``None`` for identity)."""
    length: int | None = None
    encodings: list[str] = []
    for name, value in scope["headers"]:
        if name == b"content-length":
            length = int(value)
        elif name == b"content-encoding":
            encodings += [token.strip().lower() for token in value.decode("latin-1").split(",")]
    encodings = [token for token in encodings if token not in {"", "identity"}]
    if not encodings:
        return length, None
    if len(encodings) > 1 or encodings[0] not in {"gzip", "x-gzip", "deflate"}:
        raise BodyEncodingUnknown("Content-Encoding may be gzip, deflate or identity")
    return length, encodings[0].removeprefix("x-")


class _Inflater:
    """Unpacks gzip or deflate in blocks of bounded size."""

    def __init__(self, encoding: str) -> None:
        self._gzip = encoding == "gzip"
        self._unpacker: Any = None
        self._begun = b""
        self._any = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        self._any = self._any or bool(data)
        while data:
            if self._unpacker is None:
                data = self._begin(data)
                if self._unpacker is None:
                    return
            try:
                piece = self._unpacker.decompress(data, _OUTPUT_BLOCK)
            except zlib.error as error:
                raise BodyDamaged("the compressed request is damaged") from error
            if piece:
                yield piece
            data = self._unpacker.unconsumed_tail
            if self._unpacker.eof:
                data = self._unpacker.unused_data
                if data and not self._gzip:
                    raise BodyDamaged("bytes follow the end of the compressed request")
                self._unpacker = None if data else self._unpacker

    def _begin(self, data: bytes) -> bytes:
        """Choose the format once two bytes are there: "deflate" means zlib (RFC 9110 8.4.1.2), some send it raw."""
        data = self._begun + data
        self._begun = b""
        if self._gzip:
            self._unpacker = zlib.decompressobj(zlib.MAX_WBITS | 16)
        elif len(data) < 2:
            self._begun = data
        else:
            zlib_header = data[0] & 0x0F == 8 and (data[0] << 8 | data[1]) % 31 == 0
            self._unpacker = zlib.decompressobj(zlib.MAX_WBITS if zlib_header else -zlib.MAX_WBITS)
        return data

    def finish(self) -> None:
        """An empty body may call itself gzip; anything begun must have ended."""
        if self._begun or (self._any and (self._unpacker is None or not self._unpacker.eof)):
            raise BodyDamaged("the compressed request ends early")
