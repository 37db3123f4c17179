"""The RESTful feed over real HTTP: kept as it came, found like the others, refused with the place; nothing falls over."""

import json
from contextlib import closing

import httpx2
import pytest
from fhir.resources.R4B.bundle import Bundle
from fhir.resources.R4B.operationoutcome import OperationOutcome

from atna.fhir_audit_event import audit_event
from atna.fhir_reading import read_resource
from atna.fhir_writing import as_json, as_xml
from atna.record_repository.indexing import index, read
from atna.record_repository.store.protocol import Criteria
from atna.record_repository.store.records import RecordStore
from tests.atna.fhir_samples import balp, everything, hostile
from tests.atna.record_repository.audit_service import Service, frames
from tests.atna.record_repository.test_iti81 import rich

DAY = {"date": "2026-03-01"}
JSON, XML = "application/fhir+json", "application/fhir+xml"
ONE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
"""Where it does not matter which database it is."""
WRITERS = {JSON: as_json, XML: as_xml}


@pytest.fixture
def store(service):
    store = RecordStore.open(service.url)
    yield store
    store.close()


def post(http, body, media_type=JSON, path="/fhir/AuditEvent", **headers):
    return http.post(path, content=body, headers={"content-type": media_type, **headers})


def found(http, **parameters):
    answer = http.get("/fhir/AuditEvent", params={**DAY, **parameters})
    assert answer.status_code == 200, answer.text
    return [entry["resource"] for entry in answer.json().get("entry", [])]


@pytest.mark.parametrize("media_type", [JSON, XML])
@pytest.mark.parametrize("sample", [balp(), everything()], ids=["balp", "everything"])
def test_it_is_kept_as_it_came_and_given_back(http, store, media_type, sample):
    body = json.dumps(sample, indent=1).encode() if media_type == JSON else as_xml(sample).replace(b"/><", b"/>\n <")
    answer = post(http, body, media_type, accept=media_type)
    assert (answer.status_code, answer.headers["etag"]) == (201, 'W/"1"')
    assert answer.headers["location"] == f"{http.base_url}/fhir/AuditEvent/1".replace("//fhir", "/fhir")
    (stored,) = store.find(Criteria(), limit=9)
    assert (stored.message, stored.readable) == (body, True)
    given = read_resource(http.get(answer.headers["location"], headers={"accept": media_type}).content)
    assert read_resource(answer.content) == given
    assert (given["id"], given["meta"]["versionId"]) == ("1", "1")
    assert given["meta"].get("profile") == sample["meta"]["profile"]
    own = {"id", "meta"}
    assert {k: v for k, v in given.items() if k not in own} == {k: v for k, v in sample.items() if k not in own}
    assert store.verify_chain().holds


@ONE
def test_an_event_that_has_no_time_is_found_at_the_time_it_came(http, store):
    absent = {
        "extension": [{"url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason", "valueCode": "unknown"}]
    }
    event = {**balp(), "_recorded": absent}
    del event["recorded"]
    answer = post(http, as_json(event))
    assert (answer.status_code, answer.json()["_recorded"]) == (201, absent)
    (kept,) = store.find(Criteria(), limit=9)
    came = answer.json()["meta"]["lastUpdated"]
    shown = http.get("/fhir/AuditEvent", params={"date": came, "patient": "17"}).json()["entry"]
    assert [entry["resource"]["id"] for entry in shown] == [str(kept.number)]
    assert store.verify_chain().holds


def test_equal_bytes_are_one_record_with_one_address(http, store):
    first = post(http, as_json(balp()))
    again = post(http, as_json(balp()))
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.headers["location"] == again.headers["location"]
    other = post(http, as_json(balp(action="E")))
    assert (other.status_code, other.headers["location"] == first.headers["location"]) == (201, False)
    assert len(store.find(Criteria(), limit=9)) == 2


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("patient", "17"), ("patient", "Patient/17"), ("patient.identifier", "Patient/17"), ("address", "10.1.2.3"),
        ("address", "server.example"), ("user", "u-4711"), ("user", "Dr. Weber"), ("agent-name", "dr. w"),
        ("agent", "https://client.example.org"), ("policy", "urn:uuid:0b6a4dd5-8ac7-4f4f-8f5b-c7d4a8a70a4f"),
        ("agent-role", "110153"), ("agent-role", "IRCP"), ("purpose", "BTG"), ("source", "Device/gateway"),
        ("site", "Ward 7"), ("entity", "DocumentReference/99"), ("entity-name", "blood"), ("entity-role", "3"),
        ("entity-type", "2"), ("type", "rest"), ("subtype", "http://hl7.org/fhir/restful-interaction|read"),
        ("action", "R"), ("outcome", "0"),
    ],
)  # fmt: skip
def test_it_is_found_by_everything_it_says(service_with_balp, parameter, value):
    (event,) = found(service_with_balp, **{parameter: value})
    assert event["entity"][0]["what"] == {"reference": "Patient/17"}
    assert (
        found(
            service_with_balp, **{parameter: value + "0"} if parameter not in CODES else {parameter: CODES[parameter]}
        )
        == []
    )


