"""Message variants a real server meets, HTTP and MIME: each as raw bytes on a socket, numbered as in the list."""

import base64
import gzip
import hashlib
import quopri
import socket
import zlib

import pytest

from ihe.transactions import ITI_18, ITI_42
from tests.wire.soap_peer import (
    MIB,
    MTOM,
    PATH,
    QUERY,
    ROOT,
    EchoActor,
    attached,
    chunked,
    include,
    message,
    multipart,
    part,
    provide,
    request,
    retrieve,
    root_part,
    served,
)
from wire.settings import LimitSettings

HELLO = b"hello\r\n\x00world"
SUBMIT = '<l:SubmitObjectsRequest xmlns:l="urn:oasis:names:tc:ebxml-regrep:xsd:lcm:3.0"/>'


def submission(
    content: bytes = HELLO, *, href: str = "cid:d1@x", name: str = "d1@x", headers: tuple[str, ...] = ()
) -> tuple[bytes, bytes]:
    return root_part(provide(("d", include(href)))), attached(name, content, *headers)


def stored(endpoint, name: str = "d") -> bytes:
    kept = endpoint.actor.documents[name]
    return kept if isinstance(kept, bytes) else kept.read_bytes()


def accepted(endpoint, answer, content: bytes = HELLO) -> None:
    assert (answer.status, answer.mtom, answer.fault) == (200, True, (None, None)), answer.body
    assert answer.text("s:Header/a:RelatesTo") == "urn:uuid:1"
    assert stored(endpoint) == content
    assert endpoint.alive()


def refused(endpoint, answer, *, status: int = 400, code: str = "Sender", subcode: str | None = None) -> None:
    assert (answer.status, answer.fault) == (status, (code, subcode)), answer.body
    assert b"Traceback" not in answer.body
    assert endpoint.actor.emptied()
    assert endpoint.alive()
    assert [seen.code for seen in endpoint.actor.seen] == ["ITI-18"]


# 1. Content-Type in any case, parameters in any order, folded header, blanks around ; and =


@pytest.mark.parametrize(
    "content_type",
    [
        'MULTIPART/Related; BOUNDARY=b1; Type="application/xop+xml"; START="<root@peer>"; Start-Info="application/soap+xml"',
        'multipart/related ; start-info = "application/soap+xml" ; start = "<root@peer>" ;type = "application/xop+xml" ; boundary = b1',
        'multipart/related;boundary=b1;type="application/xop+xml";start="<root@peer>"',
        'multipart/related; boundary="b1"; type="application/xop+xml";; ; start="<root@peer>";',
    ],
)
def test_variant_01_content_type_in_any_shape(endpoint, content_type):
    accepted(endpoint, endpoint.post(multipart(*submission()), content_type))


def test_variant_01_folded_part_header(endpoint):
    root = part(
        provide(("d", include("cid:d1@x"))),
        "Content-Type: application/xop+xml;",
        "\tcharset=UTF-8;",
        '  type="a/b"',
        f"CONTENT-ID: <{ROOT}>",
    )
    accepted(endpoint, endpoint.post(multipart(root, submission()[1]), MTOM))


@pytest.mark.parametrize("fold", ["\r\n ", "\r\n\t", " \r\n   \t"])
def test_variant_01_folded_http_header(endpoint, fold):
    accepted(endpoint, endpoint.post(multipart(*submission()), MTOM.replace("; ", f";{fold}")))


# 2. Boundaries, preamble, epilogue, missing last line end; truncation


@pytest.mark.parametrize("boundary", ["'()+_,-./:=?", "uuid:3f-9+x", "b" * 70, "=_Part_1.2", "a b"])
def test_variant_02_any_boundary(endpoint, boundary):
    content_type = MTOM.replace("boundary=b1", f'boundary="{boundary}"')
    accepted(endpoint, endpoint.post(multipart(*submission(), boundary=boundary), content_type))


@pytest.mark.parametrize("before", [b"", b"\r\n", b"This is a multipart message.\r\n\r\n"])
@pytest.mark.parametrize("after", [b"", b"\r\nbye\r\n--b1\r\n"])
def test_variant_02_preamble_and_epilogue(endpoint, before, after):
    accepted(endpoint, endpoint.post(before + multipart(*submission()) + after, MTOM))


