"""A SOAP client for the transactions we send: MTOM streamed out and in, over pooled connections; blocking.

Follows no redirect, reads no environment, speaks to the given URL only. What went wrong is told by what the peer may
have done: NotSent (nothing reached it), OutcomeUnknown (it may have acted), PeerFault (it said no).
"""

import base64
import binascii
import ssl
import time
import uuid
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import httpx2

from ihe import mtom
from ihe import vocabulary as v
from ihe.errors import SoapFault
from ihe.mtom import MimeError, href_content_id
from ihe.objects_as_bytes import cut
from ihe.soap import Envelope, envelope, read_envelope, read_fault, read_soap11_fault
from ihe.transactions import ITI_18, ITI_38, ITI_39, ITI_43, ITI_47, ITI_51, ITI_55, Transaction
from schemas import Refusal, XmlRefused, parse_xml
from wire.client_package import Package
from wire.client_request import OutPart, Post, as_envelope, as_package
from wire.deadline import Deadline, DeadlineTransport, give_up, read_until, remaining, stale, until
from wire.handshake import HandshakeFailed
from wire.reloading import ReloadingClientContext
from wire.settings import TlsSettings
from wire.spool import Spool
from wire.tls import handshake_fault, reason_of, said_by_peer

__all__ = [
    "MAX_ENVELOPE_BYTES",
    "Answer",
    "NotSent",
    "NotTried",
    "OutPart",
    "OutcomeUnknown",
    "PeerFault",
    "SoapClient",
    "TooLarge",
    "for_log",
]

CONNECT_TIMEOUT_S: Final = 5.0
KEEP_ALIVE_S: Final = 4.0
"""Shorter than most servers' (5 s and more), so that few requests are written to a connection that is being closed."""
ONLY_ASKING: Final = frozenset({ITI_18, ITI_38, ITI_39, ITI_43, ITI_47, ITI_51, ITI_55})
"""What changes nothing at the peer may be asked twice."""
_MOST_STALE: Final = 3
MAX_ENVELOPE_BYTES: Final = 64 * 2**20
HTTPS_PORT: Final = 443
_LEAST_MARKUP: Final = 500_000
_BYTES_PER_MARKUP: Final = 16
"""An ebRIM object has an element or attribute for every 20 bytes or so; each takes some hundred bytes once parsed."""
_GZIP_OR_ZLIB: Final = 47
_BLOCK: Final = 2**16
_INCLUDE: Final = f"{{{v.XOP}}}Include"

T = TypeVar("T")


class NotSent(Exception):  # noqa: N818 - says what happened
    """Nothing reached the peer: refused, unknown host, no connection in time, bad URL. Sending again is safe."""


class NotTried(NotSent):
    """The peer was not even spoken to: our own time was over, or all of our connections are in use."""


class OutcomeUnknown(Exception):  # noqa: N818 - says what happened
    """The request was sent, at least in part, and no readable answer came: the peer may have acted on it.

    ``http_status`` is that of the answer, ``None`` when there was none; ``reason`` is in our own words, ``quoting`` may
    be in the peer's.
    """

    def __init__(self, reason: str, http_status: int | None = None, *, quoting: object = None) -> None:
        super().__init__(reason if quoting is None else f"{reason}: {quoting}")
        self.reason = reason
        self.http_status = http_status


class TooLarge(OutcomeUnknown):
    """The envelope of the answer is over its bound (``max_bytes``, or the markup that such a bound allows)."""


class PeerFault(Exception):  # noqa: N818 - says what happened
    """The peer answered with a SOAP fault: code, subcode (Clark name) and reason are in ``fault``."""

    def __init__(self, fault: SoapFault) -> None:
        super().__init__(f"{fault.code}: {fault.reason}")
        self.fault = fault


def for_log(error: NotSent | OutcomeUnknown | PeerFault) -> str:
    """What happened, without a word of the peer's: they may name a patient, and end up in a log."""
    if isinstance(error, PeerFault):
        return f"SOAP fault {error.fault.code}"
    return error.reason if isinstance(error, OutcomeUnknown) else str(error)