CODES = {"action": "D", "outcome": "12", "entity-role": "5", "entity-type": "4"}


@pytest.fixture(scope="module")
def service_with_balp(tmp_path_factory):
    service = Service(f"sqlite:///{tmp_path_factory.mktemp('balp')}/audit.db")
    with closing(httpx2.Client(base_url=service.base, timeout=20, trust_env=False)) as client:
        assert post(client, as_json(balp())).status_code == 201
        yield client
    service.close()


@ONE
def test_patients_by_identifier_by_reference_and_as_agent(http):
    by_identifier = everything()
    himself = balp()
    del himself["entity"]
    himself["agent"][2]["who"] = {"identifier": {"system": "urn:oid:1.2.3", "value": "P-9"}, "type": "Patient"}
    for sample in (by_identifier, himself, balp(patient="18")):
        assert post(http, as_json(sample)).status_code == 201
    assert {event["id"] for event in found(http, **{"patient.identifier": "urn:oid:1.2.3|P-9"})} == {"1", "2"}
    assert {event["id"] for event in found(http, **{"patient.identifier": "P-9^^^&1.2.3&ISO"})} == {"1", "2"}
    assert [event["id"] for event in found(http, patient="18")] == ["3"]
    assert {event["id"] for event in found(http, entity="P-9^^^&1.2.3&ISO")} == {"1", "2"}


def test_our_own_record_there_and_back(service, http, writer, store):
    """What a service of ours delivers to a FHIR sink is found by the same searches as what it delivers by syslog."""
    record = rich(writer)
    message = read(record)
    service.feed(frames(record))
    sent = audit_event(None, index(record).event_at, message)
    for media_type, write in WRITERS.items():
        assert post(http, write(sent), media_type).status_code == 201
    for parameter, value in {
        "patient.identifier": "urn:oid:1.2.3|p9", "user": "HOSPITAL|LAB", "agent-name": "anna", "altid": "4711-abc",
        "agent-role": "physician", "address": "192.0.2.77", "type": "110110", "subtype": "ITI-8", "outcome": "4",
        "action": "U", "entity-id": "1.9.9", "entity-role": "24", "entity-type": "2", "entity-name": "Blood",
        "source": "registry@host", "site": "urn:oid:1.2.3", "purpose": "EMERGENCY",
    }.items():  # fmt: skip
        shown = found(http, **{parameter: value})
        assert len(shown) == 3, parameter
        for one in shown:
            del one["id"], one["meta"]
        assert shown[0] == shown[1] == shown[2]
    day = Criteria(since=1_772_323_200_000_000, before=1_772_409_600_000_000)
    kept = [read(stored.message) for stored in store.find(day, limit=9)]
    assert len(kept) == 3
    patients = {message.objects[0].id for message in kept}
    assert patients == {"p9^^^Hospital&1.2.3&ISO", "p9^^^&1.2.3&ISO"}


@ONE
@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"recorded": "yesterday"}, "AuditEvent.recorded"), ({"agent": []}, "AuditEvent.agent"),
        ({"contained": [{"resourceType": "Patient"}]}, "AuditEvent"), ({"source": {}}, "AuditEvent.source"),
    ],
)  # fmt: skip
def test_what_is_invalid_is_told_with_its_place_and_not_kept(http, store, change, place):
    answer = post(http, json.dumps(balp(**change)).encode())
    assert answer.status_code == 422
    told = OperationOutcome.model_validate(answer.json())
    assert told.issue[0].expression == [place]
    assert store.find(Criteria(), limit=9) == []


