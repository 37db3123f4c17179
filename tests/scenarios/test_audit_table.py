"""Every transaction through the wire leaves exactly the records of ``audit_table.TABLE``, valid by the schema.

Registry, repository and audit service run as processes; the records are those that came to a second sink, so that each
has gone through outbox and sender, too. A case does something and gives what stands for the names in braces.
"""

import http.client
import json
import signal
import socket
import time
import uuid
from contextlib import closing, suppress
from datetime import UTC, datetime

import pytest

from atna.record_repository.store.protocol import Criteria
from atna.record_repository.store.records import RecordStore
from ihe import vocabulary as v
from ihe.ebrs import (
    adhoc_query_request,
    remove_documents_request,
    remove_objects_request,
    submit_objects_request,
)
from ihe.registry_objects import Kind
from ihe.transactions import (
    ITI_18,
    ITI_38,
    ITI_39,
    ITI_42,
    ITI_43,
    ITI_44_ADD,
    ITI_44_RESOLVE,
    ITI_44_REVISE,
    ITI_47,
    ITI_51,
    ITI_55,
    ITI_57,
    ITI_61,
    ITI_62,
    ITI_86,
    ITI_92,
    TRANSACTIONS,
)
from tests.builders import (
    AUTHORITY,
    CONFIDENTIALITY,
    HOME,
    REPOSITORY,
    having,
    new_oid,
    new_uuid,
    submission,
    with_code,
    with_slot,
    without_slot,
)
from tests.feed_server import adt, ask, msa
from tests.hl7v3_messages import ADD, RESOLVE, REVISE, feed, ii
from tests.hl7v3_queries import by_id, query
from tests.records_sink import RecordsSink
from tests.registry.rooms import FIND_DOCUMENTS, GET_DOCUMENTS
from tests.repository.stand import envelope
from tests.scenarios.audit_table import ROWS, Places, compare, rows_of
from tests.scenarios.wire_peer import ANY_STATUS, PLAIN, WirePeer, set_id, written
from tests.soak.server import Server
from tests.updates import new_version

FIND_MULTI = "urn:uuid:3d1bdb10-39a2-11de-89c2-2f44d94eaa9f"
NOBODY = f"NOBODY^^^&{AUTHORITY}&ISO"
LOCAL = "1.3.4.5"
ON_DEMAND = (having(object_type=v.ON_DEMAND), *map(without_slot, ("creationTime", "hash", "size")))
WRONG_CODE = with_code(v.ENTRY_CLASS, "no such code", "1.2.3")
RESTRICTED = with_code(v.ENTRY_CONFIDENTIALITY, "R", CONFIDENTIALITY)
SETTINGS = {
    "REPOSITORY__REGISTRY_TIMEOUT_S": "2",
    "REPOSITORY__SWEEP_INTERVAL_S": "3600",  # what it asks is on record, too
    "AUDIT__MAX_OUTBOX_ROWS": "10000",
}


