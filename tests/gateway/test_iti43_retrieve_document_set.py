"""ITI-43 at the Initiating Gateway: two real gateways, and partners that do whatever partners do (ITI TF-2: 3.43, 3.39)."""

import base64
import contextlib
import os
import socket
import time

import pytest

from gateway import delivery
from ihe import vocabulary as v
from ihe.errors import RegistryError
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
from tests.wire.soap_peer import eventually

A, B, C, D, E, F, G = (f"urn:oid:1.3.6.1.4.1.21367.2011.2.7.{n}" for n in range(1, 8))
HERE, THERE, QUIET = "1.2.3.1", "1.2.3.2", "1.2.3.3"
SPOOL = 256 * 1024
LARGE = os.urandom(3_000_000)
FAULT = (
    f'<s:Envelope xmlns:s="{v.SOAP12}"><s:Body><s:Fault><s:Code><s:Value>s:Receiver</s:Value></s:Code>'
    '<s:Reason><s:Text xml:lang="en">the partner is ill</s:Text></s:Reason></s:Fault></s:Body></s:Envelope>'
).encode()


@pytest.fixture(scope="module")
def domain(tmp_path_factory):
    """Our repository and that of B, their gateways; C to G and a repository of B, which play scripts."""
    folder = tmp_path_factory.mktemp("domains")
    with contextlib.ExitStack() as stack:
        here = stack.enter_context(repository(folder / "here", HERE))
        there = stack.enter_context(repository(folder / "there", THERE))
        quiet, c, *late = stack.enter_context(partners(B, C, D, E, F, G))
        repositories = [(THERE, there.address), (QUIET, quiet.address)]
        b = stack.enter_context(gateway(folder / "b", home=B, repositories=repositories, deadline_s=8))
        a = stack.enter_context(
            gateway(
                folder / "a",
                home=A,
                repositories=[(HERE, here.address)],
                communities=[(B, b.responding), (C, c.address)]
                + [{"home_community_id": one.home, "query_url": one.address, "deadline_s": 3} for one in late],
                deadline_s=20,
                spool_bytes=SPOOL,
                breaker_failures=10_000,
            )
        )
        yield Domain(a, b, here, there, quiet, c, late)


class Domain:
    def __init__(self, a, b, here, there, quiet, c, late):
        self.a, self.b, self.here, self.there, self.quiet = a, b, here, there, quiet
        self.c, self.late = c, late
        self.kept = {}

    def document(self, house, data):
        """The unique id of a document with these bytes in a repository."""
        key = house.unique_id, data
        if key not in self.kept:
            (self.kept[key],) = stored(house, data)
        return self.kept[key]


@pytest.fixture(autouse=True)
def _no_records(domain):
    domain.a.messages(), domain.b.messages()


def texts(answer, name):
    return [e.text for e in answer.body.iter(f"{{{v.XDSB}}}{name}")]


def located(answer):
    return sorted((e.get("errorCode"), e.get("location")) for e in answer.body.iter(f"{{{v.RS}}}RegistryError"))


def with_others(domain, *asked):
    """Ask for these between a document of ours and one of B; both must arrive, whatever becomes of these."""
    ours, theirs = domain.document(domain.here, b"ours"), domain.document(domain.there, b"theirs")
    answer = domain.a.retrieve((HERE, ours, A), *asked, (THERE, theirs, B))
    found = answer.documents()
    assert (found[0], found[-1]) == ((ours, b"ours"), (theirs, b"theirs"))
    return answer, found[1:-1]


# -------------------------------------------------------------------------------------------------- what is asked for


