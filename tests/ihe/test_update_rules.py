"""The rules of metadata updates: every function finds its fault, and a fault passes where its function is removed."""

from dataclasses import dataclass, replace

import pytest

from ihe import vocabulary as v
from ihe.normalise import normalise
from ihe.registry_objects import Slot, SubmittedObjects
from ihe.rules import RESTRICTED_UPDATE_RULES, UPDATE_RULES, RuleBook, check
from ihe.update_rules import RESTRICTED_FUNCTIONS, UPDATE_FUNCTIONS, operations_of
from tests import builders as b
from tests.updates import brings, new_association, new_status, update

LID = "urn:uuid:3e6a1f7e-6f52-4d0e-9a44-000000000001"
OTHER = "urn:uuid:3e6a1f7e-6f52-4d0e-9a44-000000000002"
OPERATION, ANNOTATION, REQUEST = (
    "XDSMetadataUpdateOperationError",
    "XDSMetadataAnnotationError",
    "XDSInvalidRequestException",
)


def entry(symbol="New01", lid=LID, *changes):
    return b.changed(replace(b.document_entry(symbol), lid=lid), changes)


def shelf(symbol="New02", lid=OTHER):
    return replace(b.folder(symbol), lid=lid)


@dataclass(frozen=True)
class Fault:
    """``rule`` of ``book`` finds it in ``objects`` with ``code``; ``alone``: no other rule does."""

    rule: str
    objects: SubmittedObjects
    code: str = OPERATION
    book: RuleBook = UPDATE_RULES
    alone: bool = True


def restricted(rule, objects, code, *, alone=True):
    return Fault(rule, objects, code, RESTRICTED_UPDATE_RULES, alone)


WHOSE = b.with_identifier(v.ENTRY_PATIENT_ID, f"P-0815^^^&{b.AUTHORITY}&ISO")
RECONCILIATION = "XDSPatientIDReconciliationError"
FAULTS = [
    Fault("patient_ids_reconcile", update(entry("New01", LID, WHOSE), brings("New01")), RECONCILIATION),
    restricted("patient_ids_reconcile", update(entry("New01", LID, WHOSE), brings("New01")), RECONCILIATION),
    Fault("something_is_updated", update()),
    Fault("nothing_is_left_over", update(new_status(OTHER), entry())),
    Fault("nothing_is_left_over", update(new_status(OTHER), b.association(v.APND, LID, OTHER, "A"))),
    Fault("versions_name_their_object", update(entry(lid=None), brings("New01"))),
    Fault("versions_name_their_object", update(entry("New01", "New01"), brings("New01"))),
    Fault("versions_name_their_object", update(entry(lid="Document01"), brings("New01"))),
    Fault("versions_are_brought_once", update(entry(), brings("New01"), brings("New01")), alone=False),
    Fault("memberships_say_which_version", update(entry(), brings("New01", None))),
    Fault("memberships_say_which_version", update(entry(), brings("New01", "0"))),
    Fault("memberships_say_which_version", update(entry(), brings("New01", "one"))),
    Fault("memberships_say_which_version", update(entry(), brings("New01", propagation="maybe"))),
    Fault("memberships_say_which_version", update(entry(), brings("New01", status="Reference"))),
    Fault("memberships_say_which_version", update(shelf(), brings("New02", status="Reference"))),
    Fault(
        "associations_carry_their_own_slots",
        update(entry(), brings("New01", more=(Slot("OriginalStatus", (v.APPROVED,)),))),
    ),
    Fault("status_updates_can_be_read", update(new_status(OTHER, "Approved"))),
    Fault("status_updates_can_be_read", update(new_status(OTHER, v.APPROVED, v.APPROVED))),
    Fault("status_updates_can_be_read", update(new_status("Document01"))),
    Fault("status_updates_can_be_read", update(entry(OTHER), brings(OTHER), new_status(OTHER))),
    Fault(
        "submitted_associations_join_what_is_registered",
        update(*new_association(v.APND, LID, "Document01")),
        "UnresolvedReferenceException",
    ),
    Fault(
        "submitted_associations_join_what_is_registered",
        update(*new_association(v.APND, LID, LID)),
        "XDSRegistryMetadataError",
    ),
    Fault(
        "submitted_associations_are_registered_once", update(*new_association(v.UPDATE_AVAILABILITY_STATUS, LID, OTHER))
    ),
    Fault("submitted_associations_are_registered_once", update(*new_association(v.SUBMIT_ASSOCIATION, LID, OTHER))),
    Fault(
        "submitted_associations_are_registered_once",
        update(*new_association(v.APND, LID, OTHER, "A"), *new_association(v.APND, LID, OTHER, "B")),
    ),
    Fault(
        "association_types_can_be_updated", update(*new_association("urn:x:y", LID, OTHER)), "XDSRegistryMetadataError"
    ),
    Fault(
        "objects_are_updated_once",
        update(entry("A"), brings("A"), entry("B"), brings("B")),
    ),
    Fault("objects_are_updated_once", update(new_status(OTHER), new_status(OTHER))),
    restricted(
        "only_entries_are_updated", update(entry(), brings("New01"), shelf(), brings("New02", status=None)), REQUEST
    ),
    restricted("only_entries_are_updated", update(), REQUEST),
    restricted("restricted_versions_name_their_object", update(entry(lid=None), brings("New01")), REQUEST),
    restricted("restricted_memberships_are_annotated", update(entry(), brings("New01", None)), ANNOTATION),
    restricted("restricted_memberships_are_annotated", update(entry(), brings("New01", propagation="no")), ANNOTATION),
    restricted("restricted_memberships_are_annotated", update(entry()), ANNOTATION),
    restricted("versions_are_brought_once", update(entry(), brings("New01"), brings("New01")), OPERATION, alone=False),
    restricted(
        "associations_carry_their_own_slots",
        update(entry(), brings("New01", more=(Slot("NewStatus", (v.APPROVED,)),))),
        OPERATION,
    ),
    restricted(
        "association_types_can_be_updated",
        update(entry(), brings("New01"), b.association("urn:x:y", LID, OTHER, "A")),
        "XDSRegistryMetadataError",
        alone=False,
    ),
    restricted("objects_are_updated_once", update(entry("A"), brings("A"), entry("B"), brings("B")), OPERATION),
]


