"""Who may ask the gateways what: the communities' own lists, then the rules of every actor.

A node that a community names as one of its ``subjects`` may send what is exchanged with that community, no more. A node
that none names may send ITI-38, 39 and 55 like every trusted node, unless ``gateway.callers`` is ``listed``; ITI-92 is
for communities that list it, and for a certificate that the domain lists by its fingerprint: this listener trusts the
authorities of all partners, and each of them can give any name. ``/initiating`` is for the consumers of this community:
a node of a partner may ask there only what the domain lists for it, and with ``listed`` so may everybody. On plaintext
loopback, one machine of one operator, all may.
"""

from collections.abc import Callable, Collection, Iterable
from dataclasses import replace

from consent.policy import LISTED_PARTNERS_ONLY, PERMIT_LISTED_PARTNER, Decision, decide
from gateway.settings import Community, GatewaySettings
from ihe.transactions import ITI_92
from ihe.xua import Caller

__all__ = ["community_of", "may_ask", "may_consume"]


def community_of(caller: Caller, communities: Iterable[Community]) -> Community | None:
    """The community that names this caller's certificate, by subject or by fingerprint."""
    named = {name for name in (caller.node, caller.fingerprint) if name}
    return next((one for one in communities if not named.isdisjoint(one.subjects)), None)


Granted = Callable[[Caller], Collection[str]]
"""What the domain's settings list for a caller, by subject or by fingerprint."""


def may_ask(settings: GatewaySettings, caller: Caller, transaction: str, granted: Granted) -> Decision:
    """Whether ``caller`` may send ``transaction`` to ``/responding``."""
    community = community_of(caller, settings.communities)
    if community is not None:
        listed = transaction in community.transactions
        return Decision(permit=listed, rule=PERMIT_LISTED_PARTNER if listed else LISTED_PARTNERS_ONLY)
    by_fingerprint = transaction == ITI_92.code
    listed_for = granted(replace(caller, node=None) if by_fingerprint else caller)
    return decide(caller, transaction, listed_for, restricted=_only_listed(settings))


def may_consume(settings: GatewaySettings, caller: Caller, transaction: str, granted: Granted) -> Decision:
    """Whether ``caller`` may send ``transaction`` to ``/initiating``."""
    partner_s = community_of(caller, settings.communities) is not None
    return decide(caller, transaction, granted(caller), restricted=True if partner_s else _only_listed(settings))


def _only_listed(settings: GatewaySettings) -> bool | None:
    return True if settings.callers == "listed" else None
