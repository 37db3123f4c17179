"""Frames of RFC 5425 and lines, in any pieces: nothing is lost without a word (RFC 5425: 4.3; RFC 6587: 3.4)."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atna.iti20_record_audit_event import encode_frame
from wire.syslog_framing import Framer, Piece, Whole

YES, TRUNCATED, BROKEN = Whole.YES, Whole.TRUNCATED, Whole.BROKEN


def framed(*chunks, most=1000):
    framer = Framer(most)
    pieces = [piece for chunk in chunks for piece in framer.feed(chunk)]
    cut = framer.cut
    rest = framer.end()
    return [(piece.message, piece.whole) for piece in [*pieces, *([rest] if rest else [])]], cut


def cuts(data, at):
    places = [0, *sorted({place % (len(data) + 1) for place in at}), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(places)]


@given(
    st.lists(st.binary(min_size=1, max_size=40), max_size=8),
    st.lists(st.integers(0, 400)),
    st.sampled_from([b"", b"\n", b"\r\n", b"\n\n"]),
)
def test_counted_messages_come_out_whole_in_any_pieces(messages, at, between):
    stream = between.join(encode_frame(message) for message in messages) + between
    assert framed(*cuts(stream, at)) == ([(message, YES) for message in messages], False)


@given(st.lists(st.binary(max_size=40).map(lambda body: b"<85>" + body.replace(b"\n", b"")), max_size=8),
       st.lists(st.integers(0, 400)), st.booleans())  # fmt: skip
def test_lines_come_out_whole_in_any_pieces(messages, at, last):
    stream = b"".join(message + b"\n" for message in messages)
    stream = stream if last else stream.removesuffix(b"\n")
    assert framed(*cuts(stream, at)) == ([(message, YES) for message in messages], False)


def test_many_frames_in_one_piece():
    assert framed(b"1 a2 bb3 ccc") == ([(b"a", YES), (b"bb", YES), (b"ccc", YES)], False)


def test_a_counted_message_may_hold_line_feeds_and_digits():
    message = b"<85>1 - - - - - - \xef\xbb\xbf<A>\n5 b</A>\n"
    assert framed(encode_frame(message) * 2) == ([(message, YES)] * 2, False)


@pytest.mark.parametrize(
    "garbage",
    [b"x", b"0 ", b"01 a", b"-1 a", b" 5 abc", b"12a ", b"12345678901 ", b"\x16\x03\x01", b"GET / HTTP/1.1\r\n"],
)
def test_what_is_no_count_ends_the_stream_and_is_kept(garbage):
    assert framed(b"3 abc" + garbage)[0] == [(b"abc", YES), (garbage, BROKEN)]
    framer = Framer(1000)
    framer.feed(b"3 abc" + garbage)
    assert framer.lost
    assert framer.feed(b"3 abc") == []
    assert framer.end() is None


def test_a_fragment_is_kept_in_bounds():
    ((fragment, whole),), _cut = framed(b"x" * 200_000)
    assert (len(fragment), whole) == (65_536, BROKEN)


@pytest.mark.parametrize("end", [b"1", b"12", b"10 ", b"10 abc"])
def test_a_stream_that_ends_inside_a_frame(end):
    pieces, cut = framed(b"3 abc" + end)
    fragment = end.partition(b" ")[2] or (end if b" " not in end else b"")
    assert pieces == [(b"abc", YES), *([(fragment, BROKEN)] if fragment else [])]
    assert cut


@given(st.integers(11, 60), st.lists(st.integers(0, 200)))
def test_of_a_message_that_is_too_long_the_first_part_is_kept_and_the_next_message_is_taken(length, at):
    stream = b"2 ab" + encode_frame(b"x" * length) + b"3 abc"
    found = [(b"ab", YES), (b"x" * 10, TRUNCATED), (b"abc", YES)]
    assert framed(*cuts(stream, at), most=10) == (found, False)


def test_a_stream_that_ends_inside_what_is_skipped_is_cut():
    assert framed(b"20 " + b"x" * 15, most=10) == ([(b"x" * 10, TRUNCATED)], True)
    assert framed(b"20 " + b"x" * 5, most=10) == ([(b"x" * 5, BROKEN)], True)


@given(st.integers(11, 60), st.lists(st.integers(0, 200)))
def test_of_a_line_that_is_too_long_the_first_part_is_kept_and_the_next_line_is_taken(length, at):
    stream = b"<1>ab\n<" + b"x" * length + b"\n<1>cd\n"
    found = [(b"<1>ab", YES), (b"<" + b"x" * 9, TRUNCATED), (b"<1>cd", YES)]
    assert framed(*cuts(stream, at), most=10) == (found, False)


def test_lines_may_end_in_carriage_returns_which_belong_to_them_and_empty_ones_are_none():
    assert framed(b"<1>a\r\n\r\n\n<1>b\n")[0] == [(b"<1>a\r", YES), (b"<1>b", YES)]


def test_a_line_that_begins_otherwise_is_a_line_too():
    assert framed(b"<1>a <A>\n  <B/>\n5 c\n")[0] == [(b"<1>a <A>", YES), (b"  <B/>", YES), (b"5 c", YES)]


def test_the_memory_an_unfinished_message_will_take_is_known():
    framer = Framer(100_000)
    assert (framer.inside, framer.wanted_bytes) == (False, 0)
    framer.feed(b"90000 x")
    assert (framer.inside, framer.wanted_bytes) == (True, 90_000)
    framer.feed(b"y" * 89_999 + b"500000 ")
    assert framer.wanted_bytes == 100_000
    lines = Framer(10**9)
    lines.feed(b"<1>a")
    assert lines.wanted_bytes == 4
    lines.feed(b"x" * 70_000)
    assert lines.wanted_bytes == 2**20


@given(st.lists(st.binary(max_size=60), max_size=10))
def test_whatever_comes_never_fails_and_holds_little(chunks):
    framer = Framer(20)
    for chunk in chunks:
        for piece in framer.feed(chunk):
            assert isinstance(piece, Piece)
            assert len(piece.message) <= 65_536
        assert framer.wanted_bytes <= 60
    framer.end()
