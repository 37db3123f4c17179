"""Audit records by syslog into the running service, found by ITI-81; and what is confirmed survives kill -9 (ITI-20)."""

import json
import ssl
import threading
import time
from collections import Counter
from urllib.request import urlopen

import pytest

from atna.record_repository.store.protocol import Criteria
from atna.record_repository.store.records import RecordStore
from dossier.demo import serving
from tests.atna.conftest import Writer
from tests.rsyslog import running_rsyslog
from tests.soak.server import serving as killable
from tests.syslog_sender import SyslogSender, datagram, tls_context


@pytest.fixture(scope="module")
def secured(tmp_path_factory, run_command):
    folder = tmp_path_factory.mktemp("syslog")
    certs = folder / "certs"
    assert (
        run_command("certs", "--out", str(certs), "--server", "server", "--server", "rsyslog", "--client", "ward")[0]
        == 0
    )
    config = folder / "server.toml"
    config.write_text(
        f'[tls]\ncertificate = "{certs}/server.pem"\nkey = "{certs}/server.key"\nca = "{certs}/ca.pem"\n[audit]\nworkers = 2\n'
        '[affinity_domain.partners."CN=ward"]\ntransactions = ["ITI-81"]\n'
    )
    data = folder / "data"
    data.mkdir()
    with serving(data, config=config) as running:
        yield running, tls_context(certs, "ward", "ca.pem", "pem")


def search(running, context, **parameters):
    query = "&".join(f"{name}={value}" for name, value in {"date": "ge2026-01-01", "_count": 500, **parameters}.items())
    url = f"https://localhost:{running.base_port + 40}/fhir/AuditEvent?{query}"
    with urlopen(url, timeout=20, context=context) as answer:
        return [entry["resource"] for entry in json.load(answer).get("entry", [])]


def test_records_by_tls_and_udp_are_found_by_iti_81(secured):
    running, context = secured
    writer = Writer()
    with SyslogSender(running.base_port + 41, context) as sender:
        assert sender.socket.version() == "TLSv1.3"
        sender.send(*(writer.query("by-tls") for _ in range(5)))
        assert sender.end()
    assert len(search(running, context, **{"patient.identifier": "by-tls"})) == 5
    datagram(running.base_port + 42, writer.query("by-udp"), b"no audit record")
    deadline = time.monotonic() + 20
    while len(search(running, context, **{"patient.identifier": "by-udp"})) < 1:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_tls_1_2(secured):
    running, context = secured
    writer = Writer()
    before = context.maximum_version
    try:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        with SyslogSender(running.base_port + 41, context) as sender:
            assert sender.socket.version() == "TLSv1.2"
            sender.send(writer.query("by-tls-1-2"))
            assert sender.end()
    finally:
        context.maximum_version = before
    assert len(search(running, context, **{"patient.identifier": "by-tls-1-2"})) == 1


class Ward(threading.Thread):
    """A sender that keeps its records until a connection that carried them was ended in order by both sides."""

    def __init__(self, port, batches):
        super().__init__(daemon=True)
        self.port, self.batches = port, batches
        self.confirmed, self.again = [], 0

    def run(self):
        for batch in self.batches:
            while not self._delivered(batch):
                self.again += 1
                time.sleep(0.05)
            self.confirmed += batch

    def _delivered(self, batch):
        try:
            with SyslogSender(self.port) as sender:
                for message in batch:
                    sender.send(message)
                return sender.end()
        except OSError:
            return False


def test_what_was_confirmed_survives_kill_9_and_resending_doubles_nothing(tmp_path):
    with killable(tmp_path) as server:
        writers = [Writer() for _ in range(4)]
        wards = [
            Ward(server.base_port + 41, [[writer.query(f"kill-{number}") for _ in range(50)] for _ in range(20)])
            for number, writer in enumerate(writers)
        ]
        for ward in wards:
            ward.start()
        for threshold in (10, 30, 50):  # in the middle of everybody's batch
            while sum(len(ward.confirmed) for ward in wards) < threshold * 50:
                assert any(ward.is_alive() for ward in wards)
                time.sleep(0.005)
            while not server.kill("audit-1"):
                time.sleep(0.05)
        for ward in wards:
            ward.join()
        assert sum(ward.again for ward in wards) >= 3
        sent = [message for ward in wards for message in ward.confirmed]
        assert len(sent) == 4 * 20 * 50
        store = RecordStore.open(f"sqlite:///{tmp_path}/audit.db")
        kept = Counter(one.message for one in store.find(Criteria(), limit=100_000))
        verified = store.verify_chain()
        store.close()
    assert set(sent) <= set(kept)
    assert max(kept.values()) == 1
    assert verified.holds


def test_rsyslog_takes_our_records_over_mutual_tls_and_what_it_forwards_is_found(secured, tmp_path):
    """rsyslog as another product: octet counting both ways, long records, text beyond ASCII."""
    running, context = secured
    writer = Writer()
    records = [writer.query("by-rsyslog", request=f"<q>é €{'x' * size}</q>".encode()) for size in (0, 9_000, 60_000)]
    with running_rsyslog(tmp_path, running.data.parent / "certs", "rsyslog", running.base_port + 41) as rsyslog:
        with SyslogSender(rsyslog.port, context) as sender:
            sender.send(*records)
            sender.end()  # rsyslog 8.2302 closes without a close_notify of its own: nothing confirms
        assert rsyslog.received(3) == records
        deadline = time.monotonic() + 20
        while len(found := search(running, context, **{"patient.identifier": "by-rsyslog"})) < 3:
            assert time.monotonic() < deadline
            time.sleep(0.1)
    assert {len(one["entity"][1]["query"]) > 9_000 for one in found} == {True, False}
