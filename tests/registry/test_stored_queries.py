"""The rows of the stored queries, each property of each row, and the reader (ITI TF-2: 3.18.4.1.2.3.7)."""

import pytest

from ihe import vocabulary as v
from ihe.datatypes import parse_cx
from ihe.ebrs import QueryRequest
from ihe.metadata import EntryType
from ihe.transactions import ITI_18, ITI_51
from registry import query_parameters as coding
from registry.criteria import Attribute
from registry.stored_queries import MOST_DEFECTS, STORED_QUERIES, Understood, read_query
from tests.builders import LOINC, PATIENT

ENTRY, SET, FOLDER = "$XDSDocumentEntry", "$XDSSubmissionSet", "$XDSFolder"
UUID = "urn:uuid:16d2a2c3-0bd5-4a9d-9c40-0f0a2dd4f36e"
# What the framework's tables say of each query: what is required, of what exactly one is given, ...
NEEDED = {
    "FindDocuments": {ENTRY + "PatientId", ENTRY + "Status"},
    "FindDocumentsByReferenceId": {ENTRY + "PatientId", ENTRY + "Status", ENTRY + "ReferenceIdList"},
    "FindSubmissionSets": {SET + "PatientId", SET + "Status"},
    "FindFolders": {FOLDER + "PatientId", FOLDER + "Status"},
    "GetAll": {"$patientId", ENTRY + "Status", SET + "Status", FOLDER + "Status"},
    "GetAssociations": {"$uuid"},
    "GetSubmissionSets": {"$uuid"},
    "GetRelatedDocuments": {"$AssociationTypes"},
    "FindDocumentsForMultiplePatients": {ENTRY + "Status"},
    "FindDocumentsByReferenceIdForMultiplePatients": {ENTRY + "Status", ENTRY + "ReferenceIdList"},
    "FindFoldersForMultiplePatients": {FOLDER + "Status"},
}
SOME_OF = {
    "FindDocumentsForMultiplePatients": (
        ENTRY + "PatientId",
        ENTRY + "ClassCode",
        ENTRY + "HealthcareFacilityTypeCode",
        ENTRY + "EventCodeList",
    ),
    "FindFoldersForMultiplePatients": (FOLDER + "PatientId", FOLDER + "CodeList"),
}
SOME_OF["FindDocumentsByReferenceIdForMultiplePatients"] = SOME_OF["FindDocumentsForMultiplePatients"]
ONE_OF = {
    "GetDocuments": (ENTRY + "EntryUUID", ENTRY + "UniqueId", ENTRY + "LogicalID"),
    "GetFolders": (FOLDER + "EntryUUID", FOLDER + "UniqueId", FOLDER + "LogicalID"),
    "GetDocumentsAndAssociations": (ENTRY + "EntryUUID", ENTRY + "UniqueId"),
    "GetSubmissionSetAndContents": (SET + "EntryUUID", SET + "UniqueId"),
    "GetFolderAndContents": (FOLDER + "EntryUUID", FOLDER + "UniqueId"),
    "GetFoldersForDocument": (ENTRY + "EntryUUID", ENTRY + "UniqueId"),
    "GetRelatedDocuments": (ENTRY + "EntryUUID", ENTRY + "UniqueId"),
}
REPEATABLE = {
    ENTRY + "EventCodeList",
    ENTRY + "ConfidentialityCode",
    ENTRY + "ReferenceIdList",
    FOLDER + "CodeList",
}
SINGLE_PATIENT = {
    "GetDocuments",
    "GetFolders",
    "GetDocumentsAndAssociations",
    "GetSubmissionSets",
    "GetSubmissionSetAndContents",
    "GetFolderAndContents",
}
STABLE_BY_DEFAULT = {
    "FindDocuments",
    "FindDocumentsByReferenceId",
    "FindDocumentsForMultiplePatients",
    "FindDocumentsByReferenceIdForMultiplePatients",
    "GetAll",
    "GetSubmissionSetAndContents",
    "GetFolderAndContents",
    "GetRelatedDocuments",
}
CX_OF = parse_cx(PATIENT)
GOOD = {
    coding.patient: f"'{PATIENT}'",
    coding.statuses: f"('{v.APPROVED}')",
    coding.codes: f"('11502-2^^{LOINC}')",
    coding.time: "20240229",
    coding.entry_types: f"('{v.ON_DEMAND}')",
    coding.availabilities: f"('{v.AVAILABLE_ONLINE}')",
    coding.association_types: f"('{v.RPLC}')",
    coding.metadata_level: "2",
    coding.many_patients: f"('{PATIENT}')",
    coding.entry_uuids: f"('{UUID}')",
    coding.one_entry_uuid: f"'{UUID}'",
}
SLOTS = [pytest.param(row, one, id=f"{row.query}{one.name}") for row in STORED_QUERIES for one in row.parameters]