def test_variant_02_missing_last_line_end(endpoint):
    accepted(endpoint, endpoint.post(multipart(*submission()).removesuffix(b"\r\n"), MTOM))


@pytest.mark.parametrize("missing", [b"--b1--\r\n", b"--\r\n", b"\r\n--b1--\r\n"])
@pytest.mark.parametrize("size", [10, 3 * MIB])
def test_variant_02_missing_closing_boundary_is_a_truncated_upload(endpoint, missing, size):
    refused(endpoint, endpoint.post(multipart(*submission(b"x" * size)).removesuffix(missing), MTOM))


@pytest.mark.parametrize(
    "content_type", [MTOM.replace("boundary=b1; ", ""), MTOM.replace("b1", '""'), MTOM.replace("b1", "other")]
)
def test_variant_02_no_or_wrong_boundary(endpoint, content_type):
    refused(endpoint, endpoint.post(multipart(*submission()), content_type))


# 3. start


@pytest.mark.parametrize(
    "start", [f'; start="<{ROOT}>"', f'; start="{ROOT}"', f"; start=<{ROOT}>", '; start="<ROOT@Peer>"', ""]
)
def test_variant_03_start_with_and_without_brackets_or_absent(endpoint, start):
    accepted(
        endpoint,
        endpoint.post(multipart(*submission()), f'multipart/related; boundary=b1; type="application/xop+xml"{start}'),
    )


@pytest.mark.parametrize("size", [10, 3 * MIB])
def test_variant_03_root_part_not_first(endpoint, size):
    root, document = submission(b"y" * size)
    accepted(endpoint, endpoint.post(multipart(document, root), MTOM), b"y" * size)


def test_variant_03_root_part_without_id_though_start_names_one(endpoint):
    root = part(provide(("d", include("cid:d1@x"))), "Content-Type: application/xop+xml")
    accepted(endpoint, endpoint.post(multipart(root, submission()[1]), MTOM))


def test_variant_03_start_names_no_part(endpoint):
    refused(endpoint, endpoint.post(multipart(*submission(b"z" * 2 * MIB)), MTOM.replace(ROOT, "nobody@x")))


# 4. type and start-info


@pytest.mark.parametrize("kind", ['; type="application/xop+xml"', "; type=text/xml", "; type=application/soap+xml", ""])
@pytest.mark.parametrize(
    "info",
    [
        '; start-info="application/soap+xml"',
        '; start-info="text/xml"',
        '; start-info="application/soap+xml; action=\\"urn:x\\""',
        "",
    ],
)
def test_variant_04_type_and_start_info(endpoint, kind, info):
    accepted(
        endpoint,
        endpoint.post(multipart(*submission()), f'multipart/related; boundary=b1; start="<{ROOT}>"{kind}{info}'),
    )


# 5. Where the action stands


@pytest.mark.parametrize(
    ("content_type", "headers"),
    [
        ('application/soap+xml; charset=utf-8; action="urn:ihe:iti:2007:RegistryStoredQuery"', ()),
        ('application/soap+xml; action="urn:something:else"', ()),
        ("application/soap+xml", ('SOAPAction: ""',)),
        ("application/soap+xml", ("SOAPAction: urn:something:else",)),
    ],
)
def test_variant_05_action_of_http_is_ignored(endpoint, content_type, headers):
    answer = endpoint.post(message(ITI_18, QUERY), content_type, *headers)
    assert (answer.status, answer.content.tag) == (200, ITI_18.response_root)


@pytest.mark.parametrize(
    "content_type", ["application/soap-xml", "text/plain", "application/xml", "application/json", "nonsense", None]
)
def test_variant_05_other_content_types_are_415_with_a_fault(endpoint, content_type):
    refused(endpoint, endpoint.post(message(ITI_18, QUERY), content_type), status=415)


def test_variant_05_two_content_types(endpoint):
    refused(
        endpoint, endpoint.post(message(ITI_18, QUERY), "text/plain", "Content-Type: application/soap+xml"), status=415
    )


# 6. Encodings