class Answer:
    """A reply that is no fault; ``body`` is the child of soap:Body, ``headers`` are all but the WS-Addressing ones.

    Use as a context manager when documents follow.
    ``body`` belongs to the thread that called; what ``arriving`` gives may be read by others, one at a time.
    ``deadline`` (``time.monotonic``) is that of the call and may be moved. Documents are cheapest in the order they
    arrive, which is that of the message.
    """

    objects: bytes | None = None
    """Where it was asked for and the bytes allow it: the objects, which are not in ``body`` then."""

    def __init__(
        self, opened: Envelope, response: httpx2.Response, package: Package | None, deadline: Deadline
    ) -> None:
        self.body = opened.body
        self.headers = opened.headers
        self.message_id = opened.addressing.message_id
        self._response = response
        self._package = package
        self._deadline = deadline

    @property
    def deadline(self) -> float | None:
        """When the last byte must have come."""
        return self._deadline.at

    @deadline.setter
    def deadline(self, at: float | None) -> None:
        self._deadline.at = at

    def at_least(self, bytes_per_s: float) -> None:
        """From now on a peer that sends less, over some seconds of waiting for it, is given up: OutcomeUnknown."""
        self._deadline.at_least(bytes_per_s)

    @property
    def mtom(self) -> bool:
        """Whether it came as a MIME package, as MTOM/XOP has it."""
        return self._package is not None

    def part(self, element: Any) -> Iterator[bytes]:
        """The bytes of a Document element of ``body``, attached or inline; OutcomeUnknown when they break off."""
        try:
            if len(element) == 0:
                yield from _inline(element)
            else:
                yield from self._attached(element)
        except (ValueError, httpx2.HTTPError) as error:  # MimeError, binascii.Error, and letters that are no ASCII
            raise OutcomeUnknown(f"the answer broke off ({type(error).__name__})") from error

    def content_id(self, element: Any) -> str | None:
        """The part that a Document element refers to, percent-decoded; None: it is inline. Raises OutcomeUnknown."""
        if len(element) == 0:
            return None
        try:
            return href_content_id(_reference(element))
        except MimeError as error:
            raise OutcomeUnknown("a document cannot be found", quoting=error) from error

    def arriving(self, names: Sequence[str]) -> Iterator[tuple[str, Iterator[bytes]]]:
        """The parts with these content ids in the order they arrive, as (content id, bytes).

        What of a part is left unread when the next one is asked for is dropped. Raises OutcomeUnknown, also while the
        bytes are read.
        """
        if self._package is None:
            return
        self._package.refer(names)
        parts = self._package.arriving()
        while (found := _next(parts)) is not None:
            name, pieces = found
            yield name, _told(pieces)

    def _attached(self, element: Any) -> Iterator[bytes]:
        href = _reference(element)
        if self._package is None:
            raise MimeError("the answer has no attachments")
        again = sum(1 for include in self.body.iter(_INCLUDE) if include.get("href") == href) > 1
        return self._package.part(href_content_id(href), keep=again)

    def close(self) -> None:
        """Give the connection back, or up where the answer was not read to its end."""
        self._response.close()
        if self._package is not None:
            self._package.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _reference(element: Any) -> str:
    if len(element) != 1 or element[0].tag != _INCLUDE:
        raise MimeError("a Document holds neither base64 nor a reference to a part")
    href: str = element[0].get("href") or ""
    return href


def _next(pieces: Iterator[T]) -> T | None:
    """The next of ``pieces``, None at their end; OutcomeUnknown when they break off."""
    try:
        return next(pieces, None)
    except (MimeError, httpx2.HTTPError) as error:
        raise OutcomeUnknown(f"the answer broke off ({type(error).__name__})") from error


def _told(pieces: Iterator[bytes]) -> Iterator[bytes]:
    while (piece := _next(pieces)) is not None:
        yield piece


