"""The hottest statements, straight through the driver: a query that needs no transaction, an insertion that is one.

On PostgreSQL they run on connections of their own in autocommit: one round trip instead of four. On SQLite a query
takes the driver's connection from the engine's pool, an insertion is an ordinary write.
"""

import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, TypeVar

import psycopg

from atna.store.engine import (
    IDLE_PING_S,
    POSTGRESQL_OPTIONS,
    POSTGRESQL_SESSION,
    Engine,
    begin_write,
    has_something_to_say,
)
from atna.store.prepared import Prepared, TableRows, insert_in_autocommit, insert_rows

__all__ = ["Quick"]

T = TypeVar("T")
_MOST_IDLE: Final = 40
REST_S: Final = 60.0
"""A connection that nobody wanted for so long is closed when another one comes back."""


Idle = list[tuple[psycopg.Connection[Any], float]]
"""Connections, and since when (``time.monotonic``) each has been at rest, in this order."""


class Quick:
    """Thread safe. Raises what the drivers raise, wrapped by SQLAlchemy or bare; ask ``atna.store.engine``."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.dialect = engine.dialect
        self._postgresql = engine.dialect.name == "postgresql"
        self._idle: Idle = []
        self._lock = threading.Lock()
        weakref.finalize(self, _close_all, self._idle)

    def select(self, statement: Prepared, values: Mapping[str, Any]) -> list[Any]:
        """All rows of one query, as tuples."""
        if self._postgresql:
            return self._with_connection(lambda connection: _selected(connection, statement, values))
        connection = self._engine.raw_connection()
        try:
            cursor = connection.cursor()
            cursor.execute(statement.sql, statement.bound(values))
            return list(cursor.fetchall())
        finally:
            connection.close()

    def change(self, statement: Prepared, values: Mapping[str, Any]) -> list[Any]:
        """What one statement of PostgreSQL returns that writes; a commit of its own, durable then, never sent twice."""
        return self._with_connection(lambda connection: _selected(connection, statement, values), again=False)

    def insert(self, tables: Sequence[TableRows], *, once: bool = False) -> None:
        """Insert rows, of one table or several, in one commit, durable when it returns.

        Where the connection breaks meanwhile they are written again, so twice perhaps; ``once``: the error is raised.
        """
        if self._postgresql:
            work = partial(insert_in_autocommit, tables=tables, dialect=self.dialect)
            self._with_connection(work, again=not once)
            return
        with begin_write(self._engine) as connection:
            insert_rows(connection, tables)

    def _with_connection(self, work: Callable[[psycopg.Connection[Any]], T], *, again: bool = True) -> T:
        connection, fresh = self._lent()
        try:
            found = work(connection)
        except psycopg.OperationalError:
            # Idle connections die with their server. A query may be run again, as it changes nothing, and so may what
            # writes audit records alone: one that is written twice is known by its bytes as one.
            lives = not connection.broken
            connection.close()
            if fresh or lives or not again:
                raise
            self._forget()
            connection, _ = self._lent()
            found = work(connection)
        except BaseException:
            connection.close()
            raise
        self._keep(connection)
        return found

    def _keep(self, connection: psycopg.Connection[Any]) -> None:
        """The last that came back is lent first, so that the others rest where there are more than are needed."""
        now = time.monotonic()
        rested: Idle = []
        with self._lock:
            self._idle.append((connection, now))
            while len(self._idle) > _MOST_IDLE or now - self._idle[0][1] > REST_S:
                rested.append(self._idle.pop(0))
        _close_all(rested)

    def _lent(self) -> tuple[psycopg.Connection[Any], bool]:
        while (kept := self._newest()) is not None:
            if _answers(*kept):
                return kept[0], False
            kept[0].close()
        arguments, options = self._engine.dialect.create_connect_args(self._engine.url)
        connection = psycopg.connect(*arguments, **{**POSTGRESQL_OPTIONS, **options}, autocommit=True)
        for setting in POSTGRESQL_SESSION:
            connection.execute(f"SET {setting}")
        return connection, True

    def _newest(self) -> tuple[psycopg.Connection[Any], float] | None:
        with self._lock:
            return self._idle.pop() if self._idle else None

    def _forget(self) -> None:
        with self._lock:
            _close_all(self._idle)

    def close(self) -> None:
        """Close what is idle; whoever uses it afterwards opens anew."""
        self._forget()


def _answers(connection: psycopg.Connection[Any], since: float) -> bool:
    """Whether its server is there; one that vanished without a word is found out by asking, after some rest alone."""
    if has_something_to_say(connection):
        return False
    if time.monotonic() - since < IDLE_PING_S:
        return True
    try:
        connection.execute("SELECT 1")
    except psycopg.OperationalError:
        return False
    return True


def _close_all(connections: Idle) -> None:
    while connections:
        connections.pop()[0].close()


def _selected(connection: psycopg.Connection[Any], statement: Prepared, values: Mapping[str, Any]) -> list[Any]:
    with connection.cursor(binary=True) as cursor:
        return cursor.execute(statement.sql, statement.bound(values)).fetchall()
