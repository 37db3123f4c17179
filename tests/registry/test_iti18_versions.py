"""Versions of objects and statuses of associations in queries (XDS Metadata Update: $MetadataLevel)."""

import pytest
from sqlalchemy import update

from atna.store.engine import begin_write
from ihe import vocabulary as v
from ihe.registry_objects import Kind
from registry.criteria import Query
from registry.store import codes as c
from registry.store import tables as t
from registry.stored_queries import STORED_QUERIES
from tests.builders import PATIENT, has_member, new_oid, submission, with_identifier
from tests.registry.rooms import APPROVED, DEPRECATED, codes_of

IDS = {row.query: row.id for row in STORED_QUERIES}
E, S, F = "XDSDocumentEntry", "XDSSubmissionSet", "XDSFolder"
ANY = f"({APPROVED},{DEPRECATED})"
LEVEL_2 = {"MetadataLevel": "2"}


def ask(registry, query, **parameters):
    response = registry.query(IDS[query], **parameters)
    assert response.status == v.SUCCESS, response.errors
    return response.objects


def ids(objects, kind=None):
    return [o.id for o in objects if kind in (None, o.kind)]


def change(registry, table, uuid, **values):
    with begin_write(registry.engine) as connection:
        connection.execute(update(table).where(table.c.entry_uuid == uuid).values(**values))


def make_versions(registry, table, old, new):
    """What an update of metadata leaves: two versions of one logical object, the old one Deprecated."""
    change(registry, table, old.id, superseded=1, status=c.DEPRECATED)
    change(registry, table, new.id, logical_id=old.id, version=2)


@pytest.fixture
def two(registry):
    """A folder with a document, both in two versions; (registry, old entry, new entry, old folder, new folder)."""
    document, binder = new_oid(), new_oid()
    for _ in range(2):
        # The same bytes under the same uniqueId may be registered twice, a folder's uniqueId may not.
        registry.accept(
            submission(
                folders=1,
                entry=with_identifier(v.ENTRY_UNIQUE_ID, document),
                folder=with_identifier(v.FOLDER_UNIQUE_ID, new_oid()),
            )
        )
    entries = registry.find().objects
    folders = ask(registry, Query.FIND_FOLDERS, **{F + "PatientId": f"'{PATIENT}'", F + "Status": ANY})
    make_versions(registry, t.entry, *entries)
    make_versions(registry, t.folder, *folders)
    for folder in folders:
        change(registry, t.folder, folder.id, unique_id=binder)
    return registry, *ids(entries), *ids(folders), document, binder


def test_find_documents_shows_the_latest_version(two):
    registry, old, new, *_ = two
    assert ids(registry.find().objects) == [new]
    assert ids(registry.find(status=ANY).objects) == [new]
    assert ids(registry.find(status=f"({DEPRECATED})").objects) == []
    assert ids(registry.find(status=ANY, **LEVEL_2).objects) == [old, new]
    assert ids(registry.find(status=f"({DEPRECATED})", MetadataLevel="'2'").objects) == [old]
    assert ids(registry.find(**LEVEL_2).objects) == [new]
    assert ids(registry.find(status=ANY, MetadataLevel="1").objects) == [new]
    assert codes_of(registry.find(MetadataLevel="3")) == {"XDSRegistryError"}
    # the same with a parameter more, which is another way through the store
    since = {E + "CreationTimeFrom": "2000"}
    assert ids(registry.find(status=ANY, **since).objects) == [new]
    assert ids(registry.find(status=ANY, **since, **LEVEL_2).objects) == [old, new]
    assert registry.find(status=ANY, return_type="ObjectRef").object_refs == (new,)


def test_versions_say_which_they_are(two):
    registry, old, new, *_ = two
    first, second = registry.find(status=ANY, **LEVEL_2).objects
    assert (first.lid, first.version_name, first.status) == (old, "1", v.DEPRECATED)
    assert (second.lid, second.version_name, second.status) == (old, "2", v.APPROVED)
    assert second.id == new


def test_find_folders_shows_the_latest_version(two):
    registry, _, _, old, new, *_ = two
    asked = {F + "PatientId": f"'{PATIENT}'", F + "Status": ANY}
    assert ids(ask(registry, Query.FIND_FOLDERS, **asked)) == [new]
    assert ids(ask(registry, Query.FIND_FOLDERS, **asked, **LEVEL_2)) == [old, new]


