"""The processes of a repository as the supervisor starts them."""

import http.client
import json
import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import pytest

from atna.settings import AuditSettings
from dossier.demo import free_base_port
from ihe import vocabulary as v
from repository import app
from repository.settings import RepositorySettings
from repository.store.directory import DirectoryStore
from repository.store.keyring import new_line, open_keyring
from repository.store.protocol import StoreRefused, StoreUnavailable
from repository.store.scrub_book import Finding
from repository.store.sql import SqlIndex, open_index
from repository.sweep import Report
from tests.builders import submission
from tests.repository.scanner.servers import Scripted, clamd_answer, free_port
from tests.repository.stand import (
    ScriptedRegistry,
    post,
    provide,
    retrieve,
    retrieve_xml,
    served,
    settings_for,
    unique_ids,
)
from wire.settings import AffinityDomainSettings, LimitSettings, TlsSettings

ROOT = Path(__file__).parents[2]


@contextmanager
def running(function, name, settings, **domain):
    listener = socket.create_server(("127.0.0.1", 0))
    started, stop = threading.Event(), threading.Event()
    thread = threading.Thread(
        target=function,
        args=(settings, AffinityDomainSettings(**domain), AuditSettings(), TlsSettings(), LimitSettings(drain_s=1)),
        kwargs={"sockets": {name: listener}, "started": started.set, "stop": stop},
    )
    port = listener.getsockname()[1]
    thread.start()
    assert started.wait(20)
    yield port
    stop.set()
    thread.join(20)
    assert not thread.is_alive()


def get(port, path):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_a_worker_serves_both_transactions_and_its_wsdl(tmp_path):
    objects = submission()
    with served(ScriptedRegistry(), "/registry", name="registry") as registry_url:
        with running(app.worker, "soap", settings_for(tmp_path, registry_url)) as port:
            address = f"http://127.0.0.1:{port}/repository"
            assert provide(address, objects).status == "Success"
            assert len(retrieve(address, *unique_ids(objects)).documents()) == 1
            status, wsdl = get(port, "/repository?wsdl")
            assert status == 200
            assert address.encode() in wsdl


def test_a_database_that_takes_no_record_of_the_start_keeps_nobody_from_sweeping(tmp_path, monkeypatch):
    def full(_self, _messages):
        raise StoreUnavailable("no room left in the database", full=True)

    monkeypatch.setattr(SqlIndex, "record_alone", full)
    with running(app.single, "admin", settings_for(tmp_path, "http://127.0.0.1:9/registry")) as port:
        assert get(port, "/health/live")[0] == 200


@pytest.mark.parametrize(("strictness", "status"), [("reject", 400), ("warn", 200)])
def test_a_missing_action_is_a_question_of_strictness(tmp_path, strictness, status):
    settings = settings_for(tmp_path, "http://127.0.0.1:9/registry")
    envelope = f'<s:Envelope xmlns:s="{v.SOAP12}"><s:Body>'.encode() + retrieve_xml("1.2") + b"</s:Body></s:Envelope>"
    with running(app.worker, "soap", settings, strictness=strictness) as port:
        assert post(f"http://127.0.0.1:{port}/repository", "application/soap+xml", envelope).http_status == status


def test_the_single_child_is_ready_sweeps_and_says_when_it_starts_and_stops(tmp_path):
    settings = settings_for(tmp_path, "http://127.0.0.1:9/registry", sweep_interval_s=0.1)
    with running(app.single, "admin", settings) as port:
        status, body = get(port, "/health/ready")
        assert status == 200
        assert json.loads(body)["checks"] == {"database": "ok", "store": "ok", "outbox": "ok"}
        until(lambda: last_full_pass(port) > 0)
    index = open_index(settings.database_url, AuditSettings().sinks, 10)
    sent = [row.message for row in index.outbox.claim(AuditSettings().sinks[0], 10)]
    index.close()
    assert [b"110120" in message for message in sent] == [True, False]
    assert [b"110121" in message for message in sent] == [False, True]


def last_full_pass(port):
    status, text = get(port, "/metrics")
    assert status == 200
    (line,) = (one for one in text.splitlines() if one.startswith(b"dossier_scrub_last_full_pass_timestamp_seconds "))
    return float(line.split()[1])


