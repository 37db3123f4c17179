"""A whole Dossier through its command line: in, found, replaced, out, refused, and every step on record."""

import hashlib
import os
import signal
import time
from collections import Counter
from pathlib import Path
from urllib.request import urlopen

import pytest

from dossier.console import CommandError

AUTHORITY = "1.3.6.1.4.1.21367.2011.2.5.9999"


@pytest.fixture
def patient(dossier_server, request):
    name = hashlib.sha1(request.node.nodeid.encode()).hexdigest()[:10]
    identifier = f"{name}^^^&{AUTHORITY}&ISO"
    assert dossier_server.run("feed", "--patient", identifier, "--family", "O'Hara|^&~\\", "--sex", "f")["fed"] == 1
    return identifier


@pytest.fixture
def report(tmp_path):
    path = tmp_path / "report.pdf"
    path.write_bytes(b"%PDF-1.4 " + os.urandom(5000))
    return path


def submit(server, path, patient, *more):
    return server.run("submit", str(path), "--patient", patient, "--type", "11502-2", *more)["documents"][0]


def audit(server, patient, wanted, within_s=20):
    """Rows about the patient once ``wanted`` holds: the records travel by outbox."""
    deadline = time.monotonic() + within_s
    while True:
        rows = server.run("audit", "--patient", patient, "--limit", "500")
        if wanted(rows) or time.monotonic() > deadline:
            return rows
        time.sleep(0.3)


def test_a_document_goes_in_is_found_and_comes_out(dossier_server, patient, report, tmp_path):
    document = submit(dossier_server, report, patient, "--author", "Anna Weber", "--title", "Blood count")
    (found,) = dossier_server.run("find", "--patient", patient)
    assert found["unique_id"] == document["unique_id"]
    assert found["entry_uuid"] == document["entry_uuid"]
    assert (found["title"], found["author"], found["status"]) == ("Blood count", "^Weber^Anna", "approved")
    assert (found["mime_type"], found["size"], found["hash"]) == (
        "application/pdf",
        report.stat().st_size,
        hashlib.sha1(report.read_bytes()).hexdigest(),
    )
    (fetched,) = dossier_server.run("fetch", document["unique_id"], "--out", str(tmp_path / "out"))
    assert fetched["checked"] is True
    assert Path(fetched["file"]).read_bytes() == report.read_bytes()
    assert [path.name for path in (tmp_path / "out").iterdir()] == [Path(fetched["file"]).name]


def test_every_step_is_on_record(dossier_server, patient, report, tmp_path):
    document = submit(dossier_server, report, patient)
    dossier_server.run("find", "--patient", patient)
    dossier_server.run("fetch", document["unique_id"], "--out", str(tmp_path))
    events = Counter(["ITI-8", "ITI-18", "ITI-41", "ITI-42", "ITI-42"])

    def whole(rows):
        return events <= Counter(row["event"] for row in rows)

    rows = audit(dossier_server, patient, whole)
    assert whole(rows), [row["event"] for row in rows]
    assert {row["outcome"] for row in rows} == {"0"}
    registered = [row for row in rows if row["event"] == "ITI-42"]
    assert {row["action"] for row in registered} == {"C", "R"}  # imported by the registry, exported by the repository
    assert dossier_server.run("audit", "verify", "--data", str(dossier_server.data))["holds"] is True


def test_a_replacement_deprecates(dossier_server, patient, report, tmp_path):
    first = submit(dossier_server, report, patient)
    corrected = tmp_path / "corrected.pdf"
    corrected.write_bytes(b"%PDF-1.4 corrected")
    second = submit(dossier_server, corrected, patient, "--replace", first["entry_uuid"])
    assert [row["unique_id"] for row in dossier_server.run("find", "--patient", patient)] == [second["unique_id"]]
    everything = dossier_server.run("find", "--patient", patient, "--status", "all")
    assert {row["unique_id"]: row["status"] for row in everything} == {
        first["unique_id"]: "deprecated",
        second["unique_id"]: "approved",
    }