class Stand(WirePeer):
    """A peer of a whole Dossier, with patients and documents to do something with."""

    def __init__(self, server, sink):
        super().__init__(server, None)
        self.server, self.sink = server, sink
        self.gateway = f"http://127.0.0.1:{server.base_port + 30}"
        self.audit = f"http://127.0.0.1:{server.base_port + 40}"
        self.seen = 0

    def patient(self, name=None):
        """A new patient that the registry knows."""
        patient = f"{name or uuid.uuid4().hex[:10]}^^^&{AUTHORITY}&ISO"
        assert self.v2(adt(pid3=patient, control=uuid.uuid4().hex[:20])) == "AA"
        return patient

    def v2(self, message):
        with socket.create_connection(self.server.feed, timeout=20) as line:
            return msa(ask(line, message))[0]

    def v3(self, transaction, body):
        (found,) = self.post_soap(transaction, body).body.xpath(
            "//*[local-name()='acknowledgement']/*[local-name()='typeCode']/@code"
        )
        return found

    def to_gateway(self, side, transaction, body):
        """A message to ``responding`` or ``initiating``."""
        return self._send(f"{self.gateway}/{side}", transaction, PLAIN, body)

    def post_soap(self, transaction, body):
        return self._send(self._registry, transaction, PLAIN, body)

    def registered(self, patient, **more):
        """An entry of the registry, as it shows it; nothing of it is in the repository."""
        objects = submission(patient=patient, **more)
        assert self.register(objects).status == "Success"
        (found,) = [one for one in self.contents(set_id(objects)) if one.kind is Kind.DOCUMENT_ENTRY]
        return found

    def provided(self, patient):
        """The uniqueId of a document that was brought in."""
        objects = submission(patient=patient)
        answer = self.provide(objects)
        assert answer.status == "Success", answer.errors
        return document_of(objects)

    def remove(self, *documents):
        body = remove_documents_request([(REPOSITORY, one) for one in documents])
        return self._post(self._repository, PLAIN, envelope(ITI_86.request_action, body)).status

    def get(self, path):
        connection = http.client.HTTPConnection("127.0.0.1", self.server.base_port + 40, timeout=20)
        with closing(connection):
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()

    # ------------------------------------------------------------------------------------------------- records

    def delivered(self):
        """Records that came since we last looked; whatever was written before this call is among them."""
        until = time.monotonic() + 30
        while any(self._waiting(name) for name in ("registry", "repository", "gateway")):
            assert time.monotonic() < until, "records do not leave the outbox"
            time.sleep(0.02)
        found = self.sink.records[self.seen :]
        self.seen += len(found)
        return found

    def _waiting(self, name):
        with closing(self._database(name)) as database:
            return database.execute("SELECT count(*) FROM outbox").fetchone()[0]

    def log_used(self):
        """What the audit service has written of itself: it goes to no sink but its own."""
        store = RecordStore.open(f"sqlite:///{self.data}/audit.db")
        with closing(store):
            return [one.message for one in store.find(Criteria(events=(("110101", None),)), limit=1000)]

    @property
    def places(self):
        return Places(self._registry, self._repository, self.gateway, self.audit, socket.gethostname(), HOME)


def document_of(objects):
    (entry,) = objects.of(Kind.DOCUMENT_ENTRY)
    return entry.identifier(v.ENTRY_UNIQUE_ID)


@pytest.fixture(scope="module")
def stand(tmp_path_factory):
    data = tmp_path_factory.mktemp("table")
    with RecordsSink() as sink:
        server = Server(data, **SETTINGS)
        sinks = [f"http://127.0.0.1:{server.base_port + 40}/records", sink.url]
        server.environment["DOSSIER_AUDIT__SINKS"] = json.dumps(sinks)
        server.environment["DOSSIER_AFFINITY_DOMAIN__HOME_COMMUNITY_ID"] = HOME
        try:
            server.start()
            stand = Stand(server, sink)
            yield stand
            stand.close()
        finally:
            server.end()


# ------------------------------------------------------------------------------- what is done, by the name of the case

CASES = {}


def case(name):
    """The function prepares, is stopped by ``yield``, does what is looked at, and yields the names in braces."""

    def keep(function):
        assert name not in CASES
        CASES[name] = function
        return function

    return keep


def adds(event):
    def does(stand):
        patient = f"{uuid.uuid4().hex[:10]}^^^&{AUTHORITY}&ISO"
        yield
        assert stand.v2(adt(event, pid3=patient, control=uuid.uuid4().hex[:20])) == "AA"
        yield {"p": patient}

    return does


for event in ("A01", "A04", "A05", "A08"):
    case(f"ITI-8 {event}")(adds(event))


@case("ITI-8 A40")
def merge(stand):
    p, q = stand.patient(), stand.patient()
    yield
    assert stand.v2(adt("A40", pid3=p, control=uuid.uuid4().hex[:20], extra=f"MRG|{q}\r")) == "AA"
    yield {"p": p, "q": q}


@case("ITI-8 A37")
def unmerge(stand):
    p, q = stand.patient(), stand.patient()
    assert stand.v2(adt("A40", pid3=p, control=uuid.uuid4().hex[:20], extra=f"MRG|{q}\r")) == "AA"
    yield
    assert stand.v2(adt("A37", pid3=p, control=uuid.uuid4().hex[:20], extra=f"PID|||{q}\r")) == "AA"
    yield {"p": p, "q": q}


@case("ITI-8 A01 refused")
def feed_refused(stand):
    yield
    assert stand.v2(adt("A01", pid3="X^^^Unknown Clinic", control=uuid.uuid4().hex[:20])) == "AE"
    yield {"p": "X^^^Unknown Clinic"}


@case("ITI-8 A40 refused")
def merge_refused(stand):
    p = stand.patient()
    yield
    assert stand.v2(adt("A40", pid3=p, control=uuid.uuid4().hex[:20], extra=f"MRG|{NOBODY}\r")) == "AE"
    yield {"p": p, "q": NOBODY}


