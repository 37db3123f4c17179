"""gateway.probe: what an operator is told to mend when the way to a community ends in the handshake."""

import ssl

import pytest

from dossier.authority import Authority, write
from gateway.probe import probe
from gateway.settings import GatewaySettings
from tests.wire.test_reach import raw_server
from wire.settings import TlsSettings

METZ = "urn:oid:1.2.250.1"


@pytest.fixture(scope="module")
def certs(tmp_path_factory):
    """``ours``, and servers of Metz: ``expired``, and ``foreign`` of another authority."""
    folder = tmp_path_factory.mktemp("certs")
    authority, other = (Authority.make(name, 30, path_length=0) for name in ("Metz", "Elsewhere"))
    write(folder, "ca", [authority.certificate], authority.key)
    for name, issuer, hosts, expired in (
        ("ours", authority, [], False),
        ("expired", authority, ["localhost"], True),
        ("foreign", other, ["localhost"], False),
    ):
        write(folder, name, *issuer.issue(name, hosts, expired=expired))
    return folder


def told(certs, port):
    """What is wrong with the community at that port, and what to mend."""
    row = {"home_community_id": METZ, "query_url": f"https://localhost:{port}/responding"}
    settings = GatewaySettings(communities=[row], deadline_s=2)
    tls = TlsSettings(certificate=certs / "ours.pem", key=certs / "ours.key", ca=certs / "ca.pem")
    found = probe(settings.communities[0], settings, tls, "urn:oid:1.2.3")
    (wrong,) = [one for one in found if one.holds is False]
    assert wrong.what == f"their certificate https://localhost:{port}"
    return wrong.result, wrong.remedy


@pytest.mark.parametrize(
    ("server", "result", "remedy"),
    [
        ("expired", "certificate expired", "the partner renews it"),
        ("foreign", "certificate of a foreign authority", "ca of the community"),
    ],
)
def test_the_remedy_is_of_what_is_wrong_with_their_certificate(certs, server, result, remedy):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certs / f"{server}.pem", certs / f"{server}.key")
    with raw_server(lambda stream: context.wrap_socket(stream, server_side=True)) as port:
        found = told(certs, port)
    assert found[0] == result
    assert found[1].startswith(remedy)


def test_where_no_tls_is_spoken_no_certificate_is_to_blame(certs):
    def without(stream):
        stream.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        return stream

    with raw_server(without) as port:
        result, remedy = told(certs, port)
    assert result == "no TLS was spoken"
    assert "something else than their gateway" in remedy
