"""ITI-57, registry side: versions, statuses and associations of what is registered (Metadata Update: 3.57.4.1.3)."""

import threading
from dataclasses import replace

import pytest
from sqlalchemy import select

from atna.store.engine import begin_write, reading
from ihe import vocabulary as v
from ihe.datatypes import parse_cx
from ihe.registry_objects import Slot
from ihe.transactions import ITI_57, ITI_92
from registry.store import tables
from registry.store.merges import merge, unmerge
from registry.store.patient_protocol import MergeRefused
from schemas import parse_xml
from tests.builders import (
    AUTHORITY,
    CONTENT,
    PATIENT,
    code,
    has_member,
    having,
    new_oid,
    new_uuid,
    submission,
    text,
    with_classification,
    with_identifier,
    with_slot,
)
from tests.registry.rooms import APPROVED, DEPRECATED, GET_DOCUMENTS, codes_of
from tests.updates import brings, new_association, new_status, new_version, resent, update

OTHER = f"P-0815^^^&{AUTHORITY}&ISO"
ANY = f"({APPROVED},{DEPRECATED})"
GET_ASSOCIATIONS = "urn:uuid:a7ae438b-4bc2-4642-93e9-be891f7bb155"
FIND_FOLDERS = "urn:uuid:958f3006-baad-4929-a4de-ff1114824431"
GET_FOLDERS = "urn:uuid:5737b14c-8a1a-4539-b659-e03a34a5e1e4"


def registered(registry, **changes):
    """Register a submission; gives its entries as the registry shows them."""
    known = {o.id for o in registry.find(status=ANY).objects}
    registry.accept(submission(**changes))
    return [o for o in registry.find(status=ANY).objects if o.id not in known]


def folders(registry, *uuids):
    if uuids:
        listed = ",".join(f"'{uuid}'" for uuid in uuids)
        return list(registry.query(GET_FOLDERS, XDSFolderEntryUUID=f"({listed})").objects)
    found = registry.query(FIND_FOLDERS, XDSFolderPatientId=f"'{PATIENT}'", XDSFolderStatus=ANY)
    return list(found.objects)


def by_uuid(registry, *uuids):
    listed = ",".join(f"'{uuid}'" for uuid in uuids)
    found = {o.id: o for o in registry.query(GET_DOCUMENTS, XDSDocumentEntryEntryUUID=f"({listed})").objects}
    return [found[uuid] for uuid in uuids]


def versions(registry, entry):
    """(version, status) of every version of an entry, the oldest first."""
    found = registry.query(GET_DOCUMENTS, XDSDocumentEntryLogicalID=f"('{entry.lid}')", MetadataLevel="2").objects
    return sorted((o.version_name, o.status.rpartition(":")[2]) for o in found)


def associations(registry, *uuids):
    listed = ",".join(f"'{uuid}'" for uuid in uuids)
    return list(registry.query(GET_ASSOCIATIONS, uuid=f"({listed})", MetadataLevel="2").objects)


def refused(registry, objects):
    """The error codes of a refusal, which must have changed nothing."""
    before = everything(registry)
    response = registry.submit(objects, transaction=ITI_57)
    assert response.status.endswith("Failure")
    assert everything(registry) == before
    return codes_of(response)


def everything(registry):
    found = registry.find(status=ANY)
    folder = folders(registry)
    return [(o.id, o.status, o.version_name, o.slots) for o in (*found.objects, *folder)]


# ------------------------------------------------------------------------------------------- versions


def test_a_new_version_is_approved_and_the_one_before_deprecated(registry):
    (entry,) = registered(registry)
    registry.accept(new_version(entry, having(name=text("Corrected"))), ITI_57)
    (latest,) = registry.find().objects
    assert (latest.lid, latest.version_name, latest.status) == (entry.id, "2", v.APPROVED)
    assert latest.id != entry.id
    assert latest.name[0].value == "Corrected"
    assert latest.identifier(v.ENTRY_UNIQUE_ID) == entry.identifier(v.ENTRY_UNIQUE_ID)
    (old,) = by_uuid(registry, entry.id)
    assert (old.version_name, old.status, old.name) == ("1", v.DEPRECATED, entry.name)
    assert versions(registry, entry) == [("1", "Deprecated"), ("2", "Approved")]