@pytest.mark.parametrize("charset", ['; charset="utf-8"', "; charset=UTF-8", "; CHARSET=utf8", ""])
def test_variant_06_charset(endpoint, charset):
    body = message(ITI_18, QUERY.replace("/>", ">Müller</q:AdhocQueryRequest>"))
    assert endpoint.post(body, f"application/soap+xml{charset}").status == 200
    assert endpoint.actor.seen[0].texts == "Müller"


@pytest.mark.parametrize(
    ("encoded", "charset"),
    [
        (lambda text: b"\xef\xbb\xbf" + text.encode(), "; charset=utf-8"),
        (lambda text: text.encode("utf-16"), "; charset=utf-16"),
        (lambda text: text.encode("utf-16"), ""),
        (lambda text: ('<?xml version="1.0" encoding="UTF-16"?>' + text).encode("utf-16-le"), "; charset=utf-8"),
        (lambda text: ('<?xml version="1.0" encoding="UTF-16"?>' + text).encode(), "; charset=utf-8"),
        (lambda text: ('<?xml version="1.0" encoding="ISO-8859-1"?>' + text).encode("latin-1"), ""),
        (lambda text: ('<?xml version="1.0" encoding="ISO-8859-1"?>' + text).encode("latin-1"), "; charset=utf-8"),
        (lambda text: text.encode("latin-1"), "; charset=ISO-8859-1"),
        (lambda text: ('<?xml version="1.0" encoding="UTF-8"?>' + text).encode(), "; charset=ISO-8859-1"),
        (lambda text: ('<?xml version="1.0" encoding="ISO-8859-1"?>' + text).encode(), "; charset=utf-8"),
    ],
)  # fmt: skip
def test_variant_06_encodings_and_claims_that_disagree(endpoint, encoded, charset):
    text = message(ITI_18, QUERY.replace("/>", ">Müller</q:AdhocQueryRequest>")).decode()
    answer = endpoint.post(encoded(text), f"application/soap+xml{charset}")
    assert answer.status == 200, answer.body
    assert endpoint.actor.seen[0].texts == "Müller"


@pytest.mark.parametrize(
    "header",
    [
        "Content-Type: text/xml; charset=utf-8",
        "Content-Type: application/soap+xml",
        'Content-Type: application/xop+xml; charset="UTF-8"; type="application/soap+xml"',
        "X: y",
    ],
)
def test_variant_06_root_part_of_another_type_than_announced(endpoint, header):
    root = part(provide(("d", include("cid:d1@x"))), header, f"Content-ID: <{ROOT}>")
    accepted(endpoint, endpoint.post(multipart(root, submission()[1]), MTOM))


def test_variant_06_root_part_in_latin1(endpoint):
    body = message(ITI_18, QUERY.replace("/>", ">Müller</q:AdhocQueryRequest>")).decode().encode("latin-1")
    root = part(body, "Content-Type: application/xop+xml; charset=ISO-8859-1", f"Content-ID: <{ROOT}>")
    assert endpoint.post(multipart(root), MTOM).status == 200
    assert endpoint.actor.seen[0].texts == "Müller"


# 7. and 8. Plain SOAP with documents, MIME without; the answer in the encoding asked


def test_variant_07_plain_soap_with_inline_document_is_answered_plain(endpoint):
    answer = endpoint.post(provide(("d", base64.b64encode(HELLO).decode())))
    assert (answer.status, answer.mtom) == (200, False)
    assert stored(endpoint) == HELLO
    answer = endpoint.post(retrieve("d"))
    assert (answer.status, answer.mtom, answer.document()) == (200, False, HELLO)
    assert answer.headers["content-type"].startswith("application/soap+xml")


def test_variant_07_retrieve_as_mtom_is_answered_as_mtom(endpoint):
    endpoint.actor.documents["d"] = HELLO
    answer = endpoint.post(multipart(root_part(retrieve("d"))), MTOM)
    assert (answer.status, answer.mtom, answer.document()) == (200, True, HELLO)
    assert answer.headers["content-type"].startswith("multipart/related")


