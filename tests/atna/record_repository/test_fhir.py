"""What ITI-81 shows of a record: times that no calendar holds or nobody gave, one record that cannot be shown."""

import logging

import pytest

from atna.fhir_reading import read_resource
from atna.fhir_writing import as_json, as_xml
from atna.record_repository import fhir
from atna.record_repository.fhir import resource_of
from atna.record_repository.indexing import index, read
from atna.record_repository.store.protocol import Stored
from tests.atna.fhir_samples import balp

RECEIVED = 1_772_359_200_000_000  # 2026-03-01T10:00:00Z


def stored(message):
    item = index(message)
    return Stored(7, item.event_at, item.sha256, RECEIVED, item.readable, message, None)


def at(writer, time):
    return writer.query().replace(b'EventDateTime="2026-03-01T10:00:00.000000Z"', b'EventDateTime="%b"' % time)


@pytest.mark.parametrize("time", [b"9999-12-31T23:59:59-14:00", b"9999-12-31T23:59:59.999999-00:01"])
def test_a_time_behind_the_last_year_is_shown_as_its_end(writer, time):
    shown = resource_of(stored(at(writer, time)))
    assert shown["recorded"] == "9999-12-31T23:59:59.999999Z"
    assert shown["agent"][0]["network"]["address"] == "10.0.0.7"
    assert read_resource(as_json(shown)) == read_resource(as_xml(shown)) == shown


def test_a_record_without_a_time_is_shown_at_the_time_it_came(writer):
    message = at(writer, b"").replace(b"<85>1 2026-03-01T10:00:00.000000Z", b"<85>1 -")
    shown = resource_of(stored(message))
    assert (shown["recorded"], shown["type"]["code"]) == ("2026-03-01T10:00:00.000000Z", "110112")


def test_an_event_whose_time_is_an_extension_alone_is_kept_as_one_without_a_time():
    said = {
        "extension": [{"url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason", "valueCode": "unknown"}]
    }
    event = {name: value for name, value in balp().items() if name != "recorded"} | {"_recorded": said}
    item = index(as_json(event))
    assert (item.readable, item.event_at, item.action) == (True, 0, "R")
    shown = resource_of(stored(as_json(event)))
    assert (shown["_recorded"], shown["type"]["code"]) == (said, "rest")
    assert read(as_json(event)).event.date_time is None


def test_a_record_that_cannot_be_shown_is_told_and_hides_no_other(writer, monkeypatch, caplog):
    monkeypatch.setattr(fhir, "audit_event", lambda *_: 1 // 0)
    shown = resource_of(stored(writer.query()))
    assert (shown["id"], shown["type"]["code"]) == ("7", "unreadable")
    assert read_resource(as_json(shown)) == shown
    (said,) = [one for one in caplog.records if one.levelno == logging.ERROR]
    assert said.getMessage().startswith("record 7 cannot be shown (")
    assert said.exc_info is None
