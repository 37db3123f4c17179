"""The hardened parser: what must never get in, and what must get in whatever it is written in."""

import base64
import threading

import pytest

from schemas import Refusal, XmlRefused, parse_xml
from tests.growth import LINEAR, growth

LAUGHS = (
    b'<!DOCTYPE l [<!ENTITY a "ha">'
    + b"".join(b'<!ENTITY %c "%s">' % (98 + i, b"&%c;" % (97 + i) * 10) for i in range(10))
    + b"]><l>&k;</l>"
)
QUADRATIC = b'<!DOCTYPE l [<!ENTITY a "' + b"x" * 50_000 + b'">]><l b="' + b"&a;" * 50_000 + b'"/>'
EXTERNAL = b'<!DOCTYPE l [<!ENTITY a SYSTEM "file:///etc/passwd">]><l>&a;</l>'


def refused(data, **limits):
    with pytest.raises(XmlRefused) as caught:
        parse_xml(data, **limits)
    return caught.value


@pytest.mark.parametrize(
    "data",
    [
        b"<!DOCTYPE a><a/>",
        b'<!DOCTYPE a SYSTEM "http://127.0.0.1:1/a.dtd"><a/>',
        b'<!DOCTYPE a PUBLIC "-//W3C//DTD XHTML 1.0//EN" "a.dtd"><a/>',
        b'<?xml version="1.0"?>\r\n\t<!DOCTYPE a><a/>',
        b"<!-- x --><?pi y?> \n<!-- <a> --><!DOCTYPE a><a/>",
        b"\xef\xbb\xbf<!-- x --><!DOCTYPE a><a/>",
        LAUGHS,
        QUADRATIC,
        EXTERNAL,
        b'<!DOCTYPE a [<!ENTITY % p SYSTEM "http://127.0.0.1:1/p"> %p;]><a/>',
        b'<!DOCTYPE a [<!ATTLIST a b CDATA "default">]><a/>',
    ],
    ids=range(11),
)
@pytest.mark.parametrize("encoding", ["as it is", "utf-16", "utf-16-le", "utf-16-be"])
def test_a_dtd_is_refused_in_every_disguise(data, encoding):
    if encoding != "as it is":
        data = data.removeprefix(b"\xef\xbb\xbf").decode().encode(encoding)
    error = refused(data)
    assert error.kind is Refusal.DTD
    assert "document type declaration" in error.reason


def test_the_line_of_a_dtd_is_named():
    assert refused(b"<?xml version='1.0'?>\n\n<!DOCTYPE a><a/>").reason.startswith("line 3:")


@pytest.mark.parametrize(
    "data",
    [
        b'<?xml version="1.0" encoding="UTF-7"?>+ADwAIQ-DOCTYPE a+AD4-+ADw-a/+AD4-',
        b'<?xml version="1.0" encoding="UTF-7"?><a/>',
        b'<?xml version="1.0" encoding="IBM037"?><a/>',
        b'<?xml version="1.0" encoding="zlib"?><a/>',
        b'<?xml version="1.0" encoding="../../x"?><a/>',
        b"\xff\xfe<\0a",  # half a character
        b"\xff\xfe\0\xd8<\0",  # half a surrogate pair
    ],
)
def test_an_encoding_that_could_hide_a_dtd_is_refused(data):
    assert refused(data).kind is Refusal.ENCODING


def test_ebcdic_and_utf32_are_refused():
    assert refused('<?xml version="1.0"?><a/>'.encode("cp037")).kind is Refusal.SYNTAX
    assert refused("<!DOCTYPE a><a/>".encode("utf-32")).kind in (Refusal.SYNTAX, Refusal.ENCODING)


@pytest.mark.parametrize("data", [b"<a>&secret;</a>", b'<a b="&secret;"/>'])
def test_an_entity_without_a_dtd_is_refused_and_not_repeated(data):
    error = refused(data)
    assert error.kind is Refusal.ENTITY
    assert "secret" not in error.reason


def test_the_five_entities_and_character_references_are_text():
    assert parse_xml(b"<a>&lt;&gt;&amp;&quot;&apos;&#228;&#xE4;</a>").text == "<>&\"'ää"


@pytest.mark.parametrize("depth", [65, 255, 2_000, 1_000_000])
def test_nesting_is_bounded(depth):
    assert refused(b"<a>" * depth + b"</a>" * depth, max_markup=3_000_000).kind is Refusal.DEPTH


def test_the_bound_of_nesting_is_exact_and_can_be_moved():
    def nested(depth):
        return b"<a>" * depth + b"</a>" * depth

    parse_xml(nested(64))
    parse_xml(nested(10), max_depth=10)
    assert refused(nested(11), max_depth=10).kind is Refusal.DEPTH


@pytest.mark.parametrize(
    "data",
    [
        b"<a>" + b"<b/>" * 600_000 + b"</a>",
        b"<a " + b" ".join(b'a%d=""' % n for n in range(600_000)) + b"/>",
        b"<a " + b" ".join(b'xmlns:a%d="u"' % n for n in range(600_000)) + b"/>",
    ],
    ids=["elements", "attributes", "namespaces"],
)
def test_the_amount_of_markup_is_bounded(data):
    assert refused(data).kind is Refusal.MARKUP


