"""Log lines: environment in each, nothing about a patient in any."""

import json
import logging

import pytest
import structlog
from sqlalchemy import create_engine

from dossier.logs import HIDDEN, redact, set_up_logging
from dossier.settings import AdminSettings


@pytest.fixture
def lines(capsys):
    root = logging.getLogger()
    before, level = root.handlers[:], root.level

    def read():
        return [json.loads(line) for line in capsys.readouterr().err.splitlines()]

    yield read
    root.handlers[:] = before
    root.setLevel(level)
    structlog.reset_defaults()


def test_each_line_says_environment_and_process(lines):
    set_up_logging(AdminSettings(log_format="json"), environment="production", process="registry-1")
    logging.getLogger("registry").info("ready after %s ms", 12)
    structlog.get_logger("wire").warning("slow", took_ms=900)
    plain, structured = lines()
    assert (plain["event"], plain["environment"], plain["process"]) == ("ready after 12 ms", "production", "registry-1")
    assert (structured["event"], structured["took_ms"], structured["environment"]) == ("slow", 900, "production")
    assert plain["level"] == "info"
    assert plain["timestamp"].endswith("Z")


def test_text_format_is_one_line(capsys, lines):
    set_up_logging(AdminSettings(log_format="text"), environment="test", process="p")
    logging.getLogger("x").info("two\nlines")
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "environment=test" in err


def test_the_level_counts(lines):
    set_up_logging(AdminSettings(log_format="json", log_level="warning"), environment="test", process="p")
    logging.getLogger("x").info("no")
    logging.getLogger("x").warning("yes")
    assert [line["event"] for line in lines()] == ["yes"]


def test_a_pool_says_nothing_of_what_it_could_not_close(lines):
    set_up_logging(AdminSettings(log_format="json"), environment="test", process="p")
    pool = create_engine("postgresql+psycopg://nobody@127.0.0.1:1/none").pool
    try:
        raise OSError
    except OSError:
        pool.logger.exception("Error closing cursor")  # as SQLAlchemy does
    assert lines() == []


def test_patients_stay_out(lines):
    set_up_logging(AdminSettings(log_format="json"), environment="test", process="p")
    logging.getLogger("x").info("unknown %s, refused", "P-77^^^&1.2.3&ISO")
    logging.getLogger("x").info("message", extra={"patient_id": "P-77", "family": "Mustermann"})
    try:
        raise ValueError("PID|1||P-77^^^X||Mustermann^Léonie")
    except ValueError:
        logging.getLogger("x").exception("bad")
    text = json.dumps(lines(), ensure_ascii=False)
    assert "P-77" not in text
    assert "Mustermann" not in text
    assert HIDDEN in text


def test_statements_and_their_parameters_stay_out():
    event = {
        "event": "x",
        "exception": "IntegrityError: (sqlite3) UNIQUE\n[SQL: INSERT INTO patient]\n[parameters: ('Muster',)]\n",
    }
    assert "Muster" not in redact(None, "", event)["exception"]


def test_nested_values_are_looked_at():
    out = redact(None, "", {"event": "x", "peer": {"name": "Muster", "port": 1}, "ids": ["A^^^&1.2&ISO", "b"]})
    assert out["peer"] == {"name": HIDDEN, "port": 1}
    assert out["ids"] == [HIDDEN, "b"]
