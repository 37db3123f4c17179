"""ITI-81 Retrieve ATNA Audit Event, Audit Record Repository side (RESTful ATNA), and the check of the log.

``GET /fhir/AuditEvent``, ``POST /fhir/AuditEvent/_search``   search; parameters in ``search_parameters``
``GET /fhir/AuditEvent/{id}``                                 one record
``GET /fhir/metadata``                                        CapabilityStatement
``GET /records/verify``                                       check of the whole chain

Each reading of the log is itself recorded (Audit Log Used) before it is answered: no record, no answer. Errors are
OperationOutcomes that name the parameter at fault; a fault of ours carries the request id alone.
"""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode

from atna.iti20_record_audit_event import SyslogError
from atna.message import Outcome, UnreadableError
from atna.node_events import audit_log_used
from atna.participants import serving
from atna.record_repository.fhir import audit_event, instant, unreadable
from atna.record_repository.indexing import index, read
from atna.record_repository.search_parameters import ParameterError, Search, parse_search, print_cursor
from atna.record_repository.store.protocol import Records, Stored, StoreUnavailable
from atna.recorder import Recorder
from wire.rest import RestHandler, RestRequest, RestResponse, RestRoute

__all__ = ["MAX_FORM_BYTES", "Reading", "routes"]

FHIR_JSON: Final = "application/fhir+json"
FORM: Final = "application/x-www-form-urlencoded"
MAX_FORM_BYTES: Final = 64 * 1024
MAX_PARAMETERS: Final = 100
SEARCH_SUFFIX: Final = "/_search"
OK, BAD_REQUEST, NOT_FOUND, UNSUPPORTED, UNAVAILABLE = 200, 400, 404, 415, 503

_log = logging.getLogger(__name__)

Pairs = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Reading:
    """Answers what reads the log. ``since`` is the time of the CapabilityStatement, microseconds since 1970."""

    records: Records
    recorder: Recorder
    max_page: int
    since: int

    def search(self, request: RestRequest) -> RestResponse:
        """GET by query, POST by form (and query)."""
        url = request.url.removesuffix(SEARCH_SUFFIX)
        try:
            pairs = _pairs(request)
            search = parse_search(pairs, max_count=self.max_page)
        except ParameterError as error:
            self._recorded(request, Outcome.SERIOUS_FAILURE, reason=f"refused: {error.parameter[:64]}")
            return _problem(BAD_REQUEST, "invalid", str(error), error.parameter)
        found = self.records.find(
            search.criteria, limit=search.count + 1, oldest_first=search.oldest_first, after=search.after
        )
        self._recorded(request, Outcome.SUCCESS, search=urlencode(pairs))
        return _fhir(OK, _bundle(url, pairs, search, found))

    def read(self, request: RestRequest) -> RestResponse:
        """One AuditEvent by the id a search gave."""
        number = request.path_parameters["id"]
        known = number.isascii() and number.isdigit() and len(number) <= 18
        stored = self.records.get(int(number)) if known else None
        outcome = Outcome.SUCCESS if stored is not None else Outcome.SERIOUS_FAILURE
        self._recorded(request, outcome, reason=None if stored is not None else "no such record")
        if stored is None:
            return _problem(NOT_FOUND, "not-found", "there is no such AuditEvent")
        return _fhir(OK, _resource(stored))

    def verify(self, request: RestRequest) -> RestResponse:
        """Check of the log: ``holds``, ``records`` checked, ``head`` (the last good link), and the first fault.

        The keys are those the database lists: with one kept elsewhere ``dossier audit verify --public-key`` shows more.
        """
        result = self.records.verify_chain()
        self._recorded(request, Outcome.SUCCESS if result.holds else Outcome.SERIOUS_FAILURE, reason=result.fault)
        if not result.holds:
            _log.error("the audit log is damaged: %s, record %s: %s", result.partition, result.fault_at, result.fault)
        answer = {
            "holds": result.holds,
            "records": result.records,
            "head": result.head.hex(),
            "fault_at": result.fault_at,
            "fault": result.fault,
            "partition": result.partition,
            "checkpoints": result.checkpoints,
            "signed_to": result.signed_to,
            "notes": result.notes,
        }
        return RestResponse(OK, json.dumps(answer).encode())

    def metadata(self, _request: RestRequest) -> RestResponse:
        """What this server does and nothing more."""
        return _fhir(OK, _capability_statement(self.since))

    def _recorded(
        self, request: RestRequest, outcome: Outcome, *, search: str | None = None, reason: str | None = None
    ) -> None:
        parties = serving(request.caller, request.url, self.recorder.process_id)
        message = audit_log_used(parties, log_uri=request.url, outcome=outcome, search=search, reason=reason)
        self.records.keep([index(self.recorder.record(message))])


