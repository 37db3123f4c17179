"""AuditEvents out (ITI-20, RESTful ATNA): each record confirmed by its own answer."""

import json
import socket

import pytest

from atna import events, participants
from atna.message import Outcome
from atna.recorder import Recorder
from atna.sender import BatchRefused, NotDelivered
from atna.sinks import parse_sink
from ihe.xua import Caller
from tests.records_sink import RecordsSink
from wire.fhir_client import FhirClient, resource_of

PATIENT = "P1^^^&1.2.3.4&ISO"


@pytest.fixture
def messages():
    recorder = Recorder("registry@host", "urn:oid:1.2.3", "dossier-registry", "host", lambda: 1_772_359_200.0)
    parties = participants.serving(Caller("10.0.0.7"), "http://registry/registry", "1")
    return [
        recorder.record(
            events.registered(parties, patient_id=PATIENT, submission_set_id=str(number), outcome=Outcome.SUCCESS)
        )
        for number in range(5)
    ]


@pytest.fixture
def post():
    client = FhirClient(None)
    yield lambda sink, messages: client(parse_sink(sink).url, messages)
    client.close()


def sets(sink):
    return [resource["entity"][1]["what"]["identifier"]["value"] for resource in sink.resources]


def test_each_record_is_an_audit_event(messages, post):
    with RecordsSink() as sink:
        post(sink.fhir, messages)
        assert sets(sink) == ["0", "1", "2", "3", "4"]
        first = sink.resources[0]
    assert (first["resourceType"], first["recorded"]) == ("AuditEvent", "2026-03-01T10:00:00.000000Z")
    assert "id" not in first
    assert first["subtype"][0]["code"] == "ITI-42"
    assert resource_of(messages[0]) == resource_of(messages[0])
    assert json.loads(resource_of(messages[0])) == first


@pytest.mark.parametrize("status", [0, 401, 404, 500, 503])
def test_what_was_taken_before_a_failure_is_told(messages, post, status):
    with RecordsSink(201, 201, status) as sink:
        with pytest.raises(NotDelivered) as caught:
            post(sink.fhir, messages)
        assert (caught.value.taken, sets(sink)) == (2, ["0", "1"])
        assert not isinstance(caught.value, BatchRefused)


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_record_that_the_server_refuses_by_itself(messages, post, status):
    with RecordsSink(201, status) as sink:
        with pytest.raises(BatchRefused) as caught:
            post(sink.fhir, messages)
        assert caught.value.taken == 1


def test_what_is_no_record_is_refused_by_ourselves(messages, post):
    with RecordsSink() as sink:
        with pytest.raises(BatchRefused) as caught:
            post(sink.fhir, [messages[0], b"nonsense"])
        assert caught.value.taken == 1


def test_nobody_is_there(messages, post):
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    with pytest.raises(NotDelivered, match="no answer"):
        post(f"fhir+http://127.0.0.1:{port}/fhir", messages)
