"""A repository that dies at any call it makes: ``python -m tests.repository.dying FOLDER REGISTRY_URL JSON``.

``JSON``: ``job`` (``serve``, or ``sweep`` once), ``part``, ``method``, ``moment`` and ``nth`` of the call it ends at by
``os._exit``: nothing is flushed, closed or cleaned, as by kill -9; ``fault`` (operation, fault) of its store, or null;
``settings`` beside the usual ones. What serves prints its address first.
"""

import json
import os
import sys
import threading
from dataclasses import replace
from pathlib import Path

from tests.repository.doomed import Doomed, DoomedStore
from tests.repository.faulty_store import Fault, FaultyStore, Script

WINDOW_S = 30


def dying(room, plan):
    left = [plan["nth"]]

    def die():
        left[0] -= 1
        if not left[0]:
            os._exit(9)

    if plan["fault"]:
        operation, fault = plan["fault"]
        room = replace(room, store=FaultyStore(room.store, Script(operation, Fault(fault), times=9)))
    call = (plan["method"], plan["moment"], die)
    if plan["part"] == "upload":
        return replace(room, store=DoomedStore(room.store, *call))
    return replace(room, **{plan["part"]: Doomed(getattr(room, plan["part"]), *call)})


def main():
    from repository import sweep
    from repository.actor import RepositoryActor
    from tests.repository.stand import joined, served

    folder, registry_url, text = sys.argv[1:]
    plan = json.loads(text)
    with joined(Path(folder), registry_url, **plan["settings"]) as room:
        doomed = dying(room, plan)
        if plan["job"] == "sweep":
            room.clock.forward(WINDOW_S)
            sweep.run_once(doomed, staging_age_s=0)
            return
        with served(RepositoryActor(doomed), "/repository", name="repository") as address:
            print(address, flush=True)
            threading.Event().wait(60)


if __name__ == "__main__":
    main()
