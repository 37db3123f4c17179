"""Many writers on the same few objects over HTTP: every answer in time and right, nothing doubled, nothing lost.

Nothing is killed here, so each request is sent once, and one that gets no answer is a violation. Writers take turns at
everything that changes a registry: new documents (some in a folder), replacements and addenda of the same few
documents, new versions of the same few entries and folders, removals; and look at what must be there meanwhile.
"""

import random
import threading
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field, replace

from ihe import vocabulary as v
from ihe.ebrs import (
    adhoc_query_request,
    read_adhoc_query_response,
    read_registry_response,
    remove_objects_request,
)
from ihe.registry_objects import Kind, Slot, SubmittedObjects
from ihe.transactions import ITI_18, ITI_42, ITI_57, ITI_62
from tests.builders import (
    association,
    document_entry,
    folder,
    has_member,
    new_uuid,
    submission_set,
    submit_objects_request_xml,
)
from tests.soak.ledger import Ledger
from tests.soak.server import Server
from tests.soak.source import Clients, patient_id
from tests.soak.stores import answered_faults, backlog
from tests.soak.ward import Line, Ward
from wire.client import NotSent, OutcomeUnknown, PeerFault, SoapClient
from wire.mllp_client import MllpClient

__all__ = ["Contention", "Plan", "contend"]

BOUND_S = 20.0
"""Every request is answered by then: what the registry gives itself (``max_registration_s``) and some more."""
WARDS, CHAINS, PAPERS = 2, 2, 2
WARD_SIZE = 160
"""Acknowledged submissions of a ward before another takes its place: answers stay of one size however long it runs."""
FIND_DOCUMENTS = "urn:uuid:14d4debf-8f97-4251-9a74-a90016b0af0d"
GET_ALL = "urn:uuid:10b545ea-725c-446d-9b95-8aeb444eddf3"
GET_ASSOCIATIONS = "urn:uuid:a7ae438b-4bc2-4642-93e9-be891f7bb155"
ANY = f"('{v.APPROVED}','{v.DEPRECATED}')"
BUSY = "XDSRegistryBusy"
SHARES = {"add": 5, "file": 4, "replace": 5, "append": 2, "revise": 5, "refile": 1, "remove": 4, "look": 4}


@dataclass(frozen=True)
class Plan:
    """``settings`` of the server as ``REGISTRY__WORKERS="2"``."""

    seed: int = 1
    threads: int = 16
    seconds: float = 600
    settings: dict = field(default_factory=dict)


@dataclass
class Contention:
    """What came of it: answers by transaction and code, the slowest, the violations."""

    seed: int
    load_s: float = 0
    wards: int = 0
    answers: Counter = field(default_factory=Counter)
    slowest: dict = field(default_factory=dict)
    total: Counter = field(default_factory=Counter)
    violations: list = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def answered(self, transaction, codes, took_s):
        with self.lock:
            self.answers[transaction, "+".join(sorted(codes)) or "Success"] += 1
            self.total[transaction] += took_s
            self.slowest[transaction] = max(took_s, self.slowest.get(transaction, 0.0))

    def violation(self, text):
        with self.lock:
            self.violations.append(text)

    @property
    def busy(self):
        return sum(count for (_, code), count in self.answers.items() if BUSY in code)

    def lines(self):
        """For people."""
        number = sum(self.answers.values())
        yield f"seed {self.seed}, load {self.load_s:.0f} s, {number} requests, {number / max(1, self.load_s):.0f}/s"
        for transaction in sorted(self.total):
            rows = {code: n for (which, code), n in sorted(self.answers.items()) if which == transaction}
            mean_ms = 1000 * self.total[transaction] / sum(rows.values())
            yield (
                f"{transaction}: mean {mean_ms:.0f} ms, slowest {1000 * self.slowest[transaction]:.0f} ms; "
                + ", ".join(f"{code} {n}" for code, n in rows.items())
            )
        yield f"patients {self.wards}, answered busy {self.busy}"
        yield f"violations {len(self.violations)}"
        yield from self.violations[:40]


def contend(plan, data, say=lambda text: None):
    """Run the plan in the empty directory ``data``."""
    found = Contention(plan.seed)
    server = Server(data, **plan.settings)
    urls = {
        name: plan.settings.get(f"{name.upper()}__DATABASE_URL", f"sqlite:///{data}/{name}.db")
        for name in ("registry", "repository", "audit")
    }
    try:
        server.start()
        writers = _Writers(plan, server, found)
        writers.run(say)
        say("load ends; looking at every patient")
        writers.judge()
        deadline = time.monotonic() + 120
        while backlog(urls) and time.monotonic() < deadline:
            time.sleep(0.2)
        status = server.stop()
        if status:
            found.violation(f"the services ended with {status} after SIGTERM")
        say("services stopped; reading the audit trail")
        found.violations += answered_faults(urls, found.answers)
        writers.close()
    finally:
        server.end()
    return found


