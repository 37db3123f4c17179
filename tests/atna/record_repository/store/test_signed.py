"""Checkpoints: what is signed when, and what a log rewritten by somebody without the key cannot hide."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from textwrap import dedent

import pytest
from sqlalchemy import delete, select, update

from atna.audit_check import FIRST_LINK, parse_checkpoint, partition_start
from atna.record_repository.indexing import index
from atna.record_repository.signing import SigningKey
from atna.record_repository.store.protocol import Criteria, Trust
from atna.record_repository.store.records import RecordStore
from atna.record_repository.store.rows import SIDE_TABLES
from atna.record_repository.store.tables import chain_head, checkpoint, checkpoint_key, log_partition, record
from tests.atna.record_repository.store.test_partitions import DAY, Clock, change, keep, without

TIMES = 2


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def store(database_url, clock):
    store = RecordStore.open(database_url, clock)
    yield store
    store.close()


@pytest.fixture
def key(tmp_path):
    return SigningKey.made(tmp_path / "key.pem")


@pytest.fixture
def other(tmp_path):
    return SigningKey.made(tmp_path / "other.pem")


def trust(*keys, kept=()):
    return Trust({key.id: key.public for key in keys}, tuple(kept))


@pytest.fixture
def log(store, writer, key, clock):
    """Two months of six records, a checkpoint after each three."""
    for number in range(4):
        keep(store, *(writer.query(f"p{number}") for _ in range(3)))
        store.checkpoint(key)
        clock.at += 31 * DAY if number == 1 else 60
    return store


def rows(store):
    with store._engine.connect() as connection:
        return connection.execute(select(checkpoint).order_by(checkpoint.c.serial)).all()


def test_partitions_and_head_are_signed_in_turn(log, key):
    found = [(row.serial, row.partition, row.number) for row in rows(log)]
    assert found == [(1, "2026-11", 3), (2, "2026-11", 6), (3, "2026-12", 9), (4, "2026-12", 12)]
    result = log.verify_chain(trust(key))
    assert (result.holds, result.checkpoints, result.signed_to, result.notes) == (True, 4, 12, ())
    assert log.checkpoint(key) is None
    assert parse_checkpoint(log.last_checkpoint().complete) == log.last_checkpoint()


def test_a_partition_that_ended_unsigned_is_signed_at_its_end(store, writer, key, clock):
    for _ in range(3):
        keep(store, writer.query(), writer.query())
        clock.at += 31 * DAY
    store.checkpoint(key)
    assert [(row.partition, row.number) for row in rows(store)] == [("2026-11", 2), ("2026-12", 4), ("2027-01", 6)]


def test_one_is_due_after_records_or_time_and_never_for_nothing(store, writer, key, clock):
    due = lambda: store.checkpoint_due(records=3, interval_s=900)  # noqa: E731
    assert not due()
    keep(store, writer.query())
    assert due()
    store.checkpoint(key)
    assert not due()
    clock.at += 10_000
    assert not due()
    keep(store, writer.query())
    assert due()
    store.checkpoint(key)
    keep(store, writer.query(), writer.query())
    assert not due()
    keep(store, writer.query())
    assert due()


def test_what_is_not_signed_yet_is_told(log, writer, key):
    keep(log, writer.query())
    (note,) = log.verify_chain(trust(key)).notes
    assert note.startswith("1 records after the last checkpoint, at record 12 (2026-12-31T")


@pytest.mark.parametrize("serial", [1, 2, 3])
def test_a_missing_checkpoint_is_found(log, serial):
    change(log, delete(checkpoint).where(checkpoint.c.serial == serial))
    assert log.verify_chain().fault == "a checkpoint is missing"


@pytest.mark.parametrize("column", ["number", "link", "at", "signature", "partition"])
def test_an_altered_checkpoint_is_found(log, column):
    value = {"number": 5, "at": 1, "partition": "2026-12"}.get(column, bytes(32))
    change(log, update(checkpoint).where(checkpoint.c.serial == 2).values(**{column: value}))
    assert not log.verify_chain().holds


def test_records_after_a_checkpoint_taken_away_with_it_are_found_by_one_kept_elsewhere(log, key):
    kept = log.last_checkpoint()
    with log._engine.connect() as connection:
        link = connection.execute(select(record.c.chain).where(record.c.number == 10)).scalar_one()
    change(
        log,
        *without(11, 12),
        delete(checkpoint).where(checkpoint.c.serial == 4),
        update(chain_head).values(number=10, chain=link),
    )
    assert log.verify_chain(trust(key)).holds  # nothing in the log can tell
    result = log.verify_chain(trust(key, kept=[kept]))
    assert result.fault == "the checkpoint 4 kept elsewhere signs a record that is not there"


def test_a_checkpoint_kept_elsewhere_is_met(log, key, other):
    points = [log.last_checkpoint(), *(replace(log.last_checkpoint(), signature=bytes(64)),)]
    assert log.verify_chain(trust(key, kept=points[:1])).holds
    assert not log.verify_chain(trust(key, kept=points[1:])).holds
    assert not log.verify_chain(trust(other, kept=points[:1])).holds


def rewritten(store):
    """The log without its second record, every link and number made anew: what a master of the database can do."""
    kept = [one.message for one in store.find(Criteria(), limit=100, oldest_first=True)]
    with store._engine.connect() as connection:
        received = dict(connection.execute(select(record.c.message, record.c.received_at)).all())
    del kept[1]
    change(store, *(delete(table) for table in SIDE_TABLES), delete(record), delete(log_partition))
    last, statements = partition_start(FIRST_LINK, 1, "2026-11"), []
    values = {"position": 1, "name": "2026-11", "format": 2, "first": 1, "start": last, "opened_at": 1}
    statements.append(log_partition.insert().values(state="open", **values))
    change(store, *statements, update(chain_head).values(number=0, chain=last))
    clock, store._clock = store._clock, lambda: received[kept[0]] / 1_000_000
    store.keep([index(message) for message in kept])
    store._clock = clock


def test_a_log_wholly_rewritten_is_found_by_its_signatures(log, key, other):
    rewritten(log)
    assert not log.verify_chain().holds
    change(log, delete(checkpoint))
    assert log.verify_chain().notes[0].startswith("nothing is signed yet")
    assert log.verify_chain(trust(key)).fault == "nothing is signed by a key that is listed"
    log.checkpoint(other)
    assert log.verify_chain().holds  # whoever lists his own key in the log can sign it
    assert "signed by a key that is not listed" in log.verify_chain(trust(key)).fault


def test_after_a_change_of_keys_both_hold(log, writer, key, other):
    keep(log, writer.query())
    log.checkpoint(other)
    assert log.verify_chain().holds
    assert log.verify_chain(trust(key, other)).checkpoints == 5
    assert f"is signed by a key that is not listed ({key.id})" in log.verify_chain(trust(other)).fault
    change(log, delete(checkpoint_key).where(checkpoint_key.c.key_id == key.id))
    assert "not listed" in log.verify_chain().fault


WRITER = dedent("""
    import sys
    from atna.record_repository.indexing import index
    from atna.record_repository.signing import SigningKey
    from atna.record_repository.store.records import RecordStore
    from pathlib import Path
    store, key = RecordStore.open(sys.argv[1]), SigningKey.read(Path(sys.argv[2]))
    number = int(sys.argv[3])
    while True:
        batch = [index(b"<85>1 - - - - - - %d" % n) for n in range(number, number + 50)]
        store.keep(batch, via="feed")
        number += 50
        print(number, flush=True)
        if number % 150 == 0:
            store.checkpoint(key)
""")


def test_a_writer_killed_anywhere_leaves_a_log_that_holds(database_url, tmp_path, key):
    acknowledged = 0
    for _ in range(TIMES):
        command = [sys.executable, "-c", WRITER, database_url, str(tmp_path / "key.pem"), str(acknowledged)]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": "."}
        ) as child:
            for _ in range(7):
                acknowledged = int(child.stdout.readline())
            child.send_signal(signal.SIGKILL)
            acknowledged = max([acknowledged, *(int(line) for line in child.stdout if line.endswith("\n"))])
        store = RecordStore.open(database_url)
        result = store.verify_chain(trust(key))
        assert (result.holds, result.fault) == (True, None)
        assert result.records >= acknowledged
        assert result.checkpoints
        acknowledged = result.records
        store.close()
