"""The parent of every process of ``dossier serve``: it starts them, brings back the dead, and ends them all.

Each child is ``python -m dossier.worker``. What it inherits, by file descriptor:

sockets  bound here before the first child starts, so a port in use is one line and no half-started service
spec     a pipe with one JSON object (see ``dossier.worker.Spec``); settings never stand on a command line
ready    a pipe the child writes one byte to when it takes requests
alive    a pipe nobody writes to: its end of file tells a child that its parent is gone, however it went

A dead child is started again: at once the first time, then after delays that double up to ``LATEST_RESTART_S``; one
that lived ``STEADY_AFTER_S`` begins anew. The children run in process groups of their own, so Ctrl-C in a terminal
reaches only the parent, which drains the others in order.
"""

import contextlib
import json
import logging
import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Final

from prometheus_client import multiprocess

__all__ = ["ChildPlan", "Supervisor"]

FIRST_RESTART_S: Final = 0.1
LATEST_RESTART_S: Final = 15.0
STEADY_AFTER_S: Final = 30.0
DRAIN_S: Final = 35.0
"""A little more than the longest drain of a service, after which children are killed."""
LAST_S: Final = 2.0
"""What children get whose turn to end comes when that is over: what they do for others has ended already."""
FATAL_STATUS: Final = 2
"""A child that ends with this cannot run with these settings: starting it again changes nothing."""
START_S: Final = 60.0
"""How long a child may keep failing before the whole was ever ready, e.g. because its database is not up yet."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ChildPlan:
    """One process to keep alive.

    ``name`` is unique, e.g. ``registry-1``; ``service`` groups children that share metrics, e.g. ``registry``;
    ``target`` is ``module:function``, called as the contract of a room says; ``sockets`` are already listening;
    ``settings`` is handed to the child as JSON; ``stop_order``: lower numbers are drained first. ``place`` counts the
    children that keep to one processor each (``wire.processor``).
    """

    name: str
    service: str
    target: str
    sockets: Mapping[str, socket.socket]
    settings: Mapping[str, Any] = field(default_factory=dict)
    stop_order: int = 0
    place: int | None = None


@dataclass(slots=True)
class _Child:
    plan: ChildPlan
    process: "subprocess.Popen[bytes] | None" = None
    ready_fd: int | None = None
    ready: bool = False
    started_at: float = 0.0
    restart_at: float = 0.0
    failures: int = 0

    @property
    def alive(self) -> bool:
        return self.process is not None


class Supervisor:
    """Runs a fixed list of children until told to stop.

    ``on_ready`` is called once, when every child has said that it takes requests and ``probe`` (asked until it holds)
    agrees. ``run`` returns 0 after SIGTERM or SIGINT, 1 when a child could not be brought up at all, 2 when one said
    its settings cannot work.
    """

    def __init__(
        self,
        plans: Sequence[ChildPlan],
        *,
        on_ready: Callable[[], None],
        probe: Callable[[], bool] = lambda: True,
        drain_s: float = DRAIN_S,
        start_s: float = START_S,
    ) -> None:
        self._children = [_Child(plan) for plan in plans]
        self._on_ready = on_ready
        self._probe = probe
        self._drain_s = drain_s
        self._give_up_at = time.monotonic() + start_s
        self._announced = False
        self._stopping = False
        self._impatient = False
        self._status: int | None = None
        self._selector = selectors.DefaultSelector()
        self._alive_read, self._alive_write = os.pipe()
        self._metrics = Path(tempfile.mkdtemp(prefix="dossier-metrics-"))

    def run(self) -> int:
        """Start everything and keep it running; blocks."""
        with self._signals():
            try:
                while not self._stopping and self._status is None:
                    self._start_due()
                    self._announce()
                    self._wait(self._pause())
                    self._reap()
                self._drain()
            finally:
                self._kill_all()
                self._close()
        return self._status or 0

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """SIGTERM and SIGINT ask for a stop, a second one for an end at once; SIGCHLD only wakes the loop."""
        wake_read, wake_write = socket.socketpair()
        wake_read.setblocking(False)
        wake_write.setblocking(False)
        self._selector.register(wake_read, selectors.EVENT_READ, None)
        before = {
            signal.SIGTERM: signal.signal(signal.SIGTERM, self._asked_to_stop),
            signal.SIGINT: signal.signal(signal.SIGINT, self._asked_to_stop),
            signal.SIGCHLD: signal.signal(signal.SIGCHLD, lambda _number, _frame: None),
        }
        old_fd = signal.set_wakeup_fd(wake_write.fileno(), warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(old_fd)
            for number, handler in before.items():
                signal.signal(number, handler)
            wake_read.close()
            wake_write.close()

    def _asked_to_stop(self, _number: int, _frame: FrameType | None) -> None:
        self._impatient = self._stopping
        self._stopping = True

    def _start_due(self) -> None:
        now = time.monotonic()
        for child in self._children:
            if not child.alive and child.restart_at <= now:
                self._start(child)

    def _start(self, child: _Child) -> None:
        plan = child.plan
        spec_read, spec_write = os.pipe()
        ready_read, ready_write = os.pipe()
        metrics = self._metrics / plan.service
        metrics.mkdir(exist_ok=True)
        spec = {
            "name": plan.name,
            "service": plan.service,
            "target": plan.target,
            "sockets": {name: sock.fileno() for name, sock in plan.sockets.items()},
            "ready": ready_write,
            "alive": self._alive_read,
            "settings": plan.settings,
            "place": plan.place,
        }
        child.process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            [sys.executable, "-P", "-m", "dossier.worker", str(spec_read)],
            pass_fds=(spec_read, ready_write, self._alive_read, *(s.fileno() for s in plan.sockets.values())),
            stdin=subprocess.DEVNULL,
            env=_environment(metrics),
            process_group=0,
        )
        os.close(spec_read)
        os.close(ready_write)
        with os.fdopen(spec_write, "wb") as pipe, contextlib.suppress(BrokenPipeError):
            pipe.write(json.dumps(spec).encode())
        child.ready_fd, child.ready = ready_read, False
        child.started_at = time.monotonic()
        self._selector.register(ready_read, selectors.EVENT_READ, child)
        _log.info("child started", extra={"child": plan.name, "child_pid": child.process.pid})

    def _announce(self) -> None:
        if self._announced or not all(child.ready for child in self._children):
            return
        if self._probe():
            self._announced = True
            self._on_ready()

    def _pause(self) -> float:
        """Seconds until something is due; the loop also wakes for every signal and every ready byte."""
        now = time.monotonic()
        due = [child.restart_at - now for child in self._children if not child.alive]
        if not self._announced and all(child.ready for child in self._children):
            due.append(0.05)
        return max(0.0, min([*due, 5.0]))

    def _wait(self, timeout_s: float) -> None:
        for key, _events in self._selector.select(timeout_s):
            if key.data is None:
                with contextlib.suppress(BlockingIOError):
                    while key.fileobj.recv(4096):  # type: ignore[union-attr]
                        pass
            else:
                self._heard(key.data)

    def _heard(self, child: _Child) -> None:
        assert child.ready_fd is not None
        if os.read(child.ready_fd, 1):
            child.ready = True
            _log.info("child ready", extra={"child": child.plan.name})
        self._forget_ready(child)

    def _forget_ready(self, child: _Child) -> None:
        if child.ready_fd is not None:
            self._selector.unregister(child.ready_fd)
            os.close(child.ready_fd)
            child.ready_fd = None

    def _reap(self) -> None:
        for child in self._children:
            if child.process is None or child.process.poll() is None:
                continue
            status, pid = child.process.returncode, child.process.pid
            lived = time.monotonic() - child.started_at
            child.process, child.ready = None, False
            self._forget_ready(child)
            multiprocess.mark_process_dead(pid, str(self._metrics / child.plan.service))  # type: ignore[no-untyped-call]
            if not self._stopping:
                self._plan_restart(child, status, lived)

    def _plan_restart(self, child: _Child, status: int, lived: float) -> None:
        child.failures = 0 if lived >= STEADY_AFTER_S else child.failures + 1
        delay = min(FIRST_RESTART_S * 2 ** max(0, child.failures - 1), LATEST_RESTART_S)
        child.restart_at = time.monotonic() + delay
        _log.warning(
            "child ended, restarting",
            extra={"child": child.plan.name, "exit_status": status, "lived_s": round(lived, 1), "delay_s": delay},
        )
        if status == FATAL_STATUS:
            self._give_up(child, FATAL_STATUS)
        elif time.monotonic() > self._give_up_at:
            self._give_up(child, 1)

    def _give_up(self, child: _Child, status: int) -> None:
        """Only while starting: a service that once answered is brought back for ever."""
        if not self._announced:
            _log.error("child cannot start, giving up", extra={"child": child.plan.name})
            self._status = status

    def _drain(self) -> None:
        """Tell the children to finish, those of the lowest order first, and wait for them, bounded as a whole.

        Nobody is started again, so their sockets are let go: whoever comes now is refused and goes elsewhere, where he
        would wait in the queue of a socket that nobody accepts from.
        """
        deadline = time.monotonic() + self._drain_s
        for order in sorted({child.plan.stop_order for child in self._children}):
            group = [child for child in self._children if child.plan.stop_order == order]
            for child in group:
                if child.process is not None:
                    child.process.terminate()
                for listening in child.plan.sockets.values():
                    listening.close()
            until = max(deadline, time.monotonic() + LAST_S)
            while any(child.alive for child in group) and time.monotonic() < until and not self._impatient:
                self._wait(min(0.5, max(0.0, until - time.monotonic())))
                self._reap()

    def _kill_all(self) -> None:
        for child in self._children:
            if child.process is not None:
                _log.warning("child did not end in time, killed", extra={"child": child.plan.name})
                child.process.kill()
                child.process.wait()
                child.process = None
            self._forget_ready(child)

    def _close(self) -> None:
        os.close(self._alive_read)
        os.close(self._alive_write)
        self._selector.close()
        shutil.rmtree(self._metrics, ignore_errors=True)


def _environment(metrics: Path) -> dict[str, str]:
    """The child's environment: our code found wherever it was found for the parent, one metrics directory a service.

    glibc gives each thread memory of its own and keeps much of what is freed there: with dozens of threads that pass
    documents on it took three times the memory. Two areas are enough for threads that take turns anyway.
    """
    root = str(Path(__file__).resolve().parent.parent)
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    return {"MALLOC_ARENA_MAX": "2", **os.environ, "PYTHONPATH": path, "PROMETHEUS_MULTIPROC_DIR": str(metrics)}
