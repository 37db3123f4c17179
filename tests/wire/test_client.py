"""The SOAP client against a served actor and against peers that misbehave (wire/client.py)."""

import gzip
import hashlib
import socket
import threading
import time

import pytest

from ihe import vocabulary as v
from ihe.errors import FaultCode, SoapFault
from ihe.mtom import xop_include
from ihe.transactions import ITI_18, ITI_41, ITI_43
from tests.raw_peer import drip, dripping_headers, performing, silent
from tests.wire.soap_peer import MIB, PATH, QUERY, message, multipart, part
from wire.client import NotSent, NotTried, OutcomeUnknown, OutPart, PeerFault, SoapClient, TooLarge, for_log
from wire.messages import Reply

PROVIDE = f'<x:ProvideAndRegisterDocumentSetRequest xmlns:x="{v.XDSB}">%s</x:ProvideAndRegisterDocumentSetRequest>'
ASK = f'<x:RetrieveDocumentSetRequest xmlns:x="{v.XDSB}">%s</x:RetrieveDocumentSetRequest>'
DOCUMENTS = f".//{{{v.XDSB}}}Document"


@pytest.fixture
def client():
    it = SoapClient(None, timeout_s=5, connect_timeout_s=2)
    yield it
    it.close()


def url(endpoint) -> str:
    return f"http://127.0.0.1:{endpoint.port}{PATH}"


def provide(*ids: str) -> bytes:
    inner = "".join(f'<x:Document id="{name}">{xop_include(name).decode()}</x:Document>' for name in ids)
    return (PROVIDE % inner).encode()


def retrieve(*ids: str) -> bytes:
    inner = "".join(f"<x:DocumentRequest><x:DocumentUniqueId>{i}</x:DocumentUniqueId></x:DocumentRequest>" for i in ids)
    return (ASK % inner).encode()


def attach(name: str, data: bytes, *, sized: bool = True) -> OutPart:
    return OutPart(name, "text/plain", lambda: iter([data[:7], data[7:]]), len(data) if sized else None)


def test_a_plain_transaction_and_its_headers(client, endpoint, actor):
    with client.call(
        url(endpoint), ITI_18, QUERY.encode(), extra_headers=b'<d xmlns="urn:dossier:2026:soap">who</d>'
    ) as answer:
        assert answer.body.tag == ITI_18.response_root
    assert actor.seen[0].headers == ("{urn:dossier:2026:soap}d",)
    assert actor.seen[0].message_id.startswith("urn:uuid:")
    assert actor.seen[0].reply_to == v.WSA_ANONYMOUS


