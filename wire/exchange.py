"""One request in the worker threads: open the envelope, run the handler, pull the answer, clean up.

Only this file decides what an exception becomes: a SoapFault is a fault; anything else is a defect of ours, logged with
the request id and its trace, answered by the actor in the words of the transaction. A trace names files, lines and
types, never messages or values: those may hold patient data.
"""

import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import structlog
from prometheus_client import Counter, Histogram

from ihe.errors import FaultCode, SoapFault
from ihe.xua import Caller
from wire.content import Attachments, refuse_large_inline, resolve_includes
from wire.inbound import Inbound, StagingFailed
from wire.limit_reached import LimitReached
from wire.messages import Actor, Reply, Request, StagedPart
from wire.outbound import Encoding, gather
from wire.settings import LimitSettings
from wire.spyne_cage import Call, named_call, open_envelope

log = structlog.get_logger(__name__)

REQUESTS: Final = Counter("dossier_requests", "SOAP requests that were understood", ["transaction", "result"])
"""``result``: answered (a refusal is an answer too), fault, defect (a failure of our own, answered as such)."""
SECONDS: Final = Histogram(
    "dossier_request_seconds", "From a whole request to the first block of its answer", ["transaction"]
)

ACTION_MISSING: Final = "the header wsa:Action is missing"

PATIENCE_S: Final = 0.5
"""A thread is not kept for a whole block when the pieces come slowly, as from a partner far away."""
_MAX_CAUSES: Final = 5


def trace_of(error: BaseException) -> list[str]:
    """Where an exception came from and what led to it, innermost last; types, files and lines only."""
    lines: list[str] = []
    current: BaseException | None = error
    while current is not None and len(lines) < _MAX_CAUSES:
        frames = traceback.extract_tb(current.__traceback__)
        places = " > ".join(f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames)
        lines.append(f"{type(current).__module__}.{type(current).__qualname__} at {places}")
        current = current.__cause__ or current.__context__
    return lines


@dataclass(frozen=True, slots=True)
class Job:
    """What all requests of one endpoint share."""

    actor: Actor
    limits: LimitSettings
    max_inline_bytes: int
    max_document_bytes: int
    action_required: Callable[[Caller], bool]


@dataclass(frozen=True, slots=True)
class Outgoing:
    """The beginning of an answer: about one block, and whether that is all of it."""

    content_type: str
    first: bytes
    last: bool


