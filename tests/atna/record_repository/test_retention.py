"""What ended long ago goes whole, signed and on record; its place in the chain stays; nothing else goes."""

import io
import os
import subprocess
import sys
from textwrap import dedent

import pytest
from sqlalchemy import delete, func, select, update

from atna.audit_check import Fault, check
from atna.iti20_record_audit_event import decode_message
from atna.message import parse
from atna.record_repository.indexing import index
from atna.record_repository.retention import NotWhole, Retention
from atna.record_repository.signing import SigningKey
from atna.record_repository.store import retiring
from atna.record_repository.store.partitions import partitions
from atna.record_repository.store.protocol import Criteria, Trust
from atna.record_repository.store.records import NotExported, RecordStore
from atna.record_repository.store.rows import SIDE_TABLES
from atna.record_repository.store.tables import checkpoint, log_partition, record
from tests.atna.record_repository.store.test_partitions import DAY, Clock, change


@pytest.fixture
def key(tmp_path):
    return SigningKey.made(tmp_path / "key.pem")


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def store(database_url, clock, writer, key):
    """2026-11, 2026-12 and 2027-01, seven records each; the last is open."""
    store = RecordStore.open(database_url, clock)
    for month in range(3):
        store.keep([index(writer.query(f"p{number}")) for number in range(7)], via="feed")
        store.checkpoint(key)
        clock.at += 31 * DAY if month < 2 else 0
    yield store
    store.close()


def rule(store, writer, clock, days, later=0):
    """The rule as it stands so many days later."""
    clock.at += later * DAY
    return Retention(store, writer.recorder, days, int(clock.at * 1_000_000))


def states(store):
    with store._engine.connect() as connection:
        return {one.name: one.state for one in partitions(connection)}


def left(store, table=record):
    with store._engine.connect() as connection:
        return connection.execute(select(func.count()).select_from(table)).scalar_one()


def trust(key):
    return Trust({key.id: key.public})


def test_what_is_due_is_told_and_nothing_is_changed(store, writer, clock):
    job = rule(store, writer, clock, 30, later=10)
    (found,) = job.due()  # 2026-11 ended 41 days ago, 2026-12 ten days ago
    assert (found.partition.name, found.records, found.octets > 7 * 500) == ("2026-11", 7, True)
    assert found.received_first == found.received_last
    assert (left(store), set(states(store).values())) == (21, {"closed", "open"})
    assert rule(store, writer, clock, 41).due() == []
    assert [one.partition.name for one in rule(store, writer, clock, 30, later=21).due()] == ["2026-11", "2026-12"]
    assert [one.partition.name for one in rule(store, writer, clock, 1, later=5000).due()] == ["2026-11", "2026-12"]
    assert rule(store, writer, clock, None).due() == []


def test_what_is_due_goes_and_its_place_stays(store, writer, clock, key):
    before = store.verify_chain().head
    (done,) = rule(store, writer, clock, 30, later=10).apply(key, "ada")
    assert (done.due.partition.name, done.removed, done.begun) == ("2026-11", 7, False)
    assert states(store) == {"2026-11": "removed", "2026-12": "closed", "2027-01": "closed", "2027-02": "open"}
    assert left(store) == 15
    result = store.verify_chain(trust(key))
    assert (result.holds, result.records) == (True, 15), result.fault
    assert result.notes[0] == "partition 2026-11: records 1 to 7 were removed: ended more than 30 days ago"
    (told,) = store.find(Criteria(events=(("110101", "DCM"),)), limit=9)
    assert told.partition == "2027-02"
    message = parse(decode_message(told.message).message)
    assert (message.event.action, message.participants[0].user_id) == ("D", "ada")
    details = {detail.type: detail.value for detail in message.objects[0].details}
    assert details["urn:dossier:operation"] == b"retention: ended more than 30 days ago"
    assert details["urn:dossier:audit-log:records"] == b"1-7"
    assert (message.objects[0].id, message.objects[0].life_cycle) == ("urn:dossier:audit-log:2026-11", 15)
    assert before != result.head
    assert all(left(store, table) < 60 for table in SIDE_TABLES)


def test_what_does_not_hold_is_not_wiped_away(store, writer, clock, key):
    change(store, update(record).where(record.c.number == 3).values(received_at=1))
    with pytest.raises(NotWhole, match="2026-11 is not removed, for the log does not hold: record 3: the link"):
        list(rule(store, writer, clock, 30, later=10).apply(key, "ada"))
    assert (left(store), states(store)["2026-11"]) == (21, "closed")


def test_a_second_run_finds_nothing(store, writer, clock, key):
    list(rule(store, writer, clock, 30, later=10).apply(key, "ada"))
    assert list(rule(store, writer, clock, 30).apply(key, "ada")) == []
    assert len(store.find(Criteria(events=(("110101", "DCM"),)), limit=9)) == 1


def test_an_export_tells_of_what_was_removed_and_under_which_signature(store, writer, clock, key):
    list(rule(store, writer, clock, 30, later=10).apply(key, "ada"))
    with pytest.raises(NotExported, match="was removed: ended more than 30 days ago"):
        store.export("2026-11", lambda _octets: None)
    octets = bytearray()
    store.export("2026-12", octets.extend)
    assert b"\nremoval 2026-11 " in octets
    keys = {key.id: key.public}
    assert check(opened(octets), keys).records == 7
    with pytest.raises(Fault, match="its removal has a signature that does not hold"):
        check(opened(octets.replace(b"than 30 days", b"than 31 days")), keys)
    with pytest.raises(Fault, match="its removal is not signed"):
        check(opened(octets.replace(b"closed", b"removed", 1)), keys)


