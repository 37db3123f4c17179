"""The outbox loses nothing and gives nothing twice to one sender: writers, group commit, lease, bound."""

import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest
from sqlalchemy import MetaData, event

from atna.store.engine import begin_write, open_engine
from atna.store.outbox import GroupCommit, NotRecorded, Outbox, OutboxUnavailable, add, outbox_table

ROOT = Path(__file__).resolve().parents[3]
SINK, OTHER = "http://127.0.0.1:1/records", "http://127.0.0.1:2/records"


class Room:
    """An actor's database with an outbox in it."""

    def __init__(self, url):
        metadata = MetaData(info={"room": "test", "version": 1})
        self.table = outbox_table(metadata)
        self.engine = open_engine(url, metadata)
        self.now = 1000.0

    def outbox(self, *sinks, max_rows=1000):
        return Outbox(self.engine, self.table, sinks or (SINK,), max_rows, lambda: self.now)

    def group(self, *sinks):
        return GroupCommit(self.engine, self.table, sinks or (SINK,), lambda: self.now)

    def add(self, *messages, sinks=(SINK,)):
        with begin_write(self.engine) as connection:
            add(connection, self.table, messages, sinks, lambda: self.now)


@pytest.fixture
def room(database_url):
    room = Room(database_url)
    yield room
    room.engine.dispose()


def test_one_row_per_sink_and_message(room):
    room.add(b"a", b"b", sinks=(SINK, OTHER))
    outbox = room.outbox(SINK, OTHER)
    assert [row.message for row in outbox.claim(SINK, 10)] == [b"a", b"b"]
    outbox.delete(SINK, [row.id for row in outbox.claim(SINK, 10)])
    assert outbox.claim(SINK, 10) == []
    assert [row.message for row in outbox.claim(OTHER, 10)] == [b"a", b"b"]


def test_a_refused_unit_of_work_leaves_no_record(room):
    with pytest.raises(RuntimeError), begin_write(room.engine) as connection:
        add(connection, room.table, [b"a"], [SINK])
        raise RuntimeError
    assert room.outbox().claim(SINK, 10) == []


def test_a_batch_is_bounded_in_rows_and_bytes_but_never_empty(room):
    room.add(b"x" * 50, b"y" * 50, b"z" * 500)
    outbox = room.outbox()
    assert len(outbox.claim(SINK, 2)) == 2
    assert [row.message for row in outbox.claim(SINK, 10, max_bytes=100)] == [b"x" * 50, b"y" * 50]
    assert [row.message for row in outbox.claim(SINK, 10, max_bytes=10)] == [b"x" * 50]
    first = outbox.claim(SINK, 1)[0].id
    assert [row.message[:1] for row in outbox.claim(SINK, 10, skip={first})] == [b"y", b"z"]


def test_a_row_that_became_visible_late_is_not_lost(room):
    if room.engine.dialect.name == "sqlite":
        pytest.skip("SQLite has one writer: nothing becomes visible out of order")
    outbox = room.outbox()
    with begin_write(room.engine) as slow:
        add(slow, room.table, [b"first id"], [SINK])
        other = Room(room.engine.url.render_as_string(hide_password=False))
        other.add(b"second id")
        other.engine.dispose()
        rows = outbox.claim(SINK, 10)
        assert [row.message for row in rows] == [b"second id"]
        outbox.delete(SINK, [row.id for row in rows])
    assert [row.message for row in outbox.claim(SINK, 10)] == [b"first id"]


def test_ids_are_never_used_again(room):
    outbox = room.outbox()
    room.add(b"a")
    old = outbox.claim(SINK, 1)
    outbox.delete(SINK, [old[0].id])
    room.add(b"b")
    outbox.delete(SINK, [old[0].id])
    assert [row.message for row in outbox.claim(SINK, 10)] == [b"b"]


def test_a_crowd_too_large_for_one_statement_is_kept_whole_with_what_belongs_beside_it(room):
    lease = room.table.metadata.tables["outbox_lease"]
    beside = (lease, [{"name": "other work", "holder": "me", "expires_at": 5}])
    messages = [b"%d" % number for number in range(150)]
    room.group(SINK, OTHER).commit(messages, [beside, (lease, [])])
    outbox = room.outbox(SINK, OTHER)
    for sink in (SINK, OTHER):
        assert [row.message for row in outbox.claim(sink, 1000)] == messages
    room.now = 0.0
    assert not outbox.hold_lease("another", 1, name="other work")
    with pytest.raises(NotRecorded):  # the row beside is there already: nothing of this is kept
        room.group(SINK, OTHER).commit(messages, [beside])
    assert len(outbox.claim(SINK, 1000)) == 150


