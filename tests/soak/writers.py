"""What the clients of a soak do all the time, each in a thread of its own with choices of its own seed."""

import random
import threading
import time
import traceback

from tests.builders import REPOSITORY
from tests.soak.source import GivenUp, compose, patient_id
from wire.mllp_client import MllpClient

__all__ = ["Writers"]

KIB, MIB = 2**10, 2**20
RECENT = 60
"""Submissions choose among so many of the latest patients, so that a patient's list stays short."""
LARGE_SHARE = 0.06
REPLACE_SHARE = 0.15
LOOK_SHARE = 0.3
ROLES = {"feed": 2, "submit": 4, "register": 1, "ask": 1, "fetch": 1}


class Writers:
    """``roles``: how many threads do what; each role is a method of its name."""

    def __init__(self, clients, ledger, seed, *, large_bytes=4 * MIB, roles=None):
        self._clients = clients
        self._ledger = ledger
        self._seed = seed
        self._large_bytes = large_bytes
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(role, f"{role}-{number}"), name=f"{role}-{number}", daemon=True)
            for role, count in (roles or ROLES).items()
            for number in range(count)
        ]

    def start(self):
        for thread in self._threads:
            thread.start()

    def finish(self, within_s):
        """No new work; what was begun is repeated until it ends well, at most ``within_s``."""
        self._clients.give_up_at = time.monotonic() + within_s
        self._stop.set()
        for thread in self._threads:
            thread.join(within_s + 60)
            if thread.is_alive():
                self._ledger.violation(f"{thread.name} hangs")

    def _run(self, role, name):
        rng = random.Random(f"{self._seed}:{name}")
        work = getattr(self, f"_{role}")
        state = {}
        try:
            while not self._stop.is_set():
                work(rng, name, state)
                self._stop.wait(rng.uniform(0, 0.1))
        except GivenUp as error:
            self._ledger.violation(f"{name}: {error} never ended well")
        except Exception:
            self._ledger.violation(f"{name}: {traceback.format_exc(limit=4)}")
        finally:
            if "mllp" in state:
                state["mllp"].close()

    # -------------------------------------------------------------------------------------------------- roles

    def _feed(self, rng, name, state):
        """A new patient, now and then news of an old one."""
        mllp = state.setdefault("mllp", MllpClient(*self._clients.server.feed, answer_timeout_s=30))
        state["number"] = number = state.get("number", 0) + 1
        known = self._ledger.patients()
        if known and rng.random() < 0.2:
            patient, event = rng.choice(known), "A08"
        else:
            patient, event = patient_id(f"{name}-{number}"), "A04"
        self._clients.feed(mllp, f"{name}-{number}", patient, event)
        self._stop.wait(rng.uniform(0.1, 0.4))

    def _submit(self, rng, name, state):
        """One to three documents, or the replacement of one that this thread submitted before."""
        patients = self._ledger.patients()
        if not patients:
            self._stop.wait(0.1)
            return
        mine = state.setdefault("mine", [])
        if mine and rng.random() < REPLACE_SHARE:
            old = mine.pop(rng.randrange(len(mine)))
            patient = old.patient
            entry = self._seen(patient).get(old.unique_id)
            if entry is None:
                return
            package = compose(rng, patient, [self._content(rng)], replaces=(old.unique_id, entry.id))
        else:
            patient = rng.choice(patients[-RECENT:])
            package = compose(rng, patient, [self._content(rng) for _ in range(rng.choice([1, 1, 1, 2, 3]))])
        self._clients.provide(package)
        mine.append(package.documents[0])
        if rng.random() < LOOK_SHARE:
            self._seen(patient)
            self._whole([one.unique_id for one in package.documents])

    def _register(self, rng, name, state):
        """Metadata of a document that lies in another repository."""
        patients = self._ledger.patients()
        if patients:
            package = compose(rng, rng.choice(patients[-RECENT:]), [rng.randbytes(40)], provided=False)
            self._clients.register(package)
        self._stop.wait(rng.uniform(0.05, 0.3))

    def _ask(self, rng, name, state):
        patients = self._ledger.patients()
        if patients:
            self._seen(rng.choice(patients))
        self._stop.wait(rng.uniform(0, 0.1))

    def _fetch(self, rng, name, state):
        stored = self._ledger.retrievable(REPOSITORY)
        if stored:
            self._whole(rng.sample(stored, min(len(stored), rng.randint(1, 4))))
        self._stop.wait(rng.uniform(0, 0.1))

    # ------------------------------------------------------------------------------------------------ looking

    def _content(self, rng):
        if rng.random() < LARGE_SHARE:
            return rng.randbytes(rng.randrange(self._large_bytes // 4, self._large_bytes))
        return rng.randbytes(rng.randrange(0, 60 * KIB) + 1)

    def _seen(self, patient):
        return look(self._clients, self._ledger, patient)

    def _whole(self, unique_ids):
        fetch(self._clients, self._ledger, unique_ids)


def look(clients, ledger, patient):
    """Every document acknowledged before the question is in the answer, with its hash and size."""
    before = ledger.of_patient(patient)
    found = clients.find(patient)
    for unique_id, document in before.items():
        entry = found.get(unique_id)
        if entry is None:
            ledger.violation(f"ITI-18: document {unique_id} was acknowledged and is not found")
            continue
        told = "".join(entry.slot("hash") or ()), "".join(entry.slot("size") or ())
        if told != (document.sha1, str(document.size)):
            ledger.violation(f"ITI-18: document {unique_id} has another hash or size than was acknowledged")
    return found


def fetch(clients, ledger, unique_ids):
    """Every one of these documents comes back byte for byte."""
    wanted = {unique_id: ledger.documents[unique_id] for unique_id in unique_ids}
    got = clients.retrieve(list(wanted))
    for unique_id, document in wanted.items():
        if got.get(unique_id) != (document.sha1, document.size):
            what = "does not come back" if unique_id not in got else "comes back as other bytes"
            ledger.violation(f"ITI-43: document {unique_id} was acknowledged and {what}")