def test_documents_of_communities_and_of_our_own_in_the_order_of_the_request(domain):
    a, b = domain.document(domain.here, b"ours"), domain.document(domain.there, LARGE)
    c = domain.document(domain.there, b"theirs")
    domain.c.plays(lambda _peer, asked: documents_answer(asked, [b"c1", b"c2"], home=C))
    asked = [(THERE, c, B), ("1.9", "1.91", C), (HERE, a, A), (THERE, b, B), ("1.9", "1.92", C), (THERE, c, B)]
    answer = domain.a.retrieve(*asked)
    assert (answer.status, answer.errors) == ("Success", [])
    assert answer.documents() == [
        (c, b"theirs"),
        ("1.91", b"c1"),
        (a, b"ours"),
        (b, LARGE),
        ("1.92", b"c2"),
        (c, b"theirs"),
    ]
    assert texts(answer, "HomeCommunityId") == [B, C, A, B, C, B]
    assert texts(answer, "mimeType") == ["text/plain"] * 6


def test_a_plain_request_gets_a_plain_answer(domain):
    a, b = domain.document(domain.here, b"ours"), domain.document(domain.there, LARGE)
    answer = domain.a.retrieve((THERE, b, B), (HERE, a, A), plain=True)
    assert (answer.status, inline(answer)) == ("Success", [(b, LARGE), (a, b"ours")])


def test_a_document_without_a_home_and_one_of_an_unknown_home(domain):
    answer, found = with_others(domain, ("1.9", "1.91"), ("1.9", "1.92", "urn:oid:9.9"), ("8.8", "1.93", A))
    assert (answer.status, found) == ("PartialSuccess", [])
    assert located(answer) == [
        ("XDSMissingHomeCommunityId", A),
        ("XDSUnknownCommunity", A),
        ("XDSUnknownRepositoryId", A),
    ]
    assert "1.91" in dict(answer.errors)["XDSMissingHomeCommunityId"]
    assert "urn:oid:9.9" in dict(answer.errors)["XDSUnknownCommunity"]


def test_errors_of_a_community_are_passed_on_with_its_home(domain):
    answer, found = with_others(domain, (THERE, "7.7.7", B), ("6.6.6", "7.7.8", B))
    assert (answer.status, found) == ("PartialSuccess", [])
    assert located(answer) == [("XDSDocumentUniqueIdError", B), ("XDSUnknownRepositoryId", B)]


def test_a_repository_behind_that_breaks_off_is_one_error_and_not_a_short_document(domain):
    """The damage is found by the repository only while its answer leaves: the gateway beside it has not begun its own."""
    data = os.urandom(2_000_000)
    damaged = domain.document(domain.there, data)
    (document,) = domain.there.index.available([damaged])
    domain.there.store._object(document.object_key).write_bytes(data[:-10] + b"0123456789")
    ours = domain.document(domain.here, b"ours")
    answer = domain.a.retrieve((HERE, ours, A), (THERE, damaged, B))
    assert (answer.status, answer.documents()) == ("PartialSuccess", [(ours, b"ours")])
    assert located(answer) == [("XDSRepositoryError", B)]


def test_records_on_both_sides_agree(domain):
    ours, theirs = domain.document(domain.here, b"ours"), domain.document(domain.there, b"theirs")
    domain.a.messages(), domain.b.messages()
    domain.a.retrieve((HERE, ours, A), (THERE, theirs, B), (THERE, "7.7.7", B), ("1.9", "1.91"))
    assert domain.a.records() == [
        ("ITI-39", "asked", 0, (theirs,)),
        ("ITI-39", "asked", 8, ("7.7.7",)),
        ("ITI-43", "answered", 0, tuple(sorted([ours, theirs]))),
        ("ITI-43", "answered", 8, ("1.91", "7.7.7")),
        ("ITI-43", "asked", 0, (ours,)),
    ]
    assert domain.b.records() == [
        ("ITI-39", "answered", 0, (theirs,)),
        ("ITI-39", "answered", 8, ("7.7.7",)),
        ("ITI-43", "asked", 0, (theirs,)),
        ("ITI-43", "asked", 8, ("7.7.7",)),
    ]


