"""Kept connections of the short way to PostgreSQL: lent while their server is there, closed when nobody wants them."""

import threading

import psycopg
import pytest
from sqlalchemy import column, select, text

from atna.store import quick
from atna.store.engine import new_engine
from atna.store.prepared import Prepared
from atna.store.quick import Quick
from tests.postgres import postgres_server, postgres_url, restartable  # noqa: F401 - fixtures


def short_way(url):
    engine = new_engine(url)
    return Quick(engine), Prepared(select(column("pid")).select_from(text("pg_backend_pid() AS pid")), engine.dialect)


@pytest.fixture
def lent(postgres_url):  # noqa: F811 - the fixture imported above
    kept, backend = short_way(postgres_url)
    yield kept, lambda: kept.select(backend, {})[0][0]
    kept.close()


def many_at_once(kept, count):
    """So many statements that wait for each other, and therefore have a connection each."""
    together = threading.Barrier(count)

    def run():
        kept._with_connection(lambda connection: (together.wait(30), connection.execute("SELECT 1")))

    threads = [threading.Thread(target=run) for _ in range(count)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()


def test_a_connection_is_kept(lent):
    kept, backend = lent
    assert backend() == backend()
    assert len(kept._idle) == 1


def test_those_nobody_wanted_for_a_while_are_closed(lent):
    kept, backend = lent
    many_at_once(kept, 5)
    backend()
    assert len(kept._idle) == 5
    kept._idle[:] = [(connection, since - quick.REST_S - 1) for connection, since in kept._idle]
    idle = [connection for connection, _ in kept._idle]
    backend()
    assert [connection.closed for connection in idle] == [True] * 4 + [False]
    assert [connection for connection, _ in kept._idle] == idle[4:]


def test_more_than_are_kept_are_closed(lent, monkeypatch):
    kept, _ = lent
    monkeypatch.setattr(quick, "_MOST_IDLE", 3)
    many_at_once(kept, 5)
    assert len(kept._idle) == 3


def test_a_server_that_vanished_without_a_word_is_found_out_by_asking(restartable, monkeypatch):  # noqa: F811
    """What may not be sent twice would fail on each connection that was kept over it."""
    kept, backend = short_way(restartable.url())
    (before,) = kept.change(backend, {})
    restartable.terminate()
    monkeypatch.setattr(quick, "has_something_to_say", lambda _connection: False)
    with pytest.raises(psycopg.OperationalError):
        kept.change(backend, {})
    kept.change(backend, {})
    restartable.terminate()
    monkeypatch.setattr(quick, "IDLE_PING_S", 0.0)
    (after,) = kept.change(backend, {})
    assert after != before
    kept.close()
