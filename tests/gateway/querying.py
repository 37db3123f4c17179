"""Gateways under test on real sockets, registries behind them, and consumers and partners that ask them."""

import re
from contextlib import closing, contextmanager
from dataclasses import dataclass

from atna.message import parse
from atna.recorder import Recorder
from gateway.communities import Communities
from gateway.fan_out import FanOut
from gateway.initiating import InitiatingGateway
from gateway.patients import PatientMap
from gateway.records import Records
from gateway.responding import RespondingGateway
from gateway.room import Room
from gateway.settings import GatewaySettings
from gateway.store.sql import open_store
from ihe import vocabulary as v
from ihe.ebrs import adhoc_query_request
from ihe.transactions import ITI_18, ITI_38
from schemas import parse_xml
from tests.builders import PATIENT
from tests.raw_peer import request_of
from tests.registry.rooms import APPROVED, FIND_DOCUMENTS, RegistryRoom
from tests.repository.stand import envelope, post, served
from wire.client import SoapClient
from wire.settings import TlsSettings
from wire.spool import Spool

PLAIN = "application/soap+xml; charset=UTF-8"
SINK = "http://127.0.0.1:9/records"
SECURITY = (
    f'<w:Security xmlns:w="{v.WSSE}" xmlns:s="{v.SOAP12}" s:mustUnderstand="1"><a xmlns="urn:x"> b </a></w:Security>'
)
EXTRINSIC, PACKAGE = f"{{{v.RIM}}}ExtrinsicObject", f"{{{v.RIM}}}RegistryPackage"
ASSOCIATION, REF = f"{{{v.RIM}}}Association", f"{{{v.RIM}}}ObjectRef"


class Gateway:
    """Both gateways of one community."""

    def __init__(self, room, responding, initiating):
        self.room, self.responding, self.initiating = room, responding, initiating

    def records(self):
        """Every audit record that waits, in order; then there are none."""
        rows = self.room.store.outbox.claim(SINK, 10_000)
        self.room.store.outbox.delete(SINK, [row.id for row in rows])
        return [parse(row.message[row.message.index(b"<AuditMessage") :]) for row in rows]

    def told(self):
        """(transaction, outcome, whether we asked, endpoint, home, patient) of every record that waits, sorted."""
        return sorted(map(_told, self.records()), key=str)


def _told(message):
    query = next(one for one in message.objects if one.query is not None)
    home = next((d.value.decode() for d in query.details if d.type.endswith("homeCommunityId")), None)
    patient = next((one.id for one in message.objects if one.query is None), None)
    source = next(one for one in message.participants if one.roles and one.roles[0].code == "110153")
    destination = next(one for one in message.participants if one.roles and one.roles[0].code == "110152")
    asked = source.alternative_user_id is not None
    return (
        message.event.type_codes[0].code,
        int(message.event.outcome),
        "asked" if asked else "answered",
        destination.user_id,
        home,
        patient,
    )


@contextmanager
def gateway(folder, home, registry_url, communities=(), *, outbox_rows=100_000, **settings):
    """The gateways of ``home``; ``communities`` and ``settings`` as in ``[gateway]``."""
    folder.mkdir(exist_ok=True)
    chosen = GatewaySettings.model_validate(
        {
            "registry_url": registry_url,
            "communities": communities,
            "database_url": f"sqlite:///{folder}/gateway.db",
            **settings,
        }
    )

    def nobody(*_what):
        raise AssertionError("no handshakes here")

    with (
        closing(open_store(chosen.database_url, [SINK], outbox_rows)) as store,
        closing(SoapClient(None, timeout_s=chosen.deadline_s)) as local,
        closing(Communities(chosen, TlsSettings(), nobody)) as known,
        closing(FanOut(chosen.max_calls)) as fan_out,
    ):
        room = Room(
            settings=chosen,
            home=home,
            store=store,
            records=Records(Recorder(f"gateway@{home}", home, "dossier-gateway", "localhost")),
            local=local,
            communities=known,
            fan_out=fan_out,
            patients=PatientMap(chosen),
            granted=lambda _caller: (),
            spool=Spool(None, chosen.spool_total_bytes),
        )
        sizes = {"max_request_bytes": chosen.max_request_bytes}
        with (
            served(RespondingGateway(room), "/responding", name="repository", **sizes) as responding,
            served(InitiatingGateway(room), "/initiating", name="repository", **sizes) as initiating,
        ):
            yield Gateway(room, responding, initiating)


