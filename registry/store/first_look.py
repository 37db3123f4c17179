"""What every submission asks first: are its patients known, are its ids in use. Statements compiled once, few of them.

Each is one round trip to PostgreSQL. Most submissions bring what nobody knows yet, and are answered here alone.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cache
from itertools import zip_longest
from typing import Any, Final

from sqlalchemy import ColumnElement, Dialect, Select, bindparam, null, or_, select, union_all

from atna.store.prepared import Prepared
from registry.store import codes as c
from registry.store import tables as t
from registry.store.blocks import blocks
from registry.store.protocol import PatientId, UniqueIdUse

__all__ = ["Ask", "first_look", "known_among"]

_AT_ONCE: Final = 16
"""So many statements of each kind are prepared at most, one for each number of ids."""
_MOST_PATIENTS: Final = 100
"""Patients of one submission that are looked up; they all have to be the same one."""

Ask = Callable[[Prepared, Mapping[str, Any]], Sequence[Any]]
"""Runs a query; its rows."""
Patients = tuple[dict[PatientId, int], frozenset[PatientId]]
"""Keys of the ids that stand, and which ids are merged into another."""


def _one_of(column: ColumnElement[Any], count: int) -> ColumnElement[bool]:
    return or_(*(column == bindparam(f"id_{number}", type_=column.type) for number in range(count)))


def _ids(part: Sequence[str]) -> dict[str, Any]:
    return {f"id_{number}": value for number, value in enumerate(part)}


@cache
def _look(patients: int, unique_ids: int, dialect: Dialect) -> Prepared:
    """Rows of a patient, if any, and of uses of uniqueIds: those have a uniqueId first."""
    who, use = t.patient.c, t.unique_id_key.c
    asked: list[Select[Any]] = []
    if patients:
        mine = (who.authority == bindparam("patient_authority"), who.id == bindparam("patient_id"))
        nothing = null().label("unique_id"), null().label("hash")
        asked.append(select(*nothing, who.patient_key, who.survivor_key, null().label("size")).where(*mine))
    if unique_ids:
        used = select(use.unique_id, use.hash, use.kind, use.object_type, use.size)
        asked.append(used.where(_one_of(use.unique_id, unique_ids)))
    return Prepared(union_all(*asked) if len(asked) > 1 else asked[0], dialect)


@cache
def _known(count: int, dialect: Dialect) -> Prepared:
    columns = (t.object_key.c.entry_uuid, t.entry.c.logical_id, t.folder.c.logical_id)
    return Prepared(union_all(*(select(column).where(_one_of(column, count)) for column in columns)), dialect)


def first_look(
    ask: Ask, dialect: Dialect, patients: Collection[PatientId], unique_ids: Collection[str]
) -> tuple[Patients, dict[str, UniqueIdUse]]:
    """A submission asks for one patient, seldom for two that ought to be one."""
    found: dict[PatientId, int] = {}
    merged: set[PatientId] = set()
    uses: dict[str, UniqueIdUse] = {}
    for who, part in zip_longest(sorted(patients)[:_MOST_PATIENTS], blocks(unique_ids, _AT_ONCE)):
        values = _ids(part or ())
        if who is not None:
            values |= {"patient_id": who[0], "patient_authority": who[1]}
        for unique_id, sha1, key_or_kind, survivor_or_type, size in ask(
            _look(int(who is not None), len(part or ()), dialect), values
        ):
            if unique_id is not None:
                uses[unique_id] = _use(key_or_kind, survivor_or_type, sha1, size)
            elif survivor_or_type is None:
                found[who] = key_or_kind
            else:
                merged.add(who)
    return (found, frozenset(merged)), uses


def known_among(ask: Ask, dialect: Dialect, uuids: Collection[str]) -> frozenset[str]:
    """Which of these are entryUUIDs or logical ids of what is registered."""
    asked = ((_known(len(part), dialect), _ids(part)) for part in blocks(uuids, _AT_ONCE))
    return frozenset(row[0] for statement, values in asked for row in ask(statement, values))


def _use(kind: int, object_type: int | None, sha1: str | None, size: int | None) -> UniqueIdUse:
    return UniqueIdUse(c.KIND_OF[kind], c.ENTRY_TYPE_OF[object_type] if object_type else None, sha1, size)
