"""Each bound of the repository over the wire: what just fits is taken, one more is refused by name, nothing is left."""

import os
import threading
import time
from contextlib import contextmanager
from dataclasses import replace

import pytest
from prometheus_client import REGISTRY

from repository.room import TooManyUploads, Uploads
from tests.builders import CONTENT
from tests.repository.sending import Upload, packed
from tests.repository.stand import LIMITS, retrieve, stand
from tests.repository.test_iti41_provide_and_register_document_set_b import as_it_comes_from_a_source
from tests.repository.test_iti86_remove_documents import remove
from tests.soak.test_full_disk import small_disk
from tests.wire.soap_peer import eventually
from wire.settings import LimitSettings

MIB = 2**20


def counted(limit):
    return REGISTRY.get_sample_value("dossier_limit_reached_total", {"limit": limit}) or 0


@contextmanager
def one_more(limit):
    """Within this block exactly one request is refused because of the limit."""
    before = counted(limit)
    yield
    assert counted(limit) == before + 1


@contextmanager
def no_more(limit):
    """Within this block none is."""
    before = counted(limit)
    yield
    assert counted(limit) == before


def reason(answer):
    """What a SOAP fault says."""
    return "".join(answer.body.itertext())


def one(data):
    return as_it_comes_from_a_source(), {"Document01": data}


def many(number, data=b"one of many"):
    return as_it_comes_from_a_source(entries=number), {f"Document{n:02}": data for n in range(1, number + 1)}


def arriving(house):
    """How many documents are being stored whose message has not come to its end."""
    return sum(row.state == "staging" for row in house.rows().values())


def size_of(objects, documents):
    return len(packed(objects, documents)[1])


# ---------------------------------------------------------------------------------------------------- sizes


@pytest.mark.parametrize("mtom", [True, False])
@pytest.mark.parametrize("most", [1000, 2 * MIB], ids=["small", "staged"])
def test_bytes_of_one_document(tmp_path, most, mtom):
    with stand(tmp_path, max_document_bytes=most) as house:
        with one_more("max_document_bytes"):
            answer = house.provide(*one(bytes(most + 1)), mtom=mtom)
        assert answer.http_status == 413
        assert f"a document may have {most} bytes (setting max_document_bytes)" in reason(answer)
        house.assert_nothing_kept()
        assert house.provide(*one(bytes(most)), mtom=mtom).status == "Success"
        house.assert_whole()


@pytest.mark.parametrize("length", [True, False], ids=["declared", "chunked"])
def test_bytes_of_one_request(tmp_path, length):
    fits, too_much = many(3, bytes(2 * MIB)), many(3, bytes(2 * MIB + 1000))
    most = size_of(*fits)
    with stand(tmp_path, max_request_bytes=most) as house:
        with one_more("max_request_bytes"), Upload(house.address, *too_much, length=length) as upload:
            if not length:
                upload.send()
            answer = upload.answer()
        assert answer.http_status == 413
        assert f"larger than the {most} bytes allowed (setting max_request_bytes)" in reason(answer)
        assert eventually(lambda: arriving(house) == 0)
        house.assert_nothing_kept()
        with Upload(house.address, *fits, length=length) as upload:
            assert upload.send().answer().status == "Success"
        house.assert_whole()


def test_bytes_of_a_document_in_the_envelope(tmp_path):
    with stand(tmp_path, max_inline_bytes=1000) as house:
        with one_more("max_inline_bytes"):
            answer = house.provide(*one(bytes(1001)), mtom=False)
        assert answer.http_status == 413
        assert "may have 1000 bytes: send it as an MTOM attachment (setting max_inline_bytes)" in reason(answer)
        assert house.provide(*one(bytes(1000)), mtom=False).status == "Success"


