"""Periods cut into spans on the clock of the zone, and their counts as bars."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from atna.record_repository.page.languages import Texts
from atna.record_repository.page.timeline import HEIGHT, MAX_SPANS, cut, timeline
from atna.record_repository.store.overview import Counts, Span

ZONE = ZoneInfo("Europe/Luxembourg")


def at(*parts, zone=UTC):
    return int(datetime(*parts, tzinfo=zone).timestamp()) * 1_000_000


@pytest.mark.parametrize(
    ("until", "unit", "spans"),
    [
        ((2026, 3, 1, 1), "hour", 1), ((2026, 3, 2), "hour", 24), ((2026, 3, 3), "hour", 48), ((2026, 3, 8), "day", 7),
        ((2026, 6, 1), "day", 92), ((2026, 6, 2), "month", 4), ((2031, 1, 1), "month", 58), ((2036, 1, 1), "year", 10),
        ((9998, 1, 1), "year", MAX_SPANS),
    ],
)  # fmt: skip
def test_a_period_is_cut_by_its_length(until, unit, spans):
    period = cut(at(2026, 3, 1), at(*until), UTC)
    assert (period.unit, len(period.starts)) == (unit, spans)
    assert list(period.starts) == sorted(set(period.starts))


def test_days_begin_at_midnight_of_the_zone_also_when_clocks_change():
    period = cut(at(2026, 3, 27, 10, zone=ZONE), at(2026, 3, 31, 10, zone=ZONE), ZONE)
    starts = [datetime.fromtimestamp(start / 1e6, ZONE) for start in period.starts]
    assert [(start.day, start.hour) for start in starts] == [(27, 10), (28, 0), (29, 0), (30, 0), (31, 0)]
    assert period.starts[3] - period.starts[2] == 23 * 3_600_000_000


def test_an_hour_that_comes_twice_is_two_spans():
    period = cut(at(2026, 10, 25, 0, zone=ZONE), at(2026, 10, 26, 0, zone=ZONE), ZONE)
    assert len(period.starts) == 25
    assert {after - before for before, after in zip(period.starts, period.starts[1:], strict=False)} == {3_600_000_000}


def test_months_and_years_begin_with_their_first_day():
    months = cut(at(2026, 1, 31), at(2026, 7, 1), UTC).starts
    assert [datetime.fromtimestamp(start / 1e6, UTC).day for start in months] == [31, 1, 1, 1, 1, 1]
    years = cut(at(2020, 5, 5), at(2026, 5, 6), UTC).starts
    assert [datetime.fromtimestamp(start / 1e6, UTC).year for start in years[1:]] == list(range(2021, 2027))


def test_a_period_that_has_not_begun_is_one_span():
    assert len(cut(at(2026, 3, 2), at(2026, 3, 1), UTC).starts) == 1


def test_bars_stand_on_the_ground_and_what_is_there_is_seen():
    period = cut(at(2026, 3, 1), at(2026, 3, 4), UTC)
    counts = Counts((Span(success=990, failed=10), Span(), Span(success=1, failed=1, unknown=1)), complete=False)
    shown = timeline(period, counts, Texts("en", UTC))
    assert (shown.unit, shown.highest, shown.complete) == ("day", "1,000", False)
    assert shown.bars[1].parts == ()
    for bar in (shown.bars[0], shown.bars[2]):
        bottom = HEIGHT
        for _kind, top, height in bar.parts:
            assert top + height == bottom
            assert height >= 1
            bottom = top
        assert bottom >= 0
    assert [kind for kind, _y, _height in shown.bars[2].parts] == ["failed", "unknown", "success"]
    assert (shown.bars[0].label, shown.bars[0].total) == ("1 Mar 2026", "1,000")
    assert shown.marks == ("1 Mar", "2 Mar", "3 Mar")


def test_no_record_is_no_bar():
    shown = timeline(cut(at(2026, 3, 1), at(2026, 3, 3), UTC), Counts((Span(),) * 48), Texts("en", UTC))
    assert {bar.parts for bar in shown.bars} == {()}
    assert len(shown.marks) == 3


@pytest.mark.parametrize("days", [1, 7, 90, 400, 4000])
def test_spans_cover_the_period_in_any_zone(days):
    start = datetime(2025, 2, 27, 13, 5, tzinfo=UTC)
    end = start + timedelta(days=days)
    for zone in (UTC, ZONE, ZoneInfo("America/St_Johns"), ZoneInfo("Asia/Kathmandu")):
        period = cut(int(start.timestamp()) * 10**6, int(end.timestamp()) * 10**6, zone)
        assert period.starts[0] == int(start.timestamp()) * 10**6
        assert period.starts[-1] < int(end.timestamp()) * 10**6
