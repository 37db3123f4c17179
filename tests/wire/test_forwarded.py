"""wire.forwarded: whose certificate a proxy hands on, who may be a proxy, and what is refused (RFC 9440)."""

import base64
import json
import socket
import ssl
from urllib.parse import quote

import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from wire.forwarded import Forwarded, Verifier
from wire.reloading import listener_context
from wire.settings import TlsSettings
from wire.tls import TlsFault, client_context

HERE = "127.0.0.1"
REFUSALS = (b"tls.proxies\n",)


def header(identity):
    return f":{base64.b64encode(identity.x509.public_bytes(Encoding.DER)).decode()}:"


def nginx(identity):
    return quote(identity.x509.public_bytes(Encoding.PEM).decode(), safe="")


def get(connection, *headers):
    """(status, body) of a request with these headers; a refusal is not waited out to the end of its connection."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
    connection.sendall(f"GET /peer HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{lines}\r\n".encode())
    answer = b""
    while not answer.endswith(REFUSALS) and (chunk := connection.recv(65536)):
        answer += chunk
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), body


@pytest.fixture
def behind(pki, serve):
    """A plaintext listener whose proxies are those of this machine, or as given."""

    def start(proxies=(HERE,), **more):
        tls = TlsSettings(ca=pki.ca.certificate, proxies=proxies, allow_plaintext=True, **more)
        return serve(forwarded=Forwarded(tls))

    return start


def ask(server, *headers):
    with server.connect() as connection:
        return get(connection, *headers)


@pytest.mark.parametrize("written", [header, nginx])
def test_the_forwarded_certificate_is_the_callers(pki, behind, written):
    with behind() as server:
        status, body = ask(server, ("Client-Cert", written(pki.client)))
    assert status == 200
    assert json.loads(body) == {
        "address": HERE,
        "node": "CN=client-x,O=Hospital A",
        "fingerprint": f"sha256:{pki.client.x509.fingerprint(SHA256()).hex()}",
    }


def test_each_request_of_a_connection_has_its_own_caller(pki, behind):
    other = pki.issue("other")
    with behind() as server, server.connect() as connection:
        for identity in (pki.client, other, pki.client):
            connection.sendall(f"GET /peer HTTP/1.1\r\nHost: x\r\nClient-Cert: {header(identity)}\r\n\r\n".encode())
            answer = connection.recv(65536)
            while b"}" not in answer:
                answer += connection.recv(65536)
            assert identity.x509.subject.rfc4514_string().encode() in answer


@pytest.mark.parametrize("proxies", [["10.0.0.0/8"], ["CN=proxy"], []])
def test_from_anybody_else_it_is_refused_and_reported(pki, serve, behind, proxies):
    with behind(proxies) if proxies else serve() as server:
        with server.connect() as connection:
            port = connection.getsockname()[1]
            status, body = get(connection, ("Client-Cert", header(pki.client)))
        assert (status, body) == (403, b"forwarded certificate from a peer that is not in tls.proxies\n")
        assert server.failures == [(HERE, port, "forwarded certificate from a peer that is not in tls.proxies")]
        assert server.app.seen == []
        assert ask(server)[0] == 200


def test_a_proxy_never_speaks_for_itself(behind):
    with behind() as server:
        assert ask(server)[0] == 403
        assert [reason for *_, reason in server.failures] == ["no forwarded certificate from a proxy"]


class TestBadCertificates:
    """No blind trust: what is handed on is checked as in a handshake."""

    def refusal(self, server, *headers):
        status, _body = ask(server, *headers)
        assert status == 403
        assert server.app.seen == []
        (failure,) = server.failures
        return failure[2]

    @pytest.mark.parametrize(
        ("which", "told"),
        [
            ("stranger", "forwarded certificate of a foreign authority"),
            ("self-signed", "forwarded self-signed certificate that is not installed"),
            ("expired", "forwarded certificate expired"),
            ("server", "forwarded certificate made for another purpose"),
        ],
    )
    def test_it_does_not_count(self, pki, behind, which, told):
        identity = {
            "stranger": lambda: pki.stranger,
            "self-signed": lambda: pki.self_signed("rogue"),
            "expired": lambda: pki.issue("late", days=-1),
            "server": lambda: pki.issue("server-only", usages=[ExtendedKeyUsageOID.SERVER_AUTH]),
        }[which]()
        with behind() as server:
            assert self.refusal(server, ("Client-Cert", header(identity))) == told

    def test_revoked(self, pki, behind):
        bad = pki.issue("bad")
        with behind(revocation_list=pki.revoke(bad)) as server:
            assert ask(server, ("Client-Cert", header(pki.client)))[0] == 200
            server.app.seen.clear()
            assert self.refusal(server, ("Client-Cert", header(bad))) == "forwarded certificate revoked"

    def test_not_listed(self, pki, behind):
        with behind(peers=["CN=client-x, O=Hospital A"]) as server:
            assert ask(server, ("Client-Cert", header(pki.client)))[0] == 200
            told = self.refusal(server, ("Client-Cert", header(pki.issue("client-y"))))
            assert told == "not listed in peers: CN=client-y,O=Hospital A"

    @pytest.mark.parametrize(
        "value",
        ["", "x", "::", ":x:", ":AAAA:", "-----BEGIN%20CERTIFICATE-----", "(null)", ":" + "A" * 60_000 + ":"],
        ids=["empty", "text", "nothing", "no base64", "no DER", "half a PEM", "null", "long"],
    )
    def test_unreadable(self, behind, value):
        with behind() as server:
            assert self.refusal(server, ("Client-Cert", value)) == "forwarded certificate that cannot be read"

    def test_two(self, pki, behind):
        with behind() as server:
            one = ("Client-Cert", header(pki.client))
            assert self.refusal(server, one, one) == "two Client-Cert headers"


class TestIntermediates:
    def test_the_chain_comes_in_its_own_header(self, pki, behind):
        middle = pki.authority("Middle")
        peer = pki.issue_by(middle, "far")
        with behind() as server:
            assert ask(server, ("Client-Cert", header(peer)))[0] == 403
            status, body = ask(
                server, ("Client-Cert", header(peer)), ("Client-Cert-Chain", f"{header(middle)}, {header(pki.ca)}")
            )
            assert (status, json.loads(body)["node"]) == (200, "CN=far,O=Hospital A")

    def test_not_too_many(self, pki, behind):
        with behind() as server:
            chain = ", ".join([header(pki.ca)] * 9)
            assert ask(server, ("Client-Cert", header(pki.client)), ("Client-Cert-Chain", chain))[0] == 403


class TestProxiesKnownByCertificate:
    @pytest.fixture
    def secured(self, pki, serve):
        def start(proxies, **more):
            tls = TlsSettings(
                certificate=pki.server.certificate, key=pki.server.key, ca=pki.ca.certificate, proxies=proxies, **more
            )
            return serve(tls=listener_context(tls, "registry.tls"), forwarded=Forwarded(tls))

        return start

    def line(self, pki, server, identity) -> ssl.SSLSocket:
        tls = TlsSettings(certificate=identity.certificate, key=identity.key, ca=pki.ca.certificate)
        return client_context(tls).wrap_socket(socket.create_connection((HERE, server.port), timeout=10))

    @pytest.mark.parametrize("by", ["subject", "fingerprint"])
    @pytest.mark.parametrize("peers", [[], ["CN=client-x,O=Hospital A"]], ids=["all", "pinned"])
    def test_by_subject_or_fingerprint(self, pki, secured, by, peers):
        proxy = pki.issue("proxy")
        name = f"sha256:{proxy.x509.fingerprint(SHA256()).hex()}" if by == "fingerprint" else "CN=proxy, O=Hospital A"
        with secured([name], peers=peers) as server:
            with self.line(pki, server, proxy) as line:
                status, body = get(line, ("Client-Cert", header(pki.client)))
            assert (status, json.loads(body)["node"]) == (200, "CN=client-x,O=Hospital A")
            with self.line(pki, server, pki.client) as line:  # a direct caller beside it
                assert json.loads(get(line)[1])["node"] == "CN=client-x,O=Hospital A"
            with self.line(pki, server, pki.client) as line:
                assert get(line, ("Client-Cert", header(proxy)))[0] == 403


def test_files_that_cannot_be_used_are_told(tmp_path, pki):
    empty = tmp_path / "empty.pem"
    empty.write_text("nothing")
    with pytest.raises(TlsFault, match=r"ca .*empty\.pem holds nothing that can be used"):
        Verifier(TlsSettings(ca=empty))
    with pytest.raises(TlsFault, match=r"revocation_list .*empty\.pem"):
        Forwarded(TlsSettings(ca=pki.ca.certificate, revocation_list=empty, proxies=[HERE]))
