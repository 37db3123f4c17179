"""ITI-18: queries about SubmissionSets, Folders, Associations and everything of a patient (ITI TF-2: 3.18.4.1.2.3.7)."""

import pytest

from ihe import vocabulary as v
from ihe.registry_objects import Kind
from registry.criteria import Query
from registry.store.plans import PLANS
from registry.stored_queries import STORED_QUERIES
from tests.builders import (
    AUTHORITY,
    CONFIDENTIALITY,
    LOCAL,
    PATIENT,
    SNOMED,
    SOURCE,
    new_oid,
    only,
    submission,
    with_author,
    with_code,
    with_identifier,
    with_slot,
)
from tests.registry.rooms import APPROVED, DEPRECATED, codes_of

OTHER = f"P-0815^^^&{AUTHORITY}&ISO"
IDS = {row.query: row.id for row in STORED_QUERIES}
E, S, F = "XDSDocumentEntry", "XDSSubmissionSet", "XDSFolder"


def ask(registry, query, return_type="LeafClass", **parameters):
    response = registry.query(IDS[query], return_type, **parameters)
    assert response.status == v.SUCCESS, response.errors
    return response.objects


def kinds(objects):
    return [o.kind for o in objects]


def sets(registry, **more):
    found = ask(
        registry, Query.FIND_SUBMISSION_SETS, **{S + "PatientId": f"'{PATIENT}'", S + "Status": f"({APPROVED})"}, **more
    )
    assert set(kinds(found)) <= {Kind.SUBMISSION_SET}
    return [o.identifier(v.SUBMISSION_SET_UNIQUE_ID) for o in found]


def folders(registry, **more):
    found = ask(
        registry, Query.FIND_FOLDERS, **{F + "PatientId": f"'{PATIENT}'", F + "Status": f"({APPROVED})"}, **more
    )
    assert set(kinds(found)) <= {Kind.FOLDER}
    return [o.identifier(v.FOLDER_UNIQUE_ID) for o in found]


def test_every_query_has_a_row_and_a_plan():
    assert {row.query for row in STORED_QUERIES} == set(Query) == set(PLANS)
    assert len({row.id for row in STORED_QUERIES}) == len(STORED_QUERIES) == 17


# ---------------------------------------------------------------------------------------------- FindSubmissionSets

SET_PARAMETERS = [
    ("SourceId", with_identifier(v.SUBMISSION_SET_SOURCE_ID, "1.2.3.4"), "('1.2.3.4')"),
    ("SubmissionTimeFrom", with_slot("submissionTime", "2025"), "20250101"),
    ("SubmissionTimeTo", with_slot("submissionTime", "2019"), "20200101"),
    ("AuthorPerson", with_author(v.SUBMISSION_SET_AUTHOR, authorPerson=("^Muller^Anna",)), "'%Muller%'"),
    ("AuthorPerson", with_author(v.SUBMISSION_SET_AUTHOR, authorPerson=("^Muller^Anna^^^",)), "'^Muller^Anna^^^'"),
    ("ContentType", with_code(v.SUBMISSION_SET_CONTENT_TYPE, "264372000", SNOMED), f"('264372000^^{SNOMED}')"),
]


@pytest.mark.parametrize(("name", "change", "value"), SET_PARAMETERS, ids=[row[0] for row in SET_PARAMETERS])
def test_find_submission_sets_by_each_parameter(registry, name, change, value):
    wanted = new_oid()
    registry.accept(submission())
    registry.accept(submission(submission_set=change, unique_id=wanted))
    assert sets(registry, **{S + name: value}) == [wanted]


def test_every_parameter_of_find_submission_sets_is_tried_here():
    row = next(q for q in STORED_QUERIES if q.query is Query.FIND_SUBMISSION_SETS)
    assert {p.name.removeprefix("$" + S) for p in row.parameters} - {"PatientId", "Status"} == {
        r[0] for r in SET_PARAMETERS
    }


def test_submission_sets_of_a_patient_in_order(registry):
    wanted = [new_oid() for _ in range(3)]
    for unique_id in wanted:
        registry.accept(submission(unique_id=unique_id))
    registry.know(OTHER)
    registry.accept(submission(patient=OTHER))
    assert sets(registry) == wanted
    assert sets(registry, **{S + "SourceId": f"('{SOURCE}')"}) == wanted


def test_the_author_of_a_submission_set_is_one_pattern(registry):
    response = registry.query(
        IDS[Query.FIND_SUBMISSION_SETS],
        **{S + "PatientId": f"'{PATIENT}'", S + "Status": f"({APPROVED})", S + "AuthorPerson": "('a','b')"},
    )
    assert codes_of(response) == {"XDSStoredQueryParamNumber"}


# ---------------------------------------------------------------------------------------------- folders