def test_variant_07_too_large_for_the_envelope_names_mtom(endpoint):
    large = b"x" * (2 * MIB + 1)
    refused(endpoint, answer := endpoint.post(provide(("d", base64.b64encode(large).decode()))), status=413)
    assert "MTOM" in answer.text(".//s:Reason/s:Text")
    endpoint.actor.seen.clear()
    endpoint.actor.documents["d"] = large
    answer = endpoint.post(retrieve("d"))
    assert (answer.status, answer.fault, answer.text("s:Header/a:RelatesTo")) == (400, ("Sender", None), "urn:uuid:1")
    assert "MTOM" in answer.text(".//s:Reason/s:Text")
    assert endpoint.actor.closed[-1] is False
    assert endpoint.post(multipart(root_part(retrieve("d"))), MTOM).document() == large


def test_variant_08_inline_document_in_a_multipart_message(endpoint):
    text = base64.b64encode(HELLO * 30).decode()
    broken = " \n".join(text[at : at + 60] for at in range(0, len(text), 60))
    accepted(endpoint, endpoint.post(multipart(root_part(provide(("d", f"\n {broken}\t")))), MTOM), HELLO * 30)


def test_variant_08_inline_and_attached_in_one_message(endpoint):
    root = root_part(provide(("d", include("cid:d1@x")), ("e", "aGk="), ("f", "")))
    accepted(endpoint, endpoint.post(multipart(root, submission()[1]), MTOM))
    assert (stored(endpoint, "e"), stored(endpoint, "f")) == (b"hi", b"")


@pytest.mark.parametrize("text", ["a", "aGk", "a*k=", "aGk=aGk=", "ä==="])
def test_variant_08_what_is_no_base64(endpoint, text):
    answer = endpoint.post(provide(("d", text)))
    assert (answer.status, answer.fault) == (400, ("Sender", None))
    assert endpoint.alive()


@pytest.mark.parametrize(("transaction", "body"), [(ITI_18, QUERY), (ITI_42, SUBMIT)])
def test_variant_08_multipart_without_attachments_for_plain_transactions(endpoint, transaction, body):
    answer = endpoint.post(multipart(root_part(message(transaction, body))), MTOM)
    assert (answer.status, answer.mtom, answer.content.tag) == (200, True, transaction.response_root)


# 9. Spellings of a content id


@pytest.mark.parametrize(
    ("href", "name"),
    [
        ("cid:d1@x", "Content-ID: <d1@x>"),
        ("cid:d1%40x", "Content-ID: <d1@x>"),
        ("cid:%3Cd1%40x%3E", "Content-ID: <d1@x>"),
        ("cid:d1@x", "Content-ID: d1@x"),
        ("cid:d1@x", "content-id:<d1@x>"),
        ("CID:D1@X", "Content-ID: <d1@x>"),
        ("cid:urn:uuid:6c0b", "Content-ID: <urn:uuid:6c0b>"),
        ("cid:urn%3Auuid%3A6C0B", "Content-ID: <urn:uuid:6c0b>"),
        ("cid:noat", "Content-ID: <noat>"),
        ("cid:d1%40x", "Content-ID: <d1%40x>"),
        ("cid:a%20b@x", "Content-ID: <a b@x>"),
    ],
)
def test_variant_09_content_ids(endpoint, href, name):
    root = root_part(provide(("d", include(href))))
    accepted(endpoint, endpoint.post(multipart(root, part(HELLO, name)), MTOM))


def test_variant_09_ids_that_differ_in_case_are_two_parts(endpoint):
    root = root_part(provide(("d", include("cid:A@x")), ("e", include("cid:a@x"))))
    accepted(endpoint, endpoint.post(multipart(root, attached("a@x", b"small"), attached("A@x", HELLO)), MTOM))
    assert stored(endpoint, "e") == b"small"


# 10. References


@pytest.mark.parametrize(
    "href",
    [
        "http://127.0.0.1:1/x",
        "https://example.org/",
        "file:///etc/passwd",
        "/etc/passwd",
        "",
        "cid:",
        "cid:none@x",
        "d1@x",
        "cid:%ff",
    ],
)
@pytest.mark.parametrize("size", [5, 3 * MIB])
def test_variant_10_references_that_leave_the_message_or_name_no_part(endpoint, href, size):
    refused(endpoint, endpoint.post(multipart(*submission(b"x" * size, href=href)), MTOM))


def test_variant_10_include_in_a_plain_message(endpoint):
    refused(endpoint, endpoint.post(provide(("d", include("cid:d1@x")))))


