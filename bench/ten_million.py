"""``python -m bench.ten_million [--entries N] [--folder DIR]``: the patient query at 10,000 and at 10 million entries.

Loads a small and a large registry into one PostgreSQL, starts a Dossier on each, asks both in turn, and prints the
ratio; then splits the large table of entries by a hash of the patient key and asks again. With ``--folder`` the data
stay, and a run that was broken off goes on where it stopped. Disk: about 5 kB an entry, 7 kB while entries are split.
"""

import argparse
import contextlib
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Final

import psycopg

from bench import bulk, partitions
from bench.load import Plan, in_turn, soap_head
from bench.messages import find_documents, get_documents, patient_id, register
from bench.servers import Dossier, dossier, postgresql
from registry.store.opening import open_registry

GOAL: Final = 1.3
BYTES_PER_ENTRY: Final = 7_000
LOADING: Final = {"fsync": "off", "full_page_writes": "off", "autovacuum": "off"}
SERVING: Final = {"fsync": "on", "full_page_writes": "on", "autovacuum": "on"}
SERVER: Final = {
    "shared_buffers": "2GB",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "8GB",
    "checkpoint_timeout": "30min",
    "max_parallel_maintenance_workers": "2",
}


def say(text: str) -> None:
    print(text, flush=True)


@dataclass(frozen=True)
class Registry:
    """One loaded database and what is asked of it; ``fresh`` patients are asked once, ``known`` again and again."""

    name: str
    url: str
    blocks: int

    def patients(self, count: int, seed: int) -> list[str]:
        """Patients of 10 documents, drawn from all blocks."""
        chance = Random(seed)
        count = min(count, self.blocks * len(bulk.TENS))
        drawn: set[int] = set()
        while len(drawn) < count:
            drawn.add(bulk.patient_number(chance.randrange(self.blocks), chance.choice(bulk.TENS)))
        return [patient_id(number) for number in chance.sample(sorted(drawn), count)]

    def entry_uuids(self, patients: list[str]) -> list[str]:
        """One document of each patient."""
        names = [patient.partition("^")[0] for patient in patients]
        with psycopg.connect(bulk.raw(self.url)) as connection:
            rows = connection.execute(
                "SELECT min(e.entry_uuid) FROM patient p JOIN entry e USING (patient_key) WHERE p.id = ANY(%s) "
                "GROUP BY p.patient_key",
                [names],
            )
            return [row[0] for row in rows]


def main() -> None:
    ask = argparse.ArgumentParser(prog="bench.ten_million")
    ask.add_argument("--entries", type=int, default=10_000_000, help="entries of the large database")
    ask.add_argument("--small", type=int, default=10_000, help="entries of the small one")
    ask.add_argument("--seconds", type=float, default=20.0, help="of each measurement")
    ask.add_argument("--processes", type=int, default=2, help="that generate and copy")
    ask.add_argument("--folder", type=Path, help="keeps the data, and goes on with what is there")
    ask.add_argument("--no-partitions", action="store_true", help="leave out the try with a split table")
    sys.exit(0 if _run(ask.parse_args()) else 1)


def _run(arguments: argparse.Namespace) -> bool:
    place = Path(arguments.folder or "/tmp")
    free = shutil.disk_usage(place if place.exists() else place.parent).free
    if arguments.folder is None and free < arguments.entries * BYTES_PER_ENTRY:
        say(f"bench.ten_million: {arguments.entries * BYTES_PER_ENTRY / 1e9:.0f} GB of disk are needed in {place}")
        return False
    say(f"bench.ten_million --entries {arguments.entries} --small {arguments.small}, {time.strftime('%F %T')}")
    with contextlib.ExitStack() as stack:
        databases = stack.enter_context(postgresql(arguments.folder, **SERVER, **LOADING))
        small, large = _loaded(databases, arguments)
        databases.set(**SERVING)
        served = [(one, stack.enter_context(_served(one))) for one in (small, large)]
        plain = _measured(served, arguments, "one table")
        if not arguments.no_partitions:
            _split(databases, large)
            _measured(served, arguments, f"{partitions.PARTITIONS} partitions")
    return plain <= GOAL


