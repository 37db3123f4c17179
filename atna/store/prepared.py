"""The few hot statements, compiled once and then given to the driver as text.

SQLAlchemy Core spends more on building and keying a statement than these take to run. Everything else stays Core.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import cache, lru_cache
from itertools import count
from typing import Any, Final

import psycopg
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


_TOGETHER: Final = 64
"""Rows in one statement; more go one by one: the server keeps few plans, and no statement grows without bound."""

Rows = Sequence[Mapping[str, Any]]
TableRows = tuple[Table, Rows]
"""A table and rows for it, each of which names the same columns."""

Shape = tuple[tuple[Table, tuple[str, ...], int], ...]


def insert_rows(connection: Connection, tables: Iterable[TableRows], *, commit: bool = False) -> None:
    """Insert rows of several tables; PostgreSQL gets them in one statement, and with ``commit`` the end along with it.

    Raises what SQLAlchemy or, on PostgreSQL, the driver raises. What is committed here is not committed twice when the
    connection's transaction ends.
    """
    found = _not_empty(tables)
    if connection.dialect.name == "postgresql":
        driver: Any = connection.connection.driver_connection
        with driver.pipeline():
            _write(driver, found, connection.dialect)
            if commit:
                driver.commit()
        return
    for table, columns, rows in found:
        statement = insertion(table, columns, connection.dialect)
        connection.exec_driver_sql(statement.sql, [statement.bound(row) for row in rows])


def insert_in_autocommit(driver: psycopg.Connection[Any], tables: Iterable[TableRows], dialect: Dialect) -> None:
    """``insert_rows`` on a connection of PostgreSQL's driver that is in autocommit: all rows in one commit."""
    found = _not_empty(tables)
    if _fit_together(found):
        _write(driver, found, dialect)
        return
    with driver.transaction(), driver.pipeline():
        _write(driver, found, dialect)


Found = Sequence[tuple[Table, tuple[str, ...], Rows]]


def _not_empty(tables: Iterable[TableRows]) -> Found:
    return [(table, tuple(rows[0]), rows) for table, rows in tables if rows]


def _fit_together(found: Found) -> bool:
    return sum(len(rows) for _, _, rows in found) <= _TOGETHER


def _write(driver: psycopg.Connection[Any], found: Found, dialect: Dialect) -> None:
    if not found:
        return
    if _fit_together(found):
        shape = tuple((table, columns, len(rows)) for table, columns, rows in found)
        # The driver would look for placeholders in a statement as long as this each time: RawCursor takes the server's.
        with psycopg.RawCursor(driver) as raw:
            raw.execute(_joined(shape, dialect), _texts(found))
        return
    with driver.cursor() as cursor:
        for table, columns, rows in found:
            statement = insertion(table, columns, dialect)
            for row in rows:
                cursor.execute(statement.sql, statement.bound(row))


@lru_cache(maxsize=1024)
def _joined(shape: Shape, dialect: Dialect) -> bytes:
    """One statement for rows of several tables. Foreign keys among them are checked when all of it is done."""
    quote = dialect.identifier_preparer.quote
    parts, number = [], count(1)
    for at, (table, columns, rows) in enumerate(shape):
        values = ", ".join(f"({', '.join(f'${next(number)}' for _ in columns)})" for _ in range(rows))
        names = ", ".join(map(quote, columns))
        # names of our own tables and columns, values as parameters
        parts.append(f"w{at} AS (INSERT INTO {quote(table.name)} ({names}) VALUES {values})")  # noqa: S608 - as said
    return f"WITH {', '.join(parts)} SELECT 1".encode()


def _texts(found: Found) -> list[Any]:
    """Parameters in order; integers as text, or the driver would name a type by their size and none be prepared."""
    values = (row[name] for _, columns, rows in found for row in rows for name in columns)
    return [str(value) if value.__class__ is int else value for value in values]
