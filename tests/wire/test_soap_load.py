"""Peers that are slow, gone, many or greedy, and stores that fail: the service goes on (wire/soap_app.py)."""

import http.client
import threading
import time

import pytest

from ihe import vocabulary as v
from ihe.errors import FaultCode, SoapFault
from ihe.transactions import ITI_18
from tests.wire.soap_peer import (
    MIB,
    MTOM,
    QUERY,
    attached,
    eventually,
    include,
    message,
    multipart,
    outgoing,
    provide,
    request,
    retrieve,
    root_part,
    served,
)
from wire.messages import Reply
from wire.settings import LimitSettings


def upload(content: bytes, name: str = "d") -> bytes:
    return request(multipart(root_part(provide((name, include("cid:d1")))), attached("d1", content)), MTOM)


def test_a_megabyte_of_headers(endpoint):
    many = "\r\n".join(f"X-{n}: {'y' * 1000}" for n in range(1000))
    for head in (f"X: {'y' * MIB}", many):
        try:
            answer = endpoint.raw(request(message(ITI_18, QUERY), "application/soap+xml", head))
        except (ConnectionError, http.client.HTTPException):
            continue
        assert answer.status == 431
    assert endpoint.alive()


def test_fifty_stalled_uploads_hold_nobody_up(endpoint, actor):
    whole = upload(b"s" * 2 * MIB)
    stalled = []
    for n in range(50):
        peer = endpoint.connect()
        peer.sendall(whole[: 300 + n * 30_000])
        stalled.append(peer)
    began = time.monotonic()
    assert all(endpoint.alive() for _ in range(5))
    assert endpoint.raw(whole).status == 200
    assert time.monotonic() - began < 2.5
    answer = endpoint.receive(stalled[-1])
    assert (answer.status, answer.fault) == (408, ("Sender", None))
    for peer in stalled:
        peer.close()
    assert endpoint.alive()
    assert eventually(lambda: len(actor.left()) == 1)


def test_clients_that_go_away_at_any_moment_leave_nothing(endpoint, actor):
    whole = upload(b"g" * 3 * MIB)
    for at in range(200, len(whole), 290_000):
        with endpoint.connect() as peer:
            peer.sendall(whole[:at])
    assert endpoint.alive()
    assert actor.emptied()


def test_a_client_that_leaves_during_the_answer_is_told_to_the_reply(endpoint, actor):
    actor.documents["d"] = b"d" * 40 * MIB
    with endpoint.connect() as peer:
        peer.sendall(request(multipart(root_part(retrieve("d"))), MTOM))
        peer.recv(1000)
    assert eventually(lambda: actor.closed == [False])
    assert endpoint.alive()


def test_a_store_that_is_full_is_the_actors_answer(endpoint, actor):
    actor.fail_staging_after = 2 * MIB
    answer = endpoint.raw(upload(b"f" * 9 * MIB))
    assert answer.status == 200, answer.body
    assert answer.content.get("status") == v.FAILURE
    assert actor.failures == ["OSError"]
    assert actor.emptied()
    assert endpoint.alive()


def test_a_store_that_fails_before_the_root_part_is_known(endpoint, actor):
    actor.fail_staging_after = 0
    body = multipart(attached("d1", b"f" * 3 * MIB), root_part(provide(("d", include("cid:d1")))))
    answer = endpoint.post(body, MTOM)
    assert (answer.status, answer.fault) == (500, ("Receiver", None))
    assert b"No space" not in answer.body
    assert actor.emptied()


def test_a_store_that_refuses(endpoint, actor, monkeypatch):
    def refuse(_request_id, _wanted):
        raise SoapFault(FaultCode.RECEIVER, "no room for this document")

    monkeypatch.setattr(actor, "stage", refuse)
    answer = endpoint.raw(upload(b"f" * 3 * MIB))
    assert (answer.status, answer.fault) == (500, ("Receiver", None))
    assert answer.text("s:Header/a:RelatesTo") == "urn:uuid:1"


