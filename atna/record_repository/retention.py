"""Partitions whose time is over (``audit.retention_days``), looked at or removed by hand; nothing else removes records.

A partition is due when it ended more than so many days ago: each of its records is at least that old. That it goes is
recorded in the log and signed before its first record is gone; what stays is its row in the table of partitions, with
first and last number, links, its last checkpoint, the rule and the time.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from atna.message import Outcome
from atna.node_events import audit_log_removed
from atna.participants import Parties, Writer
from atna.record_repository.indexing import index
from atna.record_repository.signing import SigningKey
from atna.record_repository.store.protocol import Due
from atna.record_repository.store.records import RecordStore
from atna.recorder import Recorder

__all__ = ["NotWhole", "Retention", "Retired"]

_DAY: Final = 86_400_000_000


class NotWhole(Exception):  # noqa: N818 - an outcome, worded for the operator
    """The partition does not hold: what may have been done to it is not wiped away with it."""


@dataclass(frozen=True, slots=True)
class Retired:
    """What became of a partition: ``removed`` records of it in this run, after it was ``begun`` before or not."""

    due: Due
    removed: int
    begun: bool


@dataclass(frozen=True, slots=True)
class Retention:
    """``days`` is the limit, ``None``: what was begun is ended, and no more. ``now``: microseconds since 1970.

    Every call raises StoreUnavailable.
    """

    store: RecordStore
    recorder: Recorder
    days: int | None
    now: int

    @property
    def rule(self) -> str:
        """The rule as audit records, the signed statement and reports name it."""
        return f"ended more than {self.days} days ago"

    def due(self) -> list[Due]:
        """What would go."""
        return self.store.due(self.now - self.days * _DAY if self.days is not None else None)

    def apply(self, key: SigningKey, operator: str) -> Iterator[Retired]:
        """Remove what is due, each partition told of when it is gone. ``operator``: an account of this host.

        Raises NotWhole before anything of a partition goes whose records are not what they were.
        """
        for one in self.due():
            name = one.partition.name
            begun = one.partition.rule is not None
            if not begun:
                found = self.store.verify_chain(partition=name)
                if not found.holds:
                    at = f"record {found.fault_at}: " if found.fault_at is not None else ""
                    raise NotWhole(f"partition {name} is not removed, for the log does not hold: {at}{found.fault}")
                removal = self._record(one, operator)
                begun = not self.store.begin_removal(name, key, self.rule, index(removal))
            removed = 0
            while some := self.store.remove_some(name):
                removed += some
            yield Retired(one, removed, begun)

    def _record(self, one: Due, operator: str) -> bytes:
        host = self.recorder.host
        parties = Parties(Writer.RESPONDER, operator, host, "audit", host, self.recorder.process_id)
        gone = one.partition
        return self.recorder.record(
            audit_log_removed(
                parties,
                partition=gone.name,
                records=(gone.first, gone.last),
                last_link=gone.end,
                rule=self.rule,
                outcome=Outcome.SUCCESS,
            )
        )
