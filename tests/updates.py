"""Metadata updates: new versions of what a registry shows, changes of status, new associations between what it has."""

from dataclasses import replace

from ihe import vocabulary as v
from ihe.registry_objects import Kind, Slot, SubmittedObjects
from tests.builders import PATIENT, association, changed, has_member, submission_set


def resent(obj, symbol, *changes):
    """An object as a registry showed it, as the next version of itself under a symbolic id."""
    return changed(
        replace(
            obj,
            id=symbol,
            status=None,
            version_name=None,
            classifications=tuple(replace(one, id=None, classified_object=None) for one in obj.classifications),
            external_identifiers=tuple(replace(one, id=None, registry_object=None) for one in obj.external_identifiers),
        ),
        changes,
    )


def brings(symbol, previous="1", *, status="Original", propagation=None, more=()):
    """The HasMember that brings a new version; ``None`` leaves a slot out."""
    slots = [Slot("SubmissionSetStatus", (status,))] if status is not None else []
    slots += [Slot("PreviousVersion", (previous,))] if previous is not None else []
    slots += [Slot("AssociationPropagation", (propagation,))] if propagation is not None else []
    return replace(has_member("SubmissionSet01", symbol), slots=(*slots, *more))


def new_status(target, was=v.APPROVED, becomes=v.DEPRECATED):
    """An UpdateAvailabilityStatus association."""
    one = association(v.UPDATE_AVAILABILITY_STATUS, "SubmissionSet01", target)
    return replace(one, slots=(Slot("OriginalStatus", (was,)), Slot("NewStatus", (becomes,))))


def new_association(kind, source, target, symbol="Association01", *changes):
    """A new association and the SubmitAssociation that brings it."""
    one = changed(association(kind, source, target, symbol), changes)
    return one, association(v.SUBMIT_ASSOCIATION, "SubmissionSet01", symbol)


def update(*objects, patient=PATIENT, unique_id=None):
    """A request: a SubmissionSet and these objects."""
    return SubmittedObjects((submission_set(patient=patient, unique_id=unique_id), *objects))


def new_version(obj, *changes, previous=None, patient=PATIENT, symbol="New01", **slots):
    """A request with the next version of one entry or folder."""
    if obj.kind is Kind.FOLDER:
        slots.setdefault("status", None)
    membership = brings(symbol, previous or obj.version_name, **slots)
    return update(resent(obj, symbol, *changes), membership, patient=patient)
