"""ITI-19 of a running Dossier: who is refused on which listener, and that the audit trail tells; certificates replaced
under way; a proxy in front.
"""

import base64
import http.client
import socket
import ssl
import threading
import time
from urllib.request import urlopen

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from dossier.authority import Authority, write
from dossier.commands.audit import fetch_events
from dossier.demo import serving
from ihe.ebrs import remove_documents_request
from ihe.transactions import ITI_86
from tests.builders import REPOSITORY
from tests.feed_server import adt, msa
from tests.feed_server import ask as ask_mllp
from tests.repository.stand import envelope
from wire.settings import TlsSettings
from wire.tls import client_context

OFFSETS = {"registry": 10, "feed": 11, "repository": 20, "audit": 40}
SERVERS = ("registry", "repository", "audit")
WAIT_S = 30
PATIENT = "NODES-1^^^&1.3.6.1.4.1.21367.2011.2.5.9999&ISO"
SETTINGS = """
[tls]
certificate = "{certs}/server.pem"
key = "{certs}/server.key"
ca = "{certs}/ca.pem"
revocation_list = "{certs}/ca.crl"
[registry.feed_tls]
peers = ["CN=lab"]
[repository.tls]
proxies = ["CN=proxy"]
[affinity_domain.partners."CN=keeper"]
transactions = ["ITI-86"]
[affinity_domain.partners."CN=lab"]
transactions = ["ITI-81"]
"""


class Nodes:
    """A running server and the certificates of its peers."""

    def __init__(self, running, certs, foreign):
        self.running, self.certs, self.foreign = running, certs, foreign

    def tls(self, name):
        folder = self.foreign if name == "foreign" else self.certs
        return TlsSettings(certificate=folder / f"{name}.pem", key=folder / f"{name}.key", ca=self.certs / "ca.pem")

    def context(self, name):
        if name is not None:
            return client_context(self.tls(name))
        context = ssl.create_default_context(cafile=self.certs / "ca.pem")
        context.check_hostname = False
        return context

    def port(self, listener):
        return self.running.base_port + OFFSETS[listener]

    def plain(self, listener):
        return socket.create_connection(("127.0.0.1", self.port(listener)), timeout=10)

    def line(self, listener, name="lab"):
        return self.context(name).wrap_socket(self.plain(listener), server_hostname="localhost")

    def attempt(self, listener, context):
        """The port we called from, and what was answered."""
        answer = b""
        with self.plain(listener) as plain:
            port = plain.getsockname()[1]
            try:
                with context.wrap_socket(plain, server_hostname="localhost") as line:
                    # TLS 1.3 tells the refusal with the first read
                    line.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
                    answer = line.recv(100)
            except OSError:
                pass
        return port, answer

    def refused(self, listener, context):
        """The port we called from, once the listener has broken off without a word."""
        port, answer = self.attempt(listener, context)
        assert answer == b""
        return port

    def alerts(self):
        """What ITI-81 gives of refused peers: {(who recorded it, address, port): reason}."""
        found = fetch_events(
            f"https://localhost:{self.port('audit')}",
            {"date": "ge1970", "type": "110113", "subtype": "110126"},
            self.tls("lab"),
            1000,
        )
        out = {}
        for event in found:
            (entity,) = event["entity"]
            details = {one["type"]: base64.b64decode(one["valueBase64Binary"]).decode() for one in entity["detail"]}
            assert details["Alert Description"] == event["outcomeDesc"]
            assert event["outcome"] == "8"
            source = event["source"]["observer"]["identifier"]["value"].partition("@")[0].partition(" ")[0]
            address = entity["what"]["identifier"]["value"]
            out[source.removeprefix("dossier-"), address, int(details["urn:dossier:peer-port"])] = event["outcomeDesc"]
        return out


@pytest.fixture(scope="module")
def nodes(tmp_path_factory, run_command):
    folder = tmp_path_factory.mktemp("nodes")
    certs, foreign = folder / "certs", folder / "foreign"
    names = ("lab", "keeper", "proxy", "lost", "gone", "other")
    words = [word for name in names for word in ("--client", name)]
    for out, more in ((certs, [*words, "--expired", "late", "--revoke", "lost"]), (foreign, ["--client", "foreign"])):
        assert run_command("certs", "--out", str(out), *more)[0] == 0
    (folder / "server.toml").write_text(SETTINGS.format(certs=certs))
    data = folder / "data"
    data.mkdir()
    with serving(data, config=folder / "server.toml") as running:
        yield Nodes(running, certs, foreign)


def until(holds, what):
    deadline = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.2)


