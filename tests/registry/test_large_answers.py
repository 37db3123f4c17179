"""Answers of many objects: bounded before the first byte, then read and sent block by block (ITI TF-2: 3.18.4.1.3)."""

import pytest
from sqlalchemy import delete, event, update

from atna.store.engine import begin_write
from ihe import ebrs
from ihe import vocabulary as v
from ihe.registry_objects import Kind
from ihe.transactions import ITI_18
from registry.criteria import Criteria, Query
from registry.store import blocks, query_sql
from registry.store import codes as c
from registry.store import tables as t
from registry.store.protocol import StoreUnavailable
from registry.stored_queries import STORED_QUERIES
from schemas import parse_xml
from tests.builders import PATIENT, submission
from tests.registry.rooms import APPROVED, DEPRECATED, FIND_DOCUMENTS, RegistryRoom, codes_of

IDS = {row.query: row.id for row in STORED_QUERIES}
E, S, F = "$XDSDocumentEntry", "$XDSSubmissionSet", "$XDSFolder"
ANY = f"({APPROVED},{DEPRECATED})"
PLAIN = {E + "PatientId": f"'{PATIENT}'", E + "Status": ANY}
SIMPLE = {**PLAIN, E + "CreationTimeFrom": "2000"}
ALL = {"$patientId": f"'{PATIENT}'", E + "Status": ANY, S + "Status": ANY, F + "Status": ANY}


@pytest.fixture
def many(registry, monkeypatch):
    """Seven documents in a registry that reads the bytes of two at a time, and looks up three values at a time."""
    monkeypatch.setattr(query_sql, "SMALL", 2)
    monkeypatch.setattr(blocks, "AT_ONCE", 3)
    registry.accept(submission(entries=7))
    return registry


@pytest.fixture
def statements(many):
    """Every statement SQLAlchemy sends."""
    sent = []

    def note(_connection, _cursor, statement, *_):
        sent.append(statement)

    event.listen(many.engine, "before_cursor_execute", note)
    yield sent
    event.remove(many.engine, "before_cursor_execute", note)


def pieces(registry, parameters, query=FIND_DOCUMENTS, return_type="LeafClass"):
    body = ebrs.adhoc_query_request(query, parameters, return_type)
    return iter(registry.actor.handlers[ITI_18](registry.request(ITI_18, body)).body)


def whole(parts):
    return ebrs.read_adhoc_query_response(parse_xml(b"".join(parts)))


@pytest.fixture
def small_pieces(monkeypatch):
    monkeypatch.setattr("registry.iti18_registry_stored_query._BLOCK", 1)


@pytest.mark.parametrize("parameters", [PLAIN, SIMPLE], ids=["plain", "any"])
def test_every_object_comes_once_in_order(many, parameters):
    found = whole(pieces(many, parameters))
    references = whole(pieces(many, parameters, return_type="ObjectRef")).object_refs
    assert len(references) == 7
    assert tuple(o.id for o in found.objects) == references
    assert len({o.slot("hash") for o in found.objects}) == 7


@pytest.mark.parametrize("parameters", [PLAIN, SIMPLE], ids=["plain", "any"])
@pytest.mark.usefixtures("small_pieces")
def test_bytes_are_read_as_they_are_sent_and_no_connection_waits_for_the_peer(many, statements, parameters):
    read = []
    answer = pieces(many, parameters)
    for _ in answer:
        assert many.engine.pool.checkedout() == 0
        read.append(sum("fragment" in one for one in statements))
    # seven objects, two at a time, the first two with the selection; the last piece is the end of the message
    later = [number - read[0] for number in read]
    assert later == [0, 0, 1, 1, 2, 2, 3, 3]


def test_references_are_answered_without_the_objects(many, statements):
    for query, parameters in ((FIND_DOCUMENTS, PLAIN), (FIND_DOCUMENTS, SIMPLE), (IDS[Query.GET_ALL], ALL)):
        assert whole(pieces(many, parameters, query, "ObjectRef")).object_refs
    assert statements
    assert not [one for one in statements if "fragment" in one]


