"""Parameters of ITI-81 (FHIR R4 Search), one by one."""

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atna.record_repository.indexing import Patient
from atna.record_repository.search_parameters import (
    PARAMETERS,
    RESULT_PARAMETERS,
    ParameterError,
    parse_search,
    print_cursor,
)
from atna.record_repository.store.protocol import Criteria, Cursor

DAY = ("date", "2026-03-01")
DCM = "http://dicom.nema.org/resources/ontology/DCM"
ENTITY_TYPE = "http://terminology.hl7.org/CodeSystem/audit-entity-type"


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
        ("2026-03-01T10:00:00.2500000Z", at(2026, 3, 1, 10) + 250_000, at(2026, 3, 1, 10) + 250_001),
        ("ge2026-03-01T10:00:00.250000999+00:00", at(2026, 3, 1, 10) + 250_000, None),
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


@pytest.mark.parametrize("value", ["9999", "9999-12", "9999-12-31"])
def test_the_last_year_has_an_end(value):
    end = at(9999, 12, 31) + 3 * 86_400_000_000  # a time of 9999 west of Greenwich is in it
    for prefix, since, before in (("le", None, end), ("lt", None, at(9999, *_first(value))), ("gt", end, None)):
        found = parse_search([("date", prefix + value)], max_count=10).criteria
        assert (found.since, found.before) == (since, before)


def _first(value):
    return {"9999": (1, 1), "9999-12": (12, 1), "9999-12-31": (12, 31)}[value]


def test_two_dates_bound_an_interval():
    found = parse_search([("date", "ge2026-03-01"), ("date", "lt2026-03-05"), ("date", "gt2026-03-01")], max_count=10)
    assert (found.criteria.since, found.criteria.before) == (at(2026, 3, 2), at(2026, 3, 5))


def test_a_patient_in_every_spelling():
    assert criteria(("patient.identifier", "p1")).patients == (Patient("p1", None),)
    assert criteria(("patient.identifier", "urn:oid:1.2|p1")).patients == (Patient("p1", "1.2"),)
    assert criteria(("patient.identifier", "1.2|p1")).patients == (Patient("p1", "1.2"),)
    assert criteria(("patient.identifier", "|p1")).patients == (Patient("p1", ""),)
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
    assert criteria(("agent", "a")).users == criteria(("user", "a")).users == ("a",)
    assert criteria(("user", "HOSPITAL|LAB")).users == ("HOSPITAL|LAB", "LAB")
    assert criteria(("user", "CN=a\\,O=b")).users == ("CN=a,O=b",)
    assert criteria(("user", r"a\\b,c\|d")).users == (r"a\b", "c|d")
    assert criteria(("outcome", "8,12")).outcomes == (8, 12)
    assert criteria(("action", "C,R")).actions == ("C", "R")
    assert criteria(("source", "s")).sources == ("s",)
    assert criteria(("entity-id", "1.2.3")).objects == ("1.2.3", Patient("1.2.3", None))
    assert criteria(("entity-id", "urn:x|1.2.3")).objects == ("urn:x|1.2.3", "1.2.3", Patient("1.2.3", "urn:x"))
    assert criteria(("agent-name", "Web,An")).agent_names == ("Web", "An")
    assert criteria(("address", "10.0.")).addresses == ("10.0.",)
    assert criteria(("altid", "4711")).alternative_ids == ("4711",)
    assert criteria(("site", "s|t")).sites == ("s|t", "t")
    assert criteria(("policy", "urn:uuid:1")).policies == ("urn:uuid:1",)
    assert criteria(("agent-role", f"{DCM}|110153,physician")).roles == (("110153", "DCM"), ("physician", None))
    assert criteria(("purpose", "BTG,|EMERGENCY")).purposes == (("BTG", None), ("EMERGENCY", ""))
    assert criteria(("entity-type", f"{ENTITY_TYPE}|2")).entity_types == (2,)
    assert criteria(("entity-role", "1,24")).entity_roles == (1, 24)
    assert criteria(("entity-name", "Blood")).entity_names == ("Blood",)
    assert criteria(("outcome", "http://hl7.org/fhir/audit-event-outcome|4")).outcomes == (4,)
    assert criteria(("action", "http://terminology.hl7.org/CodeSystem/audit-event-action|C")).actions == ("C",)
    assert (
        criteria(("patient", "17")).patients
        == criteria(("patient", "Patient/17")).patients
        == (Patient("Patient/17", None),)
    )
    assert criteria(("_id", "5,6")).numbers == (5, 6)


@pytest.mark.parametrize("name", ["patient", "agent", "entity", "source"])
def test_references_by_identifier_in_both_spellings(name):
    old = {"patient": "patient.identifier", "agent": "user", "entity": "entity-id", "source": "source"}[name]
    wanted = criteria((old, "urn:oid:1.2|x"))
    assert (
        criteria((f"{name}.identifier", "urn:oid:1.2|x")) == criteria((f"{name}:identifier", "urn:oid:1.2|x")) == wanted
    )


def test_a_parameter_again_means_and():
    found = criteria(("user", "a,b"), ("outcome", "8"), ("user", "c"), ("agent", "d"))
    assert (found.users, found.outcomes) == (("a", "b"), (8,))
    assert [one.users for one in found.further] == [("c",), ("d",)]


