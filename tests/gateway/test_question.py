import pytest

from gateway.question import PATIENT_QUERIES, for_patient, read_question
from ihe.errors import Rejected
from registry.stored_queries import STORED_QUERIES
from schemas import parse_xml
from tests.builders import PATIENT
from tests.gateway.querying import find

IDS = {row.id: row for row in STORED_QUERIES if row.transaction.code == "ITI-18"}


def element(**how):
    return parse_xml(find(**how))


def test_queries_by_patient_are_those_whose_patient_is_required():
    by_patient = {
        row.id for row in IDS.values() if any(p.required and p.name.endswith("atientId") for p in row.parameters)
    }
    assert by_patient == PATIENT_QUERIES


@pytest.mark.parametrize("query_id", IDS)
@pytest.mark.parametrize("patient", [PATIENT, None])
def test_what_is_about_a_patient_needs_no_home(query_id, patient):
    question = read_question(element(patient=patient, query_id=query_id.upper().replace("URN:UUID", "urn:uuid")))
    assert question.about_patient == (patient is not None or query_id in PATIENT_QUERIES)


@pytest.mark.parametrize(("sent", "home"), [("urn:oid:1.2", "urn:oid:1.2"), (" 1.2 ", "1.2"), ("", None), (None, None)])
def test_the_home_as_it_was_sent(sent, home):
    body = element()
    if sent is not None:
        body[1].set("home", sent)
    assert read_question(body).home == home


HOMES = {
    "urn:oid:1.2.3": "urn:oid:1.2.3",
    "1.2.3": "urn:oid:1.2.3",
    " URN:OID:1.2.3 ": "urn:oid:1.2.3",
    "no home": "no home",
    " ": None,
    "": None,
}


@pytest.mark.parametrize("sent", HOMES)
def test_the_home_is_handed_on_as_it_is_written_on_the_wire_and_nothing_else_is_touched(sent):
    body = element(patient=PATIENT, home=sent)
    body[1].set("home", sent)
    question = read_question(body)
    other = parse_xml(for_patient(body).asked("O7^^^&1.2.3&ISO"))
    assert [parse_xml(question.text)[1].get("home"), body[1].get("home")] == [sent, sent]
    assert [parse_xml(question.handed_on)[1].get("home"), other[1].get("home")] == [HOMES[sent]] * 2
    assert read_question(body).text == question.text
    plain = element(patient=PATIENT, home=HOMES[sent])
    assert read_question(plain).text == question.handed_on
    assert read_question(plain).handed_on == question.handed_on


def test_nonsense_is_a_question_too():
    question = read_question(parse_xml(b"<x/>"))
    assert (question.query_id, question.home, question.about_patient, question.text) == (None, None, False, b"<x/>")


@pytest.mark.parametrize("value", [f"'{PATIENT}'", f"('{PATIENT}')", PATIENT, f" {PATIENT} "])
def test_the_patient_is_exchanged_and_nothing_else(value):
    body = element(patient=None, XDSDocumentEntryPatientId=value, Other="'P-4711'")
    before = read_question(body).text
    place = for_patient(body)
    assert place.patient_id == PATIENT
    assert read_question(body).text == before
    other = parse_xml(place.asked("O'Neil^^^&1.2.3&ISO"))
    texts = [one.text for one in other.iter("{*}Value")]
    assert texts == ["'O''Neil^^^&1.2.3&ISO'", "'P-4711'"]


def test_a_quote_in_a_patient_id_is_written_twice():
    body = element(patient=None, XDSDocumentEntryPatientId="'O''Neil^^^&1.2.3&ISO'")
    assert for_patient(body).patient_id == "O'Neil^^^&1.2.3&ISO"


@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        ({}, "XDSStoredQueryMissingParam"),
        ({"XDSDocumentEntryPatientId": ""}, "XDSStoredQueryMissingParam"),
        ({"XDSDocumentEntryPatientId": [f"'{PATIENT}'"] * 2}, "XDSStoredQueryParamNumber"),
        ({"XDSDocumentEntryPatientId": f"'{PATIENT}'", "patientId": f"'{PATIENT}'"}, "XDSStoredQueryParamNumber"),
        ({"XDSDocumentEntryPatientId": "'4711'"}, "XDSRegistryError"),
    ],
)
def test_there_is_one_patient(parameters, code):
    with pytest.raises(Rejected) as refused:
        for_patient(element(patient=None, **parameters))
    assert [error.code for error in refused.value.errors] == [code]
    assert "4711" not in refused.value.errors[0].context
