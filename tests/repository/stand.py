"""A repository under test on a real socket, a scripted registry on another, and a source that speaks raw bytes."""

import asyncio
import http.client
import re
import secrets
import socket
import threading
import time
import uuid
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial

from lxml import etree

from atna.message import parse
from atna.recorder import Recorder
from ihe import vocabulary as v
from ihe.ebrim import read_submitted_objects
from ihe.ebrs import adhoc_query_response, read_adhoc_query_request, registry_response
from ihe.errors import FaultCode, RegistryError, SoapFault
from ihe.registry_objects import Kind
from ihe.transactions import ITI_18, ITI_42
from repository.actor import RepositoryActor
from repository.records import Records
from repository.registry_client import RegistryClient
from repository.room import Room
from repository.scanner.choice import scanner_for
from repository.settings import RepositorySettings
from repository.store.keyring import open_keyring
from repository.store.opening import open_store
from repository.store.sql import open_index
from repository.store.vault import sealed_size
from schemas import parse_xml, strict_violations, violations, wsdl
from tests.builders import CONTENT, REPOSITORY, provide_and_register_xml
from wire.client import SoapClient
from wire.http_server import serve_http
from wire.messages import Reply
from wire.running import run_listeners
from wire.settings import LimitSettings
from wire.soap_app import soap_app

SINK = "http://127.0.0.1:9/records"
LIMITS = LimitSettings(threads=8, drain_s=1)


@contextmanager
def served(actor, path, *, name, limits=LIMITS, **sizes):
    """Serve an actor on a free port; gives its address."""
    sizes = {"max_request_bytes": 3 * 2**30, "max_document_bytes": 2**31, "max_inline_bytes": 32 * 2**20} | sizes
    listener = socket.create_server(("127.0.0.1", 0))
    app = soap_app(actor, path=path, wsdl=partial(wsdl, name), limits=limits, **sizes)
    started, stop = threading.Event(), threading.Event()

    async def serve(ending: asyncio.Event, ready):
        await serve_http(app, [listener], limits=limits, tls=None, stop=ending, started=ready)

    address = f"http://127.0.0.1:{listener.getsockname()[1]}{path}"
    thread = threading.Thread(target=run_listeners, args=([serve], started.set, stop))
    thread.start()
    assert started.wait(10)
    try:
        yield address
    finally:
        stop.set()
        thread.join()


# ------------------------------------------------------------------------------------------------ registry


@dataclass
class Act:
    """What the registry does with one ITI-42: take it or not, and then answer (None: break the connection)."""

    takes: bool = True
    answer: object = field(default_factory=lambda: registry_response(v.SUCCESS))
    before: object = None


def refusing(*errors):
    return Act(takes=False, answer=registry_response(v.FAILURE, errors))


def unknown_patient():
    return refusing(RegistryError("XDSUnknownPatientId", "nobody"))