def _loaded(databases: Any, arguments: argparse.Namespace) -> tuple[Registry, Registry]:
    found = []
    for name, entries in (("small", arguments.small), ("large", arguments.entries)):
        registry = Registry(name, databases.database(name), max(1, entries // bulk.BLOCK))
        engine, _ = open_registry(registry.url)
        engine.dispose()
        took = bulk.load(registry.url, registry.blocks, say, arguments.processes)
        steps = ", ".join(f"{step} {seconds:.0f} s" for step, seconds in took.items())
        say(f"  {registry.blocks * bulk.BLOCK:,} entries: {steps}; {_size(registry.url)}")
        found.append(registry)
    return found[0], found[1]


def _size(url: str) -> str:
    with psycopg.connect(bulk.raw(url)) as connection:
        row = connection.execute("SELECT pg_database_size(current_database())").fetchone()
        assert row is not None
    return f"{row[0] / 1e9:.2f} GB, table entry {partitions.total_bytes(url, 'entry') / 1e9:.2f} GB"


def _split(databases: Any, large: Registry) -> None:
    say(f"  splitting entry of {large.blocks * bulk.BLOCK:,} rows by hash of patient_key")
    databases.set(**LOADING)
    partitions.split_entries(large.url, say)
    databases.set(**SERVING)
    before, after = (partitions.total_bytes(large.url, table) / 1e9 for table in ("entry_plain", "entry"))
    say(f"    size with indexes: {before:.2f} GB as one table, {after:.2f} GB in partitions ({after / before:.2f})")


def _measured(served: list[tuple[Registry, Dossier]], arguments: argparse.Namespace, what: str) -> float:
    """Print the figures of both, asked in turn; gives the ratio of the patient query asked again."""
    small, large = (registry for registry, _ in served)
    sizes = f"{small.blocks * bulk.BLOCK:,} → {large.blocks * bulk.BLOCK:,} entries"
    say(f"  {what}, {sizes}, medians, one connection each, a request to each in turn")
    again = 0.0
    for label, messages, goal in (
        ("FindDocuments, 10 results, patients asked before", _known, f"goal ≤ {GOAL}"),
        ("FindDocuments, 10 results, patients asked first", _fresh, ""),
        ("GetDocuments, one entryUUID", _by_uuid, ""),
        ("ITI-42, one document", _registrations, ""),
    ):
        plans = [Plan(on.registry, soap_head("/registry"), messages(one), 1, 0.0) for one, on in served]
        if messages is not _fresh:
            in_turn(plans, arguments.seconds / 3)
        few, many = in_turn(plans, arguments.seconds)
        say(f"    {label:<52} p50 {few:6.2f} → {many:6.2f} ms   ratio {many / few:.2f}  {goal}")
        again = again or many / few
    return again


def _known(registry: Registry) -> tuple[bytes, ...]:
    return tuple(find_documents(patient) for patient in registry.patients(200, 1))


def _fresh(registry: Registry) -> tuple[bytes, ...]:
    return tuple(find_documents(patient) for patient in registry.patients(20_000, time.time_ns()))


def _by_uuid(registry: Registry) -> tuple[bytes, ...]:
    return tuple(get_documents(uuid) for uuid in registry.entry_uuids(registry.patients(200, 1)))


def _registrations(registry: Registry) -> tuple[bytes, ...]:
    return tuple(register(patient) for patient in registry.patients(200, 2))


@contextlib.contextmanager
def _served(registry: Registry) -> Iterator[Dossier]:
    with tempfile.TemporaryDirectory(prefix="dossier-bench-") as folder:
        settings = {"REGISTRY__DATABASE_URL": registry.url, "REGISTRY__WORKERS": "1"}
        with dossier(Path(folder), **settings) as server:
            yield server


if __name__ == "__main__":
    main()
