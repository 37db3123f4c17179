"""Rows that answer a stored query: what is read of each table, in which order, by which selector.

A query is looked up in two steps. ``Look`` finds which objects answer and what may change of them (status, version),
in one snapshot and without their bytes. ``kept_bytes`` reads the bytes, block by block, when they are sent: an object's
bytes never change, so that it does not matter which later snapshot they are read in.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Column, ColumnElement, Connection, Select, Table, select

from ihe import vocabulary as v
from registry.criteria import Attribute as At
from registry.criteria import Criteria
from registry.store import codes as c
from registry.store import tables as t
from registry.store.blocks import blocks
from registry.store.protocol import TooManyFound

HAS_MEMBER: Final = c.ASSOCIATION[v.HAS_MEMBER]
_e, _a, _s, _f = t.entry.c, t.association.c, t.submission_set.c, t.folder.c

KEYS: Final[dict[Table, "Column[Any]"]] = {
    t.submission_set: _s.submission_set_key,
    t.entry: _e.entry_key,
    t.folder: _f.folder_key,
    t.association: _a.association_key,
}
"""Rise in the order of registration."""

_REFERENCE: Final[dict[Table, list["Column[Any]"]]] = {
    t.submission_set: [_s.entry_uuid, _s.patient_key],
    t.entry: [_e.entry_uuid, _e.patient_key],
    t.folder: [_f.entry_uuid, _f.patient_key],
    t.association: [_a.entry_uuid, _a.patient_key, _a.type, _a.source, _a.target],
}
"""What tells an object and its patient, and what it joins."""

_SHOWN: Final[dict[Table, list["Column[Any]"]]] = {
    t.submission_set: [_s.status, _s.home],
    t.entry: [_e.status, _e.home, _e.logical_id, _e.version, _e.availability],
    t.folder: [_f.status, _f.home, _f.logical_id, _f.version, _f.last_update_time],
    t.association: [_a.status],
}
"""What goes into the holes of an object's bytes."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A row that answers, and the table it is of."""

    table: Table
    row: Any


def base(table: Table, *, full: bool) -> Select[Any]:
    """SELECT of what an answer needs beside the bytes; ``full``: more than a reference to the object."""
    return select(KEYS[table].label("key"), *_REFERENCE[table], *(_SHOWN[table] if full else ()))


@dataclass(frozen=True, slots=True)
class Look:
    """One query in its snapshot; finds ``limit`` objects at most, more raise TooManyFound."""

    connection: Connection
    criteria: Criteria
    limit: int
    full: bool

    def rows(self, table: Table, *conditions: ColumnElement[bool]) -> list[Hit]:
        """Rows of a table in the order of registration."""
        wanted = base(table, full=self.full).where(*conditions).order_by(KEYS[table]).limit(self.limit + 1)
        return self.within([Hit(table, row) for row in self.connection.execute(wanted)])

    def among(
        self, table: Table, column: ColumnElement[Any], values: Sequence[Any], *conditions: ColumnElement[bool]
    ) -> list[Hit]:
        """Rows whose ``column`` is one of ``values``, likewise ordered; however many values, each finds by index."""
        found = [self.rows(table, column.in_(block), *conditions) for block in blocks(values)]
        if len(found) == 1:
            return found[0]
        return self.within(ordered(hit for block in found for hit in block))

    def within(self, found: list[Hit]) -> list[Hit]:
        """What was found, if it is not too much."""
        if len(found) > self.limit:
            raise TooManyFound(self.limit)
        return found


def ordered(found: Iterable[Hit]) -> list[Hit]:
    """Rows of one table in the order of registration, each once."""
    by_key = {hit.row.key: hit for hit in found}
    return [by_key[key] for key in sorted(by_key)]


def uuids(found: list[Hit]) -> list[str]:
    """The entryUUIDs, in order."""
    return [hit.row.entry_uuid for hit in found]


def latest(table: Table, criteria: Criteria) -> tuple[ColumnElement[bool], ...]:
    """Level 1 shows of each logical object its latest version alone, level 2 all of them (XDS Metadata Update)."""
    return () if criteria.all_versions else (table.c.superseded == 0,)


_SELECTORS: Final = {At.ENTRY_UUID: "entry_uuid", At.UNIQUE_ID: "unique_id", At.LOGICAL_ID: "logical_id"}


def selected(table: Table, criteria: Criteria) -> tuple[ColumnElement[bool], ...]:
    """The one selector that was given; an entryUUID is that very object, the others mean the versions to be shown."""
    attribute = next(a for a in _SELECTORS if a in criteria.values)
    chosen: ColumnElement[bool] = table.c[_SELECTORS[attribute]].in_(list(criteria.any_of(attribute)))
    if attribute is At.ENTRY_UUID or table is t.submission_set:
        return (chosen,)
    return (chosen, *latest(table, criteria))


def kept_bytes(connection: Connection, block: Sequence[Hit]) -> list[tuple[int, bytes]]:
    """(dictionary, bytes) of each object, in order. LookupError when one was removed since it was found."""
    found: dict[tuple[Table, int], tuple[int, bytes]] = {}
    by_table: dict[Table, list[int]] = {}
    for hit in block:
        by_table.setdefault(hit.table, []).append(hit.row.key)
    for table, keys in by_table.items():
        wanted = select(KEYS[table], table.c.dictionary, table.c.fragment).where(KEYS[table].in_(keys))
        for key, dictionary, fragment in connection.execute(wanted):
            found[table, key] = dictionary, fragment
    return [found[hit.table, hit.row.key] for hit in block]
