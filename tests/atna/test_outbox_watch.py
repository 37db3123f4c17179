"""The outbox tells what waits for whom, and when it is nearly full."""

import logging

import pytest
from prometheus_client import REGISTRY
from sqlalchemy import MetaData

from atna.outbox_watch import OutboxWatch
from atna.store.engine import begin_write, open_engine
from atna.store.outbox import Backlog, Outbox, add, outbox_table

ONE, TWO, GONE = "tls://one", "udp://two", "tls://gone"


@pytest.fixture
def room(database_url):
    metadata = MetaData(info={"room": "test", "version": 1})
    table = outbox_table(metadata)
    engine = open_engine(database_url, metadata)
    now = [1000.0]
    outbox = Outbox(engine, table, (ONE, TWO), 10, clock=lambda: now[0])

    def put(count, *sinks):
        with begin_write(engine) as connection:
            add(connection, table, [b"%d" % number for number in range(count)], sinks, clock=lambda: now[0])

    outbox.put, outbox.now = put, now
    yield outbox
    engine.dispose()


def metric(name, **labels):
    return REGISTRY.get_sample_value(name, labels)


def test_each_sink_has_its_own_backlog(room):
    assert room.backlogs() == {}
    room.put(2, ONE, TWO)
    room.now[0] += 30
    room.put(1, ONE)
    room.now[0] += 10
    room.delete(TWO, [row.id for row in room.claim(TWO, 1)])
    assert room.backlogs() == {ONE: Backlog(3, 40.0), TWO: Backlog(1, 40.0)}
    assert room.backlog() == Backlog(4, 40.0)
    OutboxWatch(room).look()
    assert metric("dossier_outbox_rows") == 4
    assert metric("dossier_outbox_sink_rows", sink=ONE) == 3
    assert metric("dossier_outbox_sink_oldest_seconds", sink=ONE) == 40
    room.delete(ONE, [row.id for row in room.claim(ONE, 9)])
    OutboxWatch(room).look()
    assert metric("dossier_outbox_sink_rows", sink=ONE) == metric("dossier_outbox_sink_oldest_seconds", sink=ONE) == 0


def test_nearly_full_is_an_alarm_told_once(room, caplog):
    watch = OutboxWatch(room)

    def told():
        watch.look()
        found = [(record.levelno, record.getMessage()) for record in caplog.records]
        caplog.clear()
        return found

    caplog.set_level(logging.INFO)
    room.put(7, ONE)
    assert told() == []
    room.put(1, ONE)
    ((level, text),) = told()
    assert level == logging.ERROR
    assert "8 of at most 10" in text
    assert metric("dossier_outbox_alarm") == 1
    assert told() == []
    room.delete(ONE, [row.id for row in room.claim(ONE, 1)])
    assert told() == []  # 7 of 10: not well below the mark
    room.delete(ONE, [row.id for row in room.claim(ONE, 1)])
    ((level, _text),) = told()
    assert level == logging.WARNING
    assert metric("dossier_outbox_alarm") == 0


def test_records_for_a_sink_that_is_not_named_any_more_are_told_of(room, caplog):
    room.put(3, GONE)
    watch = OutboxWatch(room)
    for _ in range(2):
        watch.look()
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert "3 audit records wait for tls://gone" in record.getMessage()
    assert metric("dossier_outbox_sink_rows", sink=GONE) == 3