def test_find_folders_by_code_and_time(registry):
    plain, special = new_oid(), new_oid()
    for unique_id, more in ((plain, ()), (special, (with_code(v.FOLDER_CODE, "Allergy_Treatments", LOCAL),))):
        change = (with_identifier(v.FOLDER_UNIQUE_ID, unique_id), *more)
        registry.accept(submission(entries=0, folders=1, folder=change))
    assert folders(registry) == [plain, special]
    assert folders(registry, **{F + "CodeList": f"('Allergy_Treatments^^{LOCAL}')"}) == [special]
    assert folders(registry, **{F + "LastUpdateTimeFrom": "20200101"}) == [plain, special]
    assert folders(registry, **{F + "LastUpdateTimeTo": "20200101"}) == []
    assert folders(registry, **{F + "LastUpdateTimeFrom": "2099"}) == []


def test_get_folders_and_folders_of_a_document(registry):
    wanted = new_oid()
    registry.accept(submission(folders=1, folder=with_identifier(v.FOLDER_UNIQUE_ID, wanted)))
    registry.accept(submission(folders=1))
    (folder,) = ask(registry, Query.GET_FOLDERS, XDSFolderUniqueId=f"('{wanted}')")
    assert ask(registry, Query.GET_FOLDERS, XDSFolderEntryUUID=f"('{folder.id}')") == (folder,)
    assert ask(registry, Query.GET_FOLDERS, XDSFolderLogicalID=f"('{folder.lid}')") == (folder,)
    member = registry.find().objects[0]
    for selector in (
        {E + "EntryUUID": f"'{member.id}'"},
        {E + "UniqueId": f"'{member.identifier(v.ENTRY_UNIQUE_ID)}'"},
    ):
        assert ask(registry, Query.GET_FOLDERS_FOR_DOCUMENT, **selector) == (folder,)


@pytest.mark.parametrize(
    ("name", "value", "hits"),
    [
        ("ConfidentialityCode", f"('R^^{CONFIDENTIALITY}')", 1),
        ("Type", f"('{v.ON_DEMAND}')", 0),
        ("Type", f"('{v.STABLE}')", 2),
    ],
)
def test_get_folder_and_contents_with_filters(registry, name, value, hits):
    unique_id = new_oid()
    change = only("Document01", with_code(v.ENTRY_CONFIDENTIALITY, "R", CONFIDENTIALITY))
    registry.accept(
        submission(entries=2, folders=1, entry=change, folder=with_identifier(v.FOLDER_UNIQUE_ID, unique_id))
    )
    found = ask(registry, Query.GET_FOLDER_AND_CONTENTS, XDSFolderUniqueId=f"'{unique_id}'", **{E + name: value})
    assert kinds(found) == [Kind.DOCUMENT_ENTRY] * hits + [Kind.FOLDER] + [Kind.ASSOCIATION] * hits
    folder = next(o for o in found if o.kind is Kind.FOLDER)
    assert all(o.source == folder.id for o in found if o.kind is Kind.ASSOCIATION)


# ---------------------------------------------------------------------------------------------- associations


def test_associations_of_objects(registry):
    registry.accept(submission())
    (entry,) = registry.find().objects
    (link,) = ask(registry, Query.GET_ASSOCIATIONS, uuid=f"('{entry.id}')")
    assert (link.type, link.target) == (v.HAS_MEMBER, entry.id)
    assert ask(registry, Query.GET_ASSOCIATIONS, uuid=f"('{link.source}')") == (link,)
    both = ask(registry, Query.GET_DOCUMENTS_AND_ASSOCIATIONS, XDSDocumentEntryEntryUUID=f"('{entry.id}')")
    assert both == (entry, link)


def test_associations_of_two_patients_are_shown(registry):
    """XDSResultNotSinglePatient is for queries about documents, folders and sets (ITI TF-2: 3.18.4.1.3)."""
    registry.know(OTHER)
    for patient in (PATIENT, OTHER):
        registry.accept(submission(patient=patient))
    ids = [registry.find(patient).objects[0].id for patient in (PATIENT, OTHER)]
    both = "('{}','{}')".format(*ids)
    assert {link.target for link in ask(registry, Query.GET_ASSOCIATIONS, uuid=both)} == set(ids)


def test_related_documents_of_the_wanted_kinds(registry):
    registry.accept(submission())
    (original,) = registry.find().objects
    registry.accept(submission(relations=((v.APND, original.id),)))
    registry.accept(submission(relations=((v.XFRM, original.id),)))
    given = {E + "EntryUUID": f"'{original.id}'"}
    found = ask(registry, Query.GET_RELATED_DOCUMENTS, **given, AssociationTypes=f"('{v.APND}')")
    assert kinds(found) == [Kind.DOCUMENT_ENTRY, Kind.DOCUMENT_ENTRY, Kind.ASSOCIATION]
    assert found[2].target == original.id
    both = ask(registry, Query.GET_RELATED_DOCUMENTS, **given, AssociationTypes=f"('{v.APND}','{v.XFRM}')")
    assert kinds(both) == [Kind.DOCUMENT_ENTRY] * 3 + [Kind.ASSOCIATION] * 2
    assert ask(registry, Query.GET_RELATED_DOCUMENTS, **given, AssociationTypes=f"('{v.SIGNS}')") == ()
    assert codes_of(registry.query(IDS[Query.GET_RELATED_DOCUMENTS], **given)) == {"XDSStoredQueryMissingParam"}


