"""What a gateway keeps and streams while it retrieves: room that runs out, time that runs out (gateway/retrieval.py)."""

import contextlib
import http.client
import os
import random
import re
import tracemalloc
from pathlib import Path

import pytest

from gateway import delivery
from gateway.fan_out import FanOut
from ihe import vocabulary as v
from ihe.mtom import xop_include
from ihe.transactions import ITI_43
from tests.gateway.retrieving import (
    MIB,
    connect,
    documents_answer,
    gateway,
    http_answer,
    inline,
    partners,
    repository,
    request,
    response_row,
    retrieved_xml,
    soap_answer,
    stored,
)
from tests.repository.stand import multipart
from wire import deadline
from wire.settings import LimitSettings
from wire.spool import Spool

FULL = Path("/dev/full")
A, B, C = (f"urn:oid:1.3.6.1.4.1.21367.2011.2.7.{n}" for n in (1, 2, 3))
ASKED = [("1.9", f"1.9{n}", C) for n in range(4)]
DATAS = [os.urandom(size) for size in (MIB, 2 * MIB, 3, 3 * MIB)]


@pytest.fixture(scope="module")
def partner():
    with partners(C) as (peer,):
        yield peer


@contextlib.contextmanager
def asking(folder, partner, **more):
    with gateway(folder, home=A, communities=[(C, partner.address)], **more) as running:
        yield running


def all_of_it(_peer, asked):
    return documents_answer(asked, DATAS, home=C)


def test_kept_documents_leave_nothing_behind(tmp_path, partner):
    partner.plays(all_of_it)
    with asking(tmp_path / "a", partner) as ours:
        before = sorted((tmp_path / "a").iterdir())
        answer = ours.retrieve(*ASKED)
        assert answer.documents() == [(one[1], data) for one, data in zip(ASKED, DATAS, strict=True)]
        assert sorted((tmp_path / "a").iterdir()) == before


def test_what_finds_no_room_is_streamed(tmp_path, partner):
    partner.plays(all_of_it)
    with asking(tmp_path / "a", partner, spool_total_bytes=2 * MIB) as ours:
        answer = ours.retrieve(*ASKED)
        assert answer.documents() == [(one[1], data) for one, data in zip(ASKED, DATAS, strict=True)]


def test_a_plain_answer_holds_what_is_streamed_behind_a_large_document(tmp_path, partner):
    datas = [bytes(17 * MIB), b"1"]  # the first is more than is looked through before the first byte
    partner.plays(lambda _peer, asked: documents_answer(asked, datas, home=C))
    with asking(tmp_path / "a", partner, spool_bytes=MIB) as ours:
        answer = ours.retrieve(*ASKED[:2], plain=True)
        assert (answer.status, inline(answer)) == ("Success", [("1.90", datas[0]), ("1.91", b"1")])


def test_a_full_disk_costs_no_document(tmp_path, partner, monkeypatch):
    monkeypatch.setattr(Spool, "file", lambda _self: FULL.open("wb", buffering=0))
    partner.plays(all_of_it)
    with asking(tmp_path / "a", partner) as ours:
        answer = ours.retrieve(*ASKED)
        assert answer.documents() == [(one[1], data) for one, data in zip(ASKED, DATAS, strict=True)]


def test_what_must_be_kept_and_finds_no_room_is_an_error_of_ours(tmp_path, partner, monkeypatch):
    monkeypatch.setattr(Spool, "file", lambda _self: FULL.open("wb", buffering=0))

    def act(_peer, asked):
        rows = [response_row(*one, xop_include("a@c").decode(), home=C) for one in asked]
        return http_answer(*multipart(soap_answer(retrieved_xml(rows)), {"a@c": bytes(2 * MIB)}))

    partner.plays(act)
    with asking(tmp_path / "a", partner, breaker_failures=1) as ours:
        for _ in range(2):
            answer = ours.retrieve(*ASKED[:2])
            assert (answer.status, answer.codes) == ("Failure", ["XDSRepositoryOutOfResources"])
            assert "no room here" in answer.errors[0][1]
        partner.plays(lambda _peer, asked: documents_answer(asked, [b"x"]))
        assert ours.retrieve(ASKED[0]).status == "Success"  # nothing of it was the fault of the partner


def test_a_thousand_documents_of_one_partner(tmp_path, partner):
    datas = [b"%d" % number for number in range(1000)]
    partner.plays(lambda _peer, asked: documents_answer(asked, datas, home=C))
    with asking(tmp_path / "a", partner) as ours:
        answer = ours.retrieve(*[("1.9", f"1.{number}", C) for number in range(1000)])
        assert answer.documents() == [(f"1.{number}", data) for number, data in enumerate(datas)]


@pytest.mark.parametrize("times", [1, 2])
def test_a_document_that_is_asked_for_twice_has_come_when_it_came(tmp_path, partner, times):
    partner.plays(lambda _peer, asked: documents_answer(asked[:times], [b"x"] * times, home=C))
    with asking(tmp_path / "a", partner) as ours:
        answer = ours.retrieve(ASKED[0], ASKED[0])
        assert (answer.status, answer.codes) == ("Success", [])
        assert answer.documents() == [("1.90", b"x")] * times
        assert {told[2] for told in ours.records()} == {0}


