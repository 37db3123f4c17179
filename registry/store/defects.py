"""What ``warn`` let pass, read back for the operator."""

from dataclasses import dataclass

from sqlalchemy import func, select

from atna.store.engine import reading
from registry.store.opening import open_registry
from registry.store.tables import defect

__all__ = ["DefectCount", "read_defects"]


@dataclass(frozen=True, slots=True)
class DefectCount:
    """One kind of deviation of one partner: how often, and when first and last (as stored, UTC)."""

    partner: str
    code: str
    context: str
    count: int
    first: str
    last: str


def read_defects(database_url: str, partner: str | None = None) -> tuple[DefectCount, ...]:
    """By partner, the most frequent first. Raises DatabaseRefused, and SQLAlchemyError when nothing answers."""
    columns = (defect.c.partner, defect.c.code, defect.c.context)
    count, first, last = func.count(), func.min(defect.c.found_at), func.max(defect.c.found_at)
    statement = select(*columns, count, first, last).group_by(*columns).order_by(defect.c.partner, count.desc())
    if partner is not None:
        statement = statement.where(defect.c.partner == partner)
    engine, _reader = open_registry(database_url)
    try:
        with reading(engine) as connection:
            return tuple(DefectCount(*row) for row in connection.execute(statement))
    finally:
        engine.dispose()
