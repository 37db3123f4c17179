"""One place that was asked for documents, and what it sends: its root part judged, its documents kept or streamed.

Answer    checked before anything of it is passed on: schema, status, and that each DocumentResponse was asked of this
          place, with its home and repository; what was not is dropped and becomes an error
Kept      documents up to ``keep_bytes`` are read to their end into the spool, in the order they arrive
Streamed  a document that is larger, that the spool has no room for, or that is still coming at a fair rate when the
          time for the answer runs out; and what lies behind it in the same answer
Failure   no answer, a fault, an answer that cannot be read or breaks off before it was kept: one error, no documents
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Final

from gateway.communities import Open
from ihe import vocabulary as v
from ihe.datatypes import normalise_oid, normalise_oid_urn
from ihe.ebrs import DocumentRequest, read_registry_response
from ihe.errors import ErrorCode, RegistryError, Severity
from schemas import violations
from wire.client import Answer, NotSent, NotTried, OutcomeUnknown, PeerFault, for_log
from wire.exchange import trace_of
from wire.spool import Spool, SpoolFile, SpoolFull

__all__ = ["Broken", "Delivery", "Found", "Keeping", "Target", "Wanted", "cut", "deliver", "late"]

FAIR_BYTES_PER_S: Final = 128 * 2**10
"""A place that sends at least this fast is no slow one: its document is streamed when the time runs out."""
LEAST_BYTES_PER_S: Final = 16 * 2**10
"""An answer that is streamed and comes slower than this is given up, whatever it is that comes."""
_STREAM_AFTER: Final = 0.75
"""Of the time for an answer: from then on a document that comes at a fair rate is not waited for."""
_STATUSES: Final = frozenset({v.SUCCESS, v.FAILURE, v.PARTIAL_SUCCESS})
_MOST_ERRORS: Final = 200
_LONGEST_TEXT: Final = 1000
_LONGEST_NAME: Final = 256
_X: Final = f"{{{v.XDSB}}}"

_log = logging.getLogger(__name__)


class Broken(Exception):  # noqa: N818 - an outcome
    """A document that was to be streamed does not come to its end; the text may be told to whom asked for it."""


class _Nonsense(Exception):  # noqa: N818 - says what happened
    """The answer cannot be right."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A DocumentRequest and its place in the request."""

    place: int
    request: DocumentRequest

    @property
    def key(self) -> tuple[str, str]:
        """(repositoryUniqueId without ``urn:oid:``, uniqueId)."""
        return normalise_oid(self.request.repository_unique_id), self.request.document_unique_id


@dataclass(frozen=True, slots=True)
class Target:
    """Who is asked for ``wanted``.

    name      how errors call it: ``community urn:oid:…`` or ``repository 1.2.3``
    home      the only home its documents may have; the location of the errors it causes
    url       where it answers, for the records
    call      asks, given the deadline (``time.monotonic``) of the whole answer; as ``SoapClient.call``
    silent    the error of a place that gives no answer
    busy      the error of one that says it is busy
    guard     around the call and what is read before our answer begins, given the same deadline
    """

    name: str
    home: str
    url: str
    wanted: tuple[Wanted, ...]
    call: Callable[[float], Answer]
    deadline_s: float
    silent: ErrorCode
    busy: ErrorCode
    guard: Callable[[float], AbstractContextManager[object]] = nullcontext


@dataclass(frozen=True, slots=True)
class Keeping:
    """``keep_bytes``: size up to which a document is kept."""

    spool: Spool
    keep_bytes: int


@dataclass(slots=True)
class Found:
    """A document that arrives; ``stretch`` of the spool file once it is kept."""

    wanted: Wanted
    mime_type: str
    new_repository_unique_id: str | None
    new_document_unique_id: str | None
    stretch: tuple[int, int] | None = None

    @property
    def size(self) -> int | None:
        """In bytes, where it is known."""
        return None if self.stretch is None else self.stretch[1] - self.stretch[0]


@dataclass(slots=True)
class _Begun:
    """The document whose bytes are on the connection: what was read of it, and the rest."""

    document: Found
    stretch: tuple[int, int]
    held: bytes
    pieces: Iterator[bytes]


@dataclass(slots=True)
class _Root:
    """What a root part came to."""

    found: list[Found] = field(default_factory=list)
    errors: list[RegistryError] = field(default_factory=list)
    parts: dict[str, list[Found]] = field(default_factory=dict)