def good_of(parameter):
    """A value in the coding of a parameter; readers of plain texts are told by their name: one, or many in a list."""
    many = parameter.read.__name__.startswith("many_")
    return GOOD.get(parameter.read, "('1.2.3')" if many else "'1.2.3'")


def name_of(row):
    return str(row.query)


def reading(row, *slots, lenient=False):
    """What the reader makes of these (name, value) pairs."""
    request = QueryRequest(row.id, "LeafClass", None, tuple((name, (value,)) for name, value in slots))
    return read_query(request, row.transaction, lenient=lenient)


def needed(row, *but):
    """Pairs for everything the query needs, except ``but``; of alternatives the first."""
    first = {*ONE_OF.get(name_of(row), ())[:1], *SOME_OF.get(name_of(row), ())[:1]}
    names = {*NEEDED.get(name_of(row), ()), *first} - set(but)
    return [(one.name, good_of(one)) for one in row.parameters if one.name in names]


def codes(result):
    assert not isinstance(result, Understood)
    return [(str(error.code), error.context) for error in result]


@pytest.mark.parametrize("row", STORED_QUERIES, ids=name_of)
def test_what_a_query_needs_is_enough(row):
    understood = reading(row, *needed(row))
    assert isinstance(understood, Understood), understood
    assert understood.criteria.query is row.query
    assert understood.row.single_patient is (name_of(row) in SINGLE_PATIENT)
    stable = ((EntryType.STABLE,),) if name_of(row) in STABLE_BY_DEFAULT else None
    assert understood.criteria.values.get(Attribute.ENTRY_TYPE) == stable
    assert reading(row, *needed(row), ("$Unheard", "x")).criteria == understood.criteria


@pytest.mark.parametrize(("row", "parameter"), SLOTS)
def test_each_parameter_is_read_or_refused_by_name(row, parameter):
    others = needed(row, parameter.name, *ONE_OF.get(name_of(row), ()))
    if parameter.name not in ONE_OF.get(name_of(row), ()):
        others = needed(row, parameter.name)
    good = (parameter.name, good_of(parameter))
    understood = reading(row, *others, good)
    assert isinstance(understood, Understood), understood
    criteria = understood.criteria
    if parameter.attribute is Attribute.PATIENT_ID:
        assert criteria.patients == ((CX_OF.id, CX_OF.authority),)
    else:
        assert criteria.values[parameter.attribute] == (parameter.read([good[1]], False).values,)
    for _, context in codes(reading(row, *others, (parameter.name, "( '"))):
        assert context.startswith(parameter.name + " ")
    twice = reading(row, *others, good, good)
    if parameter.name in REPEATABLE:
        assert len(twice.criteria.values[parameter.attribute]) == 2
    else:
        ((code, context),) = codes(twice)
        assert code == "XDSStoredQueryParamNumber"
        assert context.startswith(parameter.name + " ")


@pytest.mark.parametrize(("row", "parameter"), SLOTS)
def test_each_parameter_is_required_or_not(row, parameter):
    result = reading(row, *needed(row, parameter.name))
    if parameter.name in NEEDED.get(name_of(row), ()):
        ((code, context),) = codes(result)
        assert code == "XDSStoredQueryMissingParam"
        assert context.startswith(parameter.name + " ")
    elif parameter.name not in (*ONE_OF.get(name_of(row), ())[:1], *SOME_OF.get(name_of(row), ())[:1]):
        assert isinstance(result, Understood), result