def old_protocol(nodes):
    context = nodes.context("lab")
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    return context


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_who_cannot_prove_who_it_is_is_refused_and_on_the_audit_trail(nodes):
    contexts = {
        "no certificate": nodes.context(None),
        "certificate expired": nodes.context("late"),
        "certificate of a foreign authority": nodes.context("foreign"),
        "certificate revoked": nodes.context("lost"),
        "protocol too old": old_protocol(nodes),
    }
    expected = {}
    for listener in OFFSETS:
        source = "registry" if listener == "feed" else listener
        for reason, context in contexts.items():
            expected[source, "127.0.0.1", nodes.refused(listener, context)] = reason
        with nodes.plain(listener) as plain:
            plain.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            expected[source, "127.0.0.1", plain.getsockname()[1]] = "plain HTTP on a TLS port"
    port = nodes.refused("feed", nodes.context("other"))
    expected["registry", "127.0.0.1", port] = "not listed in peers: CN=other"
    with nodes.line("registry", "other") as line:  # its certificate is good elsewhere
        line.sendall(b"GET /registry?wsdl HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert line.recv(100).startswith(b"HTTP/1.1 200")
    until(lambda: expected.items() <= nodes.alerts().items(), "the trail holds each of them")
    assert len(expected) == len(OFFSETS) * 6 + 1


def remove(nodes, name, *headers):
    """ITI-86 by a peer: what the repository answers."""
    connection = http.client.HTTPSConnection(
        "localhost", nodes.port("repository"), timeout=20, context=nodes.context(name)
    )
    body = envelope(ITI_86.request_action, remove_documents_request([(REPOSITORY, "9.9.9")]))
    connection.request(
        "POST", "/repository", body, {"Content-Type": "application/soap+xml; charset=UTF-8", **dict(headers)}
    )
    answer = connection.getresponse()
    said = answer.status, answer.read().decode()
    connection.close()
    return said


def handed_on(nodes, name):
    certificate = x509.load_pem_x509_certificate((nodes.certs / f"{name}.pem").read_bytes())
    return ("Client-Cert", f":{base64.b64encode(certificate.public_bytes(Encoding.DER)).decode()}:")


def test_a_listed_proxy_names_the_caller_and_nobody_else_does(nodes):
    """ITI-86 is for partners that list it: keeper does, through the proxy too; the proxy itself and lab do not."""
    assert 'errorCode="XDSDocumentUniqueIdError"' in remove(nodes, "proxy", handed_on(nodes, "keeper"))[1]
    assert "listed-partners-only" in remove(nodes, "proxy", handed_on(nodes, "lab"))[1]
    assert remove(nodes, "proxy")[0] == 403
    assert remove(nodes, "lab", handed_on(nodes, "keeper"))[0] == 403
    assert remove(nodes, "proxy", handed_on(nodes, "lost"))[0] == 403
    reasons = {
        "no forwarded certificate from a proxy",
        "forwarded certificate from a peer that is not in tls.proxies",
        "forwarded certificate revoked",
    }
    until(lambda: reasons <= set(nodes.alerts().values()), "the trail holds each of them")


class Load:
    """Requests without end, each on a new connection, from a thread; ``lost`` lists what did not go well."""

    def __init__(self, nodes):
        self.nodes, self.done, self.lost = nodes, 0, []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_error):
        self._stop.set()
        self._thread.join(20)

    def _run(self):
        paths = {"registry": "/registry?wsdl", "repository": "/repository?wsdl"}
        while not self._stop.wait(0.01):
            for listener, path in paths.items():
                try:
                    with self.nodes.line(listener) as line:
                        line.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
                        assert line.recv(100).startswith(b"HTTP/1.1 200"), "no answer"
                    self.done += 1
                except (OSError, AssertionError) as error:
                    self.lost.append(repr(error))


def presented(nodes, listener):
    with nodes.line(listener) as line:
        certificate = x509.load_der_x509_certificate(line.getpeercert(binary_form=True))
    return certificate.subject.rfc4514_string()


def metrics(nodes, service):
    port = nodes.running.base_port + {"registry": 19, "repository": 29, "audit": 49}[service]
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        return answer.read().decode()


def gauge(nodes, service, name, **labels):
    wanted = name + "{" + ",".join(f'{key}="{value}"' for key, value in sorted(labels.items())) + "}"
    lines = [line for line in metrics(nodes, service).splitlines() if line.startswith(wanted)]
    return float(lines[0].split()[-1]) if lines else None


