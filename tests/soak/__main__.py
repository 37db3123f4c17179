"""The long soak: ``python -m tests.soak [--kills 200] [--seconds 900] [--seed S] [--postgres]``.

Everything runs on loopback, in a temporary directory that is removed when nothing was found. Exit status 1 when an
acknowledged document, entry or audit record was lost, doubled or damaged.
"""

import argparse
import random
import shutil
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path

from bench.servers import postgresql
from tests.soak.soaking import Plan, soak


def main():
    arguments = _arguments()
    seed = arguments.seed if arguments.seed is not None else random.randrange(10**6)
    began = time.monotonic()

    def say(text):
        print(f"{time.monotonic() - began:7.1f} s  {text}", flush=True)

    print(
        f"python -m tests.soak --kills {arguments.kills} --seconds {arguments.seconds:g} --seed {seed}"
        + (" --postgres" if arguments.postgres else ""),
        flush=True,
    )
    folder = Path(tempfile.mkdtemp(prefix="dossier-soak-", dir=arguments.folder))
    with postgresql() if arguments.postgres else nullcontext() as server:
        settings = {} if server is None else {"REGISTRY__DATABASE_URL": server.database("registry")}
        report = soak(Plan(seed=seed, kills=arguments.kills, seconds=arguments.seconds, settings=settings), folder, say)
    print("\n".join(report.lines()))
    if report.violations:
        print(f"the data are kept in {folder}")
        return 1
    shutil.rmtree(folder, ignore_errors=True)
    return 0


def _arguments():
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--kills", type=int, default=200, help="of each child process, as many as fit")
    parser.add_argument("--seconds", type=float, default=900, help="of load")
    parser.add_argument("--seed", type=int, help="of all choices; default: a new one, printed")
    parser.add_argument("--postgres", action="store_true", help="the registry on a PostgreSQL of its own")
    parser.add_argument("--folder", type=Path, help="where the temporary directory is made")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
