"""An actor that keeps and returns documents, served over a real socket, and a peer that speaks raw bytes to it."""

import asyncio
import contextlib
import hashlib
import http.client
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ihe import vocabulary as v
from ihe.mtom import MultipartParser, PartBegin, PartData, content_id, parse_content_type
from ihe.transactions import ITI_18, ITI_41, ITI_42, ITI_43, Transaction
from schemas import parse_xml, wsdl
from wire.content import DOCUMENT, attachment_of
from wire.http_server import serve_http
from wire.messages import OutgoingPart, Reply, Request
from wire.settings import LimitSettings
from wire.soap_app import soap_app

PATH = "/repository"
S = {"s": v.SOAP12, "a": v.WSA, "x": v.XDSB, "rs": v.RS}
RESPONSE = f'<rs:RegistryResponse xmlns:rs="{v.RS}" status="{v.SUCCESS}"/>'.encode()
QUERY = f'<q:AdhocQueryRequest xmlns:q="{v.QUERY}"/>'
MIB = 2**20


class StagedFile:
    """A staged part in a directory."""

    def __init__(self, directory: Path, fail_after: int | None) -> None:
        self.path = Path(tempfile.mkstemp(dir=directory)[1])
        self.file = self.path.open("wb")
        self.finished = False
        self.largest_block = 0
        self.fail_after = fail_after

    def write(self, block: bytes) -> None:
        self.largest_block = max(self.largest_block, len(block))
        if self.fail_after is not None and self.file.tell() + len(block) > self.fail_after:
            raise OSError(28, "No space left on device")
        self.file.write(block)

    def finish(self) -> None:
        self.file.close()
        self.finished = True

    def abort(self) -> None:
        self.file.close()
        self.path.unlink(missing_ok=True)


@dataclass
class Seen:
    """What one request looked like to its handler."""

    code: str
    message_id: str | None
    reply_to: str | None
    address: str
    headers: tuple[str, ...]
    texts: str
    attachments: tuple[str, ...]