class _Writers:
    def __init__(self, plan, server, found):
        self._plan, self._server, self._found = plan, server, found
        self._soap = SoapClient(None, timeout_s=2 * BOUND_S)
        self._fed = Clients(server, Ledger())
        self._mllp = MllpClient(*server.feed, answer_timeout_s=30)
        self._feeding = threading.Lock()
        self._stop = threading.Event()
        self._oids = random.Random(f"{plan.seed}:oids")
        self.wards = []

    def close(self):
        self._soap.close()
        self._fed.close()
        self._mllp.close()

    # ------------------------------------------------------------------------------------------------ the load

    def run(self, say):
        for _ in range(WARDS):
            self._open_ward()
        threads = [
            threading.Thread(target=self._write, args=(number,), name=f"writer-{number}", daemon=True)
            for number in range(self._plan.threads)
        ]
        began = time.monotonic()
        for thread in threads:
            thread.start()
        while (left_s := began + self._plan.seconds - time.monotonic()) > 0:
            self._stop.wait(min(30, left_s))
            say(f"{sum(self._found.answers.values())} answers, busy {self._found.busy}, {len(self.wards)} patients")
        self._stop.set()
        for thread in threads:
            thread.join(3 * BOUND_S)
            if thread.is_alive():
                self._found.violation(f"{thread.name} hangs")
        self._found.load_s = time.monotonic() - began
        self._found.wards = len(self.wards)

    def _write(self, number):
        rng = random.Random(f"{self._plan.seed}:{number}")
        work = [name for name, share in SHARES.items() for _ in range(share)]
        try:
            while not self._stop.is_set():
                ward = rng.choice(self.wards[-WARDS:])
                getattr(self, f"_{rng.choice(work)}")(rng, ward)
                if len(ward.sets) > WARD_SIZE:
                    self._follow(ward)
        except Exception:
            self._found.violation(f"writer {number}: {traceback.format_exc(limit=6)}")

    def _oid(self):
        with self._feeding:
            return f"2.25.{self._oids.getrandbits(100)}"

    def _follow(self, full):
        """Another patient in the place of a full one."""
        if full in self.wards[-WARDS:]:
            self._open_ward()

    def _open_ward(self):
        name = f"ward-{self._oid()}"
        with self._feeding:
            self._fed.feed(self._mllp, name[-20:], patient_id(name))
        ward = Ward(patient_id(name))
        entries = [
            document_entry(new_uuid(), ward.patient, b"1", unique_id=f"{self._oid()}.1") for _ in range(CHAINS + PAPERS)
        ]
        binder = folder(new_uuid(), ward.patient)
        lines = [Line(o.id, o.identifier(v.ENTRY_UNIQUE_ID).removesuffix(".1"), o.id) for o in entries]
        ward.chains, ward.papers = lines[:CHAINS], lines[CHAINS:]
        ward.folder = Line(binder.id, binder.identifier(v.FOLDER_UNIQUE_ID), binder.id)
        filed = [part for one in entries for part in self._filing("Set", binder.id, one.id)]
        members = [has_member("Set", one.id, status="Original") for one in entries]
        if self._submit(ward, ITI_42, (*entries, binder, has_member("Set", binder.id), *members, *filed), set()):
            self.wards.append(ward)
        else:
            self._found.violation("the first submission of a patient was refused")

    # -------------------------------------------------------------------------------------------- one request each

    def _call(self, transaction, body):
        """The answer's body, in time; ``None`` is a violation already noted."""
        began = time.monotonic()
        try:
            with self._soap.call(self._server.registry, transaction, body) as answer:
                return answer.body, time.monotonic() - began
        except (NotSent, OutcomeUnknown, PeerFault) as error:
            self._found.violation(f"{transaction.code}: no right answer, {type(error).__name__} {error}")
            return None, 0.0
        finally:
            if time.monotonic() - began > BOUND_S:
                self._found.violation(f"{transaction.code} took {time.monotonic() - began:.0f} s")

    def _change(self, transaction, body, allowed):
        """Whether it was done; a refusal must be one of those the circumstances allow, or busy."""
        answer, took_s = self._call(transaction, body)
        if answer is None:
            return False
        response = read_registry_response(answer)
        codes = {str(error.code) for error in response.errors}
        self._found.answered(transaction.code, codes, took_s)
        if not codes <= allowed | {BUSY}:
            text = "; ".join(f"{error.code}: {error.context}" for error in response.errors)
            self._found.violation(f"{transaction.code} was answered {text}")
        return response.status == v.SUCCESS

    def _submit(self, ward, transaction, objects, allowed):
        """Send objects under a new SubmissionSet; the symbol ``Set`` is its entryUUID."""
        first = submission_set(new_uuid(), ward.patient, self._oid())
        named = [replace(o, source=first.id if o.source == "Set" else o.source) for o in objects]
        done = self._change(transaction, submit_objects_request_xml(SubmittedObjects((first, *named))), allowed)
        if done:
            with ward.lock:
                ward.sets[first.identifier(v.SUBMISSION_SET_UNIQUE_ID)] = first.id
        return first.id if done else None

    @staticmethod
    def _filing(source, binder, entry):
        link = has_member(binder, entry, new_uuid())
        return link, has_member(source, link.id, new_uuid())

    def _entry(self, ward, unique_id=None):
        one = document_entry(new_uuid(), ward.patient, b"x", unique_id or self._oid())
        return one, has_member("Set", one.id, new_uuid(), "Original")

    def _add(self, rng, ward):
        entry, member = self._entry(ward)
        done = self._submit(ward, ITI_42, (entry, member), set())
        if done:
            with ward.lock:
                ward.plain[entry.id] = (done, entry.id, member.id)

    def _file(self, rng, ward):
        binder, _ = ward.seen(ward.folder)
        entry, member = self._entry(ward)
        parts = (entry, member, *self._filing("Set", binder, entry.id))
        done = self._submit(ward, ITI_42, parts, {"XDSRegistryMetadataError"})
        if done:
            with ward.lock:
                ward.filed[entry.id] = (done, *(one.id for one in parts))

    def _replace(self, rng, ward):
        line = rng.choice(ward.chains)
        target, number = ward.seen(line)
        entry, member = self._entry(ward, f"{line.unique_id}.{self._oid().rpartition('.')[2]}")
        parts = (entry, member, association(v.RPLC, entry.id, target))
        if self._submit(ward, ITI_42, parts, {"XDSRegistryDeprecatedDocumentError"}):
            ward.succeed(line, number + 1, entry.id)

    def _append(self, rng, ward):
        line = rng.choice(ward.papers)
        target, _ = ward.seen(line)
        entry, member = self._entry(ward)
        parts = (entry, member, association(v.APND, entry.id, target))
        if self._submit(ward, ITI_42, parts, {"XDSRegistryDeprecatedDocumentError"}):
            with ward.lock:
                ward.appended[entry.id] = line

    def _revise(self, rng, ward):
        line = rng.choice(ward.papers)
        _, number = ward.seen(line)
        new = document_entry(new_uuid(), ward.patient, b"1", f"{line.unique_id}.1")
        self._version(ward, line, new, number, "Original")

    def _refile(self, rng, ward):
        _, number = ward.seen(ward.folder)
        new = folder(new_uuid(), ward.patient, ward.folder.unique_id)
        self._version(ward, ward.folder, new, number, None)

    def _version(self, ward, line, new, number, status):
        member = has_member("Set", new.id, status=status)
        member = replace(member, slots=(*member.slots, Slot("PreviousVersion", (str(number),))))
        if self._submit(ward, ITI_57, (replace(new, lid=line.name), member), {"XDSMetadataVersionError"}):
            ward.succeed(line, number + 1, new.id)

    def _remove(self, rng, ward):
        """A submission with all that hangs on it; others may be at the same, or at the folder it is in."""
        pool = rng.choice([ward.plain, ward.filed])
        taken = ward.take(pool, rng, keep=rng.random() < 0.3)
        if taken is None:
            return
        entry, ids = taken
        if pool is ward.filed:
            ids = {*ids, *(one.id for one in self._query(GET_ASSOCIATIONS, uuid=f"('{entry}')") or ())}
        allowed = {"UnresolvedReferenceException", "ReferencesExistException", "XDSUnreferencedObjectException"}
        done = self._change(ITI_62, remove_objects_request(sorted(ids)), allowed)
        with ward.lock:
            if done:
                ward.gone[taken[1][0]] += 1
                pool.pop(entry, None)
            elif not ward.gone[taken[1][0]]:
                pool.setdefault(entry, taken[1])

    # ------------------------------------------------------------------------------------------------- looking

    def _query(self, query, **parameters):
        named = {f"${name}": value for name, value in parameters.items()}
        named |= {"$MetadataLevel": "2", "$XDSAssociationStatus": ANY}
        body, took_s = self._call(ITI_18, adhoc_query_request(query, named))
        if body is None:
            return None
        response = read_adhoc_query_response(body)
        codes = {str(error.code) for error in response.errors}
        self._found.answered(ITI_18.code, codes, took_s)
        if not codes <= {BUSY}:
            self._found.violation(f"ITI-18 was answered {sorted(codes)}")
        return None if codes else response.objects

    def _look(self, rng, ward):
        """Of each chain and each paper one document is Approved at any moment."""
        found = self._query(
            FIND_DOCUMENTS,
            XDSDocumentEntryPatientId=f"'{ward.patient}'",
            XDSDocumentEntryStatus=f"('{v.APPROVED}')",
        )
        if found is None:
            return
        ids = [one.identifier(v.ENTRY_UNIQUE_ID) for one in found if one.kind is Kind.DOCUMENT_ENTRY]
        for line in (*ward.chains, *ward.papers):
            count = sum(one.startswith(line.unique_id + ".") for one in ids)
            if count != 1:
                self._found.violation(f"ITI-18: {count} documents of {line.unique_id} are Approved at one moment")

    def judge(self):
        """Everything of every patient, when all is quiet."""
        for ward in self.wards:
            names = ("XDSDocumentEntryStatus", "XDSSubmissionSetStatus", "XDSFolderStatus")
            found = self._query(GET_ALL, patientId=f"'{ward.patient}'", **dict.fromkeys(names, ANY))
            for fault in ward.faults(found or ()):
                self._found.violation(fault)