@case("ITI-64")
def link_change(stand):
    p, q, local = stand.patient(), stand.patient(), f"L-{uuid.uuid4().hex[:8]}^^^&{LOCAL}&ISO"
    stand.registered(q, entry=with_slot("sourcePatientId", local))
    yield
    message = adt("A43", pid3=f"{p}~{local}", control=uuid.uuid4().hex[:20], version="2.5", extra=f"MRG|{q}\r")
    assert stand.v2(message) == "AA"
    yield {"p": p, "q": q, "l": local}


@case("ITI-64 refused")
def link_change_refused(stand):
    p = stand.patient()
    yield
    assert stand.v2(adt("A43", pid3=p, control=uuid.uuid4().hex[:20], version="2.5", extra=f"MRG|{p}\r")) == "AE"
    yield {"p": p}


def v3(name, patient, prior=None):
    extension = patient.partition("^")[0]
    message_id = f'<id root="{uuid.uuid4()}"/>'
    before = ii(prior.partition("^")[0], AUTHORITY) if prior else ""
    return feed(name, ii(extension, AUTHORITY), message_id=message_id, prior=before)


@case("ITI-44 add")
def v3_add(stand):
    patient = f"{uuid.uuid4().hex[:10]}^^^&{AUTHORITY}&ISO"
    yield
    assert stand.v3(ITI_44_ADD, v3(ADD, patient)) == "AA"
    yield {"p": patient}


@case("ITI-44 revise")
def v3_revise(stand):
    patient = stand.patient()
    yield
    assert stand.v3(ITI_44_REVISE, v3(REVISE, patient)) == "AA"
    yield {"p": patient}


@case("ITI-44 merge")
def v3_merge(stand):
    p, q = stand.patient(), stand.patient()
    yield
    assert stand.v3(ITI_44_RESOLVE, v3(RESOLVE, p, q)) == "AA"
    yield {"p": p, "q": q}


@case("ITI-44 refused")
def v3_refused(stand):
    yield
    body = feed(ADD, ii("X1", "not.an.oid"), message_id=f'<id root="{uuid.uuid4()}"/>')
    assert stand.v3(ITI_44_ADD, body) == "AE"
    yield {"p": "X1^^^&not.an.oid&ISO"}


@case("ITI-44 merge refused")
def v3_merge_refused(stand):
    p = stand.patient()
    yield
    assert stand.v3(ITI_44_RESOLVE, v3(RESOLVE, p, NOBODY)) == "AE"
    yield {"p": p, "q": NOBODY}


def submits(transaction, made, status="Success"):
    """A case of a submission to the registry: ``made(stand, patient)`` gives its objects."""

    def does(stand):
        patient = stand.patient()
        objects = made(stand, patient)
        yield
        answer = stand.post_soap(transaction, written(objects))
        assert answer.status == status, answer.errors
        yield {"p": patient, "s": set_id(objects)}

    return does


SUBMISSIONS = {
    "ITI-42": (ITI_42, lambda _stand, p: submission(patient=p)),
    "ITI-42 refused": (ITI_42, lambda _stand, p: submission(patient=p, entry=WRONG_CODE), "Failure"),
    "ITI-42 wrong metadata": (
        ITI_42, lambda _stand, p: submission(patient=p, entry=without_slot("creationTime")), "Failure",
    ),
    "ITI-61": (ITI_61, lambda _stand, p: submission(patient=p, entry=ON_DEMAND)),
    "ITI-61 refused": (ITI_61, lambda _stand, p: submission(patient=p), "Failure"),
    "ITI-57": (ITI_57, lambda stand, p: new_version(stand.registered(p), patient=p)),
    "ITI-57 refused": (ITI_57, lambda stand, p: new_version(stand.registered(p), patient=p, previous="7"), "Failure"),
    "ITI-92": (ITI_92, lambda stand, p: new_version(stand.registered(p), RESTRICTED, patient=p)),
    "ITI-92 refused": (
        ITI_92, lambda stand, p: new_version(stand.registered(p), RESTRICTED, patient=p, previous="7"), "Failure",
    ),
}  # fmt: skip
for name, arguments in SUBMISSIONS.items():
    case(name)(submits(*arguments))


