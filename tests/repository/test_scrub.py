"""The scrub: everything is read back, damage is told apart from a store that does not answer, nothing is done twice."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from prometheus_client import REGISTRY
from sqlalchemy import select

from repository import scrub
from repository.store.keyring import new_line, open_keyring
from repository.store.protocol import StoreUnavailable
from repository.store.scrub_book import Finding, Findings, ScrubBook
from repository.store.tables import scrub as scrub_table
from tests.builders import PATIENT, submission, with_identifier, with_slot
from tests.repository.faulty_store import FAULTS, FaultyStore, Script
from tests.repository.stand import stand, unique_ids

ROOT = Path(__file__).resolve().parents[2]
FAST = 2**40
LARGE = os.urandom(2_500_000)


@pytest.fixture(params=["sealed", "plain"])
def house(request, tmp_path, place):
    if request.param == "sealed":
        (tmp_path / "keys").write_text(new_line("first"))
    with stand(tmp_path, **place) as running:
        running.sealed = request.param == "sealed"
        yield running


def store(house, *datas):
    """Provide documents; their rows in order of object keys, as they are scrubbed."""
    objects = submission(entries=len(datas), entry=(with_slot("hash"), with_slot("size")))
    documents = {f"Document{number:02}": data for number, data in enumerate(datas, 1)}
    assert house.provide(objects, documents).status == "Success"
    return sorted(house.index.available(unique_ids(objects)), key=lambda row: row.object_key)


def scrubbed(house, room=None, **how):
    return scrub.run_pass(room or house.room, ScrubBook(house.index), **{"bytes_per_s": FAST, **how})


def raw(house, key):
    return b"".join(house.store.open(key))


def overwrite(house, key, data):
    house.store.delete(key)
    upload = house.store.begin(key)
    upload.write(data)
    upload.finish()


def flipped(data):
    return data[:-3] + bytes([data[-3] ^ 1]) + data[-2:]


DAMAGES = {
    "missing": lambda house, key, other: house.store.delete(key),
    "cut": lambda house, key, other: overwrite(house, key, raw(house, key)[:-20]),
    "flipped": lambda house, key, other: overwrite(house, key, flipped(raw(house, key))),
    "swapped": lambda house, key, other: overwrite(house, key, raw(house, other)),
}


def expected(house, damage):
    if damage == "missing":
        return Finding.MISSING
    if damage == "cut":
        return Finding.WRONG_SIZE
    return Finding.UNREADABLE if house.sealed else Finding.WRONG_HASH


def test_every_document_is_read_back(house):
    rows = store(house, b"small", LARGE, b"", b"small too")
    report = scrubbed(house)
    assert report.right
    assert (report.verified, report.bytes) == (4, sum(row.size for row in rows))
    assert house.records()[2:] == [], "nobody was shown anything"


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_told_by_object_and_document_until_it_is_healed(house, damage, caplog):
    rows = store(house, b"one of the same length", b"two of the same length", LARGE)
    bad, other = (row for row in rows if row.size < 100)
    before = raw(house, bad.object_key)
    DAMAGES[damage](house, bad.object_key, other.object_key)
    for _ in range(2):
        report = scrubbed(house)
        assert (report.complete, report.right, report.verified) == (True, False, 2)
        assert report.damaged == (Findings(bad.object_key, bad.unique_id, expected(house, damage)),)
    line = (
        f"object {bad.object_key} of document {bad.unique_id}: {expected(house, damage)}; there is no other whole copy"
    )
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == [line, line]
    assert PATIENT.partition("^")[0] not in caplog.text
    overwrite(house, bad.object_key, before)
    assert scrubbed(house).right


def test_a_large_document_with_one_wrong_bit_in_its_middle(house):
    (row,) = store(house, LARGE)
    data = raw(house, row.object_key)
    half = len(data) // 2
    overwrite(house, row.object_key, data[:half] + bytes([data[half] ^ 128]) + data[half + 1 :])
    assert [one.finding for one in scrubbed(house).damaged] == [expected(house, "flipped")]


def test_another_whole_copy_is_told(house):
    objects = [submission(entry=(with_slot("hash"), with_slot("size"))) for _ in range(2)]
    (unique_id,) = unique_ids(objects[0])
    from ihe import vocabulary as v

    same = submission(
        entry=(with_slot("hash"), with_slot("size"), with_identifier(v.ENTRY_UNIQUE_ID, unique_id)),
    )
    for one in (objects[0], same):
        assert house.provide(one, {"Document01": b"the same"}).status == "Success"
    first, second = house.index.available([unique_id])
    house.store.delete(first.object_key)
    assert scrubbed(house).damaged == (Findings(first.object_key, unique_id, Finding.MISSING, other_copy=True),)
    house.store.delete(second.object_key)
    assert {one.other_copy for one in scrubbed(house).damaged} == {False}


def test_a_key_that_is_not_at_hand_or_is_another(tmp_path, place):
    (tmp_path / "keys").write_text(new_line("first"))
    with stand(tmp_path, **place) as house:
        (row,) = store(house, b"sealed")
        for line, finding in (("other", Finding.NO_KEY), ("first", Finding.UNREADABLE)):
            (tmp_path / "wrong").write_text(new_line(line))
            room = replace(house.room, keyring=open_keyring(tmp_path / "wrong", None))
            assert scrubbed(house, room).damaged == (Findings(row.object_key, row.unique_id, finding),)
        assert scrubbed(house).right


def test_what_is_removed_meanwhile_is_no_damage(house):
    store(house, b"going")

    class Removing:
        def open(self, key):
            house.index._write(lambda connection: connection.exec_driver_sql("DELETE FROM documents"))
            house.store.delete(key)
            return house.store.open(key)

        def __getattr__(self, name):
            return getattr(house.store, name)

    report = scrubbed(house, replace(house.room, store=Removing()))
    assert (report.right, report.verified) == (True, 0)


# ----------------------------------------------------------------------------------------- a store that fails


@pytest.mark.parametrize("fault", FAULTS["open"])
def test_one_fault_of_the_store_is_no_damage(house, fault):
    store(house, b"a", b"b", LARGE, b"d")
    faulty = FaultyStore(house.store, Script("open", fault, after=1), pause=lambda: None)
    report = scrubbed(house, replace(house.room, store=faulty))
    assert faulty.injected == {("open", fault): 1}
    assert (report.right, report.verified) == (True, 4), "tried again before the end"


class Away:
    """Does not answer for some objects, or for any."""

    def __init__(self, target, keys=None):
        self.target, self.keys, self.asked = target, keys, []

    def open(self, key):
        self.asked.append(key)
        if self.keys is None or key in self.keys:
            raise StoreUnavailable("document store: timed out")
        return self.target.open(key)

    def __getattr__(self, name):
        return getattr(self.target, name)


def test_an_object_the_store_never_answers_for_is_told_and_not_called_damaged(house):
    rows = store(house, b"a", b"b", b"c")
    away = Away(house.store, {rows[1].object_key})
    report = scrubbed(house, replace(house.room, store=away))
    assert (report.complete, report.right, report.verified, report.damaged) == (True, False, 2, ())
    assert report.unanswered == (Findings(rows[1].object_key, rows[1].unique_id, Finding.UNANSWERED),)
    assert away.asked.count(rows[1].object_key) == 2
    assert scrubbed(house).right


def test_a_store_that_is_away_stops_the_pass_and_the_next_goes_on(house):
    rows = store(house, *(b"%d" % number for number in range(9)))
    away = Away(house.store)
    with pytest.raises(StoreUnavailable):
        scrubbed(house, replace(house.room, store=away))
    assert len(away.asked) == scrub.MOST_UNANSWERED
    away.keys, away.asked[:] = (), []
    report = scrubbed(house, replace(house.room, store=away))
    assert (report.right, report.verified) == (True, 9)
    assert away.asked == [row.object_key for row in (*rows[3:], *rows[:3])]


# ------------------------------------------------------------------------------------------- rate and resuming


def test_reading_is_held_down_to_the_rate():
    now, read = [0.0], 0

    def wait(seconds):
        assert 0 < seconds <= scrub.LEASE_S / 10
        now[0] += seconds

    pace = scrub._Pace(2**20, lambda: True, wait, lambda: now[0])
    for size in (2**18, 2**16, 1) * 40:
        pace.took(size)
        read += size
    assert now[0] == pytest.approx(read / 2**20)
    now[0] += 3600  # the store was slow for an hour: no reason to hurry afterwards
    pace.took(1)
    pace.took(2**20)
    assert now[0] >= read / 2**20 + 3600 + 1


def test_the_lease_is_kept_and_its_loss_ends_the_reading():
    now, asked = [0.0], []

    def going():
        asked.append(now[0])
        return len(asked) < 10

    pace = scrub._Pace(1024, going, lambda s: now.__setitem__(0, now[0] + s), lambda: now[0])
    with pytest.raises(scrub._Ended):
        pace.took(2**20)
    assert max(later - one for one, later in pairwise(asked)) < scrub.LEASE_S / 2


def test_a_pass_that_ends_early_is_gone_on_with(house, monkeypatch):
    monkeypatch.setattr(scrub, "BATCH", 2)
    rows = store(house, *(b"%d" % number for number in range(7)))
    stop, away = threading.Event(), Away(house.store, ())
    monkeypatch.setattr(scrub, "LEASE_S", 0.0001)  # asks each time whether to go on

    def stopping(key, real=away.open):
        if len(away.asked) == 4:
            stop.set()
        return real(key)

    away.open = stopping
    report = scrubbed(house, replace(house.room, store=away), stop=stop)
    assert (report.complete, report.right, report.verified) == (False, False, 4)
    monkeypatch.undo()
    second = Away(house.store, ())
    report = scrubbed(house, replace(house.room, store=second))
    assert (report.right, report.verified) == (True, 7)
    assert second.asked == [row.object_key for row in rows[4:]]
    assert scrubbed(house, anew=True).verified == 7


KILLED = (
    "import sys, repository.scrub as s; s.CHECKPOINT_S = 0.05; s.BATCH = 3; from dossier.__main__ import main; "
    "sys.argv[0] = 'dossier'; main()"
)


def test_a_scrub_that_is_killed_goes_on(tmp_path, run_command):
    """The command line itself, on the data of a repository that is not running."""
    with stand(tmp_path) as house:
        rows = store(house, *(os.urandom(20_000) for _ in range(40)))
        command = [sys.executable, "-P", "-c", KILLED, "store", "scrub", "--data", str(tmp_path), "--rate", "0.1"]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment)
        try:
            deadline = time.monotonic() + 60
            while (reached := verified_rows(house)) < 6:
                assert process.poll() is None, process.stderr.read()
                assert time.monotonic() < deadline
                time.sleep(0.02)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
            process.stderr.close()
        assert 6 <= reached < 40
        house.index.let_go(scrub.LEASE, holder(house))  # it would have run out after a minute
        house.store.delete(rows[-1].object_key)
        status, out, err = run_command("store", "scrub", "--data", str(tmp_path), "--rate", "1000")
    assert status == 1, err
    assert "verified         39 documents, 780000 bytes" in out
    assert f"object {rows[-1].object_key}  document {rows[-1].unique_id}: missing" in out
    assert re.search(r"damaged +1\n", out)
    status, out, _err = run_command("store", "scrub", "--data", str(tmp_path), "--rate", "1000", "--json")
    assert status == 1
    assert '"finding": "missing"' in out


def verified_rows(house):
    with house.index._engine.connect() as connection:
        return connection.execute(select(scrub_table.c.verified)).scalar() or 0


def holder(house):
    with house.index._engine.connect() as connection:
        return connection.exec_driver_sql("SELECT holder FROM outbox_lease WHERE name = 'scrub'").scalar()


# -------------------------------------------------------------------------------------------------- periodic


def test_the_periodic_scrub_gives_way_to_one_by_hand_and_counts(tmp_path, place, monkeypatch):
    monkeypatch.setattr(scrub, "BATCH", 2)
    monkeypatch.setattr(scrub, "LOOK_S", 0.05)
    with stand(tmp_path, **place, scrub_bytes_per_s=2000, scrub_interval_s=3600) as house:
        rows = store(house, *(bytes(500) + b"%d" % number for number in range(20)))
        house.store.delete(rows[0].object_key)
        stop = threading.Event()
        thread = threading.Thread(target=scrub.run, args=(house.room, ScrubBook(house.index), stop))
        thread.start()
        try:
            until(lambda: (found := ScrubBook(house.index).progress()) is not None and found.verified >= 2)
            report = scrubbed(house)
            assert (report.complete, report.verified, len(report.damaged)) == (True, 19, 1)
            until(lambda: REGISTRY.get_sample_value("dossier_scrub_damaged") == 1)
            ended = ScrubBook(house.index).progress().ended_at
            until(lambda: REGISTRY.get_sample_value(FULL) == ended / 1_000_000)
            house.room.clock.forward(3601)
            until(lambda: ScrubBook(house.index).progress().ended_at is None)
            assert REGISTRY.get_sample_value(FULL) == ended / 1_000_000, "of the last whole one"
        finally:
            stop.set()
            thread.join(10)
        assert not thread.is_alive()


FULL = "dossier_scrub_last_full_pass_timestamp_seconds"


def test_without_an_interval_nothing_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(scrub, "LOOK_S", 0.01)
    with stand(tmp_path, scrub_interval_s=0) as house:
        store(house, b"one")
        stop = threading.Event()
        thread = threading.Thread(target=scrub.run, args=(house.room, ScrubBook(house.index), stop))
        thread.start()
        time.sleep(0.3)
        stop.set()
        thread.join(10)
        assert ScrubBook(house.index).progress() is None


def test_two_by_hand_do_not_read_at_once(house):
    store(house, b"one")
    assert house.index.hold(scrub.LEASE, "somebody", 60)
    with pytest.raises(scrub.ScrubBusy):
        scrubbed(house, patience_s=0)


def until(holds, seconds=20):
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)
