"""wire.tls (ITI TF-2: 3.19): who gets in, with which suites, and what the application learns about the peer."""

import asyncio
import hashlib
import json
import ssl
import time

import pytest
import uvloop
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from ihe.transactions import ITI_18
from wire.client import NotSent, SoapClient
from wire.reloading import listener_context
from wire.settings import TlsSettings
from wire.tls import NotListed, Peer, TlsFault, client_context, peer_of, reason_of, server_context

GET = b"GET /peer HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


def settings_for(pki, identity, **more):
    return TlsSettings(certificate=identity.certificate, key=identity.key, ca=pki.ca.certificate, **more)


@pytest.fixture
def secured(pki, serve):
    def start(tls=None, **limits):
        return serve(tls=listener_context(tls or settings_for(pki, pki.server), "registry.tls"), **limits)

    return start


def ask(server, context, request=GET):
    """The answer's body; an OSError when there is none (TLS 1.3 tells a refusal only after the handshake)."""
    with server.connect() as plain, context.wrap_socket(plain) as connection:
        connection.sendall(request)
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
        if not answer:
            raise ConnectionError("closed without an answer")
        return answer.partition(b"\r\n\r\n")[2]


def anonymous(pki):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(pki.ca.certificate)
    return context


class TestPeers:
    def test_the_application_sees_subject_fingerprint_and_address(self, pki, secured):
        with secured() as server:
            seen = json.loads(ask(server, client_context(settings_for(pki, pki.client))))
        digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(pki.client.certificate.read_text())).hexdigest()
        assert seen == {
            "address": "127.0.0.1",
            "node": "CN=client-x,O=Hospital A",
            "fingerprint": f"sha256:{digest}",
        }

    def test_plaintext_peer_has_an_address_only(self, serve, exchange):
        with serve() as server:
            seen = json.loads(exchange(server, GET).partition(b"\r\n\r\n")[2])
        assert seen == {"address": "127.0.0.1", "node": None, "fingerprint": None}

    def test_an_unreadable_certificate_still_has_a_fingerprint(self):
        assert peer_of("x", b"no DER") == Peer("x", None, f"sha256:{hashlib.sha256(b'no DER').hexdigest()}")

    @pytest.mark.parametrize(
        ("which", "told"),
        [
            ("none", "no certificate"),
            ("other authority", "certificate of a foreign authority"),
            ("self-signed", "self-signed certificate that is not installed"),
        ],
    )
    def test_strangers_do_not_get_in_and_are_reported(self, pki, secured, which, told):
        context = anonymous(pki)
        if which != "none":
            identity = pki.stranger if which == "other authority" else pki.self_signed("rogue")
            context.load_cert_chain(identity.certificate, identity.key)
        with secured() as server:
            with pytest.raises(OSError):
                ask(server, context)
            server.wait_for(lambda: server.failures)
            [(address, port, reason)] = server.failures
            assert address == "127.0.0.1"
            assert port > 1023
            assert reason == told
            assert server.app.seen == []

    def test_a_peers_own_certificate_may_be_the_trust(self, pki, secured):
        peer = pki.self_signed("direct")
        tls = TlsSettings(certificate=pki.server.certificate, key=pki.server.key, ca=peer.certificate)
        context = anonymous(pki)
        context.load_cert_chain(peer.certificate, peer.key)
        with secured(tls) as server:
            assert json.loads(ask(server, context))["node"] == "CN=direct,O=Hospital A"

    def test_a_certificate_can_be_optional(self, pki, secured):
        with secured(settings_for(pki, pki.server, require_client_certificate=False)) as server:
            assert json.loads(ask(server, anonymous(pki)))["node"] is None
            context = client_context(settings_for(pki, pki.client))
            assert json.loads(ask(server, context))["node"] == "CN=client-x,O=Hospital A"

    def test_a_revoked_certificate_is_refused(self, pki, secured):
        revoked = pki.issue("revoked")
        tls = settings_for(pki, pki.server, revocation_list=pki.revoke(revoked))
        with secured(tls) as server:
            with pytest.raises(OSError):
                ask(server, client_context(settings_for(pki, revoked)))
            assert json.loads(ask(server, client_context(settings_for(pki, pki.client))))["node"]
            assert [reason for _address, _port, reason in server.failures] == ["certificate revoked"]

    @pytest.mark.parametrize("by", ["subject", "fingerprint"])
    @pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
    @pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
    def test_of_those_the_authority_vouches_for_only_the_listed_get_in(self, pki, serve, by, version, loop):
        digest = pki.client.x509.fingerprint(SHA256()).hex()
        listed = "CN=client-x, O=Hospital A" if by == "subject" else f"sha256:{digest}"
        tls = settings_for(pki, pki.server, peers=[listed])
        factory = uvloop.new_event_loop if loop == "uvloop" else asyncio.new_event_loop
        with serve(tls=listener_context(tls, "registry.tls"), loop_factory=factory) as server:
            context = client_context(settings_for(pki, pki.issue("client-y")))
            context.maximum_version = version
            with pytest.raises(OSError):
                ask(server, context)
            server.wait_for(lambda: server.failures)
            assert [reason for *_, reason in server.failures] == ["not listed in peers: CN=client-y,O=Hospital A"]
            assert server.app.seen == []
            for identity in (pki.client, pki.server):  # our own services call each other with one certificate
                context = client_context(settings_for(pki, identity))
                context.maximum_version = version
                assert json.loads(ask(server, context))["node"]

    def test_our_client_calls_the_listed_alone(self, pki, secured):
        with secured() as server:
            with pytest.raises(NotListed, match="CN=server,O=Hospital A"):
                ask(server, client_context(settings_for(pki, pki.client, peers=["CN=elsewhere"])))
            assert ask(server, client_context(settings_for(pki, pki.client, peers=["CN=server, O=Hospital A"])))

    def test_our_client_does_not_talk_to_strangers(self, pki, secured):
        tls = TlsSettings(certificate=pki.stranger.certificate, key=pki.stranger.key, ca=pki.ca.certificate)
        with secured(tls) as server, pytest.raises(ssl.SSLCertVerificationError):
            ask(server, client_context(settings_for(pki, pki.client)))