@case("ITI-42 not by the schema")
def not_by_the_schema(stand):
    objects = submission(patient=NOBODY)
    yield
    body = written(objects).replace(b"RegistryPackage", b"RegistryPacket")
    assert stand.post_soap(ITI_42, body).status == "Failure"
    yield {"p": NOBODY, "s": set_id(objects)}


@case("ITI-42 of nothing")
def of_nothing(stand):
    yield
    assert stand.post_soap(ITI_42, submit_objects_request(())).status == "Failure"
    yield {}


@case("ITI-62")
def removal(stand):
    patient = stand.patient()
    objects = submission(patient=patient)
    assert stand.register(objects).status == "Success"
    ids = [one.id for one in stand.contents(set_id(objects))]
    yield
    assert stand.post_soap(ITI_62, remove_objects_request(ids)).status == "Success"
    yield {"p": patient, **dict(zip("abc", ids, strict=True))}


@case("ITI-62 refused")
def removal_refused(stand):
    one = new_uuid()
    yield
    assert stand.post_soap(ITI_62, remove_objects_request([one])).status == "Failure"
    yield {"a": one}


def queries(query_id, status="Success", transaction=ITI_18, home=None, **parameters):
    """A case of a stored query; values may name ``{p}``, ``{q}``, ``{id}``: two patients and an entry of the first."""

    def does(stand):
        known = {"p": stand.patient(), "q": stand.patient(), "query": query_id}
        known["id"] = stand.registered(known["p"]).id
        yield
        asked = {f"${name}": value.format_map(known) for name, value in parameters.items()}
        body = adhoc_query_request(query_id, asked)
        if home:
            body = body.replace(b"<rim:AdhocQuery ", f'<rim:AdhocQuery home="{home}" '.encode())
            assert home.encode() in body
        assert stand.ask(body, transaction).status == status
        yield known

    return does


FIND = {"XDSDocumentEntryPatientId": "'{p}'", "XDSDocumentEntryStatus": ANY_STATUS}
MULTI = {"XDSDocumentEntryPatientId": "('{p}','{q}')", "XDSDocumentEntryStatus": ANY_STATUS}
CLASSES = f"('11502-2^^{'2.16.840.1.113883.6.1'}')"
case("ITI-18")(queries(FIND_DOCUMENTS, **FIND))
case("ITI-18 by id")(queries(GET_DOCUMENTS, XDSDocumentEntryEntryUUID="('{id}')"))
case("ITI-18 nothing found")(queries(GET_DOCUMENTS, XDSDocumentEntryEntryUUID=f"('{new_uuid()}')"))
case("ITI-18 with home")(queries(FIND_DOCUMENTS, home=HOME, **FIND))
case("ITI-18 refused")(queries(FIND_DOCUMENTS, "Failure", XDSDocumentEntryPatientId="'{p}'"))
case("ITI-51")(queries(FIND_MULTI, transaction=ITI_51, XDSDocumentEntryTypeCode=CLASSES, **MULTI))
case("ITI-51 refused")(queries(FIND_MULTI, "Failure", ITI_51, XDSDocumentEntryStatus=ANY_STATUS))


def patient_queries(parameters, *given):
    def does(stand):
        patients = [stand.patient() for _ in given]
        ids = [one.partition("^")[0] for one in patients]
        yield
        query_id = uuid.uuid4().hex
        body = query(parameters(ids), query_id=f'<queryId root="1.2.3" extension="{query_id}"/>')
        assert stand.v3(ITI_47, body) == ("AE" if parameters(ids) == "" else "AA")
        yield {"query": f"1.2.3^{query_id}", **dict(zip(given, patients, strict=True))}

    return does


case("ITI-47")(patient_queries(lambda ids: by_id(*ids), "p", "q"))
case("ITI-47 nothing found")(patient_queries(lambda _ids: by_id("NOBODY")))
case("ITI-47 refused")(patient_queries(lambda _ids: ""))


@case("ITI-41")
def provided(stand):
    patient = stand.patient()
    objects = submission(patient=patient)
    yield
    assert stand.provide(objects).status == "Success"
    yield {"p": patient, "s": set_id(objects)}


@case("ITI-41 sent again")
def provided_again(stand):
    patient = stand.patient()
    objects = submission(patient=patient)
    assert stand.provide(objects).status == "Success"
    yield
    assert stand.provide(objects).status == "Success"
    yield {"p": patient, "s": set_id(objects)}


