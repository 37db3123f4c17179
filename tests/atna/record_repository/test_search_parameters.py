"""Parameters of ITI-81 (FHIR R4 Search), one by one."""

from datetime import UTC, datetime

import pytest

from atna.record_repository.indexing import Patient
from atna.record_repository.search_parameters import ParameterError, parse_search, print_cursor
from atna.record_repository.store.protocol import Cursor

DAY = ("date", "2026-03-01")


def at(*parts):
    return int(datetime(*parts, tzinfo=UTC).timestamp()) * 1_000_000


def criteria(*pairs):
    return parse_search([DAY, *pairs], max_count=1000).criteria


@pytest.mark.parametrize(
    ("value", "since", "before"),
    [
        ("2026", at(2026, 1, 1), at(2027, 1, 1)),
        ("2026-12", at(2026, 12, 1), at(2027, 1, 1)),
        ("2024-02", at(2024, 2, 1), at(2024, 3, 1)),
        ("2026-03-01", at(2026, 3, 1), at(2026, 3, 2)),
        ("eq2026-03-01", at(2026, 3, 1), at(2026, 3, 2)),
        ("2026-03-01T10:00Z", at(2026, 3, 1, 10), at(2026, 3, 1, 10, 1)),
        ("2026-03-01T10:00:00Z", at(2026, 3, 1, 10), at(2026, 3, 1, 10, 0, 1)),
        ("2026-03-01T10:00:00.25Z", at(2026, 3, 1, 10) + 250_000, at(2026, 3, 1, 10) + 260_000),
        ("2026-03-01T10:00:00.000001Z", at(2026, 3, 1, 10) + 1, at(2026, 3, 1, 10) + 2),
        ("2026-03-01T10:00:00+02:00", at(2026, 3, 1, 8), at(2026, 3, 1, 8, 0, 1)),
        ("2026-03-01T10:00:00 02:00", at(2026, 3, 1, 8), at(2026, 3, 1, 8, 0, 1)),
        ("2026-03-01T10:00:00", at(2026, 3, 1, 10), at(2026, 3, 1, 10, 0, 1)),
        ("ge2026-03-01", at(2026, 3, 1), None),
        ("gt2026-03-01", at(2026, 3, 2), None),
        ("sa2026-03-01", at(2026, 3, 2), None),
        ("le2026-03-01", None, at(2026, 3, 2)),
        ("lt2026-03-01", None, at(2026, 3, 1)),
        ("eb2026-03-01", None, at(2026, 3, 1)),
    ],
)
def test_dates_with_their_precision_and_prefix(value, since, before):
    found = parse_search([("date", value)], max_count=10).criteria
    assert (found.since, found.before) == (since, before)


def test_two_dates_bound_an_interval():
    found = parse_search([("date", "ge2026-03-01"), ("date", "lt2026-03-05"), ("date", "gt2026-03-01")], max_count=10)
    assert (found.criteria.since, found.criteria.before) == (at(2026, 3, 2), at(2026, 3, 5))


def test_a_patient_in_every_spelling():
    assert criteria(("patient.identifier", "p1")).patients == (Patient("p1", None),)
    assert criteria(("patient.identifier", "urn:oid:1.2|p1")).patients == (Patient("p1", "1.2"),)
    assert criteria(("patient.identifier", "1.2|p1")).patients == (Patient("p1", "1.2"),)
    assert criteria(("patient.identifier", "|p1")).patients == (Patient("p1", None),)
    assert criteria(("patient.identifier", "p1^^^&1.2&ISO")).patients == (Patient("p1", "1.2"),)
    assert criteria(("patient.identifier", "p1^^^NS&1.2&ISO,p2")).patients == (
        Patient("p1", "1.2"),
        Patient("p2", None),
    )


def test_codes_with_and_without_system():
    assert criteria(("type", "110112")).events == (("110112", None),)
    dcm = "http://dicom.nema.org/resources/ontology/DCM"
    assert criteria(("type", f"{dcm}|110112,110107")).events == (("110112", "DCM"), ("110107", None))
    assert criteria(("subtype", "urn:ihe:event-type-code|ITI-18")).types == (("ITI-18", "IHE Transactions"),)


def test_the_other_filters():
    assert criteria(("agent", "a")).users == criteria(("user", "x|a")).users == ("a",)
    assert criteria(("user", "CN=a\\,O=b")).users == ("CN=a,O=b",)
    assert criteria(("user", r"a\\b,c\|d")).users == (r"a\b", "c|d")
    assert criteria(("outcome", "8,12")).outcomes == (8, 12)
    assert criteria(("action", "C,R")).actions == ("C", "R")
    assert criteria(("source", "s")).sources == ("s",)
    assert criteria(("entity-id", "1.2.3")).objects == ("1.2.3",)
    assert criteria(("entity-id", "urn:x|1.2.3")).objects == ("urn:x|1.2.3", "1.2.3")


def test_count_is_bounded_and_pages_continue():
    assert parse_search([DAY], max_count=50).count == 50
    assert parse_search([DAY, ("_count", "7")], max_count=50).count == 7
    assert parse_search([DAY, ("_count", "700")], max_count=50).count == 50
    place = Cursor(5, bytes(range(32)))
    search = parse_search([DAY, ("_sort", "date"), ("_after", print_cursor(place)), ("_format", "json")], max_count=50)
    assert (search.after, search.oldest_first) == (place, True)


@pytest.mark.parametrize(
    ("parameter", "pairs"),
    [
        ("date", []),
        ("date", [("date", "")]),
        ("date", [("date", "yesterday")]),
        ("date", [("date", "2026-13")]),
        ("date", [("date", "2026-02-30")]),
        ("date", [("date", "ge9999")]),
        ("date", [("date", "2026-02-01T25:00Z")]),
        ("date", [("date", "ne2026")]),
        ("date", [("date", "2026,2027")]),
        ("outcome", [DAY, ("outcome", "1")]),
        ("action", [DAY, ("action", "X")]),
        ("_count", [DAY, ("_count", "0")]),
        ("_count", [DAY, ("_count", "x")]),
        ("_sort", [DAY, ("_sort", "type")]),
        ("_after", [DAY, ("_after", "1.ff")]),
        ("_format", [DAY, ("_format", "xml")]),
        ("type", [DAY, ("type", "1"), ("type", "2")]),
        ("user", [DAY, ("user", " ")]),
        ("_include", [DAY, ("_include", "x")]),
        ("patient", [DAY, ("patient", "x")]),
    ],
)
def test_the_parameter_at_fault_is_named(parameter, pairs):
    with pytest.raises(ParameterError) as refused:
        parse_search(pairs, max_count=10)
    assert refused.value.parameter == parameter
    assert str(refused.value).startswith(f"{parameter}: ")
