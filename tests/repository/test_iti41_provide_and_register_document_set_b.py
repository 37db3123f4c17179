"""ITI-41 over the wire, against a scripted registry (ITI TF-2: 3.41)."""

import hashlib
import os
from copy import deepcopy

import pytest

from consent.policy import Decision
from ihe import vocabulary as v
from ihe.ebrim import read_submitted_objects
from ihe.ebrs import registry_response
from ihe.errors import RegistryError, Rejected, Severity
from ihe.registry_objects import Kind, Slot
from repository import iti41_provide_and_register_document_set_b as iti41
from repository.store.protocol import Superseded
from repository.submission import read_provided
from schemas import parse_xml
from tests.builders import (
    CONTENT,
    REPOSITORY,
    document_entry,
    having,
    more_slots,
    new_uuid,
    only,
    provide_and_register_xml,
    submission,
    with_identifier,
    with_slot,
    without_identifier,
    without_slot,
)
from tests.repository.stand import Act, stand, unique_ids, unknown_patient

LARGE = os.urandom(2_500_000)


@pytest.fixture
def house(tmp_path):
    with stand(tmp_path) as running:
        yield running


def sent_entries(house):
    return read_submitted_objects(parse_xml(house.registry.received[-1])).of(Kind.DOCUMENT_ENTRY)


def as_it_comes_from_a_source(**more):
    """Without what the repository fills in."""
    changes = (without_slot("hash"), without_slot("size"), without_slot("repositoryUniqueId"))
    return submission(entry=changes, **more)


@pytest.mark.parametrize("mtom", [True, False])
@pytest.mark.parametrize("data", [b"", b"x", b"\r\n--b\r\n\x00", LARGE], ids=len)
def test_a_document_is_stored_registered_and_given_back(house, mtom, data):
    objects = as_it_comes_from_a_source()
    answer = house.provide(objects, {"Document01": data}, mtom=mtom)
    assert (answer.http_status, answer.status, answer.errors) == (200, "Success", [])
    (entry,) = sent_entries(house)
    assert entry.slot("repositoryUniqueId") == (REPOSITORY,)
    assert entry.slot("hash") == (hashlib.sha1(data).hexdigest(),)
    assert entry.slot("size") == (str(len(data)),)
    house.assert_whole()
    (unique_id,) = unique_ids(objects)
    assert house.retrieve(unique_id).documents() == [(unique_id, data)]


def test_another_repository_id_is_replaced_and_nothing_else_is_touched(house):
    strange = (Slot("urn:example:extra", ("a", "b<&>\u00e9")), Slot("urn:example:more", ()))
    objects = submission(entry=(with_slot("repositoryUniqueId", "9.9.9"), more_slots(*strange)), folders=1)
    assert house.provide(objects).status == "Success"
    received = read_submitted_objects(parse_xml(house.registry.received[-1]))
    for before, after in zip(objects.objects, received.objects, strict=True):
        mine = {"repositoryUniqueId", "hash", "size"} if before.kind is Kind.DOCUMENT_ENTRY else set()
        assert after.classifications == before.classifications or before.kind is not Kind.DOCUMENT_ENTRY
        kept = {slot for slot in before.slots if slot.name not in mine}
        assert {slot for slot in after.slots if slot.name not in mine} == kept
        assert (after.id, after.name, after.external_identifiers) == (
            before.id,
            before.name,
            before.external_identifiers,
        )
    assert received.of(Kind.DOCUMENT_ENTRY)[0].slot("repositoryUniqueId") == (REPOSITORY,)


def test_many_documents_mixed_large_and_small(house):
    objects = as_it_comes_from_a_source(entries=5)
    data = {f"Document0{n}": (LARGE[n:] if n % 2 else b"small %d" % n) for n in range(1, 6)}
    assert house.provide(objects, data).status == "Success"
    house.assert_whole()
    answer = house.retrieve(*reversed(unique_ids(objects)))
    assert answer.documents() == list(reversed(list(zip(unique_ids(objects), data.values(), strict=True))))


