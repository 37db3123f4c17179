"""What ``warn`` lets pass of a query is on the list of defects, with the query's audit record in one commit."""

from dataclasses import replace

import pytest

from ihe import ebrs
from ihe.transactions import ITI_18, ITI_42
from registry.store import tables as t
from registry.store.defects import read_defects
from registry.store.protocol import Defect, LetPass, StoreUnavailable
from registry.stored_queries import MOST_DEFECTS
from schemas import parse_xml
from tests.builders import PATIENT, submission, submit_objects_request_xml
from tests.registry.rooms import APPROVED, FIND_DOCUMENTS, RegistryRoom

E = "$XDSDocumentEntry"
RIGHT = {E + "PatientId": f"'{PATIENT}'", E + "Status": f"({APPROVED})"}
SLOPPY = {E + "PatientId": PATIENT, E + "Status": APPROVED, E + "CreationTimeFrom": "20200101120000+0100"}
NO_ACTION = "the header wsa:Action is missing"


@pytest.fixture
def room(database_url):
    one = RegistryRoom(database_url, strictness="warn")
    one.know()
    yield one
    one.close()


def defects(room):
    url = room.engine.url.render_as_string(hide_password=False)
    return {(row.partner, row.context): row.count for row in read_defects(url)}


def ask(room, parameters, **fields):
    request = room.request(ITI_18, ebrs.adhoc_query_request(FIND_DOCUMENTS, parameters))
    reply = room.actor.handlers[ITI_18](replace(request, **fields))
    return ebrs.read_adhoc_query_response(parse_xml(b"".join(reply.body)))


def test_a_query_that_is_right_leaves_none(room):
    assert ask(room, RIGHT).errors == ()
    assert defects(room) == {}
    assert len(room.audited()) == 1


def test_each_deviation_of_a_query_is_listed_by_partner(room):
    for _ in range(2):
        assert ask(room, SLOPPY).errors == ()
    loose = "quotes or parentheses are missing"
    assert defects(room) == {
        ("127.0.0.1", f"{E}PatientId: {loose}"): 2,
        ("127.0.0.1", f"{E}Status: {loose}"): 2,
        ("127.0.0.1", f"{E}CreationTimeFrom: the time has a zone or a fraction of a second"): 2,
    }
    assert len(room.audited()) == 2
    assert PATIENT not in str(defects(room))


def test_a_missing_action_is_listed_whatever_was_asked(room):
    ask(room, RIGHT, defects=(NO_ACTION,))
    body = submit_objects_request_xml(submission())
    room.actor.handlers[ITI_42](replace(room.request(ITI_42, body), defects=(NO_ACTION,)))
    assert defects(room) == {("127.0.0.1", NO_ACTION): 2}
    assert len(room.find().objects) == 1


def test_a_refused_query_leaves_its_record_alone(room):
    assert ask(room, {**SLOPPY, E + "ClassCode": "('x')"}, defects=(NO_ACTION,)).errors
    assert defects(room) == {}
    assert len(room.audited()) == 1


def test_many_deviations_are_some_of_them(room):
    codes = "".join(
        f'<rim:Slot name="{E}EventCodeList"><rim:ValueList><rim:Value>a^^1.2.3</rim:Value></rim:ValueList></rim:Slot>'
        for _ in range(MOST_DEFECTS + 5)
    )
    body = ebrs.adhoc_query_request(FIND_DOCUMENTS, RIGHT).replace(
        b"</rim:AdhocQuery>", f"{codes}</rim:AdhocQuery>".encode()
    )
    assert room.ask(body).errors == ()
    assert sum(defects(room).values()) == MOST_DEFECTS


def test_record_and_defects_are_written_both_or_neither(room):
    let_pass = LetPass("CN=x", "20260101000000", (Defect("XDSRegistryError", "a"), Defect("XDSRegistryError", "b")))
    t.defect.drop(room.engine)
    with pytest.raises(StoreUnavailable):
        room.store.record_alone([b"one"], let_pass)
    assert room.count(t.outbox) == 0
    room.store.record_alone([b"two"])
    t.defect.create(room.engine)
    room.store.record_alone([b"three", b"four"], let_pass)
    assert (room.count(t.outbox), room.count(t.defect)) == (3, 2)
