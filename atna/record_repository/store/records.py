"""Keeps records and finds them again. One writer at a time, over all processes: who appends holds the chain's head."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from sqlalchemy import Connection, Engine, and_, insert, select, tuple_, update
from sqlalchemy.exc import SQLAlchemyError

from atna.record_repository.indexing import Indexed
from atna.record_repository.store import chain, counting, placing
from atna.record_repository.store.overview import Counts, Place
from atna.record_repository.store.protocol import Criteria, Cursor, Kept, Stored, StoreUnavailable, Verification
from atna.record_repository.store.rows import SIDE_TABLES, insert_rows, record_row, side_rows
from atna.record_repository.store.searching import COLUMNS, search, stored
from atna.record_repository.store.tables import chain_head, metadata, record
from atna.store.engine import open_engine, reading, write

__all__ = ["RecordStore", "StoreUnavailable"]

MICROSECONDS: Final = 1_000_000
CHUNK: Final = 500


class RecordStore:
    """The records of one database. Every call blocks; every call raises StoreUnavailable."""

    def __init__(self, engine: Engine, clock: Callable[[], float] = time.time) -> None:
        self._engine = engine
        self._clock = clock

    @classmethod
    def open(cls, url: str, clock: Callable[[], float] = time.time) -> "RecordStore":
        """Open, and create when empty. Raises DatabaseRefused as ``open_engine`` does."""
        return cls(open_engine(url, metadata), clock)

    def close(self) -> None:
        """Give the connections back."""
        self._engine.dispose()

    def answers(self) -> bool:
        """Whether the database can be asked (health check)."""
        with self._snapshot() as connection:
            chain.read_head(connection)
        return True

    def keep(self, batch: Sequence[Indexed]) -> Kept:
        """Append the records that are new, in order; durable when this returns."""
        received_at = int(self._clock() * MICROSECONDS)
        with _asked():
            return write(self._engine, lambda connection: _append(connection, batch, received_at))

    def find(
        self, criteria: Criteria, *, limit: int, oldest_first: bool = False, after: Cursor | None = None
    ) -> list[Stored]:
        """Records by time of the event; ``after`` continues where a page ended."""
        statement = search(criteria, oldest_first=oldest_first, after=after).limit(limit)
        with self._snapshot() as connection:
            return [stored(row) for row in connection.execute(statement)]

    def get(self, number: int) -> Stored | None:
        """One record by its number."""
        with self._snapshot() as connection:
            row = connection.execute(COLUMNS.where(record.c.number == number)).first()
        return stored(row) if row is not None else None

    def count_spans(self, criteria: Criteria, starts: Sequence[int], *, most: int) -> Counts:
        """Count the newest ``most`` records by spans of time; see ``LogOverview``."""
        with self._snapshot() as connection:
            return counting.count_spans(connection, criteria, starts, most)

    def place(self, number: int) -> Place | None:
        """A record's place by its number."""
        with self._snapshot() as connection:
            return placing.place(connection, number)

    def verify_chain(self) -> Verification:
        """Read the whole log in one snapshot and check every link, every message and what it is found by."""
        with self._snapshot() as connection:
            return chain.verify(connection)

    @contextmanager
    def _snapshot(self) -> Iterator[Connection]:
        with _asked(), reading(self._engine) as connection:
            yield connection


@contextmanager
def _asked() -> Iterator[None]:
    try:
        yield
    except SQLAlchemyError as error:
        raise StoreUnavailable("the audit database does not answer") from error


def _append(connection: Connection, batch: Sequence[Indexed], received_at: int) -> Kept:
    head = chain.read_head(connection, lock=True)
    if head is None:  # two first writers: one loses at the primary key and comes again
        head = (0, chain.FIRST_LINK)
        connection.execute(insert(chain_head).values(name=chain.HEAD, number=head[0], chain=head[1]))
    number, last = head
    fresh = _without_repeats(connection, batch)
    rows: dict[Any, list[dict[str, Any]]] = {table: [] for table in (record, *SIDE_TABLES)}
    for item in fresh:
        number += 1
        last = chain.link(last, number, received_at, item.sha256)
        rows[record].append(record_row(item, number, last, received_at))
        for table, values in side_rows(item, number):
            rows[table] += values
    for table, values in rows.items():
        insert_rows(connection, table, values)
    if fresh:
        connection.execute(update(chain_head).where(chain_head.c.name == chain.HEAD).values(number=number, chain=last))
    return Kept(len(fresh), len(batch) - len(fresh), sum(not item.readable for item in fresh))


def _without_repeats(connection: Connection, batch: Sequence[Indexed]) -> list[Indexed]:
    """The records not known yet, each once; repeats are counted at the record they repeat."""
    known = _known(connection, batch)
    fresh: list[Indexed] = []
    repeats: list[Indexed] = []
    for item in batch:
        key = (item.event_at, item.sha256)
        (repeats if key in known else fresh).append(item)
        known.add(key)
    seen_now = {(item.event_at, item.sha256) for item in fresh}
    for item in repeats:
        # A repeat within the batch is counted in the answer; its record is not written yet.
        if (item.event_at, item.sha256) not in seen_now:
            same = and_(record.c.event_at == item.event_at, record.c.sha256 == item.sha256)
            connection.execute(update(record).where(same).values(repeats=record.c.repeats + 1))
    return fresh


def _known(connection: Connection, batch: Sequence[Indexed]) -> set[tuple[int, bytes]]:
    key = tuple_(record.c.event_at, record.c.sha256)
    known: set[tuple[int, bytes]] = set()
    for start in range(0, len(batch), CHUNK):
        asked = [(item.event_at, item.sha256) for item in batch[start : start + CHUNK]]
        found = connection.execute(select(record.c.event_at, record.c.sha256).where(key.in_(asked)))
        known |= {(row.event_at, row.sha256) for row in found}
    return known
