"""What a repository's transactions work with, joined by ``repository.app``; and documents on their way in."""

import logging
import threading
from collections.abc import Callable, Collection, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Protocol

from ihe.ebrs import RegistryResponse
from ihe.registry_objects import RegistryObject
from ihe.xua import Caller
from repository.media import HEAD_BYTES
from repository.patience import Patience
from repository.records import Records
from repository.scanner.protocol import NoScanner, Scanner
from repository.settings import RepositorySettings
from repository.store.protocol import (
    Damaged,
    DocumentIndex,
    DocumentStore,
    Envelope,
    KeyMissing,
    Keyring,
    ObjectMissing,
    StoreUnavailable,
    Upload,
)
from repository.store.vault import Vault
from wire.limit_reached import named

__all__ = [
    "AnswerLost",
    "Asked",
    "OfRequest",
    "Refused",
    "Registered",
    "Registry",
    "Room",
    "StagedDocument",
    "TooManyUploads",
    "Unreachable",
    "Uploads",
]

BLOCK_BYTES: Final = 256 * 1024

_log = logging.getLogger(__name__)


class Unreachable(Exception):  # noqa: N818 - an outcome
    """Nothing of the request reached the registry."""


class AnswerLost(Exception):  # noqa: N818 - an outcome
    """The registry may have done what it was asked, or not: no answer that can be read. Its text is for the log."""


class Refused(Exception):  # noqa: N818 - an outcome
    """The registry answered a SOAP fault that says it did not even read the request."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What ITI-18 said about a submission set: its objects, none if it is not there; None if nothing is known.

    ``record`` is the audit record of the question, to be written with whatever follows from it.
    """

    objects: tuple[RegistryObject, ...] | None
    record: bytes


@dataclass(frozen=True, slots=True)
class Registered:
    """Which documents have a DocumentEntry: pairs (unique id, repositoryUniqueId); None if nothing is known.

    ``records`` are the audit records of the questions, to be written with whatever follows from them.
    """

    entries: frozenset[tuple[str, str]] | None
    records: tuple[bytes, ...]


class Registry(Protocol):
    """The registry as this repository sees it."""

    def register(self, submission: bytes, depositor: Caller) -> RegistryResponse:
        """ITI-42. Raises Unreachable, AnswerLost, Refused."""
        ...

    def ask(self, submission_unique_id: str, patient_id: str | None) -> Asked:
        """ITI-18 GetSubmissionSetAndContents."""
        ...

    def registered(self, documents: Mapping[str | None, Sequence[str]]) -> Registered:
        """ITI-18 GetDocuments; ``documents`` are unique ids by the patient id they were stored with."""
        ...


def nothing_granted(_caller: Caller) -> Collection[str]:
    """A domain whose settings list no partner."""
    return ()


class TooManyUploads(StoreUnavailable):
    """``max_uploads`` requests of this process are storing documents already."""


@dataclass(slots=True)
class OfRequest:
    """What the documents of one request know of each other; they are stored and taken back one after the other.

    ``fault`` is why one could not be stored: then no other is tried, for the request is refused anyway. ``patience`` is
    with the store that those stored before are taken back from.
    """

    documents: int = 0
    fault: StoreUnavailable | None = None
    patience: Patience = field(default_factory=Patience)


class Uploads:
    """The requests of this process that store documents while they arrive; at most ``most`` at once.

    A request counts once, from the first of its documents that is stored until the last of them has ended.
    """

    def __init__(self, most: int) -> None:
        self._most: Final = most
        self._lock: Final = threading.Lock()
        self._open: Final[dict[str, OfRequest]] = {}

    def enter(self, request_id: str) -> OfRequest:
        """One more document of a request; raises TooManyUploads."""
        with self._lock:
            if request_id not in self._open and len(self._open) >= self._most:
                text = f"{self._most} uploads are under way already, try again later"
                raise TooManyUploads(named(text, "max_uploads"))
            found = self._open.setdefault(request_id, OfRequest())
            found.documents += 1
            return found

    def leave(self, request_id: str) -> None:
        """One document of a request has ended."""
        with self._lock:
            found = self._open[request_id]
            found.documents -= 1
            if not found.documents:
                del self._open[request_id]


