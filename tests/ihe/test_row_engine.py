"""How rows are applied; each violation is a case of ``rule_cases``."""

from dataclasses import replace

import pytest

from ihe import vocabulary as v
from ihe.affinity_domain import affinity_domain, read_codes
from ihe.normalise import normalise
from ihe.registry_objects import Slot
from ihe.rules import RESTRICTED_UPDATE_RULES, UPDATE_RULES, check
from tests import builders as b
from tests.ihe.rule_cases import on_demand


def judge(objects):
    return check(normalise(objects), b.domain())


def test_a_slot_repeated_with_other_values_changes_the_meaning_and_is_refused():
    found = judge(b.submission(entry=b.more_slots(Slot("languageCode", ("de",)))))
    assert {(one.rule, one.lenient) for one in found} == {
        ("slots_are_named_once", True),
        ("DocumentEntry.languageCode", False),
    }


def test_a_required_slot_without_value_is_missing():
    found = judge(b.submission(entry=b.with_slot("languageCode", "")))
    assert {(one.rule, one.lenient) for one in found} == {
        ("slots_hold_values", True),
        ("DocumentEntry.languageCode", False),
    }


def test_codes_are_judged_as_of_the_day_of_the_submission():
    head = "attribute,code,scheme,display_name,valid_from,valid_to"
    agreed = read_codes(f"{head}\nclassCode,11502-2,{b.LOINC},Laboratory report,,2024-02-28\n")
    here = affinity_domain(b.HOME, (), agreed)
    objects = normalise(b.submission())
    assert [one.rule for one in check(objects, here)] == ["DocumentEntry.classCode"]
    earlier = normalise(b.submission(submission_set=b.with_slot("submissionTime", "20240228")))
    assert check(earlier, here) == ()
    there = affinity_domain(b.HOME, (), read_codes(f"{head}\nclassCode,1,{b.LOINC},another one,,\n"))
    for rules in (UPDATE_RULES, RESTRICTED_UPDATE_RULES):
        assert "DocumentEntry.classCode" not in [one.rule for one in check(objects, here, rules=rules)]
        assert "DocumentEntry.classCode" in [one.rule for one in check(objects, there, rules=rules)]


# ------------------------------------------------------------------------------------------ every row alike

ENTRY, SET, FOLDER = "DocumentEntry", "SubmissionSet", "Folder"
TWO_VALUES = {
    (ENTRY, "creationTime"): ("2023", "2024"),
    (ENTRY, "documentAvailability"): (v.AVAILABLE_ONLINE, v.AVAILABLE_OFFLINE),
    (ENTRY, "hash"): ("0" * 40, "1" * 40),
    (ENTRY, "languageCode"): ("fr", "de"),
    (ENTRY, "legalAuthenticator"): ("^Welby", "^Kildare"),
    (ENTRY, "repositoryUniqueId"): ("1.2.3", "1.2.4"),
    (ENTRY, "serviceStartTime"): ("2023", "2024"),
    (ENTRY, "serviceStopTime"): ("2024", "2025"),
    (ENTRY, "size"): ("1", "2"),
    (ENTRY, "sourcePatientId"): ("1^^^&1.2.3&ISO", "2^^^&1.2.3&ISO"),
    (ENTRY, "URI"): ("a", "b"),
    (SET, "submissionTime"): ("2023", "2024"),
    (FOLDER, "lastUpdateTime"): ("2023", "2024"),
}
ONE_CODE = {
    (ENTRY, "classCode"): v.ENTRY_CLASS,
    (ENTRY, "formatCode"): v.ENTRY_FORMAT,
    (ENTRY, "healthcareFacilityTypeCode"): v.ENTRY_FACILITY_TYPE,
    (ENTRY, "practiceSettingCode"): v.ENTRY_PRACTICE_SETTING,
    (ENTRY, "typeCode"): v.ENTRY_TYPE,
    (SET, "contentTypeCode"): v.SUBMISSION_SET_CONTENT_TYPE,
}
ONE_IDENTIFIER = {
    (ENTRY, "patientId"): v.ENTRY_PATIENT_ID,
    (ENTRY, "uniqueId"): v.ENTRY_UNIQUE_ID,
    (SET, "patientId"): v.SUBMISSION_SET_PATIENT_ID,
    (SET, "sourceId"): v.SUBMISSION_SET_SOURCE_ID,
    (SET, "uniqueId"): v.SUBMISSION_SET_UNIQUE_ID,
    (FOLDER, "patientId"): v.FOLDER_PATIENT_ID,
    (FOLDER, "uniqueId"): v.FOLDER_UNIQUE_ID,
}