def test_what_is_unknown_is_ignored_where_that_is_asked_for():
    pairs = [DAY, ("user", "a"), ("who", "x"), ("type:not", "1"), ("_include", "y")]
    search = parse_search(pairs, max_count=10, lenient=True)
    assert search.ignored == ("who", "type:not", "_include")
    assert search.pairs == (DAY, ("user", "a"))
    with pytest.raises(ParameterError):
        parse_search([*pairs, ("outcome", "x")], max_count=10, lenient=True)


@pytest.mark.parametrize(
    ("pairs", "count", "total"),
    [
        ([], 100, False),
        ([("_count", "0")], 0, True),
        ([("_summary", "count"), ("_count", "5")], 0, True),
        ([("_count", "5"), ("_summary", "count")], 0, True),
        ([("_summary", "false"), ("_total", "none")], 100, False),
        ([("_total", "accurate"), ("_count", "3")], 3, True),
        ([("_total", "estimate")], 100, True),
    ],
)
def test_how_much_is_asked_for(pairs, count, total):
    search = parse_search([DAY, *pairs], max_count=1000)
    assert (search.count, search.total) == (count, total)


def test_count_is_bounded_and_pages_continue():
    assert parse_search([DAY], max_count=50).count == 50
    assert parse_search([DAY, ("_count", "7")], max_count=50).count == 7
    assert parse_search([DAY, ("_count", "700")], max_count=50).count == 50
    place = Cursor(5, bytes(range(32)))
    search = parse_search([DAY, ("_sort", "date"), ("_after", print_cursor(place)), ("_format", "json")], max_count=50)
    assert (search.after, search.oldest_first, search.backward) == (place, True, False)
    search = parse_search([DAY, ("_back", print_cursor(place, 77))], max_count=50)
    assert (search.after, search.criteria.up_to, search.backward) == (place, 77, True)


NAMES = st.sampled_from([*PARAMETERS, *RESULT_PARAMETERS, "x", "date:not"])
VALUES = st.text(max_size=30) | st.text("0123456789-:.TZ+|,\\ abeglt^&", max_size=30)


@settings(max_examples=500, deadline=None)
@given(st.lists(st.tuples(NAMES, VALUES), max_size=5), st.booleans())
def test_no_search_does_worse_than_be_refused(pairs, lenient):
    try:
        search = parse_search([DAY, *pairs], max_count=50, lenient=lenient)
    except ParameterError:
        return
    assert 0 <= search.count <= 50
    # Every filter that was understood is one: none is dropped because nothing was left of its value.
    filters = [name for name, _value in search.pairs if name in PARAMETERS and name != "date"]
    one = Criteria(since=search.criteria.since, before=search.criteria.before, up_to=search.criteria.up_to)
    assert (search.criteria == one) == (not filters)


@pytest.mark.parametrize(
    ("parameter", "pairs"),
    [
        ("date", []),
        ("date", [("date", "")]),
        ("date", [("date", "yesterday")]),
        ("date", [("date", "2026-13")]),
        ("date", [("date", "2026-02-30")]),
        ("date", [("date", "ge0000")]),
        ("date", [("date", "2026-02-01T25:00Z")]),
        ("date", [("date", "ne2026")]),
        ("date", [("date", "2026,2027")]),
        ("outcome", [DAY, ("outcome", "1")]),
        ("action", [DAY, ("action", "X")]),
        ("_count", [DAY, ("_count", "-1")]),
        ("_count", [DAY, ("_count", "x")]),
        ("_sort", [DAY, ("_sort", "type")]),
        ("_after", [DAY, ("_after", "1.ff")]),
        ("_count", [DAY, ("_count", "5"), ("_count", "6")]),
        ("_summary", [DAY, ("_summary", "true")]),
        ("_total", [DAY, ("_total", "some")]),
        ("_back", [DAY, ("_back", "nowhere")]),
        ("_back", [DAY, ("_after", f"1.{'0' * 64}"), ("_back", f"1.{'0' * 64}")]),
        ("type", [DAY, ("type", "http://dicom.nema.org/resources/ontology/DCM|")]),
        ("type", [DAY, ("type", "1,,2")]),
        ("address", [DAY, ("address", "a,")]),
        ("entity-role", [DAY, ("entity-role", "patient")]),
        ("entity-type", [DAY, ("entity-type", "0")]),
        ("outcome", [DAY, ("outcome", "http://example.org|8")]),
        ("_id", [DAY, ("_id", "x")]),
        ("type:not", [DAY, ("type:not", "1")]),
        ("user:contains", [DAY, ("user:contains", "1")]),
        ("patient:missing", [DAY, ("patient:missing", "true")]),
        ("date:above", [DAY, ("date:above", "2026")]),
        ("user", [DAY, ("user", " ")]),
        ("_include", [DAY, ("_include", "x")]),
        ("_has:Provenance:target:agent", [DAY, ("_has:Provenance:target:agent", "x")]),
    ],
)
def test_the_parameter_at_fault_is_named(parameter, pairs):
    with pytest.raises(ParameterError) as refused:
        parse_search(pairs, max_count=10)
    assert refused.value.parameter == parameter
    assert str(refused.value).startswith(f"{parameter}: ")