def test_many_threads_commit_in_groups_and_every_record_is_there(room):
    group, errors = room.group(), []

    def write(number):
        try:
            for turn in range(25):
                group.commit([b"%d/%d" % (number, turn), b"%d/%d again" % (number, turn)])
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    found = [row.message for row in room.outbox().claim(SINK, 10_000)]
    assert len(found) == len(set(found)) == 12 * 25 * 2


def test_a_crowd_shares_commits(sqlite_url):
    room, ready, commits = Room(sqlite_url), threading.Barrier(9), []
    group = room.group()
    event.listen(room.engine, "commit", commits.append)

    def write(number):
        ready.wait()
        group.commit([b"%d" % number])

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    with begin_write(room.engine):  # holds the leader, so that the others gather
        ready.wait()
        while len(group._waiting) < 7:
            pass
    for thread in threads:
        thread.join()
    assert len(room.outbox().claim(SINK, 10)) == 8
    assert len(commits) == 3  # the one that held the leader, the leader's, and one for the other seven
    room.engine.dispose()


def test_when_the_database_refuses_nobody_is_told_done(room):
    group = room.group()
    room.table.drop(room.engine)
    outcomes = []

    def write():
        try:
            group.commit([b"a"])
            outcomes.append("done")
        except NotRecorded:
            outcomes.append("refused")

    threads = [threading.Thread(target=write) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == ["refused"] * 6
    with pytest.raises(OutboxUnavailable):
        room.outbox().claim(SINK, 1)
    room.table.create(room.engine)
    group.commit([b"b"])
    assert [row.message for row in room.outbox().claim(SINK, 10)] == [b"b"]


def test_what_was_acknowledged_survives_kill_9(sqlite_url):
    program = """
        import sys, threading
        from sqlalchemy import MetaData
        from atna.store.engine import open_engine
        from atna.store.outbox import GroupCommit, outbox_table
        metadata = MetaData(info={"room": "test", "version": 1})
        table = outbox_table(metadata)
        group = GroupCommit(open_engine(sys.argv[1], metadata), table, ["s"])
        lock = threading.Lock()
        def write(number):
            for turn in range(100000):
                group.commit([b"%d-%d" % (number, turn)])
                with lock:
                    print(f"{number}-{turn}", flush=True)
        for number in range(4):
            threading.Thread(target=write, args=(number,)).start()
    """
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program), sqlite_url], stdout=subprocess.PIPE, cwd=ROOT
    )
    acknowledged = [child.stdout.readline().strip() for _ in range(200)]
    child.kill()
    acknowledged += [line.strip() for line in child.stdout if line.endswith(b"\n")]
    child.wait()
    child.stdout.close()
    room = Room(sqlite_url)
    found = {row.message for row in room.outbox("s").claim("s", 1_000_000)}
    assert set(acknowledged) <= found
    room.engine.dispose()


def test_the_lease_has_one_holder_until_it_runs_out(room):
    outbox = room.outbox()
    assert outbox.hold_lease("a", 6)
    assert not outbox.hold_lease("b", 6)
    assert outbox.hold_lease("a", 6)
    room.now += 7
    assert outbox.hold_lease("b", 6)
    assert not outbox.hold_lease("a", 6)
    outbox.release_lease("a")
    assert not outbox.hold_lease("a", 6)
    outbox.release_lease("b")
    assert outbox.hold_lease("a", 6)


def test_backlog_and_bound(room):
    outbox = room.outbox(max_rows=3)
    assert (outbox.backlog().rows, outbox.full()) == (0, False)
    room.add(b"a", b"b", b"c")
    room.now += 10
    assert outbox.full()
    assert outbox.backlog().oldest_age_s == pytest.approx(10)
    outbox.delete(SINK, [outbox.claim(SINK, 3)[1].id])
    assert outbox.full()  # believed for half a second
    room.now += 1
    assert not outbox.full()  # the ids still span three, so this one was counted
