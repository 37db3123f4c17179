r"""HL7 v2 of the patient feed: character sets, identifiers, escapes, and whatever bytes a stranger may send."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ihe.hl7v2 import (
    MAX_IDENTIFIERS,
    AckCode,
    Demographics,
    ErrorCode,
    Identifier,
    ParseError,
    Problem,
    parse_acknowledgement,
    parse_feed,
    read_header,
)
from ihe.hl7v2_print import print_acknowledgement, print_feed
from tests.feed_server import adt

OID = "1.3.6.1.4.1.21367.13.20.1000"


def pid3(text, **more):
    return parse_feed(adt(pid3=text, **more)).identifiers


def test_the_header_names_both_sides():
    header = parse_feed(adt("A04", control="77")).header
    assert (header.message_type, header.event, header.control_id, header.version) == ("ADT", "A04", "77", "2.3.1")
    assert (header.sender, header.receiver) == ("HOSPITAL|ADT", "AD|XDS")


@pytest.mark.parametrize(
    ("charset", "encoding"),
    [
        ("", "utf-8"),
        ("", "iso8859-1"),
        ("ASCII", "iso8859-1"),
        ("8859/1", "iso8859-1"),
        ("8859/15", "iso8859-15"),
        ("UNICODE UTF-8", "utf-8"),
        ("unicode", "utf-8"),
        ("UTF-8", "utf-8"),
        ("WINDOWS-1252", "cp1252"),
        ("8859/1~UNICODE UTF-8", "iso8859-1"),
    ],
)
def test_names_are_read_in_the_character_set_of_msh_18(charset, encoding):
    told = parse_feed(adt(charset=charset, encoding=encoding)).demographics
    assert told == Demographics("Müller", "Änne", "19700101", "F")


def test_bytes_that_are_not_in_the_character_set_are_refused():
    with pytest.raises(ParseError) as caught:
        parse_feed(adt(charset="UNICODE UTF-8", encoding="latin-1", control="C7"))
    assert (caught.value.problem.ack, caught.value.problem.location) == (AckCode.REJECT, "MSH^1^18")
    assert caught.value.header.control_id == "C7"
    assert "ller" not in str(caught.value)


def test_an_unknown_character_set_is_refused_with_its_code():
    with pytest.raises(ParseError) as caught:
        parse_feed(adt(charset="KLINGON"))
    assert caught.value.problem.code is ErrorCode.TABLE_VALUE_NOT_FOUND


@pytest.mark.parametrize("line_end", ["\r\n", "\n", "\r\r"])
def test_other_line_ends_and_a_byte_order_mark(line_end):
    data = adt().replace(b"\r", line_end.encode())
    assert parse_feed(b"\xef\xbb\xbf" + data).identifiers == parse_feed(adt()).identifiers


def test_every_repetition_of_pid_3():
    assert pid3(f"1^^^A&{OID}&ISO^PI~2^^^&{OID}&ISO~~^^^X~3^^^HOSP~4") == (
        Identifier("1", "A", OID, "ISO", "PI"),
        Identifier("2", None, OID, "ISO"),
        Identifier("3", "HOSP"),
        Identifier("4"),
    )


def test_ids_and_names_are_unescaped():
    (identifier,) = pid3(rf"A\T\B\S\C\F\D\R\E\E\F\X20\G\H\H^^^&{OID}&ISO")
    assert identifier.id == "A&B^C|D~E\\F GH"
    assert pid3(r"50\^^^&1.2&ISO")[0].id == r"50\ ".strip()


def test_an_empty_subcomponent_behind_an_id_is_none():
    assert pid3("1&^^^&1.2.3&ISO~2&3^^^&1.2.3&ISO") == (Identifier("1", None, "1.2.3", "ISO"),)


def test_hex_escapes_count_in_the_message_s_character_set():
    assert pid3(r"\XC3BC\ ") == (Identifier("ü"),)
    assert pid3(r"\XFC\ ", charset="8859/1", encoding="latin-1") == (Identifier("ü"),)


@pytest.mark.parametrize(
    "text",
    [
        *(r"\X00\ 1", r"1\X0D\2", r"1\XFF\2", '""', "", "   ", "^^^&1.2.3&ISO", "\x7f"),
        *("1&2^^^&1.2.3&ISO", "1&&2", "&1^^^&1.2.3&ISO"),
    ],
)
def test_what_is_no_identifier_is_left_out(text):
    assert pid3(text) == ()


def test_a_second_message_in_the_same_frame_is_refused_with_the_first():
    """One acknowledgement can't tell what became of two messages."""
    with pytest.raises(ParseError) as caught:
        parse_feed(adt(control="C1") + adt("A40", control="C2"))
    assert (caught.value.problem.ack, caught.value.problem.location) == (AckCode.REJECT, "MSH^2")
    assert caught.value.header.control_id == "C1"
    assert parse_feed(adt() + b"NTE|1||x\rMSHA|1\r").identifiers == parse_feed(adt()).identifiers


