"""The load tool: millions of entries into a registry on PostgreSQL by COPY, indexes built afterwards.

``load``  blocks of 10,000 entries, in parallel, each in one transaction; begun again it goes on where it stopped.

Skewed like the field: in every block one patient with 2,000 documents, 5 with 200, the rest with 5 to 50; a submission
set has 1 to 4 of them. The documents of a patient lie scattered over their block, as over the years. What is still to
be done is kept in the database itself: table ``bench_block`` (loaded blocks), table ``bench_ddl`` (indexes to build).
"""

import multiprocessing
import time
from collections.abc import Callable, Iterator
from functools import cache
from random import Random
from typing import Final

import psycopg

from bench.messages import AUTHORITY, patient_id
from bench.stencil import Stencil, columns_of
from registry.store.fragments import Codec

BLOCK: Final = 10_000
SIZES: Final = (2_000, *[200] * 5, *[50] * 40, *[20] * 85, *[10] * 280, *[5] * 100)
"""Documents of each patient in a block; they sum up to BLOCK."""
TENS: Final = range(131, 411)
"""Which patients of a block have 10 documents."""
_KEYS_PER_BLOCK: Final = 1_000_000
_FIRST_PATIENT_KEY: Final = 1_000_000
_TABLES: Final = [
    "submission_set",
    "submission_set_author",
    "entry",
    "entry_code",
    "entry_author",
    "entry_reference",
    "folder",
    "folder_code",
    "association",
    "object_key",
    "unique_id_key",
]
_SHARES: Final = (1,) * 60 + (2,) * 20 + (3,) * 12 + (4,) * 8
"""How many documents a submission has, in hundredths of all submissions."""

Say = Callable[[str], None]


def patient_number(block: int, within: int) -> int:
    return block * len(SIZES) + within


def raw(url: str) -> str:
    """The address as psycopg wants it."""
    return url.replace("postgresql+psycopg://", "postgresql://", 1)


def load(url: str, blocks: int, say: Say, processes: int = 2) -> dict[str, float]:
    """Fill an opened registry database up to ``blocks``; gives the seconds of each step."""
    with psycopg.connect(raw(url), autocommit=True) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS bench_block (block integer PRIMARY KEY)")
        connection.execute("CREATE TABLE IF NOT EXISTS bench_ddl (step integer PRIMARY KEY, statement text)")
        done = {row[0] for row in connection.execute("SELECT block FROM bench_block")}
        missing = [block for block in range(blocks) if block not in done]
        if missing:
            _drop_indexes(connection)
        dictionaries = {n: bytes(text) for n, text in connection.execute("SELECT number, bytes FROM dictionary")}
    took = {"copy": _timed(lambda: _copy_all(url, dictionaries, missing, processes, say))}
    with psycopg.connect(raw(url), autocommit=True) as connection:
        took["indexes"] = _timed(lambda: _build_indexes(connection, say))
        took["vacuum"] = _timed(lambda: _vacuum(connection, missing))
    return took


