"""ITI-47 to a running Dossier: by a plain zeep client of our WSDL, and as raw messages that are wrong."""

import http.client
import uuid
from urllib.parse import urlsplit

import pytest
import zeep

from ihe.hl7v3_parts import INTERACTIONS
from schemas import parse_xml
from tests.builders import AUTHORITY
from tests.hl7v3_queries import DEMOGRAPHICS, FIND, NOBODY, by_id, query
from tests.repository.stand import envelope

ACTION = "urn:hl7-org:v3:PRPA_IN201305UV02"


@pytest.fixture(scope="module")
def client(dossier_server):
    return zeep.Client(f"{dossier_server.registry}?wsdl")


@pytest.fixture(scope="module")
def somebody(dossier_server):
    """The id of a patient of whom a feed told name, birth and sex; nobody else is called so."""
    name = f"Z{uuid.uuid4().hex[:10]}"
    patient = f"{name}^^^&{AUTHORITY}&ISO"
    told = ("--family", f"Müller {name}", "--given", "Änne", "--birth", "19700101", "--sex", "F")
    dossier_server.run("feed", "--patient", patient, *told)
    return name


def device(root, home=None):
    agent = {
        "classCode": "AGNT",
        "representedOrganization": {"classCode": "ORG", "determinerCode": "INSTANCE", "id": [{"root": home}]},
    }
    return {
        "classCode": "DEV",
        "determinerCode": "INSTANCE",
        "id": [{"root": root}],
        **({"asAgent": agent} if home else {}),
    }


def message(parameters, home=None):
    """The parts of a query, as a zeep client gives them."""
    return {
        "ITSVersion": "XML_1.0",
        "id": {"root": str(uuid.uuid4())},
        "creationTime": {"value": "20261122120000"},
        "interactionId": {"root": INTERACTIONS, "extension": FIND},
        "processingCode": {"code": "P"},
        "processingModeCode": {"code": "T"},
        "acceptAckCode": {"code": "AL"},
        "receiver": [{"typeCode": "RCV", "device": device("1.2.42.1")}],
        "sender": {"typeCode": "SND", "device": device("1.2.42.2", home)},
        "controlActProcess": {
            "classCode": "CACT",
            "moodCode": "EVN",
            "code": {"code": "PRPA_TE201305UV02"},
            "queryByParameter": {
                "queryId": {"root": "1.2.42.3", "extension": uuid.uuid4().hex},
                "statusCode": {"code": "new"},
                "responseModalityCode": {"code": "R"},
                "responsePriorityCode": {"code": "I"},
                "parameterList": parameters,
            },
        },
    }


def demographics(family, given="Anne", birth="19700101"):
    return {
        "livingSubjectBirthTime": [{"value": [{"value": birth}], "semanticsText": "LivingSubject.birthTime"}],
        "livingSubjectName": [
            {"value": [{"_value_1": [{"family": family}, {"given": given}]}], "semanticsText": "LivingSubject.name"}
        ],
    }


def identifier(extension, root=AUTHORITY):
    return {
        "livingSubjectId": [{"value": [{"root": root, "extension": extension}], "semanticsText": "LivingSubject.id"}]
    }


def ask(client, parameters):
    """(acknowledgement, answer) as zeep reads them."""
    parts = message(parameters)
    answer = client.service.PDSupplier_PRPA_IN201305UV02(**parts)
    (acknowledgement,) = answer.acknowledgement
    assert acknowledgement.targetMessage.id.root == parts["id"]["root"]
    asked = parts["controlActProcess"]["queryByParameter"]["queryId"]
    assert answer.controlActProcess.queryAck.queryId.extension == asked["extension"]
    assert answer.controlActProcess.queryByParameter.queryId.extension == asked["extension"]
    return acknowledgement, answer.controlActProcess


def test_a_plain_zeep_client_finds_by_name_and_by_id(client, somebody):
    for parameters in (demographics(f"MULLER-{somebody}"), identifier(somebody)):
        acknowledgement, told = ask(client, parameters)
        assert (acknowledgement.typeCode.code, told.queryAck.queryResponseCode.code) == ("AA", "OK")
        (subject,) = told.subject
        patient = subject.registrationEvent.subject1.patient
        assert [(one.root, one.extension) for one in patient.id] == [(AUTHORITY, somebody)]
        assert patient.patientPerson.birthTime.value == "19700101"
        assert patient.subjectOf1.queryMatchObservation.value.value == 100


@pytest.mark.parametrize("parameters", [demographics("Nobody"), identifier("Nobody")], ids=["name", "id"])
def test_nobody_is_found(client, parameters):
    acknowledgement, told = ask(client, parameters)
    assert (acknowledgement.typeCode.code, told.queryAck.queryResponseCode.code) == ("AA", "NF")
    assert told.subject == []


def test_too_little_is_refused(client):
    acknowledgement, told = ask(client, {"livingSubjectName": demographics("Müller")["livingSubjectName"]})
    assert (acknowledgement.typeCode.code, told.queryAck.queryResponseCode.code) == ("AE", "AE")
    (detail,) = acknowledgement.acknowledgementDetail
    assert detail.code.code == "101"
    assert detail.location[0].endswith("parameterList/livingSubjectBirthTime")


@pytest.fixture(scope="module")
def post(dossier_server):
    """Sends an envelope's bytes; (HTTP status, wsa:Action, the child of Body)."""
    place = urlsplit(dossier_server.registry)

    def send_bytes(data):
        connection = http.client.HTTPConnection(place.hostname, place.port, timeout=30)
        try:
            connection.request("POST", place.path, data, {"Content-Type": "application/soap+xml; charset=UTF-8"})
            answer = connection.getresponse()
            element = parse_xml(answer.read())
            return answer.status, element.findtext("{*}Header/{*}Action"), element.find("{*}Body")[0]
        finally:
            connection.close()

    return send_bytes


WRONG = {
    "no query": (query(queries=0), "101"),
    "two queries": (query(queries=2), "102"),
    "another interaction": (query(interaction="PRPA_IN201309UV02"), "201"),
    "a long id": (query(message_id=f'<id root="{"1" * 999}"/>'), "102"),
    "a thousand ids": (query(by_id(*map(str, range(1000)), root=NOBODY)), "102"),
    "nothing at all": (f'<{FIND} xmlns="urn:hl7-org:v3"/>'.encode(), "101"),
    "entities": (query(DEMOGRAPHICS.replace("Müller", "&lt;script&gt;")), None),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_messages_are_answered_with_their_codes(post, case):
    body, code = WRONG[case]
    status, action, answer = post(envelope(ACTION, body))
    assert (status, action) == (200, "urn:hl7-org:v3:PRPA_IN201306UV02")
    found = answer.find("{*}acknowledgement/{*}acknowledgementDetail/{*}code")
    assert (None if found is None else found.get("code")) == code
    assert "Traceback" not in "".join(answer.itertext())


def test_a_continuation_is_no_transaction_of_ours(post):
    status, _action, fault = post(envelope("urn:hl7-org:v3:QUQI_IN000003UV01_Continue", query()))
    assert status == 400
    assert "ActionNotSupported" in "".join(fault.itertext())
