"""ITI-42 Register Document Set-b, Document Registry side (ITI TF-2: 3.42).

Request  lcm:SubmitObjectsRequest: 1 SubmissionSet, 0..n DocumentEntry, Folder, Association (ITI TF-3: 4.2.1.5)
Reply    rs:RegistryResponse: Success, or Failure with every error found; all or nothing
Errors   XDSUnknownPatientId, XDSPatientIdDoesNotMatch, XDSDuplicateUniqueIdInRegistry, XDSNonIdenticalHash,
         XDSNonIdenticalSize, XDSRegistryDeprecatedDocumentError, UnresolvedReferenceException,
         XDSRegistryMetadataError and those of ``ihe.rules``
Effects  new objects Approved, version 1; RPLC and XFRM_RPLC deprecate their target with what was appended to it or
         transformed from it, and put the new entry into the target's folders (ITI TF-3: 4.2.2.2.3)
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from ihe import rules, transform
from ihe import vocabulary as v
from ihe.affinity_domain import AffinityDomain
from ihe.datatypes import is_size, parse_cx
from ihe.ebrim import read_submitted_objects
from ihe.errors import ErrorCode, RegistryError, Rejected
from ihe.findings import named, shortened
from ihe.metadata import EntryType
from ihe.normalise import mend, normalise
from ihe.registry_objects import Kind, RegistryObject, SubmittedObjects
from registry.identity import NewUuid, is_uuid, settled
from registry.store.protocol import Asked, Defect, Facts, KnownObject, PatientId, Registration

REPLACEMENTS: Final = frozenset({v.RPLC, v.XFRM_RPLC})
RELATIONSHIPS: Final = frozenset({v.APND, v.XFRM, v.RPLC, v.XFRM_RPLC, v.SIGNS, v.IS_SNAPSHOT_OF})
_PATIENT: Final = {
    Kind.DOCUMENT_ENTRY: v.ENTRY_PATIENT_ID,
    Kind.SUBMISSION_SET: v.SUBMISSION_SET_PATIENT_ID,
    Kind.FOLDER: v.FOLDER_PATIENT_ID,
}
_UNIQUE: Final = {
    Kind.DOCUMENT_ENTRY: v.ENTRY_UNIQUE_ID,
    Kind.SUBMISSION_SET: v.SUBMISSION_SET_UNIQUE_ID,
    Kind.FOLDER: v.FOLDER_UNIQUE_ID,
}


_UUID: Final = re.compile(r"urn:uuid:[0-9a-f-]{36}")


@dataclass(frozen=True, slots=True)
class Submission:
    """A submission as it was read, ids settled, with what the rules found that need nothing stored.

    ``foreign`` are patientIds of an assigning authority that is not one of this affinity domain; ``sent`` the same
    objects in the same order under the ids that the sender gave them.
    """

    objects: SubmittedObjects
    sent: SubmittedObjects
    uuids: frozenset[str]
    foreign: frozenset[str]
    errors: tuple[RegistryError, ...]
    defects: tuple[Defect, ...]

    @property
    def patient_id(self) -> str | None:
        """The patientId of the SubmissionSet as sent, for the audit record."""
        return next((patient_of(o) for o in self.objects.of(Kind.SUBMISSION_SET)), None)

    @property
    def unique_id(self) -> str | None:
        """The uniqueId of the SubmissionSet, for the audit record."""
        return next((unique_id_of(o) for o in self.objects.of(Kind.SUBMISSION_SET)), None)


def in_words_of_sender(errors: Iterable[RegistryError], submission: Submission) -> list[RegistryError]:
    """The same errors, naming the objects by the ids they were sent with: the sender never saw those of ours.

    Errors say "Association" and its id; without one it is named as by the rules, "Association APND from Document01".
    """
    pairs = zip(submission.objects.objects, submission.sent.objects, strict=True)
    words = {ours.id: named(sent).removeprefix(f"{sent.kind} ") for ours, sent in pairs if ours.id != sent.id}

    def word(found: re.Match[str]) -> str:
        return words.get(found[0], found[0])

    return [replace(error, context=_UUID.sub(word, error.context)) for error in errors]


def patient_of(obj: RegistryObject) -> str | None:
    """The patientId text of an object, None for kinds that have none."""
    scheme = _PATIENT.get(obj.kind)
    return obj.identifier(scheme) if scheme else None


def unique_id_of(obj: RegistryObject) -> str | None:
    """The uniqueId of an object, None for kinds that have none."""
    scheme = _UNIQUE.get(obj.kind)
    return obj.identifier(scheme) if scheme else None


def read_submission(
    body: Any,
    domain: AffinityDomain,
    *,
    lenient: bool,
    new_uuid: NewUuid,
    on_demand: bool | None = False,
    book: rules.RuleBook = rules.RULES,
) -> Submission:
    """Read and check everything that can be checked without looking at what is stored.

    ``on_demand`` and ``book`` as in ``ihe.rules.check``; where entries are updated (``None``) they keep their lid.
    """
    submitted = normalise(read_submitted_objects(body))
    errors: list[RegistryError] = []
    defects: list[Defect] = []
    for finding in rules.check(submitted, domain, on_demand=on_demand, rules=book):
        if finding.only_noted or (finding.lenient and lenient):
            defects.append(Defect(finding.error.code, finding.error.context))
        else:
            errors.append(finding.error)
    if defects and not errors:  # what is refused anyway may hold what cannot be mended
        submitted = mend(submitted)
    uuids = frozenset(o.id for o in submitted.objects if o.id is not None and is_uuid(o.id))
    objects = settled(submitted, new_uuid, keep_lids=on_demand is None)
    return Submission(objects, submitted, uuids, _foreign(submitted, domain), tuple(errors), tuple(defects))


def _foreign(submitted: SubmittedObjects, domain: AffinityDomain) -> frozenset[str]:
    texts = {patient_of(o) or "" for o in submitted.objects if o.kind in _PATIENT}
    keys = {text: patient_key(text) for text in texts}
    return frozenset(text for text, key in keys.items() if key is not None and not domain.accepts_authority(key[1]))


def patient_key(text: str | None) -> PatientId | None:
    """A patientId as (id, authority); None for one that cannot be read."""
    try:
        cx = parse_cx(text or "")
    except ValueError:
        return None  # the rules have named it
    return cx.id, cx.authority


def asked_about(submission: Submission) -> Asked:
    """What the judge needs to know of the store."""
    own = {o.id for o in submission.objects.objects}
    ends = {
        end
        for o in submission.objects.of(Kind.ASSOCIATION)
        for end in (o.source, o.target)
        if end is not None and is_uuid(end) and end not in own
    }
    replaced = {
        o.target for o in submission.objects.of(Kind.ASSOCIATION) if o.type in REPLACEMENTS and o.target in ends
    }
    patients = {patient_key(patient_of(o)) for o in submission.objects.objects if o.kind in _PATIENT}
    unique_ids = {unique_id_of(o) for o in submission.objects.objects}
    return Asked(
        patients=frozenset(p for p in patients if p is not None),
        unique_ids=frozenset(u for u in unique_ids if u),
        entry_uuids=frozenset(ends | submission.uuids),
        replaced=frozenset(r for r in replaced if r is not None),
        builds_on=bool(ends),
        new_uuids=submission.uuids,
    )


def judge(submission: Submission, facts: Facts, now: str, new_uuid: NewUuid) -> Registration:
    """Say exactly what to write, or raise Rejected with every error. ``now`` is 14 digits, UTC."""
    errors = list(submission.errors)
    errors += _identity_errors(submission, facts)
    errors += patient_errors(submission, facts)
    errors += _association_errors(submission, facts)
    if errors:
        raise Rejected(dict.fromkeys(errors))
    return _registration(submission, facts, now, new_uuid)


def uuid_errors(submission: Submission, facts: Facts) -> Iterator[RegistryError]:
    """EntryUUIDs of the submission that are taken (ITI TF-3: 4.2.3.1.5)."""
    for obj in submission.objects.objects:
        if obj.id in submission.uuids and obj.id in facts.objects:
            text = f"{obj.kind} {obj.id}: this entryUUID is registered already; send a new one or a symbolic id"
            yield RegistryError(ErrorCode.REGISTRY_METADATA, text)
        elif obj.id in facts.used_logical_ids:
            text = f"{obj.kind} {obj.id}: this id is the logical id of another object; send a new one or a symbolic id"
            yield RegistryError(ErrorCode.REGISTRY_METADATA, text)


def _identity_errors(submission: Submission, facts: Facts) -> Iterator[RegistryError]:
    yield from uuid_errors(submission, facts)
    for obj in submission.objects.objects:
        unique_id = unique_id_of(obj)
        use = facts.unique_ids.get(unique_id or "")
        if use is None:
            continue
        if obj.kind is not Kind.DOCUMENT_ENTRY:
            text = f"{obj.kind} uniqueId {unique_id} is used already by a {use.kind}"
            yield RegistryError(ErrorCode.DUPLICATE_UNIQUE_ID_IN_REGISTRY, text)
        elif use.kind is not Kind.DOCUMENT_ENTRY:
            text = f"DocumentEntry uniqueId {unique_id} is used already by a {use.kind}"
            yield RegistryError(ErrorCode.REGISTRY_METADATA, text)
        elif use.object_type is not None and use.object_type.value != obj.object_type:
            other = "an On-Demand" if use.object_type is EntryType.ON_DEMAND else "a Stable"
            text = f"DocumentEntry uniqueId {unique_id} is that of {other} entry"
            yield RegistryError(ErrorCode.REGISTRY_METADATA, text)
        else:
            yield from _same_bytes(obj, use.hash, use.size)


def _same_bytes(obj: RegistryObject, known_hash: str | None, known_size: int | None) -> Iterator[RegistryError]:
    """A uniqueId names one sequence of bytes for ever (ITI TF-3: 4.2.3.2.26)."""
    sent_hash, sent_size = (next(iter(obj.slot(name) or ()), None) for name in ("hash", "size"))
    unique_id = unique_id_of(obj)
    if sent_hash is not None and sent_hash.lower() != known_hash:
        yield RegistryError(ErrorCode.NON_IDENTICAL_HASH, f"{unique_id} is registered with another hash")
    if sent_size is not None and is_size(sent_size) and int(sent_size) != known_size:
        yield RegistryError(ErrorCode.NON_IDENTICAL_SIZE, f"{unique_id} is registered with another size")


def patient_errors(submission: Submission, facts: Facts) -> Iterator[RegistryError]:
    """PatientIds of the submission that no feed made known here."""
    texts = {patient_of(o): patient_key(patient_of(o)) for o in submission.objects.objects if o.kind in _PATIENT}
    for text, key in texts.items():
        if text in submission.foreign:
            reason = f"{text} is of an assigning authority that is not one of this affinity domain"
            yield RegistryError(ErrorCode.UNKNOWN_PATIENT_ID, reason)
        elif key is not None and key in facts.merged:
            reason = f"{text} was merged into another patient id; nothing more is registered for it"
            yield RegistryError(ErrorCode.UNKNOWN_PATIENT_ID, reason)
        elif key is not None and key not in facts.patients:
            yield RegistryError(ErrorCode.UNKNOWN_PATIENT_ID, f"{text} was never announced by a patient identity feed")


@dataclass(frozen=True, slots=True)
class _Patient:
    """Whose submission it is: the key that counts, and the id as it was sent."""

    key: int
    id: str


def _patient(submission: Submission, facts: Facts) -> _Patient | None:
    """None while it cannot be told whose it is."""
    key = patient_key(submission.patient_id)
    if key is None or key not in facts.patients:
        return None
    return _Patient(facts.patients[key], submission.patient_id or "")


def _association_errors(submission: Submission, facts: Facts) -> Iterator[RegistryError]:
    own = {o.id: o for o in submission.objects.objects if o.id is not None}
    patient = _patient(submission, facts)
    for obj in submission.objects.of(Kind.ASSOCIATION):
        if obj.type in RELATIONSHIPS:
            yield from _relationship_errors(obj, own, facts, patient)
        elif obj.type == v.HAS_MEMBER:
            yield from _membership_errors(obj, own, facts, patient)


def unresolved(obj: RegistryObject, end: str | None, what: str) -> RegistryError:
    """An end of an association that is nowhere."""
    context = f"{shortened(end or '')}: {what} of Association {obj.id} is not known here"
    return RegistryError(ErrorCode.UNRESOLVED_REFERENCE, context)


def _relationship_errors(
    obj: RegistryObject, own: dict[str, RegistryObject], facts: Facts, patient: _Patient | None
) -> Iterator[RegistryError]:
    source = own.get(obj.source or "")
    if obj.type == v.IS_SNAPSHOT_OF and source is not None and source.object_type == v.ON_DEMAND:
        text = f"{obj.source}: sourceObject of IsSnapshotOf must be a Stable entry"
        yield RegistryError(ErrorCode.REGISTRY_METADATA, text)
    if not is_uuid(obj.target) or obj.target in own:
        return
    target = facts.objects.get(obj.target or "")
    if target is None:
        yield unresolved(obj, obj.target, "targetObject")
        return
    if target.kind is not Kind.DOCUMENT_ENTRY:
        text = f"targetObject of Association {obj.id} is a {target.kind}, must be a DocumentEntry"
        yield RegistryError(ErrorCode.REGISTRY_METADATA, text)
        return
    if not target.approved:
        text = f"{obj.target}: targetObject of Association {obj.id} is Deprecated"
        yield RegistryError(ErrorCode.REGISTRY_DEPRECATED_DOCUMENT, text)
    yield from _across_patients(obj, target, patient)
    if obj.type == v.IS_SNAPSHOT_OF and target.object_type is not EntryType.ON_DEMAND:
        text = f"{obj.target}: targetObject of IsSnapshotOf must be an On-Demand entry"
        yield RegistryError(ErrorCode.REGISTRY_METADATA, text)
    yield from appended_to_transformation(obj, target)


def appended_to_transformation(obj: RegistryObject, target: KnownObject) -> Iterator[RegistryError]:
    """What a transformation lacks is appended to the document that it was made from (ITI TF-3: 4.2.2.2)."""
    if obj.type == v.APND and target.transformation:
        text = f"{obj.target}: targetObject of Association {obj.id} is a transformation (XFRM)"
        yield RegistryError(ErrorCode.REGISTRY_METADATA, f"{text}; append to the document that it was made from")


def _across_patients(obj: RegistryObject, known: KnownObject, patient: _Patient | None) -> Iterator[RegistryError]:
    """The context holds the id of this submission's patient, as it must; the other one is nobody's business."""
    if patient is not None and known.patient_key != patient.key:
        text = f"Association {obj.id} connects this submission, of {patient.id}, with a {known.kind} of another patient"
        yield RegistryError(ErrorCode.PATIENT_ID_DOES_NOT_MATCH, text)


def _membership_errors(
    obj: RegistryObject, own: dict[str, RegistryObject], facts: Facts, patient: _Patient | None
) -> Iterator[RegistryError]:
    ends = ((obj.source, "sourceObject"), (obj.target, "targetObject"))
    known = {what: facts.objects.get(end or "") for end, what in ends if is_uuid(end) and end not in own}
    for end, what in ends:
        if what in known and known[what] is None:
            yield unresolved(obj, end, what)
    if any(found is None for found in known.values()):
        return
    kinds = {what: own[end].kind for end, what in ends if end in own}
    kinds |= {what: found.kind for what, found in known.items() if found is not None}
    source = kinds.get("sourceObject")
    if source is Kind.SUBMISSION_SET and "sourceObject" in known:
        text = f"Association {obj.id}: nothing can be added to a SubmissionSet that is registered"
        yield RegistryError(ErrorCode.REGISTRY_METADATA, text)
    elif known and source not in {Kind.SUBMISSION_SET, Kind.FOLDER}:
        text = f"sourceObject of Association {obj.id} is a {source}, must be a SubmissionSet or Folder"
        yield RegistryError(ErrorCode.REGISTRY_METADATA, text)
    elif source is Kind.FOLDER:
        yield from _folder_errors(obj, kinds, known, patient)
    elif "targetObject" in known and kinds["targetObject"] is not Kind.DOCUMENT_ENTRY:
        text = f"targetObject of Association {obj.id} is a registered {kinds['targetObject']}"
        allowed = "of what is registered, a SubmissionSet may have DocumentEntries as members alone"
        yield RegistryError(ErrorCode.REGISTRY_METADATA, f"{text}; {allowed}")


def _folder_errors(
    obj: RegistryObject, kinds: dict[str, Kind], known: dict[str, KnownObject | None], patient: _Patient | None
) -> Iterator[RegistryError]:
    """Folder membership: both Approved, both of one patient (ITI TF-3: 4.2.2.1.3)."""
    if "targetObject" in known and kinds["targetObject"] is not Kind.DOCUMENT_ENTRY:
        text = f"targetObject of Association {obj.id} is a {kinds['targetObject']}"
        yield RegistryError(ErrorCode.REGISTRY_METADATA, f"{text}, a Folder holds DocumentEntries alone")
        return
    for what, found in known.items():
        if found is None:
            continue
        yield from _across_patients(obj, found, patient)
        if not found.approved:
            entry = found.kind is Kind.DOCUMENT_ENTRY
            code = ErrorCode.REGISTRY_DEPRECATED_DOCUMENT if entry else ErrorCode.REGISTRY_METADATA
            yield RegistryError(code, f"{what} of Association {obj.id} is Deprecated")


# ------------------------------------------------------------------------------------------- what to write


def _registration(submission: Submission, facts: Facts, now: str, new_uuid: NewUuid) -> Registration:
    objects = submission.objects
    submission_set = objects.of(Kind.SUBMISSION_SET)[0]
    patient = patient_key(patient_of(submission_set))
    if patient is None:
        raise ValueError("a patientId that passed the rules cannot be read")
    associations = objects.of(Kind.ASSOCIATION)
    added, touched = propagated(associations, submission_set.id or "", facts, new_uuid)
    own_folders = {o.id for o in objects.of(Kind.FOLDER)}
    touched |= {
        o.source
        for o in associations
        if o.type == v.HAS_MEMBER and o.source is not None and o.source not in own_folders
        if o.source in facts.objects and facts.objects[o.source].kind is Kind.FOLDER
    }
    replaced = tuple(dict.fromkeys(o.target for o in associations if o.type in REPLACEMENTS and o.target))
    return Registration(
        now=now,
        patient_key=facts.patients[patient],
        submission_set=(transform.submission_set(submission_set), submission_set),
        entries=tuple((transform.document_entry(o), o) for o in objects.of(Kind.DOCUMENT_ENTRY)),
        folders=tuple((transform.folder(o), o) for o in objects.of(Kind.FOLDER)),
        associations=tuple((transform.association(o), o) for o in (*associations, *added)),
        replaced=replaced,
        deprecated=fallen(associations, facts),
        touched_folders=tuple(sorted(touched)),
        known_unique_ids=frozenset(facts.unique_ids),
        defects=submission.defects,
    )


def fallen(associations: Sequence[RegistryObject], facts: Facts) -> tuple[str, ...]:
    """What is Deprecated with what these replace; not what replaces it, which may have been appended to it before."""
    pairs = dict.fromkeys((one.source, one.target) for one in associations if one.type in REPLACEMENTS)
    children = ((child, target) for _, target in pairs for child in facts.children.get(target or "", ()))
    return tuple(dict.fromkeys(child for child, target in children if (child, target) not in pairs))


def propagated(
    associations: Sequence[RegistryObject], submission_set: str, facts: Facts, new_uuid: NewUuid
) -> tuple[list[RegistryObject], set[str]]:
    """A replacement joins every approved folder of what it replaces, and this SubmissionSet says so.

    Not where the submission has put it there itself, nor where it has been before (a replacement by ITI-57): it would
    be a member twice.
    """
    added: list[RegistryObject] = []
    touched: set[str] = set()
    members = {(o.source, o.target) for o in associations if o.type == v.HAS_MEMBER}
    for obj in associations:
        if obj.type not in REPLACEMENTS or obj.target is None or obj.source is None:
            continue
        for folder in facts.folders.get(obj.target, ()):
            if (folder, obj.source) in members or folder in facts.folders.get(obj.source, ()):
                continue
            members.add((folder, obj.source))
            membership = has_member(folder, obj.source, new_uuid)
            added += [membership, has_member(submission_set, membership.id or "", new_uuid)]
            touched.add(folder)
    return added, touched


def has_member(source: str, target: str, new_uuid: NewUuid) -> RegistryObject:
    """A HasMember Association made by the registry itself."""
    own = new_uuid()
    return RegistryObject(
        Kind.ASSOCIATION, own, lid=own, version_name="1", type=v.HAS_MEMBER, source=source, target=target
    )
