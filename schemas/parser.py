"""The one XML parser of the house: bytes in, an lxml element out, or ``XmlRefused``.

Accepts   UTF-8 (with or without BOM), UTF-16, ISO-8859-1, ISO-8859-15, windows-1252, US-ASCII
Refuses   any DTD, so all entities but the five of XML; other encodings; what is over a bound or not well-formed
Returns   the root element; comments and processing instructions are gone, CDATA is plain text
Bounds    ``max_bytes`` of the message, ``max_depth`` of nesting, ``max_markup`` of ``<`` and ``=`` together, which
          bounds memory: a tree takes up to 150 bytes per element and 350 per attribute, inline base64 next to nothing

Order of belief about the encoding: BOM, 16-bit pattern of the first bytes, ``encoding`` (what a header said), the XML
declaration, UTF-8. A claim of UTF-16 over 8-bit bytes is not believed: string writers of .NET print it into UTF-8.

libxml2 sees UTF-8 only, so that the search for a DTD here and the parsing there cannot read different texts.
A parser is made per call (2 µs): it is then never shared between threads. Nor may an element ever be.
libxml2 keeps every element and attribute name a thread has ever parsed, so a process fed with ever new names grows.
"""

import re
import threading
from enum import StrEnum
from typing import Any, Final

from lxml import etree


class Refusal(StrEnum):
    """Why a message is no acceptable XML."""

    DTD = "document type declaration"
    ENTITY = "entity"
    DEPTH = "too deep"
    SIZE = "too large"
    MARKUP = "too many elements"
    ENCODING = "wrong encoding"
    SYNTAX = "not well-formed"


