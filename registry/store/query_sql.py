"""Stored queries as SQL (ITI TF-2: 3.18.4.1.2.3.7): which rows answer which criteria.

Every answer is ordered: SubmissionSets, DocumentEntries, Folders, Associations, each in the order of registration.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Row,
    Select,
    Table,
    and_,
    bindparam,
    exists,
    literal_column,
    or_,
    select,
)

from atna.store.prepared import Prepared
from atna.store.quick import Quick
from consent.policy import Visibility
from ihe import vocabulary as v
from ihe.datatypes import CX, print_cx
from ihe.metadata import AvailabilityStatus, Code, EntryType
from registry.criteria import Attribute as At
from registry.criteria import Criteria, Query
from registry.store import codes as c
from registry.store import tables as t
from registry.store.fragments import Codec, Filling, filled
from registry.store.protocol import Found

_HAS_MEMBER: Final = c.ASSOCIATION[v.HAS_MEMBER]
_e, _a, _s, _f = t.entry.c, t.association.c, t.submission_set.c, t.folder.c

# What an answer needs of each kind of row.
_COLUMNS: Final[dict[Table, list["Column[Any]"]]] = {
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
_KEYS: Final = {
    t.submission_set: _s.submission_set_key,
    t.entry: _e.entry_key,
    t.folder: _f.folder_key,
    t.association: _a.association_key,
}

_CODE_COLUMNS: Final = {
    At.CLASS_CODE: (_e.class_code, _e.class_scheme),
    At.TYPE_CODE: (_e.type_code, _e.type_scheme),
    At.FORMAT_CODE: (_e.format_code, _e.format_scheme),
    At.PRACTICE_SETTING_CODE: (_e.practice_code, _e.practice_scheme),
    At.FACILITY_TYPE_CODE: (_e.facility_code, _e.facility_scheme),
}
_CODE_TABLES: Final = {At.EVENT_CODE: c.EVENT, At.CONFIDENTIALITY_CODE: c.CONFIDENTIALITY}

# From is inclusive, To exclusive, both against the first instant of what was sent. An absent service time is not
# excluded; creation times say nothing of an on-demand entry.
_TIMES: Final = {
    At.CREATION_FROM: (_e.creation_low, True),
    At.CREATION_TO: (_e.creation_low, False),
    At.SERVICE_START_FROM: (_e.service_start_low, True),
    At.SERVICE_START_TO: (_e.service_start_low, False),
    At.SERVICE_STOP_FROM: (_e.service_stop_low, True),
    At.SERVICE_STOP_TO: (_e.service_stop_low, False),
}


def _is_code(code_column: Any, scheme_column: Any, alternatives: Sequence[Any]) -> ColumnElement[bool]:
    return or_(*(and_(code_column == x.code, scheme_column == x.scheme) for x in alternatives if isinstance(x, Code)))


def entry_conditions(criteria: Criteria) -> list[ColumnElement[bool]]:
    """The conditions that a DocumentEntry must meet, one per parameter given."""
    found: list[ColumnElement[bool]] = []
    for attribute, groups in criteria.values.items():
        condition = _ENTRY_CONDITIONS.get(attribute)
        if condition is not None:
            found += [condition(attribute, alternatives) for alternatives in groups]
    return found


def _column_code(attribute: At, alternatives: Sequence[Any]) -> ColumnElement[bool]:
    return _is_code(*_CODE_COLUMNS[attribute], alternatives)


def _table_code(attribute: At, alternatives: Sequence[Any]) -> ColumnElement[bool]:
    row = t.entry_code.c
    return exists().where(
        row.entry_key == _e.entry_key,
        row.attribute == _CODE_TABLES[attribute],
        _is_code(row.code, row.scheme, alternatives),
    )


def _time(attribute: At, alternatives: Sequence[Any]) -> ColumnElement[bool]:
    column, is_from = _TIMES[attribute]
    within = column >= alternatives[0] if is_from else column < alternatives[0]
    return or_(column.is_(None), within)


def _author(_: At, alternatives: Sequence[Any]) -> ColumnElement[bool]:
    row = t.entry_author.c
    return exists().where(row.entry_key == _e.entry_key, or_(*(like(row.person, pattern) for pattern in alternatives)))


def like(column: Any, pattern: str) -> ColumnElement[bool]:
    """LIKE with ``%`` and ``_`` alone; a backslash is a character like any other (ITI TF-2: 3.18.4.1.2.3.5)."""
    condition: ColumnElement[bool] = column.like(pattern.replace("\\", "\\\\"), escape="\\")
    return condition


def _numbered(column: Any, numbers: dict[Any, int]) -> Callable[[At, Sequence[Any]], ColumnElement[bool]]:
    def condition(_: At, alternatives: Sequence[Any]) -> ColumnElement[bool]:
        wanted: ColumnElement[bool] = column.in_(sorted(numbers[x] for x in alternatives))
        return wanted

    return condition


_ENTRY_CONDITIONS: Final[dict[At, Callable[[At, Sequence[Any]], ColumnElement[bool]]]] = {
    **dict.fromkeys(_CODE_COLUMNS, _column_code),
    **dict.fromkeys(_CODE_TABLES, _table_code),
    **dict.fromkeys(_TIMES, _time),
    At.AUTHOR_PERSON: _author,
    At.STATUS: _numbered(_e.status, {status: c.STATUS[status] for status in AvailabilityStatus}),
    At.ENTRY_TYPE: _numbered(_e.object_type, {kind: c.ENTRY_TYPE[kind] for kind in EntryType}),
    At.AVAILABILITY: _numbered(_e.availability, dict(c.AVAILABILITY)),
}


@dataclass(frozen=True, slots=True)
class _Hit:
    """A row that answers, and the table it is of."""

    table: Table
    row: Any


class Selector:
    """Runs the SQL of each query and turns rows into ``Found``."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._plain: dict[Any, Prepared] = {}
        self._plans: dict[Query, Callable[[Connection, Criteria, int | None], list[_Hit]]] = {
            Query.FIND_DOCUMENTS: self._find_documents,
            Query.GET_DOCUMENTS: self._get_documents,
            Query.GET_SUBMISSION_SETS: self._get_submission_sets,
            Query.GET_SUBMISSION_SET_AND_CONTENTS: self._get_submission_set_and_contents,
        }

    def __call__(self, connection: Connection, criteria: Criteria, visibility: Visibility, limit: int | None) -> Found:
        """Select in the connection's snapshot; a ``visibility`` that hides something cannot be applied yet."""
        if not visibility.everything:
            raise ValueError("this store can show everything or nothing")
        hits = self._plans[criteria.query](connection, criteria, limit)
        patients = _patient_ids(connection, {hit.row.patient_key for hit in hits if hit.table is not t.association})
        return self._found(hits, patients)

    def plain(self, quick: Quick, criteria: Criteria, visibility: Visibility, limit: int | None) -> Found:
        """FindDocuments by patient, status and type, which nearly every query of the field is: one quick statement."""
        if not visibility.everything or criteria.patient is None:
            raise ValueError("this query is not plain")
        # One text for each choice of status and type; what the sender chose is ours by now, never its own words.
        shape = (criteria.any_of(At.STATUS), criteria.any_of(At.ENTRY_TYPE), limit)
        statement = self._plain.get(shape)
        if statement is None:
            statement = self._plain[shape] = Prepared(_plain_statement(criteria, limit), quick.dialect)
        identifier, authority = criteria.patient
        rows = quick.select(statement, {"patient_id": identifier, "patient_authority": authority})
        hits = [_Hit(t.entry, _EntryRow(*row)) for row in rows]
        return self._found(hits, {hits[0].row.patient_key: print_cx(CX(identifier, authority))} if hits else {})

    def _found(self, hits: "list[_Hit]", patients: dict[int, str]) -> Found:
        return Found(
            entry_uuids=[hit.row.entry_uuid for hit in hits],
            patient_ids=frozenset(patients.values()),
            objects=self._objects(hits, patients),
        )

    def _objects(self, hits: list[_Hit], patients: dict[int, str]) -> Iterator[bytes]:
        for table, row in ((hit.table, hit.row) for hit in hits):
            yield filled(
                self._codec.decompressed(row.fragment, row.dictionary),
                Filling(
                    status=c.STATUS_OF[row.status].value,
                    version=getattr(row, "version", 1),
                    logical_id=getattr(row, "logical_id", row.entry_uuid),
                    patient_id=patients.get(row.patient_key, ""),
                    home=getattr(row, "home", None),
                    last_update_time=row.last_update_time if table is t.folder else None,
                    availability=_shown_availability(row) if table is t.entry else None,
                ),
            )

    def _find_documents(self, connection: Connection, criteria: Criteria, limit: int | None) -> list[_Hit]:
        if criteria.patient is None:
            return []
        identifier, authority = criteria.patient
        who = t.patient.c
        key = connection.execute(
            select(who.patient_key).where(who.authority == authority, who.id == identifier)
        ).scalar_one_or_none()
        if key is None:
            return []
        wanted = _base(t.entry).where(_e.patient_key == key, *entry_conditions(criteria))
        return _hits(connection, t.entry, wanted, limit)

    def _get_documents(self, connection: Connection, criteria: Criteria, limit: int | None) -> list[_Hit]:
        return _hits(connection, t.entry, _base(t.entry).where(_selected(t.entry, criteria)), limit)

    def _get_submission_sets(self, connection: Connection, criteria: Criteria, limit: int | None) -> list[_Hit]:
        wanted = list(criteria.any_of(At.ENTRY_UUID))
        is_member = and_(_a.type == _HAS_MEMBER, _a.target.in_(wanted), _a.source.in_(select(_s.entry_uuid)))
        members = _hits(connection, t.association, _base(t.association).where(is_member), None)
        sources = sorted({hit.row.source for hit in members})
        sets = _hits(connection, t.submission_set, _base(t.submission_set).where(_s.entry_uuid.in_(sources)), limit)
        return sets + members

    def _get_submission_set_and_contents(
        self, connection: Connection, criteria: Criteria, limit: int | None
    ) -> list[_Hit]:
        sets = _hits(connection, t.submission_set, _base(t.submission_set).where(_selected(t.submission_set, criteria)))
        if not sets:
            return []
        uuids = [hit.row.entry_uuid for hit in sets]
        from_set = and_(_a.source.in_(uuids), _a.type == _HAS_MEMBER)
        members = _hits(connection, t.association, _base(t.association).where(from_set))
        targets = select(_a.target).where(from_set)
        entries = _hits(
            connection,
            t.entry,
            _base(t.entry).where(_e.entry_uuid.in_(targets), *entry_conditions(criteria)),
            limit,
        )
        folders = _hits(connection, t.folder, _base(t.folder).where(_f.entry_uuid.in_(targets)))
        linked = _hits(connection, t.association, _base(t.association).where(_a.entry_uuid.in_(targets)))
        ends = {hit.row.entry_uuid for hit in entries + folders}
        linked = [hit for hit in linked if hit.row.source in ends and hit.row.target in ends]
        shown = ends | {hit.row.entry_uuid for hit in linked}
        return sets + entries + folders + [hit for hit in members if hit.row.target in shown] + linked


