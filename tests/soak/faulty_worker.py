"""A child of ``dossier serve`` whose document store fails: ``dossier.worker`` with a ``FaultyStore`` around the real one.

``SOAK_FAULTS`` in the environment: percent, seed and the folder to write the counts of injected faults to, by blanks.
"""

import atexit
import json
import os
import sys
import time
from pathlib import Path

from dossier import worker
from tests.repository.faulty_store import Dice, FaultyStore


def spoil(app, percent, seed, folder):
    """Whatever room ``repository.app`` joins from now on has a store that fails."""
    real = app.Room

    def room(**named):
        faulty = FaultyStore(named["store"], Dice(f"{seed}:{os.getpid()}", percent), pause=lambda: time.sleep(0.2))
        atexit.register(_tell, faulty, folder / f"faults-{os.getpid()}.json")
        return real(**named | {"store": faulty})

    app.Room = room


def _tell(faulty, path):
    path.write_text(json.dumps([[operation, fault, count] for (operation, fault), count in faulty.injected.items()]))


def main():
    percent, seed, folder = os.environ["SOAK_FAULTS"].split(" ", 2)
    resolve = worker._resolve

    def resolved(target):
        if target.startswith("repository.app:"):
            from repository import app

            spoil(app, float(percent), seed, Path(folder))
        return resolve(target)

    worker._resolve = resolved
    return worker.main()


if __name__ == "__main__":
    sys.exit(main())
