"""ITI-43 for many documents: one after the other, in bounded memory; and stores that fail while it is answered."""

import hashlib
import http.client
import os
import re
import socket
import time
import tracemalloc
from dataclasses import replace

import pytest

from repository import iti43_retrieve_document_set as iti43
from repository.store.keyring import new_line
from repository.store.protocol import ObjectMissing, StoreUnavailable
from tests.builders import REPOSITORY, submission, with_slot
from tests.repository.stand import ACTION, envelope, multipart, post, retrieve_xml, stand, unique_ids

STRIPPED = (with_slot("hash"), with_slot("size"))
MIB = 2**20


class Watched:
    """A store that notes which objects are opened; ``broken`` maps an object to the blocks it gives before it fails."""

    def __init__(self, store):
        self._store = store
        self.opened, self.broken = [], {}
        self.error = StoreUnavailable("the store does not answer")

    def open(self, key):
        self.opened.append(key)
        blocks = self._store.open(key)
        if key not in self.broken:
            return blocks
        return self._failing(blocks, self.broken[key])

    def _failing(self, blocks, count):
        for _ in range(count):
            yield next(blocks)
        if self.error is not None:
            raise self.error

    def __getattr__(self, name):
        return getattr(self._store, name)


@pytest.fixture(params=["plain", "sealed"])
def house(request, tmp_path):
    if request.param == "sealed":
        (tmp_path / "keys").write_text(new_line("k1"))
    watched = []

    def wrap(room):
        watched.append(Watched(room.store))
        return replace(room, store=watched[0])

    with stand(tmp_path, wrap=wrap, max_retrieve_documents=300) as running:
        running.watched = watched[0]
        yield running


def stored(house, *datas):
    objects = submission(entries=len(datas), entry=STRIPPED)
    answer = house.provide(objects, {f"Document{n:02}": data for n, data in enumerate(datas, 1)})
    assert answer.status == "Success", answer.errors
    return unique_ids(objects)


def key_of(house, unique_id):
    (document,) = house.index.available([unique_id])
    return document.object_key


def streamed(house, *documents):
    """(bytes, SHA-1) of an answer that is read as it comes; raises what http.client raises of a broken one."""
    host, port = re.match(r"http://([^:]+):(\d+)", house.address).groups()
    body = envelope(ACTION + "RetrieveDocumentSet", retrieve_xml(*((REPOSITORY, one) for one in documents)))
    content_type, body = multipart(body, {})
    connection = http.client.HTTPConnection(host, int(port), timeout=60)
    try:
        connection.request("POST", "/repository", body, {"Content-Type": content_type})
        answer, size, sha1 = connection.getresponse(), 0, hashlib.sha1()
        while block := answer.read(256 * 1024):
            size += len(block)
            sha1.update(block)
        return size, sha1.hexdigest()
    finally:
        connection.close()


def raw(house, *documents):
    """Every byte until the connection ends."""
    host, port = re.match(r"http://([^:]+):(\d+)", house.address).groups()
    body = envelope(ACTION + "RetrieveDocumentSet", retrieve_xml(*((REPOSITORY, one) for one in documents)))
    content_type, body = multipart(body, {})
    head = f"POST /repository HTTP/1.1\r\nHost: x\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
    got = bytearray()
    with socket.create_connection((host, int(port)), 20) as connection:
        connection.sendall(f"{head}Connection: close\r\n\r\n".encode() + body)
        try:
            while data := connection.recv(MIB):
                got += data
        except ConnectionError:
            pass
    return bytes(got)


def assert_broken(got):
    """Neither the last chunk of HTTP nor the last boundary of MIME came."""
    assert got.startswith(b"HTTP/1.1 200")
    assert not got.endswith(b"0\r\n\r\n")
    assert not got.rstrip().endswith(b"--")


def await_records(house, wanted):
    """The record of a broken transfer is written after the connection is gone."""
    for _ in range(100):
        found = [row for row in house.records() if row[0] == "ITI-43"]
        if found == wanted:
            return
        time.sleep(0.1)
    raise AssertionError(found)


# ----------------------------------------------------------------------------------------------------- many


def test_two_hundred_documents_of_5_mib_stream_in_bounded_memory(house):
    datas = [os.urandom(1024) * (5 * 1024) for _ in range(4)]
    ids = stored(house, *datas)
    del datas
    rounds = 50 if house.room.keyring is None else 10
    tracemalloc.start()
    try:
        size, _ = streamed(house, *ids * rounds)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size > rounds * 4 * 5 * MIB
    assert peak < 24 * MIB


def test_order_and_repeats_over_hundreds_of_small_and_large_ones(house):
    datas = [os.urandom(size) for size in (0, 1, 100, 70_000, 300_000, 900_000, 1_200_000)]
    ids = stored(house, *datas)
    wanted = [(ids[n % 7], datas[n % 7]) for n in range(0, 280, 3)]
    answer = house.retrieve(*(one for one, _ in wanted))
    assert answer.status == "Success"
    assert answer.documents() == wanted


