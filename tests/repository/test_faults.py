"""A store that fails in every way a store can, at every operation: right answers, nothing lost, nothing left over."""

import os
from dataclasses import replace

import pytest

from repository import sweep
from repository.patience import MOST_UNANSWERED
from repository.store.protocol import ObjectLocked, StoreUnavailable
from tests.builders import CONTENT, submission, with_slot
from tests.repository.faulty_store import FAULTS, Fault, FaultyStore, Script
from tests.repository.stand import Act, stand, unique_ids, unknown_patient
from tests.repository.test_iti86_remove_documents import remove

LARGE = os.urandom(2_500_000)
WINDOW_S = 30
PLAIN = (with_slot("hash"), with_slot("size"))
NOT_NOW = {"XDSRepositoryError", "XDSRepositoryOutOfResources", "XDSRegistryNotAvailable"}
SIZES = pytest.mark.parametrize("data", [b"small", LARGE], ids=["small", "large"])


def cases(*operations):
    rows = [(operation, fault) for operation in operations for fault in FAULTS[operation]]
    return pytest.mark.parametrize(("operation", "fault"), rows, ids=[f"{o}-{f}" for o, f in rows])


class House:
    """A stand on a faulty store, and a slow operation that is overtaken by the clock and by a sweep."""

    def __init__(self, made):
        self.made = made

    def open(self, running):
        self.stand = running
        self.faulty = self.made[0]
        self.room = replace(running.room, store=self.faulty)
        self.faulty._pause = self.pause
        return self

    def pause(self):
        self.room.clock.forward(2 * WINDOW_S)
        sweep.run_once(self.stand.room)

    def __getattr__(self, name):
        return getattr(self.stand, name)

    def provide_until_well(self, objects, documents, *, most=4):
        """As a source does it: the identical submission until it is Success; gives how often."""
        for times in range(1, most + 1):
            answer = self.stand.provide(objects, documents)
            if answer.status == "Success":
                return times
            assert set(answer.codes) <= NOT_NOW, answer.errors
        raise AssertionError(answer.errors)

    def settle(self):
        """No more faults: what is late arrives, the sweep goes about its work."""
        self.faulty.choose = lambda _operation: None
        self.faulty.arrive()
        for whole in (False, True):
            self.room.clock.forward(WINDOW_S)
            report = sweep.run_once(self.room, staging_age_s=0, orphans=whole)
            assert report.orphans == report.unanswered == 0
        self.stand.assert_whole()


@pytest.fixture
def house(tmp_path, place):
    made = []

    def wrap(room):
        made.append(FaultyStore(room.store))
        return replace(room, store=made[0])

    with stand(tmp_path, wrap=wrap, **place) as running:
        yield House(made).open(running)


# ----------------------------------------------------------------------------------------------------- ITI-41


@SIZES
@cases("begin", "write", "finish")
def test_a_document_that_cannot_be_written_is_refused_and_goes_through_later(house, operation, fault, data):
    objects = submission(entry=PLAIN)
    house.faulty.choose = Script(operation, fault)
    times = house.provide_until_well(objects, {"Document01": data})
    assert house.faulty.injected == {(operation, fault): 1}
    assert times == 2 or fault is Fault.SLOW
    house.settle()
    assert house.retrieve(*unique_ids(objects)).documents() == [(unique_ids(objects)[0], data)]


@SIZES
@cases("abort", "delete")
def test_a_refusal_that_cannot_clean_up_is_a_refusal_and_the_sweep_cleans_up(house, operation, fault, data):
    house.registry.script.append(unknown_patient())
    house.faulty.choose = Script(operation, fault, times=5)
    answer = house.provide(submission(entry=PLAIN), {"Document01": data})
    assert answer.codes == ["XDSUnknownPatientId"]
    house.settle()
    house.assert_nothing_kept()


