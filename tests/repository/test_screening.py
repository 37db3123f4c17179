"""Documents go past the scanner before they are registered: over the wire, with a real clamd where there is one."""

import random
import threading
from contextlib import contextmanager
from dataclasses import replace

import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from repository.scanner.protocol import Bounded, NoScanner, ScanFailed
from repository.store.protocol import StoreUnavailable
from tests.builders import REPOSITORY
from tests.repository.scanner.servers import MALWARE, NAME, STREAM_MAX, Scripted, clamd, clamd_answer, free_port, silent
from tests.repository.sending import Upload
from tests.repository.stand import stand, unique_ids
from tests.repository.test_iti41_provide_and_register_document_set_b import as_it_comes_from_a_source
from tests.wire.soap_peer import eventually

MIB = 2**20
LARGE = random.Random(1).randbytes(3 * MIB)
CLEAN, FOUND = clamd_answer(b"stream: OK\0"), clamd_answer(b"stream: Some.Thing FOUND\0")


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    with clamd(tmp_path_factory.mktemp("clamd") / "real") as (address, _):
        yield address


def counted(result):
    return REGISTRY.get_sample_value("dossier_documents_scanned_total", {"result": result}) or 0


@contextmanager
def house_with(tmp_path, scanner, **settings):
    """(stand, log lines) of a repository with this scanner."""
    address = scanner if isinstance(scanner, str) else f"clamd://127.0.0.1:{scanner.port}"
    with stand(tmp_path, scanner=address, media_check="off", **settings) as house, capture_logs() as logs:
        yield house, logs


@pytest.mark.parametrize("mtom", [True, False])
@pytest.mark.parametrize("around", [b"", LARGE], ids=["in memory", "stored"])
def test_malware_is_refused_audited_and_not_kept(tmp_path, real, around, mtom):
    objects = as_it_comes_from_a_source(entries=3)
    documents = {"Document01": around, "Document02": around + MALWARE, "Document03": MALWARE + around}
    _, second, third = unique_ids(objects)
    before = counted("clean"), counted("found")
    with house_with(tmp_path, real) as (house, logs):
        answer = house.provide(objects, documents, mtom=mtom)
        text = "malware was found in this document; nothing was kept"
        assert answer.status == "Failure"
        assert answer.errors == [("InvalidDocumentContent", f"{one}: {text}") for one in (second, third)]
        house.assert_nothing_kept()
        assert house.registry.received == []
        assert house.records() == [("malware", 8), ("malware", 8), ("ITI-41", 8)]
        alert = house.messages()[0]
        assert alert.event.event_id.code == "110113"
        (subject,) = alert.objects
        told = {detail.type: detail.value for detail in subject.details}
        assert (subject.id, told["Alert Description"]) == (second, f"malware: {NAME}".encode())
        assert told["Repository Unique Id"] == REPOSITORY.encode()
        assert [line["malware"] for line in logs if line["event"] == "iti41.malware"] == [NAME] * 2
        assert (counted("clean"), counted("found")) == (before[0] + 1, before[1] + 2)
        assert house.provide(objects, dict.fromkeys(documents, around), mtom=mtom).status == "Success"
        house.assert_whole()


def test_what_a_real_scanner_takes_no_more_of_is_not_registered(tmp_path, real):
    objects = as_it_comes_from_a_source(entries=2)
    documents = {"Document01": bytes(STREAM_MAX + 1), "Document02": b"small"}
    with house_with(tmp_path, real) as (house, _):
        answer = house.provide(objects, documents)
        reason = "could not be scanned: the document is larger than the malware scanner takes; nothing was kept"
        assert answer.errors == [("XDSRepositoryError", f"{unique_ids(objects)[0]}: {reason}")]
        house.assert_nothing_kept()


def test_a_document_of_several_entries_is_scanned_once(tmp_path):
    objects = as_it_comes_from_a_source(entries=3)
    cids = {"Document01": "one@source", "Document02": "one@source", "Document03": "two@source"}
    documents = {"Document01": LARGE, "Document02": LARGE, "Document03": b"x"}
    with Scripted(FOUND, CLEAN) as scanner, house_with(tmp_path, scanner) as (house, _):
        answer = house.provide(objects, documents, cids=cids)
        assert [context.partition(":")[0] for _, context in answer.errors] == unique_ids(objects)[:2]
        assert len(scanner.heads) == 2
        house.assert_nothing_kept()