def found_in(kind, change):
    """(rule, lenient, context) of every fault of a submission with this change to every object of a kind."""
    name = {ENTRY: "entry", SET: "submission_set", FOLDER: "folder"}[kind]
    return [(one.rule, one.lenient, one.error.context) for one in judge(b.submission(1, 1, **{name: change}))]


def doubled(scheme):
    """Every classification and identifier of a scheme twice."""

    def change(obj):
        classifications = tuple(one for one in obj.classifications if one.scheme == scheme)
        identifiers = tuple(one for one in obj.external_identifiers if one.scheme == scheme)
        return replace(
            obj,
            classifications=(*obj.classifications, *classifications),
            external_identifiers=(*obj.external_identifiers, *identifiers),
        )

    return change


SECOND = [
    *((kind, name, b.with_slot(name, *values)) for (kind, name), values in TWO_VALUES.items()),
    *((kind, name, doubled(scheme)) for (kind, name), scheme in (ONE_CODE | ONE_IDENTIFIER).items()),
]


@pytest.mark.parametrize(("kind", "name", "change"), SECOND, ids=lambda one: one if isinstance(one, str) else "")
def test_what_stands_once_may_not_stand_twice(kind, name, change):
    (found,) = [one for one in found_in(kind, change) if one[0] == f"{kind}.{name}"]
    assert found[1] is False
    assert "found 2" in found[2]


@pytest.mark.parametrize(("kind", "name"), ONE_IDENTIFIER)
def test_identifiers_are_required(kind, name):
    found = found_in(kind, b.without_identifier(ONE_IDENTIFIER[kind, name]))
    assert [rule for rule, _, context in found if "missing" in context] == [f"{kind}.{name}"]


@pytest.mark.parametrize("empty", ["", " "])
@pytest.mark.parametrize(("kind", "name"), ONE_IDENTIFIER)
def test_an_empty_identifier_hides_no_other(kind, name, empty):
    def empty_first(obj):
        hidden = obj.external_identifiers
        scheme = ONE_IDENTIFIER[kind, name]
        return replace(obj, external_identifiers=(b.identifier(scheme, empty, f"XDS{kind}.{name}"), *hidden))

    found = found_in(kind, empty_first)
    assert any(rule == f"{kind}.{name}" and not lenient and "found 2" in text for rule, lenient, text in found)


@pytest.mark.parametrize(("kind", "name"), [key for key in ONE_IDENTIFIER if key[1] == "patientId"])
def test_patient_ids_are_judged_in_every_object(kind, name):
    found = found_in(kind, b.with_identifier(ONE_IDENTIFIER[kind, name], "P-4711"))
    assert (f"{kind}.{name}", False) in [one[:2] for one in found]


@pytest.mark.parametrize("kind", [ENTRY, SET, FOLDER])
def test_ids_are_symbolic_or_uuids(kind):
    assert (f"{kind}.entryUUID", False) in [one[:2] for one in found_in(kind, b.having(id="urn:uuid:4711"))]


TIMES = [key for key in TWO_VALUES if key[1].endswith("Time")]


@pytest.mark.parametrize(("kind", "name"), TIMES)
def test_times_are_judged_in_every_object(kind, name):
    assert [one[:2] for one in found_in(kind, b.with_slot(name, "noon"))] == [(f"{kind}.{name}", False)]
    fraction = {"serviceStopTime": "20250229120000.5", "serviceStartTime": "20240228120000.5"}
    loose = fraction.get(name, "20240229120000.5").replace("20250229", "20250228")
    assert [one[:2] for one in found_in(kind, b.with_slot(name, loose))] == [(f"{kind}.{name}", True)]


@pytest.mark.parametrize(("kind", "longest"), [(ENTRY, 128), (SET, 256), (FOLDER, 256)])
def test_titles_are_short(kind, longest):
    assert found_in(kind, b.having(name=b.text("x" * longest))) == []
    assert [one[0] for one in found_in(kind, b.having(name=b.text("x" * (longest + 1))))] == [f"{kind}.title"]


@pytest.mark.parametrize("end", ["source", "target"])
def test_the_ends_of_an_association_are_ids(end):
    odd = replace(b.association(v.APND, "Document01", b.new_uuid()), **{end: "urn:uuid:4711"})
    assert f"Association.{end}Object" in {one.rule for one in judge(b.submission(extra=(odd,)))}


def test_an_id_that_looks_like_a_mime_type_is_none():
    assert f"{ENTRY}.entryUUID" not in {one[0] for one in found_in(ENTRY, b.having(id="application/x-none"))}


def test_of_what_is_forbidden_the_value_does_not_matter():
    found = check(normalise(on_demand(b.with_slot("hash", "x"))), b.domain(), on_demand=True)
    assert [one.rule for one in found] == [f"{ENTRY}.hash"]
