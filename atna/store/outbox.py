"""The outbox: audit records wait here, in the actor's own database, until every sink has them.

A record is written in the same transaction as what it tells of (``add``), or by itself for what changed nothing
(``GroupCommit``). One row per sink and message. The sender takes rows and deletes them by their ids, never "all ids up
to the last seen": parallel transactions become visible out of order. Rows are never dropped; when the bound is reached
the actor refuses work as busy (``full``).

Times are microseconds since 1970, UTC. A message is a complete RFC 5424 record as ``atna.recorder`` made it.
"""

import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Engine,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    delete,
    func,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.exc import SQLAlchemyError

from atna.store.engine import DRIVER_ERRORS, reading, write
from atna.store.prepared import TableRows, insert_rows
from atna.store.quick import Quick

__all__ = ["Backlog", "GroupCommit", "NotRecorded", "Outbox", "OutboxUnavailable", "Row", "add", "outbox_table"]

Clock = Callable[[], float]
"""Seconds since 1970, UTC."""

TABLE: Final = "outbox"
LEASE_TABLE: Final = "outbox_lease"
MICROSECONDS: Final = 1_000_000

FULL_CHECK_S: Final = 0.5
"""How long the answer of ``Outbox.full`` is believed, in seconds."""


class NotRecorded(Exception):  # noqa: N818 - an outcome the actor answers as busy or unavailable
    """The database did not take the audit records; what they tell of must not be answered as done."""


class OutboxUnavailable(Exception):  # noqa: N818 - an outcome: the sender tries again later
    """The database does not answer the sender or the health check."""


@dataclass(frozen=True, slots=True)
class Row:
    """One record on its way to one sink."""

    id: int
    message: bytes


@dataclass(frozen=True, slots=True)
class Backlog:
    """What still waits: number of rows, and the age of the oldest in seconds (0 when empty)."""

    rows: int
    oldest_age_s: float


def outbox_table(metadata: MetaData) -> Table:
    """Declare ``outbox`` and ``outbox_lease`` in an actor's metadata; returns the first."""
    table = Table(
        TABLE,
        metadata,
        Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
        Column("sink", Text, nullable=False),
        Column("created_at", BigInteger, nullable=False),
        Column("message", LargeBinary, nullable=False),
        # Without AUTOINCREMENT SQLite gives the id of a deleted row to a new one, and a slow sender would delete that.
        sqlite_autoincrement=True,
    )
    Index("outbox_by_sink", table.c.sink, table.c.id)
    Table(
        LEASE_TABLE,
        metadata,
        Column("name", Text, primary_key=True),
        Column("holder", Text, nullable=False),
        Column("expires_at", BigInteger, nullable=False),
    )
    return table


def add(
    connection: Connection, table: Table, messages: Sequence[bytes], sinks: Sequence[str], clock: Clock = time.time
) -> None:
    """Write the records inside the caller's transaction; durable when the caller commits."""
    insert_rows(connection, [(table, rows_of(messages, sinks, clock))])


def rows_of(messages: Sequence[bytes], sinks: Sequence[str], clock: Clock = time.time) -> list[dict[str, Any]]:
    """The rows ``add`` would write, for a caller who writes them together with others."""
    created_at = int(clock() * MICROSECONDS)
    return [{"sink": sink, "created_at": created_at, "message": message} for message in messages for sink in sinks]


