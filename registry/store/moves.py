"""What an ITI-64 moves, in SQL. Functions take a connection and commit nothing."""

from collections.abc import Collection, Sequence
from typing import Any, Final

from sqlalchemy import Connection, Table, select

from ihe import vocabulary as v
from ihe.datatypes import CX, print_cx
from ihe.registry_objects import Kind, RegistryObject
from registry.store import codes as c
from registry.store import tables as t
from registry.store.blocks import blocks
from registry.store.fragments import Codec
from registry.store.merges import keys_of, standing
from registry.store.patient_protocol import MergeRefused, Movable, MovableFolder, Move
from registry.store.protocol import Depositor, PatientId
from registry.store.shown import whole_object

__all__ = ["MAX_MOVED", "movable"]

MAX_MOVED: Final = 5_000
"""Entries of one move: all of it is one transaction, and an answer the sender waits for."""

_e, _f, _a, _o = t.entry.c, t.folder.c, t.association.c, t.object_key.c


def movable(connection: Connection, codec: Codec, move: Move) -> Movable:
    """See ``FeedUnitOfWork.movable``."""
    patient_key = standing(connection, {"new patient": move.new, "previous patient": move.old})[move.new]
    new_keys = _group(connection, move.new)
    rows = connection.execute(
        select(t.entry)
        .where(
            _e.patient_key.in_(_group(connection, move.old)),
            _e.status == c.APPROVED,
            _e.superseded == 0,
            _e.source_patient_id.in_(sorted(move.local_ids)),
        )
        .order_by(_e.entry_uuid)
        .limit(MAX_MOVED + 1)
        .with_for_update()
    ).all()
    if len(rows) > MAX_MOVED:
        raise MergeRefused(f"more than {MAX_MOVED} documents would move at once; nothing was moved")
    uuids = [row.entry_uuid for row in rows]
    links = _links(connection, uuids)
    far = {end for row in links for end in (row.source, row.target)} - set(uuids)
    kinds = {row.entry_uuid: c.KIND_OF[row.kind] for row in _listed(connection, t.object_key, _o.entry_uuid, far)}
    shown = print_cx(CX(*move.new))
    return Movable(
        patient_key,
        entries=tuple(_objects(codec, t.entry, rows, shown)),
        depositors={
            row.entry_uuid: Depositor(row.depositor_node, row.depositor_organisation, row.depositor_person)
            for row in rows
        },
        associations=tuple(_objects(codec, t.association, links, shown)),
        folders=_folders(connection, codec, [end for end in far if kinds[end] is Kind.FOLDER], new_keys, shown),
        sets=frozenset(end for end in far if kinds[end] is Kind.SUBMISSION_SET),
        others={
            row.entry_uuid: row.patient_key in new_keys
            for row in _listed(connection, t.entry, _e.entry_uuid, far)
            if row.status == c.APPROVED
        },
    )


def _group(connection: Connection, who: PatientId) -> set[int]:
    return set(connection.execute(keys_of(*who)).scalars())


def _links(connection: Connection, uuids: Collection[str]) -> list[Any]:
    """Approved associations at these entries, in the order of registration."""
    found: dict[str, Any] = {}
    for end in (_a.source, _a.target):
        rows = _listed(connection, t.association, end, uuids)
        found.update({row.entry_uuid: row for row in rows if row.status == c.APPROVED})
    return sorted(found.values(), key=lambda row: row.association_key)


def _folders(
    connection: Connection, codec: Codec, uuids: Collection[str], new_keys: Collection[int], shown: str
) -> tuple[MovableFolder, ...]:
    rows = [row for row in _listed(connection, t.folder, _f.entry_uuid, uuids, lock=True) if row.status == c.APPROVED]
    links = _listed(connection, t.association, _a.source, [row.entry_uuid for row in rows])
    held = [row for row in links if row.type == c.ASSOCIATION[v.HAS_MEMBER] and row.status == c.APPROVED]
    entries = _listed(connection, t.entry, _e.entry_uuid, {row.target for row in held})
    approved = {row.entry_uuid for row in entries if row.status == c.APPROVED}
    return tuple(
        MovableFolder(
            obj,
            frozenset(link.target for link in held if link.source == row.entry_uuid and link.target in approved),
            row.patient_key in new_keys,
        )
        for row, obj in zip(rows, _objects(codec, t.folder, rows, shown), strict=True)
    )


def _listed(
    connection: Connection, table: Table, column: Any, wanted: Collection[str], *, lock: bool = False
) -> list[Any]:
    """Rows whose column has one of the values, in the order of their values so that locks come in one order."""
    found: list[Any] = []
    for block in blocks(wanted):
        statement = select(table).where(column.in_(block)).order_by(column)
        found += connection.execute(statement.with_for_update() if lock else statement).all()
    return found


def _objects(codec: Codec, table: Table, rows: Sequence[Any], patient_id: str) -> list[RegistryObject]:
    """Rows as the objects they are, with everything that was put into their holes."""
    return [whole_object(codec, table, row, patient_id) for row in rows]
