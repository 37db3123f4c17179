"""MLLP, the frames HL7 v2 messages travel in (HL7 minimal lower layer protocol): bytes in, frames out, no I/O.

A message lies between a start block 0x0B and an end block 0x1C 0x0D. Taken as peers send it: the CR after 0x1C may be
missing, anything else between two frames is skipped up to a bound. A message whose end block is missing is known by the
next start block or the end of the bytes; it is handed over as not whole, because nobody can tell what it lacks.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

__all__ = ["Frame", "Framer", "Garbage", "Whole", "frame"]

START: Final = b"\x0b"
END: Final = b"\x1c"
CR: Final = b"\r"

HEAD_BYTES: Final = 4096
"""What is kept of a message that is too long: enough for its MSH, so that it can be answered."""

MAX_GARBAGE_BYTES: Final = 65_536
"""What may lie between two frames before the peer is thought to speak something else."""

TOO_LONG_FACTOR: Final = 16
"""A message longer than this many times the bound isn't read to its end."""


class Garbage(Exception):  # noqa: N818 - a finding
    """What arrives isn't MLLP, or a message has no end: the connection can't go on."""


class Whole(StrEnum):
    """How a message ended."""

    YES = "yes"
    NO_END_BLOCK = "no end block"
    TOO_LONG = "too long"


@dataclass(frozen=True, slots=True)
class Frame:
    """``message`` is what lay between the blocks; when ``whole`` is not YES, only its beginning."""

    message: bytes
    whole: Whole = Whole.YES


def frame(message: bytes) -> bytes:
    """The message with its blocks."""
    return START + message + END + CR


class Framer:
    """One direction of one connection. ``max_message_bytes`` bounds the memory it takes (twice that for a moment)."""

    def __init__(self, max_message_bytes: int) -> None:
        self._max = max_message_bytes
        self._buffer = bytearray()
        self._inside = False
        self._length = 0
        self._garbage = 0

    @property
    def inside(self) -> bool:
        """Whether a message has begun and not ended."""
        return self._inside

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that these bytes complete. Raises Garbage; frames found before it are lost with it."""
        frames: list[Frame] = []
        at = 0
        while at < len(data):
            at = self._take(data, at, frames) if self._inside else self._skip(data, at)
        return frames

    def end(self) -> Frame | None:
        """The peer sends no more (or waited too long): what it left unfinished."""
        if not self._inside:
            return None
        return self._close(Whole.NO_END_BLOCK)

    def _skip(self, data: bytes, at: int) -> int:
        start = data.find(START, at)
        between = data[at : start if start >= 0 else len(data)]
        self._garbage += len(between.strip(b"\r\n\x1c \x00"))
        if self._garbage > MAX_GARBAGE_BYTES:
            raise Garbage("no start block 0x0B in what was sent")
        if start < 0:
            return len(data)
        self._inside = True
        self._garbage = 0
        return start + 1

    def _take(self, data: bytes, at: int, frames: list[Frame]) -> int:
        ends = [found for found in (data.find(END, at), data.find(START, at)) if found >= 0]
        end = min(ends, default=len(data))
        self._length += end - at
        if self._length > self._max * TOO_LONG_FACTOR:
            raise Garbage("a message without end")
        chunk = data[at:end]
        if self._length <= self._max:
            self._buffer += chunk
        else:
            self._buffer = (self._buffer + chunk)[:HEAD_BYTES]
        if not ends:
            return end
        if data[end : end + 1] == END:
            frames.append(self._close(Whole.YES))
        else:
            frames.append(self._close(Whole.NO_END_BLOCK))
            self._inside = True
        return end + 1

    def _close(self, whole: Whole) -> Frame:
        message = bytes(self._buffer)
        if self._length > self._max:
            whole = Whole.TOO_LONG
        self._buffer = bytearray()
        self._length = 0
        self._inside = False
        return Frame(message, whole)