def test_a_new_version_keeps_who_deposited_the_document(registry):
    told = parse_xml(b'<d:Depositor xmlns:d="%s" node="CN=lab" person="dr"/>' % v.DOSSIER.encode())
    assert registry.submit(submission(), headers=(told,)).status == v.SUCCESS
    (entry,) = registry.find().objects
    registry.accept(new_version(entry), ITI_57)
    assert _depositors(registry, tables.entry) == [("CN=lab", "dr")] * 2
    assert set(_depositors(registry, tables.submission_set)) == {("CN=lab", "dr"), (None, None)}


def _depositors(registry, table):
    with reading(registry.engine) as connection:
        rows = connection.execute(select(table.c.depositor_node, table.c.depositor_person)).all()
    return [tuple(row) for row in rows]


def test_a_third_version_follows_the_second(registry):
    (entry,) = registered(registry)
    registry.accept(new_version(entry), ITI_57)
    (second,) = registry.find().objects
    registry.accept(new_version(second), ITI_57)
    assert versions(registry, entry) == [("1", "Deprecated"), ("2", "Deprecated"), ("3", "Approved")]


def test_what_is_queried_follows_the_new_version(registry):
    (entry,) = registered(registry)
    more = with_classification(code(v.ENTRY_EVENT, "MPQ-eventcode-2", "1.3.6.1.4.1.21367.2017.3"))
    registry.accept(new_version(entry, more), ITI_57)
    found = registry.find(XDSDocumentEntryEventCodeList="('MPQ-eventcode-2^^1.3.6.1.4.1.21367.2017.3')").objects
    assert [o.version_name for o in found] == ["2"]


@pytest.mark.parametrize(
    ("previous", "code"),
    [
        ("²", "XDSMetadataUpdateOperationError"),
        ("１", "XDSMetadataUpdateOperationError"),
        ("0", "XDSMetadataUpdateOperationError"),
        ("9" * 200, "XDSMetadataVersionError"),
        ("9" * 5000, "XDSMetadataVersionError"),
    ],
)
def test_a_previous_version_that_is_no_number_here_is_refused_by_its_name(registry, previous, code):
    (entry,) = registered(registry)
    assert code in refused(registry, new_version(entry, previous=previous))
    assert versions(registry, entry) == [("1", "Approved")]


@pytest.mark.parametrize("previous", ["2", "7"])
def test_another_previous_version_is_refused(registry, previous):
    (entry,) = registered(registry)
    assert refused(registry, new_version(entry, previous=previous)) == {"XDSMetadataVersionError"}


def test_a_version_that_was_updated_cannot_be_updated_again(registry):
    (entry,) = registered(registry)
    registry.accept(new_version(entry), ITI_57)
    assert refused(registry, new_version(entry)) == {"XDSMetadataVersionError"}


def test_a_logical_id_nobody_has_is_refused(registry):
    (entry,) = registered(registry)
    assert refused(registry, new_version(entry, having(lid=new_uuid()))) == {"XDSMetadataVersionError"}


def test_a_folder_is_no_version_of_an_entry(registry):
    (entry,) = registered(registry, folders=1)
    (folder,) = folders(registry)
    assert "XDSMetadataVersionError" in refused(registry, new_version(folder, having(lid=entry.lid)))


def test_a_deprecated_entry_is_made_approved_first(registry):
    (entry,) = registered(registry)
    registry.accept(update(new_status(entry.id)), ITI_57)
    assert refused(registry, new_version(entry)) == {"XDSMetadataUpdateError"}


@pytest.mark.parametrize(
    "change",
    [
        with_identifier(v.ENTRY_UNIQUE_ID, new_oid()),
        lambda obj: with_slot("creationTime")(having(object_type=v.ON_DEMAND)(obj)),
    ],
)
def test_unique_id_and_object_type_stay(registry, change):
    (entry,) = registered(registry)
    assert refused(registry, new_version(entry, change)) & {"XDSMetadataUpdateError"}


def test_the_bytes_stay_but_a_wrong_size_may_be_put_right(registry):
    (entry,) = registered(registry)
    assert refused(registry, new_version(entry, with_slot("hash", "0" * 40))) == {"XDSNonIdenticalHash"}
    registry.accept(new_version(entry, with_slot("size", "9999")), ITI_57)
    (latest,) = registry.find().objects
    assert latest.slot("size") == ("9999",)
    again = submission(
        entry=(
            with_identifier(v.ENTRY_UNIQUE_ID, entry.identifier(v.ENTRY_UNIQUE_ID)),
            with_slot("size", "9999"),
            with_slot("hash", *entry.slot("hash")),
        )
    )
    registry.accept(again)


