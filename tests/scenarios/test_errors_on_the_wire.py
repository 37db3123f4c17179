"""Every error an actor has a name for, by real messages: ITI-18, ITI-42 against what is stored, ITI-41 and ITI-43."""

import pytest

from ihe import vocabulary as v
from ihe.ebrs import adhoc_query_request
from registry import query_parameters as coding
from registry.stored_queries import STORED_QUERIES
from tests import builders as b
from tests.scenarios.wire_peer import answer_names, set_id

QUERY = {row.query.value: row for row in STORED_QUERIES}
UUID = b.new_uuid()

# A good and a bad value of each coding, and the code a bad one is refused with.
VALUES = {
    coding.patient: (f"'{b.PATIENT}'", "'P-4711'", "XDSRegistryError"),
    coding.statuses: (f"('{v.APPROVED}')", f"'{v.APPROVED}'", "XDSRegistryError"),
    coding.codes: (f"('11502-2^^{b.LOINC}')", "('11502-2')", "XDSRegistryError"),
    coding.time: ("20240229", "20230229", "XDSRegistryError"),
    coding.many_identifiers: ("('a')", "('a',)", "XDSRegistryError"),
    coding.many_oids: ("('a')", "('a',)", "XDSRegistryError"),
    coding.many_patterns: ("('a')", "('a',)", "XDSRegistryError"),
    coding.entry_types: (f"('{v.STABLE}')", "()", "XDSRegistryError"),
    coding.availabilities: (f"('{v.AVAILABLE_ONLINE}')", "('')", "XDSRegistryError"),
    coding.association_types: (f"('{v.RPLC}')", f"'{v.RPLC}'", "XDSRegistryError"),
    coding.many_patients: (f"('{b.PATIENT}')", "('P-4711')", "XDSRegistryError"),
    coding.metadata_level: ("2", "two", "XDSRegistryError"),
    coding.entry_uuids: (f"('{UUID}')", f"({UUID})", "XDSRegistryError"),
    coding.one_entry_uuid: (f"'{UUID}'", f"('{UUID}','{b.new_uuid()}')", "XDSStoredQueryParamNumber"),
    coding.one_identifier: ("'1.2.3'", "('1.2','1.3')", "XDSStoredQueryParamNumber"),
    coding.one_oid: ("'1.2.3'", "('1.2','1.3')", "XDSStoredQueryParamNumber"),
    coding.one_pattern: ("'1.2.3'", "('1.2','1.3')", "XDSStoredQueryParamNumber"),
}
# Readers of plain texts are told by their name.
MANY = ("('1.2.3')", "('1.2.3',)", "XDSRegistryError")
ONE = ("'1.2.3'", "('1.2','1.3')", "XDSStoredQueryParamNumber")
PARAMETERS = [
    pytest.param(row, parameter, id=f"{row.query}{parameter.name}")
    for row in STORED_QUERIES
    for parameter in row.parameters
]


def values_of(parameter):
    """A good and a bad value of a parameter, and the code the bad one is refused with."""
    many = parameter.read.__name__.startswith("many_")
    return VALUES.get(parameter.read, MANY if many else ONE)


def asking(row, *more):
    """Everything the query needs and nothing else, as (name, value) pairs, with ``more``."""
    named = {name for name, _ in more}
    group = (*row.one_of, *row.some_of)
    chosen = next((p for p in row.parameters if p.attribute in group), None)
    given = any(p.name in named for p in row.parameters if p.attribute in group)
    needed = [p for p in row.parameters if p.required or (p is chosen and not given)]
    return [*((p.name, values_of(p)[0]) for p in needed if p.name not in named), *more]


def request(row, pairs):
    """AdhocQueryRequest with one Slot for each pair, also when a name stands twice."""
    body = adhoc_query_request(row.id, {f"{number} {name}": value for number, (name, value) in enumerate(pairs)})
    for number, (name, _) in enumerate(pairs):
        body = body.replace(f'name="{number} {name}"'.encode(), f'name="{name}"'.encode())
    return body