@pytest.mark.parametrize("size", [5, 3 * MIB])
def test_variant_10_duplicate_content_id(endpoint, size):
    root, document = submission(b"x" * size)
    refused(endpoint, endpoint.post(multipart(root, document, document), MTOM))


def test_variant_10_a_part_with_the_id_of_the_root(endpoint):
    refused(endpoint, endpoint.post(multipart(*submission(), attached(ROOT, b"evil")), MTOM))


@pytest.mark.parametrize("size", [5, 3 * MIB])
def test_variant_10_unreferenced_parts_are_ignored(endpoint, size):
    root, document = submission()
    extra = (attached("extra@x", b"e" * size), part(b"n" * size, "Content-Type: text/plain"))
    accepted(endpoint, endpoint.post(multipart(root, extra[0], document, extra[1]), MTOM))
    assert endpoint.actor.emptied()


@pytest.mark.parametrize(
    "content", [include("cid:d1@x") * 2, "text" + include("cid:d1@x"), include("cid:d1@x") + "text", "<other/>"]
)
def test_variant_10_a_document_holds_text_or_one_include(endpoint, content):
    answer = endpoint.post(multipart(root_part(provide(("d", content))), submission()[1]), MTOM)
    assert (answer.status, answer.fault) == (400, ("Sender", None))
    assert endpoint.alive()


# 11. Transfer encodings


@pytest.mark.parametrize(
    ("name", "encode"),
    [
        ("binary", bytes),
        ("BINARY", bytes),
        ("8bit", bytes),
        ("7bit", bytes),
        ("base64", base64.encodebytes),
        ("Base64", lambda data: base64.encodebytes(data).replace(b"\n", b"\r\n")),
        (
            "quoted-printable",
            lambda data: quopri.encodestring(data, quotetabs=True).replace(b"\r", b"=0D").replace(b"\n", b"=0A"),
        ),
    ],
)
@pytest.mark.parametrize("size", [1, 70_000])
def test_variant_11_transfer_encodings(endpoint, name, encode, size):
    content = HELLO * size
    encoded = encode(content) if name != "quoted-printable" else b"=\r\n".join(
        b"".join(b"=%02X" % byte for byte in content[at : at + 20]) for at in range(0, len(content), 20)
    )  # fmt: skip
    headers = (
        f"Content-Transfer-Encoding: {name}",
        'Content-Disposition: attachment; name="d"; filename="x.pdf"',
        "Content-Description: a report",
    )
    accepted(endpoint, endpoint.post(multipart(*submission(encoded, headers=headers)), MTOM), content)


def test_variant_11_root_part_in_base64(endpoint):
    root = part(
        base64.encodebytes(provide(("d", include("cid:d1@x")))),
        "Content-Type: application/xop+xml",
        f"Content-ID: <{ROOT}>",
        "Content-Transfer-Encoding: base64",
    )
    accepted(endpoint, endpoint.post(multipart(root, submission()[1]), MTOM))


@pytest.mark.parametrize(("name", "content"), [("x-uuencode", b"abc"), ("base64", b"aGk"), ("base64", b"a*b=")])
def test_variant_11_unknown_or_broken_transfer_encoding(endpoint, name, content):
    refused(
        endpoint, endpoint.post(multipart(*submission(content, headers=(f"Content-Transfer-Encoding: {name}",))), MTOM)
    )


# 12. Many documents


def test_variant_12_attachments_in_any_order_and_one_part_for_two_documents(endpoint):
    names = [f"d{n}" for n in range(40)]
    root = root_part(provide(*((name, include(f"cid:{name}@x")) for name in names), ("again", include("cid:d7@x"))))
    parts = [attached(f"{name}@x", name.encode() * 5000) for name in reversed(names)]
    answer = endpoint.post(multipart(root, *parts), MTOM)
    assert answer.status == 200, answer.body
    assert all(stored(endpoint, name) == name.encode() * 5000 for name in names)
    assert stored(endpoint, "again") == stored(endpoint, "d7")


def test_variant_12_a_large_part_for_two_documents(endpoint):
    root = root_part(provide(("d", include("cid:d1@x")), ("e", include("cid:d1@x"))))
    accepted(endpoint, endpoint.post(multipart(root, attached("d1@x", b"z" * 3 * MIB)), MTOM), b"z" * 3 * MIB)
    assert endpoint.actor.documents["d"] == endpoint.actor.documents["e"]


