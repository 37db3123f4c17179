"""Where one record stands: what the log keeps beside its message, and whether its link follows from the one before."""

import hashlib
from typing import Any

from sqlalchemy import Connection, Row, select

from atna.audit_check import link_of
from atna.record_repository.store.overview import Place
from atna.record_repository.store.tables import log_partition, record

__all__ = ["place"]


def place(connection: Connection, number: int) -> Place | None:
    """See ``LogOverview.place``."""
    row = connection.execute(select(record).where(record.c.number == number)).first()
    if row is None:
        return None
    within = (
        select(log_partition)
        .where(log_partition.c.first <= number)
        .order_by(log_partition.c.first.desc(), log_partition.c.position.desc())
    )
    partition = connection.execute(within.limit(1)).first()
    follows = partition is not None and _follows(connection, row, partition)
    return Place(
        *(number, row.received_at, row.repeats, row.sha256, row.chain, follows),
        via=row.via or "",
        partition=partition.name if partition is not None else "",
    )


def _follows(connection: Connection, row: Row[Any], partition: Row[Any]) -> bool:
    before = partition.start
    if row.number != partition.first:
        before = connection.execute(select(record.c.chain).where(record.c.number == row.number - 1)).scalar()
    if not (isinstance(before, bytes) and isinstance(row.message, bytes) and isinstance(row.received_at, int)):
        return False  # SQLite keeps a value of any kind in any column
    via = (row.via or "").encode()
    link = link_of(partition.format, before, row.number, row.received_at, row.sha256, via)
    return bool(hashlib.sha256(row.message).digest() == row.sha256 and link == row.chain)