def refused(answer, code, *words):
    assert (answer.http_status, answer.status) == (200, "Failure")
    assert answer_names(answer, code, *words), answer.errors
    assert {found for found, _ in answer.errors} == {code}


# ---------------------------------------------------------------------------------------------- ITI-18


@pytest.mark.parametrize(("row", "parameter"), PARAMETERS)
def test_each_parameter_of_each_query(strict, row, parameter):
    good, bad, code = values_of(parameter)
    answer = strict.ask(request(row, asking(row, (parameter.name, good))), row.transaction)
    assert (answer.http_status, answer.status, answer.errors) == (200, "Success", [])
    refused(strict.ask(request(row, asking(row, (parameter.name, bad))), row.transaction), code, parameter.name)
    twice = strict.ask(request(row, asking(row, (parameter.name, good), (parameter.name, good))), row.transaction)
    if parameter.repeatable:
        assert twice.status == "Success", twice.errors
    else:
        refused(twice, "XDSStoredQueryParamNumber", parameter.name)


@pytest.mark.parametrize("row", STORED_QUERIES, ids=lambda row: str(row.query))
def test_what_is_required_is_missed_by_name(strict, row):
    answer = strict.ask(request(row, []), row.transaction)
    needed = [p.name for p in row.parameters if p.required or p.attribute in (*row.one_of, *row.some_of)]
    assert needed
    assert (answer.http_status, answer.status) == (200, "Failure")
    for name in needed:
        assert answer_names(answer, "XDSStoredQueryMissingParam", name), answer.errors


@pytest.mark.parametrize("row", [row for row in STORED_QUERIES if row.one_of], ids=lambda row: str(row.query))
def test_of_alternatives_one_is_given(strict, row):
    names = [(p.name, values_of(p)[0]) for p in row.parameters if p.attribute in row.one_of]
    for other in names[1:]:
        refused(
            strict.ask(request(row, asking(row, names[0], other))), "XDSStoredQueryParamNumber", names[0][0], other[0]
        )


def test_missing_quotes_are_decided_by_strictness(strict, lenient):
    body = adhoc_query_request(
        QUERY["FindDocuments"].id,
        {"$XDSDocumentEntryPatientId": b.PATIENT, "$XDSDocumentEntryStatus": v.APPROVED},
    )
    refused(strict.ask(body), "XDSRegistryError", "$XDSDocumentEntryPatientId")
    assert lenient.ask(body).status == "Success"


def test_what_is_no_stored_query_or_return_type(strict):
    refused(strict.ask(adhoc_query_request(b.new_uuid(), {})), "XDSUnknownStoredQuery", QUERY["FindDocuments"].id)
    body = adhoc_query_request(QUERY["GetSubmissionSets"].id, {"$uuid": f"('{UUID}')"}, "RepositoryItem")
    answer = strict.ask(body)
    assert (answer.http_status, answer.status) == (200, "Failure")
    assert answer_names(answer, "XDSRegistryError", "LeafClass"), answer.errors


# ---------------------------------------------------------------------------------------------- ITI-42, judged by what is stored


@pytest.fixture(scope="module")
def patients(strict):
    """Two patients of this module alone."""
    names = tuple(f"W-{b.new_oid()[-9:]}^^^&{b.AUTHORITY}&ISO" for _ in range(2))
    for name in names:
        strict.feed(name)
    return names


@pytest.fixture
def known(strict, patients):
    """An accepted submission with an entry and a folder: (its uniqueId, the set, the entry, the folder)."""
    objects = b.submission(1, 1, patient=patients[0])
    assert strict.register(objects).status == "Success"
    found = strict.contents(set_id(objects))
    kinds = {str(one.kind): one for one in found}
    return set_id(objects), kinds["SubmissionSet"], kinds["DocumentEntry"], kinds["Folder"]


def unchanged(peer, objects, code, *words):
    """It is refused with this code alone, and nothing is stored."""
    before = peer.rows()
    refused(peer.register(objects), code, *words)
    assert peer.rows() == before


