"""ICAP: a real c-icap before a real clamd, and services that answer in the ways other products do (RFC 3507)."""

import pytest

from repository.scanner.address import scanner_address
from repository.scanner.icap import Icap
from repository.scanner.protocol import ScanFailed
from tests.repository.scanner.servers import (
    MALWARE,
    NAME,
    Scripted,
    c_icap,
    clamd,
    closing,
    free_port,
    icap_answer,
    icap_options,
    silent,
)

BLOCK = bytes(256 * 1024)
HEAD = b"ICAP/1.0 200 OK\r\nEncapsulated: res-hdr=0, res-body=40\r\n"
PAGE = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 1\r\n\r\n1\r\nx\r\n0\r\n\r\n"
SAME = b"HTTP/1.1 200 OK\r\n\r\n1\r\nx\r\n0\r\n\r\n"
CLEAN = b"ICAP/1.0 204 No Modifications\r\n\r\n"


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    folder = tmp_path_factory.mktemp("icap")
    with clamd(folder / "clamd") as (_, path), c_icap(folder / "c-icap", path) as address:
        yield address


def asked(address, blocks, timeout_s=10.0):
    return Icap(scanner_address(address), timeout_s).scan(blocks, sum(map(len, blocks)))


def test_a_real_one(real):
    address = f"{real}/virus_scan"
    icap = Icap(scanner_address(address), 10)
    assert icap.check()
    for blocks, found in (
        ([], None),
        ([b"x"], None),
        ([b"a", b"", b"b"], None),
        ([BLOCK] * 40, None),
        ([MALWARE], NAME),
        ([b"x" * 100_000, MALWARE, b"y"], NAME),
        ([BLOCK] * 40 + [MALWARE], NAME),
    ):
        assert icap.scan(blocks, sum(map(len, blocks))) == found
        assert asked(address, blocks) == found


def test_a_real_service_that_scans_nothing_is_no_scanner(real):
    """It gives the document back, and says nothing about it."""
    with pytest.raises(ScanFailed, match="without saying why"):
        asked(f"{real}/echo", [b"x"])


def test_a_service_that_is_not_there(real):
    with pytest.raises(ScanFailed, match=r"offers no service \(404\)"):
        asked(f"{real}/nothing", [b"x"])


def exchange(answer, methods="RESPMOD", blocks=(b"doc", b"ument")):
    with Scripted(icap_options(methods), icap_answer(answer)) as peer:
        return peer, asked(f"icap://127.0.0.1:{peer.port}/av", list(blocks), timeout_s=2)


def test_a_document_is_the_body_of_a_response():
    peer, found = exchange(CLEAN, methods="REQMOD, RESPMOD")
    assert found is None
    options, sent = peer.heads
    address = b"icap://127.0.0.1:%d/av ICAP/1.0\r\n" % peer.port
    assert options.startswith(b"OPTIONS " + address)
    head, _, rest = sent.partition(b"\r\n\r\n")
    assert head.startswith(b"RESPMOD " + address)
    assert b"\r\nAllow: 204" in head
    request, response, body = (
        rest.index(word) for word in (b"GET ", b"HTTP/1.1 200", b"3\r\ndoc\r\n5\r\nument\r\n0\r\n\r\n")
    )
    assert b"Encapsulated: req-hdr=%d, res-hdr=%d, res-body=%d" % (request, response, body) in head
    assert b"Content-Length: 8\r\n" in rest


def test_or_of_a_request_where_the_service_takes_nothing_else():
    peer, found = exchange(CLEAN, methods="REQMOD")
    assert found is None
    head, _, rest = peer.heads[1].partition(b"\r\n\r\n")
    assert head.startswith(b"REQMOD ")
    assert b"Encapsulated: req-hdr=0, req-body=%d" % rest.index(b"3\r\ndoc") in head


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (HEAD + b"X-Infection-Found: Type=0; Resolution=2; Threat=Eicar-Test;\r\n\r\n" + PAGE, "Eicar-Test"),
        (HEAD + b"x-virus-id: Eicar\r\n\r\n" + SAME, "Eicar"),
        (HEAD + b"X-Violations-Found: 1\r\n\r\n" + PAGE, "1"),
        (HEAD + b"\r\n" + PAGE, "blocked by the scanner"),
    ],
)
def test_what_was_found_as_different_products_say_it(answer, found):
    assert exchange(answer)[1] == found


@pytest.mark.parametrize(
    ("answer", "reason", "again"),
    [
        (HEAD + b"\r\n" + SAME, "without saying why", False),
        (HEAD + b"X-Virus-ID: Heuristics.Limits.Exceeded.MaxFileSize\r\n\r\n" + PAGE, "beyond the limits", False),
        (HEAD + b"\r\n", "without saying why", False),
        (b"ICAP/1.0 503 Overloaded\r\n\r\n", "answered 503", True),
        (b"ICAP/1.0 400 Bad\r\n\r\n", "answered 400", False),
        (b"ICAP/1.0 100 Continue\r\n\r\n", "answered 100", False),
        (b"HTTP/1.1 204 No\r\n\r\n", "no ICAP answer", True),
        (b"ICAP/1.0 2040\r\n\r\n", "no ICAP answer", True),
        (b"", "no ICAP answer", True),
        (b"x" * 100_000, "no ICAP answer", True),
    ],
)
def test_a_service_that_misbehaves_never_says_clean(answer, reason, again):
    with pytest.raises(ScanFailed, match=reason) as failed:
        exchange(answer)
    assert failed.value.again is again


def test_silence_and_closed_doors():
    for act in (silent(3), closing):
        with Scripted(icap_options(), act) as peer, pytest.raises(ScanFailed) as failed:
            asked(f"icap://127.0.0.1:{peer.port}/av", [BLOCK] * 40, timeout_s=0.5)
        assert failed.value.again
    with pytest.raises(ScanFailed, match="cannot be asked"):
        asked(f"icap://127.0.0.1:{free_port()}/av", [b"x"])


def test_the_method_is_asked_for_once_and_again_after_a_failure():
    acts = (icap_options(), icap_answer(CLEAN), icap_answer(b""), icap_options("REQMOD"), icap_answer(CLEAN))
    with Scripted(*acts) as peer:
        icap = Icap(scanner_address(f"icap://127.0.0.1:{peer.port}/av"), 2)
        assert icap.scan([b"x"], 1) is None
        with pytest.raises(ScanFailed):
            icap.scan([b"x"], 1)
        assert icap.scan([b"x"], 1) is None
        assert [head.partition(b" ")[0] for head in peer.heads] == [
            b"OPTIONS",
            b"RESPMOD",
            b"RESPMOD",
            b"OPTIONS",
            b"REQMOD",
        ]
