"""The list of defects: one row for each kind of deviation of a partner, however its objects are named."""

import pytest
from sqlalchemy import insert

from atna.store.engine import begin_write
from registry.store import tables as t
from registry.store.defects import DefectCount, read_defects
from tests import builders as b
from tests.registry.rooms import RegistryRoom

ZONE = "creationTime: is no valid DTM"


@pytest.fixture
def room(database_url):
    one = RegistryRoom(database_url, strictness="warn")
    one.know()
    yield one
    one.close()


def listed(room, partner=None):
    return read_defects(room.engine.url.render_as_string(hide_password=False), partner)


def keep(room, *rows):
    names = ("found_at", "partner", "code", "context")
    with begin_write(room.engine) as connection:
        connection.execute(insert(t.defect), [dict(zip(names, row, strict=True)) for row in rows])


def test_one_fault_of_several_submissions_is_counted_together(room):
    for name in (b.new_uuid(), b.new_uuid(), "Document01"):
        entry = b.with_slot("creationTime", "20240229120000Z")(b.document_entry(name))
        member = b.has_member("SubmissionSet01", name, status="Original")
        room.accept(b.SubmittedObjects((b.submission_set(), entry, member)))
    (one,) = listed(room)
    assert one.count == 3
    assert one.context.startswith(f"DocumentEntry, {ZONE}")


def test_the_last_of_a_kind_is_its_example(room):
    keep(
        room,
        ("20260102000000", "CN=a", "E", f"DocumentEntry urn:uuid:2, {ZONE}"),
        ("20260103000000", "CN=a", "E", f"DocumentEntry urn:uuid:3, {ZONE}"),
        ("20260101000000", "CN=a", "E", f"DocumentEntry urn:uuid:1, {ZONE}"),
        ("20260104000000", "CN=a", "F", f"DocumentEntry urn:uuid:4, {ZONE}"),
        ("20260104000000", "CN=a", "E", "the header wsa:Action is missing"),
        *[("20260105000000", "CN=b", "E", f"DocumentEntry urn:uuid:5, {ZONE}")] * 2,
    )
    of_a = [(one.code, one.context, one.count) for one in listed(room, "CN=a")]
    assert of_a == [
        ("E", f"DocumentEntry, {ZONE}", 3),
        ("F", f"DocumentEntry, {ZONE}", 1),
        ("E", "the header wsa:Action is missing", 1),
    ]
    first, *_, last = listed(room)
    example = f"DocumentEntry urn:uuid:3, {ZONE}"
    assert first == DefectCount("CN=a", "E", f"DocumentEntry, {ZONE}", 3, "20260101000000", "20260103000000", example)
    assert (last.partner, last.count) == ("CN=b", 2)
