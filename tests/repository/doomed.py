"""A repository that dies at a named step: ``python -m tests.repository.doomed FOLDER REGISTRY_URL STEP JSON``.

``JSON`` holds settings beside the usual ones. Prints its address, serves, and ends with ``os._exit`` at the step: nothing is flushed, closed or cleaned, as by kill -9.
"""

import json
import os
import sys
import threading
from dataclasses import replace
from pathlib import Path

STEPS = {
    "staged": ("index", "stage", "after"),
    "uploading": ("upload", "write", "before"),
    "written": ("upload", "finish", "before"),
    "uploaded": ("upload", "finish", "after"),
    "claiming": ("index", "claim", "before"),
    "claimed": ("index", "claim", "after"),
    "sending": ("registry", "register", "before"),
    "registered": ("registry", "register", "after"),
    "completed": ("index", "complete", "after"),
}
REMOVAL_STEPS = {
    "removing": ("index", "remove", "before"),
    "removed": ("index", "remove", "after"),
    "deleting": ("store", "delete", "before"),
    "deleted": ("store", "delete", "after"),
    "forgetting": ("index", "forget", "before"),
    "forgotten": ("index", "forget", "after"),
}
"""Step: what is called, its method, and whether death comes before or after the call."""


class Doomed:
    """Passes everything on to ``target`` and calls ``die`` at one method."""

    def __init__(self, target, method, moment, die):
        self._target, self._method, self._moment, self._die = target, method, moment, die

    def __getattr__(self, name):
        real = getattr(self._target, name)
        if name != self._method:
            return real

        def call(*arguments, **named):
            if self._moment == "before":
                self._die()
            result = real(*arguments, **named)
            if self._moment == "after":
                self._die()
            return result

        return call


class DoomedStore(Doomed):
    """Its uploads are doomed."""

    def begin(self, key):
        return Doomed(self._target.begin(key), self._method, self._moment, self._die)


def doomed(room, step, die):
    """The room, with ``die`` called at the step."""
    part, method, moment = (STEPS | REMOVAL_STEPS)[step]
    if part == "upload":
        return replace(room, store=DoomedStore(room.store, method, moment, die))
    return replace(room, **{part: Doomed(getattr(room, part), method, moment, die)})


def main():
    from repository.actor import RepositoryActor
    from tests.repository.stand import joined, served

    folder, registry_url, step, more = sys.argv[1:]
    with joined(Path(folder), registry_url, **json.loads(more)) as room:
        actor = RepositoryActor(doomed(room, step, lambda: os._exit(9)))
        with served(actor, "/repository", name="repository") as address:
            print(address, flush=True)
            threading.Event().wait(60)


if __name__ == "__main__":
    main()
