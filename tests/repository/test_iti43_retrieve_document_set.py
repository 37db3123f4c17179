"""ITI-43 over the wire (ITI TF-2: 3.43)."""

import os
import re
import socket
import time

import pytest

from consent.policy import Decision
from ihe import vocabulary as v
from repository import iti43_retrieve_document_set as iti43
from repository.store.protocol import StoreUnavailable
from tests.builders import CONTENT, REPOSITORY, having, submission, with_identifier, with_slot
from tests.repository.stand import ACTION, envelope, multipart, post, retrieve_xml, stand, unique_ids

HOME = "urn:oid:1.2.3.4"
LARGE = os.urandom(3_000_000)


@pytest.fixture
def house(tmp_path):
    with stand(tmp_path) as running:
        yield running


def stored(house, *datas, **more):
    """Provide one document for each; gives their unique ids."""
    changes = (with_slot("hash"), with_slot("size"), *more.pop("entry", ()))
    objects = submission(entries=len(datas), entry=changes, **more)
    answer = house.provide(objects, {f"Document{n:02}": data for n, data in enumerate(datas, 1)})
    assert answer.status == "Success"
    return unique_ids(objects)


def path_of(house, unique_id):
    (document,) = house.index.available([unique_id])
    return house.store._object(document.object_key)


def texts(answer, name):
    return [e.text for e in answer.body.iter(f"{{{v.XDSB}}}{name}")]


def test_the_answer_follows_the_request_also_twice(house):
    one, two = stored(house, b"one", LARGE)
    answer = house.retrieve(two, one, two)
    assert answer.status == "Success"
    assert answer.documents() == [(two, LARGE), (one, b"one"), (two, LARGE)]
    assert texts(answer, "mimeType") == ["text/plain"] * 3
    assert texts(answer, "RepositoryUniqueId") == [REPOSITORY] * 3


def test_home_is_echoed_if_and_only_if_it_was_sent(house):
    one, two = stored(house, b"one", b"two")
    answer = house.retrieve((REPOSITORY, one, HOME), (REPOSITORY, two))
    rows = answer.body.findall(f"{{{v.XDSB}}}DocumentResponse")
    assert [row.findtext(f"{{{v.XDSB}}}HomeCommunityId") for row in rows] == [HOME, None]


def test_the_registered_mime_type_is_given(house):
    (one,) = stored(house, b"<x/>", entry=(having(mime_type="text/xml"),))
    assert texts(house.retrieve(one), "mimeType") == ["text/xml"]


def test_unknown_document_unknown_repository_and_a_good_one(house):
    (one,) = stored(house, b"one")
    answer = house.retrieve("9.9.9", one, ("1.1.1", one), ("1.1.1", "8.8.8"))
    assert answer.status == "PartialSuccess"
    assert answer.codes == ["XDSDocumentUniqueIdError", "XDSUnknownRepositoryId", "XDSUnknownRepositoryId"]
    assert "9.9.9" in dict(answer.errors)["XDSDocumentUniqueIdError"]
    assert answer.documents() == [(one, b"one")]
    assert house.records()[2:] == [("ITI-43", 0), ("ITI-43", 8)]


def test_nothing_found_is_a_failure(house):
    answer = house.retrieve("9.9.9")
    assert (answer.status, answer.codes, answer.documents()) == ("Failure", ["XDSDocumentUniqueIdError"], [])
    assert house.records() == [("ITI-43", 8)]


def test_a_repository_id_with_prefix_is_ours(house):
    (one,) = stored(house, b"one")
    assert house.retrieve((f"urn:oid:{REPOSITORY}", one)).documents() == [(one, b"one")]


def test_five_hundred_documents_in_one_answer(house):
    data = [b"document %d" % n for n in range(100)]
    ids = stored(house, *data)
    answer = house.retrieve(*ids * 5)
    assert answer.documents() == [(i, d) for i, d in zip(ids, data, strict=True)] * 5


def test_a_plain_request_is_answered_plainly(house):
    (one,) = stored(house, b"one")
    root = envelope(ACTION + "RetrieveDocumentSet", retrieve_xml((REPOSITORY, one)))
    answer = post(house.address, "application/soap+xml", root)
    assert answer.content_type.startswith("application/soap+xml")
    assert texts(answer, "Document") == ["b25l"]


def test_no_document_request_is_a_failure(house):
    root = envelope(ACTION + "RetrieveDocumentSet", retrieve_xml())
    answer = post(house.address, *multipart(root, {}))
    assert (answer.status, set(answer.codes)) == ("Failure", {"XDSRepositoryError"})


# ---------------------------------------------------------------------------------------------------- damage


