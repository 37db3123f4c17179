"""ITI-42, registry side: what needs the store to be judged, and what registering does (ITI TF-2: 3.42.4.1.3)."""

import threading
from dataclasses import replace
from random import Random

import pytest
from sqlalchemy import select

from atna.message import Outcome
from atna.store.engine import reading
from ihe import vocabulary as v
from ihe.ebrim import write_object
from ihe.ebrs import submit_objects_request
from ihe.matricule import MatriculePolicy
from ihe.registry_objects import Kind, Slot
from registry.store import tables
from registry.store.codes import KIND
from schemas import parse_xml
from tests.builders import (
    AUTHORITY,
    CONFIDENTIALITY,
    CONTENT,
    MATRICULES,
    PATIENT,
    association,
    document_entry,
    folder,
    has_member,
    having,
    identifier,
    more_slots,
    new_oid,
    new_uuid,
    only,
    submission,
    submit_objects_request_xml,
    with_code,
    with_identifier,
    with_slot,
    without_slot,
)
from tests.registry.rooms import APPROVED, DEPRECATED, GET_DOCUMENTS, GET_SET_AND_CONTENTS, RegistryRoom, codes_of
from wire.settings import AffinityDomainSettings

OTHER = f"P-0815^^^&{AUTHORITY}&ISO"


def registered_entry(registry, **changes):
    """Register one document; gives its entry as the registry shows it."""
    known = {o.id for o in registry.find(status=f"({APPROVED},{DEPRECATED})").objects}
    registry.accept(submission(**changes))
    (entry,) = [o for o in registry.find().objects if o.id not in known]
    return entry


def relate(kind, target, **changes):
    """A submission whose new document relates to one that is registered."""
    return submission(relations=((kind, target),), **changes)


def status_of(registry, *uuids):
    listed = ",".join(f"'{uuid}'" for uuid in uuids)
    found = registry.query(GET_DOCUMENTS, XDSDocumentEntryEntryUUID=f"({listed})").objects
    by_id = {o.id: o.status.rsplit(":", 1)[-1] for o in found}
    return [by_id[uuid] for uuid in uuids]


# ---------------------------------------------------------------------------------------------- what is stored


def test_an_accepted_document_is_found_approved_with_version_one(registry):
    entry = registered_entry(registry)
    assert entry.status == v.APPROVED
    assert entry.lid == entry.id
    assert entry.version_name == "1"
    assert entry.identifier(v.ENTRY_PATIENT_ID) == PATIENT


def test_symbolic_ids_become_one_uuid_everywhere_and_uuids_stay(registry):
    uuid = new_uuid()
    kept = submission(entry=having(id=uuid), extra=(), association=lambda o: o)
    objects = [
        o if o.kind is not Kind.ASSOCIATION else association(o.type, o.source, uuid, status="Original")
        for o in kept.objects
    ]
    response = registry.send(submit_objects_request([write_object(o) for o in objects]))
    assert response.status == v.SUCCESS, response.errors
    (entry,) = registry.find().objects
    assert entry.id == uuid
    assert {c.classified_object for c in entry.classifications} == {uuid}
    assert all(c.id.startswith("urn:uuid:") for c in entry.classifications)
    assert {i.registry_object for i in entry.external_identifiers} == {uuid}


def test_an_upper_case_uuid_is_the_same_uuid(registry):
    entry = registered_entry(registry)
    response = registry.submit(relate(v.APND, entry.id.upper().replace("URN:UUID:", "urn:uuid:")))
    assert response.status == v.SUCCESS, response.errors


def test_a_uuid_that_is_registered_cannot_be_used_again(registry):
    entry = registered_entry(registry)
    response = registry.submit(submission(entry=having(id=entry.id), members=False))
    assert codes_of(response) >= {"XDSRegistryMetadataError"}
    assert any("registered already" in error.context for error in response.errors)


def test_nothing_is_stored_of_a_refused_submission(registry):
    response = registry.submit(submission(entries=3, folders=1, entry=only("Document02", without_slot("hash"))))
    assert response.status == v.FAILURE
    for table in (tables.entry, tables.folder, tables.submission_set, tables.association, tables.object_key):
        assert registry.count(table) == 0
    assert registry.count(tables.unique_id_key) == 0