def test_get_all_shows_the_latest_versions_and_what_joins_them(two):
    registry, old, new, old_folder, new_folder, *_ = two
    asked = {"patientId": f"'{PATIENT}'", E + "Status": ANY, S + "Status": ANY, F + "Status": ANY}
    latest, everything = ask(registry, Query.GET_ALL, **asked), ask(registry, Query.GET_ALL, **asked, **LEVEL_2)
    assert {new, new_folder} <= set(ids(latest))
    assert not {old, old_folder} & set(ids(latest))
    assert {old, new, old_folder, new_folder} <= set(ids(everything))
    # an association may dangle: the old SubmissionSet is shown, and what it says
    assert ids(latest, Kind.SUBMISSION_SET) == ids(everything, Kind.SUBMISSION_SET)


@pytest.mark.parametrize(("query", "kind"), [(Query.GET_DOCUMENTS, E), (Query.GET_FOLDERS, F)])
def test_an_entry_uuid_is_that_object_other_ids_are_its_versions(two, query, kind):
    registry, *rest = two
    old, new = rest[:2] if kind is E else rest[2:4]
    unique_id = rest[4] if kind is E else rest[5]
    for level in ({}, LEVEL_2):
        assert ids(ask(registry, query, **{kind + "EntryUUID": f"('{old}')"}, **level)) == [old]
        assert ids(ask(registry, query, **{kind + "EntryUUID": f"('{new}','{old}')"}, **level)) == [old, new]
    for selector in ({kind + "UniqueId": f"('{unique_id}')"}, {kind + "LogicalID": f"('{old}')"}):
        assert ids(ask(registry, query, **selector)) == [new]
        assert ids(ask(registry, query, **selector, **LEVEL_2)) == [old, new]


def test_a_folder_by_its_unique_id_with_the_members_of_each_version(two):
    registry, old, new, old_folder, new_folder, _, binder = two
    asked = {F + "UniqueId": f"'{binder}'"}
    found = ask(registry, Query.GET_FOLDER_AND_CONTENTS, **asked)
    assert (ids(found, Kind.DOCUMENT_ENTRY), ids(found, Kind.FOLDER)) == ([new], [new_folder])
    assert len(ids(found, Kind.ASSOCIATION)) == 1
    found = ask(registry, Query.GET_FOLDER_AND_CONTENTS, **asked, **LEVEL_2)
    assert (ids(found, Kind.DOCUMENT_ENTRY), ids(found, Kind.FOLDER)) == ([old, new], [old_folder, new_folder])
    assert len(ids(found, Kind.ASSOCIATION)) == 2
    by_uuid = ask(registry, Query.GET_FOLDER_AND_CONTENTS, **{F + "EntryUUID": f"'{old_folder}'"})
    assert (ids(by_uuid, Kind.DOCUMENT_ENTRY), ids(by_uuid, Kind.FOLDER)) == ([], [old_folder])


def test_the_folders_of_a_document_are_the_latest(two):
    registry, old, _, old_folder, new_folder, document, _ = two
    by_unique_id = {E + "UniqueId": f"'{document}'"}
    assert ids(ask(registry, Query.GET_FOLDERS_FOR_DOCUMENT, **by_unique_id)) == [new_folder]
    assert ids(ask(registry, Query.GET_FOLDERS_FOR_DOCUMENT, **by_unique_id, **LEVEL_2)) == [old_folder, new_folder]
    by_uuid = {E + "EntryUUID": f"'{old}'"}
    assert ids(ask(registry, Query.GET_FOLDERS_FOR_DOCUMENT, **by_uuid)) == []
    assert ids(ask(registry, Query.GET_FOLDERS_FOR_DOCUMENT, **by_uuid, **LEVEL_2)) == [old_folder]


def test_the_contents_of_a_set_are_the_latest_versions(two):
    registry, old, *_ = two
    (first, _) = ask(
        registry, Query.FIND_SUBMISSION_SETS, **{S + "PatientId": f"'{PATIENT}'", S + "Status": f"({APPROVED})"}
    )
    asked = {S + "EntryUUID": f"'{first.id}'"}
    assert ids(ask(registry, Query.GET_SUBMISSION_SET_AND_CONTENTS, **asked)) == [first.id]
    everything = ask(registry, Query.GET_SUBMISSION_SET_AND_CONTENTS, **asked, **LEVEL_2)
    assert ids(everything, Kind.DOCUMENT_ENTRY) == [old]
    assert len(ids(everything, Kind.ASSOCIATION)) == 4


