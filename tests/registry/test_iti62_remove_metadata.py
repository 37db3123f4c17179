"""ITI-62, registry side: objects go for good, or not at all (Remove Metadata and Documents: 3.62.4.1.3)."""

import threading
from dataclasses import replace

import pytest
from sqlalchemy import select

from atna.store.engine import begin_write, reading
from ihe import ebrs
from ihe import vocabulary as v
from ihe.datatypes import parse_cx
from ihe.transactions import ITI_57, ITI_62
from registry.store import tables
from registry.store.merges import merge
from schemas import parse_xml
from tests.builders import (
    AUTHORITY,
    CONTENT,
    PATIENT,
    has_member,
    new_oid,
    new_uuid,
    submission,
    with_identifier,
    with_slot,
)
from tests.registry.rooms import APPROVED, DEPRECATED, codes_of
from tests.updates import new_version

OLD = f"P-0001^^^&{AUTHORITY}&ISO"
ANY = f"({APPROVED},{DEPRECATED})"
GET_ALL = "urn:uuid:10b545ea-725c-446d-9b95-8aeb444eddf3"
ROWS = (
    *(tables.entry, tables.entry_code, tables.entry_author, tables.entry_reference, tables.folder),
    *(tables.folder_code, tables.association, tables.submission_set, tables.submission_set_author),
    *(tables.object_key, tables.unique_id_key),
)

GET_ASSOCIATIONS = "urn:uuid:a7ae438b-4bc2-4642-93e9-be891f7bb155"


def everything(registry):
    """Every object of the patient by its entryUUID."""
    found = registry.query(
        GET_ALL,
        patientId=f"'{PATIENT}'",
        XDSDocumentEntryStatus=ANY,
        XDSSubmissionSetStatus=ANY,
        XDSFolderStatus=ANY,
        MetadataLevel="2",
    )
    return {o.id: o for o in found.objects}


def remove(registry, *uuids):
    return registry.send(ebrs.remove_objects_request(uuids), transaction=ITI_62)


def refused(registry, *uuids):
    before = everything(registry)
    response = remove(registry, *uuids)
    assert response.status.endswith("Failure")
    assert everything(registry) == before
    return codes_of(response)


def test_as_many_as_are_allowed_may_be_named_in_one_request(registry):
    def codes(count):
        body = ebrs.remove_objects_request([new_uuid() for _ in range(count)])
        answer = registry.actor.handlers[ITI_62](registry.request(ITI_62, body))
        return [error.code for error in ebrs.read_registry_response(parse_xml(b"".join(answer.body))).errors]

    assert codes(10_000) == ["UnresolvedReferenceException"] * 10_000
    assert codes(10_001) == ["XDSRegistryError"]


def of(objects, kind):
    return [o for o in objects.values() if o.kind == kind]


def test_a_whole_submission_goes_and_leaves_nothing(registry):
    registry.accept(submission(entries=2, folders=1))
    assert remove(registry, *everything(registry)).status.endswith("Success")
    assert everything(registry) == {}
    assert [registry.count(table) for table in ROWS] == [0] * len(ROWS)


def test_its_unique_ids_may_be_used_again(registry):
    used = {"entry": with_identifier(v.ENTRY_UNIQUE_ID, new_oid()), "unique_id": new_oid()}
    registry.accept(submission(**used))
    assert remove(registry, *everything(registry)).status.endswith("Success")
    registry.accept(submission(contents=(CONTENT + b"other",), **used))


def test_nothing_of_another_submission_goes_with_it(registry):
    registry.accept(submission(entries=2, folders=1))
    kept = everything(registry)
    registry.accept(submission())
    assert remove(registry, *(everything(registry).keys() - kept.keys())).status.endswith("Success")
    assert everything(registry) == kept


def test_an_unknown_object_is_named(registry):
    registry.accept(submission())
    strange = new_uuid()
    response = remove(registry, strange, *everything(registry))
    assert [(e.code, strange in e.context) for e in response.errors] == [("UnresolvedReferenceException", True)]
    assert len(everything(registry)) == 3


def test_a_reference_without_id_is_named_so(registry):
    (error,) = remove(registry, "").errors
    assert error.context == "an ObjectRef without id: no such object is registered"


