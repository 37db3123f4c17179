"""A client that is not ours, ``openssl s_client``: each suite the framework asks for, and what is below the floor."""

import asyncio
import shutil
import subprocess

import pytest
import uvloop
from cryptography.hazmat.primitives.asymmetric import rsa

from wire.reloading import listener_context
from wire.settings import TlsSettings

OPENSSL = shutil.which("openssl")
REQUEST = b"GET /peer HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
pytestmark = pytest.mark.skipif(OPENSSL is None, reason="openssl is not installed")


@pytest.fixture(scope="module")
def rsa_server(pki):
    return pki.issue("rsa-server", rsa.generate_private_key(65537, 2048))


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def server(request, pki, rsa_server, serve):
    tls = TlsSettings(certificate=rsa_server.certificate, key=rsa_server.key, ca=pki.ca.certificate)
    with serve(tls=listener_context(tls, "registry.tls"), loop_factory=request.param) as running:
        yield running


def s_client(server, pki, *options, identity=None):
    """What the server answered, and what s_client says of the connection."""
    who = ["-cert", identity.certificate, "-key", identity.key] if identity else []
    server_of = ["-connect", f"127.0.0.1:{server.port}", "-CAfile", pki.ca.certificate, "-ign_eof"]
    done = subprocess.run(
        [OPENSSL, "s_client", *server_of, *who, *options],
        input=REQUEST,
        capture_output=True,
        timeout=30,
        check=False,
    )
    return done.stdout.decode(errors="replace") + done.stderr.decode(errors="replace")


@pytest.mark.parametrize(
    ("suite", "name"),
    [
        ("TLS_DHE_RSA_WITH_AES_128_GCM_SHA256", "DHE-RSA-AES128-GCM-SHA256"),
        ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "ECDHE-RSA-AES128-GCM-SHA256"),
        ("TLS_DHE_RSA_WITH_AES_256_GCM_SHA384", "DHE-RSA-AES256-GCM-SHA384"),
        ("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", "ECDHE-RSA-AES256-GCM-SHA384"),
    ],
    ids=lambda value: value if value.startswith("TLS_") else "",
)
def test_the_suites_of_the_bcp195_option(server, pki, suite, name):
    said = s_client(server, pki, "-tls1_2", "-cipher", name, identity=pki.client)
    assert "HTTP/1.1 200 OK" in said, suite
    assert f"Cipher is {name}" in said
    assert '"node": "CN=client-x,O=Hospital A"' in said


@pytest.mark.parametrize("suite", ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"])
def test_tls_1_3(server, pki, suite):
    said = s_client(server, pki, "-tls1_3", "-ciphersuites", suite, identity=pki.client)
    assert "HTTP/1.1 200 OK" in said
    assert f"New, TLSv1.3, Cipher is {suite}" in said


@pytest.mark.parametrize("version", ["-tls1", "-tls1_1"])
def test_below_the_floor(server, pki, version):
    said = s_client(server, pki, version, "-cipher", "DEFAULT@SECLEVEL=0", identity=pki.client)
    assert "alert protocol version" in said
    refused(server, "protocol too old")


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
class TestRefusedPeersAreToldWhy:
    """By a TLS alert, which their operators find in their own logs."""

    def test_no_certificate(self, server, pki, version):
        said = s_client(server, pki, version)
        assert ("alert certificate required" if version == "-tls1_3" else "alert handshake failure") in said
        refused(server, "no certificate")

    def test_an_expired_certificate(self, server, pki, version):
        said = s_client(server, pki, version, identity=pki.issue("late", days=-1))
        assert "alert certificate expired" in said
        refused(server, "certificate expired")

    def test_of_a_foreign_authority(self, server, pki, version):
        said = s_client(server, pki, version, identity=pki.stranger)
        assert "alert unknown ca" in said
        refused(server, "certificate of a foreign authority")


def test_a_suite_without_forward_secrecy(server, pki):
    said = s_client(server, pki, "-tls1_2", "-cipher", "AES256-GCM-SHA384", identity=pki.client)
    assert "alert handshake failure" in said
    refused(server, "no cipher suite in common")


def refused(server, reason):
    server.wait_for(lambda: server.failures)
    assert [told for *_, told in server.failures] == [reason]
    assert server.app.seen == []
