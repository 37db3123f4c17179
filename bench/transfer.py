"""A document of 1 GiB in (ITI-41) and out (ITI-43): time against dd and sha1sum, memory of every process above idle."""

import hashlib
import http.client
import secrets
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.load import MARK
from bench.messages import BOUNDARY, MTOM_TYPE, PROVIDE_TAIL, REPOSITORY, patient_id, provide_head
from bench.servers import Dossier, resident_bytes
from ihe import ebrs, soap
from ihe.transactions import ITI_43

BLOCK = 2**20


@contextmanager
def peaks(pids: list[int]) -> Iterator[Callable[[], list[int]]]:
    """Watch the memory of processes, 50 times a second; the function gives the highest seen of each."""
    highest = {pid: resident_bytes(pid) for pid in pids}
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.02):
            for pid in pids:
                highest[pid] = max(highest[pid], resident_bytes(pid))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield lambda: [highest[pid] for pid in pids]
    finally:
        over.set()
        thread.join()


def send(server: Dossier, file: Path, head: bytes) -> bytes:
    link = http.client.HTTPConnection("127.0.0.1", server.repository, timeout=600)
    link.putrequest("POST", "/repository")
    link.putheader("Content-Type", MTOM_TYPE)
    link.putheader("Content-Length", str(len(head) + file.stat().st_size + len(PROVIDE_TAIL)))
    link.endheaders(head)
    with file.open("rb") as data:
        while block := data.read(BLOCK):
            link.send(block)
    link.send(PROVIDE_TAIL)
    answer = link.getresponse().read()
    link.close()
    return answer


def fetch(port: int, path: str, body: bytes) -> tuple[str, int]:
    """ITI-43 of one document: SHA-1 and size of the attachment as it arrives; nothing is kept."""
    envelope = soap.envelope(ITI_43.request_action, body, message_id="urn:uuid:0f2c1d1e-52b5-4f6a-a7b0-6a1d1c0b7f12")
    message = (
        (
            f'--{BOUNDARY}\r\nContent-Type: application/xop+xml; charset=UTF-8; type="application/soap+xml"\r\n'
            "Content-ID: <root@bench>\r\n\r\n"
        ).encode()
        + envelope
        + PROVIDE_TAIL
    )
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    link.request("POST", path, message, {"Content-Type": MTOM_TYPE})
    answer = link.getresponse()
    digest, size, pending = hashlib.sha1(usedforsecurity=False), 0, b""
    while b"\r\n\r\n" not in pending.partition(b"</s:Envelope>")[2]:
        pending += answer.read(65536)
    pending = pending.partition(b"</s:Envelope>")[2].partition(b"\r\n\r\n")[2]
    while block := answer.read(BLOCK):
        pending += block
        digest.update(memoryview(pending)[:-256])
        size += len(pending) - 256
        pending = pending[-256:]
    data = pending[: pending.rindex(b"\r\n--", 0, -4)]
    digest.update(data)
    link.close()
    return digest.hexdigest(), size + len(data)


def made(file: Path, gigabytes: float) -> tuple[str, float]:
    """A file of random bytes: its SHA-1, and the seconds that dd and sha1sum take for it together."""
    copy = file.with_suffix(".copy")
    count = int(gigabytes * 2**30) // 2**20
    subprocess.run(["dd", "if=/dev/urandom", f"of={file}", "bs=1M", f"count={count}", "status=none"], check=True)
    began = time.monotonic()
    subprocess.run(["dd", f"if={file}", f"of={copy}", "bs=1M", "conv=fsync", "status=none"], check=True)
    copied = time.monotonic() - began
    copy.unlink()
    began = time.monotonic()
    sha1 = subprocess.run(["sha1sum", file], check=True, capture_output=True, text=True).stdout.split()[0]
    return sha1, copied + time.monotonic() - began


def measure(bench: Any, server: Dossier, gigabytes: float, store: str) -> None:
    file = server.folder / "large"
    sha1, bare = made(file, gigabytes)
    pids = list(server.pids.values())
    idle = [resident_bytes(pid) for pid in pids]
    unique = f"{secrets.randbelow(10**15):015}"  # one registry sees the document of each store
    head = provide_head(patient_id(1), file.stat().st_size, sha1).replace(MARK, unique.encode())
    with peaks(pids) as peak:
        began = time.monotonic()
        answer = send(server, file, head)
        came_in = time.monotonic() - began
        if b"ResponseStatusType:Success" not in answer:
            raise RuntimeError(f"the large document was refused: {answer[:2000]!r}")
        began = time.monotonic()
        got, length = fetch(server.repository, "/repository", ebrs.retrieve_request([(REPOSITORY, f"2.25.2{unique}")]))
        went_out = time.monotonic() - began
    if (got, length) != (sha1, file.stat().st_size):
        raise RuntimeError("the large document did not come back byte for byte")
    grown = max(top - before for top, before in zip(peak(), idle, strict=True)) / 2**20
    file.unlink()
    text = f"{gigabytes:g} GiB, {store},"
    bench.say(f"{text} in", f"{came_in:.1f} s", f"dd+sha1sum {bare:.1f} s", f"{came_in / bare:.2f}", "≤ 2")
    bench.say(f"{text} out", f"{went_out:.1f} s", f"dd+sha1sum {bare:.1f} s", f"{went_out / bare:.2f}", "≤ 2")
    bench.say(f"{text} in and out, worst process", f"{grown:.0f} MiB above idle", "", f"{grown:.0f}", "MiB ≤ 64")
