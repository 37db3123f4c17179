"""The gateway's database, SQLite and PostgreSQL alike."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from sqlalchemy import ColumnElement, Connection, and_, delete, insert, select, update

from atna.store.engine import DRIVER_ERRORS, Engine, open_engine, reading, write
from atna.store.outbox import GroupCommit, NotRecorded, Outbox, OutboxUnavailable
from gateway.store.protocol import Remembered, StoreUnavailable
from gateway.store.tables import correlation, metadata, outbox

__all__ = ["SqlGatewayStore", "open_store"]

DROPPED_AT_ONCE: Final = 100
"""Expired answers that one writing of a new one sweeps away."""


def open_store(database_url: str, sinks: Sequence[str], max_rows: int) -> "SqlGatewayStore":
    """The store in this database, its tables made where it is empty. Raises DatabaseRefused, StoreUnavailable."""
    with translated():
        return SqlGatewayStore(open_engine(database_url, metadata), sinks, max_rows)


@contextmanager
def translated() -> Iterator[None]:
    """What SQLAlchemy, the driver or the outbox raises becomes StoreUnavailable, without statement or value."""
    try:
        yield
    except OutboxUnavailable as error:
        raise StoreUnavailable("the outbox of audit records does not answer") from error
    except NotRecorded as error:
        raise StoreUnavailable("the audit records could not be written") from error
    except DRIVER_ERRORS as error:
        raise StoreUnavailable(f"database: {type(getattr(error, 'orig', None) or error).__name__}") from error


def _of(community: str, patient: str) -> ColumnElement[bool]:
    return and_(correlation.c.community == community, correlation.c.patient == patient)


class SqlGatewayStore:
    """``gateway.store.protocol.GatewayStore``; ``sinks`` are where audit records are to go."""

    def __init__(self, engine: Engine, sinks: Sequence[str], max_rows: int) -> None:
        self._engine = engine
        self._group_commit = GroupCommit(engine, outbox, sinks)
        self.outbox: Final = Outbox(engine, outbox, sinks, max_rows)

    def record_alone(self, messages: Sequence[bytes]) -> None:
        """Write audit records, durably, together with those of their neighbours in time."""
        with translated():
            self._group_commit.commit(messages)

    def remembered(self, community: str, patient: str, now: int) -> Remembered | None:
        """What is kept of a patient of ours there, as long as that holds."""
        columns = select(correlation.c.found, correlation.c.expires_at)
        wanted = columns.where(_of(community, patient), correlation.c.expires_at > now)
        with translated(), reading(self._engine) as connection:
            row = connection.execute(wanted).one_or_none()
        return None if row is None else Remembered(tuple(filter(None, row.found.split("\n"))), row.expires_at)

    def remember(self, community: str, patient: str, found: Sequence[str], now: int, expires_at: int) -> None:
        """Keep an answer, in place of an older one."""
        values = {"found": "\n".join(found), "expires_at": expires_at}
        old = select(correlation.c.community, correlation.c.patient).where(correlation.c.expires_at <= now)

        def work(connection: Connection) -> None:
            for row in connection.execute(old.limit(DROPPED_AT_ONCE)).all():
                connection.execute(delete(correlation).where(_of(*row), correlation.c.expires_at <= now))
            changed = connection.execute(update(correlation).where(_of(community, patient)).values(**values))
            if not changed.rowcount:
                connection.execute(insert(correlation).values(community=community, patient=patient, **values))

        with translated():
            write(self._engine, work)

    def busy(self) -> bool:
        """Whether the audit outbox is at its bound."""
        with translated():
            return self.outbox.full()

    def check(self) -> bool:
        """Whether the database answers."""
        with translated():
            return self.outbox.backlog() is not None

    def close(self) -> None:
        """Give all connections up."""
        self._engine.dispose()
