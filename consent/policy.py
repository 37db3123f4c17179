"""The one decision point: may this caller do this, and what of it may be seen.

Today's rule is one: a node that got through the door (its certificate, or loopback) may do everything, and sees
everything. What this does NOT do yet, said plainly: no patient's consent is read, no confidentiality level is looked
at, no person is known (user assertions are not read), no organisation is kept from another's documents. The shape is
final: each handler asks here, keeps the rule's name in the audit record, and gives ``visibility`` to the store, which
has to apply it in its WHERE clauses.
"""

from dataclasses import dataclass, field
from typing import Final

from ihe.xua import Caller

__all__ = ["EVERYTHING", "PERMIT_TRUSTED_NODE", "Decision", "Visibility", "decide"]

PERMIT_TRUSTED_NODE: Final = "permit-trusted-node"
"""Name of the rule, as audit records carry it."""


@dataclass(frozen=True, slots=True)
class Visibility:
    """Which registered objects a caller may learn of; counts, associations, folders and sets obey it too.

    ``everything`` is the only value that exists today. A store that is given a value it cannot apply must refuse it:
    ``if not visibility.everything: raise``, never show all.
    """

    everything: bool = True


EVERYTHING: Final = Visibility()


@dataclass(frozen=True, slots=True)
class Decision:
    """``permit`` or not, the ``rule`` that said so (for the audit record), and how much is ``visibility``."""

    permit: bool
    rule: str
    visibility: Visibility = field(default=EVERYTHING)


def decide(caller: Caller, transaction: str) -> Decision:
    """Whether ``caller`` may do ``transaction`` (``ITI-42``, ``ITI-8``); never raises.

    Every node that reached a handler was trusted by the listener that let it in, so today every answer is yes.
    """
    del caller, transaction
    return Decision(permit=True, rule=PERMIT_TRUSTED_NODE)
