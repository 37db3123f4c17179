"""ITI-18: what each query selects, in which form, and what is refused (ITI TF-2: 3.18.4.1)."""

import pytest

from atna.message import Outcome
from ihe import ebrs
from ihe import vocabulary as v
from ihe.registry_objects import Kind
from ihe.transactions import ITI_18
from registry.stored_queries import STORED_QUERIES
from tests.builders import (
    AUTHORITY,
    CONFIDENTIALITY,
    LOCAL,
    LOINC,
    PATIENT,
    SNOMED,
    code,
    new_oid,
    only,
    submission,
    with_author,
    with_classification,
    with_code,
    with_identifier,
    with_slot,
    without_slot,
)
from tests.registry.rooms import (
    APPROVED,
    DEPRECATED,
    FIND_DOCUMENTS,
    GET_DOCUMENTS,
    GET_SET_AND_CONTENTS,
    GET_SUBMISSION_SETS,
    RegistryRoom,
    codes_of,
)

OTHER = f"P-0815^^^&{AUTHORITY}&ISO"
E = "XDSDocumentEntry"


def register(registry, *changes, **more):
    """One document with these changes; gives its uniqueId."""
    unique_id = new_oid()
    registry.accept(submission(entry=(with_identifier(v.ENTRY_UNIQUE_ID, unique_id), *changes), **more))
    return unique_id


def ids(response):
    assert response.status == v.SUCCESS, response.errors
    return [o.identifier(v.ENTRY_UNIQUE_ID) for o in response.objects]


# ---------------------------------------------------------------------------------------------- FindDocuments

A, B = "20200101", "20210615"
MATCHING = [
    ("ClassCode", (with_code(v.ENTRY_CLASS, "60591-5", LOINC),), f"('60591-5^^{LOINC}')"),
    ("TypeCode", (with_code(v.ENTRY_TYPE, "60591-5", LOINC),), f"('60591-5^^{LOINC}')"),
    ("PracticeSettingCode", (with_code(v.ENTRY_PRACTICE_SETTING, "394579002", SNOMED),), f"('394579002^^{SNOMED}')"),
    ("HealthcareFacilityTypeCode", (with_code(v.ENTRY_FACILITY_TYPE, "264372000", SNOMED),), f"('264372000^^{SNOMED}')"),
    ("FormatCode", (with_code(v.ENTRY_FORMAT, "urn:ihe:rad:TEXT", "1.3.6.1.4.1.19376.1.2.3"),),
     "('urn:ihe:rad:TEXT^^1.3.6.1.4.1.19376.1.2.3')"),
    ("EventCodeList", (with_code(v.ENTRY_EVENT, "MPQ-eventcode-2", LOCAL),), f"('MPQ-eventcode-2^^{LOCAL}')"),
    ("ConfidentialityCode", (with_code(v.ENTRY_CONFIDENTIALITY, "R", CONFIDENTIALITY),), f"('R^^{CONFIDENTIALITY}')"),
    ("AuthorPerson", (with_author(v.ENTRY_AUTHOR, authorPerson=("^Muller^Anna",)),), "('%Muller%')"),
    ("CreationTimeFrom", (with_slot("creationTime", "20250301"),), "20250301"),
    ("CreationTimeTo", (with_slot("creationTime", "20190301"),), "20200101"),
    ("ServiceStartTimeFrom", (with_slot("serviceStartTime", "202501"), with_slot("serviceStopTime", "202501")), "20250101"),
    ("ServiceStartTimeTo", (with_slot("serviceStartTime", "2019"),), "20240101"),
    ("ServiceStopTimeFrom", (with_slot("serviceStopTime", "20250101"),), "2025"),
    ("ServiceStopTimeTo", (with_slot("serviceStartTime", "2019"), with_slot("serviceStopTime", "2019")), "2020"),
    ("DocumentAvailability", (with_slot("documentAvailability", v.AVAILABLE_OFFLINE),), f"('{v.AVAILABLE_OFFLINE}')"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "changes", "value"), MATCHING, ids=[row[0] for row in MATCHING])
def test_a_parameter_selects_what_has_it_and_nothing_else(registry, name, changes, value):
    register(registry)
    wanted = register(registry, *changes)
    assert ids(registry.find(**{E + name: value})) == [wanted]


def test_every_parameter_of_find_documents_is_tried_here():
    row = next(q for q in STORED_QUERIES if q.id == FIND_DOCUMENTS)
    names = {p.name.removeprefix("$" + E) for p in row.parameters} - {"PatientId", "Status", "Type", "$MetadataLevel"}
    assert names == {row[0] for row in MATCHING}