@pytest.mark.parametrize(("name", "data"), hostile(), ids=[name for name, _data in hostile()])
def test_what_is_hostile_is_refused_and_the_service_goes_on(service_with_balp, name, data):
    media_type = XML if data.lstrip()[:1] == b"<" else JSON
    answer = post(service_with_balp, data, media_type)
    assert answer.status_code in {400, 422}, answer.text
    told = OperationOutcome.model_validate(answer.json())
    assert "Traceback" not in answer.text
    assert len(told.issue[0].diagnostics) < 600
    assert len(found(service_with_balp)) == 1


def test_what_a_feed_of_bytes_brings_is_kept_whatever_it_is(service, http, store):
    """Over the feed of syslog messages nothing is refused; FHIR is understood there, too."""
    bad = [data for _name, data in hostile()]
    assert service.feed(frames(as_json(balp()), as_xml(everything()), *bad)) == (
        200,
        {"stored": len(bad) + 2, "repeated": 0, "unreadable": len(bad)},
    )
    assert len(found(http)) == 2
    assert store.verify_chain().records == len(bad) + 3  # the search is a record, too


@ONE
@pytest.mark.parametrize(
    ("media_type", "body", "status"),
    [
        ("text/plain", as_json(balp()), 415), ("application/fhir+json; charset=latin-1", as_json(balp()), 415),
        ("application/fhir+json; fhirVersion=5.0", as_json(balp()), 415), (XML, as_json(balp()), 400),
        (JSON, as_xml(balp()), 400), (JSON, b"", 400), (XML, b"", 400), ("application/json", as_json(balp()), 201),
        ("text/xml; charset=UTF-8", as_xml(balp()), 201), (JSON, b"[]", 400), (JSON, b'{"resourceType":"Patient"}', 422),
    ],
)  # fmt: skip
def test_the_body_is_what_it_says_it_is(http, media_type, body, status):
    assert post(http, body, media_type).status_code == status


@ONE
def test_what_is_too_large_is_refused_before_it_is_read(database_url):
    service = Service(database_url, max_fhir_bytes=10_000)
    with closing(httpx2.Client(base_url=service.base, timeout=20, trust_env=False)) as client:
        assert post(client, as_json(balp(outcomeDesc="x" * 10_000))).status_code == 413
        assert post(client, as_json(balp())).status_code == 201
    service.close()


@ONE
def test_a_minimal_answer_and_no_conditional_create(http):
    answer = post(http, as_json(balp()), prefer="return=minimal")
    assert (answer.status_code, answer.content) == (201, b"")
    assert "location" in answer.headers
    answer = post(http, as_json(balp()), **{"if-none-exist": "patient=17"})
    assert (answer.status_code, answer.json()["issue"][0]["code"]) == (412, "not-supported")


def bundle(kind, *resources):
    entries = [{"resource": one, "request": {"method": "POST", "url": "AuditEvent"}} for one in resources]
    return json.dumps({"resourceType": "Bundle", "type": kind, "entry": entries}, indent=1).encode()


@pytest.mark.parametrize("kind", ["batch", "transaction"])
def test_many_at_once(http, store, kind):
    assert post(http, json.dumps(balp(), indent=1).encode()).status_code == 201
    body = bundle(kind, balp(), everything(), balp(action="C"))
    answer = post(http, body, path="/fhir")
    assert answer.status_code == 200
    told = Bundle.model_validate(answer.json())
    assert told.type == f"{kind}-response"
    assert [entry.response.status for entry in told.entry] == ["201 Created"] * 3
    again = Bundle.model_validate(post(http, body, path="/fhir").json())
    assert [entry.response.status for entry in again.entry] == ["200 OK"] * 3
    assert [entry.response.location for entry in again.entry] == [entry.response.location for entry in told.entry]
    kept = store.find(Criteria(), limit=9)
    assert len(kept) == 4
    assert all(stored.message in body or stored.number == 1 for stored in kept)
    one = http.get(told.entry[1].response.location)
    assert one.json()["outcomeDesc"] == everything()["outcomeDesc"]