@contextmanager
def registry(folder, **settings):
    """A real registry that knows PATIENT; gives (room, address)."""
    folder.mkdir(exist_ok=True)
    with closing(RegistryRoom(f"sqlite:///{folder}/registry.db", **settings)) as room:
        room.know()
        with served(room.actor, "/registry", name="registry") as address:
            yield room, address


# ---------------------------------------------------------------------------------------------------- asking


@dataclass(frozen=True)
class Answer:
    """An AdhocQueryResponse; it passed the strict schema."""

    body: object

    @property
    def status(self):
        return self.body.get("status").rpartition(":")[2]

    @property
    def objects(self):
        """(local name, home) of each, in order."""
        listed = self.body.find(f"{{{v.RIM}}}RegistryObjectList")
        return [(one.tag.rpartition("}")[2], one.get("home")) for one in listed]

    @property
    def homes(self):
        return [home for _, home in self.objects]

    @property
    def ids(self):
        return [one.get("id") for one in self.body.find(f"{{{v.RIM}}}RegistryObjectList")]

    @property
    def errors(self):
        """(code, location) of each."""
        return [(one.get("errorCode"), one.get("location")) for one in self._errors()]

    @property
    def contexts(self):
        return [one.get("codeContext") for one in self._errors()]

    def _errors(self):
        return list(self.body.iter(f"{{{v.RS}}}RegistryError"))


def find(patient=PATIENT, home=None, return_type="LeafClass", query_id=FIND_DOCUMENTS, **more):
    """FindDocuments of a patient, or any other query by ``more`` alone."""
    parameters = {f"${name}": value for name, value in more.items()}
    if patient is not None:
        parameters |= {"$XDSDocumentEntryPatientId": f"'{patient}'", "$XDSDocumentEntryStatus": f"({APPROVED})"}
    return adhoc_query_request(query_id, parameters, return_type, home)


def ask(address, body, transaction=None, *, security="", timeout=30):
    """ITI-18 of an initiating gateway, ITI-38 of a responding one; the answer passes the strict schema."""
    transaction = transaction or (ITI_38 if address.endswith("/responding") else ITI_18)
    message = envelope(transaction.request_action, body)
    message = message.replace(b"</s:Header>", security.encode() + b"</s:Header>")
    got = post(address, PLAIN, message, timeout)
    assert got.http_status == 200, got.body
    return Answer(got.body)


# --------------------------------------------------------------------------------------------- scripted partners


def http(status, content_type, body, *, length=None, extra=""):
    head = f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {length or len(body)}\r\n{extra}"
    return head.encode() + b"Connection: close\r\n\r\n" + body


def message_for(request, body, *, relates_to=None):
    asked = re.search(rb"MessageID>([^<]+)<", request)[1].decode()
    return (
        (
            f'<s:Envelope xmlns:s="{v.SOAP12}" xmlns:a="{v.WSA}"><s:Header><a:Action>urn:x</a:Action>'
            f"<a:RelatesTo>{relates_to or asked}</a:RelatesTo></s:Header><s:Body>"
        ).encode()
        + body
        + b"</s:Body></s:Envelope>"
    )


def saying(body, *, content_type=PLAIN, status="200 OK", relates_to=None, seen=None, **how):
    """A play that answers each request with this body element."""

    def play(connection, _ended):
        request = request_of(connection)
        if seen is not None:
            seen.append(parse_xml(request.partition(b"\r\n\r\n")[2]))
        message = message_for(request, body, relates_to=relates_to)
        connection.sendall(http(status, content_type, message, **how))

    return play


def response(objects="", errors="", status=v.SUCCESS):
    """An AdhocQueryResponse of a partner, in prefixes of its own."""
    told = f"<e:RegistryErrorList>{errors}</e:RegistryErrorList>" if errors else ""
    return (
        f'<q:AdhocQueryResponse xmlns:q="{v.QUERY}" xmlns:e="{v.RS}" xmlns:o="{v.RIM}" status="{status}">{told}'
        f"<o:RegistryObjectList>{objects}</o:RegistryObjectList></q:AdhocQueryResponse>"
    ).encode()


def ref(entry_uuid, home):
    at = "" if home is None else f' home="{home}"'
    return f'<o:ObjectRef id="{entry_uuid}"{at}/>'


def error(code, context="something", severity=v.SEVERITY_ERROR, location=""):
    return f'<e:RegistryError errorCode="{code}" codeContext="{context}" severity="{severity}" location="{location}"/>'
