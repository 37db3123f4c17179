"""ITI-62 Remove Metadata, Document Registry side (Remove Metadata and Documents: 3.62).

Request  lcm:RemoveObjectsRequest: the entryUUIDs of SubmissionSets, DocumentEntries, Folders, Associations
Reply    rs:RegistryResponse: Success, or Failure with every error found; all or nothing
Errors   UnresolvedReferenceException (no such object), ReferencesExistException (an association that stays begins or
         ends there), XDSUnreferencedObjectException (an object that stays would be left without any association)
Effects  the objects are gone for good, each version by its own id; the version before a removed one is the latest
         again; a uniqueId nobody uses any more is free. Documents are not touched: ITI-86 removes them
"""

from collections.abc import Iterator, Sequence
from typing import Final

from ihe import ebrs
from ihe import vocabulary as v
from ihe.errors import ErrorCode, RegistryError, Rejected
from ihe.findings import shortened
from registry.asked import RemovalAsked, in_one_of_some_attempts
from registry.desk import Desk
from registry.store.protocol import Removable, StoreUnavailable
from wire.messages import Reply, Request

_DELETE_ALL: Final = "urn:oasis:names:tc:ebxml-regrep:DeletionScopeType:DeleteAll"


def answer(desk: Desk, request: Request) -> Reply:
    """Remove, or refuse with every error."""
    asked = RemovalAsked(desk, request)
    try:
        asked.admit()
        asked.object_ids = _named(request, desk.settings.max_query_values)
        _remove(asked)
    except (Rejected, StoreUnavailable) as refused:
        return Reply([ebrs.registry_response(v.FAILURE, asked.refused(refused))])
    return Reply([ebrs.registry_response(v.SUCCESS)])


def _named(request: Request, most: int) -> tuple[str, ...]:
    scope = request.body.get("deletionScope", _DELETE_ALL)
    if scope != _DELETE_ALL:
        text = f"deletionScope must be {_DELETE_ALL}, or left out: metadata is removed here, documents by ITI-86"
        raise Rejected((RegistryError(ErrorCode.REGISTRY_ERROR, text),))
    found = ebrs.read_remove_objects_request(request.body)
    if len(found) > most:
        text = f"{len(found)} objects are named; allowed are at most {most} in a request"
        raise Rejected((RegistryError(ErrorCode.REGISTRY_ERROR, text),))
    return found


def _remove(asked: RemovalAsked) -> None:
    let_pass = asked.let_pass()

    def remove() -> None:
        with asked.desk.store.unit_of_work() as work:
            facts = work.removable(asked.object_ids)
            asked.patient_ids = facts.patient_ids
            errors = tuple(errors_of(asked.object_ids, facts))
            if errors:
                raise Rejected(errors)
            work.remove(facts.objects)
            if let_pass is not None:
                work.note(let_pass)
            work.record(asked.records())

    in_one_of_some_attempts(remove)


def errors_of(entry_uuids: Sequence[str], facts: Removable) -> Iterator[RegistryError]:
    """Everything that stands against a removal (3.62.4.1.3)."""
    for one in entry_uuids:
        if one not in facts.objects:
            text = f"{shortened(one) or 'an ObjectRef without id'}: no such object is registered"
            yield RegistryError(ErrorCode.UNRESOLVED_REFERENCE, text)
    for link, source, target in facts.links:
        for end in (source, target):
            if link not in facts.objects and end in facts.objects:
                text = f"{end}: Association {link} refers to it and is not removed with it"
                yield RegistryError(ErrorCode.REFERENCES_EXIST, text)
    ends = (end for link, *both in facts.links if link in facts.objects for end in both)
    for end in dict.fromkeys(ends):
        if end not in facts.objects and end not in facts.kept:
            text = f"{end}: would be left without any association; remove it too"
            yield RegistryError(ErrorCode.UNREFERENCED_OBJECT, text)
