"""The processes of a repository as the supervisor starts them."""

import http.client
import json
import socket
import threading
from contextlib import contextmanager

import pytest

from atna.settings import AuditSettings
from ihe import vocabulary as v
from repository import app
from repository.settings import RepositorySettings
from repository.store.sql import open_index
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
        assert get(port, "/metrics")[0] == 200
    index = open_index(settings.database_url, AuditSettings().sinks, 10)
    sent = [row.message for row in index.outbox.claim(AuditSettings().sinks[0], 10)]
    index.close()
    assert [b"110120" in message for message in sent] == [True, False]
    assert [b"110121" in message for message in sent] == [False, True]


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