_PLAIN: Final = frozenset({At.STATUS, At.ENTRY_TYPE, At.METADATA_LEVEL})


@dataclass(slots=True)
class _EntryRow:
    """A row of ``_COLUMNS[entry]``, in that order, as the driver gave it."""

    entry_uuid: str
    patient_key: int
    status: int
    home: str | None
    dictionary: int
    fragment: bytes
    logical_id: str
    version: int
    availability: int


def is_plain(criteria: Criteria) -> bool:
    """Whether ``Selector.plain`` can answer."""
    return criteria.query is Query.FIND_DOCUMENTS and criteria.values.keys() <= _PLAIN


def _plain_statement(criteria: Criteria, limit: int | None) -> Select[Any]:
    who = t.patient.c
    key = select(who.patient_key).where(
        who.authority == bindparam("patient_authority"), who.id == bindparam("patient_id")
    )
    wanted = _base(t.entry).where(_e.patient_key == key.scalar_subquery()).order_by(_e.entry_key)
    for attribute, column, numbers in ((At.STATUS, _e.status, c.STATUS), (At.ENTRY_TYPE, _e.object_type, c.ENTRY_TYPE)):
        if attribute in criteria.values:
            known: dict[Any, int] = dict(numbers)
            chosen: Any = [literal_column(str(known[word])) for word in criteria.any_of(attribute)]
            wanted = wanted.where(column.in_(chosen))
    return wanted if limit is None else wanted.limit(literal_column(str(limit + 1)))