class Delivery:
    """What one target came to: ``documents``, of which some may be ``coming``, ``missed`` and ``errors``.

    ``reached``: it gave an answer that could be read. ``asked``: something may have been sent to it.
    Documents are pulled by one thread at a time; ``close`` may be called by any.
    """

    def __init__(self, target: Target, keeping: Keeping) -> None:
        self.target: Final = target
        self.documents: list[Found] = []
        self.errors: list[RegistryError] = []
        self.missed: list[Wanted] = []
        self.reached = True
        self.asked = True
        self._keeping: Final = keeping
        self._file: SpoolFile = keeping.spool.open()
        self._answer: Answer | None = None
        self._parts: Iterator[tuple[str, Iterator[bytes]]] = iter(())
        self._named: dict[str, list[Found]] = {}
        self._begun: _Begun | None = None
        self._lock: Final = threading.Lock()
        self._closed = False

    # ------------------------------------------------------------------------------------ before our answer begins

    def receive(self, answer: Answer, began: float, deadline: float) -> None:
        """Judge the root part and keep what is to be kept. Raises what the target is to blame for."""
        self._answer = answer
        try:
            self._receive(answer, began, deadline)
        except SpoolFull as error:  # that is ours
            text = f"{self.target.name}: there is no room here to keep its documents: {error}"
            self.failed(
                RegistryError(ErrorCode.REPOSITORY_OUT_OF_RESOURCES, text, location=self.target.home), reached=True
            )

    def _receive(self, answer: Answer, began: float, deadline: float) -> None:
        root = _read_root(self.target, answer)
        self.documents, self.errors, self._named = root.found, root.errors, root.parts
        self._keep_inline(answer, root)
        self._parts = answer.arriving(list(self._named))
        # Large where documents were inline, and lxml's: of this thread alone. A header holds on to the whole tree.
        answer.body, answer.headers = None, ()
        self._keep_parts(began, deadline)
        self.missed = _missed(self.target, self.documents)

    def _keep_inline(self, answer: Answer, root: _Root) -> None:
        attached = {id(found) for shared in root.parts.values() for found in shared}
        elements = (row.find(_X + "Document") for row, _ in _rows(self.target, answer.body))
        for element, found in zip(elements, root.found, strict=True):
            if id(found) not in attached:
                start = self._file.size
                for block in answer.part(element):
                    self._file.append(block)
                found.stretch = start, self._file.size

    def _keep_parts(self, began: float, deadline: float) -> None:
        patience, taken = began + (deadline - began) * _STREAM_AFTER, 0
        for name, pieces in self._parts:
            shared = self._of(name)
            start = self._file.size
            for data in pieces:
                now = time.monotonic()
                taken += len(data)
                overdue = now > patience and taken >= FAIR_BYTES_PER_S * (now - began)
                large = self._file.size - start + len(data) > self._keeping.keep_bytes
                if len(shared) == 1 and (overdue or large or not self._kept(data)):
                    self._begun = _Begun(shared[0], (start, self._file.size), data, pieces)
                    return
                if len(shared) > 1:  # a part that several documents refer to is read once and given out twice
                    self._file.append(data)
            for found in shared:
                found.stretch = start, self._file.size
        self._whole()

    def _kept(self, data: bytes) -> bool:
        try:
            self._file.append(data)
        except SpoolFull:
            return False
        return True

    def _of(self, name: str) -> list[Found]:
        shared = self._named.get(name) or next(
            (found for known, found in self._named.items() if known.lower() == name.lower()), None
        )
        if shared is None or shared[0].stretch is not None:
            raise _Nonsense("two attachments have the same name")
        return shared

    def _whole(self) -> None:
        """The answer was read to its end: its connection is free, and every document must have come."""
        if self._answer is not None:
            self._answer.close()
        if any(found.stretch is None for found in self.documents):
            raise _Nonsense("a document refers to an attachment that is not there")

    def failed(self, error: RegistryError, *, reached: bool) -> None:
        """No document of this target arrives."""
        self.errors, self.reached = [error], reached
        self.documents, self.missed = [], list(self.target.wanted)
        self._begun = None
        self.close()

    # ----------------------------------------------------------------------------------------- while it is answered

    @property
    def coming(self) -> list[Found]:
        """The documents that are streamed, in the order they will come."""
        waiting = [found for found in self.documents if found.stretch is None]
        if self._begun is None:
            return waiting
        return [self._begun.document, *(found for found in waiting if found is not self._begun.document)]

    def extend(self, deadline: float) -> None:
        """What is still coming may come until then, at a rate that is worth waiting."""
        if self._answer is not None:
            self._answer.deadline = deadline
            self._answer.at_least(LEAST_BYTES_PER_S)

    def chunks(self, found: Found) -> Iterator[bytes]:
        """The bytes of a document. Raises Broken where they end before the document does."""
        blocks = self._file.blocks(*found.stretch) if found.stretch is not None else self._streamed(found)
        while True:
            with self._lock:
                if self._closed:
                    raise Broken(f"{self.target.name}: its documents took too long")
                try:
                    block = next(blocks, None)
                except (OutcomeUnknown, SpoolFull, OSError, _Nonsense) as error:
                    raise Broken(f"{self.target.name}: a document broke off") from error
            if block is None:
                return
            yield block

    def _streamed(self, found: Found) -> Iterator[bytes]:
        begun = self._begun
        while begun is None or begun.document is not found:
            begun = self._next(found)
        yield from self._file.blocks(*begun.stretch)
        yield begun.held
        yield from begun.pieces
        self._begun = None
        found.stretch = (0, 0)  # it has come; nothing of it is kept
        if not self.coming:
            for name, _ in self._parts:
                self._of(name)
            self._whole()

    def _next(self, wanted: Found) -> _Begun:
        """Go on to the part of ``wanted``; another that passes by before its turn is kept, where there is room."""
        if self._begun is not None:
            raise _Nonsense("the documents are asked for out of their order")
        for name, pieces in self._parts:
            shared = self._of(name)
            if shared == [wanted]:
                self._begun = _Begun(wanted, (0, 0), b"", pieces)
                return self._begun
            start = self._file.size
            for data in pieces:
                self._file.append(data)
            for found in shared:
                found.stretch = start, self._file.size
            if wanted in shared:
                return _Begun(wanted, (start, self._file.size), b"", iter(()))
        raise _Nonsense("a document refers to an attachment that is not there")

    def close(self) -> None:
        """Give connection and room back; what is still coming is given up."""
        with self._lock:
            self._closed = True
            if self._answer is not None:
                self._answer.close()
            self._file.close()


