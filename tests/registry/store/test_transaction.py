"""When a unit of work begins a transaction: on PostgreSQL what is new alone needs none, and is asked and written so."""

from dataclasses import replace

import pytest
from sqlalchemy import event

from ihe import vocabulary as v
from ihe.registry_objects import Kind, SubmittedObjects
from tests.builders import having, new_uuid, submission
from tests.postgres import postgres_server, postgres_url  # noqa: F401 - fixtures
from tests.registry.rooms import RegistryRoom, codes_of


@pytest.fixture
def room(postgres_url):  # noqa: F811 - the fixture imported above
    room = RegistryRoom(postgres_url)
    room.know()
    yield room
    room.close()


@pytest.fixture
def begun(room):
    """What began a transaction to write, as a list that grows."""
    found = []

    @event.listens_for(room.engine, "begin")
    def _begin(connection):
        if "dossier_write" in connection.get_execution_options():
            found.append(connection)

    return found


def with_uuids(objects):
    """The same submission with a UUID for each symbol."""
    ids = {one.id: new_uuid() for one in objects.objects if one.id is not None}
    renamed = (
        replace(one, id=ids.get(one.id), source=ids.get(one.source), target=ids.get(one.target))
        for one in objects.objects
    )
    return SubmittedObjects(tuple(renamed))


@pytest.mark.parametrize(
    "objects",
    [submission(entries=2, folders=1), with_uuids(submission(entries=2)), submission(entries=40)],
    ids=["symbols", "UUIDs", "more rows than one statement takes"],
)
def test_what_is_new_alone_begins_none(room, begun, objects):
    room.accept(objects)
    assert begun == []
    found = room.find().objects
    assert len(found) == len(objects.of(Kind.DOCUMENT_ENTRY))


def test_what_builds_on_something_begins_one(room, begun):
    room.accept(submission())
    (uuid, *_) = room.find(return_type="ObjectRef").object_refs
    room.accept(submission(relations=[(v.APND, uuid)]))
    assert len(begun) == 1


def test_the_same_document_again_keeps_its_unique_id_from_being_freed(room, begun):
    objects = submission()
    (entry,) = objects.of(Kind.DOCUMENT_ENTRY)
    room.accept(objects)
    room.accept(submission(entry=[having(external_identifiers=entry.external_identifiers)]))
    assert len(begun) == 1


def test_an_entry_uuid_that_is_taken_is_seen(room, begun):
    objects = with_uuids(submission())
    room.accept(objects)
    again = submission(extra=[replace(objects.of(Kind.DOCUMENT_ENTRY)[0], external_identifiers=())])
    assert begun == []
    answer = room.submit(again)
    assert codes_of(answer) == {"XDSRegistryMetadataError"}
    assert any("this entryUUID is registered already" in error.context for error in answer.errors)


def test_a_refusal_begins_none(room, begun):
    answer = room.submit(submission(patient="nobody^^^&1.2.3&ISO"))
    assert codes_of(answer) == {"XDSUnknownPatientId"}
    assert begun == []
