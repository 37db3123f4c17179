"""What is true of any metadata update, whatever the registry holds (Metadata Update: 3.57.4.1.3.1; RMU: 3.92.4.1.3).

A request holds one SubmissionSet and operations. An operation is an association from that SubmissionSet; nothing in the
request may be left over that no operation speaks of. Each function yields every fault of its kind.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from ihe import vocabulary as v
from ihe.datatypes import is_symbolic
from ihe.errors import ErrorCode
from ihe.findings import Finding, finding, named, shortened
from ihe.registry_objects import Kind, RegistryObject, SubmittedObjects
from ihe.structure_rules import Case, other_patients

_ENTRY, _SET, _FOLDER, _ASSOCIATION = Kind.DOCUMENT_ENTRY, Kind.SUBMISSION_SET, Kind.FOLDER, Kind.ASSOCIATION
_OPERATION: Final = ErrorCode.METADATA_UPDATE_OPERATION
_STATUSES: Final = (v.APPROVED, v.DEPRECATED)
_RELATIONSHIPS: Final = (v.APND, v.XFRM, v.RPLC, v.XFRM_RPLC, v.SIGNS, v.IS_SNAPSHOT_OF)

# Slots an association of each type may carry, beside extra metadata.
_SLOTS: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        v.HAS_MEMBER: frozenset({"SubmissionSetStatus", "PreviousVersion", "AssociationPropagation"}),
        v.UPDATE_AVAILABILITY_STATUS: frozenset({"OriginalStatus", "NewStatus"}),
    }
)
_UPDATE_SLOTS: Final = frozenset(
    {"SubmissionSetStatus", "PreviousVersion", "AssociationPropagation", "OriginalStatus", "NewStatus"}
)


@dataclass(frozen=True, slots=True)
class Operations:
    """The operations of a request, in message order.

    versions      HasMember of the SubmissionSet with the new DocumentEntry or Folder it brings
    statuses      UpdateAvailabilityStatus associations
    associations  SubmitAssociation with the new association it brings
    left_over     objects no operation speaks of, associations that are no operation
    """

    versions: tuple[tuple[RegistryObject, RegistryObject], ...]
    statuses: tuple[RegistryObject, ...]
    associations: tuple[tuple[RegistryObject, RegistryObject], ...]
    left_over: tuple[RegistryObject, ...]


def operations_of(objects: SubmittedObjects) -> Operations:
    """Tell the operations of a request apart; what is wrong with them is for the rules to say."""
    by_id = {one.id: one for one in objects.objects if one.id}
    sets = {one.id for one in objects.of(_SET)}
    versions: list[tuple[RegistryObject, RegistryObject]] = []
    statuses: list[RegistryObject] = []
    associations: list[tuple[RegistryObject, RegistryObject]] = []
    spoken_of: set[int] = set()
    for one in objects.of(_ASSOCIATION):
        target = by_id.get(one.target or "")
        if one.source not in sets or one.source is None:
            continue
        if one.type == v.HAS_MEMBER and target is not None and target.kind in {_ENTRY, _FOLDER}:
            versions.append((one, target))
            spoken_of |= {id(one), id(target)}
        elif one.type == v.UPDATE_AVAILABILITY_STATUS:
            statuses.append(one)
            spoken_of.add(id(one))
        elif one.type == v.SUBMIT_ASSOCIATION and target is not None and target.kind is _ASSOCIATION:
            associations.append((one, target))
            spoken_of |= {id(one), id(target)}
    rest = (one for one in objects.objects if one.kind is not _SET and id(one) not in spoken_of)
    return Operations(tuple(versions), tuple(statuses), tuple(associations), tuple(rest))


def something_is_updated(case: Case) -> Iterator[Finding]:
    """At least one operation."""
    found = operations_of(case.objects)
    if not (found.versions or found.statuses or found.associations or found.left_over):
        wrong = "holds no operation; send the new version of an entry or folder, a change of status or an association"
        yield finding("the submission", "operation", wrong, "something_is_updated", code=_OPERATION)


def nothing_is_left_over(case: Case) -> Iterator[Finding]:
    """Every object belongs to an operation."""
    for one in operations_of(case.objects).left_over:
        wrong = (
            "belongs to no operation: a HasMember with PreviousVersion, UpdateAvailabilityStatus or SubmitAssociation"
        )
        yield finding(
            named(one), "operation", f"{wrong} from the SubmissionSet", "nothing_is_left_over", code=_OPERATION
        )


def versions_name_their_object(case: Case) -> Iterator[Finding]:
    """A new version has the lid of what it updates, a UUID other than its own id."""
    for _, new in operations_of(case.objects).versions:
        if not new.lid or is_symbolic(new.lid) or new.lid == new.id:
            wrong = "must be the logical id of the object that is updated, a UUID; new objects are sent with ITI-42"
            yield finding(named(new), "lid", wrong, "versions_name_their_object", code=_OPERATION)


def versions_are_brought_once(case: Case) -> Iterator[Finding]:
    """No object is the target of two HasMember, no association of two SubmitAssociation."""
    found = operations_of(case.objects)
    for pairs, what in ((found.versions, "HasMember"), (found.associations, "SubmitAssociation")):
        times = Counter(one.id for _, one in pairs)
        for one in {one.id: one for _, one in pairs if times[one.id] > 1}.values():
            wrong = f"is the target of {times[one.id]} {what} associations; allowed is one"
            yield finding(named(one), "operation", wrong, "versions_are_brought_once", code=_OPERATION)


def version_named(text: str) -> str | None:
    """The number of a version as the registry writes it, whatever its length; None for a text that is none, as 0."""
    return (text.lstrip("0") or None) if text.isascii() and text.isdigit() else None


def _previous_version(one: RegistryObject) -> str | None:
    values = one.slot("PreviousVersion") or ()
    if len(values) != 1 or not version_named(values[0]):
        return "PreviousVersion must be there once, with the number of the version that is updated"
    return None


def _propagation(one: RegistryObject) -> str | None:
    values = one.slot("AssociationPropagation")
    if values is not None and (len(values) != 1 or values[0] not in {"yes", "no"}):
        return "AssociationPropagation must be yes or no, or left out (yes)"
    return None


def _annotations(case: Case, code: ErrorCode, rule: str) -> Iterator[Finding]:
    for one, new in operations_of(case.objects).versions:
        for wrong in filter(None, (_previous_version(one), _propagation(one))):
            yield finding(named(one), "slots", wrong, rule, code=code)
        status = one.slot("SubmissionSetStatus")
        if status != ("Original",) and (new.kind is _ENTRY or status is not None):
            yield finding(named(one), "slots", "SubmissionSetStatus must be Original", rule, code=code)


def memberships_say_which_version(case: Case) -> Iterator[Finding]:
    """PreviousVersion, AssociationPropagation and SubmissionSetStatus of a HasMember are there and readable."""
    yield from _annotations(case, _OPERATION, "memberships_say_which_version")


def associations_carry_their_own_slots(case: Case) -> Iterator[Finding]:
    """Slots of one operation do not stand on another's association."""
    for one in case.objects.of(_ASSOCIATION):
        strange = {slot.name for slot in one.slots} & _UPDATE_SLOTS - _SLOTS.get(one.type or "", frozenset())
        for name in sorted(strange):
            wrong = f"has no meaning on {(one.type or '').rpartition(':')[2]}"
            yield finding(named(one), f"slot {name!r}", wrong, "associations_carry_their_own_slots", code=_OPERATION)


