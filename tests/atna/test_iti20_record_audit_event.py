"""Syslog message (RFC 5424) and frame (RFC 5425), read from every cut of the stream."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atna.iti20_record_audit_event import (
    FrameDecoder,
    FrameError,
    SyslogError,
    decode_message,
    encode_frame,
    header_field,
    syslog_message,
)

OWN = syslog_message(85, "2026-03-01T10:00:00.000001Z", "host app 1-a", "IHE+RFC-3881", b"<AuditMessage/>")


def test_our_own_message():
    assert OWN == b"<85>1 2026-03-01T10:00:00.000001Z host app 1-a IHE+RFC-3881 - <AuditMessage/>"
    read = decode_message(OWN)
    assert (read.priority, read.host, read.app_name, read.process_id) == (85, "host", "app", "1-a")
    assert (read.message_id, read.message) == ("IHE+RFC-3881", b"<AuditMessage/>")


@pytest.mark.parametrize("message_id", ["IHE+RFC-3881", "IHE+RFC3881", "DICOM+RFC3881", "-"])
@pytest.mark.parametrize("structured", ["-", '[a@1 x="y"]', r'[a@1 x="\]\"\\"][b@2 z="] ["]'])
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
def test_what_senders_in_the_field_write(message_id, structured, bom):
    data = f"<84>1 - - - - {message_id} {structured} ".encode() + bom + b"<a/>"
    read = decode_message(data)
    assert read.message == b"<a/>"
    assert read.host is None
    assert read.message_id == (None if message_id == "-" else message_id)


@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("structured", [b"-", b'[a@1 x="y"]'])
def test_no_blank_before_the_record_and_a_nul_behind_it(structured, bom):
    assert decode_message(b"<85>1 - - - - - " + structured + bom + b"<a/>\0\0").message == b"<a/>"


@pytest.mark.parametrize(
    ("header", "host"),
    [
        (b"Mar  1 10:00:00 lab ", "lab"),
        (b"Oct 11 22:14:15 10.0.0.9 atna[12]: ", "10.0.0.9"),
        (b"Oct 11 22:14:15 lab atna: \xef\xbb\xbf", "lab"),
        (b"Oct 11 22:14:15 ", None),
    ],
)
def test_the_older_header_before_a_record(header, host):
    read = decode_message(b"<85>" + header + b"<AuditMessage/>\n\0")
    assert (read.priority, read.host, read.timestamp) == (85, host, None)
    assert read.message == b"<AuditMessage/>\n"


def test_a_message_without_msg():
    assert decode_message(b"<85>1 - - - - - -").message == b""


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"<85>", b"<a>1 - - - - - - x", b"<85>1 - - - - - x", b"<85>1 - - - - - [a", b"\xff" * 20),
        b"<13>Oct 11 22:14:15 mymachine su: 'su root' failed for lonvick on /dev/pts/8",
    ],
)
def test_what_is_no_syslog_is_refused(data):
    with pytest.raises(SyslogError):
        decode_message(data)


def test_hostile_structured_data_takes_no_time():
    with pytest.raises(SyslogError):
        decode_message(b"<85>1 - - - - - " + b'["' * 50_000)
    with pytest.raises(SyslogError):
        decode_message(b"<85>1 - - - - - [" + b"\\" * 100_000)


def test_header_fields_are_printable_ascii():
    assert header_field("Käse host", 255) == "K_se_host"
    assert header_field("x" * 300, 255) == "x" * 255
    assert header_field("", 48) == "-"


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=8), st.lists(st.integers(1, 50), max_size=60))
def test_frames_come_back_however_the_stream_is_cut(messages, cuts):
    stream = b"".join(encode_frame(message) for message in messages)
    decoder, found = FrameDecoder(1000), []
    for cut in cuts:
        found += decoder.feed(stream[:cut])
        stream = stream[cut:]
    found += decoder.feed(stream)
    decoder.finish()
    assert found == messages


def test_byte_by_byte():
    decoder = FrameDecoder(100)
    assert [m for byte in b"3 abc12 abcdefghijkl" for m in decoder.feed(bytes([byte]))] == [b"abc", b"abcdefghijkl"]


@pytest.mark.parametrize(
    "data", [b"0 ", b"01 a", b"x", b"<85>1 - -", b"-1 a", b" 1 a", b"101 ", b"99999999999999", b"1234", b"1\n a"]
)
def test_a_stream_that_cannot_be_followed_is_refused(data):
    with pytest.raises(FrameError):
        FrameDecoder(100).feed(data)


@pytest.mark.parametrize("data", [b"1", b"10 abc", b"3 abc4 "])
def test_a_stream_that_ends_within_a_frame_is_refused(data):
    decoder = FrameDecoder(100)
    decoder.feed(data)
    with pytest.raises(FrameError):
        decoder.finish()


@given(st.binary(max_size=200))
def test_anything_else_never_fails_otherwise(data):
    with contextlib.suppress(SyslogError):
        decode_message(data)
    with contextlib.suppress(FrameError):
        FrameDecoder(50).feed(data)
