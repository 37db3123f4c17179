"""Parameters of stored queries as conditions of SQL (ITI TF-2: 3.18.4.1.2.3.7), one row per parameter."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, and_, exists, or_, select, tuple_

from ihe.datatypes import normalise_components, normalise_cxi
from ihe.metadata import AvailabilityStatus, Code, EntryType
from registry.criteria import Attribute as At
from registry.criteria import Criteria
from registry.store import codes as c
from registry.store import tables as t

_e, _s, _f, _a = t.entry.c, t.submission_set.c, t.folder.c, t.association.c
_SEPARATORS: Final = ("^", "&", " ")
_WILDCARDS: Final = "%_"
_NUMBERS: Final = {status: c.STATUS[status] for status in AvailabilityStatus}

Condition = Callable[[At, Sequence[Any]], ColumnElement[bool]]
"""Makes the condition for one group of alternatives."""

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
    """One code is compared, several are a list: a long chain of OR is deeper than SQLite parses."""
    wanted = [(x.code, x.scheme) for x in alternatives if isinstance(x, Code)]
    if len(wanted) == 1:
        return and_(code_column == wanted[0][0], scheme_column == wanted[0][1])
    listed: ColumnElement[bool] = tuple_(code_column, scheme_column).in_(wanted)
    return listed


def entry_conditions(criteria: Criteria) -> list[ColumnElement[bool]]:
    """The conditions that a DocumentEntry must meet, one per parameter given."""
    return _conditions(criteria, ENTRY_CONDITIONS)


def submission_set_conditions(criteria: Criteria) -> list[ColumnElement[bool]]:
    """The conditions that a SubmissionSet must meet."""
    return _conditions(criteria, SUBMISSION_SET_CONDITIONS)


def folder_conditions(criteria: Criteria) -> list[ColumnElement[bool]]:
    """The conditions that a Folder must meet."""
    return _conditions(criteria, FOLDER_CONDITIONS)


def association_conditions(criteria: Criteria) -> list[ColumnElement[bool]]:
    """Approved associations, unless the query says otherwise (XDS Metadata Update)."""
    wanted = criteria.any_of(At.ASSOCIATION_STATUS) or (AvailabilityStatus.APPROVED,)
    return [_numbered(_a.status, _NUMBERS)(At.ASSOCIATION_STATUS, wanted)]


def way_in(criteria: Criteria) -> list[ColumnElement[bool]]:
    """What lets SQLite find entries or folders of any patient by the index of a side table (PostgreSQL sees it itself).

    ``EXISTS`` is asked for each row of the outer table, which is right for the few rows of one patient; a list of keys
    is read first.
    """
    found: list[ColumnElement[bool]] = []
    for group in criteria.values.get(At.EVENT_CODE, ()):
        row = t.entry_code.c
        wanted = select(row.entry_key).where(t.IS_EVENT, _is_code(row.code, row.scheme, group))
        found.append(_e.entry_key.in_(wanted))
    for group in criteria.values.get(At.FOLDER_CODE, ()):
        folder = t.folder_code.c
        found.append(_f.folder_key.in_(select(folder.folder_key).where(_is_code(folder.code, folder.scheme, group))))
    return found


def _conditions(criteria: Criteria, known: Mapping[At, Condition]) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    for attribute, groups in criteria.values.items():
        condition = known.get(attribute)
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


def _person(row: Any, belongs: ColumnElement[bool]) -> Condition:
    def condition(_: At, alternatives: Sequence[Any]) -> ColumnElement[bool]:
        patterns = dict.fromkeys(form for pattern in alternatives for form in _forms(pattern, normalise_components))
        return exists().where(belongs, or_(*(like(row.person, pattern) for pattern in patterns)))

    return condition


def _forms(pattern: str, normalise: Callable[[str], str]) -> Iterator[str]:
    """The pattern as it is, and in the one writing in which such a value is kept.

    ``^Smitty^Gerald^^^`` is kept as ``^Smitty^Gerald``, and who asks for what was sent, or for that and whatever
    follows, asks for the same person. As it is, it finds what was kept before it had one writing.
    """
    yield pattern
    start = pattern.removesuffix("%")
    for text in (pattern, start) if start.endswith(_SEPARATORS) else (pattern,):
        if (form := normalise(text)).strip(_WILDCARDS):  # else it asks for more than the pattern does
            yield form


def _reference(_: At, alternatives: Sequence[Any]) -> ColumnElement[bool]:
    row = t.entry_reference.c
    patterns = dict.fromkeys(form for pattern in alternatives for form in _forms(pattern, normalise_cxi))
    return exists().where(row.entry_key == _e.entry_key, or_(*(like(row.reference, pattern) for pattern in patterns)))


def _within(column: Any, *, is_from: bool) -> Condition:
    def condition(_: At, alternatives: Sequence[Any]) -> ColumnElement[bool]:
        bound: ColumnElement[bool] = column >= alternatives[0] if is_from else column < alternatives[0]
        return bound

    return condition


def _one_of(column: Any) -> Condition:
    def condition(_: At, alternatives: Sequence[Any]) -> ColumnElement[bool]:
        wanted: ColumnElement[bool] = column.in_(list(alternatives))
        return wanted

    return condition


def _content_type(_: At, alternatives: Sequence[Any]) -> ColumnElement[bool]:
    return _is_code(_s.content_type_code, _s.content_type_scheme, alternatives)


def _folder_code(_: At, alternatives: Sequence[Any]) -> ColumnElement[bool]:
    row = t.folder_code.c
    return exists().where(row.folder_key == _f.folder_key, _is_code(row.code, row.scheme, alternatives))


def like(column: Any, pattern: str) -> ColumnElement[bool]:
    """LIKE with ``%`` and ``_`` alone; a backslash is a character like any other (ITI TF-2: 3.18.4.1.2.3.5)."""
    condition: ColumnElement[bool] = column.like(pattern.replace("\\", "\\\\"), escape="\\")
    return condition


def _numbered(column: Any, numbers: dict[Any, int]) -> Condition:
    def condition(_: At, alternatives: Sequence[Any]) -> ColumnElement[bool]:
        wanted: ColumnElement[bool] = column.in_(sorted(numbers[x] for x in alternatives))
        return wanted

    return condition


ENTRY_CONDITIONS: Final[dict[At, Condition]] = {
    **dict.fromkeys(_CODE_COLUMNS, _column_code),
    **dict.fromkeys(_CODE_TABLES, _table_code),
    **dict.fromkeys(_TIMES, _time),
    At.AUTHOR_PERSON: _person(t.entry_author.c, t.entry_author.c.entry_key == _e.entry_key),
    At.REFERENCE_ID: _reference,
    At.STATUS: _numbered(_e.status, _NUMBERS),
    At.ENTRY_TYPE: _numbered(_e.object_type, {kind: c.ENTRY_TYPE[kind] for kind in EntryType}),
    At.AVAILABILITY: _numbered(_e.availability, dict(c.AVAILABILITY)),
}

SUBMISSION_SET_CONDITIONS: Final[dict[At, Condition]] = {
    At.SUBMISSION_SET_STATUS: _numbered(_s.status, _NUMBERS),
    At.SOURCE_ID: _one_of(_s.source_id),
    At.SUBMISSION_FROM: _within(_s.submission_low, is_from=True),
    At.SUBMISSION_TO: _within(_s.submission_low, is_from=False),
    At.SUBMISSION_SET_AUTHOR: _person(
        t.submission_set_author.c, t.submission_set_author.c.submission_set_key == _s.submission_set_key
    ),
    At.CONTENT_TYPE: _content_type,
}

FOLDER_CONDITIONS: Final[dict[At, Condition]] = {
    At.FOLDER_STATUS: _numbered(_f.status, _NUMBERS),
    At.LAST_UPDATE_FROM: _within(_f.last_update_time, is_from=True),
    At.LAST_UPDATE_TO: _within(_f.last_update_time, is_from=False),
    At.FOLDER_CODE: _folder_code,
}
