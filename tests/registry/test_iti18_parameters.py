"""ITI-18: the coding rules of parameters, each by what it selects (ITI TF-2: 3.18.4.1.2.3.5, 3.18.4.1.2.3.6)."""

import pytest
from sqlalchemy import update

from atna.store.engine import begin_write
from ihe import vocabulary as v
from ihe.metadata import EntryType
from registry.criteria import Query
from registry.store import codes as c
from registry.store import tables as t
from registry.stored_queries import STORED_QUERIES
from tests.builders import (
    CONFIDENTIALITY,
    LOCAL,
    LOINC,
    PATIENT,
    author,
    code,
    new_oid,
    submission,
    with_author,
    with_classification,
    with_identifier,
    with_slot,
)
from tests.registry.rooms import APPROVED, FIND_DOCUMENTS, codes_of

IDS = {row.query: row.id for row in STORED_QUERIES}
E, F = "XDSDocumentEntry", "XDSFolder"
ORDER, ACCESSION = (
    f"{number}^^^&1.2.3.4&ISO^urn:ihe:iti:xds:2013:{kind}"
    for number, kind in (("2013001", "order"), ("77", "accession"))
)


def register(registry, *changes, **more):
    unique_id = new_oid()
    registry.accept(submission(entry=(with_identifier(v.ENTRY_UNIQUE_ID, unique_id), *changes), **more))
    return unique_id


def ids(response):
    assert response.status == v.SUCCESS, response.errors
    return [o.identifier(v.ENTRY_UNIQUE_ID) for o in response.objects]


def asked(registry, query, *slots, option='returnType="LeafClass" returnComposedObjects="true"', request="", at=""):
    """A query of (name, value, ...) slots, several of one name if wanted; attributes as they stand."""
    rows = "".join(
        f'<r:Slot name="${name}"><r:ValueList>'
        + "".join(f"<r:Value>{value.replace('&', '&amp;')}</r:Value>" for value in values)
        + "</r:ValueList></r:Slot>"
        for name, *values in slots
    )
    return registry.ask(
        f'<q:AdhocQueryRequest xmlns:q="{v.QUERY}" xmlns:r="{v.RIM}" {request}><q:ResponseOption {option}/>'
        f'<r:AdhocQuery id="{query}" {at}>{rows}</r:AdhocQuery></q:AdhocQueryRequest>'.encode()
    )


NEEDED = ((E + "PatientId", f"'{PATIENT}'"), (E + "Status", f"({APPROVED})"))


def found(registry, *slots, query=FIND_DOCUMENTS, **more):
    return ids(asked(registry, query, *NEEDED, *slots, **more))


def listed(*values):
    return "(" + ",".join(f"'{value}'" for value in values) + ")"


# ---------------------------------------------------------------------------------------------- or, and


def test_reference_ids_are_or_inside_a_slot_and_and_between_slots(registry):
    order = register(registry, with_slot(v.REFERENCE_ID_LIST, ORDER))
    both = register(registry, with_slot(v.REFERENCE_ID_LIST, ORDER, ACCESSION))
    register(registry)
    query, name = IDS[Query.FIND_DOCUMENTS_BY_REFERENCE_ID], E + "ReferenceIdList"
    assert found(registry, (name, listed(ORDER, ACCESSION)), query=query) == [order, both]
    assert found(registry, (name, listed(ACCESSION), listed(ORDER)), query=query) == [order, both]
    assert found(registry, (name, listed(ORDER)), (name, listed(ACCESSION)), query=query) == [both]
    assert found(registry, (name, listed("2013%")), (name, listed("%accession")), query=query) == [both]
    # exact, unless a wildcard says otherwise; case counts
    assert found(registry, (name, listed("2013001")), query=query) == []
    assert found(registry, (name, listed(ORDER.upper())), query=query) == []
    assert found(registry, (name, listed("201300_^^^%")), query=query) == [order, both]


