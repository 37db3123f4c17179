"""What ``warn`` let pass, read back for the operator."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Final

from sqlalchemy import func, select

from atna.store.engine import reading
from ihe.findings import without_id
from registry.store.opening import open_registry
from registry.store.tables import defect

__all__ = ["DefectCount", "read_defects"]

_AT_ONCE: Final = 1000


@dataclass(frozen=True, slots=True)
class DefectCount:
    """One kind of deviation of one partner: how often, and when first and last (as stored, UTC).

    ``context`` names no object, since an id is of one message alone; ``example`` is the last one as it was found.
    """

    partner: str
    code: str
    context: str
    count: int
    first: str
    last: str
    example: str


def read_defects(database_url: str, partner: str | None = None) -> tuple[DefectCount, ...]:
    """By partner, the most frequent first. Raises DatabaseRefused, and SQLAlchemyError when nothing answers."""
    columns = (defect.c.partner, defect.c.code, defect.c.context)
    count, first, last = func.count(), func.min(defect.c.found_at), func.max(defect.c.found_at)
    statement = select(*columns, count, first, last).group_by(*columns)
    if partner is not None:
        statement = statement.where(defect.c.partner == partner)
    engine, _reader = open_registry(database_url)
    try:
        with reading(engine) as connection:
            # As many rows as objects were at fault: they are counted while they are read.
            return _counted(connection.execution_options(yield_per=_AT_ONCE).execute(statement))
    finally:
        engine.dispose()


def _counted(rows: Iterable[Any]) -> tuple[DefectCount, ...]:
    kinds: dict[tuple[str, str, str], DefectCount] = {}
    for partner, code, context, count, first, last in rows:
        kind = partner, code, without_id(context)
        one, old = DefectCount(*kind, count, first, last, context), kinds.get(kind)
        if old is not None:
            newest = max(old, one, key=lambda each: each.last)
            one = replace(newest, count=old.count + count, first=min(old.first, first))
        kinds[kind] = one
    return tuple(sorted(kinds.values(), key=lambda one: (one.partner, -one.count, one.context)))
