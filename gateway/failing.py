"""The answer to a defect of our own, in the form of the transaction, and its record."""

from lxml import etree

from atna.message import Outcome
from atna.participants import UNKNOWN, DocumentReference
from gateway.delivery import Broken
from gateway.room import Room
from gateway.store.protocol import StoreUnavailable
from ihe import ebrs
from ihe import vocabulary as v
from ihe.errors import ErrorCode, RegistryError
from ihe.named import query_named, submission_named
from ihe.transactions import ITI_92
from wire.messages import Reply, Request

__all__ = ["failed"]

_QUERY_ANSWER = f"{{{v.QUERY}}}AdhocQueryResponse"
_RETRIEVED = f"{{{v.XDSB}}}RetrieveDocumentSetResponse"


def failed(room: Room, request: Request, error: Exception) -> Reply:
    """XDSRegistryError or XDSRepositoryError with the request id; busy or unavailable where the database is."""
    retrieving = request.transaction.response_root == _RETRIEVED
    code = ErrorCode.REPOSITORY_ERROR if retrieving else ErrorCode.REGISTRY_ERROR
    if isinstance(error, StoreUnavailable):
        # Without its database nothing can be recorded, and nothing is answered that is not recorded.
        text = "the gateway's database does not answer; try again later"
    else:
        # Broken: nothing of the answer had left, and what was promised is taken back.
        broken = isinstance(error, Broken)
        text = f"{error}; ask for it again" if broken else f"internal error, request {request.request_id}"
        room.store.record_alone([_record(room, request, str(code))])
    return Reply((_refusal(request, [RegistryError(code, text, location=room.home)]),))


def _record(room: Room, request: Request, reason: str) -> bytes:
    parties = room.records.received(request)
    if request.transaction.response_root == _RETRIEVED:
        return room.records.retrieved(
            parties,
            transaction=request.transaction,
            documents=[DocumentReference(UNKNOWN)],
            outcome=Outcome.SERIOUS_FAILURE,
            reason=reason,
        )
    if request.transaction is ITI_92:
        submission = submission_named(request.body)
        return room.records.updated(
            parties,
            transaction=request.transaction,
            patient_id=submission.patient_id,
            submission_set_id=submission.unique_id,
            outcome=Outcome.SERIOUS_FAILURE,
            reason=reason,
            home_community_id=room.home,
        )
    query = query_named(request.body)
    return room.records.queried(
        parties,
        patient_id=next(iter(query.patient_ids), None),
        transaction=request.transaction,
        query_id=query.query_id or UNKNOWN,
        request=etree.tostring(request.body, encoding="UTF-8", with_tail=False),
        outcome=Outcome.SERIOUS_FAILURE,
        reason=reason,
        home_community_id=query.home,
    )


def _refusal(request: Request, errors: list[RegistryError]) -> bytes:
    """Failure with these errors, as the body of this transaction's answer."""
    if request.transaction.response_root == _QUERY_ANSWER:
        return ebrs.adhoc_query_response(v.FAILURE, errors, [])
    if request.transaction.response_root == _RETRIEVED:
        return ebrs.retrieve_refusal(errors)
    return ebrs.registry_response(v.FAILURE, errors)