@pytest.mark.parametrize("query", ONE_OF)
def test_of_alternatives_exactly_one_is_given(query):
    row = next(one for one in STORED_QUERIES if name_of(one) == query)
    values = [(one.name, good_of(one)) for one in row.parameters if one.name in ONE_OF[query]]
    others = needed(row, *ONE_OF[query])
    assert len(values) == len(ONE_OF[query])
    for one in values:
        assert isinstance(reading(row, *others, one), Understood)
    for number, given, code in ((0, [], "XDSStoredQueryMissingParam"), (2, values, "XDSStoredQueryParamNumber")):
        ((found, context),) = codes(reading(row, *others, *given))
        assert found == code, number
        assert all(name in context for name in ONE_OF[query])


@pytest.mark.parametrize("query", SOME_OF)
def test_of_what_narrows_a_query_of_all_patients_one_at_least_is_given(query):
    row = next(one for one in STORED_QUERIES if name_of(one) == query)
    values = [(one.name, good_of(one)) for one in row.parameters if one.name in SOME_OF[query]]
    others = needed(row, *SOME_OF[query])
    assert len(values) == len(SOME_OF[query])
    for one in (*([one] for one in values), values):
        assert isinstance(reading(row, *others, *one), Understood)
    ((code, context),) = codes(reading(row, *others))
    assert code == "XDSStoredQueryMissingParam"
    assert all(name in context for name in SOME_OF[query])


@pytest.mark.parametrize("row", STORED_QUERIES, ids=name_of)
def test_a_query_belongs_to_one_transaction(row):
    assert row.transaction is (ITI_51 if name_of(row) in SOME_OF else ITI_18)
    other = ITI_18 if row.transaction is ITI_51 else ITI_51
    request = QueryRequest(row.id, "LeafClass", None, tuple((name, (value,)) for name, value in needed(row)))
    ((code, context),) = codes(read_query(request, other, lenient=False))
    assert code == "XDSUnknownStoredQuery"
    assert other.code in context
    assert isinstance(read_query(request, row.transaction, lenient=False), Understood)


@pytest.mark.parametrize("transaction", [ITI_18, ITI_51], ids=lambda one: one.code)
def test_a_query_nobody_knows_is_refused(transaction):
    request = QueryRequest(UUID, "LeafClass", None, ())
    ((code, context),) = codes(read_query(request, transaction, lenient=False))
    assert code == "XDSUnknownStoredQuery"
    assert all((row.id in context) is (row.transaction is transaction) for row in STORED_QUERIES)


def test_what_is_badly_coded_is_not_called_missing_too():
    row = STORED_QUERIES[0]
    found = codes(reading(row, (ENTRY + "PatientId", "P"), (ENTRY + "Status", "x")))
    assert [code for code, _ in found] == ["XDSRegistryError", "XDSRegistryError"]


def test_a_list_of_unknown_words_is_a_missing_parameter():
    row = STORED_QUERIES[0]
    ((code, context),) = codes(reading(row, (ENTRY + "PatientId", f"'{PATIENT}'"), (ENTRY + "Status", "('urn:x')")))
    assert code == "XDSStoredQueryMissingParam"
    assert "none of its values is known" in context


def test_leniency_is_noted():
    row = STORED_QUERIES[0]
    slots = ((ENTRY + "PatientId", PATIENT), (ENTRY + "Status", f"('{v.APPROVED}')"))
    understood = reading(row, *slots, lenient=True)
    assert [(str(one.code), one.context.split(":")[0]) for one in understood.defects] == [
        ("XDSRegistryError", ENTRY + "PatientId")
    ]
    assert reading(row, *needed(row), lenient=True).defects == ()


def test_a_zone_in_a_time_is_noted_as_such():
    row = STORED_QUERIES[0]
    late = (ENTRY + "CreationTimeFrom", "20240229120000+0100")
    understood = reading(row, *needed(row), late, lenient=True)
    assert understood.criteria.values[Attribute.CREATION_FROM] == (("20240229110000",),)
    assert [one.context for one in understood.defects] == [
        f"{ENTRY}CreationTimeFrom: the time has a zone or a fraction of a second"
    ]
    assert codes(reading(row, *needed(row), late))[0][0] == "XDSRegistryError"


def test_the_defects_of_one_request_are_bounded():
    row = STORED_QUERIES[0]
    slots = [(ENTRY + "EventCodeList", "a^^1.2.3")] * (MOST_DEFECTS + 5)
    assert len(reading(row, *needed(row), *slots, lenient=True).defects) == MOST_DEFECTS
