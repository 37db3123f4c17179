"""The audit service over real HTTP: feed, ITI-81, check of the log; sender and outbox in front of it."""

import base64
import json
import socket
import ssl
import threading
import time
from contextlib import ExitStack, closing
from http.client import HTTPSConnection
from urllib.request import Request

import pytest
from sqlalchemy import MetaData

from atna.iti20_record_audit_event import decode_message
from atna.message import parse
from atna.record_repository.app import single, worker
from atna.record_repository.indexing import index
from atna.record_repository.signing import SigningKey
from atna.record_repository.store.protocol import Criteria, Trust
from atna.record_repository.store.records import RecordStore
from atna.sender import BatchRefused, NotDelivered, Sender
from atna.settings import AuditSettings
from atna.store.engine import begin_write, open_engine
from atna.store.outbox import Outbox, add, outbox_table
from tests.atna.record_repository.audit_service import LIMITS, Service, frames
from tests.certificates import issue
from wire.records_client import RecordsClient
from wire.settings import AffinityDomainSettings, PartnerSettings, TlsSettings


@pytest.fixture
def service(sqlite_url):
    service = Service(sqlite_url, max_record_bytes=100_000, max_batch_bytes=400_000)
    yield service
    service.close()


@pytest.fixture
def store(sqlite_url, service):
    store = RecordStore.open(sqlite_url)
    yield store
    store.close()


@pytest.fixture
def client():
    """Makes clients of the feed and closes them in the end."""
    with ExitStack() as stack:
        yield lambda tls=None: stack.enter_context(closing(RecordsClient(tls)))


def resources(bundle):
    return [entry["resource"] for entry in bundle.get("entry", [])]


def test_the_feed_answers_when_the_records_are_kept(service, store, writer):
    first, second = writer.query(), writer.registration()
    assert service.feed(frames(first, second, b"junk")) == (200, {"stored": 3, "repeated": 0, "unreadable": 1})
    assert {stored.message for stored in store.find(Criteria(), limit=9)} == {first, second, b"junk"}
    assert {stored.via for stored in store.find(Criteria(), limit=9)} == {"feed 127.0.0.1"}
    assert service.feed(frames(second, first)) == (200, {"stored": 0, "repeated": 2, "unreadable": 0})


@pytest.mark.parametrize("body", [b"no frames", b"5 abc", b"100001 x", b"0 "])
def test_frames_that_cannot_be_followed_are_refused_whole(service, store, writer, body):
    assert service.feed(frames(writer.query()) + body)[0] == 400
    assert store.find(Criteria(), limit=9) == []


def test_a_body_above_the_bound_is_refused(service):
    assert service.feed(b"x" * 400_001)[0] == 413


def test_a_search_by_patient_and_time(service, writer):
    service.feed(frames(writer.query("p1", request=b"<q>\xc3\xbc</q>"), writer.query("p2"), writer.registration("p1")))
    status, bundle = service.get(
        "/fhir/AuditEvent", date=["ge2026-03-01", "lt2026-03-02"], **{"patient.identifier": "p1"}
    )
    assert (status, bundle["resourceType"], bundle["type"]) == (200, "Bundle", "searchset")
    registration, query = resources(bundle)
    assert registration["subtype"][0]["code"] == "ITI-42"
    assert query["type"] == {
        "system": "http://dicom.nema.org/resources/ontology/DCM",
        "code": "110112",
        "display": "Query",
    }
    assert query["subtype"][0]["system"] == "urn:ihe:event-type-code"
    assert (query["action"], query["outcome"], query["recorded"]) == ("E", "0", "2026-03-01T10:00:00.000000Z")
    patient, asked = query["entity"]
    assert patient["what"]["identifier"]["value"] == "p1"
    assert patient["what"]["identifier"]["system"] == "urn:oid:1.3.6.1.4.1.21367.2005.3.7"
    assert base64.b64decode(asked["query"]) == "<q>ü</q>".encode()
    source = query["agent"][0]
    assert source["who"]["identifier"]["value"] == "10.0.0.7"
    assert (source["requestor"], source["network"]) == (True, {"address": "10.0.0.7", "type": "2"})
    assert query["source"]["site"] == "urn:oid:1.2.3"


