"""MIME words around an MTOM message: Content-Type, Content-ID, cid references, transfer encodings.

Content-Type     RFC 2045 5.1, RFC 2387 (multipart/related); read leniently, since real peers leave quotes away
Content-ID, cid  RFC 2392: ``Content-ID: <a@b>`` is referred to as ``cid:a%40b``
XOP              "XML-binary Optimized Packaging" 1.0, 2005

No function here does I/O. Errors name what is wrong and never repeat what the peer sent.
"""

import binascii
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Generic, TypeVar
from urllib.parse import unquote

__all__ = [
    "ContentType",
    "MimeBoundReached",
    "MimeError",
    "PartIds",
    "TransferDecoder",
    "Truncated",
    "content_id",
    "href_content_id",
    "parse_content_type",
]

T = TypeVar("T")


class MimeError(ValueError):
    """The message cannot be read. The text is fit for a fault reason: it names what is wrong, never content."""


class MimeBoundReached(MimeError):  # noqa: N818 - says what is wrong with the message
    """The message is larger than the reader allows; ``limit`` is the field of its ``MimeLimits``."""

    def __init__(self, limit: str, text: str) -> None:
        super().__init__(text)
        self.limit = limit


class Truncated(MimeError):  # noqa: N818 - says what happened to the message
    """The closing boundary was never seen: the upload broke off."""


@dataclass(frozen=True, slots=True)
class ContentType:
    """A Content-Type header: ``media_type`` in lower case, ``parameters`` by lower-case name, values unquoted."""

    media_type: str
    parameters: Mapping[str, str]