def test_what_is_referred_to_stays(registry):
    registry.accept(submission())
    objects = everything(registry)
    (entry,), (sset,) = of(objects, "DocumentEntry"), of(objects, "SubmissionSet")
    assert refused(registry, entry.id) == {"ReferencesExistException"}
    assert refused(registry, sset.id, entry.id) == {"ReferencesExistException"}


def test_nothing_is_left_without_an_association(registry):
    registry.accept(submission())
    objects = everything(registry)
    (entry,), (sset,), (link,) = (of(objects, kind) for kind in ("DocumentEntry", "SubmissionSet", "Association"))
    assert refused(registry, entry.id, link.id) == {"XDSUnreferencedObjectException"}
    assert refused(registry, sset.id, link.id) == {"XDSUnreferencedObjectException"}
    assert refused(registry, link.id) == {"XDSUnreferencedObjectException"}


def test_a_submission_set_goes_where_its_document_is_held_by_another(registry):
    registry.accept(submission())
    first = everything(registry)
    (entry,), (sset,), (link,) = (of(first, kind) for kind in ("DocumentEntry", "SubmissionSet", "Association"))
    registry.accept(submission(entries=0, extra=(has_member("SubmissionSet01", entry.id, status="Reference"),)))
    assert remove(registry, sset.id, link.id).status.endswith("Success")
    left = everything(registry)
    assert entry.id in left
    assert sset.id not in left
    with reading(registry.engine) as connection:
        assert connection.execute(select(tables.entry.c.submission_set_key)).scalar_one() is None


def test_an_addendum_is_in_the_way_of_what_it_was_added_to(registry):
    registry.accept(submission())
    first = everything(registry)
    (entry,) = of(first, "DocumentEntry")
    registry.accept(submission(relations=((v.APND, entry.id),)))
    assert refused(registry, *first) == {"ReferencesExistException"}
    assert remove(registry, *(everything(registry).keys() - first.keys())).status.endswith("Success")
    assert everything(registry) == first


def test_the_version_before_is_the_latest_again(registry):
    registry.accept(submission())
    first = everything(registry)
    (entry,) = of(first, "DocumentEntry")
    registry.accept(new_version(entry), ITI_57)
    assert remove(registry, *(everything(registry).keys() - first.keys())).status.endswith("Success")
    (left,) = registry.find(status=f"({DEPRECATED})").objects
    assert (left.id, left.version_name) == (entry.id, "1")
    unique_id = entry.identifier(v.ENTRY_UNIQUE_ID)
    again = submission(contents=(b"other",), entry=with_identifier(v.ENTRY_UNIQUE_ID, unique_id))
    assert "XDSNonIdenticalHash" in codes_of(registry.submit(again))


def test_the_bytes_of_a_document_are_those_of_the_version_that_is_left(registry):
    registry.accept(submission())
    first = everything(registry)
    (entry,) = of(first, "DocumentEntry")
    registry.accept(new_version(entry, with_slot("size", "9999")), ITI_57)
    told = with_identifier(v.ENTRY_UNIQUE_ID, entry.identifier(v.ENTRY_UNIQUE_ID))
    assert codes_of(registry.submit(submission(entry=told))) == {"XDSNonIdenticalSize"}
    assert remove(registry, *(everything(registry).keys() - first.keys())).status == v.SUCCESS
    registry.accept(submission(entry=told))


def test_the_id_of_a_removed_first_version_stays_that_of_its_later_ones(registry):
    registry.accept(submission())
    (first,) = registry.find().objects
    registry.accept(new_version(first), ITI_57)
    links = registry.query(GET_ASSOCIATIONS, uuid=f"('{first.id}')", MetadataLevel="2").objects
    assert remove(registry, first.id, *(one.id for one in links), *(one.source for one in links)).status == v.SUCCESS
    again = submission(
        entry=lambda entry: replace(entry, id=first.id), association=lambda link: replace(link, target=first.id)
    )
    assert codes_of(registry.submit(again)) == {"XDSRegistryMetadataError"}
    assert [one.version_name for one in registry.find().objects] == ["2"]


def test_it_is_audited_with_every_object_and_its_patient(registry):
    registry.accept(submission())
    objects = everything(registry)
    remove(registry, *objects)
    record = registry.audited()[-1]
    assert (record.event.action, record.event.type_codes[0].code) == ("D", "ITI-62")
    assert [o.id for o in record.objects] == [PATIENT, *objects]
    remove(registry, *objects)
    assert registry.audited()[-1].event.outcome == 8


