"""MTOM messages: multipart/related bytes to parts and back (RFC 2046 5.1, RFC 2387, XOP 1.0; ITI TF-2: Appendix V).

Reading  ``MultipartParser`` takes bytes as they come, in pieces of any size, and gives back events; it holds a few
         hundred bytes and never a document. It accepts what real peers send: preamble, epilogue, blanks after the
         boundary, folded and LF-only part headers, a missing last line end. A message without its closing boundary
         is Truncated, never whole.
Writing  ``multipart_writer`` gives the bytes of an XOP package around an envelope and its attachments.

No I/O, no clock; boundaries and ids are given by the caller.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final
from urllib.parse import quote

from ihe.mime_headers import (
    ContentType,
    MimeBoundReached,
    MimeError,
    PartIds,
    TransferDecoder,
    Truncated,
    content_id,
    href_content_id,
    parse_content_type,
)
from ihe.vocabulary import XOP

__all__ = [
    "ContentType",
    "Event",
    "MimeBoundReached",
    "MimeError",
    "MimeLimits",
    "MultipartParser",
    "OutPart",
    "PartBegin",
    "PartData",
    "PartEnd",
    "PartIds",
    "TransferDecoder",
    "Truncated",
    "content_id",
    "href_content_id",
    "multipart_content_type",
    "multipart_overhead",
    "multipart_writer",
    "parse_content_type",
    "xop_include",
]


@dataclass(frozen=True, slots=True)
class MimeLimits:
    """What one message may make us hold or count: parts, and per part bytes and lines of its header."""

    max_parts: int = 1000
    max_header_bytes: int = 16 * 2**10
    max_header_count: int = 32
    max_preamble_bytes: int = 64 * 2**10


@dataclass(frozen=True, slots=True)
class PartBegin:
    """A part begins; header names are lower case, folded lines joined. Content-* headers occur once at most."""

    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class PartData:
    """Bytes of the current part, at least one."""

    data: bytes


@dataclass(frozen=True, slots=True)
class PartEnd:
    """The current part is whole."""


Event = PartBegin | PartData | PartEnd


class _State(Enum):
    PREAMBLE = auto()
    HEADERS = auto()
    DATA = auto()
    CLOSED = auto()  # "--boundary--" was just read: what follows on its line must be blank
    EPILOGUE = auto()


class _Line(Enum):
    """What a line that begins with ``--boundary`` turns out to be."""

    UNDECIDED = auto()
    DATA = auto()
    NEXT_PART = auto()
    CLOSE = auto()


_BOUNDARY: Final = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,68}[\x21-\x7e])?")
_HEADER: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+)[ \t]*:([^\x00\r]*)", re.DOTALL)
_BLANKS: Final = re.compile(rb"[ \t]*")
_MAX_PADDING: Final = 256
"""Blanks believed after a boundary (RFC 2046: transport padding); a longer line is no boundary but data."""

_NO_LIMITS_GIVEN: Final = MimeLimits()
_PART_END: Final = PartEnd()


class MultipartParser:
    """A push parser for one multipart body.

    The line end after the first boundary tells the convention of the message: CRLF, or LF alone throughout. In a CRLF
    message an LF before ``--boundary`` is data. A boundary counts only when nothing but blanks follows on its line, so
    documents may contain lines that merely begin like it; text after ``--boundary--`` on its line is refused, because
    to take it for data and to take it for the end are both guesses.

    Grammar (RFC 2046 5.1.1), D = line end + ``--boundary``:
    ``[preamble] --boundary [blanks] line-end *(headers line-end data D [blanks] line-end) D -- [epilogue]``
    """

    def __init__(self, boundary: str, limits: MimeLimits = _NO_LIMITS_GIVEN) -> None:
        if _BOUNDARY.fullmatch(boundary) is None:
            raise MimeError("the boundary must be 1 to 70 printable characters, the last one no blank")
        self._dash = b"--" + boundary.encode("ascii")
        self._set_delimiter(b"\r\n")
        self._limits = limits
        self._state = _State.PREAMBLE
        self._rest = b""
        self._seen = 0  # bytes of the preamble or of the part's header so far
        self._parts = 0
        self._lines: list[bytes] = []
        self._at_data_start = False  # right behind the blank line "--boundary" needs no line end of its own
        self._ends_with_cr = False
        self._steps = {
            _State.PREAMBLE: self._preamble,
            _State.HEADERS: self._header_line,
            _State.DATA: self._part_data,
            _State.CLOSED: self._closing_line,
            _State.EPILOGUE: self._epilogue,
        }

    def _set_delimiter(self, line_end: bytes) -> None:
        self._delimiter = line_end + self._dash
        # Slower than bytes.find where there is nothing to find, 20 times faster over lines that only look alike
        self._candidate = re.compile(
            re.escape(self._delimiter) + rb"(?:--|-?\Z|[ \t]{0,%d}(?:\r?\n|\r?\Z))" % _MAX_PADDING
        )

    @property
    def complete(self) -> bool:
        """Whether the closing boundary was read."""
        return self._state in {_State.CLOSED, _State.EPILOGUE}

    def feed(self, data: bytes) -> list[Event]:
        """The events that become certain with these bytes; MimeError when the message cannot be right any more."""
        events: list[Event] = []
        buffer = self._rest + data if self._rest else data
        position = 0
        while position < len(buffer):
            before = self._state, position
            position = self._steps[self._state](buffer, position, events)
            if before == (self._state, position):
                break  # the step wants to see more
        self._rest = buffer[position:]
        return events

    def finish(self) -> None:
        """To be called when the body has ended; raises Truncated when the closing boundary was not seen."""
        if not self.complete:
            raise Truncated("the message ends without its closing boundary")

    # Every step takes the buffer from a position, appends events and returns the position it got to.

    def _preamble(self, buffer: bytes, start: int, _events: list[Event]) -> int:
        if buffer.startswith(self._dash, start):
            line, after = self._judge(buffer, start + len(self._dash))
            if line is _Line.UNDECIDED:
                return start
            if line is not _Line.DATA:
                if line is _Line.NEXT_PART and buffer[after - 2 : after] != b"\r\n":
                    self._set_delimiter(b"\n")
                return self._boundary(line, after)
        end = buffer.find(b"\n", start) + 1
        if self._seen + (end or len(buffer)) - start > self._limits.max_preamble_bytes:
            raise MimeError("no boundary within the bytes allowed for a preamble")
        if not end:
            return start
        self._seen += end - start
        return end

    def _judge(self, buffer: bytes, position: int) -> tuple[_Line, int]:
        """What follows ``--boundary`` on its line, and the position behind it."""
        if buffer.startswith(b"--", position):
            return _Line.CLOSE, position + 2
        end = _BLANKS.match(buffer, position, position + _MAX_PADDING + 1).end()  # type: ignore[union-attr]
        follows = buffer[end : end + 2]
        if end - position > _MAX_PADDING:
            return _Line.DATA, end
        if follows.startswith(b"\n"):
            return _Line.NEXT_PART, end + 1
        if follows == b"\r\n":
            return _Line.NEXT_PART, end + 2
        if follows in {b"", b"\r"} or (follows == b"-" and end == position):
            return _Line.UNDECIDED, position
        return _Line.DATA, end

    def _boundary(self, line: _Line, after: int) -> int:
        if line is _Line.CLOSE:
            self._state = _State.CLOSED
            return after
        self._parts += 1
        if self._parts > self._limits.max_parts:
            raise MimeBoundReached("max_parts", f"more than {self._limits.max_parts} parts")
        self._state = _State.HEADERS
        self._seen = 0
        self._lines = []
        return after

    def _header_line(self, buffer: bytes, start: int, events: list[Event]) -> int:
        end = buffer.find(b"\n", start) + 1
        if self._seen + (end or len(buffer)) - start > self._limits.max_header_bytes:
            text = f"a part header of more than {self._limits.max_header_bytes} bytes"
            raise MimeBoundReached("max_header_bytes", text)
        if not end:
            return start
        self._seen += end - start
        line = buffer[start : end - 1].removesuffix(b"\r")
        if not line:
            events.append(PartBegin(_read_headers(self._lines)))
            self._state = _State.DATA
            self._at_data_start, self._ends_with_cr = True, False
        elif line[0] in b" \t" and self._lines:
            self._lines[-1] += b" " + line.strip()
        elif len(self._lines) == self._limits.max_header_count:
            text = f"a part header of more than {self._limits.max_header_count} lines"
            raise MimeBoundReached("max_header_count", text)
        else:
            self._lines.append(line)
        return end

    def _part_data(self, buffer: bytes, start: int, events: list[Event]) -> int:
        if self._at_data_start:
            window = buffer[start : start + len(self._dash)]
            if window == self._dash:
                line, after = self._judge(buffer, start + len(self._dash))
                if line is not _Line.DATA:
                    return start if line is _Line.UNDECIDED else self._end_part(line, after, events)
            elif self._dash.startswith(window):
                return start
            self._at_data_start = False
        search = start
        index = buffer.find(self._delimiter, search)
        while index >= 0:
            line, after = self._judge(buffer, index + len(self._delimiter))
            if line is _Line.UNDECIDED:
                return self._emit(buffer, start, index, events)
            if line is not _Line.DATA:
                self._emit(buffer, start, index, events)
                return self._end_part(line, after, events)
            search = index + len(self._delimiter)
            candidate = self._candidate.search(buffer, search)
            index = -1 if candidate is None else candidate.start()
        return self._emit(buffer, start, self._certain(buffer, search), events)

    def _certain(self, buffer: bytes, search: int) -> int:
        """The position up to which the buffer is data whatever comes next: a delimiter may have begun at its end."""
        first = self._delimiter[:1]
        index = buffer.find(first, max(search, len(buffer) - len(self._delimiter) + 1))
        while index >= 0:
            if self._delimiter.startswith(buffer[index:]):
                return index
            index = buffer.find(first, index + 1)
        return len(buffer)

    def _emit(self, buffer: bytes, start: int, end: int, events: list[Event]) -> int:
        if end > start:
            events.append(PartData(buffer if end - start == len(buffer) else buffer[start:end]))
            self._ends_with_cr = buffer[end - 1] == 0x0D
        return end

    def _end_part(self, line: _Line, after: int, events: list[Event]) -> int:
        if self._ends_with_cr and self._delimiter.startswith(b"\n"):
            raise MimeError("line ends change within the message: LF after the first boundary, CRLF before another")
        events.append(_PART_END)
        return self._boundary(line, after)

    def _closing_line(self, buffer: bytes, start: int, _events: list[Event]) -> int:
        end = _BLANKS.match(buffer, start).end()  # type: ignore[union-attr]
        if end < len(buffer):
            if buffer[end] not in b"\r\n":
                raise MimeError("text right after the closing boundary")
            self._state = _State.EPILOGUE
        return end

    def _epilogue(self, buffer: bytes, _start: int, _events: list[Event]) -> int:
        return len(buffer)


def _read_headers(lines: Iterable[bytes]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in lines:
        match = _HEADER.fullmatch(line)
        if match is None:
            raise MimeError("a line of a part header cannot be read")
        name = match[1].decode("ascii").lower()
        try:
            value = match[2].decode("utf-8").strip()
        except UnicodeDecodeError:
            value = match[2].decode("latin-1").strip()
        if name not in headers:
            headers[name] = value
        elif name.startswith("content-"):
            raise MimeError(f"a part has two {name} headers")
        else:
            headers[name] += ", " + value
    return headers


@dataclass(frozen=True, slots=True)
class OutPart:
    """An attachment to write: ``content_id`` without brackets; ``chunks`` is iterated once, when its turn comes."""

    content_id: str
    content_type: str
    chunks: Iterable[bytes]


_SOAP: Final = "application/soap+xml"
_UNFIT: Final = re.compile(r"[^\x20-\x7e]")
_UNFIT_ID: Final = re.compile(r"[^\x21-\x7e]|[<>]")


def xop_include(content_id: str) -> bytes:
    """The element that stands in the envelope for an attachment's bytes (XOP 1.0: 2.1)."""
    return f'<xop:Include xmlns:xop="{XOP}" href="cid:{quote(content_id, safe="@")}"/>'.encode("ascii")


