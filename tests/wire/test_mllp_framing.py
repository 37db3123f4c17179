"""MLLP frames from bytes, however the bytes are cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.mllp_framing import HEAD_BYTES, MAX_GARBAGE_BYTES, Frame, Framer, Garbage, Whole, frame

CONTENT = st.binary(max_size=60).map(lambda data: data.replace(b"\x0b", b"").replace(b"\x1c", b""))


@given(st.lists(CONTENT, max_size=5), st.lists(st.integers(1, 20), max_size=60))
def test_frames_do_not_depend_on_how_the_bytes_are_cut(messages, cuts):
    stream = b"".join(frame(message) for message in messages)
    framer, found = Framer(1000), []
    for size in cuts:
        found += framer.feed(stream[:size])
        stream = stream[size:]
    found += framer.feed(stream)
    assert found == [Frame(message) for message in messages]
    assert framer.end() is None


@given(st.binary(max_size=400))
def test_any_bytes_are_taken_within_bounds(data):
    framer = Framer(50)
    for one in framer.feed(data):
        assert len(one.message) <= HEAD_BYTES
        assert b"\x0b" not in one.message


def test_a_start_block_inside_a_message_ends_it_unwhole():
    framer = Framer(100)
    assert framer.feed(b"\x0bone\x0btwo\x1c\r") == [Frame(b"one", Whole.NO_END_BLOCK), Frame(b"two")]


def test_the_end_of_the_bytes_shows_what_is_left():
    framer = Framer(100)
    assert framer.feed(b"\x0bhalf") == []
    assert framer.inside
    assert framer.end() == Frame(b"half", Whole.NO_END_BLOCK)
    assert not framer.inside


@pytest.mark.parametrize("step", [1, 7, 10_000])
def test_a_long_message_keeps_its_head_only(step):
    framer, found = Framer(5000), []
    stream = frame(b"MSH" + b"x" * 6000)
    for at in range(0, len(stream), step):
        found += framer.feed(stream[at : at + step])
    (one,) = found
    assert one.whole is Whole.TOO_LONG
    assert one.message == (b"MSH" + b"x" * 6000)[:HEAD_BYTES]


def test_exactly_as_long_as_allowed():
    assert Framer(10).feed(frame(b"x" * 10)) == [Frame(b"x" * 10)]
    assert Framer(10).feed(frame(b"x" * 11)) == [Frame(b"x" * 11, Whole.TOO_LONG)]


def test_garbage_has_a_bound_that_white_space_does_not_touch():
    framer = Framer(10)
    framer.feed(b"\r\n" * MAX_GARBAGE_BYTES)
    framer.feed(b"x" * MAX_GARBAGE_BYTES)
    with pytest.raises(Garbage):
        framer.feed(b"x")


def test_a_message_must_end():
    framer = Framer(10)
    framer.feed(b"\x0b" + b"x" * 160)
    with pytest.raises(Garbage):
        framer.feed(b"x")
