"""ITI-38 Cross Gateway Query, Responding Gateway side (ITI TF-2: 3.38): any stored query of ITI-18.

Request  AdhocQueryRequest, handed on whole to this community's registry (ITI-18), known parameters and unknown;
         AdhocQuery/@home is ours, and required where no patient is named
Reply    the registry's answer with our home on every object and reference, and as the location of every error
Errors   XDSUnknownCommunity, XDSMissingHomeCommunityId, XDSRegistryNotAvailable, XDSRegistryBusy, XDSTooManyResults
         (an answer over ``max_answer_bytes``), XDSRegistryError; all that the registry says, XDSUnknownPatientId too
"""

from typing import Any

from atna.message import Outcome
from gateway.callers import may_ask
from gateway.inquiry import OUTCOMES, Inquiry, codes_of, registry_silent
from gateway.query_answers import stamped
from gateway.question import Question
from gateway.room import Room
from ihe import ebrs
from ihe import vocabulary as v
from ihe.datatypes import normalise_oid_urn
from ihe.ebrs import read_registry_response
from ihe.errors import ErrorCode, RegistryError, Rejected
from wire.client import NotSent, OutcomeUnknown, PeerFault
from wire.messages import Reply, Request

__all__ = ["answer"]


def answer(room: Room, request: Request) -> Reply:
    """Ask our registry and pass on what it says; recorded before the first byte leaves."""
    decision = may_ask(room.settings, request.caller, request.transaction.code, room.granted)
    inquiry = Inquiry(room, request, decision, room.home)
    try:
        inquiry.admit()
        _belongs_here(inquiry.question, room.home)
    except Rejected as refused:
        return inquiry.refused(refused.errors)
    try:
        body, objects = inquiry.ask_registry()
    except (NotSent, OutcomeUnknown, PeerFault) as error:
        return _without_registry(inquiry, registry_silent(error, room.home))
    return _passed_on(inquiry, body, objects)


def _belongs_here(question: Question, home: str) -> None:
    if question.home is None:
        if not question.about_patient:
            text = f"AdhocQuery/@home is required where no patient is named; this community is {home}"
            raise Rejected((RegistryError(ErrorCode.MISSING_HOME_COMMUNITY_ID, text),))
    elif normalise_oid_urn(question.home) != home:
        text = f"AdhocQuery/@home is not this community, which is {home}"
        raise Rejected((RegistryError(ErrorCode.UNKNOWN_COMMUNITY, text),))


def _passed_on(inquiry: Inquiry, body: Any, objects: bytes | None) -> Reply:
    response = read_registry_response(body)
    if response.status not in OUTCOMES:
        text = "the registry's answer has no known status"
        return _without_registry(inquiry, RegistryError(ErrorCode.REGISTRY_ERROR, text, location=inquiry.room.home))
    pieces = stamped(body, objects, inquiry.room.home)
    outcomes, reason = OUTCOMES[response.status], codes_of(response.errors)
    inquiry.record(outcomes, reason, [inquiry.sent_to_registry(outcomes, reason)])
    return Reply(pieces)


def _without_registry(inquiry: Inquiry, error: RegistryError) -> Reply:
    sent = inquiry.sent_to_registry((Outcome.MAJOR_FAILURE,), str(error.code))
    inquiry.record((Outcome.SERIOUS_FAILURE,), str(error.code), [sent])
    return Reply((ebrs.adhoc_query_response(v.FAILURE, [error], ()),))