def test_a_partner_that_keeps_failing_is_not_asked(tmp_path, partner):
    partner.plays(lambda _peer, _asked: b"")
    with asking(tmp_path / "a", partner, breaker_failures=2) as ours:
        answers = [ours.retrieve(ASKED[0]) for _ in range(4)]
        assert {(one.status, *one.codes) for one in answers} == {("Failure", "XDSUnavailableCommunity")}
        assert len(partner.asked) == 2
        assert "not asked now" in answers[3].errors[0][1]
        assert ours.records() == [
            *[("ITI-39", "asked", 12, ("1.90",))] * 2,  # nothing was sent by the others
            *[("ITI-43", "answered", 8, ("1.90",))] * 4,
        ]


@pytest.mark.parametrize("begun", [True, False])
def test_who_was_never_asked_has_no_record(tmp_path, partner, monkeypatch, begun):
    def ask(_self, calls, *, discard, **_more):
        for call in calls:
            if begun:
                discard(call.run())
        return [None] * len(calls)

    monkeypatch.setattr(FanOut, "ask", ask)
    partner.plays(all_of_it)
    with asking(tmp_path / "a", partner) as ours:
        answer = ours.retrieve(ASKED[0])
        assert (answer.status, answer.codes) == ("Failure", ["XDSUnavailableCommunity"])
        asked = [("ITI-39", "asked", 12, ("1.90",))] if begun else []
        assert ours.records() == [*asked, ("ITI-43", "answered", 8, ("1.90",))]


@pytest.mark.parametrize("more", [{"transactions": ["ITI-38"]}, {"query_url": None}], ids=["not exchanged", "no url"])
def test_a_community_with_which_iti_39_is_not_exchanged(tmp_path, partner, more):
    partner.plays(all_of_it)
    table = {"home_community_id": C, "query_url": partner.address} | more
    with gateway(tmp_path / "a", home=A, communities=[table]) as ours:
        answer = ours.retrieve(*ASKED)
        assert (answer.status, answer.codes, partner.asked) == ("Failure", ["XDSUnavailableCommunity"], [])


def test_nothing_holds_the_tree_of_an_answer_while_its_documents_stream(tmp_path, partner, monkeypatch):
    seen = []

    def keep_parts(self, *times, keep=delivery.Delivery._keep_parts):
        seen.append((self._answer.body, self._answer.headers))
        keep(self, *times)

    def act(_peer, asked):
        header = f'<w:Security xmlns:w="{v.WSSE}"/>'.encode()
        root = soap_answer(retrieved_xml([response_row(*asked[0], xop_include("a@c").decode(), home=C)]))
        return http_answer(*multipart(root.replace(b"</s:Header>", header + b"</s:Header>"), {"a@c": b"a"}))

    monkeypatch.setattr(delivery.Delivery, "_keep_parts", keep_parts)
    partner.plays(act)
    with asking(tmp_path / "a", partner) as ours:
        assert ours.retrieve(ASKED[0]).documents() == [("1.90", b"a")]
    assert seen == [(None, ())]


def test_a_document_that_comes_at_a_fair_rate_is_streamed_when_the_time_is_over(tmp_path, partner):
    data = os.urandom(4 * MIB)

    def act(peer, asked):
        message = documents_answer(asked, [b"first", data], home=C)
        for start in range(0, len(message), 64 * 1024):
            peer.sendall(message[start : start + 64 * 1024])
            if partner.stop.wait(0.04):
                return

    partner.plays(act)
    with asking(tmp_path / "a", partner, deadline_s=2) as ours:
        answer = ours.retrieve(*ASKED[:2])
        assert answer.documents() == [(ASKED[0][1], b"first"), (ASKED[1][1], data)]


def test_a_stream_that_falls_silent_breaks_our_answer(tmp_path, partner):
    def act(peer, asked):
        peer.sendall(documents_answer(asked, [bytes(4 * MIB)], home=C)[:-MIB])
        partner.wait(peer)

    partner.plays(act)
    with asking(tmp_path / "a", partner, spool_bytes=MIB, deadline_s=2) as ours:
        with pytest.raises((http.client.IncompleteRead, ConnectionError)):
            ours.retrieve(ASKED[0])
        assert partner.gone.acquire(timeout=20)


DRIPS = {
    "document": (b"binary", b"", b"x"),
    "blanks in base64": (b"base64", b"", b" "),
    "part nobody refers to": (b"binary", b"\r\n--%s\r\nContent-ID: <other@c>\r\n\r\n", b"x"),
    "head of a part": (b"binary", b"\r\n--%s\r\nX-Words: ", b"x"),
    "epilogue": (b"binary", b"\r\n--%s--\r\n", b" "),
}
"""By what drips: how the document is encoded, what stands behind the document, the bytes."""