def test_records_say_where_a_document_is_from(domain):
    theirs = domain.document(domain.there, b"theirs")
    domain.a.messages()
    domain.a.retrieve((THERE, theirs, B))
    details = [
        {detail.type: detail.value.decode() for detail in one.details}
        for message in domain.a.messages()
        for one in message.objects
    ]
    assert len(details) == 2
    for one in details:
        assert (one["Repository Unique Id"], one["ihe:homeCommunityID"]) == (THERE, B)


def test_the_callers_security_header_goes_to_the_community_unchanged(domain):
    domain.c.plays(lambda _peer, asked: documents_answer(asked, [b"x"], home=C))
    token = '<Assertion xmlns="urn:oasis:names:tc:SAML:2.0:assertion" ID="a1">  <Issuer>x</Issuer>\n</Assertion>'
    header = f'<w:Security xmlns:w="{v.WSSE}" s:mustUnderstand="1">{token}</w:Security>'.encode()
    assert domain.a.retrieve(("1.9", "1.91", C), header=header).status == "Success"
    assert token.encode() in domain.c.asked[0]


# --------------------------------------------------------------------------------------- partners as they should not be


def hang_up(_peer, _asked):
    return b""


def silent(partner):
    def act(peer, _asked):
        partner.wait(peer)

    return act


def drip(partner):
    """One byte after the other, for ever."""

    def act(peer, asked):
        for byte in documents_answer(asked, [b"x" * 100_000], home=partner.home):
            if partner.stop.wait(0.05):
                return
            peer.sendall(bytes([byte]))

    return act


def drip_after(count):
    """The root part and ``count`` bytes at once, then one byte after the other."""

    def partly(partner):
        def act(peer, asked):
            data = documents_answer(asked, [b"x" * 100_000], home=partner.home)
            at_once = data.index(b"</s:Envelope>") + count
            peer.sendall(data[:at_once])
            for byte in data[at_once:]:
                if partner.stop.wait(0.05):
                    return
                peer.sendall(bytes([byte]))

        return act

    return partly


def nonsense(_peer, _asked):
    """100 MB that are no XML."""
    _peer.sendall(http_answer("application/soap+xml", b"", length=100_000_000))
    with contextlib.suppress(OSError):
        for _ in range(100):
            _peer.sendall(b"nonsense" * 125_000)


def nonsense_in_a_part(_peer, asked):
    """100 MB before the root part ends."""
    content_type, body = multipart(soap_answer(retrieved_xml([])), {})
    head, _ = body.split(b"</s:Envelope>")
    _peer.sendall(http_answer(content_type, head + b"<!--", length=200_000_000))
    with contextlib.suppress(OSError):
        for _ in range(100):
            _peer.sendall(b"nonsense" * 125_000)


