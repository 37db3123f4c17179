"""Opening databases: pragmas, schema versions, transactions, races, full disks, on SQLite and PostgreSQL."""

import sqlite3
import stat
import threading
import time

import psycopg
import pytest
from sqlalchemy import Column, Integer, MetaData, Table, Text, insert, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from atna.store.engine import (
    DatabaseRefused,
    begin_write,
    is_disk_full,
    is_lost_race,
    is_unavailable,
    open_engine,
    reading,
    write,
)
from tests.postgres import postgres_server, postgres_url  # noqa: F401 - fixtures


def schema(room="room", version=1):
    metadata = MetaData(info={"room": room, "version": version})
    Table(
        "thing", metadata, Column("key", Integer, primary_key=True), Column("name", Text, unique=True, nullable=False)
    )
    return metadata


THING = schema().tables["thing"]


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'folder' / 'one.db'}"
    return request.getfixturevalue("postgres_url")


@pytest.fixture
def opened(url):
    engines = []

    def open_one(**how):
        metadata = how.pop("metadata", schema())
        engines.append(open_engine(url, metadata, **how))
        return engines[-1]

    yield open_one
    for engine in engines:
        engine.dispose()


@pytest.fixture
def file(tmp_path):
    return f"sqlite:///{tmp_path / 'one.db'}"


def names(engine):
    with reading(engine) as connection:
        return connection.execute(select(THING.c.name).order_by(THING.c.key)).scalars().all()


def add(engine, name):
    with begin_write(engine) as connection:
        connection.execute(insert(THING).values(name=name))


def test_a_write_is_kept_and_a_failed_one_is_not(opened):
    engine = opened()
    add(engine, "kept")
    with pytest.raises(ZeroDivisionError), begin_write(engine) as connection:
        connection.execute(insert(THING).values(name="gone"))
        raise ZeroDivisionError
    assert names(engine) == ["kept"]
    assert names(opened()) == ["kept"]


def test_a_reader_sees_one_state(opened):
    engine = opened()
    add(engine, "first")
    count = text("SELECT count(*) FROM thing")
    with reading(engine) as connection:
        assert connection.execute(count).scalar() == 1
        add(engine, "second")
        assert connection.execute(count).scalar() == 1
    assert names(engine) == ["first", "second"]


def test_a_taken_name_is_a_lost_race(opened):
    engine = opened()
    add(engine, "one")
    with pytest.raises(IntegrityError) as caught:
        add(engine, "one")
    assert is_lost_race(caught.value)
    assert not is_disk_full(caught.value) and not is_unavailable(caught.value)


def test_an_error_does_not_tell_the_values_of_its_statement(opened):
    engine = opened()
    add(engine, "one")
    with pytest.raises(IntegrityError) as caught:
        add(engine, "one")
    assert "parameters hidden" in str(caught.value)


def test_a_missing_value_is_our_defect_and_no_race(opened):
    with pytest.raises(IntegrityError) as caught:
        add(opened(), None)
    assert not is_lost_race(caught.value)


@pytest.mark.parametrize("wrapped", [True, False], ids=["by SQLAlchemy", "bare"])
def test_write_runs_the_work_again_after_a_lost_race(opened, wrapped):
    engine, seen = opened(), []

    def work(connection):
        taken = connection.execute(select(THING.c.name)).scalars().all()
        seen.append(taken)
        if len(seen) == 1:
            lost = lost_race(engine)
            raise DBAPIError.instance("", {}, lost, Exception) if wrapped else lost
        connection.execute(insert(THING).values(name=f"after {len(seen)}"))
        return len(seen)

    assert write(engine, work) == 2
    assert names(engine) == ["after 2"]


def lost_race(engine):
    """The driver's own error for a name that is taken."""
    add(engine, "x")
    try:
        add(engine, "x")
    except IntegrityError as error:
        return error.orig
    finally:
        with begin_write(engine) as connection:
            connection.execute(text("DELETE FROM thing"))


def test_write_gives_up_after_a_while(opened):
    engine, tries = opened(), []
    add(engine, "one")

    def work(connection):
        tries.append(1)
        connection.execute(insert(THING).values(name="one"))

    with pytest.raises(IntegrityError):
        write(engine, work)
    assert 1 < len(tries) < 10


def test_parallel_writers_all_come_through(opened):
    engine = opened()

    def work(number):
        for n in range(20):
            add(engine, f"{number}-{n}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(names(engine)) == 120


def test_first_openings_at_once_make_one_schema(url):
    engines, failed = [], []
    together = threading.Barrier(5)

    def open_it():
        together.wait()
        try:
            engines.append(open_engine(url, schema()))
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=open_it) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failed == [] and len(engines) == 5
    add(engines[0], "one")
    assert names(engines[4]) == ["one"]
    for engine in engines:
        engine.dispose()


# ------------------------------------------------------------------------------------------ what is refused


def test_a_newer_schema_and_an_older_one_are_refused(opened):
    opened(metadata=schema(version=3))
    with pytest.raises(DatabaseRefused, match="version 3, this program knows 2"):
        opened(metadata=schema(version=2))
    with pytest.raises(DatabaseRefused, match=r"version 3, this program needs 4; .*dossier db upgrade"):
        opened(metadata=schema(version=4))


def test_a_database_of_another_room_is_refused(opened):
    opened()
    with pytest.raises(DatabaseRefused, match="belongs to room; other needs"):
        opened(metadata=schema("other"))