@case("ITI-41 refused")
def provide_refused(stand):
    patient = stand.patient()
    objects = submission(patient=patient)
    yield
    assert stand.provide(objects, {"Document01": b"another document"}).status == "Failure"
    yield {"p": patient, "s": set_id(objects)}


@case("ITI-41 registry refuses")
def provide_refused_by_registry(stand):
    objects = submission(patient=NOBODY)
    yield
    assert stand.provide(objects).status == "Failure"
    yield {"p": NOBODY, "s": set_id(objects)}


class RegistryAway:
    """The registry's worker is stopped, then killed with what it was sent: it can say nothing, now or later."""

    def __init__(self, stand):
        self.stand, self.server = stand, stand.server

    def __enter__(self):
        while not self.server.signal("registry-1", signal.SIGSTOP):
            time.sleep(0.05)

    def __exit__(self, *_):
        old = self.server.pid("registry-1")
        self.server.signal("registry-1", signal.SIGKILL)
        while self.server.pid("registry-1") in {old, None} or not self._answers():
            time.sleep(0.05)
        self.stand.close()  # connections to the dead: each is opened anew when it is used

    def _answers(self):
        with closing(http.client.HTTPConnection("127.0.0.1", self.server.base_port + 10, timeout=20)) as connection:
            connection.request("GET", "/registry?wsdl")
            return connection.getresponse().status == 200


@case("ITI-41 registry away")
def provide_without_registry(stand):
    patient = stand.patient()
    objects = submission(patient=patient)
    yield
    with RegistryAway(stand):
        assert stand.provide(objects).status == "Failure"
    yield {"p": patient, "s": set_id(objects), "query": "urn:uuid:e8e3cb2c-e39c-46b9-99e4-c12f57260b83"}


def retrieves(*wanted, status):
    """A case of ITI-43: ``wanted`` says whose documents are asked for, ``None`` one that is not there."""

    def does(stand):
        patients = {one: stand.patient() for one in "pq"}
        documents = [new_oid() if one is None else stand.provided(patients[one]) for one in wanted]
        yield
        answer = stand.retrieve(*((REPOSITORY, one) for one in documents))
        assert answer.status == status, answer.errors
        yield {**patients, **dict(zip("de", documents, strict=False))}

    return does


case("ITI-43")(retrieves("p", "p", status="Success"))
case("ITI-43 two patients")(retrieves("p", "q", status="Success"))
case("ITI-43 partly")(retrieves("p", None, status="PartialSuccess"))
case("ITI-43 refused")(retrieves(None, status="Failure"))


def removes(*wanted, status):
    def does(stand):
        patient = stand.patient()
        documents = [stand.provided(patient) if one else new_oid() for one in wanted]
        yield
        assert stand.remove(*documents) == status
        yield {"p": patient, "query": GET_DOCUMENTS, **dict(zip("de", documents, strict=False))}

    return does


case("ITI-86")(removes(True, status="Success"))
case("ITI-86 partly")(removes(True, False, status="PartialSuccess"))
case("ITI-86 refused")(removes(False, status="Failure"))


@case("ITI-86 registry away")
def remove_without_registry(stand):
    patient = stand.patient()
    document = stand.provided(patient)
    yield
    with RegistryAway(stand):
        assert stand.remove(document) == "Success"
    yield {"p": patient, "d": document, "query": GET_DOCUMENTS}


def across(side, transaction, query_id, status="Success", home=None, **parameters):
    """A case of a stored query to one of the gateways."""

    def does(stand):
        known = {"p": stand.patient(), "query": query_id}
        stand.registered(known["p"])
        yield
        asked = {f"${name}": value.format_map(known) for name, value in parameters.items()}
        body = adhoc_query_request(query_id, asked, home=home)
        assert stand.to_gateway(side, transaction, body).status == status
        yield known

    return does


case("ITI-38")(across("responding", ITI_38, FIND_DOCUMENTS, **FIND))
case("ITI-38 registry refuses")(
    across("responding", ITI_38, FIND_DOCUMENTS, "Failure", XDSDocumentEntryPatientId="'{p}'")
)
case("ITI-38 refused")(across("responding", ITI_38, GET_DOCUMENTS, "Failure", XDSDocumentEntryEntryUUID="('{p}')"))
case("ITI-18 across")(across("initiating", ITI_18, FIND_DOCUMENTS, **FIND))


