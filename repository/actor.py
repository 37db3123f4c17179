"""The Document Repository as the wire sees it: its handlers, its staging of large documents, its answer to a defect."""

from collections.abc import Mapping
from typing import Final

from atna.message import Outcome
from atna.participants import DocumentReference
from ihe import vocabulary as v
from ihe.ebrs import registry_response, retrieve_refusal
from ihe.errors import ErrorCode, RegistryError
from ihe.named import submission_named
from ihe.transactions import ITI_41, ITI_43, ITI_86, Transaction
from repository import iti41_provide_and_register_document_set_b as iti41
from repository import iti43_retrieve_document_set as iti43
from repository import iti86_remove_documents as iti86
from repository.records import origin_of
from repository.registration import out_of_room
from repository.room import Room, StagedDocument, Uploads
from repository.store.protocol import Damaged, KeyMissing, ObjectMissing, StoreUnavailable
from wire.messages import Handler, Reply, Request

__all__ = ["RepositoryActor"]


class RepositoryActor:
    """``wire.messages.Actor`` for ITI-41, ITI-43 and ITI-86."""

    def __init__(self, room: Room) -> None:
        self._room: Final = room
        self._uploads: Final = Uploads(room.settings.max_uploads)
        self._handlers: Final[Mapping[Transaction, Handler]] = {
            ITI_41: lambda request: iti41.handle(request, room),
            ITI_43: lambda request: iti43.handle(request, room),
            ITI_86: lambda request: iti86.handle(request, room),
        }

    @property
    def handlers(self) -> Mapping[Transaction, Handler]:
        """What is served here."""
        return self._handlers

    def stage(self, request_id: str, wanted: int | None) -> StagedDocument:
        """Begin to store a large document while it arrives; never raises for want of room (see StagedDocument)."""
        return StagedDocument(self._room, self._uploads, request_id, wanted)

    def failure(self, request: Request, error: Exception) -> Reply:
        """XDSRepositoryError with the request id, audited; what is behind it stands in the log only."""
        if isinstance(error, StoreUnavailable) and request.transaction == ITI_41:
            told = out_of_room(error)
        elif isinstance(error, (StoreUnavailable, Damaged, ObjectMissing, KeyMissing)):
            # It looked right when it was looked at, and the answer had not begun.
            told = RegistryError(
                ErrorCode.REPOSITORY_ERROR, "a document could not be read from the store; send it again"
            )
        else:
            told = RegistryError(ErrorCode.REPOSITORY_ERROR, f"internal error, request {request.request_id}")
        self._room.record_refusal([self._record(request, str(told.code))])
        if request.transaction == ITI_43:
            return Reply((retrieve_refusal([told]),))
        return Reply((registry_response(v.FAILURE, [told]),))

    def _record(self, request: Request, reason: str) -> bytes:
        origin, failed = origin_of(request), Outcome.SERIOUS_FAILURE
        unknown = [DocumentReference("unknown")]
        if request.transaction == ITI_86:
            return self._room.records.removed(origin, unknown, patient_id=None, outcome=failed, reason=reason)
        if request.transaction == ITI_43:
            return self._room.records.retrieved(origin, unknown, patient_id=None, outcome=failed, reason=reason)
        named = submission_named(request.body)
        return self._room.records.provided(
            origin, patient_id=named.patient_id, submission_set_id=named.unique_id, outcome=failed, reason=reason
        )
