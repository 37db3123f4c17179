"""The page of the audit log for the security officer, over HTTP, beside ITI-81.

``GET /log``                                to the language that the browser asks for
``GET /log/{language}``                     the search of the last seven days
``POST /log/{language}/search``             a search, or a further page of it
``POST /log/{language}/export``             all records of a search as CSV
``GET, POST /log/{language}/records/{n}``   one record; POST brings the search along, for the way back
``GET /log/{language}/records/{n}/message`` its message as it was received

What was searched for stands in forms alone, never in an address. Readable by whom ``reading_rights`` permits; each
view, refused or not, is recorded (Audit Log Used) before it is answered. No cookie and no script: the user is the
client certificate. Errors are pages, too.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import tzinfo
from http import HTTPStatus
from typing import Final
from urllib.parse import parse_qsl, urlencode
from zoneinfo import ZoneInfo

from atna.message import Outcome
from atna.record_repository.log_used import record_use
from atna.record_repository.page.asked import (
    EMERGENCIES,
    FAILED,
    MAX_PAGES,
    Asked,
    Fault,
    FormError,
    Search,
    first_asked,
    parse_search,
    read_form,
)
from atna.record_repository.page.codes import EVENTS, TRANSACTIONS, TYPES
from atna.record_repository.page.cross_site import from_elsewhere
from atna.record_repository.page.csv_export import csv_head, csv_rows
from atna.record_repository.page.detail import record_shown
from atna.record_repository.page.languages import LANGUAGES, Texts, moment_of, negotiate
from atna.record_repository.page.lines import line
from atna.record_repository.page.rendering import FILES, SAFE_HEADERS, Frame, asset, page, problem
from atna.record_repository.page.timeline import cut, timeline
from atna.record_repository.reading_rights import reading_decision
from atna.record_repository.search_parameters import print_cursor
from atna.record_repository.store.overview import LogOverview
from atna.record_repository.store.protocol import Stored, StoreUnavailable
from atna.recorder import Recorder
from wire.rest import RestHandler, RestRequest, RestResponse, RestRoute
from wire.settings import AffinityDomainSettings

__all__ = ["LogPage", "page_routes"]

MAX_FORM_BYTES: Final = 64 * 1024
MAX_FIELDS: Final = 20
ROWS: Final = 50
WATCHED: Final = 10
MAX_COUNTED: Final = 100_000
CHUNK: Final = 500
MICROSECONDS: Final = 1_000_000
FORM: Final = "application/x-www-form-urlencoded"
ANY_METHOD: Final = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LogPage:
    """Answers the page's requests. ``clock`` gives seconds since 1970; ``zone`` is that of every time on the page."""

    log: LogOverview
    recorder: Recorder
    domain: AffinityDomainSettings
    zone: tzinfo
    max_export_rows: int
    clock: Callable[[], float]

    def entry(self, request: RestRequest) -> RestResponse:
        """To the browser's language."""
        language = negotiate(request.headers.get("accept-language"))
        headers = {**SAFE_HEADERS, "location": f"/log/{language}", "vary": "accept-language"}
        return RestResponse(HTTPStatus.SEE_OTHER, b"", "text/plain", headers)

    def start(self, request: RestRequest, frame: Frame) -> RestResponse:
        """The search that a visit begins with."""
        return self._answered(request, frame, first_asked(moment_of(self._now(), self.zone)))

    def search(self, request: RestRequest, frame: Frame) -> RestResponse:
        """What the form asks for."""
        try:
            asked = _form(request)
        except FormError as error:
            return self._refused(request, frame, Asked(), error)
        return self._answered(request, frame, asked)

    def record(self, request: RestRequest, frame: Frame) -> RestResponse:
        """One record in full."""
        try:
            asked = _form(request) if request.method == "POST" else Asked()
        except FormError as error:
            return self._refused(request, frame, Asked(), error)
        stored = self._stored(request)
        place = self.log.place(stored.number) if stored is not None else None
        if stored is None or place is None:
            return self._missing(request, frame)
        self._recorded(request, Outcome.SUCCESS)
        if not place.follows:
            _log.error("the audit log is damaged at record %d: its link does not follow", stored.number)
        framed = frame.at(f"/records/{stored.number}", asked.pairs())
        return page(framed, "record.html", record=record_shown(stored, place, frame.texts))

    def message(self, request: RestRequest, frame: Frame) -> RestResponse:
        """A record's message, byte by byte, to be saved."""
        stored = self._stored(request)
        if stored is None:
            return self._missing(request, frame)
        self._recorded(request, Outcome.SUCCESS)
        disposition = f'attachment; filename="record-{stored.number}.txt"'
        headers = {**SAFE_HEADERS, "content-disposition": disposition}
        return RestResponse(HTTPStatus.OK, stored.message, "application/octet-stream", headers)

    def export(self, request: RestRequest, frame: Frame) -> RestResponse:
        """Every record of the search; more than ``max_export_rows`` are refused, since a part would pass for all."""
        asked = Asked()
        try:
            asked = replace(_form(request), after="")
            search = parse_search(asked, self.zone)
            self._check_size(search)
        except FormError as error:
            return self._refused(request, frame, asked, error)
        first = self.log.find(search.criteria, limit=CHUNK)
        self._recorded(request, Outcome.SUCCESS, search=urlencode([*asked.pairs(), ("export", "csv")]))
        name = f"{frame.texts('csv.file')}-{moment_of(self._now(), self.zone):%Y-%m-%d-%H%M}.csv"
        headers = {**SAFE_HEADERS, "content-disposition": f'attachment; filename="{name}"'}
        return RestResponse(HTTPStatus.OK, self._lines(search, first, frame.texts), "text/csv; charset=utf-8", headers)

    def _check_size(self, search: Search) -> None:
        if not self.log.count_spans(search.criteria, [search.since], most=self.max_export_rows).complete:
            raise FormError([Fault("from", "error.export_too_large")])

    def _lines(self, search: Search, first: Sequence[Stored], texts: Texts) -> Iterator[bytes]:
        """A piece for each read of the log. Records that come meanwhile count against the same bound."""
        yield csv_head(texts)
        left, chunk = self.max_export_rows, first
        while chunk and left > 0:
            chunk = chunk[:left]
            yield csv_rows(chunk, texts)
            left -= len(chunk)
            chunk = self.log.find(search.criteria, limit=CHUNK, after=chunk[-1].cursor)

    def _answered(self, request: RestRequest, frame: Frame, asked: Asked) -> RestResponse:
        try:
            search = parse_search(asked, self.zone)
        except FormError as error:
            return self._refused(request, frame, asked, error)
        texts = frame.texts
        found = self.log.find(search.criteria, limit=ROWS + 1, after=search.after)
        period = cut(search.since, search.criteria.before or self._now(), self.zone)
        counts = self.log.count_spans(search.criteria, period.starts, most=MAX_COUNTED)
        watch = self._watched(search, texts) if asked.page == 1 else None
        self._recorded(request, Outcome.SUCCESS, search=urlencode(asked.pairs()))
        return page(
            frame.at("/search", asked.pairs()),
            "search.html",
            asked=asked,
            faults={},
            choices=_CHOICES,
            watch=watch,
            timeline=timeline(period, counts, texts),
            most_counted=texts.number(MAX_COUNTED),
            total=texts.counted("results.found" if counts.complete else "results.found_more", counts.total),
            rows=[line(stored, texts) for stored in found[:ROWS]],
            pages=_pages(asked, found),
            described=_described(asked, texts),
        )

    def _watched(self, search: Search, texts: Texts) -> dict[str, object]:
        """Emergency and refused accesses of the search, whatever outcome and purpose it asks for."""
        urgent = replace(search.criteria, outcomes=(), purposes=EMERGENCIES)
        failed = replace(search.criteria, outcomes=FAILED, purposes=())
        shown: dict[str, object] = {}
        for name, criteria in (("emergencies", urgent), ("refused", failed)):
            shown[name] = [line(stored, texts) for stored in self.log.find(criteria, limit=WATCHED)]
            shown[f"{name}_total"] = self.log.count_spans(criteria, [search.since], most=MAX_COUNTED).total
        return shown

    def _refused(self, request: RestRequest, frame: Frame, asked: Asked, error: FormError) -> RestResponse:
        """The form again, with what is wrong at each field."""
        places = sorted({fault.field or "form" for fault in error.faults})
        self._recorded(request, Outcome.SERIOUS_FAILURE, reason=f"refused: {', '.join(places)}")
        most = frame.texts.number(self.max_export_rows)
        faults = {fault.field: frame.texts(fault.key, most=most) for fault in error.faults}
        return page(
            frame, "search.html", HTTPStatus.BAD_REQUEST, asked=asked, faults=faults, choices=_CHOICES, rows=None
        )

    def _stored(self, request: RestRequest) -> Stored | None:
        number = request.path_parameters["number"]
        known = number.isascii() and number.isdigit() and len(number) <= 18
        return self.log.get(int(number)) if known else None

    def _missing(self, request: RestRequest, frame: Frame) -> RestResponse:
        self._recorded(request, Outcome.SERIOUS_FAILURE, reason="no such record")
        return problem(frame, HTTPStatus.NOT_FOUND)

    def _recorded(self, request: RestRequest, outcome: Outcome, **said: str | None) -> None:
        record_use(self.log, self.recorder, request, outcome, **said)

    def framed(self, request: RestRequest) -> Frame:
        """What stands around any page, in the language of the address, else of the browser."""
        language = request.path_parameters.get("language", "")
        if language not in LANGUAGES:
            language = negotiate(request.headers.get("accept-language"))
        caller = request.caller
        return Frame(
            Texts(language, self.zone),
            self.domain.environment,
            caller.node or caller.address,
            certified=caller.node is not None,
            time_zone=self.zone.key if isinstance(self.zone, ZoneInfo) else "UTC",
        )

    def _now(self) -> int:
        return int(self.clock() * MICROSECONDS)

    def guarded(self, handler: Callable[[RestRequest, Frame], RestResponse]) -> RestHandler:
        """``handler`` for those who may read the log, from our own pages, while the log can be read and written."""

        def handle(request: RestRequest) -> RestResponse:
            frame = self.framed(request)
            try:
                if request.path_parameters["language"] not in LANGUAGES:
                    return problem(frame, HTTPStatus.NOT_FOUND)
                if from_elsewhere(request.method, request.url, request.headers):
                    self._recorded(request, Outcome.SERIOUS_FAILURE, reason="refused: begun by another site")
                    return problem(frame, HTTPStatus.FORBIDDEN, key="403_origin")
                decision = reading_decision(request.caller, self.domain)
                if not decision.permit:
                    self._recorded(request, Outcome.SERIOUS_FAILURE, reason="ITI-81 is refused", decision=decision.rule)
                    return problem(frame, HTTPStatus.FORBIDDEN)
                return handler(request, frame)
            except StoreUnavailable:
                _log.exception("request %s: the log cannot be read", request.request_id)
                return problem(frame, HTTPStatus.SERVICE_UNAVAILABLE, request_id=request.request_id)

        return handle

    def told(self, request: RestRequest, status: int, _text: str) -> RestResponse:
        """A page for what no handler answers: a body that is refused, a defect of ours."""
        return problem(self.framed(request), status, request_id=request.request_id)


