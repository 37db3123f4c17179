"""Where one record stands: what the log keeps beside its message, and whether its link follows from the one before."""

import hashlib

from sqlalchemy import Connection, select

from atna.audit_check import link_of
from atna.record_repository.store.overview import Place
from atna.record_repository.store.partitions import partitions
from atna.record_repository.store.tables import record

__all__ = ["place"]


def place(connection: Connection, number: int) -> Place | None:
    """See ``LogOverview.place``."""
    row = connection.execute(select(record).where(record.c.number == number)).first()
    if row is None:
        return None
    mine = [one for one in partitions(connection) if one.first <= number and (one.last is None or number <= one.last)]
    before, form = None, 0
    if mine:
        form = mine[0].format
        earlier = select(record.c.chain).where(record.c.number == number - 1)
        before = mine[0].start if number == mine[0].first else connection.execute(earlier).scalar()
    via = row.via or ""
    follows = (
        isinstance(before, bytes)
        and isinstance(row.message, bytes)
        and isinstance(row.received_at, int)
        and hashlib.sha256(row.message).digest() == row.sha256
        and link_of(form, before, number, row.received_at, row.sha256, via.encode()) == row.chain
    )
    partition = mine[0].name if mine else ""
    return Place(number, row.received_at, row.repeats, row.sha256, row.chain, follows, via, partition)