def multipart_content_type(boundary: str, *, start: str, action: str | None = None) -> str:
    """The HTTP Content-Type of an MTOM message; ``start`` is the content id of the root part, without brackets.

    ``action`` is the WS-Addressing action; it goes where SOAP 1.2 has it, beside start-info.
    """
    value = (
        f'multipart/related; type="application/xop+xml"; boundary={_quoted(boundary)}; '
        f'start={_quoted(f"<{start}>")}; start-info="{_SOAP}"'
    )
    return value if action is None else f"{value}; action={_quoted(action)}"


def _quoted(text: str) -> str:
    if _UNFIT.search(text):
        raise MimeError("a header value must be printable ASCII")
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def multipart_writer(root: Iterable[bytes], parts: Iterable[OutPart], *, boundary: str, start: str) -> Iterator[bytes]:
    """The bytes of an XOP package: the envelope in pieces, then each attachment.

    ``parts`` is not asked before ``root`` is exhausted, so whoever generates ``root`` may append to a list behind it.
    Content ids and types are checked (printable, one line): MimeError, before any byte of that part.
    """
    yield _part_head(boundary, start, f'application/xop+xml; charset=UTF-8; type="{_SOAP}"', first=True)
    yield from root
    for part in parts:
        yield _part_head(boundary, part.content_id, part.content_type, first=False)
        yield from part.chunks
    yield _closing(boundary)


def multipart_overhead(parts: Iterable[tuple[str, str]], *, boundary: str, start: str) -> int:
    """Bytes that ``multipart_writer`` adds to the envelope and to parts given as (content_id, content_type).

    Together with their sizes it gives the Content-Length.
    """
    total = len(_part_head(boundary, start, f'application/xop+xml; charset=UTF-8; type="{_SOAP}"', first=True))
    total += sum(len(_part_head(boundary, name, content_type, first=False)) for name, content_type in parts)
    return total + len(_closing(boundary))


def _part_head(boundary: str, name: str, content_type: str, *, first: bool) -> bytes:
    if not name or _UNFIT_ID.search(name):
        raise MimeError("a content id must be printable ASCII without blanks and brackets")
    if _UNFIT.search(content_type):
        raise MimeError("a content type must be printable ASCII")
    return (
        f"{'' if first else chr(13) + chr(10)}--{boundary}\r\n"
        f"Content-Type: {content_type}\r\n"
        f"Content-Transfer-Encoding: binary\r\n"
        f"Content-ID: <{name}>\r\n\r\n"
    ).encode("ascii")


def _closing(boundary: str) -> bytes:
    return f"\r\n--{boundary}--\r\n".encode("ascii")
