"""Joins the parts of a gateway process; the only place that picks the real ones.

``worker`` serves SOAP: the Responding Gateway at ``/responding``, the Initiating Gateway at ``/initiating``; ``single``
is what there must be only one of: the sender of audit records, the admin port. Both block until ``stop``.
"""

import socket
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from atna.alerts import Alerts
from atna.recorder import Recorder
from atna.settings import AuditSettings
from gateway import by_hand
from gateway.by_hand import Said
from gateway.communities import Communities
from gateway.discovery import Discovery
from gateway.fan_out import FanOut
from gateway.initiating import InitiatingGateway
from gateway.iti47_patient_demographics_query import RegistryPatients
from gateway.patients import PatientMap
from gateway.records import Records
from gateway.responding import RespondingGateway
from gateway.room import Room
from gateway.settings import GatewaySettings
from gateway.store.sql import SqlGatewayStore, open_store
from schemas import wsdl
from wire.by_path import by_path
from wire.client import SoapClient
from wire.messages import Actor
from wire.running import run_listeners
from wire.service import admin_listener, http_listener, recorder, sending_records, watching
from wire.settings import AffinityDomainSettings, LimitSettings, TlsSettings
from wire.soap_app import Asgi, soap_app
from wire.spool import Spool

__all__ = ["find_patient", "single", "worker"]

RESPONDING = "/responding"
INITIATING = "/initiating"


@dataclass(frozen=True, slots=True)
class _Joined:
    """What every process of a gateway has."""

    room: Room
    store: SqlGatewayStore
    recorder: Recorder
    alerts: Alerts


@contextmanager
def _joined(
    gateway: GatewaySettings, domain: AffinityDomainSettings, audit: AuditSettings, tls: TlsSettings
) -> Iterator[_Joined]:
    writer = recorder("gateway", domain)
    store = open_store(gateway.database_url, audit.sinks, audit.max_outbox_rows)
    alerts = Alerts(writer, store.record_alone)
    local = SoapClient(tls, timeout_s=gateway.deadline_s, handshake_failed=alerts.handshake_failed)
    communities = Communities(gateway, tls, alerts.handshake_failed)
    fan_out = FanOut(gateway.max_calls)
    records = Records(writer)
    room = Room(
        settings=gateway,
        home=domain.home_community_id,
        store=store,
        records=records,
        local=local,
        communities=communities,
        fan_out=fan_out,
        patients=PatientMap(gateway, _discovery(gateway, domain, store, records, local, communities)),
        granted=lambda caller: domain.granted(caller.node, caller.fingerprint),
        spool=Spool(gateway.spool_directory, gateway.spool_total_bytes, "spool_total_bytes"),
    )
    try:
        yield _Joined(room, store, writer, alerts)
    finally:
        fan_out.close()
        communities.close()
        local.close()
        alerts.close()
        store.close()


def find_patient(  # noqa: PLR0917 - the settings of a gateway, then what is asked
    gateway: GatewaySettings,
    domain: AffinityDomainSettings,
    audit: AuditSettings,
    tls: TlsSettings,
    patient_id: str,
    homes: Collection[str],
) -> tuple[Said, ...]:
    """Ask the communities with these homes who our patient is there, all that they find; also while the gateway runs.

    Raises StoreUnavailable, DatabaseRefused.
    """
    every = gateway.model_copy(update={"several": "all"})
    with _joined(every, domain, audit, tls) as joined:
        chosen = [one for one in joined.room.communities.all() if one.home_community_id in homes]
        return by_hand.find_patient(joined.room, patient_id, chosen)


def _discovery(  # noqa: PLR0917 - the parts of the room it works with
    gateway: GatewaySettings,
    domain: AffinityDomainSettings,
    store: SqlGatewayStore,
    records: Records,
    local: SoapClient,
    communities: Communities,
) -> Discovery:
    registry = RegistryPatients(gateway, domain.home_community_id, local, records)
    return Discovery(gateway, domain.home_community_id, store, records, registry, communities)


def worker(
    gateway: GatewaySettings,
    domain: AffinityDomainSettings,
    audit: AuditSettings,
    tls: TlsSettings,
    limits: LimitSettings,
    *,
    sockets: Mapping[str, socket.socket],
    started: Callable[[], None],
    stop: threading.Event,
) -> None:
    """Serve both gateways on ``sockets["soap"]``."""
    with _joined(gateway, domain, audit, tls) as joined:

        def served(actor: Actor, path: str, name: str) -> Asgi:
            return soap_app(
                actor,
                path=path,
                wsdl=lambda address: wsdl(name, address),
                limits=limits,
                max_request_bytes=gateway.max_request_bytes,
                max_document_bytes=gateway.max_request_bytes,
                max_inline_bytes=gateway.max_inline_bytes,
                action_required=lambda caller: domain.strictness_for(caller.node, caller.fingerprint) == "reject",
            )

        app = by_path(
            {
                RESPONDING: served(RespondingGateway(joined.room), RESPONDING, "responding_gateway"),
                INITIATING: served(InitiatingGateway(joined.room), INITIATING, "initiating_gateway"),
            }
        )
        failed = joined.alerts.handshake_failed
        soap = http_listener(
            app,
            sockets["soap"],
            table="gateway.tls",
            tls=tls,
            limits=limits,
            workers=gateway.workers,
            handshake_failed=failed,
        )
        run_listeners([soap, watching(joined.room.communities.certificates())], started, stop)


def single(
    gateway: GatewaySettings,
    domain: AffinityDomainSettings,
    audit: AuditSettings,
    tls: TlsSettings,
    limits: LimitSettings,
    *,
    sockets: Mapping[str, socket.socket],
    started: Callable[[], None],
    stop: threading.Event,
) -> None:
    """Send audit records, and serve the admin port on ``sockets["admin"]``."""
    with _joined(gateway, domain, audit, tls) as joined:
        store = joined.store
        checks = {"database": store.check, "outbox": lambda: not store.outbox.full()}
        admin = admin_listener(sockets["admin"], checks, tls=tls, limits=limits)
        record, outbox, failed = store.record_alone, store.outbox, joined.alerts.handshake_failed
        with sending_records("gateway", joined.recorder, record, outbox, tls, stop, handshake_failed=failed):
            run_listeners([admin, watching(joined.room.communities.certificates())], started, stop)