def test_extra_slots_come_back(registry):
    entry = registered_entry(registry, entry=with_slot("urn:example:extra", "a", "b"))
    assert entry.slot("urn:example:extra") == ("a", "b")


# ---------------------------------------------------------------------------------------------- patients


def test_a_patient_nobody_fed_is_unknown(registry):
    response = registry.submit(submission(patient=OTHER))
    assert codes_of(response) == {"XDSUnknownPatientId"}
    assert OTHER in response.errors[0].context


def test_two_patients_in_one_submission_do_not_match(registry):
    registry.know(OTHER)
    response = registry.submit(submission(entry=with_identifier(v.ENTRY_PATIENT_ID, OTHER)))
    assert "XDSPatientIdDoesNotMatch" in codes_of(response)


@pytest.mark.parametrize("kind", [v.APND, v.XFRM, v.RPLC, v.XFRM_RPLC, v.SIGNS])
def test_a_relationship_across_patients_does_not_match(registry, kind):
    registry.know(OTHER)
    entry = registered_entry(registry)
    response = registry.submit(relate(kind, entry.id, patient=OTHER))
    assert codes_of(response) == {"XDSPatientIdDoesNotMatch"}
    assert OTHER in response.errors[0].context  # the id that was sent, not the one it should have been
    assert PATIENT not in response.errors[0].context
    assert status_of(registry, entry.id) == ["Approved"]


def test_every_error_of_a_submission_is_reported_at_once(registry):
    changes = (without_slot("hash"), with_slot("languageCode", "not a language"))
    response = registry.submit(submission(patient=OTHER, entry=changes, relations=((v.RPLC, new_uuid()),)))
    assert codes_of(response) == {"XDSRegistryMetadataError", "XDSUnknownPatientId", "UnresolvedReferenceException"}
    assert sum("hash" in e.context or "languageCode" in e.context for e in response.errors) == 2


# ---------------------------------------------------------------------------------------------- unique ids


def test_a_submission_set_unique_id_cannot_be_used_twice(registry):
    unique_id = new_oid()
    registry.accept(submission(unique_id=unique_id))
    response = registry.submit(submission(unique_id=unique_id))
    assert codes_of(response) == {"XDSDuplicateUniqueIdInRegistry"}
    assert unique_id in response.errors[0].context


def test_a_folder_unique_id_cannot_be_that_of_a_document(registry):
    entry = registered_entry(registry)
    taken = with_identifier(v.FOLDER_UNIQUE_ID, entry.identifier(v.ENTRY_UNIQUE_ID))
    response = registry.submit(submission(folders=1, folder=taken))
    assert codes_of(response) == {"XDSDuplicateUniqueIdInRegistry"}


def test_a_document_unique_id_cannot_be_that_of_a_submission_set(registry):
    unique_id = new_oid()
    registry.accept(submission(unique_id=unique_id))
    response = registry.submit(submission(entry=with_identifier(v.ENTRY_UNIQUE_ID, unique_id)))
    assert codes_of(response) == {"XDSRegistryMetadataError"}


def test_the_same_document_again_makes_a_second_entry(registry):
    unique_id = new_oid()
    same = with_identifier(v.ENTRY_UNIQUE_ID, unique_id)
    registry.accept(submission(entry=same))
    registry.accept(submission(entry=same))
    found = registry.query(GET_DOCUMENTS, XDSDocumentEntryUniqueId=f"('{unique_id}')")
    assert len(found.objects) == 2


@pytest.mark.parametrize(
    ("change", "code"),
    [(with_slot("hash", "0" * 40), "XDSNonIdenticalHash"), (with_slot("size", "1"), "XDSNonIdenticalSize")],
)
def test_a_unique_id_with_other_bytes_is_refused(registry, change, code):
    unique_id = new_oid()
    same = with_identifier(v.ENTRY_UNIQUE_ID, unique_id)
    registry.accept(submission(entry=same))
    response = registry.submit(submission(entry=(same, change)))
    assert codes_of(response) == {code}
    assert unique_id in response.errors[0].context


def test_a_hash_in_capitals_is_the_same_hash(registry):
    entry = registered_entry(registry)
    same = with_identifier(v.ENTRY_UNIQUE_ID, entry.identifier(v.ENTRY_UNIQUE_ID))
    registry.accept(submission(entry=(same, with_slot("hash", entry.slot("hash")[0].upper()))))


