"""ITI-64 (ADT^A43) over real databases: which documents another patient has afterwards, and what becomes of the rest."""

import pytest
from sqlalchemy import select

from atna.store.engine import reading
from ihe import vocabulary as v
from ihe.xua import Caller
from registry.store import codes as c
from registry.store.tables import entry, submission_set
from tests.builders import AUTHORITY, has_member, submission, with_slot
from tests.feed_server import adt, link_change, msa
from tests.registry.rooms import APPROVED, DEPRECATED, GET_DOCUMENTS, GET_SET_AND_CONTENTS, feed_of
from wire.settings import AffinityDomainSettings, PartnerSettings

A, B, C = (f"{name}^^^&{AUTHORITY}&ISO" for name in "ABC")
L1, L2, L3 = (f"local{number}^^^&1.3.4.5&ISO" for number in (1, 2, 3))
GET_FOLDER_AND_CONTENTS = "urn:uuid:b909a503-523d-4517-8acf-8e5834dfc4c7"
GET_RELATED = "urn:uuid:d90e5407-b356-4d91-a89f-873917b4b0e6"
GET_FOLDERS_FOR_DOCUMENT = "urn:uuid:10cae35a-c7f9-4cf5-b61e-fc3278ffb578"
FIND_SETS = "urn:uuid:f26abbcb-ac74-4422-8a30-edb644bbc1a9"
FIND_FOLDERS = "urn:uuid:958f3006-baad-4929-a4de-ff1114824431"


@pytest.fixture
def fed(registry):
    registry.know(A, B, C)
    feed = feed_of(registry)
    return registry, lambda message: msa(feed.handle(message, Caller("127.0.0.1")))


def document(registry, patient, local, **more):
    """Register one entry with this sourcePatientId; its entryUUID."""
    before = {o.id for o in registry.find(patient).objects}
    registry.accept(submission(patient=patient, entry=with_slot("sourcePatientId", local), **more))
    (made,) = {o.id for o in registry.find(patient).objects} - before
    return made


def shown(registry, patient, status=APPROVED):
    """(lid, version, patientId, sourcePatientId) of every entry found."""
    response = registry.find(patient, f"({status})", MetadataLevel="2")
    assert response.status == v.SUCCESS
    return sorted(
        (o.lid, o.version_name, o.identifier(v.ENTRY_PATIENT_ID), o.slot("sourcePatientId")[0])
        for o in response.objects
    )


def get(registry, uuid):
    (found,) = registry.query(GET_DOCUMENTS, XDSDocumentEntryEntryUUID=f"('{uuid}')").objects
    return found


def related(registry, uuid):
    response = registry.query(
        GET_RELATED, XDSDocumentEntryEntryUUID=f"'{uuid}'", AssociationTypes=f"('{v.APND}','{v.RPLC}','{v.XFRM}')"
    )
    assert response.status == v.SUCCESS
    return {o.id for o in response.objects if o.mime_type}


def folders(registry, patient):
    found = registry.query(FIND_FOLDERS, XDSFolderPatientId=f"'{patient}'", XDSFolderStatus=f"({APPROVED})")
    assert found.status == v.SUCCESS
    return found.objects


def members(registry, folder):
    found = registry.query(GET_FOLDER_AND_CONTENTS, XDSFolderEntryUUID=f"'{folder}'")
    assert found.status == v.SUCCESS, found.errors
    return {o.target for o in found.objects if o.source == folder and o.status.endswith("Approved")}


def test_the_documents_of_the_local_id_get_a_version_of_the_new_patient(fed):
    registry, send = fed
    moving, staying = document(registry, A, L1), document(registry, A, L2)
    assert send(link_change(B, L1, A))[:2] == ("AA", "M43")
    assert shown(registry, A) == [(staying, "1", A, L2)]
    assert shown(registry, B) == [(moving, "2", B, L1)]
    assert shown(registry, A, DEPRECATED) == [(moving, "1", A, L1)]
    (record,) = [r for r in registry.audited() if r.event.type_codes[0].code == "ITI-64"]
    assert (record.event.action, int(record.event.outcome)) == ("U", 0)
    roles = {
        detail.value.decode(): (o.id, o.life_cycle)
        for o in record.objects
        for detail in o.details
        if detail.type == "urn:ihe:iti:xpid:2017:patientIdentifierType"
    }
    assert roles == {"localPatientId": (L1, None), "newPatientId": (B, 1), "previousPatientId": (A, 14)}
    sets = registry.query(FIND_SETS, XDSSubmissionSetPatientId=f"'{B}'", XDSSubmissionSetStatus=f"({APPROVED})")
    (made,) = sets.objects
    assert made.id == record.objects[-1].id
    contents = registry.query(GET_SET_AND_CONTENTS, XDSSubmissionSetEntryUUID=f"'{made.id}'")
    assert contents.status == v.SUCCESS
    (member,) = [o for o in contents.objects if o.source == made.id]
    assert (member.slot("PreviousVersion"), member.slot("SubmissionSetStatus")) == (("1",), ("Original",))
    assert made.identifier(v.SUBMISSION_SET_SOURCE_ID) == "1.3.6.1.4.1.21367.2011.2.7.9999"


