"""ITI-20 Record Audit Event: the syslog message of RFC 5424 and its frame of RFC 5425 (ITI TF-2: 3.20.4.1).

message  ``<85>1 TIMESTAMP HOSTNAME APP-NAME PROCID IHE+RFC-3881 - `` and the XML of the record, UTF-8
frame    decimal count of octets without leading zero, a blank, the message; many frames follow each other

Read as senders in the field write: any MSGID, any structured data, a BOM before the XML, no blank before it, the NUL of
a text in C behind it; and the older header of RFC 3164, where XML follows. Bytes in, values out.
"""

import re
from dataclasses import dataclass
from typing import Final

__all__ = [
    "MSGID",
    "FrameDecoder",
    "FrameError",
    "SyslogError",
    "SyslogMessage",
    "decode_message",
    "encode_frame",
    "header_field",
    "syslog_message",
]

MSGID: Final = "IHE+RFC-3881"
BOM: Final = b"\xef\xbb\xbf"
NIL: Final = "-"


class SyslogError(ValueError):
    """Not an RFC 5424 message; the text says which field."""


class FrameError(ValueError):
    """The octet count cannot be read or is out of bounds; the stream cannot be followed any further."""


@dataclass(frozen=True, slots=True)
class SyslogMessage:
    """RFC 5424: 6; ``None`` where the sender wrote "-". ``message`` is MSG without its BOM.

    Of a header of RFC 3164 the priority and the host alone: its time has no year, and its tag no rule.
    """

    priority: int
    timestamp: str | None
    host: str | None
    app_name: str | None
    process_id: str | None
    message_id: str | None
    message: bytes


def header_field(text: str, longest: int) -> str:
    """``text`` as a header field: printable US-ASCII without blanks, at most ``longest`` characters (RFC 5424: 6)."""
    return re.sub(r"[^!-~]", "_", text)[:longest] or NIL


def syslog_message(priority: int, timestamp: str, origin: str, message_id: str, message: bytes) -> bytes:
    """One RFC 5424 message; ``origin`` is HOSTNAME, APP-NAME and PROCID, joined by blanks."""
    return f"<{priority}>1 {timestamp} {origin} {message_id} - ".encode("ascii") + message


_HEADER: Final = re.compile(
    rb"<(\d{1,3})>[1-9]\d{0,2} ([!-~]+) ([!-~]{1,255}) ([!-~]{1,48}) ([!-~]{1,128}) ([!-~]{1,32}) "
)
# SD-ELEMENT: inside a quoted value `"`, `\` and `]` are escaped by `\` (RFC 5424: 6.3.3).
_STRUCTURED: Final = re.compile(
    rb'(?:-|(?:\[(?:[^\]"\\]|"(?:[^"\\]|\\.)*+")*+\])+)(?: |$|(?=\xef\xbb\xbf|<))', re.DOTALL
)
# RFC 3164: 4.1: "<85>Mar  1 10:00:00 host tag: "; whatever stands as a tag, the record begins with the next "<".
_OLDER: Final = re.compile(
    rb"<(\d{1,3})>[A-Z][a-z]{2} [ 0-3]\d [0-2]\d:[0-5]\d:[0-6]\d ([!-;=-~]{1,255})? ?[^<]{0,256}(?=<)"
)


def decode_message(data: bytes) -> SyslogMessage:
    """Read one message. Raises SyslogError."""
    header = _HEADER.match(data)
    if header is None:
        return _decode_older(data)
    structured = _STRUCTURED.match(data, header.end())
    if structured is None:
        raise SyslogError("the structured data cannot be read")
    timestamp, host, app_name, process_id, message_id = (
        None if field == b"-" else field.decode("ascii") for field in header.groups()[1:]
    )
    message = _msg(data, structured.end())
    return SyslogMessage(int(header[1]), timestamp, host, app_name, process_id, message_id, message)


def _decode_older(data: bytes) -> SyslogMessage:
    header = _OLDER.match(data)
    if header is None:
        raise SyslogError("the RFC 5424 header cannot be read")
    host = header[2].decode("ascii") if header[2] else None
    return SyslogMessage(int(header[1]), None, host, None, None, None, _msg(data, header.end()))


def _msg(data: bytes, start: int) -> bytes:
    return data[start:].removeprefix(BOM).rstrip(b"\0")


def encode_frame(message: bytes) -> bytes:
    """RFC 5425: 4.3."""
    return b"%d %b" % (len(message), message)


class FrameDecoder:
    """Octet-counted frames out of a stream that comes in arbitrary pieces; holds at most one unfinished frame."""

    def __init__(self, max_message_bytes: int) -> None:
        self._most = max_message_bytes
        self._digits = len(str(max_message_bytes))
        self._buffer = bytearray()
        self._length: int | None = None

    def feed(self, data: bytes) -> list[bytes]:
        """Every message completed by ``data``. Raises FrameError; after that the decoder is of no more use."""
        self._buffer += data
        messages: list[bytes] = []
        start = 0
        while (frame := self._next(start)) is not None:
            begin, end = frame
            messages.append(bytes(self._buffer[begin:end]))
            self._length = None
            start = end
        del self._buffer[:start]
        return messages

    def finish(self) -> None:
        """The stream has ended; raises FrameError inside a frame."""
        if self._buffer:
            raise FrameError("the stream ended inside a frame")

    def _next(self, start: int) -> tuple[int, int] | None:
        blank = self._buffer.find(b" ", start, start + self._digits + 1)
        if blank < 0:
            if len(self._buffer) - start > self._digits or not self._digits_only(start, len(self._buffer)):
                raise FrameError("no octet count where a frame begins")
            return None
        if blank == start or not self._digits_only(start, blank):
            raise FrameError("no octet count where a frame begins")
        length = int(self._buffer[start:blank])
        if length > self._most:
            raise FrameError(f"a message of {length} octets is above the bound of {self._most}")
        end = blank + 1 + length
        return (blank + 1, end) if end <= len(self._buffer) else None

    def _digits_only(self, start: int, end: int) -> bool:
        digits = self._buffer[start:end]
        return not digits or (digits.isdigit() and not digits.startswith(b"0"))