# ---------------------------------------------------------------------------------------------- relationships


@pytest.mark.parametrize("kind", [v.RPLC, v.XFRM_RPLC])
def test_a_replacement_deprecates_its_target_and_what_hung_on_it(registry, kind):
    original = registered_entry(registry)
    addendum = registered_entry(registry, relations=((v.APND, original.id),))
    transform = registered_entry(registry, relations=((v.XFRM, original.id),))
    signature = registered_entry(registry, relations=((v.SIGNS, original.id),))
    replacement = registered_entry(registry, relations=((kind, original.id),))
    assert status_of(registry, original.id, addendum.id, transform.id) == ["Deprecated"] * 3
    assert status_of(registry, signature.id, replacement.id) == ["Approved"] * 2


@pytest.mark.parametrize("kind", [v.APND, v.XFRM, v.SIGNS])
def test_other_relationships_leave_their_target_approved(registry, kind):
    original = registered_entry(registry)
    registered_entry(registry, relations=((kind, original.id),))
    assert status_of(registry, original.id) == ["Approved"]


def test_nothing_is_appended_to_a_transformation(registry):
    original = registered_entry(registry)
    transform = registered_entry(registry, relations=((v.XFRM, original.id),))
    (error,) = registry.submit(relate(v.APND, transform.id)).errors
    assert error.code == "XDSRegistryMetadataError"
    what = f"{transform.id}: targetObject of Association APND from Document01 is a transformation (XFRM)"
    assert error.context == f"{what}; append to the document that it was made from"
    both = registered_entry(registry, relations=((v.XFRM_RPLC, original.id),))
    addendum = registered_entry(registry, relations=((v.APND, both.id),))  # what took its place is a document again
    registered_entry(registry, relations=((v.APND, addendum.id),))


@pytest.mark.parametrize("kind", [v.XFRM, v.RPLC, v.XFRM_RPLC, v.SIGNS])
def test_a_transformation_takes_part_in_other_relationships(registry, kind):
    original = registered_entry(registry)
    transform = registered_entry(registry, relations=((v.XFRM, original.id),))
    registry.accept(relate(kind, transform.id))


@pytest.mark.parametrize("kind", [v.APND, v.XFRM, v.RPLC, v.XFRM_RPLC, v.SIGNS])
def test_a_deprecated_document_is_no_target(registry, kind):
    original = registered_entry(registry)
    registered_entry(registry, relations=((v.RPLC, original.id),))
    response = registry.submit(relate(kind, original.id))
    assert codes_of(response) == {"XDSRegistryDeprecatedDocumentError"}


@pytest.mark.parametrize("kind", [v.APND, v.RPLC, v.IS_SNAPSHOT_OF])
def test_an_unknown_target_is_an_unresolved_reference(registry, kind):
    response = registry.submit(relate(kind, new_uuid()))
    assert codes_of(response) == {"UnresolvedReferenceException"}


def test_a_snapshot_needs_an_on_demand_entry(registry):
    entry = registered_entry(registry)
    assert codes_of(registry.submit(relate(v.IS_SNAPSHOT_OF, entry.id))) == {"XDSRegistryMetadataError"}


def test_a_relationship_of_a_document_that_is_not_in_the_submission_is_unresolved(registry):
    first, second = registered_entry(registry), registered_entry(registry)
    response = registry.submit(submission(extra=(association(v.APND, first.id, second.id),)))
    assert "UnresolvedReferenceException" in codes_of(response)


def test_an_association_without_id_is_named_by_what_it_says(registry):
    nowhere = new_uuid()
    (error,) = registry.submit(relate(v.APND, nowhere)).errors
    assert error.context == f"{nowhere}: targetObject of Association APND from Document01 is not known here"
    (error,) = registry.submit(submission(extra=(has_member("SubmissionSet01", nowhere, status="Reference"),))).errors
    assert error.context == f"{nowhere}: targetObject of Association HasMember from SubmissionSet01 is not known here"