def test_a_second_link_change_takes_them_back(fed):
    registry, send = fed
    moving, own = document(registry, A, L1), document(registry, B, L3)
    send(link_change(B, L1, A))
    assert send(link_change(A, L1, B, control="2"))[0] == "AA"
    assert shown(registry, A) == [(moving, "3", A, L1)]
    assert shown(registry, B) == [(own, "1", B, L3)]


def test_the_sender_is_the_source_where_it_names_itself_by_oid(fed):
    registry, send = fed
    document(registry, A, L1)
    assert send(link_change(B, L1, A).replace(b"|ADT|HOSPITAL|", b"|1.2.3.4|HOSPITAL|"))[0] == "AA"
    with reading(registry.engine) as connection:
        assert "1.2.3.4" in connection.execute(select(submission_set.c.source_id)).scalars().all()


def test_local_ids_that_became_one(fed):
    registry, send = fed
    one, other, third = document(registry, A, L1), document(registry, A, L2), document(registry, A, L3)
    assert send(link_change(B, L2, A, L1))[0] == "AA"
    assert shown(registry, B) == sorted([(one, "2", B, L2), (other, "2", B, L2)])
    assert shown(registry, A) == [(third, "1", A, L3)]
    # within one patient: only what had the subsumed id gets a new version
    assert send(link_change(B, L3, B, L2, control="2"))[0] == "AA"
    assert shown(registry, B) == sorted([(one, "3", B, L3), (other, "3", B, L3)])
    assert send(link_change(B, L3, B, L2, control="3"))[0] == "AA"
    assert shown(registry, B) == sorted([(one, "3", B, L3), (other, "3", B, L3)])


def test_deprecated_documents_stay(fed):
    registry, send = fed
    old = document(registry, A, L1)
    new = submission(patient=A, entry=with_slot("sourcePatientId", L1), relations=[(v.RPLC, old)])
    registry.accept(new)
    (found,) = registry.find(A).objects
    send(link_change(B, L1, A))
    assert shown(registry, B) == [(found.id, "2", B, L1)]
    assert get(registry, old).identifier(v.ENTRY_PATIENT_ID) == A
    assert related(registry, found.id) == {found.id, old}
    (version,) = registry.find(B).objects
    assert related(registry, version.id) == set()


def test_relationships_follow_where_both_ends_are_of_one_patient(fed):
    registry, send = fed
    first = document(registry, A, L1)
    both = document(registry, A, L1, relations=[(v.APND, first)])
    stays = document(registry, A, L2, relations=[(v.APND, first)])
    assert related(registry, first) == {first, both, stays}
    assert send(link_change(B, L1, A))[0] == "AA"
    now = {o.lid: o.id for o in registry.find(B).objects}
    assert related(registry, now[first]) == {now[first], now[both]}
    with reading(registry.engine) as connection:
        statuses = connection.execute(select(entry.c.entry_uuid).where(entry.c.status == c.APPROVED)).scalars().all()
    assert set(statuses) == {stays, *now.values()}


def test_a_folder_moves_with_all_its_documents(fed):
    registry, send = fed
    registry.accept(submission(2, 1, A, entry=with_slot("sourcePatientId", L1)))
    (old,) = folders(registry, A)
    send(link_change(B, L1, A))
    assert folders(registry, A) == ()
    (new,) = folders(registry, B)
    assert (new.lid, new.version_name, new.identifier(v.FOLDER_PATIENT_ID)) == (old.id, "2", B)
    assert new.identifier(v.FOLDER_UNIQUE_ID) == old.identifier(v.FOLDER_UNIQUE_ID)
    assert members(registry, new.id) == {o.id for o in registry.find(B).objects}
    send(link_change(A, L1, B, control="2"))
    (back,) = folders(registry, A)
    assert (back.lid, back.version_name) == (old.id, "3") and folders(registry, B) == ()


