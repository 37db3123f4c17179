"""A log to look at: a week of a small hospital, with refused and emergency accesses. All names are invented."""

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

from atna import events, node_events, participants
from atna.message import CodedValue, Outcome, Participant
from atna.record_repository.indexing import index
from atna.record_repository.store.records import RecordStore
from atna.recorder import Recorder
from ihe.transactions import ITI_18
from ihe.xua import Caller
from tests.atna.record_repository import audit_service

AUTHORITY = "1.3.182.4.4"
NOW = datetime(2026, 3, 9, 15, 20, tzinfo=UTC)
EMERGENCY = CodedValue("EMERGENCY", "urn:oasis:names:tc:xspa:1.0:subject:purposeofuse", "Emergency")
BREAK_GLASS = CodedValue("BTG", "http://terminology.hl7.org/CodeSystem/v3-ActReason", "break the glass")
REQUEST = b'<query:AdhocQueryRequest xmlns:query="urn:oasis:names:tc:ebxml-regrep:xsd:query:3.0"><query:ResponseOption/></query:AdhocQueryRequest>'
PEOPLE = (
    "Weber, Anna <a.weber@ch-example.lu>",
    "Muller, Jean <j.muller@ch-example.lu>",
    "Schmit, Lea <l.schmit@ch-example.lu>",
)


def patient(number):
    return f"19600101{number:05d}^^^&{AUTHORITY}&ISO"


class SampleLog:
    """Makes records at chosen times; ``at`` is the time of the next one."""

    def __init__(self, at=NOW):
        self.at = at
        self._recorders = {
            name: Recorder(f"dossier-{name}@{name}.example.lu", "urn:oid:1.3.182.4.5", f"dossier-{name}", f"{name}.example.lu", self._now, environment="test")
            for name in ("registry", "repository")
        }  # fmt: skip

    def _now(self):
        return self.at.timestamp()

    def query(self, number=1, *, outcome=Outcome.SUCCESS, person=None, purpose=None, reason=None, address="10.1.4.21"):
        parties = participants.serving(
            Caller(address, "CN=ward-3,O=CH Example,C=LU"), "https://registry.example.lu:8010/registry", "411"
        )
        message = events.stored_query(
            parties, query_id="urn:uuid:14d4debf-8f97-4251-9a74-a90016b0af0d", request=REQUEST, patient_id=patient(number),
            outcome=outcome, transaction=ITI_18, reason=reason,
        )  # fmt: skip
        return self._record("registry", message, person, purpose)

    def retrieval(self, number=1, *, outcome=Outcome.SUCCESS, person=None, purpose=None, reason=None):
        parties = participants.serving(
            Caller("10.1.4.21", "CN=ward-3,O=CH Example,C=LU"), "https://repository.example.lu:8020/repository", "512"
        )
        documents = [participants.DocumentReference(f"1.3.182.9.{number}.7", "1.3.182.4.6", "urn:oid:1.3.182.4.5")]
        message = events.retrieved(
            parties, documents=documents, patient_id=patient(number), outcome=outcome, reason=reason
        )
        return self._record("repository", message, person, purpose)

    def registration(self, number=1):
        parties = participants.serving(
            Caller("10.1.4.9", "CN=repository,O=CH Example,C=LU"), "https://registry.example.lu:8010/registry", "411"
        )
        message = events.registered(
            parties, patient_id=patient(number), submission_set_id=f"1.3.182.9.{number}", outcome=Outcome.SUCCESS
        )
        return self._record("registry", message)

    def stranger(self):
        message = node_events.node_authentication_failed(
            process_id="411",
            address="registry.example.lu",
            peer_address="10.9.9.9",
            peer_port=50_123,
            reason="certificate expired",
        )
        return self._record("registry", message)

    def _record(self, name, message, person=None, purpose=None):
        if person is not None:
            someone = Participant(
                person.partition("<")[2].strip(">") or person,
                True,
                (CodedValue("DOC", "urn:dossier:sample", "Doctor"),),
                None,
                person,
            )
            message = replace(message, participants=(*message.participants, someone))
        if purpose is not None:
            message = replace(message, event=replace(message.event, purposes_of_use=(purpose,)))
        return self._recorders[name].record(message)

    def week(self, each_day=40, seed=7):
        """Seven days up to ``at``."""
        chance, end, planned = random.Random(seed), self.at, []
        for day in range(6, -1, -1):
            for _ in range(chance.randrange(each_day // 2, each_day)):
                make = chance.choice((self.query, self.query, self.retrieval, self.registration))
                known = {} if make == self.registration else {"person": chance.choice((*PEOPLE, None))}
                at = end - timedelta(days=day, seconds=chance.randrange(36_000))
                planned.append((at, partial(make, chance.randrange(1, 30), **known)))
        for hours, make in enumerate((
            lambda: self.query(4, outcome=Outcome.SERIOUS_FAILURE, person=PEOPLE[1], reason="XDSRegistryError"),
            lambda: self.query(12, person=PEOPLE[2], purpose=EMERGENCY),
            lambda: self.retrieval(12, person=PEOPLE[2], purpose=EMERGENCY),
            lambda: self.retrieval(9, outcome=Outcome.SERIOUS_FAILURE, person=PEOPLE[0], reason="XDSDocumentUniqueIdError"),
            self.stranger,
            lambda: self.query(21, person=PEOPLE[1], purpose=BREAK_GLASS),
        )):  # fmt: skip
            planned.append((end - timedelta(hours=3 + 17 * hours), make))
        messages = []
        for self.at, make in sorted(planned, key=lambda one: one[0]):  # a recorder's time never goes back
            messages.append(make())
        self.at = end
        return messages


class Service(audit_service.Service):
    """A worker of the audit service in a thread, over a log of its own."""

    def __init__(self, folder, messages=(), tls=None, partners=None, **settings):
        url = f"sqlite:///{folder}/audit.db"
        store = RecordStore.open(url)
        for start in range(0, len(messages), 500):
            store.keep([index(message) for message in messages[start : start + 500]])
        store.close()
        super().__init__(url, tls, partners=partners, **{"time_zone": "Europe/Luxembourg", **settings})
