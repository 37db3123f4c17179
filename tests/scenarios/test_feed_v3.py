"""ITI-44 to a running Dossier: by a plain zeep client of our WSDL, and as raw messages that are wrong."""

import http.client
import time
import uuid
from urllib.parse import urlsplit

import pytest
import zeep

from dossier.demo import serving
from ihe.hl7v3 import INTERACTIONS
from repository.store.keyring import new_line
from schemas import parse_xml
from tests.builders import AUTHORITY, submission
from tests.hl7v3_messages import ADD, RESOLVE, REVISE, feed, ii
from tests.repository.stand import envelope
from tests.scenarios.wire_peer import WirePeer

HL7 = "urn:hl7-org:v3"


@pytest.fixture(scope="module")
def client(dossier_server):
    return zeep.Client(f"{dossier_server.registry}?wsdl")


def device(root):
    return {"classCode": "DEV", "determinerCode": "INSTANCE", "id": [{"root": root}]}


def message(name, ids, prior=()):
    """The parts of an interaction, as a zeep client gives them."""
    patient = {
        "classCode": "PAT",
        "id": [{"root": AUTHORITY, "extension": one} for one in ids],
        "statusCode": {"code": "active"},
        "patientPerson": {
            "classCode": "PSN",
            "determinerCode": "INSTANCE",
            "name": [{"_value_1": [{"family": "O'Hara"}, {"given": "Änne"}]}],
            "administrativeGenderCode": {"code": "F"},
            "birthTime": {"value": "19700101"},
        },
        "providerOrganization": {"classCode": "ORG", "determinerCode": "INSTANCE", "id": [{"root": AUTHORITY}]},
    }
    event = {
        "classCode": "REG",
        "moodCode": "EVN",
        "statusCode": {"code": "active"},
        "subject1": {"typeCode": "SBJ", "patient": patient},
        "custodian": {"typeCode": "CST", "assignedEntity": {"classCode": "ASSIGNED", "id": [{"root": "1.2.42.2"}]}},
        "replacementOf": [
            {
                "typeCode": "RPLC",
                "priorRegistration": {
                    "classCode": "REG",
                    "moodCode": "EVN",
                    "statusCode": {"code": "obsolete"},
                    "subject1": {
                        "typeCode": "SBJ",
                        "priorRegisteredRole": {"classCode": "PAT", "id": [{"root": AUTHORITY, "extension": one}]},
                    },
                },
            }
            for one in prior
        ],
    }
    return {
        "ITSVersion": "XML_1.0",
        "id": {"root": str(uuid.uuid4())},
        "creationTime": {"value": "20261122120000"},
        "interactionId": {"root": INTERACTIONS, "extension": name},
        "processingCode": {"code": "P"},
        "processingModeCode": {"code": "T"},
        "acceptAckCode": {"code": "AL"},
        "receiver": [{"typeCode": "RCV", "device": device("1.2.42.1")}],
        "sender": {"typeCode": "SND", "device": device("1.2.42.2")},
        "controlActProcess": {
            "classCode": "CACT",
            "moodCode": "EVN",
            "subject": {"typeCode": "SUBJ", "registrationEvent": event},
        },
    }


def send(client, name, ids, prior=()):
    """The acknowledgement as zeep reads it."""
    parts = message(name, ids, prior)
    answer = getattr(client.service, f"DocumentRegistry_{name}")(**parts)
    (acknowledgement,) = answer.acknowledgement
    assert acknowledgement.targetMessage.id.root == parts["id"]["root"]
    assert answer.receiver[0].device.id[0].root == "1.2.42.2"
    return acknowledgement


def test_a_plain_zeep_client_adds_revises_and_merges(client, dossier_server, strict):
    old, new = f"Z{uuid.uuid4().hex[:10]}", f"Z{uuid.uuid4().hex[:10]}"
    assert send(client, ADD, [old]).typeCode.code == "AA"
    assert send(client, REVISE, [old]).typeCode.code == "AA"
    assert send(client, REVISE, [new]).typeCode.code == "AA"  # unknown: added
    answer = strict.register(submission(patient=f"{old}^^^&{AUTHORITY}&ISO"))
    assert answer.status == "Success", answer.errors
    assert send(client, RESOLVE, [new], [old]).typeCode.code == "AA"
    again = send(client, RESOLVE, [new], [old])
    assert again.typeCode.code == "AE"
    assert "merged into another already" in again.acknowledgementDetail[0].text
    assert again.acknowledgementDetail[0].location[0].endswith("priorRegisteredRole/id")


