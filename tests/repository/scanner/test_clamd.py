"""clamd: a real one with a signature of our own, and peers that misbehave."""

import pytest

from repository.scanner.address import scanner_address
from repository.scanner.clamd import LARGEST, Clamd
from repository.scanner.protocol import ScanFailed
from tests.repository.scanner.servers import (
    MALWARE,
    NAME,
    STREAM_MAX,
    Scripted,
    clamd,
    clamd_answer,
    closing,
    free_port,
    silent,
)

BLOCK = bytes(256 * 1024)


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    with clamd(tmp_path_factory.mktemp("clamd") / "real") as (by_tcp, path):
        yield {"tcp": by_tcp, "unix": f"clamd://{path}"}


def asked(address, blocks, timeout_s=10.0):
    return Clamd(scanner_address(address), timeout_s).scan(blocks, sum(map(len, blocks)))


@pytest.mark.parametrize("way", ["tcp", "unix"])
def test_a_real_one(real, way):
    assert Clamd(scanner_address(real[way]), 10).check()
    for clean in ([], [b""], [b"x"], [b"a", b"", b"b"], [BLOCK] * 20):
        assert asked(real[way], clean) is None
    for found in (
        [MALWARE],
        [b"x" * 100_000, MALWARE, b"y"],
        [MALWARE[:7], b"", MALWARE[7:]],
        [BLOCK, BLOCK + MALWARE],
    ):
        assert asked(real[way], found) == NAME


@pytest.mark.parametrize("more", [1, 1000, 30 * 2**20])
def test_more_than_a_real_one_takes(real, more):
    assert asked(real["tcp"], [BLOCK] * (STREAM_MAX // len(BLOCK))) is None
    with pytest.raises(ScanFailed, match="larger than the malware scanner takes") as failed:
        asked(real["tcp"], [BLOCK] * (STREAM_MAX // len(BLOCK)) + [bytes(more)[: 2**20]] * max(1, more // 2**20))
    assert not failed.value.again


def test_what_a_real_one_looks_at_no_further_is_not_clean(tmp_path):
    with clamd(tmp_path / "clamd", "MaxFileSize 1M", "AlertExceedsMax yes") as (address, _):
        assert asked(address, [BLOCK] * 3) is None
        with pytest.raises(ScanFailed, match="beyond the limits of the malware scanner") as failed:
            asked(address, [BLOCK] * 5)
        assert not failed.value.again


def test_what_clamd_calls_clean_for_its_size_alone_is_not_sent():
    with Scripted(clamd_answer(b"stream: OK\0")) as peer:
        scanner = Clamd(scanner_address(f"clamd://127.0.0.1:{peer.port}"), 1)
        assert scanner.scan([], LARGEST) is None
        with pytest.raises(ScanFailed, match="larger than") as failed:
            scanner.scan([], LARGEST + 1)
        assert not failed.value.again
        assert len(peer.heads) == 1


def test_a_document_that_cannot_be_read_is_not_clean(real):
    def blocks():
        yield b"x"
        raise KeyError("store")

    with pytest.raises(KeyError):
        Clamd(scanner_address(real["tcp"]), 10).scan(blocks(), 1)


@pytest.mark.parametrize(
    ("act", "reason", "again"),
    [
        (closing, "closed the connection|cannot be asked", True),
        (silent(3), "did not answer within 0.5 s", True),
        (clamd_answer(b""), "without an answer|cannot be asked", True),
        (clamd_answer(b"INSTREAM: Can't allocate memory ERROR\0"), "could not scan", False),
        (clamd_answer(b"stream: OK but not quite\0"), "could not scan", False),
        (clamd_answer(b"x" * 100_000), "could not scan", False),
        (clamd_answer(b"INSTREAM size limit exceeded. ERROR\0", end=b"zINSTREAM"), "larger than", False),
    ],
)
def test_a_peer_that_misbehaves_never_says_clean(act, reason, again):
    with Scripted(act) as peer:
        with pytest.raises(ScanFailed, match=reason) as failed:
            asked(f"clamd://127.0.0.1:{peer.port}", [BLOCK] * 40, timeout_s=0.5)
        assert failed.value.again is again


def test_an_early_answer_is_heard_before_everything_is_sent():
    with Scripted(clamd_answer(b"stream: Found.Early FOUND\0", end=b"zINSTREAM")) as peer:
        assert asked(f"clamd://127.0.0.1:{peer.port}", [BLOCK] * 4000) == "Found.Early"
        assert peer.received < 4000 * len(BLOCK)


def test_nobody_there(tmp_path):
    for address in (f"clamd://127.0.0.1:{free_port()}", f"clamd://{tmp_path}/none.sock"):
        for ask in (lambda scanner: scanner.scan([b"x"], 1), lambda scanner: scanner.check()):
            with pytest.raises(ScanFailed, match="cannot be asked") as failed:
                ask(Clamd(scanner_address(address), 1))
            assert failed.value.again
