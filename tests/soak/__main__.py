"""The long soaks: ``python -m tests.soak [--kills 200] [--seconds 900] [--seed S] [--postgres]`` kills processes under
load, ``python -m tests.soak writers [--threads 16] [--seconds 600] [--seed S] [--postgres]`` has many writers change the
same few objects, ``python -m tests.soak documents [--documents 10000] [--faults 5] [--threads 8] [--seed S] [--bucket]``
brings documents into a repository whose store, a folder or a bucket, fails in so many percent of its operations,
``python -m tests.soak hostile [--octets 10000000] [--threads 8] [--seed S]`` sends random and mutated octets to the
syslog receiver, ``python -m tests.soak deliveries [--transactions 10000] [--kills 100] [--threads 6] [--seed S]`` has
the audit service down and then killed again and again.

Everything runs on loopback, in a temporary directory that is removed when nothing was found. Exit status 1 when an
acknowledged document, entry or audit record was lost, doubled or damaged, or a request was not answered in time.
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
from tests.object_store import running_seaweedfs
from tests.soak import contending
from tests.soak.deliveries import DeliveriesPlan, deliver
from tests.soak.documents import DocumentsPlan, submit
from tests.soak.hostile import HostilePlan, feed
from tests.soak.server import databases
from tests.soak.soaking import Plan, soak

MODES = ("kills", "writers", "documents", "hostile", "deliveries")


def main():
    arguments = _arguments()
    seed = arguments.seed if arguments.seed is not None else random.randrange(10**6)
    began = time.monotonic()

    def say(text):
        print(f"{time.monotonic() - began:7.1f} s  {text}", flush=True)

    if arguments.mode == "documents":
        return _documents(arguments, seed, say)
    if arguments.mode == "hostile":
        return _hostile(arguments, seed, say)
    if arguments.mode == "deliveries":
        return _deliveries(arguments, seed, say)
    writers = arguments.mode == "writers"
    kills = 200 if arguments.kills is None else arguments.kills
    seconds = arguments.seconds or (600 if writers else 900)
    threads = arguments.threads or 16
    sizes = f"writers --threads {threads}" if writers else f"--kills {kills}"
    where = " --postgres" if arguments.postgres else ""
    print(f"python -m tests.soak {sizes} --seconds {seconds:g} --seed {seed}{where}", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="dossier-soak-", dir=arguments.folder))
    with postgresql() if arguments.postgres else nullcontext() as server:
        settings = {} if server is None else databases(server.database)
        if writers:
            settings |= {"REGISTRY__WORKERS": "2"}
            plan = contending.Plan(seed, threads, seconds, settings)
            report = contending.contend(plan, folder, say)
        else:
            report = soak(Plan(seed=seed, kills=kills, seconds=seconds, settings=settings), folder, say)
    return _told(report, folder)


def _documents(arguments, seed, say):
    sizes = f"--documents {arguments.documents} --faults {arguments.faults:g} --threads {arguments.threads or 8}"
    print(f"python -m tests.soak documents {sizes} --seed {seed}{' --bucket' if arguments.bucket else ''}", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="dossier-soak-", dir=arguments.folder))
    with running_seaweedfs() if arguments.bucket else nullcontext() as bucket:
        threads = arguments.threads or 8
        plan = DocumentsPlan(seed, arguments.documents, arguments.faults, threads, bucket=bucket)
        return _told(submit(plan, folder, say), folder)


def _hostile(arguments, seed, say):
    plan = HostilePlan(seed, arguments.octets, arguments.threads or 8)
    print(f"python -m tests.soak hostile --octets {plan.octets} --threads {plan.threads} --seed {seed}", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="dossier-soak-", dir=arguments.folder))
    return _told(feed(plan, folder, say), folder)


def _deliveries(arguments, seed, say):
    kills = 100 if arguments.kills is None else arguments.kills
    plan = DeliveriesPlan(seed, arguments.transactions, kills, arguments.threads or 6)
    sizes = f"--transactions {plan.transactions} --kills {plan.kills} --threads {plan.threads}"
    print(f"python -m tests.soak deliveries {sizes} --seed {seed}", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="dossier-soak-", dir=arguments.folder))
    return _told(deliver(plan, folder, say), folder)


def _told(report, folder):
    print("\n".join(report.lines()))
    if report.violations:
        print(f"the data are kept in {folder}")
        return 1
    shutil.rmtree(folder, ignore_errors=True)
    return 0


def _arguments():
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("mode", nargs="?", choices=MODES, default="kills")
    parser.add_argument(
        "--threads", type=int, help="that write at once; default: 16 writers, 8 sources of documents, 6 of deliveries"
    )
    parser.add_argument("--documents", type=int, default=10_000, help="to be brought in")
    parser.add_argument("--faults", type=float, default=5, help="percent of the store's operations that fail")
    parser.add_argument("--octets", type=int, default=10_000_000, help="hostile ones, to be sent")
    parser.add_argument("--transactions", type=int, default=10_000, help="while the audit service is down")
    parser.add_argument(
        "--kills", type=int, help="of each child process, default 200; of the audit service, default 100"
    )
    parser.add_argument("--seconds", type=float, help="of load; default: 900, or 600 of writers")
    parser.add_argument("--seed", type=int, help="of all choices; default: a new one, printed")
    parser.add_argument("--postgres", action="store_true", help="all databases on a PostgreSQL of their own")
    parser.add_argument("--bucket", action="store_true", help="the documents in a bucket of a SeaweedFS of its own")
    parser.add_argument("--folder", type=Path, help="where the temporary directory is made")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
