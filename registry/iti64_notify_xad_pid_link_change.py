"""ITI-64 Notify XAD-PID Link Change, Document Registry side (ITI TF-2: 3.64), HL7 v2 over MLLP: ADT^A43.

Request  PID-3: new patient id of the domain, then the local id; MRG-1: previous patient id, and where two local ids
         became one the subsumed local id. The local id is what sourcePatientId of a source's documents says
Effect   the previous patient's Approved entries with the local (or subsumed) id get a new version of the new patient,
         with the local id, in a SubmissionSet of the registry's own; see ``movement`` for folders and associations.
         Deprecated entries stay as they are (3.64.4.1.3.1.3). No such entry: AA, nothing is written
Reply    AE  an id that is not of the domain, not known or merged; local ids without authority or of two authorities
Audit    one record, U, with all ids by their role and the SubmissionSet (3.64.5.1.2)
Undone   by the same message with new and previous exchanged: the entries get one more version
"""

import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from atna import events
from atna.message import AuditMessage
from ihe import transform
from ihe import vocabulary as v
from ihe.datatypes import CX, is_oid, normalise_oid, print_cx
from ihe.hl7v2 import AckCode, ErrorCode, FeedMessage, Identifier
from ihe.metadata import AvailabilityStatus
from ihe.registry_objects import (
    Classification,
    ExternalIdentifier,
    Kind,
    LocalizedString,
    RegistryObject,
    Slot,
)
from registry.identity import NewUuid, with_new_ids
from registry.iti8_patient_identity_feed import (
    MAX_ID_CHARACTERS,
    Effect,
    FeedRules,
    Handling,
    Occasion,
    Refused,
    authority_of,
    cx_text,
    expected,
    known_here,
    refusal,
)
from registry.iti42_register_document_set_b import RELATIONSHIPS, has_member, unique_id_of
from registry.store.patient_protocol import FeedUnitOfWork, Movable, MovableFolder, Move
from registry.store.protocol import PatientId, Registration, StatusChange

__all__ = ["LinkChange", "handlings", "judge", "movement"]

TRANSACTION: Final = "ITI-64"
CONTENT_TYPE: Final = ("ITI-64", "urn:ihe:event-type-code", "Notify XAD-PID Link Change")
"""contentTypeCode of the SubmissionSet that says what a link change did: code, scheme, name."""

_PATIENT_IDS: Final = frozenset({v.ENTRY_PATIENT_ID, v.SUBMISSION_SET_PATIENT_ID, v.FOLDER_PATIENT_ID})
_IDS: Final = 2


@dataclass(frozen=True, slots=True)
class LinkChange:
    """Who is to have the documents that ``previous`` has with the local id; ``subsumed`` is the local id it had before.

    ``source_id`` is the OID of who says so. ``submission_set`` is the entryUUID of what was written, once it was.
    """

    new: PatientId
    previous: PatientId
    local: PatientId
    subsumed: PatientId | None
    source_id: str
    new_uuid: NewUuid
    submission_set: str | None = None

    def write(self, work: FeedUnitOfWork, now: str) -> Effect:
        """Move what there is to move."""
        local, subsumed = print_cx(CX(*self.local)), self.subsumed and print_cx(CX(*self.subsumed))
        # Under one and the same patient what has the local id already is right as it is.
        wanted = {subsumed, local if self.new != self.previous else None} - {None}
        found = work.movable(Move(self.previous, self.new, frozenset(one for one in wanted if one)))
        if not found.entries:
            return self
        done = movement(found, self, now)
        work.apply(done)
        return replace(self, submission_set=done.submission_set[0].entry_uuid)

    def audited(self, occasion: Occasion) -> list[AuditMessage]:
        """One record."""
        named = events.LinkChange(
            local_id=print_cx(CX(*self.local)),
            subsumed_local_id=self.subsumed and print_cx(CX(*self.subsumed)),
            new_id=print_cx(CX(*self.new)),
            previous_id=print_cx(CX(*self.previous)),
            submission_set=self.submission_set,
        )
        return [_record(occasion, named)]


def judge(message: FeedMessage, rules: FeedRules, source_id: str, new_uuid: NewUuid) -> LinkChange:
    """Understand an A43; ``source_id`` is for a sender whose MSH-3 is no OID. Raises Refused."""
    if len(message.groups) != 1:
        raise _refused("A43 needs one PID and one MRG", "MRG^1^1", missing=True)
    ids, prior = message.groups[0].identifiers, message.groups[0].prior_identifiers
    if len(ids) != _IDS:
        raise _refused("PID-3 needs two ids: the new patient id, then the local id", "PID^1^3", missing=True)
    if not 1 <= len(prior) <= _IDS:
        raise _refused("MRG-1 needs one or two ids: the previous patient id, then the subsumed local id", "MRG^1^1")
    new, previous = known_here(ids[:1], rules), known_here(prior[:1], rules)
    if not new:
        raise _refused(expected("the first id of PID-3", rules), "PID^1^3")
    if not previous:
        raise _refused(expected("the first id of MRG-1", rules), "MRG^1^1")
    if new[0][1] != previous[0][1]:
        raise _refused("the new and the previous patient id are of two assigning authorities", "MRG^1^1")
    local = _local(ids[1], rules, "PID^1^3")
    subsumed = _local(prior[1], rules, "MRG^1^1") if len(prior) == _IDS else None
    if subsumed is not None and subsumed[1] != local[1]:
        raise _refused("the two local ids are of two assigning authorities", "MRG^1^1")
    application = normalise_oid(message.header.sending_application or "")
    source = application if is_oid(application) else source_id
    return LinkChange(new[0], previous[0], local, None if subsumed == local else subsumed, source, new_uuid)