@pytest.mark.parametrize("data", [b"shared", LARGE], ids=len)
def test_two_entries_of_one_part_are_two_objects(house, data):
    objects = as_it_comes_from_a_source(entries=2)
    cids = {"Document01": "one@source", "Document02": "one@source"}
    assert house.provide(objects, dict.fromkeys(cids, data), cids=cids).status == "Success"
    house.assert_whole()
    assert len(house.objects()) == 2
    assert house.retrieve(*unique_ids(objects)).documents() == [(u, data) for u in unique_ids(objects)]


def test_a_submission_without_documents_goes_through(house):
    assert house.provide(submission(entries=0, folders=1)).status == "Success"
    assert len(house.registry.held) == 1
    house.assert_nothing_kept()


def test_ids_are_paired_without_regard_to_blanks_and_the_case_of_uuids(house):
    upper = new_uuid().upper().replace("URN:UUID:", "urn:uuid:")
    objects = submission(entry=having(id=f" {upper} "), association=having(target=upper))
    assert house.provide(objects, {upper.lower(): CONTENT + b"0"}).status == "Success"


# ------------------------------------------------------------------------------------------------- refusals


def test_an_entry_without_document_and_a_document_without_entry_are_told_at_once(house):
    objects = submission(entries=2)
    answer = house.provide(objects, {"Document01": CONTENT + b"0", "Stranger": b"x"})
    assert answer.status == "Failure"
    assert answer.codes == ["XDSMissingDocument", "XDSMissingDocumentMetadata"]
    told = dict(answer.errors)
    assert unique_ids(objects)[1] in told["XDSMissingDocument"]
    assert "Stranger" in told["XDSMissingDocumentMetadata"]
    assert house.registry.received == []
    house.assert_nothing_kept()
    assert house.records() == [("ITI-41", 8)]


@pytest.mark.parametrize(
    ("slot", "value", "word"),
    [
        ("hash", "0" * 40, "40 digits"),
        ("hash", hashlib.sha256(CONTENT + b"0").hexdigest(), "SHA-256"),
        ("hash", "abc", "40 hexadecimal digits is wanted"),
        ("size", "7", "has 23 bytes"),
        ("size", "many", "has 23 bytes"),
        ("size", "9" * 5000, "size of 5000 characters was sent, the document has 23 bytes"),
        ("size", "0" * 20 + "99", "size of 22 characters was sent, the document has 23 bytes"),
        ("size", "23" + "0" * 20, "size of 22 characters was sent"),
        ("size", "２３", "size ２３ was sent, the document has 23 bytes"),
    ],
)
@pytest.mark.parametrize("data", [CONTENT + b"0", LARGE], ids=len)
def test_a_hash_or_size_of_other_bytes_is_refused(house, slot, value, word, data):
    objects = as_it_comes_from_a_source()
    wrong = submission(entry=(without_slot("hash"), without_slot("size"), with_slot(slot, value)))
    answer = house.provide(wrong, {"Document01": data})
    assert answer.codes == ["XDSRepositoryMetadataError"]
    ((_, context),) = answer.errors
    assert unique_ids(wrong)[0] in context
    assert word in context or data is LARGE
    assert house.registry.received == []
    house.assert_nothing_kept()
    assert len(unique_ids(objects)) == 1


@pytest.mark.parametrize("sent", ["023", "0" * 30 + "23"])
def test_zeros_before_a_size_do_not_count(house, sent):
    assert house.provide(submission(entry=with_slot("size", sent))).status == "Success"


def test_a_hash_in_capitals_is_right_and_stays_as_sent(house):
    sent = hashlib.sha1(CONTENT + b"0").hexdigest().upper()
    assert house.provide(submission(entry=with_slot("hash", sent))).status == "Success"
    assert sent_entries(house)[0].slot("hash") == (sent,)


def test_an_empty_hash_is_filled_in(house):
    objects = submission(entry=(with_slot("hash"), with_slot("size", "")))
    assert house.provide(objects).status == "Success"
    assert sent_entries(house)[0].slot("hash") == (hashlib.sha1(CONTENT + b"0").hexdigest(),)


