"""Checkpoints as rows: written under the lock of the chain's head, numbered without a gap, never removed."""

from collections.abc import Callable
from dataclasses import replace
from typing import Final, Protocol

from sqlalchemy import Connection, and_, exists, func, insert, select

from atna.audit_check import Checkpoint
from atna.record_repository.store.partitions import CLOSED, OPEN, partitions, read_head
from atna.record_repository.store.tables import checkpoint, checkpoint_key, log_partition
from atna.record_repository.store.verifying import checkpoint_of

__all__ = ["Signer", "is_due", "latest", "write"]

MICROSECONDS: Final = 1_000_000


class Signer(Protocol):
    """A private key: its id, its public half, and what it makes of a text."""

    @property
    def id(self) -> str:
        """Key id, 32 hex digits."""
        ...

    @property
    def public(self) -> bytes:
        """The public key, 32 octets."""
        ...

    @property
    def sign(self) -> Callable[[str], bytes]:
        """The signature of a text."""
        ...


def latest(connection: Connection) -> Checkpoint | None:
    """The last one written."""
    row = connection.execute(select(checkpoint).order_by(checkpoint.c.serial.desc()).limit(1)).first()
    return checkpoint_of(row) if row is not None else None


def is_due(connection: Connection, now: int, *, records: int, interval: int) -> bool:
    """Whether ``records`` came since the last one, any and it is ``interval`` microseconds old, or a month ended."""
    head, last = read_head(connection), latest(connection)
    if head is None or not head[0]:
        return False
    if last is None or _ended(connection):
        return True
    fresh = head[0] - last.number
    return fresh >= records or (fresh > 0 and not 0 <= now - last.at < interval)


def write(connection: Connection, signer: Signer, now: int) -> Checkpoint | None:
    """Sign the end of each partition that ended without, and the head; the last one written, ``None``: nothing new."""
    head = read_head(connection, lock=True)
    if head is None or not head[0]:
        return None
    written = None
    ended = set(_ended(connection))
    last = latest(connection)
    for one in partitions(connection):
        is_new = last is None or one.last > last.number
        if one.name in ended or (one.state == OPEN and is_new):
            written = _written(connection, signer, Checkpoint(0, one.name, one.last, one.end, now, signer.id))
    return written


def _ended(connection: Connection) -> list[str]:
    """Closed partitions whose last link is not signed yet."""
    signed = exists().where(
        and_(checkpoint.c.partition == log_partition.c.name, checkpoint.c.number == log_partition.c.last)
    )
    wanted = select(log_partition.c.name).where(log_partition.c.state == CLOSED, ~signed)
    return list(connection.execute(wanted.order_by(log_partition.c.position)).scalars())


def _written(connection: Connection, signer: Signer, unsigned: Checkpoint) -> Checkpoint:
    register(connection, signer, unsigned.at)
    serial = connection.execute(select(func.coalesce(func.max(checkpoint.c.serial), 0) + 1)).scalar_one()
    numbered = replace(unsigned, serial=serial)
    signed = replace(numbered, signature=signer.sign(numbered.text))
    connection.execute(
        insert(checkpoint).values(
            serial=signed.serial,
            partition=signed.partition,
            number=signed.number,
            link=signed.link,
            at=signed.at,
            key_id=signed.key_id,
            signature=signed.signature,
        )
    )
    return signed


def register(connection: Connection, signer: Signer, now: int) -> None:
    """List the key, so that what it signs can be checked when another one has taken its place."""
    known = select(checkpoint_key.c.key_id).where(checkpoint_key.c.key_id == signer.id)
    if connection.execute(known).first() is None:
        connection.execute(insert(checkpoint_key).values(key_id=signer.id, public_key=signer.public, since=now))
