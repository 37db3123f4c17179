"""What every service has beside its actor; that it is joined rightly is for the tests of whole services."""

import threading
from contextlib import closing

import pytest

from atna.message import parse
from gateway.store.sql import open_store
from tests.records_sink import RecordsSink
from wire.service import recorder, sending_records
from wire.settings import AffinityDomainSettings, TlsSettings

START, STOP = "110120", "110121"
DOMAIN = AffinityDomainSettings(home_community_id="urn:oid:1.2.3")


def nobody(*failure):
    raise AssertionError(failure)


def told(records):
    messages = [parse(record[record.index(b"<AuditMessage") :]) for record in records]
    return [message.event.type_codes[0].code for message in messages]


def served(folder, sink, block):
    """What waits in the outbox when the block is over."""
    with closing(open_store(f"sqlite:///{folder}/gateway.db", [sink], 100)) as store:
        stop = threading.Event()
        with sending_records(
            *("gateway", recorder("gateway", DOMAIN), store.record_alone, store.outbox, TlsSettings(), stop),
            handshake_failed=nobody,
        ):
            block()
        assert stop.is_set()
        return told(row.message for row in store.outbox.claim(sink, 100))


def test_start_and_stop_are_on_record_and_sent_meanwhile(tmp_path):
    with RecordsSink() as sink:
        arrived = threading.Event()

        def until_it_came():
            for _ in range(600):
                if told(sink.records) == [START]:
                    arrived.set()
                    return
                arrived.wait(0.05)

        waiting = served(tmp_path, sink.url, until_it_came)
        assert arrived.is_set()
        assert told(sink.records) + waiting in ([START, STOP], [START, STOP, STOP])


def test_a_service_that_fails_has_stopped_on_record_too(tmp_path):
    def fails():
        raise ZeroDivisionError

    nowhere = "http://127.0.0.1:1/records"
    with pytest.raises(ZeroDivisionError):
        served(tmp_path, nowhere, fails)
    with closing(open_store(f"sqlite:///{tmp_path}/gateway.db", [nowhere], 100)) as store:
        assert told(row.message for row in store.outbox.claim(nowhere, 100)) == [START, STOP]
    assert [one.name for one in threading.enumerate() if one.name.startswith("audit sender")] == []


def test_a_stop_that_cannot_be_recorded_ends_the_sender_all_the_same(tmp_path):
    kept = []

    def record(messages):
        if kept:
            raise ZeroDivisionError
        kept.extend(messages)

    with closing(open_store(f"sqlite:///{tmp_path}/gateway.db", ["http://127.0.0.1:1/records"], 100)) as store:
        who, stop = recorder("gateway", DOMAIN), threading.Event()
        with (
            pytest.raises(ZeroDivisionError),
            sending_records("gateway", who, record, store.outbox, TlsSettings(), stop, handshake_failed=nobody),
        ):
            pass
    assert told(kept) == [START]
    assert stop.is_set()
    assert [one.name for one in threading.enumerate() if one.name.startswith("audit sender")] == []


def test_who_writes_a_record():
    assert recorder("registry", DOMAIN).process_name == "dossier-registry"
    one = recorder("repository", DOMAIN, unique_id="1.9")
    assert one._source.source_id == "repository 1.9@urn:oid:1.2.3"