def test_an_unknown_patient(strict):
    nobody = f"nobody^^^&{b.AUTHORITY}&ISO"
    unchanged(strict, b.submission(patient=nobody), "XDSUnknownPatientId", nobody)


def test_unique_ids_that_are_taken(strict, known, patients):
    unique_id, _, entry, folder = known
    again = b.submission(patient=patients[0], unique_id=unique_id)
    unchanged(strict, again, "XDSDuplicateUniqueIdInRegistry", unique_id)
    taken = folder.identifier(v.FOLDER_UNIQUE_ID)
    change = b.with_identifier(v.FOLDER_UNIQUE_ID, taken)
    again = b.submission(0, 1, patient=patients[0], folder=change)
    unchanged(strict, again, "XDSDuplicateUniqueIdInRegistry", "Folder", taken)
    other = b.submission(patient=patients[0], entry=b.with_identifier(v.ENTRY_UNIQUE_ID, unique_id))
    unchanged(strict, other, "XDSRegistryMetadataError", unique_id, "SubmissionSet")
    linked = (b.document_entry(entry.id, patients[0]), b.has_member("SubmissionSet01", entry.id, status="Original"))
    same_uuid = b.submission(0, patient=patients[0], extra=linked)
    unchanged(strict, same_uuid, "XDSRegistryMetadataError", entry.id, "entryUUID")


@pytest.mark.parametrize(
    ("change", "code", "word"),
    [
        (b.with_slot("hash", "0" * 40), "XDSNonIdenticalHash", "hash"),
        (b.with_slot("size", "1"), "XDSNonIdenticalSize", "size"),
    ],
)
def test_other_bytes_under_a_known_unique_id(strict, known, patients, change, code, word):
    unique_id = known[2].identifier(v.ENTRY_UNIQUE_ID)
    same = b.with_identifier(v.ENTRY_UNIQUE_ID, unique_id)
    unchanged(strict, b.submission(patient=patients[0], entry=(same, change)), code, unique_id, word)
    assert strict.register(b.submission(patient=patients[0], entry=same)).status == "Success"


@pytest.mark.parametrize("kind", [v.RPLC, v.APND, v.XFRM, v.XFRM_RPLC, v.SIGNS])
def test_relationships_to_what_is_not_there_or_not_meant(strict, known, patients, kind):
    mine, theirs = patients
    _, submission_set, entry, folder = known
    nowhere = b.new_uuid()

    def relate(target, patient=mine):
        return b.submission(patient=patient, relations=((kind, target),))

    unchanged(strict, relate(nowhere), "UnresolvedReferenceException", "targetObject", nowhere)
    unchanged(strict, relate(folder.id), "XDSRegistryMetadataError", "targetObject", "Folder")
    unchanged(strict, relate(submission_set.id), "XDSRegistryMetadataError", "targetObject", "SubmissionSet")
    unchanged(strict, relate(entry.id, theirs), "XDSPatientIdDoesNotMatch", theirs, "another patient")
    assert strict.register(b.submission(patient=mine, relations=((v.RPLC, entry.id),))).status == "Success"
    unchanged(strict, relate(entry.id), "XDSRegistryDeprecatedDocumentError", "targetObject", entry.id)


def test_a_snapshot_of_a_stable_entry(strict, known, patients):
    objects = b.submission(patient=patients[0], relations=((v.IS_SNAPSHOT_OF, known[2].id),))
    unchanged(strict, objects, "XDSRegistryMetadataError", "IsSnapshotOf", "On-Demand")