def test_from_is_inclusive_and_to_exclusive(registry):
    first = register(registry, with_slot("creationTime", "20200101"))
    second = register(registry, with_slot("creationTime", "20200102"))
    within = registry.find(**{E + "CreationTimeFrom": "20200101", E + "CreationTimeTo": "20200102000000"})
    assert ids(within) == [first]
    assert ids(registry.find(**{E + "CreationTimeFrom": "'20200102'"})) == [second]
    assert ids(registry.find(**{E + "CreationTimeFrom": "2021", E + "CreationTimeTo": "2020"})) == []


def test_an_entry_without_service_times_is_not_excluded_by_them(registry):
    without = register(registry, without_slot("serviceStartTime"), without_slot("serviceStopTime"))
    assert ids(registry.find(**{E + "ServiceStartTimeFrom": "2030", E + "ServiceStopTimeTo": "1990"})) == [without]


def test_a_slot_is_or_and_a_repeated_slot_is_and(registry):
    one, two = (f"MPQ-eventcode-{n}^^{LOCAL}" for n in (1, 2))
    first = register(registry)
    both = register(registry, with_classification(code(v.ENTRY_EVENT, "MPQ-eventcode-2", LOCAL)))
    assert ids(registry.find(**{E + "EventCodeList": f"('{one}','{two}')"})) == [first, both]
    assert ids(registry.find(**{E + "EventCodeList": [f"('{one}')", f"('{two}')"]})) == [first, both]
    assert ids(_repeated(registry, "EventCodeList", f"('{one}')", f"('{two}')")) == [both]


def _repeated(registry, name, *values):
    slots = "".join(_slot(f"${E}{name}", value) for value in values)
    slots += _slot(f"${E}PatientId", f"'{PATIENT}'".replace("&", "&amp;")) + _slot(f"${E}Status", f"({APPROVED})")
    return registry.ask(
        f'<q:AdhocQueryRequest xmlns:q="{v.QUERY}" xmlns:r="{v.RIM}"><q:ResponseOption returnType="LeafClass" '
        f'returnComposedObjects="true"/><r:AdhocQuery id="{FIND_DOCUMENTS}">{slots}</r:AdhocQuery>'
        "</q:AdhocQueryRequest>".encode()
    )


def _slot(name, value):
    return f'<r:Slot name="{name}"><r:ValueList><r:Value>{value}</r:Value></r:ValueList></r:Slot>'


def test_a_repeated_slot_of_a_single_attribute_is_refused(registry):
    response = _repeated(registry, "ClassCode", f"('1^^{LOINC}')", f"('2^^{LOINC}')")
    assert codes_of(response) == {"XDSStoredQueryParamNumber"}
    assert "$XDSDocumentEntryClassCode" in response.errors[0].context


@pytest.mark.parametrize(
    ("pattern", "hits"),
    [("%Mul_er%", 1), ("^Muller^Anna", 1), ("^Muller%", 1), ("Muller", 0), ("%muller%", 0), ("%[M]uller%", 0), ("%", 1),
     ("%50\\%%", 0)],
)  # fmt: skip
def test_author_patterns(registry, pattern, hits):
    register(registry, with_author(v.ENTRY_AUTHOR, authorPerson=("^Muller^Anna",)))
    assert len(ids(registry.find(**{E + "AuthorPerson": f"('{pattern}')"}))) == hits


@pytest.mark.parametrize("sent", ["^Smitty^Gerald^^^", "^Smitty^Gerald", "^Smitty^Gerald^^^^^^&1.2.3&ISO"])
@pytest.mark.parametrize("more", ["", "%", "^%"])
def test_an_author_is_found_by_what_was_sent_of_him(registry, sent, more):
    """Empty components at the end are not kept, and a pattern that ends with them asks for the same person."""
    register(registry, with_author(v.ENTRY_AUTHOR, authorPerson=(sent,)))
    shown = registry.find(**{E + "AuthorPerson": f"('{sent}{more}')"})
    assert len(ids(shown)) == 1
    assert ids(registry.find(**{E + "AuthorPerson": "('^Smitty^Geraldine^^^')"})) == []
    assert ids(registry.find(**{E + "AuthorPerson": "('^%')"})) != []
    assert ids(registry.find(**{E + "AuthorPerson": "('%^Gerald^Maria^%')"})) == []


