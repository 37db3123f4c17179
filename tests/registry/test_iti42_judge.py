"""The judge of ITI-42 by itself: facts are given, errors come back, each exactly once (ITI TF-2: 3.42.4.1.3)."""

from dataclasses import replace

import pytest

from ihe import vocabulary as v
from ihe.datatypes import parse_cx
from ihe.errors import Rejected
from ihe.metadata import EntryType
from ihe.registry_objects import Kind
from registry import iti42_register_document_set_b as iti42
from registry.desk import new_uuid
from registry.store.protocol import Facts, KnownObject, UniqueIdUse
from schemas import parse_xml
from tests import builders as b

MINE, THEIRS = 1, 2
CX = parse_cx(b.PATIENT)
HERE, THERE = b.new_uuid(), b.new_uuid()
ENTRY = KnownObject(Kind.DOCUMENT_ENTRY, MINE, approved=True, object_type=EntryType.STABLE)
FOLDER = KnownObject(Kind.FOLDER, MINE, approved=True)
SET = KnownObject(Kind.SUBMISSION_SET, MINE, approved=True)
METADATA, UNRESOLVED = "XDSRegistryMetadataError", "UnresolvedReferenceException"
DEPRECATED, MISMATCH = "XDSRegistryDeprecatedDocumentError", "XDSPatientIdDoesNotMatch"


FACTS = Facts({(CX.id, CX.authority): MINE}, {}, {}, {}, {})


def read(objects):
    """The submission as the judge gets it; what the rules say of it alone is left out."""
    body = parse_xml(b.submit_objects_request_xml(objects))
    submission = iti42.read_submission(body, b.domain(), lenient=False, new_uuid=new_uuid)
    return replace(submission, errors=())


def judged(objects, known=None, unique_ids=None):
    """(code, context) of every error of the judge."""
    facts = replace(FACTS, objects=known or {}, unique_ids=unique_ids or {})
    try:
        iti42.judge(read(objects), facts, "20240301000000", new_uuid)
    except Rejected as rejected:
        return [(str(error.code), error.context) for error in rejected.errors]
    return []


def linked(*associations, entries=1, folders=0):
    return b.submission(entries, folders, members=False, extra=associations)


def only(found, code, *words):
    assert [one for one, _ in found] == [code], found
    assert all(word in found[0][1] for word in words), found


# ---------------------------------------------------------------------------------------------- identities


def test_an_entry_uuid_is_registered_once():
    objects = b.submission(0, extra=(b.document_entry(HERE), b.has_member("SubmissionSet01", HERE, status="Original")))
    only(judged(objects, {HERE: ENTRY}), METADATA, HERE, "registered already")
    assert judged(objects) == []


@pytest.mark.parametrize(
    ("use", "word"),
    [
        (UniqueIdUse(Kind.SUBMISSION_SET, None, None, None), "used already by a SubmissionSet"),
        (UniqueIdUse(Kind.DOCUMENT_ENTRY, EntryType.ON_DEMAND, None, None), "On-Demand"),
    ],
)
def test_a_document_takes_the_unique_id_of_no_other_thing(use, word):
    objects = b.submission(entry=b.with_identifier(v.ENTRY_UNIQUE_ID, "1.2.3"))
    only(judged(objects, unique_ids={"1.2.3": use}), METADATA, "1.2.3", word)


def test_a_unique_id_names_the_same_bytes_for_ever():
    objects = b.submission(entry=(b.with_identifier(v.ENTRY_UNIQUE_ID, "1.2.3"), b.with_slot("hash", "A" * 40)))
    size = int(objects.of(Kind.DOCUMENT_ENTRY)[0].slot("size")[0])

    def known(sha1, size):
        return {"1.2.3": UniqueIdUse(Kind.DOCUMENT_ENTRY, EntryType.STABLE, sha1, size)}

    assert judged(objects, unique_ids=known("a" * 40, size)) == []
    only(judged(objects, unique_ids=known("b" * 40, size)), "XDSNonIdenticalHash", "1.2.3")
    only(judged(objects, unique_ids=known("a" * 40, size + 1)), "XDSNonIdenticalSize", "1.2.3")
    unreadable = b.submission(entry=(b.with_identifier(v.ENTRY_UNIQUE_ID, "1.2.3"), b.with_slot("size", "many")))
    assert "XDSNonIdenticalSize" not in [code for code, _ in judged(unreadable, unique_ids=known("a" * 40, 1))]


@pytest.mark.parametrize("kind", [Kind.SUBMISSION_SET, Kind.FOLDER])
def test_sets_and_folders_have_unique_ids_of_their_own(kind):
    changes = (
        {"unique_id": "1.2.3"}
        if kind is Kind.SUBMISSION_SET
        else {"folder": b.with_identifier(v.FOLDER_UNIQUE_ID, "1.2.3")}
    )
    use = UniqueIdUse(Kind.DOCUMENT_ENTRY, EntryType.STABLE, "a" * 40, 1)
    objects = b.submission(0, 1, **changes)
    only(judged(objects, unique_ids={"1.2.3": use}), "XDSDuplicateUniqueIdInRegistry", str(kind), "1.2.3")


