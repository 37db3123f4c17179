"""Syslog out (RFC 5425, RFC 5426): a batch counts only after the peer's own close; whatever else happens, it does not."""

import socket
import ssl
import time
from types import SimpleNamespace

import pytest

from atna.sender import Interrupted, NotDelivered
from atna.sinks import parse_sink
from tests.syslog_peer import SyslogPeer
from wire import syslog_client
from wire.settings import TlsSettings
from wire.syslog_client import MOST_DATAGRAM_BYTES, send_datagrams, send_stream
from wire.tls import client_context, server_context

MESSAGES = [b"<85>1 - h a p m - %d " % number + b"x" * 900 for number in range(1000)]


def settings_for(pki, identity, **more):
    return TlsSettings(certificate=identity.certificate, key=identity.key, ca=pki.ca.certificate, **more)


@pytest.fixture(params=["tls 1.3", "tls 1.2", "tcp"])
def peer(request, pki):
    """Makes scripted peers; each has ``send`` for a batch to it."""
    peers = []

    def make(*script):
        context = server_context(settings_for(pki, pki.server)) if request.param != "tcp" else None
        if request.param == "tls 1.2":
            context.maximum_version = ssl.TLSVersion.TLSv1_2
        made = SyslogPeer(*script, context=context)
        peers.append(made)
        scheme = "tcp" if context is None else "tls"
        sink = parse_sink(f"{scheme}://127.0.0.1:{made.port}")
        tls = None if context is None else lambda: client_context(settings_for(pki, pki.client))
        made.send = lambda messages=MESSAGES: send_stream(sink, messages, tls)
        return made

    yield make
    for one in peers:
        one.close()


@pytest.mark.parametrize("end", ["orderly", "slow"])
def test_a_batch_is_delivered_when_the_peer_closes_after_us(peer, end):
    receiver = peer(end)
    receiver.send()
    receiver.send(MESSAGES[:1])
    assert receiver.messages == [*MESSAGES, MESSAGES[0]]


@pytest.mark.parametrize(
    "end", ["abrupt 10", "abrupt 0", "abrupt 200000", "reset 10", "reset 300000", "early 10", "early 900000", "talks"]
)
def test_a_peer_that_ends_otherwise_has_confirmed_nothing(peer, end):
    receiver = peer(end)
    with pytest.raises(Interrupted):
        receiver.send(MESSAGES * 20)  # more than the buffers between us hold
    receiver.send()
    assert receiver.messages[-len(MESSAGES) :] == MESSAGES


@pytest.mark.parametrize("end", ["silent", "deaf"])
def test_a_peer_that_does_not_answer_is_given_up(peer, end, monkeypatch):
    monkeypatch.setattr(syslog_client, "SILENCE_TIMEOUT_S", 0.3)
    receiver = peer(end)
    with pytest.raises(Interrupted, match="broke the connection"):
        receiver.send(MESSAGES * 20)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_peer_that_closes_without_close_notify_has_confirmed_nothing_unless_it_is_known_for_that(pki, version):
    context = server_context(settings_for(pki, pki.server))
    context.maximum_version = version
    ends = ["ragged", "ragged", "orderly", "abrupt 10", "reset 300000"]
    with SyslogPeer(*ends, context=context) as receiver:

        def send(text="", messages=MESSAGES):
            sink = parse_sink(f"tls://127.0.0.1:{receiver.port}{text}")
            send_stream(sink, messages, lambda: client_context(settings_for(pki, pki.client)))

        with pytest.raises(Interrupted, match="close=tcp"):
            send()
        send("?close=tcp")
        send("?close=tcp")
        for _ in range(2):
            with pytest.raises(Interrupted):
                send("?close=tcp", MESSAGES * 20)


def test_a_peer_that_takes_it_drop_by_drop_is_given_up(peer, monkeypatch):
    monkeypatch.setattr(syslog_client, "BATCH_TIMEOUT_S", -1)
    with pytest.raises(Interrupted, match="too slowly"):
        peer("orderly").send()


def test_who_cannot_be_reached_or_is_not_trusted_gets_nothing(pki):
    with socket.create_server(("127.0.0.1", 0)) as unused:
        nowhere = parse_sink(f"tls://127.0.0.1:{unused.getsockname()[1]}")
    with pytest.raises(NotDelivered, match="cannot be reached") as caught:
        send_stream(nowhere, MESSAGES, None)
    assert not isinstance(caught.value, Interrupted)

    with SyslogPeer(context=server_context(settings_for(pki, pki.self_signed("someone")))) as foreign:
        sink = parse_sink(f"tls://127.0.0.1:{foreign.port}")
        with pytest.raises(NotDelivered, match="handshake failed"):
            send_stream(sink, MESSAGES, lambda: client_context(settings_for(pki, pki.client)))
        assert foreign.read == []

    with SyslogPeer(context=server_context(settings_for(pki, pki.server))) as mutual:
        sink = parse_sink(f"tls://127.0.0.1:{mutual.port}")
        with pytest.raises(NotDelivered):  # under TLS 1.3 the refusal comes after our side of the handshake
            send_stream(sink, MESSAGES, lambda: client_context(settings_for(pki, pki.stranger)))
        assert mutual.messages == []


def test_a_certificate_that_is_gone_is_no_crash(pki, tmp_path):
    settings = settings_for(pki, pki.client)
    broken = settings.model_copy(update={"key": tmp_path / "missing.pem"})
    with SyslogPeer(context=server_context(settings_for(pki, pki.server))) as receiver:
        sink = parse_sink(f"tls://127.0.0.1:{receiver.port}")
        with pytest.raises(NotDelivered, match="TLS"):
            send_stream(sink, MESSAGES, lambda: client_context(broken))


# ------------------------------------------------------------------------------------------------------------ UDP


@pytest.fixture(params=["127.0.0.1", "::1"])
def datagrams(request):
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as receiver:
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**20)
        receiver.bind((request.param, 0))
        receiver.settimeout(5)
        host = f"[{request.param}]" if family is socket.AF_INET6 else request.param
        yield SimpleNamespace(
            sink=parse_sink(f"udp://{host}:{receiver.getsockname()[1]}"), receive=lambda: receiver.recv(70_000)
        )


def test_each_record_is_one_datagram(datagrams):
    send_datagrams(datagrams.sink, MESSAGES[:20])
    assert [datagrams.receive() for _ in range(20)] == MESSAGES[:20]


def test_a_record_above_the_largest_datagram_is_cut_between_characters_logged_and_counted(datagrams, caplog):
    whole = b"<85>1 - h a p m - " + "é".encode() * 40_000
    counted = syslog_client.TRUNCATED.labels(datagrams.sink.text)
    before = counted._value.get()
    send_datagrams(datagrams.sink, [whole, whole[:MOST_DATAGRAM_BYTES]])
    for _ in range(2):
        received = datagrams.receive()
        assert whole.startswith(received)
        assert MOST_DATAGRAM_BYTES - 1 <= len(received) <= MOST_DATAGRAM_BYTES
    assert counted._value.get() == before + 1
    assert f"of {len(whole)} octets is sent without its end" in caplog.text


def test_where_nobody_listens_on_this_machine_the_records_are_kept():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    for _ in range(3):
        with pytest.raises(NotDelivered, match="cannot be reached"):
            send_datagrams(parse_sink(f"udp://127.0.0.1:{port}"), MESSAGES[:1])
        time.sleep(0.01)
