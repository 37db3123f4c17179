"""ITI-39 over the wire with real repositories behind the Responding Gateway (ITI TF-2: 3.39)."""

import os

import pytest

from atna.store.outbox import Outbox
from ihe import vocabulary as v
from ihe.errors import RegistryError
from tests.gateway.retrieving import (
    HERE,
    documents_answer,
    gateway,
    http_answer,
    inline,
    partners,
    repository,
    response_row,
    retrieved_xml,
    soap_answer,
    stored,
)

ONE, TWO, SCRIPTED = "1.2.3.1", "1.2.3.2", "1.2.3.3"
LARGE = os.urandom(3_000_000)
ELSEWHERE = "urn:oid:9.9.9"


@pytest.fixture(scope="module")
def houses(tmp_path_factory):
    folder = tmp_path_factory.mktemp("houses")
    with repository(folder / "one", ONE) as one, repository(folder / "two", TWO) as two:
        yield one, two


@pytest.fixture(scope="module")
def back_end():
    with partners(HERE) as (peer,):
        yield peer


@pytest.fixture(scope="module")
def ours(tmp_path_factory, houses, back_end):
    places = [(one.unique_id, one.address) for one in houses] + [(SCRIPTED, back_end.address)]
    with gateway(tmp_path_factory.mktemp("gateway"), repositories=places, deadline_s=20) as running:
        yield running


@pytest.fixture(autouse=True)
def _no_records(ours):
    ours.messages()


def texts(answer, name):
    return [e.text for e in answer.body.iter(f"{{{v.XDSB}}}{name}")]


def locations(answer):
    return {e.get("location") for e in answer.body.iter(f"{{{v.RS}}}RegistryError")}


def test_documents_of_several_repositories_in_the_order_of_the_request(ours, houses):
    a, b = stored(houses[0], b"one", LARGE)
    c, d = stored(houses[1], b"", b"--b\r\n\0")
    asked = [(TWO, d, HERE), (ONE, b, HERE), (TWO, c, HERE), (ONE, a, HERE), (ONE, b, HERE)]
    answer = ours.cross_retrieve(*asked)
    assert answer.status == "Success"
    assert answer.documents() == [(d, b"--b\r\n\0"), (b, LARGE), (c, b""), (a, b"one"), (b, LARGE)]
    assert texts(answer, "HomeCommunityId") == [HERE] * 5
    assert texts(answer, "RepositoryUniqueId") == [TWO, ONE, TWO, ONE, ONE]
    assert texts(answer, "mimeType") == ["text/plain"] * 5
    assert ours.records() == sorted(
        [
            ("ITI-39", "answered", 0, tuple(sorted([a, b, c, d]))),
            ("ITI-43", "asked", 0, tuple(sorted([a, b]))),
            ("ITI-43", "asked", 0, tuple(sorted([c, d]))),
        ]
    )


def test_a_plain_request_gets_a_plain_answer(ours, houses):
    a, b = stored(houses[0], b"one", LARGE)
    answer = ours.cross_retrieve((ONE, a, HERE), (ONE, b, HERE), plain=True)
    assert (answer.status, answer.parts) == ("Success", {})
    assert inline(answer) == [(a, b"one"), (b, LARGE)]


def test_ids_are_understood_with_and_without_their_prefix(ours, houses):
    (a,) = stored(houses[0], b"one")
    bare = HERE.removeprefix("urn:oid:")
    answer = ours.cross_retrieve((f"urn:oid:{ONE}", a, bare))
    assert (answer.status, answer.documents()) == ("Success", [(a, b"one")])
    assert texts(answer, "HomeCommunityId") == [bare]


def test_every_request_names_our_home(ours, houses):
    (a,) = stored(houses[0], b"one")
    answer = ours.cross_retrieve((ONE, a), (ONE, a, ELSEWHERE), (ONE, a, HERE), (ONE, a, ""), ("8.8.8", a, HERE))
    assert answer.status == "PartialSuccess"
    assert answer.codes == ["XDSMissingHomeCommunityId", "XDSUnknownCommunity", "XDSUnknownRepositoryId"]
    assert ELSEWHERE in dict(answer.errors)["XDSUnknownCommunity"]
    assert "8.8.8" in dict(answer.errors)["XDSUnknownRepositoryId"]
    assert a in dict(answer.errors)["XDSMissingHomeCommunityId"]
    assert locations(answer) == {HERE}
    assert answer.documents() == [(a, b"one")]
    assert ours.records() == [
        ("ITI-39", "answered", 0, (a,)),
        ("ITI-39", "answered", 8, (a, a, a, a)),
        ("ITI-43", "asked", 0, (a,)),
    ]


def test_what_a_request_says_is_repeated_within_bounds(ours):
    answer = ours.cross_retrieve((ONE, "1.4", "urn:oid:" + "9" * 5000), ("8" * 5000, "1.4", HERE), (ONE, "7" * 5000))
    assert (answer.status, len(answer.errors)) == ("Failure", 3)
    assert max(len(text) for _, text in answer.errors) <= 1000


def test_what_a_repository_refuses_is_told_with_our_home(ours, houses):
    (a,) = stored(houses[0], b"one")
    answer = ours.cross_retrieve((ONE, "7.7.7", HERE), (TWO, "6.6.6", HERE), (ONE, a, HERE))
    assert (answer.status, answer.codes) == ("PartialSuccess", ["XDSDocumentUniqueIdError"] * 2)
    assert {"7.7.7" in text or "6.6.6" in text for _, text in answer.errors} == {True}
    assert locations(answer) == {HERE}
    assert ours.records() == [
        ("ITI-39", "answered", 0, (a,)),
        ("ITI-39", "answered", 8, ("6.6.6", "7.7.7")),
        ("ITI-43", "asked", 0, (a,)),
        ("ITI-43", "asked", 8, ("6.6.6",)),
        ("ITI-43", "asked", 8, ("7.7.7",)),
    ]
    answer = ours.cross_retrieve((ONE, "7.7.7", HERE))
    assert (answer.status, answer.documents()) == ("Failure", [])


