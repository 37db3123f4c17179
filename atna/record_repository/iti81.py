"""ITI-81 Retrieve ATNA Audit Event, Audit Record Repository side (RESTful ATNA), and the check of the log.

``GET /fhir/AuditEvent``, ``POST /fhir/AuditEvent/_search``   search; parameters in ``search_parameters``
``GET /fhir/AuditEvent/{id}``                                 one record
``GET /fhir/metadata``                                        CapabilityStatement
``GET /records/verify``                                       check of the whole chain

Only for those of ``reading_rights``: 403 for others. Each reading of the log, refused or not, is itself recorded (Audit
Log Used) before it is answered: no record, no answer. Errors are OperationOutcomes that name the parameter at fault; a
fault of ours carries the request id alone. JSON and XML by ``_format`` or ``Accept``.

Pages stay as they were while records come in: their links carry the number of the last record there was at the first.
"""

import http
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode

from atna.fhir_reading import Form
from atna.message import Outcome
from atna.record_repository.capability import capability_statement
from atna.record_repository.fhir import VERSION, resource_of
from atna.record_repository.fhir_answers import (
    SEARCH_SUFFIX,
    Answer,
    FhirHandler,
    bundle,
    form_for,
    page_of,
    problem,
    rendered,
)
from atna.record_repository.formats import NotAcceptable
from atna.record_repository.log_used import record_use
from atna.record_repository.reading_rights import ITI_81, reading_decision
from atna.record_repository.search_parameters import ParameterError, Search, parse_search
from atna.record_repository.store.protocol import Records, Stored, StoreUnavailable
from atna.recorder import Recorder
from wire.rest import RestHandler, RestRequest, RestResponse, RestRoute
from wire.settings import AffinityDomainSettings

__all__ = ["MAX_FORM_BYTES", "Reading", "answering", "routes", "told"]

FORM: Final = "application/x-www-form-urlencoded"
MAX_FORM_BYTES: Final = 64 * 1024
MAX_PARAMETERS: Final = 100
ISSUES: Final = {
    404: "not-found",
    405: "not-supported",
    408: "timeout",
    413: "too-long",
    415: "not-supported",
    500: "exception",
}
"""FHIR's issue type for a status."""
OK, BAD_REQUEST, FORBIDDEN, NOT_FOUND, NOT_ACCEPTABLE, UNAVAILABLE = 200, 400, 403, 404, 406, 503

_log = logging.getLogger(__name__)

Pairs = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Reading:
    """Answers what reads the log. ``since`` is the time of the CapabilityStatement, microseconds since 1970."""

    records: Records
    recorder: Recorder
    domain: AffinityDomainSettings
    max_page: int
    since: int

    def search(self, request: RestRequest) -> Answer:
        """GET by query, POST by form (and query)."""
        try:
            pairs = _pairs(request)
            lenient = "handling=lenient" in request.headers.get("prefer", "").replace(" ", "").lower()
            search = parse_search(pairs, max_count=self.max_page, lenient=lenient)
        except ParameterError as error:
            self._recorded(request, Outcome.SERIOUS_FAILURE, reason=f"refused: {error.parameter[:64]}")
            return problem(BAD_REQUEST, error.code, str(error), f"http.{error.parameter[:64]}")
        answer = self._found(request.url.removesuffix(SEARCH_SUFFIX), search)
        self._recorded(request, Outcome.SUCCESS, search=urlencode(pairs))
        return answer

    def _found(self, url: str, search: Search) -> Answer:
        criteria = search.criteria
        if criteria.up_to is None:
            criteria = replace(criteria, up_to=self.records.last_number())
        total = self.records.count(criteria) if search.total else None
        found: list[Stored] = []
        if search.count:
            oldest_first = search.oldest_first is not search.backward
            found = self.records.find(criteria, limit=search.count + 1, oldest_first=oldest_first, after=search.after)
        return Answer(OK, bundle(url, search, page_of(search, found), criteria.up_to, total))

    def read(self, request: RestRequest) -> Answer:
        """One AuditEvent by the id a search gave."""
        number = request.path_parameters["id"]
        known = number.isascii() and number.isdigit() and len(number) <= 18
        stored = self.records.get(int(number)) if known else None
        outcome = Outcome.SUCCESS if stored is not None else Outcome.SERIOUS_FAILURE
        self._recorded(request, outcome, reason=None if stored is not None else "no such record")
        if stored is None:
            return problem(NOT_FOUND, "not-found", "there is no such AuditEvent")
        return Answer(OK, resource_of(stored), {"etag": f'W/"{VERSION}"'})

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

    def metadata(self, _request: RestRequest) -> Answer:
        """What this server does and nothing more."""
        return Answer(OK, capability_statement(self.since))

    def permitted(self, handler: FhirHandler) -> RestHandler:
        """``handler`` in the form asked for, for those who may read the log; others are recorded and refused."""

        def handle(request: RestRequest) -> RestResponse:
            form = _form(request)
            answer = self._forbidden(request)
            if answer is None and form is None:
                self._recorded(request, Outcome.SERIOUS_FAILURE, reason="refused: Accept")
            if answer is None:
                answer = _not_acceptable() if form is None else handler(request)
            return rendered(answer, form or Form.JSON)

        return _available(handle)

    def permitted_check(self, request: RestRequest) -> RestResponse:
        """``verify`` for those who may read the log."""
        refusal = self._forbidden(request)
        return self.verify(request) if refusal is None else rendered(refusal, _form(request) or Form.JSON)

    def _forbidden(self, request: RestRequest) -> Answer | None:
        decision = reading_decision(request.caller, self.domain)
        if decision.permit:
            return None
        self._recorded(request, Outcome.SERIOUS_FAILURE, reason=f"{ITI_81} is refused", decision=decision.rule)
        text = f"the audit log is for partners whose settings list {ITI_81} (affinity_domain.partners)"
        return problem(FORBIDDEN, "forbidden", text)

    def _recorded(self, request: RestRequest, outcome: Outcome, **said: str | None) -> None:
        record_use(self.records, self.recorder, request, outcome, **said)


