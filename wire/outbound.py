"""A Reply to the bytes of an answer, in the encoding the request came in (ITI TF-2: Appendix V.3.2, V.3.6).

MTOM    the envelope with an xop:Include where a document belongs, then the documents as parts, each pulled in its turn
plain   the documents as base64 within the envelope; one that is too large is refused before the first byte is sent

Everything here blocks (the pieces come from an actor) and runs in worker threads, one block per hop. A Reply may be
pulled by several threads, one after the other: what it iterates over must not be bound to a thread.
"""

import base64
import time
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Final

from ihe.errors import FaultCode, SoapFault
from ihe.mtom import OutPart, multipart_content_type, multipart_writer, xop_include
from ihe.soap import CONTENT_TYPE, media_type
from ihe.transactions import Transaction
from wire.messages import OutgoingPart, Reply
from wire.spyne_cage import close_envelope

BLOCK: Final = 2**20
"""Bytes gathered before they are sent."""
_MAX_LOOKAHEAD_BYTES: Final = 2**24
"""Envelope bytes held while looking for documents too large for a plain answer."""
_ROOT_ID: Final = "root@dossier"


class Encoding:
    """How one answer is written: ``mtom`` as asked, ``token`` a fresh word for boundary and ids."""

    def __init__(self, *, mtom: bool, token: str) -> None:
        self.mtom = mtom
        self._boundary = f"MIMEBoundary_{token}"
        self._token = token

    def content_type(self, fault: SoapFault | None = None) -> str:
        """The HTTP header of an answer or of this fault."""
        plain = media_type(fault) if fault is not None else CONTENT_TYPE
        if self.mtom and plain == CONTENT_TYPE:
            return multipart_content_type(self._boundary, start=_ROOT_ID)
        return f"{plain}; charset=UTF-8"

    def fault(self, fault: SoapFault, relates_to: str | None) -> bytes:
        """A whole fault message."""
        data, _ = close_envelope(fault, message_id=self.message_id, relates_to=relates_to)
        if self.mtom and media_type(fault) == CONTENT_TYPE:
            return b"".join(multipart_writer([data], [], boundary=self._boundary, start=_ROOT_ID))
        return data

    def pieces(
        self, reply: Reply, transaction: Transaction, relates_to: str | None, max_inline_bytes: int
    ) -> Iterator[bytes]:
        """The bytes of the answer in pieces of any size.

        Raises SoapFault before the first piece when a document does not fit a plain answer; what the reply raises.
        """
        head, tail = close_envelope(
            transaction, message_id=self.message_id, relates_to=relates_to, extra_headers=reply.headers
        )
        if self.mtom:
            return self._mtom(head, reply.body, tail)
        body = _looked_through(reply.body, max_inline_bytes) if transaction.mtom else reply.body
        return _plain(head, body, tail, max_inline_bytes)

    @property
    def message_id(self) -> str:
        """The wsa:MessageID of the answer."""
        token = self._token
        return f"urn:uuid:{token[:8]}-{token[8:12]}-{token[12:16]}-{token[16:20]}-{token[20:]}"

    def _mtom(self, head: bytes, body: Iterable[bytes | OutgoingPart], tail: bytes) -> Iterator[bytes]:
        parts: list[OutPart] = []

        def root() -> Iterator[bytes]:
            yield head
            for piece in body:
                if isinstance(piece, bytes):
                    yield piece
                else:
                    name = f"{len(parts) + 1}.{self._token}@dossier"
                    parts.append(OutPart(name, _fit(piece.content_type), _when_asked(piece)))
                    yield xop_include(name)
            yield tail

        return multipart_writer(root(), parts, boundary=self._boundary, start=_ROOT_ID)


def _fit(content_type: str) -> str:
    """A media type a header can hold: it comes from metadata, and the answer must not break over it."""
    return content_type if content_type.isascii() and content_type.isprintable() else "application/octet-stream"


def _when_asked(part: OutgoingPart) -> Iterator[bytes]:
    yield from part.chunks()


def _looked_through(body: Iterable[bytes | OutgoingPart], max_inline_bytes: int) -> Iterator[bytes | OutgoingPart]:
    """The same pieces, after the documents among them were seen to fit; raises SoapFault."""
    rest, seen, held = iter(body), [], 0
    for piece in rest:
        seen.append(piece)
        if isinstance(piece, bytes):
            held += len(piece)
        elif piece.size is not None and piece.size > max_inline_bytes:
            raise _too_large(max_inline_bytes)
        elif piece.size is None:
            seen[-1] = whole = _whole(piece, max_inline_bytes)
            held += whole.size or 0
        if held > _MAX_LOOKAHEAD_BYTES:
            break
    yield from seen
    yield from rest


def _whole(part: OutgoingPart, limit: int) -> OutgoingPart:
    """The same with its size, read to its end; raises SoapFault."""
    data = bytearray()
    for chunk in part.chunks():
        data += chunk
        if len(data) > limit:
            raise _too_large(limit)
    return OutgoingPart(part.content_type, len(data), partial(iter, (data,)))


def _too_large(limit: int) -> SoapFault:
    return SoapFault(
        FaultCode.SENDER, f"a document of more than {limit} bytes is answered as MTOM only: ask with a MTOM message"
    )


def _plain(head: bytes, body: Iterable[bytes | OutgoingPart], tail: bytes, max_inline_bytes: int) -> Iterator[bytes]:
    yield head
    for piece in body:
        if isinstance(piece, bytes):
            yield piece
        else:
            whole = _whole(piece, max_inline_bytes) if piece.size is None else piece
            if whole.size is not None and whole.size > max_inline_bytes:
                raise _too_large(max_inline_bytes)
            yield from _base64(whole.chunks())
    yield tail


def _base64(chunks: Iterable[bytes]) -> Iterator[bytes]:
    rest = b""
    for chunk in chunks:
        data = rest + chunk
        whole = len(data) - len(data) % 3
        rest = data[whole:]
        yield base64.b64encode(data[:whole])
    yield base64.b64encode(rest)


def gather(pieces: Iterator[bytes], patience_s: float | None = None) -> tuple[bytes, bool]:
    """About one block of pieces, and whether these were the last; after ``patience_s`` what there is of it."""
    held: list[bytes] = []
    size = 0
    until = None if patience_s is None else time.monotonic() + patience_s
    for piece in pieces:
        held.append(piece)
        size += len(piece)
        if size >= BLOCK or (until is not None and size and time.monotonic() > until):
            return b"".join(held), False
    return b"".join(held), True
