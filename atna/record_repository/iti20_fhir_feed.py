"""ITI-20 Record Audit Event in its RESTful form, Audit Record Repository side (RESTful ATNA): AuditEvents of FHIR R4.

``POST /fhir/AuditEvent``   one AuditEvent, JSON or XML: 201 and its address once it is durable
``POST /fhir``              a Bundle of them, JSON, at most ``MAX_ENTRIES``: ``batch`` (each by itself) or
                            ``transaction`` (all or none)

What is kept is the resource as it came, byte by byte; equal bytes are one record, answered 200 with the address it has.
Any trusted node may feed.
Errors   400 not JSON or XML; 422 no AuditEvent of R4; 415 another media type; 412 a conditional create; 413 too large;
         503 the database does not take it. Each is an OperationOutcome that names the place; nothing is kept.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from atna.fhir_bundle import entries_of
from atna.fhir_reading import Form, ResourceRefused, check, check_part, form_of, read_json, read_resource
from atna.record_repository.fhir import VERSION, resource_of
from atna.record_repository.fhir_answers import Answer, issue, outcome, problem
from atna.record_repository.formats import WrongMediaType, sent_as
from atna.record_repository.indexing import Indexed, index_resource
from atna.record_repository.iti81 import answering
from atna.record_repository.store.protocol import Records
from wire.rest import RestRequest, RestRoute

__all__ = ["MAX_ENTRIES", "fhir_feed"]

MAX_ENTRIES: Final = 1000
ETAG: Final = f'W/"{VERSION}"'
RESOURCE: Final = "AuditEvent"
OK, CREATED = 200, 201
NO_CONDITION: Final = "no conditional create: equal bytes are one record anyway"
BAD_REQUEST, PRECONDITION_FAILED, UNSUPPORTED, UNPROCESSABLE = 400, 412, 415, 422
_PHRASES: Final = {
    OK: "OK",
    CREATED: "Created",
    BAD_REQUEST: "Bad Request",
    PRECONDITION_FAILED: "Precondition Failed",
    UNPROCESSABLE: "Unprocessable Entity",
}
"""Of each entry in the answer to a Bundle. Not those of Python, which change with its version: from 3.13 on 422 has
another."""


class _Conditional(ResourceRefused):
    """An entry that is to be created under a condition."""


def fhir_feed(records: Records, *, max_fhir_bytes: int) -> tuple[RestRoute, ...]:
    """The routes of the feed."""
    feed = _Feed(records)
    handlers = {"/fhir/AuditEvent": feed.create, "/fhir": feed.bundle}
    return tuple(
        RestRoute("POST", path, answering(handler), max_fhir_bytes, limit="max_fhir_bytes")
        for path, handler in handlers.items()
    )


@dataclass(frozen=True, slots=True)
class _Feed:
    records: Records

    def create(self, request: RestRequest) -> Answer:
        """One AuditEvent."""
        refusal = _unfit(request)
        if refusal is not None:
            return refusal
        try:
            record = index_resource(request.body, read_resource(request.body))
        except ResourceRefused as refused:
            return Answer(_status(refused), outcome(_issue(refused)))
        ((number, status),) = self._kept([record], request)
        headers = {"location": f"{request.url}/{number}", "etag": ETAG}
        stored = None if "return=minimal" in request.headers.get("prefer", "") else self.records.get(number)
        return Answer(status, None if stored is None else resource_of(stored), headers)

    def bundle(self, request: RestRequest) -> Answer:
        """Many."""
        refusal = _unfit(request)
        if refusal is not None:
            return refusal
        if form_of(request.body) is not Form.JSON:
            return problem(UNSUPPORTED, "not-supported", "a Bundle is taken as JSON; AuditEvents in XML one by one")
        try:
            found = read_json(request.body)
            kind, entries = _opened(found, request.body)
        except ResourceRefused as refused:
            return Answer(_status(refused), outcome(_issue(refused)))
        read = [_record(entry, raw, number) for number, (entry, raw) in enumerate(entries)]
        refused_ones = [one for one in read if isinstance(one, ResourceRefused)]
        if refused_ones and kind == "transaction":
            return Answer(_status(refused_ones[0]), outcome(*map(_issue, refused_ones)))
        kept = iter(self._kept([one for one in read if isinstance(one, Indexed)], request))
        url = f"{request.url}/{RESOURCE}"
        answers = [
            {"response": _refused(one) if isinstance(one, ResourceRefused) else _response(url, *next(kept))}
            for one in read
        ]
        answer: dict[str, Any] = {"resourceType": "Bundle", "type": f"{kind}-response"}
        return Answer(OK, {**answer, "entry": answers} if answers else answer)

    def _kept(self, batch: Sequence[Indexed], request: RestRequest) -> list[tuple[int, int]]:
        """(number, 201 or 200) of each, once they are durable."""
        if not batch:
            return []
        before = self.records.numbers_of(batch)
        self.records.keep(batch, via=f"fhir {request.caller.partner}")
        after = self.records.numbers_of(batch)
        pairs = zip(before, after, strict=True)
        return [(number or 0, CREATED if known is None else OK) for known, number in pairs]


def _unfit(request: RestRequest) -> Answer | None:
    """A request that is refused before its body is read."""
    if "if-none-exist" in request.headers:
        return problem(PRECONDITION_FAILED, "not-supported", NO_CONDITION)
    try:
        form = sent_as(request.content_type)
    except WrongMediaType as error:
        return problem(UNSUPPORTED, "not-supported", f"Content-Type: {error}", "http.Content-Type")
    if form_of(request.body) is not form:
        return problem(BAD_REQUEST, "structure", f"the body is not what Content-Type says: {form.value}")
    return None


def _opened(found: dict[str, Any], body: bytes) -> tuple[str, list[tuple[Any, bytes | None]]]:
    """Batch or transaction, and (entry, bytes of its resource). The entries' resources are judged one by one later."""
    raw = entries_of(body)
    entries = found.get("entry", [])
    if not isinstance(entries, list) or len(entries) != len(raw):
        raise ResourceRefused("structure", "should be a list", "Bundle.entry")
    if len(entries) > MAX_ENTRIES:
        raise ResourceRefused("too-costly", f"more than {MAX_ENTRIES} entries", "Bundle.entry")
    check({name: value for name, value in found.items() if name != "entry"}, ("Bundle",))
    if found.get("type") not in {"batch", "transaction"}:
        raise ResourceRefused("value", "should be batch or transaction", "Bundle.type")
    return found["type"], list(zip(entries, raw, strict=True))


