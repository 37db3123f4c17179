"""Kept once, found by everything, and no change goes unnoticed; on both databases."""

import hashlib
import re
import threading

import pytest
from sqlalchemy import delete, select, text, update
from sqlalchemy.schema import DropTable

from atna.fhir_writing import as_json
from atna.message import (
    AuditMessage,
    CodedValue,
    EventIdentification,
    Outcome,
    Participant,
    ParticipantObject,
)
from atna.record_repository.indexing import Patient, index, read
from atna.record_repository.store.protocol import Criteria, Kept, StoreUnavailable
from atna.record_repository.store.records import RecordStore
from atna.record_repository.store.rows import SIDE_TABLES
from atna.record_repository.store.tables import chain_head, record, record_patient, record_text
from tests.atna.fhir_samples import balp

AUTHORITY = "1.3.6.1.4.1.21367.2005.3.7"


@pytest.fixture
def store(database_url):
    store = RecordStore.open(database_url)
    yield store
    store.close()


def keep(store, *messages):
    return store.keep([index(message) for message in messages])


def found(store, **criteria):
    return [stored.message for stored in store.find(Criteria(**criteria), limit=1000)]


def test_the_message_is_kept_untouched(store, writer):
    message = writer.query().replace(b" - <", b" - \xef\xbb\xbf<")
    assert keep(store, message).stored == 1
    (stored,) = store.find(Criteria(), limit=10)
    assert stored.message == message
    assert store.get(stored.number) == stored
    assert store.get(99) is None


def test_equal_bytes_are_one_record_and_counted(store, writer):
    first, second = writer.query(), writer.query()
    assert keep(store, first, second, first) == keep_result(2, 1)
    assert keep(store, second, first) == keep_result(0, 2)
    assert len(found(store)) == 2
    with store._engine.connect() as connection:
        assert connection.execute(select(record.c.repeats).order_by(record.c.number)).scalars().all() == [1, 1]
    assert store.verify_chain().holds


def keep_result(stored, repeated, unreadable=0):
    return Kept(stored, repeated, unreadable)


def test_what_cannot_be_read_is_kept_and_flagged(store):
    bad = [b"", b"\xff\x00 no syslog", b"<85>1 2026-03-01T10:00:00Z h a p m - <AuditMessage", b"<85>1 - - - - - - text"]
    assert keep(store, *bad) == keep_result(4, 0, 4)
    assert keep(store, *bad).stored == 0
    assert sorted(found(store)) == sorted(bad)
    assert not any(stored.readable for stored in store.find(Criteria(), limit=10))
    assert store.verify_chain().records == 4
    assert found(store, since=1_772_359_200_000_000, before=1_772_359_200_000_001) == [bad[2]]


def test_what_says_no_time_is_found_by_when_it_came(database_url, writer):
    """A broken header hides no record from whoever looks at a day: it stands behind those that say when they were."""
    came = 1_772_445_600
    store = RecordStore.open(database_url, lambda: came)
    broken = [b"<85>Mar  2 10:00:00 host app: <AuditMessage/>", b"\xff\x00 no syslog", b"{"]
    timed = [writer.query(), writer.query()]
    keep(store, *timed, *broken)
    day = {"since": (came - 86_400) * 1_000_000, "before": (came + 1) * 1_000_000}
    assert found(store, **day)[:2] == timed[::-1]
    assert sorted(found(store, **day)[2:]) == sorted(broken)
    assert store.count(Criteria(**day)) == 5
    assert sorted(found(store, **day, readable=False)) == sorted(broken)
    assert found(store, before=(came - 86_400) * 1_000_000) == []
    assert found(store, since=(came + 1) * 1_000_000) == []
    assert len(found(store)) == store.count(Criteria()) == 5
    for oldest_first in (False, True):
        whole = store.find(Criteria(**day), limit=9, oldest_first=oldest_first)
        pages, after = [], None
        while page := store.find(Criteria(**day), limit=2, oldest_first=oldest_first, after=after):
            pages += page
            after = page[-1].cursor
        assert pages == whole
    store.close()