@pytest.mark.parametrize("change", ["{}", "{}^^", " {} "])
@pytest.mark.parametrize("oid", ["&1.2.3.4&ISO", "&urn:oid:1.2.3.4&iso", "LAB&1.2.3.4&ISO"])
def test_a_reference_id_is_found_in_every_writing_of_it(registry, change, oid):
    """Peers write one order in many ways (design: strict or lenient); it is kept in one, in which all are found."""
    sent = change.format(ORDER.replace("&1.2.3.4&ISO", oid))
    order = register(registry, with_slot(v.REFERENCE_ID_LIST, sent))
    register(registry, with_slot(v.REFERENCE_ID_LIST, ACCESSION))
    query, name = IDS[Query.FIND_DOCUMENTS_BY_REFERENCE_ID], E + "ReferenceIdList"
    for asked_for in (sent, ORDER, f"{ORDER}^^", f"{ORDER}^%", f" {ORDER} ", ORDER.replace("ISO", "iso")):
        assert found(registry, (name, listed(asked_for)), query=query) == [order]
    assert found(registry, (name, listed("^%", "% ^", "other^^")), query=query) == []


def test_what_was_registered_before_it_had_one_writing_is_found_by_its_own(registry):
    order, query = register(registry, with_slot(v.REFERENCE_ID_LIST, ORDER)), IDS[Query.FIND_DOCUMENTS_BY_REFERENCE_ID]
    with begin_write(registry.engine) as connection:
        connection.execute(update(t.entry_reference).values(reference=f"{ORDER}^^"))
    assert found(registry, (E + "ReferenceIdList", listed(f"{ORDER}^^")), query=query) == [order]


def test_confidentiality_codes_are_or_and_and(registry):
    normal = register(registry)
    both = register(registry, with_classification(code(v.ENTRY_CONFIDENTIALITY, "R", CONFIDENTIALITY)))
    name, (n, r) = E + "ConfidentialityCode", (f"{one}^^{CONFIDENTIALITY}" for one in "NR")
    assert found(registry, (name, listed(n, r))) == [normal, both]
    assert found(registry, (name, listed(n), listed(r))) == [normal, both]
    assert found(registry, (name, listed(n)), (name, listed(r))) == [both]


def test_codes_of_folders_are_or_and_and(registry):
    plain, both = new_oid(), new_oid()
    more = with_classification(code(v.FOLDER_CODE, "Allergy_Treatments", LOCAL))
    for unique_id, changes in ((plain, ()), (both, (more,))):
        change = (with_identifier(v.FOLDER_UNIQUE_ID, unique_id), *changes)
        registry.accept(submission(entries=0, folders=1, folder=change))
    needed = ((F + "PatientId", f"'{PATIENT}'"), (F + "Status", f"({APPROVED})"))
    one, two = (f"{name}^^{LOCAL}" for name in ("Referrals", "Allergy_Treatments"))

    def folders(*slots):
        response = asked(registry, IDS[Query.FIND_FOLDERS], *needed, *slots)
        return [o.identifier(v.FOLDER_UNIQUE_ID) for o in response.objects]

    assert folders((F + "CodeList", listed(one, two))) == [plain, both]
    assert folders((F + "CodeList", listed(one)), (F + "CodeList", listed(two))) == [both]


def test_several_patterns_are_or_and_a_quote_is_doubled(registry):
    obrien = register(registry, with_author(v.ENTRY_AUTHOR, authorPerson=("^O'Brien^Anna",)))
    second = with_classification(author(v.ENTRY_AUTHOR, authorPerson=("^Second^Author",)))
    muller = register(registry, with_author(v.ENTRY_AUTHOR, authorPerson=("^Muller^Max",)), second)
    name = E + "AuthorPerson"
    assert found(registry, (name, "('^O''Brien^%')")) == [obrien]
    assert found(registry, (name, "('%Brien%','%Second%')")) == [obrien, muller]
    assert found(registry, (name, "('%Brien%')", "('%Muller%')")) == [obrien, muller]
    assert found(registry, (name, "('%BRIEN%')")) == []


# ---------------------------------------------------------------------------------------------- codes