def page_routes(shown: LogPage) -> tuple[RestRoute, ...]:
    """Every route of the page."""
    records = "/log/{language}/records/{number}"
    known = (
        RestRoute("GET", "/log", shown.entry),
        *(RestRoute("GET", f"/log/{name}", _asset(name)) for name in FILES),
        RestRoute("GET", "/log/{language}", shown.guarded(shown.start), problem=shown.told),
        RestRoute("POST", "/log/{language}/search", shown.guarded(shown.search), MAX_FORM_BYTES, shown.told),
        RestRoute("POST", "/log/{language}/export", shown.guarded(shown.export), MAX_FORM_BYTES, shown.told),
        RestRoute("GET", records, shown.guarded(shown.record), problem=shown.told),
        RestRoute("POST", records, shown.guarded(shown.record), MAX_FORM_BYTES, shown.told),
        RestRoute("GET", f"{records}/message", shown.guarded(shown.message), problem=shown.told),
    )
    allowed: dict[str, list[str]] = {}
    for route in known:
        allowed.setdefault(route.path, []).append(route.method)
    others = [
        RestRoute(method, path, _not_this_way(shown, methods), MAX_FORM_BYTES, shown.told)
        for path, methods in allowed.items()
        for method in ANY_METHOD
        if method not in methods
    ]
    nowhere = [
        RestRoute(method, "/log/{rest:path}", _nowhere(shown), MAX_FORM_BYTES, shown.told) for method in ANY_METHOD
    ]
    return (*known, *others, *nowhere)


