"""``dossier serve all`` as a thing to be killed: started, its processes found and ended by ``kill -9``, started again.

Only processes this object started are ever signalled: a child is killed when its parent is our own supervisor, an
orphan when it is on the list of children our own supervisor had.
"""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

from dossier.demo import free_base_port
from dossier.services import SERVICES

__all__ = ["CHILDREN", "KINDS", "Server", "databases", "serving"]

CHILDREN = ("registry-1", "registry-single", "repository-1", "repository-single", "audit-1", "audit-single")
SUPERVISOR, EVERYTHING = "supervisor", "everything"
KINDS = (*CHILDREN, SUPERVISOR, EVERYTHING)
"""What can be killed: one child, the supervisor (its children find out), or all at once, as when the power fails."""

ROOT = Path(__file__).resolve().parents[2]
START_S = 90
STOP_S = 90
# A child that is killed again and again waits up to 15 s before it is started anew: kills would meet the pause, not the
# service. So the longest pause is shorter here; nothing else of the product is changed.
PROGRAM = (
    "import dossier.supervisor as s; s.LATEST_RESTART_S = {pause!r}; from dossier.__main__ import main; "
    "real = s.subprocess.Popen; s.subprocess.Popen = lambda command, **more: real("
    "[{child!r} if one == 'dossier.worker' else one for one in command], **more); "
    "import sys; sys.argv[0] = 'dossier'; main()"
)


def databases(new):
    """Settings that give each service a database of its own; ``new(name)`` makes one and gives its URL."""
    return {f"{name.upper()}__DATABASE_URL": new(name) for name in SERVICES}


class Server:
    """One data directory, one base port, at most one supervisor at a time; ``settings`` as ``REGISTRY__WORKERS="2"``.

    ``child``: the module that its children run, read at each start.
    """

    def __init__(self, data, *, longest_pause_s=1.0, child="dossier.worker", **settings):
        self.child = child
        self.data = data
        self.base_port = free_base_port()
        self.log = data / "server.log"
        self.kills = dict.fromkeys(KINDS, 0)
        kept = {name: value for name, value in os.environ.items() if not name.upper().startswith("DOSSIER_")}
        given = {f"DOSSIER_{name}": value for name, value in settings.items()}
        path = os.pathsep.join(filter(None, [str(ROOT), kept.get("PYTHONPATH")]))
        self.environment = kept | given | {"PYTHONPATH": path, "DOSSIER_ADMIN__LOG_FORMAT": "json"}
        self._pause = longest_pause_s
        self._process = None
        self._pids = {}
        self._read_to = 0

    @property
    def registry(self):
        return f"http://127.0.0.1:{self.base_port + 10}/registry"

    @property
    def feed(self):
        return "127.0.0.1", self.base_port + 11

    @property
    def repository(self):
        return f"http://127.0.0.1:{self.base_port + 20}/repository"

    # ------------------------------------------------------------------------------------------ start and stop

    def start(self):
        """Start it and wait until it is ready; orphans of a killed supervisor may keep the ports for some seconds."""
        deadline = time.monotonic() + START_S
        while True:
            self._spawn()
            if self._became_ready(deadline):
                return
            status = self._process.wait()
            self._close()
            if status != 2 or time.monotonic() > deadline:
                raise RuntimeError(f"dossier ended with {status} while starting; see {self.log}")
            time.sleep(0.2)

    def _spawn(self):
        command = [sys.executable, "-P", "-c", PROGRAM.format(pause=self._pause, child=self.child), "serve", "all"]
        command += ["--data", str(self.data), "--base-port", str(self.base_port)]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=log, env=self.environment, cwd=self.data, start_new_session=True
            )
        os.set_blocking(self._process.stdout.fileno(), False)

    def _became_ready(self, deadline):
        got = b""
        while b"ready\n" not in got:
            got += self._process.stdout.read() or b""
            if self._process.poll() is not None:
                return False
            if time.monotonic() > deadline:
                raise RuntimeError(f"dossier was not ready in {START_S} s; see {self.log}")
            time.sleep(0.05)
        return True

    def stop(self):
        """SIGTERM; the exit status."""
        self._process.send_signal(signal.SIGTERM)
        status = self._process.wait(STOP_S)
        self._close()
        return status

    def _close(self):
        self._process.stdout.close()
        self._process = None

    def end(self):
        """Whatever is left of it."""
        if self._process is not None:
            self._freeze_and_kill()

    # -------------------------------------------------------------------------------------------------- kills

    def pid(self, child):
        """The process id of a child that runs now, ``None`` while it is being restarted."""
        self._read_log()
        pid = self._pids.get(child)
        if pid is None or self._process is None or _parent(pid) != self._process.pid:
            return None
        return pid

    def kill(self, kind):
        """``kill -9``; False when there was nothing to kill. The supervisor and everything are started again."""
        if kind == EVERYTHING:
            self._freeze_and_kill()
        elif kind == SUPERVISOR:
            self._process.kill()
            self._process.wait()
            self._close()
        elif not self.signal(kind, signal.SIGKILL):
            return False
        self.kills[kind] += 1
        if self._process is None:
            self.start()
        return True

    def signal(self, child, number):
        """Send a signal to a child; False when it does not run now."""
        pid = self.pid(child)
        if pid is None:
            return False
        with suppress(ProcessLookupError):
            os.kill(pid, number)
            return True
        return False

    def _freeze_and_kill(self):
        """The supervisor is stopped first, so that it starts nothing anew meanwhile."""
        supervisor = self._process.pid
        self._process.send_signal(signal.SIGSTOP)
        self._read_log()
        for pid in self._pids.values():
            if _parent(pid) == supervisor:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self._process.kill()
        self._process.wait()
        self._close()

    def _read_log(self):
        """Which child has which process id, from the lines the supervisor wrote since we last looked."""
        with self.log.open("rb") as log:
            log.seek(self._read_to)
            text = log.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._read_to += len(whole)
        for line in whole.splitlines():
            if b"child_pid" in line:
                row = json.loads(line)
                self._pids[row["child"]] = row["child_pid"]

    # ------------------------------------------------------------------------------------------------ commands

    def command(self, *arguments):
        """``dossier … --json`` in a process of its own: exit status, parsed output, errors."""
        done = subprocess.run(
            [sys.executable, "-P", "-m", "dossier", *arguments, "--json", "--base-port", str(self.base_port)],
            capture_output=True,
            text=True,
            env=self.environment,
            cwd=self.data,
        )
        return done.returncode, json.loads(done.stdout) if done.stdout.strip() else None, done.stderr

    def tracebacks(self):
        """Traces in the log by their last line, counted, with the first of each: not wrong by themselves."""
        found = {}
        for line in self.log.read_text(errors="replace").splitlines():
            if "Traceback" in line:
                text = str(json.loads(line).get("exception", line)) if line.startswith("{") else line
                last = text.strip().splitlines()[-1][:160]
                count, first = found.get(last, (0, text))
                found[last] = count + 1, first
        return found


def _parent(pid):
    """The parent of a process that is no zombie, ``None`` if there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] == "Z" else int(fields[1])


@contextmanager
def serving(data, **settings):
    """A ready ``Server``; nothing of it is left afterwards."""
    server = Server(data, **settings)
    try:
        server.start()
        yield server
    finally:
        server.end()