def test_post_search_finds_the_same(service, writer):
    service.feed(frames(writer.query("p1"), writer.query("p2")))
    by_get = service.get("/fhir/AuditEvent", date="2026-03-01", **{"patient.identifier": "p1"})[1]
    status, by_post = service.form(date="2026-03-01", **{"patient.identifier": "p1^^^&1.3.6.1.4.1.21367.2005.3.7&ISO"})
    assert (status, resources(by_post)) == (200, resources(by_get))
    assert len(resources(by_post)) == 1


def test_pages_by_the_next_link(service, writer):
    service.feed(frames(*(writer.query() for _ in range(7))))
    seen, pages = [], 0
    status, bundle = service.get("/fhir/AuditEvent", date="2026-03-01", _count=3, user="10.0.0.7")
    while True:
        assert status == 200
        seen += [resource["recorded"] for resource in resources(bundle)]
        pages += 1
        following = {link["relation"]: link["url"] for link in bundle["link"]}.get("next")
        if following is None:
            break
        status, bundle = service.ask(Request(following))
    assert pages == 3
    assert len(seen) == 7
    assert seen == sorted(seen, reverse=True)
    oldest = resources(service.get("/fhir/AuditEvent", date="2026-03-01", _count=1, _sort="date")[1])
    assert oldest[0]["recorded"] == seen[-1]


def test_one_event_by_its_address(service, writer):
    service.feed(frames(writer.query()))
    entry = service.get("/fhir/AuditEvent", date="2026-03-01")[1]["entry"][0]
    assert service.ask(Request(entry["fullUrl"])) == (200, entry["resource"])
    for number in ("999", "x", "9" * 40):
        status, outcome = service.get(f"/fhir/AuditEvent/{number}")
        assert (status, outcome["issue"][0]["code"]) == (404, "not-found")


def test_an_unreadable_record_is_shown_as_such(service):
    service.feed(frames(b"<85>1 2026-03-01T10:00:00Z h a p m - half a mess"))
    (resource,) = resources(service.get("/fhir/AuditEvent", date="2026-03-01")[1])
    assert (resource["type"]["code"], resource["recorded"]) == ("unreadable", "2026-03-01T10:00:00.000000Z")


@pytest.mark.parametrize(
    ("parameters", "fault"), [({}, "date"), ({"date": "x"}, "date"), ({"date": "2026", "who": "1"}, "who")]
)
def test_the_parameter_at_fault_is_named(service, parameters, fault):
    for ask in (service.get, lambda _path, **form: service.form(**form)):
        status, outcome = ask("/fhir/AuditEvent", **parameters)
        assert (status, outcome["resourceType"]) == (400, "OperationOutcome")
        assert outcome["issue"][0]["expression"] == [f"http.{fault}"]


def test_a_form_of_another_type_is_refused(service):
    status, outcome = service.ask(
        Request(f"{service.base}/fhir/AuditEvent/_search", b"{}", {"content-type": "application/json"})
    )
    assert (status, outcome["issue"][0]["expression"]) == (400, ["http.Content-Type"])


def test_each_reading_is_itself_recorded(service, store):
    service.get("/fhir/AuditEvent", date="2026-03-01", **{"patient.identifier": "p1"})
    service.get("/fhir/AuditEvent", date="nonsense")
    service.get("/records/verify")
    kept = [parse(decode_message(s.message).message) for s in store.find(Criteria(), limit=9, oldest_first=True)]
    assert [(message.event.event_id.code, message.event.outcome) for message in kept] == [
        ("110101", 0),
        ("110101", 8),
        ("110101", 0),
    ]
    log = kept[0].objects[0]
    assert (log.id, log.name, log.id_type.code) == (f"{service.base}/fhir/AuditEvent", "Security Audit Log", "12")
    assert {d.type: d.value for d in log.details}["urn:dossier:search"] == b"date=2026-03-01&patient.identifier=p1"
    assert kept[0].participants[0].user_id == "127.0.0.1"


