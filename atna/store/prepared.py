"""The few hot statements, compiled once and then given to the driver as text.

SQLAlchemy Core spends more on building and keying a statement than these take to run. Everything else stays Core.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from sqlalchemy import Connection, Dialect, Executable, Table, bindparam, insert


class Prepared:
    """A statement as the driver wants it: SQL text, and the order of its parameters where they have no names."""

    def __init__(self, statement: Executable, dialect: Dialect) -> None:
        compiled = statement.compile(dialect=dialect)  # type: ignore[attr-defined]
        self.sql: str = compiled.string
        self._order: Sequence[str] | None = getattr(compiled, "positiontup", None)
        # What the dialect adds by itself, e.g. SQLite's OFFSET.
        self._own = {name: value for name, value in compiled.params.items() if value is not None}

    def bound(self, values: Mapping[str, Any]) -> Any:
        """The parameters of one execution."""
        if self._own:
            values = {**self._own, **values}
        return tuple([values[name] for name in self._order]) if self._order is not None else values

    def execute(self, connection: Connection, values: Mapping[str, Any]) -> Any:
        """Run it with these parameters; a CursorResult."""
        return connection.exec_driver_sql(self.sql, self.bound(values))


@cache
def insertion(table: Table, columns: tuple[str, ...], dialect: Dialect) -> Prepared:
    """INSERT of one row with these columns."""
    return Prepared(insert(table).values({name: bindparam(name) for name in columns}), dialect)


def insert_rows(connection: Connection, tables: Iterable[tuple[Table, list[dict[str, Any]]]]) -> None:
    """Insert rows of several tables; PostgreSQL gets them in one pipeline, without waiting for each answer.

    Every row of a table names the same columns. Raises what SQLAlchemy or, inside the pipeline, the driver raises.
    """
    prepared = [(insertion(table, tuple(rows[0]), connection.dialect), rows) for table, rows in tables if rows]
    if connection.dialect.name == "postgresql":
        _pipelined(connection, prepared)
        return
    for statement, rows in prepared:
        connection.exec_driver_sql(statement.sql, [statement.bound(row) for row in rows])


def _pipelined(connection: Connection, prepared: Iterable[tuple[Prepared, list[dict[str, Any]]]]) -> None:
    driver: Any = connection.connection.driver_connection
    with driver.pipeline(), driver.cursor() as cursor:
        for statement, rows in prepared:
            for row in rows:
                cursor.execute(statement.sql, statement.bound(row))
