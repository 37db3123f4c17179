"""Records of an older version, indexed anew: what a step of the schema leaves to be done outside of its transaction.

The step empties the tables that records are found by and leaves a row in ``index_state``. ``reindex`` reads the records
in the order of the chain, writes what ``index`` says of each, and moves the mark with it, some hundred records in one
transaction: it may be broken off at any moment and started again. Until it has come to the end the log is not opened,
since a search would overlook what is not indexed yet. Needs no other writer: the services are stopped for
``dossier db upgrade``.
"""

from typing import Any, Final

from sqlalchemy import Connection, Engine, delete, select, update
from sqlalchemy.dialects import postgresql, sqlite

from atna.record_repository.indexing import Indexed, index
from atna.record_repository.store.rows import columns_of, side_rows
from atna.record_repository.store.tables import index_state, record
from atna.store.engine import DatabaseRefused, new_engine, reading, write

__all__ = ["refuse_unfinished", "reindex", "waits_for_index"]

CHUNK: Final = 300
INDEX: Final = "index"


def refuse_unfinished(engine: Engine) -> None:
    """Raise DatabaseRefused while records wait to be indexed."""
    if _waits(engine):
        raise DatabaseRefused(
            f"database {engine.url.render_as_string()}: not all its records are indexed yet; run: dossier db upgrade"
        )


def waits_for_index(url: str) -> bool:
    """Whether records wait to be indexed; ``url`` is of a database of this program's version."""
    engine = new_engine(url, read_only=True)
    try:
        return _waits(engine)
    finally:
        engine.dispose()


def _waits(engine: Engine) -> bool:
    with reading(engine) as connection:
        return connection.execute(select(index_state.c.number)).first() is not None


def reindex(url: str) -> int:
    """Index what waits for it; gives how many records that were. Raises what SQLAlchemy raises and DatabaseRefused."""
    engine = new_engine(url)
    total = 0
    try:
        while (done := write(engine, _some)) is not None:
            total += done
    finally:
        engine.dispose()
    return total


def _some(connection: Connection) -> int | None:
    """The next records; ``None`` when none wait, and then the mark is gone."""
    # The mark is locked, so that two upgrades take turns.
    mark = connection.execute(select(index_state.c.number).with_for_update()).scalar()
    if mark is None:
        return None
    columns = (record.c.number, record.c.message)
    waiting = select(*columns).where(record.c.number > mark).order_by(record.c.number).limit(CHUNK)
    rows = connection.execute(waiting).all()
    if not rows:
        connection.execute(delete(index_state))
        return None
    sides: dict[Any, list[dict[str, Any]]] = {}
    for row in rows:
        item = index(row.message)
        connection.execute(update(record).where(record.c.number == row.number).values(**_values(item)))
        for table, values in side_rows(item, row.number):
            sides.setdefault(table, []).extend(values)
    # A service nobody stopped may have written some of them since the step; both engines have the same words for it.
    new_rows = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    for table, values in sides.items():
        if values:
            connection.execute(new_rows(table).on_conflict_do_nothing(), values)
    connection.execute(update(index_state).values(number=rows[-1].number))
    return len(rows)


def _values(item: Indexed) -> dict[str, Any]:
    return {"event_at": item.event_at, **columns_of(item)}
