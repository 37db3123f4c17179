"""The attachments of an answer as they arrive (wire/client_package.py)."""

import pytest

from ihe.mtom import MimeError, parse_content_type
from tests.wire.soap_peer import MIB, MTOM, attached, multipart, root_part
from wire.client_package import Package
from wire.spool import Spool


def unread(*parts, spool=None):
    data = multipart(*parts)
    pieces = (data[start : start + 50_000] for start in range(0, len(data), 50_000))
    return Package(parse_content_type(MTOM), pieces, spool)


def package(*parts, spool=None):
    it = unread(*parts, spool=spool)
    assert it.root(MIB)[0] == b"<root/>"
    return it


ROOT = root_part(b"<root/>")


def arriving(it, *names):
    it.refer(names)
    return [(name, b"".join(pieces)) for name, pieces in it.arriving()]


def test_parts_come_in_the_order_of_the_message():
    it = package(ROOT, attached("b@x", b"B"), attached("a@x", b"A"))
    assert arriving(it, "a@x", "b@x") == [("b@x", b"B"), ("a@x", b"A")]


def test_parts_before_the_root_are_kept():
    it = package(attached("a@x", b"A" * 2 * MIB), ROOT, attached("b@x", b"B"))
    assert arriving(it, "a@x", "b@x") == [("a@x", b"A" * 2 * MIB), ("b@x", b"B")]
    it.close()


def test_what_nobody_refers_to_is_dropped_and_takes_no_room():
    spool = Spool(None, 1000)
    it = package(ROOT, attached("junk@x", bytes(3 * MIB)), attached("a@x", b"A"), spool=spool)
    assert arriving(it, "a@x") == [("a@x", b"A")]
    assert spool.held_bytes == 0


def test_a_part_that_is_left_is_passed_over():
    it = package(ROOT, attached("a@x", b"A" * MIB), attached("b@x", b"B"))
    it.refer(["a@x", "b@x"])
    parts = it.arriving()
    next(next(parts)[1])
    assert b"".join(next(parts)[1]) == b"B"


def test_names_are_compared_without_case_and_escapes():
    it = package(ROOT, attached("A%40x", b"A"))
    assert arriving(it, "a@x") == [("A@x", b"A")]


def test_what_is_out_of_order_is_bounded_and_given_back():
    spool = Spool(None, MIB)
    it = unread(attached("a@x", bytes(2 * MIB)), ROOT, spool=spool)
    with pytest.raises(MimeError, match="no room"):
        it.root(MIB)
    it.close()
    assert spool.held_bytes == 0
    it = package(ROOT, attached("a@x", bytes(MIB // 2)), attached("b@x", b"B"), spool=spool)
    it.refer(["a@x", "b@x"])
    assert b"".join(it.part("b@x", keep=False)) == b"B"
    assert b"".join(it.part("a@x", keep=False)) == bytes(MIB // 2)
    it.close()
    assert spool.held_bytes == 0