def until(holds, seconds=20):
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def began(folder):
    """The database that a repository makes when it first starts."""
    open_index(f"sqlite:///{folder}/repository.db", (), 10).close()


@pytest.mark.parametrize("unanswered", [0, 3])
def test_a_sweep_by_hand_that_got_no_answer_ends_with_1(tmp_path, run_command, monkeypatch, unanswered):
    """Told all the same: what was answered is done."""

    def swept(*_arguments, **_named):
        return Report(completed=2, unanswered=unanswered)

    monkeypatch.setattr(app, "sweep_once", swept)
    began(tmp_path)
    status, out, _err = run_command("store", "sweep", "--data", str(tmp_path), "--json")
    assert status == (1 if unanswered else 0)
    assert json.loads(out) == asdict(Report(completed=2, unanswered=unanswered))


def test_orphans_are_removed_by_hand_when_their_number_is_said(tmp_path, run_command):
    store = DirectoryStore(tmp_path / "documents")
    for key in ("1" * 32, "2" * 32):
        store.begin(key).finish()
        os.utime(store._object(key), (0, 0))
    began(tmp_path)
    for said, removed in (("0", 0), ("1", 0), ("2", 2)):
        arguments = ("store", "sweep", "--data", str(tmp_path), "--remove-orphans", said, "--json")
        status, out, _err = run_command(*arguments)
        assert status == 0
        assert (json.loads(out)["orphans"], json.loads(out)["orphans_removed"]) == (2, removed)
    assert list(store.objects()) == []


def test_the_single_child_says_that_nothing_is_scanned_or_whether_the_scanner_answers(tmp_path, caplog):
    settings = settings_for(tmp_path, "http://127.0.0.1:9/registry")
    with running(app.single, "admin", settings) as port:
        assert "notes" not in json.loads(get(port, "/health/ready")[1])
    assert "documents are not scanned for malware (repository.scanner is none)" in caplog.messages
    caplog.clear()
    with Scripted(clamd_answer(b"PONG\0", end=b"zPING\0")) as scanner:
        asked = settings.model_copy(update={"scanner": f"clamd://127.0.0.1:{scanner.port}"})
        with running(app.single, "admin", asked) as port:
            assert json.loads(get(port, "/health/ready")[1])["notes"] == {"scanner": "ok"}
            assert scanner.heads == [b"zPING\0"]
    gone = settings.model_copy(update={"scanner": f"clamd://127.0.0.1:{free_port()}"})
    with running(app.single, "admin", gone) as port:
        status, body = get(port, "/health/ready")
        assert (status, json.loads(body)["notes"]) == (200, {"scanner": "failed"})
    assert not [message for message in caplog.messages if "not scanned" in message]


