"""Fills a registry database on PostgreSQL with generated entries, as if they had been registered one by one.

Skew like the field's: for every 10,000 entries 1 patient with 2,000 documents, 20 with 100 and the rest with 10.
Indexes are dropped while rows are copied in and built afterwards.
"""

import itertools
import multiprocessing
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import psycopg
from sqlalchemy import Engine, insert, select

from atna.store.engine import begin_write, reading
from bench.messages import entry, membership, patient_id, submission_set
from ihe import transform
from ihe.registry_objects import SubmittedObjects
from registry.identity import settled
from registry.store import tables as t
from registry.store.fragments import Codec
from registry.store.keys import KeyMaker
from registry.store.protocol import Registration
from registry.store.rows import Rows

BLOCK = 10_000
SIZES = (2_000, *[100] * 20, *[10] * 600)
"""Documents of each patient in a block; they sum up to BLOCK."""
LARGE, MIDDLE, SMALL = 0, 1, 21
"""Number, within a block, of the first patient with 2,000, 100 and 10 documents."""


def patient_number(block: int, within: int) -> int:
    return block * len(SIZES) + within


def fill(engine: Engine, url: str, first_block: int, blocks: int) -> float:
    """Add blocks of 10,000 entries each; gives the seconds it took."""
    began = time.monotonic()
    indexes = [index for table in t.metadata.sorted_tables for index in table.indexes]
    with engine.begin() as connection:
        for index in indexes:
            index.drop(connection, checkfirst=True)
    _patients(engine, first_block, blocks)
    with reading(engine) as connection:
        dictionaries = {r.number: bytes(r.bytes) for r in connection.execute(select(t.dictionary))}
    jobs = [(url, dictionaries, number) for number in range(first_block, first_block + blocks)]
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        for _ in pool.imap_unordered(_copy_block, jobs):
            pass
    with engine.begin() as connection:
        for index in indexes:
            index.create(connection, checkfirst=True)
    with psycopg.connect(_raw(url), autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")
    return time.monotonic() - began


def _raw(url: str) -> str:
    return url.replace("postgresql+psycopg://", "postgresql://")


def _patients(engine: Engine, first_block: int, blocks: int) -> None:
    numbers = [patient_number(b, w) for b in range(first_block, first_block + blocks) for w in range(len(SIZES))]
    rows = []
    for number in numbers:
        identifier, _, rest = patient_id(number).partition("^^^&")
        rows.append(
            {
                "patient_key": number + 1_000_000,
                "id": identifier,
                "authority": rest.split("&")[0],
                "known_since": "20260101000000",
                "changed_at": "20260101000000",
            }
        )
    with begin_write(engine) as connection:
        connection.execute(insert(t.patient), rows)


class _Keys(KeyMaker):
    """Keys of a block, older than any that is made now: so many are made at once here that two processes, each with
    a maker of its own, would come upon the same one sooner or later.
    """

    def __init__(self, block: int) -> None:
        super().__init__()
        self._of_block = itertools.count((block + 1) << 24)

    def __call__(self) -> int:
        return next(self._of_block)


def _copy_block(job: tuple[str, dict[int, bytes], int]) -> int:
    url, dictionaries, block = job
    codec, keys = Codec(dictionaries), _Keys(block)
    rows: dict[str, list[dict[str, Any]]] = {}
    for registration in _registrations(block):
        one = Rows(registration, codec, keys)
        for table, values in one.all():
            rows.setdefault(table.name, []).extend(values)
        rows.setdefault("unique_id_key", []).extend(one.unique_ids())
    with psycopg.connect(_raw(url)) as connection:
        connection.execute("SET synchronous_commit = off")
        for name, values in rows.items():
            if not values:
                continue
            columns = list(values[0])
            with connection.cursor().copy(f"COPY {name} ({', '.join(columns)}) FROM STDIN") as copy:
                for row in values:
                    copy.write_row([row[column] for column in columns])
    return block


def _registrations(block: int) -> Iterator[Registration]:
    """Documents of a patient come scattered over the block, as they do over the years."""
    order = [(round_, within) for within, count in enumerate(SIZES) for round_ in range(count)]
    order.sort()
    template = {}
    for _, within in order:
        number = patient_number(block, within)
        patient = patient_id(number)
        if within not in template:
            objects = SubmittedObjects(
                (submission_set(patient, "2.25.1"), entry(patient, "2.25.2", 1000, "0" * 40), membership())
            )
            template[within] = objects
        chosen, document, link = settled(template[within], lambda: f"urn:uuid:{uuid.uuid4()}").objects
        unique = uuid.uuid4().int
        chosen = _named(chosen, f"2.25.{unique}")
        document = _named(document, f"2.25.{unique + 1}")
        yield Registration(
            now="20260304101112",
            patient_key=number + 1_000_000,
            submission_set=(transform.submission_set(chosen), chosen),
            entries=((transform.document_entry(document), document),),
            folders=(),
            associations=((transform.association(link), link),),
        )


def _named(obj: Any, unique_id: str) -> Any:
    return replace(
        obj,
        external_identifiers=tuple(
            replace(i, value=unique_id) if i.value.startswith("2.25.") else i for i in obj.external_identifiers
        ),
    )


assert sum(SIZES) == BLOCK
