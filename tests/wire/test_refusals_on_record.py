"""A request that is refused by a fault is handed to the actor for its record, wherever its transaction can be told."""

import pytest

from ihe import vocabulary as v
from ihe.transactions import ITI_18, ITI_41, ITI_42
from tests.wire.soap_peer import QUERY, include, message, multipart, part

SOAP = "application/soap+xml"
MTOM = 'multipart/related; boundary=b1; type="application/xop+xml"; start="<r@x>"'
ELSEWHERE = "<a:ReplyTo><a:Address>http://10.0.0.1/</a:Address></a:ReplyTo>"
STRANGE = '<x:Y xmlns:x="urn:x" s:mustUnderstand="1"/>'
PROVIDE = (
    f'<x:ProvideAndRegisterDocumentSetRequest xmlns:x="{v.XDSB}"><x:Document id="d">{include("cid:none")}</x:Document>'
    "</x:ProvideAndRegisterDocumentSetRequest>"
)


@pytest.mark.parametrize("extra", [ELSEWHERE, STRANGE])
def test_headers_that_are_refused(endpoint, actor, extra):
    assert endpoint.post(message(ITI_18, QUERY, extra=extra)).fault[0]
    assert (actor.failures, actor.seen) == (["SoapFault"], [])


def test_a_document_that_is_not_there(endpoint, actor):
    body = multipart(part(message(ITI_41, PROVIDE), "Content-ID: <r@x>", "Content-Type: application/xop+xml"))
    assert endpoint.post(body, MTOM).fault[0]
    assert (actor.failures, actor.seen) == (["SoapFault"], [])


def test_a_package_that_breaks_off(endpoint, actor):
    body = multipart(part(message(ITI_41, PROVIDE), "Content-ID: <r@x>", "Content-Type: application/xop+xml"))
    assert endpoint.post(body[: -len(b"--b1--\r\n")] + b"--b1\r\nContent-ID: <d>\r\n", MTOM).fault[0]
    assert (actor.failures, actor.seen) == (["SoapFault"], [])


@pytest.mark.parametrize(
    "body",
    [
        b"<html/>",
        message(None, "<other/>", header="<a:Action>urn:other</a:Action>"),
        message(ITI_42, QUERY),
        message(ITI_18, ""),
    ],
)
def test_what_names_no_transaction_is_nobodys(endpoint, actor, body):
    assert endpoint.post(body).fault[0]
    assert (actor.failures, actor.seen) == ([], [])


def test_an_actor_that_cannot_record_changes_no_fault(endpoint, actor, monkeypatch):
    def broken(request, error):
        raise RuntimeError("Mustermann")

    monkeypatch.setattr(actor, "failure", broken)
    assert "Anonymous" in endpoint.post(message(ITI_18, QUERY, extra=ELSEWHERE)).fault[1]
    assert endpoint.alive()
