"""ITI-81 over real HTTP: both forms, what is negotiated, every parameter, pages while records come in, refusals."""

import uuid
from contextlib import closing

import httpx2
import pytest
from fhir.resources.R4B.bundle import Bundle
from fhir.resources.R4B.capabilitystatement import CapabilityStatement
from fhir.resources.R4B.operationoutcome import OperationOutcome

from atna import node_events, participants
from atna.fhir_reading import read_resource
from atna.message import (
    AuditMessage,
    CodedValue,
    Detail,
    EventIdentification,
    Outcome,
    Participant,
    ParticipantObject,
)
from atna.record_repository.indexing import read
from atna.record_repository.store.protocol import Criteria
from atna.record_repository.store.records import RecordStore
from ihe.xua import Caller
from tests.atna.conftest import Writer
from tests.atna.record_repository.audit_service import Service, frames

DAY = {"date": "2026-03-01"}
JSON, XML = "application/fhir+json", "application/fhir+xml"
OFFICER = CodedValue("EMERGENCY", "urn:purposes", "Emergency")


def rich(writer):
    """A record with a person, roles, purposes of use, names, a query and details."""
    roles = (CodedValue("110150", "DCM", "Application"), CodedValue("physician", "urn:roles", "Physician"))
    record = writer.recorder.record(
        AuditMessage(
            EventIdentification(
                CodedValue("110110", "DCM", "Patient Record"), "U", 4,
                (CodedValue("ITI-8", "IHE Transactions", "Feed"), CodedValue("x", None, None)), "why it failed",
                (OFFICER, CodedValue("TREAT", None, None)),
            ),
            (
                Participant("HOSPITAL|LAB", True, roles, "4711-abc", "alias<Weber@idp>", "Ward-7.Example.org", 1),
                Participant("CN=Dr. Anna,O=Hospital", False, (), None, "Anna Weber", "192.0.2.77", 2),
            ),
            (
                ParticipantObject("p9^^^Hospital&1.2.3&ISO", CodedValue("2", "RFC-3881", "Patient Number"), 1, 1),
                ParticipantObject("1.9.9", None, 2, 3, 6, "restricted", "Blood Count", None, (Detail("t", b"\0x"),)),
                ParticipantObject("q", None, 2, 24, query=b"<q>\xc3\xbc</q>"),
            ),
        )
    )  # fmt: skip
    return record.replace(b' codeSystemName="unknown"', b"")  # as products write it that have no name for it


def every_kind(writer):
    """One of each kind of record that the product writes."""
    parties = participants.serving(Caller("10.0.0.8", "CN=officer"), "http://audit/fhir", "1")
    document = participants.DocumentReference("1.2.3", "1.9", "urn:oid:1.8")
    messages = [
        node_events.application_activity(started=True, application="a", process_id="1", address="h"),
        node_events.audit_log_used(parties, log_uri="http://audit/fhir", outcome=Outcome.SUCCESS, search="date=2026"),
        node_events.node_authentication_failed(
            process_id="1", address="h", peer_address="10.9.9.9", peer_port=4711, reason="expired"
        ),
        node_events.malware_found(parties, document=document, malware="EICAR"),
    ]
    return [writer.query(), writer.registration(), rich(writer), *map(writer.recorder.record, messages)]


def resources(bundle):
    return [entry["resource"] for entry in bundle.get("entry", [])]


def numbers(answer):
    assert answer.status_code == 200, answer.text
    return [resource["id"] for resource in resources(answer.json())]


def test_every_kind_of_record_is_valid_fhir_in_both_forms(service, http, writer):
    service.feed(frames(*every_kind(writer), b"<85>1 2026-03-01T10:00:00Z h a p m - half a mess"))
    in_json = http.get("/fhir/AuditEvent", params=DAY)
    in_xml = http.get("/fhir/AuditEvent", params=DAY, headers={"accept": "application/fhir+xml"})
    assert (in_json.headers["content-type"], in_xml.headers["content-type"]) == (JSON, XML)
    assert in_json.headers["vary"] == "Accept"
    assert len(Bundle.model_validate(in_json.json()).entry) == 8
    seen = read_resource(in_xml.content, ("Bundle",))
    assert resources(seen) == resources(in_json.json())
    assert Bundle.model_validate_xml(in_xml.content).type == "searchset"
    for resource in resources(in_json.json()):
        one = http.get(f"/fhir/AuditEvent/{resource['id']}", headers={"accept": XML})
        assert read_resource(one.content) == resource
        assert (one.headers["etag"], resource["meta"]["versionId"]) == ('W/"1"', "1")


