"""A log of version 1 led to the newest: found by what version 1 did not index, and not opened half-way; both engines."""

import hashlib

import pytest
from sqlalchemy import MetaData, insert, select, text

import atna.record_repository.store.migrations as migrations
from atna.record_repository.indexing import index
from atna.record_repository.store import reindexing, tables
from atna.record_repository.store.protocol import Criteria
from atna.record_repository.store.records import RecordStore
from atna.store.engine import DatabaseRefused, begin_write, new_engine, schema_version
from atna.store.migrating import upgrade

OLD = {
    "record_patient": ("id", "authority"),
    "record_participant": ("user_id",),
    "record_object": ("object_id",),
    "record_type": ("code", "system"),
}


def old_log(url, messages):
    """A database of version 1 with these records in it, as that version wrote them."""
    engine = new_engine(url)
    with begin_write(engine) as connection:
        schema_version.create(connection)
        connection.execute(insert(schema_version).values(room="audit", version=0))
    upgrade(url, MetaData(info={"room": "audit", "version": 1}), migrations.FOLDER)
    last = bytes(32)
    with begin_write(engine) as connection:
        for number, message in enumerate(messages, 1):
            item = index(message)
            link = last + number.to_bytes(8, "big") + (5).to_bytes(8, "big") + item.sha256
            last = hashlib.sha256(link).digest()
            values = {
                "number": number, "event_at": item.event_at, "sha256": item.sha256, "chain": last, "received_at": 5,
                "repeats": 0, "readable": item.readable, "event_code": item.event_code,
                "event_system": item.event_system, "action": item.action, "outcome": item.outcome,
                "source_id": item.source_id, "message": message,
            }  # fmt: skip
            names = ", ".join(values)
            marks = ", ".join(f":{name}" for name in values)
            connection.execute(text(f"INSERT INTO record ({names}) VALUES ({marks})"), values)
            rows = {
                "record_patient": [(p.id, p.authority or "") for p in item.patients],
                "record_participant": [(user,) for user in item.users],
                "record_object": [(one,) for one in item.objects],
                "record_type": [(code, system or "") for code, system in item.types],
            }
            for table, columns in OLD.items():
                for one in rows[table]:
                    place = (*columns, "event_at", "record")
                    statement = f"INSERT INTO {table} ({', '.join(place)}) VALUES ({', '.join(':' + c for c in place)})"
                    given = dict(zip(place, (*one, item.event_at, number), strict=True))
                    connection.execute(text(statement), given)
        if messages:
            values = {"number": len(messages), "chain": last}
            connection.execute(text("INSERT INTO chain_head VALUES ('head', :number, :chain)"), values)
    engine.dispose()
    return messages


def led_up(url):
    return upgrade(url, tables.metadata, migrations.FOLDER)


@pytest.fixture
def few_at_once(monkeypatch):
    monkeypatch.setattr(reindexing, "CHUNK", 3)


def test_an_older_log_is_found_by_everything_new(database_url, writer, few_at_once):
    messages = old_log(database_url, [writer.query(f"p{n}", address=f"10.0.0.{n}") for n in range(8)] + [b"junk"])
    led_up(database_url)
    assert reindexing.reindex(database_url) == 9
    assert reindexing.reindex(database_url) == 0
    store = RecordStore.open(database_url)
    assert store.verify_chain().records == 9
    assert store.verify_chain().holds
    (found,) = store.find(Criteria(addresses=("10.0.0.7",), roles=(("110153", "DCM"),), entity_roles=(24,)), limit=9)
    assert found.message == messages[7]
    store.close()


def test_a_log_of_version_3_is_found_without_the_blanks(database_url, writer):
    message = writer.query().replace(b'AuditSourceID="', b'AuditSourceID="  ')
    message = message.replace(b'ParticipantObjectID="urn:uuid', b'ParticipantObjectID=" urn:uuid')
    old_log(database_url, [message])
    upgrade(database_url, MetaData(info={"room": "audit", "version": 3}), migrations.FOLDER)
    engine = new_engine(database_url)
    with begin_write(engine) as connection:  # as if it had been indexed as version 3 did
        connection.execute(tables.index_state.delete())
    engine.dispose()
    led_up(database_url)
    with pytest.raises(DatabaseRefused, match="dossier db upgrade"):
        RecordStore.open(database_url)
    assert reindexing.reindex(database_url) == 1
    store = RecordStore.open(database_url)
    query = "urn:uuid:14d4debf-8f97-4251-9a74-a90016b0af0d"
    for criteria in (Criteria(sources=("registry@host",)), Criteria(objects=(query,))):
        assert [one.message for one in store.find(criteria, limit=9)] == [message]
    assert store.verify_chain().holds
    store.close()


def test_it_is_not_opened_before_it_is_indexed_and_goes_on_where_it_stopped(
    database_url, writer, few_at_once, monkeypatch
):
    old_log(database_url, [writer.query() for _ in range(7)])
    led_up(database_url)
    with pytest.raises(DatabaseRefused, match="dossier db upgrade"):
        RecordStore.open(database_url)
    indexed = []

    def broken_off(message):
        indexed.append(message)
        if len(indexed) > 5:
            raise KeyboardInterrupt
        return index(message)

    monkeypatch.setattr(reindexing, "index", broken_off)
    with pytest.raises(KeyboardInterrupt):
        reindexing.reindex(database_url)
    with pytest.raises(DatabaseRefused, match="dossier db upgrade"):
        RecordStore.open(database_url)
    monkeypatch.setattr(reindexing, "index", index)
    assert reindexing.reindex(database_url) == 4
    store = RecordStore.open(database_url)
    assert (store.verify_chain().holds, store.verify_chain().records) == (True, 7)
    store.close()


def test_an_empty_log_needs_no_indexing(database_url):
    old_log(database_url, [])
    led_up(database_url)
    store = RecordStore.open(database_url)
    assert store.verify_chain().records == 0
    with store._engine.connect() as connection:
        assert connection.execute(select(tables.index_state)).all() == []
    store.close()