def _record(entry: Any, raw: bytes | None, number: int) -> Indexed | ResourceRefused:
    place = f"Bundle.entry[{number}]"
    if not isinstance(entry, dict) or raw is None:
        return ResourceRefused("required", "has no resource", place)
    wanted = entry.get("request")
    if not isinstance(wanted, dict) or wanted.get("method") != "POST" or wanted.get("url") != RESOURCE:
        return ResourceRefused("not-supported", f"should be a POST to {RESOURCE}", f"{place}.request")
    if "ifNoneExist" in wanted:
        return _Conditional("not-supported", NO_CONDITION, f"{place}.request.ifNoneExist")
    try:
        check_part({name: value for name, value in entry.items() if name != "resource"}, "Bundle.entry", place)
        check(entry["resource"], (RESOURCE,), f"{place}.resource")
        return index_resource(raw, entry["resource"])
    except ResourceRefused as refused:
        return refused


def _response(url: str, number: int, status: int) -> dict[str, Any]:
    return {"status": _line(status), "location": f"{url}/{number}", "etag": ETAG}


def _refused(refused: ResourceRefused) -> dict[str, Any]:
    return {"status": _line(_status(refused)), "outcome": outcome(_issue(refused))}


def _line(status: int) -> str:
    return f"{status} {_PHRASES[status]}"


def _issue(refused: ResourceRefused) -> dict[str, Any]:
    return issue(refused.code, str(refused), refused.place)


def _status(refused: ResourceRefused) -> int:
    if isinstance(refused, _Conditional):
        return PRECONDITION_FAILED
    return BAD_REQUEST if refused.malformed else UNPROCESSABLE
