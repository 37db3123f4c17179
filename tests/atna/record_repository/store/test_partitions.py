"""A partition for each month, each hung on the one before; on both databases."""

import pytest
from sqlalchemy import delete, select, update

from atna.record_repository.indexing import index
from atna.record_repository.store.partitions import partitions
from atna.record_repository.store.protocol import Criteria
from atna.record_repository.store.records import RecordStore
from atna.record_repository.store.rows import SIDE_TABLES
from atna.record_repository.store.tables import chain_head, log_partition, record

NOVEMBER = 1_795_999_000.0  # 2026-11-30T00:36:40Z
DAY = 86_400.0


class Clock:
    def __init__(self):
        self.at = NOVEMBER

    def __call__(self):
        return self.at


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def store(database_url, clock):
    store = RecordStore.open(database_url, clock)
    yield store
    store.close()


def keep(store, *messages, via=""):
    return store.keep([index(message) for message in messages], via=via)


def listed(store):
    with store._engine.connect() as connection:
        return list(partitions(connection))


def change(store, *statements):
    with store._engine.connect() as connection:
        connection.execution_options(dossier_write=True)
        with connection.begin():
            for statement in statements:
                connection.execute(statement)


@pytest.fixture
def months(store, writer, clock):
    """Three records in each of three months."""
    for _ in range(3):
        keep(store, *(writer.query() for _ in range(3)), via="feed CN=registry")
        clock.at += 31 * DAY
    return store


def test_the_first_record_of_a_month_opens_its_partition(months):
    found = listed(months)
    assert [(one.name, one.first, one.last, one.state) for one in found] == [
        ("2026-11", 1, 3, "closed"),
        ("2026-12", 4, 6, "closed"),
        ("2027-01", 7, 9, "open"),
    ]
    assert len({one.start for one in found} | {one.end for one in found}) == 6
    result = months.verify_chain()
    assert (result.holds, result.records, result.head) == (True, 9, found[-1].end)


def test_how_a_record_came_is_kept_and_told(months):
    stored = months.find(Criteria(), limit=20, oldest_first=True)
    assert {one.via for one in stored} == {"feed CN=registry"}
    assert [one.partition for one in stored] == ["2026-11"] * 3 + ["2026-12"] * 3 + ["2027-01"] * 3
    assert months.get(5).partition == "2026-12"


def test_how_a_record_came_cannot_be_changed(months):
    change(months, update(record).where(record.c.number == 5).values(via="feed CN=other"))
    result = months.verify_chain()
    assert (result.fault_at, result.partition) == (5, "2026-12")
    change(months, update(record).where(record.c.number == 5).values(via=None))
    assert months.verify_chain().fault == "how it came was altered"


def test_a_batch_of_repeats_alone_opens_nothing(store, writer, clock):
    message = writer.query()
    keep(store, message)
    clock.at += 31 * DAY
    assert keep(store, message).repeated == 1
    assert [one.name for one in listed(store)] == ["2026-11"]


def test_a_clock_a_little_behind_opens_nothing(store, writer, clock):
    keep(store, writer.query())
    clock.at += DAY
    keep(store, writer.query())
    clock.at -= 0.9 * DAY
    keep(store, writer.query())
    assert [(one.name, one.last) for one in listed(store)] == [("2026-11", 1), ("2026-12", 3)]
    assert store.verify_chain().holds


def test_a_clock_that_was_far_ahead_binds_nobody(store, writer, clock):
    keep(store, writer.query())
    clock.at += 40 * 365 * DAY
    keep(store, writer.query())
    clock.at = NOVEMBER
    for _ in range(2):
        keep(store, writer.query())
    assert [(one.name, one.last) for one in listed(store)] == [("2026-11", 1), ("2066-11", 2), ("2026-11.2", 4)]
    assert store.verify_chain().holds


@pytest.mark.parametrize("name", ["2026-11", "2026-12", "2027-01"])
def test_one_partition_alone_is_checked(months, name):
    result = months.verify_chain(partition=name)
    assert (result.holds, result.records) == (True, 3)
    change(months, update(record).where(record.c.number == 5).values(received_at=1))
    assert months.verify_chain(partition=name).holds is (name != "2026-12")
    assert months.verify_chain(partition="1999-01").fault == "there is no such partition"


def without(first, last):
    """Everything of some records, side rows and all."""
    return [delete(table).where(table.c.record.between(first, last)) for table in SIDE_TABLES] + [
        delete(record).where(record.c.number.between(first, last))
    ]


@pytest.mark.parametrize(("first", "last", "name"), [(1, 3, "2026-11"), (4, 6, "2026-12")])
def test_a_partition_taken_out_is_found(months, first, last, name):
    change(months, *without(first, last))
    assert months.verify_chain().partition == name
    change(months, delete(log_partition).where(log_partition.c.name == name))
    assert not months.verify_chain().holds


def test_a_partition_called_removed_without_a_signature_is_found(months):
    values = {"state": "removed", "removed_at": 1, "rule": "older", "key_id": "0" * 32, "signature": bytes(64)}
    change(months, *without(1, 3), update(log_partition).where(log_partition.c.name == "2026-11").values(**values))
    result = months.verify_chain()
    assert (result.partition, result.fault) == (
        "2026-11",
        f"its removal is signed by a key that is not listed ({'0' * 32})",
    )


def test_the_last_partition_taken_out_is_found(months):
    change(months, *without(7, 9), delete(log_partition).where(log_partition.c.name == "2027-01"))
    assert months.verify_chain().fault == "the log does not end with its last link"


@pytest.mark.parametrize(
    ("column", "value"),
    [("start", bytes(32)), ("end", bytes(32)), ("first", 2), ("last", 2), ("format", 1), ("state", "open"), ("name", "x")],
)  # fmt: skip
def test_an_altered_row_of_a_partition_is_found(months, column, value):
    change(months, update(log_partition).where(log_partition.c.name == "2026-11").values(**{column: value}))
    assert not months.verify_chain().holds


def test_partitions_in_another_order_are_found(months):
    change(
        months,
        update(log_partition).where(log_partition.c.name == "2026-11").values(position=9),
        update(log_partition).where(log_partition.c.name == "2026-12").values(position=1),
        update(log_partition).where(log_partition.c.name == "2026-11").values(position=2),
    )
    assert not months.verify_chain().holds


def test_what_stands_in_no_partition_is_found(months):
    change(months, update(chain_head).values(number=8))
    assert not months.verify_chain().holds


def test_a_value_of_another_kind_is_a_fault_and_no_crash(months):
    if months._engine.dialect.name != "sqlite":
        pytest.skip("only SQLite keeps a value of another kind")
    for column, value in [("received_at", "yesterday"), ("via", 7), ("chain", "text"), ("sha256", 1.5)]:
        with months._engine.connect() as connection:
            before = connection.execute(select(record.c[column]).where(record.c.number == 2)).scalar_one()
        change_raw(months, column, value)
        assert months.verify_chain().fault_at == 2
        change_raw(months, column, before)
    assert months.verify_chain().holds


def change_raw(store, column, value):
    with store._engine.connect() as connection:
        connection.execution_options(dossier_write=True)
        with connection.begin():
            connection.exec_driver_sql(f"UPDATE record SET {column} = ? WHERE number = 2", (value,))