# ------------------------------------------------------------------------------------------------- asking and judging


def deliver(target: Target, keeping: Keeping, deadline: float) -> Delivery:
    """Ask one target, whose answer has to come by ``deadline``; never raises for what the target does."""
    delivery = Delivery(target, keeping)
    began = time.monotonic()
    try:
        with target.guard(deadline):
            delivery.receive(target.call(deadline), began, deadline)
    except (Open, NotSent, OutcomeUnknown, PeerFault, _Nonsense, OSError) as error:
        if not isinstance(error, Open):  # that is told once, when it begins
            _log.warning("%s gave no answer that can be used: %s", target.name, _for_log(error))
        delivery.asked = not isinstance(error, Open | NotTried)
        delivery.failed(_unavailable(target, error), reached=isinstance(error, PeerFault))
    except Exception as error:  # noqa: BLE001 - a defect of ours costs this target, not the documents of the others
        _log.error("%s could not be asked: %s", target.name, trace_of(error))
        text = f"{target.name}: internal error of this gateway"
        delivery.failed(RegistryError(target.silent, text, location=target.home), reached=False)
    except BaseException:
        delivery.close()
        raise
    return delivery


def late(target: Target, keeping: Keeping, *, asked: bool) -> Delivery:
    """What a target came to that was not ready when the time of all was over; ``asked``: its turn had come."""
    delivery = Delivery(target, keeping)
    delivery.asked = asked
    text = f"{target.name}: the time for all answers is over"
    delivery.failed(RegistryError(target.silent, text, location=target.home), reached=False)
    return delivery


def _for_log(error: NotSent | OutcomeUnknown | PeerFault | _Nonsense | OSError) -> str:
    if isinstance(error, OSError):
        return f"its documents cannot be kept ({error.strerror or type(error).__name__})"
    return "it cannot be right" if isinstance(error, _Nonsense) else for_log(error)


