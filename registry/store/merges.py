"""Merged patients in SQL: who stands for whom (ITI TF-2: 3.8.4.2, 3.44.4.2). Functions take a connection.

``patient_merge`` says who was merged into whom; ``patient.survivor_key`` who is left of a chain A -> B -> C in the end
(C), and is none for an id that stands. Rows of documents keep the patient key they came with: queries ask for the keys
of a patient and of all it survives, and show its id.

Whoever changes a tree of merges holds its root: a merge locks the two ids, which must both stand, in the order of their
keys; the end of a merge locks the id that survives of it. So no cycle can arise, and none is lost.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, CompoundSelect, Connection, Select, and_, func, insert, or_, select, update

from atna.store.engine import reading
from registry.store.opening import open_registry
from registry.store.parting import part
from registry.store.patient_protocol import MergeRefused
from registry.store.protocol import LostRace, PatientId
from registry.store.tables import entry, folder, patient, patient_merge

__all__ = [
    "ListedMerge",
    "keys_of",
    "merge",
    "read_merges",
    "standing",
    "survivors",
    "unmerge",
]

_p, _m = patient.c, patient_merge.c
_STANDS: Final = _p.survivor_key.is_(None)
_ACTIVE: Final = _m.undone_at.is_(None)


def keys_of(identifier: Any, authority: Any) -> CompoundSelect[Any]:
    """Keys of an id that stands and of all that were merged into it; none for a subsumed or unknown id."""
    asked = select(_p.patient_key).where(_p.authority == authority, _p.id == identifier, _STANDS)
    # A scalar, not a join: then PostgreSQL looks the one value up by index, however many merges there are.
    survived = patient.alias("survived").c
    return asked.union_all(select(survived.patient_key).where(survived.survivor_key == asked.scalar_subquery()))


def survivors(connection: Connection, keys: Collection[int]) -> dict[int, tuple[int, PatientId]]:
    """Each key with the one that survives of it, its own where it was not merged, and that one's id."""
    if not keys:
        return {}
    left = patient.alias("survivor")
    rows = connection.execute(
        select(_p.patient_key.label("origin"), left.c.patient_key, left.c.id, left.c.authority)
        .join(left, left.c.patient_key == func.coalesce(_p.survivor_key, _p.patient_key))
        .where(_p.patient_key.in_(sorted(keys)))
    )
    return {row.origin: (row.patient_key, (row.id, row.authority)) for row in rows}


def merge(connection: Connection, subsumed: PatientId, surviving: PatientId, now: str) -> None:
    """See ``FeedUnitOfWork.merge``."""
    if subsumed == surviving:
        raise MergeRefused("an id can't be merged into itself")
    if subsumed[1] != surviving[1]:
        raise MergeRefused("the ids to be merged are of two assigning authorities")
    keys = standing(connection, {"surviving": surviving, "subsumed": subsumed})
    old, new = keys[subsumed], keys[surviving]
    connection.execute(insert(patient_merge).values(subsumed_key=old, surviving_key=new, merged_at=now))
    of_old = or_(_p.patient_key == old, _p.survivor_key == old)
    connection.execute(update(patient).where(of_old).values(survivor_key=new))


def unmerge(connection: Connection, one: PatientId, other: PatientId | None, now: str) -> tuple[PatientId, PatientId]:
    """See ``FeedUnitOfWork.unmerge``."""
    found = _active(connection, one, other)
    if found is None:
        raise MergeRefused("the id is not merged" if other is None else "the ids are not merged into each other")
    root = connection.execute(_survivor_of(found.subsumed_key)).scalar_one()
    connection.execute(select(_p.patient_key).where(_p.patient_key == root).with_for_update(key_share=True))
    # While the lock was waited for, the ids may have been parted and merged again: that is another merge.
    unchanged = _active(connection, one, other) == found
    if not unchanged or connection.execute(_survivor_of(found.subsumed_key)).scalar_one() != root:
        raise LostRace
    below = _merged_into(connection, found.subsumed_key)
    if _updated_since(connection, [found.subsumed_key, *below]):
        raise MergeRefused("objects got new versions since the merge; remove those (ITI-62) or move them (A43) first")
    connection.execute(update(patient_merge).where(_m.merge_key == found.merge_key).values(undone_at=now))
    connection.execute(update(patient).where(_p.patient_key == found.subsumed_key).values(survivor_key=None))
    if below:
        connection.execute(update(patient).where(_p.patient_key.in_(below)).values(survivor_key=found.subsumed_key))
    part(connection, [found.subsumed_key, *below], now)
    ids = _ids(connection, (found.subsumed_key, found.surviving_key))
    return ids[found.subsumed_key], ids[found.surviving_key]


