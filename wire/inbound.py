"""A request's bytes to its root part and attachments, while they arrive (ITI TF-2: Appendix V.3.6; XOP: 4).

The event loop parses MIME and gathers blocks; a worker thread is taken per full block, never for the length of an
upload. Of each attachment at most about one block is held: what grows beyond goes to the actor's store block by block,
hashed and written at the same time by two threads, while the next block arrives.

Memory    ``UploadBudget`` counts what all requests of the process hold; once it is used up attachments go to the store
          in smaller blocks instead of growing in memory. Nobody waits for the budget, so nobody can block it. A large
          envelope is told to come again when the others have used the budget up; alone it may be larger than that.
Checks    before the first byte is staged the envelope, if it is already there, is opened and judged
Ending    ``abort`` gives back whatever was staged; parts the handler claimed are the handler's
"""

import asyncio
import hashlib
from collections.abc import AsyncIterable, Awaitable, Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from ihe.errors import FaultCode, SoapFault
from ihe.mtom import (
    ContentType,
    MimeBoundReached,
    MimeError,
    MimeLimits,
    MultipartParser,
    PartBegin,
    PartData,
    PartIds,
    TransferDecoder,
    content_id,
    parse_content_type,
)
from wire.limit_reached import LimitReached
from wire.messages import Attachment, StagedPart

T = TypeVar("T")
BLOCK: Final = 2**20
"""Bytes gathered before a worker thread is taken."""
_LARGE_ROOT: Final = 2**20
_SETTINGS: Final = {
    "max_parts": "max_parts",
    "max_header_bytes": "max_part_header_bytes",
    "max_header_count": "max_part_header_count",
}
"""The keys of ``[limits]`` for those of ``MimeLimits``."""
_ROOT_TYPES: Final = ("", "application/xop+xml", "application/soap+xml", "text/xml")