def test_hl7_null_means_erase():
    data = adt().replace("Müller^Änne".encode(), b'""').replace(b"|19700101|F", b"||")
    assert parse_feed(data).demographics == Demographics("", None, None, None)


def test_other_separators():
    data = b"MSH#*%!?#S#F#R#G#2026##ADT*A01#C1#P#2.3.1\rPID###1!T!2***?1.2.3?ISO%7***X##Doe*Jo\r"
    message = parse_feed(data)
    assert message.identifiers == (Identifier("1?2", None, "1.2.3", "ISO"), Identifier("7", "X"))
    assert message.demographics.given == "Jo"


def test_the_truncation_character_of_hl7_2_7():
    data = adt().replace(b"MSH|^~\\&|", b"MSH|^~\\&#|")
    assert parse_feed(data).identifiers[0].id == "PAT1"


def test_the_event_of_evn_1_stands_in_for_msh_9():
    data = adt("A08").replace(b"ADT^A08^ADT_A01", b"ADT")
    assert parse_feed(data).header.event == "A08"


def test_a_merge_carries_both_ids():
    message = parse_feed(adt("A40", extra=f"MRG|OLD^^^&{OID}&ISO\r"))
    assert [group.prior_identifiers for group in message.groups] == [(Identifier("OLD", None, OID, "ISO"),)]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"MSH",
        b"MSH|",
        b"MSH|^~\\&",
        b"MSHA^~\\&A",
        b"MSH|^^\\&|x",
        b"MSH|||||||",
        b"MSH ^~\\& ",
        b"PID|||1",
        b"GET / HTTP/1.1\r\n",
        b"\x00" * 100,
        b"<?xml version='1.0'?>",
    ],
)
def test_what_is_not_hl7_is_a_parse_error(data):
    with pytest.raises(ParseError) as caught:
        parse_feed(data)
    assert caught.value.problem.ack is AckCode.REJECT


def test_a_segment_of_a_million_separators_is_refused_before_it_is_split():
    for data in (adt(pid3="~" * 1_000_000), b"MSH|^~\\&" + b"|" * 1_000_000):
        with pytest.raises(ParseError, match="longer than"):
            parse_feed(data)
    with pytest.raises(ParseError, match="identifiers"):
        parse_feed(adt(pid3="~".join(["1^^^X"] * (MAX_IDENTIFIERS + 1))))


def test_a_megabyte_we_do_not_read_costs_nothing():
    assert pid3("1^^^X", extra="OBX|" + "|^~&" * 300_000) == (Identifier("1", "X"),)


TEXTS = st.text(st.sampled_from('MSHPIDAT01|^~\\&\r\n"X.2 é\x00\x0b\x1c'), max_size=200)