def test_of_a_batch_the_good_are_kept_of_a_transaction_none(http, store):
    bad = balp(outcome="1")
    answer = post(http, bundle("transaction", balp(), bad, bad), path="/fhir")
    assert answer.status_code == 422
    assert [one["expression"] for one in answer.json()["issue"]] == [
        ["Bundle.entry[1].resource.outcome"],
        ["Bundle.entry[2].resource.outcome"],
    ]
    assert store.find(Criteria(), limit=9) == []
    answer = post(http, bundle("batch", balp(), bad, balp(action="C")), path="/fhir")
    statuses = [entry["response"]["status"] for entry in answer.json()["entry"]]
    assert statuses == ["201 Created", "422 Unprocessable Entity", "201 Created"]
    assert len(store.find(Criteria(), limit=9)) == 2


@ONE
@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"resourceType":"Bundle","type":"batch"}', 200),
        (b'{"resourceType":"Bundle","type":"history"}', 422),
        (b'{"resourceType":"Bundle","_type":{"extension":[{"url":"http://example.org/x","valueCode":"c"}]}}', 422),
        (b'{"resourceType":"Bundle","type":"batch","entry":{}}', 422),
        (b'{"resourceType":"Bundle","type":"batch","other":[]}', 422),
        (b'{"resourceType":"Bundle","type":"batch","entry":[' + b"{}," * 1000 + b"{}]}", 422),
        (b'{"resourceType":"AuditEvent"}', 422),
        (b'{"entry":[{"resource":{"a":{"a":{"a":[', 400),
    ],
)
def test_a_bundle_that_is_none(http, body, status):
    assert post(http, body, path="/fhir").status_code == status


@ONE
@pytest.mark.parametrize(
    "entry",
    [{}, {"resource": {}}, {"resource": balp()}, {"resource": balp(), "request": {"method": "PUT", "url": "AuditEvent/1"}},
     {"resource": {"resourceType": "Patient"}, "request": {"method": "POST", "url": "AuditEvent"}},
     {"resource": balp(), "request": {"method": "POST", "url": "AuditEvent"}, "condition": "x"},
     {"resource": balp(), "request": {"method": "POST", "url": "AuditEvent", "ifNoneExists": "x"}},
     {"resource": balp(), "request": {"method": "POST", "url": "AuditEvent"}, "fullUrl": 1}],
)  # fmt: skip
def test_an_entry_that_is_no_creation_of_an_audit_event(http, store, entry):
    body = json.dumps({"resourceType": "Bundle", "type": "batch", "entry": [entry]}).encode()
    (answer,) = post(http, body, path="/fhir").json()["entry"]
    assert answer["response"]["status"] == "422 Unprocessable Entity"
    assert answer["response"]["outcome"]["issue"][0]["expression"][0].startswith("Bundle.entry[0]")
    assert store.find(Criteria(), limit=9) == []


@ONE
def test_no_conditional_create_in_a_bundle_either(http, store):
    condition = {"method": "POST", "url": "AuditEvent", "ifNoneExist": "patient=17"}
    good = {"resource": balp(), "request": {"method": "POST", "url": "AuditEvent"}, "fullUrl": "urn:uuid:1"}
    entries = [good, {"resource": everything(), "request": condition}]
    for kind in ("transaction", "batch"):
        body = json.dumps({"resourceType": "Bundle", "type": kind, "entry": entries}).encode()
        answer = post(http, body, path="/fhir")
        told = answer.json()
        if kind == "transaction":
            assert (answer.status_code, store.find(Criteria(), limit=9)) == (412, [])
        else:
            assert [one["response"]["status"] for one in told["entry"]] == ["201 Created", "412 Precondition Failed"]
            told = told["entry"][1]["response"]["outcome"]
        assert told["issue"][0]["expression"] == ["Bundle.entry[1].request.ifNoneExist"]
    assert len(store.find(Criteria(), limit=9)) == 1


@ONE
def test_a_bundle_in_xml_is_refused_with_a_way_out(http):
    body = as_xml({"resourceType": "Bundle", "type": "batch"})
    answer = post(http, body, XML, path="/fhir")
    assert (answer.status_code, answer.json()["issue"][0]["code"]) == (415, "not-supported")


@ONE
def test_a_database_that_does_not_take_it_keeps_nothing_acknowledged(service, http, store):
    from atna.store.engine import begin_write

    with begin_write(store._engine) as connection:
        connection.exec_driver_sql("DROP TABLE chain_head")
    answer = post(http, as_json(balp()))
    assert (answer.status_code, answer.json()["issue"][0]["code"]) == (503, "transient")
    assert "chain_head" not in answer.text
