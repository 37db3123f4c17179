"""The blocks of an answer (wire/outbound.py)."""

from wire.outbound import BLOCK, gather


def test_pieces_are_gathered_to_about_a_block():
    pieces = iter([b"a" * (BLOCK // 2)] * 3 + [b"b"])
    assert gather(pieces) == (b"a" * BLOCK, False)
    assert gather(pieces) == (b"a" * (BLOCK // 2) + b"b", True)
    assert gather(pieces) == (b"", True)


def test_a_large_piece_is_a_block():
    pieces = iter([b"a" * 3 * BLOCK, b"b"])
    assert gather(pieces) == (b"a" * 3 * BLOCK, False)
    assert gather(pieces) == (b"b", True)


def test_when_patience_is_over_what_there_is_leaves():
    pieces = iter([b"", b"a", b"b", b"c"])
    assert gather(pieces, 0.0) == (b"a", False)
    assert gather(pieces, 60.0) == (b"bc", True)
