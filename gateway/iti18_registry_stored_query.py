"""ITI-18 Registry Stored Query, Initiating Gateway side (ITI TF-2: 3.18, 3.38).

Request  AdhocQueryRequest. A query by patient without home goes to this community's registry (ITI-18) and to every
         community that ITI-38 is exchanged with; any other goes to the one community that AdhocQuery/@home names
Reply    all answers merged, ours first, then those of the communities in the order of the settings
         Success, or PartialSuccess with what came and an error for what did not, or Failure
Errors   XDSMissingHomeCommunityId, XDSUnknownCommunity, XDSStoredQueryMissingParam, XDSStoredQueryParamNumber (more
         than one patient), XDSUnavailableCommunity (one for each that gave no answer that can be used), and those of
         the communities, without XDSUnknownPatientId
Time     ``deadline_s`` of each community, ``gateway.deadline_s`` for all of them
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from atna.message import Outcome
from gateway.callers import may_consume
from gateway.communities import Open
from gateway.fan_out import Call
from gateway.inquiry import OUTCOMES, Inquiry, Sent, codes_of, registry_silent
from gateway.patients import Unknown
from gateway.query_answers import Nonsense, Said, judged, merged, own, unavailable
from gateway.question import ForPatient, for_patient
from gateway.room import Room
from gateway.settings import Community
from ihe.datatypes import normalise_oid_urn
from ihe.errors import ErrorCode, RegistryError, Rejected
from ihe.transactions import ITI_38
from wire.client import NotSent, OutcomeUnknown, PeerFault, for_log
from wire.exchange import trace_of
from wire.messages import Reply, Request

__all__ = ["answer"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Asked:
    """What one community said, and the questions that were sent to it."""

    said: Said
    sent: tuple[Sent, ...] = ()


def answer(room: Room, request: Request) -> Reply:
    """Ask whom it concerns, all at once; merge; recorded before the first byte leaves."""
    decision = may_consume(room.settings, request.caller, request.transaction.code, room.granted)
    inquiry = Inquiry(room, request, decision)
    inquiry.home = inquiry.question.home
    try:
        inquiry.admit()
        ourselves, others = _concerned(inquiry)
        patient = for_patient(request.body) if others and inquiry.question.about_patient else None
    except Rejected as refused:
        return inquiry.refused(refused.errors)
    asked = _ask_all(inquiry, patient, ourselves=ourselves, others=others)
    whole = merged(one.said for one in asked)
    sent = [question for one in asked for question in one.sent]
    inquiry.record(OUTCOMES[whole.status], codes_of(whole.errors), sent)
    return Reply(whole.pieces())


def _concerned(inquiry: Inquiry) -> tuple[bool, tuple[Community, ...]]:
    """Whether our own registry is to be asked, and which other communities; raises Rejected."""
    room, home = inquiry.room, inquiry.question.home
    if home is None:
        if not inquiry.question.about_patient:
            text = "AdhocQuery/@home is required where no patient is named: the home of what the query is about"
            raise Rejected((RegistryError(ErrorCode.MISSING_HOME_COMMUNITY_ID, text),))
        return True, tuple(community for community in room.communities.all() if _answers_queries(community))
    if normalise_oid_urn(home) == room.home:
        return True, ()
    community = room.communities.by_home(home)
    if community is None or not _answers_queries(community):
        text = "AdhocQuery/@home is no community that this gateway asks; use the home that came with the object"
        raise Rejected((RegistryError(ErrorCode.UNKNOWN_COMMUNITY, text),))
    return False, (community,)


def _answers_queries(community: Community) -> bool:
    return community.query_url is not None and ITI_38.code in community.transactions


def _ask_all(
    inquiry: Inquiry, patient: ForPatient | None, *, ourselves: bool, others: Sequence[Community]
) -> list[_Asked]:
    """Everybody at once; one that is late is left behind."""
    calls = [Call(partial(_ask_ourselves, inquiry), inquiry.deadline)] if ourselves else []
    late = [partial(_registry_late, inquiry)] if ourselves else []
    for community in others:
        deadline = inquiry.begun + inquiry.room.settings.deadline_of(community)
        begun: list[Sent] = []
        calls.append(Call(partial(_ask, inquiry, community, patient, deadline, begun), deadline))
        late.append(partial(_late, community, begun))
    results = inquiry.room.fan_out.ask(calls, here=ourselves)
    return [too_late() if result is None else result for result, too_late in zip(results, late, strict=True)]


def _ask_ourselves(inquiry: Inquiry) -> _Asked:
    home = inquiry.room.home
    try:
        said = own(*inquiry.ask_registry(), home)
    except Nonsense as error:
        return _unanswered(inquiry, RegistryError(ErrorCode.REGISTRY_ERROR, f"the registry: {error}", location=home))
    except (NotSent, OutcomeUnknown, PeerFault) as error:
        return _unanswered(inquiry, registry_silent(error, home))
    return _Asked(said, (inquiry.sent_to_registry(OUTCOMES[said.status], codes_of(said.errors)),))


def _registry_late(inquiry: Inquiry) -> _Asked:
    text = "the registry gave no answer in time; send it again later"
    return _unanswered(inquiry, RegistryError(ErrorCode.REGISTRY_NOT_AVAILABLE, text, location=inquiry.room.home))


def _unanswered(inquiry: Inquiry, error: RegistryError) -> _Asked:
    sent = inquiry.sent_to_registry((Outcome.MAJOR_FAILURE,), str(error.code))
    return _Asked(Said(good=False, errors=(error,)), (sent,))


def _ask(
    inquiry: Inquiry, community: Community, patient: ForPatient | None, deadline: float, begun: list[Sent]
) -> _Asked:
    """One community, in a thread of its own: nothing of the request but bytes and texts is touched here.

    ``begun`` takes each question before it leaves.
    """
    home = community.home_community_id
    try:
        if patient is None:
            return _ask_once(inquiry, community, (inquiry.question.handed_on, None), deadline, begun)
        there = inquiry.room.patients.at(community, patient.patient_id, deadline, inquiry.security)
        asked = _Asked(Said(good=True))  # nobody knows the patient there: nothing is asked, and nothing is wrong
        for number, patient_id in enumerate(there):
            same = patient_id == patient.patient_id
            text = inquiry.question.handed_on if same else patient.asked(patient_id)
            one = _ask_once(inquiry, community, (text, patient_id), deadline, begun)
            asked = one if number == 0 else _both(asked, one)
            if not one.said.good:
                break
    except Unknown as unknown:
        return _Asked(unavailable(home, unknown.reason))
    except Exception as error:  # noqa: BLE001 - a defect of ours must not cost the answers of the others
        _log.error("community %s could not be asked: %s", home, trace_of(error))
        return _Asked(unavailable(home, "internal error of this gateway"))
    return asked


def _both(first: _Asked, second: _Asked) -> _Asked:
    """Two answers of a community that knows the patient by several ids."""
    said = Said(
        good=first.said.good or second.said.good,
        objects=(*first.said.objects, *second.said.objects),
        errors=(*first.said.errors, *second.said.errors),
    )
    return _Asked(said, (*first.sent, *second.sent))


def _ask_once(
    inquiry: Inquiry, community: Community, question: tuple[bytes, str | None], deadline: float, begun: list[Sent]
) -> _Asked:
    text, patient_id = question
    room, home, url = inquiry.room, community.home_community_id, community.query_url
    assert url is not None
    sent = partial(Sent, ITI_38, url, text, patient_id, home)
    try:
        with room.communities.guard(community, deadline):
            begun.append(sent((Outcome.MAJOR_FAILURE,), str(ErrorCode.UNAVAILABLE_COMMUNITY)))
            with room.communities.client(community).call(
                url,
                ITI_38,
                text,
                extra_headers=inquiry.security,
                deadline=deadline,
                max_bytes=room.settings.max_answer_bytes,
                plain_only=True,
            ) as answered:
                said = judged(answered.body, home)
    except Open as error:
        return _Asked(unavailable(home, str(error)))
    except (NotSent, OutcomeUnknown, PeerFault, Nonsense) as error:
        why = str(error) if isinstance(error, Nonsense) else for_log(error)
        _log.warning("community %s gave no answer that can be used: %s", home, why)
        said = unavailable(home, f"SOAP fault {error}" if isinstance(error, PeerFault) else str(error))
    else:
        return _Asked(said, (sent(OUTCOMES[said.status], codes_of(said.errors)),))
    return _Asked(said, (sent((Outcome.MAJOR_FAILURE,), codes_of(said.errors)),))


def _late(community: Community, begun: Sequence[Sent]) -> _Asked:
    """It did not even say that it was late: a name that is not resolved, an answer that takes too long to read.

    What left for it by now is on record, and nothing else.
    """
    return _Asked(unavailable(community.home_community_id, "no answer in time"), tuple(begun))