class SoapClient:
    """Sends transactions; one for many threads. ``timeout_s`` bounds each wait for the peer, a deadline the whole call.

    ``max_connections`` for transactions that carry documents, and as many for the others.
    ``handshake_failed`` is told, in the thread that called, of a server whose certificate does not count or that speaks
    no TLS of ours (ITI-19). ``table`` names settings of TLS that are this client's alone, for log and metrics; then
    ``certificates`` looks at their files.
    """

    def __init__(
        self,
        tls: TlsSettings | None,
        *,
        timeout_s: float = 60.0,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
        max_connections: int = 64,
        handshake_failed: HandshakeFailed | None = None,
        table: str | None = None,
    ) -> None:
        self._handshake_failed = handshake_failed
        context = ReloadingClientContext(tls, table) if tls is not None and tls.enabled else None
        self.certificates: Final = None if context is None or table is None else context.current
        verify = True if context is None else context
        self._timeout_s = timeout_s
        self._connect_timeout_s = connect_timeout_s
        # The transport itself: what a whole httpx2.Client adds (cookies, redirects, environment) is of no use here, and
        # costs a third of the time of a short call.
        # Documents have connections of their own: who reads them slowly does not keep a query waiting.
        self._transports = {
            documents: DeadlineTransport(verify, max_connections=max_connections, keepalive_expiry=KEEP_ALIVE_S)
            for documents in (False, True)
        }

    def close(self) -> None:
        """Close the idle connections."""
        for transport in self._transports.values():
            transport.close()

    def call(
        self,
        url: str,
        transaction: Transaction,
        body: bytes,
        *,
        parts: Sequence[OutPart] = (),
        extra_headers: bytes = b"",
        deadline: float | None = None,
        max_bytes: int | None = None,
        plain_only: bool = False,
        spool: Spool | None = None,
        objects_as_bytes: bool = False,
    ) -> Answer:
        """Send ``body`` (one serialised element) and wait for the answer; close it, or use it as a context manager.

        MTOM where the transaction is MTOM or there are parts. ``deadline`` (``time.monotonic``) is that of the whole
        call, from the connection to the last byte of the last document, however slowly the peer goes on talking;
        ``max_bytes`` bounds the envelope of the answer; ``plain_only``: an MTOM answer is none; ``spool`` keeps
        attachments that come before the envelope. ``objects_as_bytes``: the objects of a plain query answer may be left
        unread (``Answer.objects``), which is for a trusted registry.
        Raises NotSent, NotTried, OutcomeUnknown, TooLarge, PeerFault; an exception of a part's own iterator passes
        through, the peer then saw a message without its end.
        """
        message_id = uuid.uuid4().urn
        root = envelope(
            transaction.request_action,
            body,
            message_id=message_id,
            to=url,
            reply_to=v.WSA_ANONYMOUS,
            extra_headers=extra_headers,
        )
        documents = transaction.mtom or bool(parts)
        headers, content = as_package(root, parts) if documents else as_envelope(root)
        bounds = _Bounds(deadline, max_bytes, plain_only, objects_as_bytes, spool)
        post = Post(url, headers, content, deadline, transaction in ONLY_ASKING)
        response = self._send(self._transports[documents], post)
        try:
            return _read(response, transaction, message_id, bounds)
        except PeerFault:
            response.close()
            raise
        except BaseException:
            give_up(response)
            raise

    def _timeout(self, deadline: float | None) -> dict[str, float | None]:
        each = remaining(deadline, self._timeout_s)
        return httpx2.Timeout(each, connect=remaining(deadline, self._connect_timeout_s)).as_dict()

    def _send(self, transport: DeadlineTransport, post: Post) -> httpx2.Response:
        if post.deadline is not None and post.deadline <= time.monotonic():
            raise NotTried("no time is left for it")
        try:
            with until(post.deadline):
                return self._answered(transport, post)
        except httpx2.PoolTimeout as error:
            raise NotTried(f"no connection ({_reason(error)})") from error
        except (
            httpx2.ConnectError,
            httpx2.ConnectTimeout,
            httpx2.UnsupportedProtocol,
            httpx2.InvalidURL,
        ) as error:
            self._report(post.url, handshake_fault(error))
            raise NotSent(f"no connection ({_reason(error)})") from error
        except httpx2.HTTPError as error:
            raise OutcomeUnknown(f"no answer ({_reason(error)})") from error

    def _answered(self, transport: DeadlineTransport, post: Post) -> httpx2.Response:
        """The answer; where kept connections turn out to be closed, or out of step, on another one."""
        headers = post.headers | {"accept-encoding": "identity", "accept": "*/*", "user-agent": "Dossier"}
        url, tried = _url(post.url), 0
        while True:
            extensions = {"timeout": self._timeout(post.deadline)}
            request = httpx2.Request("POST", url, headers=headers, content=post.content, extensions=extensions)
            try:
                return transport.handle_request(request)
            except (httpx2.RemoteProtocolError, httpx2.NetworkError):
                tried += 1
                if tried > _MOST_STALE or not isinstance(post.content, bytes) or not stale(repeatable=post.only_asks):
                    raise

    def _report(self, url: str, fault: ssl.SSLError | None) -> None:
        """What we found wrong with the server; what it says of us it reports itself."""
        if self._handshake_failed is not None and fault is not None and not said_by_peer(fault):
            server = httpx2.URL(url)
            self._handshake_failed(server.host, server.port or HTTPS_PORT, reason_of(fault))


# Parsing costs more than finding it again, and few peers are called.
@lru_cache(maxsize=256)
def _url(text: str) -> httpx2.URL:
    return httpx2.URL(text)


def _reason(error: Exception) -> str:
    fault = handshake_fault(error)
    return type(error).__name__ if fault is None else reason_of(fault)