def test_status_decides_and_unknown_words_are_ignored(registry):
    original = register(registry)
    (entry,) = registry.find().objects
    replacement = register(registry, relations=((v.RPLC, entry.id),))
    assert ids(registry.find(status=f"({APPROVED})")) == [replacement]
    assert ids(registry.find(status=f"({DEPRECATED})")) == [original]
    assert ids(registry.find(status=f"({APPROVED},{DEPRECATED})")) == [original, replacement]
    assert ids(registry.find(status=f"('urn:whatever',{DEPRECATED})")) == [original]
    assert codes_of(registry.find(status="('urn:whatever')")) == {"XDSStoredQueryMissingParam"}
    assert codes_of(registry.find(status=f"({APPROVED.lower()})")) == {"XDSStoredQueryMissingParam"}


def test_the_entry_type_is_stable_unless_asked_otherwise(registry):
    stable = register(registry)
    assert ids(registry.find(**{E + "Type": f"('{v.STABLE}','{v.ON_DEMAND}')"})) == [stable]
    assert ids(registry.find(**{E + "Type": f"('{v.ON_DEMAND}')"})) == []


def test_answers_keep_the_order_of_registration(registry):
    wanted = [register(registry) for _ in range(8)]
    assert ids(registry.find()) == wanted


def test_patients_are_told_apart(registry):
    registry.know(OTHER)
    mine, theirs = register(registry), register(registry, patient=OTHER)
    assert ids(registry.find()) == [mine]
    assert ids(registry.find(patient=OTHER)) == [theirs]
    assert ids(registry.find(patient="P-4711^^^&1.2.3&ISO")) == []


def test_an_unknown_patient_is_an_error_where_the_domain_says_so(tmp_path):
    room = RegistryRoom(f"sqlite:///{tmp_path}/r.db", unknown_patient="error")
    room.know()
    assert ids(room.find()) == []
    assert codes_of(room.find(patient=OTHER)) == {"XDSUnknownPatientId"}
    room.close()


def test_unknown_parameters_are_ignored(registry):
    wanted = register(registry)
    assert ids(registry.find(SomethingElse="('x')", MetadataLevel="2")) == [wanted]


# ---------------------------------------------------------------------------------------------- return types, limits


def test_object_refs_are_ids_alone(registry):
    register(registry)
    (entry,) = registry.find().objects
    found = registry.find(return_type="ObjectRef")
    assert found.object_refs == (entry.id,)
    assert found.objects == ()
    assert registry.find(return_type="objectref").object_refs == (entry.id,)


def test_another_return_type_is_refused(registry):
    response = registry.find(return_type="RegistryObject")
    assert codes_of(response) == {"XDSRegistryError"}
    assert "LeafClass" in response.errors[0].context


def test_too_many_results_count_only_for_objects_in_full(tmp_path):
    room = RegistryRoom(f"sqlite:///{tmp_path}/r.db", max_leaf_results=2)
    room.know()
    for _ in range(2):
        register(room)
    assert len(ids(room.find())) == 2
    register(room)
    assert codes_of(room.find()) == {"XDSTooManyResults"}
    assert len(room.find(return_type="ObjectRef").object_refs) == 3
    room.close()


# ---------------------------------------------------------------------------------------------- Get*


def test_get_documents_by_either_id_whatever_the_status(registry):
    unique_id = register(registry)
    (entry,) = registry.find().objects
    register(registry, relations=((v.RPLC, entry.id),))
    assert ids(registry.query(GET_DOCUMENTS, XDSDocumentEntryUniqueId=f"('{unique_id}')")) == [unique_id]
    assert ids(registry.query(GET_DOCUMENTS, XDSDocumentEntryEntryUUID=f"('{entry.id}')")) == [unique_id]
    assert ids(registry.query(GET_DOCUMENTS, XDSDocumentEntryEntryUUID=f"('{entry.id.upper()}')")) == [unique_id]
    assert ids(registry.query(GET_DOCUMENTS, XDSDocumentEntryLogicalID=f"('{entry.id}')")) == [unique_id]
    assert ids(registry.query(GET_DOCUMENTS, XDSDocumentEntryUniqueId="('1.2.3')")) == []


def test_exactly_one_selector_is_given(registry):
    assert codes_of(registry.query(GET_DOCUMENTS)) == {"XDSStoredQueryMissingParam"}
    both = registry.query(GET_DOCUMENTS, XDSDocumentEntryUniqueId="('1')", XDSDocumentEntryEntryUUID="('urn:uuid:1')")
    assert codes_of(both) == {"XDSStoredQueryParamNumber"}
    several = registry.query(GET_SET_AND_CONTENTS, XDSSubmissionSetUniqueId="('1.2','1.3')")
    assert codes_of(several) == {"XDSStoredQueryParamNumber"}