def test_a_unique_id_twice_in_the_message(house):
    objects = submission(entries=2, entry=with_identifier(v.ENTRY_UNIQUE_ID, "1.2.3.4"))
    answer = house.provide(objects)
    assert answer.codes == ["XDSRepositoryDuplicateUniqueIdInMessage"]
    assert "1.2.3.4" in answer.errors[0][1]


def test_an_entry_and_a_set_without_unique_id(house):
    objects = submission(
        entry=without_identifier(v.ENTRY_UNIQUE_ID), submission_set=without_identifier(v.SUBMISSION_SET_UNIQUE_ID)
    )
    assert house.provide(objects).codes == ["XDSRepositoryMetadataError"] * 2


def test_every_error_is_told_at_once(house):
    objects = submission(entries=3, entry=(only("Document01", with_slot("hash", "0" * 40), with_slot("size", "1"))))
    answer = house.provide(objects, {"Document01": CONTENT + b"0", "Document02": b"", "X": b""})
    assert answer.codes == [
        "XDSMissingDocument",
        "XDSMissingDocumentMetadata",
        *["XDSRepositoryMetadataError"] * 4,
    ]


def test_what_the_schema_refuses_is_a_failure_not_a_fault(house):
    from tests.repository.stand import ACTION, envelope, multipart, post

    body = f'<x:ProvideAndRegisterDocumentSetRequest xmlns:x="{v.XDSB}"/>'.encode()
    answer = post(house.address, *multipart(envelope(ACTION + "ProvideAndRegisterDocumentSet-b", body), {}))
    assert (answer.http_status, answer.status, set(answer.codes)) == (200, "Failure", {"XDSRepositoryMetadataError"})
    assert house.records() == [("ITI-41", 8)]


def test_a_reference_to_no_part_is_a_fault_and_leaves_nothing(house):
    from tests.builders import provide_and_register_xml
    from tests.repository.stand import ACTION, envelope, multipart, post

    body = provide_and_register_xml(submission(entries=2), content_ids={"Document01": "a", "Document02": "nowhere"})
    root = envelope(ACTION + "ProvideAndRegisterDocumentSet-b", body)
    answer = post(house.address, *multipart(root, {"a": LARGE}))
    assert answer.body.tag.endswith("Fault")
    house.assert_nothing_kept()


# ------------------------------------------------------------------------------------- the registry's word


def test_the_registrys_errors_and_warnings_are_passed_on_and_nothing_is_kept(house):
    errors = [
        RegistryError("XDSUnknownPatientId", "P^^^&1&ISO"),
        RegistryError("XDSExtraMetadataNotSaved", "urn:x", Severity.WARNING),
    ]
    house.registry.script.append(Act(takes=False, answer=registry_response(v.FAILURE, errors)))
    answer = house.provide(submission(entries=2), {"Document01": CONTENT + b"0", "Document02": CONTENT + b"1"})
    assert answer.status == "Failure"
    assert answer.errors == [("XDSUnknownPatientId", "P^^^&1&ISO"), ("XDSExtraMetadataNotSaved", "urn:x")]
    house.assert_nothing_kept()
    assert house.records() == [("ITI-41", 8), ("ITI-42", 8)]


def test_a_refused_large_document_leaves_nothing_and_its_retry_is_new(house):
    objects = as_it_comes_from_a_source()
    house.registry.script.append(unknown_patient())
    assert house.provide(objects, {"Document01": LARGE}).codes == ["XDSUnknownPatientId"]
    house.assert_nothing_kept()
    assert house.provide(objects, {"Document01": LARGE}).status == "Success"
    house.assert_whole()


def test_warnings_of_a_success_reach_the_source_and_its_retry(house):
    warning = RegistryError("XDSExtraMetadataNotSaved", "urn:x", Severity.WARNING)
    house.registry.script.append(Act(answer=registry_response(v.SUCCESS, [warning])))
    objects = submission()
    for _ in range(2):
        answer = house.provide(objects)
        assert (answer.status, answer.codes) == ("Success", ["XDSExtraMetadataNotSaved"])
    assert len(house.registry.received) == 1


