"""One child process of ``dossier serve``: ``python -m dossier.worker FD``, started by ``dossier.supervisor`` alone.

Reads its ``Spec`` from the pipe FD, takes over the listening sockets, sets up logging, and calls the room's main
function. Exit status: 0 after SIGTERM, 1 after a crash, 2 when the settings cannot work.
"""

import contextlib
import gc
import importlib
import json
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import FrameType
from typing import Any, Final

from atna.store.engine import DatabaseRefused, is_unavailable
from dossier.logs import set_up_logging
from dossier.settings import Settings, SettingsError, room_arguments
from ihe.affinity_domain import CodeFileError
from repository.store.protocol import StoreRefused
from wire.processor import keep_to_one
from wire.tls import TlsFault

__all__ = ["Spec", "main", "run"]

ORPHAN_S: Final = 10.0
"""How long a child without a parent may finish what it is doing."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Spec:
    """What a child is told.

    ``sockets`` maps the room's socket names to inherited file descriptors; ``ready`` and ``alive`` are the pipes of
    ``dossier.supervisor``; ``settings`` is the raw settings tree, empty for a target that takes none; ``place`` as in
    ``dossier.supervisor.ChildPlan``.
    """

    name: str
    service: str
    target: str
    sockets: Mapping[str, int]
    ready: int
    alive: int
    settings: Mapping[str, Any]
    place: int | None = None


def main() -> int:
    """Entry point of the module."""
    with os.fdopen(int(sys.argv[1]), "rb") as pipe:
        told = pipe.read()
    try:
        spec = Spec(**json.loads(told))
    except json.JSONDecodeError:
        return 1  # the parent was killed before it had said what to do
    return run(spec)


def run(spec: Spec) -> int:
    """Call the room's function with its settings, sockets, ``started`` and ``stop``; returns the exit status."""
    stop = threading.Event()

    def asked_to_stop(_number: int, _frame: FrameType | None) -> None:
        # Not set() here: the handler may interrupt the very thread that holds the event's lock.
        threading.Thread(target=stop.set, name="stop", daemon=True).start()

    signal.signal(signal.SIGTERM, asked_to_stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_watch_parent, args=(spec.alive, stop), name="parent", daemon=True).start()
    sockets = {name: socket.socket(fileno=fd) for name, fd in spec.sockets.items()}
    try:
        arguments = _arguments(spec)
        room = _resolve(spec.target)
        room(**arguments, sockets=sockets, started=_started(spec.ready), stop=stop)
    except (SettingsError, DatabaseRefused, StoreRefused, CodeFileError, TlsFault) as error:
        _log.error("settings cannot work: %s", error)
        return 2
    except Exception as error:  # noqa: BLE001 - the process boundary: told with its trace to our own log, then it ends
        away = _database_away(error)
        if away is None:
            _log.exception("process ended by a defect")
        else:
            _log.error("process ended, for its database does not answer: %s", away)
        return 1
    return 0 if stop.is_set() else 1


def _database_away(error: BaseException) -> str | None:
    """What the driver says of a database that does not answer, which is no defect of ours; None for anything else."""
    seen: BaseException | None = error
    while seen is not None:
        if is_unavailable(seen):
            return str(getattr(seen, "orig", seen)).partition("\n")[0]
        seen = seen.__cause__
    return None


def _arguments(spec: Spec) -> dict[str, Any]:
    if not spec.settings:
        return {}
    settings = Settings.from_tree(spec.settings)
    set_up_logging(settings.admin, environment=settings.affinity_domain.environment, process=spec.name)
    if spec.place is not None and settings.limits.one_processor:
        keep_to_one(spec.place)
    return room_arguments(settings, spec.service, spec.target.partition(":")[2])


def _resolve(target: str) -> Callable[..., None]:
    module, _, function = target.partition(":")
    found: Callable[..., None] = getattr(importlib.import_module(module), function)
    return found


def _started(fd: int) -> Callable[[], None]:
    """A function that tells the parent, once, that this process takes requests."""
    lock = threading.Lock()
    told: list[bool] = []

    def started() -> None:
        with lock:
            if not told:
                told.append(True)
                _set_aside()
                with contextlib.suppress(BrokenPipeError):
                    os.write(fd, b"r")
                os.close(fd)

    return started


def _set_aside() -> None:
    """Nothing that is there now goes away while we serve: the collector need not walk over it again and again.

    These are some 130,000 objects, of modules above all; a walk over them halts every request for about 80 ms.
    """
    gc.collect()
    gc.freeze()


def _watch_parent(alive: int, stop: threading.Event) -> None:
    """End of file on ``alive``: the parent is gone. Finish, and if that takes too long, end anyway."""
    while os.read(alive, 1):
        pass
    stop.set()
    threading.Event().wait(ORPHAN_S)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
