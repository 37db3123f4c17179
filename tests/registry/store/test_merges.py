"""Merges in the real databases: what is refused, chains, undoing, and races."""

import contextlib
import random
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import select

from atna.store.engine import begin_write, open_engine, reading, write
from registry.store.merges import merge, survivors, unmerge
from registry.store.patient_protocol import MergeRefused
from registry.store.patients import make_known
from registry.store.protocol import LostRace
from registry.store.tables import metadata, patient, patient_merge
from tests.postgres import postgres_server, postgres_url  # noqa: F401 - fixtures

NOW = "20261122120000"
AUTHORITY = "1.2.3"
A, B, C, D = ((name, AUTHORITY) for name in "ABCD")


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request, tmp_path):
    url = f"sqlite:///{tmp_path / 'registry.db'}" if request.param == "sqlite" else None
    made = open_engine(url or request.getfixturevalue("postgres_url"), metadata)
    with begin_write(made) as connection:
        make_known(connection, [A, B, C, D, ("A", "1.2.4")], {}, NOW)
    yield made
    made.dispose()


def merged(engine, subsumed, surviving):
    with begin_write(engine) as connection:
        merge(connection, subsumed, surviving, NOW)


def undone(engine, one, other=None):
    with begin_write(engine) as connection:
        return unmerge(connection, one, other, "20261123000000")


def standing_for(engine):
    """Id to the id that survives of it, of those that are merged."""
    with reading(engine) as connection:
        keys = range(1, 6)
        found = survivors(connection, keys)
        own = {key: who for key, (survivor, who) in found.items() if survivor == key}
        rows = connection.execute(patient_merge.select().where(patient_merge.c.undone_at.is_(None))).all()
        assert {row.subsumed_key for row in rows} == set(keys) - own.keys()
        return {key: who for key, (survivor, who) in found.items() if survivor != key}


@pytest.mark.parametrize(
    ("subsumed", "surviving", "reason"),
    [
        (A, A, "itself"),
        (A, ("A", "1.2.4"), "two assigning authorities"),
        (("X", AUTHORITY), A, "subsumed id was never announced"),
        (A, ("X", AUTHORITY), "surviving id was never announced"),
        (C, A, "subsumed id is merged"),
        (A, C, "surviving id is merged"),
    ],
)
def test_what_is_refused_changes_nothing(engine, subsumed, surviving, reason):
    merged(engine, C, D)
    before = standing_for(engine)
    with pytest.raises(MergeRefused) as caught:
        merged(engine, subsumed, surviving)
    assert reason in caught.value.reason
    assert standing_for(engine) == before


def test_a_chain_is_followed_and_each_link_can_be_undone(engine):
    merged(engine, A, B)
    merged(engine, B, C)
    assert set(standing_for(engine).values()) == {C} and len(standing_for(engine)) == 2
    assert undone(engine, C, B) == (B, C)
    assert list(standing_for(engine).values()) == [B]
    assert undone(engine, A) == (A, B)
    assert standing_for(engine) == {}
    merged(engine, B, A)
    assert list(standing_for(engine).values()) == [A]


@pytest.mark.parametrize(("one", "other"), [(A, C), (B, None), (A, ("X", AUTHORITY)), (("X", AUTHORITY), None), (C, D)])
def test_only_a_merge_that_is_there_is_undone(engine, one, other):
    merged(engine, A, B)
    with pytest.raises(MergeRefused):
        undone(engine, one, other)
    assert list(standing_for(engine).values()) == [B]


def test_merges_at_once_make_no_cycle_and_none_is_lost(engine):
    for pairs in ([(A, B), (B, A)], [(A, B), (B, C), (C, A)], [(A, B), (A, C), (A, D)], [(A, B), (C, D), (D, A)]):
        begin, outcomes = threading.Barrier(len(pairs)), []

        def one(pair, begin=begin, outcomes=outcomes):
            begin.wait()
            try:
                write(engine, lambda connection: merge(connection, *pair, NOW))
            except MergeRefused:
                outcomes.append(False)
            else:
                outcomes.append(True)

        threads = [threading.Thread(target=one, args=(pair,)) for pair in pairs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        after = standing_for(engine)
        assert len(outcomes) == len(pairs) and outcomes.count(True) == len(after) >= 1
        for who in (A, B, C, D):
            with contextlib.suppress(MergeRefused):
                undone(engine, who)
        assert standing_for(engine) == {}


def test_the_end_of_a_merge_that_was_ended_and_made_again_meanwhile_ends_the_one_that_is(engine):
    merged(engine, A, B)

    def end():
        try:
            undone(engine, A)
        except LostRace:
            undone(engine, A)

    waiting = threading.Thread(target=end)
    with begin_write(engine) as connection:
        unmerge(connection, A, B, NOW)
        merge(connection, A, B, NOW)
        waiting.start()
        waiting.join(0.5)  # it has found the first merge by now, and waits for B
    waiting.join()
    assert standing_for(engine) == {}


def test_merges_and_their_ends_at_once_leave_a_tree_that_agrees(engine):
    """survivor_key of every patient is what following its merges gives, whatever ran at the same time."""
    chance = random.Random(1)
    works = [(merge, *chance.sample([A, B, C, D], 2)) for _ in range(24)] + [
        (unmerge, who, None) for who in (A, B, C, D) * 6
    ]
    chance.shuffle(works)

    def one(work):
        what, subsumed, surviving = work
        for _ in range(20):
            with contextlib.suppress(MergeRefused, LostRace):
                write(engine, lambda connection: what(connection, subsumed, surviving, NOW))
                return

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(one, works))
    with reading(engine) as connection:
        into = dict(
            connection.execute(
                select(patient_merge.c.subsumed_key, patient_merge.c.surviving_key).where(
                    patient_merge.c.undone_at.is_(None)
                )
            ).all()
        )
        kept = dict(connection.execute(select(patient.c.patient_key, patient.c.survivor_key)).all())
    for key, survivor in kept.items():
        left = key
        for _ in range(10):
            left = into.get(left, left)
        assert survivor == (left if left != key else None)