def opened(octets):
    return io.BytesIO(bytes(octets))


@pytest.mark.parametrize("column", ["rule", "removed_at", "last", "end", "signature", "key_id"])
def test_a_removal_that_is_not_as_it_was_signed_is_found(store, writer, clock, key, column):
    list(rule(store, writer, clock, 30, later=10).apply(key, "ada"))
    value = {"rule": "ended long ago", "removed_at": 1, "last": 6, "key_id": "0" * 32}.get(column, bytes(32))
    change(store, update(log_partition).where(log_partition.c.name == "2026-11").values(**{column: value}))
    assert store.verify_chain(trust(key)).partition in {"2026-11", "2026-12"}


def test_what_was_removed_by_hand_is_no_gap_that_is_accepted(store, writer, clock, key):
    list(rule(store, writer, clock, 30, later=10).apply(key, "ada"))
    numbers = [delete(table).where(table.c.record.between(8, 14)) for table in SIDE_TABLES]
    change(store, *numbers, delete(record).where(record.c.number.between(8, 14)))
    assert store.verify_chain(trust(key)).partition == "2026-12"
    with store._engine.connect() as connection:
        signed = connection.execute(select(log_partition).where(log_partition.c.name == "2026-11")).one()
    stolen = {name: getattr(signed, name) for name in ("state", "removed_at", "rule", "key_id", "signature")}
    change(store, update(log_partition).where(log_partition.c.name == "2026-12").values(**stolen))
    assert store.verify_chain(trust(key)).fault == "its removal has a signature that does not hold"


def test_the_last_checkpoint_of_what_was_removed_stays(store, writer, clock, key):
    list(rule(store, writer, clock, 30, later=10).apply(key, "ada"))
    with store._engine.connect() as connection:
        kept = (
            connection.execute(select(checkpoint.c.number).where(checkpoint.c.partition == "2026-11")).scalars().all()
        )
    assert kept == [7]


@pytest.mark.parametrize("steps", [0, 1, 2])
def test_one_that_is_half_removed_is_told_and_ended_by_the_next_run(store, writer, clock, key, monkeypatch, steps):
    monkeypatch.setattr(retiring, "RECORDS", 3)
    job = rule(store, writer, clock, 30, later=10)
    assert store.begin_removal("2026-11", key, job.rule, index(writer.query("begun")))
    assert not store.begin_removal("2026-11", key, job.rule, index(writer.query("again")))
    for _ in range(steps):
        assert store.remove_some("2026-11") == 3
    result = store.verify_chain(trust(key))
    assert (result.holds, result.records) == (True, 22 - 3 * steps), result.fault
    assert "partition 2026-11 is half removed: dossier audit retention --apply goes on with it" in result.notes[0]
    (found,) = rule(store, writer, clock, None).due()
    assert found.records == 7 - 3 * steps
    (done,) = rule(store, writer, clock, None).apply(key, "ada")
    assert (done.removed, done.begun, states(store)["2026-11"]) == (7 - 3 * steps, True, "removed")
    assert store.verify_chain(trust(key)).holds


def test_what_is_left_of_one_half_removed_is_still_guarded(store, writer, clock, key, monkeypatch):
    monkeypatch.setattr(retiring, "RECORDS", 3)
    job = rule(store, writer, clock, 30, later=10)
    store.begin_removal("2026-11", key, job.rule, index(writer.query("begun")))
    store.remove_some("2026-11")
    change(store, update(record).where(record.c.number == 6).values(received_at=1))
    assert store.verify_chain(trust(key)).fault_at == 6


REMOVER = dedent("""
    import sys, time
    from pathlib import Path
    from atna.record_repository.retention import Retention
    from atna.record_repository.signing import SigningKey
    from atna.record_repository.store import retiring
    from atna.record_repository.store.records import RecordStore
    from atna.recorder import Recorder
    retiring.RECORDS = 2
    store = RecordStore.open(sys.argv[1], lambda: int(sys.argv[3]) / 1_000_000)
    done = store.remove_some
    def told(name):
        removed = done(name)
        print(removed, flush=True)
        return removed
    store.remove_some = told
    recorder = Recorder("audit@host", "urn:oid:1.2.3", "dossier-audit", "host")
    list(Retention(store, recorder, 30, int(sys.argv[3])).apply(SigningKey.read(Path(sys.argv[2])), "ada"))
""")


def test_a_removal_killed_anywhere_goes_on(store, database_url, clock, key, tmp_path):
    clock.at += 70 * DAY
    command = [sys.executable, "-c", REMOVER, database_url, str(tmp_path / "key.pem"), str(int(clock.at * 1e6))]
    for lines in (0, 1, 3, 4):
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": "."}
        ) as child:
            for _ in range(lines):
                child.stdout.readline()
            child.kill()
        assert store.verify_chain(trust(key)).holds
    subprocess.run(command, check=True, capture_output=True, timeout=60, env=os.environ | {"PYTHONPATH": "."})
    assert [states(store)[name] for name in ("2026-11", "2026-12")] == ["removed", "removed"]
    assert store.verify_chain(trust(key)).holds
    assert len(store.find(Criteria(events=(("110101", "DCM"),)), limit=9)) == 2
