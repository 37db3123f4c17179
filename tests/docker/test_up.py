"""The compose file brought up as far as a machine without an engine can: the same entry points, environment, settings,
secrets, host names, ports, user ids and health checks, on read-only roots without capabilities; real PostgreSQL and S3.

One test, since everything has to be up for each of its steps.
"""

import hashlib
import json
import os
import time
from pathlib import Path

import pytest

PATIENT = "BOX-1^^^&1.3.6.1.4.1.21367.2011.2.5.9999&ISO"
SERVICES = ("registry", "repository", "gateway", "audit")


@pytest.mark.slow
def test_the_compose_file_serves(pod, tmp_path):
    tools = Tools(pod, tmp_path)
    a_document_goes_in_and_comes_out(tools, tmp_path)
    its_trail_reaches_the_audit_service(pod, tools)
    sweep_and_migrate_run_in_their_containers(pod)
    for name in SERVICES:
        a_service_has_no_rights_and_nowhere_to_write(pod, name)
        a_container_knows_its_own_secrets_alone(pod, name)
    a_database_lets_in_nobody_but_its_own_service(pod)
    the_bucket_is_made_once_and_stays(pod)
    a_health_check_names_what_is_gone(pod)
    assert pod.stop(*SERVICES) == dict.fromkeys(SERVICES, 0)
    assert pod.stop("db") == {"db": 0}
    assert "Traceback" not in "".join(pod.log(name) for name in SERVICES)


class Tools:
    """``docker compose run --rm --volume FOLDER:/documents tools WORDS --json``."""

    def __init__(self, pod, folder):
        os.chown(folder, 10001, 10001)
        self._pod, self._binds = pod, [(str(folder), "/documents", False)]

    def __call__(self, *words):
        done = self._pod.run("tools", *words, "--json", binds=self._binds)
        assert done.returncode == 0, f"{words}: {done.stderr}"
        return json.loads(done.stdout)


def a_document_goes_in_and_comes_out(tools, tmp_path):
    report = tmp_path / "report.pdf"
    report.write_bytes(b"%PDF-1.4 " + os.urandom(300_000))
    report.chmod(0o644)
    tools("feed", "--patient", PATIENT)
    words = ("--patient", PATIENT, "--type", "11502-2")
    document = tools("submit", "/documents/report.pdf", *words)["documents"][0]
    (found,) = tools("find", "--patient", PATIENT)
    assert found["unique_id"] == document["unique_id"]
    (fetched,) = tools("fetch", document["unique_id"], "--out", "/documents/out")
    assert fetched["hash"] == hashlib.sha1(report.read_bytes()).hexdigest()
    assert (tmp_path / "out" / Path(fetched["file"]).name).read_bytes() == report.read_bytes()


def its_trail_reaches_the_audit_service(pod, tools):
    tools("find", "--patient", PATIENT)
    deadline = time.monotonic() + 30
    while not any(row["event"] == "ITI-18" for row in tools("audit", "--patient", PATIENT)):
        assert time.monotonic() < deadline
        time.sleep(0.5)
    done = pod.execute("audit", ["dossier", "audit", "verify", "--json"])
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["holds"] is True


def sweep_and_migrate_run_in_their_containers(pod):
    swept = pod.execute("repository", ["dossier", "store", "sweep", "--json"])
    assert swept.returncode == 0, swept.stderr
    done = pod.run("migrate")
    assert done.returncode == 0, done.stderr
    assert [line.partition(",")[2] for line in done.stdout.splitlines()] == [" nothing to do"] * 4


def a_service_has_no_rights_and_nowhere_to_write(pod, name):
    told = pod.execute(name, ["cat", f"/proc/{pod.running[name].pid}/status"]).stdout
    status = dict(line.split(":", 1) for line in told.splitlines())
    assert status["Uid"].split() == ["10001"] * 4
    assert status["Gid"].split() == ["10001"] * 4
    assert {int(status[one], 16) for one in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}
    assert status["NoNewPrivs"].strip() == "1"
    places = "/ /opt/dossier /run/secrets /etc/dossier /usr /tmp"
    done = pod.execute(name, ["sh", "-c", f"for place in {places}; do touch $place/x 2>/dev/null && echo $place; done"])
    assert done.stdout.split() == ["/tmp", *(["/data"] if "volumes" in pod.file["services"][name] else [])]


def a_container_knows_its_own_secrets_alone(pod, name):
    there = set(pod.execute(name, ["ls", "/run/secrets"]).stdout.split())
    own = {"ca.pem", "tls.pem", "tls.key", f"{name}_database_url"}
    more = {
        "repository": {"s3_secret_key", "store_keys"},
        "gateway": {"partners.pem"},
        "audit": {"audit_checkpoint_key"},
    }
    assert there == own | more.get(name, set())


def a_database_lets_in_nobody_but_its_own_service(pod):
    attempts = [
        (room, database, word)
        for room in SERVICES
        for database in SERVICES
        for word in (pod.docker.joinpath("secrets", f"{room}_password").read_text(), "wrong")
    ]
    urls = [f"postgresql://{room}:{word}@db:5432/{database}" for room, database, word in attempts]
    each = 'for url; do psql --no-psqlrc --quiet --command "" "$url" 2>/dev/null; echo $?; done'
    done = pod.execute("db", ["sh", "-c", each, "sh", *urls])
    let_in = [status == "0" for status in done.stdout.split()]
    assert let_in == [room == database and word != "wrong" for room, database, word in attempts], done.stderr


def the_bucket_is_made_once_and_stays(pod):
    def shell(command):
        done = pod.execute("s3", ["sh", "-c", f"echo {command} | weed shell -master=127.0.0.1:9333"])
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert pod.run("bucket").returncode == 0
    names = [line.split()[0] for line in shell("s3.bucket.list").splitlines() if line.strip()]
    assert names.count("documents") == 1
    assert shell("fs.ls /buckets/documents").strip()


def a_health_check_names_what_is_gone(pod):
    _kind, *check = pod.service("registry")["healthcheck"]["test"]
    assert pod.stop("db") == {"db": 0}
    done = pod.execute("registry", check)
    assert (done.returncode, done.stdout) == (1, "registry: not ready: database, outbox failed\n"), done.stderr
    pod.start("db")
    pod.await_health("db")
    for name in SERVICES:
        pod.await_health(name)