def test_find_filters(dossier_server, patient, report):
    submit(dossier_server, report, patient, "--author", "Anna Weber", "--created", "20250102030405")
    submit(dossier_server, report, patient, "--created", "20260102030405", "--class", "REPORTS")

    def count(*more):
        return len(dossier_server.run("find", "--patient", patient, *more))

    assert count() == 2
    assert count("--type", "11502-2") == 2
    assert count("--type", "60591-5") == 0
    assert count("--class", "REPORTS") == 1
    assert count("--from", "2026") == 1
    assert count("--to", "2026-01-01") == 1
    assert count("--author", "Weber") == 1
    assert count("--author", "weber") == 0
    for name in ("Anna Weber", "Weber, Anna", "^Weber^Anna", "Ann_ Web%"):
        assert count("--author", name) == 1, name
    assert count("--author", "Otto Weber") == 0


def test_what_is_refused_is_one_line_with_the_code_and_on_record(dossier_server, report):
    unknown = f"nobody-{time.time_ns()}^^^&{AUTHORITY}&ISO"
    with pytest.raises(CommandError, match="ended with 1: dossier: XDSUnknownPatientId: ") as caught:
        submit(dossier_server, report, unknown)
    assert str(caught.value).count("\n") == 0
    rows = audit(dossier_server, unknown, lambda rows: any(row["event"] == "ITI-41" for row in rows))
    assert {row["outcome"] for row in rows if row["event"] in {"ITI-41", "ITI-42"}} == {"8"}


def test_an_unknown_document_is_refused(dossier_server, tmp_path):
    with pytest.raises(CommandError, match=r"ended with 1: .*XDSDocumentUniqueIdError"):
        dossier_server.run("fetch", "2.25.1", "--out", str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_every_service_is_alive_and_ready_and_counts(dossier_server):
    for base in dossier_server.admin.values():
        for path in ("/health/live", "/health/ready", "/metrics"):
            with urlopen(base + path, timeout=10) as answer:
                assert answer.status == 200


def test_wsdl_is_served(dossier_server):
    for url in (dossier_server.registry, dossier_server.repository):
        with urlopen(url + "?wsdl", timeout=10) as answer:
            assert url.encode() in answer.read()


def test_the_second_server_on_the_same_ports_says_so_and_ends_with_2(dossier_server, tmp_path):
    with pytest.raises(CommandError) as caught:
        dossier_server.run_plain("serve", "all", "--data", str(tmp_path))
    lines = str(caught.value).splitlines()
    assert "ended with 2" in lines[0]
    assert any("registry.listen: cannot listen on 127.0.0.1" in line and "in use" in line for line in lines)


@pytest.mark.parametrize("service", ["registry", "repository", "audit"])
def test_a_killed_worker_is_back_and_nothing_is_lost(dossier_server, patient, report, tmp_path, service):
    before = submit(dossier_server, report, patient)
    for pid in workers_of(dossier_server, f"{service}-"):
        os.kill(pid, signal.SIGKILL)
    after = submit(dossier_server, report, patient)
    found = {row["unique_id"] for row in dossier_server.run("find", "--patient", patient)}
    assert found == {before["unique_id"], after["unique_id"]}
    rows = audit(dossier_server, patient, lambda rows: sum(row["event"] == "ITI-41" for row in rows) == 2)
    assert sum(row["event"] == "ITI-41" for row in rows) == 2


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="this machine has one processor")
@pytest.mark.parametrize("service", ["registry", "repository", "gateway", "audit"])
def test_a_worker_keeps_to_one_processor(dossier_server, patient, report, service):
    submit(dossier_server, report, patient)
    (pid,) = workers_of(dossier_server, f"{service}-1")
    assert len(os.sched_getaffinity(pid)) == 1
    assert any(len(kept_at(pid)) == 1 for _ in range(3)), "while it moves it may be seen at two"
    (single,) = workers_of(dossier_server, f"{service}-single")
    assert len(os.sched_getaffinity(single)) == len(os.sched_getaffinity(0))


def kept_at(pid):
    """The processors that threads of a process are kept to, without those that may run anywhere."""
    where = [os.sched_getaffinity(int(task.name)) for task in Path(f"/proc/{pid}/task").iterdir()]
    return {at for one in where if len(one) == 1 for at in one}


def workers_of(server, prefix):
    """Process ids from the server's own log lines: the last one started under each name."""
    last = {}
    for line in (server.data / "server.log").read_text().splitlines():
        words = dict(word.split("=", 1) for word in line.split() if "=" in word)
        if "child_pid" in words and words.get("child", "").startswith(prefix):
            last[words["child"]] = int(words["child_pid"])
    return list(last.values())