def status_updates_can_be_read(case: Case) -> Iterator[Finding]:
    """OriginalStatus and NewStatus hold one status each, not the same; the target is registered already."""
    rule = "status_updates_can_be_read"
    for one in operations_of(case.objects).statuses:
        values = []
        for name in ("OriginalStatus", "NewStatus"):
            found = one.slot(name) or ()
            if len(found) != 1 or found[0] not in _STATUSES:
                wrong = f"must hold one value, {' or '.join(_STATUSES)}"
                yield finding(named(one), f"slot {name!r}", wrong, rule, code=_OPERATION)
            values.append(found)
        if len(values[0]) == 1 and values[0] == values[1]:
            yield finding(
                named(one), "slot 'NewStatus'", "is OriginalStatus; nothing would change", rule, code=_OPERATION
            )
        if not one.target or is_symbolic(one.target) or one.target in case.by_id:
            wrong = "must be the entryUUID of a registered object, not one of this request"
            yield finding(named(one), "targetObject", wrong, rule, code=_OPERATION)


def submitted_associations_join_what_is_registered(case: Case) -> Iterator[Finding]:
    """Both ends of a submitted association are registered objects, not the same one."""
    rule = "submitted_associations_join_what_is_registered"
    for _, one in operations_of(case.objects).associations:
        for attribute, end in (("sourceObject", one.source), ("targetObject", one.target)):
            if end and (is_symbolic(end) or end in case.by_id):
                wrong = f"{shortened(end)!r} must be the entryUUID of a registered object, not one of this request"
                yield finding(named(one), attribute, wrong, rule, code=ErrorCode.UNRESOLVED_REFERENCE)
        if one.source and one.source == one.target:
            yield finding(named(one), "targetObject", "is the sourceObject; nothing is associated with itself", rule)


def submitted_associations_are_registered_once(case: Case) -> Iterator[Finding]:
    """A submitted association is a membership or a relationship, not an operation, and stands once in the request."""
    rule = "submitted_associations_are_registered_once"
    allowed = (v.HAS_MEMBER, *_RELATIONSHIPS)
    seen: set[tuple[str | None, str | None, str | None]] = set()
    for _, one in operations_of(case.objects).associations:
        if one.type in {v.UPDATE_AVAILABILITY_STATUS, v.SUBMIT_ASSOCIATION}:
            wrong = f"is an operation, which is not submitted by another; allowed are {', '.join(allowed)}"
            yield finding(named(one), "associationType", wrong, rule, code=_OPERATION)
        triple = (one.type, one.source, one.target)
        if triple in seen:
            wrong = "joins the same objects as another of this type in the request; allowed is one"
            yield finding(named(one), "operation", wrong, rule, code=_OPERATION)
        seen.add(triple)


