"""Keeps records and finds them again. One writer at a time, over all processes: who appends holds the chain's head."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from sqlalchemy import Connection, Engine, Row, and_, insert, select, tuple_, update

from atna.audit_check import FIRST_LINK, Checkpoint, link_of
from atna.record_repository.indexing import Indexed
from atna.record_repository.store import counting, placing, retiring, signed
from atna.record_repository.store.exporting import NotExported, export, exportable
from atna.record_repository.store.overview import Counts, Place
from atna.record_repository.store.partitions import FORMAT, HEAD, opened_for, partition_of, read_head
from atna.record_repository.store.protocol import (
    Criteria,
    Cursor,
    Due,
    Kept,
    LogPartition,
    Stored,
    StoreUnavailable,
    Trust,
    Verification,
)
from atna.record_repository.store.reindexing import refuse_unfinished
from atna.record_repository.store.rows import SIDE_TABLES, insert_rows, record_row, side_rows
from atna.record_repository.store.searching import COLUMNS, counts, searches, stored
from atna.record_repository.store.tables import chain_head, metadata, record
from atna.record_repository.store.verifying import listed_keys, verify
from atna.store.engine import DRIVER_ERRORS, open_engine, reading, write

__all__ = ["NotExported", "RecordStore", "StoreUnavailable"]

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
        engine = open_engine(url, metadata)
        try:
            refuse_unfinished(engine)
        except BaseException:
            engine.dispose()
            raise
        return cls(engine, clock)

    def close(self) -> None:
        """Give the connections back."""
        self._engine.dispose()

    def answers(self) -> bool:
        """Whether the database can be asked (health check)."""
        with self._snapshot() as connection:
            read_head(connection)
        return True

    def keep(self, batch: Sequence[Indexed], *, via: str | Sequence[str] = "") -> Kept:
        """Append the records that are new, in order; durable when this returns."""
        received_at = int(self._clock() * MICROSECONDS)
        origins = [via] * len(batch) if isinstance(via, str) else via
        with _asked():
            return write(self._engine, lambda connection: _append(connection, batch, received_at, origins))

    def find(
        self, criteria: Criteria, *, limit: int, oldest_first: bool = False, after: Cursor | None = None
    ) -> list[Stored]:
        """Records by time of the event; ``after`` continues where a page ended."""
        rows: list[Row[Any]] = []
        with self._snapshot() as connection:
            for statement in searches(criteria, oldest_first=oldest_first, after=after):
                if len(rows) < limit:
                    rows += connection.execute(statement.limit(limit - len(rows))).all()
            partitions = partition_of(connection, [row.number for row in rows])
        return [stored(row, partitions) for row in rows]

    def count(self, criteria: Criteria) -> int:
        """How many records there are of this kind."""
        with self._snapshot() as connection:
            return sum(connection.execute(statement).scalar_one() for statement in counts(criteria))

    def last_number(self) -> int:
        """The number of the newest record, 0 when there is none."""
        with self._snapshot() as connection:
            head = read_head(connection)
        return 0 if head is None else head[0]

    def numbers_of(self, batch: Sequence[Indexed]) -> list[int | None]:
        """The number under which the bytes of each are kept; ``None`` where they are not."""
        with self._snapshot() as connection:
            known = _known(connection, batch)
        return [known.get((item.event_at, item.sha256)) for item in batch]

    def get(self, number: int) -> Stored | None:
        """One record by its number."""
        with self._snapshot() as connection:
            row = connection.execute(COLUMNS.where(record.c.number == number)).first()
            return stored(row, partition_of(connection, [number])) if row is not None else None

    def count_spans(self, criteria: Criteria, starts: Sequence[int], *, most: int) -> Counts:
        """Count the newest ``most`` records by spans of time; see ``LogOverview``."""
        with self._snapshot() as connection:
            return counting.count_spans(connection, criteria, starts, most)

    def place(self, number: int) -> Place | None:
        """A record's place by its number."""
        with self._snapshot() as connection:
            return placing.place(connection, number)

    def verify_chain(self, trust: Trust = Trust(), *, partition: str | None = None) -> Verification:  # noqa: B008
        """Read the log in one snapshot and check every link, message, search row and checkpoint of it."""
        with self._snapshot() as connection:
            return verify(connection, trust, partition)

    def exportable(self, partition: str) -> LogPartition:
        """The partition as it is now. Raises NotExported: there is no such partition, or it was removed."""
        with self._snapshot() as connection:
            return exportable(connection, partition)

    def export(self, partition: str, put: Callable[[bytes], object]) -> int:
        """Hand a partition to ``put``, bit by bit, as ``atna.audit_check`` reads it; the number of records.

        Raises NotExported before the first octet: there is no such partition, or it was removed.
        """
        with self._snapshot() as connection:
            return export(connection, partition, put)

    def checkpoint(self, signer: signed.Signer) -> Checkpoint | None:
        """Sign the log as it is now, and each partition that ended unsigned; the last one, ``None``: nothing new."""
        now = int(self._clock() * MICROSECONDS)
        with _asked():
            return write(self._engine, lambda connection: signed.write(connection, signer, now))

    def checkpoint_due(self, *, records: int, interval_s: float) -> bool:
        """Whether so many records, or any for so long, have no checkpoint yet."""
        now, interval = int(self._clock() * MICROSECONDS), int(interval_s * MICROSECONDS)
        with self._snapshot() as connection:
            return signed.is_due(connection, now, records=records, interval=interval)

    def last_checkpoint(self) -> Checkpoint | None:
        """The last one written."""
        with self._snapshot() as connection:
            return signed.latest(connection)

    def known_keys(self) -> dict[str, bytes]:
        """Key id to public key, of every key that ever signed here."""
        with self._snapshot() as connection:
            return listed_keys(connection)

    def due(self, before: int | None) -> list[Due]:
        """Partitions that are half removed, and closed ones that ended before this time, microseconds since 1970."""
        with self._snapshot() as connection:
            return retiring.due(connection, before)

    def begin_removal(self, partition: str, signer: signed.Signer, rule: str, told: Indexed) -> bool:
        """Sign that a closed partition goes, and append the record that tells of it; False: it was begun already."""
        now = int(self._clock() * MICROSECONDS)

        def begin(connection: Connection) -> bool:
            begun = retiring.mark(connection, partition, signer, rule, now)
            if begun:
                _append(connection, [told], now, [""])
            return begun

        with _asked():
            return write(self._engine, begin)

    def remove_some(self, partition: str) -> int:
        """Remove some records of a partition whose removal was begun; 0: none are left."""
        with _asked():
            return write(self._engine, lambda connection: retiring.remove_some(connection, partition))

    @contextmanager
    def _snapshot(self) -> Iterator[Connection]:
        with _asked(), reading(self._engine) as connection:
            yield connection


