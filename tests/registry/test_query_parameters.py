"""How parameters of a stored query are coded (ITI TF-2: 3.18.4.1.2.3.5)."""

import pytest

from ihe import vocabulary as v
from ihe.datatypes import CX
from ihe.metadata import AvailabilityStatus, Code, EntryType
from registry import query_parameters as q


@pytest.mark.parametrize(
    ("texts", "values"),
    [
        (["('a')"], ("a",)),
        (["('a','b')"], ("a", "b")),
        ([" ( 'a' , 'b' ) "], ("a", "b")),
        (["('a')", "('b','c')"], ("a", "b", "c")),
        (["('it''s','a, (b)')"], ("it's", "a, (b)")),
        (["('a','a')"], ("a",)),
    ],
)
def test_lists(texts: list[str], values: tuple[str, ...]) -> None:
    assert q.many_texts(texts, False) == q.Reading(values)


@pytest.mark.parametrize("text", ["'a'", "a", "('a' 'b')", "()", "('')", "('a',)", "('a", "(a)", "('a''b)", ""])
def test_lists_that_are_refused_when_strict(text: str) -> None:
    with pytest.raises(q.BadValueError):
        q.many_texts([text], False)


@pytest.mark.parametrize(
    ("text", "values"), [("'a'", ("a",)), ("a", ("a",)), ("(a,b)", ("a", "b")), ("'a','b'", ("a", "b"))]
)
def test_lists_whose_meaning_is_plain_are_taken_when_lenient(text: str, values: tuple[str, ...]) -> None:
    assert q.many_texts([text], True) == q.Reading(values, sloppy=True)


@pytest.mark.parametrize("text", ['("a")', '"a"', "(\u2018a\u2019)", "\u201ca\u201d", "(`a`)"])
@pytest.mark.parametrize("lenient", [True, False])
def test_a_value_in_other_quotes_is_never_taken_with_them(text: str, lenient: bool) -> None:
    for read in (q.many_texts, q.one_text):
        with pytest.raises(q.BadValueError, match=r"single quotes|as a list"):
            read([text], lenient)
    assert q.many_texts([f"('{text}')"], False).values == (text,)
    assert q.many_texts(["(O\u2019Brien)"], True).values == ("O\u2019Brien",)


def test_one_text() -> None:
    assert q.one_text(["'it''s'"], False).values == ("it's",)
    assert q.one_text(["bare"], True) == q.Reading(("bare",), sloppy=True)
    with pytest.raises(q.BadValueError):
        q.one_text(["bare"], False)
    for several in (["('a','b')"], ["'a'", "'b'"]):
        with pytest.raises(q.TooManyError):
            q.one_text(several, False)


def test_codes_need_their_scheme() -> None:
    assert q.codes(["('11502-2^^2.16.840.1.113883.6.1')"], False).values == (Code("11502-2", "2.16.840.1.113883.6.1"),)
    for bad in ("('11502-2')", "('11502-2^x^2.16')", "('^^2.16')", "('11502-2^^')"):
        with pytest.raises(q.BadValueError):
            q.codes([bad], False)


def test_statuses_that_are_not_understood_are_left_out() -> None:
    approved = AvailabilityStatus.APPROVED
    assert q.statuses([f"('{approved}','urn:other')"], False).values == (approved,)
    assert q.statuses([f"('{approved.lower()}')"], False).values == ()


@pytest.mark.parametrize(
    ("text", "instant"),
    [("2004", "20040101000000"), ("'200402'", "20040201000000"), ("20040229235959", "20040229235959")],
)
def test_times_become_their_first_instant(text: str, instant: str) -> None:
    assert q.time([text], False).values == (instant,)


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("20040229120000+0200", "20040229100000"),
        ("'20040229120000.5'", "20040229120000"),
        ("20040229+0100", "20040229000000"),
    ],
)
def test_a_zone_is_read_when_lenient_alone(text: str, instant: str) -> None:
    assert q.time([text], True) == q.Reading((instant,), sloppy=True)
    with pytest.raises(q.BadValueError):
        q.time([text], False)


@pytest.mark.parametrize("text", ["20040230", "yesterday", "", "'2004", "20041"])
def test_times_that_are_none(text: str) -> None:
    with pytest.raises(q.BadValueError):
        q.time([text], False)


