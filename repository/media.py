"""Is a document what its mimeType says? Told from its first bytes alone, for the types we know; pure.

Judged      application/pdf, application/dicom, image/jpeg png tiff gif, application/zip, text/plain html, text/xml
Not judged  every other mimeType; DICOM without the preamble of Part 10, which has no signature
Lenient     text/plain and text/html: any text in any encoding. text/xml: whatever begins like XML, with or without
            declaration, byte order mark, UTF-16. PDF: bytes before its header, as its readers allow. ZIP: what is
            packed in one (office documents, XDM)
Nothing is parsed: an XML document is looked at as text, its entities stay what they are.
"""

import codecs
import re
from dataclasses import dataclass
from typing import Final

import filetype
from filetype.types.archive import Pdf
from filetype.types.image import Dcm, Gif, Jpeg, Png

__all__ = ["HEAD_BYTES", "Contradiction", "contradiction"]

HEAD_BYTES: Final = 8192
"""How much of a document is looked at. A PDF header may stand anywhere in the first 1,024 bytes."""

EMPTY, TEXT, XML, HTML, UNKNOWN = "empty", "text/plain", "text/xml", "text/html", "of an unknown type"
PDF, DICOM, ZIP, TIFF = "application/pdf", "application/dicom", "application/zip", "image/tiff"

_PLAIN_TEXT: Final = frozenset({EMPTY, TEXT, XML, HTML})
MATCHING: Final = {
    PDF: frozenset({PDF}),
    DICOM: frozenset({DICOM, UNKNOWN}),
    ZIP: frozenset({ZIP}),
    TIFF: frozenset({TIFF}),
    **{image: frozenset({image}) for image in ("image/jpeg", "image/png", "image/gif")},
    TEXT: _PLAIN_TEXT,
    HTML: _PLAIN_TEXT,
    XML: frozenset({XML}),
}
"""What each mimeType we judge may be found to be."""
SAME: Final = {
    "image/jpg": "image/jpeg",
    "image/pjpeg": "image/jpeg",
    "image/tif": TIFF,
    "application/x-zip-compressed": ZIP,
    "application/xml": XML,
    "application/x-pdf": PDF,
}
_SIGNED: Final = (Pdf(), Jpeg(), Png(), Gif(), Dcm())
# The hundred signatures of filetype are only asked for the name of what is neither of these nor text.
# What filetype gives a name of its own: BigTIFF it does not know, and it tells camera formats in TIFF apart.
_TIFF: Final = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_ZIP: Final = (b"PK\x03\x04", b"PK\x05\x06")
_PDF_WITHIN: Final = 1024
# Control characters no text has; allowed beside tab, line and form feed: ESC (ISO 2022), VT and FS (HL7), SUB (DOS).
_BINARY: Final = re.compile(r"[\x00-\x08\x0e-\x19\x1d-\x1f]")
_BEGINS_XML: Final = re.compile(r"\s*<[?!A-Za-z_:]")
_BEGINS_HTML: Final = re.compile(r"\s*(<!--.*?-->\s*)*<(!doctype\s+html|html)\b", re.IGNORECASE | re.DOTALL)
_XHTML: Final = "http://www.w3.org/1999/xhtml"
_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


@dataclass(frozen=True, slots=True)
class Contradiction:
    """``said`` is the mimeType without parameters, ``found`` a media type or ``empty``, ``of an unknown type``."""

    said: str
    found: str


def contradiction(mime_type: str, head: bytes) -> Contradiction | None:
    """Whether the first ``HEAD_BYTES`` of a document show something else than ``mime_type``; None where they do not."""
    said = mime_type.partition(";")[0].strip().lower()
    said = SAME.get(said, said)
    if said not in MATCHING:
        return None
    found = _found(head)
    return None if found in MATCHING[said] else Contradiction(said, found)


def _found(head: bytes) -> str:
    if not head:
        return EMPTY
    if head.startswith(_TIFF):
        return TIFF
    if head.startswith(_ZIP):
        return ZIP
    signed = filetype.match(head, _SIGNED)
    if signed is not None:
        return str(signed.mime)
    if b"%PDF-" in head[: _PDF_WITHIN + 5]:
        return PDF
    text = _text(head)
    if text is None:
        return filetype.guess_mime(head) or UNKNOWN
    if _BEGINS_HTML.match(text) and _XHTML not in text:
        return HTML
    return XML if _BEGINS_XML.match(text) else TEXT


def _text(head: bytes) -> str | None:
    """The head as text, None if it is none; of bytes beyond ASCII only those of Unicode are understood."""
    for mark, encoding in _MARKS:
        if head.startswith(mark):
            return _readable(head[len(mark) :], encoding)
    if head[1:2] == b"\0" and head[:1] != b"\0":
        return _readable(head, "utf-16-le")
    if head[:1] == b"\0" and head[1:2] != b"\0":
        return _readable(head, "utf-16-be")
    return _readable(head, "latin-1")


def _readable(data: bytes, encoding: str) -> str | None:
    # The head may end in the middle of a character.
    text = data.decode(encoding, "replace")
    return None if _BINARY.search(text) else text
