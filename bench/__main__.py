"""``python -m bench [--entries N] [--seconds S] [NAME…]``: every benchmark, or those named, as one table of ratios.

NAMES: iti18, iti42, iti41, growth, large, transfer, gateway, audit-receiver

audit-receiver takes ``--audit-seconds`` on SQLite and on PostgreSQL, with nothing else running.

iti41 and transfer are measured with the documents in each of ``--stores``: directory, s3 (SeaweedFS on this machine),
and both with sealed documents.
"""

import argparse
import contextlib
import hashlib
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import func, select

from atna.store.engine import reading
from bench import audit_receiver, fill, gateway, transfer
from bench.load import Plan, Result, run, soap_head
from bench.messages import MTOM_TYPE, find_documents, patient_id, provide, register
from bench.servers import Dossier, cpu_by_group, document_store, dossier, floor, postgresql, resident_bytes
from registry.store import tables
from registry.store.opening import open_registry

CONNECTIONS = 16
STORES = ("directory", "directory-sealed", "s3", "s3-sealed")
HEADING = f"{'':44}{'product':>34}{'floor':>24}{'ratio':>9}  goal"
NAMES = ("iti18", "iti42", "iti41", "growth", "large", "transfer", "gateway", "audit-receiver")


@dataclass
class Bench:
    """One run over one database."""

    url: str
    folder: Path
    seconds: float
    blocks: int
    postmaster: int
    workers: int = 2

    def __post_init__(self) -> None:
        self.engine, _ = open_registry(self.url)
        self.rows: list[tuple[str, str, str, str, str]] = []

    def say(self, what: str, product: str, bare: str, ratio: str, goal: str) -> None:
        """A line of the table, at once."""
        self.rows.append((what, product, bare, ratio, goal))
        print(f"{what:44}{product:>34}{bare:>24}{ratio:>9}  {goal}", flush=True)

    def patients(self, within: int, most: int = 200) -> list[str]:
        """Patients of one kind, spread over all blocks."""
        spread = range(600) if within == fill.SMALL else range(20) if within == fill.MIDDLE else range(1)
        numbers = [fill.patient_number(block, within + step) for block in range(self.blocks) for step in spread]
        return [patient_id(number) for number in numbers[:: max(1, len(numbers) // most)]][:most]

    def waiting(self, sink: str | None = None) -> int:
        """Rows in the registry's outbox, all or those for ``sink``."""
        rows = select(func.count()).select_from(tables.outbox)
        with reading(self.engine) as connection:
            return int(
                connection.execute(rows if sink is None else rows.where(tables.outbox.c.sink == sink)).scalar_one()
            )


def _rates(bench: Bench, server: Dossier, ours: Plan, bare: Plan) -> tuple[Result, Result, dict[str, float]]:
    """Both in turn, twice: half, half, half, half, so that a drift of the machine meets both.

    The third value is the CPU time in seconds that each group of processes spent while ours ran.
    """
    results: list[tuple[Result, Result]] = []
    spent: dict[str, float] = {}
    for _ in range(2):
        before = cpu_by_group(server.pids, bench.postmaster)
        product = run(_for(ours, bench.seconds / 2))
        for name, used in cpu_by_group(server.pids, bench.postmaster).items():
            spent[name] = spent.get(name, 0.0) + used - before.get(name, 0.0)
        results.append((product, run(_for(bare, bench.seconds / 2))))
    return _mean([a for a, _ in results]), _mean([b for _, b in results]), spent


def _for(plan: Plan, seconds: float) -> Plan:
    return Plan(plan.port, plan.head, plan.messages, plan.connections, seconds)


def _mean(results: list[Result]) -> Result:
    count = len(results)
    return Result(
        sum(r.rps for r in results) / count,
        sum(r.requests for r in results),
        sum(r.failures for r in results),
        sum(r.p50 for r in results) / count,
        max(r.p99 for r in results),
        results[0].bytes,
    )


def _compare(bench: Bench, server: Dossier, what: str, ours: Plan, bare: Plan, goal: str) -> None:
    """One throughput line, and whether the audit trail kept up."""
    run(_for(ours, 1.0)), run(_for(bare, 1.0))
    product, base, spent = _rates(bench, server, ours, bare)
    drained = _drained(bench, server)
    bench.say(
        what,
        f"{product.rps:7.0f}/s p50 {product.p50:.1f} p99 {product.p99:.0f} ms",
        f"{base.rps:7.0f}/s p50 {base.p50:.1f}",
        f"{product.rps / base.rps:.2f}",
        goal,
    )
    state = (
        f"outbox empty after {drained:.1f} s" if drained is not None else "OUTBOX NOT EMPTY after 10 s: does not count"
    )
    failed = f", {product.failures}+{base.failures} FAILED" if product.failures or base.failures else ""
    print(f"    {state}{failed}", flush=True)
    shares = sorted(spent.items(), key=lambda pair: -pair[1])
    each = ", ".join(f"{name} {1e6 * used / max(1, product.requests):.0f}" for name, used in shares if used)
    print(f"    µs CPU a request: {each}", flush=True)


def _drained(bench: Bench, server: Dossier) -> float | None:
    # A Dossier that served the same database before has left its stop record, for a sink that is gone.
    began = time.monotonic()
    while time.monotonic() - began < 10:
        if bench.waiting(server.sink) == 0:
            return time.monotonic() - began
        time.sleep(0.2)
    return None


def iti18(bench: Bench, server: Dossier, port: int) -> None:
    """FindDocuments, 10 LeafClass results, spread over many patients."""
    messages = tuple(find_documents(patient) for patient in bench.patients(fill.SMALL))
    ours = Plan(server.registry, soap_head("/registry"), messages, CONNECTIONS, bench.seconds)
    bare = Plan(port, soap_head("/find"), messages, CONNECTIONS, bench.seconds)
    _compare(bench, server, f"ITI-18, 10 results, {bench.blocks * fill.BLOCK:,} entries", ours, bare, "≥ 0.5")


def iti42(bench: Bench, server: Dossier, port: int) -> None:
    """One document a submission, durable, audited."""
    messages = tuple(register(patient) for patient in bench.patients(fill.SMALL))
    ours = Plan(server.registry, soap_head("/registry"), messages, CONNECTIONS, bench.seconds)
    bare = Plan(port, soap_head("/register"), messages, CONNECTIONS, bench.seconds)
    _compare(bench, server, "ITI-42, one document", ours, bare, "≥ 0.5")


def iti41(bench: Bench, server: Dossier, port: int, store: str) -> None:
    """A document of 100 kB through repository and registry."""
    document = b"%PDF-1.7\n" + os.urandom(100_000 - 9)
    sha1 = hashlib.sha1(document, usedforsecurity=False).hexdigest()
    messages = tuple(provide(patient, document, sha1) for patient in bench.patients(fill.SMALL, 20))
    ours = Plan(server.repository, soap_head("/repository", MTOM_TYPE), messages, CONNECTIONS, bench.seconds)
    kept = "/provide-s3" if store.startswith("s3") else "/provide"
    bare = Plan(port, soap_head(kept, MTOM_TYPE), messages, CONNECTIONS, bench.seconds)
    _compare(bench, server, f"ITI-41 + 42, 100 kB, {store}", ours, bare, "≥ 0.5")


def _p50(bench: Bench, server: Dossier) -> float:
    messages = tuple(find_documents(patient) for patient in bench.patients(fill.SMALL))
    plan = Plan(server.registry, soap_head("/registry"), messages, 1, 3.0)
    run(_for(plan, 1.0), processes=1)
    return run(plan, processes=1).p50


def large(bench: Bench, server: Dossier) -> None:
    """2,000 LeafClass results at once: memory of the worker above idle."""
    pids = [pid for name, pid in server.pids.items() if name.startswith("registry-") and "single" not in name]
    idle = [resident_bytes(pid) for pid in pids]
    plan = Plan(server.registry, soap_head("/registry"), (find_documents(patient_id(0)),), 1, 5.0)
    with transfer.peaks(pids) as peak:
        result = run(plan, processes=1)
    grown = max(top - before for top, before in zip(peak(), idle, strict=True)) / 2**20
    bench.say(
        "ITI-18, 2,000 results",
        f"{result.p50:.0f} ms, {result.bytes / 2**20:.1f} MiB",
        "",
        f"{grown:.0f}",
        "MiB above idle ≤ 32",
    )


def _stores(bench: Bench, arguments: argparse.Namespace, names: list[str], settings: dict[str, str], url: str) -> None:
    """ITI-41 and the large document, each store in turn with services of its own on the same databases."""
    for store in arguments.stores:
        folder = bench.folder / store
        folder.mkdir()
        with document_store(store, folder) as (where, bucket):
            more = {f"REPOSITORY__{name.upper()}": str(value) for name, value in where.items()}
            more["REPOSITORY__DATABASE_URL"] = url
            with dossier(folder, **settings | more) as server:
                if "iti41" in names:
                    with floor(bench.url, folder / "floor", bench.workers, bucket) as port:
                        iti41(bench, server, port, store)
                if "transfer" in names:
                    transfer.measure(bench, server, arguments.gigabytes, store)


def _audit(arguments: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory(prefix="dossier-bench-") as name:
        folder, seconds = Path(name), arguments.audit_seconds
        rate = audit_receiver.measure(f"sqlite:///{folder}/audit.db", folder / "sqlite", seconds)
        print(*audit_receiver.lines("SQLite", rate), sep="\n", flush=True)
        with postgresql() as server:
            url, postmaster = server.database("audit"), server.postmaster
            rate = audit_receiver.measure(url, folder / "postgresql", seconds, postmaster=postmaster)
            print(*audit_receiver.lines("PostgreSQL", rate), sep="\n", flush=True)


def _gateway(seconds: float) -> None:
    print(HEADING)
    with tempfile.TemporaryDirectory(prefix="dossier-bench-") as name:
        for what, product, bare, ratio, goal in gateway.measure(Path(name), seconds):
            print(f"{what:44}{product:>34}{bare:>24}{ratio:>9}  {goal}", flush=True)


def _run(arguments: argparse.Namespace, names: list[str]) -> None:
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dossier-bench-")))
        servers = stack.enter_context(postgresql())
        bench = Bench(servers.database("registry"), folder, arguments.seconds, 1, servers.postmaster)
        print(HEADING)
        fill.fill(bench.engine, bench.url, 0, 1)
        settings = {"REGISTRY__DATABASE_URL": bench.url, "REGISTRY__WORKERS": str(bench.workers)}
        settings["REPOSITORY__WORKERS"] = str(bench.workers)
        _metadata(bench, arguments, names, settings)
        if {"iti41", "transfer"} & set(names):
            _stores(bench, arguments, names, settings, servers.database("repository"))


def _metadata(bench: Bench, arguments: argparse.Namespace, names: list[str], settings: dict[str, str]) -> None:
    """What no document comes into."""
    if not {"iti18", "iti42", "growth", "large"} & set(names):
        return
    with dossier(bench.folder, **settings) as server:
        small = _p50(bench, server) if "growth" in names else 0.0
        if {"iti18", "growth", "large"} & set(names) and arguments.entries > fill.BLOCK:
            took = fill.fill(bench.engine, bench.url, 1, arguments.entries // fill.BLOCK - 1)
            bench.blocks = arguments.entries // fill.BLOCK
            print(f"    filled to {bench.blocks * fill.BLOCK:,} entries in {took:.0f} s")
        if "growth" in names:
            big = _p50(bench, server)
            text = f"p50 {small:.2f} → {big:.2f} ms"
            bench.say(f"growth, 10,000 → {bench.blocks * fill.BLOCK:,}", text, "", f"{big / small:.2f}", "≤ 1.3")
        if "large" in names:
            large(bench, server)
        if {"iti18", "iti42"} & set(names):
            with floor(bench.url, bench.folder / "floor", bench.workers) as port:
                for name, measure in (("iti18", iti18), ("iti42", iti42)):
                    if name in names:
                        measure(bench, server, port)


def main() -> None:
    ask = argparse.ArgumentParser(prog="bench")
    ask.add_argument("names", nargs="*", choices=[*NAMES, []], help="which benchmarks; default all")
    ask.add_argument("--entries", type=int, default=1_000_000, help="entries of the large database")
    ask.add_argument("--seconds", type=float, default=16.0, help="of each throughput measurement")
    ask.add_argument("--audit-seconds", type=float, default=60.0, help="of each measurement of the audit receiver")
    ask.add_argument("--gigabytes", type=float, default=1.0, help="size of the large document, GiB")
    ask.add_argument("--stores", nargs="*", choices=STORES, default=STORES, help="where documents lie; default all")
    arguments = ask.parse_args()
    names = arguments.names or list(NAMES)
    if "audit-receiver" in names:
        _audit(arguments)
    if "gateway" in names:
        _gateway(arguments.seconds)
    if set(names) - {"audit-receiver", "gateway"}:
        _run(arguments, names)


if __name__ == "__main__":
    sys.exit(main())