def test_full_metadata_of_two_patients_is_refused_references_are_not(registry):
    registry.know(OTHER)
    mine, theirs = register(registry), register(registry, patient=OTHER)
    both = f"('{mine}','{theirs}')"
    assert codes_of(registry.query(GET_DOCUMENTS, XDSDocumentEntryUniqueId=both)) == {"XDSResultNotSinglePatient"}
    assert len(registry.query(GET_DOCUMENTS, "ObjectRef", XDSDocumentEntryUniqueId=both).object_refs) == 2


def test_get_submission_sets_gives_sets_and_the_links_to_what_was_asked(registry):
    registry.accept(submission(entries=2, folders=1))
    first, _ = registry.find().objects
    register(registry)
    found = registry.query(GET_SUBMISSION_SETS, uuid=f"('{first.id}')").objects
    assert [o.kind for o in found] == [Kind.SUBMISSION_SET, Kind.ASSOCIATION]
    assert (found[1].source, found[1].target, found[1].type) == (found[0].id, first.id, v.HAS_MEMBER)
    assert found[1].slot("SubmissionSetStatus") == ("Original",)
    assert codes_of(registry.query(GET_SUBMISSION_SETS)) == {"XDSStoredQueryMissingParam"}


def test_get_submission_set_and_contents_gives_all_of_it(registry):
    unique_id = new_oid()
    registry.accept(submission(entries=2, folders=1, unique_id=unique_id))
    found = registry.query(GET_SET_AND_CONTENTS, XDSSubmissionSetUniqueId=f"'{unique_id}'").objects
    kinds = [o.kind for o in found]
    # two SS-DE, one SS-FD, two SS-HM and two FD-DE
    assert kinds == [Kind.SUBMISSION_SET, *[Kind.DOCUMENT_ENTRY] * 2, Kind.FOLDER, *[Kind.ASSOCIATION] * 7]
    by_uuid = registry.query(GET_SET_AND_CONTENTS, XDSSubmissionSetEntryUUID=f"'{found[0].id}'").objects
    assert by_uuid == found


@pytest.mark.parametrize(
    ("name", "value", "hits"),
    [
        ("FormatCode", "('urn:ihe:rad:TEXT^^1.3.6.1.4.1.19376.1.2.3')", 1),
        ("ConfidentialityCode", f"('R^^{CONFIDENTIALITY}')", 1),
        ("Type", f"('{v.STABLE}')", 2),
        ("Type", f"('{v.ON_DEMAND}')", 0),
    ],
)
def test_filters_of_the_contents_take_their_links_with_them(registry, name, value, hits):
    unique_id = new_oid()
    special = only(
        "Document01",
        with_code(v.ENTRY_FORMAT, "urn:ihe:rad:TEXT", "1.3.6.1.4.1.19376.1.2.3"),
        with_code(v.ENTRY_CONFIDENTIALITY, "R", CONFIDENTIALITY),
    )
    registry.accept(submission(entries=2, folders=1, entry=special, unique_id=unique_id))
    found = registry.query(GET_SET_AND_CONTENTS, XDSSubmissionSetUniqueId=f"'{unique_id}'", **{E + name: value}).objects
    shown = {o.id for o in found}
    assert sum(o.kind is Kind.DOCUMENT_ENTRY for o in found) == hits
    assert all(o.source in shown and o.target in shown for o in found if o.kind is Kind.ASSOCIATION)
    assert sum(o.kind is Kind.ASSOCIATION for o in found) == 1 + 3 * hits


def test_a_set_nobody_registered_is_an_empty_success(registry):
    assert ids(registry.query(GET_SET_AND_CONTENTS, XDSSubmissionSetUniqueId="'1.2.3'")) == []


# ---------------------------------------------------------------------------------------------- refusals, audit


def test_an_unknown_query_is_refused_with_those_that_are_known(registry):
    response = registry.query("urn:uuid:00000000-0000-0000-0000-000000000000")
    assert codes_of(response) == {"XDSUnknownStoredQuery"}
    assert all(q.id in response.errors[0].context for q in STORED_QUERIES if q.transaction is ITI_18)


def test_the_id_of_a_query_may_be_in_capitals(registry):
    wanted = register(registry)
    shouted = FIND_DOCUMENTS.upper().replace("URN:UUID:", "urn:uuid:")
    found = registry.query(shouted, **{E + "PatientId": f"'{PATIENT}'", E + "Status": f"({APPROVED})"})
    assert ids(found) == [wanted]


