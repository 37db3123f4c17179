"""The MTOM answer a client reads: envelope first and whole, then the attachments as they arrive, never all in memory.

Pull, blocking, one thread at a time. A document asked for when it is the next to arrive is streamed; what passes by on
the way to a later one is spooled, within the bound of the spool, and what nobody refers to is dropped.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Final
from urllib.parse import unquote

from ihe.mtom import (
    ContentType,
    Event,
    MimeError,
    MimeLimits,
    MultipartParser,
    PartBegin,
    PartData,
    PartEnd,
    TransferDecoder,
    content_id,
    parse_content_type,
)
from wire.spool import Spool, SpoolFile, SpoolFull

__all__ = ["Package"]

_LIMITS: Final = MimeLimits(max_parts=1100)
"""The documents that anybody asks for at once, the root part, and some that nobody refers to."""
_MOST_SPOOLED: Final = 4 * 2**30
_SPOOL: Final = Spool(None, _MOST_SPOOLED, "4 GiB of attachments out of their order")
"""Of whoever brings none of its own."""


class _Arriving:
    """The part whose bytes are on the connection now."""

    def __init__(self, begin: PartBegin, events: Iterator[Event]) -> None:
        header = begin.headers.get("content-id")
        self.name = None if header is None else content_id(header)
        self.content_type = begin.headers.get("content-type")
        self._pieces = _decoded(events, TransferDecoder(begin.headers.get("content-transfer-encoding")))
        self._skipped = False

    def __iter__(self) -> Iterator[bytes]:
        for data in self._pieces:  # noqa: UP028 - the pieces must outlive a reader that stops early, see skip
            yield data
        if self._skipped:
            raise MimeError("the part was left for the one behind it")

    def skip(self) -> None:
        """Read and drop what its reader left behind; that reader will not take this for the end of the part."""
        for _ in self._pieces:
            self._skipped = True


def _decoded(events: Iterator[Event], decoder: TransferDecoder) -> Iterator[bytes]:
    for event in events:
        if isinstance(event, PartEnd):
            if rest := decoder.finish():
                yield rest
            return
        assert isinstance(event, PartData)
        if data := decoder.feed(event.data):
            yield data


class Package:
    """A multipart answer. ``root`` first, then ``part`` by content id. Raises MimeError (also when it breaks off)."""

    def __init__(self, content_type: ContentType, chunks: Iterable[bytes], spool: Spool | None = None) -> None:
        self._start = content_type.parameters.get("start", "").strip()
        self._events = _events(MultipartParser(content_type.parameters.get("boundary", ""), _LIMITS), chunks)
        self._file: SpoolFile = (spool or _SPOOL).open()
        self._spooled: dict[str, tuple[int, int]] = {}
        self._refers: Callable[[str], bool] = _anything
        self._current: _Arriving | None = None

    def root(self, max_bytes: int) -> tuple[bytes, str | None]:
        """The envelope and the charset of its Content-Type."""
        wanted = _folded(content_id(self._start)) if self._start else None
        while (part := self._next()) is not None:
            if wanted is None or (part.name is not None and _folded(part.name) == wanted):
                return _bounded(part, max_bytes), _charset(part.content_type)
            self._spool(part)
        raise MimeError("there is no root part")

    def refer(self, names: Iterable[str]) -> None:
        """The content ids (percent-decoded) that the envelope names; all other parts are dropped from now on."""
        known = {_folded(name) for name in names}
        self._refers = lambda name: _folded(name) in known

    def arriving(self) -> Iterator[tuple[str, Iterator[bytes]]]:
        """Every part that is referred to, as (percent-decoded content id, bytes), in the order they arrive.

        What of a part is left unread when the next one is asked for is dropped.
        """
        for name, stretch in self._spooled.items():
            if self._refers(name):
                yield name, self._file.blocks(*stretch)
        while (part := self._next()) is not None:
            if part.name is not None and self._refers(unquote(part.name)):
                yield unquote(part.name), iter(part)

    def part(self, name: str, *, keep: bool) -> Iterator[bytes]:
        """The bytes of the part ``name`` (percent-decoded); ``keep`` if it will be asked for again."""
        while name not in self._spooled:
            part = self._next()
            if part is None:
                name = self._similar(name)
                break
            if part.name is not None and unquote(part.name) == name and not keep:
                return iter(part)
            self._spool(part)
        return self._file.blocks(*self._spooled[name])

    def close(self) -> None:
        """Remove what was spooled."""
        self._file.close()
        self._spooled.clear()

    def _next(self) -> _Arriving | None:
        if self._current is not None:
            self._current.skip()
        begin = next(self._events, None)
        if begin is None:
            self._current = None
            return None
        assert isinstance(begin, PartBegin)
        self._current = _Arriving(begin, self._events)
        return self._current

    def _spool(self, part: _Arriving) -> None:
        name = None if part.name is None else unquote(part.name)
        if name is None or name in self._spooled or not self._refers(name):
            part.skip()
            return
        start = self._file.size
        try:
            for data in part:
                self._file.append(data)
        except SpoolFull as error:
            raise MimeError(
                f"the attachments are out of their order, and there is no room to keep them: {error}"
            ) from error
        self._spooled[name] = start, self._file.size

    def _similar(self, name: str) -> str:
        """The only name that differs in case alone."""
        found = [known for known in self._spooled if _folded(known) == _folded(name)]
        if len(found) != 1:
            raise MimeError("an xop:Include names a part that is not in the answer, or was read before")
        return found[0]


def _events(parser: MultipartParser, chunks: Iterable[bytes]) -> Iterator[Event]:
    for chunk in chunks:
        yield from parser.feed(chunk)
    parser.finish()


def _bounded(part: Iterable[bytes], max_bytes: int) -> bytes:
    data = bytearray()
    for piece in part:
        data += piece
        if len(data) > max_bytes:
            raise MimeError(f"the envelope has more than {max_bytes} bytes")
    return bytes(data)


def _charset(header: str | None) -> str | None:
    return None if header is None else parse_content_type(header).parameters.get("charset")


def _folded(name: str) -> str:
    return unquote(name).lower()


def _anything(_name: str) -> bool:
    return True
