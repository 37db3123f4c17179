"""The demonstration: every service, a patient, real documents in, found, out again, and the trail of all of it.

Uses the command line exactly as a person would, against services on free ports with a temporary data directory.
"""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Final

from dossier.console import CommandError

__all__ = ["RunningDossier", "free_base_port", "run", "serving"]

PATIENT: Final = "DEMO-1^^^&1.3.6.1.4.1.21367.2011.2.5.9999&ISO"
START_S: Final = 120
DELIVERY_S: Final = 30
"""How long the audit records may take from the outboxes to the audit service."""
OFFSETS: Final = (10, 11, 19, 20, 29, 30, 39, 40, 41, 42, 49)
CCDA: Final = "urn:hl7-org:sdwg:ccda-structuredBody:2.1"
# What each file is: typeCode and further options.
OWN: Final[Mapping[str, tuple[str, ...]]] = {
    "laboratory-report.xml": ("11502-2", "--author", "Anna Weber-Fictive"),
    "patient-summary.xml": ("60591-5", "--author", "Jean Musterarzt"),
    "consultation-report.pdf": ("11488-4", "--author", "Paul Beispiel", "--institution", "Example Hospital"),
}
SHARED: Final[Mapping[str, tuple[str, ...]]] = {
    "lab-report-xd-lab.xml": ("11502-2",),
    "patient-summary-ccd.xml": ("60591-5", "--format", CCDA),
    "discharge-summary.xml": ("18842-5", "--format", CCDA),
    "imaging-report.xml": ("18748-4", "--format", CCDA),
    "epsos-ctd-cda.xml": ("60591-5",),
    "report.pdf": ("11506-3",),
}


@dataclass(frozen=True, slots=True)
class RunningDossier:
    """A running ``dossier serve all`` and the way to run another command against it."""

    base_port: int
    data: Path

    def run(self, *arguments: str) -> Any:
        """A command with ``--json``; its parsed output. CommandError with what it said when it failed."""
        return json.loads(self.run_plain(*arguments, "--json"))

    def run_plain(self, *arguments: str) -> str:
        """A command; its output. CommandError with what it said when it failed."""
        command = _command(*arguments, "--base-port", str(self.base_port))
        done = subprocess.run(  # noqa: S603 - our own interpreter and module
            command, capture_output=True, text=True, check=False, env=_environment(), cwd=self.data
        )
        if done.returncode:
            raise CommandError(f"dossier {arguments[0]} ended with {done.returncode}: {done.stderr.strip()}")
        return done.stdout


