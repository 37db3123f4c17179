"""A submission claimed and completed in one statement each; PostgreSQL, whose connections may end in between."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import event, text

from atna.store import quick
from repository.store.protocol import State, StoreUnavailable, Superseded
from repository.store.sql import open_index
from tests.postgres import postgres_server, postgres_url, restartable  # noqa: F401 - fixtures
from tests.repository.store.test_sql import document, submission, waiting
from tests.wire.soap_peer import eventually

SINK = "http://127.0.0.1:8040/records"


@pytest.fixture
def index(postgres_url):  # noqa: F811 - the fixture imported above
    opened = open_index(postgres_url, [SINK], 100)
    yield opened
    opened.close()


@pytest.fixture
def fragile(restartable):  # noqa: F811 - the fixture imported above
    opened = open_index(restartable.url(), [SINK], 100)
    yield opened
    opened.close()


@pytest.fixture
def begun(index):
    """Transactions that wrote, as a list that grows."""
    found = []

    @event.listens_for(index._engine, "begin")
    def _begin(connection):
        if "dossier_write" in connection.get_execution_options():
            found.append(connection)

    return found


def test_what_nothing_stands_in_the_way_of_needs_no_transaction(index, begun):
    assert index.claim(submission(), [document("1"), document("2")]) is None
    done = index.complete(submission(), b"<answer/>", [b"m"], 2000, anyway=[b"a"])
    assert (done.state, done.attempt, done.answer) == (State.AVAILABLE, "a", b"<answer/>")
    assert begun == []
    assert index.submission("1.2.3") == done
    assert waiting(index) == [b"a", b"m"]
    assert [(one.state, one.since) for one in index.documents_of("1.2.3")] == [(State.AVAILABLE, 2000)] * 2


def test_many_claims_of_one_set_are_one(index):
    def claim(attempt):
        return index.claim(submission(attempt=attempt), [document(attempt, attempt)])

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(claim, "abcdefgh"))
    (winner,) = {one.attempt for one in answers if one is not None}
    assert answers.count(None) == 1
    assert [one.attempt for one in index.documents_of("1.2.3")] == [winner]


def test_many_completions_of_one_set_are_one(index):
    for attempt in "abcd":
        index.claim(submission(attempt=attempt), [document(attempt, attempt)], replacing=index.submission("1.2.3"))

    def complete(attempt):
        return index.complete(submission(attempt=attempt), b"<answer/>", [b"m"], 2000, anyway=[b"a"]).attempt

    with ThreadPoolExecutor(4) as threads:
        (winner,) = set(threads.map(complete, "abcd"))
    available = [one.attempt for one in index.documents_of("1.2.3") if one.state is State.AVAILABLE]
    assert available == [winner]
    assert sorted(waiting(index)) == [b"a"] * 4 + [b"m"]


def test_a_completion_that_loses_a_deadlock_is_done_all_the_same(index):
    """As when data keys are wrapped anew meanwhile, five hundred rows in one transaction."""
    index.claim(submission(), [document("1"), document("2")])
    with ThreadPoolExecutor(1) as threads:
        with index._engine.begin() as other:
            other.execute(text("UPDATE documents SET kek = NULL WHERE object_key = :key"), {"key": "2" * 32})
            completing = threads.submit(index.complete, submission(), b"<answer/>", [b"m"], 2000, anyway=[b"a"])
            assert eventually(lambda: waits_for_a_lock(index))
            # It holds the submission. Who waited first looks first for a deadlock, and gives way.
            other.execute(text("UPDATE submissions SET told = told"))
        assert completing.result(30).state is State.AVAILABLE
    assert [one.state for one in index.documents_of("1.2.3")] == [State.AVAILABLE] * 2
    assert waiting(index) == [b"a", b"m"]


def waits_for_a_lock(index):
    asked = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    with index._engine.connect() as connection:
        return connection.execute(text(asked)).scalar_one() == 1


def test_another_digest_completes_nothing(index):
    index.claim(submission(), [document("1")])
    with pytest.raises(Superseded):
        index.complete(submission(digest="e" * 64), b"<answer/>", [b"m"], 2000, anyway=[b"a"])
    assert index.submission("1.2.3") == submission()
    assert waiting(index) == []


def test_connections_that_ended_between_two_steps_are_not_lent_out(fragile, restartable):  # noqa: F811
    restartable.terminate()
    time.sleep(0.1)
    assert fragile.claim(submission("1.4"), [document("4")]) is None
    restartable.terminate()
    time.sleep(0.1)
    assert fragile.complete(submission("1.4"), b"<answer/>", [], 2000).state is State.AVAILABLE


def test_a_completion_whose_answer_is_lost_is_not_sent_twice(fragile, restartable, monkeypatch):  # noqa: F811
    """Sent again by its source it is answered as the first was meant to be."""
    real = quick._selected

    def cut_off(connection, statement, values):
        real(connection, statement, values)
        restartable.terminate()
        connection.execute("SELECT 1")

    fragile.claim(submission("1.5"), [document("5")])
    with monkeypatch.context() as patched:
        patched.setattr(quick, "_selected", cut_off)
        with pytest.raises(StoreUnavailable):
            fragile.complete(submission("1.5"), b"<answer/>", [b"m"], 2000)
    assert waiting(fragile) == [b"m"]
    again = fragile.complete(submission("1.5"), b"<another/>", [b"n"], 3000, anyway=[b"a"])
    assert (again.state, again.answer) == (State.AVAILABLE, b"<answer/>")
    assert waiting(fragile) == [b"m", b"a"]
