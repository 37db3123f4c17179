"""How a partition ends: signed and on record first, then record by record, at last its row says that it is gone.

Each step is a transaction of its own, bounded in records and bytes. Killed anywhere, the next run goes on: a partition
that is being removed loses its records from the first one on, so what is left of it is still one chain to its end.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Connection, Table, and_, bindparam, delete, func, select, update

from atna.audit_check import Removal
from atna.record_repository.indexing import index
from atna.record_repository.store.partitions import CLOSED, REMOVED, REMOVING, named, partitions
from atna.record_repository.store.protocol import Due, LogPartition
from atna.record_repository.store.rows import side_rows
from atna.record_repository.store.signed import Signer, write
from atna.record_repository.store.tables import log_partition, record

__all__ = ["due", "mark", "remove_some"]

RECORDS: Final = 500
OCTETS: Final = 8 * 2**20


def due(connection: Connection, before: int | None) -> list[Due]:
    """What is half removed, and each closed partition that ended before ``before`` (``None``: none of these)."""
    return [
        _counted(connection, one)
        for one in partitions(connection)
        if one.state == REMOVING
        or (one.state == CLOSED and before is not None and one.closed_at is not None and one.closed_at < before)
    ]


def _counted(connection: Connection, one: LogPartition) -> Due:
    within = record.c.number.between(one.first, one.last)
    counts = (func.count(), func.coalesce(func.sum(func.length(record.c.message)), 0))
    times = (func.min(record.c.received_at), func.max(record.c.received_at))
    found = connection.execute(select(*counts, *times).where(within)).one()
    return Due(one, *found)


def mark(connection: Connection, name: str, signer: Signer, rule: str, now: int) -> bool:
    """Sign the removal and its last link; False when it was begun already. Takes the lock of the chain's head."""
    write(connection, signer, now)
    one = named(connection, name)
    if one is None or one.state != CLOSED:
        return False
    removal = Removal(one, rule, now, signer.id)
    said = {"removed_at": now, "rule": rule, "key_id": signer.id, "signature": signer.sign(removal.text)}
    mine = log_partition.c.name == name
    connection.execute(update(log_partition).where(mine).values(state=REMOVING, **said))
    return True


def remove_some(connection: Connection, name: str) -> int:
    """Remove the first records that are left, at most ``RECORDS``; 0: none were left, and now the row says so."""
    one = named(connection, name)
    if one is None or one.state != REMOVING:
        return 0
    going = _first(connection, one)
    if not going:
        connection.execute(update(log_partition).where(log_partition.c.name == name).values(state=REMOVED))
        return 0
    rows: dict[Table, list[Mapping[str, Any]]] = {}
    for number, message in going:
        for table, values in side_rows(index(message), number):
            rows.setdefault(table, []).extend(values)
    for table, gone in rows.items():
        _delete(connection, table, gone)
    numbers = record.c.number.between(going[0][0], going[-1][0])
    connection.execute(delete(record).where(numbers))
    return len(going)


def _first(connection: Connection, one: LogPartition) -> Sequence[tuple[int, bytes]]:
    within = record.c.number.between(one.first, one.last)
    wanted = select(record.c.number, record.c.message).where(within).order_by(record.c.number).limit(RECORDS)
    found: list[tuple[int, bytes]] = []
    size = 0
    with connection.execute(wanted, execution_options={"yield_per": 20}) as rows:
        for row in rows:
            size += len(row.message)
            if found and size > OCTETS:
                break
            found.append((row.number, row.message))
    return found


def _delete(connection: Connection, table: Table, rows: Iterable[Mapping[str, Any]]) -> None:
    every = [{f"is_{name}": value for name, value in row.items()} for row in rows]
    if every:
        keys = and_(*(table.c[name.removeprefix("is_")] == bindparam(name) for name in every[0]))
        connection.execute(delete(table).where(keys), every)
