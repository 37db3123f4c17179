"""What a metadata update that may be done writes (XDS Metadata Update: 3.57.4.1.3.3)."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from ihe import transform
from ihe import vocabulary as v
from ihe.metadata import AvailabilityStatus
from ihe.registry_objects import Kind, RegistryObject
from ihe.update_rules import Operations
from registry.identity import NewUuid, with_new_ids
from registry.iti42_register_document_set_b import REPLACEMENTS, Submission, fallen, propagated
from registry.store.protocol import Facts, KnownVersion, Registration, StatusChange

EMPTY_HASH: Final = "da39a3ee5e6b4b0d3255bfef95601890afd80709"
"""SHA-1 of no bytes: with size 0, the mark of a document that is assembled when it is first asked for."""

Version = tuple[RegistryObject, RegistryObject, KnownVersion]
"""The HasMember that brings a new version, the new version, the one before it."""

_APPROVED, _DEPRECATED = AvailabilityStatus.APPROVED, AvailabilityStatus.DEPRECATED


def propagates(membership: RegistryObject) -> bool:
    """Whether the new version takes over the associations of the one before."""
    return membership.slot("AssociationPropagation") != ("no",)


def is_assembled_later(latest: KnownVersion) -> bool:
    """Whether the document was registered before it existed, so that its hash and size are still to come."""
    return latest.hash == EMPTY_HASH and latest.size == 0


def registration(
    submission: Submission, found: Operations, facts: Facts, patient: int, *, now: str, new_uuid: NewUuid
) -> Registration:
    """Everything an update changes, as one thing to write."""
    objects = submission.objects
    submission_set = objects.of(Kind.SUBMISSION_SET)[0]
    versions = [(membership, new, facts.latest[new.lid or ""]) for membership, new in found.versions]
    numbered = [replace(new, version_name=str(latest.version + 1)) for _, new, latest in versions]
    copies = _copies(versions, new_uuid)
    brought = [one for _, one in found.associations]
    joined, touched = propagated(brought, submission_set.id or "", facts, new_uuid)
    replaced = tuple(dict.fromkeys(one.target for one in brought if one.type in REPLACEMENTS and one.target))
    changes = (*_superseded(versions), *_changed(found.statuses, facts))
    touched |= {one.entry_uuid for one in changes if one.kind is Kind.FOLDER and not one.superseded}
    # Of a membership; where the source is no folder nothing is touched.
    sources = (facts.objects[one.entry_uuid].source for one in changes if one.kind is Kind.ASSOCIATION)
    touched |= {source for source in sources if source is not None}
    touched |= _joined_folders(copies, brought, {one.id for one in numbered})
    return Registration(
        now=now,
        patient_key=patient,
        submission_set=(transform.submission_set(submission_set), submission_set),
        entries=tuple((transform.document_entry(o), o) for o in numbered if o.kind is Kind.DOCUMENT_ENTRY),
        folders=tuple((transform.folder(o), o) for o in numbered if o.kind is Kind.FOLDER),
        associations=tuple((transform.association(o), o) for o in (*objects.of(Kind.ASSOCIATION), *copies, *joined)),
        replaced=replaced,
        deprecated=fallen(brought, facts),
        touched_folders=tuple(sorted(touched)),
        known_unique_ids=frozenset(facts.unique_ids),
        status_changes=changes,
        born_deprecated=frozenset(new.id or "" for _, new, latest in versions if not latest.approved),
        bytes_told=_bytes_told(versions),
        depositors={n.id or "": old.depositor for _, n, old in versions if n.kind is Kind.DOCUMENT_ENTRY},
        defects=submission.defects,
    )


def _status(*, approved: bool) -> AvailabilityStatus:
    return _APPROVED if approved else _DEPRECATED


def _superseded(versions: Sequence[Version]) -> list[StatusChange]:
    return [
        StatusChange(new.kind, latest.entry_uuid, _status(approved=latest.approved), _DEPRECATED, superseded=True)
        for _, new, latest in versions
    ]


def _changed(statuses: Sequence[RegistryObject], facts: Facts) -> list[StatusChange]:
    return [
        StatusChange(
            facts.objects[one.target].kind,
            one.target,
            _status(approved=facts.objects[one.target].approved),
            AvailabilityStatus((one.slot("NewStatus") or ("",))[0]),
        )
        for one in statuses
        if one.target is not None
    ]


def _copies(versions: Sequence[Version], new_uuid: NewUuid) -> list[RegistryObject]:
    """Copies of the associations that new versions take over, from new version to new version where both ends have one.

    An association between two objects of the request is copied once; not one whose other end begins anew, which would
    join a new version with an old one.
    """
    moved = {latest.entry_uuid: new.id for membership, new, latest in versions if propagates(membership)}
    anew = {latest.entry_uuid for _, _, latest in versions} - moved.keys()
    links = {one.id: one for membership, _, latest in versions if propagates(membership) for one in latest.links}
    return [_copy(one, moved, new_uuid) for one in links.values() if anew.isdisjoint((one.source, one.target))]


def _copy(one: RegistryObject, moved: dict[str, str | None], new_uuid: NewUuid) -> RegistryObject:
    source, target = moved.get(one.source or "", one.source), moved.get(one.target or "", one.target)
    return with_new_ids(replace(one, source=source, target=target, lid=None, version_name="1"), new_uuid)


def _joined_folders(
    copies: Sequence[RegistryObject], brought: Sequence[RegistryObject], new: set[str | None]
) -> set[str]:
    """Registered folders that get a member: their lastUpdateTime is now."""
    members = (one for one in (*copies, *brought) if one.type == v.HAS_MEMBER)
    return {one.source for one in members if one.source is not None and one.source not in new}


def _bytes_told(versions: Sequence[Version]) -> dict[str, tuple[str, int]]:
    """Hash and size of documents of which the registry knew none, or another size, until now."""
    found = {}
    for _, new, latest in versions:
        if new.kind is Kind.DOCUMENT_ENTRY:
            entry = transform.document_entry(replace(new, version_name="1"))
            told = (entry.hash, entry.size)
            if entry.hash is not None and entry.size is not None and told != (latest.hash, latest.size):
                found[entry.unique_id] = (entry.hash, entry.size)
    return found