# ---------------------------------------------------------------------------------------------- GetAll, reference ids


def all_of(registry, patient=PATIENT, status=f"({APPROVED})", **more):
    required = {E + "Status": status, S + "Status": status, F + "Status": status}
    return ask(registry, Query.GET_ALL, patientId=f"'{patient}'", **required, **more)


def test_get_all_gives_everything_of_one_patient(registry):
    registry.know(OTHER)
    registry.accept(submission(entries=2, folders=1))
    registry.accept(submission(patient=OTHER))
    found = all_of(registry)
    assert kinds(found) == [
        Kind.SUBMISSION_SET,
        *[Kind.DOCUMENT_ENTRY] * 2,
        Kind.FOLDER,
        *[Kind.ASSOCIATION] * 7,
    ]
    assert kinds(all_of(registry, OTHER)) == [Kind.SUBMISSION_SET, Kind.DOCUMENT_ENTRY, Kind.ASSOCIATION]
    assert all_of(registry, "P-1^^^&1.2.3&ISO") == ()


def test_get_all_filters_documents_alone(registry):
    registry.accept(submission(entries=1, folders=1))
    found = all_of(registry, **{E + "Type": f"('{v.ON_DEMAND}')"})
    assert Kind.DOCUMENT_ENTRY not in kinds(found)
    assert {Kind.SUBMISSION_SET, Kind.FOLDER} <= set(kinds(found))
    assert all_of(registry, status=f"({DEPRECATED})") == ()


def test_documents_by_reference_id(registry):
    reference = "2013001^^^&1.2.3.4&ISO^urn:ihe:iti:xds:2013:order"
    registry.accept(submission())
    registry.accept(submission(entry=with_slot(v.REFERENCE_ID_LIST, reference)))
    required = {E + "PatientId": f"'{PATIENT}'", E + "Status": f"({APPROVED})"}
    (found,) = ask(
        registry, Query.FIND_DOCUMENTS_BY_REFERENCE_ID, **required, **{E + "ReferenceIdList": f"('{reference}')"}
    )
    assert found.slot(v.REFERENCE_ID_LIST) == (reference,)
    (found,) = ask(
        registry, Query.FIND_DOCUMENTS_BY_REFERENCE_ID, **required, **{E + "ReferenceIdList": "('2013001^^^%')"}
    )
    assert ask(registry, Query.FIND_DOCUMENTS_BY_REFERENCE_ID, **required, **{E + "ReferenceIdList": "('other')"}) == ()
    written = "2013001^^^&urn:oid:1.2.3.4&iso^urn:ihe:iti:xds:2013:order^^"
    registry.accept(submission(entry=with_slot(v.REFERENCE_ID_LIST, written)))
    for asked in (reference, written, f" {reference} "):
        two = ask(registry, Query.FIND_DOCUMENTS_BY_REFERENCE_ID, **required, **{E + "ReferenceIdList": f"('{asked}')"})
        assert [one.slot(v.REFERENCE_ID_LIST) for one in two] == [(reference,)] * 2
    missing = registry.query(IDS[Query.FIND_DOCUMENTS_BY_REFERENCE_ID], **required)
    assert codes_of(missing) == {"XDSStoredQueryMissingParam"}


@pytest.mark.parametrize("query", [Query.GET_FOLDERS, Query.GET_FOLDER_AND_CONTENTS, Query.GET_FOLDERS_FOR_DOCUMENT])
def test_a_selector_is_required(registry, query):
    assert codes_of(registry.query(IDS[query])) == {"XDSStoredQueryMissingParam"}


def test_folders_of_two_patients_are_not_shown_in_full(registry):
    registry.know(OTHER)
    ids = [new_oid(), new_oid()]
    for unique_id, patient in zip(ids, (PATIENT, OTHER), strict=True):
        change = with_identifier(v.FOLDER_UNIQUE_ID, unique_id)
        registry.accept(submission(entries=0, folders=1, patient=patient, folder=change))
    both = "('{}','{}')".format(*ids)
    assert codes_of(registry.query(IDS[Query.GET_FOLDERS], XDSFolderUniqueId=both)) == {"XDSResultNotSinglePatient"}
    assert len(registry.query(IDS[Query.GET_FOLDERS], "ObjectRef", XDSFolderUniqueId=both).object_refs) == 2


def test_a_set_is_found_by_its_unique_id_however_the_oid_is_written(registry):
    unique_id = new_oid()
    registry.accept(submission(unique_id=f"urn:oid:{unique_id}"))
    for written in (unique_id, f"urn:oid:{unique_id}"):
        found = ask(registry, Query.GET_SUBMISSION_SET_AND_CONTENTS, XDSSubmissionSetUniqueId=f"'{written}'")
        assert Kind.SUBMISSION_SET in kinds(found)


def test_an_association_type_that_is_no_relationship_selects_nothing(registry):
    registry.accept(submission())
    (original,) = registry.find().objects
    given = {E + "EntryUUID": f"'{original.id}'", "AssociationTypes": f"('{v.HAS_MEMBER}')"}
    assert ask(registry, Query.GET_RELATED_DOCUMENTS, **given) == ()
