"""What the repository tells and asks the registry."""

import pytest

from ihe import vocabulary as v
from ihe.errors import FaultCode, SoapFault
from ihe.registry_objects import Kind
from repository import registry_client
from tests.builders import PATIENT, REPOSITORY, submission, submit_objects_request_xml, with_identifier, without_slot
from tests.repository.stand import Act, stand, unique_ids


def test_a_quote_in_a_set_id_does_not_end_the_parameter(tmp_path):
    with stand(tmp_path) as house:
        house.registry.script.append(Act(answer=None))
        house.provide(submission(unique_id="1.2'3"))
        asked = [m for m in house.messages() if m.event.type_codes[0].code == "ITI-18"]
    assert b"'1.2''3'" in asked[0].objects[-1].query


def test_an_answer_without_a_known_status_is_no_answer(tmp_path):
    with stand(tmp_path) as house:
        body = b'<r:RegistryResponse xmlns:r="urn:oasis:names:tc:ebxml-regrep:xsd:rs:3.0" status="urn:x"/>'
        house.registry.script.append(Act(answer=body))
        assert house.provide(submission()).status == "Success"
        assert [row[0] for row in house.records()] == ["ITI-18", "ITI-41", "ITI-42"]


def test_what_the_registry_says_of_a_person_stays_out_of_the_log(tmp_path, caplog):
    with stand(tmp_path) as house:
        house.registry.script.append(Act(answer=SoapFault(FaultCode.RECEIVER, "no room for Jeanne Muster, 1970-01-31")))
        assert house.provide(submission(unique_id="1.2.3")).status == "Success"
    assert "registration of 1.2.3: answer lost: SOAP fault Receiver" in caplog.messages
    assert "Muster" not in caplog.text


# ------------------------------------------------------------------------------------ what is still registered


@pytest.fixture
def house(tmp_path):
    with stand(tmp_path) as running:
        yield running


def held(house, **more):
    objects = submission(**more)
    house.registry.held[str(len(house.registry.held))] = submit_objects_request_xml(objects)
    return unique_ids(objects)


def test_documents_are_asked_for_by_patient_and_in_bounded_questions(house, monkeypatch):
    monkeypatch.setattr(registry_client, "MOST_ASKED", 2)
    mine, theirs = held(house, entries=5), held(house, patient="OTHER^^^&1.2.3&ISO")
    found = house.room.registry.registered({PATIENT: [*mine, "9.9.9"], "OTHER^^^&1.2.3&ISO": theirs, None: []})
    assert found.entries == {(one, REPOSITORY) for one in (*mine, *theirs)}
    assert len(found.records) == 4


def test_entries_of_two_patients_in_one_question_are_asked_for_apart(house):
    mine = held(house, entries=4)
    house.registry.patient_of = {mine[2]: "OTHER^^^&1.2.3&ISO"}
    found = house.room.registry.registered({PATIENT: mine})
    assert found.entries == {(one, REPOSITORY) for one in mine}
    assert len(found.records) == 5, "the four, the two halves, and one half apart"


def test_one_document_with_entries_of_two_patients_counts_as_registered(house):
    same = with_identifier(v.ENTRY_UNIQUE_ID, "1.2.3")
    held(house, entry=same)
    held(house, entry=same, patient="OTHER^^^&1.2.3&ISO")
    assert house.room.registry.registered({PATIENT: ["1.2.3"]}).entries == {("1.2.3", "")}


def test_an_entry_that_names_no_repository_may_be_of_this_one(house):
    (one,) = held(house, entry=without_slot("repositoryUniqueId"))
    assert house.room.registry.registered({PATIENT: [one]}).entries == {(one, "")}


def test_a_quote_in_a_document_id_does_not_end_the_list(house):
    found = house.room.registry.registered({PATIENT: ["1.2'3"]})
    house.index.record_alone(found.records)
    assert b"('1.2''3')" in house.messages()[0].objects[-1].query


def test_a_registry_that_refuses_or_is_silent_says_nothing(house):
    held(house)
    house.registry.silent = True
    found = house.room.registry.registered({PATIENT: ["1.2.3"]})
    assert (found.entries, len(found.records)) == (None, 1)


# ------------------------------------------------------------------------------------ what became of a submission


def test_a_submission_of_very_many_documents_is_asked_about(house):
    """As many as ``limits.max_envelope_markup`` may be set to let in: else they would stay pending for ever."""
    objects = submission(entries=3500)
    house.registry.held["1.2.3.4"] = submit_objects_request_xml(objects)
    found = house.room.registry.ask("1.2.3.4", PATIENT).objects
    assert found is not None
    named = {one.identifier(v.ENTRY_UNIQUE_ID) for one in found if one.kind is Kind.DOCUMENT_ENTRY}
    assert named == set(unique_ids(objects))
