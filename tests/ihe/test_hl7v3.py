"""HL7 v3 feed messages: what is read of them, whatever they hold, and what is answered."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ihe.hl7v2 import AckCode, Demographics, ErrorCode, Identifier, Problem
from ihe.hl7v3 import PATIENT_ID, PRIOR_ID, InstanceIdentifier, PatientFeed, print_acknowledgement, read_feed
from schemas import parse_xml, strict_violations, violations
from tests.hl7v3_messages import ADD, OID, RESOLVE, feed, ii

HL7 = "{urn:hl7-org:v3}"


def read(*arguments, **more):
    return read_feed(parse_xml(feed(*arguments, **more)))


@pytest.mark.parametrize("prefix", ["", "hl7"])
def test_everything_a_registry_reads(prefix):
    assert read(prefix=prefix) == PatientFeed(
        ADD,
        InstanceIdentifier("1.2.42.7", "M1"),
        ADD,
        (InstanceIdentifier("1.2.42.2"),),
        (InstanceIdentifier("1.2.42.1"),),
        1,
        (Identifier("PAT1", None, OID, "ISO"),),
        Demographics("van Müller", "Änne", "19700101", "F"),
        patients=1,
    )


def test_several_ids_and_those_a_merge_replaces():
    found = read(RESOLVE, ii(" A ") + ii("B", "1.2.3") + '<id root="1.2.3"/><id nullFlavor="UNK"/>', prior=ii("OLD"))
    assert [(one.id, one.universal_id) for one in found.identifiers] == [("A", OID), ("B", "1.2.3")]
    assert [one.id for one in found.prior_identifiers] == ["OLD"]


@pytest.mark.parametrize(
    ("person", "family", "given_name"),
    [
        ("", None, None),
        ("<name>Müller</name>", None, None),
        ('<name nullFlavor="UNK"/>', None, None),
        (
            '<name use="L" nullFlavor="MSK"><family>Hidden</family></name><name><family>Müller</family></name>',
            "Müller",
            None,
        ),
        ('<name><family nullFlavor="MSK">Hidden</family><given>Änne</given></name>', None, "Änne"),
        ("<name><family> Mül \n ler </family></name>", "Mül ler", None),
        ('<name><family qualifier="BR">Born</family></name>', "Born", None),
        ("<name><family><i>Mül</i>ler</family></name>", "Müller", None),
        (f"<name><family>{'x' * 300}</family></name>", "x" * 250, None),
    ],
)
def test_names(person, family, given_name):
    found = read(person=person).demographics
    assert (found.family, found.given) == (family, given_name)


@pytest.mark.parametrize(
    ("code", "kept"), [("M", "M"), ("F", "F"), ("UN", "O"), (" F ", "F"), ("", None), ("&#9;", None)]
)
def test_sex_is_kept_in_one_vocabulary(code, kept):
    assert read(sex=f'<administrativeGenderCode code="{code}"/>').demographics.sex == kept
    assert read(sex='<administrativeGenderCode nullFlavor="UNK"/>').demographics.sex is None


def test_what_is_null_says_nothing_whatever_stands_in_it():
    null = f'<id nullFlavor="UNK" root="{OID}" extension="X"/>'
    found = read(
        RESOLVE, null + ii("A"), prior=null, message_id=null, birth='<birthTime nullFlavor="NI" value="1970"/>'
    )
    assert [one.id for one in found.identifiers] == ["A"]
    assert (found.prior_identifiers, found.message_id, found.demographics.birth) == ((), None, None)
    assert read(sex='<administrativeGenderCode nullFlavor="UNK" code="F"/>').demographics.sex is None
    assert read(ids=f'<id nullFlavor=" " root="{OID}" extension="X"/>').identifiers[0].id == "X"


def test_an_id_with_control_characters_is_none():
    assert read(ids='<id root="1.2.3" extension="A&#10;B"/>').identifiers == ()


READ = (PATIENT_ID, PRIOR_ID, "sender/device", "interactionId", "patientPerson/name/family", "patientPerson/birthTime")
ELEMENTS = st.sampled_from(sorted({name for path in READ for name in path.split("/")}))
ATTRIBUTES = st.dictionaries(
    st.sampled_from(["root", "extension", "code", "value", "use", "nullFlavor"]),
    st.text("<&\"' 1.a\t\x85ü", max_size=6),
    max_size=2,
)
TREES = st.recursive(
    st.tuples(ELEMENTS, ATTRIBUTES, st.just([])),
    lambda inner: st.tuples(ELEMENTS, ATTRIBUTES, st.lists(inner, max_size=3)),
    max_leaves=20,
)


def written(tree):
    from xml.sax.saxutils import quoteattr

    name, attributes, children = tree
    told = "".join(f" {key}={quoteattr(value)}" for key, value in attributes.items())
    return f"<{name}{told}>{''.join(map(written, children))}</{name}>"


@given(st.lists(TREES, max_size=4))
def test_reading_never_fails_and_the_answer_is_always_xml(trees):
    body = parse_xml(f'<{ADD} xmlns="urn:hl7-org:v3">{"".join(map(written, trees))}</{ADD}>'.encode())
    answer = print_acknowledgement(read_feed(body), message_id="x", time="2026", problems=())
    assert parse_xml(answer).tag == f"{HL7}MCCI_IN000002UV01"
    violations(body)


UUID = "0b5ef8a4-6a19-4f4e-8a51-3c8d4b1e2f00"


def test_an_acceptance():
    answer = parse_xml(print_acknowledgement(read(), message_id=UUID, time="20261122120000+0000"))
    assert strict_violations(answer) == violations(answer) == ()
    assert answer.find(f"{HL7}acknowledgement/{HL7}typeCode").get("code") == "AA"
    assert dict(answer.find(f"{HL7}acknowledgement/{HL7}targetMessage/{HL7}id").attrib) == {
        "root": "1.2.42.7",
        "extension": "M1",
    }
    ids = [answer.find(f"{HL7}{who}/{HL7}device/{HL7}id").get("root") for who in ("receiver", "sender")]
    assert ids == ["1.2.42.2", "1.2.42.1"]
    assert answer.find(f"{HL7}id").get("root") == UUID
    assert answer.find(f"{HL7}acknowledgement/{HL7}acknowledgementDetail") is None


def test_a_refusal_has_a_detail_for_each_problem():
    problems = [
        Problem(AckCode.ERROR, ErrorCode.UNKNOWN_KEY_IDENTIFIER, "wanted: <root> & extension", "/a/b"),
        Problem(AckCode.ERROR, ErrorCode.DATA_TYPE_ERROR, "second"),
    ]
    answer = parse_xml(print_acknowledgement(PatientFeed(ADD), message_id=UUID, time="20261122", problems=problems))
    assert strict_violations(answer) == ()
    assert answer.find(f"{HL7}acknowledgement/{HL7}typeCode").get("code") == "AE"
    details = answer.findall(f"{HL7}acknowledgement/{HL7}acknowledgementDetail")
    assert [one.find(f"{HL7}code").get("code") for one in details] == ["204", "102"]
    assert details[0].find(f"{HL7}code").get("codeSystem") == "2.16.840.1.113883.12.357"
    assert details[0].findtext(f"{HL7}text") == "wanted: <root> & extension"
    assert [one.findtext(f"{HL7}location") for one in details] == ["/a/b", None]
    assert answer.find(f"{HL7}receiver/{HL7}device/{HL7}id").get("nullFlavor") == "NI"
