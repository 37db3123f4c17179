"""The search of ITI-81 as parameters of FHIR, parsed into ``Criteria`` (RESTful ATNA; FHIR R4 Search). Pure.

===================  ======================================  =============================================
parameter            value                                   compared with
===================  ======================================  =============================================
date (required)      [eq ge gt sa le lt eb] date or dateTime EventDateTime; without zone: UTC; repeat to bound both ends
patient.identifier   value, system|value or CX               ParticipantObjectID of patients
agent, user          value or system|value                   UserID, UserName
type, subtype        code or system|code                     EventID, EventTypeCode
outcome, action      0 4 8 12, C R U D E                     EventOutcomeIndicator, EventActionCode
entity-id            value or system|value                   ParticipantObjectID of any object
source               value or system|value                   AuditSourceID
_count, _sort        1…, date or -date (default)
_after               from a next link
_format              json
===================  ======================================  =============================================

Commas mean "or". Anything else is refused and named: a filter that is overlooked shows more than was asked for.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from atna.record_repository.fhir import code_system
from atna.record_repository.indexing import Patient, microseconds, parse_patient
from atna.record_repository.store.protocol import Criteria, Cursor

__all__ = ["ParameterError", "Search", "parse_search", "print_cursor"]

DEFAULT_COUNT: Final = 100


class ParameterError(ValueError):
    """``parameter`` is at fault; the text says what is allowed and never repeats the value."""

    def __init__(self, parameter: str, text: str) -> None:
        super().__init__(f"{parameter}: {text}")
        self.parameter = parameter


@dataclass(frozen=True, slots=True)
class Search:
    """What to look for, and which page of it."""

    criteria: Criteria
    count: int
    oldest_first: bool = False
    after: Cursor | None = None


def parse_search(pairs: Iterable[tuple[str, str]], *, max_count: int) -> Search:
    """Parse decoded (name, value) pairs; raises ParameterError. ``_count`` above ``max_count`` is cut to it."""
    search = Search(Criteria(), min(DEFAULT_COUNT, max_count))
    seen: set[str] = set()
    for name, value in pairs:
        parse = _PARAMETERS.get(name)
        if parse is None:
            raise ParameterError(name, f"not supported; known are {', '.join(_PARAMETERS)}")
        if name in seen and name != "date":
            raise ParameterError(name, "may be given once; separate alternatives by commas")
        seen.add(name)
        if not value.strip():
            raise ParameterError(name, "has no value")
        search = parse(search, name, value.strip())
    if "date" not in seen:
        raise ParameterError("date", "is required, e.g. date=ge2026-01-01&date=lt2026-02-01")
    return replace(search, count=min(search.count, max_count))


def print_cursor(cursor: Cursor) -> str:
    """The value of ``_after`` that continues behind this place."""
    return f"{cursor.event_at}.{cursor.sha256.hex()}"


def _criteria(search: Search, **changes: object) -> Search:
    return replace(search, criteria=replace(search.criteria, **changes))  # type: ignore[arg-type]


_DATE: Final = re.compile(
    r"(?P<prefix>[a-z]{2})?(?P<year>\d{4})(?:-(?P<month>\d\d)(?:-(?P<day>\d\d)"
    r"(?P<time>T\d\d:\d\d(?P<second>:\d\d(?P<fraction>\.\d{1,6})?)?(?:Z|[+ -]\d\d:\d\d)?)?)?)?"
)


def _date(search: Search, name: str, value: str) -> Search:
    found = _DATE.fullmatch(value)
    if found is None:
        raise ParameterError(name, "should be a date or dateTime, with a prefix or none: ge2026-01-31")
    try:
        low, high = _period(found)
    except (ValueError, OverflowError) as error:
        raise ParameterError(name, "there is no such day or time") from error
    bounds = {
        "eq": (low, high), "ge": (low, None), "gt": (high, None), "sa": (high, None),
        "le": (None, high), "lt": (None, low), "eb": (None, low),
    }  # fmt: skip
    prefix = found["prefix"] or "eq"
    if prefix not in bounds:
        raise ParameterError(name, f"the prefixes are {', '.join(bounds)}")
    since, before = bounds[prefix]
    known = search.criteria
    return _criteria(
        search,
        since=since if known.since is None else max(known.since, since if since is not None else known.since),
        before=before if known.before is None else min(known.before, before if before is not None else known.before),
    )


def _period(found: re.Match[str]) -> tuple[int, int]:
    """First microsecond of the time that was written, and first one after it."""
    start = datetime(int(found["year"]), int(found["month"] or 1), int(found["day"] or 1), tzinfo=UTC)
    if found["time"] is not None:
        # In a query string "+" means a blank; a zone written with it arrives as one.
        text = found[0].removeprefix(found["prefix"] or "").replace(" ", "+")
        low = microseconds(text)
        if low is None:
            raise ValueError("no such time")
        digits = len(found["fraction"] or ".") - 1
        width = 60_000_000 if found["second"] is None else 10 ** (6 - digits)
        return low, low + width
    if found["day"] is not None:
        end = start + timedelta(days=1)
    elif found["month"] is not None:
        end = start.replace(year=start.year + start.month // 12, month=start.month % 12 + 1)
    else:
        end = start.replace(year=start.year + 1)
    return microseconds(start.isoformat()) or 0, microseconds(end.isoformat()) or 0


def _split(text: str, separator: str) -> list[str]:
    """Parts between separators that no backslash precedes, still escaped (FHIR R4 Search: 3.1.1.5.1.2)."""
    parts, start = [], 0
    for found in re.finditer(r"\\.|[,|]", text, re.DOTALL):
        if found[0] == separator:
            parts.append(text[start : found.start()])
            start = found.end()
    return [*parts, text[start:]]


def _plain(text: str) -> str:
    return re.sub(r"\\([\\,|$])", r"\1", text).strip()


def _tokens(value: str) -> list[tuple[str | None, str]]:
    """(system, value) of each alternative; ``None`` where no system was written, "" where none is meant."""
    tokens = []
    for alternative in _split(value, ","):
        *systems, last = _split(alternative, "|")
        if _plain(last):
            tokens.append((_plain("|".join(systems)) if systems else None, _plain(last)))
    return tokens


def _values(value: str) -> tuple[str, ...]:
    """The values alone: identifiers in audit records have no system of their own."""
    return tuple(text for _system, text in _tokens(value))


def _patient(search: Search, _name: str, value: str) -> Search:
    return _criteria(search, patients=tuple(_one_patient(*token) for token in _tokens(value)))


def _one_patient(system: str | None, text: str) -> Patient:
    if "^" in text:
        return parse_patient(text)
    return Patient(text, (system or "").removeprefix("urn:oid:") or None)


def _user(search: Search, _name: str, value: str) -> Search:
    return _criteria(search, users=_values(value))


def _object(search: Search, _name: str, value: str) -> Search:
    # An id may hold a bar of its own, so the text is looked for as it stands, too.
    texts = (_plain(text) for text in _split(value, ","))
    return _criteria(search, objects=tuple(dict.fromkeys([*texts, *_values(value)])))


def _origin(search: Search, _name: str, value: str) -> Search:
    return _criteria(search, sources=_values(value))


def _codes(value: str) -> tuple[tuple[str, str | None], ...]:
    return tuple((code, code_system(system) if system is not None else None) for system, code in _tokens(value))


def _type(search: Search, _name: str, value: str) -> Search:
    return _criteria(search, events=_codes(value))


def _subtype(search: Search, _name: str, value: str) -> Search:
    return _criteria(search, types=_codes(value))


def _outcome(search: Search, name: str, value: str) -> Search:
    values = _values(value)
    if not set(values) <= {"0", "4", "8", "12"}:
        raise ParameterError(name, "should be 0, 4, 8 or 12")
    return _criteria(search, outcomes=tuple(int(text) for text in values))


def _action(search: Search, name: str, value: str) -> Search:
    values = _values(value)
    if not set(values) <= set("CRUDE"):
        raise ParameterError(name, "should be C, R, U, D or E")
    return _criteria(search, actions=values)


def _count(search: Search, name: str, value: str) -> Search:
    if not re.fullmatch(r"[1-9][0-9]{0,8}", value):
        raise ParameterError(name, "should be a number from 1")
    return replace(search, count=int(value))


def _sort(search: Search, name: str, value: str) -> Search:
    if value not in {"date", "-date"}:
        raise ParameterError(name, "should be date or -date")
    return replace(search, oldest_first=value == "date")


def _after(search: Search, name: str, value: str) -> Search:
    found = re.fullmatch(r"([0-9]{1,18})\.([0-9a-f]{64})", value)
    if found is None:
        raise ParameterError(name, "comes from a next link, unchanged")
    return replace(search, after=Cursor(int(found[1]), bytes.fromhex(found[2])))


def _format(search: Search, name: str, value: str) -> Search:
    if value.partition(";")[0] not in {"json", "application/json", "application/fhir json", "application/fhir+json"}:
        raise ParameterError(name, "should be json")
    return search


_PARAMETERS: Final = {
    "date": _date,
    "patient.identifier": _patient,
    "agent": _user,
    "user": _user,
    "type": _type,
    "subtype": _subtype,
    "outcome": _outcome,
    "action": _action,
    "entity-id": _object,
    "source": _origin,
    "_count": _count,
    "_sort": _sort,
    "_after": _after,
    "_format": _format,
}
