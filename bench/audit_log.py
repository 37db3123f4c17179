"""``python -m bench.audit_log [--seconds S] [--records N]``: how fast the audit log takes records and is checked.

First records of about 2 kB are indexed and kept in batches of 500 by one process, as long as asked, on SQLite and on
PostgreSQL: durable and searchable. Then a month of N records, with checkpoints, is verified, exported and
checked by the script that needs Python alone; and each kind of harm to one record has to be found by it.
"""

import argparse
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import atna.audit_check
from atna import events, participants
from atna.message import Outcome
from atna.record_repository.indexing import index
from atna.record_repository.signing import SigningKey
from atna.record_repository.store.records import RecordStore
from atna.recorder import Recorder
from bench.servers import cpu_by_group, postgresql
from ihe.xua import Caller

BATCH = 500
BEFORE = 10_000
GOAL = 2000
NOVEMBER = 1_794_000_000.0
MONTH = 30 * 86_400.0


def records() -> Iterator[bytes]:
    """Records of ITI-18 as the registry writes them: of many patients and callers, no two alike."""
    recorder = Recorder("registry@host", "urn:oid:1.2.3", "dossier-registry", "host", lambda: NOVEMBER)
    whole = recorder.record(
        events.stored_query(
            participants.serving(Caller("10.0.0.7", "CN=PLACE"), "https://registry/registry", "1"),
            query_id="urn:uuid:14d4debf-8f97-4251-9a74-a90016b0af0d",
            request=b"<q>" + b"x" * 150 + b"</q>",
            patient_id="NUMBER^^^&1.3.6.1.4.1.21367.2005.3.7&ISO",
            outcome=Outcome.SUCCESS,
        )
    )
    pieces = re.split(rb"(NUMBER|PLACE|2026-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z)", whole)
    for number in count():
        seconds, fraction = divmod(number * 137, 1_000_000)
        made = {
            b"NUMBER": b"P%06d" % (number * 7919 % 50_000),
            b"PLACE": b"consumer-%03d" % (number % 300),
        }
        instant = b"2026-11-%02dT%02d:%02d:%02d.%06dZ" % (
            *(1 + seconds // 86400 % 28, seconds // 3600 % 24, seconds // 60 % 60, seconds % 60, fraction),
        )
        yield b"".join(made.get(piece, instant if piece.startswith(b"2026-") else piece) for piece in pieces)


def throughput(name: str, url: str, seconds: float, cpu: Callable[[], float]) -> None:
    """One line: records a second over the whole time, and CPU a record of this process and of the database."""
    store, made = RecordStore.open(url), records()
    kept, slowest = 0, 0.0
    began, before, own = time.monotonic(), cpu(), time.process_time()
    while time.monotonic() - began < seconds:
        batch = [next(made) for _ in range(BATCH)]
        at = time.monotonic()
        kept += store.keep([index(message) for message in batch], via="feed CN=registry").stored
        slowest = max(slowest, time.monotonic() - at)
    took = time.monotonic() - began
    each, database = 1e6 * (time.process_time() - own) / kept, 1e6 * (cpu() - before) / kept
    size = len(next(made))
    print(
        f"{name}: {kept} records of {size} octets in {took:.0f} s, {kept / took:.0f}/s (goal {GOAL}); slowest batch "
        f"{slowest:.2f} s; µs CPU a record: {each:.0f} here, {database:.0f} in the database",
        flush=True,
    )
    result = store.verify_chain()
    assert (result.holds, result.records) == (True, kept), result.fault
    store.close()


def filled(folder: Path, number: int) -> tuple[RecordStore, SigningKey]:
    """A log of so many records in a month after one of ``BEFORE``, a checkpoint after each 10,000."""
    key, clock = SigningKey.made(folder / "key.pem"), [NOVEMBER]
    store, made = RecordStore.open(f"sqlite:///{folder}/million.db", lambda: clock[0]), records()
    for done in range(0, BEFORE + number, BATCH):
        if done == BEFORE:
            clock[0] += MONTH
        wanted = min(BATCH, BEFORE + number - done)
        store.keep([index(next(made)) for _ in range(wanted)], via="feed CN=registry")
        if done % 10_000 == 0:
            store.checkpoint(key)
    store.checkpoint(key)
    return store, key


def timed(what: str, number: int, work: Callable[[], object]) -> object:
    """Do it, and say how long it took."""
    began = time.monotonic()
    found = work()
    took = time.monotonic() - began
    most = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) // 1024
    print(f"{what}: {took:.1f} s, {number / took:.0f} records/s; memory so far at most {most} MiB", flush=True)
    return found


def checks(folder: Path, number: int) -> None:
    """Verify, export and check a whole log, then harm the export in each way."""
    store, key = filled(folder, number)
    everything = BEFORE + number
    result = timed(f"dossier audit verify, {everything} records", everything, store.verify_chain)
    assert result.holds, result.fault  # type: ignore[attr-defined]
    (folder / "public.pem").write_text(key.public_pem)
    name = time.strftime("%Y-%m", time.gmtime(NOVEMBER + MONTH))
    path = folder / "export"
    with path.open("wb", buffering=2**20) as file:
        timed(f"export of {name}", number, lambda: store.export(name, file.write))
    done = timed(f"audit_check.py, {number} records", number, lambda: alone(folder, path))
    assert done.returncode == 0, done.stdout  # type: ignore[attr-defined]
    for harm in ("altered", "removed", "inserted", "moved"):
        harmed(path, folder / "harmed", harm, number // 2)
        found = alone(folder, folder / "harmed")
        assert found.returncode == 1, harm
        print(f"  one record of {number} {harm}: {found.stdout.rpartition('HOLD: ')[2].strip()}", flush=True)
    store.close()


def alone(folder: Path, path: Path) -> "subprocess.CompletedProcess[str]":
    """The script in a Python of its own."""
    command = [sys.executable, "-I", "-S", atna.audit_check.__file__, str(path), str(folder / "public.pem")]
    return subprocess.run(command, capture_output=True, text=True)


def harmed(source: Path, target: Path, harm: str, place: int) -> None:
    """The export with one record that is not as it was; its number of records at the end is made right."""
    with source.open("rb") as file, target.open("wb", buffering=2**20) as out:
        line = file.readline()
        while not line.startswith(b"record "):
            out.write(line)
            line = file.readline()
        number, before = 0, b""
        while line.startswith(b"record "):
            one = line + file.read(sum(int(word) for word in line.split()[4:6]) + 1)
            if number == place and harm == "moved":
                before = one
            elif number == place:
                altered = one[:-100] + bytes([one[-100] ^ 1]) + one[-99:]
                out.write({"altered": altered, "removed": b"", "inserted": one + one}[harm])
            else:
                out.write(one + before)
                before = b""
            number += 1
            line = file.readline()
        out.write(b"end %d\n" % (number + {"removed": -1, "inserted": 1}.get(harm, 0)))


def main() -> None:
    """Everything, or with 0 seconds or records only the other number."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--records", type=int, default=1_000_000)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dossier-bench-audit-") as temporary:
        folder = Path(temporary)
        if asked.seconds:
            throughput("SQLite", f"sqlite:///{folder}/audit.db", asked.seconds, lambda: 0.0)
            with postgresql() as databases:
                used = lambda: cpu_by_group({}, databases.postmaster)["PostgreSQL"]  # noqa: E731
                throughput("PostgreSQL", databases.database("audit"), asked.seconds, used)
        if asked.records:
            checks(folder, asked.records)


if __name__ == "__main__":
    main()
