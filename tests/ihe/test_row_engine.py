"""How rows are applied; each violation is a case of ``rule_cases``."""

from ihe.affinity_domain import affinity_domain, read_codes
from ihe.normalise import normalise
from ihe.registry_objects import Slot
from ihe.rules import check
from tests import builders as b


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
