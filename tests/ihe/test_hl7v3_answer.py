"""HL7 v3 answers to queries for patients: each case written as the schema has it and read again; what others write."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from ihe.hl7v2 import AckCode, Demographics, ErrorCode, Identifier, Problem
from ihe.hl7v3_answer import (
    FoundPatient,
    PatientAnswer,
    Reason,
    ResponseCode,
    print_patient_answer,
    read_patient_answer,
)
from ihe.hl7v3_parts import Detail, InstanceIdentifier, details_of
from ihe.hl7v3_query import PatientQuery, read_patient_query
from schemas import parse_xml, strict_violations, violations
from tests.hl7v3_messages import OID
from tests.hl7v3_queries import by_id, query

HOME = "1.2.40"
SOMEBODY = FoundPatient(
    (Identifier('P"1', None, OID, "ISO"),), Demographics("O'<Hara>", "Änne & Co", "19700101", "O"), HOME, 100
)
QUERY = read_patient_query(parse_xml(query(by_id("P1")).replace(b'use="SRCH" xsi:type="PN"', b"")))


def printed(to=QUERY, **more):
    message_id = "0b5ef8a4-6a19-4f4e-8a51-3c8d4b1e2f00"
    return parse_xml(print_patient_answer(to, message_id=message_id, time="20261122120000+0000", **more))


CASES = {
    "one": ({"code": ResponseCode.OK, "patients": [SOMEBODY]}, ("AA", "OK")),
    "two of three": (
        {"code": ResponseCode.OK, "patients": [SOMEBODY, FoundPatient(SOMEBODY.identifiers)], "total": 3},
        ("AA", "OK"),
    ),
    "more is wanted": ({"code": ResponseCode.OK, "wanted": ["PatientAddressRequested", "B"]}, ("AA", "OK")),
    "nobody": ({"code": ResponseCode.NOT_FOUND}, ("AA", "NF")),
    "busy": (
        {"code": ResponseCode.ERROR, "reason": Reason.BUSY, "details": [Detail("NS250", "a <b>", "1.2.3")]},
        ("AE", "AE"),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_each_case_is_written_and_read_again(case):
    told, (ack, code) = CASES[case]
    element = printed(**told)
    assert strict_violations(element) == ()
    etree.strip_attributes(element, "{http://www.w3.org/2001/XMLSchema-instance}type")  # as every receiver does
    assert violations(element) == ()
    assert read_patient_answer(element) == PatientAnswer(
        ack,
        code,
        InstanceIdentifier("1.2.42.8", "7"),
        (InstanceIdentifier("1.2.42.1"),),
        tuple(told.get("patients", ())),
        tuple(told.get("wanted", ())),
        (str(told["reason"]),) if "reason" in told else (),
        told.get("total", len(told.get("patients", ()))),
        tuple(told.get("details", ())),
        InstanceIdentifier("1.2.42.7", "Q1"),
    )


LOWER = InstanceIdentifier("0b5ef8a4-6a19-4f4e-8a51-3c8d4b1e2f00")
UPPER = InstanceIdentifier("0B5EF8A4-6A19-4F4E-8A51-3C8D4B1E2F00")


@pytest.mark.parametrize(
    ("target", "query_id", "is_to"),
    [
        (LOWER, LOWER, True),
        (UPPER, UPPER, True),
        (None, LOWER, True),
        (LOWER, None, True),
        (None, None, True),
        (InstanceIdentifier("1.2"), LOWER, False),
        (LOWER, InstanceIdentifier(LOWER.root, "7"), False),
    ],
)
def test_which_question_it_is_an_answer_to(target, query_id, is_to):
    asked = PatientQuery("X", message_id=LOWER, query_id=LOWER)
    assert PatientAnswer(target=target, query_id=query_id).is_to(asked) is is_to


def test_the_query_is_repeated_and_its_sender_is_the_receiver():
    element = printed(code=ResponseCode.NOT_FOUND)
    assert read_patient_query(element).parameters == QUERY.parameters
    assert element.find("{*}receiver/{*}device/{*}id").get("root") == "1.2.42.2"
    assert element.find("{*}acknowledgement/{*}targetMessage/{*}id").get("extension") == "Q1"


def test_quantities():
    ack = printed(code=ResponseCode.OK, patients=[SOMEBODY], total=3).find("{*}controlActProcess/{*}queryAck")
    told = [ack.find(f"{{*}}result{name}Quantity").get("value") for name in ("Total", "Current", "Remaining")]
    assert told == ["3", "1", "2"]


def test_an_answer_to_what_could_not_be_read():
    problem = Problem(AckCode.ERROR, ErrorCode.REQUIRED_FIELD_MISSING, "no query", "/a/b")
    element = printed(PatientQuery("X"), code=ResponseCode.ERROR, details=details_of([problem]))
    assert strict_violations(element) == ()
    detail = element.find("{*}acknowledgement/{*}acknowledgementDetail")
    assert detail.find("{*}code").attrib == {
        "code": "101",
        "codeSystem": "2.16.840.1.113883.12.357",
        "displayName": "Required field missing",
    }
    assert detail.findtext("{*}location") == "/a/b"


def test_what_is_kept_but_not_writable_is_left_out():
    odd = FoundPatient((Identifier("1", None, OID, "ISO"),), Demographics(None, None, "1.1.1970", "ä"))
    element = printed(code=ResponseCode.OK, patients=[odd])
    assert strict_violations(element) == ()
    assert read_patient_answer(element).patients == (FoundPatient(odd.identifiers),)


EVENT = "<controlActProcess><subject><registrationEvent>{}</registrationEvent></subject></controlActProcess>"
OBSERVED = "<subjectOf1><queryMatchObservation><value value='9999999'/></queryMatchObservation></subjectOf1>"


@pytest.mark.parametrize(
    ("inner", "wanted"),
    [
        ("", PatientAnswer()),
        (EVENT.format(""), (FoundPatient(()),)),
        (
            EVENT.format("<custodian><assignedEntity><id root=' 1.2 '/></assignedEntity></custodian>"),
            (FoundPatient((), home="1.2"),),
        ),
        (
            EVENT.format(f"<subject1><patient><id root='1.2' extension='7'/>{OBSERVED}</patient></subject1>"),
            (FoundPatient((Identifier("7", None, "1.2", "ISO"),)),),
        ),
    ],
    ids=["nothing", "an empty event", "no patient", "no such match"],
)
def test_what_others_may_write(inner, wanted):
    found = read_patient_answer(
        parse_xml(f'<PRPA_IN201306UV02 xmlns="urn:hl7-org:v3">{inner}</PRPA_IN201306UV02>'.encode())
    )
    assert found == wanted if isinstance(wanted, PatientAnswer) else found.patients == wanted


READ = (
    "acknowledgement/typeCode",
    "acknowledgement/targetMessage/id",
    "acknowledgement/acknowledgementDetail/code",
    "controlActProcess/queryAck/queryResponseCode",
    "controlActProcess/subject/registrationEvent/subject1/patient/id",
    "patient/patientPerson/name/family",
    "patient/subjectOf1/queryMatchObservation/value",
    "registrationEvent/custodian/assignedEntity/id",
    "controlActProcess/reasonOf/detectedIssueEvent/triggerFor/actOrderRequired/code",
)
ATTRIBUTES = st.dictionaries(
    st.sampled_from(["root", "extension", "code", "value"]), st.text("<&\"' 1.a\t\x85ü", max_size=6), max_size=2
)


@given(st.lists(st.tuples(st.sampled_from(READ), ATTRIBUTES, st.text("<&x ü", max_size=9)), max_size=8))
def test_reading_never_raises(parts):
    """Every path that is read, as often as it comes, with whatever attributes and text at its end."""
    root = etree.Element("{urn:hl7-org:v3}PRPA_IN201306UV02")
    for path, attributes, text in parts:
        element = root
        for name in path.split("/"):
            element = etree.SubElement(element, f"{{urn:hl7-org:v3}}{name}")
        element.text = text
        for name, value in attributes.items():
            element.set(name, value.replace("\x85", " "))
    read_patient_answer(parse_xml(etree.tostring(root)))


def test_texts_of_others_are_bounded():
    details = [Detail("E" * 300, "text " * 100)]
    (detail,) = read_patient_answer(printed(code=ResponseCode.ERROR, details=details)).details
    assert (len(detail.code), len(detail.text)) == (256, 256)