def test_what_was_let_pass_of_the_message_is_on_the_list_of_defects(registry):
    registry.accept(submission())
    request = registry.request(ITI_62, ebrs.remove_objects_request(everything(registry)))
    registry.actor.handlers[ITI_62](replace(request, defects=("the header wsa:Action is missing",)))
    with reading(registry.engine) as connection:
        found = connection.execute(select(tables.defect.c.partner, tables.defect.c.context)).all()
    assert [tuple(row) for row in found] == [("127.0.0.1", "the header wsa:Action is missing")]
    assert everything(registry) == {}


def test_objects_of_a_merged_patient_are_audited_with_the_id_they_show(registry):
    registry.know(OLD, PATIENT)
    registry.accept(submission(patient=OLD))
    with begin_write(registry.engine) as connection:
        merge(connection, *[(cx.id, cx.authority) for cx in map(parse_cx, (OLD, PATIENT))], "20260101000000")
    remove(registry, *everything(registry))
    assert registry.audited()[-1].objects[0].id == PATIENT


@pytest.mark.parametrize(("scope", "right"), [("DeleteAll", True), ("DeleteRepositoryItemOnly", False)])
def test_metadata_is_removed_whole_or_not_at_all(registry, scope, right):
    registry.accept(submission())
    body = ebrs.remove_objects_request(everything(registry))
    scope = f"urn:oasis:names:tc:ebxml-regrep:DeletionScopeType:{scope}"
    body = body.replace(b"<lcm:RemoveObjectsRequest", f'<lcm:RemoveObjectsRequest deletionScope="{scope}"'.encode(), 1)
    response = registry.send(body, transaction=ITI_62)
    assert response.status.endswith("Success") is right
    assert (everything(registry) == {}) is right


@pytest.mark.parametrize(
    "body",
    [
        b'<lcm:RemoveObjectsRequest xmlns:lcm="%s"/>' % v.LCM.encode(),
        b'<lcm:RemoveObjectsRequest xmlns:lcm="%s" xmlns:rim="%s"><rim:AdhocQuery id="urn:x"/>'
        b'<rim:ObjectRefList><rim:ObjectRef id="urn:uuid:x"/></rim:ObjectRefList></lcm:RemoveObjectsRequest>'
        % (v.LCM.encode(), v.RIM.encode()),
        b'<lcm:RemoveObjectsRequest xmlns:lcm="%s" xmlns:rim="%s"><rim:ObjectRefList/></lcm:RemoveObjectsRequest>'
        % (v.LCM.encode(), v.RIM.encode()),
    ],
)
def test_objects_are_named_not_searched(registry, body):
    assert codes_of(registry.send(body, transaction=ITI_62)) == {"XDSRegistryMetadataError"}


def at_once(**works):
    """The answers of works that begin together."""
    barrier, answers = threading.Barrier(len(works)), {}

    def run(name, work):
        barrier.wait(10)
        answers[name] = work()

    threads = [threading.Thread(target=run, args=pair) for pair in works.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return answers


def test_a_unique_id_that_is_used_again_meanwhile_is_not_free(registry):
    for _ in range(6):
        same = with_identifier(v.ENTRY_UNIQUE_ID, new_oid())
        registry.accept(submission(entry=same))
        first = everything(registry)
        again = submission(entry=same)
        answers = at_once(
            removed=lambda first=first: remove(registry, *first), again=lambda again=again: registry.submit(again)
        )
        assert all(one.status.endswith("Success") for one in answers.values())
        other = submission(contents=(CONTENT + b"other",), entry=same)
        assert "XDSNonIdenticalHash" in codes_of(registry.submit(other))
        assert remove(registry, *everything(registry)).status.endswith("Success")


def test_an_addendum_and_a_removal_at_once_never_leave_it_dangling(registry):
    for _ in range(6):
        registry.accept(submission())
        first = everything(registry)
        (entry,) = of(first, "DocumentEntry")
        addendum = submission(relations=((v.APND, entry.id),))
        answers = at_once(
            removed=lambda first=first: remove(registry, *first),
            added=lambda addendum=addendum: registry.submit(addendum),
        )
        won = {name for name, answer in answers.items() if answer.status.endswith("Success")}
        assert len(won) == 1, [codes_of(answer) for answer in answers.values()]
        assert (entry.id in everything(registry)) == (won == {"added"})
        left = everything(registry)
        assert not left or remove(registry, *left).status.endswith("Success")