def half(size):
    def act(_peer, asked):
        data = documents_answer(asked, [b"first", os.urandom(size)], home=C)
        return data[: -size // 2]

    return act


def breaks_off_before_the_root_part(_peer, asked):
    content_type, body = multipart(soap_answer(retrieved_xml([])), {"a@peer": b"x" * 100_000})
    mark = body[: body.index(b"\r\n")]
    root, part, end = body.split(b"\r\n" + mark)[0], body.split(b"\r\n" + mark)[1], 1000
    return http_answer(content_type, mark + part + b"\r\n" + root[:end], length=200_000)


def no_status(_peer, asked):
    return http_answer("application/soap+xml", soap_answer(retrieved_xml([], status="urn:none")))


def another_message(_peer, _asked):
    return http_answer("application/soap+xml", soap_answer(f'<q:AdhocQueryResponse xmlns:q="{v.QUERY}" status="x"/>'))


def bad_base64(_peer, asked):
    return http_answer("application/soap+xml", soap_answer(retrieved_xml([response_row(*asked[0], "no=base64")])))


def letters_within_base64(_peer, asked):
    return http_answer("application/soap+xml", soap_answer(retrieved_xml([response_row(*asked[0], "eé==")])))


def padding_within_base64(_peer, asked):
    text = "QUFB" * (2**14 - 1) + "QQ==" + "QUFB"
    return http_answer("application/soap+xml", soap_answer(retrieved_xml([response_row(*asked[0], text)])))


def a_part_that_is_not_there(_peer, asked):
    rows = [response_row(*one, xop_include("gone@peer").decode(), home=C) for one in asked]
    return http_answer(*multipart(soap_answer(retrieved_xml(rows)), {}))


def a_part_twice(_peer, asked):
    row = response_row(*asked[0], xop_include("a@peer").decode(), home=C)
    content_type, body = multipart(soap_answer(retrieved_xml([row])), {"a@peer": b"one"})
    mark = body.rindex(b"\r\n--")
    start = body.index(b"\r\n--", body.index(b"</s:Envelope>"))
    return http_answer(content_type, body[:mark] + body[start:mark] + body[mark:])


def an_address_elsewhere(_peer, asked):
    row = response_row(*asked[0], f'<i:Include xmlns:i="{v.XOP}" href="http://127.0.0.1:1/x"/>', home=C)
    return http_answer(*multipart(soap_answer(retrieved_xml([row])), {}))


def without_mime_type(_peer, asked):
    row = response_row(*asked[0], "eA==", home=C).replace("<x:mimeType>text/plain</x:mimeType>", "")
    return http_answer("application/soap+xml", soap_answer(retrieved_xml([row])))


BAD = {
    "hangs up": hang_up,
    "fault": lambda _peer, _asked: http_answer("application/soap+xml", FAULT, status="500 Internal Server Error"),
    "HTML": lambda _peer, _asked: http_answer("text/html", b"<html>login</html>"),
    "half of a small document": half(100_000),
    "nonsense": nonsense,
    "nonsense in the root part": nonsense_in_a_part,
    "breaks off before the root part": breaks_off_before_the_root_part,
    "no status": no_status,
    "another message": another_message,
    "bad base64": bad_base64,
    "letters of no alphabet within base64": letters_within_base64,
    "padding within base64": padding_within_base64,
    "part not there": a_part_that_is_not_there,
    "part twice": a_part_twice,
    "address elsewhere": an_address_elsewhere,
    "no mimeType": without_mime_type,
}


@pytest.mark.parametrize("name", BAD)
def test_a_partner_that_answers_badly_is_one_error_and_the_others_arrive(domain, name):
    domain.c.plays(BAD[name])
    answer, found = with_others(domain, ("1.9", "1.91", C), ("1.9", "1.92", C))
    assert (answer.status, found, located(answer)) == ("PartialSuccess", [], [("XDSUnavailableCommunity", C)])
    assert C in answer.errors[0][1]
    assert len(answer.errors[0][1]) <= 1000
    assert eventually(lambda: domain.a.room.spool.held_bytes == 0)
    records = domain.a.records()
    assert [one for one in records if "1.91" in one[3]] == [
        ("ITI-39", "asked", 8 if name == "fault" else 12, ("1.91", "1.92")),
        ("ITI-43", "answered", 8, ("1.91", "1.92")),
    ]


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("fault", "SOAP fault Receiver"),
        ("address elsewhere", "a document cannot be found"),
        ("no mimeType", "it cannot be right"),
    ],
)
def test_why_a_partner_was_of_no_use_stands_in_the_log(domain, name, why, caplog):
    domain.c.plays(BAD[name])
    with_others(domain, ("1.9", "1.91", C))
    (line,) = [one for one in caplog.messages if C in one]
    assert line == f"community {C} gave no answer that can be used: {why}"


def test_a_defect_of_ours_costs_one_partner_and_the_others_arrive(domain, monkeypatch, caplog):
    def defect(target, answer, judge=delivery._read_root):
        if target.home == C:
            raise ZeroDivisionError("of the name of a patient")
        return judge(target, answer)

    monkeypatch.setattr(delivery, "_read_root", defect)
    domain.c.plays(lambda _peer, asked: documents_answer(asked, [b"x"], home=C))
    answer, found = with_others(domain, ("1.9", "1.91", C))
    assert (answer.status, found, located(answer)) == ("PartialSuccess", [], [("XDSUnavailableCommunity", C)])
    assert answer.errors[0][1] == f"community {C}: internal error of this gateway"
    assert eventually(lambda: domain.a.room.spool.held_bytes == 0)
    assert "ZeroDivisionError" in caplog.text
    assert "patient" not in caplog.text


