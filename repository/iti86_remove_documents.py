"""ITI-86 Remove Documents, Document Repository side (Remove Metadata and Documents: 3.86).

Request  rmd:RemoveDocumentsRequest: 1..n DocumentRequest (HomeCommunityId?, RepositoryUniqueId, DocumentUniqueId)
Reply    rs:RegistryResponse: Success, PartialSuccess or Failure with every error found, codeContext with the unique id
Errors   XDSUnknownRepositoryId, XDSDocumentUniqueIdError, XDSRemoveDocumentsError, XDSRepositoryBusy,
         XDSRepositoryOutOfResources, XDSRepositoryError
Effects  every stored copy of the unique id is gone: one commit takes the documents and their keys away and writes the
         audit records, then the objects go, then the rows; the sweep finishes what a crash leaves. Metadata is not
         touched (ITI-62), and the submissions the documents came with are answered for anew
Registry asked by ITI-18 whether a DocumentEntry of this repository still names the document. If so, or if it does not
         say: refused, or removed with a warning (setting ``remove_registered``)
Store    one that does not delete now (a locked object, an outage) keeps the object: of an encrypted document that is no
         fault, its key is gone; of a plain one XDSRemoveDocumentsError tells so, though it is not given out any more
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from atna.message import Outcome
from atna.participants import DocumentReference
from consent.policy import Decision, decide
from ihe.datatypes import normalise_oid
from ihe.ebrs import DocumentRequest, read_document_requests, registry_response
from ihe.errors import ErrorCode, RegistryError, Rejected, Severity
from repository.naming import foreign_repository, status_of, unknown_document
from repository.records import origin_of
from repository.removal import by_patient, references, take_away
from repository.room import Room
from repository.store.protocol import Document, StoreUnavailable, Superseded
from schemas import violations
from wire.limit_reached import named, reached
from wire.messages import Reply, Request

__all__ = ["handle", "judge"]

TURNS: Final = 4


@dataclass(frozen=True, slots=True)
class Missed:
    """A DocumentRequest that comes to nothing; whose document it is, where that is known."""

    request: DocumentRequest
    patient_id: str | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a request comes to: the ``documents`` that go (every copy) and the requests that are ``missed``."""

    documents: tuple[Document, ...] = ()
    missed: tuple[Missed, ...] = ()
    errors: tuple[RegistryError, ...] = ()
    warnings: tuple[RegistryError, ...] = ()

    @property
    def status(self) -> str:
        """Success, PartialSuccess or Failure."""
        return status_of(self.errors, self.documents)


def judge(
    requests: Sequence[DocumentRequest],
    own_id: str,
    copies: Mapping[str, Sequence[Document]],
    entries: frozenset[tuple[str, str]] | None,
    remove_registered: Literal["accept", "reject"],
) -> Verdict:
    """What of a request can be removed.

    ``copies`` are by unique id; ``entries`` are what is registered as (unique id, repositoryUniqueId), empty for any
    repository, None when the registry does not say.
    """
    documents: dict[str, Sequence[Document]] = {}
    missed: list[Missed] = []
    errors: list[RegistryError] = []
    warnings: list[RegistryError] = []
    for request in dict.fromkeys(requests):
        repository, unique_id = normalise_oid(request.repository_unique_id), request.document_unique_id
        objection, patient_id = None, None
        if repository != own_id:
            objection = foreign_repository(repository, own_id, unique_id)
        elif not copies.get(unique_id):
            objection = unknown_document(unique_id)
        else:
            patient_id = copies[unique_id][0].patient_id
            doubt = _registered(unique_id, own_id, entries)
            if doubt is not None and remove_registered == "accept":
                warnings.append(RegistryError(ErrorCode.REMOVE_DOCUMENTS, f"{doubt[0]}", Severity.WARNING))
            elif doubt is not None:
                objection = RegistryError(ErrorCode.REMOVE_DOCUMENTS, "; ".join(doubt))
        if objection is None:
            documents[unique_id] = copies[unique_id]
        else:
            missed.append(Missed(request, patient_id))
            errors.append(objection)
    gone = tuple(document for found in documents.values() for document in found)
    return Verdict(gone, tuple(missed), tuple(dict.fromkeys(errors)), tuple(dict.fromkeys(warnings)))


def _registered(unique_id: str, own_id: str, entries: frozenset[tuple[str, str]] | None) -> tuple[str, str] | None:
    """What the registry says against a removal, and what to do about it; None when nothing."""
    if entries is None:
        return (
            f"document {unique_id}: the registry does not say whether it is still registered",
            "it was not removed; send it again later",
        )
    if (unique_id, own_id) in entries or (unique_id, "") in entries:
        return f"document {unique_id} is still registered", "remove its metadata first (ITI-62)"
    return None


# -------------------------------------------------------------------------------------------------- handling


