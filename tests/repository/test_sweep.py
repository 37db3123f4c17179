"""The sweep: what it settles, what it removes, and what it must not touch."""

import os
import threading
import time
from contextlib import contextmanager
from dataclasses import replace

import pytest

from atna.settings import LONGEST_S
from repository import sweep
from repository.patience import MOST_UNANSWERED
from repository.store.protocol import ObjectLocked
from repository.sweep import Report
from tests.builders import submission, with_slot
from tests.repository.stand import Act, stand, unique_ids

WINDOW_S = 30


@pytest.fixture
def house(tmp_path):
    with stand(tmp_path) as running:
        yield running


def lose(house, *, takes, objects=None):
    """A submission without an outcome."""
    house.registry.script.append(Act(takes=takes, answer=None))
    house.registry.silent = True
    house.provide(objects or submission())
    house.registry.silent = False


def test_nothing_is_settled_before_its_time(house):
    lose(house, takes=False)
    house.room.clock.forward(20)
    assert sweep.run_once(house.room) == Report()
    assert len(house.objects()) == 1


def test_what_the_registry_has_becomes_available_with_its_records(house):
    objects = submission(entries=2)
    lose(house, takes=True, objects=objects)
    before = len(house.records())
    house.room.clock.forward(WINDOW_S)
    assert sweep.run_once(house.room) == Report(completed=1)
    house.assert_whole()
    assert house.records()[before:] == [("ITI-18", 0), ("ITI-41", 0), ("ITI-42", 0)]
    assert house.provide(objects).status == "Success"
    assert len(house.registry.received) == 1


def test_what_the_registry_does_not_have_is_removed(house):
    lose(house, takes=False)
    before = len(house.records())
    house.room.clock.forward(WINDOW_S)
    assert sweep.run_once(house.room) == Report(removed=1)
    house.assert_nothing_kept()
    assert house.index.unresolved(2**62) == ()
    assert house.records()[before:] == [("ITI-18", 0)], "the failure is on record since the source was told"


def test_a_registry_that_does_not_answer_settles_nothing(house):
    lose(house, takes=False)
    house.registry.silent = True
    house.room.clock.forward(10 * WINDOW_S)
    assert sweep.run_once(house.room) == Report(undecided=1)
    assert len(house.objects()) == 1


def test_registered_without_its_objects_is_damaged_and_the_retry_heals_it(house):
    objects = submission()
    lose(house, takes=True, objects=objects)
    for key in house.objects():
        house.store.delete(key)
    house.room.clock.forward(WINDOW_S)
    assert sweep.run_once(house.room) == Report(damaged=1)
    assert house.provide(objects).status == "Success"
    assert len(house.retrieve(*unique_ids(objects)).documents()) == 1
    house.room.clock.forward(WINDOW_S)
    sweep.run_once(house.room)
    house.assert_whole()


def test_a_set_of_somebody_else_under_the_same_id_is_not_ours(house):
    mine, theirs = submission(unique_id="1.2.3"), submission(unique_id="1.2.3")
    lose(house, takes=False, objects=mine)
    from tests.builders import submit_objects_request_xml

    house.registry.held["1.2.3"] = submit_objects_request_xml(theirs)
    house.room.clock.forward(WINDOW_S)
    assert sweep.run_once(house.room) == Report(removed=1)
    house.assert_nothing_kept()


def test_a_young_upload_is_left_alone_and_an_old_one_removed(house):
    from repository.room import StagedDocument

    staged = StagedDocument(house.room)
    staged.write(b"half")
    house.room.clock.forward(3600)
    assert sweep.run_once(house.room) == Report()
    house.room.clock.forward(6 * 3600)
    assert sweep.run_once(house.room).discarded == 1
    house.assert_nothing_kept()


def test_old_uploads_without_a_row_are_removed_young_ones_kept(house):
    house.provide(submission())
    house.store.begin(os.urandom(16).hex()).write(b"half")
    assert sweep.run_once(house.room) == Report(orphans=1)
    house.room.clock.forward(2 * 3600)
    assert sweep.run_once(house.room, orphans=False) == Report()
    assert sweep.run_once(house.room) == Report(orphans=1, orphans_removed=1)
    house.assert_whole()


def test_many_uploads_without_a_row_mean_the_wrong_database_and_stay(house, monkeypatch):
    monkeypatch.setattr(sweep, "MOST_ORPHANS", 3)
    for _ in range(4):
        house.store.begin(os.urandom(16).hex()).write(b"half")
    house.room.clock.forward(2 * 3600)
    assert sweep.run_once(house.room) == Report(orphans=4)
    assert len(house.objects()) == 4


def test_complete_objects_without_a_row_stay_until_an_operator_says_how_many_may_go(house, caplog):
    """An older copy of the database knows nothing of the documents that came after it: they are no leftovers."""
    house.provide(submission())
    for _ in range(2):
        house.store.begin(os.urandom(16).hex()).finish()
    house.room.clock.forward(2 * 3600)
    assert sweep.run_once(house.room) == Report(orphans=2)
    assert "2 objects in the document store are not in the index" in caplog.text
    assert sweep.run_once(house.room, remove_orphans=1) == Report(orphans=2)
    assert sweep.run_once(house.room, remove_orphans=2) == Report(orphans=2, orphans_removed=2)
    house.assert_whole()


def test_young_objects_without_a_row_stay_whatever_the_operator_says(house):
    house.store.begin(os.urandom(16).hex()).finish()
    assert sweep.run_once(house.room, remove_orphans=9) == Report(orphans=1)