# 13. Whole-envelope optimisation


def test_variant_13_includes_outside_documents_become_base64(endpoint):
    security = (
        '<w:Security xmlns:w="http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd">'
        f"<w:BinarySecurityToken>{include('cid:token@x')}</w:BinarySecurityToken>"
        f'<d:SignatureValue xmlns:d="http://www.w3.org/2000/09/xmldsig#">{include("cid:sig@x")}</d:SignatureValue></w:Security>'
    )
    root = root_part(message(ITI_18, QUERY, extra=security))
    answer = endpoint.post(multipart(root, attached("sig@x", b"\x00signature"), attached("token@x", b"token")), MTOM)
    assert answer.status == 200, answer.body
    assert (
        endpoint.actor.seen[0].texts
        == base64.b64encode(b"token").decode() + base64.b64encode(b"\x00signature").decode()
    )


def test_variant_13_but_not_from_anywhere_and_not_of_any_size(endpoint):
    for href, size in (("http://127.0.0.1:1/x", 1), ("cid:other@x", 1), ("cid:sig@x", 2 * MIB)):
        header = f'<d:SignatureValue xmlns:d="http://www.w3.org/2000/09/xmldsig#">{include(href)}</d:SignatureValue>'
        refused(
            endpoint,
            endpoint.post(
                multipart(root_part(message(ITI_18, QUERY, extra=header)), attached("sig@x", b"s" * size)), MTOM
            ),
        )
        endpoint.actor.seen.clear()


# 14. Transfer


def test_variant_14_chunked_without_length(endpoint):
    body = multipart(*submission(b"c" * 3 * MIB))
    pieces = [body[at : at + 100_003] for at in range(0, len(body), 100_003)]
    head = request(b"", MTOM, "Transfer-Encoding: chunked", length=False)
    accepted(endpoint, endpoint.raw(head + chunked(*pieces)), b"c" * 3 * MIB)


def test_variant_14_a_chunked_body_that_breaks_off_is_never_whole(endpoint):
    body = multipart(*submission(b"c" * 3 * MIB))
    with endpoint.connect() as peer:
        peer.sendall(
            request(b"", MTOM, "Transfer-Encoding: chunked", length=False) + chunked(body).removesuffix(b"0\r\n\r\n")
        )
    assert endpoint.alive()
    assert endpoint.actor.emptied()
    assert [seen.code for seen in endpoint.actor.seen] == ["ITI-18"]


def test_variant_14_expect_100_continue(endpoint):
    body = multipart(*submission())
    with endpoint.connect() as peer:
        peer.sendall(request(body, MTOM, "Expect: 100-continue").removesuffix(body))
        assert peer.recv(100).startswith(b"HTTP/1.1 100")
        peer.sendall(body)
        accepted(endpoint, endpoint.receive(peer))


def test_variant_14_expect_100_continue_is_not_invited_when_refused(endpoint):
    for headers in (
        ("Expect: 100-continue", f"Content-Length: {65 * MIB}"),
        ("Expect: 100-continue", "Content-Length: 5"),
    ):
        content_type = MTOM if len(headers[1]) > 20 else "text/plain"
        answer = endpoint.raw(request(b"", content_type, *headers, length=False))
        assert answer.status in (413, 415)
        assert answer.fault == ("Sender", None)


def test_variant_14_http_10(endpoint):
    body = multipart(*submission(b"o" * 3 * MIB))
    accepted(endpoint, endpoint.raw(request(body, MTOM, version="1.0")), b"o" * 3 * MIB)
    answer = endpoint.raw(request(multipart(root_part(retrieve("d"))), MTOM, version="1.0"))
    assert answer.document() == b"o" * 3 * MIB
    assert "transfer-encoding" not in answer.headers


def test_variant_14_keep_alive_and_pipelined(endpoint):
    one = request(message(ITI_18, QUERY), "application/soap+xml")
    with endpoint.connect() as peer:
        for _ in range(3):
            peer.sendall(one)
            assert endpoint.receive(peer).status == 200
        peer.sendall(request(multipart(*submission()), MTOM))
        assert endpoint.receive(peer).status == 200