def test_numbers_and_patients() -> None:
    assert q.metadata_level(["2"], False).values == q.metadata_level(["'2'"], False).values == ("2",)
    for bad in ("0", "3", "02", "two", ""):
        with pytest.raises(q.BadValueError):
            q.metadata_level([bad], False)
    assert q.patient(["'91^^^&1.2.3&ISO'"], False).values == (CX("91", "1.2.3"),)
    several = "('91^^^&1.2.3&ISO', '92^^^&1.2.3&ISO','91^^^&1.2.3&ISO^')"
    assert q.many_patients([several], False).values == (CX("91", "1.2.3"), CX("92", "1.2.3"))
    with pytest.raises(q.BadValueError):
        q.many_patients(["('91^^^&1.2.3&ISO','92')"], False)
    for bad in ("'91'", "'91^^^1.2.3'"):
        with pytest.raises(q.BadValueError):
            q.patient([bad], False)


def test_no_reason_repeats_the_value() -> None:
    for read in (q.one_text, q.many_texts, q.codes, q.time, q.metadata_level, q.patient):
        with pytest.raises(q.BadValueError) as refused:
            read(["SECRET)("], False)
        assert "SECRET" not in str(refused.value)


def test_oids_are_asked_for_as_they_are_registered() -> None:
    assert q.codes(["('a^^urn:oid:1.2.3')"], False).values == (Code("a", "1.2.3"),)
    assert q.one_oid(["' urn:oid:1.2.3 '"], False).values == ("1.2.3",)
    assert q.many_oids(["('urn:oid:1.2.3','1.2.4')"], False).values == ("1.2.3", "1.2.4")
    assert q.one_identifier(["' 1.2.3^A '"], False).values == ("1.2.3^A",)
    assert q.many_identifiers(["(' urn:oid:1.2.3 ')"], False).values == ("urn:oid:1.2.3",)


def test_entry_types_in_capitals_are_types() -> None:
    (on_demand,) = q.entry_types([f"('{EntryType.ON_DEMAND.value.upper()}')"], False).values
    assert on_demand is EntryType.ON_DEMAND


def test_patterns_have_bounds() -> None:
    many = "(" + ",".join(f"'{number}%'" for number in range(101)) + ")"
    for read, text in (
        (q.many_patterns, many),
        (q.many_patterns, f"('{'%a' * 129}')"),
        (q.one_pattern, f"'{'%' * 257}'"),
    ):
        with pytest.raises(q.BadValueError):
            read([text], False)
    assert q.one_pattern([f"'{'%' * 256}'"], False).values == ("%" * 256,)


@pytest.mark.parametrize("lenient", [True, False])
def test_what_is_between_two_values_is_a_comma(lenient: bool) -> None:
    for text in ("('a'x'b')", "('a';'b')", "('a'.)"):
        with pytest.raises(q.BadValueError):
            q.many_texts([text], lenient)


def test_a_slot_without_a_value_and_an_empty_value_are_refused() -> None:
    for read, texts in (
        (q.many_texts, []),
        (q.one_text, []),
        (q.one_text, ["' '"]),
        (q.time, []),
        (q.time, ["()"]),
        (q.time, ["('')"]),
        (q.metadata_level, []),
        (q.metadata_level, ["()"]),
    ):
        with pytest.raises(q.BadValueError) as refused:
            read(texts, False)
        assert not isinstance(refused.value, q.TooManyError)


def test_times_and_numbers_stand_alone() -> None:
    for read, texts in (
        (q.time, ["2024", "2025"]),
        (q.time, ["('2024')"]),
        (q.time, [" ('2024','2025') "]),
        (q.metadata_level, ["1", "2"]),
        (q.metadata_level, ["(1,2)"]),
    ):
        for lenient in (True, False):
            with pytest.raises(q.TooManyError):
                read(texts, lenient)


def test_a_list_of_one_is_one_text() -> None:
    for lenient in (True, False):
        assert q.one_text(["('a')"], lenient) == q.Reading(("a",), sloppy=True)
    with pytest.raises(q.TooManyError):
        q.one_text(["('a','b')"], True)


def test_blanks_within_the_quotes_are_no_part_of_a_word():
    """Nor are they where it is registered: a query with them would find nothing and say nothing."""
    assert q.codes(["(' a ^^ 1.2.3 ')"], False).values == (Code("a", "1.2.3"),)
    assert q.association_types([f"(' {v.APND} ','{v.RPLC}')"], False).values == (v.APND, v.RPLC)
    assert q.availabilities([f"(' {v.AVAILABLE_OFFLINE}')"], False).values == (v.AVAILABLE_OFFLINE,)
    assert q.statuses([f"('{v.APPROVED} ')"], False).values == (AvailabilityStatus.APPROVED,)


@pytest.mark.parametrize("bad", ["(' ^^1.2.3')", "('a^^ ')", "('a^x^1.2')"])
def test_blanks_alone_are_no_code(bad):
    with pytest.raises(q.BadValueError):
        q.codes([bad], False)