@SIZES
@cases("abort", "delete")
def test_an_upload_that_fails_and_cannot_be_cleaned_up_leaves_nothing(house, operation, fault, data):
    scripts = [Script("finish", Fault.UNANSWERED), Script(operation, fault, times=5)]
    house.faulty.choose = lambda at: next((found for one in scripts if (found := one(at)) is not None), None)
    assert house.provide(submission(entry=PLAIN), {"Document01": data}).codes == ["XDSRepositoryError"]
    house.settle()
    house.assert_nothing_kept()


@SIZES
def test_what_is_refused_frees_its_set_id_at_once_even_if_its_objects_cannot_be_removed(house, data):
    first, second = submission(entry=PLAIN, unique_id="1.2.3"), submission(entry=PLAIN, unique_id="1.2.3")
    house.registry.script.append(unknown_patient())
    house.faulty.choose = Script("delete", Fault.TIMEOUT, times=9)
    assert house.provide(first, {"Document01": data}).codes == ["XDSUnknownPatientId"]
    assert house.provide(second, {"Document01": data}).status == "Success"
    house.settle()
    assert len(house.objects()) == 1


@cases("open")
def test_a_copy_of_an_uploaded_document_is_whole_or_refused(house, operation, fault):
    """Two entries name one attachment: the second gets a copy, read from the store."""
    objects = submission(entries=2, entry=PLAIN)
    documents = {"Document01": LARGE, "Document02": LARGE}
    cids = dict.fromkeys(documents, "both@source")
    house.faulty.choose = Script(operation, fault)
    answers = [house.stand.provide(objects, documents, cids=cids) for _ in range(2)]
    assert house.faulty.injected == {(operation, fault): 1}
    assert answers[0].status == "Failure"  # the slow one was taken for dead: the registry did not have it in time
    assert set(answers[0].codes) <= NOT_NOW
    assert answers[1].status == "Success"
    house.settle()
    assert house.retrieve(*unique_ids(objects)).documents() == [(one, LARGE) for one in unique_ids(objects)]


@pytest.mark.parametrize("fault", FAULTS["finish"])
@pytest.mark.parametrize("after", [0, 1, 2])
def test_one_of_several_documents_fails(house, fault, after):
    objects = submission(entries=3, entry=PLAIN)
    documents = {f"Document{n:02}": b"%d" % n + CONTENT for n in (1, 2, 3)}
    house.faulty.choose = Script("finish", fault, after=after)
    house.provide_until_well(objects, documents)
    house.settle()
    got = house.retrieve(*unique_ids(objects)).documents()
    assert got == list(zip(unique_ids(objects), documents.values(), strict=True))


@SIZES
@cases("size")
def test_a_retry_whose_first_attempt_cannot_be_looked_at_is_asked_for_again(house, operation, fault, data):
    """Registered, answer lost: the retry asks the registry, then the store, and that one does not answer."""
    objects = submission(entry=PLAIN)
    house.registry.script.append(Act(answer=None))
    house.registry.silent = True
    assert house.provide(objects, {"Document01": data}).codes == ["XDSRegistryNotAvailable"]
    house.registry.silent = False
    house.faulty.choose = Script(operation, fault)
    answer = house.provide(objects, {"Document01": data})
    assert house.faulty.injected == {(operation, fault): 1}
    if fault is not Fault.SLOW:
        ((code, context),) = answer.errors
        assert code == "XDSRepositoryError"
        assert "nothing was kept" not in context
        assert "send the same submission again" in context
    house.provide_until_well(objects, {"Document01": data})
    assert len(house.registry.received) == 1
    house.settle()
    assert len(house.objects()) == 1


def test_a_slow_store_is_no_reason_to_take_a_submission_apart(house):
    """Longer than the registry's window in all, but never between two of its documents."""
    slow = []

    def pause():
        slow.append(house.room.clock.forward(10))
        sweep.run_once(house.stand.room)

    house.faulty._pause = pause
    house.faulty.choose = Script("begin", Fault.SLOW, times=9)
    objects = submission(entries=6, entry=PLAIN)
    assert house.provide(objects).status == "Success"
    assert len(slow) == 6
    house.settle()