def test_objects_under_a_lock_hold_up_no_other(house, monkeypatch):
    lose(house, takes=False, objects=submission(entries=MOST_UNANSWERED + 2))
    locked = sorted(house.objects())[:-1]
    real = house.store.delete

    def delete(key):
        if key in locked:
            raise ObjectLocked("the object store keeps an object: until 2099")
        real(key)

    monkeypatch.setattr(house.store, "delete", delete)
    house.room.clock.forward(WINDOW_S)
    for whole in (False, True):
        report = sweep.run_once(house.room, orphans=whole)
        assert report.unanswered == 0
    assert sorted(house.objects()) == locked
    monkeypatch.undo()
    sweep.run_once(house.room)
    house.assert_nothing_kept()


def test_an_upload_that_was_just_killed_may_still_write(house):
    """Nobody is serving, yet the store may do what it was asked to a moment ago."""
    from repository.room import StagedDocument

    staged = StagedDocument(house.room)
    staged.write(b"half")
    for _ in range(2):
        sweep.run_once(house.room, staging_age_s=0)
        assert house.objects() == {}
        assert [row.state for row in house.rows().values()] == ["removing"]
    upload = house.store.begin(staged.key)
    upload.write(b"half and more")
    upload.finish()
    house.room.clock.forward(WINDOW_S)
    assert sweep.run_once(house.room, staging_age_s=0).discarded == 1
    house.assert_nothing_kept()


# ------------------------------------------------------------------------------------------------- periodic


@contextmanager
def sweeping(*rooms):
    """The periodic sweep of each room, at work."""
    stop = threading.Event()
    threads = [threading.Thread(target=sweep.run, args=(room, stop)) for room in rooms]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(10)
            assert not thread.is_alive()


def until(holds, seconds=20):
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_periodic_sweep_settles_what_is_left(tmp_path):
    with stand(tmp_path, sweep_interval_s=0.05) as house:
        lose(house, takes=True)
        house.room.clock.forward(WINDOW_S)
        with sweeping(house.room):
            until(lambda: not house.index.unresolved(2**62))
        house.assert_whole()


def test_two_processes_take_turns_and_the_registry_is_asked_less_and_less_often(tmp_path):
    """What stays without an outcome leaves an audit record with each question."""
    with stand(tmp_path, sweep_interval_s=0.05) as house:
        lose(house, takes=False)
        house.registry.silent = True
        asked = len(house.records())
        house.room.clock.forward(WINDOW_S)
        rooms = [house.room, replace(house.room)]
        with sweeping(*rooms):
            until(lambda: len(house.records()) - asked >= 2)
            time.sleep(1)
        assert len(house.records()) - asked <= 6, "twenty sweeps, each twice as late as the last"
        with sweeping(rooms[1]):
            until(lambda: len(house.records()) - asked >= 7)


def test_a_process_that_holds_the_lease_and_died_is_followed_by_another(tmp_path, monkeypatch):
    monkeypatch.setattr(sweep, "LEASE_S", 1.0)
    with stand(tmp_path, sweep_interval_s=0.05) as house:
        lose(house, takes=True)
        house.room.clock.forward(WINDOW_S)
        assert house.index.hold(sweep.LEASE, "died", 1.5)
        with sweeping(house.room):
            time.sleep(0.3)
            assert len(house.index.unresolved(2**62)) == 1
            until(lambda: not house.index.unresolved(2**62))


def test_the_longest_times_of_the_settings_can_be_waited_for_and_counted_with(tmp_path):
    longest = dict.fromkeys(("sweep_interval_s", "staging_age_s", "orphan_interval_s", "max_registration_s"), LONGEST_S)
    with stand(tmp_path, **longest) as house:
        assert house.provide(submission()).status == "Success"
        assert sweep.run_once(house.room).quiet
        stop = threading.Event()
        thread = threading.Thread(target=sweep.run, args=(house.room, stop))
        thread.start()
        thread.join(0.2)
        assert thread.is_alive()
        stop.set()
        thread.join()


def test_a_sweep_ends_when_its_process_has_to(house):
    for _ in range(3):
        lose(house, takes=True)
    house.room.clock.forward(WINDOW_S)
    turns = iter([True, False])
    report = sweep.run_once(house.room, going=lambda: next(turns, False))
    assert (report.completed, report.undecided) == (1, 2)
    assert sweep.run_once(house.room).completed == 2


def test_sweeps_beside_each_other_and_beside_a_repository_at_work(house):
    """By hand there is no lease: each step holds only if the row still is what was read."""
    lost = [submission(entries=2) for _ in range(6)]
    for number, objects in enumerate(lost):
        lose(house, takes=number % 2 == 0, objects=objects)
    house.room.clock.forward(WINDOW_S)
    reports, answers = [], []
    work = [lambda: reports.append(sweep.run_once(house.room)) for _ in range(3)]
    work += [lambda one=one: answers.append(house.provide(one).status) for one in lost[:4]]
    threads = [threading.Thread(target=one) for one in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(one in {"Success", "Failure"} for one in answers)
    for objects in lost:
        assert house.provide(objects).status == "Success"
    house.room.clock.forward(WINDOW_S)
    sweep.run_once(house.room)
    house.assert_whole()
    assert len(house.rows()) == 12


def test_an_object_that_cannot_be_deleted_is_tried_again(house):
    lose(house, takes=False, objects=submission(entry=with_slot("hash")))
    house.room.clock.forward(WINDOW_S)
    from repository.store.protocol import StoreUnavailable

    class Stuck:
        def delete(self, _key):
            raise StoreUnavailable("not now")

        def __getattr__(self, name):
            return getattr(house.store, name)

    assert sweep.run_once(replace(house.room, store=Stuck())).removed == 1
    assert len(house.objects()) == 1
    assert sweep.run_once(house.room).discarded == 1
    house.assert_nothing_kept()
