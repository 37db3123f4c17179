"""Every service with TLS and client certificates: the same round, and nobody without a certificate gets in."""

import hashlib
import http.client
import json
import os
import socket
import ssl
from urllib.request import urlopen

import pytest
from cryptography import x509

from dossier.demo import free_base_port, serving
from ihe.ebrs import remove_documents_request
from ihe.transactions import ITI_86
from tests.builders import REPOSITORY
from tests.repository.stand import envelope

PATIENT = "TLS-1^^^&1.3.6.1.4.1.21367.2011.2.5.9999&ISO"


@pytest.fixture(scope="module")
def secured(tmp_path_factory, run_command):
    """A running server whose settings name certificates, and those settings for a client of it."""
    folder = tmp_path_factory.mktemp("tls")
    certs = folder / "certs"
    assert run_command("certs", "--out", str(certs), "--client", "lab", "--client", "keeper")[0] == 0
    keeper = x509.load_pem_x509_certificate((certs / "keeper.pem").read_bytes()).subject.rfc4514_string()
    template = '[tls]\ncertificate = "{0}/{1}.pem"\nkey = "{0}/{1}.key"\nca = "{0}/ca.pem"\n'
    server, client = folder / "server.toml", folder / "client.toml"
    partner = f'[affinity_domain.partners."{keeper}"]\ntransactions = ["ITI-86", "ITI-81"]\n'
    server.write_text(template.format(certs, "server") + partner)
    client.write_text(template.format(certs, "lab"))
    (folder / "keeper.toml").write_text(template.format(certs, "keeper"))
    data = folder / "data"
    data.mkdir()
    with serving(data, config=server) as running:
        yield running, client, certs


def test_a_round_with_client_certificates(secured, run_command, tmp_path):
    running, client, _certs = secured

    def run(*words, config=client):
        return run_command(*words, "--config", str(config), "--base-port", str(running.base_port), "--json")

    def done(*words, config=client):
        status, out, err = run(*words, config=config)
        assert status == 0, err
        return json.loads(out)

    file = tmp_path / "a.pdf"
    file.write_bytes(b"%PDF-1.4 " + os.urandom(100))
    done("feed", "--patient", PATIENT)
    document = done("submit", str(file), "--patient", PATIENT, "--type", "11502-2")["documents"][0]
    assert [row["unique_id"] for row in done("find", "--patient", PATIENT)] == [document["unique_id"]]
    (fetched,) = done("fetch", document["unique_id"], "--out", str(tmp_path / "out"))
    assert fetched["hash"] == hashlib.sha1(file.read_bytes()).hexdigest()
    assert done("audit", "--patient", PATIENT, config=client.with_name("keeper.toml")) != []
    status, out, err = run("audit", "--patient", PATIENT)
    assert (status, out) == (1, "")
    assert "ITI-81" in err


@pytest.mark.parametrize(("client", "code"), [("lab", "XDSRepositoryError"), ("keeper", "XDSDocumentUniqueIdError")])
def test_documents_are_removed_for_partners_alone_that_list_it(secured, client, code):
    running, _client, certs = secured
    context = ssl.create_default_context(cafile=certs / "ca.pem")
    context.load_cert_chain(certs / f"{client}.pem", certs / f"{client}.key")
    connection = http.client.HTTPSConnection("localhost", running.base_port + 20, timeout=20, context=context)
    body = envelope(ITI_86.request_action, remove_documents_request([(REPOSITORY, "9.9.9")]))
    connection.request("POST", "/repository", body, {"Content-Type": "application/soap+xml; charset=UTF-8"})
    answer = connection.getresponse().read().decode()
    connection.close()
    assert f'errorCode="{code}"' in answer
    assert ("listed-partners-only" in answer) == (client == "lab")


@pytest.mark.parametrize("offset", [10, 11, 20, 40], ids=["registry", "feed", "repository", "audit"])
def test_nobody_without_a_certificate(secured, offset):
    running, _client, certs = secured
    context = ssl.create_default_context(cafile=certs / "ca.pem")
    with socket.create_connection(("127.0.0.1", running.base_port + offset), timeout=10) as plain:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            with context.wrap_socket(plain, server_hostname="localhost") as stream:
                stream.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
                if not stream.recv(100):  # TLS 1.3 tells the refusal with the first read
                    raise ConnectionError("closed")


def test_an_admin_port_for_probes_from_elsewhere(tmp_path):
    """A container's health probe comes from outside: possible where plaintext is allowed, TLS elsewhere unaffected."""
    config = tmp_path / "dossier.toml"
    base_port = free_base_port()
    names = {"registry": 19, "repository": 29, "audit": 49}
    lines = [f'{name}_listen = "0.0.0.0:{base_port + offset}"' for name, offset in names.items()]
    config.write_text("[admin]\n" + "\n".join(lines) + "\n[tls]\nallow_plaintext = true\n")
    with serving(tmp_path, config=config):
        for offset in names.values():
            with urlopen(f"http://127.0.0.1:{base_port + offset}/health/ready", timeout=10) as answer:
                assert answer.status == 200