def test_silence_and_dripping_end_at_the_deadline_and_the_others_arrive(domain):
    """Also dripping after the root part, and a silent repository behind a gateway that waits as long as we do."""
    for partner, act in zip(domain.late, (silent, drip, drip_after(10), drip_after(400)), strict=True):
        partner.plays(act(partner))
    domain.quiet.plays(silent(domain.quiet))
    answer, found = with_others(domain, *[("1.9", "1.91", one.home) for one in domain.late], (QUIET, "1.92", B))
    assert (answer.status, found) == ("PartialSuccess", [])
    assert located(answer) == [
        ("XDSRepositoryError", B),
        *sorted(("XDSUnavailableCommunity", one.home) for one in domain.late),
    ]
    assert domain.late[0].gone.acquire(timeout=20)


# ---------------------------------------------------------------------------------------- answers that are half right


def test_a_foreign_home_is_dropped_with_an_error(domain):
    def act(_peer, asked):
        rows = [response_row(*asked[0], "eA==", home=D), response_row(*asked[1], "eQ==", home=C)]
        return http_answer("application/soap+xml", soap_answer(retrieved_xml(rows)))

    domain.c.plays(act)
    answer, found = with_others(domain, ("1.9", "1.91", C), ("1.9", "1.92", C))
    assert (answer.status, found, located(answer)) == (
        "PartialSuccess",
        [("1.92", b"y")],
        [("XDSRepositoryError", C)],
    )


def test_documents_nobody_asked_for_are_dropped_with_an_error(domain):
    def act(_peer, asked):
        names = ("1.91", "1.99", "1.91", asked[1][1])
        rows = [response_row("1.9", one, xop_include(f"{n}@c").decode(), home=C) for n, one in enumerate(names)]
        rows.append(response_row("1.7", "1.91", xop_include("4@c").decode(), home=C))
        parts = {f"{n}@c": b"%d" % n for n in range(5)}
        return http_answer(*multipart(soap_answer(retrieved_xml(rows)), parts))

    domain.c.plays(act)
    answer, found = with_others(domain, ("1.9", "1.91", C), ("1.9", "1.92", C))
    assert (answer.status, found, located(answer)) == (
        "PartialSuccess",
        [("1.91", b"0"), ("1.92", b"3")],
        [("XDSRepositoryError", C)],
    )
    assert "3 documents" in answer.errors[0][1]


def test_a_success_without_the_documents_is_an_error(domain):
    domain.c.plays(lambda _peer, asked: documents_answer(asked[:1], [b"x"], home=C))
    answer, found = with_others(domain, ("1.9", "1.91", C), ("1.9", "1.92", C))
    assert (answer.status, found, located(answer)) == (
        "PartialSuccess",
        [("1.91", b"x")],
        [("XDSRepositoryError", C)],
    )
    assert "1.92" in answer.errors[0][1]


def test_a_failure_that_does_not_say_why_is_an_error(domain):
    domain.c.plays(lambda _peer, asked: documents_answer(asked, [b"x"], home=C, status=v.FAILURE))
    answer, found = with_others(domain, ("1.9", "1.91", C))
    assert (answer.status, found, located(answer)) == (
        "PartialSuccess",
        [("1.91", b"x")],
        [("XDSRepositoryError", C)],
    )


