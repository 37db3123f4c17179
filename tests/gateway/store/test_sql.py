"""The gateway's own database, on both engines."""

import pytest

from atna.store.engine import begin_write, new_engine
from gateway.store.protocol import StoreUnavailable
from gateway.store.sql import open_store

SINK = "http://127.0.0.1:1/records"


def test_records_wait_in_the_outbox_until_it_is_full(database_url):
    store = open_store(database_url, [SINK], 2)
    try:
        assert store.check()
        assert not store.busy()
        store.record_alone([b"<a/>", b"<b/>"])
        assert [row.message for row in store.outbox.claim(SINK, 9)] == [b"<a/>", b"<b/>"]
        full = open_store(database_url, [SINK], 2)
        assert full.busy()
        full.close()
    finally:
        store.close()


def test_a_database_that_is_gone_is_no_defect(tmp_path):
    store = open_store(f"sqlite:///{tmp_path / 'g.db'}", [SINK], 9)
    try:
        engine = new_engine(f"sqlite:///{tmp_path / 'g.db'}")
        with begin_write(engine) as connection:
            connection.exec_driver_sql("DROP TABLE outbox")
        engine.dispose()
        with pytest.raises(StoreUnavailable):
            store.record_alone([b"<a/>"])
    finally:
        store.close()
