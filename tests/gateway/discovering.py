"""Communities whose patients are asked for: a gateway on a socket, a real registry of patients behind it."""

import http.client
import time
from contextlib import closing, contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

from sqlalchemy import select

from atna.message import parse
from atna.settings import AuditSettings
from atna.store.engine import begin_write, reading
from gateway.app import _joined
from gateway.initiating import InitiatingGateway
from gateway.responding import RespondingGateway
from gateway.settings import GatewaySettings
from ihe.hl7v3_answer import read_patient_answer
from ihe.transactions import ITI_55
from registry.feed import demographics_query
from registry.joined import Joined
from registry.settings import RegistrySettings
from registry.store.patients import make_known
from registry.store.tables import outbox
from schemas import parse_xml, strict_violations
from tests.hl7v3_queries import DEMOGRAPHICS, query
from tests.registry.rooms import RegistryRoom
from tests.repository.stand import SINK, envelope, served
from wire.settings import AffinityDomainSettings, TlsSettings

HERE, THERE = "urn:oid:1.3.6.1.4.1.21367.2011.2.7.1", "urn:oid:1.3.6.1.4.1.21367.2011.2.7.2"
OURS, THEIRS = "1.3.6.1.4.1.21367.13.20.1000", "1.3.6.1.4.1.21367.13.20.2000"
TOLD = {"family": "Müller", "given": "Änne", "birth": "19700101", "sex": "F"}
PLAIN = "application/soap+xml; charset=UTF-8"
GENEROUS_S = 60


@dataclass
class Registry:
    """Its patients and its ITI-47."""

    engine: object
    address: str

    def know(self, *ids, authority=OURS, **told):
        with begin_write(self.engine) as connection:
            make_known(connection, [(one, authority) for one in ids], {**TOLD, **told}, "20260101000000")

    def audited(self):
        with reading(self.engine) as connection:
            rows = connection.execute(select(outbox.c.message).order_by(outbox.c.id)).scalars().all()
        return [parse(bytes(row)[bytes(row).index(b"<Audit") :]) for row in rows]


@contextmanager
def registry(folder, *, partners=None):
    folder.mkdir(parents=True, exist_ok=True)
    with closing(RegistryRoom(f"sqlite:///{folder}/registry.db")) as room:
        patients = demographics_query(
            *(room.engine, room.outbox, room.actor.recorder, AffinityDomainSettings(partners=partners or {})),
            RegistrySettings(max_found_patients=3),
        )
        with served(Joined([room.actor, patients]), "/registry", name="registry") as address:
            yield Registry(room.engine, address)


@dataclass
class Community:
    """A gateway, as its partners and its own actors meet it."""

    home: str
    registry: Registry
    joined: object
    responding: str
    initiating: str

    @property
    def room(self):
        return self.joined.room

    def at(self, patient, home=THERE, seconds=GENEROUS_S, security=b""):
        """What PatientMap.at gives for one of our patients, by the bare id."""
        there = self.room.communities.by_home(home)
        deadline = time.monotonic() + seconds
        return self.room.patients.at(there, f"{patient}^^^&{OURS}&ISO", deadline, security)

    def records(self):
        """(transaction, outcome, asked or answered, home, patient ids) of every record that waits; then none do."""
        rows = self.joined.store.outbox.claim(SINK, 10_000)
        self.joined.store.outbox.delete(SINK, [row.id for row in rows])
        return [told(parse(row.message[row.message.index(b"<AuditMessage") :])) for row in rows]


def told(message):
    asked = next(one for one in message.objects if one.query is not None)
    home = next((d.value.decode() for d in asked.details if d.type == "ihe:homeCommunityID"), None)
    requester = next(one for one in message.participants if one.roles and one.roles[0].code == "110153")
    side = "asked" if requester.alternative_user_id is not None else "answered"
    patients = [one.id.partition("^")[0] for one in message.objects if one.query is None]
    return message.event.type_codes[0].code, int(message.event.outcome), side, home, patients


@contextmanager
def community(folder, home=HERE, *, registry_url=None, communities=(), audit_rows=100_000, **settings):
    """``communities`` and ``settings`` as in ``[gateway]``; ``registry_url`` instead of a real registry."""
    folder.mkdir(parents=True, exist_ok=True)
    with registry(folder) as behind:
        chosen = GatewaySettings.model_validate(
            {
                "registry_url": registry_url or behind.address,
                "communities": communities,
                "database_url": f"sqlite:///{folder}/gateway.db",
                **settings,
            }
        )
        audit = AuditSettings(sinks=(SINK,), max_outbox_rows=audit_rows)
        domain = AffinityDomainSettings(home_community_id=home)
        with _joined(chosen, domain, audit, TlsSettings()) as joined:
            sizes = {"max_request_bytes": chosen.max_request_bytes}
            with (
                served(RespondingGateway(joined.room), "/responding", name="responding_gateway", **sizes) as responding,
                served(InitiatingGateway(joined.room), "/initiating", name="initiating_gateway", **sizes) as initiating,
            ):
                yield Community(home, behind, joined, responding, initiating)


def row(url, home=THERE, **more):
    """A row of the table of communities that is discovered at ``url``."""
    return {"home_community_id": home, "patient_id": "discover", "discovery_url": url, **more}


def discover(address, parameters=DEMOGRAPHICS, *, transaction=ITI_55, security="", home=THERE, **more):
    """ITI-55 of a responding gateway; (PatientAnswer, envelope), the answer passes the strict schema."""
    body = query(parameters, home=home.removeprefix("urn:oid:"), **more).replace(b' xsi:type="PN"', b"")
    return send(address, body, transaction, security)


def send(address, body, transaction=ITI_55, security="", *, strict=True):
    """The same with any body; not ``strict`` where the query, which the answer repeats, is not."""
    message = envelope(transaction.request_action, body)
    message = message.replace(b"</s:Header>", security.encode() + b"</s:Header>")
    place = urlsplit(address)
    with closing(http.client.HTTPConnection(place.hostname, place.port, timeout=GENEROUS_S)) as connection:
        connection.request("POST", place.path, message, {"Content-Type": PLAIN})
        answer = connection.getresponse()
        status, got = answer.status, parse_xml(answer.read())
    assert status == 200, got
    assert got.findtext("{*}Header/{*}Action") == transaction.response_action
    told = got.find("{*}Body")[0]
    if strict:
        assert strict_violations(told) == ()
    return read_patient_answer(told), got


def ids(answer):
    return [one.id for found in answer.patients for one in found.identifiers]
