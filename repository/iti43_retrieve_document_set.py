"""ITI-43 Retrieve Document Set, Document Repository side (ITI TF-2: 3.43).

Request  xdsb:RetrieveDocumentSetRequest: 1..n DocumentRequest (HomeCommunityId?, RepositoryUniqueId, DocumentUniqueId)
Reply    xdsb:RetrieveDocumentSetResponse: rs:RegistryResponse, then a DocumentResponse for each document found, in the
         order of the request, as often as it was asked for; HomeCommunityId if and only if it was sent; mimeType as
         registered. Status Success, PartialSuccess or Failure
Errors   XDSUnknownRepositoryId, XDSDocumentUniqueIdError, XDSRepositoryError, XDSRepositoryBusy,
         XDSRepositoryOutOfResources
Content  the bytes that were provided, or none, one document after the other. Before the answer begins each is looked at
         as ``Beforehand`` says: what is found missing or damaged then is an error beside the documents that are whole.
         Later size and SHA-1 are compared before the last block of a document leaves; a document that turns out to be
         damaged, or a store that fails, breaks the connection: never a short document that looks whole
Bounds   ``max_retrieve_documents`` in a request; memory for some blocks, however many and large the documents are
"""

import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final
from xml.sax.saxutils import escape

from atna.message import Outcome
from atna.participants import DocumentReference
from consent.policy import Decision, decide
from ihe import vocabulary as v
from ihe.datatypes import normalise_oid
from ihe.ebrs import DocumentRequest, read_document_requests, registry_response
from ihe.errors import ErrorCode, RegistryError, Rejected
from repository.naming import foreign_repository, status_of, unknown_document
from repository.reading import is_there, verified
from repository.records import origin_of
from repository.room import Room
from repository.store.protocol import Damaged, Document, KeyMissing, ObjectMissing, StoreUnavailable
from schemas import violations
from wire.limit_reached import named, reached
from wire.messages import OutgoingPart, Reply, Request

__all__ = ["handle", "judge"]

HASHED_FIRST_BYTES: Final = 2**20
"""Up to this size a document is hashed before the answer begins …"""
HASHED_FIRST_IN_ALL: Final = 16 * 2**20
"""… until this much of a request was read: the first byte of an answer does not wait for hundreds of documents."""
HELD_BYTES: Final = 2**20
"""What was hashed and fits in here is answered from memory, not read twice: all of it leaves with the first block."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Found:
    """A document to answer with; ``home`` as it was sent."""

    document: Document
    home: str | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What each DocumentRequest came to, in the order of the request."""

    found: tuple[Found, ...]
    missed: tuple[DocumentRequest, ...]
    errors: tuple[RegistryError, ...]

    @property
    def status(self) -> str:
        """Success, PartialSuccess or Failure (ITI TF-2: 3.43.5)."""
        return status_of(self.errors, self.found)


def judge(
    requests: Sequence[DocumentRequest],
    own_id: str,
    copies: Mapping[str, Sequence[Document]],
    whole: Callable[[Document], bool],
    without_key: Collection[str] = (),
) -> Verdict:
    """Choose a copy for each request: the oldest that is ``whole``. ``copies`` are by unique id, oldest first.

    ``without_key`` has, once ``whole`` was asked, the unique ids of which a copy could not be opened for want of a key.
    """
    found: list[Found] = []
    missed: list[DocumentRequest] = []
    errors: list[RegistryError] = []
    chosen: dict[str, Document | None] = {}
    for request in requests:
        repository, unique_id = normalise_oid(request.repository_unique_id), request.document_unique_id
        stored = copies.get(unique_id, ()) if repository == own_id else ()
        if stored and unique_id not in chosen:
            chosen[unique_id] = next((document for document in stored if whole(document)), None)
        document = chosen.get(unique_id) if stored else None
        if document is not None:
            found.append(Found(document, request.home))
            continue
        missed.append(request)
        if repository != own_id:
            errors.append(foreign_repository(repository, own_id, unique_id))
        elif stored:
            errors.append(_not_given_out(unique_id, locked=unique_id in without_key))
        else:
            errors.append(unknown_document(unique_id))
    return Verdict(tuple(found), tuple(missed), tuple(dict.fromkeys(errors)))


