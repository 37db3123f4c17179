"""Any value of any row that is not as it was written: found, whatever it is; on a log with everything in it."""

import re
from contextlib import contextmanager

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sqlalchemy import and_, delete, insert, select, update
from sqlalchemy.exc import DBAPIError, StatementError

from atna.record_repository.indexing import index
from atna.record_repository.retention import Retention
from atna.record_repository.signing import SigningKey
from atna.record_repository.store import tables
from atna.record_repository.store.protocol import Trust
from atna.record_repository.store.records import RecordStore
from atna.record_repository.store.rows import SIDE_TABLES
from atna.record_repository.store.verifying import verify
from tests.atna.conftest import Writer
from tests.atna.record_repository.store.test_partitions import DAY, Clock

# Columns that are no evidence: a count, and times that nothing but a report shows.
FREE = {
    "record": {"repeats"},
    "log_partition": {"opened_at", "closed_at"},
    "checkpoint_key": {"since"},
}
# index_state is empty but between two steps of an upgrade.
TABLES = [table for table in tables.metadata.tables.values() if table is not tables.index_state]
EVIDENCE = [table for table in TABLES if table.name != "checkpoint_key"]


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def log(request, tmp_path_factory):
    """Four months, the first removed by rule, two keys; gives (store, trust), with the last checkpoint kept."""
    folder = tmp_path_factory.mktemp("log")
    url = f"sqlite:///{folder}/audit.db"
    if request.param == "postgresql":
        server = request.getfixturevalue("postgres_server")
        server.psql("CREATE DATABASE tampering TEMPLATE template0 ENCODING 'UTF8'")
        url = re.sub("^postgresql:", "postgresql+psycopg:", server.get_uri(database="tampering"))
    clock, writer = Clock(), Writer()
    keys = [SigningKey.made(folder / name) for name in ("first", "second")]
    store = RecordStore.open(url, clock)
    for month in range(4):
        for _ in range(2):
            batch = [writer.query("p1"), writer.registration("p2"), b"junk %d %d" % (month, clock.at)]
            store.keep([index(message) for message in batch], via="feed CN=registry")
            store.checkpoint(keys[month > 1])
            clock.at += 60
        clock.at += 31 * DAY
    (_,) = Retention(store, writer.recorder, 92, int(clock.at * 1e6)).apply(keys[1], "ada")
    store.checkpoint(keys[1])
    trust = Trust({key.id: key.public for key in keys}, (store.last_checkpoint(),))
    assert store.verify_chain(trust).holds
    assert store.verify_chain().holds
    yield store, trust
    store.close()


def altered(value, draw):
    """Another value, of the same kind or none."""
    if isinstance(value, bool):
        other = not value
    elif isinstance(value, int):
        other = value + draw(st.sampled_from([-1, 1, 1000]))
    elif isinstance(value, bytes):
        place = draw(st.integers(0, max(0, len(value) - 1)))
        turned = bytearray(value or b"\0")
        turned[place] ^= 1 << draw(st.integers(0, 7))
        other = bytes(turned)
    elif isinstance(value, str):
        other = draw(st.sampled_from([value + "x", value[:-1], "open", "removed"]))
    else:
        other = draw(st.sampled_from([0, "", b"\0" * 32]))
    return draw(st.sampled_from([other, other, other, None]))


@contextmanager
def undone(store):
    """A connection whose changes nobody else sees and nobody keeps."""
    with store._engine.connect() as connection:
        connection.execution_options(dossier_write=True)
        with connection.begin() as transaction:
            yield connection
            transaction.rollback()


def whole(table, row):
    return and_(*(column.is_(None) if row[column.name] is None else column == row[column.name] for column in table.c))


def one_of(connection, table, data):
    order = list(table.primary_key.columns)
    return data.draw(st.sampled_from(connection.execute(select(table).order_by(*order)).mappings().all()))


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_no_value_can_be_changed(log, data):
    store, trust = log
    with undone(store) as connection:
        table = data.draw(st.sampled_from(TABLES))
        row = one_of(connection, table, data)
        column = data.draw(st.sampled_from(sorted(set(row) - FREE.get(table.name, set()))))
        other = altered(row[column], data.draw)
        assume(other != row[column])
        try:
            connection.execute(update(table).where(whole(table, row)).values({column: other}))
        except (
            DBAPIError,
            StatementError,
            TypeError,
        ):  # NULL where none may be, a number twice, a value of another kind
            assume(False)
        with_keys, alone = verify(connection, trust), verify(connection, Trust())
    if table.name == "checkpoint_key":  # what the database lists is nothing to whoever has the keys
        assert with_keys.holds
        assert not alone.holds
    else:
        assert not with_keys.holds, (table.name, column, row[column], other)


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_no_row_can_be_taken_out(log, data):
    store, trust = log
    with undone(store) as connection:
        table = data.draw(st.sampled_from(EVIDENCE))
        row = one_of(connection, table, data)
        connection.execute(delete(table).where(whole(table, row)))
        result = verify(connection, trust)
    assert not result.holds, (table.name, dict(row))


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_no_row_can_be_put_in(log, data):
    store, trust = log
    with undone(store) as connection:
        table = data.draw(st.sampled_from([tables.record, *SIDE_TABLES]))
        row = one_of(connection, table, data)
        number = "number" if table is tables.record else "record"
        another = {number: data.draw(st.sampled_from([0, 1, 3, 1000])), "event_at": row["event_at"] + 1}
        connection.execute(insert(table).values(**dict(row) | another))
        result = verify(connection, trust)
    assert not result.holds, (table.name, dict(row))


@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_no_two_records_can_change_places(log, data):
    store, trust = log
    with undone(store) as connection:
        numbers = connection.execute(select(tables.record.c.number).order_by(tables.record.c.number)).scalars().all()
        one, other = data.draw(st.lists(st.sampled_from(numbers), min_size=2, max_size=2, unique=True))
        for column in (tables.record.c.number, *(table.c.record for table in SIDE_TABLES)):
            for old, new in ((one, -1), (other, one), (-1, other)):
                connection.execute(update(column.table).where(column == old).values({column.name: new}))
        result = verify(connection, trust)
    assert (result.holds, result.fault_at) == (False, min(one, other))