def test_a_reference_too_long_to_be_one_is_not_repeated_whole(registry):
    response = registry.submit(relate(v.APND, "urn:uuid:" + "a" * 100_000))
    assert codes_of(response) == {"XDSRegistryMetadataError", "UnresolvedReferenceException"}
    assert max(len(error.context) for error in response.errors) < 512


def test_a_relationship_to_a_folder_is_refused(registry):
    registry.accept(submission(folders=1))
    with reading(registry.engine) as connection:
        uuid = connection.execute(select(tables.folder.c.entry_uuid)).scalar_one()
    assert codes_of(registry.submit(relate(v.APND, uuid))) == {"XDSRegistryMetadataError"}


def test_of_two_replacements_at_the_same_time_one_wins(registry):
    original = registered_entry(registry)
    responses = []
    gate = threading.Barrier(4)

    def replace():
        gate.wait()
        responses.append(registry.submit(relate(v.RPLC, original.id)))

    threads = [threading.Thread(target=replace) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    outcomes = sorted(response.status == v.SUCCESS for response in responses)
    assert outcomes == [False, False, False, True]
    refused = [codes_of(response) for response in responses if response.status != v.SUCCESS]
    assert refused == [{"XDSRegistryDeprecatedDocumentError"}] * 3


def test_of_two_submissions_with_one_unique_id_at_the_same_time_one_wins(registry):
    for _ in range(3):
        unique_id, responses = new_oid(), []
        gate = threading.Barrier(4)

        def submit(unique_id=unique_id, responses=responses, gate=gate):
            gate.wait()
            responses.append(registry.submit(submission(unique_id=unique_id)))

        threads = [threading.Thread(target=submit) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(response.status == v.SUCCESS for response in responses) == [False, False, False, True]
        refused = [codes_of(response) for response in responses if response.status != v.SUCCESS]
        assert refused == [{"XDSDuplicateUniqueIdInRegistry"}] * 3


# ---------------------------------------------------------------------------------------------- folders


def _contents(registry):
    with reading(registry.engine) as connection:
        folder_uuid = connection.execute(select(tables.folder.c.entry_uuid)).scalar_one()
        rows = connection.execute(select(tables.association.c.target).where(tables.association.c.source == folder_uuid))
        return folder_uuid, {row.target for row in rows}


def test_a_replacement_joins_the_folders_of_the_original(registry):
    registry.accept(submission(folders=1))
    (original,) = registry.find().objects
    replacement = registered_entry(registry, relations=((v.RPLC, original.id),))
    folder_uuid, members = _contents(registry)
    assert members == {original.id, replacement.id}
    with reading(registry.engine) as connection:
        a = tables.association.c
        link = connection.execute(
            select(a.entry_uuid, a.submission_set_key).where(a.source == folder_uuid, a.target == replacement.id)
        ).one()
        told = connection.execute(select(a.source).where(a.target == link.entry_uuid)).scalars().all()
        sets = connection.execute(select(tables.submission_set.c.entry_uuid)).scalars().all()
    assert len(told) == 1
    assert told[0] in sets


def test_a_document_can_be_added_to_a_folder_that_exists(registry):
    registry.accept(submission(entries=0, folders=1))
    folder_uuid, _ = _contents(registry)
    link = has_member(folder_uuid, "Document01", "link")
    registry.accept(submission(extra=(link, has_member("SubmissionSet01", "link"))))
    (entry,) = registry.find().objects
    assert _contents(registry)[1] == {entry.id}


def test_a_folder_of_another_patient_takes_nothing(registry):
    registry.know(OTHER)
    registry.accept(submission(entries=0, folders=1, patient=OTHER))
    folder_uuid, _ = _contents(registry)
    link = has_member(folder_uuid, "Document01", "link")
    response = registry.submit(submission(extra=(link, has_member("SubmissionSet01", "link"))))
    assert codes_of(response) == {"XDSPatientIdDoesNotMatch"}


def test_a_deprecated_document_goes_into_no_folder(registry):
    original = registered_entry(registry)
    registered_entry(registry, relations=((v.RPLC, original.id),))
    link = has_member("Folder01", original.id, "link")
    more = (folder(), has_member("SubmissionSet01", "Folder01"), link, has_member("SubmissionSet01", "link"))
    response = registry.submit(submission(extra=more))
    assert codes_of(response) == {"XDSRegistryDeprecatedDocumentError"}


def test_a_folder_holds_documents_alone(registry):
    registry.accept(submission(entries=0, folders=1))
    folder_uuid, _ = _contents(registry)
    link = has_member("Folder02", folder_uuid, "link")
    more = (folder("Folder02"), has_member("SubmissionSet01", "Folder02"), link, has_member("SubmissionSet01", "link"))
    assert codes_of(registry.submit(submission(extra=more))) == {"XDSRegistryMetadataError"}


def test_a_submission_set_can_refer_to_a_document_of_before(registry):
    entry = registered_entry(registry)
    unique_id = new_oid()
    referring = (has_member("SubmissionSet01", entry.id, status="Reference"),)
    registry.accept(submission(entries=0, extra=referring, unique_id=unique_id))
    found = registry.query(GET_SET_AND_CONTENTS, XDSSubmissionSetUniqueId=f"'{unique_id}'").objects
    assert [o.kind for o in found] == [Kind.SUBMISSION_SET, Kind.DOCUMENT_ENTRY, Kind.ASSOCIATION]
    assert found[1].id == entry.id


def test_nothing_can_be_added_to_a_submission_set_of_before(registry):
    unique_id = new_oid()
    registry.accept(submission(unique_id=unique_id))
    (older, *_) = registry.query(GET_SET_AND_CONTENTS, XDSSubmissionSetUniqueId=f"'{unique_id}'").objects
    response = registry.submit(submission(extra=(has_member(older.id, "Document01", status="Original"),)))
    assert codes_of(response) == {"XDSRegistryMetadataError"}


# ---------------------------------------------------------------------------------------------- audit, strictness


def test_success_and_refusal_each_leave_one_record(registry):
    unique_id = new_oid()
    registry.accept(submission(unique_id=unique_id))
    registry.submit(submission(patient=OTHER))
    good, bad = registry.audited()
    assert (good.event.outcome, bad.event.outcome) == (Outcome.SUCCESS, Outcome.SERIOUS_FAILURE)
    assert [o.id for o in good.objects] == [PATIENT, unique_id]
    assert bad.event.outcome_description == "XDSUnknownPatientId"
    assert [c.code for c in good.event.type_codes] == ["ITI-42"]


def test_a_message_that_breaks_the_schema_is_refused_and_recorded(registry):
    body = submit_objects_request_xml(submission()).replace(
        b"<rim:RegistryObjectList", b"<rim:Other/><rim:RegistryObjectList", 1
    )
    response = registry.send(body.replace(b"<rim:Other/>", b'<rim:Other xmlns:rim="%s"/>' % v.RIM.encode()))
    assert codes_of(response) == {"XDSRegistryMetadataError"}
    (record,) = registry.audited()
    assert record.event.outcome == Outcome.SERIOUS_FAILURE


def test_warn_accepts_what_deviates_and_records_the_defect(lenient_registry):
    deviating = submission(entry=with_slot("extra-without-urn", "x"))
    lenient_registry.accept(deviating)
    with reading(lenient_registry.engine) as connection:
        (row,) = connection.execute(select(tables.defect)).all()
    assert (row.partner, row.code) == ("127.0.0.1", "XDSRegistryMetadataError")
    assert "extra-without-urn" in row.context


def test_reject_refuses_what_deviates(registry):
    response = registry.submit(submission(entry=with_slot("extra-without-urn", "x")))
    assert codes_of(response) == {"XDSRegistryMetadataError"}
    assert registry.count(tables.defect) == 0


def test_the_depositor_a_repository_tells_of_is_believed_on_loopback(registry):
    told = parse_xml(b'<d:Depositor xmlns:d="%s" node="CN=lab" person="dr"/>' % v.DOSSIER.encode())
    assert registry.submit(submission(), headers=(told,)).status == v.SUCCESS
    with reading(registry.engine) as connection:
        row = connection.execute(select(tables.entry.c.depositor_node, tables.entry.c.depositor_person)).one()
    assert tuple(row) == ("CN=lab", "dr")


@pytest.mark.parametrize(
    ("key", "told"),
    [("CN=lab", 'node="CN=lab"'), (f"sha256:{'a' * 64}", f'node="CN=lab" fingerprint="sha256:{"a" * 64}"')],
)
def test_strictness_of_a_partner_holds_for_what_a_repository_passes_on(registry, key, told):
    agreed = AffinityDomainSettings(partners={key: {"strictness": "warn"}})
    registry.actor = replace(registry.actor, agreed=agreed)
    header = parse_xml(f'<d:Depositor xmlns:d="{v.DOSSIER}" {told}/>'.encode())
    deviating = submission(entry=with_slot("extra-without-urn", "x"))
    assert codes_of(registry.submit(deviating)) == {"XDSRegistryMetadataError"}
    assert registry.submit(deviating, headers=(header,)).status == v.SUCCESS
    with reading(registry.engine) as connection:
        assert connection.execute(select(tables.defect.c.partner)).scalars().all() == ["CN=lab"]


def test_a_full_outbox_refuses_as_busy(tmp_path):
    room = RegistryRoom(f"sqlite:///{tmp_path}/r.db")
    room.know()
    room.outbox.max_rows = 1
    room.accept(submission())
    room.outbox._checked_at = float("-inf")
    assert codes_of(room.submit(submission())) == {"XDSRegistryBusy"}
    room.close()


def test_a_document_of_many_entries_keeps_their_order(registry):
    contents = [CONTENT + b"%d" % n for n in range(12)]
    registry.accept(submission(entries=12, contents=contents))
    sizes = [o.slot("size")[0] for o in registry.find().objects]
    assert sizes == [str(len(content)) for content in contents]
    assert document_entry().kind is Kind.DOCUMENT_ENTRY


@pytest.mark.parametrize(("at", "taken"), [("1", False), ("99999999999", True), ("soon", True)])
def test_a_registration_nobody_waits_for_any_more_does_not_appear(registry, at, taken):
    told = parse_xml(b'<d:GiveUp xmlns:d="%s" at="%s"/>' % (v.DOSSIER.encode(), at.encode()))
    response = registry.submit(submission(), headers=(told,))
    assert codes_of(response) == (set() if taken else {"XDSRegistryBusy"})
    assert registry.count(tables.entry) == taken


def uuids_of(registry, kind):
    key = tables.object_key.c
    with reading(registry.engine) as connection:
        return connection.execute(select(key.entry_uuid).where(key.kind == KIND[kind])).scalars().all()


@pytest.mark.parametrize("kind", [Kind.FOLDER, Kind.ASSOCIATION, Kind.SUBMISSION_SET])
def test_of_what_is_registered_a_set_takes_documents_alone(registry, kind):
    registry.accept(submission(folders=1))
    uuid = uuids_of(registry, kind)[0]
    response = registry.submit(submission(extra=(has_member("SubmissionSet01", uuid, status="Reference"),)))
    assert codes_of(response) == {"XDSRegistryMetadataError"}


def test_a_replacement_put_into_the_folder_by_its_submission_is_there_once(registry):
    entry = registered_entry(registry, folders=1)
    (uuid,) = uuids_of(registry, Kind.FOLDER)
    members = (has_member(uuid, "Document01", "n"), has_member("SubmissionSet01", "n"))
    registry.accept(relate(v.RPLC, entry.id, extra=members))
    (new,) = registry.find().objects
    link = tables.association.c
    with reading(registry.engine) as connection:
        found = connection.execute(select(link.entry_uuid).where(link.source == uuid, link.target == new.id)).all()
    assert len(found) == 1


@pytest.mark.parametrize("size", ["²", "9" * 5000])
def test_a_size_that_is_no_number_is_a_metadata_error_also_for_a_known_document(registry, size):
    unique_id = new_oid()
    registry.accept(submission(entry=with_identifier(v.ENTRY_UNIQUE_ID, unique_id)))
    again = submission(entry=(with_identifier(v.ENTRY_UNIQUE_ID, unique_id), with_slot("size", size)))
    assert codes_of(registry.submit(again)) == {"XDSRegistryMetadataError"}


def test_a_relation_from_a_document_registered_before_is_told_once(registry):
    first, second = registered_entry(registry), registered_entry(registry)
    response = registry.submit(submission(extra=(association(v.APND, first.id, second.id),)))
    assert [error.code for error in response.errors] == ["UnresolvedReferenceException"]


def test_a_patient_of_an_authority_that_is_listed_no_more_is_unknown(tmp_path):
    room = RegistryRoom(f"sqlite:///{tmp_path}/r.db")
    room.know()
    here = replace(room.actor.domain, assigning_authorities=frozenset({"1.2.3"}))
    room.actor = replace(room.actor, current_domain=lambda: here)
    response = room.submit(submission())
    assert codes_of(response) == {"XDSUnknownPatientId"}
    assert "assigning authority" in response.errors[0].context
    room.close()


def test_warn_keeps_what_deviates_in_the_form_the_framework_gives_it(lenient_registry):
    """A slot of one name once, no empty ones, times in plain UTC: what is found again has no defect."""
    deviating = (
        more_slots(Slot("languageCode", ("fr-LU",)), Slot("urn:example:empty", (" ",))),
        with_slot("creationTime", "20240229120000.5+0100"),
    )
    entry = registered_entry(lenient_registry, entry=deviating)
    assert [slot.values for slot in entry.slots if slot.name == "languageCode"] == [("fr-LU",)]
    assert entry.slot("urn:example:empty") is None
    assert entry.slot("creationTime") == ("20240229110000",)


def test_a_matricule_that_is_only_noted_is_let_pass_by_a_strict_registry(registry):
    noting = MatriculePolicy(frozenset({MATRICULES}), strict=False)
    here = replace(registry.actor.domain, matricules=noting)
    registry.actor = replace(registry.actor, current_domain=lambda: here)
    wrong = f"1893120105742^^^&{MATRICULES}&ISO"
    registry.accept(submission(entry=with_slot("sourcePatientId", wrong)))
    with reading(registry.engine) as connection:
        ((code, context),) = connection.execute(select(tables.defect.c.code, tables.defect.c.context)).all()
    assert code == "XDSRegistryMetadataError"
    assert "Luhn" in context and "1893" not in context


def test_a_code_with_blanks_around_it_is_found_as_that_code(registry):
    registry.accept(submission(entry=with_code(v.ENTRY_CONFIDENTIALITY, " R ", CONFIDENTIALITY)))
    assert len(registry.find(XDSDocumentEntryConfidentialityCode=f"('R^^{CONFIDENTIALITY}')").objects) == 1
    with reading(registry.engine) as connection:
        assert connection.execute(select(tables.entry.c.level)).scalar_one() == "R"


def test_a_patient_id_behind_an_empty_one_is_no_way_around_the_patient_of_the_submission(registry):
    registry.know(OTHER)

    def hidden(obj):
        empty = identifier(v.ENTRY_PATIENT_ID, "", "XDSDocumentEntry.patientId")
        return replace(obj, external_identifiers=(empty, *obj.external_identifiers))

    response = registry.submit(submission(entry=(with_identifier(v.ENTRY_PATIENT_ID, OTHER), hidden)))
    assert codes_of(response) == {"XDSRegistryMetadataError"}
    assert registry.find(OTHER).objects == registry.find().objects == ()


def test_what_is_refused_need_not_be_mendable(lenient_registry):
    wrong = with_slot("creationTime", "yesterday"), with_slot("foo", "let pass")
    (error,) = lenient_registry.submit(submission(entry=wrong)).errors
    assert error.context.startswith("DocumentEntry Document01, creationTime: is no valid DTM")


def test_an_entry_is_shown_valid_whatever_is_opaque_said(registry):
    registry.accept(submission(entry=having(is_opaque="maybe")))
    (entry,) = registry.find().objects  # the room holds the answer against the strict schema
    assert entry.is_opaque is None


def test_a_coding_scheme_no_index_takes_is_refused_whatever_the_strictness(database_url):
    room = RegistryRoom(database_url, strictness="warn")
    room.know()
    random = Random(4711)  # PostgreSQL compresses what repeats itself
    scheme = "".join(chr(random.randrange(0x4E00, 0x9FFF)) for _ in range(1300))
    response = room.submit(submission(entry=with_code(v.ENTRY_EVENT, "x", scheme)))
    room.submit(submission(entry=with_code(v.ENTRY_EVENT, "x", scheme[:256])))
    known = len(room.find().objects)
    room.close()
    assert [(e.code, "codingScheme" in e.context) for e in response.errors] == [("XDSRegistryMetadataError", True)]
    assert known == 1
