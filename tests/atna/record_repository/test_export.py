"""A partition as a file is on record, before its first octet, with who took it and what."""

import io

import pytest

from atna.iti20_record_audit_event import decode_message
from atna.message import parse
from atna.record_repository.export import Export
from atna.record_repository.indexing import index
from atna.record_repository.store.protocol import Criteria, StoreUnavailable
from atna.record_repository.store.records import NotExported, RecordStore
from tests.atna.record_repository.store.test_partitions import DAY, Clock

USED = Criteria(events=(("110101", "DCM"),))


@pytest.fixture
def store(database_url, writer):
    """2026-11, closed, and 2026-12: seven records each."""
    clock = Clock()
    store = RecordStore.open(database_url, clock)
    for _ in range(2):
        store.keep([index(writer.query(f"p{number}")) for number in range(7)], via="feed")
        clock.at += 31 * DAY if store.last_number() == 7 else 0
    yield store
    store.close()


@pytest.mark.parametrize(("name", "numbers", "count"), [("2026-11", b"1-7", 7), ("2026-12", b"8-14", 8)])
def test_who_took_what_is_on_record(store, writer, name, numbers, count):
    told_before, out = [], io.BytesIO()

    def put(data):
        told_before.append(store.count(USED))
        out.write(data)

    assert Export(store, writer.recorder).write(name, "ada", put) == count
    assert told_before[0] == 1
    (told,) = store.find(USED, limit=9)
    message = parse(decode_message(told.message).message)
    assert (message.event.action, message.event.outcome, message.participants[0].user_id) == ("R", 0, "ada")
    (log,) = message.objects
    details = {detail.type: detail.value for detail in log.details}
    assert (log.id, log.life_cycle) == (f"urn:dossier:audit-log:{name}", None)
    assert details == {"urn:dossier:operation": b"export", "urn:dossier:audit-log:records": numbers}
    assert len(message.participants) == 2
    assert store.verify_chain().holds
    assert out.getvalue().endswith(b"\nend %d\n" % count)


@pytest.mark.parametrize("name", ["1999-01", ""])
def test_what_is_not_there_is_said_and_not_recorded(store, writer, name):
    with pytest.raises(NotExported, match="there is no partition"):
        Export(store, writer.recorder).write(name, "ada", pytest.fail)
    assert store.count(USED) == 0


def test_nothing_is_handed_over_that_could_not_be_recorded(store, writer, monkeypatch):
    def refuse(*_arguments, **_named):
        raise StoreUnavailable

    monkeypatch.setattr(RecordStore, "keep", refuse)
    with pytest.raises(StoreUnavailable):
        Export(store, writer.recorder).write("2026-11", "ada", pytest.fail)