@pytest.fixture(scope="module")
def middle(pki):
    return pki.authority("Middle Authority")


class TestRevocation:
    """What a file of revocation lists does, by who signed the peer and how long the lists last."""

    def refusal(self, pki, secured, peer, tls):
        """Why the listener with these settings refuses the peer; None when it does not."""
        with secured(tls) as server:
            try:
                assert json.loads(ask(server, client_context(settings_for(pki, peer))))["node"]
            except OSError:
                server.wait_for(lambda: server.failures)
                return server.failures[0][2]
            return None

    def listing(self, tmp_path, *lists):
        path = tmp_path / "lists.crl"
        path.write_bytes(b"".join(one.read_bytes() for one in lists))
        return path

    def test_several_lists_in_a_file(self, pki, secured, middle, tmp_path):
        good, bad = pki.issue_by(middle, "good"), pki.issue_by(middle, "bad")
        lists = self.listing(tmp_path, pki.revoke(), pki.revoke(bad, by=middle))
        tls = settings_for(pki, pki.server, revocation_list=lists)
        assert self.refusal(pki, secured, good, tls) is None
        assert self.refusal(pki, secured, bad, tls) == "certificate revoked"

    def test_an_authority_on_the_way_is_looked_up_too(self, pki, secured, middle, tmp_path):
        peer = pki.issue_by(middle, "peer")
        lists = self.listing(tmp_path, pki.revoke(middle), pki.revoke(by=middle))
        assert self.refusal(pki, secured, peer, settings_for(pki, pki.server, revocation_list=lists)) == (
            "certificate revoked"
        )
        leaf = settings_for(pki, pki.server, revocation_list=lists, revocation_check="leaf")
        assert self.refusal(pki, secured, peer, leaf) is None

    def test_every_authority_needs_a_list(self, pki, secured, middle, tmp_path):
        peer = pki.issue_by(middle, "peer")
        lists = self.listing(tmp_path, pki.revoke(by=middle))
        assert self.refusal(pki, secured, peer, settings_for(pki, pki.server, revocation_list=lists)) == (
            "no revocation list of an authority of the certificate"
        )
        leaf = settings_for(pki, pki.server, revocation_list=lists, revocation_check="leaf")
        assert self.refusal(pki, secured, peer, leaf) is None

    def test_an_expired_list_lets_nobody_in(self, pki, secured, tmp_path):
        lists = self.listing(tmp_path, pki.revoke(days=-1))
        tls = settings_for(pki, pki.server, revocation_list=lists)
        assert self.refusal(pki, secured, pki.client, tls) == "revocation list expired"

    def test_the_newer_of_two_lists_counts(self, pki, secured, tmp_path):
        lists = self.listing(tmp_path, pki.revoke(days=-1), pki.revoke(days=2))
        assert self.refusal(pki, secured, pki.client, settings_for(pki, pki.server, revocation_list=lists)) is None

    def test_an_expired_certificate(self, pki, secured):
        tls = settings_for(pki, pki.server)
        assert self.refusal(pki, secured, pki.issue("late", days=-1), tls) == "certificate expired"

    def test_a_certificate_for_servers_alone_calls_nobody(self, pki, secured):
        peer = pki.issue("server-only", usages=[ExtendedKeyUsageOID.SERVER_AUTH])
        assert self.refusal(pki, secured, peer, settings_for(pki, pki.server)) == "certificate made for another purpose"