def test_errors_of_a_partner_are_text_within_bounds(domain):
    errors = [RegistryError("X" * 5000, "<b>&amp;" * 5000, location=D)] * 2 + [RegistryError("E", "")] * 500
    domain.c.plays(lambda _peer, asked: documents_answer([], [], status=v.FAILURE, errors=errors))
    answer, found = with_others(domain, ("1.9", "1.91", C))
    assert found == []
    assert {location for _, location in located(answer)} == {C}
    assert max(len(code) + len(text) for code, text in answer.errors) <= 1300
    assert len(answer.errors) == 2


def test_a_record_holds_no_words_of_a_partner(domain):
    errors = [RegistryError(code, "none") for code in ("Anna Berg, * 1970", "x" * 65, "XDSDocumentUniqueIdError")]
    domain.c.plays(lambda _peer, asked: documents_answer([], [], status=v.FAILURE, errors=errors))
    answer = domain.a.retrieve(("1.9", "1.91", C))
    assert "Anna Berg, * 1970" in answer.codes
    reasons = [one.event.outcome_description for one in domain.a.messages()]
    assert reasons == ["XDSDocumentUniqueIdError, unknown code"] * 2


@pytest.mark.parametrize("mtom", [True, False], ids=["MTOM", "plain"])
@pytest.mark.parametrize("plain", [True, False], ids=["asked plainly", "asked by MTOM"])
def test_either_form_of_answer_is_read(domain, plain, mtom):
    datas = [b"one", b"", os.urandom(70_000)]
    domain.c.plays(lambda _peer, asked: documents_answer(asked, datas, home=C, mtom=mtom))
    answer = domain.a.retrieve(*[("1.9", f"1.9{n}", C) for n in range(3)], plain=plain)
    found = inline(answer) if plain else answer.documents()
    assert (answer.status, found) == ("Success", [(f"1.9{n}", data) for n, data in enumerate(datas)])


@pytest.mark.parametrize("size", [0, 1, 49_152, 49_153, 300_000])
def test_base64_may_have_line_ends_and_blanks(domain, size):
    data = os.urandom(size)
    text = " \n" + base64.encodebytes(data).decode().replace("A", "A\t") + " "

    def act(_peer, asked):
        return http_answer("application/soap+xml", soap_answer(retrieved_xml([response_row(*asked[0], text)])))

    domain.c.plays(act)
    answer = domain.a.retrieve(("1.9", "1.91", C))
    assert (answer.status, answer.documents()) == ("Success", [("1.91", data)])


def test_a_home_that_is_left_out_is_that_of_whom_we_asked(domain):
    domain.c.plays(lambda _peer, asked: documents_answer(asked, [b"x"]))
    answer = domain.a.retrieve(("1.9", "1.91", C))
    assert (answer.status, texts(answer, "HomeCommunityId")) == ("Success", [C])


def test_two_documents_may_share_an_attachment(domain):
    def act(_peer, asked):
        rows = [response_row(*one, xop_include("a@c").decode(), home=C) for one in asked]
        return http_answer(*multipart(soap_answer(retrieved_xml(rows)), {"a@c": LARGE}))

    domain.c.plays(act)
    answer = domain.a.retrieve(("1.9", "1.91", C), ("1.9", "1.92", C))
    assert (answer.status, answer.documents()) == ("Success", [("1.91", LARGE), ("1.92", LARGE)])


# -------------------------------------------------------------------------------------------------- what is streamed


def test_larger_documents_stream_beside_small_ones(domain):
    ours = domain.document(domain.here, LARGE)
    theirs = [domain.document(domain.there, one) for one in (b"theirs", LARGE)]
    datas = [b"s", LARGE + b"1", b"t", LARGE + b"2", b"u"]
    domain.c.plays(lambda _peer, asked: documents_answer(asked, datas, home=C))
    asked = [("1.9", f"1.9{n}", C) for n in range(5)]
    answer = domain.a.retrieve(asked[0], (THERE, theirs[1], B), *asked[1:], (HERE, ours, A), (THERE, theirs[0], B))
    assert (answer.status, answer.documents()) == (
        "Success",
        [
            ("1.90", b"s"),
            (theirs[1], LARGE),
            *((f"1.9{n}", datas[n]) for n in range(1, 5)),
            (ours, LARGE),
            (theirs[0], b"theirs"),
        ],
    )


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]], ids=str)
def test_attachments_may_come_in_any_order(domain, order):
    datas = [b"s", LARGE + b"1", b"t", LARGE + b"2"]
    domain.c.plays(lambda _peer, asked: documents_answer(asked, datas, home=C, order=order))
    answer = domain.a.retrieve(*[("1.9", f"1.9{n}", C) for n in range(4)])
    assert answer.status == "Success"
    assert sorted(answer.documents()) == [(f"1.9{n}", data) for n, data in enumerate(datas)]