def handle(request: Request, room: Room) -> Reply:
    """Answer an ITI-86 request. What was removed and its audit records are one commit, before the answer."""
    granted = room.granted(request.caller)
    decision = decide(request.caller, request.transaction.code, granted)
    requests: tuple[DocumentRequest, ...] = ()
    try:
        requests = _readable(request, room, decision)
        verdict = _removed(request, room, requests, decision)
    except Rejected as rejected:
        verdict = Verdict((), tuple(map(Missed, requests)), rejected.errors)
        room.record_refusal(_records(request, room, verdict, decision))
    except StoreUnavailable as error:
        code = ErrorCode.REPOSITORY_OUT_OF_RESOURCES if error.full else ErrorCode.REPOSITORY_ERROR
        verdict = Verdict((), tuple(map(Missed, requests)), (RegistryError(code, f"{error}; send it again later"),))
        room.record_refusal(_records(request, room, verdict, decision))
    return Reply((registry_response(verdict.status, (*verdict.errors, *verdict.warnings)),))


def _readable(request: Request, room: Room, decision: Decision) -> tuple[DocumentRequest, ...]:
    if not decision.permit:
        text = f"{request.transaction.code} is not permitted (rule {decision.rule})"
        raise Rejected([RegistryError(ErrorCode.REPOSITORY_ERROR, text)])
    if room.index.busy():
        raise Rejected([RegistryError(ErrorCode.REPOSITORY_BUSY, "audit records cannot be delivered; try again later")])
    faults = violations(request.body)
    if faults:
        raise Rejected([RegistryError(ErrorCode.REPOSITORY_ERROR, fault) for fault in faults])
    requests = read_document_requests(request.body)
    most = room.settings.max_remove_documents
    if len(requests) > most:
        reached("max_remove_documents")
        text = f"{len(requests)} documents are named, at most {most} are allowed: name the rest in another request"
        raise Rejected([RegistryError(ErrorCode.REPOSITORY_ERROR, named(text, "max_remove_documents"))])
    return requests


def _removed(request: Request, room: Room, requests: Sequence[DocumentRequest], decision: Decision) -> Verdict:
    """Judge and remove, once more when somebody else changed what was read."""
    for _ in range(TURNS):
        verdict, asked = _judged(room, requests)
        messages = [*asked, *_records(request, room, verdict, decision)]
        if not verdict.documents:
            room.index.record_alone(messages)
            return verdict
        try:
            kept = take_away(room, verdict.documents, messages)
        except Superseded:
            continue
        return _told_of(request, room, verdict, kept, decision)
    raise Rejected([RegistryError(ErrorCode.REPOSITORY_BUSY, "others remove the same documents; send it again")])


def _judged(room: Room, requests: Sequence[DocumentRequest]) -> tuple[Verdict, tuple[bytes, ...]]:
    own = room.settings.unique_id
    copies: dict[str, list[Document]] = {}
    wanted = [one.document_unique_id for one in requests if normalise_oid(one.repository_unique_id) == own]
    found = room.index.available(wanted)
    for document in found:
        copies.setdefault(document.unique_id, []).append(document)
    registered = room.registry.registered(by_patient(found))
    return judge(requests, own, copies, registered.entries, room.settings.remove_registered), registered.records


def _told_of(request: Request, room: Room, verdict: Verdict, kept: Sequence[Document], decision: Decision) -> Verdict:
    """The verdict, less what the store still holds in plain: that gets an error, and a second audit record."""
    if not kept:
        return verdict
    unique_ids = list(dict.fromkeys(document.unique_id for document in kept))
    text = "is not given out any more, but the store does not delete it now; that is tried again until it is done"
    errors = tuple(RegistryError(ErrorCode.REMOVE_DOCUMENTS, f"document {one} {text}") for one in unique_ids)
    room.record_refusal(
        _of_documents(request, room, kept, decision, (Outcome.SERIOUS_FAILURE, str(ErrorCode.REMOVE_DOCUMENTS)))
    )
    gone = tuple(document for document in verdict.documents if document.unique_id not in unique_ids)
    return replace(verdict, documents=gone, errors=(*verdict.errors, *errors))


# ----------------------------------------------------------------------------------------------------- audit


def _records(request: Request, room: Room, verdict: Verdict, decision: Decision) -> list[bytes]:
    """One record for each patient's documents that go, one (outcome 8) for each patient's that do not."""
    messages = _of_documents(request, room, verdict.documents, decision, (Outcome.SUCCESS, None))
    if not verdict.errors:
        return messages
    missed: dict[str | None, dict[DocumentReference, None]] = {}
    for one in verdict.missed:
        named = one.request
        reference = DocumentReference(named.document_unique_id, normalise_oid(named.repository_unique_id), named.home)
        missed.setdefault(one.patient_id, {})[reference] = None
    codes = ",".join(sorted({str(error.code) for error in verdict.errors}))
    result = (Outcome.SERIOUS_FAILURE, codes)
    return messages + _recorded(request, room, missed or {None: {DocumentReference("unknown"): None}}, decision, result)


def _of_documents(
    request: Request,
    room: Room,
    documents: Iterable[Document],
    decision: Decision,
    result: tuple[Outcome, str | None],
) -> list[bytes]:
    return _recorded(request, room, references(documents, room.settings.unique_id), decision, result)


def _recorded(
    request: Request,
    room: Room,
    documents: Mapping[str | None, Iterable[DocumentReference]],
    decision: Decision,
    result: tuple[Outcome, str | None],
) -> list[bytes]:
    outcome, reason = result
    return [
        room.records.removed(
            origin_of(request),
            list(named),
            patient_id=patient_id,
            outcome=outcome,
            reason=reason,
            decision=decision.rule,
        )
        for patient_id, named in documents.items()
    ]
