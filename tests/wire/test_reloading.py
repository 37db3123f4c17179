"""wire.reloading: replaced certificates are taken while the service runs, and only whole ones."""

import logging
import shutil
import ssl

import pytest
from prometheus_client import REGISTRY

from wire.reloading import LOOK_EVERY_S, Reloading, ReloadingClientContext, listener_context
from wire.settings import TlsSettings
from wire.tls import TlsFault, client_context, server_context


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def later(self):
        self.now += LOOK_EVERY_S


class Files:
    """A node's files, replaced as an operator does."""

    def __init__(self, folder, pki, identity):
        self.folder, self.pki = folder, pki
        self.tls = TlsSettings(certificate=self.put("node.pem", identity.certificate), key=self.put("node.key", identity.key), ca=self.put("ca.pem", pki.ca.certificate))  # fmt: skip

    def put(self, name, source):
        target = self.folder / name
        shutil.copy(source, self.folder / "new")
        return (self.folder / "new").rename(target)

    def replace(self, identity):
        self.put("node.pem", identity.certificate)
        self.put("node.key", identity.key)


@pytest.fixture
def files(tmp_path, pki):
    return Files(tmp_path, pki, pki.server)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def reloading(files, clock):
    return Reloading(files.tls, server_context, "test.tls", clock=clock)


def stale():
    return REGISTRY.get_sample_value("dossier_certificates_stale", {"tls": "test.tls"})


def test_nothing_is_made_anew_while_nothing_changes(reloading, clock):
    first = reloading()
    for _ in range(3):
        clock.later()
        assert reloading() is first


def test_a_replaced_certificate_is_taken_at_the_next_look(reloading, clock, files, pki):
    first = reloading()
    files.replace(pki.issue("server"))
    assert reloading() is first, "looked at once in two seconds, not for each connection"
    clock.later()
    assert reloading() is not first
    assert stale() == 0


def test_half_a_replacement_is_waited_for_in_silence(reloading, clock, files, pki, caplog):
    first, fresh = reloading(), pki.issue("server")
    files.put("node.pem", fresh.certificate)
    clock.later()
    assert reloading() is first
    files.put("node.key", fresh.key)
    clock.later()
    assert reloading() is not first
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.parametrize("fault", ["another's key", "no PEM", "gone"])
def test_what_cannot_be_used_changes_nothing_and_is_told_once(reloading, clock, files, pki, caplog, fault):
    first = reloading()
    if fault == "another's key":
        files.put("node.key", pki.client.key)
    elif fault == "no PEM":
        (files.folder / "node.pem").write_text("nothing")
    else:
        (files.folder / "ca.pem").unlink()
    for _ in range(4):
        clock.later()
        assert reloading() is first
    (told,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert told.startswith("test.tls: replaced files cannot be used, the former stay in use: ")
    assert stale() == 1
    files.replace(pki.server)
    files.put("ca.pem", pki.ca.certificate)
    clock.later()
    assert reloading() is not first
    assert stale() == 0


def test_at_first_files_have_to_be_right(files, pki):
    files.put("node.key", pki.client.key)
    with pytest.raises(TlsFault, match="do not belong together"):
        listener_context(files.tls, "test.tls")


def test_without_a_certificate_there_is_no_tls():
    assert listener_context(TlsSettings(), "test.tls") is None


def test_the_metric_follows_the_file(reloading, clock, files, pki):
    def told():
        return REGISTRY.get_sample_value(
            "dossier_certificate_expiry_timestamp_seconds", {"tls": "test.tls", "file": "certificate"}
        )

    assert told() == pki.server.x509.not_valid_after_utc.timestamp()
    later = pki.issue("server", days=900)
    files.replace(later)
    clock.later()
    reloading()
    assert told() == later.x509.not_valid_after_utc.timestamp()


def test_what_ends_soon_is_told_once_a_day(reloading, clock, caplog):
    caplog.clear()  # it was told at the start
    for _ in range(3):
        clock.now += 86_400 / 2
        reloading()
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(told) == 2
    assert all("certificate" in line or "ca" in line for line in told)


def test_a_client_takes_them_with_its_next_connection(files, pki, serve, monkeypatch):
    """One context for the life of the client, as an HTTP library holds it."""
    monkeypatch.setattr("wire.reloading.LOOK_EVERY_S", 0.0)
    server = TlsSettings(certificate=pki.server.certificate, key=pki.server.key, ca=pki.ca.certificate)
    with serve(tls=listener_context(server, "registry.tls")) as running:

        def called_as(context):
            with running.connect() as plain, context.wrap_socket(plain, server_hostname="x") as line:
                line.sendall(b"GET /peer HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                answer = b""
                while chunk := line.recv(65536):
                    answer += chunk
            return answer

        context = ReloadingClientContext(files.tls)
        assert isinstance(context, ssl.SSLContext)
        assert b"CN=server" in called_as(context)
        files.replace(pki.client)
        assert b"CN=client-x" in called_as(context)


def test_a_client_of_memory_buffers_too(files):
    ours, theirs = ssl.MemoryBIO(), ssl.MemoryBIO()
    made = ReloadingClientContext(files.tls).wrap_bio(ours, theirs, server_hostname="x")
    assert made.context.verify_mode == client_context(files.tls).verify_mode


def test_a_listener_replaces_while_connections_go_on(files, pki, serve, monkeypatch):
    monkeypatch.setattr("wire.reloading.LOOK_EVERY_S", 0.05)
    client = client_context(TlsSettings(certificate=pki.client.certificate, key=pki.client.key, ca=pki.ca.certificate))
    with serve(tls=listener_context(files.tls, "test.tls")) as running:

        def connected() -> ssl.SSLSocket:
            return client.wrap_socket(running.connect(), server_hostname="x")

        def ask(line):
            line.sendall(b"GET /peer HTTP/1.1\r\nHost: x\r\n\r\n")
            return line.recv(65536)

        old, fresh = connected(), pki.issue("server")
        assert b"200" in ask(old)
        before = old.getpeercert(binary_form=True)
        files.replace(fresh)

        def is_new():
            with connected() as line:
                assert b"200" in ask(line)
                return line.getpeercert(binary_form=True) != before

        running.wait_for(is_new)
        assert b"200" in ask(old), "a connection goes on with what it began with"
        old.close()