def _not_given_out(unique_id: str, *, locked: bool) -> RegistryError:
    """A key can be brought back; who reads "damaged" would look for a backup of the document."""
    text = f"document {unique_id} is damaged in the store; it is not given out"
    if locked:
        text = f"document {unique_id} cannot be opened: its key is not in the key file of the repository"
    return RegistryError(ErrorCode.REPOSITORY_ERROR, text)


# -------------------------------------------------------------------------------------------------- handling


def handle(request: Request, room: Room) -> Reply:
    """Answer an ITI-43 request. The audit records are durable before the first byte of the answer."""
    decision = decide(request.caller, request.transaction.code)
    requests: tuple[DocumentRequest, ...] = ()
    try:
        requests = _readable(request, room, decision)
        verdict, beforehand = _look_up(room, requests)
        room.index.record_alone(_records(request, room, verdict, decision))
    except Rejected as rejected:
        return _refuse(request, room, requests, decision, rejected.errors)
    except StoreUnavailable as error:
        code = ErrorCode.REPOSITORY_OUT_OF_RESOURCES if error.full else ErrorCode.REPOSITORY_ERROR
        return _refuse(request, room, requests, decision, (RegistryError(code, str(error)),))
    answer = _answer(room, verdict, beforehand.chunks)
    return Reply(answer, partial(_closed, request, room, verdict, decision))


def _readable(request: Request, room: Room, decision: Decision) -> tuple[DocumentRequest, ...]:
    if not decision.permit:
        text = f"{request.transaction.code} is not permitted (rule {decision.rule})"
        raise Rejected([RegistryError(ErrorCode.REPOSITORY_ERROR, text)])
    faults = violations(request.body)
    if faults:
        raise Rejected([RegistryError(ErrorCode.REPOSITORY_ERROR, fault) for fault in faults])
    if room.index.busy():
        raise Rejected([RegistryError(ErrorCode.REPOSITORY_BUSY, "audit records cannot be delivered; try again later")])
    requests = read_document_requests(request.body)
    most = room.settings.max_retrieve_documents
    if len(requests) > most:
        reached("max_retrieve_documents")
        text = (
            f"{len(requests)} documents are asked for, at most {most} are allowed: ask for the rest in another request"
        )
        raise Rejected([RegistryError(ErrorCode.REPOSITORY_ERROR, named(text, "max_retrieve_documents"))])
    return requests


def _look_up(room: Room, requests: Sequence[DocumentRequest]) -> "tuple[Verdict, Beforehand]":
    own = room.settings.unique_id
    wanted = [one.document_unique_id for one in requests if normalise_oid(one.repository_unique_id) == own]
    copies: dict[str, list[Document]] = {}
    for document in room.index.available(wanted):
        copies.setdefault(document.unique_id, []).append(document)

    beforehand = Beforehand(room, {key for key, stored in copies.items() if len(stored) > 1})
    return judge(requests, own, copies, beforehand.whole, beforehand.without_key), beforehand


class Beforehand:
    """What of a request is read before its answer begins.

    Of several copies each is hashed until one is whole, whatever their size. Small documents are hashed up to a bound
    for the request; of every other sealed one the beginning is opened, of every other plain one the size compared.
    """

    def __init__(self, room: Room, several: Collection[str]) -> None:
        self._room: Final = room
        self._several: Final = several
        self._to_hash = HASHED_FIRST_IN_ALL
        self._to_hold = HELD_BYTES
        self._held: dict[str, list[bytes]] = {}
        self.without_key: Final[set[str]] = set()

    def whole(self, document: Document) -> bool:
        """Whether the document can be given out, as far as that is looked at now. Raises StoreUnavailable."""
        try:
            if self._look_at(document):
                return True
        except (Damaged, ObjectMissing):
            pass
        except KeyMissing as error:
            _log.error("object %s cannot be read: there is no key %s", document.object_key, error)
            self.without_key.add(document.unique_id)
            return False
        _log.error("object %s is missing or damaged", document.object_key)
        return False

    def _look_at(self, document: Document) -> bool:
        vault = self._room.vault
        small = document.size <= min(HASHED_FIRST_BYTES, self._to_hash)
        if small or document.unique_id in self._several:
            self._to_hash -= document.size
            kept: list[bytes] | None = [] if document.size <= self._to_hold else None
            for block in verified(vault, document):
                if kept is not None:
                    kept.append(block)
            if kept is not None:
                self._held[document.object_key] = kept
                self._to_hold -= document.size
            return True
        if document.envelope is not None:
            next(verified(vault, document), None)
        return is_there(vault, document)

    def chunks(self, document: Document) -> Iterator[bytes]:
        """The document's blocks, from memory or from the store."""
        held = self._held.pop(document.object_key, None)
        return iter(held) if held is not None else verified(self._room.vault, document)


