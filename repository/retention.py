"""Documents whose time is over, by rules of the settings (``[[repository.retention]]``); run by hand.

A document is due when the rules say so of every stored copy of it. One that is still registered stays and is counted,
unless its rule says otherwise: the registry is asked as with ITI-86. What goes is removed as by ITI-86, with audit
records that name the rule instead of a transaction, and the operator as who asked for it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from repository.removal import by_patient, references, take_away
from repository.room import Room
from repository.settings import RetentionRule
from repository.store.protocol import Document, StoreUnavailable, Superseded

__all__ = ["Fate", "RegistrySilent", "Report", "RuleReport", "is_due", "run"]

BATCH: Final = 500
TURNS: Final = 4
_DAY: Final = 86_400_000_000


class RegistrySilent(Exception):  # noqa: N818 - an outcome
    """The registry does not say what is still registered: nothing more was removed."""


class Fate(StrEnum):
    """What becomes of a document that is due.

    REGISTERED  it stays: its metadata is still registered
    REMOVABLE   it would go
    REMOVED     it is gone
    HELD        it is gone from every answer, but the store still holds its bytes in plain
    """

    REGISTERED = "registered"
    REMOVABLE = "removable"
    REMOVED = "removed"
    HELD = "held"


@dataclass(frozen=True, slots=True)
class RuleReport:
    """What one rule came to: documents by ``Fate``; ``oldest`` and ``newest`` are the times the rule counts from.

    undated   documents of the class without a creationTime, which a rule that counts from it never reaches
    """

    rule: str
    due: int = 0
    registered: int = 0
    removable: int = 0
    removed: int = 0
    held: int = 0
    undated: int = 0
    oldest: int | None = None
    newest: int | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """``unclassified`` documents have no class here (stored before version 3 of the database): no rule reaches them."""

    rules: tuple[RuleReport, ...]
    unclassified: int


def is_due(document: Document, rules: Mapping[str, RetentionRule], now: int) -> bool:
    """Whether the rule of the document's class, if there is one, makes an end of it."""
    rule = rules.get(document.class_code or "")
    since = None if rule is None else _counted_from(document, rule)
    return rule is not None and since is not None and since < now - rule.days * _DAY


def _counted_from(document: Document, rule: RetentionRule) -> int | None:
    return document.created if rule.after == "creation" else document.since


def run(room: Room, *, remove: bool, operator: str, told: Callable[[str, Fate], None] = lambda *_: None) -> Report:
    """Look at every document a rule may reach, and ``remove`` what is due; ``told`` gets each unique id as it goes.

    Raises RegistrySilent and StoreUnavailable; what was removed until then is, with its records.
    """
    job = _Job(room, {rule.class_code: rule for rule in room.settings.retention}, remove, operator, told, room.clock())
    return Report(tuple(job.of(rule) for rule in room.settings.retention), room.index.unjudged(None))


@dataclass(frozen=True, slots=True)
class _Job:
    room: Room
    rules: Mapping[str, RetentionRule]
    remove: bool
    operator: str
    told: Callable[[str, Fate], None]
    now: int

    def of(self, rule: RetentionRule) -> RuleReport:
        """Every document of one rule, batch by batch in the order of the keys."""
        counts = dict.fromkeys(Fate, 0)
        times: list[int] = []
        beyond = ""
        before = self.now - rule.days * _DAY
        while batch := self.room.index.due(rule.class_code, rule.after, before, beyond, BATCH):
            beyond = batch[-1].object_key
            for fate, documents in self._settled(rule, batch).items():
                for unique_id, since in _first_times(documents, rule).items():
                    counts[fate] += 1
                    times = [min(since, *times), max(since, *times)] if times else [since, since]
                    self.told(unique_id, fate)
        undated = self.room.index.unjudged(rule.class_code) if rule.after == "creation" else 0
        return RuleReport(
            rule.name,
            due=sum(counts.values()),
            **{fate.value: count for fate, count in counts.items()},
            undated=undated,
            oldest=times[0] if times else None,
            newest=times[1] if times else None,
        )

    def _settled(self, rule: RetentionRule, batch: Sequence[Document]) -> Mapping[Fate, Sequence[Document]]:
        for _ in range(TURNS):
            try:
                return self._turn(rule, batch)
            except Superseded:
                continue
        return {}

    def _turn(self, rule: RetentionRule, batch: Sequence[Document]) -> Mapping[Fate, Sequence[Document]]:
        if self.room.index.busy():
            raise StoreUnavailable("audit records cannot be delivered; nothing more is removed")
        due = self._due(rule, batch)
        asked = self.room.registry.registered(by_patient(due))
        if asked.entries is None:
            self.room.index.record_alone(asked.records)
            raise RegistrySilent
        own = self.room.settings.unique_id
        kept = {unique_id for unique_id, repository in asked.entries if repository in {own, ""}}
        if rule.registered == "remove":
            kept = set()
        going = [document for document in due if document.unique_id not in kept]
        found = {Fate.REGISTERED: [document for document in due if document.unique_id in kept]}
        if not self.remove or not going:
            self.room.index.record_alone(asked.records)
            return found | {Fate.REMOVABLE: going}
        held = {one.unique_id for one in take_away(self.room, going, [*asked.records, *self._records(rule, going)])}
        return found | {
            Fate.HELD: [document for document in going if document.unique_id in held],
            Fate.REMOVED: [document for document in going if document.unique_id not in held],
        }

    def _due(self, rule: RetentionRule, batch: Sequence[Document]) -> list[Document]:
        """Every copy of what is due altogether, looked at once: with the first of the copies this rule reaches."""
        copies: dict[str, list[Document]] = {}
        for document in self.room.index.available([one.unique_id for one in batch]):
            copies.setdefault(document.unique_id, []).append(document)
        reached = {one.object_key for one in batch}
        found: list[Document] = []
        for documents in copies.values():
            first = min((one.object_key for one in documents if one.class_code == rule.class_code), default="")
            if first in reached and all(is_due(one, self.rules, self.now) for one in documents):
                found += documents
        return found

    def _records(self, rule: RetentionRule, documents: Iterable[Document]) -> list[bytes]:
        records, own = self.room.records, self.room.settings.unique_id
        return [
            records.removed_by_rule(found, patient_id=patient_id, rule=rule.name, operator=self.operator)
            for patient_id, found in references(documents, own).items()
        ]


def _first_times(documents: Iterable[Document], rule: RetentionRule) -> dict[str, int]:
    """When each unique id's time began by this rule; a copy that another rule covers counts for nothing here."""
    found: dict[str, int] = {}
    for document in documents:
        since = _counted_from(document, rule)
        if document.class_code == rule.class_code and since is not None:
            found[document.unique_id] = min(since, found.get(document.unique_id, since))
    return found