def _timed(work: Callable[[], object]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began


def _vacuum(connection: psycopg.Connection[tuple[object, ...]], missing: list[int]) -> None:
    if missing:
        connection.execute("VACUUM ANALYZE")


def _drop_indexes(connection: psycopg.Connection[tuple[object, ...]]) -> None:
    """Drop every index but the primary keys that rise with the load; how to make each again is kept."""
    with connection.transaction():
        made = list(connection.execute("SELECT 1 FROM bench_ddl LIMIT 1"))
        if made:
            return
        constraints = connection.execute(
            "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint "
            "WHERE conrelid::regclass::text = ANY(%s) "
            "AND (contype = 'u' OR (contype = 'p' AND conrelid::regclass::text IN ('object_key', 'unique_id_key')))",
            [_TABLES],
        ).fetchall()
        statements = [f"ALTER TABLE {table} ADD CONSTRAINT {name} {made}" for table, name, made in constraints]
        for table, name, _ in constraints:
            connection.execute(f"ALTER TABLE {table} DROP CONSTRAINT {name}")  # type: ignore[call-overload]
        indexes = connection.execute(
            "SELECT indexname, indexdef FROM pg_indexes i WHERE tablename = ANY(%s) AND NOT EXISTS "
            "(SELECT 1 FROM pg_constraint WHERE conindid = i.indexname::regclass AND contype IN ('p', 'u'))",
            [_TABLES],
        ).fetchall()
        for name, _ in indexes:
            connection.execute(f"DROP INDEX {name}")  # type: ignore[call-overload]
        statements += [made for _, made in indexes]
        for step, statement in enumerate(statements):
            connection.execute("INSERT INTO bench_ddl VALUES (%s, %s)", [step, statement])


def _build_indexes(connection: psycopg.Connection[tuple[object, ...]], say: Say) -> None:
    connection.execute("SET maintenance_work_mem = '1GB'")
    for step, statement in connection.execute("SELECT step, statement FROM bench_ddl ORDER BY step").fetchall():
        began = time.monotonic()
        with connection.transaction():
            connection.execute(statement)  # type: ignore[call-overload]
            connection.execute("DELETE FROM bench_ddl WHERE step = %s", [step])
        if time.monotonic() - began > 5:
            say(f"    {time.monotonic() - began:5.0f} s  {statement}")


def _copy_all(url: str, dictionaries: dict[int, bytes], missing: list[int], processes: int, say: Say) -> None:
    jobs = [(url, dictionaries, block) for block in missing]
    began = told = time.monotonic()
    context = multiprocessing.get_context("spawn")
    with context.Pool(min(processes, max(1, len(jobs)))) as pool:
        for count, _ in enumerate(pool.imap_unordered(_copy_block, jobs), 1):
            if time.monotonic() - told > 60:
                told = time.monotonic()
                left = (told - began) / count * (len(jobs) - count)
                say(f"    {count * BLOCK:,} of {len(jobs) * BLOCK:,} entries copied, about {left / 60:.0f} min left")


def _copy_block(job: tuple[str, dict[int, bytes], int]) -> int:
    url, dictionaries, block = job
    stencils = _stencils(next(iter(dictionaries)), dictionaries[next(iter(dictionaries))])
    lines: dict[str, list[str]] = {}
    chance = Random(block)
    key = (block + 1) * _KEYS_PER_BLOCK
    for within, documents in _submissions(chance):
        stencil = chance.choice(stencils[documents])
        for table, line in stencil.copy(_FIRST_PATIENT_KEY + patient_number(block, within), key, chance):
            lines.setdefault(table, []).append(line)
        key += stencil.keys
    columns = columns_of([stencil for some in stencils.values() for stencil in some])
    with psycopg.connect(raw(url)) as connection:
        # The rows are right by construction: the checks of foreign keys are left out, the keys stay.
        connection.execute("SET session_replication_role = replica")
        connection.execute("SET synchronous_commit = off")
        _copy_patients(connection, block)
        for table, some in lines.items():
            with connection.cursor().copy(f"COPY {table} ({', '.join(columns[table])}) FROM STDIN") as copy:
                copy.write("".join(some).encode())
        connection.execute("INSERT INTO bench_block VALUES (%s)", [block])
    return block


def _copy_patients(connection: psycopg.Connection[tuple[object, ...]], block: int) -> None:
    with connection.cursor().copy(
        "COPY patient (patient_key, id, authority, known_since, changed_at) FROM STDIN"
    ) as to:
        for within in range(len(SIZES)):
            number = patient_number(block, within)
            identifier = patient_id(number).partition("^")[0]
            to.write_row((_FIRST_PATIENT_KEY + number, identifier, AUTHORITY, "20260101000000", "20260101000000"))


@cache
def _stencils(number: int, dictionary: bytes) -> dict[int, list[Stencil]]:
    codec = Codec({number: dictionary})
    return {documents: [Stencil(documents, variant, codec) for variant in range(48)] for documents in (1, 2, 3, 4)}


def _submissions(chance: Random) -> Iterator[tuple[int, int]]:
    """(patient within the block, documents) of each submission, in the order of registration."""
    all_of_them = []
    for within, left in enumerate(SIZES):
        rest = left
        while rest:
            documents = min(rest, chance.choice(_SHARES))
            all_of_them.append((within, documents))
            rest -= documents
    chance.shuffle(all_of_them)
    yield from all_of_them


assert sum(SIZES) == BLOCK
assert {SIZES[within] for within in TENS} == {10}