def test_more_documents_than_allowed_are_refused_with_the_bound(house):
    (one,) = stored(house, b"one")
    answer = house.retrieve(*[one] * 301)
    assert (answer.http_status, answer.status, answer.codes) == (200, "Failure", ["XDSRepositoryError"])
    assert "301 documents" in answer.errors[0][1]
    assert "at most 300" in answer.errors[0][1]
    assert "max_retrieve_documents" in answer.errors[0][1]
    assert len(house.retrieve(*[one] * 300).documents()) == 300
    assert [row for row in house.records() if row[0] == "ITI-43"] == [("ITI-43", 8), ("ITI-43", 0)]


def test_small_documents_are_read_once(house):
    ids = stored(house, b"one", b"two" * 1000, b"three" * 10_000)
    house.watched.opened.clear()
    assert len(house.retrieve(*ids).documents()) == 3
    assert len(house.watched.opened) == 3


def test_what_is_read_before_the_answer_is_bounded(house, monkeypatch):
    """Within the bound a damaged document is an error beside the others; beyond it the answer has begun and breaks."""
    monkeypatch.setattr(iti43, "HASHED_FIRST_IN_ALL", 250_000)
    large, *ids = stored(house, os.urandom(3 * MIB), *(os.urandom(100_000) for _ in range(6)))
    for damaged, found_first in ((ids[0], True), (ids[5], False)):
        path = house.room.store._object(key_of(house, damaged))
        intact = path.read_bytes()
        path.write_bytes(intact[:-20] + bytes([intact[-20] ^ 1]) + intact[-19:])
        if found_first or house.room.keyring is not None:  # of a sealed one the beginning is looked at always
            answer = house.retrieve(large, *ids)
            assert (answer.status, answer.codes) == ("PartialSuccess", ["XDSRepositoryError"])
            assert len(answer.documents()) == 6
        else:
            assert_broken(raw(house, large, *ids))
        path.write_bytes(intact)
    assert len(house.retrieve(large, *ids).documents()) == 7


# ---------------------------------------------------------------------------------------------- failing stores


@pytest.mark.parametrize(
    "error",
    [StoreUnavailable("the store does not answer"), ObjectMissing("gone"), None],
    ids=["away", "gone", "cut short"],
)
@pytest.mark.parametrize("blocks", [3, 9])
def test_a_store_that_fails_within_an_answer_breaks_the_connection(house, error, blocks):
    """At the beginning of the second of three large documents, and in its middle."""
    datas = [os.urandom(3 * MIB) for _ in range(3)]
    ids = stored(house, *datas)
    house.watched.error = error
    house.watched.broken[key_of(house, ids[1])] = blocks
    got = raw(house, *ids)
    assert_broken(got)
    assert datas[1][-1000:] not in got
    assert datas[2][:1000] not in got
    # before the next request: its own first record could else overtake
    await_records(house, [("ITI-43", 0), ("ITI-43", 8)])
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        streamed(house, *ids)
    await_records(house, [("ITI-43", 0), ("ITI-43", 8)] * 2)
    del house.watched.broken[key_of(house, ids[1])]
    assert house.retrieve(*ids).documents() == list(zip(ids, datas, strict=True))


def test_a_store_that_fails_before_the_answer_began_is_an_error(house):
    ids = stored(house, b"one", b"two")
    house.watched.broken[key_of(house, ids[1])] = 0
    answer = house.retrieve(*ids)
    assert (answer.status, answer.codes, answer.documents()) == ("Failure", ["XDSRepositoryError"], [])
    assert [row for row in house.records() if row[0] == "ITI-43"] == [("ITI-43", 8)]


def test_a_store_that_fails_before_the_first_byte_left_is_an_error_too(house):
    """The object is there when it is looked at, and gone when its turn comes within the first block."""
    (one,) = stored(house, os.urandom(1_500_000))
    house.watched.error = ObjectMissing("gone")
    house.watched.broken[key_of(house, one)] = 3
    answer = house.retrieve(one)
    assert (answer.http_status, answer.status, answer.codes) == (200, "Failure", ["XDSRepositoryError"])
    assert "send it again" in answer.errors[0][1]
    await_records(house, [("ITI-43", 0), ("ITI-43", 8), ("ITI-43", 8)])


def test_a_plain_answer_breaks_as_well(house):
    """Base64 in the envelope has no boundary that could be missing: the end of the HTTP message has to be."""
    datas = [os.urandom(3 * MIB) for _ in range(2)]
    ids = stored(house, *datas)
    house.watched.broken[key_of(house, ids[1])] = 9
    body = envelope(ACTION + "RetrieveDocumentSet", retrieve_xml(*((REPOSITORY, one) for one in ids)))
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        post(house.address, "application/soap+xml", body)
    await_records(house, [("ITI-43", 0), ("ITI-43", 8)])
