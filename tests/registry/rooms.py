"""A registry on a real database for tests: patients are made known, then requests go through its actor."""

import time

from sqlalchemy import delete, func, select

from atna.message import parse
from atna.recorder import Recorder
from atna.store.engine import begin_write, reading
from atna.store.outbox import GroupCommit, Outbox
from ihe import ebrs
from ihe.datatypes import parse_cx
from ihe.transactions import ITI_18, ITI_42
from ihe.xua import Caller
from registry.actor import RegistryActor
from registry.feed import FeedActor
from registry.settings import RegistrySettings
from registry.store import tables
from registry.store.opening import open_registry
from registry.store.patients import make_known
from registry.store.sql import SqlRegistryStore
from schemas import parse_xml, strict_violations
from tests.builders import PATIENT, domain, submit_objects_request_xml
from wire.messages import Request
from wire.settings import AffinityDomainSettings

APPROVED = "'urn:oasis:names:tc:ebxml-regrep:StatusType:Approved'"
DEPRECATED = "'urn:oasis:names:tc:ebxml-regrep:StatusType:Deprecated'"
FIND_DOCUMENTS = "urn:uuid:14d4debf-8f97-4251-9a74-a90016b0af0d"
GET_RELATED_DOCUMENTS = "urn:uuid:d90e5407-b356-4d91-a89f-873917b4b0e6"
GET_DOCUMENTS = "urn:uuid:5c4f972b-d56b-40ac-a5fc-c8ca9b40b9d4"
GET_SUBMISSION_SETS = "urn:uuid:51224314-5390-4169-9b91-b1980040715a"
GET_SET_AND_CONTENTS = "urn:uuid:e8e3cb2c-e39c-46b9-99e4-c12f57260b83"


class RegistryRoom:
    """One registry; every answer is checked against the strict schema on its way out."""

    def __init__(self, url, *, strictness="reject", unknown_patient="empty", read_database_url=None, **settings):
        self.engine, self.reader = open_registry(url, read_database_url)
        self.outbox = Outbox(self.engine, tables.outbox, ("http://127.0.0.1:1/records",), 1000)
        self.store = SqlRegistryStore(
            self.engine, self.outbox, GroupCommit(self.engine, tables.outbox, self.outbox.sinks), reader=self.reader
        )
        self.actor = RegistryActor(
            self.store,
            Recorder("test", None, "dossier-registry", "localhost"),
            domain,
            AffinityDomainSettings(strictness=strictness, unknown_patient=unknown_patient),
            RegistrySettings(**settings),
        )

    def close(self):
        self.engine.dispose()
        self.reader.dispose()

    def know(self, *patients):
        ids = [(cx.id, cx.authority) for cx in map(parse_cx, patients or (PATIENT,))]
        with begin_write(self.engine) as connection:
            make_known(connection, ids, {}, "20260101000000")

    def request(self, transaction, body, headers=(), caller=Caller("127.0.0.1")):  # noqa: B008 - frozen
        return Request(
            transaction,
            parse_xml(body),
            caller,
            "http://localhost:8010/registry",
            "urn:uuid:m",
            None,
            "r-1",
            headers,
        )

    def submit(self, objects, headers=(), transaction=ITI_42, **asked):
        return self.send(submit_objects_request_xml(objects), headers, transaction, **asked)

    def send(self, body, headers=(), transaction=ITI_42, **asked):
        reply = self.actor.handlers[transaction](self.request(transaction, body, headers, **asked))
        return ebrs.read_registry_response(self._checked(reply))

    def accept(self, objects, transaction=ITI_42):
        response = self.submit(objects, transaction=transaction)
        assert response.status.endswith("Success"), response.errors

    def query(self, query_id, return_type="LeafClass", **parameters):
        body = ebrs.adhoc_query_request(
            query_id, {"$" + name: value for name, value in parameters.items()}, return_type
        )
        return self.ask(body)

    def ask(self, body, transaction=ITI_18):
        reply = self.actor.handlers[transaction](self.request(transaction, body))
        return ebrs.read_adhoc_query_response(self._checked(reply))

    def find(self, patient=PATIENT, status=f"({APPROVED})", return_type="LeafClass", **more):
        return self.query(
            FIND_DOCUMENTS,
            return_type,
            XDSDocumentEntryPatientId=f"'{patient}'",
            XDSDocumentEntryStatus=status,
            **more,
        )

    def audited(self):
        """(outcome, event id, objects) of every record in the outbox, oldest first."""
        with reading(self.engine) as connection:
            rows = connection.execute(select(tables.outbox.c.message).order_by(tables.outbox.c.id)).scalars().all()
        return [parse(bytes(row)[bytes(row).index(b"<AuditMessage") :]) for row in rows]

    def forget_records(self):
        """Empty the outbox."""
        with begin_write(self.engine) as connection:
            connection.execute(delete(tables.outbox))

    def count(self, table):
        with reading(self.engine) as connection:
            return connection.execute(select(func.count()).select_from(table)).scalar_one()

    @staticmethod
    def _checked(reply):
        element = parse_xml(b"".join(reply.body))
        assert strict_violations(element) == ()
        return element


def feed_of(room, domain=None, now=time.time):
    """The ITI-8 feed on the room's database."""
    domain = domain or AffinityDomainSettings()
    recorder = Recorder("test", None, "dossier-registry", "localhost")
    return FeedActor(room.engine, room.outbox, recorder, domain, RegistrySettings(), now)


def codes_of(response):
    return {error.code for error in response.errors}