def test_a_document_made_on_demand_has_its_new_ids(ours, back_end):
    new = "<x:NewRepositoryUniqueId>1.5</x:NewRepositoryUniqueId><x:NewDocumentUniqueId>1.6</x:NewDocumentUniqueId>"

    def act(_peer, asked):
        row = response_row(*asked[0], "bmV3", mime_type="text/xml", more=new)
        return http_answer("application/soap+xml", soap_answer(retrieved_xml([row])))

    back_end.plays(act)
    answer = ours.cross_retrieve((SCRIPTED, "1.4", HERE))
    assert (answer.status, answer.documents()) == ("Success", [("1.4", b"new")])
    assert [texts(answer, name) for name in ("NewRepositoryUniqueId", "NewDocumentUniqueId", "mimeType")] == [
        ["1.5"],
        ["1.6"],
        ["text/xml"],
    ]


def test_a_repository_is_asked_without_a_home(ours, back_end):
    back_end.plays(lambda _peer, asked: documents_answer(asked, [b"x"]))
    assert ours.cross_retrieve((SCRIPTED, "1.4", HERE)).status == "Success"
    assert b"HomeCommunityId" not in back_end.asked[0]
    assert b"urn:ihe:iti:2007:RetrieveDocumentSet<" in back_end.asked[0]


def test_the_callers_security_header_goes_to_the_repositories_unchanged(ours, houses, back_end):
    back_end.plays(lambda _peer, asked: documents_answer(asked, [b"x"]))
    (a,) = stored(houses[0], b"one")
    token = '<Assertion xmlns="urn:oasis:names:tc:SAML:2.0:assertion" ID="a1">  <Issuer>x</Issuer>\n</Assertion>'
    header = f'<w:Security xmlns:w="{v.WSSE}" s:mustUnderstand="1">{token}</w:Security>'.encode()
    answer = ours.cross_retrieve((SCRIPTED, "1.4", HERE), (ONE, a, HERE), header=header)
    assert answer.documents() == [("1.4", b"x"), (a, b"one")]
    assert token.encode() in back_end.asked[0]


@pytest.mark.parametrize(
    ("act", "code"),
    [
        (lambda _peer, _asked: b"", "XDSRepositoryError"),
        (lambda _peer, _asked: http_answer("text/plain", b"busy", status="503 Busy"), "XDSRepositoryError"),
        (
            lambda _peer, _asked: http_answer(
                "application/soap+xml",
                (
                    f'<s:Envelope xmlns:s="{v.SOAP12}"><s:Body><s:Fault><s:Code><s:Value>s:Receiver</s:Value></s:Code>'
                    '<s:Reason><s:Text xml:lang="en">too much</s:Text></s:Reason></s:Fault></s:Body></s:Envelope>'
                ).encode(),
                status="503 Busy",
            ),
            "XDSRepositoryBusy",
        ),
    ],
    ids=["hangs up", "no SOAP", "busy"],
)
def test_a_repository_that_gives_no_answer_is_one_error(ours, houses, back_end, act, code):
    back_end.plays(act)
    (a,) = stored(houses[0], b"one")
    answer = ours.cross_retrieve((SCRIPTED, "1.4", HERE), (ONE, a, HERE), (SCRIPTED, "1.5", HERE))
    assert (answer.status, answer.codes) == ("PartialSuccess", [code])
    assert SCRIPTED in answer.errors[0][1]
    assert locations(answer) == {HERE}
    assert answer.documents() == [(a, b"one")]
    outcome = 8 if code == "XDSRepositoryBusy" else 12
    assert ours.records() == [
        ("ITI-39", "answered", 0, (a,)),
        ("ITI-39", "answered", 8, ("1.4", "1.5")),
        ("ITI-43", "asked", 0, (a,)),
        ("ITI-43", "asked", outcome, ("1.4", "1.5")),
    ]


def test_warnings_of_a_repository_are_no_failure(ours, back_end):
    from ihe.errors import Severity

    warning = RegistryError("XDSRepositoryError", "the disk is nearly full", Severity.WARNING)
    back_end.plays(lambda _peer, asked: documents_answer(asked, [b"x"], errors=[warning]))
    answer = ours.cross_retrieve((SCRIPTED, "1.4", HERE))
    assert (answer.status, answer.errors) == ("Success", [("XDSRepositoryError", "the disk is nearly full")])
    assert locations(answer) == {HERE}


def test_a_request_that_is_none_is_refused_with_the_place(ours):
    answer = ours.cross_retrieve()
    assert (answer.status, answer.codes) == ("Failure", ["XDSRepositoryError"])
    assert locations(answer) == {HERE}
    assert ours.records() == [("ITI-39", "answered", 8, ("unknown",))]


def test_more_documents_than_allowed_are_refused_with_the_bound(ours):
    answer = ours.cross_retrieve(*[(ONE, "1.4", HERE)] * 1001)
    assert (answer.status, answer.codes) == ("Failure", ["XDSRepositoryError"])
    assert "1001 documents" in answer.errors[0][1]
    assert "max_retrieve_documents" in answer.errors[0][1]


def test_while_records_cannot_be_delivered_the_gateway_is_busy(ours, houses, monkeypatch):
    (a,) = stored(houses[0], b"one")
    monkeypatch.setattr(Outbox, "full", lambda _self: True)
    answer = ours.cross_retrieve((ONE, a, HERE))
    assert (answer.status, answer.codes) == ("Failure", ["XDSRepositoryBusy"])
