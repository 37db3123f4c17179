"""ADT^A40 and A37 of ITI-8 Patient Identity Feed, Document Registry side (ITI TF-2: 3.8.4.2; HL7 2.3.1 chapter 3).

Request  A40: one or more groups of PID and MRG; each id of MRG-1 is merged into the id of PID-3 of the same assigning
         authority. A37: two PIDs that were merged by A40 and are two patients after all
Effect   A40: what is kept of the subsumed id counts as of the surviving one; A37: as before the merge. All groups or
         none; no document is touched, all other segments and fields are ignored
Reply    AE  an id that is not of the domain, not known or merged already; two ids of one authority in one PID-3; of A37
             a pair that is not merged
Audit    A40: D for the subsumed, U for the surviving id (ITI TF-2: 3.8.5.1); A37: U for both

The framework has no way back from a merge. A37 unlinks two patients in HL7; here it ends exactly the merge of the two
it names. A24 (link) stays refused, so an A37 about such a link finds no merge and changes nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from atna.message import Action, AuditMessage
from ihe.datatypes import CX, print_cx
from ihe.hl7v2 import MAX_GROUPS, AckCode, ErrorCode, FeedMessage, Identifier
from registry.iti8_patient_identity_feed import (
    TRANSACTION,
    Effect,
    FeedRules,
    Handling,
    Occasion,
    Refused,
    audit_events,
    cx_text,
    expected,
    known_here,
    refusal,
)
from registry.store.patient_protocol import FeedUnitOfWork
from registry.store.protocol import PatientId

__all__ = ["HANDLINGS", "Merges", "Unmerge", "judge_merge", "judge_unmerge"]

_PIDS_OF_AN_UNLINK: Final = 2


@dataclass(frozen=True, slots=True)
class Merges:
    """Pairs (subsumed, surviving), in the order of the message."""

    pairs: tuple[tuple[PatientId, PatientId], ...]

    def write(self, work: FeedUnitOfWork, now: str) -> Effect:
        """Merge them; the first that is refused refuses all."""
        for subsumed, surviving in self.pairs:
            work.merge(subsumed, surviving, now)
        return self

    def audited(self, occasion: Occasion) -> list[AuditMessage]:
        """Two records for each pair."""
        acts = [
            (action, print_cx(CX(*patient)))
            for pair in self.pairs
            for action, patient in zip((Action.DELETE, Action.UPDATE), pair, strict=True)
        ]
        return audit_events(occasion, acts)


@dataclass(frozen=True, slots=True)
class Unmerge:
    """Two ids of which one was merged into the other."""

    one: PatientId
    other: PatientId

    def write(self, work: FeedUnitOfWork, now: str) -> Effect:
        """End the merge."""
        work.unmerge(self.one, self.other, now)
        return self

    def audited(self, occasion: Occasion) -> list[AuditMessage]:
        """A record for each."""
        return audit_events(occasion, [(Action.UPDATE, print_cx(CX(*patient))) for patient in (self.one, self.other)])


def judge_merge(message: FeedMessage, rules: FeedRules) -> Merges:
    """What an A40 is to merge. Raises Refused."""
    if not any(group.prior_identifiers for group in message.groups):
        raise _refused("MRG-1 needs an id: the one that is merged into that of PID-3", "MRG^1^1", missing=True)
    if len(message.groups) > MAX_GROUPS:
        raise _refused(f"more than {MAX_GROUPS} patients in one message", "PID^1^3")
    pairs: dict[tuple[PatientId, PatientId], None] = {}
    for number, group in enumerate(message.groups, 1):
        survivors = known_here(group.identifiers, rules)
        subsumed = known_here(group.prior_identifiers, rules)
        if not survivors:
            raise _refused(expected("PID-3", rules), f"PID^{number}^3")
        if not subsumed:
            raise _refused(expected("MRG-1", rules), f"MRG^{number}^1")
        for old in subsumed:
            pairs[old, _survivor(old, survivors, number)] = None
    return Merges(tuple(pairs))


def _survivor(old: PatientId, survivors: Sequence[PatientId], number: int) -> PatientId:
    same = {patient for patient in survivors if patient[1] == old[1]}
    if len(same) == 1:
        return same.pop()
    text = "PID-3 has no id of the assigning authority of MRG-1" if not same else "PID-3 has two ids of one authority"
    raise _refused(f"{text}: which one survives?", f"PID^{number}^3")


def judge_unmerge(message: FeedMessage, rules: FeedRules) -> Unmerge:
    """Which merge an A37 ends. Raises Refused."""
    if len(message.groups) != _PIDS_OF_AN_UNLINK:
        raise _refused("A37 needs two PID segments: the two patients that are no longer one", "PID^1^3", missing=True)
    found = [known_here(group.identifiers, rules) for group in message.groups]
    for number, patients in enumerate(found, 1):
        if not patients:
            raise _refused(expected("PID-3", rules), f"PID^{number}^3")
    pairs = {(one, other) for one in found[0] for other in found[1] if one[1] == other[1] and one != other}
    if len(pairs) != 1:
        raise _refused("the two PID-3 need one id each of the same assigning authority", "PID^2^3")
    return Unmerge(*pairs.pop())


def _refused(text: str, location: str, *, missing: bool = False) -> Refused:
    code = ErrorCode.REQUIRED_FIELD_MISSING if missing else ErrorCode.UNKNOWN_KEY_IDENTIFIER
    return refusal(AckCode.ERROR, code, text, location)


def _merge_refused(message: FeedMessage, rules: FeedRules, occasion: Occasion) -> list[AuditMessage]:
    prior = [identifier for group in message.groups for identifier in group.prior_identifiers]
    return audit_events(occasion, [*_acts(Action.DELETE, prior, rules), *_acts(Action.UPDATE, _named(message), rules)])


def _unmerge_refused(message: FeedMessage, rules: FeedRules, occasion: Occasion) -> list[AuditMessage]:
    return audit_events(occasion, _acts(Action.UPDATE, _named(message), rules))


def _named(message: FeedMessage) -> list[Identifier]:
    return [one for group in message.groups for one in group.identifiers] or list(message.identifiers)


def _acts(action: Action, identifiers: Sequence[Identifier], rules: FeedRules) -> list[tuple[Action, str | None]]:
    return [(action, cx_text(identifier, rules)) for identifier in identifiers[:MAX_GROUPS]]


HANDLINGS: Final = {
    "A40": Handling(TRANSACTION, judge_merge, _merge_refused),
    "A37": Handling(TRANSACTION, judge_unmerge, _unmerge_refused),
}
"""The events of this module, to be given to the feed."""