def test_a_mixed_folder_loses_what_moves(fed):
    registry, send = fed
    registry.accept(submission(1, 1, A, entry=with_slot("sourcePatientId", L1)))
    (old,) = folders(registry, A)
    member = has_member(old.id, "Document01", "member")
    extra = [member, has_member("SubmissionSet01", "member")]
    staying = document(registry, A, L2, extra=extra)
    assert len(members(registry, old.id)) == 2
    send(link_change(B, L1, A))
    assert members(registry, old.id) == {staying}
    assert folders(registry, B) == ()


def test_within_one_patient_folders_keep_their_documents(fed):
    registry, send = fed
    registry.accept(submission(1, 1, A, entry=with_slot("sourcePatientId", L1)))
    (folder,) = folders(registry, A)
    send(link_change(A, L2, A, L1))
    (new,) = registry.find(A).objects
    assert new.version_name == "2"
    assert members(registry, folder.id) == {new.id}


def test_a_reference_from_another_submission_set_follows(fed):
    registry, send = fed
    moving = document(registry, A, L1)
    other = submission(
        patient=A,
        entry=with_slot("sourcePatientId", L2),
        unique_id="1.2.3.4.5",
        extra=[has_member("SubmissionSet01", moving, status="Reference")],
    )
    registry.accept(other)
    send(link_change(B, L1, A))
    (new,) = registry.find(B).objects
    contents = registry.query(GET_SET_AND_CONTENTS, "ObjectRef", XDSSubmissionSetUniqueId="'1.2.3.4.5'")
    assert new.id in contents.object_refs


def test_a_merged_record_moves_as_a_whole(fed):
    registry, send = fed
    moving = document(registry, C, L1)
    assert send(adt("A40", pid3=A, control="M40", extra=f"MRG|{C}\r"))[0] == "AA"
    assert send(link_change(B, L1, A))[0] == "AA"
    assert shown(registry, B) == [(moving, "2", B, L1)]
    assert shown(registry, A) == []
    assert "merged" in send(link_change(C, L1, B, control="2"))[2]
    assert "merged" in send(link_change(B, L1, C, control="3"))[2]


@pytest.mark.parametrize(
    ("message", "says"),
    [
        (link_change(f"X^^^&{AUTHORITY}&ISO", L1, A), "new patient id was never announced"),
        (link_change(B, L1, f"X^^^&{AUTHORITY}&ISO"), "previous patient id was never announced"),
        (link_change(B, "local1", A), "needs its assigning authority"),
        (link_change(B, L1, A, "local2^^^&1.9.9&ISO"), "two assigning authorities"),
        (link_change(B, L1, f"A^^^&{AUTHORITY}.1&ISO"), "two assigning authorities"),
        (adt("A43", pid3=B, extra=f"MRG|{A}\r"), "PID-3 needs two ids"),
        (adt("A43", pid3=f"{B}~{L1}"), "one PID and one MRG"),
        (link_change(B, L1, ""), "one or two ids"),
        (link_change(B, f"{'9' * 256}^^^&1.3.4.5&ISO", A, L1), "at most 256 characters"),
    ],
)
def test_a_refusal_says_why_and_changes_nothing(fed, message, says):
    registry, send = fed
    moving = document(registry, A, L1)
    code, _, text = send(message)
    assert code == "AE" and says in text, text
    assert shown(registry, A) == [(moving, "1", A, L1)] and shown(registry, B) == []
    assert [int(r.event.outcome) for r in registry.audited() if r.event.type_codes[0].code == "ITI-64"] == [8]


def test_only_listed_partners(registry):
    registry.know(A, B)
    moving = document(registry, A, L1)
    domain = AffinityDomainSettings(partners={"CN=pix": PartnerSettings(transactions=frozenset({"ITI-64"}))})
    feed = feed_of(registry, domain)
    assert msa(feed.handle(link_change(B, L1, A), Caller("10.0.0.7", "CN=adt")))[0] == "AR"
    assert shown(registry, A) == [(moving, "1", A, L1)]
    assert msa(feed.handle(link_change(B, L1, A), Caller("10.0.0.7", "CN=pix")))[0] == "AA"
    assert shown(registry, B) == [(moving, "2", B, L1)]


def test_who_deposited_stays(registry):
    registry.know(A, B)
    document(registry, A, L1)
    with registry.engine.begin() as connection:
        connection.execute(entry.update().values(depositor_node="CN=lab", depositor_person="Dr. X"))
    msa(feed_of(registry).handle(link_change(B, L1, A), Caller("127.0.0.1")))
    with reading(registry.engine) as connection:
        rows = connection.execute(select(entry.c.version, entry.c.depositor_node, entry.c.depositor_person)).all()
    assert sorted(map(tuple, rows)) == [(1, "CN=lab", "Dr. X"), (2, "CN=lab", "Dr. X")]
