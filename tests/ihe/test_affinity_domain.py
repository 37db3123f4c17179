"""The agreed code sets: the shipped file, and every fault of a bad one at once."""

from pathlib import Path

import pytest

from ihe.affinity_domain import COLUMNS, AffinityDomain, CodeFileError, affinity_domain, read_codes
from schemas import parse_xml
from tests.builders import CODE_FILE, CONFIDENTIALITY, FORMATS, LOINC, SNOMED, domain

HEAD = ",".join(COLUMNS)
CODES_XML = Path(__file__).parents[3] / "shared" / "conformance" / "codes.xml"


def test_the_shipped_code_file_is_sorted_and_without_fault():
    lines = read_codes(CODE_FILE.read_text(encoding="utf-8"))
    keys = [(one.attribute, one.code, one.scheme) for one in lines]
    assert keys == sorted(set(keys))
    assert len(keys) > 600


@pytest.mark.parametrize(
    ("attribute", "code", "scheme"),
    [
        ("classCode", "11502-2", LOINC),
        ("classCode", "722216001", SNOMED),
        ("typeCode", "772786005", SNOMED),
        ("typeCode", "11526-1", LOINC),
        ("formatCode", "urn:epSOS:ps:ps:2010", FORMATS),
        ("formatCode", "1.2.840.10008.5.1.4.1.1.88.59", "1.2.840.10008.2.6.1"),
        ("healthcareFacilityTypeCode", "22201008", SNOMED),
        ("practiceSettingCode", "722138006", SNOMED),
        ("confidentialityCode", "V", CONFIDENTIALITY),
        ("confidentialityCode", "1141000195107", SNOMED),
    ],
)
def test_the_value_sets_of_a_shared_care_record_are_shipped(attribute, code, scheme):
    assert domain().accepts_code(attribute, code, scheme)
    assert not domain().accepts_code(attribute, code, scheme + ".1")
    assert domain().display_name(attribute, code, scheme)


@pytest.mark.skipif(not CODES_XML.is_file(), reason="the conformance data is not at hand")
def test_every_code_of_the_conformance_tests_is_shipped():
    names = {"folderCodeList": "codeList"}
    missing = []
    for kind in parse_xml(CODES_XML.read_bytes()):
        attribute = names.get(kind.get("name"), kind.get("name"))
        for one in kind:
            if attribute == "mimeType":
                known = domain().accepts_mime_type(one.get("code"))
            else:
                known = domain().accepts_code(attribute, one.get("code"), one.get("codingScheme"))
            missing += [] if known else [(attribute, one.get("code"))]
    assert missing == []


def test_a_code_is_valid_from_its_first_to_its_last_day():
    agreed = read_codes(f"{HEAD}\nclassCode,A,1.2,a,2024-01-01,2024-12-31\nclassCode,B,1.2,b,,\n")
    here = affinity_domain("urn:oid:1.2.3", (), agreed)
    assert [
        here.accepts_code("classCode", "A", "1.2", day) for day in ("20231231", "20240101", "20241231", "20250101")
    ] == [
        False,
        True,
        True,
        False,
    ]
    assert here.accepts_code("classCode", "A", "1.2")
    assert here.accepts_code("classCode", "B", "1.2", "19000101")


def test_a_scheme_written_as_urn_is_the_oid_it_names():
    agreed = read_codes(f"{HEAD}\nclassCode,A,urn:oid:1.2,a,,\n")
    assert affinity_domain("urn:oid:1.2.3", (), agreed).accepts_code("classCode", "A", "1.2")


def test_what_is_not_listed_is_not_restricted():
    free = AffinityDomain("urn:oid:1.2.3")
    assert free.accepts_code("classCode", "anything", "1.2")
    assert free.accepts_mime_type("application/x-anything")
    assert free.accepts_authority("1.2.3.4")
    assert free.display_name("classCode", "anything", "1.2") is None


def test_authorities_and_mime_types_are_restricted_when_listed():
    agreed = read_codes(f"{HEAD}\nmimeType,text/xml,,,,\n")
    here = affinity_domain("urn:oid:1.2.3", ["1.2.3.4"], agreed)
    assert here.accepts_authority("1.2.3.4")
    assert not here.accepts_authority("1.2.3")
    assert here.accepts_mime_type("TEXT/XML")
    assert not here.accepts_mime_type("text/plain")


def test_comments_empty_lines_quotes_and_a_byte_order_mark_do_no_harm():
    agreed = read_codes(f'\ufeff# our codes\n{HEAD}\n\n"classCode", A ,1.2,"name, with comma",,\n# end\n')
    assert [(one.code, one.display_name) for one in agreed] == [("A", "name, with comma")]


def test_every_fault_is_told_with_its_line():
    text = "\n".join(
        [
            HEAD,
            "classCode,A,1.2,a,,",
            "classcode,A,1.2,a,,",
            "classCode,A,1.2,again,,",
            "classCode,,1.2,a,,",
            "classCode,C,,a,,",
            "classCode,D,1.2,,,",
            "classCode,E,1.2,e,2024-13-01,",
            "classCode,F,1.2,f,2024-W01-1,x",
            "classCode,G,1.2,g,2025-01-01,2024-01-01",
            "classCode,H,1.2",
            "mimeType,text,1.2,,,",
            f"classCode,{'x' * 257},1.2,x,,",
        ]
    )
    with pytest.raises(CodeFileError) as refused:
        read_codes(text)
    lines = [fault.partition(":")[0] for fault in refused.value.faults]
    assert lines == [f"line {number}" for number in (3, 4, 5, 6, 7, 8, 9, 9, 10, 11, 12, 12, 13)]
    for fault, word in zip(
        refused.value.faults,
        ("classcode", "earlier line", "code is missing", "scheme is missing", "display_name", "valid_from", "valid_from",
         "valid_to", "later", "3 columns", "type/subtype", "no scheme", "longer"),
        strict=True,
    ):  # fmt: skip
        assert word in fault


@pytest.mark.parametrize("text", ["", "code,scheme\n", 'attribute,"code\n'])
def test_a_file_without_the_columns_is_refused(text):
    with pytest.raises(CodeFileError, match="line 1"):
        read_codes(text)