def test_the_scheme_belongs_to_the_code(registry):
    wanted = register(registry)
    name, right = E + "ClassCode", f"('11502-2^^{LOINC}')"
    assert found(registry, (name, right)) == [wanted]
    assert found(registry, (name, "('11502-2^^9.9.9')")) == []
    for bad in ("('11502-2')", "('11502-2^^')", f"('11502-2^x^{LOINC}')", f"('11502-2^^{LOINC}^more')"):
        assert codes_of(asked(registry, FIND_DOCUMENTS, *NEEDED, (name, bad))) == {"XDSRegistryError"}


def test_the_old_scheme_slots_are_no_parameters(registry):
    wanted = register(registry)
    scheme = (E + "ClassCodeScheme", f"('{LOINC}')")
    assert found(registry, (E + "ClassCode", f"('11502-2^^{LOINC}')"), scheme) == [wanted]
    response = asked(registry, FIND_DOCUMENTS, *NEEDED, (E + "ClassCode", "('11502-2')"), scheme)
    assert codes_of(response) == {"XDSRegistryError"}
    assert "coding scheme" in response.errors[0].context


# ---------------------------------------------------------------------------------------------- times


@pytest.mark.parametrize(
    ("since", "until", "hits"),
    [("2024", "2025", 1), ("202402", "'202403'", 1), ("'20240229'", "2024022912", 0), ("2024022912", "202402291201", 1),
     ("20240229120000", "20240229120001", 1), ("20240229120001", "2025", 0), ("2023", "20240229120000", 0),
     ("2025", "2024", 0)],
)  # fmt: skip
def test_times_of_any_precision_are_compared_by_their_first_second(registry, since, until, hits):
    register(registry)  # created 20240229120000
    slots = ((E + "CreationTimeFrom", since), (E + "CreationTimeTo", until))
    assert len(found(registry, *slots)) == hits


@pytest.mark.parametrize("bad", ["()", "''", "", "20241301", "2024-01-01", "20240229120000+0100"])
def test_what_is_no_time_is_refused(registry, bad):
    response = asked(registry, FIND_DOCUMENTS, *NEEDED, (E + "CreationTimeFrom", bad))
    assert codes_of(response) == {"XDSRegistryError"}


@pytest.mark.parametrize("values", [("2024", "2025"), ("('2024','2025')",), ("('2024')",), ("(2024,2025)",)])
def test_a_list_of_times_is_one_too_many(registry, values):
    response = asked(registry, FIND_DOCUMENTS, *NEEDED, (E + "CreationTimeFrom", *values))
    assert codes_of(response) == {"XDSStoredQueryParamNumber"}


def test_a_list_of_metadata_levels_is_one_too_many(registry):
    response = asked(registry, FIND_DOCUMENTS, *NEEDED, ("MetadataLevel", "('1','2')"))
    assert codes_of(response) == {"XDSStoredQueryParamNumber"}


# ---------------------------------------------------------------------------------------------- entry types


@pytest.fixture
def both_types(registry):
    stable, on_demand = register(registry), register(registry)
    with begin_write(registry.engine) as connection:
        connection.execute(
            update(t.entry)
            .where(t.entry.c.unique_id == on_demand)
            .values(object_type=c.ENTRY_TYPE[EntryType.ON_DEMAND], creation_low=None, creation_high=None)
        )
    return registry, stable, on_demand


def test_the_type_chooses_stable_on_demand_or_both(both_types):
    registry, stable, on_demand = both_types
    name = E + "Type"
    assert found(registry) == [stable]
    assert found(registry, (name, listed(v.STABLE))) == [stable]
    assert found(registry, (name, listed(v.ON_DEMAND))) == [on_demand]
    assert found(registry, (name, listed(v.STABLE, v.ON_DEMAND))) == [stable, on_demand]
    assert found(registry, (name, listed("urn:uuid:x", v.ON_DEMAND.upper()))) == [on_demand]
    assert found(registry, (name, listed("urn:uuid:x"))) == [stable]


