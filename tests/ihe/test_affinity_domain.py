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


@pytest.mark.parametrize(
    "comment",
    ['# see annex,"old" list', '# the "old list', ' # a,"b" c', '"# as a spreadsheet, with a ""comma""",,,,,'],
)
def test_a_comment_may_hold_any_quotes(comment):
    text = f"{comment}\n{HEAD}\n{comment}\nclassCode,A,1.2,A,,\n{comment}\nclassCode,B,1.2,B,,\n"
    assert [code.code for code in read_codes(text)] == ["A", "B"]
    with pytest.raises(CodeFileError) as refused:
        read_codes(f"{text}{comment}\nclassCode,,1.2,C,,\n")
    assert [fault.partition(":")[0] for fault in refused.value.faults] == ["line 8, column code"]


def test_a_line_inside_a_quoted_cell_is_no_comment():
    agreed = read_codes(f'{HEAD}\nclassCode,A,1.2,"first\n# second",,\nclassCode,B,1.2,2" tube,,\n# a "comment\n')
    assert [code.display_name for code in agreed] == ["first\n# second", '2" tube']


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
    places = [fault.partition(":")[0] for fault in refused.value.faults]
    columns = ("attribute", "code", "code", "scheme", "display_name", "valid_from", "valid_from", "valid_to")
    columns += ("valid_from", None, "code", "scheme", "code")
    numbers = (3, 4, 5, 6, 7, 8, 9, 9, 10, 11, 12, 12, 13)
    wanted = zip(numbers, columns, strict=True)
    assert places == [f"line {number}" + (f", column {column}" if column else "") for number, column in wanted]
    for fault, word in zip(
        refused.value.faults,
        ("classcode", "earlier line", "code is missing", "scheme is missing", "name is missing", "YYYY-MM-DD", "YYYY-MM-DD",
         "YYYY-MM-DD", "later", "3 columns", "type/subtype", "no scheme", "longer"),
        strict=True,
    ):  # fmt: skip
        assert word in fault


@pytest.mark.parametrize("text", ["", "code,scheme\n", 'attribute,"code\n'])
def test_a_file_without_the_columns_is_refused(text):
    with pytest.raises(CodeFileError, match="line 1"):
        read_codes(text)


@pytest.mark.parametrize(
    "text",
    ["attribute,code,scheme,display_name,valid_to,valid_to\n", "attribute,code,scheme,display_name,until\n"],
    ids=["twice", "unknown"],
)
def test_columns_nobody_knows_are_refused(text):
    with pytest.raises(CodeFileError, match="line 1: the first line must name"):
        read_codes(text)


def test_dates_are_optional_and_the_columns_stand_in_any_order():
    (one,) = read_codes("code,attribute,display_name,scheme\nA,classCode,a,1.2\n")
    assert (one.attribute, one.code, one.scheme, one.display_name, one.valid_from) == (
        "classCode",
        "A",
        "1.2",
        "a",
        None,
    )
    (one,) = read_codes("valid_to,code,attribute,display_name,scheme\n2024-12-31,A,classCode,a,1.2\n")
    assert (one.valid_from, one.valid_to) == (None, "20241231")


def test_mime_types_have_validity_too():
    agreed = read_codes(f"{HEAD}\nmimeType,text/xml,,,,2024-12-31\nmimeType,text/plain,,,,\n")
    here = affinity_domain("urn:oid:1.2.3", (), agreed)
    assert here.accepts_mime_type("Text/XML", "20241231")
    assert here.accepts_mime_type("text/xml")
    assert not here.accepts_mime_type("text/xml", "20250101")
    why = here.why_not("mimeType", "Text/XML", "", "20250101")
    assert "'Text/XML' expired on 2024-12-31" in why
    assert why.endswith("allowed are text/plain")
    with pytest.raises(CodeFileError, match="earlier line"):
        read_codes(f"{HEAD}\nmimeType,text/xml,,,,\nmimeType,TEXT/XML,,,,\n")


DATED = f"""{HEAD}
typeCode,11502-2,1.2,Laboratory report,2024-01-01,2024-12-31
typeCode,11502-3,1.2,Laboratory report,2025-01-01,
typeCode,11502-2,1.3,Laboratory report,,
"""


@pytest.mark.parametrize(
    ("code", "scheme", "day", "words"),
    [
        ("11502-2", "1.2", "20250101", ("'11502-2' of scheme '1.2' expired on 2024-12-31", "used on 2025-01-01")),
        ("11502-3", "1.2", "20241231", ("is valid from 2025-01-01 on", "allowed are 11502-2 (1.2), 11502-2 (1.3)")),
        ("11502-2", "1.4", "20240601", ("not in the set", "with scheme 1.2 and 1.3")),
        ("11502-2", "1.4", "20250601", ("not in the set", "with scheme 1.3;")),
        ("x" * 300, "1.2", None, ("x…'", "allowed are 11502-2 (1.2), 11502-2 (1.3), 11502-3 (1.2)")),
    ],
    ids=["expired", "not yet", "other scheme", "other scheme, valid", "long"],
)
def test_a_refusal_says_what_is_wrong_and_what_is_allowed(code, scheme, day, words):
    here = affinity_domain("urn:oid:1.2.3", (), read_codes(DATED))
    why = here.why_not("typeCode", code, scheme, day)
    assert all(word in why for word in words), why
    assert len(why) < 500


def test_of_a_long_set_the_nearest_and_the_rest_counted():
    lines = "".join(f"typeCode,115{number:02}-1,1.2,x,,\n" for number in range(30))
    here = affinity_domain("urn:oid:1.2.3", (), read_codes(f"{HEAD}\n{lines}"), code_file="ours.csv")
    near = here.why_not("typeCode", "11502-2", "1.2")
    assert "11502-1 (1.2)" in near
    assert near.endswith("and 27 more, listed for typeCode in ours.csv")
    assert here.why_not("typeCode", "Ω", "1.2").endswith("allowed are 30 codes, listed for typeCode in ours.csv")


def test_an_attribute_without_a_valid_code_allows_none():
    here = affinity_domain("urn:oid:1.2.3", (), read_codes(f"{HEAD}\nclassCode,A,1.2,a,,2024-12-31\n"))
    assert here.why_not("classCode", "A", "1.2", "20250101").endswith("no code of classCode is valid on that day")


def test_lines_are_counted_by_attribute():
    agreed = read_codes(f"{DATED}mimeType,text/xml,,,,\nclassCode,A,1.2,a,,\n")
    assert affinity_domain("urn:oid:1.2.3", (), agreed).how_many() == {"classCode": 1, "mimeType": 1, "typeCode": 3}


def test_the_example_of_the_manual_is_right():
    manual = (Path(__file__).parents[2] / "docs" / "code_file.md").read_text(encoding="utf-8")
    example = manual.partition("```csv\n")[2].partition("```")[0]
    assert affinity_domain("urn:oid:1.2.3", (), read_codes(example)).how_many() == {"mimeType": 1, "typeCode": 2}