def retrieves_across(side, transaction, *wanted, status, home=HOME):
    def does(stand):
        patient = stand.patient()
        documents = [stand.provided(patient) if one else new_oid() for one in wanted]
        yield
        place = f"<x:HomeCommunityId>{home}</x:HomeCommunityId>" if home else ""
        rows = "".join(
            f"<x:DocumentRequest>{place}<x:RepositoryUniqueId>{REPOSITORY}</x:RepositoryUniqueId>"
            f"<x:DocumentUniqueId>{one}</x:DocumentUniqueId></x:DocumentRequest>"
            for one in documents
        )
        body = f'<x:RetrieveDocumentSetRequest xmlns:x="{v.XDSB}">{rows}</x:RetrieveDocumentSetRequest>'.encode()
        assert stand.to_gateway(side, transaction, body).status == status
        yield {"p": patient, **dict(zip("de", documents, strict=False))}

    return does


case("ITI-39")(retrieves_across("responding", ITI_39, True, status="Success"))
case("ITI-39 partly")(retrieves_across("responding", ITI_39, True, False, status="PartialSuccess"))
case("ITI-39 refused")(retrieves_across("responding", ITI_39, True, status="Failure", home=None))
case("ITI-43 across")(retrieves_across("initiating", ITI_43, True, status="Success"))


def discovers(parameters, told):
    def does(stand):
        patient = stand.patient()
        query_id = uuid.uuid4().hex
        yield
        asked = parameters(patient.partition("^")[0])
        body = query(asked, query_id=f'<queryId root="1.2.3" extension="{query_id}"/>')
        found = stand.to_gateway("responding", ITI_55, body).body
        assert found.xpath("string(//*[local-name()='queryResponseCode']/@code)") == told
        yield {"p": patient, "query": f"1.2.3^{query_id}"}

    return does


case("ITI-55")(discovers(by_id, "OK"))
case("ITI-55 nobody")(discovers(lambda _id: by_id("NOBODY"), "NF"))
case("ITI-55 refused")(discovers(lambda _id: "", "AE"))


@case("ITI-92 across")
def restricted_update_across(stand):
    patient = stand.patient()
    objects = new_version(stand.registered(patient), RESTRICTED, patient=patient)
    yield
    assert stand.to_gateway("responding", ITI_92, written(objects)).status == "Success"
    yield {"p": patient, "s": set_id(objects)}


# --------------------------------------------------------------------------------------------------------- the tests


def records_of(stand, name):
    steps = CASES[name](stand)
    next(steps)
    stand.delivered()
    known = next(steps)
    found = compare(stand.delivered(), stand.places)
    steps.close()
    return found, known


@pytest.mark.parametrize("name", CASES)
def test_the_records_are_those_of_the_table(stand, name):
    found, known = records_of(stand, name)
    assert found == rows_of(name, known)


LOG_READINGS = {
    "ITI-81": ("/fhir/AuditEvent?date=ge{today}&_count=1", 200),
    "ITI-81 one": ("/fhir/AuditEvent/1", 200),
    "ITI-81 refused": ("/fhir/AuditEvent?_count=1", 400),
}


@pytest.mark.parametrize("name", LOG_READINGS)
def test_reading_the_log_is_on_record(stand, name):
    before = set(stand.log_used())
    path, status = LOG_READINGS[name]
    path = path.format(today=datetime.now(UTC).date())
    assert stand.get(path)[0] == status
    (record,) = set(stand.log_used()) - before
    assert compare([record], stand.places) == rows_of(name, {"url": stand.audit + path.partition("?")[0]})


def test_every_transaction_has_its_cases():
    spoken = {one.code for one in TRANSACTIONS} | {"ITI-8", "ITI-64", "ITI-81"}
    assert {name.split()[0] for name in ROWS} - {"start", "stop"} == spoken
    for transaction in spoken:
        outcomes = {row.outcome for name, rows in ROWS.items() if name.split()[0] == transaction for row in rows}
        assert {0, 8} <= outcomes, transaction
    assert set(ROWS) - {"start", "stop"} == {*CASES, *LOG_READINGS}


def test_start_and_stop_are_on_record(stand):
    """Last, for it ends the services: what was written on the way down is sent after the next start."""
    stand.delivered()
    known = stand.places
    assert stand.server.stop() == 0
    stand.server.start()
    found = compare(stand.delivered(), known)
    assert found == sorted(rows_of("start", {}) + rows_of("stop", {}))
    with suppress(OSError):
        stand.close()