class Outbox:
    """The outbox as its sender and the health checks see it; every call is a short transaction of its own.

    Every call raises OutboxUnavailable when the database does not answer.
    """

    def __init__(
        self, engine: Engine, table: Table, sinks: Sequence[str], max_rows: int, clock: Clock = time.time
    ) -> None:
        self._engine = engine
        self._table = table
        self._lease = table.metadata.tables[LEASE_TABLE]
        self._clock = clock
        self._checked_at = float("-inf")
        self._full = False
        self.sinks: Final = tuple(sinks)
        self.max_rows: Final = max_rows

    def claim(self, sink: str, limit: int, *, max_bytes: int = 8 * 2**20, skip: Collection[int] = ()) -> list[Row]:
        """The oldest rows for this sink; they stay until deleted, so a sender that dies loses nothing.

        Stops before ``max_bytes`` are passed, but gives one row at least. ``skip``: ids not wanted now.
        """
        table, rows, size = self._table, list[Row](), 0
        statement = select(table.c.id, table.c.message).where(table.c.sink == sink).order_by(table.c.id).limit(limit)
        if skip:
            statement = statement.where(table.c.id.not_in(skip))
        with (
            _asked(),
            reading(self._engine) as connection,
            connection.execute(statement, execution_options={"yield_per": 50}) as found,
        ):
            for row in found:
                size += len(row.message)
                if rows and size > max_bytes:
                    break
                rows.append(Row(row.id, row.message))
        return rows

    def delete(self, sink: str, ids: Sequence[int]) -> None:
        """Forget rows that the sink has taken."""
        if not ids:
            return
        statement = delete(self._table).where(self._table.c.sink == sink, self._table.c.id.in_(ids))
        with _asked():
            write(self._engine, lambda connection: connection.execute(statement))

    def hold_lease(self, holder: str, duration_s: float, *, name: str = TABLE) -> bool:
        """Become or remain the only sender for ``duration_s``; False while another one is.

        Two senders at once (clocks apart, a process that slept) send records twice, which the audit service discards.
        ``name``: an actor's other work of which one process is enough has leases of its own.
        """
        lease, now = self._lease, int(self._clock() * MICROSECONDS)
        mine = {"holder": holder, "expires_at": now + int(duration_s * MICROSECONDS)}
        free = or_(lease.c.holder == holder, lease.c.expires_at < now)

        def take(connection: Connection) -> bool:
            if connection.execute(update(lease).where(lease.c.name == name, free).values(**mine)).rowcount:
                return True
            if connection.execute(select(lease.c.name).where(lease.c.name == name)).first() is not None:
                return False
            connection.execute(insert(lease).values(name=name, **mine))
            return True

        with _asked():
            return write(self._engine, take)

    def release_lease(self, holder: str, *, name: str = TABLE) -> None:
        """Let the next sender begin at once."""
        statement = delete(self._lease).where(self._lease.c.name == name, self._lease.c.holder == holder)
        with _asked():
            write(self._engine, lambda connection: connection.execute(statement))

    def backlogs(self) -> dict[str, Backlog]:
        """What waits for each sink, also for those no longer in ``sinks``; a sink for which nothing waits is absent."""
        ids, sink = self._table.c.id, self._table.c.sink
        oldest = select(sink, func.count().label("rows"), func.min(ids).label("first")).group_by(sink).subquery()
        # Of the records themselves one is looked at for each sink: counting needs the index alone.
        statement = select(oldest.c.sink, oldest.c.rows, self._table.c.created_at).join(
            self._table, ids == oldest.c.first
        )
        with _asked(), reading(self._engine) as connection:
            found = connection.execute(statement).all()
        now = self._clock()
        return {row.sink: Backlog(row.rows, max(0.0, now - row.created_at / MICROSECONDS)) for row in found}

    def backlog(self) -> Backlog:
        """Rows that wait, counted over all sinks; for health checks and the end of a load test."""
        waiting = self.backlogs().values()
        return Backlog(sum(one.rows for one in waiting), max((one.oldest_age_s for one in waiting), default=0.0))

    def full(self) -> bool:
        """Whether the bound is reached and actors must refuse work; up to half a second old."""
        now = self._clock()
        if not 0 <= now - self._checked_at < FULL_CHECK_S:
            self._full = self._reached()
            self._checked_at = now
        return self._full

    def _reached(self) -> bool:
        # The span of ids is never less than the number of rows and costs two look-ups; only a wide span is counted.
        ids = self._table.c.id
        with _asked(), reading(self._engine) as connection:
            first, last = connection.execute(
                select(select(func.min(ids)).scalar_subquery(), select(func.max(ids)).scalar_subquery())
            ).one()
        if first is None or last - first + 1 < self.max_rows:
            return False
        return self.backlog().rows >= self.max_rows


@contextmanager
def _asked() -> Iterator[None]:
    try:
        yield
    except SQLAlchemyError as error:
        raise OutboxUnavailable("the outbox does not answer") from error


@dataclass(slots=True)
class _Ticket:
    """One caller of ``GroupCommit.commit``: woken when its records are settled, or when its turn to lead has come."""

    messages: Sequence[bytes]
    beside: Sequence[TableRows] = ()
    wake: threading.Event = field(default_factory=threading.Event)
    settled: bool = False
    error: Exception | None = None


class GroupCommit:
    """Commits records that belong to no other transaction, many callers in one commit.

    The first caller leads and commits at once; whoever comes meanwhile waits and is committed together by the next
    leader. So a lone caller never waits and a crowd pays for one commit, not for one each.
    """

    def __init__(self, engine: Engine, table: Table, sinks: Sequence[str], clock: Clock = time.time) -> None:
        self._quick = Quick(engine)
        self._table = table
        self._sinks = tuple(sinks)
        self._clock = clock
        self._lock = threading.Lock()
        self._waiting: list[_Ticket] = []
        self._led = False

    def commit(self, messages: Sequence[bytes], beside: Sequence[TableRows] = ()) -> None:
        """Return when the records, and the few rows ``beside`` them, are durable in one commit.

        Raises NotRecorded when the database refuses.
        """
        ticket = _Ticket(messages, beside)
        with self._lock:
            self._waiting.append(ticket)
            leads, self._led = not self._led, True
        if not leads:
            ticket.wake.wait()
        if not ticket.settled:
            self._lead()
        if ticket.error is not None:
            raise NotRecorded("the database refused the audit records") from ticket.error

    def _lead(self) -> None:
        with self._lock:
            group, self._waiting = self._waiting, []
        # Stands until the commit has returned: whatever else goes wrong, nobody is told that a record is durable.
        error: Exception | None = NotRecorded("the commit did not return")
        try:
            rows = rows_of([message for ticket in group for message in ticket.messages], self._sinks, self._clock)
            wanted = [(self._table, rows), *(one for ticket in group for one in ticket.beside)]
            if any(rows for _table, rows in wanted):
                self._quick.insert(wanted)
            error = None
        except DRIVER_ERRORS as refused:
            error = refused
        finally:
            self._settle(group, error)

    def _settle(self, group: Sequence[_Ticket], error: Exception | None) -> None:
        with self._lock:
            for ticket in group:
                ticket.settled, ticket.error = True, error
                ticket.wake.set()
            self._led = bool(self._waiting)
            if self._waiting:
                self._waiting[0].wake.set()
