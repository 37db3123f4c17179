"""ihe.mtom: every MIME variant real peers send, every split position, python-multipart as the oracle."""

import io

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser as Oracle

from ihe.mtom import (
    MimeError,
    MimeLimits,
    MultipartParser,
    OutPart,
    PartBegin,
    PartData,
    PartEnd,
    Truncated,
    multipart_content_type,
    multipart_overhead,
    multipart_writer,
    parse_content_type,
    xop_include,
)

HEAD = b"Content-ID: <a>\r\n\r\n"
A = {"content-id": "<a>"}


def parts_of(raw, boundary="b", sizes=(), limits=None):
    """The parts as (headers, data), fed in pieces of the given sizes (then the rest at once)."""
    parser = MultipartParser(boundary, limits or MimeLimits())
    stream = io.BytesIO(raw)
    pieces = [stream.read(size) for size in sizes] + [stream.read()]
    parts, open_part = [], None
    for piece in pieces:
        for event in parser.feed(piece):
            match event:
                case PartBegin(headers):
                    assert open_part is None
                    open_part = (dict(headers), [])
                case PartData(data):
                    assert data
                    open_part[1].append(data)
                case PartEnd():
                    parts.append((open_part[0], b"".join(open_part[1])))
                    open_part = None
    parser.finish()
    assert open_part is None
    return parts


def parts_at_every_split(raw, boundary="b"):
    """The one result of the message whole, byte by byte, and cut in two anywhere."""
    whole = parts_of(raw, boundary)
    assert parts_of(raw, boundary, [1] * len(raw)) == whole
    for cut in range(len(raw)):
        assert parts_of(raw, boundary, [cut]) == whole
    return whole


def refused(raw, boundary="b", limits=None):
    with pytest.raises(MimeError) as caught:
        parts_of(raw, boundary, limits=limits)
    with pytest.raises(MimeError):
        parts_of(raw, boundary, [1] * len(raw), limits=limits)
    return str(caught.value)


class TestVariants:
    @pytest.mark.parametrize(
        "raw",
        [
            b"--b\r\n" + HEAD + b"X\r\n--b--\r\n",
            b"\r\n--b\r\n" + HEAD + b"X\r\n--b--\r\n",
            b"This is MIME\r\n--bb\r\n--b\r\n" + HEAD + b"X\r\n--b--\r\n",
            b"old\nunix preamble\n--b\r\n" + HEAD + b"X\r\n--b--\r\n",
            b"--b\r\n" + HEAD + b"X\r\n--b--",
            b"--b\r\n" + HEAD + b"X\r\n--b-- \t",
            b"--b\r\n" + HEAD + b"X\r\n--b--\r\nbye\r\n--b\r\nbye",
            b"--b  \t\r\n" + HEAD + b"X\r\n--b \r\n--b--\r\n".replace(b"--b \r\n", b""),
            b"--b\r\nContent-ID:\r\n <a>\r\n\r\nX\r\n--b--\r\n",
            b"--b\r\ncONTENT-id :<a>  \r\n\r\nX\r\n--b--\r\n",
            b"--b\r\nContent-ID: <a>\n\nX\r\n--b--\r\n",
            b"--b\nContent-ID: <a>\n\nX\n--b--\n",
        ],
        ids=[
            "plain", "leading CRLF", "preamble", "LF preamble", "no last line end", "blanks at the end", "epilogue",
            "blanks after the boundary", "folded header", "header case and blanks", "LF in headers", "LF throughout",
        ],
    )  # fmt: skip
    def test_one_part_x(self, raw):
        assert parts_at_every_split(raw) == [(A, b"X")]

    @pytest.mark.parametrize(
        "data",
        [
            b"", b"\r\n", b"\n", b"\r", b"\r\n\r\n", b"-", b"--", b"\r\n--", b"\r\n-b", b"--bc", b"\n--b\n", b"\r--b\r\n",
            b"\r\n--bc\r\nY", b"\r\n--b x\r\n", b"\r\n--b-\r\n", b"\r\n--b -\r\n", b"\r\n--B--\r\n", b"\r\n --b--\r\n",
            b"\x00\x00\r\n\x00", b"\r\r\r\n\n\n", b"ends with CRLF\r\n", b"\r\n--b" + b" " * 300 + b"\r\n",
            b"\r\n--bc\r\n--bd\r\n--b\rx",
        ],
    )  # fmt: skip
    def test_data_comes_out_as_it_went_in(self, data):
        raw = b"--b\r\n" + HEAD + data + b"\r\n--b\r\n\r\nsecond\r\n--b--\r\n"
        assert parts_at_every_split(raw) == [(A, data), ({}, b"second")]

    def test_empty_part_without_its_own_line_end(self):
        assert parts_at_every_split(b"--b\r\n" + HEAD + b"--b\r\n\r\n--b--") == [(A, b""), ({}, b"")]

    def test_data_that_begins_like_the_boundary(self):
        assert parts_at_every_split(b"--b\r\n" + HEAD + b"--bc\r\n--b--") == [(A, b"--bc")]

    def test_no_parts(self):
        assert parts_at_every_split(b"--b--\r\n") == []

    @pytest.mark.parametrize(
        "boundary", ["'()+_,-./:=?", "x" * 70, "uuid:0f-1", "a b", "----=_Part_1_2.3", "MIMEBoundary_abc", "-", "[.*]$"]
    )
    def test_boundaries(self, boundary):
        mark = b"--" + boundary.encode()
        raw = mark + b"\r\n" + HEAD + b"X\r\n" + mark[:-1] + b"\r\n" + mark + b"--"
        assert parts_at_every_split(raw, boundary) == [(A, b"X\r\n" + mark[:-1])]

    def test_header_value_in_utf8_or_latin1(self):
        raw = (
            "--b\r\nContent-Description: é\r\n\r\n\r\n--b\r\nContent-Description: ".encode() + b"\xe9\r\n\r\n\r\n--b--"
        )
        assert [headers["content-description"] for headers, _ in parts_of(raw)] == ["é", "é"]