@pytest.mark.parametrize("read_only", [False, True], ids=["to write", "to read"])
def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path, read_only):
    file = tmp_path / "x.db"
    file.write_bytes(b"no database " * 100)
    with pytest.raises(DatabaseRefused, match=r"^database file .*/x\.db: it is no SQLite database$"):
        open_engine(f"sqlite:///{file}", schema(), read_only=read_only)
    assert file.read_bytes() == b"no database " * 100


def test_reading_only_creates_and_writes_nothing(opened):
    with pytest.raises(DatabaseRefused, match="opened for reading only"):
        opened(read_only=True)
    add(opened(), "one")
    replica = opened(read_only=True)
    assert names(replica) == ["one"]
    with pytest.raises(DatabaseRefused):
        add(replica, "two")
    with pytest.raises(DBAPIError), reading(replica) as connection:
        connection.execute(insert(THING).values(name="two"))


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "mysql://u:secret@h/d", "sqlite:////proc/no/x.db"])
def test_an_address_that_cannot_work(url):
    with pytest.raises(DatabaseRefused) as caught:
        open_engine(url, schema())
    assert "secret" not in str(caught.value)


def test_nobody_answers():
    with pytest.raises(OperationalError) as caught:
        open_engine("postgresql+psycopg://u:p@127.0.0.1:1/d", schema())
    assert is_unavailable(caught.value)
    assert not is_lost_race(caught.value) and not is_disk_full(caught.value)


# ------------------------------------------------------------------------------------------ SQLite


def test_acknowledged_means_durable(file):
    engine = open_engine(file, schema())
    with reading(engine) as connection:
        asked = {name: connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in PRAGMAS}
    assert asked == PRAGMAS
    engine.dispose()


PRAGMAS = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 5000}


def test_like_tells_capitals_apart(opened):
    engine = opened()
    add(engine, "Müller")
    with reading(engine) as connection:
        found = [connection.execute(select(THING).where(THING.c.name.like(p))).all() for p in ("M%", "m%", "M_ller")]
    assert [len(rows) for rows in found] == [1, 0, 1]


def test_only_the_owner_reads_the_file(tmp_path):
    engine = open_engine(f"sqlite:///{tmp_path / 'new' / 'one.db'}", schema())
    add(engine, "one")
    for path in (tmp_path / "new").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    engine.dispose()


def test_a_writer_of_another_process_is_waited_for_and_then_named_busy(file, monkeypatch, tmp_path):
    monkeypatch.setattr("atna.store.engine.BUSY_TIMEOUT_S", 0.2)
    engine = open_engine(file, schema())
    other = sqlite3.connect(tmp_path / "one.db", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    began = time.monotonic()
    with pytest.raises(OperationalError) as caught:
        add(engine, "one")
    assert time.monotonic() - began >= 0.15
    assert is_lost_race(caught.value) and is_unavailable(caught.value)
    threading.Timer(0.1, lambda: other.execute("ROLLBACK")).start()
    add(engine, "two")
    assert names(engine) == ["two"]
    other.close()
    engine.dispose()


def test_a_full_database_is_named_and_goes_on_reading(file):
    engine = open_engine(file, schema())
    add(engine, "one")
    with pytest.raises(OperationalError) as caught, begin_write(engine) as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")
        connection.execute(insert(THING).values(name="x" * 100_000))
    assert is_disk_full(caught.value)
    assert not is_lost_race(caught.value) and not is_unavailable(caught.value)
    assert names(engine) == ["one"]
    engine.dispose()


def test_no_connection_free_in_time_is_unavailable():
    assert is_unavailable(PoolTimeout("QueuePool limit"))


# ------------------------------------------------------------------------------------------ PostgreSQL


def test_a_connection_the_server_ended_is_replaced_after_a_pause(postgres_url, monkeypatch):  # noqa: F811
    monkeypatch.setattr("atna.store.engine.IDLE_PING_S", 0.0)
    engine = open_engine(postgres_url, schema())
    add(engine, "one")
    killer = open_engine(postgres_url, schema())
    with begin_write(killer) as connection:
        connection.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
                " AND datname = current_database()"
            )
        )
    add(engine, "two")
    assert names(engine) == ["one", "two"]
    engine.dispose()
    killer.dispose()


def test_a_connection_that_dies_under_work_is_unavailable(postgres_url):  # noqa: F811
    engine = open_engine(postgres_url, schema())
    with pytest.raises(DBAPIError) as caught, begin_write(engine) as connection:
        connection.execute(insert(THING).values(name="one"))
        connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
    assert is_unavailable(caught.value) and not is_lost_race(caught.value)
    assert names(engine) == []
    engine.dispose()


def test_commits_wait_for_the_disk(postgres_url):  # noqa: F811
    engine = open_engine(postgres_url, schema())
    with reading(engine) as connection:
        asked = [connection.exec_driver_sql(f"SHOW {name}").scalar() for name in ("synchronous_commit", "timezone")]
    assert asked == ["on", "UTC"]
    engine.dispose()


def test_a_bare_connection_failure_of_the_driver_is_an_outage():
    assert is_unavailable(psycopg.OperationalError("server closed the connection unexpectedly"))
    assert not is_unavailable(psycopg.errors.UniqueViolation("twice"))
