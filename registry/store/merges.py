"""Merged patients in SQL: who stands for whom (ITI TF-2: 3.8.4.2, 3.44.4.2). Functions take a connection.

A merge is a row; rows of documents keep the patient key they came with. What follows from merges is worked out when
somebody asks: ``group_of`` downwards (whose documents an id shows), ``survivors`` upwards (which id they are shown
with). Chains A -> B -> C are followed; UNION drops what was seen, so that no chain is walked twice. No cycle can arise:
a merge locks both its patients in the order of their keys, and a subsumed id neither survives nor is subsumed again.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Select, and_, exists, insert, or_, select, update
from sqlalchemy.sql.expression import CTE

from atna.store.engine import reading
from registry.store.opening import open_registry
from registry.store.patient_protocol import MergeRefused
from registry.store.protocol import PatientId
from registry.store.tables import patient, patient_merge

__all__ = [
    "ListedMerge",
    "group_of",
    "is_subsumed",
    "merge",
    "read_merges",
    "standing",
    "survivors",
    "unmerge",
]

_p, _m = patient.c, patient_merge.c
_ACTIVE: Final = _m.undone_at.is_(None)


def is_subsumed(key: Any) -> ColumnElement[bool]:
    """The condition that the patient with this key is merged into another."""
    return exists().where(_m.subsumed_key == key, _ACTIVE)


def group_of(identifier: Any, authority: Any) -> CTE:
    """Column ``patient_key``: of a known id and of all that were merged into it; none for a subsumed or unknown id."""
    known = select(_p.patient_key).where(_p.authority == authority, _p.id == identifier)
    group = known.where(~is_subsumed(_p.patient_key)).cte("merged", recursive=True)
    further = select(_m.subsumed_key).where(_m.surviving_key == group.c.patient_key, _ACTIVE)
    return group.union(further)


def survivors(connection: Connection, keys: Collection[int]) -> dict[int, tuple[int, PatientId]]:
    """Each key with the one that survives of its chain of merges, and that one's id."""
    if not keys:
        return {}
    rows = connection.execute(_survivors(keys))
    return {row.origin: (row.patient_key, (row.id, row.authority)) for row in rows}


def _survivors(keys: Collection[int]) -> Select[Any]:
    begin = select(_p.patient_key.label("origin"), _p.patient_key.label("now")).where(_p.patient_key.in_(sorted(keys)))
    chain = begin.cte("chain", recursive=True)
    chain = chain.union(
        select(chain.c.origin, _m.surviving_key).where(_m.subsumed_key == chain.c.now, _ACTIVE),
    )
    return (
        select(chain.c.origin, _p.patient_key, _p.id, _p.authority)
        .join(patient, _p.patient_key == chain.c.now)
        .where(~is_subsumed(_p.patient_key))
    )


def merge(connection: Connection, subsumed: PatientId, surviving: PatientId, now: str) -> None:
    """See ``FeedUnitOfWork.merge``."""
    if subsumed == surviving:
        raise MergeRefused("an id can't be merged into itself")
    if subsumed[1] != surviving[1]:
        raise MergeRefused("the ids to be merged are of two assigning authorities")
    keys = standing(connection, {"surviving": surviving, "subsumed": subsumed})
    connection.execute(
        insert(patient_merge).values(subsumed_key=keys[subsumed], surviving_key=keys[surviving], merged_at=now)
    )


def unmerge(connection: Connection, one: PatientId, other: PatientId | None, now: str) -> tuple[PatientId, PatientId]:
    """See ``FeedUnitOfWork.unmerge``."""
    keys = _locked(connection, (one,) if other is None else (one, other))
    of_one = _m.subsumed_key == keys.get(one)
    if other is not None:
        pair = and_(of_one, _m.surviving_key == keys.get(other))
        of_one = or_(pair, and_(_m.subsumed_key == keys.get(other), _m.surviving_key == keys.get(one)))
    row = connection.execute(select(_m.merge_key, _m.subsumed_key, _m.surviving_key).where(of_one, _ACTIVE)).first()
    if row is None:
        raise MergeRefused("the id is not merged" if other is None else "the ids are not merged into each other")
    connection.execute(update(patient_merge).where(_m.merge_key == row.merge_key, _ACTIVE).values(undone_at=now))
    ids = _ids(connection, (row.subsumed_key, row.surviving_key))
    return ids[row.subsumed_key], ids[row.surviving_key]


def standing(connection: Connection, wanted: Mapping[str, PatientId]) -> dict[PatientId, int]:
    """Keys of ids that are known and not merged, locked; raises MergeRefused, which calls an id by its name here."""
    keys = _locked(connection, list(wanted.values()))
    for name, who in wanted.items():
        if who not in keys:
            raise MergeRefused(f"the {name} id was never announced by a patient identity feed")
    merged = set(
        connection.execute(select(_m.subsumed_key).where(_m.subsumed_key.in_(list(keys.values())), _ACTIVE)).scalars()
    )
    for name, who in wanted.items():
        if keys[who] in merged:
            raise MergeRefused(f"the {name} id is merged into another already")
    return keys


def _locked(connection: Connection, wanted: Collection[PatientId]) -> dict[PatientId, int]:
    """Keys of the ids that are known, their rows locked in one order until the end of this transaction.

    Not against registrations for them: those only refer to the rows.
    """
    rows = connection.execute(
        select(_p.patient_key, _p.id, _p.authority)
        .where(or_(*(and_(_p.authority == authority, _p.id == identifier) for identifier, authority in wanted)))
        .order_by(_p.patient_key)
        .with_for_update(key_share=True)
    )
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