class TestRefused:
    @pytest.mark.parametrize("length", range(len(b"--b\r\n" + HEAD + b"X\r\n--b--")))
    def test_every_message_cut_short_is_truncated(self, length):
        with pytest.raises(Truncated):
            parts_of((b"--b\r\n" + HEAD + b"X\r\n--b--")[:length])

    @pytest.mark.parametrize("boundary", ["", "x" * 71, "a ", "é", "a\r\nb"])
    def test_boundary(self, boundary):
        with pytest.raises(MimeError, match="boundary must be"):
            MultipartParser(boundary)

    @pytest.mark.parametrize(
        ("raw", "reason"),
        [
            (b"--b\r\nno colon\r\n\r\nX\r\n--b--", "cannot be read"),
            (b"--b\r\n: nameless\r\n\r\nX\r\n--b--", "cannot be read"),
            (b"--b\r\n folded first\r\n\r\nX\r\n--b--", "cannot be read"),
            (b"--b\r\nA: b\rc\r\n\r\nX\r\n--b--", "cannot be read"),
            (b"--b\r\nA: \x00\r\n\r\nX\r\n--b--", "cannot be read"),
            (b"--b\r\nContent-ID: <a>\r\ncontent-id: <b>\r\n\r\nX\r\n--b--", "two content-id headers"),
            (b"--b\r\n" + HEAD + b"X\r\n--b--garbage", "after the closing boundary"),
            (b"--b\nA: b\n\nX\r\n--b--\n", "line ends change"),
        ],
    )
    def test_what_cannot_be_read(self, raw, reason):
        assert reason in refused(raw)

    def test_too_many_parts(self):
        raw = b"--b\r\n\r\n\r\n" * 4 + b"--b--"
        assert len(parts_of(raw, limits=MimeLimits(max_parts=4))) == 4
        assert "more than 3 parts" in refused(raw, limits=MimeLimits(max_parts=3))

    def test_too_many_header_lines(self):
        raw = b"--b\r\n" + b"a: b\r\n" * 4 + b"\r\n\r\n--b--"
        assert parts_of(raw, limits=MimeLimits(max_header_count=4)) == [({"a": "b, b, b, b"}, b"")]
        assert "more than 3 lines" in refused(raw, limits=MimeLimits(max_header_count=3))

    @pytest.mark.parametrize("header", [b"a: " + b"b" * 500, b"a: b\r\n" * 100, b"a: b" + b"\r\n c" * 200])
    def test_too_large_header(self, header):
        raw = b"--b\r\n" + header + b"\r\n\r\nX\r\n--b--"
        assert "more than 300 bytes" in refused(raw, limits=MimeLimits(max_header_bytes=300, max_header_count=1000))

    @pytest.mark.parametrize("preamble", [b"a" * 500, b"a\r\n" * 200])
    def test_endless_preamble(self, preamble):
        assert "preamble" in refused(preamble, limits=MimeLimits(max_preamble_bytes=300))


def oracle_parts(raw, boundary):
    """What python-multipart makes of it; None where it refuses or sees no end."""
    parts, name, ended = [], {}, []

    def header(field):
        return lambda data, start, end: name.__setitem__(field, name.get(field, b"") + data[start:end])

    def header_end():
        parts[-1][0][name.pop("field", b"").decode("latin-1").lower()] = (
            name.pop("value", b"").decode("latin-1").strip()
        )

    callbacks = {
        "on_part_begin": lambda: parts.append(({}, bytearray())),
        "on_part_data": lambda data, start, end: parts[-1][1].extend(data[start:end]),
        "on_header_field": header("field"),
        "on_header_value": header("value"),
        "on_header_end": header_end,
        "on_end": lambda: ended.append(True),
    }
    try:
        parser = Oracle(boundary.encode(), callbacks)
        parser.write(raw)
        parser.finalize()
    except MultipartParseError:
        return None
    return [(headers, bytes(data)) for headers, data in parts] if ended else None


