"""How many when, and where a record stands; on both databases."""

import pytest
from sqlalchemy import update

from atna.message import Outcome
from atna.record_repository.indexing import index, parse_patient
from atna.record_repository.store.overview import Span
from atna.record_repository.store.protocol import Criteria
from atna.record_repository.store.records import RecordStore
from atna.record_repository.store.tables import record
from atna.store.engine import begin_write

START = 1_772_359_200_000_000
HOUR = 3_600_000_000


@pytest.fixture
def store(database_url):
    store = RecordStore.open(database_url)
    yield store
    store.close()


@pytest.fixture
def filled(store, writer):
    """Two successes in the first hour, a failure and an unreadable one in the third."""
    messages = [writer.query("p1"), writer.query("p2")]
    writer.at += 2 * 3600
    messages += [writer.query("p1", outcome=Outcome.SERIOUS_FAILURE), b"<85>1 2026-03-01T12:30:00Z h a p m - half"]
    store.keep([index(message) for message in messages[:1]], via="feed CN=registry")
    store.keep([index(message) for message in messages[1:]])
    return store


def test_records_are_counted_by_span_and_outcome(filled):
    counts = filled.count_spans(Criteria(since=START), [START, START + HOUR, START + 2 * HOUR], most=100)
    assert counts.spans == (Span(success=2), Span(), Span(failed=1, unknown=1))
    assert (counts.total, counts.complete) == (4, True)


def test_what_says_no_time_counts_where_it_came(database_url, writer):
    store = RecordStore.open(database_url, lambda: (START + HOUR) / 1_000_000)
    store.keep([index(message) for message in (writer.query("p1"), b"half", b"quarter")])
    starts = [START, START + HOUR, START + 2 * HOUR]
    assert store.count_spans(Criteria(since=START), starts, most=100).spans[1] == Span(unknown=2)
    assert store.count_spans(Criteria(since=START), starts, most=100).total == 3
    assert store.count_spans(Criteria(since=START + 2 * HOUR), starts[2:], most=100).total == 0
    store.close()


def test_the_counts_are_those_of_the_search(filled):
    patient = parse_patient("p1^^^&1.3.6.1.4.1.21367.2005.3.7&ISO")
    assert filled.count_spans(Criteria(patients=(patient,)), [START], most=100).spans == (Span(success=1, failed=1),)
    assert filled.count_spans(Criteria(before=START + HOUR), [START], most=100).total == 2
    assert filled.count_spans(Criteria(outcomes=(4, 8, 12)), [START], most=100).spans == (Span(failed=1),)
    assert filled.count_spans(Criteria(users=("nobody",)), [START, START + HOUR], most=100).total == 0


@pytest.mark.parametrize("most", [1, 2, 3])
def test_no_more_than_the_newest_are_counted_and_it_is_said(filled, most):
    counts = filled.count_spans(Criteria(), [START, START + HOUR], most=most)
    assert (counts.total, counts.complete) == (most, False)
    assert counts.spans[1].total == min(most, 2)


def test_as_many_as_may_be_counted_are_complete(filled):
    assert filled.count_spans(Criteria(), [START], most=4).complete


def test_the_place_of_a_record(filled):
    second = filled.place(2)
    assert (second.number, second.follows, second.repeats) == (2, True, 0)
    assert second.sha256 == filled.find(Criteria(), limit=9, oldest_first=True)[1].sha256
    assert filled.place(1).follows
    assert (filled.place(1).via, second.via) == ("feed CN=registry", "")
    assert second.partition == filled.get(2).partition
    assert filled.place(5) is None


@pytest.mark.parametrize(
    "change",
    [{"message": b"other"}, {"received_at": 1}, {"chain": bytes(32)}, {"sha256": bytes(32)}, {"via": "udp"}],
    ids=lambda change: next(iter(change)),
)
def test_an_altered_record_does_not_follow(filled, change):
    with begin_write(filled._engine) as connection:
        connection.execute(update(record).where(record.c.number == 2).values(**change))
    assert not filled.place(2).follows
    assert filled.place(1).follows


def test_a_record_whose_forerunner_is_gone_does_not_follow(filled):
    with begin_write(filled._engine) as connection:  # the last one has no rows in the search tables
        connection.execute(update(record).where(record.c.number == 4).values(number=99))
    assert not filled.place(99).follows


def test_the_first_record_of_a_partition_follows_from_its_start(database_url, writer):
    now = [1_772_359_200.0]
    store = RecordStore.open(database_url, lambda: now[0])
    for _ in range(3):
        store.keep([index(writer.query()), index(writer.query())])
        now[0] += 31 * 86_400
    places = [store.place(number) for number in range(1, 7)]
    assert [place.partition for place in places] == ["2026-03", "2026-03", "2026-04", "2026-04", "2026-05", "2026-05"]
    assert all(place.follows for place in places)
    store.close()
