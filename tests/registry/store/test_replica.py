"""Stored queries at a streaming replica: they are asked there, and nobody notices when it goes away."""

import time

import pytest

from registry.store import readers
from registry.store.opening import open_registry
from tests.builders import submission
from tests.postgres import restartable  # noqa: F401 - fixture
from tests.registry.rooms import GET_DOCUMENTS, RegistryRoom

PATIENCE_S = 10


@pytest.fixture(scope="module")
def replica(restartable):  # noqa: F811
    open_registry(restartable.url())[0].dispose()
    copy = restartable.replica(restartable.folder / "replica")
    yield copy
    copy.close()


@pytest.fixture
def room(restartable, replica, monkeypatch):  # noqa: F811
    monkeypatch.setattr(readers, "PAUSE_S", 0.5)
    room = RegistryRoom(restartable.url(), read_database_url=replica.url())
    room.know()
    yield room
    room.close()


def entries(room):
    """What both ways of asking find: the quick one and the one in a transaction."""
    found = room.find(return_type="ObjectRef")
    assert found.status.endswith("Success"), found.errors
    if found.object_refs:
        listed = ",".join(f"'{uuid}'" for uuid in found.object_refs)
        whole = room.query(GET_DOCUMENTS, XDSDocumentEntryEntryUUID=f"({listed})")
        assert {entry.id for entry in whole.objects} == set(found.object_refs), whole.errors
    return len(found.object_refs)


def until(room, count):
    deadline = time.monotonic() + PATIENCE_S
    while entries(room) != count and time.monotonic() < deadline:
        time.sleep(0.05)
    assert entries(room) == count


def fallbacks():
    return readers.FALLBACKS._value.get()


def test_queries_go_to_the_replica(room, replica):
    """Shown by a replica that stands still: what was registered since is not found, until it moves on."""
    room.accept(submission())
    time.sleep(0.5)
    before = entries(room)
    replica.psql("SELECT pg_wal_replay_pause()")
    room.accept(submission())
    time.sleep(0.3)
    assert entries(room) == before
    replica.psql("SELECT pg_wal_replay_resume()")
    until(room, before + 1)


def test_a_replica_that_goes_away_and_comes_back(room, replica):
    room.accept(submission())
    time.sleep(0.5)
    before, failed = entries(room), fallbacks()
    replica.stop("immediate")
    try:
        room.accept(submission())
        began = time.monotonic()
        for _ in range(20):
            assert entries(room) == before + 1
        assert time.monotonic() - began < PATIENCE_S
        # 40 queries, and only one in each pause tried the replica
        assert 1 <= fallbacks() - failed <= 4 + (time.monotonic() - began) / readers.PAUSE_S
    finally:
        replica.start()
    time.sleep(readers.PAUSE_S)
    failed = fallbacks()
    until(room, before + 1)
    replica.psql("SELECT pg_wal_replay_pause()")
    room.accept(submission())
    time.sleep(0.3)
    assert entries(room) == before + 1
    replica.psql("SELECT pg_wal_replay_resume()")
    until(room, before + 2)
    assert fallbacks() == failed


def test_connections_that_the_replica_ended(room, replica):
    before, failed = entries(room), fallbacks()
    replica.terminate()
    time.sleep(0.1)
    assert entries(room) == before
    assert fallbacks() == failed


def test_a_registry_starts_without_its_replica(restartable, replica):  # noqa: F811
    replica.stop()
    try:
        room = RegistryRoom(restartable.url(), read_database_url=replica.url())
        room.know()
        room.accept(submission())
        assert entries(room)
        room.close()
    finally:
        replica.start()


def test_a_replica_is_never_written(room):
    from atna.store.engine import DatabaseRefused, begin_write

    with pytest.raises(DatabaseRefused), begin_write(room.reader):
        pass
