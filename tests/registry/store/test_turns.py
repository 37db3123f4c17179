"""Who builds on what a patient has waits for who does so already (``registry.store.turns``); PostgreSQL, where two write.

Without it each of two misses what the other adds: a folder's new version the new version of a document in it, a removal
the copy of an association that an update makes, a replacement the folder that gets a new version.
"""

import threading
from contextlib import contextmanager

import pytest

from ihe import vocabulary as v
from ihe.datatypes import parse_cx
from ihe.ebrs import remove_objects_request
from ihe.registry_objects import Kind
from ihe.transactions import ITI_42, ITI_57, ITI_62
from registry.store.protocol import Asked
from tests.builders import AUTHORITY, PATIENT, submission, submit_objects_request_xml
from tests.postgres import postgres_server, postgres_url  # noqa: F401 - fixtures
from tests.registry.rooms import APPROVED, RegistryRoom
from tests.updates import new_status, new_version, update

OTHER = f"P-0815^^^&{AUTHORITY}&ISO"
GET_ALL = "urn:uuid:10b545ea-725c-446d-9b95-8aeb444eddf3"


@pytest.fixture
def registry(postgres_url):  # noqa: F811 - the fixture imported above
    room = RegistryRoom(postgres_url)
    room.know(PATIENT, OTHER)
    yield room
    room.close()


def everything(registry):
    names = ("XDSDocumentEntryStatus", "XDSSubmissionSetStatus", "XDSFolderStatus")
    return registry.query(GET_ALL, patientId=f"'{PATIENT}'", **dict.fromkeys(names, f"({APPROVED})")).objects


@contextmanager
def at_work(registry):
    """Somebody is in the midst of a change to the patient."""
    cx = parse_cx(PATIENT)
    asked = Asked(frozenset({(cx.id, cx.authority)}), frozenset(), frozenset(), frozenset(), builds_on=True)
    with registry.store.unit_of_work() as work:
        work.facts_about(asked)
        yield


def is_kept_waiting(registry, body, transaction):
    """Whether a request, which succeeds in the end, is answered only when the other is done."""
    answered, responses = threading.Event(), []

    def send():
        responses.append(registry.send(body, transaction=transaction))
        answered.set()

    thread = threading.Thread(target=send)
    with at_work(registry):
        thread.start()
        waits = not answered.wait(0.5)
        if not waits:
            thread.join(30)
    thread.join(30)
    assert [one.status for one in responses] == [v.SUCCESS], responses
    return waits


def test_what_builds_on_the_patients_documents_waits(registry):
    registry.accept(submission(entries=1, folders=1))
    found = everything(registry)
    (entry,) = (one for one in found if one.kind is Kind.DOCUMENT_ENTRY)
    (folder,) = (one for one in found if one.kind is Kind.FOLDER)
    for objects, transaction in (
        (submission(relations=((v.APND, entry.id),)), ITI_42),
        (update(new_status(folder.id)), ITI_57),
        (update(new_status(folder.id, v.DEPRECATED, v.APPROVED)), ITI_57),
        (new_version(entry), ITI_57),
        (new_version(folder), ITI_57),
    ):
        assert is_kept_waiting(registry, submit_objects_request_xml(objects), transaction)


def test_a_removal_waits(registry):
    registry.accept(submission())
    assert is_kept_waiting(registry, remove_objects_request([one.id for one in everything(registry)]), ITI_62)


@pytest.mark.parametrize("objects", [submission(entries=2, folders=1), submission(patient=OTHER)])
def test_new_documents_and_other_patients_do_not_wait(registry, objects):
    assert not is_kept_waiting(registry, submit_objects_request_xml(objects), ITI_42)
