"""The sweep: what it settles, what it removes, and what it must not touch."""

import os
from dataclasses import replace

import pytest

from repository import sweep
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


def test_a_few_old_orphans_are_removed_young_ones_kept(house):
    house.provide(submission())
    key = os.urandom(16).hex()
    upload = house.store.begin(key)
    upload.finish()
    assert sweep.run_once(house.room) == Report(orphans=1)
    house.room.clock.forward(2 * 3600)
    assert sweep.run_once(house.room, orphans=False) == Report()
    assert sweep.run_once(house.room) == Report(orphans=1, orphans_removed=1)
    house.assert_whole()


def test_many_orphans_mean_the_wrong_database_and_stay(house, monkeypatch):
    monkeypatch.setattr(sweep, "MOST_ORPHANS", 3)
    for _ in range(4):
        house.store.begin(os.urandom(16).hex()).finish()
    house.room.clock.forward(2 * 3600)
    assert sweep.run_once(house.room) == Report(orphans=4)
    assert len(house.objects()) == 4


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
