"""A search as SQL. Time leads: the answer is read in the order of ``record_once`` and continued by a key.

A record that says no time has the time 0 and is looked for by when it came; it is older than all the others. So a
search within a time is two statements, which each have an index; their rows in turn are the answer.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from sqlalchemy import LargeBinary, Row, Select, and_, cast, func, literal, or_, select, tuple_

from atna.record_repository.indexing import DCM_ROLES, Kind, Patient, bits
from atna.record_repository.store.protocol import Code, Criteria, Cursor, Stored
from atna.record_repository.store.rows import cut, cut_all
from atna.record_repository.store.tables import (
    INDEXED,
    record,
    record_object,
    record_participant,
    record_patient,
    record_text,
    record_type,
)

__all__ = ["COLUMNS", "counts", "searches", "stored"]


COLUMNS: Final = select(
    record.c.number,
    record.c.event_at,
    record.c.sha256,
    record.c.received_at,
    record.c.readable,
    record.c.message,
    record.c.via,
)

DCM: Final = "DCM"
_LAST: Final = "\U0010ffff"
"""Behind every text that begins alike."""


def stored(row: Row[*tuple[Any, ...]], partitions: Mapping[int, str]) -> Stored:
    return Stored(
        *(row.number, row.event_at, row.sha256, row.received_at, row.readable, row.message, row.via),
        partition=partitions.get(row.number),
    )


def searches(criteria: Criteria, *, oldest_first: bool, after: Cursor | None) -> list[Select[Any]]:
    """Statements whose rows, one statement after the other, are the answer."""
    found = [_search(COLUMNS.where(*conditions), oldest_first, after) for conditions in _both(criteria)]
    return found[::-1] if oldest_first else found


def _search(statement: Select[Any], oldest_first: bool, after: Cursor | None) -> Select[Any]:
    event_at, sha256 = record.c.event_at, record.c.sha256
    if after is not None:
        here = tuple_(literal(after.event_at), cast(literal(after.sha256), LargeBinary))
        place = tuple_(event_at, sha256)
        statement = statement.where(place > here if oldest_first else place < here)
    if oldest_first:
        return statement.order_by(event_at, sha256)
    return statement.order_by(event_at.desc(), sha256.desc())


def counts(criteria: Criteria) -> list[Select[Any]]:
    """Statements whose numbers, added up, are how many records there are."""
    return [select(func.count()).select_from(record).where(*conditions) for conditions in _both(criteria)]


def _both(criteria: Criteria) -> Iterator[Sequence[Any]]:
    """Conditions on the records that say a time, and on those that do not."""
    since, before = criteria.since, criteria.before
    if since is None and before is None:
        yield list(_conditions(criteria))
        return
    yield list(_conditions(replace(criteria, since=max(since or 0, 1))))
    came = record.c.received_at
    bounds = ([came >= since] if since is not None else []) + ([came < before] if before is not None else [])
    yield [*_conditions(replace(criteria, since=0, before=1)), *bounds]


def _conditions(criteria: Criteria) -> Iterator[Any]:
    if criteria.since is not None:
        yield record.c.event_at >= criteria.since
    if criteria.before is not None:
        yield record.c.event_at < criteria.before
    if criteria.up_to is not None:
        yield record.c.number <= criteria.up_to
    for one in (criteria, *criteria.further):
        yield from _of_record(one)
        yield from _of_side_tables(criteria, one)


def _of_record(one: Criteria) -> Iterator[Any]:
    """Conditions on the columns of ``record``."""
    if one.numbers:
        yield record.c.number.in_(one.numbers)
    if one.readable is not None:
        yield record.c.readable.is_(one.readable)
    if one.events:
        yield or_(*(_coded(record.c.event_code, record.c.event_system, *event) for event in one.events))
    if one.outcomes:
        yield record.c.outcome.in_(one.outcomes)
    if one.actions:
        yield record.c.action.in_(one.actions)
    if one.sources:
        yield record.c.source_id.in_(_all_cut(one.sources))
    if one.sites:
        yield record.c.site_id.in_(_all_cut(one.sites))
    if one.entity_types:
        yield record.c.entity_types.bitwise_and(bits(one.entity_types)) != 0
    if one.entity_roles:
        yield record.c.entity_roles.bitwise_and(bits(one.entity_roles)) != 0


def _of_side_tables(time: Criteria, one: Criteria) -> Iterator[Any]:
    """Conditions on the tables beside it; ``time`` bounds what is read of them."""
    if one.patients:
        yield _listed(time, record_patient, or_(*map(_is_patient, one.patients)))
    if one.users:
        yield _listed(time, record_participant, record_participant.c.user_id.in_(_all_cut(one.users)))
    if one.objects:
        yield or_(*_of_objects(time, one.objects))
    if one.types:
        codes = (_coded(record_type.c.code, record_type.c.system, *code) for code in one.types)
        yield _listed(time, record_type, or_(*codes))
    for kind, beginnings in (
        (Kind.ADDRESS, one.addresses),
        (Kind.AGENT_NAME, one.agent_names),
        (Kind.ENTITY_NAME, one.entity_names),
    ):
        if beginnings:
            yield _listed(time, record_text, or_(*(_begins(kind, text) for text in beginnings)))
    for kind, texts in ((Kind.ALTERNATIVE_ID, one.alternative_ids), (Kind.POLICY, one.policies)):
        if texts:
            yield _listed(time, record_text, _is_text(kind, texts))
    if one.purposes:
        yield _listed(time, record_text, or_(*(_is_code(Kind.PURPOSE, *code) for code in one.purposes)))
    if one.roles:
        yield or_(*_of_roles(time, one.roles))
    if one.organisations:
        yield or_(*_of_organisations(time, one.organisations))


def _of_objects(time: Criteria, objects: Sequence[str | Patient]) -> Iterator[Any]:
    texts = [item for item in objects if isinstance(item, str)]
    patients = [item for item in objects if isinstance(item, Patient)]
    if texts:
        yield _listed(time, record_object, record_object.c.object_id.in_(_all_cut(texts)))
    if patients:
        yield _listed(time, record_patient, or_(*map(_is_patient, patients)))


def _of_roles(time: Criteria, roles: Sequence[Code]) -> Iterator[Any]:
    known = [DCM_ROLES[code] for code, system in roles if code in DCM_ROLES and system in {DCM, None}]
    if known:
        yield record.c.agent_roles.bitwise_and(bits(known)) != 0
    yield _listed(time, record_text, or_(*(_is_code(Kind.ROLE, *role) for role in roles)))


def _of_organisations(time: Criteria, names: Sequence[str]) -> Iterator[Any]:
    yield record.c.source_id.in_(_all_cut(names))
    yield record.c.site_id.in_(_all_cut(names))
    yield _listed(time, record_participant, record_participant.c.user_id.in_(_all_cut(names)))
    yield _listed(time, record_text, _is_text(Kind.AGENT_NAME, [name.casefold() for name in names]))


def _listed(time: Criteria, table: Any, condition: Any) -> Any:
    """Records that a side table lists under a value, within the time asked for."""
    found = select(table.c.record).where(condition)
    if time.since is not None:
        found = found.where(table.c.event_at >= time.since)
    if time.before is not None:
        found = found.where(table.c.event_at < time.before)
    return record.c.number.in_(found)


def _all_cut(texts: Iterable[str]) -> list[str]:
    return sorted(cut_all(frozenset(texts)))


def _is_text(kind: Kind, texts: Iterable[str]) -> Any:
    return and_(record_text.c.kind == int(kind), record_text.c.text.in_(_all_cut(texts)))


def _begins(kind: Kind, text: str) -> Any:
    """FHIR compares a string from its beginning, whatever the case."""
    beginning = text.casefold()[:INDEXED]
    column = record_text.c.text
    return and_(record_text.c.kind == int(kind), column >= beginning, column < beginning + _LAST)


def _is_code(kind: Kind, code: str, system: str | None) -> Any:
    return and_(record_text.c.kind == int(kind), _coded(record_text.c.text, record_text.c.system, code, system))


def _coded(code_column: Any, system_column: Any, code: str, system: str | None) -> Any:
    same_code = code_column == cut(code)
    if system is None:
        return same_code
    # An event without a system has NULL in ``record``, a row of a side table "".
    same_system = system_column == cut(system) if system else func.coalesce(system_column, "") == ""
    return and_(same_code, same_system)


def _is_patient(patient: Patient) -> Any:
    same_id = record_patient.c.id == cut(patient.id)
    if patient.authority is None:
        return same_id
    return and_(same_id, record_patient.c.authority == cut(patient.authority))
