"""Where one record stands: what the log keeps beside its message, and whether its link follows from the one before."""

import hashlib

from sqlalchemy import Connection, select

from atna.record_repository.store import chain
from atna.record_repository.store.overview import Place
from atna.record_repository.store.tables import record

__all__ = ["place"]


def place(connection: Connection, number: int) -> Place | None:
    """See ``LogOverview.place``."""
    row = connection.execute(select(record).where(record.c.number == number)).first()
    if row is None:
        return None
    before = connection.execute(select(record.c.chain).where(record.c.number == number - 1)).scalar()
    if before is None and number == 1:
        before = chain.FIRST_LINK
    follows = (
        isinstance(before, bytes)
        and isinstance(row.message, bytes)
        and isinstance(row.received_at, int)
        and hashlib.sha256(row.message).digest() == row.sha256
        and chain.link(before, number, row.received_at, row.sha256) == row.chain
    )
    return Place(number, row.received_at, row.repeats, row.sha256, row.chain, follows)