def test_the_capability_statement_says_what_there_is(service):
    status, statement = service.get("/fhir/metadata")
    assert (status, statement["resourceType"], statement["fhirVersion"]) == (200, "CapabilityStatement", "4.0.1")
    names = {parameter["name"] for parameter in statement["rest"][0]["resource"][0]["searchParam"]}
    for name in names - {"date"}:
        value = {"outcome": "0", "action": "C", "entity-type": "1", "entity-role": "1", "_id": "1"}.get(name, "x")
        assert service.get("/fhir/AuditEvent", date="2026", **{name: value})[0] == 200


def test_verify_over_http(service, writer):
    service.feed(frames(writer.query(), writer.query()))
    status, result = service.get("/records/verify")
    assert (status, result["holds"], result["records"], result["fault"]) == (200, True, 2, None)
    assert len(result["head"]) == 64
    assert (result["partition"], result["checkpoints"], len(result["notes"])) == (None, 0, 1)


def test_a_broken_database_is_503_and_keeps_no_secret(service, store, writer):
    with begin_write(store._engine) as connection:
        connection.exec_driver_sql("DROP TABLE chain_head")
    assert service.feed(frames(writer.query()))[0] == 503
    status, outcome = service.get("/fhir/AuditEvent", date="2026")
    assert (status, outcome["issue"][0]["code"]) == (503, "transient")
    assert "chain_head" not in json.dumps(outcome)


def test_the_client_tells_refused_from_not_delivered(service, writer, client):
    post = client()
    post(service.sink, frames(writer.query()))
    with pytest.raises(BatchRefused):
        post(service.sink, b"nonsense")
    with pytest.raises(NotDelivered) as gone:
        post(f"{service.base}/nowhere", frames(writer.query()))
    assert not isinstance(gone.value, BatchRefused)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(NotDelivered):
        post(f"http://127.0.0.1:{port}/records", frames(writer.query()))


def test_from_outbox_to_log_exactly_once_though_the_service_is_down_at_first(tmp_path, writer, client):
    metadata = MetaData(info={"room": "test", "version": 1})
    table = outbox_table(metadata)
    engine = open_engine(f"sqlite:///{tmp_path}/actor.db", metadata)
    url = f"sqlite:///{tmp_path}/audit.db"
    first = Service(url)
    outbox = Outbox(engine, table, [first.sink], 10_000)
    port = int(first.address.rpartition(":")[2])
    first.close()
    messages = [writer.query() for _ in range(1300)]
    with begin_write(engine) as connection:
        add(connection, table, messages, [first.sink])
    stop, lost, post = threading.Event(), [], client()

    def losing_answers(sink, batch):
        post(sink, frames(*batch))
        if len(lost) < 2:  # the sink has it, but its answer does not arrive
            lost.append(batch)
            raise NotDelivered("no answer")

    sender = threading.Thread(target=Sender(outbox, losing_answers).run, args=(stop,))
    sender.start()
    stop.wait(0.3)
    listener = socket.create_server(("127.0.0.1", port))
    ready, end = threading.Event(), threading.Event()
    service = threading.Thread(
        target=worker,
        kwargs={
            "audit": AuditSettings(database_url=url),
            "domain": AffinityDomainSettings(),
            "tls": TlsSettings(),
            "limits": LIMITS,
            "sockets": {"http": listener},
            "started": ready.set,
            "stop": end,
        },
    )
    service.start()
    for _ in range(1000):
        if outbox.backlog().rows == 0:
            break
        stop.wait(0.02)
    stop.set()
    sender.join()
    end.set()
    service.join()
    engine.dispose()
    store = RecordStore.open(url)
    kept = [stored.message for stored in store.find(Criteria(), limit=10_000, oldest_first=True)]
    assert len(lost) == 2
    assert kept == messages
    assert store.verify_chain().records == 1300
    store.close()


def test_start_and_stop_are_recorded_and_health_is_told(sqlite_url):
    service = Service(sqlite_url, main=single, name="admin")
    assert service.get("/health/ready") == (200, {"status": "ready", "checks": {"database": "ok"}})
    service.close()
    store = RecordStore.open(sqlite_url)
    kept = [parse(decode_message(s.message).message) for s in store.find(Criteria(), limit=9, oldest_first=True)]
    assert [message.event.type_codes[0].code for message in kept] == ["110120", "110121"]
    store.close()