@pytest.mark.parametrize("mtom", [True, False])
def test_documents_of_one_submission(tmp_path, mtom):
    with stand(tmp_path, max_documents=5) as house:
        with one_more("max_documents"):
            answer = house.provide(*many(6), mtom=mtom)
        text = "the submission has 6 documents, 5 are allowed in one: divide it (setting max_documents)"
        assert answer.errors == [("XDSRepositoryMetadataError", text)]
        house.assert_nothing_kept()
        assert house.records() == [("ITI-41", 8)]
        assert house.registry.received == []
        assert house.provide(*many(5), mtom=mtom).status == "Success"
        house.assert_whole()


@pytest.mark.parametrize(
    ("limit", "asked", "text"),
    [
        ("max_retrieve_documents", retrieve, "3 documents are asked for, at most 2 are allowed: ask for the rest in"),
        ("max_remove_documents", remove, "3 documents are named, at most 2 are allowed: name the rest in"),
    ],
)
def test_documents_of_one_question(tmp_path, limit, asked, text):
    with stand(tmp_path, **{limit: 2}) as house:
        with one_more(limit):
            answer = asked(house.address, "1.1", "1.2", "1.3")
        assert answer.errors == [("XDSRepositoryError", f"{text} another request (setting {limit})")]
        with no_more(limit):
            assert asked(house.address, "1.1", "1.2").codes == ["XDSDocumentUniqueIdError"] * 2


@pytest.mark.parametrize(
    ("limit", "head", "text"),
    [
        ("max_part_header_count", b"X-1: y\r\nX-2: y\r\n", "a part header of more than 4 lines"),
        ("max_part_header_bytes", b"X-1: " + b"y" * 1000 + b"\r\n", "a part header of more than 1000 bytes"),
    ],
)
def test_the_header_of_one_part(tmp_path, limit, head, text):
    limits = LIMITS.model_copy(update={"max_part_header_count": 4, "max_part_header_bytes": 1000})
    with stand(tmp_path, limits=limits) as house:
        objects, documents = one(b"x")
        with Upload(house.address, objects, documents, length=False) as upload, one_more(limit):
            upload.body = upload.body.replace(
                b"Content-ID: <Document01@source>", head + b"Content-ID: <Document01@source>"
            )
            answer = upload.send().answer()
        assert answer.http_status == 400
        assert f"the MIME message has {text} (setting {limit})" in reason(answer)
        house.assert_nothing_kept()
        assert house.provide(objects, documents).status == "Success"


def test_documents_of_one_submission_by_default(tmp_path):
    """The bound on MIME parts leaves it to the framework's error to say that there are too many."""
    with stand(tmp_path) as house:
        assert house.provide(*many(1001)).codes == ["XDSRepositoryMetadataError"]
        assert LimitSettings().max_parts > 1001
        house.assert_nothing_kept()


def test_a_message_with_hundreds_of_stored_documents_has_few_of_them_open(tmp_path):
    open_at_once = []

    class Watched:
        def __init__(self, store):
            self._store = store

        def __getattr__(self, name):
            return getattr(self._store, name)

        def begin(self, key):
            open_at_once.append(len(list((tmp_path / "documents" / "incoming").iterdir())))
            return self._store.begin(key)

    with stand(tmp_path, wrap=lambda room: replace(room, store=Watched(room.store)), upload_buffer_bytes=1) as house:
        assert house.provide(*many(200)).status == "Success"
        assert len(open_at_once) == 200
        assert max(open_at_once) <= 1
        house.assert_whole()


# -------------------------------------------------------------------------------------------------- uploads


def test_uploads_at_once(tmp_path):
    with stand(tmp_path, max_uploads=2) as house:
        with (
            Upload(house.address, *one(os.urandom(3 * MIB))) as first,
            Upload(house.address, *many(2, bytes(2 * MIB))) as second,
        ):
            for upload in (first, second):
                upload.send(2 * MIB)
            assert eventually(lambda: arriving(house) == 2)
            with one_more("max_uploads"):
                answer = house.provide(*one(bytes(3 * MIB)))
            text = "2 uploads are under way already, try again later (setting max_uploads); nothing was kept"
            assert answer.errors == [("XDSRepositoryBusy", text)]
            assert house.records()[-1] == ("ITI-41", 8)
            assert arriving(house) == 2
            assert house.provide(*one(b"small documents need no place")).status == "Success"
            assert first.send().answer().status == "Success"
            assert house.provide(*one(bytes(3 * MIB))).status == "Success"
            assert second.send().answer().status == "Success"
        house.assert_whole()


