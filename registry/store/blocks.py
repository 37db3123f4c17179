"""Long lists of values in statements, a block at a time."""

from collections.abc import Collection, Iterator
from typing import Any, Final

from sqlalchemy import Connection, Table, update

AT_ONCE: Final = 500
"""Values of one IN: both engines look up each of them in an index, and SQLite has a bound on parameters."""


def blocks(values: Collection[Any], at_once: int | None = None) -> Iterator[list[Any]]:
    """All values in order, so that locks come in one order for everybody; nothing for no value.

    ``at_once`` where a statement takes fewer than AT_ONCE.
    """
    most = AT_ONCE if at_once is None else at_once
    ordered = sorted(values)
    for at in range(0, len(ordered), most):
        yield ordered[at : at + most]


def set_values(
    connection: Connection, table: Table, uuids: Collection[str], values: dict[str, Any], *conditions: Any
) -> int:
    """Give these objects these values, those that still meet the conditions; how many did."""
    changed = 0
    for block in blocks(uuids):
        mine = (table.c.entry_uuid.in_(block), *conditions)
        changed += connection.execute(update(table).where(*mine).values(**values)).rowcount
    return changed
