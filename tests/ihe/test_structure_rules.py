"""Rules about a submission as a whole; each violation is a case of ``rule_cases``."""

from dataclasses import replace

from ihe import vocabulary as v
from ihe.matricule import MatriculePolicy
from ihe.normalise import normalise
from ihe.rules import check
from ihe.structure_rules import case_of
from tests import builders as b


def judge(objects):
    return check(normalise(objects), b.domain())


def test_one_id_for_two_objects_is_refused():
    """The interoperability failures of the field include the same symbolic id twice."""
    found = judge(b.submission(extra=(b.document_entry("Document01"),)))
    assert "ids_are_used_once" in {one.rule for one in found}


def test_patient_ids_written_differently_are_one_patient():
    written = b.with_identifier(v.ENTRY_PATIENT_ID, f"P-4711^^^HOSP&{b.AUTHORITY}&iso^^")
    assert judge(b.submission(entry=written)) == ()


def test_a_case_knows_objects_by_id_and_slots_by_place():
    objects = b.submission()
    case = case_of(objects, b.domain())
    assert set(case.by_id) == {"Document01", "SubmissionSet01"}
    numbers = [number for obj, number, _ in case.slots if obj.id == "Document01"]
    assert numbers == list(range(9))
    assert all(slots for _, _, slots in case_of(b.submission(1, 1), b.domain()).slots)


def test_an_entry_without_service_times_breaks_nothing():
    for names in (("serviceStartTime",), ("serviceStopTime",), ("serviceStartTime", "serviceStopTime")):
        assert judge(b.submission(entry=tuple(map(b.without_slot, names)))) == ()


def test_wrong_matricules_may_be_only_noted():
    wrong = b.submission(entry=b.with_slot("sourcePatientId", f"1893120105742^^^&{b.MATRICULES}&ISO"))
    noting = replace(b.domain(), matricules=MatriculePolicy(frozenset({b.MATRICULES}), strict=False))
    (found,) = check(normalise(wrong), noting)
    assert (found.rule, found.only_noted, found.lenient) == ("matricules_are_right", True, False)
    assert check(normalise(wrong), replace(noting, matricules=MatriculePolicy())) == ()


def test_right_matricules_and_unreadable_ids_are_none_of_this_rules_business():
    right = b.submission(patient=f"1893120105732^^^&{b.MATRICULES}&ISO")
    assert check(normalise(right), b.domain()) == ()
    unreadable = b.submission(entry=b.with_slot("sourcePatientId", f"1893120105742^^^{b.MATRICULES}"))
    assert {one.rule for one in check(normalise(unreadable), b.domain())} == {"DocumentEntry.sourcePatientId"}
