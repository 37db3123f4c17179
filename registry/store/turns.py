"""Whose turn it is: of those who build on what a patient has already, one works at a time.

What a change takes over is read before it is written: members of a folder, addenda of a replaced document, associations
of the version before. Locks on the rows that are read do not keep others from adding rows beside them, so that two at
once would each miss what the other adds. Therefore the patients are locked first. New documents that refer to nothing
registered wait for nobody. SQLite lets one writer in at a time anyway.
"""

from collections.abc import Collection, Sequence

from sqlalchemy import Connection, select

from registry.store import tables as t
from registry.store.blocks import blocks
from registry.store.protocol import LostRace


def take_turn(connection: Connection, patients: Collection[int], logical_ids: Collection[str]) -> None:
    """Wait for the patients of these keys and of these logical objects; LostRace when one of those moved meanwhile."""
    keys = _owners(connection, logical_ids) | set(patients)
    _lock(connection, keys)
    if not _owners(connection, logical_ids) <= keys:
        raise LostRace


def take_turn_of(connection: Connection, entry_uuids: Sequence[str]) -> None:
    """Wait for the patients of these objects."""
    key, found = t.object_key.c, set()
    for block in blocks(entry_uuids):
        found |= set(connection.execute(select(key.patient_key).where(key.entry_uuid.in_(block))).scalars())
    _lock(connection, found)


def _owners(connection: Connection, logical_ids: Collection[str]) -> set[int]:
    found: set[int] = set()
    for table in (t.entry, t.folder) if logical_ids else ():
        of_one = select(table.c.patient_key).where(table.c.logical_id.in_(sorted(logical_ids)))
        found |= set(connection.execute(of_one).scalars())
    return found


def _lock(connection: Connection, keys: Collection[int]) -> None:
    """In one order for everybody; new rows of the patient, which refer to this one, are not kept out."""
    who = t.patient.c.patient_key
    for block in blocks(keys):
        wanted = select(who).where(who.in_(block)).order_by(who)
        connection.execute(wanted.with_for_update(key_share=True)).all()