def association_types_can_be_updated(case: Case) -> Iterator[Finding]:
    """AssociationType is one of those an update may use."""
    allowed = (v.HAS_MEMBER, *_RELATIONSHIPS, v.UPDATE_AVAILABILITY_STATUS, v.SUBMIT_ASSOCIATION)
    for one in case.objects.of(_ASSOCIATION):
        if one.type and one.type not in allowed:
            wrong = f"{shortened(one.type)!r} cannot be registered; allowed are {', '.join(allowed)}"
            yield finding(named(one), "associationType", wrong, "association_types_can_be_updated")


def objects_are_updated_once(case: Case) -> Iterator[Finding]:
    """One logical id in one operation, one target in one change of status."""
    found = operations_of(case.objects)
    rule = "objects_are_updated_once"
    for lid, times in Counter(new.lid for _, new in found.versions if new.lid).items():
        if times > 1:
            wrong = f"{shortened(lid)!r} is updated {times} times; allowed is once in a request"
            yield finding("the submission", "lid", wrong, rule, code=_OPERATION)
    for target, times in Counter(one.target for one in found.statuses if one.target).items():
        if times > 1:
            wrong = f"{shortened(target)!r} gets a new status {times} times; allowed is once in a request"
            yield finding("the submission", "UpdateAvailabilityStatus", wrong, rule, code=_OPERATION)


def patient_ids_reconcile(case: Case) -> Iterator[Finding]:
    """What is updated is of the patient of the SubmissionSet; updates have a code of their own for that."""
    code = ErrorCode.PATIENT_ID_RECONCILIATION
    for (obj, _), (first, _) in other_patients(case):
        wrong = f"is not that of {named(first)}; all of a request are of one patient"
        yield finding(named(obj), "patientId", wrong, "patient_ids_reconcile", code=code)


# ------------------------------------------------------------------------------------------- restricted (ITI-92)


def only_entries_are_updated(case: Case) -> Iterator[Finding]:
    """A restricted update brings new versions of entries, nothing else."""
    rule = "only_entries_are_updated"
    found = operations_of(case.objects)
    folders = (new for _, new in found.versions if new.kind is _FOLDER)
    rest = (*folders, *found.statuses, *(one for one, _ in found.associations))
    for one in rest:
        wrong = "has no place in a restricted update; ITI-57 changes folders, statuses and associations"
        yield finding(named(one), "operation", wrong, rule, code=ErrorCode.INVALID_REQUEST)
    if not found.versions and not rest and not found.left_over:
        wrong = "holds no new version of an entry"
        yield finding("the submission", "operation", wrong, rule, code=ErrorCode.INVALID_REQUEST)


def restricted_versions_name_their_object(case: Case) -> Iterator[Finding]:
    """A lid, a UUID other than the own id: an update is not the way to register a first version."""
    for new in case.objects.of(_ENTRY):
        if not new.lid or is_symbolic(new.lid) or new.lid == new.id:
            wrong = "must be the logical id of the entry that is updated, a UUID; first versions are sent with ITI-42"
            rule = "restricted_versions_name_their_object"
            yield finding(named(new), "lid", wrong, rule, code=ErrorCode.INVALID_REQUEST)


def restricted_memberships_are_annotated(case: Case) -> Iterator[Finding]:
    """Each entry has its HasMember with PreviousVersion; associations are always propagated."""
    rule, code = "restricted_memberships_are_annotated", ErrorCode.METADATA_ANNOTATION
    yield from _annotations(case, code, rule)
    for one, _ in operations_of(case.objects).versions:
        if one.slot("AssociationPropagation") == ("no",):
            yield finding(named(one), "slots", "AssociationPropagation must not be no", rule, code=code)
    for one in operations_of(case.objects).left_over:
        wrong = "needs one HasMember association from the SubmissionSet" if one.kind is _ENTRY else "has no place here"
        yield finding(named(one), "SubmissionSet HasMember", wrong, rule, code=code)


Rule = Callable[[Case], Iterator[Finding]]

UPDATE_FUNCTIONS: Final[tuple[Rule, ...]] = (
    something_is_updated,
    nothing_is_left_over,
    versions_name_their_object,
    versions_are_brought_once,
    memberships_say_which_version,
    associations_carry_their_own_slots,
    status_updates_can_be_read,
    submitted_associations_join_what_is_registered,
    submitted_associations_are_registered_once,
    association_types_can_be_updated,
    objects_are_updated_once,
    patient_ids_reconcile,
)
"""ITI-57, beside the rules every submission obeys."""

RESTRICTED_FUNCTIONS: Final[tuple[Rule, ...]] = (
    only_entries_are_updated,
    restricted_versions_name_their_object,
    restricted_memberships_are_annotated,
    versions_are_brought_once,
    associations_carry_their_own_slots,
    association_types_can_be_updated,
    objects_are_updated_once,
    patient_ids_reconcile,
)
"""ITI-92, likewise."""