def test_a_document_goes_to_the_scanner_in_bounded_blocks(tmp_path):
    sizes = []

    def measured(peer, _script):
        stream = peer.makefile("rb")
        assert stream.read(10) == b"zINSTREAM\0"
        while size := int.from_bytes(stream.read(4), "big"):
            sizes.append(size)
            assert len(stream.read(size)) == size
        peer.sendall(b"stream: OK\0")

    with Scripted(measured) as scanner, house_with(tmp_path, scanner) as (house, _):
        assert house.provide(as_it_comes_from_a_source(), {"Document01": LARGE}).status == "Success"
    assert sum(sizes) == len(LARGE)
    assert max(sizes) <= 256 * 1024


def test_a_document_nobody_reads_on_is_closed_at_once(tmp_path):
    """The scanner answers before its end; the media check has seen its beginning pass by."""
    closed = []

    class Watched:
        def __init__(self, store):
            self._store = store

        def __getattr__(self, name):
            return getattr(self._store, name)

        def open(self, key):
            try:
                yield from self._store.open(key)
                closed.append("read")
            except GeneratorExit:
                closed.append("left")
                raise

    with Scripted(clamd_answer(b"stream: A FOUND\0", end=b"zINSTREAM")) as scanner:
        address, content = f"clamd://127.0.0.1:{scanner.port}", bytes(40 * MIB)
        with stand(tmp_path, scanner=address, wrap=lambda room: replace(room, store=Watched(room.store))) as house:
            answer = house.provide(as_it_comes_from_a_source(), {"Document01": content})
            assert answer.codes == ["InvalidDocumentContent"]
            assert closed == ["left"]


def test_a_slow_sender_holds_no_scanner(tmp_path):
    with Scripted(CLEAN) as scanner, house_with(tmp_path, scanner) as (house, _):
        with Upload(house.address, as_it_comes_from_a_source(), {"Document01": LARGE}) as upload:
            upload.send(2 * MIB)
            assert eventually(lambda: house.rows() != {})
            assert house.provide(as_it_comes_from_a_source(), {"Document01": b"quick"}).status == "Success"
            assert len(scanner.heads) == 1
            assert upload.send().answer().status == "Success"
            assert len(scanner.heads) == 2
        house.assert_whole()


def test_nothing_is_read_for_a_submission_that_is_refused_anyway(tmp_path):
    with Scripted(CLEAN) as scanner, house_with(tmp_path, scanner) as (house, _):
        documents = {"Document01": b"x", "Document02": b"nobody's"}
        assert house.provide(as_it_comes_from_a_source(), documents).codes == ["XDSMissingDocumentMetadata"]
        assert scanner.heads == []


# ------------------------------------------------------------------------------------------- out of reach


@pytest.mark.parametrize("data", [b"small", LARGE], ids=len)
def test_without_its_scanner_nothing_is_taken(tmp_path, data):
    objects = as_it_comes_from_a_source(entries=2)
    documents = {"Document01": data, "Document02": data}
    port = free_port()
    before = counted("failed")
    with house_with(tmp_path, f"clamd://127.0.0.1:{port}") as (house, logs):
        answer = house.provide(objects, documents)
        reason = "could not be scanned: the malware scanner cannot be asked: Connection refused, try again later"
        assert answer.errors == [("XDSRepositoryBusy", f"{unique_ids(objects)[0]}: {reason}; nothing was kept")]
        assert str(port) not in answer.errors[0][1]
        house.assert_nothing_kept()
        assert house.records() == [("ITI-41", 8)]
        (line,) = [line for line in logs if line["event"] == "iti41.not_scanned"]
        assert (line["documents"], line["refused"]) == (2, True)
    assert counted("failed") == before + 2


@pytest.mark.parametrize("data", [b"small", LARGE], ids=len)
def test_where_scanning_is_not_required_it_is_taken_and_counted(tmp_path, data):
    before = counted("failed")
    scanner = f"clamd://127.0.0.1:{free_port()}"
    with house_with(tmp_path, scanner, scanner_required=False) as (house, logs):
        documents = {"Document01": data, "Document02": data}
        assert house.provide(as_it_comes_from_a_source(entries=2), documents).status == "Success"
        house.assert_whole()
        (line,) = [line for line in logs if line["event"] == "iti41.not_scanned"]
        assert (line["documents"], line["refused"]) == (2, False)
    assert counted("failed") == before + 2


