"""The sender delivers every record, however sinks fail; the audit service sees each once."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest
from sqlalchemy import MetaData

from atna import sender as sender_module
from atna.sender import BatchRefused, Interrupted, NotDelivered, Pace, Sender
from atna.store.engine import begin_write, open_engine
from atna.store.outbox import Outbox, add, outbox_table

ROOT = Path(__file__).resolve().parents[2]
SINK, OTHER = "http://127.0.0.1:1/records", "http://127.0.0.1:2/records"


class Room:
    def __init__(self, url, *sinks):
        metadata = MetaData(info={"room": "test", "version": 1})
        self.table = outbox_table(metadata)
        self.engine = open_engine(url, metadata)
        self.sinks = sinks or (SINK,)
        self.outbox = Outbox(self.engine, self.table, self.sinks, 1000)

    def add(self, *messages):
        with begin_write(self.engine) as connection:
            add(connection, self.table, messages, self.sinks)


class Sink:
    """Takes batches; ``fails`` decides by the batch whether it raises instead."""

    def __init__(self, fails=lambda _sink, _messages: None):
        self.fails = fails
        self.taken = {}
        self.posts = 0

    def post(self, sink, batch):
        self.posts += 1
        messages = list(batch)
        error = self.fails(sink, messages)
        if error is not None:
            raise error
        self.taken.setdefault(sink, []).extend(messages)


@pytest.fixture
def make_room(sqlite_url):
    rooms = []

    def make(*sinks):
        rooms.append(Room(sqlite_url, *sinks))
        return rooms[-1]

    yield make
    for room in rooms:
        room.engine.dispose()


@pytest.fixture
def room(make_room):
    return make_room()


@pytest.fixture
def running(monkeypatch, make_room):  # ends before the rooms that senders work in
    monkeypatch.setattr(sender_module, "RETRY_FIRST_S", 0.02)
    stop, threads = threading.Event(), []

    def run(outbox, post, **options):
        thread = threading.Thread(target=Sender(outbox, post, **options).run, args=(stop,))
        thread.start()
        threads.append(thread)

    yield run
    stop.set()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()


def until(condition, seconds=10):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def empty(room):
    return lambda: room.outbox.backlog().rows == 0


def test_records_arrive_in_order_and_the_outbox_is_emptied(room, running):
    room.add(*(b"%d" % n for n in range(1200)))
    sink = Sink()
    running(room.outbox, sink.post)
    until(empty(room))
    assert sink.taken[SINK] == [b"%d" % n for n in range(1200)]
    assert sink.posts == 3


def test_a_record_after_silence_leaves_within_a_moment(room, running):
    sink = Sink()
    running(room.outbox, sink.post)
    time.sleep(0.5)
    start = time.monotonic()
    room.add(b"a")
    until(lambda: sink.taken)
    assert time.monotonic() - start < 5  # BACKLOG_EVERY_S: it did not wait for anything slower than its idle turn


def test_a_sink_that_is_down_is_asked_again_and_delays_no_other(make_room, running):
    room = make_room(SINK, OTHER)
    room.add(b"a", b"b")
    down = threading.Event()
    down.set()
    sink = Sink(lambda name, _messages: NotDelivered("down") if name == SINK and down.is_set() else None)
    running(room.outbox, sink.post)
    until(lambda: sink.taken.get(OTHER) == [b"a", b"b"])
    assert SINK not in sink.taken
    down.clear()
    until(empty(room))
    assert sink.taken[SINK] == [b"a", b"b"]
    room.engine.dispose()


def test_pauses_grow(room, running):
    sink = Sink(lambda _sink, _messages: NotDelivered("down"))
    room.add(b"a")
    running(room.outbox, sink.post)
    time.sleep(1.0)
    assert 3 <= sink.posts <= 9


def test_a_record_that_the_sink_refuses_stays_and_holds_up_no_other(room, running):
    sink = Sink(lambda _sink, messages: BatchRefused("too large") if b"bad" in messages else None)
    room.add(b"a", b"b", b"bad", b"c", b"d")
    running(room.outbox, sink.post)
    until(lambda: sorted(sink.taken.get(SINK, [])) == [b"a", b"b", b"c", b"d"])
    room.add(b"e")
    until(lambda: b"e" in sink.taken[SINK])
    until(lambda: [row.message for row in room.outbox.claim(SINK, 10)] == [b"bad"])


def test_a_sink_that_says_what_it_has_taken_gets_only_the_rest_again(room, running):
    calls = []

    def post(_sink, messages):
        calls.append(list(messages))
        if len(calls) == 1:
            raise NotDelivered("died on the way", taken=2)
        if b"bad" in messages:
            raise BatchRefused("what is this", taken=messages.index(b"bad"))

    room.add(b"a", b"b", b"c", b"bad", b"d")
    running(room.outbox, post)
    until(lambda: [row.message for row in room.outbox.claim(SINK, 10)] == [b"bad"])
    assert calls[:2] == [[b"a", b"b", b"c", b"bad", b"d"], [b"c", b"bad", b"d"]]
    assert sum(call.count(b"a") for call in calls) == 1


def test_a_record_over_which_the_sink_breaks_the_connection_is_found_and_holds_up_no_other(room, running, caplog):
    sink = Sink(lambda _sink, messages: Interrupted("reset") if b"poison" in messages else None)
    room.add(*(b"%d" % n for n in range(40)), b"poison", *(b"%d" % n for n in range(40, 80)))
    running(room.outbox, sink.post)
    until(lambda: len(sink.taken.get(SINK, [])) == 80)
    assert sorted(sink.taken[SINK]) == sorted(b"%d" % n for n in range(80))
    for n in range(5):  # each time others are taken and it is not
        room.add(b"more %d" % n)
        until(lambda n=n: b"more %d" % n in sink.taken[SINK])
        time.sleep(0.1)
    until(lambda: "refuses outbox row" in caplog.text)
    posts = sink.posts
    time.sleep(0.3)
    assert sink.posts == posts
    assert [row.message for row in room.outbox.claim(SINK, 10)] == [b"poison"]


def test_a_sink_that_breaks_every_connection_for_a_while_gets_everything_later(room, running, caplog):
    down = threading.Event()
    down.set()
    sink = Sink(lambda _sink, _messages: Interrupted("reset") if down.is_set() else None)
    room.add(*(b"%d" % n for n in range(50)))
    running(room.outbox, sink.post)
    until(lambda: sink.posts > 8)
    down.clear()
    until(empty(room))
    assert sorted(sink.taken[SINK]) == sorted(b"%d" % n for n in range(50))
    assert "refuses outbox row" not in caplog.text


def test_batches_have_the_pace_of_their_sink(room, running):
    room.add(*(b"%d" % n for n in range(25)))
    sizes, times = [], []

    def post(_sink, messages):
        sizes.append(len(messages))
        times.append(time.monotonic())

    running(room.outbox, post, pace=lambda _sink: Pace(rows=10, gather_s=0.4, pause_s=0.1))
    until(empty(room))
    room.add(b"later")
    until(empty(room))
    assert sizes == [10, 10, 5, 1]
    assert times[1] - times[0] >= 0.1
    assert times[3] - times[2] >= 0.4


def test_under_load_batches_fill():
    pace = Pace(rows=100, gather_s=0.1, pause_s=0.0, busy_s=0.5)
    assert [pace.after(sent, 100) for sent in (1, 2, 3, 99, 100)] == [0.1, 0.1, 0.5, 0.5, 0.0]
    assert Pace(gather_s=2.0).after(50, 500) == 2.0


def test_only_the_holder_of_the_lease_sends(room, running):
    first, second = Sink(), Sink()
    assert room.outbox.hold_lease("somebody else", 60)
    running(room.outbox, first.post, lease_s=0.2)
    room.add(b"a")
    time.sleep(0.4)
    assert first.posts == 0
    room.outbox.release_lease("somebody else")
    until(lambda: first.taken)
    running(room.outbox, second.post, lease_s=0.2)
    room.add(*(b"%d" % n for n in range(50)))
    until(empty(room))
    assert second.posts == 0
    assert len(first.taken[SINK]) == 51


def test_a_database_that_fails_for_a_while_ends_no_sender(room, running):
    sink = Sink()
    running(room.outbox, sink.post, lease_s=0.2)
    room.table.drop(room.engine)
    time.sleep(0.3)
    room.table.create(room.engine)
    room.add(b"a")
    until(lambda: sink.taken)


def test_a_sender_killed_at_work_loses_nothing(sqlite_url, room, running, tmp_path):
    program = """
        import sys, threading, time
        from sqlalchemy import MetaData
        from atna.sender import Sender
        from atna.store.engine import open_engine
        from atna.store.outbox import Outbox, outbox_table
        metadata = MetaData(info={"room": "test", "version": 1})
        table = outbox_table(metadata)
        outbox = Outbox(open_engine(sys.argv[1], metadata), table, [sys.argv[2]], 1000)
        log = open(sys.argv[3], "ab", buffering=0)
        def post(sink, batch):
            log.write(b"".join(message + b"\\n" for message in batch))
            print("posted", flush=True)
            time.sleep(60)  # taken, but never acknowledged
        Sender(outbox, post, lease_s=0.5).run(threading.Event())
    """
    room.add(*(b"%d" % n for n in range(700)))
    log = tmp_path / "taken"
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program), sqlite_url, SINK, str(log)], stdout=subprocess.PIPE, cwd=ROOT
    )
    assert child.stdout.readline() == b"posted\n"
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    child.stdout.close()
    sink = Sink()
    running(room.outbox, sink.post, lease_s=0.5)
    until(empty(room))
    assert sink.taken[SINK] == [b"%d" % n for n in range(700)]
    assert len(log.read_bytes().splitlines()) == 500  # these came twice, which is what the receiver has to bear