class TestReasons:
    """What the peer says of us, and what no table lists."""

    def test_a_client_that_does_not_trust_us(self, pki, secured):
        tls = TlsSettings(certificate=pki.stranger.certificate, key=pki.stranger.key, ca=pki.ca.certificate)
        with secured(tls) as server:
            with pytest.raises(ssl.SSLCertVerificationError):
                ask(server, client_context(settings_for(pki, pki.client)))
            server.wait_for(lambda: server.failures)
            assert server.failures[0][2] == "refused by the peer: unknown ca"

    def test_others_are_told_as_openssl_says_them(self):
        odd = ssl.SSLError(1, "x")
        odd.reason = "BAD_EXTENSION"
        assert reason_of(odd) == "bad extension"
        assert reason_of(ssl.SSLEOFError(8, "x")) == "broken off by the peer"
        assert reason_of(OSError(113, "No route to host")) == "No route to host"


class TestVersionsAndSuites:
    @pytest.mark.filterwarnings("ignore::DeprecationWarning")
    @pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
    def test_below_the_floor(self, pki, secured, version):
        context = anonymous(pki)
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.minimum_version = context.maximum_version = version
        with secured() as server:
            with pytest.raises(OSError):
                ask(server, context)
            server.wait_for(lambda: server.failures)
            assert server.failures[0][2] == "protocol too old"

    @pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
    def test_at_and_above_the_floor(self, pki, secured, version):
        context = client_context(settings_for(pki, pki.client))
        context.minimum_version = context.maximum_version = version
        with secured() as server:
            assert json.loads(ask(server, context))["node"]

    def test_the_floor_can_be_raised(self, pki, secured):
        context = client_context(settings_for(pki, pki.client))
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        with secured(settings_for(pki, pki.server, minimum_version="1.3")) as server, pytest.raises(OSError):
            ask(server, context)

    @pytest.mark.parametrize(
        "suite",
        [
            "DHE-RSA-AES128-GCM-SHA256",
            "ECDHE-RSA-AES128-GCM-SHA256",
            "DHE-RSA-AES256-GCM-SHA384",
            "ECDHE-RSA-AES256-GCM-SHA384",
        ],
    )
    def test_the_suites_the_framework_asks_for(self, pki, rsa_server, secured, suite):
        context = client_context(settings_for(pki, pki.client))
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(suite)
        with secured(settings_for(pki, rsa_server)) as server:
            assert json.loads(ask(server, context))["node"]

    @pytest.mark.parametrize("suite", ["AES128-SHA256", "ECDHE-RSA-AES128-SHA", "AES256-GCM-SHA384"])
    def test_weaker_suites_are_not_offered(self, pki, rsa_server, secured, suite):
        context = client_context(settings_for(pki, pki.client))
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(suite)
        with secured(settings_for(pki, rsa_server)) as server, pytest.raises(OSError):
            ask(server, context)


@pytest.fixture(scope="session")
def rsa_server(pki):
    return pki.issue("rsa-server", rsa.generate_private_key(65537, 2048))