class ScriptedRegistry:
    """Keeps what it takes, by submission set; plays ``script`` for ITI-42, then takes everything.

    A submission set it holds is refused as a duplicate. ``silent``: ITI-18 is answered with a fault. ``patient_of``
    overrides whose an entry is.
    """

    def __init__(self):
        self.script = deque()
        self.held = {}
        self.received = []
        self.depositors = []
        self.faults = []
        self.silent = False
        self.patient_of = {}
        self.handlers = {ITI_42: self.register, ITI_18: self.query}

    def stage(self, request_id, wanted):
        raise SoapFault(FaultCode.SENDER, "no attachments here")

    def failure(self, request, error):
        if not isinstance(error, SoapFault):  # those are scripted
            self.faults.append(error)
        raise SoapFault(FaultCode.RECEIVER, "defect")

    def register(self, request):
        self.received.append(etree.tostring(request.body))
        self.faults += violations(request.body)
        self.depositors += [dict(h.attrib) for h in request.headers if h.tag == f"{{{v.DOSSIER}}}Depositor"]
        act = self.script.popleft() if self.script else Act()
        if act.before is not None:
            act.before()
        objects = read_submitted_objects(request.body)
        unique_id = objects.of(Kind.SUBMISSION_SET)[0].identifier(v.SUBMISSION_SET_UNIQUE_ID)
        if act.takes and unique_id in self.held:
            text = f"SubmissionSet uniqueId {unique_id} is used already"
            return Reply((registry_response(v.FAILURE, [RegistryError("XDSDuplicateUniqueIdInRegistry", text)]),))
        if act.takes:
            self.held[unique_id] = etree.tostring(request.body)
        if isinstance(act.answer, SoapFault):
            raise act.answer
        return Reply(broken() if act.answer is None else (act.answer,))

    def query(self, request):
        if self.silent:
            raise SoapFault(FaultCode.RECEIVER, "not now")
        asked = dict(read_adhoc_query_request(request.body).parameters)
        if "$XDSDocumentEntryUniqueId" in asked:
            return Reply((self.entries([value[2:-2] for value in asked["$XDSDocumentEntryUniqueId"]]),))
        held = self.held.get(asked["$XDSSubmissionSetUniqueId"][0].strip("'"))
        objects = (
            [] if held is None else [etree.tostring(o) for o in parse_xml(held, max_markup=5_000_000).iter(*OBJECTS)]
        )
        return Reply((adhoc_query_response(v.SUCCESS, (), objects),))

    def entries(self, unique_ids):
        """GetDocuments, LeafClass."""
        found, patients = [], set()
        for held in self.held.values():
            submitted = parse_xml(held)
            for element in submitted.iter(OBJECTS[0]):
                values = {e.get("identificationScheme"): e.get("value") for e in element.iter(EXTERNAL_IDENTIFIER)}
                if values[v.ENTRY_UNIQUE_ID] in unique_ids:
                    found.append(etree.tostring(element))
                    patients.add(self.patient_of.get(values[v.ENTRY_UNIQUE_ID], values[v.ENTRY_PATIENT_ID]))
        if len(patients) > 1:
            error = RegistryError("XDSResultNotSinglePatient", "entries of several patients")
            return adhoc_query_response(v.FAILURE, (error,), ())
        return adhoc_query_response(v.SUCCESS, (), found)


EXTERNAL_IDENTIFIER = f"{{{v.RIM}}}ExternalIdentifier"
OBJECTS = [f"{{{v.RIM}}}{name}" for name in ("ExtrinsicObject", "RegistryPackage", "Association")]


def broken():
    yield f'<rs:RegistryResponse xmlns:rs="{v.RS}" status="{v.SUCCESS}">'.encode() + b" " * 2**21
    raise ConnectionError("on purpose")


# ---------------------------------------------------------------------------------------------- repository


class Clock:
    """Microseconds since 1970 that can be put forward."""

    def __init__(self):
        self.ahead = 0

    def __call__(self):
        return time.time_ns() // 1000 + self.ahead

    def forward(self, seconds):
        self.ahead += int(seconds * 1_000_000)


def settings_for(folder, registry_url, **more):
    values = {
        "database_url": f"sqlite:///{folder}/repository.db",
        "store": (folder / "documents").as_uri(),
        "registry_url": registry_url,
        "registry_timeout_s": 5,
        "unique_id": REPOSITORY,
        "min_free_bytes": 0,
    }
    return RepositorySettings(**(values | more))


@contextmanager
def joined(folder, registry_url, **more):
    """A Room as ``repository.app`` joins it, with a clock that can be moved; sealed when there is a file ``keys``."""
    settings = settings_for(folder, registry_url, **more)
    keys = folder / "keys"
    recorder = Recorder("test", None, "dossier-repository", "localhost")
    records = Records(recorder, registry_url)
    client = SoapClient(None, timeout_s=settings.registry_timeout_s)
    index = open_index(settings.database_url, [SINK], 100_000)
    yield Room(
        settings=settings,
        store=open_store(settings),
        index=index,
        registry=RegistryClient(client, registry_url, records, max_registration_s=15),
        records=records,
        clock=Clock(),
        new_key=lambda: secrets.token_hex(16),
        keyring=open_keyring(keys if keys.exists() else None, None),
        scanner=scanner_for(settings),
    )
    index.close()
    client.close()