# ----------------------------------------------------------------------------------------------------- ITI-43


@SIZES
@cases("size", "open")
def test_a_document_that_cannot_be_read_is_an_error_or_a_broken_answer_never_other_bytes(house, operation, fault, data):
    objects = submission(entry=PLAIN)
    assert house.provide(objects, {"Document01": data}).status == "Success"
    if operation == "size" and data is not LARGE:
        operation, fault = "open", {Fault.SLOW: Fault.SLOW}.get(fault, Fault.BROKEN)  # a small one is read at once
    house.faulty.choose = Script(operation, fault)
    try:
        answer = house.retrieve(*unique_ids(objects))
    except Exception as error:
        assert "Incomplete" in type(error).__name__ or isinstance(error, ConnectionError)
        assert len(data) > 2**20
    else:
        assert [bytes_ for _, bytes_ in answer.documents()] in ([], [data])
        assert answer.codes == ([] if fault is Fault.SLOW else ["XDSRepositoryError"])
    assert house.faulty.injected == {(operation, fault): 1}
    assert house.retrieve(*unique_ids(objects)).documents() == [(unique_ids(objects)[0], data)]


# ------------------------------------------------------------------------------------------------------ sweep


def leave_something_of_everything(house):
    """A submission the registry has, one it does not have, and an upload without a message."""
    house.registry.script += [Act(answer=None), Act(takes=False, answer=None)]
    house.registry.silent = True
    held = submission(entries=2, entry=PLAIN)
    for objects in (held, submission(entries=2, entry=PLAIN)):
        assert house.provide(objects).codes == ["XDSRegistryNotAvailable"]
    house.registry.silent = False
    from repository.room import StagedDocument

    staged = StagedDocument(house.stand.room)
    staged.write(b"half")
    return held


@pytest.mark.parametrize("after", [0, 1])
@cases("size", "delete", "objects")
def test_a_sweep_that_meets_a_fault_is_done_by_the_next(house, operation, fault, after):
    held = leave_something_of_everything(house)
    house.room.clock.forward(WINDOW_S)
    house.faulty._pause = lambda: house.room.clock.forward(WINDOW_S)
    house.faulty.choose = Script(operation, fault, after=after if operation != "objects" else 0)
    first = sweep.run_once(house.room, staging_age_s=0)
    assert house.faulty.injected == {(operation, fault): 1}
    assert first.damaged == 0
    assert first.unanswered == (operation != "delete" and fault is not Fault.SLOW)
    house.settle()
    assert len(house.retrieve(*unique_ids(held)).documents()) == 2
    assert set(house.objects()) == {row.object_key for row in house.rows().values()}


def test_one_object_the_store_never_answers_for_holds_up_no_other(house):
    leave_something_of_everything(house)
    later = submission()
    house.registry.script.append(Act(answer=None))
    house.registry.silent = True
    house.provide(later)
    house.registry.silent = False
    oldest = min(house.rows().values(), key=lambda row: row.since).object_key
    stuck = Stuck(house.store, oldest)
    house.room.clock.forward(WINDOW_S)
    report = sweep.run_once(replace(house.room, store=stuck), staging_age_s=0)
    assert (report.completed, report.removed, report.discarded, report.unanswered) == (1, 1, 1, 1)
    assert len(house.retrieve(*unique_ids(later)).documents()) == 1


class Stuck:
    """Does not answer for one object."""

    def __init__(self, target, key):
        self.target, self.key = target, key

    def __getattr__(self, name):
        real = getattr(self.target, name)

        def call(*arguments):
            if self.key in arguments:
                raise StoreUnavailable("document store: input/output error")
            return real(*arguments)

        return call


def test_a_store_that_is_away_is_not_asked_for_each_submission(house):
    for _ in range(12):
        house.registry.script.append(Act(answer=None))
        house.registry.silent = True
        house.provide(submission())
    house.registry.silent = False
    house.room.clock.forward(WINDOW_S)
    house.faulty.choose = Script("size", Fault.TIMEOUT, times=99)
    report = sweep.run_once(house.room)
    assert (report.undecided, report.unanswered) == (12, MOST_UNANSWERED)
    assert house.faulty.injected["size", Fault.TIMEOUT] == MOST_UNANSWERED
    house.settle()
    assert len(house.objects()) == 12


