"""The values of a search of FHIR (FHIR R4 Search: 3.1.1.5), parsed: dates with prefixes, tokens, escapes. Pure."""

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from atna.record_repository.indexing import microseconds

__all__ = ["ParameterError", "date_bounds", "texts", "tokens"]


class ParameterError(ValueError):
    """``parameter`` is at fault; the text says what is allowed and never repeats the value.

    ``code`` is FHIR's issue type: ``not-supported`` where the parameter itself is unknown or has an unknown modifier.
    """

    def __init__(self, parameter: str, text: str, code: str = "invalid") -> None:
        super().__init__(f"{parameter}: {text}")
        self.parameter = parameter
        self.code = code


_DATE: Final = re.compile(
    r"(?P<prefix>[a-z]{2})?(?P<year>\d{4})(?:-(?P<month>\d\d)(?:-(?P<day>\d\d)"
    r"(?P<time>T\d\d:\d\d(?P<second>:\d\d(?P<fraction>\.\d{1,9})?)?(?:Z|[+ -]\d\d:\d\d)?)?)?)?",
    re.ASCII,
)
# Two days into the year 10000: the last hours of 9999 in a zone west of Greenwich are in it.
_BEHIND_ALL: Final = (microseconds("9999-12-31T00:00:00Z") or 0) + 3 * 86_400_000_000


def date_bounds(name: str, value: str) -> tuple[int | None, int | None]:
    """First microsecond since 1970 that is meant, and first one that is not any more; ``None``: no bound."""
    found = _DATE.fullmatch(value)
    if found is None:
        raise ParameterError(name, "should be one date or dateTime, with a prefix or none: ge2026-01-31")
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
    return bounds[prefix]


def _period(found: re.Match[str]) -> tuple[int, int]:
    """First microsecond of the time that was written, and first one after it."""
    start = datetime(int(found["year"]), int(found["month"] or 1), int(found["day"] or 1), tzinfo=UTC)
    if found["time"] is not None:
        # In a query string "+" means a blank; a zone written with it arrives as one.
        text = found[0].removeprefix(found["prefix"] or "").replace(" ", "+")
        low = microseconds(text)
        if low is None:
            raise ValueError("no such time")
        # Some clients write more digits than we count; an AuditEvent may, too.
        digits = min(6, len(found["fraction"] or ".") - 1)
        width = 60_000_000 if found["second"] is None else 10 ** (6 - digits)
        return low, low + width
    return microseconds(start.isoformat()) or 0, _end(start, found)


def _end(start: datetime, found: re.Match[str]) -> int:
    """First microsecond after the day, month or year that begins there."""
    try:
        if found["day"] is not None:
            end = start + timedelta(days=1)
        elif found["month"] is not None:
            end = start.replace(year=start.year + start.month // 12, month=start.month % 12 + 1)
        else:
            end = start.replace(year=start.year + 1)
    except (ValueError, OverflowError):  # the year 10000: up to 9999-12-31 is how many ask for everything
        return _BEHIND_ALL
    return microseconds(end.isoformat()) or 0


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


def texts(name: str, value: str) -> tuple[str, ...]:
    """The alternatives as they stand, bars included."""
    found = [_plain(part) for part in _split(value, ",")]
    if not all(found):
        raise ParameterError(name, "an alternative between commas is empty")
    return tuple(dict.fromkeys(found))


def tokens(name: str, value: str, *, codes: bool = True) -> tuple[tuple[str | None, str], ...]:
    """(system, value) of each alternative; ``None`` where no system was written, "" where none is meant.

    ``codes``: an alternative without a value behind its last bar is refused, else left out.
    """
    found = []
    for alternative in _split(value, ","):
        *systems, last = _split(alternative, "|")
        if not _plain(last) and not codes:
            continue
        if not _plain(last):
            raise ParameterError(name, "needs a code: code, |code or system|code, alternatives separated by commas")
        found.append((_plain("|".join(systems)) if systems else None, _plain(last)))
    return tuple(dict.fromkeys(found))