def test_nothing_is_staged_for_an_envelope_that_is_refused(endpoint, actor):
    root = root_part(message(None, QUERY, header="<a:Action>urn:unknown</a:Action>"))
    answer = endpoint.post(multipart(root, attached("d1", b"f" * 3 * MIB)), MTOM)
    assert answer.fault == ("Sender", "ActionNotSupported")
    assert actor.staged == []


def test_a_handler_that_fails_after_it_looked_at_a_document_owns_it(endpoint, actor):
    def fail(_request):
        raise SoapFault(FaultCode.SENDER, "no")

    actor.before = fail
    endpoint.raw(upload(b"f" * 3 * MIB))
    assert len(actor.left()) == 1


def test_the_store_is_told_how_much_of_the_message_is_still_to_be_stored(endpoint, actor):
    body = multipart(
        root_part(provide(("d", include("cid:d1")), ("e", include("cid:e1")))),
        attached("d1", b"d" * 3 * MIB),
        attached("e1", b"e" * 2 * MIB),
    )
    assert endpoint.raw(request(body, MTOM)).status == 200
    first, second = actor.wanted
    assert 5 * MIB < first <= len(body)
    assert 2 * MIB < second <= len(body) - 3 * MIB
    head = request(b"", MTOM, "Transfer-Encoding: chunked", length=False)
    assert endpoint.raw(head, b"%x\r\n" % len(body) + body + b"\r\n0\r\n\r\n").status == 200
    assert actor.wanted[2:] == [None, None]


def test_a_document_is_durable_before_the_next_one_is_stored(endpoint, actor):
    seen = []
    stage = actor.stage

    def staging(request_id, wanted):
        seen.append([one.finished for one in actor.staged])
        return stage(request_id, wanted)

    actor.stage = staging
    names = ["d1", "d2", "d3"]
    root = root_part(provide(*((name, include(f"cid:{name}")) for name in names)))
    assert endpoint.post(multipart(root, *(attached(name, b"x" * 2 * MIB) for name in names)), MTOM).status == 200
    assert seen == [[], [True], [True, True]]


@pytest.mark.parametrize("where", ["first", "later"])
@pytest.mark.parametrize("mtom", [True, False])
def test_an_answer_that_fails_is_refused_or_broken_never_ended(endpoint, actor, where, mtom):
    def body():
        yield f'<x:RetrieveDocumentSetResponse xmlns:x="{v.XDSB}">'.encode()
        if where == "later":
            yield from [b" " * MIB] * 20
        raise RuntimeError("defect")

    actor.answer = lambda _request: Reply(body(), actor.closed.append)
    envelope = retrieve("d")
    sent = request(multipart(root_part(envelope)), MTOM) if mtom else request(envelope, "application/soap+xml")
    if where == "first":
        assert endpoint.raw(sent).content.get("status") == v.FAILURE
        assert eventually(lambda: actor.closed == [False, True])
    else:
        with pytest.raises((ConnectionError, http.client.IncompleteRead)):
            endpoint.raw(sent)
        assert eventually(lambda: actor.closed == [False])
    actor.answer = None
    assert endpoint.alive()


def test_the_first_byte_of_a_large_answer_comes_before_its_last_piece_is_made(endpoint, actor):
    more = threading.Event()

    def body():
        yield f'<q:AdhocQueryResponse xmlns:q="{v.QUERY}">'.encode() + b" " * 2 * MIB
        assert more.wait(10)
        yield b"</q:AdhocQueryResponse>"

    actor.answer = lambda _request: Reply(body(), actor.closed.append)
    with endpoint.connect() as peer:
        peer.sendall(request(message(ITI_18, QUERY), "application/soap+xml"))
        first = peer.recv(100)
        more.set()
        assert first.startswith(b"HTTP/1.1 200")
        rest = b""
        while b"</s:Envelope>" not in rest:
            rest = rest[-20:] + peer.recv(65536)
    assert eventually(lambda: actor.closed == [True])