def pieces_like(boundary):
    near = [b"\r\n", b"\r", b"\n", b"--", b"-", b" ", b"\r\n--", boundary.encode(), b"--" + boundary.encode(), b"x"]
    return st.lists(st.sampled_from(near) | st.binary(max_size=8), max_size=12).map(b"".join)


BOUNDARIES = st.sampled_from(["b", "bb", "--", "-b-", "uuid:1", "'()+_,-./:=?", "x" * 70])


@st.composite
def messages(draw):
    """A message whose parts cannot contain the delimiter, and the pieces to feed it in."""
    boundary = draw(BOUNDARIES)
    mark = b"--" + boundary.encode()
    documents = draw(st.lists(pieces_like(boundary).filter(lambda data: mark not in data), max_size=4))
    headers = [({"content-id": f"<{n}>"} if draw(st.booleans()) else {}) for n in range(len(documents))]
    raw = b"".join(
        mark
        + b"\r\n"
        + b"".join(f"Content-ID: {value}\r\n".encode() for value in h.values())
        + b"\r\n"
        + data
        + b"\r\n"
        for h, data in zip(headers, documents, strict=True)
    )
    raw += mark + b"--" + draw(st.sampled_from([b"", b"\r\n", b"\r\nepilogue"]))
    sizes = draw(st.lists(st.integers(1, 40), max_size=60))
    return boundary, raw, list(zip(headers, documents, strict=True)), sizes


class TestOracle:
    @given(messages())
    @settings(max_examples=300, deadline=None)
    def test_what_was_put_in_comes_out_and_the_oracle_agrees(self, message):
        boundary, raw, expected, sizes = message
        assert parts_of(raw, boundary, sizes) == expected
        seen = oracle_parts(raw, boundary)
        assert seen is None or seen == expected

    @given(BOUNDARIES.flatmap(lambda b: st.tuples(st.just(b), pieces_like(b), st.lists(st.integers(1, 9)))))
    @settings(max_examples=300, deadline=None)
    @example(("b", b"--b\r\n\r\n\r\n--bx", [1]))
    def test_hostile_bytes_give_the_same_outcome_however_they_are_cut(self, given):
        boundary, raw, sizes = given

        def outcome(sizes):
            try:
                return parts_of(raw, boundary, sizes)
            except MimeError as error:
                return type(error), str(error)

        assert outcome(sizes) == outcome([])

    @given(st.binary(max_size=200), st.lists(st.integers(1, 50)))
    @settings(max_examples=200, deadline=None)
    def test_arbitrary_bytes_are_refused_not_crashed_on(self, raw, sizes):
        with pytest.raises(MimeError):
            parts_of(raw, "never-there", sizes)


class TestWriter:
    def test_a_package_reads_back(self):
        late = []

        def root():
            yield b"<a>"
            late.append(OutPart("2@x", "text/plain", [b"one\r\n", b"--b two"]))
            late.append(OutPart("3@x", "application/pdf", []))
            yield b"</a>"

        written = b"".join(multipart_writer(root(), late, boundary="b", start="root@x"))
        parts = parts_at_every_split(written)
        assert parts[0] == (
            {
                "content-type": 'application/xop+xml; charset=UTF-8; type="application/soap+xml"',
                "content-transfer-encoding": "binary",
                "content-id": "<root@x>",
            },
            b"<a></a>",
        )
        assert [(headers["content-id"], data) for headers, data in parts[1:]] == [
            ("<2@x>", b"one\r\n--b two"),
            ("<3@x>", b""),
        ]

    def test_the_length_is_known_beforehand(self):
        parts = [OutPart("2@x", "text/plain", [b"12345"]), OutPart("3@x", "text/xml", [b"123"])]
        written = b"".join(multipart_writer([b"1234567"], parts, boundary="b", start="r"))
        named = [(part.content_id, part.content_type) for part in parts]
        assert len(written) == 15 + multipart_overhead(named, boundary="b", start="r")

    def test_content_type_reads_back(self):
        found = parse_content_type(multipart_content_type("uuid:1", start="root@x", action="urn:a"))
        assert found.media_type == "multipart/related"
        assert dict(found.parameters) == {
            "type": "application/xop+xml",
            "boundary": "uuid:1",
            "start": "<root@x>",
            "start-info": "application/soap+xml",
            "action": "urn:a",
        }

    def test_include_refers_to_the_part(self):
        assert b'href="cid:a%2Bb@c"' in xop_include("a+b@c")

    @pytest.mark.parametrize("content_type", ["text/plain\r\nX: y", "text/é", "text/plain\n"])
    def test_a_mime_type_from_metadata_cannot_write_headers(self, content_type):
        with pytest.raises(MimeError):
            list(multipart_writer([], [OutPart("a", content_type, [])], boundary="b", start="r"))

    @pytest.mark.parametrize("name", ["", "a b", "<a>", "a\r\n"])
    def test_nor_can_a_content_id(self, name):
        with pytest.raises(MimeError):
            list(multipart_writer([], [OutPart(name, "text/plain", [])], boundary="b", start="r"))

    def test_nor_can_an_action(self):
        with pytest.raises(MimeError):
            multipart_content_type("b", start="r", action="a\r\nb")