def test_an_old_version_asked_for_by_its_uuid_keeps_its_relations(two):
    registry, old, new, *_ = two
    registry.accept(submission(relations=((v.APND, new),)))
    addendum = next(o for o in registry.find().objects if o.id != new)
    (link,) = [o for o in ask(registry, Query.GET_ASSOCIATIONS, uuid=f"('{new}')") if o.type == v.APND]
    change(registry, t.association, link.id, target=old)
    kinds = {"AssociationTypes": f"('{v.APND}')"}
    found = ask(registry, Query.GET_RELATED_DOCUMENTS, **kinds, **{E + "EntryUUID": f"'{old}'"})
    assert ids(found) == [old, addendum.id, link.id]
    assert ids(ask(registry, Query.GET_RELATED_DOCUMENTS, **kinds, **{E + "EntryUUID": f"'{addendum.id}'"})) == []
    everything = ask(registry, Query.GET_RELATED_DOCUMENTS, **kinds, **{E + "EntryUUID": f"'{addendum.id}'"}, **LEVEL_2)
    assert ids(everything) == [old, addendum.id, link.id]


# ---------------------------------------------------------------------------------------------- associations


@pytest.fixture
def deprecated(registry):
    """A document with an addendum in a folder of one set, every association Deprecated; (registry, original, set)."""
    registry.accept(submission())
    (original,) = registry.find().objects
    unique_id = new_oid()
    binder = "Folder01"
    registry.accept(
        submission(
            folders=1,
            unique_id=unique_id,
            relations=((v.APND, original.id),),
            extra=(has_member(binder, original.id, "L9"), has_member("SubmissionSet01", "L9")),
        )
    )
    with begin_write(registry.engine) as connection:
        connection.execute(update(t.association).values(status=c.DEPRECATED))
    return registry, original.id, unique_id


def deprecated_queries(original, unique_id):
    entry = {E + "EntryUUID": f"('{original}')"}
    return [
        (Query.GET_ASSOCIATIONS, {"uuid": f"('{original}')"}, 3),
        (Query.GET_DOCUMENTS_AND_ASSOCIATIONS, entry, 3),
        (Query.GET_SUBMISSION_SETS, {"uuid": f"('{original}')"}, 1),
        (Query.GET_SUBMISSION_SET_AND_CONTENTS, {S + "UniqueId": f"'{unique_id}'"}, 4),
        (Query.GET_RELATED_DOCUMENTS, {E + "EntryUUID": f"'{original}'", "AssociationTypes": f"('{v.APND}')"}, 1),
    ]


def test_deprecated_associations_are_shown_to_who_asks_for_them(deprecated):
    registry, original, unique_id = deprecated
    for query, asked, wanted in deprecated_queries(original, unique_id):
        for level in ({}, LEVEL_2):
            plain = ask(registry, query, **asked, **level)
            assert ids(plain, Kind.ASSOCIATION) == [], query
            both = ask(registry, query, **asked, **level, XDSAssociationStatus=ANY)
            assert len(ids(both, Kind.ASSOCIATION)) == wanted, query
            assert {o.status for o in both if o.kind is Kind.ASSOCIATION} == {v.DEPRECATED}
        unheard = ask(registry, query, **asked, XDSAssociationStatus="('urn:x')")
        assert ids(unheard, Kind.ASSOCIATION) == [], query


def test_a_deprecated_membership_is_none(deprecated):
    registry, original, _ = deprecated
    asked = {E + "EntryUUID": f"'{original}'"}
    assert ask(registry, Query.GET_FOLDERS_FOR_DOCUMENT, **asked) == ()
    (folder,) = ask(registry, Query.GET_FOLDERS_FOR_DOCUMENT, **asked, XDSAssociationStatus=f"({DEPRECATED})")
    inside = {F + "EntryUUID": f"'{folder.id}'"}
    assert ids(ask(registry, Query.GET_FOLDER_AND_CONTENTS, **inside)) == [folder.id]
    shown = ask(registry, Query.GET_FOLDER_AND_CONTENTS, **inside, XDSAssociationStatus=ANY)
    assert len(ids(shown, Kind.DOCUMENT_ENTRY)) == len(ids(shown, Kind.ASSOCIATION)) == 2