def run(shared: Path | None) -> None:
    """Everything once; prints what happens; raises CommandError at the first thing that is not as it should be."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="dossier-demo-") as folder:
        data = Path(folder)
        with serving(data) as dossier:
            _say(f"registry, repository and audit service run on ports from {dossier.base_port + 10}")
            _tour(dossier, data, _samples(data, shared))
        _say(f"services stopped after {time.monotonic() - began:.0f} s")


def _tour(dossier: RunningDossier, data: Path, samples: Mapping[Path, tuple[str, ...]]) -> None:
    person = ("--family", "Mustermann", "--given", "Léonie", "--birth", "1958-07-04", "--sex", "F")
    dossier.run("feed", "--patient", PATIENT, *person)
    _say("ITI-8   the registry knows the patient")
    submitted: dict[str, Path] = {}
    for file, (type_code, *options) in samples.items():
        answer = dossier.run("submit", str(file), "--patient", PATIENT, "--type", type_code, *options)
        submitted[answer["documents"][0]["unique_id"]] = file
        _say(f"ITI-41  {file.name}, {file.stat().st_size:,} bytes, is in the repository and registered (ITI-42)")
    found = dossier.run("find", "--patient", PATIENT)
    _expect({row["unique_id"] for row in found} == set(submitted), "find does not list exactly what was submitted")
    for row in found:
        _say(f"ITI-18  {row['title']}, {row['type_name']}, {row['size']:,} bytes")
    fetched = dossier.run("fetch", *submitted, "--out", str(data / "fetched"))
    for row in fetched:
        same = Path(row["file"]).read_bytes() == submitted[row["unique_id"]].read_bytes()
        _expect(same and row["checked"], f"{row['file']} is not what was submitted")
    _expect(len(fetched) == len(submitted), "not every document came back")
    _say(f"ITI-43  {len(fetched)} documents fetched, every byte as submitted")
    _trail(dossier, data, len(submitted))


def _trail(dossier: RunningDossier, data: Path, documents: int) -> None:
    """Wait until the records of everything have been delivered, show them, check their chain."""
    # Source and receiver each write one; of ITI-41 the source is the command line, which keeps no audit.
    wanted = {"ITI-8": 1, "ITI-41": documents, "ITI-42": 2 * documents, "ITI-18": 2, "ITI-43": 1}

    def complete(rows: Sequence[Mapping[str, Any]]) -> bool:
        return all(sum(row["event"] == event for row in rows) >= count for event, count in wanted.items())

    rows = _until(lambda: dossier.run("audit", "--limit", "1000"), complete)
    _expect(complete(rows), f"the audit trail is not complete: {len(rows)} records")
    _say(f"audit   {len(rows)} records:")
    for row in rows:
        who = " -> ".join(row["users"][:2])
        _say(f"        {row['recorded'][11:23]}  {row['event']:<20} {row['action'] or '-'} {row['outcome']}  {who}")
    verified = dossier.run("audit", "verify", "--data", str(data))
    _expect(verified["holds"], "the chain of audit records does not hold")
    _say(f"audit   the chain of {verified['records']} records holds")


def _until(ask: Callable[[], Any], enough: Callable[[Any], bool]) -> Any:
    deadline = time.monotonic() + DELIVERY_S
    while True:
        got = ask()
        if enough(got) or time.monotonic() > deadline:
            return got
        time.sleep(0.5)


@contextmanager
def serving(
    data: Path, config: Path | None = None, base_port: int | None = None, start_s: float = START_S
) -> Iterator[RunningDossier]:
    """``dossier serve all`` on free ports with its data in ``data``; stopped, and its end judged, on the way out."""
    base_port = free_base_port() if base_port is None else base_port
    more = ["--config", str(config)] if config else []
    command = _command("serve", "all", "--data", str(data), "--base-port", str(base_port), *more)
    log_path = data / "server.log"
    with log_path.open("wb") as log:
        server = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            command, stdout=subprocess.PIPE, stderr=log, env=_environment(), cwd=data
        )
    try:
        _await_ready(server, log_path, start_s)
        yield RunningDossier(base_port, data)
        server.send_signal(signal.SIGTERM)
        _expect(server.wait(60) == 0, "the services did not end well")
    finally:
        if server.poll() is None:
            server.terminate()
            try:
                server.wait(60)
            except subprocess.TimeoutExpired:
                server.kill()
        if server.stdout is not None:
            server.stdout.close()


def _await_ready(server: "subprocess.Popen[bytes]", log_path: Path, start_s: float) -> None:
    """Read ``ready`` from the server's output; it prints nothing before."""
    assert server.stdout is not None
    os.set_blocking(server.stdout.fileno(), False)
    got = b""
    deadline = time.monotonic() + start_s
    while b"ready\n" not in got:
        got += server.stdout.read() or b""
        if server.poll() is not None or time.monotonic() > deadline:
            tail = log_path.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-5:]
            raise CommandError("the services did not start", *tail)
        time.sleep(0.05)


def free_base_port() -> int:
    """A base port whose offsets are all free at the moment; from anywhere, so that two who ask at once differ."""
    bases = random.sample(range(10_000, 32_000, 100), 220)
    for base in bases:
        if all(_free(base + offset) for offset in OFFSETS):
            return base
    raise CommandError("no free ports for a demonstration")


def _free(port: int) -> bool:
    with socket.socket() as sock, socket.socket(type=socket.SOCK_DGRAM) as datagrams:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("127.0.0.1", port))
            datagrams.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _samples(data: Path, shared: Path | None) -> dict[Path, tuple[str, ...]]:
    """Our own documents, copied out of the package, and those beside the checkout when they are there."""
    own = data / "samples"
    own.mkdir()
    out: dict[Path, tuple[str, ...]] = {}
    for name, options in OWN.items():
        (own / name).write_bytes((resources.files("dossier") / "samples" / name).read_bytes())
        out[own / name] = options
    if shared is not None:
        out |= {shared / name: options for name, options in SHARED.items() if (shared / name).is_file()}
    return out


def _command(*arguments: str) -> list[str]:
    return [sys.executable, "-P", "-m", "dossier", *arguments]


def _environment() -> dict[str, str]:
    """Settings of the person's own environment would change the demonstration; our code is found as it was for us."""
    kept = {name: value for name, value in os.environ.items() if not name.upper().startswith("DOSSIER_")}
    root = str(Path(__file__).resolve().parent.parent)
    return kept | {"PYTHONPATH": os.pathsep.join(filter(None, [root, kept.get("PYTHONPATH")]))}


def _expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise CommandError(otherwise)


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
