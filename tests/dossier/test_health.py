"""``dossier health``: what it says of a service that is ready, is not, or is not there; and its exit status."""

import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from dossier.demo import free_base_port


@pytest.fixture
def admin():
    """Answers as an admin port may: (base port whose +19 it is, what it is to answer, the paths it was asked for)."""
    base_port, says, asked = free_base_port(), {"status": 200, "body": b"{}"}, []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(says["status"])
            self.end_headers()
            self.wfile.write(says["body"])

        def log_message(self, *_words):
            pass

    server = HTTPServer(("127.0.0.1", base_port + 19), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield str(base_port), says, asked
    server.shutdown()
    thread.join()
    server.server_close()


def test_every_service_of_a_running_dossier_is_ready(dossier_server):
    rows = dossier_server.run("health")
    assert [(row["service"], row["state"], row["well"]) for row in rows] == [
        ("registry", "ready", True),
        ("repository", "ready", True),
        ("gateway", "ready", True),
        ("audit", "ready", True),
    ]
    assert dossier_server.run("health", "audit", "--live")[0]["state"] == "live"


def test_a_failed_check_is_named_and_ends_with_1(run_command, admin):
    base_port, says, asked = admin
    told = {"status": "not ready", "checks": {"database": "failed", "outbox": "ok"}}
    says |= {"status": 503, "body": json.dumps(told).encode()}
    status, out, err = run_command("health", "registry", "--base-port", base_port)
    assert (status, out, err) == (1, "registry: not ready: database failed\n", "")
    assert asked == ["/health/ready"]


def test_what_has_to_be_seen_to_is_named_and_the_service_is_well(run_command, admin):
    base_port, says, _asked = admin
    told = {"status": "ready", "checks": {"database": "ok"}, "notes": {"keyring": "failed", "scanner": "ok"}}
    says |= {"status": 200, "body": json.dumps(told).encode()}
    status, out, err = run_command("health", "registry", "--base-port", base_port)
    assert (status, out, err) == (0, "registry: ready; to be seen to: keyring\n", "")


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"checks": []}', b'{"notes": []}', b"\xff" * 200_000])
@pytest.mark.parametrize("code", [200, 404])
def test_something_else_on_the_port_is_no_defect(run_command, admin, body, code):
    base_port, says, _asked = admin
    says |= {"status": code, "body": body}
    status, out, err = run_command("health", "registry", "--base-port", base_port)
    assert (status, err) == (1, "")
    assert out == "registry: no health answer\n"


def test_nobody_there_is_one_line_and_1(run_command):
    base_port = free_base_port()
    status, out, err = run_command("health", "--base-port", str(base_port))
    assert (status, err) == (1, "")
    lines = out.splitlines()
    assert lines[0] == f"registry: does not answer on 127.0.0.1:{base_port + 19} (ConnectionRefusedError)"
    assert len(lines) == 4


def test_settings_at_fault_end_with_1_too(run_command, tmp_path):
    """2 is for usage elsewhere; of a health check it means nothing a container's engine knows."""
    path = tmp_path / "dossier.toml"
    path.write_text("[registry]\nworkerz = 1\n")
    status, out, err = run_command("health", "registry", "--config", str(path))
    assert (status, out) == (1, "")
    assert err.startswith("dossier: settings: registry.workerz: ")


def test_alone_it_says_the_same(tmp_path, admin):
    base_port, says, _asked = admin
    says["body"] = b'{"status": "ready", "checks": {}}'
    command = [sys.executable, "-m", "dossier.commands.health", "registry", "--base-port", base_port]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "registry: ready\n", "")
    path = tmp_path / "dossier.toml"
    path.write_text("nonsense = 1\n")
    done = subprocess.run([*command, "--config", str(path)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("dossier: settings: nonsense: ")
