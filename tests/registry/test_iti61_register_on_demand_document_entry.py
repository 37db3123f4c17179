"""ITI-61, registry side (ITI TF-2: 3.61.4.1.3)."""

import pytest

from ihe import vocabulary as v
from ihe.transactions import ITI_42, ITI_61
from tests.builders import having, new_oid, submission, with_identifier, with_slot, without_slot
from tests.registry.rooms import GET_RELATED_DOCUMENTS, codes_of

ON_DEMAND = (having(object_type=v.ON_DEMAND), *map(without_slot, ("creationTime", "hash", "size")))
BOTH = f"('{v.STABLE}','{v.ON_DEMAND}')"


def on_demand(*changes):
    return submission(entry=(*ON_DEMAND, *changes))


def test_an_on_demand_entry_is_found_by_those_who_ask_for_it(registry):
    registry.accept(on_demand(), ITI_61)
    assert registry.find().objects == ()
    (entry,) = registry.find(XDSDocumentEntryType=BOTH).objects
    assert (entry.object_type, entry.slot("hash"), entry.slot("size")) == (v.ON_DEMAND, None, None)
    record = registry.audited()[0]
    assert (record.event.action, record.event.type_codes[0].code) == ("C", "ITI-61")


@pytest.mark.parametrize("slot", [("creationTime", "2024"), ("hash", "0" * 40), ("size", "1")])
def test_what_an_on_demand_document_cannot_have(registry, slot):
    response = registry.submit(on_demand(with_slot(*slot)), transaction=ITI_61)
    assert codes_of(response) == {"XDSRegistryMetadataError"}


def test_each_transaction_takes_its_own_type(registry):
    assert codes_of(registry.submit(submission(), transaction=ITI_61)) == {"XDSRegistryMetadataError"}
    assert codes_of(registry.submit(on_demand(), transaction=ITI_42)) == {"XDSRegistryMetadataError"}


def test_a_unique_id_is_of_one_type_for_ever(registry):
    stable, other = new_oid(), new_oid()
    registry.accept(submission(entry=with_identifier(v.ENTRY_UNIQUE_ID, stable)))
    response = registry.submit(on_demand(with_identifier(v.ENTRY_UNIQUE_ID, stable)), transaction=ITI_61)
    assert codes_of(response) == {"XDSRegistryMetadataError"}
    registry.accept(on_demand(with_identifier(v.ENTRY_UNIQUE_ID, other)), ITI_61)
    registry.accept(on_demand(with_identifier(v.ENTRY_UNIQUE_ID, other)), ITI_61)
    response = registry.submit(submission(entry=with_identifier(v.ENTRY_UNIQUE_ID, other)))
    assert codes_of(response) == {"XDSRegistryMetadataError"}


def test_a_snapshot_is_of_an_on_demand_entry(registry):
    registry.accept(on_demand(), ITI_61)
    (entry,) = registry.find(XDSDocumentEntryType=BOTH).objects
    registry.accept(submission(relations=((v.IS_SNAPSHOT_OF, entry.id),)))


def test_a_snapshot_is_a_stable_entry(registry):
    registry.accept(on_demand(), ITI_61)
    (entry,) = registry.find(XDSDocumentEntryType=BOTH).objects
    snapshot = {"relations": ((v.IS_SNAPSHOT_OF, entry.id),)}
    response = registry.submit(submission(entry=ON_DEMAND, **snapshot), transaction=ITI_61)
    assert codes_of(response) == {"XDSRegistryMetadataError"}
    registry.accept(submission(**snapshot))


def test_a_snapshot_is_related_where_both_ends_are_of_the_wanted_types(registry):
    """``$XDSDocumentEntryType`` of GetRelatedDocuments: no relationship comes without its two entries."""
    registry.accept(on_demand(), ITI_61)
    (entry,) = registry.find(XDSDocumentEntryType=BOTH).objects
    registry.accept(submission(relations=((v.IS_SNAPSHOT_OF, entry.id),)))

    def related(types):
        return registry.query(
            GET_RELATED_DOCUMENTS,
            XDSDocumentEntryEntryUUID=f"'{entry.id}'",
            AssociationTypes=f"('{v.IS_SNAPSHOT_OF}')",
            XDSDocumentEntryType=types,
        ).objects

    given, snapshot, relation = related(BOTH)
    assert (given.object_type, snapshot.object_type) == (v.ON_DEMAND, v.STABLE)
    assert (relation.type, relation.source, relation.target) == (v.IS_SNAPSHOT_OF, snapshot.id, entry.id)
    for one in (v.STABLE, v.ON_DEMAND):
        assert related(f"('{one}')") == ()