def test_size_is_bounded_in_bytes():
    assert parse_xml(b"<a>12</a>", max_bytes=9) is not None
    assert refused(b"<a>123</a>", max_bytes=9).kind is Refusal.SIZE


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"  ",
        b"SECRET",
        b"<SECRET",
        b"<a><SECRET></a>",
        b"<a>\n\n<b SECRET></b></a>",
        b"<a/><SECRET/>",
        b"<a/>SECRET",
        b"<a b='1' b='SECRET'/>",
        b"<SECRET:a/>",
        b"<a>SECRET\0</a>",
        b"<a>SECRET\x01</a>",
        b"<a>SECRET]]></a>",
        b"<?xml version='1.0'",
        b"<!-- SECRET",
        b"<?SECRET",
        b"<a><![CDATA[SECRET",
        b"<a><!DOCTYPE SECRET></a>",
        b"<a>\xef\xbf\xbe</a>",
    ],
)
def test_what_is_not_well_formed_is_refused_without_being_quoted(data):
    error = refused(data)
    assert error.kind is Refusal.SYNTAX
    assert "SECRET" not in error.reason


@pytest.mark.parametrize("data", [b"<a>SECRET\xe4</a>", b"<a>SECRET\xc0\xbc</a>", b"<a>SECRET\xed\xa0\x80</a>"])
def test_bytes_that_are_no_utf8_are_refused_without_being_quoted(data):
    error = refused(data)
    assert error.kind is Refusal.ENCODING
    assert "SECRET" not in error.reason


def test_the_line_of_a_fault_is_named():
    assert refused(b"<a>\n\n<b></a>").reason.startswith("line 3: not well-formed (")


def test_every_truncation_is_refused():
    whole = '<?xml version="1.0" encoding="UTF-8"?>\n<a b="c"><!-- d --><e>ä&amp;<![CDATA[f]]></e></a>'.encode()
    for end in range(len(whole)):
        refused(whole[:end])
    assert parse_xml(whole)[0].text == "ä&f"


@pytest.mark.parametrize(
    "data",
    [
        "<a>Größe</a>".encode(),
        b"\xef\xbb\xbf" + "<a>Größe</a>".encode(),
        '<?xml version="1.0" encoding="utf-8"?><a>Größe</a>'.encode(),
        "<?xml version='1.0' encoding='ISO-8859-1' standalone='yes'?><a>Größe</a>".encode("latin-1"),
        '<?xml version="1.0" encoding="Windows-1252"?><a>Größe</a>'.encode("cp1252"),
        '<?xml version="1.0" encoding="UTF-16"?><a>Größe</a>'.encode("utf-16"),
        '<?xml version="1.0" encoding="UTF-16"?><a>Größe</a>'.encode("utf-16-le"),
        '<?xml version="1.0" encoding="UTF-16"?><a>Größe</a>'.encode("utf-16-be"),
        "<a>Größe</a>".encode("utf-16-be"),
        '<?xml version="1.0" encoding="utf-16"?><a>Größe</a>'.encode(),  # what .NET's StringWriter makes
    ],
)
def test_encodings_that_are_accepted(data):
    assert parse_xml(data).text == "Größe"


@pytest.mark.parametrize(
    ("text", "written_in", "header"),
    [
        ('<?xml version="1.0" encoding="UTF-8"?><a>Größe</a>', "latin-1", "iso-8859-1"),
        ('<?xml version="1.0" encoding="ISO-8859-1"?><a>Größe</a>', "utf-8", '"UTF-8"'),
        ('<?xml version="1.0" encoding="UTF-7"?><a>Größe</a>', "utf-8", "utf-8"),
        ('<?xml version="1.0" encoding="UTF-8"?><a>Größe</a>', "utf-16", "utf-8"),
        ("<a>Größe</a>", "utf-8", "utf-16"),
    ],
)
def test_the_header_is_believed_over_the_declaration_and_a_bom_over_both(text, written_in, header):
    assert parse_xml(text.encode(written_in), encoding=header).text == "Größe"


def test_an_unknown_charset_of_a_header_is_refused():
    assert refused(b"<a/>", encoding="utf-7").kind is Refusal.ENCODING


def test_comments_and_instructions_are_gone_and_cdata_is_text():
    root = parse_xml(b"<?p?><!-- c --><a>x<!-- c -->y<?p q?>z<![CDATA[<&]]><b/><!-- c --></a><!-- c --><?p?>")
    assert (root.text, [child.tag for child in root], root.getprevious(), root.getnext()) == (
        "xyz<&",
        ["b"],
        None,
        None,
    )


def test_a_doctype_inside_cdata_is_only_text():
    assert parse_xml(b"<a><![CDATA[<!DOCTYPE b>]]></a>").text == "<!DOCTYPE b>"


def test_inline_documents_over_ten_megabytes_are_read():
    content = base64.b64encode(bytes(12_000_000))
    assert len(parse_xml(b"<a>" + content + b"</a>").text) == len(content)


@pytest.mark.parametrize("piece", [b"&#65;", b"<![CDATA[A]]>", b"A<!-- -->", b"A<?p?>"])
def test_text_in_many_pieces_takes_linear_time(piece):
    def parse(data):
        return len(parse_xml(data).text)

    assert parse(b"<a>" + piece * 200_000 + b"</a>") == 200_000
    assert growth(lambda n: b"<a>" + piece * n + b"</a>", parse, 25_000) < LINEAR


def test_many_threads_parse_at_once():
    faults = []

    def work(number):
        for turn in range(200):
            if parse_xml(b"<a><b>%d</b></a>" % (number * turn)).findtext("b") != str(number * turn):
                faults.append(number)
            try:
                parse_xml(b"<a><b></a>" if turn % 2 else b"<!DOCTYPE a><a/>")
                faults.append(number)
            except XmlRefused:
                pass

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
