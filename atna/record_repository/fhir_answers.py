"""Answers of the FHIR side: a resource and a status, rendered as JSON or XML; OperationOutcomes, result Bundles."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode

from atna.fhir_reading import Form
from atna.fhir_writing import as_json, as_xml
from atna.record_repository.fhir import resource_of
from atna.record_repository.formats import MEDIA_TYPES, asked_for
from atna.record_repository.search_parameters import Search, print_cursor
from atna.record_repository.store.protocol import Stored
from wire.rest import RestRequest, RestResponse

__all__ = [
    "SEARCH_SUFFIX",
    "Answer",
    "FhirHandler",
    "bundle",
    "form_for",
    "issue",
    "outcome",
    "page_of",
    "problem",
    "rendered",
]

SEARCH_SUFFIX: Final = "/_search"
MOST_PARAMETERS: Final = 100
PLACES: Final = frozenset({"_after", "_back"})


@dataclass(frozen=True, slots=True)
class Answer:
    """What is to be said, before it has a form."""

    status: int
    resource: dict[str, Any] | None
    headers: Mapping[str, str] = field(default_factory=dict)


FhirHandler = Callable[[RestRequest], Answer]


def form_for(request: RestRequest) -> Form:
    """The form the request asks for. Raises NotAcceptable."""
    texts = [request.query]
    if request.method == "POST" and request.url.endswith(SEARCH_SUFFIX):
        texts.append(request.body.decode("utf-8", errors="replace"))
    try:
        pairs = [pair for text in texts for pair in parse_qsl(text, max_num_fields=MOST_PARAMETERS)]
    except ValueError:  # too many parameters: told by whoever parses them
        pairs = []
    wishes = [value for name, value in pairs if name == "_format"]
    return asked_for(request.headers.get("accept"), wishes[0] if wishes else None)


def rendered(answer: Answer, form: Form) -> RestResponse:
    """The bytes; an AuditEvent is nobody's to keep on the way."""
    headers = {"cache-control": "no-store", "vary": "Accept", **answer.headers}
    if answer.resource is None:
        return RestResponse(answer.status, b"", MEDIA_TYPES[form], headers)
    body = as_xml(answer.resource) if form is Form.XML else as_json(answer.resource)
    return RestResponse(answer.status, body, MEDIA_TYPES[form], headers)


def issue(code: str, text: str, place: str | None = None, *, severity: str = "error") -> dict[str, Any]:
    """One issue of an OperationOutcome; ``place`` is a FHIRPath or ``http.`` and a parameter."""
    found: dict[str, Any] = {"severity": severity, "code": code, "diagnostics": text}
    if place is not None:
        found["expression"] = [place]
    return found


def outcome(*issues: dict[str, Any]) -> dict[str, Any]:
    """An OperationOutcome."""
    return {"resourceType": "OperationOutcome", "issue": list(issues)}


def problem(status: int, code: str, text: str, place: str | None = None) -> Answer:
    """A refusal of one reason."""
    return Answer(status, outcome(issue(code, text, place)))


@dataclass(frozen=True, slots=True)
class _Page:
    """Records in the order asked for, and whether there are more on either side."""

    records: Sequence[Stored]
    before: bool
    behind: bool


def page_of(search: Search, found: Sequence[Stored]) -> _Page:
    """What a search for one more than the page holds has brought; backward it came in the other order."""
    more = len(found) > search.count
    records = found[: search.count]
    if search.backward:
        return _Page(records[::-1], more, bool(records))
    return _Page(records, search.after is not None and bool(records), more)


def bundle(url: str, search: Search, page: _Page, up_to: int | None, total: int | None) -> dict[str, Any]:
    """The searchset; links keep the parameters, and the log as it was at the first page (``up_to``)."""
    links = _links(url, search, page, up_to)
    entries = [
        {"fullUrl": f"{url}/{stored.number}", "resource": resource_of(stored), "search": {"mode": "match"}}
        for stored in page.records
    ]
    if search.ignored:
        told = (issue("not-supported", "is ignored", f"http.{name}", severity="warning") for name in search.ignored)
        entries.append({"resource": outcome(*told), "search": {"mode": "outcome"}})
    found: dict[str, Any] = {"resourceType": "Bundle", "type": "searchset"}
    if total is not None:
        found["total"] = total
    found["link"] = links
    return {**found, "entry": entries} if entries else found


def _links(url: str, search: Search, page: _Page, up_to: int | None) -> list[dict[str, str]]:
    kept = [(name, value) for name, value in search.pairs if name not in PLACES]

    def link(relation: str, pairs: Sequence[tuple[str, str]]) -> dict[str, str]:
        return {"relation": relation, "url": f"{url}?{urlencode(pairs)}"}

    links = [link("self", search.pairs)]
    if search.count == 0:
        return links
    links.append(link("first", kept))
    if page.before:
        links.append(link("previous", [*kept, ("_back", print_cursor(page.records[0].cursor, up_to))]))
    if page.behind:
        links.append(link("next", [*kept, ("_after", print_cursor(page.records[-1].cursor, up_to))]))
    return links
