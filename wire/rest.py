"""Plain HTTP services (no SOAP): routes to functions that run in a bounded pool of threads.

A handler gets the whole body, bounded per route, and answers with bytes, or with pieces that are pulled one by one as
the peer takes them; it may block. What it does not catch is our own defect: answered 500 with the request id, told in
the log, no trace to the peer. Pieces that fail midway break the connection. Query strings are never logged.
"""

import asyncio
import json
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from typing import Any, Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from ihe.xua import Caller
from wire.body import BodyError, BodyReader, ClientGone
from wire.limit_reached import reached
from wire.settings import LimitSettings

__all__ = ["RestHandler", "RestRequest", "RestResponse", "RestRoute", "rest_app"]

NO_BODY: Final = 0
CLIENT_CLOSED: Final = 499
"""Nobody reads this status: the client broke the connection within its request."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RestRequest:
    """One request. ``url`` is what the client called, without query; both it and ``query`` are still percent-encoded.

    ``path_parameters`` are the ``{names}`` of the route; ``content_type`` is the header as it came; ``headers`` are all
    of them by lower-case name, several of one name joined by commas.
    """

    method: str
    url: str
    query: str
    path_parameters: Mapping[str, str]
    content_type: str | None
    body: bytes
    caller: Caller
    request_id: str
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RestResponse:
    """The answer: whole, or in pieces, none of them empty, made while they are sent."""

    status: int
    body: bytes | Iterator[bytes]
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


_Endpoint = Callable[[Request], Awaitable[Response]]
RestHandler = Callable[[RestRequest], RestResponse]
Problem = Callable[[RestRequest, int, str], RestResponse]
"""Makes the answer to a request that no handler answers, from its status and a text for people; must not fail."""


@dataclass(frozen=True, slots=True)
class RestRoute:
    """``path`` may hold ``{names}``; a larger body than ``max_body_bytes`` is answered 413 before it is read.

    A route for GET answers HEAD, too, and its handler sees that method; no body is sent then.
    ``problem`` answers for a body that is refused and for a defect of ours; without it a JSON object with ``error``.
    ``limit`` is the key of the setting that ``max_body_bytes`` comes from, ``None`` where it has none.
    """

    method: str
    path: str
    handler: RestHandler
    max_body_bytes: int = NO_BODY
    problem: Problem | None = None
    limit: str | None = None


def rest_app(routes: Sequence[RestRoute], *, limits: LimitSettings) -> Starlette:
    """The ASGI application for ``wire.http_server.serve_http``; its handlers run in ``limits.threads`` threads.

    A method that a path does not have is answered 405 with all it has in ``Allow``.
    """
    pool = ThreadPoolExecutor(limits.threads, thread_name_prefix="rest")
    paths: dict[str, dict[str, _Endpoint]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method] = _endpoint(route, pool, limits)
    return Starlette(
        routes=[
            Route(path, _by_method(endpoints), methods=sorted(endpoints), name=path)
            for path, endpoints in paths.items()
        ]
    )


def _by_method(endpoints: Mapping[str, _Endpoint]) -> _Endpoint:
    async def endpoint(request: Request) -> Response:
        return await endpoints["GET" if request.method == "HEAD" else request.method](request)

    return endpoint


def _endpoint(route: RestRoute, pool: ThreadPoolExecutor, limits: LimitSettings) -> _Endpoint:
    problem = route.problem or _told

    async def endpoint(request: Request) -> Response:
        request_id = secrets.token_hex(8)
        loop = asyncio.get_running_loop()
        try:
            body = await _reader(route, request, limits).read()
        except BodyError as error:
            if error.limit is not None:
                reached(error.limit)
            asked = _request(request, b"", request_id)
            answer = await loop.run_in_executor(pool, problem, asked, error.status, str(error))
        except ClientGone:
            return Response(status_code=CLIENT_CLOSED)
        else:
            asked = _request(request, body, request_id)
            answer = await loop.run_in_executor(pool, partial(_answer, route.handler, problem, asked))
        if isinstance(answer.body, bytes):
            return Response(answer.body, answer.status, dict(answer.headers), answer.content_type)
        pieces = _pieces(answer.body, pool, request.scope.get("dossier.connection"))
        return StreamingResponse(pieces, answer.status, dict(answer.headers), answer.content_type)

    return endpoint


def _reader(route: RestRoute, request: Request, limits: LimitSettings) -> BodyReader:
    most, limit = route.max_body_bytes, route.limit
    return BodyReader(request.scope, request.receive, max_bytes=most, limits=limits, limit=limit)


async def _pieces(body: Iterator[bytes], pool: ThreadPoolExecutor, connection: Any) -> AsyncIterator[bytes]:
    """One hop into the pool for each piece: a peer that takes its time holds no thread, one that is gone ends it."""
    loop = asyncio.get_running_loop()
    while connection is None or not connection.lost:
        piece = await loop.run_in_executor(pool, next, body, b"")
        if not piece:
            return
        yield piece


def _request(request: Request, body: bytes, request_id: str) -> RestRequest:
    peer: Any = request.scope.get("dossier.peer")
    address = request.client.host if request.client else ""
    caller = Caller(peer.address, peer.node, peer.fingerprint) if peer is not None else Caller(address)
    return RestRequest(
        method=request.method,
        url=f"{request.url.scheme}://{request.url.netloc}{_path(request)}",
        query=request.url.query,
        path_parameters={name: str(value) for name, value in request.path_params.items()},
        content_type=request.headers.get("content-type"),
        body=body,
        caller=caller,
        request_id=request_id,
        headers={name: ", ".join(request.headers.getlist(name)) for name in request.headers},
    )


def _path(request: Request) -> str:
    """The path as the client wrote it; Starlette's own is decoded, and its links would be of another resource."""
    raw: bytes = request.scope.get("raw_path") or request.scope["path"].encode()
    return raw.partition(b"?")[0].decode("ascii", errors="replace")


def _answer(handler: RestHandler, problem: Problem, request: RestRequest) -> RestResponse:
    try:
        return handler(request)
    except Exception:  # noqa: BLE001 - our own defect, whatever it is: the peer learns the id, the log the rest
        _log.exception("request %s failed", request.request_id)
        return problem(request, HTTPStatus.INTERNAL_SERVER_ERROR, "internal error")


def _told(request: RestRequest, status: int, text: str) -> RestResponse:
    values = {"error": text}
    if status == HTTPStatus.INTERNAL_SERVER_ERROR:
        values["request"] = request.request_id
    return RestResponse(status, json.dumps(values).encode())