def _local(identifier: Identifier, rules: FeedRules, location: str) -> PatientId:
    authority = authority_of(identifier, rules)
    if authority is None:
        raise _refused("a local id needs its assigning authority: ID^^^&OID&ISO", location)
    if len(print_cx(CX(identifier.id, authority))) > MAX_ID_CHARACTERS:
        # It becomes a slot value, which no answer could hold.
        raise _refused(f"a local id with its assigning authority has at most {MAX_ID_CHARACTERS} characters", location)
    return identifier.id, authority


def _refused(text: str, location: str, *, missing: bool = False) -> Refused:
    code = ErrorCode.REQUIRED_FIELD_MISSING if missing else ErrorCode.UNKNOWN_KEY_IDENTIFIER
    return refusal(AckCode.ERROR, code, text, location)


def _record(occasion: Occasion, change: events.LinkChange) -> AuditMessage:
    return events.link_changed(
        occasion.parties,
        change,
        control_id=occasion.control_id,
        outcome=occasion.outcome,
        reason=occasion.reason,
        decision=occasion.decision,
    )


def _not_judged(message: FeedMessage, rules: FeedRules, occasion: Occasion) -> list[AuditMessage]:
    group = message.groups[0] if message.groups else None
    ids = [cx_text(one, rules) for one in (group.identifiers if group else message.identifiers)[:_IDS]]
    prior = [cx_text(one, rules) for one in group.prior_identifiers[:_IDS]] if group else []
    new, local = [*ids, None, None][:_IDS]
    previous, subsumed = [*prior, None, None][:_IDS]
    return [_record(occasion, events.LinkChange(local, subsumed, new, previous))]


def handlings(source_id: str, new_uuid: NewUuid) -> dict[str, Handling]:
    """A43, to be given to the feed; ``source_id`` stands for senders whose MSH-3 is no OID."""
    return {"A43": Handling(TRANSACTION, lambda m, rules: judge(m, rules, source_id, new_uuid), _not_judged)}


# ------------------------------------------------------------------------------------------ what is to be written


def movement(found: Movable, change: LinkChange, now: str) -> Registration:
    """What a move comes to (3.64.4.1.3.1); ``now``: 14 digits, UTC.

    entry                       new version of the new patient; PreviousVersion stands in the SubmissionSet
    folder that moves whole     (all its Approved members move) new version of the new patient with the new entries
    folder of the new patient   the new entry is a member instead of the old one
    other folder                loses the entry: the membership is Deprecated (3.64.4.1.3.2, first approach)
    relationship                copied where both ends are of the new patient afterwards; Deprecated where its other end
                                is an Approved entry that stays; else left with the old version
    reference                   of a SubmissionSet to the entry: Deprecated, and made anew for the new entry
    """
    return _Gathering(found, change, now).result()