@pytest.mark.parametrize(
    "name",
    [
        "subtype",
        "type",
        "user",
        "patient.identifier",
        "patient",
        "address",
        "agent-role",
        "purpose",
        "entity",
        "policy",
        "_id",
    ],
)
def test_a_search_has_as_many_alternatives_as_a_database_takes(service, http, name):
    most = ",".join(map(str, range(1000, 1301)))
    others = {one: [str(n) for n in range(30)] for one in ("user", "subtype", "site")}
    form = {**DAY, **others, name: most}
    answer = http.post("/fhir/AuditEvent/_search", data=form)
    assert (answer.status_code, resources(answer.json())) == (200, [])
    again = http.post("/fhir/AuditEvent/_search", data={**form, "altid": "a,b"})
    (told,) = again.json()["issue"]
    assert (again.status_code, told["code"], told["expression"]) == (400, "too-costly", ["http.altid"])


def test_what_a_record_says_stands_where_fhir_has_it(service, http, writer):
    service.feed(frames(rich(writer)))
    (event,) = resources(http.get("/fhir/AuditEvent", params=DAY).json())
    lab, anna = event["agent"]
    assert lab["type"]["coding"] == [
        {"system": "http://dicom.nema.org/resources/ontology/DCM", "code": "110150", "display": "Application"}
    ]
    assert lab["role"][0]["coding"][0]["system"] == "urn:roles"
    assert (lab["who"]["identifier"]["value"], lab["altId"], lab["name"]) == (
        "HOSPITAL|LAB", "4711-abc", "alias<Weber@idp>",
    )  # fmt: skip
    assert (lab["requestor"], anna["requestor"]) == (True, False)
    assert anna["network"] == {"address": "192.0.2.77", "type": "2"}
    assert [one["coding"][0]["code"] for one in event["purposeOfEvent"]] == ["EMERGENCY", "TREAT"]
    assert (event["outcome"], event["outcomeDesc"], event["action"]) == ("4", "why it failed", "U")
    patient, document, query = event["entity"]
    assert patient["what"]["identifier"] == {
        "type": {"coding": [{"system": "urn:ietf:rfc:3881", "code": "2", "display": "Patient Number"}],
                 "text": "Patient Number"},
        "system": "urn:oid:1.2.3", "value": "p9",
    }  # fmt: skip
    assert document["lifecycle"]["code"] == "6"
    assert document["securityLabel"] == [{"code": "restricted"}]
    assert (document["name"], document["detail"]) == ("Blood Count", [{"type": "t", "valueBase64Binary": "AHg="}])
    assert "name" not in query
    assert query["role"] == {"system": "http://terminology.hl7.org/CodeSystem/object-role", "code": "24"}


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def service_of_one(request, tmp_path_factory):
    """A client of a service with one record, made once for a look by each parameter."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path_factory.mktemp('one')}/audit.db"
    else:
        server, name = request.getfixturevalue("postgres_server"), f"dossier_{uuid.uuid4().hex[:12]}"
        server.psql(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8'")
        url = server.get_uri(database=name).replace("postgresql://", "postgresql+psycopg://", 1)
    service = Service(url)
    service.feed(frames(rich(Writer())))
    with closing(httpx2.Client(base_url=service.base, timeout=20, trust_env=False)) as client:
        yield client
    service.close()


@pytest.mark.parametrize(
    ("parameter", "value", "miss"),
    [
        ("address", "192.0.2.77", "192.0.2.78"),
        ("address", "192.0.2.", "92.0.2.77"),
        ("address", "ward-7.EXAMPLE", "example"),
        ("agent", "HOSPITAL|LAB", "HOSPITAL|"),
        ("agent", "alias<Weber@idp>", "alias"),
        ("user", "CN=Dr. Anna\\,O=Hospital", "CN=Dr. Anna"),
        ("agent.identifier", "Anna Weber", "anna weber"),
        ("agent-name", "anna", "weber"),
        ("agent-role", "physician", "nurse"),
        ("agent-role", "urn:roles|physician", "urn:other|physician"),
        ("agent-role", "110150", "110151"),
        ("agent-role", "http://dicom.nema.org/resources/ontology/DCM|110150", "urn:roles|110150"),
        ("altid", "4711-abc", "4711"),
        ("patient.identifier", "urn:oid:1.2.3|p9", "urn:oid:1.2.4|p9"),
        ("patient:identifier", "p9^^^&1.2.3&ISO", "p^^^&1.2.3&ISO"),
        ("entity-id", "1.9.9", "1.9"),
        ("entity", "p9^^^Hospital&1.2.3&ISO", "p9^^^Hospital&1.2.4&ISO"),
        ("entity:identifier", "urn:oid:1.2.3|p9", "urn:oid:1.2.3|p8"),
        ("entity-name", "BLOOD", "count"),
        ("entity-role", "3", "4"),
        ("entity-role", "13,24", "13,23"),
        ("entity-type", "2", "3"),
        ("source", "registry@host", "registry@hos"),
        ("source.identifier", "registry@host", "host"),
        ("site", "urn:oid:1.2.3", "urn:oid:1.2"),
        ("type", "110110", "110112"),
        ("subtype", "urn:ihe:event-type-code|ITI-8", "urn:ihe:event-type-code|ITI-9"),
        ("subtype", "|x", "|ITI-8"),
        ("outcome", "4,8", "0,8"),
        ("action", "U", "C"),
        ("purpose", "EMERGENCY", "BTG"),
        ("purpose", "urn:purposes|EMERGENCY", "urn:other|EMERGENCY"),
        ("purpose", "|TREAT", "|EMERGENCY"),
        ("_id", "1", "2"),
    ],
)
def test_each_parameter_finds_by_what_it_names(service_of_one, parameter, value, miss):
    for wanted, found in ((value, ["1"]), (miss, [])):
        assert numbers(service_of_one.get("/fhir/AuditEvent", params={**DAY, parameter: wanted})) == found


def test_parameters_together_mean_and_commas_or(service_of_one):
    def found(*pairs):
        return numbers(service_of_one.get("/fhir/AuditEvent", params=[*DAY.items(), *pairs])) == ["1"]

    assert found(("user", "HOSPITAL|LAB"), ("user", "Anna Weber"), ("entity-role", "1"), ("entity-role", "24"))
    assert not found(("user", "HOSPITAL|LAB"), ("user", "Nobody"))
    assert found(("user", "Nobody,Anna Weber"), ("outcome", "0,4"))
    assert not found(("user", "Anna Weber"), ("outcome", "0"))
    assert not found(("entity-role", "1"), ("entity-role", "2"))


@pytest.mark.parametrize(
    ("accept", "format_", "expected"),
    [
        (None, None, JSON), ("*/*", None, JSON), ("application/json", None, JSON), ("text/xml", None, XML),
        ("application/xml;q=0.9, application/json;q=0.8", None, XML), ("application/*;q=0.1", None, JSON),
        ("text/html, application/fhir+json;q=0, application/fhir+xml;q=0.1", None, XML),
        ("application/fhir+xml; fhirVersion=4.0", None, XML), ("text/html", "json", JSON), (JSON, "xml", XML),
        (None, "application/fhir+xml", XML), (None, "text/xml", XML), (None, JSON, JSON),
        ("text/html", None, 406), ("application/fhir+json;fhirVersion=5.0", None, 406), (None, "html", 406),
        (None, "ttl", 406),
    ],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/fhir/metadata", "/fhir/AuditEvent", "/fhir/AuditEvent/1"])
def test_the_form_is_the_one_asked_for(service_of_one, path, accept, format_, expected):
    headers = {"accept": accept} if accept is not None else {}
    parameters = {**({"_format": format_} if format_ is not None else {}), **({} if path.endswith("1") else DAY)}
    answer = service_of_one.get(path, params=parameters, headers=headers)
    if expected == 406:
        assert answer.status_code == 406
        assert OperationOutcome.model_validate(answer.json()).issue[0].code == "not-supported"
    else:
        assert (answer.status_code, answer.headers["content-type"]) == (200, expected)


def test_refusals_have_the_form_asked_for_too(service_of_one):
    answer = service_of_one.get("/fhir/AuditEvent", params={"date": "x", "_format": "xml"})
    assert (answer.status_code, answer.headers["content-type"]) == (400, XML)
    told = OperationOutcome.model_validate_xml(answer.content)
    assert (told.issue[0].code, told.issue[0].expression) == ("invalid", ["http.date"])
    form = {"date": "2026-03-01", "_format": "xml", "type:not": "1"}
    answer = service_of_one.post("/fhir/AuditEvent/_search", data=form)
    assert (answer.status_code, answer.headers["content-type"]) == (400, XML)
    assert OperationOutcome.model_validate_xml(answer.content).issue[0].expression == ["http.type:not"]


def test_what_is_unknown_is_ignored_and_said_where_that_is_asked_for(service_of_one):
    parameters = {**DAY, "who": "x", "user": "Anna Weber", "outcome:not": "0"}
    assert service_of_one.get("/fhir/AuditEvent", params=parameters).status_code == 400
    strict = service_of_one.get("/fhir/AuditEvent", params=parameters, headers={"prefer": "handling=strict"})
    assert strict.status_code == 400
    answer = service_of_one.get("/fhir/AuditEvent", params=parameters, headers={"prefer": "handling = lenient"}).json()
    event, told = answer["entry"]
    assert (event["search"]["mode"], told["search"]["mode"]) == ("match", "outcome")
    assert [one["expression"] for one in told["resource"]["issue"]] == [["http.who"], ["http.outcome:not"]]
    (self,) = (link["url"] for link in answer["link"] if link["relation"] == "self")
    assert "who" not in self
    assert "user=Anna" in self
    Bundle.model_validate(answer)


@pytest.mark.parametrize("parameters", [{"_count": "0"}, {"_summary": "count"}])
def test_the_number_alone(service_of_one, parameters):
    answer = service_of_one.get("/fhir/AuditEvent", params={**DAY, **parameters}).json()
    assert answer["total"] == 1
    assert "entry" not in answer
    assert [link["relation"] for link in answer["link"]] == ["self"]


def links_of(answer):
    assert answer.status_code == 200
    return {link["relation"]: link["url"] for link in answer.json()["link"]}


@pytest.mark.parametrize("sort", ["date", "-date"])
def test_pages_stay_as_they_were_while_records_come_in(service, http, writer, sort):
    service.feed(frames(*(writer.query() for _ in range(5))))
    writer.at += 100
    service.feed(frames(*(writer.query() for _ in range(3))))
    writer.at -= 50
    first = http.get("/fhir/AuditEvent", params={**DAY, "_count": "3", "_sort": sort, "_total": "accurate"})
    seen, answer = numbers(first), first
    assert "previous" not in links_of(first)
    pages = [seen]
    while "next" in links_of(answer):
        service.feed(frames(writer.query()))  # in the middle of the time that is being read
        answer = http.get(links_of(answer)["next"])
        assert answer.json()["total"] == 8
        pages.append(numbers(answer))
    assert [len(page) for page in pages] == [3, 3, 2]
    assert sorted((number for page in pages for number in page), key=int) == [str(number) for number in range(1, 9)]
    assert links_of(answer)["first"].endswith("_total=accurate")
    back = [numbers(answer)]
    while "previous" in links_of(answer):
        answer = http.get(links_of(answer)["previous"])
        back.append(numbers(answer))
    assert back == pages[::-1]
    again = http.get(links_of(answer)["next"])
    assert numbers(again) == pages[1]
    assert http.get(links_of(again)["first"]).json()["total"] == 10


def test_head_tells_the_same_without_a_body_and_is_recorded(service, http, writer):
    service.feed(frames(writer.query()))
    get, head = (http.request(method, "/fhir/AuditEvent/1") for method in ("GET", "HEAD"))
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == get.headers["content-length"]
    store = RecordStore.open(service.url)
    kept = store.find(Criteria(events=(("110101", "DCM"),)), limit=9)
    assert len(kept) == 2
    store.close()


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/fhir/AuditEvent/1", {"GET", "HEAD"}),
        ("DELETE", "/fhir/AuditEvent/1", {"GET", "HEAD"}),
        ("PATCH", "/fhir/AuditEvent/1", {"GET", "HEAD"}),
        ("DELETE", "/fhir/AuditEvent", {"GET", "HEAD", "POST"}),
        ("GET", "/fhir/AuditEvent/_history", None),
        ("PUT", "/fhir/AuditEvent/_search", {"GET", "HEAD", "POST"}),
    ],
)
def test_nothing_else_is_done_here(service_of_one, method, path, allowed):
    answer = service_of_one.request(method, path)
    if allowed is None:
        assert answer.status_code == 404
    else:
        assert answer.status_code == 405
        assert set(answer.headers["allow"].replace(" ", "").split(",")) <= allowed | {"POST"}
        assert "PUT" not in answer.headers["allow"]
    assert service_of_one.get("/records/verify").json()["holds"] is True


def test_the_capability_statement_is_true(service_of_one):
    answer = service_of_one.get("/fhir/metadata")
    statement = CapabilityStatement.model_validate(answer.json())
    in_xml = service_of_one.get("/fhir/metadata", params={"_format": "xml"})
    assert read_resource(in_xml.content, ("CapabilityStatement",)) == answer.json()
    assert CapabilityStatement.model_validate_xml(in_xml.content).fhirVersion == "4.0.1"
    for form in statement.format:
        assert service_of_one.get("/fhir/AuditEvent", params={**DAY, "_format": form}).status_code == 200
    names = [parameter.name for parameter in statement.rest[0].resource[0].searchParam]
    assert len(names) == len(set(names))
    wanted = "date address patient.identifier entity-id entity-type entity-role source type subtype user altid outcome"
    assert set(wanted.split()) <= set(names)
    values = {"outcome": "0", "action": "C", "entity-type": "1", "entity-role": "1", "_id": "1"}
    for name in set(names) - {"date"}:
        found = service_of_one.get("/fhir/AuditEvent", params={**DAY, name: values.get(name, "x")})
        assert found.status_code == 200, name


@pytest.mark.parametrize("query", ["date=2026&user=%ff", "date=2026&user=%00", "date=2026" + "&user=x" * 200])
def test_a_query_that_is_no_text_is_refused(service_of_one, query):
    answer = service_of_one.get(f"/fhir/AuditEvent?{query}")
    assert (answer.status_code, answer.json()["issue"][0]["expression"]) == (400, ["http.query"])
    form = {"content-type": "application/x-www-form-urlencoded"}
    answer = service_of_one.post("/fhir/AuditEvent/_search", content=query.encode(), headers=form)
    assert (answer.status_code, answer.json()["issue"][0]["expression"]) == (400, ["http.query"])


def test_every_refusal_is_recorded_before_it_is_answered(service, http):
    refused = [
        http.get("/fhir/AuditEvent"),
        http.get("/fhir/AuditEvent", params={**DAY, "who": "x"}),
        http.get("/fhir/AuditEvent", params=DAY, headers={"accept": "text/html"}),
        http.get("/fhir/AuditEvent/77"),
    ]
    assert [answer.status_code for answer in refused] == [400, 400, 406, 404]
    store = RecordStore.open(service.url)
    kept = [read(stored.message) for stored in store.find(Criteria(outcomes=(8,)), limit=9, oldest_first=True)]
    told = ["refused: date", "refused: who", "refused: Accept", "no such record"]
    assert [message.event.outcome_description for message in kept] == told
    store.close()