def away(house, *operations):
    """The store does not answer from now on; each question would cost a real one some 15 s."""
    house.faulty.choose = lambda operation: Fault.TIMEOUT if operation in operations else None


@pytest.mark.parametrize("refused_by", ["store", "registry"])
def test_a_store_that_is_away_is_not_asked_for_each_document_of_a_refused_submission(house, refused_by):
    objects = submission(entries=12, entry=PLAIN)
    documents = {f"Document{n:02}": b"%d" % n for n in range(1, 13)}
    away(house, "delete", *(["finish", "abort"] if refused_by == "store" else []))
    if refused_by == "registry":
        house.registry.script.append(unknown_patient())
    assert house.provide(objects, documents).status == "Failure"
    assert house.faulty.injected["delete", Fault.TIMEOUT] == 3
    house.settle()
    house.assert_nothing_kept()


def test_a_store_that_is_away_is_not_asked_for_each_large_document_of_a_message(house):
    objects = submission(entries=6, entry=PLAIN)
    documents = {f"Document{n:02}": LARGE for n in range(1, 7)}
    away(house, "finish", "abort", "delete")
    assert house.provide(objects, documents).codes == ["XDSRepositoryError"]
    # The first is not written, and taken back at once and at the end.
    assert house.faulty.injected == {("finish", Fault.TIMEOUT): 1, ("abort", Fault.TIMEOUT): 2}
    house.settle()
    house.assert_nothing_kept()
    assert house.provide(objects, documents).status == "Success"


def test_a_store_that_goes_away_is_not_asked_to_take_back_each_document_before(house):
    objects = submission(entries=7, entry=PLAIN)
    documents = {f"Document{n:02}": LARGE for n in range(1, 8)}
    written = Script("finish", Fault.TIMEOUT, after=6)
    house.faulty.choose = lambda operation: Fault.TIMEOUT if operation == "abort" else written(operation)
    assert house.provide(objects, documents).codes == ["XDSRepositoryError"]
    assert house.faulty.injected["abort", Fault.TIMEOUT] == 3
    house.settle()
    house.assert_nothing_kept()


def test_a_store_that_is_away_is_not_asked_for_each_document_that_is_removed(house):
    objects = submission(entries=12, entry=PLAIN)
    assert house.provide(objects, {f"Document{n:02}": b"%d" % n for n in range(1, 13)}).status == "Success"
    house.registry.held.clear()
    away(house, "delete")
    answer = remove(house.address, *unique_ids(objects))
    assert answer.codes == ["XDSRemoveDocumentsError"] * 12
    assert house.faulty.injected["delete", Fault.TIMEOUT] == 3
    assert house.retrieve(*unique_ids(objects)).codes == ["XDSDocumentUniqueIdError"] * 12
    house.settle()
    house.assert_nothing_kept()


def test_an_object_under_a_lock_is_an_answer_and_holds_up_no_other(house, monkeypatch):
    objects = submission(entries=6, entry=PLAIN)
    assert house.provide(objects, {f"Document{n:02}": b"%d" % n for n in range(1, 7)}).status == "Success"
    house.registry.held.clear()
    locked = unique_ids(objects)[:4]
    keys = {key for key, row in house.rows().items() if row.unique_id in locked}
    delete = house.store.delete

    def kept(key):
        if key in keys:
            raise ObjectLocked("the object store keeps an object: locked")
        delete(key)

    with monkeypatch.context() as patch:
        patch.setattr(house.store, "delete", kept)
        answer = remove(house.address, *unique_ids(objects))
    assert answer.status == "PartialSuccess"
    assert len(answer.codes) == 4
    assert set(house.objects()) == keys
    house.settle()
