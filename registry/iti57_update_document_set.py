"""ITI-57 Update Document Set, Document Registry side (XDS Metadata Update: 3.57).

Request  lcm:SubmitObjectsRequest: 1 SubmissionSet and operations (``ihe.update_rules``): new versions of
         DocumentEntries and Folders, changes of availabilityStatus, new associations between what is registered
Reply    rs:RegistryResponse: Success, or Failure with every error found; all or nothing
Errors   XDSMetadataVersionError, XDSMetadataUpdateError, XDSMetadataUpdateOperationError, UnresolvedReferenceException,
         XDSPatientIDReconciliationError, XDSUnknownPatientId, XDSDuplicateUniqueIdInRegistry, XDSNonIdenticalHash,
         XDSRegistryDeprecatedDocumentError and those of the rules
Effects  a new version is Approved with the next number, the one before it Deprecated; unless AssociationPropagation is
         ``no`` the new version takes over relationships and memberships by copies of their associations. The originals
         stay as they are, so that an old version can be seen as it was. The copies are not members of the SubmissionSet
         (what the NIST testkit expects; the framework may come to ask for it)
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final

from ihe import rules
from ihe import vocabulary as v
from ihe.errors import ErrorCode, RegistryError, Rejected
from ihe.findings import shortened
from ihe.metadata import EntryType
from ihe.registry_objects import Kind, RegistryObject
from ihe.update_rules import Operations, operations_of, version_named
from registry.identity import NewUuid, is_uuid
from registry.iti42_register_document_set_b import (
    RELATIONSHIPS,
    REPLACEMENTS,
    Submission,
    appended_to_transformation,
    fallen,
    patient_errors,
    patient_key,
    patient_of,
    read_submission,
    unique_id_of,
    unresolved,
    uuid_errors,
)
from registry.store.protocol import Asked, Facts, KnownObject, KnownVersion, Registration
from registry.update_effects import is_assembled_later, propagates, registration

_SNAPSHOT: Final = (EntryType.STABLE, EntryType.ON_DEMAND)


@dataclass(frozen=True, slots=True)
class VersionRules:
    """How strictly a new version is held against the one before it; codes where transactions differ.

    ``deprecated`` entries may be updated too, and stay Deprecated. ``same_patient``: its patientId may not change.
    ``fixed`` yields what else may not.
    """

    unique_id: ErrorCode = ErrorCode.METADATA_UPDATE
    object_type: ErrorCode = ErrorCode.METADATA_UPDATE
    deprecated: bool = False
    same_patient: bool = False
    fixed: Callable[[RegistryObject, KnownVersion, str], Iterator[RegistryError]] | None = None


UPDATE: Final = VersionRules()

read_update: Final = partial(read_submission, on_demand=None, book=rules.UPDATE_RULES)


def asked_about(submission: Submission) -> Asked:
    """What the judge needs to know of the store."""
    found = operations_of(submission.objects)
    patients = {patient_key(patient_of(one)) for one in submission.objects.objects if patient_of(one)}
    targets = {one.target for one in found.statuses}
    ends = {end for _, one in found.associations for end in (one.source, one.target)}
    return Asked(
        patients=frozenset(p for p in patients if p is not None),
        unique_ids=frozenset(u for u in map(unique_id_of, submission.objects.objects) if u),
        entry_uuids=frozenset(one for one in targets | ends if one and is_uuid(one)) | submission.uuids,
        replaced=frozenset(
            end
            for _, one in found.associations
            if one.type in REPLACEMENTS
            for end in (one.source, one.target)  # what replaces is registered, it may be in the same folders already
            if end
        ),
        logical_ids=frozenset(new.lid for _, new in found.versions if new.lid and is_uuid(new.lid)),
        links=frozenset(
            (one.type, one.source, one.target)
            for _, one in found.associations
            if one.type and one.source and one.target
        ),
        builds_on=True,
        new_uuids=submission.uuids,
    )


def judge(
    submission: Submission, facts: Facts, now: str, new_uuid: NewUuid, *, version_rules: VersionRules = UPDATE
) -> Registration:
    """Say exactly what to write, or raise Rejected with every error. ``now`` is 14 digits, UTC."""
    found = operations_of(submission.objects)
    errors = [*submission.errors, *uuid_errors(submission, facts), *patient_errors(submission, facts)]
    errors += _submission_set_errors(submission, facts)
    patient = _patient(submission, facts)
    for membership, new in found.versions:
        errors += _version_errors(membership, new, facts, patient, version_rules)
    for one in found.statuses:
        errors += _status_errors(one, found, facts, patient)
    for _, one in found.associations:
        errors += _link_errors(one, facts, patient)
    errors += _collisions(found, facts)
    if errors:
        raise Rejected(dict.fromkeys(errors))
    patient = _patient(submission, facts)
    if patient is None:
        raise ValueError("a patientId that passed the rules cannot be read")
    return registration(submission, found, facts, patient, now=now, new_uuid=new_uuid)


def _patient(submission: Submission, facts: Facts) -> int | None:
    key = patient_key(submission.patient_id)
    return None if key is None else facts.patients.get(key)


def _submission_set_errors(submission: Submission, facts: Facts) -> Iterator[RegistryError]:
    use = facts.unique_ids.get(submission.unique_id or "")
    if use is not None:
        text = f"SubmissionSet uniqueId {submission.unique_id} is used already by a {use.kind}"
        yield RegistryError(ErrorCode.DUPLICATE_UNIQUE_ID_IN_REGISTRY, text)


# ------------------------------------------------------------------------------------------- new versions


def _version_errors(
    membership: RegistryObject, new: RegistryObject, facts: Facts, patient: int | None, held: VersionRules
) -> Iterator[RegistryError]:
    if not new.lid or not is_uuid(new.lid):
        return  # the rules have said so
    latest = facts.latest.get(new.lid)
    if latest is None or latest.kind is not new.kind:
        yield RegistryError(ErrorCode.METADATA_VERSION, f"{new.id}: no {new.kind} has the logical id {new.lid}")
        return
    named = f"{new.id}: version {latest.version} of {new.kind} {new.lid}"
    sent = (membership.slot("PreviousVersion") or ("",))[0]
    number = version_named(sent)  # a text still: it may have more digits than Python makes a number of
    if number is not None and number != str(latest.version):
        text = f"{new.id}: PreviousVersion is {shortened(sent)}, the latest version of {new.lid} is {latest.version}"
        yield RegistryError(ErrorCode.METADATA_VERSION, f"{text}; read it anew")
    if not latest.approved and not held.deprecated:
        yield RegistryError(ErrorCode.METADATA_UPDATE, f"{named} is Deprecated; make it Approved first")
    if unique_id_of(new) != latest.unique_id:
        text = f"{named} has another uniqueId; an update does not change it"
        yield RegistryError(held.unique_id, text)
    elif new.kind is Kind.DOCUMENT_ENTRY:
        yield from _entry_errors(new, latest, named, held)
    if patient is not None and latest.patient_key != patient:
        yield from _reconciled(membership, latest, named, held)


def _entry_errors(new: RegistryObject, latest: KnownVersion, named: str, held: VersionRules) -> Iterator[RegistryError]:
    if latest.object_type is not None and new.object_type != latest.object_type.value:
        yield RegistryError(held.object_type, f"{named} has another objectType; an update does not change it")
    if held.fixed is not None:
        yield from held.fixed(new, latest, named)
    if is_assembled_later(latest):
        return
    # A wrong size may be put right: the hash says that the bytes are the same (the NIST testkit does so, too).
    sent_hash = next(iter(new.slot("hash") or ()), None)
    if sent_hash is not None and sent_hash.lower() != latest.hash:
        yield RegistryError(ErrorCode.NON_IDENTICAL_HASH, f"{latest.unique_id} is registered with another hash")


def _reconciled(
    membership: RegistryObject, latest: KnownVersion, named: str, held: VersionRules
) -> Iterator[RegistryError]:
    """A new version may be of another patient if it leaves nothing behind that is not (3.57.4.1.3.3.1.8)."""
    if held.same_patient:
        text = f"{named} is of another patient; a restricted update does not change that"
        yield RegistryError(ErrorCode.PATIENT_ID_RECONCILIATION, text)
    elif latest.links and propagates(membership):
        text = f"{named} is of another patient and associated with {len(latest.links)} objects"
        more = "send AssociationPropagation no, or change the patient of those first"
        yield RegistryError(ErrorCode.PATIENT_ID_RECONCILIATION, f"{text}; {more}")


# ------------------------------------------------------------------------------------------- status and links


def _status_errors(
    one: RegistryObject, found: Operations, facts: Facts, patient: int | None
) -> Iterator[RegistryError]:
    if not one.target or not is_uuid(one.target):
        return  # the rules have said so
    target = facts.objects.get(one.target)
    if target is None:
        yield unresolved(one, one.target, "targetObject")
        return
    named = f"{one.target}: this {target.kind}"
    if target.kind is Kind.SUBMISSION_SET or target.of_set:
        what = "an association of a SubmissionSet" if target.of_set else "a SubmissionSet"
        text = f"{one.target}: the status of {what} cannot be changed"
        yield RegistryError(ErrorCode.METADATA_UPDATE_OPERATION, text)
    if target.superseded:
        yield RegistryError(
            ErrorCode.METADATA_UPDATE, f"{named} is not the latest version; an older one stays Deprecated"
        )
    original = one.slot("OriginalStatus")
    if original is not None and original[:1] != ((v.APPROVED if target.approved else v.DEPRECATED),):
        status = "Approved" if target.approved else "Deprecated"
        yield RegistryError(ErrorCode.METADATA_UPDATE, f"{named} is {status}, not as OriginalStatus says; read it anew")
    if patient is not None and target.patient_key != patient:
        text = f"{named} is not of the patient of the SubmissionSet"
        yield RegistryError(ErrorCode.PATIENT_ID_RECONCILIATION, text)
    if target.doubled and (one.slot("NewStatus") or ())[:1] == (v.APPROVED,):
        text = f"{named} says what another one says that is Approved; there is nothing to approve"
        yield RegistryError(ErrorCode.METADATA_UPDATE, text)
    if any(facts.latest.get(new.lid or "", _NOWHERE).entry_uuid == one.target for _, new in found.versions):
        text = f"{named} gets a new version in the same request; send the change of status by itself"
        yield RegistryError(ErrorCode.METADATA_UPDATE_OPERATION, text)


_NOWHERE: Final = KnownVersion("", Kind.DOCUMENT_ENTRY, 0, approved=False, version=0, unique_id="")


def _link_errors(one: RegistryObject, facts: Facts, patient: int | None) -> Iterator[RegistryError]:
    """A new association joins two registered, approved objects of the patient, once (3.57.4.1.3.3.5)."""
    ends: list[KnownObject] = []
    for end, what in ((one.source, "sourceObject"), (one.target, "targetObject")):
        if not end or not is_uuid(end):
            continue
        known = facts.objects.get(end)
        if known is None:
            yield unresolved(one, end, what)
            continue
        ends.append(known)
        if not known.approved:
            entry = known.kind is Kind.DOCUMENT_ENTRY
            code = ErrorCode.REGISTRY_DEPRECATED_DOCUMENT if entry else ErrorCode.METADATA_UPDATE
            yield RegistryError(code, f"{end}: {what} of Association {one.id} is Deprecated")
        if patient is not None and known.patient_key != patient:
            text = f"{end}: {what} of Association {one.id} is not of the patient of the SubmissionSet"
            yield RegistryError(ErrorCode.PATIENT_ID_RECONCILIATION, text)
    if len(ends) == 2:
        yield from _kinds(one, ends[0], ends[1])
    if one.type and one.source and one.target and (one.type, one.source, one.target) in facts.links:
        text = f"{one.source} and {one.target}: an Approved association of this type joins them already"
        yield RegistryError(ErrorCode.METADATA_UPDATE, text)


def _collisions(found: Operations, facts: Facts) -> Iterator[RegistryError]:
    """No operation changes what another one of the request builds on: its meaning would hang on their order.

    An association joins current, Approved objects, so none of its ends gets a new version, another status or is
    replaced or deprecated beside it; what a replacement deprecates gets no new version.
    """
    links = [one for _, one in found.associations]
    replaced = {one.target: one for one in links if one.type in REPLACEMENTS and one.target}
    renewed = {facts.latest.get(new.lid or "", _NOWHERE).entry_uuid for _, new in found.versions}
    changing = dict.fromkeys((one.target for one in found.statuses), "gets another status")
    changing |= dict.fromkeys(renewed, "gets a new version")
    deprecated = fallen(links, facts)
    # A document and its addendum may be replaced together, each by its own.
    others = (one for one in deprecated if one not in replaced)
    changing |= dict.fromkeys(others, "is Deprecated with what it was appended to or made from")
    for one in links:
        for end in (one.source, one.target):
            by = replaced.get(end or "")
            taken = by is not None and by is not one and not (end == one.target and one.type in REPLACEMENTS)
            change = "is replaced" if taken else changing.get(end)
            if end and change:
                text = f"{end}: {change} in the same request as Association {one.id} joins it; send one after the other"
                yield RegistryError(ErrorCode.METADATA_UPDATE_OPERATION, text)
    for child in sorted(renewed.intersection(deprecated)):
        text = f"{child}: gets a new version in the same request as what it was appended to or made from is replaced"
        yield RegistryError(ErrorCode.METADATA_UPDATE_OPERATION, f"{text}; send one after the other")


def _kinds(one: RegistryObject, source: KnownObject, target: KnownObject) -> Iterator[RegistryError]:
    entry, folder = Kind.DOCUMENT_ENTRY, Kind.FOLDER
    wanted = (folder if one.type == v.HAS_MEMBER else entry, entry)
    if (one.type == v.HAS_MEMBER or one.type in RELATIONSHIPS) and (source.kind, target.kind) != wanted:
        text = (
            f"Association {one.id} leads from a {source.kind} to a {target.kind}; allowed is {wanted[0]} to {wanted[1]}"
        )
        yield RegistryError(ErrorCode.REGISTRY_METADATA, text)
    elif one.type == v.IS_SNAPSHOT_OF and (source.object_type, target.object_type) != _SNAPSHOT:
        text = f"Association {one.id}: IsSnapshotOf leads from a Stable entry to an On-Demand one"
        yield RegistryError(ErrorCode.REGISTRY_METADATA, text)
    yield from appended_to_transformation(one, target)
