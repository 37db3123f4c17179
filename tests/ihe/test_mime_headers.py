"""ihe.mime_headers: Content-Type, Content-ID and cid as real peers write them; transfer encodings in pieces."""

import base64
import quopri

import pytest
from hypothesis import given
from hypothesis import strategies as st
from python_multipart.multipart import parse_options_header

from ihe.mime_headers import MimeError, PartIds, TransferDecoder, content_id, href_content_id, parse_content_type


class TestContentType:
    @pytest.mark.parametrize(
        "text",
        [
            'multipart/related; boundary="uuid:1"; start="<a@b>"; type="application/xop+xml"',
            'MULTIPART/Related;Type="application/xop+xml";START="<a@b>";Boundary="uuid:1"',
            "multipart/related; boundary=uuid:1; start=<a@b>; type=application/xop+xml",
            'multipart/related ; boundary = "uuid:1" ;\r\n\tstart\t=\t"<a@b>";\n type="application/xop+xml" ;;',
            'multipart/related; boundary="uuid\\:1"; start="<a\\@b>"; type="application/xop+xml"; boundary=uuid:1',
        ],
    )
    def test_one_meaning_many_spellings(self, text):
        found = parse_content_type(text)
        assert found.media_type == "multipart/related"
        assert dict(found.parameters) == {"boundary": "uuid:1", "start": "<a@b>", "type": "application/xop+xml"}

    def test_action_inside_start_info(self):
        text = 'multipart/related; boundary=b; start-info="application/soap+xml; action=\\"urn:ihe:x\\""'
        assert parse_content_type(text).parameters["start-info"] == 'application/soap+xml; action="urn:ihe:x"'

    def test_semicolon_within_quotes(self):
        assert parse_content_type('a/b; boundary="x;y=z"').parameters == {"boundary": "x;y=z"}

    def test_empty_values(self):
        assert parse_content_type('a/b; action=""; charset=').parameters == {"action": "", "charset": ""}

    def test_no_parameters(self):
        assert parse_content_type(" Application/SOAP+XML ").media_type == "application/soap+xml"

    @pytest.mark.parametrize(
        "text",
        ["", ";", "text", "text/", "/xml", "a/b/c", 'a/b; x="y', "a/b; x", "a/b; =y", "a/b; x=1; X=2", "a/b\x00",
         'a/b; start-info="x; action="urn:y""', "a/b; x=y\r\nz: w", "text/xml charset=utf-8"],
    )  # fmt: skip
    def test_refused(self, text):
        with pytest.raises(MimeError):
            parse_content_type(text)

    @given(
        st.dictionaries(
            st.sampled_from(["boundary", "start", "type", "x-1"]),
            st.text(st.characters(min_codepoint=32, max_codepoint=126)),
        )
    )
    def test_what_is_quoted_comes_back(self, parameters):
        quoted = {name: value.replace("\\", "\\\\").replace('"', '\\"') for name, value in parameters.items()}
        text = "a/b" + "".join(f'; {name}="{value}"' for name, value in quoted.items())
        assert dict(parse_content_type(text).parameters) == parameters

    @given(st.dictionaries(st.sampled_from(["boundary", "start"]), st.from_regex(r"[A-Za-z0-9_.:@-]+", fullmatch=True)))
    def test_the_oracle_agrees_on_plain_values(self, parameters):
        text = "a/b" + "".join(f"; {name}={value}" for name, value in parameters.items())
        media_type, options = parse_options_header(text)
        assert parse_content_type(text).parameters == {k.decode(): v.decode() for k, v in options.items()}
        assert media_type == b"a/b"


class TestContentId:
    @pytest.mark.parametrize("text", ["<a@b>", "a@b", " <a@b> ", "< a@b >"])
    def test_brackets_and_blanks(self, text):
        assert content_id(text) == "a@b"

    @pytest.mark.parametrize("text", ["", " ", "<>"])
    def test_nothing_left(self, text):
        with pytest.raises(MimeError):
            content_id(text)

    @pytest.mark.parametrize("href", ["cid:a@b", "CID:a%40b", " cid:a%40b ", "cid:%3Ca%40b%3E"])
    def test_reference(self, href):
        assert href_content_id(href) == "a@b"

    def test_reference_with_a_urn_inside(self):
        assert href_content_id("cid:urn:uuid:1") == "urn:uuid:1"

    @pytest.mark.parametrize("href", ["http://x/a", "file:///etc/passwd", "a@b", "", "cid:", "mid:a", "cid:%ff"])
    def test_nothing_outside_the_message_is_followed(self, href):
        with pytest.raises(MimeError):
            href_content_id(href)