class Exchange:
    """One request and its answer. Methods block; they run one after the other, though in different threads."""

    def __init__(self, job: Job, caller: Caller, address: str, encoding: Encoding, request_id: str) -> None:
        self.request_id = request_id
        self.caller = caller
        self._job = job
        self._address = address
        self._encoding = encoding
        self._attachments = Attachments({})
        self._reply: Reply | None = None
        self._pieces: Iterator[bytes] = iter(())

    def stage(self, wanted: int | None) -> StagedPart:
        """Begin to keep a large attachment in the actor's store; see ``wire.messages.Actor.stage``."""
        return self._job.actor.stage(self.request_id, wanted)

    def check(self, root: bytes, charset: str | None) -> None:
        """Judge an envelope before the message is whole; raises SoapFault."""
        self._open(root, charset)

    def refused(self, fault: SoapFault, inbound: Inbound) -> None:
        """Let a fault say which message it answers, and the actor put on record what was refused, if it can be read."""
        if not inbound.root_complete:
            return
        try:
            call: Call | None = self._open(inbound.root, inbound.charset)
        except SoapFault as unreadable:
            fault.message_id = fault.message_id or unreadable.message_id
            call = self._as_named(inbound)
        if call is not None:
            fault.message_id = fault.message_id or call.addressing.message_id
            if not _is_busy(fault):
                self._record(call, fault)

    def _as_named(self, inbound: Inbound) -> Call | None:
        """What a message would be that cannot be taken as it is, e.g. for a header that is not understood."""
        known = self._job.actor.handlers.keys()
        return named_call(inbound.root, known, charset=inbound.charset, limits=self._job.limits)

    def _record(self, call: Call, fault: SoapFault) -> None:
        try:
            self._job.actor.failure(self._request(call), fault)
        except Exception as error:  # noqa: BLE001 - the sender is told of its fault in any case
            self._log_defect("soap.refusal_not_recorded", error, transaction=call.transaction.code)

    def _open(self, root: bytes, charset: str | None) -> Call:
        return open_envelope(
            root,
            self._job.actor.handlers.keys(),
            charset=charset,
            action_required=self._job.action_required(self.caller),
            limits=self._job.limits,
        )

    def handle(self, inbound: Inbound, failed: StagingFailed | None) -> Outgoing:
        """Run the handler and pull the first block of its answer; ``failed`` tells that an attachment was not kept."""
        if failed is not None and not inbound.root_complete:
            self._log_defect("soap.staging_failed", failed.cause)
            raise SoapFault(FaultCode.RECEIVER, f"an attachment could not be kept, request {self.request_id}")
        call = self._open(inbound.root, inbound.charset)
        if call.action_missing:
            log.warning("soap.defect", defect=ACTION_MISSING, peer=self.caller.partner, request=self.request_id)
        try:
            return self._handle(call, inbound, failed)
        except SoapFault as fault:
            fault.message_id = fault.message_id or call.addressing.message_id
            raise

    def _handle(self, call: Call, inbound: Inbound, failed: StagingFailed | None) -> Outgoing:
        with SECONDS.labels(call.transaction.code).time():
            return self._answered(call, inbound, failed)

    def _answered(self, call: Call, inbound: Inbound, failed: StagingFailed | None) -> Outgoing:
        code = call.transaction.code
        request = self._request(call)
        try:
            self._attachments = self._documents(call, inbound, failed)
            request = self._request(call)
            self._reply = call.run(self._job.actor.handlers[call.transaction], request)
            outgoing = self._begin(request)
        except SoapFault:
            REQUESTS.labels(code, "fault").inc()
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the actor knows the transaction's words for it
            REQUESTS.labels(code, "defect").inc()
            self._log_defect("soap.handler_failed", error, transaction=call.transaction.code)
            self.finish(False)
            self._reply = self._job.actor.failure(request, error)
            return self._begin(request)
        REQUESTS.labels(code, "answered").inc()
        return outgoing

    def _documents(self, call: Call, inbound: Inbound, failed: StagingFailed | None) -> Attachments:
        """The parts, made durable and tied to the elements that name them."""
        if failed is not None:
            raise failed.cause
        attachments = Attachments(inbound.attachments())
        resolve_includes(call.body.getroottree().getroot(), attachments)
        refuse_large_inline(call.body, self._job.max_inline_bytes, self._job.max_document_bytes)
        return attachments

    def _request(self, call: Call) -> Request:
        return Request(
            transaction=call.transaction,
            body=call.body,
            caller=self.caller,
            address=self._address,
            message_id=call.addressing.message_id,
            reply_to=call.addressing.reply_to,
            request_id=self.request_id,
            headers=call.headers,
            attachments=self._attachments,
            defects=(ACTION_MISSING,) if call.action_missing else (),
        )

    def _begin(self, request: Request) -> Outgoing:
        assert self._reply is not None
        self._pieces = self._encoding.pieces(
            self._reply, request.transaction, request.message_id, self._job.max_inline_bytes
        )
        first, last = gather(self._pieces)
        if last and self._reply.close is None:  # nobody waits to be told, and the pieces have ended by themselves
            self._reply = None
        return Outgoing(self._encoding.content_type(), first, last)

    def next_block(self) -> tuple[bytes, bool]:
        """The next block of the answer, and whether it was the last; less than a block where it comes slowly."""
        return gather(self._pieces, PATIENCE_S)

    def finish(self, ok: bool) -> None:
        """Tell the reply, once, whether every byte of it was handed to the network."""
        reply, self._reply = self._reply, None
        _close(self._pieces)
        if reply is None or reply.close is None:
            return
        try:
            reply.close(ok)
        except Exception as error:  # noqa: BLE001 - the answer is out: nobody is left to be told but the log
            self._log_defect("soap.close_failed", error)

    @property
    def to_finish(self) -> bool:
        """Whether there is a reply that was not yet told how it ended."""
        return self._reply is not None

    def unclaimed(self, inbound: Inbound) -> list[StagedPart]:
        """Staged parts no handler asked for."""
        kept = {id(self._attachments.peek(name).staged) for name in self._attachments.claimed}
        return [staged for staged in inbound.staged_parts() if id(staged) not in kept]

    def abort(self, stray: Iterable[StagedPart]) -> None:
        """Remove what was staged in vain."""
        for staged in stray:
            try:
                staged.abort()
            except Exception as error:  # noqa: BLE001 - a sweep will find it; the others must still be removed
                self._log_defect("soap.abort_failed", error)

    def answer_broken(self, error: BaseException) -> None:
        """Log that an answer could not be finished."""
        self._log_defect("soap.answer_broken", error)

    def _log_defect(self, event: str, error: BaseException, **facts: Any) -> None:
        log.error(event, request=self.request_id, peer=self.caller.partner, trace=trace_of(error), **facts)


def _is_busy(fault: SoapFault) -> bool:
    """Whoever is to come again later has not asked yet; and a record for each would be more of what is too much."""
    return isinstance(fault, LimitReached) and fault.code is FaultCode.RECEIVER


def _close(pieces: Iterator[bytes]) -> None:
    close = getattr(pieces, "close", None)
    if close is not None:
        close()