@pytest.fixture(scope="module")
def post(dossier_server):
    """Sends an envelope's bytes; (HTTP status, the child of Body)."""
    place = urlsplit(dossier_server.registry)

    def send_bytes(data):
        connection = http.client.HTTPConnection(place.hostname, place.port, timeout=30)
        try:
            connection.request("POST", place.path, data, {"Content-Type": "application/soap+xml; charset=UTF-8"})
            answer = connection.getresponse()
            element = parse_xml(answer.read())
            return answer.status, element
        finally:
            connection.close()

    return send_bytes


def test_the_answer_carries_the_action_of_the_acknowledgement(post):
    status, answer = post(envelope(f"{HL7}:{ADD}", feed(ids=ii("RAW1", AUTHORITY))))
    assert status == 200
    assert answer.findtext("{*}Header/{*}Action") == f"{HL7}:MCCI_IN000002UV01"
    assert answer.find("{*}Body/{*}MCCI_IN000002UV01/{*}acknowledgement/{*}typeCode").get("code") == "AA"


WRONG = {
    "unknown interaction": (envelope(f"{HL7}:PRPA_IN201309UV02", feed("PRPA_IN201309UV02")), "ActionNotSupported"),
    "another root": (envelope(f"{HL7}:{ADD}", feed(REVISE)), "asks for"),
    "a DTD": (b"<!DOCTYPE x>" + envelope(f"{HL7}:{ADD}", feed()), "document type"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_no_message_of_ours_is_a_fault(post, case):
    data, word = WRONG[case]
    status, answer = post(data)
    assert status == 400
    fault = answer.find("{*}Body/{*}Fault")
    assert word in "".join(fault.itertext())


def test_what_is_refused_is_on_record(dossier_server, post):
    long = "9" * 300
    status, answer = post(envelope(f"{HL7}:{ADD}", feed(ids=ii(long, AUTHORITY))))
    assert status == 200
    assert answer.find("{*}Body/{*}MCCI_IN000002UV01/{*}acknowledgement/{*}typeCode").get("code") == "AE"
    deadline = time.monotonic() + 20
    while not (rows := dossier_server.run("audit", "--patient", f"{long}^^^&{AUTHORITY}&ISO")):
        assert time.monotonic() < deadline
        time.sleep(0.3)
    assert [(row["event"], row["outcome"]) for row in rows] == [("ITI-44", "8")]


def test_matricules_of_a_domain_in_production(tmp_path, run_command):
    """Feeds and submissions by the same rule: in production a wrong number is refused everywhere."""
    config = tmp_path / "dossier.toml"
    (tmp_path / "keys").write_text(new_line("k1"))
    agreed = f'[affinity_domain]\nenvironment = "production"\nmatricule_authority = "{AUTHORITY}"\n'
    assert run_command("audit", "key", "--new", str(tmp_path / "audit_key"))[0] == 0
    sealed = f'[repository]\nkeyring = "{tmp_path / "keys"}"\n[audit]\ncheckpoint_key = "{tmp_path / "audit_key"}"\n'
    config.write_text(agreed + sealed)
    data = tmp_path / "data"
    data.mkdir()
    with serving(data, config=config) as running:
        port = ("--base-port", str(running.base_port))
        status, _out, err = run_command("feed", "--patient", f"1893120105742^^^&{AUTHORITY}&ISO", *port)
        assert status == 1
        assert "Luhn" in err
        assert run_command("feed", "--patient", f"1893120105732^^^&{AUTHORITY}&ISO", *port)[0] == 0
        peer = WirePeer(running, None)
        try:
            right = peer.register(submission(patient=f"1893120105732^^^&{AUTHORITY}&ISO"))
            wrong = peer.register(submission(patient=f"1893120105742^^^&{AUTHORITY}&ISO"))
        finally:
            peer.close()
    assert wrong.status == "Failure"
    assert any("Luhn" in text for code, text in wrong.errors if code == "XDSRegistryMetadataError")
    assert right.status == "Success", right.errors
