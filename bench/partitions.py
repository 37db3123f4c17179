"""Table ``entry`` split by a hash of the patient key, tried on a loaded database.

PostgreSQL wants the partition key in every unique index: the primary key becomes (patient_key, entry_key), entry_uuid
keeps an index that is not unique (``object_key`` guards uniqueness as before), and what refers to an entry by its key
alone can no longer be a foreign key.
"""

import time
from typing import Final

import psycopg

from bench.bulk import Say, raw

PARTITIONS: Final = 32


def total_bytes(url: str, table: str) -> int:
    """Size of a table with its indexes, all partitions together."""
    with psycopg.connect(raw(url)) as connection:
        row = connection.execute(
            "SELECT coalesce((SELECT sum(pg_total_relation_size(relid)) FROM pg_partition_tree(%s)), "
            "pg_total_relation_size(%s))",
            [table, table],
        ).fetchone()
        assert row is not None
        return int(row[0])


def split_entries(url: str, say: Say, partitions: int = PARTITIONS) -> dict[str, float]:
    """Copy ``entry`` into hash partitions and put them in its place (the old one stays as ``entry_plain``).

    Gives the seconds of each step. The services that use the table may run, but nothing may be registered meanwhile.
    """
    took: dict[str, float] = {}
    with psycopg.connect(raw(url), autocommit=True) as connection:
        connection.execute("SET maintenance_work_mem = '1GB'")
        indexes = _indexes(connection)
        for name, statements in (
            ("copy", _copying(partitions)),
            ("indexes", ["ALTER TABLE entry_hash ADD PRIMARY KEY (patient_key, entry_key)", *indexes]),
            ("exchange", [*_foreign_keys(connection), *_EXCHANGE]),
            ("analyze", ["VACUUM ANALYZE entry"]),
        ):
            began = time.monotonic()
            for statement in statements:
                connection.execute(statement)  # type: ignore[call-overload]
            took[name] = time.monotonic() - began
            say(f"    {name}: {took[name]:.0f} s")
    return took


_EXCHANGE: Final = ("ALTER TABLE entry RENAME TO entry_plain", "ALTER TABLE entry_hash RENAME TO entry")


def _copying(partitions: int) -> list[str]:
    make = "CREATE TABLE entry_hash (LIKE entry) PARTITION BY HASH (patient_key)"
    parts = [
        f"CREATE TABLE entry_hash_{number} PARTITION OF entry_hash "
        f"FOR VALUES WITH (MODULUS {partitions}, REMAINDER {number})"
        for number in range(partitions)
    ]
    return [make, *parts, "INSERT INTO entry_hash SELECT * FROM entry"]


def _indexes(connection: psycopg.Connection[tuple[object, ...]]) -> list[str]:
    """Every index but the primary key, on the new table, none of them unique."""
    found = connection.execute(
        "SELECT array_agg(a.attname ORDER BY k.n) FROM pg_index i, unnest(i.indkey) WITH ORDINALITY k(attnum, n), "
        "pg_attribute a WHERE i.indrelid = 'entry'::regclass AND NOT i.indisprimary AND a.attrelid = i.indrelid "
        "AND a.attnum = k.attnum GROUP BY i.indexrelid ORDER BY i.indexrelid"
    ).fetchall()
    return [f"CREATE INDEX ON entry_hash ({', '.join(columns)})" for (columns,) in found]  # type: ignore[arg-type]


def _foreign_keys(connection: psycopg.Connection[tuple[object, ...]]) -> list[str]:
    found = connection.execute(
        "SELECT conrelid::regclass::text, conname FROM pg_constraint "
        "WHERE contype = 'f' AND confrelid = 'entry'::regclass AND conparentid = 0"
    ).fetchall()
    return [f"ALTER TABLE {table} DROP CONSTRAINT {name}" for table, name in found]
