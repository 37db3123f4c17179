"""Each event is valid, says what the framework's table says, and comes back as it was (ITI TF-2: 3.NN.5.1)."""

import base64

import pytest
from lxml import etree

from atna import events, node_events, participants
from atna.message import Action, Outcome, encode, parse
from atna.record_repository.indexing import index
from atna.recorder import Recorder
from ihe.xua import AssertedCode, Caller, User
from schemas.loader import compiled

PATIENT = "st3498702^^^&1.3.6.1.4.1.21367.2005.3.7&ISO"
SET = "1.3.6.1.4.1.21367.2005.3.9999.33"
QUERY_ID = "urn:uuid:14d4debf-8f97-4251-9a74-a90016b0af0d"
REQUEST = b'<query:AdhocQueryRequest xmlns:query="q">Gr\xc3\xbc\xc3\x9fe</query:AdhocQueryRequest>'
ENDPOINT = "https://registry.example.org:8010/registry"
CALLER = Caller("10.0.0.7", "CN=pacs,O=Hospital A", "sha256:" + "0" * 64)

ANSWERING = participants.serving(CALLER, ENDPOINT, "77-abc")
ASKING = participants.calling(
    ENDPOINT, "77-abc", user_id="https://repository.example.org/repository", address="10.0.0.8"
)


@pytest.fixture(scope="module")
def schema():
    return compiled("audit")


@pytest.fixture
def recorder():
    return Recorder("dossier-registry@host", "urn:oid:1.2.3", "dossier-registry", "host", environment="test")


def recorded(recorder, message):
    return recorder.record(message).partition(b" - ")[2]


def submission(function, parties, **changes):
    values = {"patient_id": PATIENT, "submission_set_id": SET, "outcome": Outcome.SUCCESS, "decision": "permit-all"}
    return function(parties, **(values | changes))


def query(parties, **changes):
    values = {"query_id": QUERY_ID, "request": REQUEST, "patient_id": PATIENT, "outcome": Outcome.SUCCESS}
    return events.stored_query(parties, **(values | changes))


DOCTOR = User(
    "marie.curie",
    "https://idp.example.lu",
    "mc",
    (AssertedCode("112247003", "2.16.840.1.113883.6.96", "Medical doctor"),),
    (AssertedCode("TREATMENT", "2.16.840.1.113883.3.18.7.1", ""),),
)
IN_PERSON = participants.serving(Caller("10.0.0.7", "CN=pacs,O=Hospital A", user=DOCTOR), ENDPOINT, "77-abc")

DOCUMENTS = (
    participants.DocumentReference("1.2.3^4", "1.2.3.9", "urn:oid:1.2"),
    participants.DocumentReference("1.2.4"),
)

EVERY = {
    "iti41 repository": submission(events.provided, ANSWERING),
    "iti41 source": submission(events.provided, ASKING),
    "iti42 registry": submission(events.registered, ANSWERING),
    "iti42 repository": submission(events.registered, ASKING),
    "iti42 refused": submission(
        events.registered,
        ANSWERING,
        patient_id=None,
        submission_set_id=None,
        outcome=Outcome.SERIOUS_FAILURE,
        reason="XDSRegistryMetadataError",
    ),
    "iti18 registry": query(ANSWERING, decision="permit-all", home_community_id="urn:oid:1.2.3"),
    "iti18 consumer": query(ASKING, patient_id=None),
    "iti18 a doctor": query(IN_PERSON),
    "iti43 a doctor": events.retrieved(IN_PERSON, documents=DOCUMENTS, outcome=Outcome.SUCCESS, patient_id=PATIENT),
    "log used by a doctor": node_events.audit_log_used(IN_PERSON, log_uri="https://a", outcome=Outcome.SUCCESS),
    "iti43 repository": events.retrieved(ANSWERING, documents=DOCUMENTS, outcome=Outcome.SUCCESS, patient_id=PATIENT),
    "iti43 consumer": events.retrieved(ASKING, documents=DOCUMENTS[:1], outcome=Outcome.MAJOR_FAILURE),
    "iti86": events.documents_removed(ANSWERING, documents=DOCUMENTS, outcome=Outcome.SUCCESS, patient_id=PATIENT),
    "retention": events.documents_removed(
        ANSWERING, documents=DOCUMENTS, outcome=Outcome.SUCCESS, retention="class 1^^2: 30 days after creation"
    ),
    "iti8": events.patient_feed(
        ANSWERING, patient_id=PATIENT, control_id="M1", action=Action.CREATE, outcome=Outcome.SUCCESS
    ),
    "iti44": events.patient_feed_v3(
        ANSWERING, patient_id=PATIENT, message_id="1.2^M1", action=Action.DELETE, outcome=Outcome.SUCCESS
    ),
    "start": node_events.application_activity(
        started=True, application="dossier-registry", process_id="1", address="host"
    ),
    "stop": node_events.application_activity(
        started=False, application="dossier-registry", process_id="1", address="::1"
    ),
    "log used": node_events.audit_log_used(
        ANSWERING, log_uri="https://a/fhir/AuditEvent", outcome=Outcome.SUCCESS, search="x"
    ),
    "node": node_events.node_authentication_failed(
        process_id="1", address="host", peer_address="10.0.0.9", peer_port=40123, reason="no certificate"
    ),
    "malware": node_events.malware_found(
        ANSWERING, document=participants.DocumentReference("1.2.3", repository_unique_id="1.9"), malware="Some.Thing"
    ),
}


