"""wire.reach: which step on the way to a peer fails, and what is told of one that can be reached."""

import select
import socket
import ssl
import struct
import threading
from contextlib import contextmanager

import pytest

from wire.reach import Reached, Step, Unreachable, reach
from wire.reloading import listener_context
from wire.settings import TlsSettings

TIMEOUT_S = 20


def identity(pki, one, **more):
    return TlsSettings(certificate=one.certificate, key=one.key, ca=pki.ca.certificate, **more)


@pytest.fixture
def secured(pki, serve):
    def start(own, **more):
        return serve(tls=listener_context(identity(pki, own, **more), "registry.tls"))

    return start


def refused(url, tls, timeout_s=TIMEOUT_S):
    with pytest.raises(Unreachable) as caught:
        reach(url, tls, timeout_s=timeout_s)
    return caught.value.step, str(caught.value)


def test_a_peer_with_tls(pki, secured):
    with secured(pki.server) as server:
        found = reach(f"https://localhost:{server.port}/responding", identity(pki, pki.client), timeout_s=TIMEOUT_S)
    assert found.address == f"127.0.0.1:{server.port}"
    assert (found.protocol, found.node) == ("TLSv1.3", pki.server.x509.subject.rfc4514_string())
    assert found.expires == pki.server.x509.not_valid_after_utc
    assert found.fingerprint.startswith("sha256:")


def test_a_peer_without_tls(serve):
    with serve() as server:
        url = f"http://127.0.0.1:{server.port}/responding"
        assert reach(url, TlsSettings(), timeout_s=TIMEOUT_S) == Reached(f"127.0.0.1:{server.port}")


@pytest.mark.parametrize("url", ["ftp://localhost/x", "https://:8030/x", "https://localhost:99999/x", "nothing"])
def test_no_address(url):
    assert refused(url, TlsSettings())[0] in {Step.ADDRESS, Step.CONNECTION}


def test_a_name_that_nobody_has():
    assert refused("https://gateway.invalid/x", TlsSettings()) == (
        Step.ADDRESS,
        "the name gateway.invalid has no address",
    )


def test_an_address_that_swallows_everything_leaves_time_for_the_next_one(pki, secured, beside_a_black_hole):
    with secured(pki.server) as server:
        beside_a_black_hole(server.port)
        found = reach(f"https://localhost:{server.port}/responding", identity(pki, pki.client), timeout_s=3)
    assert found.address == f"127.0.0.1:{server.port}"


def test_nobody_listens():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        step, reason = refused(f"https://127.0.0.1:{taken.getsockname()[1]}/x", TlsSettings())
    assert (step, reason) == (Step.CONNECTION, "connection refused")


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_peer_that_hangs_up_at_once(monkeypatch, scheme):
    """As one does that does not know our address; its RST is there before we go on."""
    now, connect = threading.Event(), socket.create_connection

    def hang_up(stream):
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        assert now.wait(TIMEOUT_S)
        stream.close()

    def hung_up(*where, **how):
        stream = connect(*where, **how)
        now.set()
        assert select.select([stream], [], [], TIMEOUT_S)[0]
        return stream

    monkeypatch.setattr(socket, "create_connection", hung_up)
    with raw_server(hang_up) as port:
        found = refused(f"{scheme}://127.0.0.1:{port}/x", TlsSettings())
    assert found == (Step.CONNECTION, "broken off by the peer")


@pytest.mark.parametrize("minimum", ["1.2", "1.3"])
def test_our_certificate_is_foreign_to_them(pki, secured, minimum):
    with secured(pki.server, minimum_version=minimum) as server:
        found = refused(f"https://localhost:{server.port}/x", identity(pki, pki.stranger))
    assert found == (Step.OUR_CERTIFICATE, "refused by the peer: unknown ca")


def test_our_certificate_within_a_handshake_of_tls_1_2(pki):
    """There the alert comes before the handshake has ended, with TLS 1.3 behind it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(pki.server.certificate, pki.server.key)
    context.load_verify_locations(pki.ca.certificate)
    context.verify_mode = ssl.CERT_REQUIRED
    with raw_server(lambda stream: context.wrap_socket(stream, server_side=True)) as port:
        assert refused(f"https://localhost:{port}/x", identity(pki, pki.stranger))[0] is Step.OUR_CERTIFICATE


def test_their_certificate_is_foreign_to_us(pki, secured):
    with secured(pki.stranger) as server:
        found = refused(f"https://localhost:{server.port}/x", identity(pki, pki.client))
    assert found == (Step.THEIR_CERTIFICATE, "certificate of a foreign authority")


def test_plain_http_where_tls_is_due(pki, serve):
    with serve() as server:
        found = refused(f"https://localhost:{server.port}/x", identity(pki, pki.client))
    assert found[0] is Step.THEIR_CERTIFICATE
    assert found[1] == "no TLS was spoken"


def test_a_peer_that_says_nothing(pki):
    held = []
    with raw_server(held.append) as port:
        found = refused(f"https://localhost:{port}/x", identity(pki, pki.client), timeout_s=0.3)
    held.pop().close()
    assert found == (Step.THEIR_CERTIFICATE, "time-out")


def test_a_certificate_of_ours_that_cannot_be_used(pki, serve):
    wrong = TlsSettings(certificate=pki.client.certificate, key=pki.server.key, ca=pki.ca.certificate)
    with serve() as server:
        step, reason = refused(f"https://localhost:{server.port}/x", wrong)
    assert step is Step.OUR_CERTIFICATE
    assert "do not belong together" in reason


@contextmanager
def raw_server(handle):
    """Hands the first connection to ``handle``; its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve_one():
            stream, _ = listener.accept()
            try:
                handled = handle(stream)
            except OSError:
                stream.close()
            else:
                if handled is not None:
                    handled.close()

        thread = threading.Thread(target=serve_one)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            thread.join(TIMEOUT_S)