def test_creation_times_say_nothing_of_an_on_demand_entry(both_types):
    registry, _, on_demand = both_types
    types = (E + "Type", listed(v.STABLE, v.ON_DEMAND))
    assert found(registry, types, (E + "CreationTimeFrom", "2099")) == [on_demand]
    assert found(registry, types, (E + "CreationTimeTo", "1999")) == [on_demand]


def test_get_documents_shows_both_types(both_types):
    registry, stable, on_demand = both_types
    response = registry.query(IDS[Query.GET_DOCUMENTS], XDSDocumentEntryUniqueId=listed(stable, on_demand))
    assert ids(response) == [stable, on_demand]


# ---------------------------------------------------------------------------------------------- the rest of a request


@pytest.mark.parametrize(
    ("name", "value"),
    [("PatientId", "''"), ("PatientId", "' '"), ("Status", "()"), ("Status", "('')"), ("ClassCode", "('',)"),
     ("Type", "()"), ("DocumentAvailability", "('')"), ("PatientId", "'P-1'"), ("PatientId", "'^^^&1.2.3&ISO'")],
)  # fmt: skip
def test_an_empty_or_broken_value_is_no_value(registry, name, value):
    slots = [slot for slot in NEEDED if slot[0] != E + name]
    response = asked(registry, FIND_DOCUMENTS, *slots, (E + name, value))
    assert codes_of(response) == {"XDSRegistryError"}
    assert response.errors[0].context.startswith(f"${E}{name} ")


@pytest.mark.parametrize("name", ["PatientId", "Status", "CreationTimeFrom", "TypeCode"])
def test_a_slot_without_a_value_is_no_value_too_many(registry, name):
    slots = [slot for slot in NEEDED if slot[0] != E + name]
    response = asked(registry, FIND_DOCUMENTS, *slots, (E + name,))
    assert codes_of(response) == {"XDSRegistryError"}
    assert response.errors[0].context.startswith(f"${E}{name} ")


def test_a_patient_id_is_one(registry):
    for values in ([f"('{PATIENT}','{PATIENT}x')"], [f"'{PATIENT}'", f"'{PATIENT}'"]):
        response = asked(registry, FIND_DOCUMENTS, (E + "PatientId", *values), NEEDED[1])
        assert codes_of(response) == {"XDSStoredQueryParamNumber"}


@pytest.mark.parametrize(
    "more",
    [{"request": 'startIndex="3" maxResults="1"'}, {"at": 'home="urn:oid:1.2.3"'},
     {"option": 'returnType="LeafClass" returnComposedObjects="false"'}, {"option": 'returnType="leafclass"'}],
    ids=["pages", "home", "not composed", "case"],
)  # fmt: skip
def test_what_a_request_says_beside_its_parameters_changes_nothing(registry, more):
    wanted = [register(registry), register(registry)]
    assert found(registry, **more) == wanted


@pytest.mark.parametrize(
    "query",
    ["urn:uuid:4308b1df-36de-4bef-8e2e-ba91f593c435", "urn:uuid:ab474085-82b5-402d-8115-3f37cb1e2405",
     "urn:uuid:f2072993-9478-41df-a603-8f016706efe8", ""],
    ids=["FindDocumentsExclude", "FindDocumentsByTitle", "Fetch", "none"],
)  # fmt: skip
def test_queries_that_are_not_offered_are_unknown(registry, query):
    assert codes_of(asked(registry, query, *NEEDED)) == {"XDSUnknownStoredQuery"}


@pytest.mark.parametrize("return_type", ["LeafClassWithRepositoryItem", "RegistryObject", "x"])
def test_other_forms_of_answer_are_refused(registry, return_type):
    response = asked(registry, FIND_DOCUMENTS, *NEEDED, option=f'returnType="{return_type}"')
    assert codes_of(response) == {"XDSRegistryError"}


def test_all_that_is_wrong_is_said_at_once(registry):
    slots = ((E + "PatientId", "P"), (E + "ClassCode", "('x')"), (E + "CreationTimeFrom", "x"))
    response = asked(registry, FIND_DOCUMENTS, *slots)
    assert [str(e.code) for e in response.errors] == ["XDSRegistryError"] * 3 + ["XDSStoredQueryMissingParam"]