def routes(reading: Reading) -> tuple[RestRoute, ...]:
    """Every route that reads."""
    return (
        RestRoute("GET", "/fhir/metadata", reading.metadata),
        RestRoute("GET", "/fhir/AuditEvent", _available(reading.search)),
        RestRoute("POST", "/fhir/AuditEvent/_search", _available(reading.search), MAX_FORM_BYTES),
        RestRoute("GET", "/fhir/AuditEvent/{id}", _available(reading.read)),
        RestRoute("GET", "/records/verify", _available(reading.verify)),
    )


def _available(handler: RestHandler) -> RestHandler:
    def handle(request: RestRequest) -> RestResponse:
        try:
            return handler(request)
        except StoreUnavailable:
            _log.exception("request %s: the log cannot be read", request.request_id)
            return _problem(
                UNAVAILABLE, "transient", f"the audit database does not answer, request {request.request_id}"
            )

    return handle


def _pairs(request: RestRequest) -> list[tuple[str, str]]:
    form = ""
    if request.method == "POST":
        media_type = (request.content_type or FORM).partition(";")[0].strip().lower()
        if media_type != FORM:
            raise ParameterError("Content-Type", f"should be {FORM}")
        form = request.body.decode("utf-8", errors="replace")
    try:
        return [
            pair
            for text in (request.query, form)
            for pair in parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_PARAMETERS)
        ]
    except ValueError as error:
        raise ParameterError("query", f"has more than {MAX_PARAMETERS} parameters") from error


def _bundle(url: str, pairs: Pairs, search: Search, found: Sequence[Stored]) -> dict[str, Any]:
    page = found[: search.count]
    links = [{"relation": "self", "url": f"{url}?{urlencode(pairs)}"}]
    if len(found) > len(page):
        kept = [(name, value) for name, value in pairs if name != "_after"]
        query = urlencode([*kept, ("_after", print_cursor(page[-1].cursor))])
        links.append({"relation": "next", "url": f"{url}?{query}"})
    entries = [
        {"fullUrl": f"{url}/{stored.number}", "resource": _resource(stored), "search": {"mode": "match"}}
        for stored in page
    ]
    bundle: dict[str, Any] = {"resourceType": "Bundle", "type": "searchset", "link": links}
    return {**bundle, "entry": entries} if entries else bundle


def _resource(stored: Stored) -> dict[str, Any]:
    if stored.readable:
        try:
            return audit_event(stored.number, stored.event_at, read(stored.message))
        except (SyslogError, UnreadableError):  # it was readable when it came; a verify tells what happened since
            _log.warning("record %d cannot be read any more", stored.number)
    return unreadable(stored.number, stored.event_at, stored.received_at)


def _fhir(status: int, resource: dict[str, Any]) -> RestResponse:
    text = json.dumps(resource, ensure_ascii=False, separators=(",", ":"))
    return RestResponse(status, text.encode(), FHIR_JSON, {"cache-control": "no-store"})


def _problem(status: int, code: str, text: str, parameter: str | None = None) -> RestResponse:
    issue: dict[str, Any] = {"severity": "error", "code": code, "diagnostics": text}
    if parameter is not None:
        issue["expression"] = [f"http.{parameter[:64]}"]
    return _fhir(status, {"resourceType": "OperationOutcome", "issue": [issue]})


_SEARCH_TYPES: Final = (
    ("date", "date"), ("patient.identifier", "token"), ("agent", "token"), ("user", "token"), ("type", "token"),
    ("subtype", "token"), ("outcome", "token"), ("action", "token"), ("entity-id", "token"), ("source", "token"),
)  # fmt: skip


def _capability_statement(since: int) -> dict[str, Any]:
    resource = {
        "type": "AuditEvent",
        "interaction": [{"code": "read"}, {"code": "search-type"}],
        "searchParam": [{"name": name, "type": kind} for name, kind in _SEARCH_TYPES],
        "documentation": "date is required; unknown parameters are refused; _count, _sort, paging by next link",
    }
    return {
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": instant(since),
        "kind": "instance",
        "software": {"name": "Dossier"},
        "implementation": {"description": "Audit Record Repository, ITI-81 Retrieve ATNA Audit Event (subset)"},
        "fhirVersion": "4.0.1",
        "format": ["json"],
        "rest": [{"mode": "server", "resource": [resource]}],
    }