def _unavailable(target: Target, error: Exception) -> RegistryError:
    if isinstance(error, PeerFault):
        busy = error.fault.http_status == 503
        text = f"{target.name} answered with a SOAP fault: {error}"
        code = target.busy if busy else target.silent
    elif isinstance(error, Open):
        code, text = target.silent, f"{target.name} failed too often of late and is not asked now"
    elif isinstance(error, _Nonsense):
        code, text = target.silent, f"{target.name} gave an answer that cannot be right: {error}"
    else:
        code, text = target.silent, f"{target.name}: {error}"
    return RegistryError(code, cut(text), location=target.home)


def _read_root(target: Target, answer: Answer) -> _Root:
    body = answer.body
    faults = violations(body)
    if faults:
        raise _Nonsense(faults[0])
    response = read_registry_response(body.find(f"{{{v.RS}}}RegistryResponse"))
    if response.status not in _STATUSES:
        raise _Nonsense("its status is none")
    root = _Root()
    for row, wanted in _rows(target, body):
        found = Found(wanted, _text(row, "mimeType")[:_LONGEST_NAME], _new(row, "Repository"), _new(row, "Document"))
        root.found.append(found)
        name = answer.content_id(row.find(_X + "Document"))
        if name is not None:
            root.parts.setdefault(name, []).append(found)
    root.errors = [_passed_on(target, error) for error in response.errors[:_MOST_ERRORS]]
    root.errors += _own_errors(target, body, root, response.status)
    return root


def _rows(target: Target, body: Any) -> Iterator[tuple[Any, Wanted]]:
    """The DocumentResponses that were asked for, each with what it answers; as often as it was asked for."""
    open_places: dict[tuple[str, str], deque[Wanted]] = {}
    for wanted in target.wanted:
        open_places.setdefault(wanted.key, deque()).append(wanted)
    for row in body.iterfind(_X + "DocumentResponse"):
        home = _text(row, "HomeCommunityId")
        places = open_places.get((normalise_oid(_text(row, "RepositoryUniqueId")), _text(row, "DocumentUniqueId")))
        if places and (not home or normalise_oid_urn(home) == target.home):
            yield row, places.popleft()


def _own_errors(target: Target, body: Any, root: _Root, status: str) -> Iterator[RegistryError]:
    """What is wrong with an answer beside the errors it holds itself."""
    dropped = sum(1 for _ in body.iterfind(_X + "DocumentResponse")) - len(root.found)
    if dropped:
        text = f"{target.name} sent {dropped} documents that it was not asked for, or of another home; they are dropped"
        yield RegistryError(ErrorCode.REPOSITORY_ERROR, text, location=target.home)
    missed = _missed(target, root.found)
    if not dropped and not any(error.severity is Severity.ERROR for error in root.errors):
        if missed:
            ids = ", ".join(sorted({wanted.key[1] for wanted in missed}))
            text = f"{target.name} answered without an error, and without the documents {ids}"
            yield RegistryError(ErrorCode.REPOSITORY_ERROR, cut(text), location=target.home)
        elif status != v.SUCCESS:
            text = f"{target.name} answered {status.rpartition(':')[2]} and did not say why"
            yield RegistryError(ErrorCode.REPOSITORY_ERROR, text, location=target.home)


def _missed(target: Target, found: Sequence[Found]) -> list[Wanted]:
    """What did not come at all: a document that was asked for twice and came once has come."""
    got = {one.wanted.key for one in found}
    return [wanted for wanted in target.wanted if wanted.key not in got]


def _passed_on(target: Target, error: RegistryError) -> RegistryError:
    """An error of the target in its own words, cut; it says of which home it is."""
    code = error.code[:_LONGEST_NAME] or str(ErrorCode.REPOSITORY_ERROR)
    return RegistryError(code, cut(error.context) or "no reason was given", error.severity, target.home)


def _text(row: Any, name: str) -> str:
    return (row.findtext(_X + name) or "").strip()


def _new(row: Any, kind: str) -> str | None:
    return _text(row, f"New{kind}UniqueId")[:_LONGEST_NAME] or None


def cut(text: str) -> str:
    """What others wrote, no longer than an error may be."""
    return text if len(text) <= _LONGEST_TEXT else text[: _LONGEST_TEXT - 1] + "…"
