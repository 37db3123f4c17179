"""The bytes behind a base64Binary element of a request: an XOP attachment or inline base64 (XOP: 3; ITI TF-2: V.3.6).

Receivers take either form, mixed within one message. An Include must name a part of the same message: any other
reference is refused, nothing is ever fetched.
"""

import base64
import binascii
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final
from urllib.parse import quote, unquote

from ihe import vocabulary as v
from ihe.errors import FaultCode, SoapFault
from ihe.mtom import MimeError, content_id, href_content_id
from wire.limit_reached import LimitReached
from wire.messages import Attachment, Request

INCLUDE: Final = f"{{{v.XOP}}}Include"
DOCUMENT: Final = f"{{{v.XDSB}}}Document"
_BLANKS: Final = b" \t\r\n"
_OCTETS: Final = "application/octet-stream"


class Attachments(Mapping[str, Attachment]):
    """The parts of a request by content id; looking one up claims it: from then on the actor owns its staged bytes."""

    def __init__(self, parts: Mapping[str, Attachment]) -> None:
        self._parts = parts
        self.claimed: set[str] = set()

    def __getitem__(self, content_id: str) -> Attachment:
        """The part; KeyError when there is none."""
        part = self._parts[content_id]
        self.claimed.add(content_id)
        return part

    def __iter__(self) -> Iterator[str]:
        """Content ids in the order the parts arrived; claims nothing."""
        return iter(self._parts)

    def __len__(self) -> int:
        """How many parts arrived beside the root."""
        return len(self._parts)

    def peek(self, content_id: str) -> Attachment:
        """The part without claiming it."""
        return self._parts[content_id]

    def unclaimed(self) -> Iterator[Attachment]:
        """Parts no handler asked for."""
        return (part for name, part in self._parts.items() if name not in self.claimed)


def attachment_of(request: Request, element: Any) -> Attachment:
    """The content of a Document element of ``request``: its part, or its base64 text decoded.

    Two elements may name the same part and then get the same Attachment. Inline content has the media type
    ``application/octet-stream``. Raises SoapFault (Sender) for a part that is not there and for broken base64.
    """
    if len(element) == 0:
        data = decoded(element.text)
        return Attachment(_OCTETS, len(data), hashlib.sha1(data, usedforsecurity=False).hexdigest(), data)
    try:
        return request.attachments[included(element)]
    except KeyError:
        raise _no_part(element) from None


def included(element: Any) -> str:
    """The content id an element's only child, an xop:Include, names; raises SoapFault for any other content."""
    if len(element) != 1 or element[0].tag != INCLUDE:
        raise SoapFault(FaultCode.SENDER, f"{element.tag} must hold base64 text or one xop:Include")
    if (element.text or "").strip() or (element[0].tail or "").strip():
        raise SoapFault(FaultCode.SENDER, f"{element.tag} holds text beside its xop:Include")
    return _content_id(element[0])


def _content_id(include: Any) -> str:
    try:
        return href_content_id(include.get("href") or "")
    except MimeError as error:
        raise SoapFault(FaultCode.SENDER, f"an xop:Include must name a part of this message by cid: {error}") from None


def _no_part(element: Any) -> SoapFault:
    return SoapFault(FaultCode.SENDER, f"an xop:Include in {element.tag} names a part that is not in the message")


def decoded(text: str | None) -> bytes:
    """Base64 text, blanks and line breaks allowed anywhere; raises SoapFault."""
    try:
        return base64.b64decode((text or "").encode("ascii").translate(None, _BLANKS), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise SoapFault(FaultCode.SENDER, "the inline content of an element is no base64") from None


def resolve_includes(root: Any, attachments: Attachments) -> None:
    """Tie every xop:Include of a message to its part.

    Within xdsb:Document the href is brought to the one spelling ``attachment_of`` looks for. Anywhere else (signature
    values, tokens: whole-envelope optimisation) the part's bytes replace it as base64, if they are small.
    Raises SoapFault.
    """
    names: _Names | None = None
    for include in list(root.iter(INCLUDE)):
        element = include.getparent()
        if element is None:
            raise SoapFault(FaultCode.SENDER, "an xop:Include must stand inside an element")
        wanted = included(element)
        names = names or _Names(attachments)
        name = names.find(include.get("href"), wanted)
        if name is None:
            raise _no_part(element)
        if element.tag == DOCUMENT:
            include.set("href", "cid:" + quote(name, safe="@"))
        else:
            _inline(element, attachments.peek(name))


class _Names:
    """Content ids by every spelling peers use: as written, percent-decoded, and last in another case if that is plain.

    An index, not a search: a hostile envelope may hold a million references.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._exact = frozenset(names)
        self._folded: dict[str, list[str]] = {}
        for name in self._exact:
            self._folded.setdefault(unquote(name).lower(), []).append(name)

    def find(self, href: str, decoded_name: str) -> str | None:
        raw = content_id(href.strip()[len("cid:") :])
        for candidate in (raw, decoded_name):
            if candidate in self._exact:
                return candidate
        similar = self._folded.get(unquote(decoded_name).lower(), [])
        return similar[0] if len(similar) == 1 else None


def _inline(element: Any, part: Attachment) -> None:
    if part.data is None:
        raise SoapFault(FaultCode.SENDER, f"the part behind {element.tag} is too large for this element")
    del element[0]
    element.text = base64.b64encode(part.data).decode("ascii")


def refuse_large_inline(body: Any, max_inline_bytes: int, max_document_bytes: int) -> None:
    """Refuse base64 text of a Document that stands for more than either bound; raises LimitReached (413)."""
    most = min(max_inline_bytes, max_document_bytes)
    for document in body.iter(DOCUMENT):
        text = document.text if len(document) == 0 else None
        if text is not None and len(text) // 4 * 3 > most and _decoded_size(text) > most:
            if most == max_document_bytes:
                raise LimitReached("max_document_bytes", f"a document may have {most} bytes")
            reason = f"a document within the envelope may have {most} bytes: send it as an MTOM attachment"
            raise LimitReached("max_inline_bytes", reason)


def _decoded_size(text: str) -> int:
    packed = text.encode("utf-8").translate(None, _BLANKS)
    return len(packed) // 4 * 3 - packed[-2:].count(b"=")