def test_a_document_assembled_later_gets_its_hash_and_size(registry):
    empty = "da39a3ee5e6b4b0d3255bfef95601890afd80709"
    (entry,) = registered(registry, entry=(with_slot("hash", empty), with_slot("size", "0")))
    told = (with_slot("hash", "a" * 40), with_slot("size", "17"))
    registry.accept(new_version(entry, *told), ITI_57)
    (latest,) = registry.find().objects
    assert refused(registry, new_version(latest, with_slot("hash", "b" * 40))) == {"XDSNonIdenticalHash"}


def test_two_updates_of_one_entry_in_a_request(registry):
    (entry,) = registered(registry)
    objects = update(resent(entry, "A"), brings("A"), resent(entry, "B"), brings("B"))
    assert "XDSMetadataUpdateOperationError" in refused(registry, objects)


@pytest.mark.parametrize(
    "slots",
    [
        {"previous": "no"},
        {"status": None},
        {"status": "Reference"},
        {"propagation": "maybe"},
        {"more": (Slot("OriginalStatus", (v.APPROVED,)),)},
    ],
)
def test_an_annotation_that_cannot_be_read_is_refused(registry, slots):
    (entry,) = registered(registry)
    assert refused(registry, new_version(entry, **slots)) == {"XDSMetadataUpdateOperationError"}


def test_without_previous_version_nothing_is_updated(registry):
    (entry,) = registered(registry)
    objects = update(resent(entry, "New01"), brings("New01", None))
    assert refused(registry, objects) == {"XDSMetadataUpdateOperationError"}


def test_a_submission_set_that_is_known_is_refused(registry):
    unique_id = new_oid()
    (entry,) = registered(registry, unique_id=unique_id)
    assert refused(registry, update(new_status(entry.id), unique_id=unique_id)) == {"XDSDuplicateUniqueIdInRegistry"}


def test_an_unknown_patient_is_refused(registry):
    (entry,) = registered(registry)
    assert refused(registry, update(new_status(entry.id), patient=OTHER)) == {"XDSUnknownPatientId"}


def test_required_attributes_stay_required(registry):
    (entry,) = registered(registry)
    change = having(mime_type=None)
    assert refused(registry, new_version(entry, change)) == {"XDSRegistryMetadataError"}