class Stand:
    """Registry and repository, both running; ``room`` is the repository's."""

    def __init__(self, registry, room, address):
        self.registry, self.room, self.address = registry, room, address

    @property
    def index(self):
        return self.room.index

    @property
    def store(self):
        return self.room.store

    def provide(self, objects, documents=None, **how):
        return provide(self.address, objects, documents, **how)

    def retrieve(self, *documents, **how):
        return retrieve(self.address, *documents, **how)

    def records(self):
        """(transaction, outcome) of every audit record that waits, in order; parsed records by ``messages``."""
        return [(m.event.type_codes[0].code, int(m.event.outcome)) for m in self.messages()]

    def messages(self):
        rows = self.index.outbox.claim(SINK, 10_000)
        return [parse(row.message[row.message.index(b"<AuditMessage") :]) for row in rows]

    def objects(self):
        return {stored.key: stored.size for stored in self.store.objects()}

    def rows(self):
        from sqlalchemy import select

        from repository.store.tables import documents

        with self.index._engine.connect() as connection:
            return {row.object_key: row for row in connection.execute(select(documents))}

    def assert_nothing_kept(self):
        assert self.objects() == {}
        assert self.rows() == {}

    def assert_whole(self):
        """Everything available has its bytes, nothing else is there, and the registry knows exactly what we do."""
        rows = self.rows()
        assert {row.state for row in rows.values()} <= {"available"}
        assert set(self.objects()) == set(rows)
        assert all(stored.complete for stored in self.store.objects())
        for row in rows.values():
            assert self.store.size(row.object_key) == (row.size if row.kek is None else sealed_size(row.size))
        held = set()
        for body in self.registry.held.values():
            for entry in read_submitted_objects(parse_xml(body)).of(Kind.DOCUMENT_ENTRY):
                assert entry.slot("repositoryUniqueId") == (REPOSITORY,)
                held.add((entry.identifier(v.ENTRY_UNIQUE_ID), entry.slot("hash")[0].lower()))
        assert held == {(row.unique_id, row.hash) for row in rows.values()}


@contextmanager
def stand(folder, *, wrap=lambda room: room, registry=None, limits=LIMITS, **more):
    """``more`` are settings of the repository; ``wrap`` changes the room that is served."""
    registry = registry or ScriptedRegistry()
    with served(registry, "/registry", name="registry") as registry_url:
        with joined(folder, registry_url, **more) as room:
            named = ("max_request_bytes", "max_document_bytes", "max_inline_bytes", "upload_buffer_bytes")
            sizes = {name: getattr(room.settings, name) for name in named}
            with served(
                RepositoryActor(wrap(room)), "/repository", name="repository", limits=limits, **sizes
            ) as address:
                yield Stand(registry, room, address)
    assert not registry.faults, registry.faults


def with_registry(room, **fields):
    return replace(room, **fields)


# -------------------------------------------------------------------------------------------------- source


@dataclass(frozen=True)
class Answered:
    """An HTTP answer; ``body`` is the element in soap:Body, ``parts`` are by Content-ID."""

    http_status: int
    content_type: str
    body: object
    parts: dict

    @property
    def status(self):
        response = self.body if "status" in self.body.attrib else self.body[0]
        return response.get("status").rpartition(":")[2]

    @property
    def errors(self):
        return [(e.get("errorCode"), e.get("codeContext")) for e in self.body.iter(f"{{{v.RS}}}RegistryError")]

    @property
    def codes(self):
        return sorted(code for code, _ in self.errors)

    def documents(self):
        """(unique id, bytes) of every DocumentResponse."""
        found = []
        for row in self.body.findall(f"{{{v.XDSB}}}DocumentResponse"):
            include = row.find(f".//{{{v.XOP}}}Include")
            data = self.parts[include.get("href").removeprefix("cid:")]
            found.append((row.findtext(f"{{{v.XDSB}}}DocumentUniqueId"), data))
        return found


def envelope(action, body):
    return (
        (
            f'<s:Envelope xmlns:s="{v.SOAP12}" xmlns:a="{v.WSA}"><s:Header><a:Action s:mustUnderstand="1">{action}</a:Action>'
            f"<a:MessageID>urn:uuid:{uuid.uuid4()}</a:MessageID></s:Header><s:Body>"
        ).encode()
        + body
        + b"</s:Body></s:Envelope>"
    )


def multipart(root, parts):
    boundary = f"b{secrets.token_hex(8)}"
    pieces = [
        f"--{boundary}\r\nContent-ID: <root@source>\r\nContent-Type: application/xop+xml; charset=UTF-8; "
        f'type="application/soap+xml"\r\nContent-Transfer-Encoding: binary\r\n\r\n'.encode(),
        root,
    ]
    for cid, data in parts.items():
        head = f"\r\n--{boundary}\r\nContent-ID: <{cid}>\r\nContent-Type: text/plain\r\n"
        pieces += [f"{head}Content-Transfer-Encoding: binary\r\n\r\n".encode(), data]
    pieces.append(f"\r\n--{boundary}--\r\n".encode())
    content_type = (
        f'multipart/related; boundary="{boundary}"; type="application/xop+xml"; start="<root@source>"; '
        'start-info="application/soap+xml"'
    )
    return content_type, b"".join(pieces)


