"""The admin port of a service: is it alive, is it ready, what does it count. Loopback, plain HTTP, read only.

``GET /health/live``   200 while the process answers at all
``GET /health/ready``  200 when every check holds, else 503; JSON names each check, never a reason with data in it;
                       notes are things an operator has to see to while the service goes on
``GET /metrics``       Prometheus text of every process of the service (directory ``PROMETHEUS_MULTIPROC_DIR``)
"""

import asyncio
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest, multiprocess
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

__all__ = ["Check", "admin_app"]

Check = Callable[[], bool]
"""Asks one thing (a database, a directory); may block and may raise: both a False and an exception mean "not ready"."""

CHECK_TIMEOUT_S: Final = 5.0
"""A check that takes longer counts as failed, so a load balancer always gets its answer."""

_log = logging.getLogger(__name__)


def admin_app(checks: Mapping[str, Check], notes: Mapping[str, Check] | None = None) -> Starlette:
    """The ASGI application for a single child's ``admin`` socket.

    ``checks`` maps a short name (``database``, ``outbox``) to what has to hold for the service to take requests;
    ``notes`` (``code_file``) are shown beside them and never make it "not ready".
    Serve it with ``wire.http_server.serve_http`` without TLS.
    """

    async def live(_request: Request) -> Response:
        return JSONResponse({"status": "live", "process": os.getpid()})

    async def ready(_request: Request) -> Response:
        found = await _ask(checks)
        status = "ready" if all(found.values()) else "not ready"
        told: dict[str, object] = {"status": status, "checks": {k: "ok" if v else "failed" for k, v in found.items()}}
        if notes:
            told["notes"] = {k: "ok" if v else "failed" for k, v in (await _ask(notes)).items()}
        return JSONResponse(told, status_code=200 if all(found.values()) else 503)

    async def metrics(_request: Request) -> Response:
        text = await asyncio.to_thread(_metrics)
        return Response(text, media_type=CONTENT_TYPE_LATEST)

    return Starlette(
        routes=[Route("/health/live", live), Route("/health/ready", ready), Route("/metrics", metrics)],
    )


async def _ask(checks: Mapping[str, Check]) -> dict[str, bool]:
    results = await asyncio.gather(*(_holds(name, check) for name, check in checks.items()))
    return dict(zip(checks, results, strict=True))


async def _holds(name: str, check: Check) -> bool:
    try:
        return await asyncio.wait_for(asyncio.to_thread(check), CHECK_TIMEOUT_S)
    except TimeoutError:
        _log.warning("health check %s took longer than %s s", name, CHECK_TIMEOUT_S)
    except Exception as error:  # noqa: BLE001 - whatever a driver raises, the answer is "not ready"
        _log.warning("health check %s failed: %s", name, type(error).__name__)
    return False


def _metrics() -> bytes:
    directory = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    if not directory or not Path(directory).is_dir():
        return generate_latest(REGISTRY)
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry, path=directory)  # type: ignore[no-untyped-call]
    return generate_latest(registry)