def _base(table: Table) -> Select[Any]:
    return select(*_COLUMNS[table])


def _selected(table: Table, criteria: Criteria) -> ColumnElement[bool]:
    """The one selector that was given: entryUUID, uniqueId or logicalID."""
    columns = {At.ENTRY_UUID: "entry_uuid", At.UNIQUE_ID: "unique_id", At.LOGICAL_ID: "logical_id"}
    attribute = next(a for a in columns if a in criteria.values)
    condition: ColumnElement[bool] = table.c[columns[attribute]].in_(list(criteria.any_of(attribute)))
    return condition


def _hits(connection: Connection, table: Table, wanted: Select[Any], limit: int | None = None) -> list[_Hit]:
    wanted = wanted.order_by(_KEYS[table])
    if limit is not None:
        wanted = wanted.limit(limit + 1)
    return [_Hit(table, row) for row in connection.execute(wanted)]


def _shown_availability(row: Row[Any]) -> str | None:
    word = c.AVAILABILITY_OF[row.availability]
    return None if word == v.AVAILABLE_ONLINE else word


def _patient_ids(connection: Connection, keys: set[int]) -> dict[int, str]:
    """CX text of each patient key."""
    if not keys:
        return {}
    who = t.patient.c
    rows = connection.execute(select(who.patient_key, who.id, who.authority).where(who.patient_key.in_(sorted(keys))))
    return {row.patient_key: print_cx(CX(row.id, row.authority)) for row in rows}
