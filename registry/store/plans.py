"""One function per stored query: which rows answer it (ITI TF-2: 3.18.4.1.2.3.7, 3.51).

Every answer is ordered: SubmissionSets, DocumentEntries, Folders, Associations, each in the order of registration.

Versions and associations (XDS Metadata Update): ``hits.latest`` and ``_shown_associations``.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, Table, and_, or_, select

from registry.criteria import Attribute as At
from registry.criteria import Criteria, Query
from registry.store import codes as c
from registry.store import tables as t
from registry.store.conditions import (
    association_conditions,
    entry_conditions,
    folder_conditions,
    submission_set_conditions,
    way_in,
)
from registry.store.hits import HAS_MEMBER, Hit, Look, latest, ordered, selected, uuids
from registry.store.merges import keys_of

_e, _a, _s, _f = t.entry.c, t.association.c, t.submission_set.c, t.folder.c

Plan = Callable[[Look], list[Hit]]
"""Asks the database. Raises TooManyFound."""


def _patient_keys(look: Look) -> list[int] | None:
    """Of the patients asked for and of all merged into them, not of unknown or merged ids; None when none was asked."""
    if not look.criteria.patients:
        return None
    groups = (keys_of(*patient) for patient in look.criteria.patients)
    keys = [key for group in groups for key in look.connection.execute(group).scalars()]
    return list(dict.fromkeys(keys))


def _of_patients(
    look: Look, table: Table, keys: list[int] | None, conditions: Sequence[ColumnElement[bool]]
) -> list[Hit]:
    """Rows of these patients, or of all."""
    if keys is None:
        return look.rows(table, *conditions, *way_in(look.criteria))
    return look.among(table, table.c.patient_key, keys, *conditions)


def find_documents(look: Look) -> list[Hit]:
    """FindDocuments and FindDocumentsByReferenceId; of one patient, several, or all."""
    return _of_patients(look, t.entry, _patient_keys(look), _current_entries(look.criteria))


def find_submission_sets(look: Look) -> list[Hit]:
    """FindSubmissionSets."""
    return _of_patients(look, t.submission_set, _patient_keys(look), submission_set_conditions(look.criteria))


def find_folders(look: Look) -> list[Hit]:
    """FindFolders; of one patient, several, or all."""
    return _of_patients(look, t.folder, _patient_keys(look), _current_folders(look.criteria))


def _current_entries(criteria: Criteria) -> list[ColumnElement[bool]]:
    return [*entry_conditions(criteria), *latest(t.entry, criteria)]


def _current_folders(criteria: Criteria) -> list[ColumnElement[bool]]:
    return [*folder_conditions(criteria), *latest(t.folder, criteria)]


def get_all(look: Look) -> list[Hit]:
    """GetAll: everything of a patient, and every association that begins or ends there."""
    keys = _patient_keys(look)
    found = _of_patients(look, t.submission_set, keys, submission_set_conditions(look.criteria))
    found = found + _of_patients(look, t.entry, keys, _current_entries(look.criteria))
    found = look.within(found + _of_patients(look, t.folder, keys, _current_folders(look.criteria)))
    return found + _touching(look, uuids(found))


def _touching(look: Look, wanted: list[str]) -> list[Hit]:
    """Associations that begin or end at one of the objects."""
    shown = association_conditions(look.criteria)
    beginning = look.among(t.association, _a.source, wanted, *shown)
    return look.within(ordered(beginning + look.among(t.association, _a.target, wanted, *shown)))


def get_documents(look: Look) -> list[Hit]:
    """GetDocuments."""
    return look.rows(t.entry, *selected(t.entry, look.criteria))


def get_folders(look: Look) -> list[Hit]:
    """GetFolders."""
    return look.rows(t.folder, *selected(t.folder, look.criteria))


def get_associations(look: Look) -> list[Hit]:
    """GetAssociations."""
    return _touching(look, [str(uuid) for uuid in look.criteria.any_of(At.ENTRY_UUID)])


def get_documents_and_associations(look: Look) -> list[Hit]:
    """GetDocumentsAndAssociations."""
    entries = get_documents(look)
    return entries + _touching(look, uuids(entries))


def get_submission_sets(look: Look) -> list[Hit]:
    """GetSubmissionSets."""
    members = look.among(
        t.association,
        _a.target,
        look.criteria.any_of(At.ENTRY_UUID),
        _a.type == HAS_MEMBER,
        _a.source.in_(select(_s.entry_uuid)),
        *association_conditions(look.criteria),
    )
    sources = sorted({hit.row.source for hit in members})
    return look.among(t.submission_set, _s.entry_uuid, sources) + members


def _members(look: Look, packages: list[Hit]) -> ColumnElement[bool]:
    """The shown HasMember associations of these packages."""
    return and_(_a.source.in_(uuids(packages)), _a.type == HAS_MEMBER, *association_conditions(look.criteria))


def get_submission_set_and_contents(look: Look) -> list[Hit]:
    """GetSubmissionSetAndContents."""
    sets = look.rows(t.submission_set, *selected(t.submission_set, look.criteria))
    if not sets:
        return []
    is_member = _members(look, sets)
    targets = select(_a.target).where(is_member)
    entries = look.rows(t.entry, _e.entry_uuid.in_(targets), *_current_entries(look.criteria))
    folders = look.rows(t.folder, _f.entry_uuid.in_(targets), *latest(t.folder, look.criteria))
    ends = uuids(entries + folders)
    shown = association_conditions(look.criteria)
    linked = look.among(t.association, _a.source, ends, _a.entry_uuid.in_(targets), *shown)
    linked = [hit for hit in linked if hit.row.target in set(ends)]
    members = look.among(t.association, _a.target, ends + uuids(linked), is_member)
    return sets + entries + folders + members + linked


def get_folder_and_contents(look: Look) -> list[Hit]:
    """GetFolderAndContents; of a uniqueId at level 2 every version of the folder with its own members."""
    folders = look.rows(t.folder, *selected(t.folder, look.criteria))
    if not folders:
        return []
    is_member = _members(look, folders)
    targets = select(_a.target).where(is_member)
    entries = look.rows(t.entry, _e.entry_uuid.in_(targets), *_current_entries(look.criteria))
    return entries + folders + look.among(t.association, _a.target, uuids(entries), is_member)


def get_folders_for_document(look: Look) -> list[Hit]:
    """GetFoldersForDocument."""
    entries = select(_e.entry_uuid).where(*selected(t.entry, look.criteria))
    is_member = and_(_a.type == HAS_MEMBER, _a.target.in_(entries), *association_conditions(look.criteria))
    containing = select(_a.source).where(is_member)
    return look.rows(t.folder, _f.entry_uuid.in_(containing), *latest(t.folder, look.criteria))


def get_related_documents(look: Look) -> list[Hit]:
    """GetRelatedDocuments: relationships of the wanted kinds between entries, and the entries at both ends."""
    given = uuids(get_documents(look))
    kinds = [c.ASSOCIATION[str(kind)] for kind in look.criteria.any_of(At.ASSOCIATION_TYPE)]
    related = [hit for hit in _touching(look, given) if hit.row.type in kinds]
    ends: list[Any] = sorted({end for hit in related for end in (hit.row.source, hit.row.target)})
    # An old version that was asked for by its entryUUID is shown although it is not the latest.
    shown = [or_(_e.entry_uuid.in_(given), *latest(t.entry, look.criteria))] if latest(t.entry, look.criteria) else []
    entries = look.among(t.entry, _e.entry_uuid, ends, *entry_conditions(look.criteria), *shown)
    there = set(uuids(entries))
    related = [hit for hit in related if hit.row.source in there and hit.row.target in there]
    joined = {end for hit in related for end in (hit.row.source, hit.row.target)}
    return [hit for hit in entries if hit.row.entry_uuid in joined] + related


PLANS: Final[Mapping[Query, Plan]] = {
    Query.FIND_DOCUMENTS: find_documents,
    Query.FIND_DOCUMENTS_BY_REFERENCE_ID: find_documents,
    Query.FIND_SUBMISSION_SETS: find_submission_sets,
    Query.FIND_FOLDERS: find_folders,
    Query.GET_ALL: get_all,
    Query.GET_DOCUMENTS: get_documents,
    Query.GET_FOLDERS: get_folders,
    Query.GET_ASSOCIATIONS: get_associations,
    Query.GET_DOCUMENTS_AND_ASSOCIATIONS: get_documents_and_associations,
    Query.GET_SUBMISSION_SETS: get_submission_sets,
    Query.GET_SUBMISSION_SET_AND_CONTENTS: get_submission_set_and_contents,
    Query.GET_FOLDER_AND_CONTENTS: get_folder_and_contents,
    Query.GET_FOLDERS_FOR_DOCUMENT: get_folders_for_document,
    Query.GET_RELATED_DOCUMENTS: get_related_documents,
    Query.FIND_DOCUMENTS_FOR_MULTIPLE_PATIENTS: find_documents,
    Query.FIND_DOCUMENTS_BY_REFERENCE_ID_FOR_MULTIPLE_PATIENTS: find_documents,
    Query.FIND_FOLDERS_FOR_MULTIPLE_PATIENTS: find_folders,
}