class TestPartIds:
    @pytest.mark.parametrize(
        ("header", "href"),
        [
            ("<a@b>", "cid:a@b"), ("<a@b>", "cid:a%40b"), ("a@b", "cid:%3Ca%40b%3E"), ("<A@B>", "cid:a@b"),
            ("<a%40b>", "cid:a%40b"), ("<a%40b>", "cid:a@b"), ("<a%2540b>", "cid:a%2540b"), ("<urn:uuid:1>", "cid:urn:uuid:1"),
            ("<noat>", "cid:noat"), ("<a@b>", "<a@b>"), ("<a@b>", "a@b"), ("<a+b@c>", "cid:a%2bb@c"),
        ],
    )  # fmt: skip
    def test_found(self, header, href):
        parts = PartIds[int]()
        parts.add("<other>", 0)
        parts.add(header, 1)
        assert parts.find(href) == 1

    def test_as_written_comes_first(self):
        parts = PartIds[int]()
        for number, header in enumerate(("<a%40b>", "<a@b>", "<A@B>")):
            parts.add(header, number)
        assert [parts.find(href) for href in ("cid:a%40b", "cid:a@b", "cid:A@B")] == [0, 1, 2]

    def test_not_found_and_ambiguous(self):
        parts = PartIds[int]()
        parts.add("<a@b>", 0)
        parts.add("<A@b>", 1)
        assert parts.find("cid:c") is None
        assert parts.find("cid:A@B") is None
        assert (list(parts), len(parts)) == (["a@b", "A@b"], 2)

    def test_duplicate_is_refused(self):
        parts = PartIds[int]()
        parts.add("<a@b>", 0)
        with pytest.raises(MimeError, match="same Content-ID"):
            parts.add("a@b", 1)


def decoded(encoding, data, size):
    decoder = TransferDecoder(encoding)
    pieces = [decoder.feed(data[at : at + size]) for at in range(0, len(data), size)]
    return b"".join([*pieces, decoder.finish()])


class TestTransferDecoder:
    @pytest.mark.parametrize("encoding", [None, "", "binary", " 8BIT ", "7bit"])
    def test_identity(self, encoding):
        assert TransferDecoder(encoding).identity
        assert decoded(encoding, b"a=\r\n=\x00", 2) == b"a=\r\n=\x00"

    @given(st.binary(max_size=200), st.integers(1, 90))
    def test_base64(self, data, size):
        assert decoded("Base64", base64.encodebytes(data), size) == data
        assert decoded("base64", base64.b64encode(data), size) == data

    @given(st.binary(max_size=200), st.integers(1, 90))
    def test_quoted_printable(self, data, size):
        text = quopri.encodestring(data, quotetabs=True)
        assert decoded("quoted-printable", text, size) == quopri.decodestring(text)

    @pytest.mark.parametrize("size", [1, 2, 100])
    def test_quoted_printable_details(self, size):
        assert decoded("quoted-printable", b"a=20b=\r\nc =\nd  \r\ne=c3=A9", size) == b"a bc d\r\ne\xc3\xa9"

    @pytest.mark.parametrize(
        ("encoding", "data"),
        [("base64", b"YQ"), ("base64", b"YQ=*"), ("base64", b"YQ==YQ=="), ("base64", b"YQ==\r\nYQ=="), ("base64", b"Y==="),
         ("base64", b"\xff\xff\xff\xff"), ("quoted-printable", b"a=zz"), ("quoted-printable", b"=4"),
         ("quoted-printable", b"a" * 70_000)],
    )  # fmt: skip
    @pytest.mark.parametrize("size", [1, 100_000])
    def test_damaged(self, encoding, data, size):
        with pytest.raises(MimeError):
            decoded(encoding, data, max(size, len(data) // 100))

    def test_unknown_encoding(self):
        with pytest.raises(MimeError, match="unknown Content-Transfer-Encoding"):
            TransferDecoder("uuencode")