def routes(reading: Reading) -> tuple[RestRoute, ...]:
    """Every route that reads."""
    return (
        RestRoute("GET", "/fhir/metadata", answering(reading.metadata)),
        RestRoute("GET", "/fhir/AuditEvent", reading.permitted(reading.search)),
        RestRoute("POST", "/fhir/AuditEvent/_search", reading.permitted(reading.search), MAX_FORM_BYTES),
        RestRoute("GET", "/fhir/AuditEvent/{id}", reading.permitted(reading.read)),
        RestRoute("GET", "/records/verify", _available(reading.permitted_check)),
    )


def answering(handler: FhirHandler) -> RestHandler:
    """``handler`` in the form that was asked for, for everybody."""

    def handle(request: RestRequest) -> RestResponse:
        form = _form(request)
        return rendered(_not_acceptable() if form is None else handler(request), form or Form.JSON)

    return _available(handle)


def told(request: RestRequest, status: int, text: str) -> RestResponse:
    """An OperationOutcome for what no handler answers: a body that is refused, a defect of ours."""
    if status == http.HTTPStatus.INTERNAL_SERVER_ERROR:
        text = f"{text}, request {request.request_id}"
    return rendered(problem(status, ISSUES.get(status, "structure"), text), _form(request) or Form.JSON)


def _form(request: RestRequest) -> Form | None:
    try:
        return form_for(request)
    except NotAcceptable:
        return None


def _not_acceptable() -> Answer:
    text = "this server speaks application/fhir+json and application/fhir+xml, of FHIR 4.0 (Accept, _format)"
    return problem(NOT_ACCEPTABLE, "not-supported", text)


def _available(handler: RestHandler) -> RestHandler:
    def handle(request: RestRequest) -> RestResponse:
        try:
            return handler(request)
        except StoreUnavailable:
            _log.exception("request %s: the log does not answer", request.request_id)
            text = f"the audit database does not answer, request {request.request_id}"
            return rendered(problem(UNAVAILABLE, "transient", text), _form(request) or Form.JSON)

    return handle


def _pairs(request: RestRequest) -> list[tuple[str, str]]:
    form = ""
    if request.method == "POST":
        media_type = (request.content_type or FORM).partition(";")[0].strip().lower()
        if media_type != FORM:
            raise ParameterError("Content-Type", f"should be {FORM}")
        try:
            form = request.body.decode()
        except UnicodeDecodeError as error:
            raise ParameterError("Content-Type", "the form is not UTF-8") from error
    try:
        pairs: list[tuple[str, Any]] = [
            pair
            for text in (request.query, form)
            for pair in parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_PARAMETERS, errors="strict")
        ]
    except UnicodeDecodeError as error:
        raise ParameterError("query", "is not UTF-8") from error
    except ValueError as error:
        raise ParameterError("query", f"has more than {MAX_PARAMETERS} parameters") from error
    if any("\0" in value for _name, value in pairs):
        raise ParameterError("query", "has a character of no text (NUL)")
    return pairs
