"""A log of version 1 goes on in the newest: nothing of it is changed, and it is checked as before."""

import hashlib

import pytest
from sqlalchemy import MetaData, bindparam, insert, inspect, update

from atna.record_repository.indexing import Patient, index
from atna.record_repository.store import tables
from atna.record_repository.store.migrations import FOLDER
from atna.record_repository.store.partitions import partitions
from atna.record_repository.store.protocol import Criteria
from atna.record_repository.store.records import RecordStore
from atna.record_repository.store.reindexing import reindex
from atna.record_repository.store.rows import columns_of, side_rows
from atna.store.engine import begin_write, new_engine, schema_version
from atna.store.migrating import upgrade

RECEIVED = 1_772_359_200_000_000  # 2026-03-01T10:00:00Z


def version_1(url, messages):
    """A database as version 1 made it."""
    engine = new_engine(url)
    with begin_write(engine) as connection:
        schema_version.create(connection)
        connection.execute(insert(schema_version).values(room="audit", version=0))
    upgrade(url, MetaData(info={"room": "audit", "version": 1}), FOLDER)
    last, at = bytes(32), RECEIVED
    with begin_write(engine) as connection:
        known = {column["name"] for column in inspect(connection).get_columns("record")}
        statement = insert(tables.record).values({name: bindparam(name) for name in known})
        for number, message in enumerate(messages, start=1):
            item = index(message)
            octets = last + number.to_bytes(8, "big") + at.to_bytes(8, "big") + item.sha256
            last = hashlib.sha256(octets).digest()
            row = {"number": number, "event_at": item.event_at, "sha256": item.sha256, "chain": last}
            row |= {"received_at": at, "repeats": 0, "message": message}
            row |= {name: value for name, value in columns_of(item).items() if name in known}
            connection.execute(statement, row)
            for table, rows in side_rows(item, number):
                for values in rows if inspect(connection).has_table(table.name) else ():
                    connection.execute(insert(table).values(**values))
        if messages:
            connection.execute(insert(tables.chain_head).values(name="head", number=len(messages), chain=last))
    engine.dispose()
    return last


def test_a_log_of_version_1_goes_on(database_url, writer):
    old = [writer.query(f"p{number}") for number in range(5)]
    head = version_1(database_url, old)
    upgrade(database_url, tables.metadata, FOLDER)
    reindex(database_url)
    store = RecordStore.open(database_url)
    with store._engine.connect() as connection:
        (first,) = partitions(connection)
    assert (first.name, first.format, first.first, first.last) == ("until-2026-03", 1, 1, 5)
    assert (first.start, first.end, first.state) == (bytes(32), head, "closed")
    assert (store.verify_chain().holds, store.verify_chain().records) == (True, 5)
    assert store.keep([index(message) for message in (old[2], writer.query("p9"))], via="feed").repeated == 1
    result = store.verify_chain()
    assert (result.holds, result.records) == (True, 6)
    assert [one.via for one in store.find(Criteria(), limit=9, oldest_first=True)] == [None] * 5 + ["feed"]
    assert [one.message for one in store.find(Criteria(patients=(Patient("p3", None),)), limit=9)] == [old[3]]
    store.close()


@pytest.mark.parametrize("values", [{"via": "feed"}, {"received_at": 1}, {"outcome": 8}])
def test_a_log_of_version_1_is_still_guarded(sqlite_url, writer, values):
    version_1(sqlite_url, [writer.query() for _ in range(3)])
    upgrade(sqlite_url, tables.metadata, FOLDER)
    reindex(sqlite_url)
    store = RecordStore.open(sqlite_url)
    with begin_write(store._engine) as connection:
        connection.execute(update(tables.record).where(tables.record.c.number == 2).values(**values))
    assert store.verify_chain().fault_at == 2
    store.close()


def test_an_empty_log_of_version_1_has_no_partition(database_url, writer):
    version_1(database_url, [])
    upgrade(database_url, tables.metadata, FOLDER)
    store = RecordStore.open(database_url)
    assert store.verify_chain().holds
    store.keep([index(writer.query())])
    assert (store.verify_chain().holds, store.verify_chain().records) == (True, 1)
    store.close()