@pytest.mark.parametrize("name", DRIPS)
def test_a_stream_that_drips_breaks_our_answer(tmp_path, partner, monkeypatch, name):
    monkeypatch.setattr(deadline, "RATE_WINDOW_S", 0.5)
    encoding, behind, byte = DRIPS[name]

    def act(peer, asked):
        message = documents_answer(asked, [b"QUFB" * MIB], home=C)
        _, _, body = message.partition(b"\r\n\r\n")
        body, end = body[: body.rindex(b"\r\n--")], body[body.rindex(b"\r\n--") :]
        at = body.index(b"Content-ID: <0@peer>")
        body = body[:at] + body[at:].replace(b"binary", encoding, 1)
        content_type = re.search(rb"(?i)content-type: (.*?)\r\n", message)[1].decode()
        boundary = end.strip(b"\r\n-")
        peer.sendall(http_answer(content_type, body + behind.replace(b"%s", boundary), length=10**9))
        with contextlib.suppress(OSError):
            while not partner.stop.wait(0.02):
                peer.sendall(byte)
            return
        partner.gone.release()

    partner.plays(act)
    with asking(tmp_path / "a", partner, spool_bytes=MIB) as ours:
        with pytest.raises((http.client.IncompleteRead, ConnectionError)):
            ours.retrieve(ASKED[0])
        assert partner.gone.acquire(timeout=20)


def test_a_consumer_that_does_not_read_loses_the_connection_to_the_partner(tmp_path, partner):
    def act(peer, asked):
        with contextlib.suppress(OSError):
            peer.sendall(documents_answer(asked, [bytes(60 * MIB)], home=C))
            return
        partner.gone.release()

    partner.plays(act)
    limits = LimitSettings(threads=8, drain_s=1, answer_timeout_s=60)
    with asking(tmp_path / "a", partner, spool_bytes=MIB, stream_s=0.5, limits=limits) as ours:
        with connect(ours.initiating, *request(ITI_43, ASKED[0])) as peer:
            assert partner.gone.acquire(timeout=20)
            got = b""
            with contextlib.suppress(ConnectionError):
                while data := peer.recv(MIB):
                    got = got[-100:] + data
            assert not got.endswith(b"0\r\n\r\n")


def mutated(chance, data):
    """The HTTP message of a partner with one to five faults in its body."""
    body = bytearray(data[data.index(b"\r\n\r\n") + 4 :])
    words = (
        b"--",
        b"\r\n",
        b"<x:Document>",
        b"</x:DocumentResponse>",
        b"<!--",
        b"&#0;",
        b"<!DOCTYPE a [<!ENTITY b 'c'>]>",
    )
    for _ in range(chance.randint(1, 5)):
        at = chance.randrange(min(len(body), 3000))
        kind = chance.randrange(4)
        if kind == 0:
            body[at] = chance.randrange(256)
        elif kind == 1:
            del body[at : at + chance.choice([1, 10, 500])]
        elif kind == 2:
            body[at:at] = chance.choice(words)
        else:
            body[at:at] = body[max(0, at - chance.randrange(1, 800)) : at]
    head = data[: data.index(b"\r\n\r\n")]
    return re.sub(rb"Content-Length: \d+", b"Content-Length: %d" % len(body), head) + b"\r\n\r\n" + bytes(body)


def test_whatever_a_partner_sends_is_an_answer_or_an_error(tmp_path, partner):
    chance, seen = random.Random(6), set()
    with asking(tmp_path / "a", partner, breaker_failures=10_000) as ours:
        for number in range(60):
            mtom = number % 3 > 0
            partner.plays(lambda _peer, asked: mutated(chance, documents_answer(asked, DATAS[:3], home=C, mtom=mtom)))  # noqa: B023
            answer = ours.retrieve(*ASKED[:3])
            assert answer.http_status == 200
            assert {name for name, _ in answer.documents()} <= {one[1] for one in ASKED[:3]}
            assert (answer.status == "Success") == (len(answer.documents()) == 3 and not answer.errors)
            assert not any("internal" in text or len(text) > 1000 for _, text in answer.errors)
            seen.add(answer.status)
        assert {"Success", "Failure"} <= seen


def test_a_large_document_passes_both_gateways_in_bounded_memory(tmp_path):
    """Repository, responding and initiating gateway and the consumer are all in this process."""
    data = os.urandom(MIB) * 48
    with contextlib.ExitStack() as stack:
        house = stack.enter_context(repository(tmp_path / "there", "1.2.3"))
        (one,) = stored(house, data)
        theirs = stack.enter_context(gateway(tmp_path / "b", home=B, repositories=[("1.2.3", house.address)]))
        ours = stack.enter_context(gateway(tmp_path / "a", home=A, communities=[(B, theirs.responding)]))
        tracemalloc.start()
        try:
            with connect(ours.initiating, *request(ITI_43, ("1.2.3", one, B))) as peer:
                answer = http.client.HTTPResponse(peer, method="POST")
                answer.begin()
                size, tail = 0, b""
                while block := answer.read(256 * 1024):
                    size, tail = size + len(block), (tail + block)[-2000:]
                answer.close()
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert len(data) < size < len(data) + 4000
        assert tail.rstrip().endswith(b"--")
        assert data[-1000:] in tail
        assert peak < 24 * MIB
