"""Attachments and inline content of an element (wire/content.py)."""

import hashlib

import pytest

from ihe import vocabulary as v
from ihe.errors import SoapFault
from ihe.transactions import ITI_41
from ihe.xua import Caller
from schemas import parse_xml
from tests.wire.soap_peer import include
from wire.content import Attachments, attachment_of, refuse_large_inline, resolve_includes
from wire.messages import Attachment, Request

PART = Attachment("text/plain", 2, hashlib.sha1(b"hi").hexdigest(), b"hi")


def request(content: str, **parts: Attachment):
    body = parse_xml(f'<r><x:Document xmlns:x="{v.XDSB}" id="d">{content}</x:Document></r>'.encode())
    attachments = Attachments({name.replace("_at_", "@"): part for name, part in parts.items()})
    return Request(ITI_41, body, Caller("::1"), "http://x", None, None, "1", (), attachments)


def test_inline_base64_with_blanks_and_line_ends():
    got = attachment_of(asked := request("\n aGVs\r\n bG8=\t"), asked.body[0])
    assert got == Attachment("application/octet-stream", 5, hashlib.sha1(b"hello").hexdigest(), b"hello")


def test_nothing_is_an_empty_document():
    asked = request("")
    assert attachment_of(asked, asked.body[0]).data == b""


@pytest.mark.parametrize("text", ["a", "aGk", "a*==", "aGk=a", "ü"])
def test_broken_base64_is_refused_without_quoting_it(text):
    with pytest.raises(SoapFault) as refused:
        attachment_of(asked := request(text), asked.body[0])
    assert text not in refused.value.reason or len(text) == 1


def test_looking_a_part_up_claims_it():
    asked = request(include("cid:d%40x"), d_at_x=PART, other=PART)
    assert list(asked.attachments.unclaimed()) == [PART, PART]
    assert attachment_of(asked, asked.body[0]) is PART
    assert asked.attachments.claimed == {"d@x"}
    assert (len(asked.attachments), list(asked.attachments)) == (2, ["d@x", "other"])
    assert asked.attachments.peek("other") is PART
    assert asked.attachments.claimed == {"d@x"}


def test_a_plain_mapping_will_do():
    asked = request(include("cid:d@x"))
    plain = Request(ITI_41, asked.body, asked.caller, "http://x", None, None, "1", (), {"d@x": PART})
    assert attachment_of(plain, plain.body[0]) is PART


@pytest.mark.parametrize(
    "content",
    [
        include("cid:none"),
        include("http://x/"),
        include("file:///x"),
        "<y/>",
        "t" + include("cid:d"),
        include("cid:d") * 2,
    ],
)
def test_what_names_no_part(content):
    with pytest.raises(SoapFault):
        attachment_of(asked := request(content, d=PART), asked.body[0])


def test_references_are_brought_to_one_spelling():
    asked = request(include("CID:%3CD%40X%3E"), d_at_x=PART)
    resolve_includes(asked.body, asked.attachments)
    assert asked.body[0][0].get("href") == "cid:d@x"
    assert attachment_of(asked, asked.body[0]) is PART


def test_an_ambiguous_spelling_names_nothing():
    asked = request(include("cid:DD"), dd=PART, Dd=PART)
    with pytest.raises(SoapFault):
        resolve_includes(asked.body, asked.attachments)


def test_elsewhere_the_bytes_take_the_place_of_the_reference():
    root = parse_xml(f"<s><v>{include('cid:d')}</v></s>".encode())
    resolve_includes(root, Attachments({"d": PART}))
    assert (root[0].text, len(root[0])) == ("aGk=", 0)
    for bad in (f"<s>{include('cid:d')}<v/></s>", include("cid:d"), f"<s><v>{include('cid:e')}</v></s>"):
        with pytest.raises(SoapFault):
            resolve_includes(parse_xml(bad.encode()), Attachments({"d": PART}))


def test_a_hundred_thousand_references_take_no_second():
    parts = {f"Part{n}": PART for n in range(1000)}
    inside = "".join(
        f'<x:Document xmlns:x="{v.XDSB}">{include(f"cid:pArt{n % 1000}")}</x:Document>' for n in range(20_000)
    )
    resolve_includes(parse_xml(f"<r>{inside}</r>".encode()), Attachments(parts))


@pytest.mark.parametrize(
    ("text", "fits"),
    [("QUJD" * 4, True), ("QUJD" * 3 + "QUI=", True), ("Q U J\nD" * 4, True), ("QUJD" * 4 + "QQ==", False)],
)
@pytest.mark.parametrize("bounds", [(12, 99), (99, 12)], ids=["inline", "document"])
def test_inline_content_is_bounded_by_its_bytes(text, fits, bounds):
    body = request(text).body
    if fits:
        refuse_large_inline(body, *bounds)
    else:
        with pytest.raises(SoapFault) as refused:
            refuse_large_inline(body, *bounds)
        assert (refused.value.http_status, "MTOM" in refused.value.reason) == (413, bounds[0] == 12)
        assert refused.value.limit == ("max_inline_bytes" if bounds[0] == 12 else "max_document_bytes")
