"""A PostgreSQL that ends connections or goes away: the right answer in time, nothing half-written, then on as before."""

import time

import pytest
from sqlalchemy import event

from atna.store import quick
from ihe import vocabulary as v
from registry.store import tables
from registry.store.sql import SqlUnitOfWork
from tests.builders import new_oid, submission
from tests.postgres import restartable  # noqa: F401 - fixture
from tests.registry.rooms import GET_DOCUMENTS, RegistryRoom, codes_of

PATIENCE_S = 10


@pytest.fixture
def room(restartable):  # noqa: F811
    room = RegistryRoom(restartable.url())
    room.know()
    yield room
    room.close()


def counted(room):
    return [
        room.count(table) for table in (tables.submission_set, tables.entry, tables.object_key, tables.unique_id_key)
    ]


def written(room, before, associations=0):
    """How many submissions of one document, and so many ``associations``, were written whole since ``before``."""
    now = counted(room)
    sets, entries, objects, unique_ids = (b - a for a, b in zip(before, now, strict=True))
    assert (entries, objects, unique_ids) == (sets, (3 + associations) * sets, 2 * sets)
    return sets


def test_connections_that_ended_between_requests_are_not_lent_out(room, restartable):  # noqa: F811
    for _ in range(3):
        restartable.terminate()
        time.sleep(0.1)
        room.accept(submission())
        restartable.terminate()
        time.sleep(0.1)
        found = room.find()
        assert found.objects, found.errors
        restartable.terminate()
        time.sleep(0.1)
        answer = room.query(GET_DOCUMENTS, XDSDocumentEntryEntryUUID=f"('{found.objects[0].id}')")
        assert len(answer.objects) == 1, answer.errors


def ends_at(owner, step, when, restartable, monkeypatch):  # noqa: F811
    """The first time this step is taken all connections end, before or after it."""
    real, ended = getattr(owner, step), []

    def acting(self, *arguments):
        if when == "after":
            found = real(self, *arguments)
        if not ended:
            ended.append(step)
            restartable.terminate()
        return found if when == "after" else real(self, *arguments)

    monkeypatch.setattr(owner, step, acting)


def is_told_that_nobody_answers(answer):
    assert codes_of(answer) == {"XDSRegistryError"}
    (error,) = answer.errors
    assert error.context == "the registry's database does not answer; send it again later"


@pytest.mark.parametrize("step", ["facts_about", "apply", "record"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_connection_that_ends_in_a_registration(room, restartable, monkeypatch, step, when):  # noqa: F811
    """The work is run again on another connection, and written once."""
    before = counted(room)
    ends_at(SqlUnitOfWork, step, when, restartable, monkeypatch)
    room.accept(submission())
    assert written(room, before) == 1
    room.accept(submission())


def replacing(room):
    """A submission that builds on what is registered, so that it is more than one statement."""
    room.accept(submission())
    (uuid, *_) = room.find(return_type="ObjectRef").object_refs
    return submission(relations=[(v.RPLC, uuid)])


@pytest.mark.parametrize("step", ["facts_about", "apply", "record"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_connection_that_ends_in_a_replacement(room, restartable, monkeypatch, step, when):  # noqa: F811
    objects = replacing(room)
    before = counted(room)
    ends_at(SqlUnitOfWork, step, when, restartable, monkeypatch)
    answer = room.submit(objects)
    assert answer.status.endswith("Success"), answer.errors
    assert written(room, before, associations=1) == 1


def test_a_connection_that_ends_at_its_commit(room, restartable, monkeypatch):  # noqa: F811
    """What was sent along with the commit may have been written or not: it is not run again."""
    objects = replacing(room)
    before = counted(room)
    ends_at(SqlUnitOfWork, "finish", "before", restartable, monkeypatch)
    is_told_that_nobody_answers(room.submit(objects))
    assert written(room, before) == 0
    room.accept(objects)


def test_what_is_new_alone_has_no_connection_before_its_commit(room, restartable, monkeypatch):  # noqa: F811
    before = counted(room)
    ends_at(SqlUnitOfWork, "finish", "before", restartable, monkeypatch)
    room.accept(submission())
    assert written(room, before) == 1


@pytest.mark.parametrize(("when", "kept"), [("before", 0), ("after", 1)])
def test_the_commit_of_what_is_new_alone_is_not_run_again(room, restartable, monkeypatch, when, kept):  # noqa: F811
    """Run again it would meet what it had written itself, and be refused as a duplicate of another."""
    room.accept(submission())
    before, real, ended = counted(room), quick.insert_in_autocommit, []

    def insert(connection, tables, dialect):
        if ended or when == "after":
            real(connection, tables, dialect)
        if not ended:
            ended.append(when)
            restartable.terminate()
            connection.execute("SELECT 1")

    monkeypatch.setattr(quick, "insert_in_autocommit", insert)
    is_told_that_nobody_answers(room.submit(submission()))
    assert written(room, before) == kept


@pytest.mark.parametrize("return_type", ["LeafClass", "ObjectRef"])
def test_a_connection_that_ends_in_a_query(room, restartable, return_type):  # noqa: F811
    room.accept(submission())
    (uuid, *_) = room.find(return_type="ObjectRef").object_refs
    ended = []

    @event.listens_for(room.engine, "before_cursor_execute")
    def _execute(_connection, _cursor, statement, *_more):
        if "FROM entry" in statement and not ended:
            ended.append(1)
            restartable.terminate()

    answer = room.query(GET_DOCUMENTS, return_type, XDSDocumentEntryEntryUUID=f"('{uuid}')")
    assert ended
    assert answer.status.endswith("Success"), answer.errors
    assert answer.objects or answer.object_refs


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_a_server_that_is_away(room, restartable, mode):  # noqa: F811
    """Stopped in order, or as if its machine had failed."""
    room.accept(submission(unique_id=(kept := new_oid())))
    before = counted(room)
    restartable.stop(mode)
    try:
        for ask in (lambda: room.submit(submission()), room.find, lambda: room.find(return_type="ObjectRef")):
            began = time.monotonic()
            answer = ask()
            assert time.monotonic() - began < PATIENCE_S
            assert codes_of(answer) == {"XDSRegistryError"}
            assert [error.context for error in answer.errors] == [
                "the registry's database does not answer; send it again later"
            ]
    finally:
        restartable.start()
    assert written(room, before) == 0
    assert room.find().objects
    room.accept(submission())
    answer = room.submit(submission(unique_id=kept))
    assert codes_of(answer) == {"XDSDuplicateUniqueIdInRegistry"}