def test_memberships_of_what_is_not_there_or_not_meant(strict, known, patients):
    mine, theirs = patients
    _, submission_set, entry, folder = known

    def into(folder_id, patient=mine):
        link = b.has_member(folder_id, "Document01", "link")
        return b.submission(patient=patient, extra=(link, b.has_member("SubmissionSet01", "link")))

    nowhere = b.new_uuid()
    unchanged(strict, into(nowhere), "UnresolvedReferenceException", "sourceObject", nowhere)
    unchanged(strict, into(entry.id), "XDSRegistryMetadataError", "sourceObject", "DocumentEntry")
    unchanged(strict, into(folder.id, theirs), "XDSPatientIdDoesNotMatch", theirs, "Folder")
    assert strict.register(into(folder.id)).status == "Success"
    added = b.submission(patient=mine, extra=(b.has_member(submission_set.id, "Document01", status="Original"),))
    answer = strict.register(added)
    assert answer_names(answer, "XDSRegistryMetadataError", "SubmissionSet that is registered"), answer.errors
    referred = b.submission(0, patient=theirs, extra=(b.has_member("SubmissionSet01", entry.id, status="Reference"),))
    assert strict.register(referred).status == "Success"  # referring is not relating: each may name any document


def test_two_submissions_find_their_place(strict, patients):
    """What was refused above left this patient without anything."""
    assert strict.found(patients[1]) == ()


# ---------------------------------------------------------------------------------------------- ITI-41


def unstored(peer, answer, code, *words, objects):
    refused(answer, code, *words)
    kept = {one.identifier(v.ENTRY_UNIQUE_ID) for one in objects.objects if str(one.kind) == "DocumentEntry"}
    assert not kept & peer.documents()
    assert peer.contents(set_id(objects)) == ()


def test_documents_and_entries_belong_together(strict, patients):
    objects = b.submission(2, patient=patients[0])
    whole = {"Document01": b.CONTENT + b"0", "Document02": b.CONTENT + b"1"}
    answer = strict.provide(objects, {"Document01": whole["Document01"]})
    unstored(strict, answer, "XDSMissingDocument", "Document02", objects=objects)
    answer = strict.provide(objects, whole | {"Document03": b"x"})
    unstored(strict, answer, "XDSMissingDocumentMetadata", "Document03", objects=objects)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (b.with_slot("hash", "0" * 40), "hash"),
        (b.with_slot("hash", "0" * 64), "SHA-256"),
        (b.with_slot("size", "23456"), "size 23456"),
    ],
)
def test_hash_and_size_are_those_of_the_document(strict, patients, change, word):
    objects = b.submission(patient=patients[0], entry=change)
    unstored(strict, strict.provide(objects), "XDSRepositoryMetadataError", word, objects=objects)


def test_a_unique_id_stands_once_in_a_message(strict, patients):
    same = b.with_identifier(v.ENTRY_UNIQUE_ID, "1.2.3.4711")
    objects = b.submission(2, patient=patients[0], entry=same)
    answer = strict.provide(objects)
    unstored(strict, answer, "XDSRepositoryDuplicateUniqueIdInMessage", "1.2.3.4711", objects=objects)


def test_what_the_registry_refuses_is_told_and_not_kept(strict):
    nobody = f"nobody^^^&{b.AUTHORITY}&ISO"
    objects = b.submission(patient=nobody)
    unstored(strict, strict.provide(objects), "XDSUnknownPatientId", nobody, objects=objects)


# ---------------------------------------------------------------------------------------------- ITI-43


def test_documents_that_are_not_here(strict, patients):
    objects = b.submission(patient=patients[0])
    assert strict.provide(objects).status == "Success"
    (entry,) = [one for one in strict.contents(set_id(objects)) if str(one.kind) == "DocumentEntry"]
    here, document = entry.slot("repositoryUniqueId")[0], entry.identifier(v.ENTRY_UNIQUE_ID)
    refused(strict.retrieve(("1.2.3", document)), "XDSUnknownRepositoryId", "1.2.3", document)
    refused(strict.retrieve((here, "1.2.3")), "XDSDocumentUniqueIdError", "1.2.3")
    answer = strict.retrieve((here, "1.2.3"), (here, document), ("1.2.3", document))
    assert (answer.http_status, answer.status) == (200, "PartialSuccess")
    assert answer.codes == ["XDSDocumentUniqueIdError", "XDSUnknownRepositoryId"]
    assert answer.documents() == [(document, b.CONTENT + b"0")]