def test_the_single_child_tells_of_a_key_file_that_went_wrong_while_nobody_calls(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(app, "KEYS_EVERY_S", 0.05)
    keys = tmp_path / "keys"
    keys.write_text(new_line("first"))
    settings = settings_for(tmp_path, "http://127.0.0.1:9/registry", keyring=keys)
    with running(app.single, "admin", settings) as port:
        assert json.loads(get(port, "/health/ready")[1])["notes"] == {"keyring": "ok"}
        keys.write_text("# emptied\n")
        until(lambda: any("there is no key" in message for message in caplog.messages))
        assert b"\ndossier_keyring_stale 1.0" in get(port, "/metrics")[1]
        status, body = get(port, "/health/ready")
        assert (status, json.loads(body)["notes"]) == (200, {"keyring": "failed"})


def test_a_worker_follows_a_rotation_that_it_slept_through(tmp_path, monkeypatch):
    monkeypatch.setattr(app, "KEYS_EVERY_S", 0.05)
    rings = []
    opened = app.open_keyring
    monkeypatch.setattr(app, "open_keyring", lambda *arguments: rings.append(opened(*arguments)) or rings[-1])
    keys = tmp_path / "keys"
    keys.write_text(new_line("first"))
    with running(app.worker, "soap", settings_for(tmp_path, "http://127.0.0.1:9/registry", keyring=keys)):
        with keys.open("a") as out:
            out.write(new_line("second"))
        until(lambda: set(rings[0]._found) == {"first", "second"})


def test_keys_that_are_not_at_hand_are_named_at_the_start(tmp_path, caplog):
    keys = tmp_path / "keys"
    keys.write_text(new_line("first"))
    settings = settings_for(tmp_path, "http://127.0.0.1:9/registry", keyring=keys)
    index = open_index(settings.database_url, AuditSettings().sinks, 10)
    index.stage("a" * 32, 0, open_keyring(keys, None).wrap(b"d" * 32, "a" * 32))
    index.close()
    keys.write_text(new_line("another"))
    with running(app.single, "admin", settings):
        until(
            lambda: "key first is not in the key file; documents that cannot be read without it: 1" in caplog.messages
        )


def test_a_worker_asks_the_scanner_of_its_settings(tmp_path):
    with served(ScriptedRegistry(), "/registry", name="registry") as registry_url:
        with Scripted(clamd_answer(b"stream: Some.Thing FOUND\0")) as scanner:
            settings = settings_for(tmp_path, registry_url, scanner=f"clamd://127.0.0.1:{scanner.port}")
            with running(app.worker, "soap", settings) as port:
                assert provide(f"http://127.0.0.1:{port}/repository", submission()).codes == ["InvalidDocumentContent"]


def test_a_sweep_by_hand(tmp_path):
    settings = settings_for(tmp_path, "http://127.0.0.1:9/registry")
    report = app.sweep_once(settings, AffinityDomainSettings(), AuditSettings(), TlsSettings())
    assert report.quiet


def test_a_database_of_another_room_is_refused(tmp_path):
    from sqlalchemy import MetaData

    from atna.store.engine import DatabaseRefused, open_engine

    url = f"sqlite:///{tmp_path}/repository.db"
    open_engine(url, MetaData(info={"room": "registry", "version": 1})).dispose()
    settings = RepositorySettings(database_url=url, store=(tmp_path / "documents").as_uri())
    with pytest.raises(DatabaseRefused):
        app.sweep_once(settings, AffinityDomainSettings(), AuditSettings(), TlsSettings())


# --------------------------------------------------------------------------------- a directory that is not there


@pytest.fixture
def unmounted(tmp_path):
    """(settings, where the documents are): a repository with a document, and its folder of documents elsewhere."""
    with served(ScriptedRegistry(), "/registry", name="registry") as registry:
        settings = settings_for(tmp_path, registry)
        with running(app.worker, "soap", settings) as port:
            assert provide(f"http://127.0.0.1:{port}/repository", submission()).status == "Success"
    (tmp_path / "documents").rename(tmp_path / "elsewhere")
    return settings, tmp_path / "elsewhere"


@pytest.mark.parametrize("mount_point", [True, False])
def test_a_folder_of_documents_that_is_not_there_is_not_made_anew(tmp_path, unmounted, mount_point, run_command):
    settings, elsewhere = unmounted
    if mount_point:
        (tmp_path / "documents").mkdir()
    with pytest.raises(StoreRefused, match=r"documents: there is none, but the database knows documents .* mount"):
        app.sweep_once(settings, AffinityDomainSettings(), AuditSettings(), TlsSettings())
    status, _out, err = run_command("store", "scrub", "--data", str(tmp_path))
    assert (status, len(err.splitlines())) == (1, 1)
    assert not list(tmp_path.glob("documents/*"))
    if mount_point:
        (tmp_path / "documents").rmdir()
    elsewhere.rename(tmp_path / "documents")
    assert app.scrub_once(settings, AffinityDomainSettings(), AuditSettings(), TlsSettings()).right


def test_documents_that_are_lost_are_told_once_the_operator_made_their_folder(tmp_path, unmounted):
    settings, _ = unmounted
    (tmp_path / "documents" / "objects").mkdir(parents=True)
    report = app.scrub_once(settings, AffinityDomainSettings(), AuditSettings(), TlsSettings())
    assert [one.finding for one in report.damaged] == [Finding.MISSING]


def test_a_place_that_takes_no_folders_ends_the_start_with_one_line(tmp_path):
    (tmp_path / "documents").mkdir()
    (tmp_path / "documents" / "objects").write_text("no folder")
    command = [sys.executable, "-m", "dossier", "serve", "repository", "--data", str(tmp_path)]
    ended = subprocess.run(
        [*command, "--base-port", str(free_base_port())], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 2
    assert f"settings cannot work: document store {tmp_path}/documents/objects: File exists" in ended.stderr
    assert "Traceback" not in ended.stderr
