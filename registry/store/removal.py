"""Removing objects for good (ITI-62), in SQL. Functions take a connection and commit nothing."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Column, Connection, Table, delete, func, or_, select, update

from ihe.datatypes import CX, print_cx
from ihe.registry_objects import Kind
from registry.store import tables as t
from registry.store.blocks import blocks
from registry.store.merges import survivors
from registry.store.protocol import LostRace, Removable

# In one order for everybody who locks, so that two wait for each other in a row, not in a circle.
_TABLES: Final[tuple[tuple[Kind, Table, str], ...]] = (
    (Kind.DOCUMENT_ENTRY, t.entry, "entry_key"),
    (Kind.FOLDER, t.folder, "folder_key"),
    (Kind.ASSOCIATION, t.association, "association_key"),
    (Kind.SUBMISSION_SET, t.submission_set, "submission_set_key"),
)
_SIDES: Final[Mapping[Kind, tuple[Table, ...]]] = {
    Kind.DOCUMENT_ENTRY: (t.entry_code, t.entry_author, t.entry_reference),
    Kind.FOLDER: (t.folder_code,),
    Kind.SUBMISSION_SET: (t.submission_set_author,),
}


def removable(connection: Connection, entry_uuids: Sequence[str]) -> Removable:
    """Look at objects that are to be removed, and lock them and their neighbours."""
    found, patients = _locked(connection, set(entry_uuids))
    links = _touching(connection, found)
    neighbours = {end for link, *ends in links if link in found for end in ends} - found.keys()
    # Locked too: of two who remove the last two associations of one object the second must see what the first did.
    _locked(connection, neighbours)
    others = _touching(connection, neighbours)
    kept = {end for link, *ends in others if link not in found for end in ends} & neighbours
    return Removable(found, tuple(sorted(links)), frozenset(kept), _patient_ids(connection, patients))


def _locked(connection: Connection, uuids: Collection[str]) -> tuple[dict[str, Kind], set[int]]:
    """Which of these exist, and whose they are."""
    found: dict[str, Kind] = {}
    patients: set[int] = set()
    for kind, table, _ in _TABLES:
        for block in blocks(uuids):
            rows = select(table.c.entry_uuid, table.c.patient_key).where(table.c.entry_uuid.in_(block))
            for row in connection.execute(rows.order_by(table.c.entry_uuid).with_for_update()):
                found[row.entry_uuid] = kind
                patients.add(row.patient_key)
    return found, patients


def _touching(connection: Connection, uuids: Collection[str]) -> set[tuple[str, str, str]]:
    a = t.association.c
    found: set[tuple[str, str, str]] = set()
    for block in blocks(uuids):
        wanted = or_(a.entry_uuid.in_(block), a.source.in_(block), a.target.in_(block))
        found |= {tuple(row) for row in connection.execute(select(a.entry_uuid, a.source, a.target).where(wanted))}
    return found


def _patient_ids(connection: Connection, keys: set[int]) -> tuple[str, ...]:
    """CX texts, of merged patients those that their objects show."""
    shown = {patient for block in blocks(keys) for _, patient in survivors(connection, block).values()}
    return tuple(sorted(print_cx(CX(*patient)) for patient in shown))


def remove(connection: Connection, objects: Mapping[str, Kind]) -> None:
    """Remove objects with all that hangs on them."""
    for kind, table, key_name in _TABLES:
        uuids = [uuid for uuid, one in objects.items() if one is kind]
        for block in blocks(uuids):
            _remove(connection, kind, table, table.c[key_name], block)
    for block in blocks(objects):
        connection.execute(delete(t.object_key).where(t.object_key.c.entry_uuid.in_(block)))


def _remove(connection: Connection, kind: Kind, table: Table, key: "Column[Any]", uuids: list[str]) -> None:
    named = [table.c[name] for name in ("unique_id", "logical_id") if name in table.c]
    rows = connection.execute(select(key, *named).where(table.c.entry_uuid.in_(uuids))).all()
    keys = [row[0] for row in rows]
    for side in _SIDES.get(kind, ()):
        connection.execute(delete(side).where(side.c[key.name].in_(keys)))
    if kind is Kind.SUBMISSION_SET:
        for brought in (t.entry, t.folder, t.association):
            connection.execute(
                update(brought).where(brought.c.submission_set_key.in_(keys)).values(submission_set_key=None)
            )
    connection.execute(delete(table).where(key.in_(keys)))
    if "logical_id" in table.c:
        _restore_latest(connection, table, {row.logical_id for row in rows})
    if "unique_id" in table.c:
        _free(connection, table, {row.unique_id for row in rows})


def _restore_latest(connection: Connection, table: Table, logical_ids: set[str]) -> None:
    """The highest version that is left of each logical object is the latest."""
    latest = (
        select(table.c.logical_id, func.max(table.c.version).label("version"))
        .where(table.c.logical_id.in_(sorted(logical_ids)))
        .group_by(table.c.logical_id)
    )
    for row in connection.execute(latest).all():
        same = (table.c.logical_id == row.logical_id, table.c.version == row.version, table.c.superseded == 1)
        connection.execute(update(table).where(*same).values(superseded=0))


def _free(connection: Connection, table: Table, unique_ids: set[str]) -> None:
    """A uniqueId that no row of its kind has any more may be used again.

    Its key is locked before anybody looks; who registers the same document again holds it, too (``hold_unique_ids``).
    """
    key = t.unique_id_key.c.unique_id
    connection.execute(select(key).where(key.in_(sorted(unique_ids))).order_by(key).with_for_update()).all()
    used = set(connection.execute(select(table.c.unique_id).where(table.c.unique_id.in_(sorted(unique_ids)))).scalars())
    free = sorted(unique_ids - used)
    if free:
        connection.execute(delete(t.unique_id_key).where(t.unique_id_key.c.unique_id.in_(free)))
    if table is t.entry:
        _tell_bytes_of_what_is_left(connection, used)


def _tell_bytes_of_what_is_left(connection: Connection, unique_ids: set[str]) -> None:
    """An update may have told another size of a document than the versions that are left."""
    e, key = t.entry.c, t.unique_id_key
    for unique_id in sorted(unique_ids):
        left = select(e.hash, e.size).where(e.unique_id == unique_id, e.superseded == 0).order_by(e.entry_key.desc())
        row = connection.execute(left.limit(1)).first()
        if row is not None:
            connection.execute(update(key).where(key.c.unique_id == unique_id).values(hash=row.hash, size=row.size))


def hold_unique_ids(connection: Connection, unique_ids: Collection[str]) -> None:
    """Keep uniqueIds that are used again from being freed meanwhile; LostRace when one is free already."""
    key = t.unique_id_key.c.unique_id
    for block in blocks(unique_ids):
        wanted = select(key).where(key.in_(block)).order_by(key).with_for_update(read=True)
        if len(connection.execute(wanted).all()) != len(block):
            raise LostRace