def test_of_two_at_once_one_wins_and_the_other_is_told(registry):
    (entry,) = registered(registry)
    barrier, answers = threading.Barrier(4), []

    def send(number):
        objects = new_version(entry, having(name=text(f"by {number}")))
        barrier.wait(10)
        answers.append(registry.submit(objects, transaction=ITI_57))

    threads = [threading.Thread(target=send, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    won = [one for one in answers if one.status.endswith("Success")]
    assert len(won) == 1
    assert {code for one in answers if one not in won for code in codes_of(one)} == {"XDSMetadataVersionError"}
    assert versions(registry, entry) == [("1", "Deprecated"), ("2", "Approved")]


# ------------------------------------------------------------------------------------------- propagation


def test_a_new_version_takes_over_relationships_and_folders(registry):
    (entry,) = registered(registry, folders=1)
    (addendum,) = registered(registry, relations=((v.APND, entry.id),))
    (folder,) = folders(registry)
    registry.accept(new_version(entry), ITI_57)
    (latest,) = [o for o in registry.find().objects if o.lid == entry.lid]
    joined = {(o.type.rpartition(":")[2], o.source, o.target) for o in associations(registry, latest.id)}
    assert ("APND", addendum.id, latest.id) in joined
    assert ("HasMember", folder.id, latest.id) in joined
    assert len(joined) == 3  # and the membership in its own SubmissionSet
    (touched,) = folders(registry)
    assert touched.slot("lastUpdateTime") >= folder.slot("lastUpdateTime")


def test_without_propagation_it_begins_anew(registry):
    (entry,) = registered(registry, folders=1)
    registry.accept(new_version(entry, propagation="no"), ITI_57)
    (latest,) = registry.find().objects
    assert [o.type.rpartition(":")[2] for o in associations(registry, latest.id)] == ["HasMember"]


def test_a_new_version_of_a_folder_keeps_its_documents(registry):
    one, two = registered(registry, entries=2, folders=1)
    (folder,) = folders(registry)
    registry.accept(new_version(folder, having(name=text("Renamed"))), ITI_57)
    (latest,) = [o for o in folders(registry) if o.version_name == "2"]
    assert (latest.lid, latest.status) == (folder.id, v.APPROVED)
    members = {o.target for o in associations(registry, latest.id) if o.source == latest.id}
    assert members == {one.id, two.id}
    (old,) = folders(registry, folder.id)
    assert old.status == v.DEPRECATED


def test_folder_and_member_updated_together_are_joined_in_their_new_versions(registry):
    (entry,) = registered(registry, folders=1)
    (folder,) = folders(registry)
    objects = update(resent(entry, "E"), brings("E"), resent(folder, "F"), brings("F", status=None))
    registry.accept(objects, ITI_57)
    (latest,) = registry.find().objects
    memberships = [o for o in associations(registry, latest.id) if o.source != entry.id]
    (shelf,) = [o for o in folders(registry) if o.version_name == "2"]
    assert shelf.id in {o.source for o in memberships}
    assert folder.id not in {o.source for o in memberships}


def test_a_folder_is_not_joined_with_the_old_version_of_a_member_that_begins_anew(registry):
    (entry,) = registered(registry, folders=1)
    (folder,) = folders(registry)
    objects = update(
        *(resent(entry, "E"), brings("E", propagation="no"), resent(folder, "F"), brings("F", status=None))
    )
    registry.accept(objects, ITI_57)
    (shelf,) = [o for o in folders(registry) if o.version_name == "2"]
    assert [o for o in associations(registry, shelf.id) if o.source == shelf.id] == []


def test_a_patient_changes_only_where_nothing_stays_behind(registry):
    registry.know(OTHER)
    (entry,) = registered(registry, folders=1)
    moved = with_identifier(v.ENTRY_PATIENT_ID, OTHER)
    assert refused(registry, new_version(entry, moved, patient=OTHER)) == {"XDSPatientIDReconciliationError"}
    registry.accept(new_version(entry, moved, patient=OTHER, propagation="no"), ITI_57)
    assert [o.version_name for o in registry.find(OTHER).objects] == ["2"]
    assert registry.find().objects == ()


@pytest.mark.parametrize("transaction", [ITI_57, ITI_92])
def test_what_is_updated_is_of_the_patient_of_the_submission_set(registry, transaction):
    registry.know(OTHER)
    (entry,) = registered(registry)
    moved = with_identifier(v.ENTRY_PATIENT_ID, OTHER)
    (error,) = registry.submit(new_version(entry, moved), transaction=transaction).errors
    assert error.code == "XDSPatientIDReconciliationError"
    where = "DocumentEntry New01, patientId: is not that of SubmissionSet SubmissionSet01"
    assert error.context == f"{where}; all of a request are of one patient"


# ------------------------------------------------------------------------------------------- status


def test_a_document_is_deprecated_and_approved_again(registry):
    (entry,) = registered(registry)
    registry.accept(update(new_status(entry.id)), ITI_57)
    assert by_uuid(registry, entry.id)[0].status == v.DEPRECATED
    assert registry.find().objects == ()
    assert [o.id for o in registry.find(status=f"({DEPRECATED})").objects] == [entry.id]
    registry.accept(update(new_status(entry.id, v.DEPRECATED, v.APPROVED)), ITI_57)
    assert by_uuid(registry, entry.id)[0].status == v.APPROVED


def test_original_status_must_be_what_is(registry):
    (entry,) = registered(registry)
    objects = update(new_status(entry.id, v.DEPRECATED, v.APPROVED))
    assert refused(registry, objects) == {"XDSMetadataUpdateError"}


def test_an_older_version_stays_deprecated(registry):
    (entry,) = registered(registry)
    registry.accept(new_version(entry), ITI_57)
    assert refused(registry, update(new_status(entry.id, v.DEPRECATED, v.APPROVED))) == {"XDSMetadataUpdateError"}


def test_submission_sets_and_their_associations_keep_their_status(registry):
    (entry,) = registered(registry)
    (membership,) = associations(registry, entry.id)
    assert refused(registry, update(new_status(membership.id))) == {"XDSMetadataUpdateOperationError"}
    assert refused(registry, update(new_status(membership.source))) == {"XDSMetadataUpdateOperationError"}


def test_a_status_of_nothing_or_of_another_patient(registry):
    registry.know(OTHER)
    (entry,) = registered(registry)
    assert refused(registry, update(new_status(new_uuid()))) == {"UnresolvedReferenceException"}
    objects = update(new_status(entry.id), patient=OTHER)
    assert refused(registry, objects) == {"XDSPatientIDReconciliationError"}


@pytest.mark.parametrize(
    ("was", "becomes"), [("Approved", v.DEPRECATED), (v.APPROVED, "urn:x"), (v.APPROVED, v.APPROVED)]
)
def test_a_status_that_is_none(registry, was, becomes):
    (entry,) = registered(registry)
    codes = refused(registry, update(new_status(entry.id, was, becomes)))
    assert "XDSMetadataUpdateOperationError" in codes


def test_one_target_gets_one_status(registry):
    (entry,) = registered(registry)
    assert refused(registry, update(new_status(entry.id), new_status(entry.id))) == {"XDSMetadataUpdateOperationError"}


def test_status_and_version_in_one_request_collide(registry):
    (entry,) = registered(registry)
    objects = update(resent(entry, "A"), brings("A"), new_status(entry.id))
    assert refused(registry, objects) == {"XDSMetadataUpdateOperationError"}


def test_a_deprecated_folder_takes_no_documents(registry):
    registered(registry, folders=1)
    (folder,) = folders(registry)
    registry.accept(update(new_status(folder.id)), ITI_57)
    (again,) = folders(registry)
    assert again.status == v.DEPRECATED
    link = has_member(folder.id, "Document01", "Link")
    response = registry.submit(submission(extra=(link, has_member("SubmissionSet01", "Link"))))
    assert codes_of(response) == {"XDSRegistryMetadataError"}


def test_a_folder_is_touched_by_the_status_of_its_memberships(registry):
    (entry,) = registered(registry, folders=1)
    (folder,) = folders(registry)
    registry.actor = replace(registry.actor, now=lambda: 4_000_000_000.0)
    (membership,) = [o for o in associations(registry, entry.id) if o.source == folder.id]
    registry.accept(update(new_status(membership.id)), ITI_57)
    (touched,) = folders(registry)
    assert touched.slot("lastUpdateTime") == ("20961002070640",)


def test_a_merge_is_not_ended_where_objects_got_new_versions_since(registry):
    registry.know(OTHER)
    (entry,) = registered(registry)
    old, new = [(cx.id, cx.authority) for cx in map(parse_cx, (PATIENT, OTHER))]
    with begin_write(registry.engine) as connection:
        merge(connection, old, new, "20260101000000")
    (shown,) = registry.find(OTHER).objects
    registry.accept(new_version(shown, patient=OTHER), ITI_57)
    with pytest.raises(MergeRefused, match="new versions"), begin_write(registry.engine) as connection:
        unmerge(connection, old, None, "20260101000001")
    (latest,) = registry.find(OTHER).objects
    assert latest.lid == entry.id


# ------------------------------------------------------------------------------------------- associations


def test_two_registered_documents_are_related(registry):
    one, two = registered(registry, entries=2)
    registry.accept(update(*new_association(v.APND, one.id, two.id)), ITI_57)
    (related,) = [o for o in associations(registry, one.id) if o.type == v.APND]
    assert (related.source, related.target, related.status) == (one.id, two.id, v.APPROVED)


def test_the_same_association_twice_is_refused_until_the_first_is_deprecated(registry):
    one, two = registered(registry, entries=2)
    registry.accept(update(*new_association(v.APND, one.id, two.id)), ITI_57)
    objects = update(*new_association(v.APND, one.id, two.id))
    assert refused(registry, objects) == {"XDSMetadataUpdateError"}
    (related,) = [o for o in associations(registry, one.id) if o.type == v.APND]
    registry.accept(update(new_status(related.id)), ITI_57)
    registry.accept(update(*new_association(v.APND, one.id, two.id)), ITI_57)
    again = update(new_status(related.id, v.DEPRECATED, v.APPROVED))
    assert refused(registry, again) == {"XDSMetadataUpdateError"}
    (second,) = [o for o in associations(registry, one.id) if o.type == v.APND]
    registry.accept(update(new_status(second.id)), ITI_57)
    registry.accept(again, ITI_57)


def test_errors_name_objects_as_they_were_sent(registry):
    (entry,) = registered(registry)
    (error,) = registry.submit(new_version(entry, previous="7", symbol="MyEntry"), transaction=ITI_57).errors
    assert error.code == "XDSMetadataVersionError"
    assert error.context.startswith(f"MyEntry: PreviousVersion is 7, the latest version of {entry.lid} is 1")
    unknown = new_uuid()
    (error,) = registry.submit(update(*new_association(v.APND, entry.id, unknown, "MyLink")), transaction=ITI_57).errors
    assert error.code == "UnresolvedReferenceException"
    assert "MyLink" in error.context and unknown in error.context


def test_a_version_of_nothing_is_told_once(registry):
    (entry,) = registered(registry)
    objects = new_version(entry, lambda obj: replace(obj, lid=None))
    errors = registry.submit(objects, transaction=ITI_57).errors
    assert [error.code for error in errors] == ["XDSMetadataUpdateOperationError"]


@pytest.mark.parametrize("kind", [v.RPLC, v.SIGNS])
@pytest.mark.parametrize("end", [0, 1])
def test_no_end_of_an_association_changes_beside_it(registry, kind, end):
    both = registered(registry, entries=2)
    link = new_association(kind, both[0].id, both[1].id)
    operation = {"XDSMetadataUpdateOperationError"}
    assert refused(registry, update(*link, new_status(both[end].id))) == operation
    assert refused(registry, update(*link, resent(both[end], "New01"), brings("New01"))) == operation
    registry.accept(update(*link), ITI_57)


def test_what_is_replaced_takes_part_in_nothing_else(registry):
    one, two, three = registered(registry, entries=3)
    replaces = new_association(v.RPLC, one.id, two.id, "A1")
    for other in ((v.RPLC, two.id, one.id), (v.RPLC, two.id, three.id), (v.APND, three.id, two.id)):
        objects = update(*replaces, *new_association(*other, "A2"))
        assert refused(registry, objects) == {"XDSMetadataUpdateOperationError"}
    registry.accept(update(*new_association(v.APND, three.id, two.id)), ITI_57)
    objects = update(*replaces, resent(three, "New01"), brings("New01"))
    assert refused(registry, objects) == {"XDSMetadataUpdateOperationError"}
    registry.accept(update(*replaces), ITI_57)
    assert [o.status for o in by_uuid(registry, one.id, two.id, three.id)] == [v.APPROVED, *[v.DEPRECATED] * 2]


@pytest.mark.parametrize("kind", [v.APND, v.XFRM])
def test_what_replaces_is_not_deprecated_with_what_it_was_appended_to(registry, kind):
    one, two, three = registered(registry, entries=3)
    registry.accept(update(*new_association(kind, one.id, two.id)), ITI_57)
    registry.accept(update(*new_association(kind, three.id, two.id)), ITI_57)
    registry.accept(update(*new_association(v.RPLC, one.id, two.id)), ITI_57)
    assert [o.status for o in by_uuid(registry, one.id, two.id, three.id)] == [v.APPROVED, *[v.DEPRECATED] * 2]


def test_what_falls_with_what_is_replaced_takes_part_in_nothing_else(registry):
    one, two, three, four = registered(registry, entries=4)
    registry.accept(update(*new_association(v.APND, three.id, two.id)), ITI_57)
    replaces = new_association(v.RPLC, one.id, two.id, "A1")
    for other in ((v.RPLC, three.id, four.id), (v.APND, four.id, three.id), (v.SIGNS, three.id, four.id)):
        objects = update(*replaces, *new_association(*other, "A2"))
        assert refused(registry, objects) == {"XDSMetadataUpdateOperationError"}
    registry.accept(update(*replaces, *new_association(v.RPLC, four.id, three.id, "A2")), ITI_57)
    statuses = [o.status for o in by_uuid(registry, one.id, two.id, three.id, four.id)]
    assert statuses == [v.APPROVED, v.DEPRECATED, v.DEPRECATED, v.APPROVED]


def test_a_document_is_put_into_a_folder(registry):
    (entry,) = registered(registry)
    registered(registry, entries=0, folders=1)
    (folder,) = folders(registry)
    registry.accept(update(*new_association(v.HAS_MEMBER, folder.id, entry.id)), ITI_57)
    assert {o.source for o in associations(registry, entry.id)} >= {folder.id}


def test_a_replacement_between_registered_documents_deprecates(registry):
    one, two = registered(registry, entries=2)
    registry.accept(update(*new_association(v.RPLC, one.id, two.id)), ITI_57)
    assert [o.status for o in by_uuid(registry, one.id, two.id)] == [v.APPROVED, v.DEPRECATED]


def test_a_replacement_that_is_in_the_folder_already_is_not_filed_twice(registry):
    one, two = registered(registry, entries=2, folders=1)
    (folder,) = folders(registry)
    registry.accept(update(*new_association(v.RPLC, one.id, two.id)), ITI_57)
    members = [o.target for o in associations(registry, folder.id) if o.source == folder.id]
    assert sorted(members) == sorted([one.id, two.id])


def test_ends_must_be_registered_approved_and_of_the_patient(registry):
    registry.know(OTHER)
    one, two = registered(registry, entries=2)
    assert refused(registry, update(*new_association(v.APND, one.id, new_uuid()))) == {"UnresolvedReferenceException"}
    objects = update(*new_association(v.APND, one.id, two.id), patient=OTHER)
    assert refused(registry, objects) == {"XDSPatientIDReconciliationError"}
    registry.accept(update(new_status(two.id)), ITI_57)
    objects = update(*new_association(v.APND, one.id, two.id))
    assert refused(registry, objects) == {"XDSRegistryDeprecatedDocumentError"}


def test_kinds_at_the_ends(registry):
    (entry,) = registered(registry, folders=1)
    (folder,) = folders(registry)
    assert refused(registry, update(*new_association(v.APND, entry.id, folder.id))) == {"XDSRegistryMetadataError"}
    objects = update(*new_association(v.HAS_MEMBER, entry.id, folder.id))
    assert refused(registry, objects) == {"XDSRegistryMetadataError"}
    one, two = registered(registry, entries=2)
    objects = update(*new_association(v.IS_SNAPSHOT_OF, one.id, two.id))
    assert refused(registry, objects) == {"XDSRegistryMetadataError"}


def test_nothing_is_appended_to_a_transformation(registry):
    one, two, three = registered(registry, entries=3)
    made, appended = (v.XFRM, two.id, one.id, "Made"), (v.APND, three.id, two.id, "Appended")
    both = update(*new_association(*made), *new_association(*appended))
    assert refused(registry, both) == {"XDSRegistryMetadataError"}
    registry.accept(update(*new_association(*made)), ITI_57)
    assert refused(registry, update(*new_association(*appended))) == {"XDSRegistryMetadataError"}
    (made_from,) = [o for o in associations(registry, two.id) if o.type == v.XFRM]
    registry.accept(update(new_status(made_from.id)), ITI_57)
    registry.accept(update(*new_association(*appended)), ITI_57)


# ------------------------------------------------------------------------------------------- whole requests


def test_what_no_operation_speaks_of_is_refused(registry):
    objects = submission()
    assert "XDSMetadataUpdateOperationError" in refused(registry, objects)
    assert refused(registry, update()) == {"XDSMetadataUpdateOperationError"}


def test_all_or_nothing(registry):
    one, two = registered(registry, entries=2)
    objects = update(resent(one, "A"), brings("A"), resent(two, "B"), brings("B", "9"))
    assert refused(registry, objects) == {"XDSMetadataVersionError"}


def test_every_error_is_told(registry):
    one, two = registered(registry, entries=2)
    objects = update(
        resent(one, "A"), brings("A", "9"), new_status(new_uuid()), new_status(two.id, v.DEPRECATED, v.APPROVED)
    )
    expected = {"XDSMetadataVersionError", "UnresolvedReferenceException", "XDSMetadataUpdateError"}
    assert refused(registry, objects) == expected


def test_an_update_is_audited_as_one(registry):
    (entry,) = registered(registry)
    registry.accept(update(new_status(entry.id)), ITI_57)
    record = registry.audited()[-1]
    assert (record.event.action, record.event.type_codes[0].code) == ("U", "ITI-57")
    assert record.objects[0].id == PATIENT


def test_registered_bytes_stay_known_by_their_unique_id(registry):
    (entry,) = registered(registry)
    registry.accept(new_version(entry), ITI_57)
    other = submission(
        contents=(CONTENT + b"other",),
        entry=with_identifier(v.ENTRY_UNIQUE_ID, entry.identifier(v.ENTRY_UNIQUE_ID)),
    )
    assert "XDSNonIdenticalHash" in codes_of(registry.submit(other))