def test_required_parameters_are_named(registry):
    response = registry.query(FIND_DOCUMENTS)
    assert codes_of(response) == {"XDSStoredQueryMissingParam"}
    assert [e.context.split()[0] for e in response.errors] == [f"${E}PatientId", f"${E}Status"]


@pytest.mark.parametrize(
    ("name", "value"),
    [("ClassCode", "('11502-2')"), ("ClassCode", f"'11502-2^^{LOINC}'"), ("CreationTimeFrom", "20201301"),
     ("Status", "('')"), ("AuthorPerson", "()")],
)  # fmt: skip
def test_a_bad_value_is_refused_by_name(registry, name, value):
    parameters = {E + "Status": f"({APPROVED})", E + name: value}
    response = registry.query(FIND_DOCUMENTS, **{E + "PatientId": f"'{PATIENT}'"}, **parameters)
    assert codes_of(response) == {"XDSRegistryError"}
    assert response.errors[0].context.startswith(f"${E}{name} ")


def test_missing_quotes_are_refused_or_taken_by_strictness(registry, lenient_registry):
    for room in (registry, lenient_registry):
        register(room)
    bare = {E + "PatientId": PATIENT, E + "Status": APPROVED}
    assert codes_of(registry.query(FIND_DOCUMENTS, **bare)) == {"XDSRegistryError"}
    assert len(ids(lenient_registry.query(FIND_DOCUMENTS, **bare))) == 1


def test_each_query_leaves_one_record_with_the_whole_request(registry):
    registry.find()
    registry.find(status="()")
    good, bad = registry.audited()
    assert (good.event.outcome, bad.event.outcome) == (Outcome.SUCCESS, Outcome.SERIOUS_FAILURE)
    patient, query = good.objects
    assert patient.id == PATIENT
    assert query.id == FIND_DOCUMENTS
    assert b"AdhocQueryRequest" in query.query
    assert b"P-4711" in query.query
    assert bad.event.outcome_description == "XDSRegistryError"


def many(count, form="'c{}^^s'"):
    return "(" + ",".join(form.format(number) for number in range(count)) + ")"


@pytest.mark.parametrize("name", ["ClassCode", "EventCodeList"])
def test_thousands_of_codes_are_one_list(registry, name):
    registry.accept(submission(entry=with_code(v.ENTRY_EVENT, "MPQ-eventcode-1", LOCAL)))
    (entry,) = registry.find().objects
    scheme = {"ClassCode": v.ENTRY_CLASS, "EventCodeList": v.ENTRY_EVENT}[name]
    (here,) = entry.coded(scheme)
    ours = f"'{here.node_representation}^^{here.slots[0].values[0]}'"
    (found,) = registry.find(**{f"XDSDocumentEntry{name}": many(3000)[:-1] + f",{ours})"}).objects
    assert found.id == entry.id


def test_more_values_than_the_setting_allows_are_refused(registry):
    response = registry.find(XDSDocumentEntryClassCode=many(10_000))
    assert codes_of(response) == {"XDSRegistryError"}
    assert "at most 10000" in response.errors[0].context


def test_a_slot_repeated_without_end_is_refused(registry):
    slot = "<rim:Slot name=\"$XDSDocumentEntryEventCodeList\"><rim:ValueList><rim:Value>('a^^b')</rim:Value></rim:ValueList></rim:Slot>"
    body = ebrs.adhoc_query_request(
        FIND_DOCUMENTS,
        {"$XDSDocumentEntryPatientId": f"'{PATIENT}'", "$XDSDocumentEntryStatus": f"({APPROVED})"},
    ).replace(b"</rim:AdhocQuery>", slot.encode() * 51 + b"</rim:AdhocQuery>")
    assert codes_of(registry.ask(body)) == {"XDSStoredQueryParamNumber"}


def test_the_home_of_a_query_is_on_record(registry):
    body = ebrs.adhoc_query_request(
        FIND_DOCUMENTS,
        {"$XDSDocumentEntryPatientId": f"'{PATIENT}'", "$XDSDocumentEntryStatus": f"({APPROVED})"},
        home="urn:oid:1.2.3",
    )
    registry.ask(body)
    details = {one.type: one.value for item in registry.audited()[-1].objects for one in item.details}
    assert details["urn:ihe:iti:xca:2010:homeCommunityId"] == b"urn:oid:1.2.3"
