"""Syslog records a second into the audit service: durable, indexed, confirmed; ``dossier serve audit`` alone.

Senders over mutual TLS send realistic records of about 2.5 kB as fast as they are taken, a thousand on each connection,
end it in order and wait for the confirmation; only confirmed records count. The records are made beforehand by our own
recorder; for each only its two time stamps are written anew, so that no two are equal and the load costs little.

The load runs on the same cores, in a process of its own: ``python -m bench.audit_receiver PORT SECONDS SENDERS CERTS``.
"""

import itertools
import json
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import create_engine, text

from atna import events, participants
from atna.iti20_record_audit_event import encode_frame
from atna.message import Outcome
from atna.recorder import Recorder
from bench.messages import find_documents
from bench.servers import cpu_by_group, cpu_seconds, dossier
from ihe.xua import Caller

GOAL = 2000
SENDERS = 8
BATCH = 1000
BLOCK = 50
STAMP = len("2026-03-01T10:00:00.000000Z")
PEER = Caller("10.1.2.3", "CN=node-1.hospital.example.org,O=Hospital A,C=LU")
OID = "1.3.6.1.4.1.21367.2005.3.7"


def records(count: int) -> list[bytes]:
    """Messages as our services send them: two queries to one registration, of many patients."""
    at = datetime(2026, 3, 1, tzinfo=UTC).timestamp()
    recorder = Recorder(
        "dossier-registry@host", "urn:oid:1.2.3", "dossier-registry", "host", lambda: at, environment="test"
    )
    parties = participants.serving(PEER, "https://registry.example.org:8010/registry", "1234")
    made = []
    for number in range(count):
        patient = f"p{number}^^^&{OID}&ISO"
        if number % 3:
            event = events.stored_query(
                parties,
                query_id="urn:uuid:14d4debf-8f97-4251-9a74-a90016b0af0d",
                request=find_documents(patient),
                patient_id=patient,
                outcome=Outcome.SUCCESS,
            )
        else:
            set_id = f"1.3.6.1.4.1.21367.2026.{number}"
            event = events.registered(parties, patient_id=patient, submission_set_id=set_id, outcome=Outcome.SUCCESS)
        made.append(recorder.record(event))
    return made


class Stencil:
    """A frame whose two time stamps are written anew each time."""

    def __init__(self, message: bytes) -> None:
        self._frame = bytearray(encode_frame(message))
        stamp = message.split(b" ", 2)[1]
        first = self._frame.index(stamp)
        self._places = (first, self._frame.index(stamp, first + 1))
        assert len(stamp) == STAMP

    def __call__(self, stamp: bytes) -> bytes:
        for place in self._places:
            self._frame[place : place + STAMP] = stamp
        return bytes(self._frame)


@dataclass
class Load:
    """What one sender, or all of them, got done; seconds from the end of a connection to its confirmation."""

    confirmed: int = 0
    failed: int = 0
    waits: list[float] = field(default_factory=list)


def _stamps(sender: int) -> Iterator[bytes]:
    """Of now, in microseconds, never one twice: each sender has its own residue."""
    last = 0
    for _ in itertools.count():
        last = max(last + 1, int(time.time() * 1_000_000) // SENDERS)
        seconds, fraction = divmod(last * SENDERS + sender, 1_000_000)
        yield b"%b.%06dZ" % (_second(seconds), fraction)


def _second(seconds: int) -> bytes:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)).encode()