@pytest.mark.parametrize(
    ("caller", "taking_part"),
    [
        (Caller("10.0.0.7"), ["10.0.0.7", "https://a"]),
        (Caller("10.0.0.7", "CN=pacs"), ["CN=pacs", "https://a"]),
        (Caller("10.0.0.7", "CN=pacs", user=DOCTOR), ["CN=pacs", DOCTOR.name]),
        (Caller("10.0.0.7", user=DOCTOR), ["10.0.0.7", DOCTOR.name]),
    ],
)
def test_one_or_two_take_part_in_a_reading_of_the_log(caller, taking_part):
    parties = participants.serving(caller, "https://a", "77-abc")
    used = node_events.audit_log_used(parties, log_uri="https://a", outcome=Outcome.SUCCESS)
    assert [one.user_id for one in used.participants] == taking_part
    assert used.participants[0].network_id == "10.0.0.7"
    assert [one.is_requestor for one in used.participants] == [caller.user is None, caller.user is not None]


@pytest.mark.parametrize("name", EVERY)
def test_every_record_is_valid_against_the_schema(name, schema, recorder):
    schema.assertValid(etree.fromstring(recorded(recorder, EVERY[name])))


@pytest.mark.parametrize("name", EVERY)
def test_every_record_is_read_as_it_was_written(name, recorder):
    data = recorded(recorder, EVERY[name])
    message = parse(data)
    assert encode(message) == data
    assert message.participants == EVERY[name].participants
    assert message.objects == EVERY[name].objects
    assert message.event.event_id == EVERY[name].event.event_id


@pytest.mark.parametrize(
    ("name", "event_id", "action", "type_code"),
    [
        ("iti41 repository", "110107", "C", "ITI-41"),
        ("iti41 source", "110106", "R", "ITI-41"),
        ("iti42 registry", "110107", "C", "ITI-42"),
        ("iti42 repository", "110106", "R", "ITI-42"),
        ("iti18 registry", "110112", "E", "ITI-18"),
        ("iti18 consumer", "110112", "E", "ITI-18"),
        ("iti43 repository", "110106", "R", "ITI-43"),
        ("iti43 consumer", "110107", "C", "ITI-43"),
        ("iti86", "110110", "D", "ITI-86"),
        ("iti8", "110110", "C", "ITI-8"),
        ("start", "110100", "E", "110120"),
        ("stop", "110100", "E", "110121"),
        ("node", "110113", "E", "110126"),
        ("malware", "110113", "E", "malware"),
    ],
)
def test_the_rows_of_the_table(name, event_id, action, type_code):
    event = EVERY[name].event
    assert (event.event_id.code, event.action, event.type_codes[0].code) == (event_id, action, type_code)


def by_role(message):
    return {participant.roles[0].code: participant for participant in message.participants if participant.roles}


def test_who_sends_is_the_source_and_asks():
    roles = by_role(EVERY["iti42 registry"])
    source, destination = roles["110153"], roles["110152"]
    assert (source.user_id, source.is_requestor, source.network_id, source.network_type) == (
        "10.0.0.7",
        True,
        "10.0.0.7",
        2,
    )
    assert (destination.user_id, destination.is_requestor, destination.network_type) == (ENDPOINT, False, 1)
    assert destination.alternative_user_id == "77-abc"
    assert source.alternative_user_id is None


def test_on_a_retrieve_the_roles_swap_and_the_consumer_still_asks():
    roles = by_role(EVERY["iti43 repository"])
    assert (roles["110153"].user_id, roles["110153"].is_requestor) == (ENDPOINT, False)
    assert (roles["110152"].user_id, roles["110152"].is_requestor) == ("10.0.0.7", True)
    assert roles["110153"].alternative_user_id == "77-abc"


