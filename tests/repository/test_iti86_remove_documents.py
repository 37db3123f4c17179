"""ITI-86 over the wire (Remove Metadata and Documents: 3.86)."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from ihe import vocabulary as v
from ihe.ebrs import remove_documents_request
from ihe.errors import RegistryError
from ihe.xua import Caller
from repository import iti86_remove_documents as iti86
from repository import sweep
from repository.store.keyring import new_line
from repository.store.protocol import ObjectLocked, StoreUnavailable, Superseded
from repository.sweep import Report
from tests.builders import PATIENT, REPOSITORY, submission, with_identifier, with_slot
from tests.repository.doomed import REMOVAL_STEPS
from tests.repository.dying import WINDOW_S
from tests.repository.stand import (
    Act,
    ScriptedRegistry,
    envelope,
    multipart,
    post,
    retrieve,
    served,
    stand,
    unique_ids,
)
from tests.repository.test_registration import Busy

ROOT = Path(__file__).parents[2]
ACTION = "urn:ihe:iti:2017:RemoveDocuments"
OTHER_PATIENT = "OTHER^^^&1.3.6.1.4.1.21367.13.20.1000&ISO"
STRIPPED = (with_slot("hash"), with_slot("size"))


@pytest.fixture
def house(tmp_path):
    """A repository that refuses what is still registered."""
    with stand(tmp_path, remove_registered="reject") as running:
        yield running


def stored(house, *datas, **more):
    objects = submission(entries=len(datas), entry=(*STRIPPED, *more.pop("entry", ())), **more)
    answer = house.provide(objects, {f"Document{n:02}": data for n, data in enumerate(datas, 1)})
    assert answer.status == "Success", answer.errors
    return objects


def forgotten(house, *objects):
    """ITI-62 of everything: the registry knows nothing of these submissions any more."""
    for one in objects:
        del house.registry.held[set_id(one)]


def set_id(objects):
    found = (one.identifier(v.SUBMISSION_SET_UNIQUE_ID) for one in objects.objects)
    return next(one for one in found if one)


def remove(address, *documents):
    """ITI-86 of unique ids here, or of pairs (repository, document)."""
    asked = [(REPOSITORY, one) if isinstance(one, str) else one for one in documents]
    return post(address, "application/soap+xml; charset=UTF-8", envelope(ACTION, remove_documents_request(asked)))


def removals(house):
    return [m for m in house.messages() if m.event.event_id.code == "110110"]


def warnings(answer):
    rows = answer.body.iter(f"{{{v.RS}}}RegistryError")
    return [row.get("errorCode") for row in rows if row.get("severity") == v.SEVERITY_WARNING]


# ------------------------------------------------------------------------------------------- what is removed


def test_a_removed_document_is_gone_from_answers_store_and_index(house):
    objects = stored(house, b"one", b"two")
    one, two = unique_ids(objects)
    forgotten(house, objects)
    answer = remove(house.address, one)
    assert (answer.http_status, answer.status, answer.errors) == (200, "Success", [])
    assert house.retrieve(one).codes == ["XDSDocumentUniqueIdError"]
    assert house.retrieve(two).documents() == [(two, b"two")]
    assert len(house.objects()) == len(house.rows()) == 1
    assert remove(house.address, one).codes == ["XDSDocumentUniqueIdError"]


def test_every_stored_copy_goes(house):
    same = with_identifier(v.ENTRY_UNIQUE_ID, "1.2.3")
    copies = [stored(house, b"the same", entry=(same,)) for _ in range(3)]
    forgotten(house, *copies)
    assert len(house.objects()) == 3
    assert remove(house.address, "1.2.3", "1.2.3").status == "Success"
    house.assert_nothing_kept()


def test_what_is_known_goes_what_is_not_is_told_by_its_id(house):
    objects = stored(house, b"one")
    (one,) = unique_ids(objects)
    forgotten(house, objects)
    answer = remove(house.address, "9.9.9", (f"urn:oid:{REPOSITORY}", one), ("1.1.1", one))
    assert answer.status == "PartialSuccess"
    told = dict(answer.errors)
    assert set(told) == {"XDSDocumentUniqueIdError", "XDSUnknownRepositoryId"}
    assert "9.9.9" in told["XDSDocumentUniqueIdError"]
    assert one in told["XDSUnknownRepositoryId"]
    house.assert_nothing_kept()


def test_a_wrong_repository_removes_nothing(house):
    objects = stored(house, b"one")
    (one,) = unique_ids(objects)
    forgotten(house, objects)
    answer = remove(house.address, ("1.2.1.1.1", one))
    assert (answer.status, answer.codes) == ("Failure", ["XDSUnknownRepositoryId"])
    assert house.retrieve(one).documents() == [(one, b"one")]


def test_a_message_without_documents_is_refused(house):
    answer = remove(house.address)
    assert (answer.status, set(answer.codes)) == ("Failure", {"XDSRepositoryError"})
    assert [(m.event.outcome, m.objects[0].id) for m in removals(house)] == [(8, "unknown")]


def test_an_mtom_message_is_understood_too(house):
    objects = stored(house, b"one")
    forgotten(house, objects)
    body = remove_documents_request([(REPOSITORY, *unique_ids(objects))])
    assert post(house.address, *multipart(envelope(ACTION, body), {})).status == "Success"


def test_more_documents_than_allowed_are_refused(tmp_path):
    with stand(tmp_path, max_remove_documents=2) as house:
        answer = remove(house.address, "1.1", "1.2", "1.3")
    assert (answer.status, answer.codes) == ("Failure", ["XDSRepositoryError"])
    assert "3 documents" in answer.errors[0][1]
    assert "max_remove_documents" in answer.errors[0][1]


def test_a_document_without_an_outcome_is_not_known_yet(house):
    from tests.repository.stand import Act

    objects = submission()
    house.registry.script.append(Act(answer=None))
    house.registry.silent = True
    house.provide(objects)
    house.registry.silent = False
    assert remove(house.address, *unique_ids(objects)).codes == ["XDSDocumentUniqueIdError"]
    assert len(house.objects()) == 1


# ------------------------------------------------------------------------------------------------ the registry


def test_a_registered_document_stays(house):
    objects = stored(house, b"one", b"two")
    one, two = unique_ids(objects)
    answer = remove(house.address, one)
    assert (answer.status, answer.codes) == ("Failure", ["XDSRemoveDocumentsError"])
    assert one in answer.errors[0][1]
    assert "ITI-62" in answer.errors[0][1]
    assert len(house.retrieve(one, two).documents()) == 2
    forgotten(house, objects)
    assert remove(house.address, one, two).status == "Success"
    house.assert_nothing_kept()


def test_an_entry_of_another_repository_does_not_keep_ours(house):
    objects = stored(house, b"one")
    (one,) = unique_ids(objects)
    forgotten(house, objects)
    elsewhere = submission(entry=(with_identifier(v.ENTRY_UNIQUE_ID, one), with_slot("repositoryUniqueId", "1.9.9")))
    from tests.builders import submit_objects_request_xml

    house.registry.held["elsewhere"] = submit_objects_request_xml(elsewhere)
    assert remove(house.address, one).status == "Success"


def test_a_registry_that_does_not_answer_keeps_everything(house):
    objects = stored(house, b"one")
    (one,) = unique_ids(objects)
    forgotten(house, objects)
    house.registry.silent = True
    answer = remove(house.address, one, "9.9.9")
    assert answer.status == "Failure"
    assert answer.codes == ["XDSDocumentUniqueIdError", "XDSRemoveDocumentsError"]
    house.registry.silent = False
    assert house.retrieve(one).documents() == [(one, b"one")]


@pytest.mark.parametrize("silent", [False, True], ids=["registered", "silent"])
def test_by_default_a_registered_document_goes_with_a_warning(tmp_path, silent):
    with stand(tmp_path) as house:
        objects = stored(house, b"one")
        (one,) = unique_ids(objects)
        house.registry.silent = silent
        answer = remove(house.address, one)
        house.registry.silent = False
        assert answer.status == "Success"
        assert warnings(answer) == ["XDSRemoveDocumentsError"]
        assert one in answer.errors[0][1]
        assert house.retrieve(one).codes == ["XDSDocumentUniqueIdError"]
        house.assert_nothing_kept()


def test_entries_of_several_patients_are_asked_about_apart(house):
    """GetDocuments does not answer whole entries of two patients: the question is divided until it does."""
    mine, theirs = stored(house, b"one", b"two"), stored(house, b"three", patient=OTHER_PATIENT)
    moved = unique_ids(mine)[1]
    house.registry.patient_of = {moved: OTHER_PATIENT}
    answer = remove(house.address, *unique_ids(mine), *unique_ids(theirs))
    assert answer.codes == ["XDSRemoveDocumentsError"] * 3
    asked = [m for m in house.messages() if m.event.type_codes[0].code == "ITI-18"]
    assert sorted(m.event.outcome for m in asked) == [0, 0, 0, 8]
    assert {m.objects[0].id for m in asked} == {PATIENT, OTHER_PATIENT}


# ------------------------------------------------------------------------------------------------------- audit


def test_one_record_for_each_patient_and_each_outcome(house):
    gone, theirs = stored(house, b"one"), stored(house, b"two", patient=OTHER_PATIENT)
    kept = stored(house, b"three")
    forgotten(house, gone, theirs)
    before = len(house.messages())
    answer = remove(house.address, *(unique_ids(objects)[0] for objects in (gone, theirs, kept)), "9.9.9")
    assert answer.status == "PartialSuccess"
    found = [m for m in house.messages()[before:] if m.event.event_id.code == "110110"]
    assert [(m.event.action, m.event.type_codes[0].code) for m in found] == [("D", "ITI-86")] * 4
    assert [(int(m.event.outcome), [o.id for o in m.objects]) for m in found] == [
        (0, [PATIENT, *unique_ids(gone)]),
        (0, [OTHER_PATIENT, *unique_ids(theirs)]),
        (8, [PATIENT, *unique_ids(kept)]),
        (8, ["9.9.9"]),
    ]
    document = found[0].objects[1]
    assert (document.type_code, document.role, document.life_cycle) == (2, 3, 15)
    assert (b"Repository Unique Id", REPOSITORY.encode()) in [(d.type.encode(), d.value) for d in document.details]
    assert found[3].event.outcome_description == "XDSDocumentUniqueIdError,XDSRemoveDocumentsError"


def test_only_partners_that_list_it_may_remove(house, tmp_path):
    """Over TLS the caller has a node; plaintext loopback may do everything."""
    objects = stored(house, b"one")
    forgotten(house, objects)
    lab = Caller("10.0.0.7", "CN=lab", "sha256:00")
    for granted, status in (((), "Failure"), (("ITI-62",), "Failure"), (("ITI-86",), "Success")):
        actor = Disguised(replace(house.room, granted=lambda _caller, granted=granted: granted), lab)
        with served(actor, "/repository", name="repository") as address:
            answer = remove(address, *unique_ids(objects))
        assert (answer.status, answer.codes) == (status, ["XDSRepositoryError"] * (status == "Failure"))
    assert [m.event.outcome for m in removals(house)] == [8, 8, 0]
    assert "listed-partners-only" in removals(house)[0].objects[0].details[-1].value.decode()


class Disguised:
    """The actor of a room, called by another node."""

    def __init__(self, room, caller):
        from repository.actor import RepositoryActor

        self._actor, self._caller = RepositoryActor(room), caller

    def __getattr__(self, name):
        return getattr(self._actor, name)

    @property
    def handlers(self):
        def disguised(handler):
            return lambda request: handler(replace(request, caller=self._caller))

        return {transaction: disguised(handler) for transaction, handler in self._actor.handlers.items()}


def test_a_defect_is_told_and_audited_in_the_words_of_the_transaction(house, monkeypatch):
    def broken(*_):
        raise RuntimeError("P^secret")

    monkeypatch.setattr(iti86, "_judged", broken)
    answer = remove(house.address, "1.2")
    assert (answer.status, answer.codes) == ("Failure", ["XDSRepositoryError"])
    assert "secret" not in answer.errors[0][1]
    assert [(m.event.outcome, m.event.type_codes[0].code) for m in removals(house)] == [(8, "ITI-86")]


# --------------------------------------------------------------------------------- what stands of a submission


def test_an_identical_retry_is_no_success_any_more(house):
    objects = stored(house, b"one", b"two")
    one, two = unique_ids(objects)
    house.room = replace(house.room, settings=house.room.settings.model_copy(update={"remove_registered": "accept"}))
    documents = {"Document01": b"one", "Document02": b"two"}
    with served(actor_of(house), "/repository", name="repository") as address:
        assert remove(address, one).status == "Success"
    before = house.objects()
    answer = house.provide(objects, documents)
    assert answer.codes == ["XDSDuplicateUniqueIdInRegistry"]
    assert set_id(objects) in answer.errors[0][1]
    assert house.objects() == before
    assert house.retrieve(one).codes == ["XDSDocumentUniqueIdError"]
    assert house.retrieve(two).documents() == [(two, b"two")]
    house.room.clock.forward(7 * 3600)
    assert sweep.run_once(house.room).quiet


def actor_of(house):
    from repository.actor import RepositoryActor

    return RepositoryActor(house.room)


@pytest.mark.parametrize("part", ["all", "one of two"])
def test_once_its_metadata_is_removed_too_the_submission_is_judged_anew(house, part):
    objects = stored(house, b"one", b"two")
    documents = {"Document01": b"one", "Document02": b"two"}
    forgotten(house, objects)
    assert remove(house.address, *unique_ids(objects)[: 2 if part == "all" else 1]).status == "Success"
    house.registry.silent = True
    assert house.provide(objects, documents).codes == ["XDSRegistryNotAvailable"]
    house.registry.silent = False
    assert house.provide(objects, documents).status == "Success"
    assert len(house.registry.received) == 2
    assert len(house.retrieve(*unique_ids(objects)).documents()) == 2
    assert house.provide(objects, documents).status == "Success"
    assert len(house.registry.received) == 2


@pytest.mark.parametrize("at_once", [True, False], ids=["asked at once", "asked by the sweep"])
@pytest.mark.parametrize("count", [1, 2])
def test_what_is_left_of_a_submission_does_not_hide_that_the_next_one_was_registered(house, count, at_once):
    objects = stored(house, b"one", b"two", b"three", unique_id="1.2.3")
    forgotten(house, objects)
    assert remove(house.address, unique_ids(objects)[0]).status == "Success"
    another = submission(entries=count, entry=STRIPPED, unique_id="1.2.3")
    # The registry takes it and its answer is lost; where it is not asked at once it is silent for a while.
    house.registry.script.append(Act(answer=None, before=None if at_once else fallen_silent(house)))
    answer = house.provide(another)
    assert answer.codes == ([] if at_once else ["XDSRegistryNotAvailable"])
    house.registry.silent = False
    house.room.clock.forward(WINDOW_S)
    assert sweep.run_once(house.room).completed == (0 if at_once else 1)
    assert len(house.retrieve(*unique_ids(another)).documents()) == count
    assert len(house.retrieve(*unique_ids(objects)[1:]).documents()) == 2


def fallen_silent(house):
    return lambda: setattr(house.registry, "silent", True)


def test_what_the_registry_refuses_to_take_again_stays_gone(house):
    objects = stored(house, b"one")
    forgotten(house, objects)
    assert remove(house.address, *unique_ids(objects)).status == "Success"
    from tests.repository.stand import refusing

    house.registry.script.append(refusing(RegistryError("XDSUnknownPatientId", "nobody")))
    assert house.provide(objects, {"Document01": b"one"}).codes == ["XDSUnknownPatientId"]
    house.assert_nothing_kept()


def test_a_new_submission_of_a_removed_document_is_the_registrys_to_judge(house):
    objects = stored(house, b"one", entry=(with_identifier(v.ENTRY_UNIQUE_ID, "1.2.3"),))
    forgotten(house, objects)
    assert remove(house.address, "1.2.3").status == "Success"
    stored(house, b"another", entry=(with_identifier(v.ENTRY_UNIQUE_ID, "1.2.3"),))
    assert house.retrieve("1.2.3").documents() == [("1.2.3", b"another")]


def test_of_two_removals_at_once_one_finds_the_document_gone(house, monkeypatch):
    objects = stored(house, b"one")
    (one,) = unique_ids(objects)
    forgotten(house, objects)
    judged, first = iti86._judged, []

    def beaten(room, requests):
        verdict = judged(room, requests)
        if not first:
            first.append(True)
            assert remove(house.address, one).status == "Success"
        return verdict

    monkeypatch.setattr(iti86, "_judged", beaten)
    assert remove(house.address, one).codes == ["XDSDocumentUniqueIdError"]
    assert [int(m.event.outcome) for m in removals(house)] == [0, 8]


def test_of_many_removals_at_once_one_that_never_gets_through_is_told_to_wait(house, monkeypatch):
    objects = stored(house, b"one")
    forgotten(house, objects)

    def beaten(*_):
        raise Superseded("somebody else")

    monkeypatch.setattr(type(house.index), "remove", beaten)
    answer = remove(house.address, *unique_ids(objects))
    assert (answer.status, answer.codes) == ("Failure", ["XDSRepositoryBusy"])
    assert [int(m.event.outcome) for m in removals(house)] == [8]


def test_nothing_is_removed_while_records_cannot_be_delivered(tmp_path):
    with stand(tmp_path, wrap=lambda room: replace(room, index=Busy(room.index))) as house:
        assert remove(house.address, "1.2.3").codes == ["XDSRepositoryBusy"]


# ----------------------------------------------------------------------------------------- stores and databases


class Locked:
    """Deletes nothing, as a store with object lock."""

    def __init__(self, store):
        self._store = store

    def delete(self, _key):
        raise ObjectLocked("the object is locked")

    def __getattr__(self, name):
        return getattr(self._store, name)


def test_a_plain_document_that_the_store_keeps_is_told_and_tried_again(tmp_path):
    with stand(tmp_path, wrap=lambda room: replace(room, store=Locked(room.store))) as house:
        objects = stored(house, b"one")
        (one,) = unique_ids(objects)
        forgotten(house, objects)
        answer = remove(house.address, one)
        assert (answer.status, answer.codes) == ("Failure", ["XDSRemoveDocumentsError"])
        assert "not given out any more" in answer.errors[0][1]
        told = [(int(m.event.outcome), m.event.outcome_description) for m in removals(house)]
        assert told == [(0, None), (8, "XDSRemoveDocumentsError")]
        assert house.retrieve(one).codes == ["XDSDocumentUniqueIdError"]
        assert sweep.run_once(replace(house.room, store=Locked(house.store))).quiet
        assert [row.state for row in house.rows().values()] == ["removing"]
        house.room.clock.forward(30)
        assert sweep.run_once(house.room) == Report(discarded=1)
        house.assert_nothing_kept()


def test_a_sealed_document_is_gone_with_its_key_whatever_the_store_keeps(tmp_path):
    (tmp_path / "keys").write_text(new_line("k1"))
    with stand(tmp_path, wrap=lambda room: replace(room, store=Locked(room.store))) as house:
        objects = stored(house, b"one")
        (one,) = unique_ids(objects)
        (document,) = house.index.available([one])
        assert b"".join(house.room.vault.open(document.object_key, document.envelope)) == b"one"
        forgotten(house, objects)
        answer = remove(house.address, one)
        assert (answer.status, answer.errors) == ("Success", [])
        assert [int(m.event.outcome) for m in removals(house)] == [0]
        (row,) = house.rows().values()
        assert (row.state, row.kek, row.wrapped_key) == ("removing", None, None)
        assert list(house.objects()) == [document.object_key]
        assert b"one" not in b"".join(house.store.open(document.object_key))
        assert house.retrieve(one).codes == ["XDSDocumentUniqueIdError"]


def test_what_a_store_keeps_for_long_is_tried_again_only_with_the_whole_store(house, monkeypatch):
    objects = stored(house, b"one")
    forgotten(house, objects)
    monkeypatch.setattr(type(house.store), "delete", Locked(house.store).delete)
    assert remove(house.address, *unique_ids(objects)).codes == ["XDSRemoveDocumentsError"]
    monkeypatch.undo()
    tried = []
    monkeypatch.setattr(type(house.store), "delete", lambda _store, key: tried.append(key))
    monkeypatch.setattr(type(house.index), "forget", lambda *_, **_named: 0)
    for hours, whole, times in ((0, False, 1), (2, False, 1), (2, True, 2)):
        house.room.clock.forward(hours * 3600)
        sweep.run_once(house.room, orphans=whole)
        assert len(tried) == times


@pytest.mark.parametrize("full", [True, False])
def test_an_index_that_does_not_take_it_removes_nothing(house, monkeypatch, full):
    objects = stored(house, b"one")
    (one,) = unique_ids(objects)
    forgotten(house, objects)

    def away(*_):
        raise StoreUnavailable("the index does not answer", full=full)

    with monkeypatch.context() as patch:
        patch.setattr(type(house.index), "remove", away)
        answer = remove(house.address, one)
    assert answer.codes == ["XDSRepositoryOutOfResources" if full else "XDSRepositoryError"]
    assert house.retrieve(one).documents() == [(one, b"one")]
    assert [int(m.event.outcome) for m in removals(house)] == [8]


# ------------------------------------------------------------------------------------------------------ deaths


@pytest.mark.parametrize("step", REMOVAL_STEPS)
def test_a_death_at_any_step_of_a_removal_leaves_it_done_or_undone(tmp_path, step):
    registry = ScriptedRegistry()
    data = [b"one", b"two"]
    (tmp_path / "keys").write_text(new_line("k1"))
    with stand(tmp_path, registry=registry) as house:
        objects = stored(house, *data)
        forgotten(house, objects)
    with served(registry, "/registry", name="registry") as registry_url:
        command = [sys.executable, "-m", "tests.repository.doomed", str(tmp_path), registry_url, step, "{}"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        address = process.stdout.readline().strip()
        assert len(retrieve(address, *unique_ids(objects)).documents()) == 2
        with pytest.raises((ConnectionError, OSError)):
            remove(address, *unique_ids(objects))
        assert process.wait(10) == 9
        process.stdout.close()
    with stand(tmp_path, registry=registry) as house:
        done = step != "removing"
        keys = {row.wrapped_key is None for row in house.rows().values()}
        assert keys == ({done} if step != "forgotten" else set())
        assert [int(m.event.outcome) for m in removals(house)] == ([0] if done else [])
        assert len(house.retrieve(*unique_ids(objects)).documents()) == (0 if done else 2)
        if not done:
            assert remove(house.address, *unique_ids(objects)).status == "Success"
        house.room.clock.forward(WINDOW_S)
        sweep.run_once(house.room)
        house.assert_nothing_kept()
        assert [int(m.event.outcome) for m in removals(house)] == [0]
        assert registry.faults == []