@pytest.mark.parametrize("sized", [True, False])
@pytest.mark.parametrize("size", [0, 1, 100_000, 3 * MIB])
def test_documents_out_and_in_are_the_same_bytes(client, endpoint, actor, size, sized):
    data = bytes(range(256)) * (size // 256) + b"\r" * (size % 256)
    client.call(url(endpoint), ITI_41, provide("a@x"), parts=[attach("a@x", data, sized=sized)]).close()
    with client.call(url(endpoint), ITI_43, retrieve("a@x")) as answer:
        assert b"".join(answer.part(answer.body.find(DOCUMENTS))) == data


def test_documents_may_be_asked_for_in_any_order_and_twice(client, endpoint, actor):
    actor.documents = {"a": b"A" * 10, "b": b"B" * (2 * MIB), "c": b"C"}
    with client.call(url(endpoint), ITI_43, retrieve("a", "b", "c")) as answer:
        a, b, c = answer.body.findall(DOCUMENTS)
        assert b"".join(answer.part(c)) == b"C"
        assert b"".join(answer.part(b)) == b"B" * (2 * MIB)
        assert b"".join(answer.part(b)) == b"B" * (2 * MIB)
        assert b"".join(answer.part(a)) == b"A" * 10


def test_a_document_left_halfway_is_not_taken_for_whole(client, endpoint, actor):
    actor.documents = {"a": b"A" * (4 * MIB), "b": b"B"}
    with client.call(url(endpoint), ITI_43, retrieve("a", "b")) as answer:
        a, b = answer.body.findall(DOCUMENTS)
        half = answer.part(a)
        next(half)
        assert b"".join(answer.part(b)) == b"B"
        with pytest.raises(OutcomeUnknown):
            list(half)


def test_connections_are_used_again(client, endpoint):
    for _ in range(5):
        client.call(url(endpoint), ITI_18, QUERY.encode()).close()
    assert len(client._transports[False]._pool.connections) == 1


def test_many_threads_share_a_client(client, endpoint, actor):
    actor.documents = {str(n): hashlib.sha256(b"%d" % n).digest() * 50_000 for n in range(6)}
    wrong = []

    def fetch(name):
        with client.call(url(endpoint), ITI_43, retrieve(name)) as answer:
            if b"".join(answer.part(answer.body.find(DOCUMENTS))) != actor.documents[name]:
                wrong.append(name)

    threads = [threading.Thread(target=fetch, args=(name,)) for name in actor.documents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_fault_of_the_peer(client, endpoint, actor):
    def refuse(_request):
        raise SoapFault(FaultCode.SENDER, "not you", subcode=f"{{{v.WSSE}}}FailedAuthentication")

    actor.before = refuse
    for transaction, body in ((ITI_18, QUERY.encode()), (ITI_43, retrieve("a"))):
        with pytest.raises(PeerFault) as caught:
            client.call(url(endpoint), transaction, body)
        fault = caught.value.fault
        assert (fault.code, fault.reason, fault.http_status) == (FaultCode.SENDER, "not you", 400)
        assert fault.subcode == f"{{{v.WSSE}}}FailedAuthentication"


def test_nothing_was_sent_when_nobody_listens(client):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    for address in (f"http://127.0.0.1:{port}/x", "http://does-not-exist.invalid/x", "ftp://127.0.0.1/", "nonsense"):
        with pytest.raises(NotSent) as caught:
            client.call(address, ITI_18, QUERY.encode())
        assert not isinstance(caught.value, NotTried)


def test_a_part_that_fails_passes_through_and_the_peer_keeps_nothing(client, endpoint, actor):
    def broken():
        yield b"x" * (3 * MIB)
        raise FileNotFoundError("gone")

    with pytest.raises(FileNotFoundError):
        client.call(url(endpoint), ITI_41, provide("a"), parts=[OutPart("a", "text/plain", broken)])
    assert endpoint.alive()
    assert [seen.code for seen in actor.seen] == ["ITI-18"]
    assert actor.emptied()


def test_an_answer_that_breaks_off_is_an_unknown_outcome(client, endpoint, actor):
    def broken():
        yield b'<x:RetrieveDocumentSetResponse xmlns:x="urn:ihe:iti:xds-b:2007">'
        yield b"<!-- -->" * MIB
        raise RuntimeError("defect")

    actor.answer = lambda _request: Reply(broken(), actor.closed.append)
    with pytest.raises(OutcomeUnknown):
        client.call(url(endpoint), ITI_43, retrieve("a"))
    actor.answer = None
    assert endpoint.alive()
    assert False in actor.closed


class Scripted:
    """A peer that reads a request's head and says the same bytes to everyone."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}/"
        self.requests: list[bytes] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        try:
            while True:
                connection, _ = self.listener.accept()
                with connection:
                    self.requests.append(connection.recv(65536))
                    connection.sendall(self.answer)
        except OSError:
            return


def http(status: str, content_type: str, body: bytes, *, length: int | None = None, extra: str = "") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body) if length is None else length}\r\n"
    return head.encode() + extra.encode() + b"Connection: close\r\n\r\n" + body


SOAP = "application/soap+xml"
GOOD = message(None, f'<q:AdhocQueryResponse xmlns:q="{v.QUERY}"/>', header="")


FAULT = message(
    None,
    "<s:Fault><s:Code><s:Value>s:Receiver</s:Value></s:Code>"
    '<s:Reason><s:Text xml:lang="en">MARIE is unknown</s:Text></s:Reason></s:Fault>',
    header="",
)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-",
        http("200 OK", SOAP, GOOD, length=len(GOOD) + 1),
        http("200 OK", SOAP, b"<html>"),
        http("200 OK", SOAP, b'<!DOCTYPE x SYSTEM "file:///etc/passwd"><x/>'),
        http("200 OK", SOAP, message(None, "<other/>", header="")),
        http("200 OK", SOAP, message(None, f'<q:AdhocQueryResponse xmlns:q="{v.QUERY}"/>', header="<a:RelatesTo>urn:another</a:RelatesTo>")),
        http("500 Error", "text/html", b"<p>sorry</p>"),
        http("502 Bad Gateway", SOAP, GOOD),
        http("302 Found", "text/html", b"", extra="Location: http://127.0.0.1:1/\r\n"),
        http("200 OK", "multipart/related; boundary=b", b"--b\r\nContent-ID: <a>\r\n\r\n" + GOOD),
        http("200 OK", "multipart/related", GOOD),
    ],
)  # fmt: skip
def test_an_unreadable_answer_is_an_unknown_outcome(client, answer):
    peer = Scripted(answer)
    with pytest.raises(OutcomeUnknown):
        client.call(peer.url, ITI_18, QUERY.encode())
    assert len(peer.requests) == 1
    peer.listener.close()


@pytest.mark.parametrize(
    ("answer", "line"),
    [
        (http("200 OK", SOAP, message(None, "<MARIE/>", header="")), "HTTP 200 with another body"),
        (http("500 Error", "text/html", b"<MARIE/>"), "HTTP 500 with an unreadable answer"),
        (http("200 OK", SOAP, b"<p>"), "HTTP 200 with an unreadable answer"),
        (http("500 Error", SOAP, FAULT), "SOAP fault Receiver"),
        (b"", "no answer (RemoteProtocolError)"),
    ],
    ids=["another body", "type", "no envelope", "fault", "nothing"],
)
def test_what_is_logged_has_no_word_of_the_peer(client, answer, line):
    peer = Scripted(answer)
    with pytest.raises((OutcomeUnknown, PeerFault)) as raised:
        client.call(peer.url, ITI_18, QUERY.encode())
    assert for_log(raised.value) == line
    assert ("MARIE" in str(raised.value)) == (b"MARIE" in answer)
    peer.listener.close()


def test_what_is_logged_of_a_peer_that_is_not_there(client):
    with pytest.raises(NotSent) as raised:
        client.call("http://127.0.0.1:1/", ITI_18, QUERY.encode())
    assert for_log(raised.value) == "no connection (ConnectError)"


def test_a_peer_that_never_answers_is_an_unknown_outcome():
    client = SoapClient(None, timeout_s=0.3)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        with pytest.raises(OutcomeUnknown):
            client.call(f"http://127.0.0.1:{listener.getsockname()[1]}/", ITI_18, QUERY.encode())
    client.close()


def test_an_mtom_answer_with_its_root_last_and_a_document_in_base64(client):
    inside = '<x:DocumentResponse><x:Document><xop:Include xmlns:xop="http://www.w3.org/2004/08/xop/include" href="cid:D%40x"/></x:Document></x:DocumentResponse>'
    inline = "<x:DocumentResponse><x:Document>aGVs\n bG8=</x:Document></x:DocumentResponse>"
    body = f'<x:RetrieveDocumentSetResponse xmlns:x="{v.XDSB}">{inside}{inline}</x:RetrieveDocumentSetResponse>'
    answer = multipart(
        part(b"aGVsbG8g\r\nd29ybGQ=", "Content-ID: <d@x>", "Content-Transfer-Encoding: base64"),
        part(message(None, body, header=""), "Content-ID: <r>", "Content-Type: application/xop+xml"),
    )
    peer = Scripted(http("200 OK", 'multipart/related; boundary=b1; start="<r>"', answer))
    with client.call(peer.url, ITI_43, retrieve("a")) as got:
        first, second = got.body.findall(DOCUMENTS)
        assert b"".join(got.part(second)) == b"hello"
        assert b"".join(got.part(first)) == b"hello world"
    peer.listener.close()


def test_a_reference_out_of_the_answer_is_not_followed(client):
    for href in ("http://127.0.0.1:1/x", "file:///etc/passwd", "cid:none"):
        inside = (
            f'<x:Document><xop:Include xmlns:xop="http://www.w3.org/2004/08/xop/include" href="{href}"/></x:Document>'
        )
        body = message(
            None,
            f'<x:RetrieveDocumentSetResponse xmlns:x="{v.XDSB}">{inside}</x:RetrieveDocumentSetResponse>',
            header="",
        )
        peer = Scripted(http("200 OK", "multipart/related; boundary=b1", multipart(part(body, "Content-ID: <r>"))))
        with client.call(peer.url, ITI_43, retrieve("a")) as got, pytest.raises(OutcomeUnknown):
            list(got.part(got.body.find(DOCUMENTS)))
        peer.listener.close()


def test_the_environment_names_no_proxy(client, endpoint, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    fresh = SoapClient(None)
    fresh.call(url(endpoint), ITI_18, QUERY.encode()).close()
    fresh.close()


# ------------------------------------------------------------------------------------- deadlines and bounds

BUDGET_S = 0.5
HANGS_S = 15
"""Of a call whose peer would go on for minutes: only one that never ends is as late as this."""


def dripping_body(connection, ended):
    connection.recv(65536)
    connection.sendall(http("200 OK", SOAP, b"", length=2000))
    drip(connection, ended, GOOD + b" " * 2000)


def dripping_chunks(connection, ended):
    connection.recv(65536)
    connection.sendall(f"HTTP/1.1 200 OK\r\nContent-Type: {SOAP}\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
    drip(connection, ended, b"1\r\n<\r\n" * 1000)


@pytest.mark.parametrize("play", [silent, dripping_headers, dripping_body, dripping_chunks])
def test_a_call_ends_at_its_deadline_however_the_peer_goes_on(play):
    client = SoapClient(None, timeout_s=60)
    with performing(play) as peer:
        begun = time.monotonic()
        with pytest.raises(OutcomeUnknown, match="ReadTimeout"):
            client.call(peer.url, ITI_18, QUERY.encode(), deadline=begun + BUDGET_S)
        ended = time.monotonic()
    client.close()
    assert BUDGET_S <= ended - begun < HANGS_S


def test_a_request_that_nobody_takes_ends_at_the_deadline():
    def deaf(_connection, ended):
        ended.wait()

    client = SoapClient(None, timeout_s=60)
    with performing(deaf) as peer:
        body = QUERY.encode().replace(b"/>", b">" + b"x" * (24 * MIB) + b"</q:AdhocQueryRequest>")
        begun = time.monotonic()
        with pytest.raises(OutcomeUnknown, match="WriteTimeout"):
            client.call(peer.url, ITI_18, body, deadline=begun + 3 * BUDGET_S)
        assert time.monotonic() - begun < HANGS_S
    client.close()


def test_a_document_that_drips_ends_at_the_deadline_in_whichever_thread_it_is_read():
    inside = '<x:DocumentResponse><x:Document><i:Include xmlns:i="http://www.w3.org/2004/08/xop/include" href="cid:d"/></x:Document></x:DocumentResponse>'
    body = f'<x:RetrieveDocumentSetResponse xmlns:x="{v.XDSB}">{inside}</x:RetrieveDocumentSetResponse>'
    package = multipart(part(message(None, body, header=""), "Content-ID: <r>"), part(b"x" * 5000, "Content-ID: <d>"))

    def dripping_document(connection, ended):
        connection.recv(65536)
        at = package.index(b"x" * 5000)
        connection.sendall(http("200 OK", "multipart/related; boundary=b1", package[:at], length=len(package)))
        drip(connection, ended, package[at:])

    failed = []

    def read(pieces):
        try:
            list(pieces)
        except OutcomeUnknown as error:
            failed.append(str(error))

    client = SoapClient(None, timeout_s=60)
    with performing(dripping_document) as peer:
        begun = time.monotonic()
        with client.call(peer.url, ITI_43, retrieve("a"), deadline=begun + 2 * BUDGET_S) as answer:
            thread = threading.Thread(target=read, args=(answer.part(answer.body.find(DOCUMENTS)),))
            thread.start()
            thread.join(HANGS_S)
        assert failed == ["the answer broke off (ReadTimeout)"]
    client.close()


def test_no_connection_in_time_is_told_apart_from_no_answer():
    client = SoapClient(None, timeout_s=60, max_connections=1)
    with performing(silent) as peer:
        begun = time.monotonic()

        def wait():
            with pytest.raises(OutcomeUnknown):
                client.call(peer.url, ITI_18, QUERY.encode(), deadline=begun + 1.5)

        busy = threading.Thread(target=wait)
        busy.start()
        while not client._transports[False]._pool.connections:
            time.sleep(0.01)
        with pytest.raises(NotTried, match="PoolTimeout"):
            client.call(peer.url, ITI_18, QUERY.encode(), deadline=begun + BUDGET_S)
        assert busy.is_alive()
        busy.join()
    client.close()


def test_documents_that_are_read_slowly_keep_no_query_waiting(endpoint, actor):
    actor.documents = {"a": b"A" * (8 * MIB)}
    client = SoapClient(None, timeout_s=20, max_connections=1)
    with client.call(url(endpoint), ITI_43, retrieve("a")) as slow:
        pieces = slow.part(slow.body.find(DOCUMENTS))
        begun = next(pieces)
        client.call(url(endpoint), ITI_18, QUERY.encode()).close()
        with pytest.raises(NotTried, match="PoolTimeout"):
            client.call(url(endpoint), ITI_43, retrieve("a"), deadline=time.monotonic() + BUDGET_S)
        assert len(begun) + sum(map(len, pieces)) == 8 * MIB
    client.call(url(endpoint), ITI_43, retrieve("a")).close()
    client.close()


def test_an_address_that_swallows_everything_leaves_time_for_the_next_one(endpoint, beside_a_black_hole):
    beside_a_black_hole(endpoint.port)
    client = SoapClient(None, timeout_s=5, connect_timeout_s=2)
    client.call(url(endpoint).replace("127.0.0.1", "localhost"), ITI_18, QUERY.encode()).close()
    client.close()


def test_nothing_is_sent_when_the_time_is_over(client, endpoint, actor):
    with pytest.raises(NotTried, match="no time"):
        client.call(url(endpoint), ITI_18, QUERY.encode(), deadline=time.monotonic())
    assert actor.seen == []


def test_a_deadline_belongs_to_its_call_alone(client, endpoint):
    client.call(url(endpoint), ITI_18, QUERY.encode(), deadline=time.monotonic() + 1).close()
    time.sleep(1.1)
    client.call(url(endpoint), ITI_18, QUERY.encode()).close()
    assert len(client._transports[False]._pool.connections) == 1


@pytest.mark.parametrize("compressed", [False, True])
def test_a_flood_is_cut_off_at_the_bound(compressed):
    sent = []

    def flood(connection, ended):
        connection.recv(65536)
        extra = "Content-Encoding: gzip\r\n" if compressed else ""
        data = gzip.compress(b"x" * (100 * MIB)) if compressed else b"x" * (100 * MIB)
        connection.sendall(http("200 OK", SOAP, b"", length=len(data), extra=extra))
        try:
            connection.sendall(data)
            sent.append(len(data))
        finally:
            ended.wait()

    client = SoapClient(None, timeout_s=60)
    with performing(flood) as peer, pytest.raises(TooLarge, match=f"more than {MIB} bytes"):
        client.call(peer.url, ITI_18, QUERY.encode(), max_bytes=MIB)
    client.close()
    assert compressed or not sent


def test_what_lies_behind_the_end_of_compressed_bytes_is_not_gathered():
    sent = []

    def go_on(connection, ended):
        connection.recv(65536)
        head = http("200 OK", SOAP, gzip.compress(GOOD), length=200 * MIB, extra="Content-Encoding: gzip\r\n")
        connection.sendall(head)
        try:
            connection.sendall(bytes(100 * MIB))
            sent.append(100 * MIB)
        finally:
            ended.wait()

    client = SoapClient(None, timeout_s=60)
    with performing(go_on) as peer, pytest.raises(OutcomeUnknown, match="behind its end"):
        client.call(peer.url, ITI_18, QUERY.encode())
    client.close()
    assert not sent


def test_markup_is_bounded_with_the_bytes(client):
    answer = http("200 OK", SOAP, message(None, f"<q>{'<a/>' * 600_000}</q>", header=""))

    def markup(connection, ended):
        connection.recv(65536)
        connection.sendall(answer)
        ended.wait()

    with performing(markup) as peer, pytest.raises(TooLarge, match="elements"):
        client.call(peer.url, ITI_18, QUERY.encode(), max_bytes=4 * MIB)


@pytest.mark.parametrize("coding", ["gzip", "x-gzip"])
def test_a_compressed_answer_is_read_though_nobody_asked_for_it(client, coding):
    peer = Scripted(http("200 OK", SOAP, gzip.compress(GOOD), extra=f"Content-Encoding: {coding}\r\n"))
    with client.call(peer.url, ITI_18, QUERY.encode()) as answer:
        assert answer.body.tag == ITI_18.response_root
    peer.listener.close()


@pytest.mark.parametrize("coding", ["utf-8", "identity", "", "binary"])
def test_a_content_encoding_that_is_none_is_ignored(client, coding):
    peer = Scripted(http("200 OK", SOAP, GOOD, extra=f"Content-Encoding: {coding}\r\n"))
    with client.call(peer.url, ITI_18, QUERY.encode()) as answer:
        assert answer.body.tag == ITI_18.response_root
    peer.listener.close()


@pytest.mark.parametrize("data", [gzip.compress(GOOD)[:-20], b"nonsense"])
def test_a_damaged_compressed_answer_is_an_unknown_outcome(client, data):
    peer = Scripted(http("200 OK", SOAP, data, extra="Content-Encoding: gzip\r\n"))
    with pytest.raises(OutcomeUnknown):
        client.call(peer.url, ITI_18, QUERY.encode())
    peer.listener.close()


def test_an_mtom_answer_can_be_refused_where_a_plain_one_is_due(client):
    answer = multipart(part(GOOD, "Content-ID: <r>", "Content-Type: application/xop+xml"))
    peer = Scripted(http("200 OK", "multipart/related; boundary=b1", answer))
    client.call(peer.url, ITI_18, QUERY.encode()).close()
    with pytest.raises(OutcomeUnknown, match="MTOM"):
        client.call(peer.url, ITI_18, QUERY.encode(), plain_only=True)
    peer.listener.close()