@dataclass(frozen=True, slots=True)
class Room:
    """``clock`` gives microseconds since 1970, UTC; ``new_key`` 32 random hex digits, for objects and attempts.

    Documents are read and written through the ``vault``; the ``store`` knows objects only. ``sealing``: new documents
    are sealed under the ``keyring``.
    ``granted`` gives the transactions that the settings list for a caller beyond what every trusted node may do.
    """

    settings: RepositorySettings
    store: DocumentStore
    index: DocumentIndex
    registry: Registry
    records: Records
    clock: Callable[[], int]
    new_key: Callable[[], str]
    keyring: Keyring | None = None
    sealing: bool = True
    granted: Callable[[Caller], Collection[str]] = nothing_granted
    scanner: Scanner = field(default_factory=NoScanner)

    @property
    def vault(self) -> Vault:
        """The store as documents see it."""
        return Vault(self.store, self.keyring, sealing=self.sealing)

    def keep_room(self, wanted: int) -> None:
        """Raise StoreUnavailable unless ``wanted`` bytes fit beside ``min_free_bytes``, as far as the store knows."""
        least = self.settings.min_free_bytes
        free = self.store.free_bytes() if least else None
        if free is not None and free < wanted + least:
            text = f"no room left in the document store, {least} bytes of which are kept free"
            raise StoreUnavailable(named(text, "min_free_bytes"), full=True)

    def blocks(self, data: bytes | None, staged: "StagedDocument | None") -> Generator[bytes, None, None]:
        """The bytes of a document that has arrived, from memory or from the store; raises StoreUnavailable."""
        if staged is not None:
            try:
                yield from self.vault.open(staged.key, staged.envelope)
            except (ObjectMissing, Damaged, KeyMissing) as error:
                raise StoreUnavailable("an uploaded document cannot be read back from the store") from error
        elif data is not None:
            for start in range(0, len(data), BLOCK_BYTES):
                yield data[start : start + BLOCK_BYTES]

    def record_refusal(self, messages: Sequence[bytes]) -> None:
        """Records of what did not happen, committed alone; if the database refuses them a log line has to do."""
        try:
            self.index.record_alone(messages)
        except StoreUnavailable as error:
            _log.error("%s audit records of a refusal could not be written: %s", len(messages), error)

    def remove(self, keys: Collection[str]) -> bool:
        """Delete objects; False when one could not be deleted, then its row has to stay for the sweep."""
        return len(self.removed(keys)) == len(keys)

    def removed(self, keys: Iterable[str]) -> list[str]:
        """Delete objects; those that are gone now."""
        patience = Patience()
        return [key for key in keys if patience.deleted(partial(self.store.delete, key), key)]


class StagedDocument:
    """A large document that is stored while it arrives, before its metadata is known (``wire.messages.StagedPart``).

    ``uploads`` counts it as one of ``request_id``. ``wanted``: bytes of its message that are still to be stored, at
    most; where there is no room for them none is.
    Its row is durable before its first byte. ``write`` and ``finish`` never raise for want of room or a store that does
    not answer: the message is read to its end, and the handler answers with the right error (``fault``).
    Once ``adopted`` by a submission it is no longer ours to abort. ``head`` is what it begins with.
    """

    def __init__(
        self, room: Room, uploads: Uploads | None = None, request_id: str = "", wanted: int | None = None
    ) -> None:
        self.key: Final = room.new_key()
        self.envelope: Envelope | None = None
        self.fault: StoreUnavailable | None = None
        self.adopted = False
        self.head = b""
        self._room = room
        self._upload: Upload | None = None
        self._begun = False
        self._aborted = False
        self._leave: Callable[[], None] | None = None
        self._siblings = OfRequest()
        try:
            if uploads is not None:
                self._siblings = uploads.enter(request_id)
                self._leave = partial(uploads.leave, request_id)
            self.fault = self._siblings.fault
            if self.fault is None:
                self._begin(wanted or 0)
        except StoreUnavailable as error:
            self.fault = self._siblings.fault = error
        except BaseException:
            self._end()  # nobody gets this object, so nobody could abort it
            raise

    def _begin(self, wanted: int) -> None:
        self._room.keep_room(wanted)
        self.envelope = self._room.vault.new_envelope(self.key)
        self._begun = True
        self._room.index.stage(self.key, self._room.clock(), self.envelope)
        self._upload = self._room.vault.begin(self.key, self.envelope)

    def _end(self) -> None:
        leave, self._leave = self._leave, None
        if leave is not None:
            leave()

    def write(self, block: bytes) -> None:
        """Take the next block."""
        if self._upload is None or self.fault is not None:
            return
        if len(self.head) < HEAD_BYTES:
            self.head += block[: HEAD_BYTES - len(self.head)]
        try:
            self._upload.write(block)
        except StoreUnavailable as error:
            self._fail(error)

    def finish(self) -> None:
        """Make the bytes durable."""
        if self._upload is None or self.fault is not None:
            return
        try:
            self._upload.finish()
        except StoreUnavailable as error:
            self._fail(error)

    def _fail(self, error: StoreUnavailable) -> None:
        self.fault = self._siblings.fault = error
        self._drop()

    def abort(self) -> None:
        """Object first, then row; whatever can't be removed now is left to the sweep. The request is over."""
        try:
            if self._begun and not self.adopted and not self._aborted:
                self._aborted = True
                self._drop()
        finally:
            self._end()

    def _drop(self) -> None:
        gone = self._remove()
        # A store that gave no answer may do late what it was asked to: the row stays until the sweep has looked again.
        late = self.fault is not None and not self.fault.full
        try:
            if gone and not late:
                self._room.index.unstage(self.key)
            else:
                self._room.index.leave(self.key, self._room.clock())
        except StoreUnavailable as error:
            _log.warning("upload %s is left to the sweep: %s", self.key, error)

    def _remove(self) -> bool:
        # Without an upload, too: it may have begun without saying so.
        delete = partial(self._room.store.delete, self.key) if self._upload is None else self._upload.abort
        return self._siblings.patience.deleted(delete, self.key)
