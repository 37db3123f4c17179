"""The one decision point: may this caller do this, and what of it may be seen.

Today's rules are two. A node that got through the door (its certificate, or loopback) may put in and get out, and sees
everything. What changes or removes what others registered, reaches over patients, or reads the audit log is for
partners alone whose settings list that transaction; on plaintext loopback, which is one machine of one operator, for
all.

What this does NOT do yet, said plainly: no patient's consent is read, no confidentiality level is looked at, no person
is known (user assertions are not read), no organisation is kept from another's documents. The shape is final: each
handler asks here, keeps the rule's name in the audit record, and gives ``visibility`` to the store, which has to apply
it in its WHERE clauses.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final

from ihe.xua import Caller

__all__ = [
    "EVERYTHING",
    "LISTED_PARTNERS_ONLY",
    "PERMIT_LISTED_PARTNER",
    "PERMIT_TRUSTED_NODE",
    "RESTRICTED",
    "Decision",
    "Visibility",
    "decide",
]

PERMIT_TRUSTED_NODE: Final = "permit-trusted-node"
PERMIT_LISTED_PARTNER: Final = "permit-listed-partner"
LISTED_PARTNERS_ONLY: Final = "listed-partners-only"
"""Names of the rules, as audit records carry them."""

RESTRICTED: Final = frozenset(
    {"ITI-47", "ITI-51", "ITI-57", "ITI-61", "ITI-62", "ITI-64", "ITI-81", "ITI-86", "ITI-92"}
)
"""Transactions that a partner may do only where the settings list them for it."""


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


def decide(
    caller: Caller, transaction: str, granted: Collection[str] = (), *, restricted: bool | None = None
) -> Decision:
    """Whether ``caller`` may do ``transaction`` (``ITI-42``, ``ITI-8``); never raises.

    ``granted`` are the transactions that the settings list for this caller. ``restricted`` overrides the table for a
    part of a transaction, such as a merge in a patient feed.
    """
    if not (transaction in RESTRICTED if restricted is None else restricted):
        return Decision(permit=True, rule=PERMIT_TRUSTED_NODE)
    if transaction in granted or caller.on_plaintext_loopback:
        return Decision(permit=True, rule=PERMIT_LISTED_PARTNER)
    return Decision(permit=False, rule=LISTED_PARTNERS_ONLY)
