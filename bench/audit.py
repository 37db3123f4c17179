"""``python -m bench.audit [--seconds S]``: what the audit records cost, and whether they leave as fast as they come.

ITI-18 and ITI-42 on two whole Dossiers, each on a PostgreSQL database of its own, in turn: one whose records go to a
sink that confirms and discards, one without records (``bench.unaudited``). Then one with its own audit service.
"""

import argparse
import contextlib
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench import fill
from bench.__main__ import CONNECTIONS, Bench
from bench.load import Plan, Result, run, soap_head
from bench.messages import find_documents, register
from bench.servers import Dossier, cpu_by_group, dossier, free_base_port, postgresql

GOAL = 0.85
ROUNDS = 6


@contextmanager
def discarding() -> Iterator[str]:
    """The address of a sink that confirms everything."""
    port = free_base_port() + 60
    process = subprocess.Popen([sys.executable, "-m", "bench.discard", str(port)])
    try:
        for _ in range(100):
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/records"
    finally:
        process.terminate()
        process.wait(20)


def plans(bench: Bench, server: Dossier, seconds: float) -> dict[str, Plan]:
    """The load of each transaction."""
    patients = bench.patients(fill.SMALL)
    made = {"ITI-18": find_documents, "ITI-42": register}
    return {
        name: Plan(server.registry, soap_head("/registry"), tuple(map(message, patients)), CONNECTIONS, seconds)
        for name, message in made.items()
    }


def compare(benches: tuple[Bench, Bench], servers: tuple[Dossier, Dossier], seconds: float) -> None:
    """Both in turn, some rounds; the ratio is the median of the rounds', so that one bad second counts little."""
    with_records, without = (plans(*pair, seconds / ROUNDS) for pair in zip(benches, servers, strict=True))
    for name in with_records:
        for plan in (with_records[name], without[name]):
            run(plan)
        before = [cpu_by_group(server.pids, 0) for server in servers]
        rounds = [(run(with_records[name]), run(without[name])) for _ in range(ROUNDS)]
        after = [cpu_by_group(server.pids, 0) for server in servers]
        ratio = statistics.median(a.rps / b.rps for a, b in rounds)
        ours, bare = (statistics.median(one[side].rps for one in rounds) for side in (0, 1))
        failed = sum(a.failures + b.failures for a, b in rounds)
        print(
            f"{name}  with records {ours:6.0f}/s, without {bare:6.0f}/s, ratio {ratio:.2f}  goal >= {GOAL}", flush=True
        )
        for side, label in enumerate(("with", "without")):
            requests = sum(one[side].requests for one in rounds)
            used = {group: after[side][group] - before[side][group] for group in after[side] if group != "PostgreSQL"}
            each = ", ".join(f"{group} {1e6 * spent / max(1, requests):.0f}" for group, spent in used.items() if spent)
            print(f"    µs CPU a request {label}: {each}", flush=True)
        if failed:
            print(f"    {failed} FAILED: does not count", flush=True)
        drained(benches[0], name)


def drained(bench: Bench, what: str) -> None:
    """How long after the load the last record left."""
    began = time.monotonic()
    while bench.waiting() and time.monotonic() - began < 60:
        time.sleep(0.1)
    took, left = time.monotonic() - began, bench.waiting()
    verdict = f"empty after {took:.1f} s" if not left else f"{left} RECORDS LEFT after 60 s"
    print(f"    {what}: outbox {verdict}  goal <= 10 s", flush=True)


def own_service(bench: Bench, server: Dossier, seconds: float) -> None:
    """The same load with our own audit service on the same cores."""
    for name, plan in plans(bench, server, seconds).items():
        result: Result = run(plan)
        print(f"{name}  with the own audit service {result.rps:.0f}/s, {result.failures} failed", flush=True)
        drained(bench, name)


def main() -> None:
    ask = argparse.ArgumentParser(prog="bench.audit", description=__doc__)
    ask.add_argument("--seconds", type=float, default=18.0, help="of load of each transaction, on each side")
    seconds = ask.parse_args().seconds
    with contextlib.ExitStack() as stack:
        enter = stack.enter_context
        folder = Path(enter(tempfile.TemporaryDirectory(prefix="dossier-bench-")))
        databases = enter(postgresql())
        benches = []
        for name in ("with_records", "without", "own"):
            (folder / name).mkdir()
            benches.append(Bench(databases.database(name), folder / name, seconds, 1, databases.postmaster))
            fill.fill(benches[-1].engine, benches[-1].url, 0, 1)
        sink = enter(discarding())

        def settings(bench: Bench) -> dict[str, str]:
            return {"REGISTRY__DATABASE_URL": bench.url, "REGISTRY__WORKERS": "2"}

        with (
            dossier(benches[0].folder, **settings(benches[0]), AUDIT__SINKS=f'["{sink}"]') as audited,
            dossier(benches[1].folder, module="bench.unaudited", **settings(benches[1])) as unaudited,
        ):
            compare((benches[0], benches[1]), (audited, unaudited), seconds)
        with dossier(benches[2].folder, **settings(benches[2])) as server:
            own_service(benches[2], server, seconds)


if __name__ == "__main__":
    main()
