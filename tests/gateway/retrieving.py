"""Gateways that retrieve: real ones on real sockets, real repositories behind, and partners that play a script."""

import base64
import contextlib
import http.client
import re
import select
import socket
import threading
from collections import deque
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from atna.message import parse
from atna.settings import AuditSettings
from gateway.app import _joined
from gateway.initiating import InitiatingGateway
from gateway.responding import RespondingGateway
from gateway.settings import GatewaySettings
from ihe import vocabulary as v
from ihe.ebrs import registry_response
from ihe.mtom import xop_include
from ihe.transactions import ITI_39, ITI_43
from tests.builders import submission, with_slot
from tests.repository.stand import LIMITS, SINK, answered, envelope, multipart, retrieve_xml, served, stand, unique_ids
from tests.wire.soap_peer import eventually
from wire.settings import AffinityDomainSettings, TlsSettings

STRIPPED = (with_slot("hash"), with_slot("size"))
HERE = "urn:oid:1.3.6.1.4.1.21367.2011.2.7.1"
MIB = 2**20
SIZES = ("max_request_bytes", "max_inline_bytes")


@dataclass
class Gateway:
    """Both gateways of a community."""

    home: str
    joined: object
    responding: str
    initiating: str

    @property
    def room(self):
        return self.joined.room

    def cross_retrieve(self, *documents, **how):
        """ITI-39 of (repository, document[, home])."""
        return ask(self.responding, ITI_39, *documents, **how)

    def retrieve(self, *documents, **how):
        """ITI-43 of (repository, document[, home])."""
        return ask(self.initiating, ITI_43, *documents, **how)

    def messages(self):
        """Every audit record that waits, in order, and none afterwards."""
        rows = self.joined.store.outbox.claim(SINK, 10_000)
        self.joined.store.outbox.delete(SINK, [row.id for row in rows])
        return [parse(row.message[row.message.index(b"<AuditMessage") :]) for row in rows]

    def records(self):
        """(transaction, asked or answered, outcome, document ids), sorted."""
        return sorted(_told(message) for message in self.messages())


def _told(message):
    asked = "asked" if message.event.event_id.code == "110107" else "answered"
    ids = tuple(sorted(one.id for one in message.objects if one.role == 3))
    return message.event.type_codes[0].code, asked, int(message.event.outcome), ids


@contextmanager
def gateway(folder, *, home=HERE, repositories=(), communities=(), limits=LIMITS, **more):
    """``repositories`` are pairs (unique id, address), ``communities`` pairs (home, address) or whole tables."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = GatewaySettings(
        **{
            "database_url": f"sqlite:///{folder}/gateway.db",
            "spool_directory": folder,
            "repositories": [{"unique_id": name, "url": url} for name, url in repositories],
            "communities": [
                one if isinstance(one, dict) else {"home_community_id": one[0], "query_url": one[1]}
                for one in communities
            ],
            "deadline_s": 10,
        }
        | more
    )
    domain = AffinityDomainSettings(home_community_id=home)
    sizes = {name: getattr(settings, name) for name in SIZES}
    with ExitStack() as stack:
        joined = stack.enter_context(_joined(settings, domain, AuditSettings(sinks=[SINK]), TlsSettings()))
        addresses = [
            stack.enter_context(served(actor(joined.room), path, name="repository", limits=limits, **sizes))
            for actor, path in ((RespondingGateway, "/responding"), (InitiatingGateway, "/initiating"))
        ]
        yield Gateway(home, joined, *addresses)
        assert eventually(lambda: joined.room.spool.held_bytes == 0)


def stored(house, *datas):
    """Provide one document for each of ``datas`` to a repository's stand; gives their unique ids."""
    objects = submission(entries=len(datas), entry=STRIPPED)
    answer = house.provide(objects, {f"Document{n:02}": data for n, data in enumerate(datas, 1)}, timeout=120)
    assert answer.status == "Success", answer.errors
    return unique_ids(objects)


@contextmanager
def repository(folder, unique_id):
    """A repository with a registry that takes everything."""
    folder.mkdir(parents=True, exist_ok=True)
    with stand(folder, unique_id=unique_id) as house:
        house.unique_id = unique_id
        yield house


# ---------------------------------------------------------------------------------------------------------- consumer


def request(transaction, *documents, plain=False, header=b""):
    """(content type, body)."""
    root = envelope(transaction.request_action, retrieve_xml(*documents))
    root = root.replace(b"</s:Header>", header + b"</s:Header>")
    return ("application/soap+xml; charset=UTF-8", root) if plain else multipart(root, {})


def connect(address, content_type, body):
    host, port, path = re.fullmatch(r"http://([^:/]+):(\d+)(/.*)", address).groups()
    peer = socket.create_connection((host, int(port)), 60)
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    peer.sendall(head.encode() + body)
    return peer