def test_places_of_uploads_come_back_however_they_end(tmp_path):
    with stand(tmp_path, max_uploads=1, max_document_bytes=4 * MIB) as house:
        for _ in range(2):
            with Upload(house.address, *one(bytes(3 * MIB))) as upload:
                upload.send(2 * MIB)
                assert eventually(lambda: arriving(house) == 1)
            assert eventually(lambda: arriving(house) == 0)
            assert house.provide(*one(bytes(4 * MIB + 1))).http_status == 413
            objects, documents = one(bytes(2 * MIB))
            assert house.provide(objects, documents | {"nobody": b"x"}).codes == ["XDSMissingDocumentMetadata"]
            assert house.provide(*many(2, bytes(2 * MIB))).status == "Success"
        house.assert_whole()


def test_a_defect_while_an_upload_begins_keeps_no_place(tmp_path):
    class Defect:
        def __init__(self, index):
            self._index, self.left = index, 2

        def __getattr__(self, name):
            return getattr(self._index, name)

        def stage(self, *arguments):
            if self.left:
                self.left -= 1
                raise RuntimeError("a defect")
            self._index.stage(*arguments)

    with stand(tmp_path, max_uploads=1, wrap=lambda room: replace(room, index=Defect(room.index))) as house:
        for _ in range(2):
            assert house.provide(*one(bytes(2 * MIB))).codes == ["XDSRepositoryError"]
        assert house.provide(*one(bytes(2 * MIB))).status == "Success"
        house.assert_whole()


def test_a_document_that_names_no_part_leaves_none_of_the_others(tmp_path):
    with stand(tmp_path, max_uploads=1) as house:
        objects, documents = many(2, bytes(2 * MIB))
        with Upload(house.address, objects, documents) as upload:
            upload.body = upload.body.replace(b"Content-ID: <Document02@source>", b"Content-ID: <Document99@source>")
            assert upload.send().answer().http_status == 400
        house.assert_nothing_kept()
        assert house.provide(*one(bytes(2 * MIB))).status == "Success"


def test_a_request_has_one_place_for_all_its_documents():
    uploads = Uploads(1)
    uploads.enter("a")
    uploads.enter("a")
    uploads.leave("a")
    with pytest.raises(TooManyUploads):
        uploads.enter("b")
    uploads.leave("a")
    uploads.enter("b")


# ----------------------------------------------------------------------------------------------------- rate


def test_a_sender_that_trickles_is_cut_even_if_it_began_fast(tmp_path):
    limits = LIMITS.model_copy(update={"minimum_rate_bytes_per_s": 10_000, "minimum_rate_grace_s": 0.5})
    with stand(tmp_path, limits=limits) as house:
        with one_more("minimum_rate_bytes_per_s"), Upload(house.address, *one(bytes(8 * MIB))) as upload:
            upload.send(6 * MIB)
            assert eventually(lambda: arriving(house) == 1)
            until = time.monotonic() + 20
            while upload.silent and time.monotonic() < until:
                upload.send(10)
                time.sleep(0.02)
            answer = upload.answer()
        assert answer.http_status == 408
        assert "less than 10000 bytes per second" in reason(answer)
        assert "(setting minimum_rate_bytes_per_s)" in reason(answer)
        assert eventually(lambda: arriving(house) == 0)
        house.assert_nothing_kept()


def test_a_sender_that_falls_silent_is_cut(tmp_path):
    with stand(tmp_path, limits=LIMITS.model_copy(update={"body_idle_timeout_s": 0.5})) as house:
        with one_more("body_idle_timeout_s"), Upload(house.address, *one(bytes(4 * MIB))) as upload:
            upload.send(2 * MIB)
            answer = upload.answer()
        assert answer.http_status == 408
        assert "no byte of the request arrived for 0.5 s (setting body_idle_timeout_s)" in reason(answer)
        assert eventually(lambda: arriving(house) == 0)
        house.assert_nothing_kept()