class EchoActor:
    """ITI-41 keeps documents by Document/@id, ITI-43 returns them by DocumentUniqueId; knobs make it misbehave."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.documents: dict[str, bytes | Path] = {}
        self.staged: list[StagedFile] = []
        self.wanted: list[int | None] = []
        self.seen: list[Seen] = []
        self.closed: list[bool] = []
        self.failures: list[str] = []
        self.fail_staging_after: int | None = None
        self.before: Callable[[Request], None] = lambda _request: None
        self.answer: Callable[[Request], Reply] | None = None

    @property
    def handlers(self) -> dict[Transaction, Callable[[Request], Reply]]:
        return {ITI_18: self._query, ITI_41: self._provide, ITI_42: self._register, ITI_43: self._retrieve}

    def stage(self, request_id: str, wanted: int | None) -> StagedFile:
        assert request_id
        self.wanted.append(wanted)
        self.staged.append(StagedFile(self.directory, self.fail_staging_after))
        return self.staged[-1]

    def failure(self, request: Request, error: Exception) -> Reply:
        self.failures.append(type(error).__name__)
        return self._reply([f'<rs:RegistryResponse xmlns:rs="{v.RS}" status="{v.FAILURE}"/>'.encode()])

    def left(self) -> list[Path]:
        """Files in the store."""
        return sorted(self.directory.iterdir())

    def emptied(self) -> bool:
        """Whether nothing is left in the store, a moment later: a client that went away is noticed afterwards."""
        return eventually(lambda: not self.left())

    def _reply(self, body: Any) -> Reply:
        return Reply(body, self.closed.append)

    def _note(self, request: Request) -> Reply | None:
        self.seen.append(
            Seen(
                request.transaction.code,
                request.message_id,
                request.reply_to,
                request.address,
                tuple(header.tag for header in request.headers),
                "".join(text for header in (*request.headers, request.body) for text in header.itertext()),
                tuple(request.attachments),
            )
        )
        self.before(request)
        return self.answer(request) if self.answer else None

    def _query(self, request: Request) -> Reply:
        return self._note(request) or self._reply([f'<q:AdhocQueryResponse xmlns:q="{v.QUERY}"/>'.encode()])

    def _register(self, request: Request) -> Reply:
        return self._note(request) or self._reply([RESPONSE])

    def _provide(self, request: Request) -> Reply:
        for document in request.body.iter(DOCUMENT):
            part = attachment_of(request, document)
            data = part.data if part.data is not None else part.staged.path.read_bytes()
            assert part.size == len(data)
            assert part.sha1 == hashlib.sha1(data).hexdigest()
            assert part.staged is None or part.staged.finished
            self.documents[document.get("id")] = data if part.data is not None else part.staged.path
        return self._note(request) or self._reply([RESPONSE])

    def _retrieve(self, request: Request) -> Reply:
        asked = [element.text for element in request.body.iter(f"{{{v.XDSB}}}DocumentUniqueId")]
        return self._note(request) or self._reply(self._documents(asked))

    def _documents(self, asked: list[str]) -> Iterator[bytes | OutgoingPart]:
        yield f'<x:RetrieveDocumentSetResponse xmlns:x="{v.XDSB}">'.encode() + RESPONSE
        for name in asked:
            yield f"<x:DocumentResponse><x:DocumentUniqueId>{name}</x:DocumentUniqueId><x:Document>".encode()
            yield outgoing(self.documents[name])
            yield b"</x:Document></x:DocumentResponse>"
        yield b"</x:RetrieveDocumentSetResponse>"


def eventually(what: Callable[[], bool], within_s: float = 5) -> bool:
    deadline = time.monotonic() + within_s
    while not what():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def outgoing(content: bytes | Path) -> OutgoingPart:
    if isinstance(content, bytes):
        return OutgoingPart("text/plain", len(content), lambda: iter((content,)))

    def chunks() -> Iterator[bytes]:
        with content.open("rb") as file:
            while block := file.read(65536):
                yield block

    return OutgoingPart("application/octet-stream", content.stat().st_size, chunks)


@dataclass
class Answer:
    """One HTTP answer, read to its end."""

    status: int
    headers: dict[str, str]
    body: bytes
    parts: dict[str, bytes] = field(default_factory=dict)
    mtom: bool = False

    @property
    def envelope(self) -> Any:
        """The root element of the SOAP message."""
        return parse_xml(self.root)

    @property
    def root(self) -> bytes:
        return next(iter(self.parts.values())) if self.mtom else self.body

    @property
    def content(self) -> Any:
        """The child of Body."""
        return self.envelope.find("s:Body", S)[0]

    def text(self, path: str) -> str | None:
        return self.envelope.findtext(path, namespaces=S)

    @property
    def fault(self) -> tuple[str | None, str | None]:
        """Local names of code and subcode."""
        code = self.text(".//s:Fault/s:Code/s:Value")
        subcode = self.text(".//s:Fault/s:Code/s:Subcode/s:Value")
        return code and code.partition(":")[2], subcode and subcode.partition(":")[2]

    def document(self, number: int = 0) -> bytes:
        """The content of a Document element, attached or inline."""
        import base64

        element = self.content.findall(".//x:Document", S)[number]
        if len(element) == 0:
            return base64.b64decode(element.text or "")
        return self.parts[element[0].get("href").removeprefix("cid:").replace("%40", "@")]


def read_answer(response: http.client.HTTPResponse) -> Answer:
    body = response.read()
    headers = {name.lower(): value for name, value in response.getheaders()}
    content_type = parse_content_type(headers.get("content-type", "none/none"))
    if content_type.media_type != "multipart/related":
        return Answer(response.status, headers, body)
    return Answer(response.status, headers, body, read_parts(content_type.parameters["boundary"], body), mtom=True)


def read_parts(boundary: str, body: bytes) -> dict[str, bytes]:
    parser, parts, name = MultipartParser(boundary), {}, ""
    for event in parser.feed(body):
        if isinstance(event, PartBegin):
            name = content_id(event.headers["content-id"])
            parts[name] = bytearray()
        elif isinstance(event, PartData):
            parts[name] += event.data
    parser.finish()
    return {name: bytes(data) for name, data in parts.items()}


@dataclass
class Endpoint:
    """A served actor."""

    actor: EchoActor
    port: int

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)

    def raw(self, *pieces: bytes, head: bool = False) -> Answer:
        """Send bytes as they are and read one answer; that to a HEAD has no body."""
        with self.connect() as peer:
            for piece in pieces:
                peer.sendall(piece)
            return self.receive(peer, head=head)

    @staticmethod
    def receive(peer: socket.socket, *, head: bool = False) -> Answer:
        response = http.client.HTTPResponse(peer, method="HEAD" if head else None)
        response.begin()
        return read_answer(response)

    def post(self, body: bytes, content_type: str | None = "application/soap+xml", *headers: str) -> Answer:
        return self.raw(request(body, content_type, *headers))

    def alive(self) -> bool:
        """Whether the service still answers an ordinary query."""
        answer = self.post(message(ITI_18, QUERY))
        return answer.status == 200 and answer.content.tag == ITI_18.response_root


@contextlib.contextmanager
def served(actor: EchoActor, limits: LimitSettings | None = None, **options: Any) -> Iterator[Endpoint]:
    limits = limits or LimitSettings(
        threads=8, header_timeout_s=3, body_idle_timeout_s=3, answer_timeout_s=5, drain_s=1
    )
    sizes = {"max_request_bytes": 64 * MIB, "max_document_bytes": 56 * MIB, "max_inline_bytes": 2 * MIB}
    app = soap_app(
        actor, path=PATH, wsdl=lambda address: wsdl("repository", address), limits=limits, **{**sizes, **options}
    )
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    up, stop, loop = threading.Event(), asyncio.Event(), asyncio.new_event_loop()
    serving = serve_http(app, [listener], limits=limits, tls=None, stop=stop, started=up.set)

    def run() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(serving)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert up.wait(10)
        yield Endpoint(actor, port)
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(20)


def message(
    transaction: Transaction | None,
    body: str,
    *,
    header: str | None = None,
    message_id: str = "urn:uuid:1",
    extra: str = "",
) -> bytes:
    """A SOAP 1.2 envelope."""
    if header is None:
        action = f'<a:Action s:mustUnderstand="1">{transaction.request_action}</a:Action>' if transaction else ""
        header = f"{action}<a:MessageID>{message_id}</a:MessageID>{extra}"
    return (
        f'<s:Envelope xmlns:s="{v.SOAP12}" xmlns:a="{v.WSA}"><s:Header>{header}</s:Header><s:Body>{body}</s:Body></s:Envelope>'
    ).encode()


def provide(*documents: tuple[str, str]) -> bytes:
    """ITI-41 with the given (id, content) Document elements; content is XML."""
    inner = "".join(f'<x:Document id="{name}">{content}</x:Document>' for name, content in documents)
    return message(
        ITI_41,
        f'<x:ProvideAndRegisterDocumentSetRequest xmlns:x="{v.XDSB}">{inner}</x:ProvideAndRegisterDocumentSetRequest>',
    )


def retrieve(*names: str) -> bytes:
    inner = "".join(
        f"<x:DocumentRequest><x:DocumentUniqueId>{n}</x:DocumentUniqueId></x:DocumentRequest>" for n in names
    )
    return message(ITI_43, f'<x:RetrieveDocumentSetRequest xmlns:x="{v.XDSB}">{inner}</x:RetrieveDocumentSetRequest>')


def include(href: str) -> str:
    return f'<xop:Include xmlns:xop="{v.XOP}" href="{href}"/>'


def request(body: bytes, content_type: str | None, *headers: str, length: bool = True, version: str = "1.1") -> bytes:
    lines = [f"POST {PATH} HTTP/{version}", "Host: localhost:8020"]
    lines += [f"Content-Type: {content_type}"] if content_type is not None else []
    lines += [f"Content-Length: {len(body)}"] if length else []
    return "\r\n".join([*lines, *headers]).encode("latin-1") + b"\r\n\r\n" + body


ROOT = "root@peer"
MTOM = (
    f'multipart/related; boundary=b1; type="application/xop+xml"; start="<{ROOT}>"; start-info="application/soap+xml"'
)


def part(content: bytes, *headers: str) -> bytes:
    return "".join(f"{line}\r\n" for line in headers).encode() + b"\r\n" + content


def root_part(content: bytes) -> bytes:
    return part(content, "Content-Type: application/xop+xml; charset=UTF-8", f"Content-ID: <{ROOT}>")


def attached(name: str, content: bytes, *headers: str) -> bytes:
    return part(content, "Content-Type: text/plain", f"Content-ID: <{name}>", *headers)


def multipart(*parts: bytes, boundary: str = "b1") -> bytes:
    mark = f"--{boundary}".encode()
    return b"".join(mark + b"\r\n" + content + b"\r\n" for content in parts) + mark + b"--\r\n"


def chunked(*pieces: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
