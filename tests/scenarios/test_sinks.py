"""Several sinks at once, over mutual TLS and without: each gets each record, one that is down delays no other.

In the end what waits for the one that is down fills the outboxes, and every request is refused as busy.
"""

import json
import re
import socket
import time
import uuid
from contextlib import suppress
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from atna.iti20_record_audit_event import decode_message
from dossier.console import CommandError
from tests.records_sink import RecordsSink
from tests.soak.server import Server
from tests.syslog_peer import SyslogPeer
from wire.settings import TlsSettings
from wire.tls import server_context

PATIENT = "SINKS-1^^^&1.3.6.1.4.1.21367.2011.2.5.9999&ISO"
BOUND = 60


def until(condition, seconds=40):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def certs(tmp_path_factory, run_command):
    folder = tmp_path_factory.mktemp("sinks") / "certs"
    assert run_command("certs", "--out", str(folder), "--client", "lab")[0] == 0
    return folder


def tls_of(certs, name):
    return TlsSettings(certificate=certs / f"{name}.pem", key=certs / f"{name}.key", ca=certs / "ca.pem")


class Sinks:
    """The sinks of one Dossier as tests see them: ``heard()`` is what each has, by its name."""

    def __init__(self, certs, base_port):
        self.tls = SyslogPeer(context=server_context(tls_of(certs, "server")))
        self.tcp = SyslogPeer()
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind(("127.0.0.1", 0))
        self.udp.setblocking(False)
        self.feed = RecordsSink()
        with socket.create_server(("127.0.0.1", 0)) as unused:
            self.nowhere = f"tls://127.0.0.1:{unused.getsockname()[1]}"
        self._datagrams = []
        self.texts = [
            self.nowhere,
            f"https://127.0.0.1:{base_port + 40}/records",
            f"tls://localhost:{self.tls.port}",
            f"tcp://127.0.0.1:{self.tcp.port}",
            f"udp://127.0.0.1:{self.udp.getsockname()[1]}",
            self.feed.url,
            self.feed.fhir,
        ]

    def heard(self):
        while True:
            try:
                self._datagrams.append(self.udp.recv(70_000))
            except BlockingIOError:
                break
        return {"tls": self.tls.messages, "tcp": self.tcp.messages, "udp": self._datagrams, "feed": self.feed.records}

    def close(self):
        self.tls.close()
        self.tcp.close()
        self.udp.close()
        self.feed.__exit__()


@pytest.fixture(scope="module")
def served(tmp_path_factory, certs):
    data = tmp_path_factory.mktemp("served")
    server = Server(data, **{f"TLS__{key}".upper(): str(value) for key, value in named(tls_of(certs, "server"))})
    sinks = Sinks(certs, server.base_port)
    server.environment["DOSSIER_AUDIT__SINKS"] = json.dumps(sinks.texts)
    server.environment["DOSSIER_AUDIT__MAX_OUTBOX_ROWS"] = str(BOUND)
    server.environment["DOSSIER_AFFINITY_DOMAIN__PARTNERS"] = json.dumps({"CN=lab": {"transactions": ["ITI-81"]}})
    try:
        server.start()
        yield server, sinks
    finally:
        server.end()
        sinks.close()


def named(settings):
    return [(key, getattr(settings, key)) for key in ("certificate", "key", "ca")]


@pytest.fixture
def run(served, certs, run_command, tmp_path):
    server, _sinks = served
    config = tmp_path / "client.toml"
    config.write_text("[tls]\n" + "".join(f'{key} = "{value}"\n' for key, value in named(tls_of(certs, "lab"))))

    def one(*words):
        status, out, err = run_command(*words, "--config", str(config), "--base-port", str(server.base_port), "--json")
        if status:
            raise CommandError(err)
        return json.loads(out)

    return one


def metric(server, name, offset=19, **labels):
    with urlopen(f"http://127.0.0.1:{server.base_port + offset}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    given = ",".join(f'{key}="{value}"' for key, value in labels.items())
    found = re.search(rf"^{name}{re.escape('{' + given + '}') if given else ''} (\S+)$", text, re.MULTILINE)
    return float(found[1]) if found else None


def test_each_sink_gets_each_record_and_one_that_is_down_delays_no_other(served, run):
    server, sinks = served
    run("feed", "--patient", PATIENT)
    run("find", "--patient", PATIENT)
    until(lambda: run("audit", "--patient", PATIENT) != [])  # records travel, however short the way

    def same():
        heard = {name: sorted(messages) for name, messages in sinks.heard().items()}
        return len(heard["feed"]) == 5 and len({tuple(one) for one in heard.values()}) == 1  # three starts, feed, query

    until(same)
    until(lambda: len(sinks.feed.resources) == 5)
    names = {decode_message(message).app_name for message in sinks.heard()["tls"]}
    assert names == {"dossier-registry", "dossier-repository", "dossier-gateway"}
    until(lambda: metric(server, "dossier_outbox_sink_rows", sink=sinks.nowhere) == 3)
    assert metric(server, "dossier_outbox_sink_oldest_seconds", sink=sinks.nowhere) > 0
    assert metric(server, "dossier_audit_delivered_total", sink=sinks.texts[2]) == 3
    assert metric(server, "dossier_audit_failed_batches_total", sink=sinks.nowhere) >= 1
    assert metric(server, "dossier_outbox_alarm") == 0


def test_a_full_outbox_is_an_alarm_and_then_refuses_as_busy(served, run):
    server, sinks = served

    while metric(server, "dossier_outbox_sink_rows", sink=sinks.nowhere) < BOUND:
        for _ in range(10):
            with suppress(CommandError):  # what is refused is on record, too
                run("find", "--patient", PATIENT)
    with pytest.raises(CommandError, match="XDSRegistryBusy: audit records wait"):
        run("find", "--patient", PATIENT)
    until(lambda: metric(server, "dossier_outbox_alarm") == 1)
    assert f"of at most {BOUND} audit records" in server.log.read_text()
    with pytest.raises(CommandError, match="can't store now"):
        run("feed", "--patient", f"{uuid.uuid4().hex[:8]}^^^&1.3.6.1.4.1.21367.2011.2.5.9999&ISO")
    with pytest.raises(HTTPError) as caught:
        urlopen(f"http://127.0.0.1:{server.base_port + 19}/health/ready", timeout=10)
    with caught.value as answer:
        assert (answer.code, b"outbox" in answer.read()) == (503, True)
    # Nothing was dropped: all of it, refusals too, is there for those who are not down.
    until(lambda: len(sinks.feed.records) >= metric(server, "dossier_outbox_sink_rows", sink=sinks.nowhere))
    assert len(sinks.feed.records) == len(set(sinks.feed.records)) >= BOUND
