"""A repository's worker in a process of its own: ``python -m tests.repository.apart FOLDER REGISTRY_URL JSON``.

``JSON`` holds settings beside the usual ones. Joined as ``dossier serve`` joins it, with all limits at their defaults. Prints its address and serves until its standard
input ends.
"""

import json
import os
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Apart:
    """``address`` for ITI-41 and ITI-43, and the process."""

    address: str
    process: subprocess.Popen

    def resident_bytes(self, peak=False):
        """What the process holds in memory, now or at most since ``forget_peak``."""
        field = "VmHWM" if peak else "VmRSS"
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith(field)).split()[1]) * 1024

    def forget_peak(self):
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")


@contextmanager
def apart(folder, registry_url, **settings):
    command = [sys.executable, "-m", "tests.repository.apart", str(folder), registry_url, json.dumps(settings)]
    with (folder / "log").open("wb") as log:
        # As the supervisor starts its children.
        environment = {"MALLOC_ARENA_MAX": "2", **os.environ}
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdin=-1, stdout=-1, stderr=log)
        try:
            yield Apart(process.stdout.readline().decode().strip(), process)
        finally:
            process.stdin.close()
            process.wait(20)
            process.stdout.close()


def main():
    from atna.settings import AuditSettings
    from repository import app
    from tests.repository.stand import settings_for
    from wire.settings import AffinityDomainSettings, LimitSettings, TlsSettings

    listener = socket.create_server(("127.0.0.1", 0))
    stop = threading.Event()

    def until_the_end():
        sys.stdin.read()
        stop.set()

    threading.Thread(target=until_the_end, daemon=True).start()
    app.worker(
        settings_for(Path(sys.argv[1]), sys.argv[2], **json.loads(sys.argv[3])),
        AffinityDomainSettings(),
        AuditSettings(),
        TlsSettings(),
        LimitSettings(),
        sockets={"soap": listener},
        started=lambda: print(f"http://127.0.0.1:{listener.getsockname()[1]}{app.PATH}", flush=True),
        stop=stop,
    )


if __name__ == "__main__":
    main()