def _answer(
    room: Room, verdict: Verdict, chunks: Callable[[Document], Iterator[bytes]]
) -> Iterator[bytes | OutgoingPart]:
    head = registry_response(verdict.status, verdict.errors).decode()
    text = f'<xdsb:RetrieveDocumentSetResponse xmlns:xdsb="{v.XDSB}">{head}'
    for one in verdict.found:
        document = one.document
        home = "" if one.home is None else f"<xdsb:HomeCommunityId>{escape(one.home)}</xdsb:HomeCommunityId>"
        text += (
            f"<xdsb:DocumentResponse>{home}"
            f"<xdsb:RepositoryUniqueId>{room.settings.unique_id}</xdsb:RepositoryUniqueId>"
            f"<xdsb:DocumentUniqueId>{escape(document.unique_id)}</xdsb:DocumentUniqueId>"
            f"<xdsb:mimeType>{escape(document.mime_type)}</xdsb:mimeType><xdsb:Document>"
        )
        yield text.encode()
        yield OutgoingPart(document.mime_type, document.size, partial(chunks, document))
        text = "</xdsb:Document></xdsb:DocumentResponse>"
    yield f"{text}</xdsb:RetrieveDocumentSetResponse>".encode()


def _refuse(
    request: Request,
    room: Room,
    requests: Sequence[DocumentRequest],
    decision: Decision,
    errors: tuple[RegistryError, ...],
) -> Reply:
    verdict = Verdict((), tuple(requests), errors)
    room.record_refusal(_records(request, room, verdict, decision))
    return Reply(_answer(room, verdict, partial(verified, room.vault)))


# ----------------------------------------------------------------------------------------------------- audit


def _records(request: Request, room: Room, verdict: Verdict, decision: Decision) -> list[bytes]:
    """One record for each patient's documents that are given out, one (outcome 8) for what is not."""
    messages = _of_found(request, room, verdict, decision)
    if verdict.errors:
        missed = dict.fromkeys(
            DocumentReference(one.document_unique_id, normalise_oid(one.repository_unique_id), one.home)
            for one in verdict.missed
        )
        codes = ",".join(sorted({str(error.code) for error in verdict.errors}))
        messages.append(
            room.records.retrieved(
                origin_of(request),
                list(missed) or [DocumentReference("unknown")],
                patient_id=None,
                outcome=Outcome.SERIOUS_FAILURE,
                reason=codes,
                decision=decision.rule,
            )
        )
    return messages


def _of_found(
    request: Request,
    room: Room,
    verdict: Verdict,
    decision: Decision,
    *,
    outcome: Outcome = Outcome.SUCCESS,
    reason: str | None = None,
) -> list[bytes]:
    by_patient: dict[str | None, dict[DocumentReference, None]] = {}
    for one in verdict.found:
        reference = DocumentReference(one.document.unique_id, room.settings.unique_id, one.home)
        by_patient.setdefault(one.document.patient_id, {})[reference] = None
    return [
        room.records.retrieved(
            origin_of(request),
            list(references),
            patient_id=patient_id,
            outcome=outcome,
            reason=reason,
            decision=decision.rule,
        )
        for patient_id, references in by_patient.items()
    ]


def _closed(request: Request, room: Room, verdict: Verdict, decision: Decision, whole: bool) -> None:
    """A transfer that broke after its record gets a second one."""
    if not whole and verdict.found:
        outcome, reason = Outcome.SERIOUS_FAILURE, "the transfer broke before its end"
        room.record_refusal(_of_found(request, room, verdict, decision, outcome=outcome, reason=reason))