class TestHandshakeStalls:
    def test_silent_clients_disturb_nobody_and_are_reported(self, pki, secured):
        with secured(tls_handshake_timeout_s=3) as server:
            silent = [server.connect() for _ in range(50)]
            before = time.monotonic()
            context = client_context(settings_for(pki, pki.client))
            for _ in range(5):
                assert ask(server, context)
            assert time.monotonic() - before < 2.9
            assert [connection.recv(10) for connection in silent] == [b""] * 50
            server.wait_for(lambda: len(server.failures) == 50)
            assert {reason for _address, _port, reason in server.failures} == {"time-out"}
            for connection in silent:
                connection.close()

    def test_plain_http_on_a_tls_port(self, secured, exchange):
        with secured() as server:
            try:
                answer = exchange(server, GET)
            except ConnectionResetError:
                answer = b""
            assert b"200" not in answer
            server.wait_for(lambda: server.failures)
            assert server.failures[0][2] == "plain HTTP on a TLS port"

    def test_a_client_that_leaves_without_goodbye_is_no_end_of_body(self, pki, secured):
        with secured() as server:
            connection = client_context(settings_for(pki, pki.client)).wrap_socket(server.connect())
            connection.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc")
            time.sleep(0.1)
            connection.close()  # the TCP connection alone: no close_notify
            server.wait_for(lambda: server.app.seen)
            assert server.app.seen == ["ClientGone"]


class TestFaults:
    """A setting that cannot work says which file and why."""

    def test_key_of_another_certificate(self, pki):
        tls = TlsSettings(certificate=pki.server.certificate, key=pki.client.key, ca=pki.ca.certificate)
        with pytest.raises(TlsFault, match="do not belong together"):
            server_context(tls)

    def test_no_pem(self, pki, tmp_path):
        empty = tmp_path / "empty.pem"
        empty.write_text("nothing")
        with pytest.raises(TlsFault, match=r"empty\.pem .*cannot be used"):
            server_context(TlsSettings(certificate=empty, key=pki.server.key, ca=pki.ca.certificate))
        with pytest.raises(TlsFault, match=r"ca .*empty\.pem holds nothing"):
            server_context(TlsSettings(certificate=pki.server.certificate, key=pki.server.key, ca=empty))

    def test_encrypted_key(self, pki, tmp_path):
        path = tmp_path / "secret.key"
        path.write_bytes(
            pki.server.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x"))
        )
        with pytest.raises(TlsFault, match=r"secret\.key is encrypted"):
            server_context(TlsSettings(certificate=pki.server.certificate, key=path, ca=pki.ca.certificate))


class TestOurOwnClients:
    """What they say of a server that does not count, and of one for which we do not."""

    @pytest.fixture
    def reported(self):
        return []

    @pytest.fixture
    def call(self, pki, reported):
        def send(server, identity, **more):
            client = SoapClient(
                settings_for(pki, identity, **more), handshake_failed=lambda *failure: reported.append(failure)
            )
            try:
                client.call(f"https://127.0.0.1:{server.port}/", ITI_18, b"<x/>")
            finally:
                client.close()

        return send

    def test_a_server_that_is_not_listed_is_not_called_and_reported(self, pki, secured, call, reported):
        with secured() as server:
            with pytest.raises(NotSent, match=r"no connection \(not listed in peers: CN=server,O=Hospital A\)"):
                call(server, pki.client, peers=["CN=elsewhere"])
            assert reported == [("127.0.0.1", server.port, "not listed in peers: CN=server,O=Hospital A")]
            assert server.app.seen == []

    def test_a_server_of_a_foreign_authority(self, pki, secured, call, reported):
        tls = TlsSettings(certificate=pki.stranger.certificate, key=pki.stranger.key, ca=pki.ca.certificate)
        with secured(tls) as server:
            with pytest.raises(NotSent, match="certificate of a foreign authority"):
                call(server, pki.client)
            assert reported == [("127.0.0.1", server.port, "certificate of a foreign authority")]

    def test_nobody_there_is_no_matter_of_authentication(self, pki, secured, call, reported):
        with secured() as server:
            pass
        with pytest.raises(NotSent, match=r"no connection \(ConnectError\)"):
            call(server, pki.client)
        assert reported == []

    def test_a_server_that_refuses_us_says_why(self, pki, serve, call, reported):
        context = server_context(settings_for(pki, pki.server))
        context.maximum_version = ssl.TLSVersion.TLSv1_2  # 1.3 tells the refusal after the handshake, maybe too late
        with serve(tls=lambda: context) as server:
            with pytest.raises(NotSent, match=r"no connection \(refused by the peer: certificate expired\)"):
                call(server, pki.issue("late", days=-1))
            assert reported == []

    def test_a_server_without_tls_is_reported(self, pki, serve, call, reported):
        with serve() as server:
            with pytest.raises(NotSent, match=r"no connection \((no TLS was spoken|.*record layer.*)\)"):
                call(server, pki.client)
            assert [failure[:2] for failure in reported] == [("127.0.0.1", server.port)]