@pytest.mark.parametrize(
    ("coding", "pack"),
    [
        ("gzip", gzip.compress),
        ("x-gzip", gzip.compress),
        ("deflate", zlib.compress),
        ("identity", bytes),
        ("gzip", lambda data: gzip.compress(data[:50]) + gzip.compress(data[50:])),
    ],
)
def test_variant_14_compressed_request(endpoint, coding, pack):
    content = hashlib.shake_128(b"seed").digest(100_000) * 30
    body = multipart(*submission(content))
    accepted(endpoint, endpoint.post(pack(body), MTOM, f"Content-Encoding: {coding}"), content)


def test_variant_14_unknown_or_damaged_compression(endpoint):
    body = multipart(*submission())
    refused(endpoint, endpoint.post(body, MTOM, "Content-Encoding: br"), status=415)
    endpoint.actor.seen.clear()
    refused(endpoint, endpoint.post(gzip.compress(body)[:-6], MTOM, "Content-Encoding: gzip"))


def test_variant_14_gzip_bomb(endpoint):
    bomb = gzip.compress(multipart(*submission(bytes(200 * MIB))))
    assert len(bomb) < MIB
    refused(endpoint, endpoint.post(bomb, MTOM, "Content-Encoding: gzip"), status=413)


def test_variant_14_gzip_bomb_in_the_envelope(endpoint):
    bomb = gzip.compress(message(ITI_18, QUERY.replace("/>", f">{' ' * 200 * MIB}</q:AdhocQueryRequest>")))
    refused(endpoint, endpoint.post(bomb, "application/soap+xml", "Content-Encoding: gzip"), status=413)


def test_variant_14_over_the_limit_is_refused_before_it_is_read(endpoint):
    head = request(b"", MTOM, f"Content-Length: {65 * MIB}", length=False)
    answer = endpoint.raw(head)
    assert (answer.status, answer.fault) == (413, ("Sender", None))
    assert answer.mtom
    assert endpoint.alive()


def test_variant_14_over_the_limit_while_it_arrives(tmp_path):
    with served(EchoActor(tmp_path), max_request_bytes=4 * MIB) as endpoint:
        body = multipart(*submission(b"x" * 9 * MIB))
        head = request(b"", MTOM, "Transfer-Encoding: chunked", length=False)
        answer = endpoint.raw(head + chunked(*(body[at : at + MIB] for at in range(0, len(body), MIB))))
        refused(endpoint, answer, status=413)


def test_variant_14_one_document_over_its_limit(tmp_path):
    with served(EchoActor(tmp_path), max_document_bytes=3 * MIB) as endpoint:
        answer = endpoint.post(multipart(*submission(b"x" * (3 * MIB + 1))), MTOM)
        refused(endpoint, answer, status=413)
        assert answer.text("s:Header/a:RelatesTo") == "urn:uuid:1"
        accepted(endpoint, endpoint.post(multipart(*submission(b"x" * 3 * MIB)), MTOM), b"x" * 3 * MIB)


def test_variant_14_an_envelope_over_its_limit(tmp_path):
    with served(EchoActor(tmp_path), LimitSettings(max_envelope_bytes=MIB)) as endpoint:
        large = provide(("d", "QUJD" * MIB))
        refused(endpoint, answer := endpoint.post(large), status=413)
        assert "MTOM" in answer.text(".//s:Reason/s:Text")
        endpoint.actor.seen.clear()
        refused(endpoint, endpoint.post(multipart(root_part(large)), MTOM), status=413)


def test_variant_14_an_envelope_with_too_many_elements(tmp_path):
    with served(EchoActor(tmp_path), LimitSettings(max_envelope_markup=1000)) as endpoint:
        crowded = provide(*((f"d{number}", "QUJD") for number in range(400)))
        refused(endpoint, answer := endpoint.post(crowded))
        told = "more than 1000 elements and attributes (setting max_envelope_markup)"
        assert answer.text(".//s:Reason/s:Text").endswith(told)
        endpoint.actor.seen.clear()
        refused(endpoint, endpoint.post(multipart(root_part(crowded)), MTOM))
    with served(EchoActor(tmp_path), LimitSettings(max_envelope_markup=2000)) as endpoint:
        assert endpoint.post(crowded).status == 200