class _Gathering:
    """Gathers the objects of one move."""

    def __init__(self, found: Movable, change: LinkChange, now: str) -> None:
        self._found, self._change, self._now = found, change, now
        self._new_uuid = change.new_uuid
        self._set = _submission_set(change, now)
        self._entries = {str(old.id): self._new_entry(old) for old in found.entries}
        self._folders: dict[str, RegistryObject] = {}
        self._links: list[RegistryObject] = []
        self._deprecated: list[str] = []
        self._touched: set[str] = set()

    def result(self) -> Registration:
        """All of it."""
        for old in self._found.entries:
            self._brought(old, self._entries[str(old.id)])
        for folder in self._found.folders:
            self._folder(folder)
        for link in self._found.associations:
            self._association(link)
        new_objects = (*self._entries.values(), *self._folders.values())
        return Registration(
            now=self._now,
            patient_key=self._found.patient_key,
            submission_set=(transform.submission_set(self._set), self._set),
            entries=tuple((transform.document_entry(one), one) for one in self._entries.values()),
            folders=tuple((transform.folder(one), one) for one in self._folders.values()),
            associations=tuple((transform.association(one), one) for one in self._links),
            touched_folders=tuple(sorted(self._touched)),
            known_unique_ids=frozenset(str(unique_id_of(one)) for one in new_objects),
            status_changes=tuple(self._status_changes()),
            depositors={str(new.id): self._found.depositors[old] for old, new in self._entries.items()},
        )

    def _status_changes(self) -> Iterator[StatusChange]:
        """Of what stood: all of it was Approved."""
        ended = AvailabilityStatus.APPROVED, AvailabilityStatus.DEPRECATED
        for kind, old in ((Kind.DOCUMENT_ENTRY, self._entries), (Kind.FOLDER, self._folders)):
            yield from (StatusChange(kind, one, *ended, superseded=True) for one in old)
        yield from (StatusChange(Kind.ASSOCIATION, one, *ended) for one in dict.fromkeys(self._deprecated))

    def _new_entry(self, old: RegistryObject) -> RegistryObject:
        local = print_cx(CX(*self._change.local))
        slots = tuple(replace(s, values=(local,)) if s.name == "sourcePatientId" else s for s in old.slots)
        return _renewed(replace(old, slots=slots), self._change, self._new_uuid)

    def _brought(self, old: RegistryObject, new: RegistryObject) -> None:
        """The SubmissionSet has a new version as member, and says which version it was made from."""
        slots = [Slot("PreviousVersion", (str(old.version_name),))]
        if new.kind is Kind.DOCUMENT_ENTRY:
            slots.insert(0, Slot("SubmissionSetStatus", ("Original",)))
        member = has_member(str(self._set.id), str(new.id), self._new_uuid)
        self._links.append(replace(member, slots=tuple(slots)))

    def _join(self, folder: str, entry: str) -> None:
        membership = has_member(folder, entry, self._new_uuid)
        self._links += [membership, has_member(str(self._set.id), str(membership.id), self._new_uuid)]

    def _folder(self, folder: MovableFolder) -> None:
        uuid_ = str(folder.folder.id)
        moving = sorted(folder.members & self._entries.keys())
        if folder.of_new or not folder.members <= self._entries.keys():
            self._touched.add(uuid_)
            if folder.of_new:
                for old in moving:
                    self._join(uuid_, str(self._entries[old].id))
            return
        new = self._folders[uuid_] = _renewed(folder.folder, self._change, self._new_uuid)
        self._brought(folder.folder, new)
        for old in moving:
            self._join(str(new.id), str(self._entries[old].id))

    def _association(self, link: RegistryObject) -> None:
        source, target = str(link.source), str(link.target)
        if link.type == v.HAS_MEMBER and source in self._found.sets:
            if link.slot("SubmissionSetStatus") == ("Reference",):
                self._deprecated.append(str(link.id))
                self._links.append(self._copy(link))
        elif link.type == v.HAS_MEMBER:
            if source in self._touched:
                self._deprecated.append(str(link.id))
        elif link.type in RELATIONSHIPS:
            ends = [end for end in (source, target) if end not in self._entries]
            if all(self._found.others.get(end) for end in ends):
                self._links.append(self._copy(link))
            elif all(end in self._found.others for end in ends):
                self._deprecated.append(str(link.id))

    def _copy(self, link: RegistryObject) -> RegistryObject:
        moved = {old: new.id for old, new in self._entries.items()}
        source, target = moved.get(str(link.source), link.source), moved.get(str(link.target), link.target)
        return with_new_ids(replace(link, source=source, target=target, lid=None, version_name="1"), self._new_uuid)


def _renewed(old: RegistryObject, change: LinkChange, new_uuid: NewUuid) -> RegistryObject:
    """The next version of a logical object, of the new patient."""
    shown = print_cx(CX(*change.new))
    identifiers = tuple(replace(i, value=shown) if i.scheme in _PATIENT_IDS else i for i in old.external_identifiers)
    version = str(int(old.version_name or "1") + 1)
    return with_new_ids(replace(old, external_identifiers=identifiers, version_name=version), new_uuid)


def _submission_set(change: LinkChange, now: str) -> RegistryObject:
    """The SubmissionSet that says what the registry did and for whom (3.64.4.1.3.1.1); it has no author."""
    own, new_uuid = change.new_uuid(), change.new_uuid
    code, scheme, name = CONTENT_TYPE
    return RegistryObject(
        Kind.SUBMISSION_SET,
        own,
        lid=own,
        version_name="1",
        slots=(Slot("submissionTime", (now,)),),
        classifications=(
            Classification(new_uuid(), None, v.NODE_SUBMISSION_SET, own, None),
            Classification(
                *(new_uuid(), v.SUBMISSION_SET_CONTENT_TYPE, None, own, code),
                name=(LocalizedString(name),),
                slots=(Slot("codingScheme", (scheme,)),),
            ),
        ),
        external_identifiers=tuple(_identifiers(own, change)),
    )


def _identifiers(owner: str, change: LinkChange) -> Iterator[ExternalIdentifier]:
    values: Sequence[tuple[str, str, str]] = (
        (v.SUBMISSION_SET_SOURCE_ID, "XDSSubmissionSet.sourceId", change.source_id),
        (v.SUBMISSION_SET_PATIENT_ID, "XDSSubmissionSet.patientId", print_cx(CX(*change.new))),
        (v.SUBMISSION_SET_UNIQUE_ID, "XDSSubmissionSet.uniqueId", _oid_of(change.new_uuid)),
    )
    for scheme, name, value in values:
        yield ExternalIdentifier(change.new_uuid(), scheme, owner, value, (LocalizedString(name),))


def _oid_of(new_uuid: Callable[[], str]) -> str:
    """An OID below 2.25 made from a UUID."""
    return f"2.25.{uuid.UUID(new_uuid()).int}"
