"""What ITI-42 and ITI-61 check by the submission alone (ITI TF-3: 4.2; ITI TF-2: 3.42.4.1.3, 3.61.4.1.3)."""

from dataclasses import replace
from pathlib import Path

import pytest

from ihe import vocabulary as v
from ihe.ebrim import read_submitted_objects
from ihe.errors import ErrorCode, Severity
from ihe.normalise import normalise
from ihe.rules import RULES, check
from schemas import parse_xml
from tests import builders as b
from tests.ihe.rule_cases import RPLC, VIOLATIONS, WHY, on_demand

TESTKIT = Path(__file__).parents[3] / "shared" / "conformance" / "testkit" / "tests"
OBJECT_ROWS = [(kind, row) for kind, rows in RULES.rows.items() for row in rows]


def judge(objects, **more):
    return check(normalise(objects), b.domain(), **more)


def label(violation):
    return f"{violation.rule}: {violation.words[-1]}"


# ------------------------------------------------------------------------------------------ what is right


@pytest.mark.parametrize(
    "objects",
    [
        b.submission(),
        b.submission(3, 2),
        b.submission(0),
        b.submission(0, 1),
        b.submission(relations=[(kind, b.new_uuid()) for kind in (v.RPLC, v.APND, v.XFRM, v.XFRM_RPLC, v.SIGNS)]),
        b.submission(relations=[(v.IS_SNAPSHOT_OF, b.new_uuid())]),
        b.submission(2, relations=[(kind, "Document02") for kind in (v.APND, v.XFRM, v.SIGNS)]),
        b.submission(extra=(b.with_classification(WHY)(RPLC),)),
        b.submission(extra=(b.has_member("SubmissionSet01", b.new_uuid(), status="Reference"),)),
        b.submission(extra=(b.has_member(b.new_uuid(), "Document01", "link"), b.has_member("SubmissionSet01", "link"))),
        b.submission(extra=(b.has_member(b.new_uuid(), b.new_uuid(), "link"), b.has_member("SubmissionSet01", "link"))),
    ],
)
def test_valid_submissions_have_no_findings(objects):
    assert judge(objects) == ()


@pytest.mark.parametrize(
    "change",
    [
        b.with_slot("creationTime", "2024"),
        b.with_slot("urn:example:extra", "any"),
        b.with_slot("size", "061224"),
        b.with_slot("languageCode", "EN-us"),
        b.with_slot("hash", "E543712C0E10501972DE13A5BFCBE826C49FEB75"),
        b.with_slot("URI", "http://"),
        b.with_slot("serviceStartTime", "202402"),
        b.with_slot("documentAvailability", v.AVAILABLE_OFFLINE),
        b.with_slot(v.REFERENCE_ID_LIST, "2013001^^^&1.2.3.4.5.6&ISO^urn:ihe:iti:xds:2013:accession"),
        b.with_slot("sourcePatientInfo", "PID-3|a^^^&1.2&ISO~b^^^&1.3&ISO", "PID-11|x", "PID-30|Y"),
        b.with_slot("legalAuthenticator", "^Welby^Marcus^^^"),
        b.with_slot("sourcePatientId", "77^^^HOSP&1.3.4.5&iso^"),
        b.with_author(v.ENTRY_AUTHOR, authorInstitution=("Lab",)),
        b.with_author(v.ENTRY_AUTHOR, authorTelecommunication=("^WPN^PH^^352^26^1234",)),
        b.with_author(v.ENTRY_AUTHOR, authorPerson=("11375",)),
        b.without_code(v.ENTRY_AUTHOR),
        b.without_code(v.ENTRY_EVENT),
        b.with_classification(b.code("urn:uuid:10b545ea-725c-446d-9b95-8aeb444eddf3", "x", "1.2")),
        b.with_classification(b.code(v.ENTRY_CONFIDENTIALITY, "R", b.CONFIDENTIALITY)),
        b.with_identifier(v.ENTRY_UNIQUE_ID, "1.2.3^ext"),
        b.with_identifier(v.ENTRY_UNIQUE_ID, "x" * 256),
        b.having(name=(*b.text("Bericht"), *b.text("Rapport")), home="1.2.3", mime_type="text/XML; charset=utf-8"),
        b.having(name=(), description=b.text("x" * 5000)),
        b.having(lid="Document01", status="urn:anything", version_name="7"),
    ],
)
def test_entries_as_peers_send_them_have_no_findings(change):
    assert judge(b.submission(entry=change)) == ()


def test_on_demand_entries_are_judged_by_their_own_columns():
    assert judge(on_demand(), on_demand=True) == ()
    assert {one.rule for one in judge(on_demand())} == {
        "entries_are_of_the_right_type",
        "DocumentEntry.creationTime",
        "DocumentEntry.hash",
        "DocumentEntry.size",
    }


