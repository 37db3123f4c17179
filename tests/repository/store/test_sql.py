"""The index of documents, on SQLite and PostgreSQL alike."""

import threading
from dataclasses import replace

import pytest

from repository.store.protocol import Document, Envelope, Origin, State, StoreUnavailable, Submission, Superseded
from repository.store.scrub_book import Finding, Findings, Progress, ScrubBook
from repository.store.sql import open_index
from repository.store.tables import documents
from tests.postgres import postgres_server, postgres_url  # noqa: F401 - fixtures

ORIGIN = Origin("192.0.2.7", "CN=lab", None, "http://127.0.0.1:8020/repository")


@pytest.fixture(params=["sqlite", "postgresql"])
def index(request, tmp_path):
    url = f"sqlite:///{tmp_path}/repository.db"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres_url")
    opened = open_index(url, ["http://127.0.0.1:8040/records"], 100)
    yield opened
    opened.close()


def submission(unique_id="1.2.3", attempt="a", since=1000, **more):
    values = {"digest": "d" * 64, "patient_id": "1^^^&1.2&ISO", "origin": ORIGIN} | more
    return Submission(unique_id=unique_id, attempt=attempt, since=since, **values)


def document(key, attempt="a", since=1000, **more):
    values = {"unique_id": "1.9", "entry_id": "Document01", "hash": "0" * 40, "size": 3, "mime_type": "text/plain"}
    return Document(object_key=key * 32, patient_id=None, attempt=attempt, since=since, **(values | more))


def waiting(index):
    return [row.message for row in index.outbox.claim("http://127.0.0.1:8040/records", 100)]


def test_a_claimed_submission_is_read_back(index):
    assert index.claim(submission(), [document("1"), document("2")]) is None
    assert index.submission("1.2.3") == submission()
    assert {d.object_key for d in index.documents_of("1.2.3")} == {"1" * 32, "2" * 32}
    assert index.available(["1.9"]) == ()


def test_a_used_unique_id_is_not_claimed_again(index):
    index.claim(submission(), [document("1")])
    assert index.claim(submission(attempt="b"), [document("2", "b")]) == submission()
    assert {d.object_key for d in index.documents_of("1.2.3")} == {"1" * 32}


def test_only_the_very_attempt_that_was_read_is_replaced(index):
    index.claim(submission(), [document("1")])
    stale = submission(since=999)
    assert index.claim(submission(attempt="b"), [], replacing=stale) is not None
    assert index.claim(submission(attempt="b", since=5), [document("2", "b")], replacing=submission()) is None
    assert index.submission("1.2.3").attempt == "b"
    assert len(index.documents_of("1.2.3")) == 2