def test_when_all_threads_are_taken_and_the_queue_is_full_more_is_refused_as_busy(actor):
    go_on = threading.Event()
    actor.before = lambda _request: go_on.wait(20) and None
    with served(actor, LimitSettings(threads=1, drain_s=1)) as endpoint:
        query = request(message(ITI_18, QUERY), "application/soap+xml")
        waiting = [endpoint.connect() for _ in range(5)]
        for peer in waiting:
            peer.sendall(query)
        time.sleep(0.3)  # until one request runs and four wait
        answer = endpoint.raw(query)
        assert (answer.status, answer.fault, answer.headers["retry-after"]) == (503, ("Receiver", None), "1")
        go_on.set()
        for peer in waiting:
            assert endpoint.receive(peer).status == 200
            peer.close()
        assert endpoint.alive()


def test_a_spent_upload_buffer_sends_documents_to_the_store_instead_of_memory(actor):
    with served(actor, upload_buffer_bytes=100_000) as endpoint:
        names = [f"d{n}" for n in range(10)]
        root = root_part(provide(*((name, include(f"cid:{name}")) for name in names)))
        answer = endpoint.post(multipart(root, *(attached(name, name.encode() * 40_000) for name in names)), MTOM)
        assert answer.status == 200, answer.body
        assert len(actor.staged) >= 8
        for name in names:
            kept = actor.documents[name]
            assert (kept if isinstance(kept, bytes) else kept.read_bytes()) == name.encode() * 40_000
        assert endpoint.alive()


def test_a_large_envelope_may_exceed_the_upload_buffer_while_others_leave_it_free(actor):
    whole = request(provide(("d", "YWJj" * MIB)), "application/soap+xml")
    with served(actor, upload_buffer_bytes=2 * MIB, max_inline_bytes=4 * MIB) as endpoint:
        assert endpoint.raw(whole).status == 200
        with endpoint.connect() as other:
            other.sendall(whole[: 3 * MIB])
            assert eventually(lambda: endpoint.raw(whole).status == 503)
            other.sendall(whole[3 * MIB :])
            assert endpoint.receive(other).status == 200
        assert endpoint.alive()


def test_parallel_uploads_and_downloads_stay_apart(endpoint, actor):
    wrong = []

    def exchange(number: int) -> None:
        content = bytes([number]) * (MIB + number * 100_000)
        if endpoint.raw(upload(content, f"d{number}")).status != 200:
            wrong.append(number)
        if endpoint.post(multipart(root_part(retrieve(f"d{number}"))), MTOM).document() != content:
            wrong.append(number)

    threads = [threading.Thread(target=exchange, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert eventually(lambda: len(actor.closed) == 32 and all(actor.closed))


def test_a_media_type_no_header_can_hold_does_not_break_the_answer(endpoint, actor):
    part = outgoing(b"content")
    odd = type(part)("text/plän\r\nX-Evil: 1", part.size, part.chunks)
    actor.answer = lambda _request: Reply(
        [
            f'<x:RetrieveDocumentSetResponse xmlns:x="{v.XDSB}"><x:Document>'.encode(),
            odd,
            b"</x:Document></x:RetrieveDocumentSetResponse>",
        ]
    )
    answer = endpoint.post(multipart(root_part(retrieve("d"))), MTOM)
    assert answer.document() == b"content"


def test_a_document_of_unknown_size_fits_a_plain_answer_or_is_refused_in_time(endpoint, actor):
    for size, status in ((1000, 200), (3 * MIB, 400)):
        part = outgoing(b"u" * size)
        unknown = type(part)("text/plain", None, part.chunks)
        actor.answer = lambda _request, unknown=unknown: Reply(
            [
                f'<x:RetrieveDocumentSetResponse xmlns:x="{v.XDSB}"><x:Document>'.encode(),
                unknown,
                b"</x:Document></x:RetrieveDocumentSetResponse>",
            ]
        )
        assert endpoint.post(retrieve("d")).status == status
