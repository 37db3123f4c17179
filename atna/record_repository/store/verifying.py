"""The check of the whole log: why a record cannot be changed, taken out, put in or moved unnoticed.

The links of records and partitions are those of ``atna.audit_check``: every later link depends on every earlier record,
across partitions too. Whoever may write in the database can make all of them anew; what he cannot make are the
signatures of the checkpoints, nor take back a checkpoint that was kept elsewhere.

What records are found by is derived from their messages; it is derived again here. The side tables are compared as
a whole, by a sum over hashes of their rows, because no order of theirs is the order of the records.
"""

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from sqlalchemy import Connection, Row, func, or_, select

from atna.audit_check import FIRST_LINK, Checkpoint, Removal, follows, instant, link_of, signature_fault
from atna.record_repository.indexing import Indexed, index
from atna.record_repository.store.partitions import CLOSED, OPEN, REMOVED, REMOVING, partitions, read_head
from atna.record_repository.store.protocol import LogPartition, Trust, Verification
from atna.record_repository.store.rows import SIDE_TABLES, columns_of, side_rows
from atna.record_repository.store.tables import checkpoint, checkpoint_key, record

__all__ = ["checkpoint_of", "listed_keys", "removal_of", "verifies", "verify"]

CHUNK: Final = 100
_SUM: Final = 2**128
_STATES: Final = (OPEN, CLOSED, REMOVING, REMOVED)


class _Fault(Exception):  # noqa: N818 - what was found
    def __init__(self, text: str, at: int | None = None, partition: str | None = None) -> None:
        super().__init__(text)
        self.at = at
        self.partition = partition


def verify(connection: Connection, trust: Trust, only: str | None = None) -> Verification:
    """Check the log, or one partition, in the caller's snapshot; stops at the first fault."""
    walk = _Walk(connection, trust, only)
    fault: _Fault | None = None
    try:
        walk.run()
    except _Fault as found:
        fault = found
    except (TypeError, ValueError, AttributeError, OverflowError):
        # SQLite keeps a value of any kind in any column: text where a number, a number where a link should be.
        fault = _Fault("a row holds what was never written there", *walk.place)
    return Verification(
        walk.records,
        walk.link,
        fault_at=fault.at if fault is not None else None,
        fault=str(fault) if fault is not None else None,
        partition=fault.partition if fault is not None else None,
        checkpoints=walk.checkpoints,
        signed_to=walk.signed_to,
        notes=tuple(walk.notes),
    )


