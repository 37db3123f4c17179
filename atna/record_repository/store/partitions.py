"""Partitions of the log: one for each calendar month (UTC) of reception, opened by the first record of its month.

A clock that is a little behind another one's at the turn of a month opens nothing: a record that comes up to a day
before the open partition began is put there. A clock that was wrong by more does not bind those after it: what
follows opens a partition of its own month again, ``2026-11.2`` where there is one already.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import Connection, Row, func, insert, select, update

from atna.audit_check import FIRST_LINK, partition_start
from atna.record_repository.store.protocol import LogPartition
from atna.record_repository.store.tables import chain_head, log_partition

__all__ = [
    "CLOSED",
    "FORMAT",
    "HEAD",
    "OPEN",
    "REMOVED",
    "REMOVING",
    "named",
    "opened_for",
    "partition_of",
    "partitions",
    "read_head",
]

OPEN: Final = "open"
CLOSED: Final = "closed"
REMOVING: Final = "removing"
REMOVED: Final = "removed"

FORMAT: Final = 2
HEAD: Final = "head"
_DAY: Final = 86_400_000_000
_MONTH: Final = len("2026-11")


def read_head(connection: Connection, *, lock: bool = False) -> tuple[int, bytes] | None:
    """Number and link of the last record, ``None`` in a database never written to; ``lock`` keeps other writers out."""
    statement = select(chain_head.c.number, chain_head.c.chain).where(chain_head.c.name == HEAD)
    row = connection.execute(statement.with_for_update() if lock else statement).first()
    return (row.number, row.chain) if row is not None else None


def partitions(connection: Connection) -> Iterator[LogPartition]:
    """Every partition, in order."""
    head = read_head(connection) or (0, FIRST_LINK)
    for row in connection.execute(select(log_partition).order_by(log_partition.c.position)).all():
        yield _partition(row, head)


def named(connection: Connection, name: str) -> LogPartition | None:
    """One of them."""
    row = connection.execute(select(log_partition).where(log_partition.c.name == name)).first()
    return _partition(row, read_head(connection) or (0, FIRST_LINK)) if row is not None else None


def partition_of(connection: Connection, numbers: list[int]) -> dict[int, str]:
    """The name of the partition that each number lies in."""
    if not numbers:
        return {}
    columns = (log_partition.c.name, log_partition.c.first)
    first = select(func.max(log_partition.c.first)).where(log_partition.c.first <= min(numbers)).scalar_subquery()
    within = select(*columns).where(log_partition.c.first >= first, log_partition.c.first <= max(numbers))
    found = connection.execute(within.order_by(log_partition.c.first.desc())).all()
    return {number: next(row.name for row in found if row.first <= number) for number in numbers if found}


def opened_for(connection: Connection, received_at: int, head: tuple[int, bytes]) -> bytes:
    """The link that the next record follows: the head's, or the start of the partition that this opens for it.

    The caller holds the head locked, and keeps a record at ``received_at`` in the same transaction.
    """
    open_one = connection.execute(
        select(log_partition.c.position, log_partition.c.name, log_partition.c.opened_at).where(
            log_partition.c.state == OPEN
        )
    ).first()
    if open_one is not None and not _is_due(open_one.name, open_one.opened_at, received_at):
        return head[1]
    if open_one is not None:
        connection.execute(
            update(log_partition)
            .where(log_partition.c.position == open_one.position)
            .values(state=CLOSED, last=head[0], end=head[1], closed_at=received_at)
        )
    name = _free_name(connection, _month(received_at))
    first = head[0] + 1
    start = partition_start(head[1], first, name)
    position = connection.execute(select(func.coalesce(func.max(log_partition.c.position), 0) + 1)).scalar_one()
    connection.execute(
        insert(log_partition).values(
            position=position,
            name=name,
            format=FORMAT,
            first=first,
            start=start,
            opened_at=received_at,
            state=OPEN,
        )
    )
    return start


def _month(received_at: int) -> str:
    return datetime.fromtimestamp(received_at // 1_000_000, UTC).strftime("%Y-%m")


def _is_due(name: str, opened_at: int, received_at: int) -> bool:
    month, its_month = _month(received_at), name[:_MONTH]
    return month > its_month or (month < its_month and received_at < opened_at - _DAY)


def _free_name(connection: Connection, month: str) -> str:
    like = select(func.count()).where(log_partition.c.name.like(f"{month}%"))
    taken = connection.execute(like).scalar_one()
    return f"{month}.{taken + 1}" if taken else month


def _partition(row: Row[Any], head: tuple[int, bytes]) -> LogPartition:
    is_open = row.state == OPEN
    return LogPartition(
        name=row.name,
        format=row.format,
        first=row.first,
        last=head[0] if is_open and row.last is None else row.last,
        start=row.start,
        end=head[1] if is_open and row.end is None else row.end,
        state=row.state,
        position=row.position,
        opened_at=row.opened_at,
        closed_at=row.closed_at,
        removed_at=row.removed_at,
        rule=row.rule,
        key_id=row.key_id,
        signature=row.signature,
    )
