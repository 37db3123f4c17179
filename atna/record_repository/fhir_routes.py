"""All that is under ``/fhir``: what is no resource or method of ours is answered as FHIR wants it, too.

An OperationOutcome for a path that leads nowhere (404), a method that a path does not have (405, with ``Allow``), a
body that is refused (400, 408, 413, 415) and a defect of ours (500). A slash at the end of an address leads to the one
without.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from atna.record_repository.iti81 import told
from wire.rest import RestHandler, RestRequest, RestResponse, RestRoute

__all__ = ["fhir_routes"]

BASE: Final = "/fhir"
METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
TEMPORARY_REDIRECT, NOT_FOUND, METHOD_NOT_ALLOWED = 307, 404, 405


def fhir_routes(known: Sequence[RestRoute]) -> tuple[RestRoute, ...]:
    """``known`` routes, and those that answer for everything else under ``/fhir``."""
    ours = [replace(route, problem=told) if route.path.startswith(BASE) else route for route in known]
    allowed: dict[str, list[str]] = {}
    for route in ours:
        if route.path.startswith(BASE):
            allowed.setdefault(route.path, []).append(route.method)
    # A body nobody looks at is taken up to the bound of those that somebody does.
    most = max(ours, key=lambda route: route.max_body_bytes)
    other = replace(most, problem=told)
    others = [
        replace(other, method=method, path=path, handler=_not_this_way(methods))
        for path, methods in allowed.items()
        for method in METHODS
        if method not in methods
    ]
    nowhere = [replace(other, method=method, path=f"{BASE}/{{rest:path}}", handler=_nowhere) for method in METHODS]
    return (*ours, *others, *nowhere)


def _not_this_way(methods: Sequence[str]) -> RestHandler:
    allow = ", ".join([*methods, "HEAD"] if "GET" in methods else methods)

    def handle(request: RestRequest) -> RestResponse:
        answer = told(request, METHOD_NOT_ALLOWED, f"should be {allow}")
        return replace(answer, headers={**answer.headers, "allow": allow})

    return handle


def _nowhere(request: RestRequest) -> RestResponse:
    if request.url.endswith("/"):
        query = f"?{request.query}" if request.query else ""
        return RestResponse(TEMPORARY_REDIRECT, b"", headers={"location": request.url.rstrip("/") + query})
    return told(request, NOT_FOUND, "there is nothing at this address")