def verifies(public: bytes, message: bytes, signature: bytes) -> bool:
    """Whether this is an Ed25519 signature of the message by this key."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def checkpoint_of(row: Row[Any]) -> Checkpoint:
    """A row of ``checkpoint``."""
    return Checkpoint(row.serial, row.partition, row.number, row.link, row.at, row.key_id, row.signature)


def removal_of(one: LogPartition) -> Removal | None:
    """The signed statement of its removal, ``None`` if its row has none."""
    if one.rule is None or one.removed_at is None or one.key_id is None or one.signature is None:
        return None
    return Removal(one, one.rule, one.removed_at, one.key_id, one.signature)


class _Walk:
    """From the first partition to the last; everything that is counted on the way."""

    def __init__(self, connection: Connection, trust: Trust, only: str | None) -> None:
        self._connection = connection
        self._trust = trust
        self._only = only
        self._keys = trust.public_keys if trust.public_keys is not None else listed_keys(connection)
        self._found_by = 0
        self.records = 0
        self.link = FIRST_LINK
        self.checkpoints = 0
        self.signed_to = 0
        self._signed_at = 0
        self.notes: list[str] = []
        self.place: tuple[int | None, str | None] = (None, only)

    def run(self) -> None:
        found = list(partitions(self._connection))
        self._table(found)
        self._serials()
        mine = [one for one in found if self._only in (None, one.name)]
        if not mine and self._only is not None:
            raise _Fault("there is no such partition", None, self._only)
        self._checkpoints_elsewhere(found)
        for one in mine:
            self._partition(one)
        self._strays(found)
        if self._found_by % _SUM != _side_sum(self._connection, mine, whole=self._only is None):
            raise _Fault("the search tables do not say what the records say", None, self._only)
        self._signed(mine)

    def _table(self, found: list[LogPartition]) -> None:
        """Partitions follow each other without a gap; what was removed says so under a signature."""
        before = None
        for number, one in enumerate(found, start=1):
            fault = follows(before, one)
            if one.position != number or one.state not in _STATES or (one.state == OPEN and one is not found[-1]):
                fault = "its row was altered, or that of a partition before it is missing"
            gone = one.state in {REMOVING, REMOVED}
            if not gone and (one.removed_at, one.rule, one.key_id, one.signature) != (None,) * 4:
                fault = "it was removed, and its row says otherwise"
            if fault is not None:
                raise _Fault(fault, one.first, one.name)
            if gone:
                self._removal(one)
            before = one
        head = read_head(self._connection) or (0, FIRST_LINK)
        if head != ((before.last, before.end) if before is not None else (0, FIRST_LINK)):
            raise _Fault("the log does not end with its last link", head[0] + 1, before.name if before else None)

    def _removal(self, one: LogPartition) -> None:
        removal = removal_of(one)
        fault = "is not signed" if removal is None else signature_fault(removal, self._keys, verifies)
        if fault is not None:
            raise _Fault(f"its removal {fault}", one.first, one.name)
        final = select(checkpoint.c.serial).where(
            checkpoint.c.partition == one.name, checkpoint.c.number == one.last, checkpoint.c.link == one.end
        )
        if self._connection.execute(final).first() is None:
            raise _Fault("it was removed and its last checkpoint is missing", one.last, one.name)

    def _serials(self) -> None:
        count, last = self._connection.execute(select(func.count(), func.max(checkpoint.c.serial))).one()
        if count != (last or 0):
            raise _Fault("a checkpoint is missing", None, None)

    def _checkpoints_elsewhere(self, found: list[LogPartition]) -> None:
        """Each checkpoint is of a partition there is, and of a number in it; each that was kept can be met."""
        names = {one.name: one for one in found}
        rows = select(checkpoint.c.partition, func.min(checkpoint.c.number), func.max(checkpoint.c.number))
        for name, least, most in self._connection.execute(rows.group_by(checkpoint.c.partition)).all():
            one = names.get(name)
            if one is None or least < one.first or most > one.last:
                raise _Fault("a checkpoint signs a record that is not there", most, name)
        for kept in self._trust.kept:
            fault = signature_fault(kept, self._keys, verifies)
            one = names.get(kept.partition)
            if fault is None and (one is None or not one.first <= kept.number <= one.last):
                fault = "signs a record that is not there"
            if fault is None and one is not None and one.state in {REMOVING, REMOVED} and kept.number != one.last:
                self.notes.append(f"checkpoint {kept.serial} is of partition {one.name}, which was removed by rule")
            if fault is None and one is not None and (kept.number, kept.link) != (one.last, one.end):
                fault = "signs another link than the log has" if kept.number == one.last else None
            if fault is None and not self._has(kept):
                fault = "is not among those of the log"
            if fault is not None:
                raise _Fault(f"the checkpoint {kept.serial} kept elsewhere {fault}", kept.number, kept.partition)

    def _has(self, kept: Checkpoint) -> bool:
        row = self._connection.execute(select(checkpoint).where(checkpoint.c.serial == kept.serial)).first()
        return row is not None and checkpoint_of(row) == kept

    def _partition(self, one: LogPartition) -> None:
        signed = self._checkpoints(one)
        if one.state == REMOVED:
            self.link = one.end
            self.notes.append(f"partition {one.name}: records {one.first} to {one.last} were removed: {one.rule}")
            return
        expected, self.link = one.first, one.start
        broken_off = one.state == REMOVING
        for row in _records(self._connection, one):
            if broken_off:  # removed from its first record on: the chain is taken up at what is left
                expected, broken_off = row.number, False
                self._record(one, row, None)
            else:
                self._record(one, row, expected)
            if signed.get(row.number, row.chain) != row.chain:
                raise _Fault("a checkpoint signs another link for this record", row.number, one.name)
            self.link, expected = row.chain, expected + 1
            self.records += 1
        if one.state == REMOVING:
            self.notes.append(
                f"partition {one.name} is half removed: dossier audit retention --apply goes on with it ({one.rule})"
            )
            expected, self.link = (one.last + 1, one.end) if broken_off else (expected, self.link)
        if (expected, self.link) != (one.last + 1, one.end):
            raise _Fault("the log does not end with its last link", expected, one.name)

    def _record(self, one: LogPartition, row: Row[Any], expected: int | None) -> None:
        """``expected`` is ``None`` where nothing is known of the record before."""
        self.place = (row.number, one.name)
        if not isinstance(row.message, bytes):
            raise _Fault("the message was altered", row.number, one.name)
        if expected is not None and row.number != expected:
            raise _Fault("a record is missing", expected, one.name)
        item = index(row.message)
        wrong = _altered(row, one.format, item, self.link if expected is not None else None)
        if wrong is not None:
            raise _Fault(wrong, row.number, one.name)
        found_by = side_rows(item, row.number)
        self._found_by += sum(_hash(table, values.values()) for table, rows in found_by for values in rows)

    def _checkpoints(self, one: LogPartition) -> dict[int, bytes]:
        """The links that are signed in this partition, also by what was kept elsewhere."""
        signed: dict[int, bytes] = {}
        mine = select(checkpoint).where(checkpoint.c.partition == one.name).order_by(checkpoint.c.serial)
        for row in self._connection.execute(mine):
            point = checkpoint_of(row)
            fault = signature_fault(point, self._keys, verifies)
            if fault is None and signed.get(point.number, point.link) != point.link:
                fault = "signs another link than one before it"
            if fault is None and point.number == one.last and point.link != one.end:
                fault = "signs another last link"
            if fault is not None:
                raise _Fault(f"checkpoint {point.serial} {fault}", point.number, one.name)
            signed[point.number] = point.link
            self.checkpoints += 1
            if point.number > self.signed_to:
                self.signed_to, self._signed_at = point.number, point.at
        for point in self._trust.kept:
            if point.partition == one.name and signed.setdefault(point.number, point.link) != point.link:
                text = f"the checkpoint {point.serial} kept elsewhere signs another link than the log has"
                raise _Fault(text, point.number, one.name)
        return signed

    def _strays(self, found: list[LogPartition]) -> None:
        """Records where there should be none: before the first, after the last, or in what was removed."""
        last = found[-1].last if found else 0
        outside = [record.c.number < 1, record.c.number > last]
        outside += [record.c.number.between(one.first, one.last) for one in found if one.state == REMOVED]
        stray = self._connection.execute(select(func.min(record.c.number)).where(or_(*outside))).scalar_one()
        if stray is not None:
            raise _Fault("a record is out of place", stray, None)

    def _signed(self, mine: list[LogPartition]) -> None:
        after = mine[-1].last - self.signed_to if mine else 0
        if self.signed_to == 0 and self.records:
            if self._trust.public_keys is not None:
                raise _Fault("nothing is signed by a key that is listed", mine[0].first, mine[0].name)
            self.notes.append("nothing is signed yet: whoever may write in the database could make all of it anew")
        elif self.records and after > 0:
            since = f"at record {self.signed_to} ({instant(self._signed_at)})"
            self.notes.append(f"{after} records after the last checkpoint, {since}: no signature covers them yet")


def _altered(row: Row[Any], form: int, item: Indexed, previous: bytes | None) -> str | None:
    if item.sha256 != row.sha256:
        return "the message was altered"
    if (row.via is None) is not (form == 1):
        return "how it came was altered"
    via = (row.via or "").encode()
    if previous is not None and link_of(form, previous, row.number, row.received_at, row.sha256, via) != row.chain:
        return "the link does not follow from the record before"
    if item.event_at != row.event_at or any(getattr(row, key) != value for key, value in columns_of(item).items()):
        return "what the record is found by was altered"
    return None


def _records(connection: Connection, one: LogPartition) -> Iterator[Row[Any]]:
    within = record.c.number.between(one.first, one.last)
    wanted = select(record).where(within).order_by(record.c.number)
    with connection.execute(wanted, execution_options={"yield_per": CHUNK}) as rows:
        yield from rows


def listed_keys(connection: Connection) -> dict[str, bytes]:
    """Key id to public key, of every key that ever signed here."""
    return {row.key_id: row.public_key for row in connection.execute(select(checkpoint_key))}


def _hash(table: Any, values: Iterable[Any]) -> int:
    text = repr((table.name, *values))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=16).digest(), "big")


def _side_sum(connection: Connection, mine: list[LogPartition], *, whole: bool) -> int:
    total = 0
    for table in SIDE_TABLES:
        statement = select(table)
        if not whole:
            statement = statement.where(table.c.record.between(mine[0].first, mine[0].last))
        rows = connection.execute(statement, execution_options={"yield_per": CHUNK})
        total += sum(_hash(table, row) for row in rows)
    return total % _SUM