_MEDIA_TYPE: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+/[!#$%&'*+.^_`|~0-9A-Za-z-]+")
# A value without quotes ends at ";" only: `start=<a@b>`, `boundary=uuid:1` and `type=application/xop+xml` are common.
_PARAMETER: Final = re.compile(
    r"""[ \t]*(?P<name>[!#$%&'*+.^_`|~0-9A-Za-z-]+)[ \t]*=[ \t]*
        (?: "(?P<quoted>(?:[^"\\]|\\.)*)" | (?P<plain>[^";][^;]*)? )[ \t]*(?=;|$)""",
    re.VERBOSE,
)
_FOLD: Final = re.compile(r"\r?\n[ \t]+")
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_ESCAPE: Final = re.compile(r"\\(.)")


def parse_content_type(text: str) -> ContentType:
    """Parse a Content-Type value: any case, order and blanks, folded lines, quoted strings, empty parameters.

    Raises MimeError when there is no media type, a quote is not closed, a parameter has no name,
    or one parameter is given twice with different values (two readers would see two messages).
    """
    text = _FOLD.sub(" ", text).strip()
    if _CONTROL.search(text):
        raise MimeError("Content-Type contains a control character")
    media_type, _, rest = text.partition(";")
    media_type = media_type.strip().lower()
    if _MEDIA_TYPE.fullmatch(media_type) is None:
        raise MimeError("Content-Type names no media type")
    parameters: dict[str, str] = {}
    position = 0
    while position < len(rest):
        if rest[position] in "; \t":
            position += 1
            continue
        match = _PARAMETER.match(rest, position)
        if match is None:
            raise MimeError("Content-Type has a parameter that cannot be read")
        name, value = match["name"].lower(), _value(match)
        if parameters.setdefault(name, value) != value:
            raise MimeError(f"Content-Type gives {name} twice")
        position = match.end()
    return ContentType(media_type, parameters)


def _value(match: re.Match[str]) -> str:
    quoted = match["quoted"]
    return (match["plain"] or "").strip() if quoted is None else _ESCAPE.sub(r"\1", quoted)


def content_id(text: str) -> str:
    """The id inside a Content-ID header or a start parameter: ``"<a@b>"`` and ``"a@b"`` are ``"a@b"``.

    Raises MimeError when nothing is left. Percent signs stay: they may belong to the id.
    """
    name = text.strip()
    if name.startswith("<") and name.endswith(">"):
        name = name[1:-1].strip()
    if not name:
        raise MimeError("an empty Content-ID")
    return name


def href_content_id(href: str) -> str:
    """The content id an XOP Include refers to: ``"cid:a%40b"`` is ``"a@b"`` (RFC 2392).

    Raises MimeError for every other scheme: a reference that leaves the message is never followed.
    """
    scheme, colon, name = href.strip().partition(":")
    if not colon or scheme.lower() != "cid":
        raise MimeError("an xop:Include refers to something outside the message: only cid: is allowed")
    return content_id(_decoded(name))


def _decoded(name: str) -> str:
    try:
        return unquote(name, errors="strict")
    except UnicodeDecodeError as error:
        raise MimeError("a content id is not UTF-8 after percent-decoding") from error


class PartIds(Generic[T]):
    """The parts of one message by Content-ID; refuses two parts under one id.

    Senders differ in brackets, percent-encoding and case, so ``find`` compares as written first, then decoded, and
    ignores case last, only where that leaves exactly one part.
    """

    def __init__(self) -> None:
        self._parts: dict[str, T] = {}

    def __len__(self) -> int:
        return len(self._parts)

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def add(self, header: str, part: T) -> None:
        """Keep ``part`` under its Content-ID header; MimeError when the id is empty or already taken."""
        name = content_id(header)
        if name in self._parts:
            raise MimeError("two parts have the same Content-ID")
        self._parts[name] = part

    def find(self, name: str) -> T | None:
        """The part a ``cid:`` reference or a ``start`` parameter names; ``None`` when there is none.

        ``name`` is as sent, with or without ``cid:``, brackets and percent-encoding.
        """
        name = name.strip()
        raw = content_id(name[4:] if name[:4].lower() == "cid:" else name)
        for candidate in (raw, content_id(_decoded(raw))):
            if candidate in self._parts:
                return self._parts[candidate]
        wanted = content_id(_decoded(raw))
        for same in (_decoded, lambda text: _decoded(text).lower()):
            found = [part for known, part in self._parts.items() if same(known) == same(wanted)]
            if found:
                return found[0] if len(found) == 1 else None
        return None


_BASE64_BLANKS: Final = b" \t\r\n"
_MAX_QP_LINE: Final = 2**16


class TransferDecoder:
    """Undoes a Content-Transfer-Encoding (RFC 2045 6) piece by piece.

    ``None``, ``binary``, ``8bit``, ``7bit``: bytes pass unchanged (``identity``). ``base64``: line breaks and blanks
    anywhere. ``quoted-printable``. Anything else, and what is not in the encoding's alphabet, raises MimeError.
    """

    def __init__(self, encoding: str | None) -> None:
        name = (encoding or "binary").strip().lower()
        decoders: dict[str, Callable[[bytes, bool], bytes]] = {
            "base64": self._base64,
            "quoted-printable": self._quoted_printable,
        }
        self.identity = name in {"binary", "8bit", "7bit", ""}
        if not self.identity and name not in decoders:
            raise MimeError("a part has an unknown Content-Transfer-Encoding")
        self._decode = None if self.identity else decoders[name]
        self._rest = b""
        self._padded = False

    def feed(self, data: bytes) -> bytes:
        """Decode what can be decoded; a few bytes may be kept for the next call."""
        return data if self._decode is None else self._decode(data, False)

    def finish(self) -> bytes:
        """The last bytes; MimeError when the encoded text ends midway."""
        return b"" if self._decode is None else self._decode(b"", True)

    def _base64(self, data: bytes, last: bool) -> bytes:
        text = self._rest + data.translate(None, _BASE64_BLANKS)
        whole = len(text) - len(text) % 4
        self._rest = text[whole:]
        if last and self._rest:
            raise MimeError("base64 ends midway")
        if not whole:
            return b""
        if self._padded:
            raise MimeError("base64 goes on after its padding")
        self._padded = text[whole - 1] == ord("=")
        try:
            return binascii.a2b_base64(text[:whole], strict_mode=True)
        except binascii.Error as error:
            raise MimeError("a part is not base64") from error

    def _quoted_printable(self, data: bytes, last: bool) -> bytes:
        text = self._rest + data
        end = len(text) if last else text.rfind(b"\n") + 1
        self._rest = text[end:]
        if len(self._rest) > _MAX_QP_LINE:
            raise MimeError("a quoted-printable line is too long")
        if _QP_DAMAGED.search(text, 0, end):
            raise MimeError("a part is not quoted-printable")
        # trailing blanks are padding of the transport (RFC 2045 6.7 rule 3)
        return binascii.a2b_qp(_QP_TRAILING.sub(b"", text[:end]))


_QP_DAMAGED: Final = re.compile(rb"=(?![0-9A-Fa-f]{2}|[ \t]*(?:\r?\n|\Z))")
_QP_TRAILING: Final = re.compile(rb"[ \t]+(?=\r?\n|\Z)")