def test_a_slow_sender_of_ordinary_speed_is_waited_for(tmp_path):
    """64 kB/s for several windows of the rate."""
    with stand(tmp_path, limits=LIMITS.model_copy(update={"minimum_rate_grace_s": 0.5})) as house:
        with Upload(house.address, *one(os.urandom(200_000))) as upload:
            while upload.sent < len(upload.body):
                assert upload.silent
                upload.send(6_400)
                time.sleep(0.1)
            assert upload.answer().status == "Success"
        house.assert_whole()


# ----------------------------------------------------------------------------------------------------- room


class Scarce:
    """A store with little room: ``free`` bytes, of which what is written is taken."""

    def __init__(self, store, free):
        self._store, self.free, self.begun = store, free, []

    def __getattr__(self, name):
        return getattr(self._store, name)

    def free_bytes(self):
        return self.free - sum(one.size for one in self._store.objects())

    def begin(self, key):
        self.begun.append(key)
        return self._store.begin(key)


@contextmanager
def scarce_house(tmp_path, free, **settings):
    found = []

    def wrap(room):
        found.append(Scarce(room.store, free))
        return replace(room, store=found[0])

    with stand(tmp_path, wrap=wrap, **settings) as house:
        yield house, found[0]


KEPT = "no room left in the document store, 1048576 bytes of which are kept free (setting min_free_bytes)"


def test_a_length_for_which_there_is_no_room_is_known_before_a_byte_is_stored(tmp_path):
    with scarce_house(tmp_path, 8 * MIB, min_free_bytes=MIB) as (house, store):
        with one_more("min_free_bytes"):
            answer = house.provide(*one(bytes(8 * MIB)))
        assert answer.errors == [("XDSRepositoryOutOfResources", f"{KEPT}; nothing was kept")]
        assert store.begun == []
        house.assert_nothing_kept()
        assert house.records() == [("ITI-41", 8)]
        assert house.provide(*one(bytes(6 * MIB))).status == "Success"
        house.assert_whole()


def test_documents_in_memory_need_room_together(tmp_path):
    with scarce_house(tmp_path, 3 * MIB, min_free_bytes=MIB) as (house, store):
        with one_more("min_free_bytes"):
            answer = house.provide(*many(5, bytes(MIB // 2)))
        assert answer.errors == [("XDSRepositoryOutOfResources", f"{KEPT}; nothing was kept")]
        assert store.begun == []
        assert house.registry.received == []
        house.assert_nothing_kept()
        assert house.provide(*many(3, bytes(MIB // 2))).status == "Success"
        house.assert_whole()


@pytest.mark.parametrize("length", [True, False], ids=["declared", "chunked"])
def test_room_is_left_on_a_real_disk(tmp_path, length):
    with small_disk(tmp_path / "documents", 32) as disk, stand(tmp_path, min_free_bytes=8 * MIB) as house:
        least = []
        ended = threading.Event()

        def watch():
            while not ended.wait(0.002):
                found = os.statvfs(disk.folder)
                least.append(found.f_bavail * found.f_frsize)

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            with Upload(house.address, *one(bytes(28 * MIB)), length=length) as upload:
                assert upload.send().answer().codes == ["XDSRepositoryOutOfResources"]
        finally:
            ended.set()
            watcher.join()
        assert min(least) >= 8 * MIB
        house.assert_nothing_kept()
        assert house.provide(*one(CONTENT)).status == "Success"
        house.assert_whole()


def test_a_store_that_does_not_know_its_room_is_believed(tmp_path):
    with scarce_house(tmp_path, 0, min_free_bytes=MIB) as (house, store):
        store.free_bytes = lambda: None
        assert house.provide(*one(bytes(3 * MIB))).status == "Success"