def test_each_criterion_finds_its_records(store, writer):
    query = writer.query("p1")
    failed = writer.query("p2", outcome=Outcome.SERIOUS_FAILURE, address="10.9.9.9")
    registration = writer.registration("p1")
    keep(store, query, failed, registration)
    assert found(store, patients=(Patient("p1", None),)) == [registration, query]
    assert found(store, patients=(Patient("p1", AUTHORITY),)) == [registration, query]
    assert found(store, patients=(Patient("p1", "9.9"),)) == []
    assert found(store, patients=(Patient("p1", ""),)) == []
    assert found(store, patients=(Patient("p1", None), Patient("p2", None))) == [registration, failed, query]
    assert found(store, users=("10.9.9.9",)) == [failed]
    assert found(store, users=("CN=repository",)) == [registration]
    assert found(store, events=(("110107", None),)) == [registration]
    assert found(store, events=(("110107", "DCM"),)) == [registration]
    assert found(store, events=(("110107", "other"),)) == []
    assert found(store, types=(("ITI-18", "IHE Transactions"),)) == [failed, query]
    assert found(store, outcomes=(8, 12)) == [failed]
    assert found(store, actions=("C",)) == [registration]
    assert found(store, objects=("1.2.3.1",)) == [registration]
    assert found(store, sources=("registry@host",), outcomes=(0,)) == [registration, query]
    assert found(store, sources=("elsewhere",)) == []


def test_criteria_that_hold_beside_each_other(store, writer):
    query, failed = writer.query("p1"), writer.query("p1", outcome=Outcome.SERIOUS_FAILURE, address="10.9.9.9")
    keep(store, query, failed, b"junk")
    both = Criteria(users=("10.9.9.9",), further=(Criteria(users=("http://registry/registry",)),))
    assert [stored.message for stored in store.find(both, limit=9)] == [failed]
    neither = Criteria(users=("10.9.9.9",), further=(Criteria(users=("10.0.0.7",)),))
    assert store.find(neither, limit=9) == []
    assert store.count(both) == 1
    assert store.count(Criteria()) == store.last_number() == 3
    assert found(store, up_to=2) == [failed, query]
    assert found(store, readable=False) == [b"junk"]
    assert found(store, numbers=(1, 9)) == [query]
    # "Not a success", whatever kind of failure it was.
    assert found(store, outcomes=(4, 8, 12)) == [failed]


def test_organisations_by_source_site_and_name(store, writer):
    query, registration = writer.query(), writer.registration()
    keep(store, query, registration)
    assert found(store, organisations=("registry@host",)) == [registration, query]
    assert found(store, organisations=("urn:oid:1.2.3",)) == [registration, query]
    assert found(store, organisations=("CN=repository", "x")) == [registration]
    assert found(store, organisations=("elsewhere",)) == []


def padded(writer):
    """A message with blanks around all that it is found by, as programs with columns of a fixed width write them."""
    record = AuditMessage(
        EventIdentification(
            CodedValue("110112 ", " DCM", None), "R", 0, (CodedValue(" ITI-18", "IHE Transactions ", None),)
        ),
        (Participant("weber   ", True, (CodedValue("110153 ", " DCM", None),), " 47 ", " Weber", " 10.0.0.9 "),),
        (ParticipantObject(" 1.2.9 ", None, 2, 3, name=" Blood"),),
    )
    message = writer.recorder.record(record).replace(b'EventActionCode="R"', b'EventActionCode=" R "')
    return message.replace(b'SourceID="registry@host"', b'SourceID=" ward "').replace(b'"urn:oid:1.2.3"', b'" house "')


PADDED = {
    "events": (("110112", "DCM"),), "types": (("ITI-18", "IHE Transactions"),), "actions": ("R",), "users": ("weber",),
    "roles": (("110153", "DCM"),), "alternative_ids": ("47",), "agent_names": ("weber",), "addresses": ("10.0.0.9",),
    "objects": ("1.2.9",), "entity_names": ("blood",), "sources": ("ward",), "sites": ("house",),
}  # fmt: skip


@pytest.mark.parametrize("name", PADDED)
def test_blanks_around_a_value_hide_no_record(store, writer, name):
    message = padded(writer)
    keep(store, message)
    assert found(store, **{name: PADDED[name]}) == [message]
    assert store.verify_chain().holds


def test_blanks_around_the_identifier_of_a_patient_hide_nothing(store):
    event = balp()
    event["entity"][0]["what"] = {"identifier": {"system": "urn:oid:1.2.3", "value": " P-9 "}}
    keep(store, as_json(event))
    assert found(store, patients=(Patient("P-9", "1.2.3"),)) == [as_json(event)]


