"""Connections that were used before: what lies there is no answer, and who hangs up between two requests is asked anew."""

import re

import pytest

from ihe import vocabulary as v
from ihe.transactions import ITI_18, ITI_42
from tests.raw_peer import performing, request_of
from tests.wire.soap_peer import QUERY, message
from wire.client import OutcomeUnknown, PeerFault, SoapClient

REGISTER = f'<l:SubmitObjectsRequest xmlns:l="{v.LCM}"/>'
REGISTERED = f'<r:RegistryResponse xmlns:r="{v.RS}" status="{v.SUCCESS}"/>'
SOAP11_FAULT = (
    f'<e:Envelope xmlns:e="{v.SOAP11}"><e:Body><e:Fault><faultcode>e:Client</faultcode>'
    "<faultstring>no such operation</faultstring></e:Fault></e:Body></e:Envelope>"
).encode()


def http(body: bytes, status: str = "200 OK") -> bytes:
    return (
        f"HTTP/1.1 {status}\r\nContent-Type: application/soap+xml\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        + body
    )


def answer_to(request: bytes, header: str = "") -> bytes:
    """Says which question it answers, in an attribute of its own."""
    asked = re.search(rb'note="(\w+)"', request)
    number = asked[1].decode() if asked else "0"
    return message(None, f'<q:AdhocQueryResponse xmlns:q="{v.QUERY}" requestId="{number}"/>', header=header)


def question(number: int) -> bytes:
    return QUERY.replace("<q:AdhocQueryRequest", f'<q:AdhocQueryRequest note="{number}"', 1).encode()


@pytest.fixture
def client():
    it = SoapClient(None, timeout_s=5, connect_timeout_s=2)
    yield it
    it.close()


class Scripted:
    """Answers each request by ``script(number, request)``, which gives bytes and whether to hang up behind them."""

    def __init__(self, script) -> None:
        self.script = script
        self.requests: list[bytes] = []
        self.connections = 0

    def __call__(self, connection, ended) -> None:
        self.connections += 1
        while request := request_of(connection):
            self.requests.append(request)
            said, goes = self.script(len(self.requests), request)
            connection.sendall(said)
            if goes:
                return


def ask(client, peer, number) -> str:
    with client.call(peer.url, ITI_18, question(number)) as answer:
        return answer.body.get("requestId")


@pytest.mark.parametrize("related", [False, True])
def test_what_a_peer_says_too_much_answers_nobody(client, related):
    def script(number, request):
        asked = re.search(rb"MessageID>([^<]+)<", request)[1].decode()
        one = http(answer_to(request, f"<a:RelatesTo>{asked}</a:RelatesTo>" if related else ""))
        return one * (2 if number == 1 else 1), False

    scripted = Scripted(script)
    with performing(scripted) as peer:
        assert [ask(client, peer, number) for number in range(5)] == ["0", "1", "2", "3", "4"]
        client.close()
    assert len(scripted.requests) == 5


def test_what_is_said_too_much_does_not_hide_that_a_submission_was_not_sent(client):
    scripted = Scripted(
        lambda number, _: (http(message(None, REGISTERED, header="")) * (2 if number == 1 else 1), False)
    )
    with performing(scripted) as peer:
        for number in range(1, 4):
            client.call(peer.url, ITI_42, REGISTER.encode()).close()
            assert len(scripted.requests) == number
        client.close()


def test_an_answer_to_another_message_ends_the_connection(client):
    def script(number, request):
        return http(answer_to(request, "<a:RelatesTo>urn:uuid:another</a:RelatesTo>" if number == 1 else "")), False

    scripted = Scripted(script)
    with performing(scripted) as peer:
        with pytest.raises(OutcomeUnknown, match="relates to another message"):
            ask(client, peer, 0)
        assert ask(client, peer, 1) == "1"
        client.close()
    assert scripted.connections == 2


def test_a_question_is_asked_again_where_the_peer_hung_up_meanwhile(client):
    """The peer takes the second request of a connection and hangs up: it was about to close it."""
    scripted = Scripted(lambda number, request: (http(answer_to(request)), False) if number % 2 else (b"", True))
    with performing(scripted) as peer:
        assert [ask(client, peer, number) for number in range(3)] == ["0", "1", "2"]
        client.close()
    assert len(scripted.requests) == 5


def test_a_question_that_a_new_connection_swallows_is_not_asked_again(client):
    scripted = Scripted(lambda *_: (b"", True))
    with performing(scripted) as peer:
        with pytest.raises(OutcomeUnknown, match="RemoteProtocolError"):
            ask(client, peer, 0)
    assert len(scripted.requests) == 1


def test_a_question_half_answered_is_not_asked_again(client):
    scripted = Scripted(lambda number, request: (http(answer_to(request))[: None if number == 1 else 40], number > 1))
    with performing(scripted) as peer:
        assert ask(client, peer, 0) == "0"
        with pytest.raises(OutcomeUnknown):
            ask(client, peer, 1)
    assert len(scripted.requests) == 2


def test_a_submission_that_left_is_never_sent_again(client):
    good = http(message(None, REGISTERED, header=""))
    scripted = Scripted(lambda number, _: (good, False) if number == 1 else (b"", True))
    with performing(scripted) as peer:
        client.call(peer.url, ITI_42, REGISTER.encode()).close()
        with pytest.raises(OutcomeUnknown):
            client.call(peer.url, ITI_42, REGISTER.encode())
    assert len(scripted.requests) == 2


def test_endpoints_named_in_an_answer_do_not_matter(client):
    headers = (
        "<a:ReplyTo><a:Address>http://www.w3.org/2005/08/addressing/none</a:Address></a:ReplyTo>",
        "<a:FaultTo><a:Address>http://10.0.0.1/faults</a:Address></a:FaultTo>",
    )
    scripted = Scripted(lambda number, request: (http(answer_to(request, headers[number - 1])), False))
    with performing(scripted) as peer:
        assert [ask(client, peer, number) for number in range(2)] == ["0", "1"]
        client.close()


def test_a_fault_of_soap_1_1_is_a_fault(client):
    scripted = Scripted(lambda *_: (http(SOAP11_FAULT, "500 Internal Server Error"), True))
    with performing(scripted) as peer:
        with pytest.raises(PeerFault, match=r"Sender: no such operation \(SOAP 1.1\)"):
            ask(client, peer, 0)