def test_certificates_and_lists_are_replaced_while_serving(nodes, tmp_path, run_command):
    with nodes.line("feed") as old_feed, nodes.line("registry") as old:
        assert msa(ask_mllp(old_feed, adt("A04", PATIENT, control="N1")))[0] == "AA"
        old.sendall(b"GET /registry?wsdl HTTP/1.1\r\nHost: localhost\r\n\r\n")
        read_answer(old)
        with Load(nodes) as load:
            renewed(nodes)
            made_worse(nodes)
            revoked_now(nodes, run_command)
        assert load.lost == []
        assert load.done > 20
        assert msa(ask_mllp(old_feed, adt("A04", PATIENT, control="N2")))[0] == "AA"
        old.sendall(b"GET /registry?wsdl HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert read_answer(old).startswith(b"HTTP/1.1 200")
        called_as_renewed(nodes, run_command, tmp_path)


def read_answer(line):
    answer = b""
    while not answer.endswith(b"definitions>\n") and not answer.endswith(b"definitions>"):
        block = line.recv(65536)
        assert block, answer[-100:]
        answer += block
    return answer


def renewed(nodes):
    """Every listener presents the new certificate, without a restart."""
    authority = Authority.read(nodes.certs, "ca", root=True)
    assert {presented(nodes, listener) for listener in OFFSETS} == {"CN=Dossier test server"}
    chain, key = authority.issue("renewed", ["localhost", "127.0.0.1"])
    write(nodes.certs, "server", chain, key)
    for listener in OFFSETS:
        until(lambda at=listener: presented(nodes, at) == "CN=renewed", f"{listener} presents it")
    ends = chain[0].not_valid_after_utc.timestamp()
    for service, table in (("registry", "registry.feed_tls"), *((name, f"{name}.tls") for name in SERVERS)):
        told = {"tls": table, "file": "certificate"}
        until(
            lambda at=service, of=told: (
                gauge(nodes, at, "dossier_certificate_expiry_timestamp_seconds", **of) == pytest.approx(ends, abs=1)
            ),
            f"{table} is counted",
        )


def made_worse(nodes):
    """A file that is none changes nothing, and the metrics say so until it is right again."""
    good = (nodes.certs / "server.pem").read_bytes()
    (nodes.certs / "server.pem").write_text("no certificate")
    for name in SERVERS:
        until(lambda at=name: gauge(nodes, at, "dossier_certificates_stale", tls=f"{at}.tls") == 1, f"{name} tells")
    assert {presented(nodes, listener) for listener in OFFSETS} == {"CN=renewed"}
    (nodes.certs / "server.pem").write_bytes(good)
    for name in SERVERS:
        until(lambda at=name: gauge(nodes, at, "dossier_certificates_stale", tls=f"{at}.tls") == 0, f"{name} is well")


def revoked_now(nodes, run_command):
    """Who is put on the list is refused, on every listener, and the trail says why."""
    with nodes.line("registry", "gone") as line:
        line.sendall(b"GET /registry?wsdl HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert line.recv(100).startswith(b"HTTP/1.1 200")
    assert run_command("certs", "--out", str(nodes.certs), "--revoke", "gone")[0] == 0
    for listener in OFFSETS:
        knocking = Knocking(nodes, listener, "gone")
        until(lambda at=knocking: at.refused() == "certificate revoked", f"{listener} knows")


class Knocking:
    """One knock after the other, each once the trail tells of the one before: the feed refuses who is not in its peers
    before it has read the new list, too.
    """

    def __init__(self, nodes, listener, name):
        self._nodes, self._listener, self._name = nodes, listener, name
        self._by = "registry" if listener == "feed" else listener
        self._port = None

    def refused(self):
        """Why the last knock was refused as far as the trail tells."""
        if self._port is None:
            port, answer = self._nodes.attempt(self._listener, self._nodes.context(self._name))
            self._port = None if answer else port
        reason = self._nodes.alerts().get((self._by, "127.0.0.1", self._port))
        if reason is not None:
            self._port = None
        return reason


def called_as_renewed(nodes, run_command, folder):
    """The repository, which has called nobody yet, calls the registry with the new certificate."""
    client = folder / "client.toml"
    client.write_text("[tls]\n" + "".join(f'{key} = "{nodes.certs}/{name}"\n' for key, name in CLIENT_FILES.items()))
    document = folder / "a.pdf"
    document.write_bytes(b"%PDF-1.4 nodes")
    status, _out, err = run_command(
        *("submit", str(document), "--patient", PATIENT, "--type", "11502-2"),
        *("--config", str(client), "--base-port", str(nodes.running.base_port)),
    )
    assert status == 0, err

    def nodes_of_iti42():
        events = fetch_events(
            f"https://localhost:{nodes.port('audit')}", {"date": "ge1970", "subtype": "ITI-42"}, nodes.tls("lab"), 100
        )
        return {agent["who"]["identifier"]["value"] for event in events for agent in event["agent"]}

    until(lambda: "CN=renewed" in nodes_of_iti42(), "the registry was called by the renewed")
    assert "CN=Dossier test server" not in nodes_of_iti42()


CLIENT_FILES = {"certificate": "lab.pem", "key": "lab.key", "ca": "ca.pem"}