@pytest.mark.usefixtures("small_pieces")
def test_an_answer_is_of_the_moment_it_was_selected_in(many):
    answer = pieces(many, SIMPLE)
    first = next(answer)
    with begin_write(many.engine) as connection:
        connection.execute(update(t.entry).values(status=c.DEPRECATED))
    found = whole([first, *answer])
    assert [o.status for o in found.objects] == [v.APPROVED] * 7
    assert [o.status for o in whole(pieces(many, SIMPLE)).objects] == [v.DEPRECATED] * 7


@pytest.mark.usefixtures("small_pieces")
def test_an_object_removed_meanwhile_breaks_the_answer(many):
    answer = pieces(many, SIMPLE)
    next(answer)
    with begin_write(many.engine) as connection:
        for side in (t.entry_code, t.entry_author, t.entry_reference, t.entry):
            connection.execute(delete(side))
    with pytest.raises(StoreUnavailable):
        list(answer)


def test_get_all_and_its_associations_in_blocks(many):
    many.accept(submission(entries=2, folders=1))
    found = whole(pieces(many, ALL, IDS[Query.GET_ALL])).objects
    kinds = [o.kind for o in found]
    assert kinds == sorted(kinds, key=[Kind.SUBMISSION_SET, Kind.DOCUMENT_ENTRY, Kind.FOLDER, Kind.ASSOCIATION].index)
    assert len({o.id for o in found}) == len(found) == 2 + 9 + 1 + 7 + 7
    links = [o.id for o in found if o.kind is Kind.ASSOCIATION]
    again = whole(
        pieces(many, {"$uuid": "('{}')".format("','".join(o.id for o in found))}, IDS[Query.GET_ASSOCIATIONS])
    )
    assert [o.id for o in again.objects] == links


@pytest.fixture
def narrow(tmp_path):
    room = RegistryRoom(f"sqlite:///{tmp_path}/r.db", max_leaf_results=6, max_object_refs=9)
    room.know()
    room.accept(submission(entries=2))
    yield room
    room.close()


def test_associations_count_too(narrow):
    # a set, two documents, two links
    assert len(whole(pieces(narrow, ALL, IDS[Query.GET_ALL])).objects) == 5
    narrow.accept(submission(entries=1))
    assert codes_of(whole(pieces(narrow, ALL, IDS[Query.GET_ALL]))) == {"XDSTooManyResults"}
    assert len(whole(pieces(narrow, ALL, IDS[Query.GET_ALL], "ObjectRef")).object_refs) == 8
    narrow.accept(submission(entries=1))
    for form in ("LeafClass", "ObjectRef"):
        assert codes_of(whole(pieces(narrow, ALL, IDS[Query.GET_ALL], form))) == {"XDSTooManyResults"}


@pytest.mark.parametrize(
    "query",
    [Query.GET_ASSOCIATIONS, Query.GET_DOCUMENTS_AND_ASSOCIATIONS, Query.GET_SUBMISSION_SETS, Query.GET_DOCUMENTS],
)
def test_what_is_looked_up_is_bounded_in_every_query(narrow, query):
    for _ in range(3):
        narrow.accept(submission(entries=2))
    ids = whole(pieces(narrow, PLAIN, return_type="ObjectRef")).object_refs
    assert len(ids) == 8
    name = "$uuid" if query in (Query.GET_ASSOCIATIONS, Query.GET_SUBMISSION_SETS) else E + "EntryUUID"
    response = whole(pieces(narrow, {name: "('{}')".format("','".join(ids))}, IDS[query]))
    assert codes_of(response) == {"XDSTooManyResults"}
    assert len(whole(pieces(narrow, {name: f"('{ids[0]}')"}, IDS[query])).objects) in (1, 2)


def test_the_quick_way_reads_no_bytes_for_references_either():
    plain = Criteria(Query.FIND_DOCUMENTS, {}, (("P", "1.2.3"),))
    for full in (True, False):
        assert ("fragment" in str(query_sql._plain_statement(plain, 5, full=full))) is full