def test_what_older_senders_write_is_read(store, writer):
    """The header of RFC 3164, the NUL of a text in C, no blank before the record, the end of a day as its time."""
    _header, found_xml, record = writer.query().partition(b"<AuditMessage")
    record = found_xml + record
    midnight = re.sub(rb'EventDateTime="[^"]*"', b'EventDateTime="2026-03-01T24:00:00Z"', record)
    messages = [
        b"<85>Mar  1 10:00:00 lab " + record,
        b"<85>1 - - - - - -" + record + b"\0",
        b"<85>1 - - - - - - " + midnight,
    ]
    assert keep(store, *messages) == keep_result(3, 0, 0)
    assert sorted(found(store, patients=(Patient("p1", AUTHORITY),))) == sorted(messages)
    assert found(store, since=1_772_409_600_000_000, before=1_772_409_600_000_001) == [messages[2]]
    assert store.verify_chain().holds


def test_a_patient_of_no_authority_is_another(store):
    event = balp()
    event["entity"][0]["what"] = {"identifier": {"value": "P-9"}}
    keep(store, as_json(event))
    assert (
        found(store, patients=(Patient("P-9", ""),))
        == found(store, patients=(Patient("P-9", None),))
        == [as_json(event)]
    )
    assert found(store, patients=(Patient("P-9", "1.2.3"),)) == []


def test_beginnings_are_compared_byte_by_byte(store):
    """Whatever the order of letters in the database's own language."""
    names = ["a", "ab", "Ab-c", "abü", "ab\U0010fffdx", "b", "AC", "aB%_", "äb"]
    keep(store, *(audit_event_of(name) for name in names))
    for beginning, expected in [
        ("ab", {"ab", "Ab-c", "abü", "ab\U0010fffdx", "aB%_"}),
        ("Ä", {"äb"}),
        ("ab%", {"aB%_"}),
    ]:
        kept = store.find(Criteria(agent_names=(beginning,)), limit=99)
        assert {read(stored.message).participants[0].user_name for stored in kept} == expected
    assert store.verify_chain().holds


def audit_event_of(name):
    return as_json(balp(agent=[{"requestor": True, "name": name}]))


def test_the_numbers_of_what_is_kept(store, writer):
    kept, other = index(writer.query()), index(writer.query())
    store.keep([kept], via="fhir CN=other")
    assert store.numbers_of([other, kept, kept]) == [None, 1, 1]


def test_time_bounds_are_half_open(store, writer):
    messages = []
    for _ in range(3):
        messages.append(writer.query())
        writer.at += 1
    keep(store, *messages)
    start = 1_772_359_200_000_000
    assert found(store, since=start + 1_000_000) == [messages[2], messages[1]]
    assert found(store, before=start + 1_000_000) == [messages[0]]
    assert found(store, since=start, before=start + 1_000_001, patients=(Patient("p1", None),)) == messages[1::-1]


@pytest.mark.parametrize("oldest_first", [False, True])
def test_pages_have_every_record_once(store, writer, oldest_first):
    messages = [writer.query() for _ in range(25)]
    # Unreadable ones share the time 0: only their hash tells them apart.
    messages += [b"unreadable %d" % number for number in range(10)]
    keep(store, *messages)
    pages, after = [], None
    while page := store.find(Criteria(), limit=4, oldest_first=oldest_first, after=after):
        pages += page
        after = page[-1].cursor
    assert sorted(stored.message for stored in pages) == sorted(messages)
    times = [stored.event_at for stored in pages]
    assert times == sorted(times, reverse=not oldest_first)


def test_long_and_strange_texts_are_kept_and_found(store, writer):
    patient = "ü" * 5000
    message = writer.query(patient)
    keep(store, message)
    assert found(store, patients=(Patient(patient, None),)) == [message]
    assert store.verify_chain().holds


def test_many_writers_make_one_chain(database_url, writer):
    stores = [RecordStore.open(database_url) for _ in range(3)]
    batches = [[index(writer.query()) for _ in range(20)] for _ in range(12)]
    errors = []

    def write(store, mine):
        try:
            for batch in mine:
                store.keep(batch)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(store, batches[n::3])) for n, store in enumerate(stores)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    result = stores[0].verify_chain()
    assert (result.holds, result.records) == (True, 240)
    for store in stores:
        store.close()


@pytest.fixture
def log(store, writer):
    keep(store, *(writer.query(f"p{number}") for number in range(6)))
    result = store.verify_chain()
    assert (result.holds, result.records) == (True, 6)
    return store