@settings(max_examples=400, deadline=None)
@given(st.one_of(st.binary(max_size=300), TEXTS.map(lambda text: b"MSH|^~\\&|" + text.encode())))
@example(b"MSH|^~\\&|\\X\\|\\.sp99999999999\\|\\C\\")
def test_no_bytes_get_past_the_parse_error(data):
    for read in (parse_feed, parse_acknowledgement):
        try:
            read(data)
        except ParseError as error:
            assert error.problem.text
    assert print_acknowledgement(read_header(data), control_id="1", time="2026").startswith(b"MSH|^~\\&|")


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_damaged_message_is_read_or_refused(data):
    message = bytearray(adt(charset=data.draw(st.sampled_from(["", "8859/1", "UNICODE UTF-8", "BIG-5"]))))
    for _ in range(data.draw(st.integers(1, 6))):
        message[data.draw(st.integers(0, len(message) - 1))] = data.draw(st.integers(0, 255))
    try:
        read = parse_feed(bytes(message[: data.draw(st.integers(0, len(message)))]))
    except ParseError:
        return
    for identifier in read.identifiers:
        assert identifier.id
        assert not any(ord(character) < 32 for character in identifier.id)


# ------------------------------------------------------------------------------------------ acknowledgements

PROBLEM = Problem(AckCode.ERROR, ErrorCode.UNKNOWN_KEY_IDENTIFIER, "no id of ID^^^&OID&ISO", "PID^1^3")


def test_an_acceptance_goes_back_to_its_sender():
    answer = print_acknowledgement(
        parse_feed(adt(control="M|7".replace("|", "\\F\\"))).header, control_id="9", time="T"
    )
    assert answer == b"MSH|^~\\&|XDS|AD|ADT|HOSPITAL|T||ACK^A01^ACK|9|P|2.3.1\rMSA|AA|M\\F\\7\r"


def test_a_refusal_carries_an_err_segment_as_in_2_3_1():
    answer = print_acknowledgement(parse_feed(adt()).header, control_id="9", time="T", problem=PROBLEM)
    assert answer.split(b"\r")[1:] == [
        b"MSA|AE|M1|no id of ID\\S\\\\S\\\\S\\\\T\\OID\\T\\ISO",
        b"ERR|PID^1^3^204&Unknown key identifier&HL70357",
        b"",
    ]


def test_from_2_5_on_the_newer_fields_of_err_are_filled_too():
    answer = print_acknowledgement(parse_feed(adt(version="2.5")).header, control_id="9", time="T", problem=PROBLEM)
    err = answer.split(b"\r")[2].split(b"|")
    assert err[2:5] == [b"PID^1^3", b"204^Unknown key identifier^HL70357", b"E"]
    assert b"|2.5\r" in answer


@pytest.mark.parametrize(("charset", "encoding"), [("8859/1", "latin-1"), ("UNICODE UTF-8", "utf-8"), ("", "utf-8")])
def test_the_answer_is_in_the_character_set_of_the_question(charset, encoding):
    header = parse_feed(adt(control="Ü1", charset=charset, encoding=encoding)).header
    answer = print_acknowledgement(header, control_id="9", time="T")
    assert "MSA|AA|Ü1".encode(encoding) in answer
    assert parse_feed(answer).header.charset == (charset or None)


def test_an_answer_to_nothing_readable_is_an_answer_still():
    answer = print_acknowledgement(read_header(b"\x00garbage"), control_id="9", time="T", problem=PROBLEM)
    assert parse_acknowledgement(answer).code == "AE"


def test_an_acknowledgement_is_read_back():
    answer = print_acknowledgement(parse_feed(adt()).header, control_id="9", time="T", problem=PROBLEM)
    read = parse_acknowledgement(answer)
    assert (read.code, read.control_id, read.text) == ("AE", "M1", PROBLEM.text)
    with pytest.raises(ParseError, match="MSA"):
        parse_acknowledgement(adt())


NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Zs", "Cn"]), min_size=1, max_size=30)


@settings(deadline=None)
@given(st.sampled_from(["A01", "A04", "A05", "A08"]), NAMES, NAMES, NAMES)
def test_what_we_send_is_read_as_it_was_meant(event, identifier, family, given_name):
    patient = Identifier(identifier.strip(), None, OID, "ISO")
    if not patient.id or patient.id == '""' or '""' in {family, given_name}:
        return
    told = Demographics(family.strip() or None, given_name.strip() or None, "19700101", "F")
    message = parse_feed(print_feed(event, patient, told, control_id="1", time="20261122"))
    assert (message.header.event, message.identifiers, message.demographics) == (event, (patient,), told)