def test_a_success_is_audited_as_import_and_export(house):
    objects = submission(unique_id="1.2.3.4.5")
    house.provide(objects)
    assert house.records() == [("ITI-41", 0), ("ITI-42", 0)]
    received, sent = house.messages()
    assert (received.event.event_id.code, sent.event.event_id.code) == ("110107", "110106")
    for message in (received, sent):
        ids = [o.id for o in message.objects]
        assert ids == [objects.of(Kind.SUBMISSION_SET)[0].identifier(v.SUBMISSION_SET_PATIENT_ID), "1.2.3.4.5"]


def test_the_registry_is_told_who_deposited(house):
    house.provide(submission())
    assert house.registry.depositors == [{}]


def test_fifty_submissions_at_once(house):
    import threading

    data = os.urandom(1_000_000)
    answers = []

    def one():
        answers.append(house.provide(as_it_comes_from_a_source(), {"Document01": data}, timeout=120).status)

    threads = [threading.Thread(target=one) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == ["Success"] * 12
    house.assert_whole()


# ------------------------------------------------------------------------------------------ the judge, and what fails


def judged(objects, documents):
    """(code, context) of every error of the judge; ``documents`` are by id of their entry."""
    body = parse_xml(provide_and_register_xml(objects, documents))
    contents = [iti41.Content(len(data), hashlib.sha1(data).hexdigest()) for data in documents.values()]
    with pytest.raises(Rejected) as refused:
        iti41.judge(read_provided(body), contents)
    return [(str(error.code), error.context) for error in refused.value.errors]


def test_ids_of_entries_are_used_once_and_each_fault_is_told():
    objects = as_it_comes_from_a_source(extra=(document_entry("Document01"),))
    ((code, context),) = judged(objects, {"Document01": CONTENT})
    assert code == "XDSRepositoryMetadataError"
    assert context.startswith("DocumentEntry id Document01 stands 2 times")


def test_ids_of_documents_are_used_once():
    objects = as_it_comes_from_a_source()
    message = parse_xml(provide_and_register_xml(objects))
    document = message.find(f"{{{v.XDSB}}}Document")
    message.append(deepcopy(document))
    content = iti41.Content(len(CONTENT), hashlib.sha1(CONTENT).hexdigest())
    with pytest.raises(Rejected) as refused:
        iti41.judge(read_provided(message), [content, content])
    ((code, context),) = [(str(error.code), error.context) for error in refused.value.errors]
    assert code == "XDSRepositoryMetadataError"
    assert context.startswith("Document id Document01 stands 2 times")


@pytest.mark.parametrize(
    ("slot", "values"), [("hash", (hashlib.sha1(CONTENT).hexdigest(), "0" * 40)), ("size", (str(len(CONTENT)), "1"))]
)
def test_two_values_of_hash_or_size_are_refused_though_one_is_right(slot, values):
    objects = submission(entry=(without_slot("hash"), without_slot("size"), with_slot(slot, *values)))
    ((code, context),) = judged(objects, {"Document01": CONTENT})
    assert code == "XDSRepositoryMetadataError"
    assert f"{slot} has 2 different values" in context


def test_what_is_not_permitted_is_refused_by_the_name_of_the_rule(house, monkeypatch):
    monkeypatch.setattr(iti41, "decide", lambda *_: Decision(permit=False, rule="no-entry"))
    answer = house.provide(as_it_comes_from_a_source())
    ((code, context),) = answer.errors
    assert (answer.http_status, code) == (200, "XDSRepositoryError")
    assert "no-entry" in context
    house.assert_nothing_kept()


def test_a_document_that_was_removed_meanwhile_is_asked_for_again(house, monkeypatch):
    def gone(*_):
        raise Superseded

    monkeypatch.setattr(iti41, "register", gone)
    answer = house.provide(as_it_comes_from_a_source())
    ((code, context),) = answer.errors
    assert (answer.http_status, code) == (200, "XDSRepositoryError")
    assert "send the submission again" in context


def test_a_registry_that_refuses_without_a_reason_is_said_to(house):
    house.registry.script.append(Act(takes=False, answer=registry_response(v.FAILURE)))
    answer = house.provide(as_it_comes_from_a_source())
    assert (answer.http_status, answer.status) == (200, "Failure")
    assert answer.errors == [("XDSRepositoryError", "the registry answered Failure without saying why")]
    house.assert_nothing_kept()