def test_the_log_is_signed_while_it_runs_and_when_it_ends(sqlite_url, writer, tmp_path):
    key = SigningKey.made(tmp_path / "key.pem")
    service = Service(
        *(sqlite_url, None, single, "admin"),
        checkpoint_key=tmp_path / "key.pem",
        checkpoint_interval_s=0.05,
    )
    store = RecordStore.open(sqlite_url)
    for _ in range(200):
        if store.last_checkpoint() is not None:
            break
        time.sleep(0.05)
    assert store.last_checkpoint().number == 1
    store.keep([index(writer.query())])
    service.close()
    result = store.verify_chain(Trust({key.id: key.public}))
    assert (result.holds, result.records, result.signed_to, result.notes) == (True, 3, 3, ())
    store.close()


def test_mutual_tls_and_a_stranger_is_refused_and_recorded(sqlite_url, tmp_path, writer, client):
    folder = issue(tmp_path)

    def settings(name):
        return TlsSettings(certificate=folder / f"{name}.crt", key=folder / f"{name}.key", ca=folder / "ca.crt")

    service = Service(sqlite_url, settings("server"))
    client(settings("client"))(service.sink, frames(writer.query()))
    with pytest.raises(NotDelivered):
        client(settings("rogue"))(service.sink, frames(writer.query()))
    service.close()
    store = RecordStore.open(sqlite_url)
    kept = [parse(decode_message(s.message).message) for s in store.find(Criteria(), limit=9)]
    assert sorted(message.event.event_id.code for message in kept) == ["110112", "110113"]
    store.close()


def over_tls(service, tls, method, path, body=None):
    """(status, JSON of the answer), asked with the certificate of ``tls``."""
    context = ssl.create_default_context(cafile=tls.ca)
    context.load_cert_chain(tls.certificate, tls.key)
    connection = HTTPSConnection(service.address, timeout=10, context=context)
    with closing(connection):
        headers = {} if body is None else {"content-type": "application/x-www-form-urlencoded"}
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, json.load(answer)


READINGS = [
    ("GET", "/fhir/AuditEvent?date=2026", None),
    ("POST", "/fhir/AuditEvent/_search", b"date=2026"),
    ("GET", "/fhir/AuditEvent/1", None),
    ("GET", "/records/verify", None),
]


def test_only_listed_partners_read_and_an_attempt_is_recorded(sqlite_url, tmp_path, writer, client):
    folder = issue(tmp_path)

    def settings(name):
        return TlsSettings(certificate=folder / f"{name}.crt", key=folder / f"{name}.key", ca=folder / "ca.crt")

    officer, other = "CN=server,O=Hospital A", "CN=client,O=Hospital A"
    partners = {officer: PartnerSettings(transactions=["ITI-81"]), other: PartnerSettings(transactions=["ITI-57"])}
    service = Service(sqlite_url, settings("server"), partners=partners)
    client(settings("client"))(service.sink, frames(writer.query()))
    for method, path, body in READINGS:
        status, outcome = over_tls(service, settings("client"), method, path, body)
        assert (status, outcome["resourceType"], outcome["issue"][0]["code"]) == (403, "OperationOutcome", "forbidden")
    for method, path, body in READINGS:
        assert over_tls(service, settings("server"), method, path, body)[0] == 200
    assert over_tls(service, settings("client"), "GET", "/fhir/metadata")[0] == 200
    service.close()
    store = RecordStore.open(sqlite_url)
    kept = [parse(decode_message(s.message).message) for s in store.find(Criteria(events=(("110101", None),)), limit=9)]
    refused = [message for message in kept if message.event.outcome == 8]
    assert (len(kept), len(refused)) == (8, 4)
    assert {message.participants[0].user_id for message in refused} == {other}
    assert {d.value for message in refused for d in message.objects[0].details} == {b"listed-partners-only"}
    store.close()