class UploadBudget:
    """Bytes of requests held in memory by this process; touched by the event loop only."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0

    @property
    def spent(self) -> bool:
        """Whether attachments must leave memory now."""
        return self.used >= self.limit

    def spent_by_others(self, own: int) -> bool:
        """Whether all other requests than one that holds ``own`` bytes use it up."""
        return self.used - own >= self.limit


class StagingFailed(Exception):  # noqa: N818 - says what happened, the cause is the defect
    """The actor's store failed while an attachment arrived; ``cause`` is its exception."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(type(cause).__name__)
        self.cause = cause


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one request may hold."""

    max_envelope_bytes: int
    max_document_bytes: int
    mime: MimeLimits


@dataclass(frozen=True, slots=True)
class Workplace:
    """Where the blocking half happens: ``stage`` begins a stored part, ``check`` judges an envelope (SoapFault).

    ``stage`` is told how many bytes of the message are not stored yet, at most; ``None`` if nobody knows.
    """

    blocks: Executor
    budget: UploadBudget
    stage: Callable[[int | None], StagedPart]
    check: Callable[[bytes, str | None], object]

    def run(self, work: Callable[..., T], *arguments: Any) -> Awaitable[T]:
        """Run ``work`` in a worker thread."""
        return asyncio.get_running_loop().run_in_executor(self.blocks, work, *arguments)


class ArrivingPart:
    """One attachment on its way in."""

    def __init__(self, headers: PartBegin) -> None:
        self.content_type = headers.headers.get("content-type", "application/octet-stream")
        self.decoder = TransferDecoder(headers.headers.get("content-transfer-encoding"))
        self.sha1 = hashlib.sha1(usedforsecurity=False)
        self.size = 0
        self.held: list[bytes] = []
        self.held_bytes = 0
        self.staged: StagedPart | None = None
        self.writing: asyncio.Task[None] | None = None

    def take(self) -> bytes:
        """What is held, as one block."""
        block = self.held[0] if len(self.held) == 1 else b"".join(self.held)
        self.held, self.held_bytes = [], 0
        return block

    def completed(self) -> Attachment:
        """The part; joins and hashes what is in memory, so it runs in a worker thread."""
        if self.staged is not None:
            return Attachment(self.content_type, self.size, self.sha1.hexdigest(), None, self.staged)
        data = b"".join(self.held)
        return Attachment(self.content_type, self.size, hashlib.sha1(data, usedforsecurity=False).hexdigest(), data)


class Inbound:
    """One request while it is read. After ``receive`` the message is in ``root``, ``charset``, ``attachments``."""

    def __init__(self, content_type: ContentType, bounds: Bounds, workplace: Workplace) -> None:
        self.multipart = content_type.media_type == "multipart/related"
        self.charset = None if self.multipart else content_type.parameters.get("charset")
        self.root = b""
        self.root_complete = False
        self._named: dict[str, ArrivingPart] = {}
        self._arrived: list[ArrivingPart] = []
        self._stored: ArrivingPart | None = None
        self._type = content_type
        self._bounds = bounds
        self._at = workplace
        self._current: ArrivingPart | None = None
        self._root_pieces: list[bytes] = []
        self._root_bytes = 0
        self._root_decoder = TransferDecoder(None)
        self._in_root = False
        self._root_seen = False
        self._counted = 0
        self._checked = False
        self._to_come: Callable[[], int | None] = lambda: None

    async def receive(self, body: AsyncIterable[bytes], to_come: Callable[[], int | None] = lambda: None) -> None:
        """Read the whole body. Raises SoapFault, StagingFailed, and what ``body`` raises.

        ``to_come`` tells how many bytes of the body have not been given out yet, ``None`` if nobody knows.
        """
        self._to_come = to_come
        if not self.multipart:
            async for data in body:
                self._extend_root(data)
            self._close_root()
            return
        try:
            await self._receive_multipart(body)
        except MimeBoundReached as error:
            raise LimitReached(_SETTINGS[error.limit], f"the MIME message has {error}", http_status=400) from error
        except MimeError as error:
            raise SoapFault(FaultCode.SENDER, f"the MIME message cannot be read: {error}") from error

    async def _receive_multipart(self, body: AsyncIterable[bytes]) -> None:
        parser = MultipartParser(self._type.parameters.get("boundary", ""), self._bounds.mime)
        async for data in body:
            for event in parser.feed(data):
                if isinstance(event, PartData):
                    await self._on_data(event.data)
                elif isinstance(event, PartBegin):
                    self._on_begin(event)
                else:
                    await self._on_end()
        parser.finish()
        if not self.root_complete:
            raise MimeError("no part is the one that start names" if self._arrived else "there is no part")
        for part in self._arrived:
            await self._written(part)

    def _on_begin(self, event: PartBegin) -> None:
        name = event.headers.get("content-id")
        self._in_root = not self._root_seen and self._is_root(event, name)
        part = ArrivingPart(event)
        if name is not None and self._named.setdefault(content_id(name), part) is not part:
            raise MimeError("two parts have the same Content-ID")
        if self._in_root:
            self._root_seen = True
            self._root_decoder = part.decoder
            self.charset = _charset_of(event)
        else:
            self._arrived.append(part)
            self._current = part

    def _is_root(self, event: PartBegin, name: str | None) -> bool:
        """The part ``start`` names, without it the first (RFC 2387: 3.2); a first part without id is believed."""
        start = self._type.parameters.get("start")
        if start is None or not start.strip():
            return not self._arrived
        if name is None:
            media_type = event.headers.get("content-type", "").partition(";")[0].strip().lower()
            return not self._arrived and media_type in _ROOT_TYPES
        only: PartIds[bool] = PartIds()
        only.add(name, True)
        return only.find(start) is not None

    async def _on_data(self, data: bytes) -> None:
        if self._in_root:
            self._extend_root(data if self._root_decoder.identity else self._root_decoder.feed(data))
            return
        part = self._current
        assert part is not None
        await self._extend_part(part, data if part.decoder.identity else part.decoder.feed(data))

    async def _on_end(self) -> None:
        if self._in_root:
            self._extend_root(self._root_decoder.finish())
            self._close_root()
            self._in_root = False
            return
        part = self._current
        assert part is not None
        await self._extend_part(part, part.decoder.finish())
        if part.staged is not None:
            if part.held:
                await self._send_block(part)
            await self._written(part)
            part.writing = asyncio.ensure_future(self._finish(part.staged))

    async def _finish(self, staged: StagedPart) -> None:
        """Durable while the next part arrives, and before that is stored: of a thousand only one is open at a time."""
        await self._at.run(staged.finish)

    def _extend_root(self, data: bytes) -> None:
        self._root_bytes += len(data)
        if self._root_bytes > self._bounds.max_envelope_bytes:
            limit = self._bounds.max_envelope_bytes
            text = f"an envelope may have {limit} bytes: send documents as MTOM attachments"
            raise LimitReached("max_envelope_bytes", text)
        if self._root_bytes > _LARGE_ROOT and self._at.budget.spent_by_others(self._counted):
            text = f"messages at once hold more than {self._at.budget.limit} bytes, try again"
            raise LimitReached("upload_buffer_bytes", text, code=FaultCode.RECEIVER, http_status=503)
        self._count(len(data))
        self._root_pieces.append(data)

    def _close_root(self) -> None:
        self.root = b"".join(self._root_pieces)
        self._root_pieces = []
        self.root_complete = True

    def _count(self, change: int) -> None:
        self._counted += change
        self._at.budget.used += change

    async def _extend_part(self, part: ArrivingPart, data: bytes) -> None:
        if not data:
            return
        part.size += len(data)
        if part.size > self._bounds.max_document_bytes:
            raise LimitReached("max_document_bytes", f"a document may have {self._bounds.max_document_bytes} bytes")
        part.held.append(data)
        part.held_bytes += len(data)
        self._count(len(data))
        if part.held_bytes >= BLOCK or self._at.budget.spent:
            await self._send_block(part)

    async def _send_block(self, part: ArrivingPart) -> None:
        """Hand the held bytes to hash and store; the block before must be written first, so one is on its way."""
        await self._written(part)
        if part.staged is None:
            await self._check_envelope()
            to_come = self._to_come()
            wanted = None if to_come is None else part.held_bytes + to_come
            if self._stored is not None:
                await self._written(self._stored)
            self._stored = part
            part.staged = await self._staging(self._at.run(self._at.stage, wanted))
        part.writing = asyncio.ensure_future(self._write(part, part.staged, part.take()))

    async def _write(self, part: ArrivingPart, staged: StagedPart, block: bytes) -> None:
        outcomes = await asyncio.gather(
            self._at.run(part.sha1.update, block), self._at.run(staged.write, block), return_exceptions=True
        )
        self._count(-len(block))
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome

    async def _written(self, part: ArrivingPart) -> None:
        if part.writing is not None:
            writing, part.writing = part.writing, None
            await self._staging(writing)

    async def _staging(self, work: Awaitable[T]) -> T:
        try:
            return await work
        except SoapFault:
            raise
        except Exception as error:  # the store's own: disk full, object store gone, a defect; the actor answers for it
            raise StagingFailed(error) from error

    async def _check_envelope(self) -> None:
        """Refuse early: nothing is stored for an envelope that would be refused anyway."""
        if self.root_complete and not self._checked:
            self._checked = True
            await self._at.run(self._at.check, self.root, self.charset)

    async def settle(self) -> None:
        """Wait until no thread works for this request any more; failures were or will be told elsewhere."""
        for part in self._arrived:
            if part.writing is not None:
                await asyncio.wait([part.writing])
                if not part.writing.cancelled():
                    part.writing.exception()
                part.writing = None

    def release(self) -> None:
        """Give the budget back; the bytes may still be used by whoever got them."""
        self._count(-self._counted)

    def staged_parts(self) -> list[StagedPart]:
        """Everything this request put into the actor's store."""
        return [part.staged for part in self._arrived if part.staged is not None]

    def attachments(self) -> dict[str, Attachment]:
        """Every part beside the root, made durable; blocks. Parts without Content-ID cannot be referred to."""
        beside_root = set(map(id, self._arrived))
        return {name: part.completed() for name, part in self._named.items() if id(part) in beside_root}


def _charset_of(event: PartBegin) -> str | None:
    """The charset of the root part's own Content-Type, which is nearer to the bytes than the message's."""
    header = event.headers.get("content-type")
    return parse_content_type(header).parameters.get("charset") if header else None
