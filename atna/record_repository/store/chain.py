"""The chain: why a kept record cannot be changed, taken out, put in or moved unnoticed.

The link of record n: SHA-256 over the link of n-1, n (8 octets), the time it was received (8 octets) and the SHA-256
of its message. Before the first stand 32 zero octets. So every later link depends on every earlier record; the last
link is the fingerprint of the whole log, and worth keeping elsewhere: with it even a log rewritten from its start is
found out.

What records are found by is derived from their messages; ``verify`` derives it again. The side tables are compared as
a whole, by a sum over hashes of their rows, because no order of theirs is the order of the records.
"""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any, Final

from sqlalchemy import Connection, Row, select

from atna.record_repository.indexing import Indexed, index
from atna.record_repository.store.protocol import Verification
from atna.record_repository.store.rows import SIDE_TABLES, columns_of, side_rows
from atna.record_repository.store.tables import chain_head, record

__all__ = ["FIRST_LINK", "HEAD", "link", "read_head", "verify"]

FIRST_LINK: Final = bytes(32)
HEAD: Final = "head"
CHUNK: Final = 500
_SUM: Final = 2**128


def link(previous: bytes, number: int, received_at: int, sha256: bytes) -> bytes:
    """The link of record ``number``."""
    return hashlib.sha256(previous + number.to_bytes(8, "big") + received_at.to_bytes(8, "big") + sha256).digest()


def read_head(connection: Connection, *, lock: bool = False) -> tuple[int, bytes] | None:
    """Number and link of the last record, ``None`` in a database never written to; ``lock`` keeps other writers out."""
    statement = select(chain_head.c.number, chain_head.c.chain).where(chain_head.c.name == HEAD)
    row = connection.execute(statement.with_for_update() if lock else statement).first()
    return (row.number, row.chain) if row is not None else None


def verify(connection: Connection) -> Verification:
    """Check the whole log in the caller's snapshot; stops at the first fault."""
    number, last, found_by = 0, FIRST_LINK, 0
    for row in _records(connection):
        if not (isinstance(row.message, bytes) and isinstance(row.received_at, int)):
            # SQLite keeps a value of any kind in any column: whoever edits a message by hand leaves text there.
            return Verification(number, last, row.number, "the message was altered")
        item = index(row.message)
        fault = _fault(row, number + 1, last, item)
        if fault is not None:
            return Verification(number, last, row.number, fault)
        number, last = row.number, row.chain
        found_by += sum(_hash(table, values) for table, rows in side_rows(item, number) for values in rows)
    if (number, last) != (read_head(connection) or (0, FIRST_LINK)):
        return Verification(number, last, number + 1, "the log does not end with its last link")
    if found_by % _SUM != _side_sum(connection):
        return Verification(number, last, None, "the search tables do not say what the records say")
    return Verification(number, last)


def _records(connection: Connection) -> Iterator[Row[Any]]:
    last = None
    while True:
        statement = select(record).order_by(record.c.number).limit(CHUNK)
        rows: Sequence[Row[Any]] = connection.execute(
            statement if last is None else statement.where(record.c.number > last)
        ).all()
        if not rows:
            return
        yield from rows
        last = rows[-1].number


def _fault(row: Row[Any], expected: int, previous: bytes, item: Indexed) -> str | None:
    if row.number != expected:
        return "a record is missing" if row.number > expected else "a record is out of place"
    if item.sha256 != row.sha256:
        return "the message was altered"
    if link(previous, row.number, row.received_at, row.sha256) != row.chain:
        return "the link does not follow from the record before"
    if item.event_at != row.event_at or any(getattr(row, key) != value for key, value in columns_of(item).items()):
        return "what the record is found by was altered"
    return None


def _hash(table: Any, values: dict[str, Any]) -> int:
    text = repr((table.name, *values.values()))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=16).digest(), "big")


def _side_sum(connection: Connection) -> int:
    total = 0
    for table in SIDE_TABLES:
        rows = connection.execute(select(table), execution_options={"yield_per": CHUNK}).mappings()
        total += sum(_hash(table, dict(row)) for row in rows)
    return total % _SUM
