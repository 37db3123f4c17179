"""The admin port: alive, ready, counted."""

import time

import pytest
from prometheus_client import CollectorRegistry, Counter
from starlette.testclient import TestClient

from wire import admin


@pytest.fixture
def ask():
    def get(checks, path):
        with TestClient(admin.admin_app(checks)) as client:
            return client.get(path)

    return get


def test_live_answers_whatever_the_checks_say(ask):
    answer = ask({"database": lambda: False}, "/health/live")
    assert answer.status_code == 200
    assert answer.json()["status"] == "live"


def test_ready_when_every_check_holds(ask):
    answer = ask({"database": lambda: True, "outbox": lambda: True}, "/health/ready")
    assert answer.status_code == 200
    assert answer.json() == {"status": "ready", "checks": {"database": "ok", "outbox": "ok"}}


def test_a_failing_check_is_named_and_the_others_too(ask):
    answer = ask({"database": lambda: False, "outbox": lambda: True}, "/health/ready")
    assert answer.status_code == 503
    assert answer.json()["checks"] == {"database": "failed", "outbox": "ok"}


def test_a_raising_check_is_not_ready_and_its_words_stay_inside(ask):
    def broken():
        raise OSError("password=secret")

    answer = ask({"database": broken}, "/health/ready")
    assert answer.status_code == 503
    assert "secret" not in answer.text


def test_a_slow_check_is_bounded(ask, monkeypatch):
    monkeypatch.setattr(admin, "CHECK_TIMEOUT_S", 0.05)
    answer = ask({"database": lambda: time.sleep(0.3) or True}, "/health/ready")
    assert answer.status_code == 503


def test_metrics_of_one_process(ask, monkeypatch):
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    registry = CollectorRegistry()
    Counter("dossier_test_requests", "Requests of this test", registry=registry).inc(3)
    monkeypatch.setattr(admin, "REGISTRY", registry)
    assert "dossier_test_requests_total 3.0" in ask({}, "/metrics").text


def test_there_is_nothing_else(ask):
    assert ask({}, "/").status_code == 404


def test_a_note_is_shown_and_stops_nothing():
    app = admin.admin_app({"database": lambda: True}, notes={"code_file": lambda: False, "other": lambda: True})
    with TestClient(app) as client:
        answer = client.get("/health/ready")
    assert answer.status_code == 200
    assert answer.json() == {
        "status": "ready",
        "checks": {"database": "ok"},
        "notes": {"code_file": "failed", "other": "ok"},
    }