# ------------------------------------------------------------------------------------------ what is wrong


@pytest.mark.parametrize("violation", VIOLATIONS, ids=label)
def test_each_violation_is_one_finding(violation):
    findings = judge(violation.objects, on_demand=violation.on_demand)
    assert [(one.rule, one.error.code, one.lenient) for one in findings] == [
        (violation.rule, violation.code, violation.lenient)
    ]
    assert findings[0].error.severity is Severity.ERROR
    for word in violation.words:
        assert word in findings[0].error.context


@pytest.mark.parametrize("violation", VIOLATIONS, ids=label)
def test_contexts_name_no_patient(violation):
    for one in judge(violation.objects, on_demand=violation.on_demand):
        if one.error.code != ErrorCode.PATIENT_ID_DOES_NOT_MATCH:
            assert not any(word in one.error.context for word in ("P-4711", "89765a87b", "Doe", "Jane", "19560527"))


def removed(name):
    """The rule book without one row or function."""
    return replace(
        RULES,
        rows={
            kind: tuple(row for row in rows if f"{kind}.{row.attribute}" != name) for kind, rows in RULES.rows.items()
        },
        author_rows=tuple(row for row in RULES.author_rows if f"DocumentEntry.{row.attribute}" != name),
        functions=tuple(one for one in RULES.functions if one.__name__ != name),
    )


ALL_RULES = [
    *(f"{kind}.{row.attribute}" for kind, row in OBJECT_ROWS),
    *(f"DocumentEntry.{row.attribute}" for row in RULES.author_rows),
    *(function.__name__ for function in RULES.functions),
]


@pytest.mark.parametrize("name", ALL_RULES)
def test_without_its_rule_a_violation_passes(name):
    """Every row and every function is needed by a case above."""
    cases = [one for one in VIOLATIONS if one.rule == name]
    assert cases
    for case in cases:
        assert judge(case.objects, on_demand=case.on_demand, rules=removed(name)) == ()


def test_no_violation_is_found_by_a_rule_that_does_not_exist():
    assert {one.rule for one in VIOLATIONS} == set(ALL_RULES)


def test_all_faults_of_a_submission_are_told_at_once_and_in_one_order():
    objects = b.submission(
        2,
        1,
        submission_set=b.without_slot("submissionTime"),
        entry=b.only("Document02", b.without_slot("hash"), b.with_code(v.ENTRY_TYPE, "x", "1.2")),
        folder=b.having(name=()),
        extra=(b.association(v.RPLC, "Document01", "Document02"),),
    )
    findings = judge(objects)
    assert [one.rule for one in findings] == [
        "ends_can_be_found",
        "SubmissionSet.submissionTime",
        "DocumentEntry.hash",
        "DocumentEntry.typeCode",
        "Folder.title",
    ]
    assert findings == judge(objects)


# ------------------------------------------------------------------------------------------ submissions of the testkit

PLAIN = sorted(TESTKIT.glob("*/*/*.xml")) if TESTKIT.is_dir() else []
BLANKS = {
    "$patientid$": b.PATIENT.replace("&", "&amp;"),
    "$patientid1$": b.PATIENT.replace("&", "&amp;"),
    "$basePatientId$": b.PATIENT.replace("&", "&amp;"),
    "L$baseSourcePatientId$": "L1^^^&amp;1.2.3&amp;ISO",
    'value="SubmissionSet01"': 'value="2.25.1"',
    "$od_doc_uuid$": b.new_uuid(),
    "$original_doc_uuid$": b.new_uuid(),
}


def registrations():
    """Submissions in ebRIM 3.0 that a registry has to accept, their blanks filled in."""
    for path in PLAIN:
        text = path.read_text(encoding="utf-8")
        update = path.parent.name.startswith(("update", "deprecate", "undeprecate"))
        if f'="{v.LCM}"' in text and "<lcm:SubmitObjectsRequest" in text and not update:
            for blank, value in BLANKS.items():
                text = text.replace(blank, value)
            yield pytest.param(text, id=str(path.relative_to(TESTKIT)))


@pytest.mark.skipif(not PLAIN, reason="the conformance data is not at hand")
def test_the_testkit_has_submissions_to_judge():
    assert len(list(registrations())) > 10


@pytest.mark.parametrize("text", list(registrations()))
def test_submissions_of_the_testkit_have_no_findings(text):
    objects = read_submitted_objects(parse_xml(text.strip().encode()))
    found = judge(objects)
    by_repository = {"DocumentEntry.hash", "DocumentEntry.size", "DocumentEntry.repositoryUniqueId"}
    assert [one for one in found if one.rule not in by_repository] == []
