"""ITI-43 Retrieve Document Set, Initiating Gateway side (ITI TF-2: 3.43, 3.39).

Request  xdsb:RetrieveDocumentSetRequest: 1..n DocumentRequest (HomeCommunityId, RepositoryUniqueId, DocumentUniqueId)
Sent     for our own home ITI-43 to the repositories of this community, for others ITI-39 to each community, once, in
         parallel; the caller's security header goes with it
Reply    xdsb:RetrieveDocumentSetResponse in the order of the request, HomeCommunityId in every DocumentResponse as it
         was asked for. Status Success, PartialSuccess or Failure
Errors   XDSMissingHomeCommunityId, XDSUnknownCommunity, XDSUnknownRepositoryId (of ours), XDSUnavailableCommunity: one
         for each community that is silent, slow, faulty or sends half an answer; and those of the communities, with the
         home of the community as their location
"""

from collections.abc import Sequence
from functools import partial

from gateway.callers import may_consume
from gateway.delivery import Target, Wanted
from gateway.passed_on import security_header
from gateway.retrieval import Plan, ask_repositories, missing_home, retrieve, unknown_home
from gateway.room import Room
from gateway.settings import Community
from ihe.datatypes import normalise_oid_urn
from ihe.ebrs import retrieve_request
from ihe.errors import ErrorCode, RegistryError
from ihe.transactions import ITI_39
from wire.client import Answer
from wire.messages import Reply, Request

__all__ = ["answer"]


def answer(room: Room, request: Request) -> Reply:
    """Answer an ITI-43 request. The audit records are durable before the first byte of the answer."""
    decision = may_consume(room.settings, request.caller, request.transaction.code, room.granted)
    return retrieve(request, room, decision, lambda asked: _plan(room, request, asked))


def _plan(room: Room, request: Request, asked: Sequence[Wanted]) -> Plan:
    plan, ours, header = Plan(), [], security_header(request)
    by_home: dict[str, tuple[Community, list[Wanted]]] = {}
    for wanted in asked:
        home = wanted.request.home
        if not home:
            plan.refuse(wanted, missing_home(room, wanted))
        elif normalise_oid_urn(home) == room.home:
            ours.append(wanted)
        elif (community := room.communities.by_home(home)) is None:
            plan.refuse(wanted, unknown_home(room, wanted))
        else:
            by_home.setdefault(community.home_community_id, (community, []))[1].append(wanted)
    ask_repositories(room, plan, ours, header)
    for community, of_it in by_home.values():
        _ask_community(room, plan, community, tuple(of_it), header)
    return plan


def _ask_community(room: Room, plan: Plan, community: Community, wanted: tuple[Wanted, ...], header: bytes) -> None:
    home, url = community.home_community_id, community.retrieving_url
    if url is None or ITI_39.code not in community.transactions:
        text = f"community {home}: {ITI_39.code} is not exchanged with it"
        error = RegistryError(ErrorCode.UNAVAILABLE_COMMUNITY, text, location=home)
        for one in wanted:
            plan.refuse(one, error)
        return
    target = Target(
        name=f"community {home}",
        home=home,
        url=url,
        wanted=wanted,
        call=partial(_call, room, community, (url, header), retrieve_request((one.key for one in wanted), home)),
        deadline_s=room.settings.deadline_of(community),
        silent=ErrorCode.UNAVAILABLE_COMMUNITY,
        busy=ErrorCode.UNAVAILABLE_COMMUNITY,
        guard=partial(room.communities.guard, community),
    )
    plan.targets.append((target, ITI_39))


def _call(room: Room, community: Community, where: tuple[str, bytes], body: bytes, deadline: float) -> Answer:
    url, header = where
    return room.communities.client(community).call(
        url,
        ITI_39,
        body,
        extra_headers=header,
        deadline=deadline,
        max_bytes=room.settings.max_answer_bytes,
        spool=room.spool,
    )