# ---------------------------------------------------------------------------------------------- relationships

RELATIONSHIPS = [v.APND, v.XFRM, v.RPLC, v.XFRM_RPLC, v.SIGNS]


@pytest.mark.parametrize("kind", RELATIONSHIPS)
def test_a_relationship_leads_to_an_approved_entry_of_the_patient(kind):
    objects = b.submission(relations=((kind, HERE),))
    assert judged(objects, {HERE: ENTRY}) == []
    only(judged(objects), UNRESOLVED, "targetObject", HERE)
    only(judged(objects, {HERE: FOLDER}), METADATA, "targetObject", "Folder")
    only(judged(objects, {HERE: replace(ENTRY, approved=False)}), DEPRECATED, "targetObject", HERE)
    only(judged(objects, {HERE: replace(ENTRY, patient_key=THEIRS)}), MISMATCH, "DocumentEntry of another patient")


def test_a_snapshot_is_of_an_on_demand_entry():
    objects = b.submission(relations=((v.IS_SNAPSHOT_OF, HERE),))
    assert judged(objects, {HERE: replace(ENTRY, object_type=EntryType.ON_DEMAND)}) == []
    only(judged(objects, {HERE: ENTRY}), METADATA, "On-Demand")


def test_what_the_rules_have_named_is_not_named_again():
    assert judged(b.submission(2, relations=((v.APND, "Document02"),))) == []
    assert judged(b.submission(relations=((v.APND, "Document99"),))) == []
    assert judged(linked(b.association(v.APND, HERE, "Document01"))) == []
    assert judged(linked(b.association("urn:example:kind", "Document01", THERE))) == []


# ---------------------------------------------------------------------------------------------- memberships


def test_members_and_their_owners_are_known():
    only(judged(linked(b.has_member(HERE, "Document01"))), UNRESOLVED, "sourceObject", HERE)
    only(judged(linked(b.has_member("Folder01", THERE), folders=1)), UNRESOLVED, "targetObject", THERE)
    only(judged(linked(b.has_member("SubmissionSet01", THERE))), UNRESOLVED, "targetObject", THERE)
    both = judged(linked(b.has_member(HERE, THERE)))
    assert [code for code, _ in both] == [UNRESOLVED] * 2


def test_nothing_joins_a_submission_set_of_before():
    only(judged(linked(b.has_member(HERE, "Document01")), {HERE: SET}), METADATA, "nothing can be added")


def test_only_sets_and_folders_have_members():
    only(judged(linked(b.has_member(HERE, "Document01")), {HERE: ENTRY}), METADATA, "sourceObject", "DocumentEntry")


def test_a_submission_set_is_no_member():
    only(judged(linked(b.has_member("SubmissionSet01", HERE)), {HERE: SET}), METADATA, "targetObject", "SubmissionSet")
    referred = linked(b.has_member("SubmissionSet01", HERE, status="Reference"))
    for known in (ENTRY, replace(ENTRY, approved=False), replace(ENTRY, patient_key=THEIRS)):
        assert judged(referred, {HERE: known}) == []
    only(judged(referred, {HERE: FOLDER}), METADATA, "targetObject", "Folder")


@pytest.mark.parametrize(("kind", "added"), [(v.RPLC, 2), (v.XFRM_RPLC, 2), (v.APND, 0), (v.XFRM, 0), (v.SIGNS, 0)])
def test_only_a_replacement_joins_the_folders_of_its_target(kind, added):
    objects = b.submission(relations=((kind, HERE),))
    facts = replace(FACTS, objects={HERE: ENTRY}, folders={HERE: (THERE,)})
    registration = iti42.judge(read(objects), facts, "20240301000000", new_uuid)
    assert len(registration.associations) == len(objects.of(Kind.ASSOCIATION)) + added
    assert registration.touched_folders == ((THERE,) if added else ())
    assert registration.replaced == ((HERE,) if added else ())


def test_a_folder_holds_approved_entries_of_its_patient():
    into = linked(b.has_member(HERE, "Document01"))
    assert judged(into, {HERE: FOLDER}) == []
    only(judged(into, {HERE: replace(FOLDER, patient_key=THEIRS)}), MISMATCH, "Folder of another patient")
    only(judged(into, {HERE: replace(FOLDER, approved=False)}), METADATA, "sourceObject", "Deprecated")
    of_before = linked(b.has_member("Folder01", HERE), folders=1)
    assert judged(of_before, {HERE: ENTRY}) == []
    only(judged(of_before, {HERE: replace(ENTRY, patient_key=THEIRS)}), MISMATCH, "DocumentEntry of another patient")
    only(judged(of_before, {HERE: replace(ENTRY, approved=False)}), DEPRECATED, "targetObject")
    only(judged(of_before, {HERE: FOLDER}), METADATA, "a Folder holds DocumentEntries alone")


def test_an_unknown_patient_is_named_once():
    found = judged(b.submission(2, 1, patient=f"nobody^^^&{b.AUTHORITY}&ISO"))
    only(found, "XDSUnknownPatientId", "nobody^^^&")