def judge(objects, book):
    return check(normalise(objects), b.domain(), on_demand=None, rules=book)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.rule)
def test_a_fault_is_found_by_its_rule(fault):
    found = judge(fault.objects, fault.book)
    assert (fault.rule, fault.code) in {(one.rule, str(one.error.code)) for one in found}
    if fault.alone:
        assert {one.rule for one in found} == {fault.rule}
    assert not any(one.lenient for one in found)


@pytest.mark.parametrize("fault", [one for one in FAULTS if one.alone], ids=lambda fault: fault.rule)
def test_without_its_rule_a_fault_passes(fault):
    functions = tuple(one for one in fault.book.functions if one.__name__ != fault.rule)
    assert judge(fault.objects, replace(fault.book, functions=functions)) == ()


def test_every_rule_has_a_fault():
    for book, functions in ((UPDATE_RULES, UPDATE_FUNCTIONS), (RESTRICTED_UPDATE_RULES, RESTRICTED_FUNCTIONS)):
        assert {one.rule for one in FAULTS if one.book is book} == {one.__name__ for one in functions}


@pytest.mark.parametrize(
    "objects",
    [
        update(entry(), brings("New01")),
        update(shelf(), brings("New02", status=None)),
        update(new_status(OTHER)),
        update(*new_association(v.SIGNS, LID, OTHER)),
        update(entry(), brings("New01", "41", propagation="yes"), new_status(OTHER)),
    ],
)
def test_a_right_request_has_no_fault(objects):
    assert judge(objects, UPDATE_RULES) == ()


def test_an_update_is_judged_by_the_type_of_its_entry():
    changes = (b.having(object_type=v.ON_DEMAND), *map(b.without_slot, ("creationTime", "hash", "size")))
    assert judge(update(entry("New01", LID, *changes), brings("New01")), UPDATE_RULES) == ()
    (found,) = judge(update(entry("New01", LID, changes[0], *changes[2:]), brings("New01")), UPDATE_RULES)
    assert found.rule == "DocumentEntry.creationTime"


def test_operations_are_told_apart():
    link, brought = new_association(v.APND, LID, OTHER)
    objects = update(entry(), brings("New01"), new_status(OTHER), link, brought)
    found = operations_of(objects)
    assert [(one.target, new.id) for one, new in found.versions] == [("New01", "New01")]
    assert [one.target for one in found.statuses] == [OTHER]
    assert [one.id for _, one in found.associations] == ["Association01"]
    assert found.left_over == ()
