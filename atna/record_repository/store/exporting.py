"""One partition as a file that anybody can check: the form is told, and read, by ``atna.audit_check``."""

from collections.abc import Callable
from typing import Final

from sqlalchemy import Connection, or_, select

from atna.audit_check import EXPORT_HEAD
from atna.record_repository.store.partitions import REMOVED, REMOVING, partitions
from atna.record_repository.store.protocol import LogPartition
from atna.record_repository.store.tables import checkpoint, record
from atna.record_repository.store.verifying import checkpoint_of, removal_of

__all__ = ["NotExported", "export", "exportable"]

CHUNK: Final = 100

Write = Callable[[bytes], object]


class NotExported(Exception):  # noqa: N818 - an outcome, worded for the operator
    """There is no such partition, or its records are gone."""


def export(connection: Connection, name: str, put: Write) -> int:
    """Hand the octets of the export to ``put``, bit by bit, in the caller's snapshot; the number of records.

    Raises NotExported before the first octet.
    """
    found, mine = _found(connection, name)
    put(EXPORT_HEAD)
    for one in found:
        put(_partition(one).encode())
    _checkpoints(connection, mine, put)
    put(f"records {name}\n".encode())
    count = _records(connection, mine, put)
    put(f"end {count}\n".encode())
    return count


def exportable(connection: Connection, name: str) -> LogPartition:
    """The partition as it is now. Raises NotExported."""
    return _found(connection, name)[1]


def _found(connection: Connection, name: str) -> tuple[list[LogPartition], LogPartition]:
    found = list(partitions(connection))
    mine = next((one for one in found if one.name == name), None)
    if mine is None:
        known = ", ".join(one.name for one in found) or "none"
        raise NotExported(f"there is no partition {name}; there are: {known}")
    if mine.state in {REMOVING, REMOVED}:
        raise NotExported(f"partition {name} was removed: {mine.rule}")
    return found, mine


def _partition(one: LogPartition) -> str:
    line = f"partition {one.name} {one.format} {one.first} {one.last} {one.start.hex()} {one.end.hex()} {one.state}\n"
    removal = removal_of(one)
    if removal is None:
        return line
    said = f"{removal.at} {removal.key_id} {removal.signature.hex()} {removal.rule}"
    return f"{line}removal {one.name} {said}\n"


def _checkpoints(connection: Connection, mine: LogPartition, put: Write) -> None:
    """Those of the partition, and the last one there is: it signs what the others begin from and end with."""
    last = select(checkpoint.c.serial).order_by(checkpoint.c.serial.desc()).limit(1).scalar_subquery()
    wanted = select(checkpoint).where(or_(checkpoint.c.partition == mine.name, checkpoint.c.serial == last))
    for row in connection.execute(wanted.order_by(checkpoint.c.serial)):
        one = checkpoint_of(row)
        said = f"{one.serial} {one.partition} {one.number} {one.link.hex()} {one.at} {one.key_id} {one.signature.hex()}"
        put(f"checkpoint {said}\n".encode())


def _records(connection: Connection, mine: LogPartition, put: Write) -> int:
    columns = (record.c.number, record.c.received_at, record.c.chain, record.c.via, record.c.message)
    within = select(*columns).where(record.c.number.between(mine.first, mine.last)).order_by(record.c.number)
    count = 0
    with connection.execute(within, execution_options={"yield_per": CHUNK}) as rows:
        for row in rows:
            via = row.via.encode() if row.via is not None else b""
            octets = str(len(via)) if row.via is not None else "-"
            head = f"record {row.number} {row.received_at} {row.chain.hex()} {octets} {len(row.message)}\n"
            put(b"".join((head.encode(), via, row.message, b"\n")))
            count += 1
    return count