def test_variant_14_too_many_parts_and_part_headers(tmp_path):
    with served(EchoActor(tmp_path), LimitSettings(max_parts=10, max_part_header_count=5)) as endpoint:
        root, document = submission()
        refused(endpoint, endpoint.post(multipart(root, document, *[part(b"x")] * 10), MTOM))
        endpoint.actor.seen.clear()
        refused(endpoint, endpoint.post(multipart(root, part(b"x", *[f"X-{n}: y" for n in range(9)])), MTOM))


# 15. multipart/form-data


@pytest.mark.parametrize("kind", ["form-data", "mixed", "alternative"])
def test_variant_15_other_multiparts_are_415(endpoint, kind):
    refused(endpoint, endpoint.post(multipart(*submission()), f"multipart/{kind}; boundary=b1"), status=415)


# 16. Bytes in are bytes out


SIZES = {
    "nothing": b"",
    "one": b"\x00",
    "64k-1": b"a" * 65535,
    "64k": b"b" * 65536,
    "64k+1": b"c" * 65537,
    "100k": hashlib.shake_128(b"seed").digest(100_000),
    "1M-1": b"d" * (MIB - 1),
    "1M": b"e" * MIB,
    "1M+1": b"f" * (MIB + 1),
    "50M": hashlib.shake_128(b"large").digest(MIB) * 50,
    "line-ends": b"\r\n" * 700_000,
    "returns": b"\r" * 1_500_000,
    "boundary": b"\r\n--b1x\r\n--b\r\n-- b1\r\n" * 90_000,
    "zeros": bytes(1_300_000),
    "ends-with-return": b"x" * MIB + b"\r",
    "ends-with-dashes": b"x" * 100 + b"\r\n--b",
}


@pytest.mark.parametrize("name", SIZES)
def test_variant_16_bytes_in_are_bytes_out(endpoint, name):
    content = SIZES[name]
    accepted(endpoint, endpoint.post(multipart(*submission(content)), MTOM), content)
    answer = endpoint.post(multipart(root_part(retrieve("d"))), MTOM)
    assert answer.document() == content
    if len(content) <= 2 * MIB:
        assert endpoint.post(retrieve("d")).document() == content
    assert all(endpoint.actor.closed)
    assert all(staged.largest_block <= MIB + 300_000 for staged in endpoint.actor.staged)


def test_variant_16_every_split_of_the_request_reads_the_same(endpoint):
    whole = request(multipart(*submission(b"\r\n--b1x\r\n-")), MTOM)
    start = len(whole) - 60
    for at in range(start, len(whole)):
        with endpoint.connect() as peer:
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            peer.sendall(whole[:at])
            peer.sendall(whole[at:])
            assert endpoint.receive(peer).status == 200
    assert stored(endpoint) == b"\r\n--b1x\r\n-"


# Addresses and methods


def test_what_else_is_at_the_address(endpoint):
    def ask(line: str):
        return endpoint.raw(f"{line} HTTP/1.1\r\nHost: registry.example:8010\r\nConnection: close\r\n\r\n".encode())

    assert b'location="http://registry.example:8010/repository"' in ask(f"GET {PATH}?wsdl").body
    assert ask(f"GET {PATH}?WSDL=1").status == 200
    assert b"schema" in ask(f"GET {PATH}?xsd=rim.xsd").body
    assert ask(f"GET {PATH}?xsd=../../etc/passwd").status == 404
    assert (ask(f"GET {PATH}").status, ask(f"PUT {PATH}").status) == (405, 405)
    assert ask(f"GET {PATH}").headers["allow"] == "POST"
    head = endpoint.raw(f"HEAD {PATH}?wsdl HTTP/1.0\r\n\r\n".encode(), head=True)
    assert (head.status, head.body) == (200, b"")
    assert ask("GET /").status == 404
    assert endpoint.raw(request(b"", "text/xml").replace(b"/repository", b"/else")).status == 404


def test_a_host_header_that_is_none_is_not_repeated(endpoint):
    answer = endpoint.raw(f'GET {PATH}?wsdl HTTP/1.1\r\nHost: evil"><x\r\nConnection: close\r\n\r\n'.encode())
    assert b"evil" not in answer.body
