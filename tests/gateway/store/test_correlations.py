"""What a gateway remembers of patients in other communities, on both engines."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import func, select

from atna.store.engine import reading
from gateway.store import sql
from gateway.store.sql import open_store
from gateway.store.tables import correlation

HOME, OTHER = "urn:oid:1.2.250.1", "urn:oid:1.2.276.1"
OURS, ELSE = "7^^^&1.2.3&ISO", "8^^^&1.2.3&ISO"
THEIRS = ("A7^^^&1.2.250.2&ISO", "B7^^^&1.2.250.2&ISO")


@pytest.fixture
def store(database_url):
    made = open_store(database_url, ["http://127.0.0.1:1/records"], 9)
    yield made
    made.close()


def test_an_answer_is_remembered_until_it_expires(store):
    assert store.remembered(HOME, OURS, 10) is None
    store.remember(HOME, OURS, THEIRS, 10, 20)
    assert store.remembered(HOME, OURS, 19) == (THEIRS, 20)
    assert store.remembered(HOME, OURS, 20) is None
    assert store.remembered(OTHER, OURS, 10) is None
    assert store.remembered(HOME, ELSE, 10) is None


def test_that_nobody_was_found_is_remembered_too(store):
    store.remember(HOME, OURS, (), 10, 20)
    assert store.remembered(HOME, OURS, 11) == ((), 20)


def test_a_new_answer_takes_the_place_of_an_older_one(store):
    store.remember(HOME, OURS, THEIRS, 10, 20)
    store.remember(HOME, OURS, THEIRS[:1], 11, 30)
    assert store.remembered(HOME, OURS, 25) == (THEIRS[:1], 30)


def test_what_expired_does_not_pile_up(store, monkeypatch):
    monkeypatch.setattr(sql, "DROPPED_AT_ONCE", 2)
    for number in range(5):
        store.remember(HOME, f"{number}{OURS}", THEIRS, 10, 20)
    store.remember(HOME, OURS, THEIRS, 30, 40)
    assert rows(store) == 4
    store.remember(HOME, ELSE, THEIRS, 30, 40)
    store.remember(OTHER, ELSE, THEIRS, 30, 40)
    assert rows(store) == 3


def rows(store):
    with reading(store._engine) as connection:
        return connection.execute(select(func.count()).select_from(correlation)).scalar_one()


def test_many_may_remember_the_same_at_once(store):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: store.remember(HOME, OURS, THEIRS, 10, 100 + number), range(16)))
    assert store.remembered(HOME, OURS, 99).found == THEIRS
    assert rows(store) == 1
