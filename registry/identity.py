"""Identities of new objects (ITI TF-3: 4.2.3.1.4, 4.2.1.5): symbols become UUIDs, UUIDs are kept for ever."""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from ihe.registry_objects import Classification, ExternalIdentifier, Kind, RegistryObject, SubmittedObjects

_UUID: Final = "urn:uuid:"
NewUuid = Callable[[], str]
"""Makes ``urn:uuid:`` ids."""


def is_uuid(identifier: str | None) -> bool:
    """Whether an id is a UUID rather than a symbol of this message."""
    return identifier is not None and identifier.startswith(_UUID)


def settled(submitted: SubmittedObjects, new_uuid: NewUuid, *, keep_lids: bool = False) -> SubmittedObjects:
    """Replace every symbol by one UUID wherever it stands; lid becomes the id and the version 1.

    ``keep_lids`` for updates: an entry or folder keeps the logical id it was sent with, or none. References that
    nothing in the message defines stay as they are.
    """
    ids: dict[str, str] = {}
    for obj in submitted.objects:
        if obj.id is not None:
            ids.setdefault(obj.id, obj.id if is_uuid(obj.id) else new_uuid())
    kept = {Kind.DOCUMENT_ENTRY, Kind.FOLDER} if keep_lids else set()
    return SubmittedObjects(
        tuple(_settled(obj, ids, new_uuid, keep_lid=obj.kind in kept) for obj in submitted.objects), submitted.stray
    )


def with_new_ids(obj: RegistryObject, new_uuid: NewUuid) -> RegistryObject:
    """The same under a new entryUUID; what has no logical id gets the same for one."""
    own = new_uuid()
    return replace(
        obj,
        id=own,
        lid=obj.lid or own,
        classifications=tuple(replace(c, id=new_uuid(), classified_object=own) for c in obj.classifications),
        external_identifiers=tuple(replace(i, id=new_uuid(), registry_object=own) for i in obj.external_identifiers),
    )


def _settled(obj: RegistryObject, ids: dict[str, str], new_uuid: NewUuid, *, keep_lid: bool) -> RegistryObject:
    own = new_uuid() if obj.id is None else ids[obj.id]
    return replace(
        obj,
        id=own,
        lid=obj.lid if keep_lid else own,
        version_name="1",
        source=None if obj.source is None else ids.get(obj.source, obj.source),
        target=None if obj.target is None else ids.get(obj.target, obj.target),
        classifications=tuple(_classification(c, own, new_uuid) for c in obj.classifications),
        external_identifiers=tuple(_identifier(i, own, new_uuid) for i in obj.external_identifiers),
    )


def _classification(c: Classification, owner: str, new_uuid: NewUuid) -> Classification:
    # The constructor, not replace(): a submission has dozens of these.
    own = c.id if is_uuid(c.id) else new_uuid()
    return Classification(own, c.scheme, c.node, owner, c.node_representation, c.name, c.description, c.slots)


def _identifier(i: ExternalIdentifier, owner: str, new_uuid: NewUuid) -> ExternalIdentifier:
    return ExternalIdentifier(i.id if is_uuid(i.id) else new_uuid(), i.scheme, owner, i.value, i.name)
