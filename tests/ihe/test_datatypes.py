"""Data types (ITI TF-3: Table 4.2.3.1.7-2) and class (a) of what is always accepted."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ihe import datatypes as d

OID = "1.3.6.1.4.1.21367.13.20.1000"
WORKFLOW = "urn:ihe:iti:xdw:2013:workflowInstanceId"


@pytest.mark.parametrize("text", ["1.2", "0.9", "2.25.329800735698586629295641978511506172918", "1." + "1" * 62])
def test_oids(text):
    assert d.is_oid(text)
    assert d.is_oid_urn("urn:oid:" + text)


@pytest.mark.parametrize(
    "text", ["", "1", "3.1", "129.6.58", "1..2", "1.02", "1.2.", "urn:oid:1.2", "1.2 ", "1." + "1" * 63]
)
def test_no_oids(text):
    assert not d.is_oid(text)


def test_uuids_hashes_languages_mime_types_and_urns():
    assert d.is_uuid("urn:uuid:10b545ea-725c-446d-9b95-8aeb444eddf3")
    assert not d.is_uuid("urn:uuid:10B545EA-725C-446D-9B95-8AEB444EDDF3")
    assert not d.is_uuid("10b545ea-725c-446d-9b95-8aeb444eddf3")
    assert d.is_symbolic("Document01")
    assert not d.is_symbolic("URN:UUID:whatever")
    assert d.is_sha1("da39a3ee5e6b4b0d3255bfef95601890afd80709")
    assert not d.is_sha1("DA39A3EE5E6B4B0D3255BFEF95601890AFD80709")
    assert not d.is_sha1("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
    assert all(map(d.is_language_tag, ["fr", "de-LU", "EN-us", "zh-Hant-TW"]))
    assert not any(map(d.is_language_tag, ["", "de_LU", "d e", "fr-", "ninechars"]))
    assert d.is_mime_type("application/fhir+json")
    assert not any(map(d.is_mime_type, ["", "text", "text/", "text/xml; charset=utf-8", "a/b/c"]))
    assert d.is_urn("urn:nist:extraDESlot")
    assert not any(map(d.is_urn, ["extra", "urn:", "urn:x", "urn:nist:", "http://a/b"]))
    assert d.is_patient_field("PID-3|a^^^&1.2&ISO~b^^^&1.3&ISO")
    assert d.is_patient_field("PID-99|")
    assert not any(map(d.is_patient_field, ["PID-3", "PID-0|x", "pid-3|x", "3|x"]))


def test_cx_as_the_framework_writes_it():
    cx = d.parse_cx(f"89765a87b^^^&{OID}&ISO")
    assert cx == d.CX("89765a87b", OID)
    assert d.print_cx(cx) == f"89765a87b^^^&{OID}&ISO"


@pytest.mark.parametrize(
    "text",
    [
        f"77^^^&{OID}&iso",
        f"77^^^HOSPITAL&{OID}&ISO",
        f"77^^^&{OID}&ISO^",
        f"77^^^&{OID}&ISO^^^",
        f"77^^^&{OID}&ISO&",
        f"  77^^^&{OID}&ISO\n",
        f"77^^^&amp;{OID}&amp;ISO",
        f"77^^^&urn:oid:{OID}&ISO",
    ],
)
def test_cx_as_peers_write_it_is_one_identifier(text):
    assert d.normalise_cx(text) == f"77^^^&{OID}&ISO"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "id^^^&OID&ISO"),
        ("SECRET", "components 1 and 4"),
        (f"^^^&{OID}&ISO", "one identifier"),
        (f"SECRET&x^^^&{OID}&ISO", "one identifier"),
        (f"SECRET~x^^^&{OID}&ISO", "one identifier"),
        ("SECRET^^^HOSPITAL", "&OID&ISO"),
        ("SECRET^^^&not.an.oid&ISO", "&OID&ISO"),
        (f"SECRET^^^&{OID}&DNS", "&OID&ISO"),
        (f"SECRET^^^&{OID}", "&OID&ISO"),
        (f"SECRET^^^&{OID}&ISO^PI", "components 1 and 4"),
        (f"SECRET^1^^&{OID}&ISO", "components 1 and 4"),
        (rf"SECRET\X41\^^^&{OID}&ISO", "backslash"),
        (rf"SECRET\^^^&{OID}&ISO", "backslash"),
    ],
)
def test_cx_that_cannot_be_read_says_what_is_allowed_and_not_what_it_held(text, named):
    with pytest.raises(ValueError, match=r".") as refused:
        d.parse_cx(text)
    assert named in str(refused.value)
    assert "SECRET" not in str(refused.value)
    assert d.normalise_cx(text) == text.strip()


def test_hl7_escapes():
    assert d.hl7_unescape(r"a\F\b\S\c\T\d\R\e\E\f") == r"a|b^c&d~e\f"
    assert d.parse_cx(rf"A\T\B^^^&{OID}&ISO").id == "A&B"


@given(st.text(min_size=1).filter(lambda text: text.strip() == text))
def test_any_identifier_comes_back_through_print_and_parse(identifier):
    cx = d.CX(identifier, OID)
    assert d.parse_cx(d.print_cx(cx)) == cx
    assert d.hl7_unescape(d.hl7_escape(identifier)) == identifier


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("^Smitty^Gerald^^^", d.XCN(None, "Smitty", "Gerald")),
        ("11375", d.XCN("11375", None)),
        ("11375^Doe", d.XCN("11375", "Doe")),
        (f"11375^Welby^Marcus^J^Jr^Dr^MD^^&{OID}&ISO", d.XCN("11375", "Welby", "Marcus", "J", "Jr", "Dr", "MD", OID)),
        (f"11375^Welby^^^^^^^HOSP&{OID}&iso^L^^^EI", d.XCN("11375", "Welby", authority=OID)),
    ],
)
def test_xcn(text, expected):
    assert d.parse_xcn(text) == expected
    assert d.parse_xcn(d.print_xcn(expected)) == expected


@pytest.mark.parametrize("text", ["", "^^^", "^^Gerald", "1^Doe^^^^^^^HOSPITAL"])
def test_no_xcn(text):
    with pytest.raises(ValueError, match="component"):
        d.parse_xcn(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Cleveland Clinic", d.XON("Cleveland Clinic")),
        ("Cleveland Clinic^^^^^&1.2.3&ISO^^^^CleveClin", d.XON("Cleveland Clinic", "CleveClin", "1.2.3")),
        ("Parma Community^^^^^^^^^1.2.3", d.XON("Parma Community", "1.2.3")),
        ("Some Hospital^^^^^^^^^^", d.XON("Some Hospital")),
    ],
)
def test_xon(text, expected):
    assert d.parse_xon(text) == expected
    assert d.xon_is_complete(expected)
    assert d.parse_xon(d.print_xon(expected)) == expected


def test_xon_whose_id_has_no_authority_is_read_but_not_complete():
    assert not d.xon_is_complete(d.parse_xon("Lab^^^^^^^^^4711"))


@pytest.mark.parametrize("text", ["", "^^^^^&1.2.3&ISO", "Lab^L", "Lab^^^^^NAME", "Lab^^^^^^^^^1^A"])
def test_no_xon(text):
    with pytest.raises(ValueError, match="component"):
        d.parse_xon(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("^^Internet^lab@example.org", d.XTN("Internet", address="lab@example.org")),
        ("^NET^Internet^lab@example.org", d.XTN("Internet", "NET", "lab@example.org")),
        ("^WPN^PH^^352^26^1234^5", d.XTN("PH", "WPN", None, "352", "26", "1234", "5")),
        ("^^CP^^^^^^^^^00352261234", d.XTN("CP", unformatted="00352261234")),
    ],
)
def test_xtn(text, expected):
    assert d.parse_xtn(text) == expected
    assert d.print_xtn(expected) == text


@pytest.mark.parametrize("text", ["", "^^^lab@example.org", "^^Internet", "^^PH^^352"])
def test_no_xtn(text):
    with pytest.raises(ValueError, match="component"):
        d.parse_xtn(text)


@pytest.mark.parametrize(
    "text",
    [
        "2013001^^^&1.2.3.4.5.6&ISO^urn:ihe:iti:xds:2013:accession",
        "1.2.3.4^^^^urn:ihe:iti:xdw:2013:workflowInstanceId",
        "4711^^^LAB^urn:ihe:iti:xds:2013:order",
        "4711^^^&1.2.3&ISO^local^&1.9&ISO",
        "4711^^^LAB&1.2.3&ISO^local",
        "4711^^^&lab.example&DNS^local",
        "not an OID^^^^urn:ihe:iti:xds:2016:studyInstanceUID",
    ],
)
def test_cxi(text):
    assert d.print_cxi(d.strict_cxi(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "4711^^^&1.2.3&ISO",
        "^^^&1.2.3&ISO^local",
        "4711^x^^&1.2.3&ISO^local",
        "4711^^^^urn:ihe:iti:xds:2013:order",
        "1.2^^^&1.2.3&ISO^urn:ihe:iti:xds:2016:studyInstanceUID",
        "4711^^^&1.2.3&ISO^local^&1.9&ISO^x",
    ],
)
def test_no_cxi(text):
    with pytest.raises(ValueError, match="component"):
        d.parse_cxi(text)


@pytest.mark.parametrize(
    "text",
    [
        "4711^^^&no oid&ISO^urn:ihe:iti:xds:2013:order",
        "4711^^^&1.2.3^local",
        "4711^^^LAB&^local",
        "4711^^^&&ISO^local",
        "4711^^^&1.2.3&ISO&x^local",
        f"abc^^^^{WORKFLOW}",
        f"urn:uuid:10b545ea-725c-446d-9b95-8aeb444eddf3^^^^{WORKFLOW}",
    ],
)
def test_a_cxi_that_can_be_read_but_is_not_right(text):
    assert d.print_cxi(d.parse_cxi(text)) == text
    with pytest.raises(ValueError, match="OID"):
        d.strict_cxi(text)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (" 4711^^^&1.2.3&ISO^local ", "4711^^^&1.2.3&ISO^local"),
        ("4711^ ^^&1.2.3&ISO^local^^&^", "4711^^^&1.2.3&ISO^local"),
        ("4711^^^LAB&urn:oid:1.2.3&iso&^local^&1.9&iso", "4711^^^&1.2.3&ISO^local^&1.9&ISO"),
        ("4711^^^&amp;1.2.3&amp;ISO^local", "4711^^^&1.2.3&ISO^local"),
        ("4711^^^LAB&^local", "4711^^^LAB^local"),
        ("4711^^^&lab.example&DNS^local", "4711^^^&lab.example&DNS^local"),
        (f"urn:oid:1.2.3^^^^{WORKFLOW}", f"1.2.3^^^^{WORKFLOW}"),
        ("urn:oid:1.2.3^^^^local", "urn:oid:1.2.3^^^^local"),
        ("a\\S\\b^^^^local", "a\\S\\b^^^^local"),
        ("47%^^^&1.2.3&iso^%", "47%^^^&1.2.3&ISO^%"),
        ("47%", "47%"),
        (" ^^ ", "^^"),
    ],
)
def test_a_reference_id_has_one_writing(text, kept):
    assert d.normalise_cxi(text) == kept
    assert d.normalise_cxi(kept) == kept


@pytest.mark.parametrize(
    ("text", "lower", "upper"),
    [
        ("2004", "20040101000000", "20041231235959"),
        ("200402", "20040201000000", "20040229235959"),
        ("20041225", "20041225000000", "20041225235959"),
        ("2004122523", "20041225230000", "20041225235959"),
        ("200412252350", "20041225235000", "20041225235059"),
        ("20041225235050", "20041225235050", "20041225235050"),
    ],
)
def test_dtm_is_a_span_as_long_as_its_precision(text, lower, upper):
    assert (d.DTM(text).lower, d.DTM(text).upper) == (lower, upper)


@pytest.mark.parametrize(
    "text",
    ["", "200", "20051", "2005130", "200513", "20050230", "20050229", "2005010124", "200501012360", "0000",
     "20050101000060", "200501010000001", "2005-01-01", "20050101+0100", "20050101000000.1", "２００５"],
)  # fmt: skip
def test_impossible_times(text):
    with pytest.raises(ValueError, match=r"allowed|calendar"):
        d.DTM(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("20050101", "20050101"),
        ("20050101003000+0100", "20041231233000"),
        ("200501010030-0230", "200501010300"),
        ("2005010100+0100", "2004123123"),
        ("2005010112+0530", "2005010106"),
        ("20050101000000+1400", "20041231100000"),
        ("20050101003000.1234Z", "20050101003000"),
        ("20050101+0100", "20050101"),
    ],
)
def test_times_with_zone_or_fraction_become_utc(text, expected):
    assert d.loose_dtm(text) == d.DTM(expected)


@pytest.mark.parametrize(
    "text",
    ["today", "20050230120000+0100", "00010101000000+0100", "20050101120000+1",
     "20050101120000+9999", "20050101120000+1500", "20050101120000-0060"],
)  # fmt: skip
def test_times_nobody_can_read(text):
    with pytest.raises(ValueError, match=r"allowed|calendar"):
        d.loose_dtm(text)


def test_normalisers_change_the_writing_and_leave_the_rest():
    upper = "URN:UUID:10B545EA-725C-446D-9B95-8AEB444EDDF3"
    assert d.normalise_uuid(f" {upper}\n") == upper.lower()
    assert d.normalise_uuid(" Document01 ") == "Document01"
    assert d.normalise_oid(" urn:oid:1.2.3 ") == "1.2.3"
    assert d.normalise_oid("urn:oid:abc") == "urn:oid:abc"
    assert d.normalise_oid_urn("1.2.3") == d.normalise_oid_urn("URN:OID:1.2.3") == "urn:oid:1.2.3"
    assert d.normalise_oid_urn(" home ") == "home"
    assert d.normalise_sha1(" DA39A3") == "da39a3"
    assert d.normalise_mime_type("text/xml; charset=utf-8") == "text/xml"
    assert d.normalise_components("^Smitty^Gerald^^^") == "^Smitty^Gerald"
    assert d.normalise_components("Lab^^^^^&1.2&ISO^&^ ") == "Lab^^^^^&1.2&ISO"
