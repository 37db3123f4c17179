"""The transaction of one unit of work; on PostgreSQL it begins when something needs more than one statement.

Most submissions refer to nothing registered: what they ask first needs no lock, and their rows go into one statement,
which is a transaction by itself. The level is READ COMMITTED, where each statement sees what was committed before it,
so that asking before the beginning or after it is the same. SQLite's writers begin at once, one after the other.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Any, Self, cast

from sqlalchemy import Connection

from atna.store.engine import DRIVER_ERRORS, Engine, begin_write, has_something_to_say, is_unavailable
from atna.store.prepared import Prepared, TableRows, insert_rows
from atna.store.quick import Quick
from registry.store.protocol import LostRace

__all__ = ["Transaction"]


class Transaction:
    """Use as a context manager: what has not been written when it is left is rolled back. Raises what drivers raise."""

    def __init__(self, engine: Engine, quick: Quick) -> None:
        self._engine = engine
        self._quick = quick
        self._ending = ExitStack()
        self._begun: Connection | None = None
        self._postgresql = engine.dialect.name == "postgresql"
        self.dialect = engine.dialect

    def __enter__(self) -> Self:
        if not self._postgresql:
            self._begun = self._ending.enter_context(begin_write(self._engine))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return self._ending.__exit__(kind, error, trace)

    @property
    def connection(self) -> Connection:
        """For what locks or changes what is there: the transaction has begun."""
        if self._begun is None:
            self._begun = self._ending.enter_context(begin_write(self._engine))
        return self._begun

    def ask(self, statement: Prepared, values: Mapping[str, Any]) -> Sequence[Any]:
        """The rows of a query that locks nothing."""
        if self._begun is None:
            return self._quick.select(statement, values)
        return cast("Sequence[Any]", statement.execute(self._begun, values).all())

    def write_and_commit(self, rows: Sequence[TableRows]) -> None:
        """New rows, and all that was changed before, durable when it returns. One round trip to the server."""
        if self._begun is None:
            self._quick.insert(rows, once=True)
        else:
            insert_rows(self._begun, rows, commit=True)

    @contextmanager
    def lost_when_cut_off(self) -> Iterator[None]:
        """A connection that breaks before the commit has begun took nothing with it: LostRace, to be run again."""
        try:
            yield
            # The commit travels with what it commits: the last moment at which a broken connection is harmless.
            if self._postgresql and self._begun is not None and has_something_to_say(_driver(self._begun)):
                self._begun.exec_driver_sql("SELECT 1")
        except DRIVER_ERRORS as error:
            if not self._postgresql or self._begun is None or not is_unavailable(error):
                raise
            if not self._begun.invalidated:
                self._begun.invalidate()  # an error of a pipeline came past SQLAlchemy, which would try to roll back
            raise LostRace from error


def _driver(connection: Connection) -> Any:
    return connection.connection.driver_connection
