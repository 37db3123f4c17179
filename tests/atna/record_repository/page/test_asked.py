"""The search form: what is read, and what is told at which field."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from atna.record_repository.indexing import Patient
from atna.record_repository.page.asked import Asked, FormError, first_asked, parse_search, read_form
from atna.record_repository.store.protocol import Criteria, Cursor

ZONE = ZoneInfo("Europe/Luxembourg")
FROM = ("from", "2026-03-01T08:00")


def microseconds(text):
    return int(datetime.fromisoformat(text).timestamp()) * 1_000_000


def searched(*pairs, zone=ZONE):
    return parse_search(read_form([FROM, *pairs]), zone)


def faults(*pairs):
    with pytest.raises(FormError) as error:
        parse_search(read_form(pairs), ZONE)
    return {fault.field: fault.key for fault in error.value.faults}


def test_a_visit_begins_with_the_last_seven_days():
    assert first_asked(datetime(2026, 3, 3, 0, 30, tzinfo=ZONE)).since == "2026-02-25T00:00"


def test_all_fields_at_once():
    found = searched(
        ("to", "2026-03-02"), ("patient", "p1^^^H&1.2.3&ISO"), ("person", " a.weber "), ("organisation", "registry@host"),
        ("event", "type:ITI-18"), ("outcome", "failed"),
    )  # fmt: skip
    assert found.criteria == Criteria(
        since=microseconds("2026-03-01T07:00Z"),
        before=microseconds("2026-03-02T23:00Z"),
        patients=(Patient("p1", "1.2.3"),),
        users=("a.weber",),
        organisations=("registry@host",),
        types=(("ITI-18", "IHE Transactions"),),
        outcomes=(4, 8, 12),
    )
    assert found.since == found.criteria.since
    assert found.after is None


@pytest.mark.parametrize(
    ("text", "patient"),
    [
        ("p1", Patient("p1", None)), ("1.2.3|p1", Patient("p1", "1.2.3")), ("urn:oid:1.2.3|p1", Patient("p1", "1.2.3")),
        ("p1^^^&1.2.3&ISO", Patient("p1", "1.2.3")), ("|p1", Patient("p1", None)),
    ],
)  # fmt: skip
def test_a_patient_is_written_in_several_ways(text, patient):
    assert searched(("patient", text)).criteria.patients == (patient,)


def test_an_event_is_a_type_or_a_kind():
    assert searched(("event", "event:110113")).criteria.events == (("110113", "DCM"),)
    assert searched(("event", "type:110126")).criteria.types == (("110126", "DCM"),)
    assert searched(("outcome", "success")).criteria.outcomes == (0,)
    assert searched(("use", "emergency")).criteria.purposes == (("BTG", None), ("EMERGENCY", None), ("ETREAT", None))


@pytest.mark.parametrize(
    ("to", "before"),
    [("2026-03-01", "2026-03-01T23:00Z"), ("2026-03-01T12:00", "2026-03-01T11:01Z"), ("2026-03-01 12:00:05", "2026-03-01T11:00:06Z")],
)  # fmt: skip
def test_the_end_is_part_of_the_period(to, before):
    assert searched(("to", to)).criteria.before == microseconds(before)


def test_an_hour_that_comes_twice_belongs_to_the_period_whole():
    # on 25 October 2026 the clocks of Luxembourg go from 03:00 back to 02:00
    asked = Asked(since="2026-10-25T02:00", until="2026-10-25T02:59")
    found = parse_search(asked, ZONE)
    assert found.criteria.before - found.since == 2 * 3_600_000_000


@pytest.mark.parametrize(
    ("zone", "to", "before"),
    [
        # 25 October 2026: 03:00 back to 02:00 at 01:00Z
        ("Europe/Luxembourg", "2026-10-25T01:58", "2026-10-24T23:59Z"),
        ("Europe/Luxembourg", "2026-10-25T01:59", "2026-10-25T00:00Z"),
        ("Europe/Luxembourg", "2026-10-25T02:00", "2026-10-25T01:01Z"),
        ("Europe/Luxembourg", "2026-10-25T03:00:00", "2026-10-25T02:00:01Z"),
        ("Europe/Luxembourg", "2026-10-25", "2026-10-25T23:00Z"),
        # 29 March 2026: 02:00 on to 03:00 at 01:00Z
        ("Europe/Luxembourg", "2026-03-29T01:59", "2026-03-29T01:00Z"),
        ("Europe/Luxembourg", "2026-03-29T02:00", "2026-03-29T01:00Z"),
        ("Europe/Luxembourg", "2026-03-29T02:30:15", "2026-03-29T01:00Z"),
        ("Europe/Luxembourg", "2026-03-29T02:59", "2026-03-29T01:00Z"),
        ("Europe/Luxembourg", "2026-03-29T03:00", "2026-03-29T01:01Z"),
        ("Europe/Luxembourg", "2026-03-29", "2026-03-29T22:00Z"),
        # midnight comes twice, or never
        ("Atlantic/Azores", "2026-10-24", "2026-10-25T00:00Z"),
        ("America/Sao_Paulo", "2018-02-17", "2018-02-18T03:00Z"),
        ("Asia/Beirut", "2026-03-28", "2026-03-28T22:00Z"),
        ("Africa/Monrovia", "1972-01-06", "1972-01-07T00:44:30Z"),
    ],
)
def test_the_end_where_clocks_change(zone, to, before):
    found = parse_search(Asked(since="1970-06-01", until=to), ZoneInfo(zone))
    assert found.criteria.before == microseconds(before)


@pytest.mark.parametrize(
    ("zone", "since", "first"),
    [
        ("Europe/Luxembourg", "2026-03-29T01:59", "2026-03-29T00:59Z"),
        ("Europe/Luxembourg", "2026-03-29T02:00", "2026-03-29T01:00Z"),
        ("Europe/Luxembourg", "2026-03-29T02:30", "2026-03-29T01:00Z"),
        ("Europe/Luxembourg", "2026-03-29T03:00", "2026-03-29T01:00Z"),
        ("Europe/Luxembourg", "2026-10-25T02:30", "2026-10-25T00:30Z"),
        ("Australia/Lord_Howe", "2026-10-04T02:10", "2026-10-03T15:30Z"),
        ("Asia/Beirut", "2026-03-29", "2026-03-28T22:00Z"),
    ],
)
def test_the_beginning_where_clocks_change(zone, since, first):
    assert parse_search(Asked(since=since), ZoneInfo(zone)).since == microseconds(first)


def test_what_is_wrong_is_told_at_its_field():
    assert faults() == {"from": "error.needed"}
    assert faults(("from", "yesterday"), ("to", "2026-02-30")) == {"from": "error.no_time", "to": "error.no_time"}
    assert faults(("from", "2026-03-01T25:00")) == {"from": "error.no_time"}
    assert faults(("from", "1969-12-31"), ("to", "9999-01-01")) == dict.fromkeys(("from", "to"), "error.out_of_range")
    assert faults(FROM, ("to", "2026-02-01")) == {"to": "error.turned"}
    wrong = dict.fromkeys(("event", "outcome", "use"), "error.no_choice")
    assert faults(FROM, ("event", "type:X"), ("outcome", "x"), ("use", "x")) == wrong
    long = dict.fromkeys(("patient", "person", "organisation"), "error.too_long")
    assert faults(FROM, *((name, "x" * 257) for name in long)) == long
    assert faults(FROM, *((name, "x\0y") for name in long)) == dict.fromkeys(long, "error.no_text")
    assert faults(FROM, ("after", "1.zz")) == {"": "error.place"}
    assert faults(FROM, ("after", ",".join(["1." + "0" * 64] * 501))) == {"": "error.place"}


@pytest.mark.parametrize("pairs", [[("who", "x")], [("person", "a"), ("person", "b")], [("since", "2026-01-01")]])
def test_a_field_that_is_unknown_or_comes_twice_is_refused(pairs):
    with pytest.raises(FormError) as error:
        read_form(pairs)
    assert "x" not in str(error.value).replace("unknown", "")


def test_places_lead_from_page_to_page():
    places = [f"{number}.{number:064x}" for number in (9, 5)]
    found = searched(("after", ",".join(places)))
    assert found.after == Cursor(5, (5).to_bytes(32, "big"))
    assert read_form([("after", ",".join(places))]).page == 3


def test_the_form_can_be_written_again():
    pairs = [FROM, ("to", "2026-03-02"), ("patient", "p1"), ("event", "type:ITI-8"), ("after", "1." + "0" * 64)]
    asked = read_form(pairs)
    assert asked.pairs() == pairs
    assert asked.pairs(place=False) == pairs[:-1]
    assert asked.failed_only == [*pairs[:-1], ("outcome", "failed")]
    assert asked.emergencies_only == [*pairs[:-1], ("use", "emergency")]


def test_the_first_search_of_a_visit_can_be_read():
    now = datetime(2026, 3, 3, 12, tzinfo=UTC)
    assert parse_search(first_asked(now), UTC).since == microseconds("2026-02-25T00:00Z")
