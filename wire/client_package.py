"""The MTOM answer a client reads: envelope first and whole, then the attachments as they arrive, never all in memory.

Pull, blocking, one thread. A document asked for when it is the next to arrive is streamed; what passes by on the way to
a later one is spooled to a temporary file.
"""

import tempfile
from collections.abc import Iterable, Iterator
from typing import IO, Final
from urllib.parse import unquote

from ihe.mtom import (
    ContentType,
    Event,
    MimeError,
    MultipartParser,
    PartBegin,
    PartData,
    PartEnd,
    TransferDecoder,
    content_id,
    parse_content_type,
)

_IN_MEMORY: Final = 2**20
_READ: Final = 2**18


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

    def __init__(self, content_type: ContentType, chunks: Iterable[bytes]) -> None:
        self._start = content_type.parameters.get("start", "").strip()
        self._events = _events(MultipartParser(content_type.parameters.get("boundary", "")), chunks)
        self._spooled: dict[str, IO[bytes]] = {}
        self._current: _Arriving | None = None

    def root(self, max_bytes: int) -> tuple[bytes, str | None]:
        """The envelope and the charset of its Content-Type."""
        wanted = _folded(content_id(self._start)) if self._start else None
        while (part := self._next()) is not None:
            if wanted is None or (part.name is not None and _folded(part.name) == wanted):
                return _bounded(part, max_bytes), _charset(part.content_type)
            self._spool(part)
        raise MimeError("there is no root part")

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
        return _rewound(self._spooled[name])

    def close(self) -> None:
        """Remove what was spooled."""
        for file in self._spooled.values():
            file.close()
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
        if part.name is None or unquote(part.name) in self._spooled:
            part.skip()
            return
        file: IO[bytes] = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115 - closed by close()
        self._spooled[unquote(part.name)] = file
        for data in part:
            file.write(data)

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


def _rewound(file: IO[bytes]) -> Iterator[bytes]:
    position = 0
    while True:
        file.seek(position)
        data = file.read(_READ)
        if not data:
            return
        position += len(data)
        yield data
