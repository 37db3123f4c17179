"""A search as SQL. Time leads: the answer is read in the order of ``record_once`` and continued by a key."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from sqlalchemy import LargeBinary, Row, Select, and_, cast, literal, or_, select, tuple_

from atna.record_repository.indexing import Patient
from atna.record_repository.store.protocol import Criteria, Cursor, Stored
from atna.record_repository.store.rows import cut, cut_all
from atna.record_repository.store.tables import (
    INDEXED,
    record,
    record_object,
    record_participant,
    record_patient,
    record_type,
)

__all__ = ["COLUMNS", "search", "stored"]


COLUMNS: Final = select(
    record.c.number,
    record.c.event_at,
    record.c.sha256,
    record.c.received_at,
    record.c.readable,
    record.c.message,
    record.c.via,
)


def stored(row: Row[*tuple[Any, ...]], partitions: Mapping[int, str]) -> Stored:
    return Stored(
        *(row.number, row.event_at, row.sha256, row.received_at, row.readable, row.message, row.via),
        partition=partitions.get(row.number),
    )


def search(criteria: Criteria, *, oldest_first: bool, after: Cursor | None) -> Select[Any]:
    statement = COLUMNS
    for condition in _conditions(criteria):
        statement = statement.where(condition)
    event_at, sha256 = record.c.event_at, record.c.sha256
    if after is not None:
        here = tuple_(literal(after.event_at), cast(literal(after.sha256), LargeBinary))
        place = tuple_(event_at, sha256)
        statement = statement.where(place > here if oldest_first else place < here)
    if oldest_first:
        return statement.order_by(event_at, sha256)
    return statement.order_by(event_at.desc(), sha256.desc())


def _conditions(criteria: Criteria) -> Iterator[Any]:
    if criteria.since is not None:
        yield record.c.event_at >= criteria.since
    if criteria.before is not None:
        yield record.c.event_at < criteria.before
    if criteria.events:
        yield or_(*(_coded(record.c.event_code, record.c.event_system, *event) for event in criteria.events))
    if criteria.outcomes:
        yield record.c.outcome.in_(criteria.outcomes)
    if criteria.actions:
        yield record.c.action.in_(criteria.actions)
    if criteria.sources:
        yield record.c.source_id.in_([cut(source) for source in criteria.sources])
    if criteria.patients:
        yield _listed(criteria, record_patient, or_(*(_is_patient(patient) for patient in criteria.patients)))
    if criteria.users:
        yield _listed(
            criteria, record_participant, record_participant.c.user_id.in_(cut_all(frozenset(criteria.users)))
        )
    if criteria.objects:
        yield _listed(criteria, record_object, record_object.c.object_id.in_(cut_all(frozenset(criteria.objects))))
    if criteria.types:
        codes = (_coded(record_type.c.code, record_type.c.system, *code) for code in criteria.types)
        yield _listed(criteria, record_type, or_(*codes))


def _listed(criteria: Criteria, table: Any, condition: Any) -> Any:
    """Records that a side table lists under a value, within the time asked for."""
    found = select(table.c.record).where(condition)
    if criteria.since is not None:
        found = found.where(table.c.event_at >= criteria.since)
    if criteria.before is not None:
        found = found.where(table.c.event_at < criteria.before)
    return record.c.number.in_(found)


def _coded(code_column: Any, system_column: Any, code: str, system: str | None) -> Any:
    same_code = code_column == cut(code)
    return same_code if system is None else and_(same_code, system_column == cut(system))


def _is_patient(patient: Patient) -> Any:
    same_id = record_patient.c.id == patient.id[:INDEXED]
    if patient.authority is None:
        return same_id
    return and_(same_id, record_patient.c.authority == patient.authority[:INDEXED])
