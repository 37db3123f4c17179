"""HL7 v3 queries for patients: what is read of them, whatever they hold, and that what we write is right."""

from xml.sax.saxutils import quoteattr

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ihe.hl7v2 import Demographics, Identifier
from ihe.hl7v3_parts import InstanceIdentifier
from ihe.hl7v3_query import (
    BIRTH,
    NAME,
    PARAMETERS,
    QUERY,
    SUBJECT_ID,
    PatientName,
    PatientParameters,
    PatientQuery,
    parameters_of,
    print_patient_query,
    read_patient_query,
)
from schemas import parse_xml, strict_violations, violations
from tests.hl7v3_messages import OID
from tests.hl7v3_queries import DEMOGRAPHICS, FIND, by_birth, by_id, by_name, by_sex, parameter, query


def read(*arguments, **more):
    return read_patient_query(parse_xml(query(*arguments, **more)))


def cx(identifier, authority=OID):
    return Identifier(identifier, None, authority, "ISO")


def test_everything_that_is_read():
    found = read(by_id("A", "B") + by_id("C", root="1.2.3") + DEMOGRAPHICS, home="1.2.40", quantity="5")
    text = found.text
    assert found == PatientQuery(
        FIND,
        InstanceIdentifier("1.2.42.7", "Q1"),
        FIND,
        (InstanceIdentifier("1.2.42.2"),),
        (InstanceIdentifier("1.2.42.1"),),
        "1.2.40",
        1,
        InstanceIdentifier("1.2.42.8", "7"),
        "I",
        "5",
        PatientParameters(
            ((cx("A"), cx("B")), (cx("C", "1.2.3"),)), (PatientName("Müller", "Änne"),), ("19700101",), ("F",)
        ),
        text,
    )
    assert parse_xml(text).tag == "{urn:hl7-org:v3}queryByParameter"


def test_alternatives_scopes_and_what_is_not_read():
    found = read(
        by_sex("UN")
        + by_birth("1970", "19710101")
        + by_name("Müller")
        + by_name("Miller", None)
        + parameter("otherIDsScopingOrganization", '<value root="1.2.3"/>', '<value root="1.2.4"/>')
        + parameter("patientAddress", "<city>Esch</city>")
        + parameter("patientTelecom", '<value value="tel:1"/>')
    ).parameters
    assert found.sexes == ("O",)
    assert found.births == ("1970", "19710101")
    assert found.names == (PatientName("Müller", "Änne"), PatientName("Miller", None))
    assert found.scopes == ("1.2.3", "1.2.4")
    assert found.others == ("patientAddress", "patientTelecom")


@pytest.mark.parametrize(
    "parameters",
    [
        "",
        "<livingSubjectId/>",
        parameter("livingSubjectId", '<value root="1.2.3"/>'),
        parameter("livingSubjectName", "Müller"),
        parameter("livingSubjectBirthTime", '<value nullFlavor="UNK"/>'),
    ],
)
def test_parameters_that_say_nothing(parameters):
    assert read(parameters).parameters == PatientParameters()


def test_undifferentiated_in_small_letters_is_other():
    assert read(by_sex("un")).parameters.sexes == ("O",)


def test_a_message_without_a_query():
    found = read(queries=0)
    assert (found.queries, found.query_id, found.text) == (0, None, b"")
    assert read(queries=2).queries == 2


READ = (PARAMETERS, QUERY, "queryId", SUBJECT_ID, NAME, BIRTH, "value", "family", "sender/device/asAgent", "id")
ELEMENTS = st.sampled_from(sorted({name for path in READ for name in path.split("/")}))
ATTRIBUTES = st.dictionaries(
    st.sampled_from(["root", "extension", "code", "value"]), st.text("<&\"' 1.a\t\x85ü", max_size=6), max_size=2
)
TREES = st.recursive(
    st.tuples(ELEMENTS, ATTRIBUTES, st.just([])),
    lambda inner: st.tuples(ELEMENTS, ATTRIBUTES, st.lists(inner, max_size=3)),
    max_leaves=20,
)


def written(tree):
    name, attributes, inner = tree
    told = "".join(f" {key}={quoteattr(value)}" for key, value in attributes.items())
    return f"<{name}{told}>{''.join(map(written, inner))}</{name}>"


@given(st.lists(TREES, max_size=4))
def test_reading_never_raises(trees):
    text = f'<{FIND} xmlns="urn:hl7-org:v3">{"".join(map(written, trees))}</{FIND}>'
    read_patient_query(parse_xml(text.encode()))


# ------------------------------------------------------------------------------------------ writing

KNOWN = Demographics("van <Müller>", "Änne & Co", "19700101", "O")


def printed(**more):
    return parse_xml(
        print_patient_query(
            message_id="0b5ef8a4-6a19-4f4e-8a51-3c8d4b1e2f00",
            query_id=InstanceIdentifier("1.2.3", "9"),
            time="20261122120000+0000",
            device="1.2.40",
            to="1.2.41",
            **more,
        )
    )


BY_ID = PatientParameters(identifiers=((cx('P"1'), cx("2", "1.2.3")), (cx("3"),)))
ALTERNATIVES = PatientParameters(
    names=(PatientName("A", None), PatientName("van <Müller>", "Ä & Ö")), births=("1970", "19700101"), sexes=("F", "O")
)


@pytest.mark.parametrize(
    "more",
    [
        {"parameters": BY_ID},
        {"parameters": parameters_of(KNOWN)},
        {"parameters": ALTERNATIVES},
        {"parameters": parameters_of(KNOWN, [cx("1")]), "home": "1.2.40", "own_authority": OID},
    ],
    ids=["by id", "by demographics", "alternatives", "across communities"],
)
def test_what_is_written_is_right_and_read_again(more):
    element = printed(**more)
    assert strict_violations(element) == ()
    assert violations(element) == ()
    found = read_patient_query(element)
    assert found.home == more.get("home")
    assert found.query_id == InstanceIdentifier("1.2.3", "9")
    assert found.priority == "I"
    assert found.parameters == more["parameters"]


def test_what_is_no_time_or_no_sex_is_not_asked_for():
    odd = parameters_of(Demographics("A", None, "1970-01-01", "X"))
    assert read_patient_query(printed(parameters=odd)).parameters == PatientParameters(names=(PatientName("A", None),))


@pytest.mark.parametrize(("told", "asked"), [("f", "F"), ("m", "M"), ("o", "O"), ("u", None)])
def test_a_sex_in_small_letters_is_one(told, asked):
    found = read_patient_query(printed(parameters=parameters_of(Demographics("A", None, None, told))))
    assert found.parameters.sexes == ((asked,) if asked else ())


def test_what_is_not_known_is_not_asked_for():
    assert parameters_of(Demographics()) == PatientParameters()
