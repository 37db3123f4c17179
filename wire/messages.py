"""What passes between the wire and an actor: a request that was understood, and the reply to it."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from ihe.transactions import Transaction
from ihe.xua import Caller


class StagedPart(Protocol):
    """An attachment too large for memory, on its way into an actor's store. All calls block and run in a worker thread.

    ``write`` takes blocks in order; ``finish``, once the part has ended, makes them durable; ``abort`` removes what was
    written, finished or not (idempotent).
    """

    def write(self, block: bytes) -> None: ...
    def finish(self) -> None: ...
    def abort(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Attachment:
    """A part that arrived complete: ``data`` holds its bytes when small, else they lie in ``staged`` (finished).

    ``size`` in bytes and ``sha1`` (lower-case hex) are of the bytes after Content-Transfer-Encoding was undone.
    """

    content_type: str
    size: int
    sha1: str
    data: bytes | None
    staged: StagedPart | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """One request: ``body`` is the lxml child element of soap:Body, not yet checked against a schema.

    ``attachments`` maps an unescaped content id to the part; ``address`` is the endpoint URI we were called at;
    ``reply_to`` and ``message_id`` are the WS-Addressing headers (``None`` when absent); ``headers`` are the other SOAP
    header elements, e.g. our own depositor header. ``request_id`` stands in our logs and in answers to our own faults.
    ``defects`` tell how the message around the body deviates from the framework, where this caller's strictness allows
    it: for the actor's own list.
    """

    transaction: Transaction
    body: Any
    caller: Caller
    address: str
    message_id: str | None
    reply_to: str | None
    request_id: str
    headers: tuple[Any, ...] = ()
    attachments: Mapping[str, Attachment] = field(default_factory=dict)
    defects: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class OutgoingPart:
    """A document inside a reply: as an attachment in an MTOM answer, as base64 text in a plain one.

    ``chunks`` is called at most once, when its turn comes; it may block. ``size`` in bytes, ``None`` if unknown.
    """

    content_type: str
    size: int | None
    chunks: Callable[[], Iterator[bytes]]


@dataclass(frozen=True, slots=True)
class Reply:
    """The reply's body element, serialised in order: bytes as they are, an OutgoingPart where its content belongs.

    The pieces must declare every namespace they use. An exception raised by the iterable after the first piece breaks
    the connection: the answer is never closed as if it were whole. ``close`` is called when the answer is sent or
    broken (argument: whether every byte was handed to the network). ``headers`` are serialised SOAP header elements
    that declare their own namespaces.
    """

    body: Iterable[bytes | OutgoingPart]
    close: Callable[[bool], None] | None = None
    headers: bytes = b""


Handler = Callable[[Request], Reply]
"""Runs in a worker thread. Raises SoapFault for what it cannot accept; any other exception is our own defect."""


class Actor(Protocol):
    """What an actor gives to the wire for one address."""

    @property
    def handlers(self) -> Mapping[Transaction, Handler]: ...

    def stage(self, request_id: str, wanted: int | None) -> StagedPart:
        """Begin to keep a large attachment (worker thread); raises SoapFault when there is no room or no wish.

        ``wanted``: bytes of the whole message that are not stored yet, at most; ``None`` if it does not say.
        """
        ...

    def failure(self, request: Request, error: Exception) -> Reply:
        """The answer when a handler failed by our own defect: XDSRegistryError or XDSRepositoryError, audited.

        Of a request that is refused by a SoapFault the record is wanted alone: the fault is the answer.
        """
        ...
