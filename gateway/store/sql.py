"""The gateway's database, SQLite and PostgreSQL alike."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from atna.store.engine import DRIVER_ERRORS, Engine, open_engine
from atna.store.outbox import GroupCommit, NotRecorded, Outbox, OutboxUnavailable
from gateway.store.protocol import StoreUnavailable
from gateway.store.tables import metadata, outbox

__all__ = ["SqlGatewayStore", "open_store"]


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