@dataclass(frozen=True, slots=True)
class _Bounds:
    """Of one answer, see ``SoapClient.call``."""

    deadline: float | None
    asked_bytes: int | None
    plain_only: bool
    objects_as_bytes: bool
    spool: Spool | None

    @property
    def max_bytes(self) -> int:
        return self.asked_bytes or MAX_ENVELOPE_BYTES

    @property
    def max_markup(self) -> int:
        return max(_LEAST_MARKUP, (self.asked_bytes or 0) // _BYTES_PER_MARKUP)


def _read(response: httpx2.Response, transaction: Transaction, message_id: str, bounds: _Bounds) -> Answer:
    status, deadline = response.status_code, Deadline(bounds.deadline)
    with ExitStack() as undo:
        try:
            data, charset, package = _root(response, _pieces(response, deadline), bounds, undo)
            objects: bytes | None = None
            if bounds.objects_as_bytes and package is None and (charset or "utf-8").lower() == "utf-8":
                data, objects = cut(data) or (data, None)
            root = _parsed(data, charset, bounds)
            older = read_soap11_fault(root, status)
            if older is not None:
                raise PeerFault(older)
            opened = read_envelope(root, answer=True)
        except (MimeError, XmlRefused, SoapFault) as error:
            raise OutcomeUnknown(f"HTTP {status} with an unreadable answer", status, quoting=error) from error
        except httpx2.HTTPError as error:
            raise OutcomeUnknown(f"the answer broke off ({type(error).__name__})", status) from error
        relates_to = opened.addressing.relates_to
        if relates_to and message_id not in relates_to:
            raise OutcomeUnknown("the answer relates to another message", status)
        fault = read_fault(opened.body, status)
        if fault is not None:
            raise PeerFault(fault)
        _check(opened, status, transaction)
        undo.pop_all()
        answer = Answer(opened, response, package, deadline)
        answer.objects = objects
        return answer


def _root(
    response: httpx2.Response, pieces: Iterator[bytes], bounds: _Bounds, undo: ExitStack
) -> tuple[bytes, str | None, Package | None]:
    """The envelope, its charset, and the package it came in."""
    content_type = mtom.parse_content_type(response.headers.get("content-type", ""))
    if content_type.media_type == "multipart/related":
        if bounds.plain_only:
            raise MimeError("it is an MTOM package")
        package = Package(content_type, pieces, bounds.spool)
        undo.callback(package.close)
        return *package.root(bounds.max_bytes), package
    data = _bounded(pieces, bounds.max_bytes)
    response.close()
    return data, content_type.parameters.get("charset"), None


def _parsed(data: bytes, charset: str | None, bounds: _Bounds) -> Any:
    try:
        return parse_xml(data, max_bytes=bounds.max_bytes, max_markup=bounds.max_markup, encoding=charset)
    except XmlRefused as refused:
        if refused.kind in (Refusal.SIZE, Refusal.MARKUP):
            raise TooLarge(f"the answer has {refused.reason}") from refused
        raise


def _pieces(response: httpx2.Response, deadline: Deadline) -> Iterator[bytes]:
    """The bytes of the answer; a peer may compress them though it was told not to, and what comes out is not small.

    Any other word is ignored: some servers write a charset there, and what is compressed otherwise is no XML.
    """
    coding = response.headers.get("content-encoding", "").strip().lower()
    pieces = read_until(deadline, response.iter_raw())
    return _inflated(pieces) if coding in ("gzip", "x-gzip", "deflate") else pieces


def _inflated(pieces: Iterator[bytes]) -> Iterator[bytes]:
    engine = zlib.decompressobj(wbits=_GZIP_OR_ZLIB)
    try:
        for piece in pieces:
            data, rest = engine.decompress(piece, _BLOCK), engine.unconsumed_tail
            while data:
                yield data
                data, rest = engine.decompress(rest, _BLOCK), engine.unconsumed_tail
            if engine.unused_data:  # each call would add to it, for as long as the peer goes on
                raise MimeError("there are bytes behind its end")
    except zlib.error as error:
        raise MimeError("it is damaged") from error
    if not engine.eof:
        raise MimeError("its compressed bytes break off")


def _check(opened: Envelope, status: int, transaction: Transaction) -> None:
    if status != httpx2.codes.OK or opened.body.tag != transaction.response_root:
        instead = f"{opened.body.tag} instead of {transaction.response_root}"
        raise OutcomeUnknown(f"HTTP {status} with another body", status, quoting=instead)


def _bounded(pieces: Iterator[bytes], max_bytes: int) -> bytes:
    data = bytearray()
    for piece in pieces:
        data += piece
        if len(data) > max_bytes:
            raise TooLarge(f"the answer has more than {max_bytes} bytes")
    return bytes(data)


def _inline(element: Any) -> Iterator[bytes]:
    """Base64 text, with blanks and line ends, decoded block by block."""
    text: str = element.text or ""
    rest, padded = "", False
    for start in range(0, len(text), _BLOCK):
        piece = rest + "".join(text[start : start + _BLOCK].split())
        if padded and piece:
            raise binascii.Error("padding within the text")
        whole = len(piece) if start + _BLOCK >= len(text) else len(piece) // 4 * 4
        rest, padded = piece[whole:], padded or "=" in piece[:whole]
        yield base64.b64decode(piece[:whole], validate=True)