def ask(address, transaction, *documents, plain=False, header=b"", strict=True):
    """One request on a connection of its own; raises what http.client raises of an answer that breaks."""
    with connect(address, *request(transaction, *documents, plain=plain, header=header)) as peer:
        answer = http.client.HTTPResponse(peer, method="POST")
        with contextlib.closing(answer):
            answer.begin()
            data = answer.read()
            return answered(answer.status, answer.getheader("content-type"), data, strict=strict)


def inline(answer):
    """(unique id, bytes) of a plain answer."""
    rows = answer.body.findall(f"{{{v.XDSB}}}DocumentResponse")
    return [
        (row.findtext(f"{{{v.XDSB}}}DocumentUniqueId"), base64.b64decode(row.findtext(f"{{{v.XDSB}}}Document")))
        for row in rows
    ]


# ---------------------------------------------------------------------------------------------------- scripted peers


class ScriptedPeer:
    """A partner on a real socket: plays one act for each request, the last one again and again.

    An act is called with (socket, DocumentRequests asked for as (repository, document)); what it returns is sent. After
    it the connection is closed. ``asked`` are the bodies of the requests, ``gone`` counts connections that we closed
    while the act waited.
    """

    def __init__(self, home):
        self.home = home
        self.script = deque()
        self.asked = []
        self.stop = threading.Event()
        self.gone = threading.Semaphore(0)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._listener.getsockname()[1]}/responding"
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def plays(self, *acts):
        self.asked.clear()
        self.script = deque(acts)
        return self

    def close(self):
        self.stop.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(20)

    def _accept(self):
        while not self.stop.is_set():
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return
            self._threads.append(threading.Thread(target=self._serve, args=(peer,)))
            self._threads[-1].start()

    def _serve(self, peer):
        peer.settimeout(30)
        with peer, contextlib.suppress(OSError):
            data = b""
            while b"\r\n\r\n" not in data:
                more = peer.recv(65536)
                if not more:
                    return
                data += more
            head, _, body = data.partition(b"\r\n\r\n")
            length = int(re.search(rb"(?i)content-length: *(\d+)", head)[1])
            while len(body) < length:
                body += peer.recv(65536)
            self.asked.append(body)
            act = self.script.popleft() if len(self.script) > 1 else self.script[0]
            rows = re.findall(rb"RepositoryUniqueId>([^<]+)</.*?DocumentUniqueId>([^<]+)</", body)
            found = act(peer, [(repository.decode(), document.decode()) for repository, document in rows])
            if found:
                peer.sendall(found)

    def wait(self, peer):
        """Until we close the connection, or the test is over."""
        while not self.stop.is_set():
            if select.select([peer], [], [], 0.05)[0]:
                with contextlib.suppress(OSError):
                    if peer.recv(1):
                        continue
                self.gone.release()
                return


def http_answer(content_type, body, *, length=None, status="200 OK"):
    size = len(body) if length is None else length
    head = f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {size}\r\nConnection: close\r\n\r\n"
    return head.encode() + body


def response_row(repository, document, content, *, home=None, mime_type="text/plain", more=""):
    at = "" if home is None else f"<x:HomeCommunityId>{home}</x:HomeCommunityId>"
    return (
        f"<x:DocumentResponse>{at}<x:RepositoryUniqueId>{repository}</x:RepositoryUniqueId>"
        f"<x:DocumentUniqueId>{document}</x:DocumentUniqueId>{more}<x:mimeType>{mime_type}</x:mimeType>"
        f"<x:Document>{content}</x:Document></x:DocumentResponse>"
    )


def retrieved_xml(rows, status=v.SUCCESS, errors=()):
    body = registry_response(status, errors).decode()
    return f'<x:RetrieveDocumentSetResponse xmlns:x="{v.XDSB}">{body}{"".join(rows)}</x:RetrieveDocumentSetResponse>'


def soap_answer(body, transaction=ITI_39):
    return envelope(transaction.response_action, body.encode())


def documents_answer(asked, datas, *, home=None, status=v.SUCCESS, errors=(), mtom=True, order=None):
    """The HTTP message with ``datas`` for the documents asked for; ``order`` of the attachments."""
    names = [f"{number}@peer" for number in range(len(datas))]
    if mtom:
        contents = [xop_include(name).decode() for name in names]
    else:
        contents = [base64.b64encode(data).decode() for data in datas]
    rows = [response_row(*one, content, home=home) for one, content in zip(asked, contents, strict=False)]
    root = soap_answer(retrieved_xml(rows, status, errors))
    if not mtom:
        return http_answer("application/soap+xml; charset=UTF-8", root)
    parts = dict(zip(names, datas, strict=True))
    return http_answer(*multipart(root, {names[n]: parts[names[n]] for n in order or range(len(names))}))


@contextmanager
def partners(*homes):
    found = [ScriptedPeer(home) for home in homes]
    try:
        yield found
    finally:
        for one in found:
            one.close()