@contextmanager
def _asked() -> Iterator[None]:
    try:
        yield
    except DRIVER_ERRORS as error:
        raise StoreUnavailable("the audit database does not answer") from error


def _append(connection: Connection, batch: Sequence[Indexed], received_at: int, origins: Sequence[str]) -> Kept:
    head = read_head(connection, lock=True)
    if head is None:  # two first writers: one loses at the primary key and comes again
        head = (0, FIRST_LINK)
        connection.execute(insert(chain_head).values(name=HEAD, number=head[0], chain=head[1]))
    fresh = _without_repeats(connection, batch)
    if fresh:
        via = {id(item): origin for item, origin in zip(batch, origins, strict=True)}
        _chained(connection, [(item, via[id(item)]) for item in fresh], head, received_at)
    return Kept(len(fresh), len(batch) - len(fresh), sum(not item.readable for item in fresh))


def _chained(
    connection: Connection, fresh: Sequence[tuple[Indexed, str]], head: tuple[int, bytes], received_at: int
) -> None:
    number, last = head[0], opened_for(connection, received_at, head)
    rows: dict[Any, list[dict[str, Any]]] = {table: [] for table in (record, *SIDE_TABLES)}
    for item, via in fresh:
        number += 1
        last = link_of(FORMAT, last, number, received_at, item.sha256, via.encode())
        rows[record].append(record_row(item, number, last, received_at, via))
        for table, values in side_rows(item, number):
            rows[table] += values
    for table, values in rows.items():
        insert_rows(connection, table, values)
    connection.execute(update(chain_head).where(chain_head.c.name == HEAD).values(number=number, chain=last))


def _without_repeats(connection: Connection, batch: Sequence[Indexed]) -> list[Indexed]:
    """The records not known yet, each once; repeats are counted at the record they repeat."""
    known = set(_known(connection, batch))
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


def _known(connection: Connection, batch: Sequence[Indexed]) -> dict[tuple[int, bytes], int]:
    """The records of the batch that are kept already, and their numbers."""
    key = tuple_(record.c.event_at, record.c.sha256)
    known: dict[tuple[int, bytes], int] = {}
    for start in range(0, len(batch), CHUNK):
        asked = [(item.event_at, item.sha256) for item in batch[start : start + CHUNK]]
        found = connection.execute(select(record.c.event_at, record.c.sha256, record.c.number).where(key.in_(asked)))
        known |= {(row.event_at, row.sha256): row.number for row in found}
    return known
