"""One SOAP endpoint as an ASGI application: HTTP, MIME and SOAP in, an actor's handler, the answer out.

POST path          a transaction; plain SOAP or MTOM, answered in the same encoding
GET  path?wsdl     the WSDL with our address; ``?xsd=NAME`` a schema it names
Errors             a SOAP fault, so that the sender can read it: 400 Sender, 413 too large, 415 wrong Content-Type,
                   500 ours, 503 busy. A defect of a handler is the actor's answer, and a log line with its trace.
Threads            the event loop reads, parses MIME and sends; opening the envelope, the handler and the first block of
                   its answer are one hop into a bounded pool, each further block is one more
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar
from urllib.parse import parse_qsl

import structlog

from ihe.errors import FaultCode, SoapFault
from ihe.mtom import ContentType, MimeError, MimeLimits, parse_content_type
from ihe.soap import CONTENT_TYPE
from ihe.xua import Caller
from schemas import xsd
from wire.body import BodyError, BodyReader, ClientGone
from wire.chance import random_hex
from wire.exchange import Exchange, Job, Outgoing, trace_of
from wire.inbound import Bounds, Inbound, StagingFailed, UploadBudget, Workplace
from wire.limit_reached import LimitReached, reached
from wire.messages import Actor
from wire.outbound import Encoding
from wire.processor import stay_free
from wire.sending import Header, Receive, Scope, Send, Sender, send_whole
from wire.settings import LimitSettings

T = TypeVar("T")
Asgi = Callable[[Scope, Receive, Send], Coroutine[Any, Any, None]]

MAX_QUEUED_PER_THREAD: Final = 4
"""Requests that may wait for each worker thread before more of them are answered as busy."""
UPLOAD_BUFFER_BYTES: Final = 32 * 2**20
_ACCEPTED: Final = (CONTENT_TYPE, "text/xml", "multipart/related")
_HOST: Final = re.compile(r"[A-Za-z0-9.-]{1,255}(:\d{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](:\d{1,5})?")

log = structlog.get_logger(__name__)


def always(_caller: Caller) -> bool:
    """The strictness of a domain without exceptions: wsa:Action is required of every caller."""
    return True


def soap_app(
    actor: Actor,
    *,
    path: str,
    wsdl: Callable[[str], bytes],
    limits: LimitSettings,
    max_request_bytes: int,
    max_document_bytes: int,
    max_inline_bytes: int,
    upload_buffer_bytes: int = UPLOAD_BUFFER_BYTES,
    action_required: Callable[[Caller], bool] = always,
) -> Asgi:
    """The application for one address of an actor.

    wsdl                 takes our address and gives the document
    max_request_bytes    the whole body, decompressed; over it 413
    max_document_bytes   one attachment
    max_inline_bytes     one document within an envelope, in either direction
    upload_buffer_bytes  what all uploads of this process hold in memory
    action_required      whether this caller's strictness demands wsa:Action; if not, the body root may do
    """
    mime = MimeLimits(limits.max_parts, limits.max_part_header_bytes, limits.max_part_header_count)
    return _SoapApp(
        Job(actor, limits, max_inline_bytes, max_document_bytes, action_required),
        path=path,
        wsdl=wsdl,
        max_request_bytes=max_request_bytes,
        bounds=Bounds(limits.max_envelope_bytes, max_document_bytes, mime),
        budget=UploadBudget(upload_buffer_bytes),
    )


class _SoapApp:
    def __init__(
        self,
        job: Job,
        *,
        path: str,
        wsdl: Callable[[str], bytes],
        max_request_bytes: int,
        bounds: Bounds,
        budget: UploadBudget,
    ) -> None:
        self._job = job
        self._limits = job.limits
        self._path = path
        self._wsdl = wsdl
        self._max_request_bytes = max_request_bytes
        self._bounds = bounds
        self._budget = budget
        self._handlers = ThreadPoolExecutor(job.limits.threads, thread_name_prefix="handler")
        self._blocks = ThreadPoolExecutor(job.limits.threads, thread_name_prefix="block", initializer=stay_free)
        self._jobs = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise NotImplementedError(f"only HTTP is spoken here, not {scope['type']}")
        if scope["path"] != self._path:
            await _text(send, 404, "nothing is served at this path")
        elif scope["method"] == "POST":
            await self._post(scope, receive, send)
        elif scope["method"] in {"GET", "HEAD"}:  # the server leaves out the body of what answers HEAD
            await self._get(scope, send)
        else:
            await _text(send, 405, "POST a SOAP message, or GET ?wsdl", (b"allow", b"GET, HEAD, POST"))

    async def _get(self, scope: Scope, send: Send) -> None:
        pairs = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        query = {key.lower(): value for key, value in pairs}
        address = _address(scope)
        if "wsdl" in query:
            await send_whole(send, 200, "text/xml; charset=UTF-8", self._wsdl(address))
            return
        document = xsd(query["xsd"], address) if "xsd" in query else None
        if document is not None:
            await send_whole(send, 200, "text/xml; charset=UTF-8", document)
        elif "xsd" in query:
            await _text(send, 404, "there is no such schema")
        else:
            await _text(send, 405, "POST a SOAP message, or GET ?wsdl", (b"allow", b"POST"))

    async def _post(self, scope: Scope, receive: Receive, send: Send) -> None:
        token = random_hex()
        caller = _caller(scope)
        encoding = Encoding(mtom=False, token=token)
        started = _Started(send)
        try:
            content_type = _content_type(scope)
            encoding = Encoding(mtom=content_type.media_type == "multipart/related", token=token)
            if self._full:
                raise _busy()  # noqa: TRY301 - one place writes faults
            exchange = Exchange(self._job, caller, _address(scope), encoding, token)
            await self._serve(exchange, content_type, scope, receive, started.send)
        except ClientGone:
            log.info("soap.client_gone", request=token, peer=caller.partner)
        except SoapFault as fault:
            _note_refusal(fault, token, caller)
            await _send_fault(send, encoding, fault)
        except Exception as error:  # a defect before or around the handler: told to the log, never to the peer
            log.error("soap.failed", request=token, peer=caller.partner, trace=trace_of(error))  # noqa: TRY400
            if started.yes:
                raise
            ours = SoapFault(FaultCode.RECEIVER, f"the request could not be processed, request {token}")
            await _send_fault(send, encoding, ours)

    @property
    def _full(self) -> bool:
        return self._jobs >= self._limits.threads * (1 + MAX_QUEUED_PER_THREAD)

    async def _serve(
        self, exchange: Exchange, content_type: ContentType, scope: Scope, receive: Receive, send: Send
    ) -> None:
        workplace = Workplace(self._blocks, self._budget, exchange.stage, exchange.check)
        inbound = Inbound(content_type, self._bounds, workplace)
        whole = False
        try:
            failed = await self._received(inbound, scope, receive)
            outgoing = await self._handled(exchange, inbound, failed)
            whole = await Sender(exchange, outgoing, workers=self._blocks, scope=scope, send=send).send_all()
        except SoapFault as fault:
            await self._work(exchange.refused, fault, inbound)
            raise
        finally:
            if exchange.to_finish or inbound.staged_parts():
                await _to_the_end(self._cleared(exchange, inbound, whole))
            else:  # nearly every request: there is nothing to wait for
                inbound.release()

    async def _received(self, inbound: Inbound, scope: Scope, receive: Receive) -> StagingFailed | None:
        """Read the request; what comes back is the failure of the store to keep an attachment."""
        try:
            body = BodyReader(scope, receive, max_bytes=self._max_request_bytes, limits=self._limits)
            await inbound.receive(body, lambda: body.to_come)
        except StagingFailed as failed:
            return failed
        except BodyError as error:
            if error.limit is not None:
                raise LimitReached(error.limit, error.reason, http_status=error.status) from error
            raise SoapFault(FaultCode.SENDER, str(error), http_status=error.status) from error
        return None

    async def _handled(self, exchange: Exchange, inbound: Inbound, failed: StagingFailed | None) -> Outgoing:
        if self._full:
            raise _busy()
        self._jobs += 1
        try:
            work = asyncio.get_running_loop().run_in_executor(self._handlers, exchange.handle, inbound, failed)
            return await _to_the_end(work)
        finally:
            self._jobs -= 1

    async def _cleared(self, exchange: Exchange, inbound: Inbound, whole: bool) -> None:
        """Tell the reply how it ended; remove what was staged and not claimed, when no thread works on it any more."""
        await inbound.settle()
        inbound.release()
        if exchange.to_finish:
            await self._work(exchange.finish, whole)
        stray = exchange.unclaimed(inbound)
        if stray:
            await self._work(exchange.abort, stray)

    async def _work(self, work: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._blocks, work, *arguments)


async def _to_the_end(work: Awaitable[T]) -> T:
    """Wait for ``work`` even when cancelled, then be cancelled: threads cannot be stopped, only waited for."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise


