"""ITI-51 Multi-Patient Stored Query: what is asked over patients, and who is on record for it (ITI TF-2: 3.51)."""

import pytest

from atna.message import Outcome
from consent.policy import Decision
from ihe import ebrs
from ihe import vocabulary as v
from ihe.registry_objects import Kind
from ihe.transactions import ITI_18, ITI_51
from registry import asked as room_asked
from registry.criteria import Query
from registry.stored_queries import STORED_QUERIES
from tests.builders import AUTHORITY, LOCAL, PATIENT, SNOMED, submission, with_code, with_slot
from tests.registry.rooms import APPROVED, FIND_DOCUMENTS, RegistryRoom, codes_of

OTHER, THIRD, STRANGER = (f"P-{number}^^^&{AUTHORITY}&ISO" for number in ("0815", "0007", "none"))
IDS = {row.query: row.id for row in STORED_QUERIES}
DOCUMENTS, FOLDERS = Query.FIND_DOCUMENTS_FOR_MULTIPLE_PATIENTS, Query.FIND_FOLDERS_FOR_MULTIPLE_PATIENTS
BY_REFERENCE = Query.FIND_DOCUMENTS_BY_REFERENCE_ID_FOR_MULTIPLE_PATIENTS
E, F = "$XDSDocumentEntry", "$XDSFolder"
EVENT = f"MPQ-eventcode-2^^{LOCAL}"
FACILITY = f"264372000^^{SNOMED}"


@pytest.fixture
def three(registry):
    """Two documents of one patient, one of another, the third of a facility of its own; two of them with an event."""
    registry.know(PATIENT, OTHER, THIRD)
    event = with_code(v.ENTRY_EVENT, "MPQ-eventcode-2", LOCAL)
    registry.accept(submission())
    registry.accept(submission(entry=event))
    registry.accept(submission(patient=OTHER, entry=event))
    registry.accept(submission(patient=THIRD, entry=with_code(v.ENTRY_FACILITY_TYPE, "264372000", SNOMED)))
    return registry


def ask(registry, query, return_type="LeafClass", transaction=ITI_51, **parameters):
    prefix = F if query is FOLDERS else E
    given = {f"{prefix}Status": f"({APPROVED})", **{prefix + name: value for name, value in parameters.items()}}
    body = ebrs.adhoc_query_request(IDS.get(query, query), given, return_type)
    return registry.ask(body, transaction)


def patients(response):
    assert response.status == v.SUCCESS, response.errors
    scheme = {Kind.DOCUMENT_ENTRY: v.ENTRY_PATIENT_ID, Kind.FOLDER: v.FOLDER_PATIENT_ID}
    return [o.identifier(scheme[o.kind]) for o in response.objects]


def listed(*values):
    return "(" + ", ".join(f"'{value}'" for value in values) + ")"


def on_record(registry):
    """(patient, outcome) of each record, oldest first; the query itself must be in each."""
    found = []
    for message in registry.audited():
        *whose, query = message.objects
        if b"AdhocQueryRequest" in (query.query or b""):
            found.append((whose[0].id if whose else None, message.event.outcome))
    return found


@pytest.mark.parametrize(
    ("parameters", "wanted"),
    [
        ({"PatientId": listed(PATIENT)}, [PATIENT, PATIENT]),
        ({"PatientId": listed(PATIENT, OTHER, PATIENT)}, [PATIENT, PATIENT, OTHER]),
        ({"PatientId": listed(OTHER, PATIENT, STRANGER)}, [PATIENT, PATIENT, OTHER]),
        ({"PatientId": listed(STRANGER)}, []),
        ({"PatientId": listed(PATIENT, THIRD), "EventCodeList": listed(EVENT)}, [PATIENT]),
        ({"EventCodeList": listed(EVENT)}, [PATIENT, OTHER]),
        ({"HealthcareFacilityTypeCode": listed(FACILITY)}, [THIRD]),
        ({"HealthcareFacilityTypeCode": listed(FACILITY), "EventCodeList": listed(EVENT)}, []),
        ({"ClassCode": listed("11502-2^^2.16.840.1.113883.6.1")}, [PATIENT, PATIENT, OTHER, THIRD]),
        ({"ClassCode": listed("11502-2^^2.16.840.1.113883.6.1"), "CreationTimeFrom": "2099"}, []),
    ],
)
def test_documents_of_several_patients_or_of_all(three, parameters, wanted):
    response = ask(three, DOCUMENTS, **parameters)
    assert patients(response) == wanted
    references = ask(three, DOCUMENTS, "ObjectRef", **parameters).object_refs
    assert references == tuple(o.id for o in response.objects)


def test_folders_of_several_patients_or_of_all(registry):
    registry.know(PATIENT, OTHER)
    special = with_code(v.FOLDER_CODE, "Allergy_Treatments", LOCAL)
    registry.accept(submission(entries=0, folders=1))
    registry.accept(submission(entries=0, folders=1, patient=OTHER, folder=special))
    assert patients(ask(registry, FOLDERS, PatientId=listed(PATIENT, OTHER))) == [PATIENT, OTHER]
    assert patients(ask(registry, FOLDERS, CodeList=listed(f"Allergy_Treatments^^{LOCAL}"))) == [OTHER]
    assert patients(ask(registry, FOLDERS, PatientId=listed(OTHER), LastUpdateTimeTo="2020")) == []
    assert codes_of(ask(registry, FOLDERS)) == {"XDSStoredQueryMissingParam"}


