"""The audit message as XML (DICOM PS3.15 A.5), and what peers make of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from atna.message import (
    AuditMessage,
    AuditSource,
    CodedValue,
    Detail,
    EventIdentification,
    Participant,
    ParticipantObject,
    UnreadableError,
    encode,
    parse,
)
from schemas.loader import compiled

SCHEMA = compiled("audit")
CODE = CodedValue("110112", "DCM", "Query")

texts = st.text(min_size=1, max_size=40)
xml_texts = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"], exclude_characters="\ufffe\uffff"),
    min_size=1,
    max_size=40,
)


def message(**changes):
    values = {
        "event": EventIdentification(CODE, "E", 0, date_time="2026-03-01T10:00:00.000001Z"),
        "participants": (Participant("me", True),),
        "source": AuditSource("here"),
        "objects": (),
    }
    return AuditMessage(**(values | changes))


@given(xml_texts, xml_texts, st.binary(max_size=60))
def test_every_text_comes_back(user, name, value):
    objects = (ParticipantObject(name, CODE, 2, 24, query=value, details=(Detail(user, value),)),)
    sent = message(participants=(Participant(user, False, user_name=name),), objects=objects)
    assert parse(encode(sent)) == sent


def test_a_recorder_stamps_while_it_writes():
    bare = message(event=EventIdentification(CODE, "E", 0), source=None)
    when, source = "2026-03-01T10:00:00.000002Z", AuditSource("there", "urn:oid:1.2.3", (CODE,))
    assert encode(bare, date_time=when, source=source) == encode(
        message(event=EventIdentification(CODE, "E", 0, date_time=when), source=source)
    )
    for missing in ({"date_time": when}, {"source": source}):
        with pytest.raises(ValueError, match="needs a time, a source"):
            encode(bare, **missing)


@given(texts)
def test_any_text_at_all_gives_xml(text):
    read = parse(encode(message(participants=(Participant(text, True, user_name=text),))))
    assert len(read.participants[0].user_id) == len(text)


any_text = st.text(max_size=30)
maybe = st.none() | any_text
codes = st.builds(CodedValue, any_text, maybe, maybe, maybe)
many_codes = st.lists(codes, max_size=2).map(tuple)


@given(
    st.builds(
        AuditMessage,
        st.builds(
            EventIdentification,
            codes,
            st.none() | st.sampled_from("CRUDE"),
            st.sampled_from([0, 4, 8, 12]),
            many_codes,
            maybe,
            many_codes,
            st.just("2026-03-01T10:00:00.000001Z"),
        ),
        st.lists(
            st.builds(
                Participant, any_text, st.booleans(), many_codes, maybe, maybe, maybe, st.none() | st.integers(1, 5)
            ),
            min_size=1,
            max_size=3,
        ).map(tuple),
        st.lists(
            st.builds(
                ParticipantObject,
                any_text,
                st.none() | codes,
                st.none() | st.integers(1, 4),
                st.none() | st.integers(1, 26),
                st.none() | st.integers(1, 15),
                maybe,
                maybe,
                st.none() | st.binary(max_size=30),
                st.lists(st.builds(Detail, any_text, st.binary(max_size=30)), max_size=2).map(tuple),
            ),
            max_size=3,
        ).map(tuple),
        st.builds(AuditSource, any_text, maybe, many_codes),
    )
)
def test_whatever_is_told_is_valid(sent):
    SCHEMA.assertValid(etree.fromstring(encode(sent)))


def test_a_blank_where_the_schema_wants_something_is_unknown():
    objects = (ParticipantObject(" \n", CodedValue("", None, None), 2, 24),)
    read = parse(encode(message(objects=objects))).objects[0]
    assert (read.id, read.id_type) == ("unknown", CodedValue("unknown", "unknown", "unknown"))


@pytest.mark.parametrize(
    "fault",
    [
        ('EventOutcomeIndicator="0"', 'EventOutcomeIndicator="1"'),
        ('EventOutcomeIndicator="0"', ""),
        ('EventActionCode="E"', 'EventActionCode="X"'),
        ("000001Z", "000001"),
        ('UserIsRequestor="true"', ""),
        ('csd-code="110112"', ""),
        ('codeSystemName="DCM"', ""),
        ('AuditSourceID="here"', ""),
        ("<AuditMessage>", '<AuditMessage xmlns="urn:x">'),
        ('value="AA=="', 'value="A"'),
        ('ParticipantObjectTypeCode="2"', 'ParticipantObjectTypeCode="5"'),
        ('ParticipantObjectTypeCodeRole="24"', 'ParticipantObjectTypeCodeRole="27"'),
    ],
)
def test_the_schema_notices(fault):
    whole = message(objects=(ParticipantObject("o", CODE, 2, 24, details=(Detail("t", b"\0"),)),))
    data = encode(whole).decode()
    assert SCHEMA.validate(etree.fromstring(data))
    assert fault[0] in data
    assert not SCHEMA.validate(etree.fromstring(data.replace(*fault)))


def test_blanks_and_line_ends_survive_in_attributes():
    sent = message(participants=(Participant("a\tb\nc\r\"<&>'", True),))
    assert parse(encode(sent)) == sent


def test_what_xml_cannot_carry_is_replaced():
    assert (
        parse(encode(message(participants=(Participant("a\x00\ud800b", True),)))).participants[0].user_id
        == "a\ufffd\ufffdb"
    )


@pytest.mark.parametrize(
    "changes",
    [{"source": None}, {"participants": ()}, {"event": EventIdentification(CODE, "E", 0)}],
)
def test_a_record_without_time_source_or_participant_is_not_written(changes):
    with pytest.raises(ValueError, match="needs a time"):
        encode(message(**changes))


def test_the_order_is_the_schema_s():
    SCHEMA.assertValid(etree.fromstring(encode(message())))
    wrong = etree.fromstring(encode(message()))
    wrong.append(wrong[0])
    assert not SCHEMA.validate(wrong)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no xml",
        b"<AuditMessage/>",
        b"<AuditMessage><EventIdentification/></AuditMessage>",
        b"<Other><EventIdentification><EventID csd-code='1'/></EventIdentification></Other>",
        b"<AuditMessage><EventIdentification><EventID csd-code='1'/></EventIden",
        (
            b"<!DOCTYPE a [<!ENTITY b 'c'>]><AuditMessage><EventIdentification><EventID csd-code='&b;'/></EventIdentification>"
            b"</AuditMessage>"
        ),
    ],
)
def test_what_is_no_audit_message_is_refused(data):
    with pytest.raises(UnreadableError):
        parse(data)


def test_the_older_names_of_rfc_3881_are_read():
    data = b"""<?xml version="1.0" encoding="UTF-8"?><AuditMessage xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
      xsi:noNamespaceSchemaLocation="healthcare-security-audit.xsd">
      <EventIdentification EventDateTime="2026-03-01T10:00:00+01:00" EventOutcomeIndicator="0">
        <EventID code="110112" codeSystemName="DCM" displayName="Query"/></EventIdentification>
      <ActiveParticipant UserID="u" UserIsRequestor="1"/>
      <AuditSourceIdentification AuditSourceID="s" code="4"/>
      <ParticipantObjectIdentification ParticipantObjectID="p" ParticipantObjectTypeCode="1"
        ParticipantObjectTypeCodeRole="1"><ParticipantObjectIDTypeCode code="2"/>
        <ParticipantObjectDetail type="t" value="not base64!"/></ParticipantObjectIdentification></AuditMessage>"""
    read = parse(data)
    assert read.event.event_id.code == "110112"
    assert read.participants[0].is_requestor
    assert read.source.type_codes[0].code == "4"
    assert read.objects[0].id_type.code == "2"
    assert read.objects[0].details[0].value == b"not base64!"


def test_blanks_around_a_token_are_no_part_of_it():
    data = (
        b"<AuditMessage><EventIdentification EventActionCode=' R '>"
        b"<EventID csd-code=' 110112&#10;' codeSystemName=' DCM ' originalText=' Query '/></EventIdentification></AuditMessage>"
    )
    event = parse(data).event
    assert (event.action, event.event_id) == ("R", CodedValue("110112", "DCM", " Query "))


def test_bom_and_namespace_are_tolerated():
    data = encode(message()).replace(b"<AuditMessage>", b'<AuditMessage xmlns="urn:x">')
    assert parse(b"\xef\xbb\xbf" + data) == message()