class XmlRefused(Exception):  # noqa: N818 - an outcome, not a defect
    """Not XML we accept. ``reason`` names the line where there is one and what is wrong, never content."""

    def __init__(self, kind: Refusal, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind
        self.reason = reason


_UTF8: Final = "utf-8"
# Names as senders write them, lower case. A table, because looking a stranger's name up would import codec modules.
_ENCODINGS: Final = {
    "utf-8": _UTF8,
    "utf8": _UTF8,
    "us-ascii": _UTF8,
    "ascii": _UTF8,
    "utf-16": "utf-16",
    "utf-16le": "utf-16-le",
    "utf-16be": "utf-16-be",
    "iso-8859-1": "iso-8859-1",
    "iso8859-1": "iso-8859-1",
    "iso_8859-1": "iso-8859-1",
    "latin1": "iso-8859-1",
    "latin-1": "iso-8859-1",
    "iso-8859-15": "iso-8859-15",
    "windows-1252": "cp1252",
    "cp1252": "cp1252",
}
_BOM8, _BOM_LE, _BOM_BE = b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff"
# XML 1.0: 2.8 [23] XMLDecl; as far as the encoding's name
_DECLARED: Final = re.compile(
    rb"""<\?xml[ \t\r\n][^>]{0,80}?[ \t\r\n]encoding[ \t\r\n]*=[ \t\r\n]*["']([^"'>]{1,40})"""
)
_BLANKS: Final = re.compile(rb"[ \t\r\n]*")

_UNDECLARED_ENTITY: Final = (etree.ErrorTypes.ERR_UNDECLARED_ENTITY, etree.ErrorTypes.WAR_UNDECLARED_ENTITY)
_KINDS: Final = {
    **dict.fromkeys(_UNDECLARED_ENTITY, Refusal.ENTITY),
    etree.ErrorTypes.ERR_RESOURCE_LIMIT: Refusal.DEPTH,
    etree.ErrorTypes.ERR_INVALID_ENCODING: Refusal.ENCODING,
}


class _PerThread(threading.local):
    """Compiled XPath expressions: one object may run in one thread at a time."""

    def __init__(self) -> None:
        self.deeper: dict[int, etree.XPath] = {}


_per_thread = _PerThread()


def parse_xml(
    data: bytes,
    *,
    max_bytes: int = 64 * 2**20,
    max_depth: int = 64,
    max_markup: int = 500_000,
    encoding: str | None = None,
) -> Any:
    """Parse a whole message (see the head of this module); ``encoding`` is the charset a header gave."""
    if len(data) > max_bytes:
        raise XmlRefused(Refusal.SIZE, f"more than {max_bytes} bytes")
    text = _as_utf8(data, encoding)
    if len(text) > max_markup and text.count(b"<") + text.count(b"=") > max_markup:
        raise XmlRefused(Refusal.MARKUP, f"more than {max_markup} elements and attributes")
    _refuse_dtd(text)
    root = _parsed(text)
    # _refuse_dtd has seen to it; this stands here in case it and libxml2 ever disagree about where a prolog ends
    if root.getroottree().docinfo.internalDTD is not None:
        raise XmlRefused(Refusal.DTD, "a document type declaration is refused")
    if _deeper_than(max_depth, root):
        raise XmlRefused(Refusal.DEPTH, f"elements nested deeper than {max_depth}")
    return root


def _as_utf8(data: bytes, header: str | None) -> bytes:
    """The message in UTF-8 without BOM; raises XmlRefused for other encodings or bytes that are none."""
    name = _encoding(data, header)
    if name == _UTF8:
        return data[3:] if data.startswith(_BOM8) else data
    try:
        return data.decode(name).removeprefix("\ufeff").encode()
    except UnicodeError:
        raise XmlRefused(Refusal.ENCODING, f"the bytes are not {name}") from None


def _encoding(data: bytes, header: str | None) -> str:
    if data.startswith(_BOM8):
        return _UTF8
    if data.startswith((_BOM_LE, b"<\0")):
        return "utf-16-le"
    if data.startswith((_BOM_BE, b"\0<")):
        return "utf-16-be"
    if header is not None:
        said = header.strip().strip("\"'")
    else:
        declared = _DECLARED.match(data)
        if declared is None:
            return _UTF8
        said = declared[1].decode("latin-1")
    name = _ENCODINGS.get(said.lower())
    if name is None:
        raise XmlRefused(Refusal.ENCODING, "the encoding it names is not accepted")
    return _UTF8 if name.startswith("utf-16") else name


def _refuse_dtd(text: bytes) -> None:
    """Walk over the prolog (XML 1.0: 2.8 [22]) and refuse what is not the root element there, above all a DTD."""
    at = 0
    while True:
        blanks = _BLANKS.match(text, at)
        assert blanks is not None
        at = blanks.end()
        if text.startswith(b"<?", at):
            end = text.find(b"?>", at + 2)
        elif text.startswith(b"<!--", at):
            end = text.find(b"-->", at + 4) + 1
        elif text.startswith(b"<!", at):
            line = text.count(b"\n", 0, at) + 1
            raise XmlRefused(Refusal.DTD, f"line {line}: a document type declaration is refused")
        else:
            return
        if end < 1:
            raise XmlRefused(Refusal.SYNTAX, "not well-formed (ends inside the prolog)")
        at = end + 2


def _parsed(text: bytes) -> Any:
    parser = etree.XMLParser(
        encoding=_UTF8,
        resolve_entities=False,
        load_dtd=False,
        dtd_validation=False,
        no_network=True,
        recover=False,
        # base64 inside may be longer than the 10 MB libxml2 allows otherwise; size, depth and markup are bounded here
        huge_tree=True,
        remove_comments=True,
        remove_pis=True,
        strip_cdata=True,
        collect_ids=False,
    )
    try:
        return etree.fromstring(text, parser)
    except etree.XMLSyntaxError as error:
        raise _refused(error) from None


def _refused(error: etree.XMLSyntaxError) -> XmlRefused:
    """libxml2's own message quotes the text; the name of its error code says enough and cannot."""
    code = error.code or etree.ErrorTypes.ERR_DOCUMENT_EMPTY
    kind = _KINDS.get(code, Refusal.SYNTAX)
    name = str(etree.ErrorTypes._getName(code, "unknown fault")).removeprefix("ERR_").replace("_", " ").lower()
    return XmlRefused(kind, f"line {error.lineno or 1}: {kind.value} ({name})")


def _deeper_than(depth: int, root: Any) -> bool:
    found = _per_thread.deeper.get(depth)
    if found is None:
        found = _per_thread.deeper[depth] = etree.XPath(f"boolean({'/*' * (depth + 1)})")
    return bool(found(root))