class _Started:
    """Remembers whether an answer was begun."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.yes = False

    async def send(self, message: Any) -> None:
        self.yes = True
        await self._send(message)


def _content_type(scope: Scope) -> ContentType:
    """The request's Content-Type; raises SoapFault (415) for what is no SOAP 1.2 message or MTOM package."""
    found = [value for name, value in scope["headers"] if name == b"content-type"]
    try:
        content_type = parse_content_type(found[0].decode("latin-1")) if len(found) == 1 else None
    except MimeError:
        content_type = None
    if content_type is None or content_type.media_type not in _ACCEPTED:
        raise SoapFault(
            FaultCode.SENDER,
            "send a SOAP 1.2 message as application/soap+xml, or as multipart/related with application/xop+xml",
            http_status=415,
        )
    return content_type


def _caller(scope: Scope) -> Caller:
    peer = scope.get("dossier.peer")
    if peer is None:
        return Caller((scope.get("client") or ("unknown", 0))[0])
    return Caller(peer.address, peer.node, peer.fingerprint)


def _address(scope: Scope) -> str:
    """The URI we were called at; a Host header that is no host is not repeated."""
    host = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"host"), "")
    if _HOST.fullmatch(host) is None:
        name, port = scope.get("server") or ("localhost", 80)
        host = f"{name}:{port}"
    return f"{scope['scheme']}://{host}{scope['path']}"


def _busy() -> SoapFault:
    return LimitReached("threads", "too many requests at once, try again", code=FaultCode.RECEIVER, http_status=503)


def _note_refusal(fault: SoapFault, request: str, caller: Caller) -> None:
    """One line for each; a bound that was reached is counted and told louder: it may be too low."""
    facts = {"request": request, "peer": caller.partner, "code": str(fault.code), "status": fault.http_status}
    if isinstance(fault, LimitReached):
        reached(fault.limit)
        log.warning("soap.limit_reached", limit=fault.limit, reason=fault.reason, **facts)
    else:
        log.info("soap.refused", **facts)


async def _send_fault(send: Send, encoding: Encoding, fault: SoapFault) -> None:
    headers: tuple[Header, ...] = ((b"retry-after", b"1"),) if fault.http_status == 503 else ()
    body = encoding.fault(fault, fault.message_id)
    await send_whole(send, fault.http_status, encoding.content_type(fault), body, *headers)


async def _text(send: Send, status: int, text: str, *headers: Header) -> None:
    await send_whole(send, status, "text/plain; charset=UTF-8", text.encode() + b"\n", *headers)
