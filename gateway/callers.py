"""Who may ask the Responding Gateway what: the communities' own lists, then the rules of every actor.

A node that a community names as one of its ``subjects`` may send what is exchanged with that community, no more. A node
that none names may send ITI-38, 39 and 55 like every trusted node, unless ``gateway.callers`` is ``listed``; ITI-92 is
for partners that list it. On plaintext loopback, one machine of one operator, all may.
"""

from collections.abc import Collection, Iterable

from consent.policy import LISTED_PARTNERS_ONLY, PERMIT_LISTED_PARTNER, Decision, decide
from gateway.settings import Community, GatewaySettings
from ihe.xua import Caller

__all__ = ["community_of", "may_ask"]


def community_of(caller: Caller, communities: Iterable[Community]) -> Community | None:
    """The community that names this caller's certificate, by subject or by fingerprint."""
    named = {name for name in (caller.node, caller.fingerprint) if name}
    return next((one for one in communities if not named.isdisjoint(one.subjects)), None)


def may_ask(settings: GatewaySettings, caller: Caller, transaction: str, granted: Collection[str]) -> Decision:
    """Whether ``caller`` may send ``transaction`` to ``/responding``; ``granted`` is what the domain lists for it."""
    community = community_of(caller, settings.communities)
    if community is not None:
        listed = transaction in community.transactions
        return Decision(permit=listed, rule=PERMIT_LISTED_PARTNER if listed else LISTED_PARTNERS_ONLY)
    return decide(caller, transaction, granted, restricted=True if settings.callers == "listed" else None)