def test_the_authenticated_node_takes_part():
    assert "CN=pacs,O=Hospital A" in [participant.user_id for participant in EVERY["iti18 registry"].participants]
    plain = query(participants.serving(Caller("10.0.0.7"), ENDPOINT, "1"))
    assert len(plain.participants) == 2


@pytest.mark.parametrize("name", ["iti18 a doctor", "iti43 a doctor", "log used by a doctor"])
def test_a_known_person_takes_part_asks_and_says_for_what(name, recorder):
    """ITI TF-2: 3.40: UserName alias<user@issuer>, the roles, PurposeOfUse beside the event."""
    record = recorder.record(EVERY[name])
    read = parse(record.partition(b" - ")[2])
    (person,) = [one for one in read.participants if one.is_requestor]
    assert (person.user_id, person.user_name) == ("marie.curie", "mc<marie.curie@https://idp.example.lu>")
    assert [(role.code, role.text) for role in person.roles] == [("112247003", "Medical doctor")]
    assert (person.network_id, person.network_type) == (None, None)
    # both ends, the authenticated node, the person; of the log itself who reads it and in whose name
    assert len(read.participants) == (2 if name.startswith("log") else 4)
    assert [(code.code, code.system) for code in read.event.purposes_of_use] == [
        ("TREATMENT", "2.16.840.1.113883.3.18.7.1")
    ]
    assert {"marie.curie", "mc<marie.curie@https://idp.example.lu>"} <= index(record).users


def test_reply_to_names_the_source_unless_it_is_anonymous():
    anonymous = "http://www.w3.org/2005/08/addressing/anonymous"
    assert participants.serving(CALLER, ENDPOINT, "1", user_id=anonymous).requester_user_id == "10.0.0.7"
    assert participants.serving(CALLER, ENDPOINT, "1", user_id="https://a/reply").requester_user_id == "https://a/reply"


def test_the_query_is_base64_once(recorder):
    root = etree.fromstring(recorded(recorder, EVERY["iti18 registry"]))
    assert base64.b64decode(root.findtext(".//ParticipantObjectQuery")) == REQUEST
    details = {one.get("type"): base64.b64decode(one.get("value")) for one in root.iter("ParticipantObjectDetail")}
    assert details["QueryEncoding"] == b"UTF-8"
    assert details["urn:ihe:iti:xca:2010:homeCommunityId"] == b"urn:oid:1.2.3"
    assert details["urn:dossier:access-rule"] == b"permit-all"


def test_documents_carry_repository_and_home():
    found = EVERY["iti43 repository"].objects[1]
    assert (found.type_code, found.role, found.id, found.id_type.code) == (2, 3, "1.2.3^4", "9")
    details = {detail.type: detail.value for detail in found.details}
    assert details == {"Repository Unique Id": b"1.2.3.9", "ihe:homeCommunityID": b"urn:oid:1.2"}


def test_a_removed_document_is_erased_by_request_or_by_a_rule_that_is_named():
    patient, document, _ = EVERY["iti86"].objects
    assert (patient.id, document.id, document.life_cycle) == (PATIENT, "1.2.3^4", 15)
    assert EVERY["iti43 repository"].objects[1].life_cycle is None
    by_rule = EVERY["retention"]
    assert (by_rule.event.action, by_rule.event.type_codes, by_rule.objects[0].life_cycle) == ("D", (), 15)
    details = {detail.type: detail.value for detail in by_rule.objects[0].details}
    assert details["urn:dossier:operation"] == b"retention: class 1^^2: 30 days after creation"


def test_a_mixed_retrieve_is_two_records():
    both = events.retrieved_partly(ANSWERING, found=DOCUMENTS[:1], missed=DOCUMENTS[1:], reason="XDSMissingDocument")
    assert [(message.event.outcome, message.objects[0].id) for message in both] == [(0, "1.2.3^4"), (8, "1.2.4")]
    assert [m.event.outcome for m in events.retrieved_partly(ANSWERING, found=DOCUMENTS, missed=())] == [0]


def test_the_submission_set_is_always_named():
    refused = EVERY["iti42 refused"]
    assert [(item.type_code, item.role, item.id) for item in refused.objects] == [(2, 20, "unknown")]
    assert refused.event.outcome_description == "XDSRegistryMetadataError"


def test_the_environment_stands_in_the_record(recorder):
    source = parse(recorded(recorder, EVERY["start"])).source
    assert (source.source_id, source.enterprise_site_id) == ("dossier-registry@host", "urn:oid:1.2.3")
    assert ("test", "urn:dossier:environment") in [(code.code, code.system) for code in source.type_codes]