def raw(address, content_type, body):
    got = bytearray()
    with connect(address, content_type, body) as peer, contextlib.suppress(ConnectionError):
        while data := peer.recv(MIB):
            got += data
    return bytes(got)


def await_records(gateway, wanted):
    """The record of a broken transfer is written after the connection is gone."""
    found = []
    for _ in range(200):
        found = sorted([*found, *gateway.records()])
        if found == sorted(wanted):
            return
        time.sleep(0.05)
    raise AssertionError(found)


@pytest.mark.parametrize("plain", [True, False], ids=["plain", "MTOM"])
def test_half_of_a_larger_document_breaks_our_answer(domain, plain):
    ours = domain.document(domain.here, b"ours")
    domain.a.messages()

    def act(_peer, asked):
        return documents_answer(asked, [b"first", os.urandom(3 * MIB)], home=C)[:-MIB]

    domain.c.plays(act)
    asked = [(HERE, ours, A), ("1.9", "1.91", C), ("1.9", "1.92", C)]
    if not plain:
        got = raw(domain.a.initiating, *request(ITI_43, *asked))
        assert got.startswith(b"HTTP/1.1 200")
        assert b"ResponseStatusType:Success" in got
        assert not got.endswith(b"0\r\n\r\n")
        assert not got.rstrip().endswith(b"--")
        second = [("ITI-39", "asked", 8, ("1.92",)), ("ITI-43", "answered", 8, tuple(sorted([ours, "1.91", "1.92"])))]
    else:  # as base64 it is looked at whole before the first byte
        answer = domain.a.retrieve(*asked, plain=True)
        assert (answer.status, answer.codes) == ("Failure", ["XDSRepositoryError"])
        assert C in answer.errors[0][1]
        second = [
            ("ITI-39", "asked", 8, ("1.92",)),
            ("ITI-43", "answered", 8, tuple(sorted([ours, "1.91", "1.92"]))),
            ("ITI-43", "answered", 8, ("unknown",)),
        ]
    await_records(
        domain.a,
        [
            ("ITI-39", "asked", 0, ("1.91", "1.92")),
            ("ITI-43", "answered", 0, tuple(sorted([ours, "1.91", "1.92"]))),
            ("ITI-43", "asked", 0, (ours,)),
            *second,
        ],
    )


def test_a_consumer_that_goes_away_frees_everything(domain):
    def act(peer, asked):
        data = documents_answer(asked, [bytes(40 * MIB)], home=C)
        with contextlib.suppress(OSError):
            peer.sendall(data)
            return
        domain.c.gone.release()

    while domain.c.gone.acquire(blocking=False):
        pass
    domain.c.plays(act)
    with connect(domain.a.initiating, *request(ITI_43, ("1.9", "1.91", C))) as peer:
        assert peer.recv(1000).startswith(b"HTTP/1.1 200")
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    assert domain.c.gone.acquire(timeout=20)
    await_records(
        domain.a,
        [
            ("ITI-39", "asked", 0, ("1.91",)),
            ("ITI-39", "asked", 8, ("1.91",)),
            ("ITI-43", "answered", 0, ("1.91",)),
            ("ITI-43", "answered", 8, ("1.91",)),
        ],
    )
    assert eventually(lambda: domain.a.room.spool.held_bytes == 0)