@pytest.mark.parametrize("damage", ["missing", "shorter", "longer", "changed"])
@pytest.mark.parametrize("data", [b"small document", LARGE], ids=len)
def test_damaged_bytes_are_never_given_out(house, damage, data):
    one, two = stored(house, data, b"intact")
    path = path_of(house, one)
    if damage == "missing":
        path.unlink()
    elif damage == "changed":
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    else:
        path.write_bytes(data[:-1] if damage == "shorter" else data + b"x")
    if damage == "changed" and data is LARGE:
        got = raw_retrieve(house, one)
        assert LARGE[-1000:] not in got
        assert not got.rstrip().endswith(b"--")
        assert not got.endswith(b"0\r\n\r\n")
        await_records(house, [("ITI-43", 0), ("ITI-43", 8)])
        return
    answer = house.retrieve(one, two)
    assert (answer.status, answer.codes) == ("PartialSuccess", ["XDSRepositoryError"])
    assert answer.documents() == [(two, b"intact")]


def test_of_several_copies_the_oldest_intact_one_is_served(house):
    same = (with_identifier(v.ENTRY_UNIQUE_ID, "1.2.3"),)
    stored(house, LARGE, entry=same)
    stored(house, LARGE, entry=same)
    oldest, second = (house.store._object(d.object_key) for d in house.index.available(["1.2.3"]))
    second.write_bytes(b"x" + LARGE[1:])
    assert house.retrieve("1.2.3").documents() == [("1.2.3", LARGE)]
    second.write_bytes(LARGE)
    oldest.write_bytes(b"x" + LARGE[1:])
    assert house.retrieve("1.2.3").documents() == [("1.2.3", LARGE)]


def raw_retrieve(house, *unique_ids, limit=None):
    """Every byte that comes until the connection ends, or the first ``limit``; then we hang up."""
    host, port = re.match(r"http://([^:]+):(\d+)", house.address).groups()
    content_type, body = multipart(
        envelope(ACTION + "RetrieveDocumentSet", retrieve_xml(*((REPOSITORY, u) for u in unique_ids))), {}
    )
    head = f"POST /repository HTTP/1.1\r\nHost: x\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
    got = b""
    with socket.create_connection((host, int(port)), 20) as connection:
        connection.sendall(f"{head}Connection: close\r\n\r\n".encode() + body)
        try:
            while (limit is None or len(got) < limit) and (data := connection.recv(65536)):
                got += data
        except ConnectionError:
            pass
    return got


def test_a_client_that_hangs_up_gets_a_second_record(house):
    ids = stored(house, *[LARGE] * 8)
    raw_retrieve(house, *ids * 3, limit=1000)
    await_records(house, [("ITI-43", 0), ("ITI-43", 8)])


def await_records(house, wanted):
    """The record of a broken transfer is written after the connection is gone."""
    for _ in range(100):
        if house.records()[2:] == wanted:
            return
        time.sleep(0.1)
    raise AssertionError(house.records())


# ----------------------------------------------------------------------------------------------------- audit


def test_one_record_for_each_patient(house):
    (one,) = stored(house, b"one")
    (two,) = stored(house, b"two", patient="OTHER^^^&1.3.6.1.4.1.21367.13.20.1000&ISO")
    house.retrieve((REPOSITORY, one, HOME), (REPOSITORY, two))
    first, second = house.messages()[4:]
    assert [o.id for o in second.objects] == ["OTHER^^^&1.3.6.1.4.1.21367.13.20.1000&ISO", two]
    assert first.objects[1].id == one
    assert first.event.event_id.code == "110106"
    assert (b"ihe:homeCommunityID", HOME.encode()) in [(d.type.encode(), d.value) for d in first.objects[1].details]


def test_a_large_answer_needs_little_memory(house):
    ids = stored(house, *[CONTENT * 100_000] * 3)
    assert [len(data) for _, data in house.retrieve(*ids).documents()] == [len(CONTENT) * 100_000] * 3


@pytest.mark.parametrize(
    ("full", "code"), [(True, "XDSRepositoryOutOfResources"), (False, "XDSRepositoryError")], ids=["full", "away"]
)
def test_an_index_that_is_away_or_full_is_an_error(house, monkeypatch, full, code):
    def away(*_):
        raise StoreUnavailable("the index does not answer", full=full)

    (one,) = stored(house, b"one")
    monkeypatch.setattr(iti43, "_look_up", away)
    answer = house.retrieve(one)
    assert (answer.http_status, answer.status) == (200, "Failure")
    assert answer.errors == [(code, "the index does not answer")]


def test_what_is_not_permitted_is_refused_by_the_name_of_the_rule(house, monkeypatch):
    (one,) = stored(house, b"one")
    monkeypatch.setattr(iti43, "decide", lambda *_: Decision(permit=False, rule="no-way-out"))
    answer = house.retrieve(one)
    ((code, context),) = answer.errors
    assert (answer.http_status, answer.status, code) == (200, "Failure", "XDSRepositoryError")
    assert "no-way-out" in context