@pytest.mark.parametrize("required", [True, False])
def test_what_is_found_counts_though_the_rest_could_not_be_scanned(tmp_path, required):
    objects = as_it_comes_from_a_source(entries=2)
    with Scripted(FOUND, clamd_answer(b"")) as scanner:
        with house_with(tmp_path, scanner, scanner_required=required) as (house, _):
            answer = house.provide(objects, {"Document01": b"1", "Document02": b"2"})
            assert answer.codes == ["InvalidDocumentContent", *(["XDSRepositoryBusy"] if required else [])]
            assert house.records() == [("malware", 8), ("ITI-41", 8)]
            house.assert_nothing_kept()


def test_a_scanner_that_hangs_holds_up_nobody_who_fetches(tmp_path):
    objects = as_it_comes_from_a_source()
    with Scripted(CLEAN, silent(20)) as scanner:
        with house_with(tmp_path, scanner, scan_timeout_s=2, max_scans=4) as (house, _):
            assert house.provide(objects, {"Document01": LARGE}).status == "Success"
            answers = []

            def provide():
                answers.append(house.provide(as_it_comes_from_a_source(), {"Document01": b"x"}))

            threads = [threading.Thread(target=provide) for _ in range(4)]
            for thread in threads:
                thread.start()
            assert eventually(lambda: len(scanner.heads) == 5)
            for _ in range(5):
                assert house.retrieve(*unique_ids(objects)).documents()[0][1] == LARGE
            assert answers == [], "the scanner had been given up before"
            for thread in threads:
                thread.join()
            assert [answer.codes for answer in answers] == [["XDSRepositoryBusy"]] * 4
            assert "did not answer within 2 s" in answers[0].errors[0][1]
            house.assert_whole()


def test_a_store_that_fails_while_a_document_is_read_back_is_the_stores_fault(tmp_path):
    class Failing:
        def __init__(self, store):
            self._store = store

        def __getattr__(self, name):
            return getattr(self._store, name)

        def open(self, key):
            yield from list(self._store.open(key))[:1]
            raise StoreUnavailable("document store: Input/output error")

    with Scripted(CLEAN) as scanner:
        address = f"clamd://127.0.0.1:{scanner.port}"
        with stand(tmp_path, scanner=address, wrap=lambda room: replace(room, store=Failing(room.store))) as house:
            answer = house.provide(as_it_comes_from_a_source(), {"Document01": LARGE})
            assert answer.errors == [("XDSRepositoryError", "document store: Input/output error; nothing was kept")]
            house.assert_nothing_kept()


# -------------------------------------------------------------------------------------------------- places


class Waiting:
    """A scanner that is told when to go on."""

    scans = True

    def __init__(self):
        self.go_on, self.inside = threading.Event(), 0

    def scan(self, blocks, size):
        self.inside += 1
        assert self.go_on.wait(10)

    def check(self):
        return True


def test_who_finds_no_place_in_time_is_told_to_come_again():
    waiting = Waiting()
    bounded = Bounded(waiting, 2, patience_s=0.1)
    threads = [threading.Thread(target=bounded.scan, args=([], 0)) for _ in range(2)]
    for thread in threads:
        thread.start()
    assert eventually(lambda: waiting.inside == 2)
    with pytest.raises(ScanFailed, match="too much to do") as failed:
        bounded.scan([], 0)
    assert failed.value.again
    waiting.go_on.set()
    for thread in threads:
        thread.join()
    assert bounded.scan([], 0) is None
    assert bounded.check()


def test_the_stand_in_says_that_it_scans_nothing(tmp_path):
    assert NoScanner().scans is False
    assert NoScanner().check()
    assert NoScanner().scan([MALWARE], len(MALWARE)) is None
    before = counted("clean"), counted("failed")
    with stand(tmp_path) as house:
        assert house.provide(as_it_comes_from_a_source(), {"Document01": MALWARE}).status == "Success"
    assert (counted("clean"), counted("failed")) == before
