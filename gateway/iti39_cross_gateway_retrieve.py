"""ITI-39 Cross Gateway Retrieve, Responding Gateway side (ITI TF-2: 3.39).

Request  xdsb:RetrieveDocumentSetRequest: 1..n DocumentRequest (HomeCommunityId, which must be ours; RepositoryUniqueId,
         DocumentUniqueId)
Sent     ITI-43 to each repository of this community that is asked for, once, in parallel; the caller's
         security header goes with it
Reply    xdsb:RetrieveDocumentSetResponse in the order of the request, HomeCommunityId in every DocumentResponse as it
         was asked for, NewRepositoryUniqueId and NewDocumentUniqueId as the repository gave them. Status Success,
         PartialSuccess or Failure
Errors   XDSMissingHomeCommunityId, XDSUnknownCommunity, XDSUnknownRepositoryId, XDSRepositoryError, XDSRepositoryBusy,
         XDSRepositoryOutOfResources, and those of the repositories; each with our home as its location
"""

from collections.abc import Sequence
from typing import Final

from gateway.callers import may_ask
from gateway.delivery import Wanted
from gateway.passed_on import security_header
from gateway.retrieval import Plan, ask_repositories, missing_home, retrieve, unknown_home
from gateway.room import Room
from ihe.datatypes import normalise_oid_urn
from wire.messages import Reply, Request

__all__ = ["answer"]

REPOSITORIES_SHARE: Final = 0.6
"""Of ``deadline_s``: who asks us and waits as long as we would still hears of the repositories that did answer."""


def answer(room: Room, request: Request) -> Reply:
    """Answer an ITI-39 request. The audit records are durable before the first byte of the answer."""
    decision = may_ask(room.settings, request.caller, request.transaction.code, room.granted)
    return retrieve(request, room, decision, lambda asked: _plan(room, request, asked))


def _plan(room: Room, request: Request, asked: Sequence[Wanted]) -> Plan:
    plan, ours = Plan(), []
    for wanted in asked:
        if not wanted.request.home:
            plan.refuse(wanted, missing_home(room, wanted))
        elif normalise_oid_urn(wanted.request.home) != room.home:
            plan.refuse(wanted, unknown_home(room, wanted))
        else:
            ours.append(wanted)
    deadline_s = room.settings.deadline_s * REPOSITORIES_SHARE
    ask_repositories(room, plan, ours, security_header(request), deadline_s)
    return plan