def _send(port: int, context: ssl.SSLContext, sender: int, until: float, load: Load) -> None:
    stencils = itertools.cycle([Stencil(message) for message in records(97)])
    stamps = _stamps(sender)
    while time.monotonic() < until:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=60) as plain:
                stream = context.wrap_socket(plain)
                for _ in range(BATCH // BLOCK):
                    stream.sendall(b"".join(next(stencils)(next(stamps)) for _ in range(BLOCK)))
                ended = time.monotonic()
                stream.unwrap().close()
                load.waits.append(time.monotonic() - ended)
                load.confirmed += BATCH
        except OSError:
            load.failed += BATCH


def _generate(port: int, seconds: float, senders: int, certs: Path) -> None:
    """The process of the load: prints one line of JSON."""
    context = ssl.create_default_context(cafile=certs / "ca.pem")
    context.check_hostname = False
    context.load_cert_chain(certs / "client.pem", certs / "client.key")
    loads = [Load() for _ in range(senders)]
    began = time.monotonic()
    threads = [
        threading.Thread(target=_send, args=(port, context, number, began + seconds, load))
        for number, load in enumerate(loads)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.monotonic() - began
    waits = sorted(wait for load in loads for wait in load.waits) or [0.0]
    told = {
        "confirmed": sum(load.confirmed for load in loads),
        "failed": sum(load.failed for load in loads),
        "seconds": took,
        "p50": waits[len(waits) // 2],
        "longest": waits[-1],
        "cpu": time.process_time(),
    }
    print(json.dumps(told))


@dataclass(frozen=True)
class Rate:
    """One measurement; CPU in seconds by group of processes."""

    confirmed: int
    failed: int
    seconds: float
    p50: float
    longest: float
    cpu: dict[str, float]
    indexed: int

    @property
    def per_second(self) -> float:
        return self.confirmed / self.seconds


def measure(url: str, folder: Path, seconds: float, *, postmaster: int = 0, workers: int = 1) -> Rate:
    """Send for ``seconds`` into an audit service of its own on an empty database."""
    folder.mkdir()
    certs = folder / "certs"
    command = [sys.executable, "-m", "dossier", "certs", "--out", str(certs), "--client", "client"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    settings = {
        "AUDIT__DATABASE_URL": url,
        "AUDIT__WORKERS": str(workers),
        "TLS__CERTIFICATE": str(certs / "server.pem"),
        "TLS__KEY": str(certs / "server.key"),
        "TLS__CA": str(certs / "ca.pem"),
    }
    with dossier(folder, "audit", **settings) as server:
        command = [sys.executable, "-m", "bench.audit_receiver", str(server.base_port + 41), str(seconds)]
        before = _cpu(server.pids, postmaster)
        done = subprocess.run([*command, str(SENDERS), str(certs)], check=True, capture_output=True, text=True)
        cpu = {name: used - before.get(name, 0.0) for name, used in _cpu(server.pids, postmaster).items()}
        told = json.loads(done.stdout)
        cpu["load"] = told.pop("cpu")
    return Rate(**told, cpu=cpu, indexed=_indexed(url))


def _cpu(pids: dict[str, int], postmaster: int) -> dict[str, float]:
    if postmaster:
        return cpu_by_group(pids, postmaster)
    return {name: cpu_seconds(pid) for name, pid in pids.items()}


def _indexed(url: str) -> int:
    """Records that a search by patient finds."""
    engine = create_engine(url)
    with engine.connect() as connection:
        found = connection.execute(text("SELECT count(*) FROM record_patient")).scalar_one()
    engine.dispose()
    return int(found)


def lines(name: str, rate: Rate) -> Iterator[str]:
    """For people."""
    verdict = "" if rate.per_second >= GOAL and not rate.failed and rate.indexed >= rate.confirmed else "  NOT REACHED"
    yield (
        f"audit receiver, {name}, {rate.seconds:.0f} s: {rate.per_second:.0f} records/s confirmed, goal {GOAL}{verdict}"
        f"; end of a connection to its confirmation p50 {rate.p50 * 1000:.0f} ms, longest {rate.longest * 1000:.0f} ms"
    )
    each = ", ".join(f"{group} {1e6 * used / max(1, rate.confirmed):.0f}" for group, used in rate.cpu.items() if used)
    yield f"    {rate.confirmed} confirmed, {rate.failed} not, {rate.indexed} indexed; µs CPU a record: {each}"


if __name__ == "__main__":
    _generate(int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
    sys.stdout.flush()
    os._exit(0)
