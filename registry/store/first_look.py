"""What every submission asks first: are its patients known, are its uniqueIds in use. One round trip to PostgreSQL."""

from collections.abc import Collection
from functools import cache
from typing import Any, Final

from sqlalchemy import Connection, Dialect, bindparam, or_, select

from atna.store.prepared import Prepared, select_together
from registry.store import codes as c
from registry.store import tables as t
from registry.store.blocks import blocks
from registry.store.protocol import PatientId, UniqueIdUse

__all__ = ["first_look", "patients_known"]

_AT_ONCE: Final = 16
"""So many statements are prepared at most, one for each number of uniqueIds."""
_MOST_PATIENTS: Final = 100
"""Patients of one submission that are looked up; they all have to be the same one."""

Patients = tuple[dict[PatientId, int], frozenset[PatientId]]
"""Keys of the ids that stand, and which ids are merged into another."""


@cache
def _patient_statement(dialect: Dialect) -> Prepared:
    who = t.patient.c
    return Prepared(
        select(who.patient_key, who.survivor_key).where(
            who.authority == bindparam("patient_authority"), who.id == bindparam("patient_id")
        ),
        dialect,
    )


@cache
def _unique_id_statement(count: int, dialect: Dialect) -> Prepared:
    use = t.unique_id_key.c
    names = [bindparam(f"unique_id_{number}", type_=use.unique_id.type) for number in range(count)]
    columns = (use.unique_id, use.kind, use.object_type, use.hash, use.size)
    return Prepared(select(*columns).where(or_(*(use.unique_id == name for name in names))), dialect)


def patients_known(connection: Connection, wanted: Collection[PatientId]) -> Patients:
    """Which of these ids a feed made known, and which of them were merged since."""
    return first_look(connection, wanted, ())[0]


def first_look(
    connection: Connection, patients: Collection[PatientId], unique_ids: Collection[str]
) -> tuple[Patients, dict[str, UniqueIdUse]]:
    """A submission asks for one patient, seldom for two that ought to be one."""
    who = sorted(patients)[:_MOST_PATIENTS]
    asked: list[tuple[Prepared, dict[str, Any]]] = [
        (_patient_statement(connection.dialect), {"patient_id": identifier, "patient_authority": authority})
        for identifier, authority in who
    ]
    for part in blocks(unique_ids, _AT_ONCE):
        values = {f"unique_id_{number}": value for number, value in enumerate(part)}
        asked.append((_unique_id_statement(len(part), connection.dialect), values))
    answers = select_together(connection, asked)
    uses = [row for rows in answers[len(who) :] for row in rows]
    return _patients(who, answers), {row[0]: _use(*row[1:]) for row in uses}


def _patients(who: list[PatientId], answers: list[list[Any]]) -> Patients:
    found: dict[PatientId, int] = {}
    merged: set[PatientId] = set()
    for one, rows in zip(who, answers, strict=False):
        for key, survivor in rows:
            if survivor is None:
                found[one] = key
            else:
                merged.add(one)
    return found, frozenset(merged)


def _use(kind: int, object_type: int | None, sha1: str | None, size: int | None) -> UniqueIdUse:
    return UniqueIdUse(c.KIND_OF[kind], c.ENTRY_TYPE_OF[object_type] if object_type else None, sha1, size)
