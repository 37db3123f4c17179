"""The timeline: how a period is cut into spans, and its counts as bars of a drawing. Pure.

Spans are hours up to two days, days up to a quarter of a year, months up to five years, else years: at most 93, and
each begins on the clock of the page's time zone, so that a day has 23 or 25 hours when the clocks change.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final

from atna.record_repository.page.languages import Texts, moment_of
from atna.record_repository.store.overview import Counts

__all__ = ["Bar", "Cut", "Timeline", "cut", "timeline"]

UNITS: Final = (("hour", timedelta(days=2)), ("day", timedelta(days=92)), ("month", timedelta(days=5 * 366)))
MAX_SPANS: Final = 93
FEW: Final = 8
HEIGHT: Final = 100
STEP: Final = 10
WIDTH: Final = 8
_HOUR: Final = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Cut:
    """A period in spans: ``unit`` hour, day, month or year; where each begins, microseconds since 1970."""

    unit: str
    starts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Bar:
    """One span: numbers, and where its three parts stand in the drawing (x, then y and height from the top)."""

    label: str
    success: str
    failed: str
    unknown: str
    total: str
    x: int
    parts: tuple[tuple[str, int, int], ...]


@dataclass(frozen=True, slots=True)
class Timeline:
    """The drawing, ``width`` by ``HEIGHT``, and the numbers for the table. ``marks`` label its axis."""

    unit: str
    bars: tuple[Bar, ...]
    width: int
    height: int
    bar_width: int
    highest: str
    marks: tuple[str, ...]
    complete: bool


def cut(since: int, until: int, zone: tzinfo) -> Cut:
    """Spans from ``since`` to before ``until`` (microseconds since 1970); at least one."""
    first, end = moment_of(since, zone), moment_of(max(until, since + 1), zone)
    length = end.astimezone(UTC) - first.astimezone(UTC)
    unit = next((unit for unit, longest in UNITS if length <= longest), "year")
    starts = [since]
    start = _next(first, unit, zone)
    while start < end and len(starts) < MAX_SPANS:
        starts.append(int(start.timestamp()) * 1_000_000)
        start = _next(start, unit, zone)
    return Cut(unit, tuple(starts))


def _next(moment: datetime, unit: str, zone: tzinfo) -> datetime:
    """The beginning of the span after the one this moment is in."""
    if unit == "hour":  # on the clock of the world, so that an hour that comes twice is two spans
        whole = moment.replace(minute=0, second=0, microsecond=0).astimezone(UTC)
        return (whole + _HOUR).astimezone(zone)
    day = moment.replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
    if unit == "day":
        following = day + timedelta(days=1)
    elif unit == "month":
        following = (day.replace(day=1) + timedelta(days=32)).replace(day=1)
    else:
        following = day.replace(year=day.year + 1, month=1, day=1)
    return following.replace(tzinfo=zone)


def timeline(period: Cut, counts: Counts, texts: Texts) -> Timeline:
    """The drawing of counts that were made for this period."""
    highest = max((span.total for span in counts.spans), default=0)
    labels = [texts.span(start, period.unit) for start in period.starts]
    bars = tuple(
        Bar(
            label,
            success=texts.number(span.success),
            failed=texts.number(span.failed),
            unknown=texts.number(span.unknown),
            total=texts.number(span.total),
            x=position * STEP + (STEP - WIDTH) // 2,
            parts=_parts((("failed", span.failed), ("unknown", span.unknown), ("success", span.success)), highest),
        )
        for position, (label, span) in enumerate(zip(labels, counts.spans, strict=True))
    )
    short = [texts.span(start, period.unit, short=True) for start in period.starts]
    marks = tuple(short) if len(short) <= FEW else (short[0], short[len(short) // 2], short[-1])
    return Timeline(
        *(period.unit, bars, STEP * len(bars), HEIGHT, WIDTH, texts.number(highest), marks, counts.complete)
    )


def _parts(kinds: Sequence[tuple[str, int]], highest: int) -> tuple[tuple[str, int, int], ...]:
    """(kind, y, height), the first at the bottom; what is there at all can be seen."""
    parts, top = [], HEIGHT
    for kind, number in kinds:
        if number:
            height = min(top, max(2, round(number * HEIGHT / highest)))
            top -= height
            parts.append((kind, top, height))
    return tuple(parts)