def test_of_many_claims_at_once_one_wins(index):
    results = []
    go = threading.Barrier(8)

    def claim(number):
        go.wait()
        results.append(index.claim(submission(attempt=str(number)), [document(str(number), str(number))]))

    threads = [threading.Thread(target=claim, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results.count(None) == 1
    assert len(index.documents_of("1.2.3")) == 1


def test_complete_makes_available_with_its_records_in_one_commit(index):
    index.claim(submission(), [document("1")])
    standing = index.complete(submission(), b"<ok/>", [b"record"], 2000)
    assert (standing.state, standing.answer) == (State.AVAILABLE, b"<ok/>")
    (found,) = index.available(["1.9", "1.9", "unknown"])
    assert (found.state, found.since) == (State.AVAILABLE, 2000)
    assert waiting(index) == [b"record"]


def test_the_second_attempt_to_complete_writes_nothing(index):
    index.claim(submission(), [document("1")])
    index.claim(submission(attempt="b"), [document("2", "b")], replacing=submission())
    index.complete(submission(attempt="a"), b"first", [b"one"], 2000)
    assert index.complete(submission(attempt="b"), b"second", [b"two"], 3000).answer == b"first"
    assert [d.attempt for d in index.available(["1.9"])] == ["a"]
    assert waiting(index) == [b"one"]


def test_completing_what_is_gone_is_refused(index):
    with pytest.raises(Superseded):
        index.complete(submission(), b"", [b"never"], 1)
    assert waiting(index) == []


def test_abandon_forgets_this_attempt_and_its_submission(index):
    index.claim(submission(), [document("1")])
    assert index.abandon(submission(), [b"refused"]) is None
    assert index.submission("1.2.3") is None
    assert index.known(["1" * 32]) == frozenset()
    assert waiting(index) == [b"refused"]


def test_abandon_lets_the_earlier_attempt_stand_again(index):
    index.claim(submission(), [document("1")])
    index.claim(submission(attempt="b", since=5000), [document("2", "b")], replacing=submission())
    standing = index.abandon(submission(attempt="b"), [], earlier=submission())
    assert (standing.attempt, standing.since) == ("a", 1000)
    assert {d.attempt for d in index.documents_of("1.2.3")} == {"a"}


def wrapped_keys(index):
    with index._reading() as connection:
        return [row.wrapped_key for row in connection.execute(documents.select())]


def test_rows_of_an_abandoned_attempt_that_are_left_wait_for_the_sweep(index):
    index.claim(submission(), [document("1", envelope=OLD)])
    assert index.abandon(submission(), [b"refused"], left_at=5000) is None
    assert wrapped_keys(index) == [None], "its data key is destroyed"
    assert index.submission("1.2.3") is None
    assert index.documents_of("1.2.3") == ()
    assert index.discard(0, 0) == ("1" * 32,)
    assert index.forget(["1" * 32], left_before=4999) == 0
    assert index.forget(["1" * 32], left_before=5000) == 1
    assert index.known(["1" * 32]) == frozenset()


def test_an_upload_that_is_left_waits_for_the_sweep_and_is_claimed_by_nobody(index):
    index.stage("1" * 32, 1000, OLD)
    index.leave("1" * 32, 5000)
    assert wrapped_keys(index) == [None], "its data key is destroyed"
    index.unstage("1" * 32)
    assert index.discard(0, 0) == ("1" * 32,)
    assert index.forget(["1" * 32], left_before=4999) == 0
    with pytest.raises(Superseded):
        index.claim(submission(), [document("1", staged=True)])


def test_what_was_done_all_the_same_is_on_record_though_another_was_quicker(index):
    index.claim(submission(), [document("1")])
    index.claim(submission(attempt="b"), [document("2", "b")], replacing=submission())
    index.complete(submission(attempt="a"), b"first", [b"one"], 2000, anyway=[b"asked"])
    index.complete(submission(attempt="b"), b"second", [b"two"], 3000, anyway=[b"asked too"])
    assert sorted(waiting(index)) == [b"asked", b"asked too", b"one"]


def test_a_lease_is_held_by_one_at_a_time_and_apart_from_others(index):
    assert index.hold("sweep", "a", 60)
    assert index.hold("sweep", "a", 60)
    assert not index.hold("sweep", "b", 60)
    assert index.hold("scrub", "b", 60)
    assert index.outbox.hold_lease("b", 60), "the sender of audit records has its own"
    index.let_go("sweep", "b")
    assert not index.hold("sweep", "b", 60)
    index.let_go("sweep", "a")
    assert index.hold("sweep", "b", 60)


def test_the_scrub_goes_through_available_rows_in_order_and_keeps_its_book(index):
    book = ScrubBook(index)
    assert book.progress() is None
    index.claim(submission(), [document(key) for key in "c1fa"])
    index.claim(submission("4.5.6", "b"), [document("b", "b")])
    assert book.next("", 9) == ()
    index.complete(submission(), b"", [], 2000)
    assert [row.object_key[0] for row in book.next("", 3)] == ["1", "a", "c"]
    assert [row.object_key[0] for row in book.next("a" * 32, 9)] == ["c", "f"]
    assert book.available("b" * 32) is None
    assert book.available("c" * 32).state is State.AVAILABLE

    progress = replace(book.begin(10), after="a" * 32, verified=1, bytes=3)
    found = [Findings("1" * 32, "1.9", Finding.MISSING, other_copy=True), Findings("a" * 32, "1.9", Finding.UNANSWERED)]
    book.advance(progress, ["1" * 32, "a" * 32], found, 20)
    assert (book.progress(), book.findings()) == (progress, tuple(found))
    book.advance(progress, ["a" * 32], [], 30)
    book.end(progress, 40)
    assert book.progress() == replace(progress, ended_at=40, full_at=40)
    book.begin(50)
    assert book.findings() == (found[0],), "until it is looked at again"
    assert book.progress() == Progress(50, full_at=40)
    book.end(Progress(50), 60)
    assert book.findings() == (), "its row is gone: the pass did not come by it"


def test_abandon_after_another_attempt_took_over_leaves_that_one(index):
    index.claim(submission(), [document("1")])
    index.claim(submission(attempt="b"), [document("2", "b")], replacing=submission())
    assert index.abandon(submission(attempt="a"), []).attempt == "b"
    assert {d.attempt for d in index.documents_of("1.2.3")} == {"b"}


def test_release_happens_only_to_what_was_read(index):
    index.claim(submission(), [document("1")])
    assert not index.release(submission(since=999), [b"no"])
    assert index.release(submission(), [b"yes"])
    assert index.submission("1.2.3") is None
    assert waiting(index) == [b"yes"]
    assert index.discard(0, 0) == ("1" * 32,)


def test_staged_rows_are_taken_over_by_their_submission(index):
    index.stage("1" * 32, 500)
    index.claim(submission(), [replace(document("1"), staged=True), document("2")])
    assert {d.object_key for d in index.documents_of("1.2.3")} == {"1" * 32, "2" * 32}
    index.unstage("1" * 32)
    assert index.known(["1" * 32]) == {"1" * 32}


def test_a_staged_row_that_is_gone_refuses_the_whole_claim(index):
    with pytest.raises(Superseded):
        index.claim(submission(), [replace(document("1"), staged=True), document("2")])
    assert index.submission("1.2.3") is None
    assert index.known(["2" * 32]) == frozenset()


def test_discard_takes_old_uploads_and_attempts_nobody_waits_for(index):
    index.stage("1" * 32, 100)
    index.stage("2" * 32, 900)
    index.claim(submission(since=100), [document("3", since=100)])
    index.claim(submission(attempt="b"), [document("4", "b", since=100)], replacing=submission(since=100))
    assert index.discard(500, 500) == ("1" * 32,)
    index.complete(submission(attempt="b"), b"", [], 100)
    assert set(index.discard(500, 500)) == {"1" * 32, "3" * 32}
    index.forget(["1" * 32, "3" * 32, "4" * 32])
    assert index.known([n * 32 for n in "1234"]) == {"2" * 32, "4" * 32}


def test_unresolved_are_the_pending_ones_before_a_time(index):
    index.claim(submission("1.1", since=100), [])
    index.claim(submission("1.2", since=900), [])
    index.claim(submission("1.3", since=100), [])
    index.complete(submission("1.3", since=100), b"", [], 100)
    assert [s.unique_id for s in index.unresolved(500)] == ["1.1"]
    index.touch(submission("1.1", since=100), 1000)
    assert index.unresolved(500) == ()


def test_touch_of_a_superseded_attempt_is_refused(index):
    index.claim(submission(), [])
    with pytest.raises(Superseded):
        index.touch(submission(attempt="b"), 5)


def test_told_is_remembered_with_its_record(index):
    index.claim(submission(), [])
    index.told(submission(), [b"unknown"])
    assert index.submission("1.2.3").told
    assert waiting(index) == [b"unknown"]


def test_oldest_copy_first_over_many_ids(index):
    for number in range(3):
        one = submission(f"1.{number}", attempt=str(number))
        index.claim(one, [document(str(number), str(number), unique_id="1.9")])
        index.complete(one, b"", [], 3000 - number)
    wanted = [f"9.{n}" for n in range(1200)] + ["1.9"]
    assert [d.object_key[0] for d in index.available(wanted)] == ["2", "1", "0"]


def available(index, unique_id, *documents, attempt="a"):
    one = submission(unique_id, attempt=attempt)
    index.claim(one, documents)
    index.complete(one, b"<ok/>", [], 2000)


def test_a_removal_takes_document_key_and_answer_in_one_commit_with_its_records(index):
    sealed = document("1", envelope=Envelope("k1", b"wrapped"))
    available(index, "1.2.3", sealed, document("2", unique_id="1.8"))
    available(index, "1.2.4", document("3", "b"), attempt="b")
    index.remove(["1" * 32, "3" * 32], [b"record"], 5000)
    assert index.available(["1.9"]) == ()
    assert [d.object_key[0] for d in index.available(["1.8"])] == ["2"]
    for unique_id in ("1.2.3", "1.2.4"):
        standing = index.submission(unique_id)
        assert (standing.state, standing.answer) == (State.REMOVED, None)
    assert waiting(index) == [b"record"]
    assert index.key_counts() == {None: 1}
    assert set(index.discard(0, 0)) == {"1" * 32, "3" * 32}
    index.forget(["1" * 32, "2" * 32])
    assert index.known(["1" * 32, "2" * 32, "3" * 32]) == {"2" * 32, "3" * 32}


def test_a_removal_of_what_is_not_available_writes_nothing(index):
    available(index, "1.2.3", document("1"))
    index.claim(submission("1.2.4"), [document("2")])
    for keys in (["1" * 32, "2" * 32], ["1" * 32, "9" * 32]):
        with pytest.raises(Superseded):
            index.remove(keys, [b"never"], 5000)
    assert len(index.available(["1.9"])) == 1
    assert index.submission("1.2.3").state is State.AVAILABLE
    assert waiting(index) == []


def test_a_removal_of_many_is_one(index):
    keys = [f"{n:032x}" for n in range(1201)]
    available(index, "1.2.3", *(replace(document("1"), object_key=key) for key in keys))
    with pytest.raises(Superseded):
        index.remove([*keys, "f" * 32], [], 5000)
    assert len(index.available(["1.9"])) == 1201
    index.remove(keys, [], 5000)
    assert index.available(["1.9"]) == ()


def test_a_submission_that_is_sent_again_after_a_removal_is_claimed_and_completed(index):
    available(index, "1.2.3", document("1"), document("2"))
    index.remove(["1" * 32], [], 5000)
    standing = index.submission("1.2.3")
    again = submission("1.2.3", attempt="b", since=6000)
    assert index.claim(again, [document("3", "b")]) == standing
    assert index.claim(again, [document("3", "b")], replacing=standing) is None
    index.remove(["2" * 32], [], 7000)
    assert index.submission("1.2.3").state is State.PENDING, "the new attempt goes its own way"
    assert index.complete(again, b"<new/>", [], 8000).answer == b"<new/>"
    assert [d.object_key[0] for d in index.available(["1.9"])] == ["3"]


def test_an_attempt_that_completes_after_the_removal_of_another_is_told(index):
    index.claim(submission(), [document("1")])
    index.claim(submission(attempt="b"), [document("2", "b")], replacing=submission())
    index.complete(submission(attempt="b"), b"", [], 2000)
    index.remove(["2" * 32], [], 3000)
    assert index.complete(submission(attempt="a"), b"late", [b"never"], 4000).state is State.REMOVED
    assert index.available(["1.9"]) == ()
    assert waiting(index) == []
    assert set(index.discard(0, 4000)) == {"1" * 32, "2" * 32}


def test_what_is_due_comes_by_class_and_time_and_in_pages(index):
    rows = [document(key, class_code="c^^1", created=100 * int(key)) for key in "1234"]
    available(index, "1.2.3", *rows, document("5", class_code="c^^2", created=1), document("6"))
    index.claim(submission("1.2.4", attempt="b"), [document("7", "b", class_code="c^^1", created=1)])

    def due(*asked, beyond="", limit=10):
        return [d.object_key[0] for d in index.due(*asked, beyond, limit)]

    assert due("c^^1", "creation", 301) == ["1", "2", "3"]
    assert due("c^^1", "creation", 300) == ["1", "2"]
    assert due("c^^1", "creation", 500, limit=2) == ["1", "2"]
    assert due("c^^1", "creation", 500, beyond="2" * 32) == ["3", "4"]
    assert (due("c^^1", "stored", 2000), due("c^^1", "stored", 2001)) == ([], ["1", "2", "3", "4"])
    assert (index.unjudged(None), index.unjudged("c^^1"), index.unjudged("c^^2")) == (1, 0, 0)


def test_records_alone_are_durable_and_the_bound_makes_busy(index):
    index.record_alone([b"%d" % n for n in range(99)])
    assert not index.busy()
    index.record_alone([b"last"])
    index.outbox._checked_at = float("-inf")
    assert index.busy()


def test_records_the_database_refuses_are_told_in_the_stores_own_words(index):
    with index._engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE outbox")
    with pytest.raises(StoreUnavailable, match="database: "):
        index.record_alone([b"record"])


def test_a_full_database_says_so_and_keeps_nothing(tmp_path):
    index = open_index(f"sqlite:///{tmp_path}/small.db", [], 100)
    with index._engine.connect() as connection:
        pages = connection.exec_driver_sql("pragma page_count").scalar()
    index._engine.dispose()

    from sqlalchemy import event

    event.listen(index._engine, "connect", lambda c, _r: c.execute(f"pragma max_page_count={pages + 2}"))
    with pytest.raises(StoreUnavailable) as refused:
        index.claim(submission(), [document("1", mime_type="x" * 100_000)])
    assert refused.value.full
    assert "xxx" not in str(refused.value)
    assert index.submission("1.2.3") is None
    index.close()


# -------------------------------------------------------------------------------------------------- data keys

OLD, NEW = Envelope("old", b"\x00wrapped\xff"), Envelope("new", b"otherwise")


def test_an_envelope_is_read_back_byte_by_byte(index):
    index.claim(submission(), [document("1", envelope=OLD), document("2")])
    assert {d.object_key[0]: d.envelope for d in index.documents_of("1.2.3")} == {"1": OLD, "2": None}
    assert index.key_counts() == {"old": 1, None: 1}


def test_data_keys_are_wrapped_anew_in_order_and_each_once(index):
    index.claim(submission(), [document(key, envelope=OLD) for key in "123"])
    first = index.sealed_otherwise("new", "", 2)
    assert [key[0] for key, _ in first] == ["1", "2"]
    assert index.rewrap([(key, old, NEW) for key, old in first]) == 2
    assert [key[0] for key, _ in index.sealed_otherwise("new", first[-1][0], 2)] == ["3"]
    assert index.key_counts() == {"old": 1, "new": 2}


def test_a_destroyed_key_stays_destroyed_though_a_rotation_had_read_it(index):
    index.claim(submission(), [document("1", envelope=OLD)])
    read = index.sealed_otherwise("new", "", 10)
    assert index.release(submission(), [])
    assert index.rewrap([(key, old, NEW) for key, old in read]) == 0
    assert index.sealed_otherwise("new", "", 10) == ()
    assert index.key_counts() == {}


@pytest.mark.parametrize("discard", [(2000, 0), (0, 2000)])
def test_whatever_discards_a_row_destroys_its_key(index, discard):
    index.stage("1" * 32, 1000, OLD)
    index.claim(submission(), [document("2", envelope=OLD)])
    index.claim(submission(attempt="b"), [document("3", "b", envelope=OLD)], replacing=submission())
    index.complete(submission(attempt="b"), b"<done/>", [], 1000)
    (gone,) = index.discard(*discard)
    assert gone[0] == ("1" if discard[0] else "2")
    with index._reading() as connection:
        rows = {row.object_key[0]: row.wrapped_key for row in connection.execute(documents.select())}
    assert [key for key, wrapped in sorted(rows.items()) if wrapped is None] == [gone[0]]


def test_a_key_that_was_wrapped_anew_while_its_document_was_coming_stays_so(index):
    index.stage("1" * 32, 1000, OLD)
    assert index.rewrap([("1" * 32, OLD, NEW)]) == 1
    index.claim(submission(), [document("1", staged=True, envelope=OLD)])
    assert [d.envelope for d in index.documents_of("1.2.3")] == [NEW]
