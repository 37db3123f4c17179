"""What may stand at the ends of an association; each violation is a case of ``rule_cases``."""

from ihe import vocabulary as v
from ihe.association_rules import expected_ends, is_folder_membership
from ihe.normalise import normalise
from ihe.registry_objects import Kind, SubmittedObjects
from ihe.rules import check
from ihe.structure_rules import case_of
from tests import builders as b


def test_expected_ends_tell_a_registry_what_may_stand_where():
    (ends,) = expected_ends(v.RPLC)
    assert ends.fit_kinds(Kind.DOCUMENT_ENTRY, Kind.DOCUMENT_ENTRY)
    assert not ends.fit_kinds(Kind.DOCUMENT_ENTRY, Kind.FOLDER)
    assert ends.fit_places(new_source=True, new_target=False)
    assert not ends.fit_places(new_source=True, new_target=True)
    assert any(ends.fit_kinds(Kind.FOLDER, Kind.DOCUMENT_ENTRY) for ends in expected_ends(v.HAS_MEMBER))
    assert expected_ends("RPLC") == ()


def test_a_folder_membership_has_a_folder_at_its_source():
    known = b.new_uuid()
    objects = b.submission(1, 1)
    case = case_of(objects, b.domain())
    assert is_folder_membership(case, b.has_member("Folder01", "Document01"))
    assert is_folder_membership(case, b.has_member(known, "Document01"))
    assert is_folder_membership(case, b.has_member(known, b.new_uuid()))
    assert not is_folder_membership(case, b.has_member("SubmissionSet01", "Document01"))
    assert not is_folder_membership(case, b.has_member(known, "Folder01"))
    assert not is_folder_membership(case, b.association(v.APND, "Folder01", "Document01"))


def rules_broken(objects):
    return {one.rule for one in check(normalise(objects), b.domain())}


def test_without_a_submission_set_nothing_is_said_to_lack_its_membership():
    objects = tuple(one for one in b.submission(1, 1).objects if one.kind is not Kind.SUBMISSION_SET)
    assert rules_broken(SubmittedObjects(objects)) == {"one_submission_set", "ends_can_be_found"}


def test_of_a_member_that_is_not_there_no_status_is_expected():
    missing = b.has_member("SubmissionSet01", "Document99")
    assert rules_broken(b.submission(extra=(missing,))) == {"ends_can_be_found"}