def test_documents_of_several_patients_by_reference_id(registry):
    registry.know(PATIENT, OTHER)
    reference = "2013001^^^&1.2.3.4&ISO^urn:ihe:iti:xds:2013:order"
    for patient in (PATIENT, OTHER):
        registry.accept(submission(patient=patient))
        registry.accept(submission(patient=patient, entry=with_slot(v.REFERENCE_ID_LIST, reference)))
    found = ask(registry, BY_REFERENCE, PatientId=listed(PATIENT, OTHER), ReferenceIdList=listed("2013001%"))
    assert patients(found) == [PATIENT, OTHER]


def test_without_anything_that_narrows_it_the_query_is_refused(three):
    response = ask(three, DOCUMENTS, TypeCode=listed("11502-2^^2.16.840.1.113883.6.1"))
    assert codes_of(response) == {"XDSStoredQueryMissingParam"}
    assert f"{E}PatientId, {E}ClassCode" in response.errors[0].context


def test_each_transaction_answers_its_own_queries(three):
    assert codes_of(ask(three, FIND_DOCUMENTS, PatientId=f"'{PATIENT}'")) == {"XDSUnknownStoredQuery"}
    several = ask(three, DOCUMENTS, transaction=ITI_18, PatientId=listed(PATIENT))
    assert codes_of(several) == {"XDSUnknownStoredQuery"}
    assert "ITI-18" in several.errors[0].context


# ---------------------------------------------------------------------------------------------- on record


def test_whoever_was_asked_for_or_found_is_on_record_once(three):
    ask(three, DOCUMENTS, PatientId=listed(OTHER, PATIENT, STRANGER))
    assert on_record(three) == [(who, Outcome.SUCCESS) for who in (OTHER, PATIENT, STRANGER)]
    ask(three, DOCUMENTS, EventCodeList=listed(EVENT))
    assert sorted(on_record(three)[3:]) == sorted((who, Outcome.SUCCESS) for who in (PATIENT, OTHER))
    ask(three, DOCUMENTS, "ObjectRef", HealthcareFacilityTypeCode=listed(FACILITY))
    assert on_record(three)[5:] == [(THIRD, Outcome.SUCCESS)]
    ask(three, DOCUMENTS, EventCodeList=listed(EVENT), CreationTimeFrom="2099")
    assert on_record(three)[6:] == [(None, Outcome.SUCCESS)]


def test_a_refusal_is_on_record(three, monkeypatch):
    ask(three, DOCUMENTS)
    assert on_record(three) == [(None, Outcome.SERIOUS_FAILURE)]
    monkeypatch.setattr(room_asked, "decide", lambda *_: Decision(permit=False, rule="listed-partners-only"))
    response = ask(three, DOCUMENTS, PatientId=listed(PATIENT))
    assert codes_of(response) == {"XDSRegistryError"}
    assert "ITI-51" in response.errors[0].context


@pytest.fixture
def small(tmp_path):
    room = RegistryRoom(f"sqlite:///{tmp_path}/r.db", max_query_patients=2, max_object_refs=3)
    room.know(PATIENT, OTHER, THIRD)
    for patient in (PATIENT, OTHER):
        room.accept(submission(patient=patient))
    yield room
    room.close()


def test_patients_are_bounded_asked_and_found(small):
    everything = {"ClassCode": listed("11502-2^^2.16.840.1.113883.6.1")}
    assert len(patients(ask(small, DOCUMENTS, **everything))) == 2
    response = ask(small, DOCUMENTS, PatientId=listed(PATIENT, OTHER, THIRD))
    assert codes_of(response) == {"XDSRegistryError"}
    assert "at most 2" in response.errors[0].context
    assert on_record(small)[-1] == (None, Outcome.SERIOUS_FAILURE)
    small.accept(submission(patient=THIRD))
    for form in ("LeafClass", "ObjectRef"):
        response = ask(small, DOCUMENTS, form, **everything)
        assert codes_of(response) == {"XDSTooManyResults"}
        assert "more than 2 patients" in response.errors[0].context


def test_references_are_bounded_too(small):
    everything = {"ClassCode": listed("11502-2^^2.16.840.1.113883.6.1")}
    for _ in range(2):
        small.accept(submission())
    response = ask(small, DOCUMENTS, "ObjectRef", **everything)
    assert codes_of(response) == {"XDSTooManyResults"}
    assert "more than 3 objects match; narrow it" in response.errors[0].context


def test_a_long_query_of_many_patients_is_not_recorded_without_end(three, monkeypatch):
    monkeypatch.setattr(room_asked, "MOST_RECORDED_BYTES", 1000)
    response = ask(three, DOCUMENTS, EventCodeList=listed(EVENT))
    assert codes_of(response) == {"XDSTooManyResults"}
    assert "too many to record" in response.errors[0].context
    assert patients(ask(three, DOCUMENTS, PatientId=listed(PATIENT))) == [PATIENT, PATIENT]


def test_a_patient_nobody_knows_is_an_error_where_the_domain_says_so(tmp_path):
    room = RegistryRoom(f"sqlite:///{tmp_path}/r.db", unknown_patient="error")
    room.know()
    assert patients(ask(room, DOCUMENTS, PatientId=listed(PATIENT))) == []
    response = ask(room, DOCUMENTS, PatientId=listed(PATIENT, OTHER, STRANGER))
    assert [str(error.code) for error in response.errors] == ["XDSUnknownPatientId"] * 2
    room.close()