def _updated_since(connection: Connection, keys: list[int]) -> bool:
    """Whether versions of one object are of these patients and of others: each patient would keep a part of it."""
    for table in (entry, folder):
        older, newer = table.alias("older").c, table.alias("newer").c
        spread = select(older.logical_id).where(
            older.patient_key.in_(keys), newer.logical_id == older.logical_id, newer.patient_key.not_in(keys)
        )
        if connection.execute(spread.limit(1)).first() is not None:
            return True
    return False


def _survivor_of(key: int) -> Select[Any]:
    return select(_p.survivor_key).where(_p.patient_key == key)


def _active(connection: Connection, one: PatientId, other: PatientId | None) -> Any | None:
    """The merge of ``one``, or the one between the two in either direction."""
    keys = _keys(connection, (one,) if other is None else (one, other))
    if len(keys) != (1 if other is None else len({one, other})):
        return None
    ends = _m.subsumed_key == keys[one]
    if other is not None:
        pair = and_(ends, _m.surviving_key == keys[other])
        ends = or_(pair, and_(_m.subsumed_key == keys[other], _m.surviving_key == keys[one]))
    return connection.execute(
        select(_m.merge_key, _m.subsumed_key, _m.surviving_key).where(ends, _ACTIVE)
    ).one_or_none()


def _merged_into(connection: Connection, key: int) -> list[int]:
    """Keys of all that are merged into a patient, through any chain; UNION walks none twice."""
    below = select(_m.subsumed_key).where(_m.surviving_key == key, _ACTIVE).cte("below", recursive=True)
    below = below.union(select(_m.subsumed_key).where(_m.surviving_key == below.c.subsumed_key, _ACTIVE))
    return list(connection.execute(select(below.c.subsumed_key)).scalars())


def standing(connection: Connection, wanted: Mapping[str, PatientId]) -> dict[PatientId, int]:
    """Keys of ids that are known and not merged, their rows locked in one order until the end of this transaction.

    Not against registrations for them: those only refer to the rows. Raises MergeRefused, which calls an id by its name
    here.
    """
    rows = connection.execute(
        select(_p.patient_key, _p.id, _p.authority, _STANDS.label("stands"))
        .where(_any_of(wanted.values()))
        .order_by(_p.patient_key)
        .with_for_update(key_share=True)
    )
    found = {(row.id, row.authority): row for row in rows}
    for name, who in wanted.items():
        if who not in found:
            raise MergeRefused(f"the {name} id was never announced by a patient identity feed")
    for name, who in wanted.items():
        if not found[who].stands:
            raise MergeRefused(f"the {name} id is merged into another already")
    return {who: row.patient_key for who, row in found.items()}


def _any_of(wanted: Iterable[PatientId]) -> ColumnElement[bool]:
    return or_(*(and_(_p.authority == authority, _p.id == identifier) for identifier, authority in wanted))


def _keys(connection: Connection, wanted: Collection[PatientId]) -> dict[PatientId, int]:
    rows = connection.execute(select(_p.patient_key, _p.id, _p.authority).where(_any_of(wanted)))
    return {(row.id, row.authority): row.patient_key for row in rows}


def _ids(connection: Connection, keys: Collection[int]) -> Mapping[int, PatientId]:
    rows = connection.execute(select(_p.patient_key, _p.id, _p.authority).where(_p.patient_key.in_(keys)))
    return {row.patient_key: (row.id, row.authority) for row in rows}


@dataclass(frozen=True, slots=True)
class ListedMerge:
    """A merge for the operator's eyes; times are 14 digits, UTC."""

    subsumed: PatientId
    surviving: PatientId
    merged_at: str
    undone_at: str | None


def read_merges(database_url: str, *, undone: bool) -> tuple[ListedMerge, ...]:
    """Oldest first; ``undone``: ended ones too. DatabaseRefused, and SQLAlchemyError when nothing answers."""
    old, new = patient.alias("old"), patient.alias("new")
    wanted = (
        select(old.c.id, old.c.authority, new.c.id, new.c.authority, _m.merged_at, _m.undone_at)
        .join(old, old.c.patient_key == _m.subsumed_key)
        .join(new, new.c.patient_key == _m.surviving_key)
        .order_by(_m.merge_key)
    )
    engine, _reader = open_registry(database_url)
    try:
        with reading(engine) as connection:
            rows = connection.execute(wanted if undone else wanted.where(_ACTIVE)).all()
    finally:
        engine.dispose()
    return tuple(ListedMerge((row[0], row[1]), (row[2], row[3]), row[4], row[5]) for row in rows)