def post(address, content_type, body, timeout=30):
    host, port, path = re.fullmatch(r"http://([^:/]+):(\d+)(/.*)", address).groups()
    connection = http.client.HTTPConnection(host, int(port), timeout=timeout)
    try:
        connection.request("POST", path, body, {"Content-Type": content_type})
        answer = http.client.HTTPResponse(connection.sock, method="POST")
        try:
            answer.begin()
            return answered(answer.status, answer.getheader("content-type"), answer.read())
        finally:  # getresponse() would leave it open when the server dies
            answer.close()
    finally:
        connection.close()


def answered(status, content_type, data, *, strict=True):
    """What was answered; ``strict=False`` where leniency let in what no answer could hold otherwise."""
    parts, root = {}, data
    if content_type.startswith("multipart/related"):
        boundary = re.search(r'boundary="?([^";]+)', content_type).group(1).encode()
        pieces = (b"\r\n" + data).split(b"\r\n--" + boundary)
        assert pieces[-1].startswith(b"--")
        root = None
        for piece in pieces[1:-1]:
            head, _, content = piece.partition(b"\r\n\r\n")
            cid = re.search(rb"(?i)content-id:\s*<([^>]+)>", head).group(1).decode()
            if root is None:
                root = content
            else:
                parts[cid] = content
    body = parse_xml(root).find(f"{{{v.SOAP12}}}Body")[0]
    if not body.tag.endswith("Fault"):
        resolved = parse_xml(etree.tostring(body))
        for include in list(resolved.iter(f"{{{v.XOP}}}Include")):
            include.getparent().remove(include)
        faults = strict_violations(resolved) if strict else ()
        assert not faults, faults
    return Answered(status, content_type, body, parts)


ACTION = "urn:ihe:iti:2007:"


def provide(address, objects, documents=None, *, mtom=True, cids=None, timeout=30):
    """ITI-41; ``documents`` by entry id (default: as the builders make them), ``cids`` lets entries share a part."""
    if documents is None:
        entries = objects.of(Kind.DOCUMENT_ENTRY)
        documents = {one.id: CONTENT + b"%d" % number for number, one in enumerate(entries)}
    if not mtom:
        body = provide_and_register_xml(objects, documents)
        root = envelope(ACTION + "ProvideAndRegisterDocumentSet-b", body)
        return post(address, "application/soap+xml; charset=UTF-8", root, timeout)
    cids = cids or {symbol: f"{symbol}@source" for symbol in documents}
    body = provide_and_register_xml(objects, documents, content_ids=cids)
    parts = {cids[symbol]: data for symbol, data in documents.items() if symbol in cids}
    return post(address, *multipart(envelope(ACTION + "ProvideAndRegisterDocumentSet-b", body), parts), timeout)


def retrieve_xml(*documents):
    """Pairs or triples (repository, document, home)."""
    rows = ""
    for repository, document, *home in documents:
        rows += "<x:DocumentRequest>" + "".join(f"<x:HomeCommunityId>{h}</x:HomeCommunityId>" for h in home)
        rows += f"<x:RepositoryUniqueId>{repository}</x:RepositoryUniqueId>"
        rows += f"<x:DocumentUniqueId>{document}</x:DocumentUniqueId></x:DocumentRequest>"
    return f'<x:RetrieveDocumentSetRequest xmlns:x="{v.XDSB}">{rows}</x:RetrieveDocumentSetRequest>'.encode()


def retrieve(address, *documents, timeout=30):
    """ITI-43 of unique ids here, or of (repository, document[, home])."""
    asked = [(REPOSITORY, one) if isinstance(one, str) else one for one in documents]
    return post(address, *multipart(envelope(ACTION + "RetrieveDocumentSet", retrieve_xml(*asked)), {}), timeout)


def unique_ids(objects):
    """uniqueId of each entry, in order."""
    return [one.identifier(v.ENTRY_UNIQUE_ID) for one in objects.of(Kind.DOCUMENT_ENTRY)]
