"""Rows that answer a stored query: what is read of each table, in which order, by which selector."""

from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Column, ColumnElement, Connection, Select, Table, select

from ihe import vocabulary as v
from registry.criteria import Attribute as At
from registry.criteria import Criteria
from registry.store import codes as c
from registry.store import tables as t

HAS_MEMBER: Final = c.ASSOCIATION[v.HAS_MEMBER]
_e, _a, _s, _f = t.entry.c, t.association.c, t.submission_set.c, t.folder.c

COLUMNS: Final[dict[Table, list["Column[Any]"]]] = {
    t.submission_set: [_s.entry_uuid, _s.patient_key, _s.status, _s.home, _s.dictionary, _s.fragment],
    t.entry: [
        _e.entry_uuid, _e.patient_key, _e.status, _e.home, _e.dictionary, _e.fragment,
        _e.logical_id, _e.version, _e.availability,
    ],
    t.folder: [
        _f.entry_uuid, _f.patient_key, _f.status, _f.home, _f.dictionary, _f.fragment,
        _f.logical_id, _f.version, _f.last_update_time,
    ],
    t.association: [_a.entry_uuid, _a.patient_key, _a.status, _a.dictionary, _a.fragment, _a.source, _a.target],
}  # fmt: skip
"""What an answer needs of each kind of row."""

_KEYS: Final = {
    t.submission_set: _s.submission_set_key,
    t.entry: _e.entry_key,
    t.folder: _f.folder_key,
    t.association: _a.association_key,
}


@dataclass(frozen=True, slots=True)
class Hit:
    """A row that answers, and the table it is of."""

    table: Table
    row: Any


def base(table: Table) -> Select[Any]:
    """SELECT of what an answer needs."""
    return select(*COLUMNS[table])


def selected(table: Table, criteria: Criteria) -> ColumnElement[bool]:
    """The one selector that was given: entryUUID, uniqueId or logicalID."""
    columns = {At.ENTRY_UUID: "entry_uuid", At.UNIQUE_ID: "unique_id", At.LOGICAL_ID: "logical_id"}
    attribute = next(a for a in columns if a in criteria.values)
    condition: ColumnElement[bool] = table.c[columns[attribute]].in_(list(criteria.any_of(attribute)))
    return condition


def hits(connection: Connection, table: Table, *conditions: ColumnElement[bool], limit: int | None = None) -> list[Hit]:
    """Rows of a table in the order of registration; one more than ``limit`` tells that there are more."""
    wanted = base(table).where(*conditions).order_by(_KEYS[table])
    if limit is not None:
        wanted = wanted.limit(limit + 1)
    return [Hit(table, row) for row in connection.execute(wanted)]


def uuids(found: list[Hit]) -> list[str]:
    """The entryUUIDs, in order."""
    return [hit.row.entry_uuid for hit in found]
