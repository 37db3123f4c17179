"""Documents that have arrived, before anything of them is registered: is there malware in them, are they what is said?

Both read the document back, from memory or from the store, when its message is whole: while it arrives a slow sender
would hold a thread and a scanner for as long as it likes. Each document is read once for the scanner, and its first
block for the media check, whichever entries name it.

Malware       InvalidDocumentContent for each entry, a security alert beside the record of the failed ITI-41
Not scanned   ``scanner_required``: XDSRepositoryBusy, or XDSRepositoryError where sending again would not help;
              else accepted, logged and counted
Media         ``refuse``: InvalidDocumentContent; ``warn``: logged and counted, the answer is the same, since no warning
              of the framework says it

InvalidDocumentContent is the framework's code for a document that does not match its metadata or fails other
requirements on its content (ITI TF-3: Table 4.2.4.1-2); it asks for the uniqueId in codeContext, one error a document.
"""

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Final

import structlog
from prometheus_client import Counter

from ihe.errors import ErrorCode, RegistryError, Rejected
from repository.media import HEAD_BYTES, contradiction
from repository.room import Room, StagedDocument
from repository.scanner.protocol import ScanFailed
from repository.submission import Entry
from wire.messages import Attachment, Request

__all__ = ["Malware", "MalwareFound", "Screened", "screen"]

SCANNED: Final = Counter("dossier_documents_scanned", "Documents by what the malware scanner said", ["result"])
"""``result``: clean, found, failed (not scanned: refused or accepted, as ``scanner_required`` says)."""
MISMATCHES: Final = Counter(
    "dossier_media_mismatches", "Documents whose content is not what mimeType says", ["said", "found"]
)

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Malware:
    """What the scanner found in a document, by the entry that names it."""

    unique_id: str
    name: str


class MalwareFound(Rejected):
    """A submission with malware in it: each is audited as a security alert."""

    def __init__(self, found: Sequence[Malware], also: Sequence[RegistryError]) -> None:
        self.found: Final = tuple(found)
        texts = (f"{one.unique_id}: malware was found in this document; nothing was kept" for one in self.found)
        super().__init__([*(RegistryError(ErrorCode.INVALID_DOCUMENT_CONTENT, text) for text in texts), *also])


@dataclass(frozen=True, slots=True)
class Screened:
    """One document and the entries that name it."""

    attachment: Attachment
    entries: tuple[Entry, ...]


def screen(room: Room, request: Request, documents: Sequence[Screened]) -> None:
    """Judge every document; raises Rejected with every error found, StoreUnavailable where one cannot be read."""
    errors = list(_contradictions(room, request, documents))
    found: list[Malware] = []
    if room.scanner.scans:
        errors += _scanned(room, request, documents, found)
    if found:
        raise MalwareFound(found, errors)
    if errors:
        raise Rejected(errors)


def _blocks(room: Room, attachment: Attachment) -> "closing[Generator[bytes, None, None]]":
    """Closed at once when nobody reads on: an object store's connection goes back to its pool."""
    staged = attachment.staged
    return closing(room.blocks(attachment.data, staged if isinstance(staged, StagedDocument) else None))


# -------------------------------------------------------------------------------------------------- malware


def _scanned(
    room: Room, request: Request, documents: Sequence[Screened], found: list[Malware]
) -> Iterator[RegistryError]:
    """Add what is ``found``; an error for what could not be scanned, where it has to be."""
    for number, document in enumerate(documents):
        attachment = document.attachment
        try:
            with _blocks(room, attachment) as blocks:
                name = room.scanner.scan(blocks, attachment.size)
        except ScanFailed as failed:
            rest = documents[number:] if failed.again else documents[number : number + 1]
            yield from _not_scanned(room, request, rest, failed)
            if failed.again:  # the others would wait for the same scanner
                return
            continue
        SCANNED.labels("clean" if name is None else "found").inc()
        for entry in document.entries if name is not None else ():
            log.error("iti41.malware", document=entry.unique_id, malware=name, **_of(request))
            found.append(Malware(entry.unique_id, name or ""))


def _not_scanned(
    room: Room, request: Request, documents: Sequence[Screened], failed: ScanFailed
) -> Iterator[RegistryError]:
    SCANNED.labels("failed").inc(len(documents))
    required = room.settings.scanner_required
    log.warning("iti41.not_scanned", reason=str(failed), documents=len(documents), refused=required, **_of(request))
    if required:
        code = ErrorCode.REPOSITORY_BUSY if failed.again else ErrorCode.REPOSITORY_ERROR
        later = ", try again later" if failed.again else ""
        unique_id = documents[0].entries[0].unique_id
        yield RegistryError(code, f"{unique_id}: could not be scanned: {failed}{later}; nothing was kept")


# ---------------------------------------------------------------------------------------------------- media


def _contradictions(room: Room, request: Request, documents: Sequence[Screened]) -> Iterator[RegistryError]:
    """An error for each entry that says another type than its document has; none unless they are to be refused."""
    if room.settings.media_check == "off":
        return
    for document in documents:
        data, staged = document.attachment.data, document.attachment.staged
        head = staged.head if isinstance(staged, StagedDocument) else (data or b"")[:HEAD_BYTES]
        for entry in document.entries:
            found = contradiction(entry.object.mime_type or "", head)
            if found is None:
                continue
            MISMATCHES.labels(found.said, found.found).inc()
            facts = {"said": found.said, "found": found.found, "document": entry.unique_id}
            log.warning("iti41.media_mismatch", check=room.settings.media_check, **facts, **_of(request))
            if room.settings.media_check == "refuse":
                text = f"{entry.unique_id}: mimeType is {found.said}, the document is {found.found}"
                yield RegistryError(ErrorCode.INVALID_DOCUMENT_CONTENT, text)


def _of(request: Request) -> dict[str, str | None]:
    return {"request": request.request_id, "peer": request.caller.partner}
