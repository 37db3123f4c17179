"""ITI-41 Provide and Register Document Set-b, Document Repository side (ITI TF-2: 3.41).

Request  xdsb:ProvideAndRegisterDocumentSetRequest: one lcm:SubmitObjectsRequest, 0..n Document whose @id is that of an
         ExtrinsicObject; content as XOP attachment or base64, mixed
Reply    rs:RegistryResponse: Success (with the registry's warnings), or Failure with every error found; all or nothing
Errors   XDSMissingDocument, XDSMissingDocumentMetadata, XDSRepositoryMetadataError, XDSRegistryNotAvailable,
         XDSRepositoryDuplicateUniqueIdInMessage, XDSDuplicateUniqueIdInRegistry, XDSRepositoryBusy,
         XDSRepositoryOutOfResources, InvalidDocumentContent, XDSRepositoryError, and all the registry answers to ITI-42
Effects  each entry gets repositoryUniqueId, hash and size; nothing else of the metadata is touched or judged here
Units    size in bytes; hash SHA-1, lower-case hex
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from atna.message import Outcome
from atna.participants import DocumentReference
from consent.policy import Decision, decide
from ihe import vocabulary as v
from ihe.ebrs import registry_response
from ihe.errors import ErrorCode, RegistryError, Rejected, SoapFault
from ihe.findings import shortened
from ihe.named import submission_named
from ihe.registry_objects import LONG_NAME
from repository.records import origin_of
from repository.registration import Filing, Incoming, out_of_room, register
from repository.room import Room, StagedDocument, TooManyUploads
from repository.screening import MalwareFound, Screened, screen
from repository.store.protocol import Document, StoreUnavailable, Submission, Superseded
from repository.submission import Content, Entry, Provided, complete_entry, digest, read_provided, written
from schemas import violations
from wire.content import attachment_of
from wire.limit_reached import named, reached
from wire.messages import Attachment, Reply, Request

__all__ = ["handle", "judge"]

SHOWN_CHARACTERS: Final = 20
"""A longer size is told by its length: what is cut off it is a number that nobody sent."""
HASH_DIGITS = {64: "SHA-256", 96: "SHA-384", 128: "SHA-512", 32: "MD5"}


@dataclass(frozen=True, slots=True)
class Plan:
    """A submission that can be stored: its set id, and for each entry the number of its Document."""

    submission_set_id: str
    document_of: tuple[int, ...]


def judge(provided: Provided, contents: Sequence[Content]) -> Plan:
    """Pair entries and documents and compare what is said about each; raises Rejected with every error.

    ``contents`` are in the order of ``provided.documents``.
    """
    numbers = {key: number for number, (key, _) in reversed(list(enumerate(provided.documents)))}
    errors = [*_identity_errors(provided), *_pairing_errors(provided)]
    for entry in provided.entries:
        if entry.key in numbers:
            content = contents[numbers[entry.key]]
            errors += [*_hash_errors(entry, content), *_size_errors(entry, content)]
    if errors or provided.unique_id is None:
        raise Rejected(dict.fromkeys(errors))
    return Plan(provided.unique_id, tuple(numbers[entry.key] for entry in provided.entries))


def _metadata_error(text: str) -> RegistryError:
    return RegistryError(ErrorCode.REPOSITORY_METADATA, text)


def _identity_errors(provided: Provided) -> Iterator[RegistryError]:
    """The set and each entry need a uniqueId; no two entries the same (ITI TF-3: 4.2.3.2.26, 4.2.3.3.12)."""
    if provided.unique_id is None:
        yield _metadata_error("the submission must hold exactly one SubmissionSet, with a uniqueId")
    elif len(provided.unique_id) > LONG_NAME:
        yield _metadata_error(f"SubmissionSet.uniqueId {_too_long(provided.unique_id)}")
    for entry in provided.entries:
        if not entry.unique_id:
            yield _metadata_error(f"{entry.name}: uniqueId is missing")
        elif len(entry.unique_id) > LONG_NAME:
            yield _metadata_error(f"{entry.name}: uniqueId {_too_long(entry.unique_id)}")
    for unique_id, count in Counter(entry.unique_id for entry in provided.entries if entry.unique_id).items():
        if count > 1:
            text = f"DocumentEntry.uniqueId {shortened(unique_id)} stands {count} times in the submission"
            yield RegistryError(ErrorCode.REPOSITORY_DUPLICATE_UNIQUE_ID_IN_MESSAGE, text)


def _too_long(identifier: str) -> str:
    # An index of the database finds it, which takes no long texts; no registry takes longer ones either.
    return f"has {len(identifier)} characters; allowed are at most {LONG_NAME}"


def _pairing_errors(provided: Provided) -> Iterator[RegistryError]:
    """Each entry has one Document and each Document one entry (ITI TF-2: 3.41.4.1.2)."""
    entries = Counter(entry.key for entry in provided.entries)
    documents = Counter(key for key, _ in provided.documents)
    for entry in provided.entries:
        if entry.key not in documents:
            text = f"{entry.name} (uniqueId {entry.shown}) has no Document"
            yield RegistryError(ErrorCode.MISSING_DOCUMENT, text)
    for key, count in documents.items():
        shown = shortened(key) or "missing"
        if key not in entries:
            text = f"Document with id {shown} has no DocumentEntry"
            yield RegistryError(ErrorCode.MISSING_DOCUMENT_METADATA, text)
        if count > 1:
            yield _metadata_error(f"Document id {shown} stands {count} times in the message")
    for key, count in entries.items():
        if count > 1:
            shown = shortened(key) or "missing"
            yield _metadata_error(f"DocumentEntry id {shown} stands {count} times in the submission")


def _hash_errors(entry: Entry, content: Content) -> Iterator[RegistryError]:
    """DocumentEntry.hash is SHA-1 in hex, its case does not count (ITI TF-3: 4.2.3.2.10)."""
    said = entry.said("hash")
    if len(said) > 1:
        yield _metadata_error(f"DocumentEntry {entry.shown}: hash has {len(said)} different values")
    elif said and said[0].lower() != content.sha1:
        digits = len(said[0])
        kind = f", which looks like {HASH_DIGITS[digits]}" if digits in HASH_DIGITS else ""
        wanted = "; a SHA-1 of 40 hexadecimal digits is wanted" if digits != len(content.sha1) else ""
        text = (
            f"DocumentEntry {entry.shown}: the hash sent ({digits} digits{kind}) is not that of the document, "
            f"which has {content.size} bytes and a SHA-1 of {len(content.sha1)} digits{wanted}"
        )
        yield _metadata_error(text)


def _size_errors(entry: Entry, content: Content) -> Iterator[RegistryError]:
    """DocumentEntry.size is the number of bytes (ITI TF-3: 4.2.3.2.22)."""
    said = entry.said("size")
    if len(said) > 1:
        yield _metadata_error(f"DocumentEntry {entry.shown}: size has {len(said)} different values")
    elif said and (said[0].lstrip("0") or "0") != str(content.size):
        shown = said[0] if len(said[0]) <= SHOWN_CHARACTERS else f"of {len(said[0])} characters"
        text = f"DocumentEntry {entry.shown}: size {shown} was sent, the document has {content.size} bytes"
        yield _metadata_error(text)


# -------------------------------------------------------------------------------------------------- handling


def handle(request: Request, room: Room) -> Reply:
    """Answer an ITI-41 request; raises SoapFault where its content cannot be read."""
    decision = decide(request.caller, request.transaction.code)
    provided: Provided | None = None
    attachments: list[Attachment] = []
    try:
        provided = _readable(request, room, decision)
        for _, element in provided.documents:
            attachments.append(attachment_of(request, element))
        return Reply((_provide(request, room, provided, attachments, decision),))
    except Rejected as rejected:
        body = registry_response(v.FAILURE, rejected.errors)
        _record_refusal(request, room, provided, decision, rejected)
        return Reply((body,))
    except SoapFault:
        _record_refusal(request, room, provided, decision, None)
        raise
    finally:
        for attachment in attachments:
            if attachment.staged is not None:
                attachment.staged.abort()  # of what a submission has adopted nothing is removed


def _readable(request: Request, room: Room, decision: Decision) -> Provided:
    """The request as its parts; raises Rejected unless it may come in and has the shape it should have."""
    if not decision.permit:
        text = f"{request.transaction.code} is not permitted (rule {decision.rule})"
        raise Rejected([RegistryError(ErrorCode.REPOSITORY_ERROR, text)])
    if _unavailable(room.index.busy):
        raise Rejected([RegistryError(ErrorCode.REPOSITORY_BUSY, "audit records cannot be delivered; try again later")])
    faults = violations(request.body)
    if faults:
        raise Rejected([_metadata_error(fault) for fault in faults])
    provided = read_provided(request.body)
    _refuse_too_many(provided, room.settings.max_documents)
    return provided


def _refuse_too_many(provided: Provided, most: int) -> None:
    """A fault of the submission, not of the day: Busy or OutOfResources would invite to send the same again."""
    found = max(len(provided.documents), len(provided.entries))
    if found > most:
        reached("max_documents")
        text = f"the submission has {found} documents, {most} are allowed in one: divide it"
        raise Rejected([_metadata_error(named(text, "max_documents"))])


def _unavailable(question: Any) -> bool:
    try:
        return bool(question())
    except StoreUnavailable as error:
        raise Rejected([out_of_room(error)]) from error


def _provide(
    request: Request, room: Room, provided: Provided, attachments: Sequence[Attachment], decision: Decision
) -> bytes:
    contents = [Content(attachment.size, attachment.sha1) for attachment in attachments]
    plan = judge(provided, contents)
    _refuse_unstored(room, attachments)
    try:
        screen(room, request, _screened(provided, plan, attachments))
        filing = _filing(request, room, provided, plan=plan, attachments=attachments, decision=decision)
        return register(room, filing).body
    except StoreUnavailable as error:
        raise Rejected([out_of_room(error)]) from error
    except Superseded as error:
        text = "an uploaded document was removed before the message came to its end; send the submission again"
        raise Rejected([RegistryError(ErrorCode.REPOSITORY_ERROR, text)]) from error


def _screened(provided: Provided, plan: Plan, attachments: Sequence[Attachment]) -> list[Screened]:
    """Each document once, with the entries that name it."""
    named: dict[int, tuple[Attachment, list[Entry]]] = {}
    for entry, number in zip(provided.entries, plan.document_of, strict=True):
        named.setdefault(id(attachments[number]), (attachments[number], []))[1].append(entry)
    return [Screened(attachment, tuple(entries)) for attachment, entries in named.values()]


def _refuse_unstored(room: Room, attachments: Sequence[Attachment]) -> None:
    """A document that found no room while it arrived (``StagedDocument`` keeps the fault for us), or finds none now."""
    staged = (attachment.staged for attachment in attachments)
    faults = [one.fault for one in staged if isinstance(one, StagedDocument) and one.fault is not None]
    if not faults:
        try:
            room.keep_room(sum(len(one.data) for one in attachments if one.data is not None))
        except StoreUnavailable as error:
            faults.append(error)
    if any(isinstance(fault, TooManyUploads) for fault in faults):
        reached("max_uploads")
    if any(fault.full for fault in faults):
        reached("min_free_bytes")
    if faults:
        raise Rejected(dict.fromkeys(out_of_room(fault) for fault in faults))


def _filing(
    request: Request,
    room: Room,
    provided: Provided,
    *,
    plan: Plan,
    attachments: Sequence[Attachment],
    decision: Decision,
) -> Filing:
    for entry, number in zip(provided.entries, plan.document_of, strict=True):
        content = Content(attachments[number].size, attachments[number].sha1)
        complete_entry(entry, room.settings.unique_id, content)
    submission = Submission(
        unique_id=plan.submission_set_id,
        digest=digest(provided, [attachments[number].sha1 for number in plan.document_of]),
        patient_id=provided.patient_id,
        origin=origin_of(request),
        attempt=room.new_key(),
        since=room.clock(),
    )
    taken: dict[str, int] = {}
    incoming = tuple(
        _incoming(room, submission, entry, attachments[number], taken)
        for entry, number in zip(provided.entries, plan.document_of, strict=True)
    )
    return Filing(submission, incoming, written(provided), request.caller, decision.rule)


def _incoming(
    room: Room, submission: Submission, entry: Entry, attachment: Attachment, taken: dict[str, int]
) -> Incoming:
    """One entry's document under a key of its own; the first to name staged bytes keeps the key they have."""
    staged = attachment.staged if isinstance(attachment.staged, StagedDocument) else None
    uses = taken.setdefault(staged.key, 0) if staged is not None else 0
    if staged is not None:
        taken[staged.key] += 1
    first = staged is not None and uses == 0
    # Staged bytes keep key and envelope; both are theirs already.
    adopted = staged if first else None
    object_key = room.new_key() if adopted is None else adopted.key
    document = Document(
        object_key=object_key,
        unique_id=entry.unique_id,
        entry_id=entry.object.id or "",
        hash=attachment.sha1,
        size=attachment.size,
        mime_type=(entry.object.mime_type or "").strip() or "application/octet-stream",
        patient_id=entry.patient_id or submission.patient_id,
        attempt=submission.attempt,
        since=submission.since,
        staged=first,
        envelope=room.vault.new_envelope(object_key) if adopted is None else adopted.envelope,
        class_code=entry.class_code,
        created=entry.created,
    )
    return Incoming(document, attachment.data, staged)


def _record_refusal(
    request: Request, room: Room, provided: Provided | None, decision: Decision, rejected: Rejected | None
) -> None:
    """A refusal commits its record alone. If even that is impossible the refusal still stands: nothing was done."""
    codes = "SOAP fault" if rejected is None else ",".join(sorted({str(e.code) for e in rejected.errors}))
    named = submission_named(request.body) if provided is None else provided
    message = room.records.provided(
        origin_of(request),
        patient_id=named.patient_id,
        submission_set_id=named.unique_id,
        outcome=Outcome.SERIOUS_FAILURE,
        reason=codes,
        decision=decision.rule,
    )
    room.record_refusal([*_alerts(request, room, rejected), message])


def _alerts(request: Request, room: Room, rejected: Rejected | None) -> Iterator[bytes]:
    for one in rejected.found if isinstance(rejected, MalwareFound) else ():
        document = DocumentReference(one.unique_id, repository_unique_id=room.settings.unique_id)
        yield room.records.malware(origin_of(request), document, one.name)