def change(store, *statements):
    with store._engine.connect() as connection:
        connection.execution_options(dossier_write=True)
        with connection.begin():
            for statement in statements:
                connection.execute(statement)


def row(store, number):
    with store._engine.connect() as connection:
        return dict(connection.execute(select(record).where(record.c.number == number)).mappings().one())


def without_references(store, number):
    """Side rows refer to the record; whoever removes it removes them, too."""
    return [delete(table).where(table.c.record == number) for table in SIDE_TABLES]


def test_verify_finds_an_altered_message(log):
    message = row(log, 3)["message"].replace(b"p2", b"pX")
    change(log, update(record).where(record.c.number == 3).values(message=message))
    result = log.verify_chain()
    assert (result.holds, result.records, result.fault_at, result.fault) == (False, 2, 3, "the message was altered")


def test_verify_finds_a_message_edited_by_hand(log):
    if log._engine.dialect.name != "sqlite":
        pytest.skip("only SQLite keeps text in a column of bytes")
    change(log, text("UPDATE record SET message = message || ' ' WHERE number = 3"))
    result = log.verify_chain()
    assert (result.holds, result.records, result.fault_at, result.fault) == (False, 2, 3, "the message was altered")


def test_verify_finds_an_altered_message_with_its_hash_made_right(log):
    message = row(log, 3)["message"].replace(b"p2", b"pX")
    values = {"message": message, "sha256": hashlib.sha256(message).digest()}
    change(log, update(record).where(record.c.number == 3).values(**values))
    assert log.verify_chain().fault == "the link does not follow from the record before"


def test_verify_finds_a_time_of_receipt_altered(log):
    change(log, update(record).where(record.c.number == 3).values(received_at=1))
    assert log.verify_chain().fault_at == 3


@pytest.mark.parametrize("number", [1, 3])
def test_verify_finds_a_removed_record(log, number):
    change(log, *without_references(log, number), delete(record).where(record.c.number == number))
    result = log.verify_chain()
    assert (result.holds, result.records, result.fault) == (False, number - 1, "a record is missing")


def test_verify_finds_the_last_record_removed(log):
    change(log, *without_references(log, 6), delete(record).where(record.c.number == 6))
    result = log.verify_chain()
    assert (result.holds, result.fault) == (False, "the log does not end with its last link")


def test_verify_finds_an_inserted_record(log, writer):
    message = writer.query("mallory")
    item = index(message)
    values = row(log, 6) | {
        "number": 7,
        "message": message,
        "sha256": item.sha256,
        "event_at": item.event_at,
        "chain": bytes(32),
    }
    change(log, record.insert().values(**values))
    assert (log.verify_chain().holds, log.verify_chain().fault_at) == (False, 7)


def test_verify_finds_records_in_another_order(log):
    second, third = row(log, 2), row(log, 3)
    names = ("message", "sha256", "event_at")
    parked = {"sha256": bytes(32)}
    change(
        log,
        update(record).where(record.c.number == 2).values(**parked),
        update(record).where(record.c.number == 3).values(**{name: second[name] for name in names}),
        update(record).where(record.c.number == 2).values(**{name: third[name] for name in names}),
    )
    assert (log.verify_chain().holds, log.verify_chain().fault_at) == (False, 2)


def test_verify_finds_what_a_record_is_found_by_altered(log):
    change(log, update(record).where(record.c.number == 4).values(outcome=8))
    assert (log.verify_chain().fault_at, log.verify_chain().fault) == (4, "what the record is found by was altered")


def test_verify_finds_a_record_hidden_from_a_search(log):
    change(log, delete(record_patient).where(record_patient.c.id == "p2"))
    assert log.verify_chain().fault == "the search tables do not say what the records say"


def test_verify_finds_a_text_put_under_another_kind(log):
    change(log, update(record_text).where(record_text.c.kind == 1, record_text.c.record == 2).values(kind=5))
    assert log.verify_chain().fault == "the search tables do not say what the records say"


def test_an_empty_log_holds(store):
    result = store.verify_chain()
    assert (result.holds, result.records, result.head) == (True, 0, bytes(32))


def test_a_database_that_does_not_answer_is_said_so(sqlite_url, writer):
    store = RecordStore.open(sqlite_url)
    change(store, DropTable(chain_head))
    for call in (lambda: keep(store, writer.query()), store.verify_chain, store.answers):
        with pytest.raises(StoreUnavailable):
            call()
    store.close()
