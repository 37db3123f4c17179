"""A search counted by spans of time. Bounded: the newest records are counted, the rest is only known to be there."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Connection, case, func, literal, select, union_all

from atna.record_repository.store.overview import Counts, Span
from atna.record_repository.store.protocol import Criteria
from atna.record_repository.store.searching import searches
from atna.record_repository.store.tables import record

__all__ = ["count_spans"]

SUCCESS: Final = 0


def count_spans(connection: Connection, criteria: Criteria, starts: Sequence[int], most: int) -> Counts:
    """See ``LogOverview.count_spans``. What is older than the first start counts to the first span."""
    # What says no time counts where it came.
    moment = case((record.c.event_at == 0, record.c.received_at), else_=record.c.event_at).label("moment")
    # One more than may be counted, to know whether there is more; it is taken off the oldest span below.
    newest = [
        one.with_only_columns(moment, record.c.outcome).limit(most + 1).subquery()
        for one in searches(criteria, oldest_first=False, after=None)
    ]
    found = union_all(*(select(one) for one in newest)).limit(most + 1).subquery()
    placed = select(_span_of(found.c.moment, starts).label("span"), found.c.outcome).subquery()
    span, outcome = placed.c.span, placed.c.outcome
    rows = connection.execute(select(span, outcome, func.count().label("records")).group_by(span, outcome))
    spans: dict[int, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for row in rows:
        kind = "unknown" if row.outcome is None else "success" if row.outcome == SUCCESS else "failed"
        spans[row.span][kind] += row.records
    total = sum(sum(kinds.values()) for kinds in spans.values())
    if total > most:
        oldest = spans[min(spans)]
        oldest[max(oldest, key=lambda kind: oldest[kind])] -= 1
    counted = tuple(Span(**spans[number]) if number in spans else Span() for number in range(len(starts)))
    return Counts(counted, complete=total <= most)


def _span_of(moment: Any, starts: Sequence[int]) -> Any:
    if len(starts) == 1:
        return literal(0)
    return case(*((moment < start, number) for number, start in enumerate(starts[1:])), else_=len(starts) - 1)
