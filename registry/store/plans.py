"""One function per stored query: which rows answer it (ITI TF-2: 3.18.4.1.2.3.7).

Every answer is ordered: SubmissionSets, DocumentEntries, Folders, Associations, each in the order of registration.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, and_, or_, select

from registry.criteria import Attribute as At
from registry.criteria import Criteria, Query
from registry.store import codes as c
from registry.store import tables as t
from registry.store.conditions import entry_conditions, folder_conditions, submission_set_conditions
from registry.store.hits import HAS_MEMBER, Hit, hits, selected, uuids
from registry.store.merges import keys_of

_e, _a, _s, _f = t.entry.c, t.association.c, t.submission_set.c, t.folder.c

Plan = Callable[[Connection, Criteria, int | None], list[Hit]]
"""Asks the database; at most ``limit`` + 1 rows of what the query is about."""


def _patient_keys(connection: Connection, criteria: Criteria) -> list[int]:
    """Of the patient asked for and of all merged into it; none when it is unknown or merged into another itself."""
    if criteria.patient is None:
        return []
    return list(connection.execute(keys_of(*criteria.patient)).scalars())


def find_documents(connection: Connection, criteria: Criteria, limit: int | None) -> list[Hit]:
    """FindDocuments and FindDocumentsByReferenceId."""
    keys = _patient_keys(connection, criteria)
    if not keys:
        return []
    return hits(connection, t.entry, _e.patient_key.in_(keys), *entry_conditions(criteria), limit=limit)


def find_submission_sets(connection: Connection, criteria: Criteria, limit: int | None) -> list[Hit]:
    """FindSubmissionSets."""
    keys = _patient_keys(connection, criteria)
    if not keys:
        return []
    conditions = submission_set_conditions(criteria)
    return hits(connection, t.submission_set, _s.patient_key.in_(keys), *conditions, limit=limit)


def find_folders(connection: Connection, criteria: Criteria, limit: int | None) -> list[Hit]:
    """FindFolders."""
    keys = _patient_keys(connection, criteria)
    if not keys:
        return []
    return hits(connection, t.folder, _f.patient_key.in_(keys), *folder_conditions(criteria), limit=limit)


def get_all(connection: Connection, criteria: Criteria, limit: int | None) -> list[Hit]:
    """GetAll: everything of a patient, and every association that begins or ends there."""
    keys = _patient_keys(connection, criteria)
    if not keys:
        return []
    conditions = submission_set_conditions(criteria)
    sets = hits(connection, t.submission_set, _s.patient_key.in_(keys), *conditions, limit=limit)
    entries = hits(connection, t.entry, _e.patient_key.in_(keys), *entry_conditions(criteria), limit=limit)
    folders = hits(connection, t.folder, _f.patient_key.in_(keys), *folder_conditions(criteria), limit=limit)
    shown = set(uuids(sets + entries + folders))
    # Associations of the patient's own submissions, and of others that refer to a document of this patient.
    own = hits(connection, t.association, _a.patient_key.in_(keys))
    foreign = hits(
        connection,
        t.association,
        _a.patient_key.not_in(keys),
        _a.target.in_(select(_e.entry_uuid).where(_e.patient_key.in_(keys))),
    )
    touching = [hit for hit in own + foreign if hit.row.source in shown or hit.row.target in shown]
    return sets + entries + folders + touching


def get_documents(connection: Connection, criteria: Criteria, limit: int | None) -> list[Hit]:
    """GetDocuments."""
    return hits(connection, t.entry, selected(t.entry, criteria), limit=limit)


def get_folders(connection: Connection, criteria: Criteria, limit: int | None) -> list[Hit]:
    """GetFolders."""
    return hits(connection, t.folder, selected(t.folder, criteria), limit=limit)


def _touching(wanted: list[Any]) -> ColumnElement[bool]:
    return or_(_a.source.in_(wanted), _a.target.in_(wanted))


def get_associations(connection: Connection, criteria: Criteria, limit: int | None) -> list[Hit]:
    """GetAssociations."""
    return hits(connection, t.association, _touching(list(criteria.any_of(At.ENTRY_UUID))), limit=limit)


def get_documents_and_associations(connection: Connection, criteria: Criteria, limit: int | None) -> list[Hit]:
    """GetDocumentsAndAssociations."""
    entries = get_documents(connection, criteria, limit)
    return entries + hits(connection, t.association, _touching(list(uuids(entries))), limit=limit)


def get_submission_sets(connection: Connection, criteria: Criteria, limit: int | None) -> list[Hit]:
    """GetSubmissionSets."""
    wanted = list(criteria.any_of(At.ENTRY_UUID))
    is_member = and_(_a.type == HAS_MEMBER, _a.target.in_(wanted), _a.source.in_(select(_s.entry_uuid)))
    members = hits(connection, t.association, is_member)
    sources = sorted({hit.row.source for hit in members})
    return hits(connection, t.submission_set, _s.entry_uuid.in_(sources), limit=limit) + members


def get_submission_set_and_contents(connection: Connection, criteria: Criteria, limit: int | None) -> list[Hit]:
    """GetSubmissionSetAndContents."""
    sets = hits(connection, t.submission_set, selected(t.submission_set, criteria))
    if not sets:
        return []
    from_set = and_(_a.source.in_(uuids(sets)), _a.type == HAS_MEMBER)
    members = hits(connection, t.association, from_set)
    targets = select(_a.target).where(from_set)
    entries = hits(connection, t.entry, _e.entry_uuid.in_(targets), *entry_conditions(criteria), limit=limit)
    folders = hits(connection, t.folder, _f.entry_uuid.in_(targets))
    ends = set(uuids(entries + folders))
    linked = hits(connection, t.association, _a.entry_uuid.in_(targets))
    linked = [hit for hit in linked if hit.row.source in ends and hit.row.target in ends]
    shown = ends | set(uuids(linked))
    return sets + entries + folders + [hit for hit in members if hit.row.target in shown] + linked


def get_folder_and_contents(connection: Connection, criteria: Criteria, limit: int | None) -> list[Hit]:
    """GetFolderAndContents."""
    folders = hits(connection, t.folder, selected(t.folder, criteria))
    if not folders:
        return []
    from_folder = and_(_a.source.in_(uuids(folders)), _a.type == HAS_MEMBER)
    members = hits(connection, t.association, from_folder)
    targets = select(_a.target).where(from_folder)
    entries = hits(connection, t.entry, _e.entry_uuid.in_(targets), *entry_conditions(criteria), limit=limit)
    shown = set(uuids(entries))
    return entries + folders + [hit for hit in members if hit.row.target in shown]


def get_folders_for_document(connection: Connection, criteria: Criteria, limit: int | None) -> list[Hit]:
    """GetFoldersForDocument."""
    entries = select(_e.entry_uuid).where(selected(t.entry, criteria))
    containing = select(_a.source).where(_a.type == HAS_MEMBER, _a.target.in_(entries))
    return hits(connection, t.folder, _f.entry_uuid.in_(containing), limit=limit)


def get_related_documents(connection: Connection, criteria: Criteria, limit: int | None) -> list[Hit]:
    """GetRelatedDocuments: relationships of the wanted kinds between entries, and the entries at both ends."""
    given = uuids(hits(connection, t.entry, selected(t.entry, criteria)))
    kinds = [c.ASSOCIATION[str(kind)] for kind in criteria.any_of(At.ASSOCIATION_TYPE)]
    related = hits(connection, t.association, _touching(list(given)), _a.type.in_(kinds))
    ends = sorted({end for hit in related for end in (hit.row.source, hit.row.target)})
    entries = hits(connection, t.entry, _e.entry_uuid.in_(ends), *entry_conditions(criteria), limit=limit)
    shown = set(uuids(entries))
    related = [hit for hit in related if hit.row.source in shown and hit.row.target in shown]
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
}