def _asset(name: str) -> RestHandler:
    return lambda _request: asset(name)


def _not_this_way(shown: LogPage, methods: Sequence[str]) -> RestHandler:
    def handle(request: RestRequest) -> RestResponse:
        answer = problem(shown.framed(request), HTTPStatus.METHOD_NOT_ALLOWED)
        return replace(answer, headers={**answer.headers, "allow": ", ".join(methods)})

    return handle


def _nowhere(shown: LogPage) -> RestHandler:
    return lambda request: problem(shown.framed(request), HTTPStatus.NOT_FOUND)


_CHOICES: Final = {
    "form.transactions": [(f"type:{code}", f"code.IHE Transactions.{code}", code) for code in TRANSACTIONS],
    "form.events": [(f"event:{code}", f"code.DCM.{code}", code) for code in EVENTS],
    "form.types": [(f"type:{code}", f"code.DCM.{code}", code) for code in TYPES],
}


def _form(request: RestRequest) -> Asked:
    media_type = (request.content_type or "").partition(";")[0].strip().lower()
    if media_type != FORM:
        raise FormError([Fault("", "error.not_a_form")])
    try:
        text = request.body.decode("utf-8", errors="replace")
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_FIELDS)
    except ValueError as error:
        raise FormError([Fault("", "error.too_many_fields")]) from error
    return read_form(pairs)


def _pages(asked: Asked, found: Sequence[Stored]) -> dict[str, object]:
    """The values of ``after`` that lead to the page before and the page behind; ``None`` where there is none."""
    places = asked.places
    older = None
    if len(found) > ROWS and asked.page < MAX_PAGES:
        older = ",".join([*places, print_cursor(found[ROWS - 1].cursor)])
    newer = ",".join(places[:-1]) if places else None
    return {"number": asked.page, "newer": newer, "older": older, "ends": len(found) > ROWS and older is None}


def _described(asked: Asked, texts: Texts) -> list[tuple[str, str]]:
    """(label, value) of everything that was asked for, in words."""
    shown = []
    for name, value in asked.pairs(place=False):
        if name == "event":
            label = next(label for group in _CHOICES.values() for key, label, _code in group if key == value)
            text = texts(label)
        elif name in {"outcome", "use"}:
            text = texts(f"form.{name}_{value}")
        else:
            text = value.replace("T", " ") if name in {"from", "to"} else value
        shown.append((texts(f"form.{name}"), text))
    return shown
