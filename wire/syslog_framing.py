"""Frames of syslog over a stream, read as senders in the field write them: octet counts, or lines (RFC 5425: 4.3).

octet counting   decimal count, a blank, that many octets (RFC 6587: 3.4.1); line ends between frames are skipped
lines            a message ends with a line feed (RFC 6587: 3.4.2); not of RFC 5425, but what many relays send

The first octet of a stream decides for all of it: a digit counts, ``<`` begins a line; a message begins with ``<``, so
nothing else can be meant. Bytes in, values out; nothing is thrown away silently: see ``Whole``.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

__all__ = ["Framer", "Piece", "Whole"]

LONGEST_LINE_BYTES: Final = 2**20
"""No length is announced before a line, so less is allowed than to a counted message."""

DIGITS: Final = 10
"""Of an octet count; who announces more than ten gigabytes has not written a count."""

FRAGMENT_BYTES: Final = 65_536
"""What is kept of octets that no message can be made of."""

_COUNT: Final = re.compile(rb"([1-9][0-9]{0,9}) ")
_BEGUN: Final = re.compile(rb"[1-9][0-9]{0,9}\Z")
_BETWEEN: Final = re.compile(rb"[\r\n]+")


class Whole(StrEnum):
    """YES; TRUNCATED: longer than the bound, this is its first part; BROKEN: a fragment, the stream ends here."""

    YES = "yes"
    TRUNCATED = "truncated"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class Piece:
    """What was found: the octets as they came, without count or line feed."""

    message: bytes
    whole: Whole = Whole.YES


class Framer:
    """One stream. Holds at most one unfinished message, of it at most ``max_message_bytes``."""

    def __init__(self, max_message_bytes: int) -> None:
        self._most = max_message_bytes
        self._buffer = bytearray()
        self._lines: bool | None = None
        self._count: int | None = None
        """Octets of the message that began."""
        self._skip = 0
        """Octets of a message too long that are still to come."""
        self._skip_line = False
        self.lost = False
        """The stream cannot be followed any further; what is fed afterwards is ignored."""

    @property
    def inside(self) -> bool:
        """Whether a message began that is not finished."""
        return bool(self._buffer or self._count is not None or self._skip or self._skip_line)

    @property
    def cut(self) -> bool:
        """Whether a stream that ended here would lack octets that it announced."""
        return bool(not self._lines and (self._buffer or self._count is not None or self._skip))

    @property
    def wanted_bytes(self) -> int:
        """Memory the unfinished message will take at most; 0 outside one."""
        if self._lines:  # nothing announces its length: once it is no small one, it may become the longest
            held = len(self._buffer)
            return held if held <= FRAGMENT_BYTES else min(self._most, LONGEST_LINE_BYTES)
        return min(self._count, self._most) if self._count is not None else len(self._buffer)

    def feed(self, data: bytes) -> list[Piece]:
        """Everything completed by ``data``."""
        if self.lost:
            return []
        if self._skip:
            skipped = min(self._skip, len(data))
            self._skip -= skipped
            data = data[skipped:]
        self._buffer += data
        if self._lines is None:
            self._decide()
        return self._fed_lines() if self._lines else self._fed_counts()

    def end(self) -> Piece | None:
        """The stream has ended; the fragment it ended in. A last line may lack its line feed and is a line."""
        fragment = bytes(self._buffer)
        self._buffer.clear()
        self.lost = True
        return Piece(fragment, Whole.YES if self._lines else Whole.BROKEN) if fragment.strip(b"\r\n") else None

    def _decide(self) -> None:
        between = _BETWEEN.match(self._buffer)
        if between is not None:
            del self._buffer[: between.end()]
        if self._buffer:
            self._lines = self._buffer.startswith(b"<")

    # ------------------------------------------------------------------------------------------- octet counting

    def _fed_counts(self) -> list[Piece]:
        pieces: list[Piece] = []
        buffer, start = self._buffer, 0
        while True:
            if self._count is None:
                start = self._counted(start)
                if self._count is None:
                    break
            kept = min(self._count, self._most)
            if len(buffer) - start < kept:
                break
            whole = Whole.YES if kept == self._count else Whole.TRUNCATED
            pieces.append(Piece(bytes(buffer[start : start + kept]), whole))
            there = min(len(buffer) - start, self._count)
            self._skip = self._count - there
            start += there
            self._count = None
        if self.lost:
            pieces.append(Piece(bytes(buffer[start : start + FRAGMENT_BYTES]), Whole.BROKEN))
            buffer.clear()
        else:
            del buffer[:start]
        return pieces

    def _counted(self, start: int) -> int:
        """Read the count at ``start``; where its message begins, or the count itself when more octets are needed."""
        buffer = self._buffer
        between = _BETWEEN.match(buffer, start)
        if between is not None:
            start = between.end()
        found = _COUNT.match(buffer, start)
        if found is not None:
            self._count = int(found[1])
            return found.end()
        self.lost = len(buffer) > start and _BEGUN.match(buffer, start) is None
        return start

    # ---------------------------------------------------------------------------------------------------- lines

    def _fed_lines(self) -> list[Piece]:
        pieces: list[Piece] = []
        most = min(self._most, LONGEST_LINE_BYTES)
        buffer, start = self._buffer, 0
        while (end := buffer.find(b"\n", start)) >= 0:
            line = bytes(buffer[start : min(end, start + most)])
            if self._skip_line:
                self._skip_line = False
            elif line.strip(b"\r"):
                pieces.append(Piece(line, Whole.TRUNCATED if end - start > most else Whole.YES))
            start = end + 1
        del buffer[:start]
        if self._skip_line:
            buffer.clear()
        elif len(buffer) > most:
            pieces.append(Piece(bytes(buffer[:most]), Whole.TRUNCATED))
            self._skip_line = True
            buffer.clear()
        return pieces
