"""Joins the parts of a registry process; the only place that picks the real ones.

``worker`` serves SOAP (ITI-42, ITI-18, ITI-44 …); ``single`` is what there must be only one of: the patient feed
(ITI-8), the sender of audit records, the admin port. Both block until ``stop``.
"""

import asyncio
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from atna.alerts import Alerts
from atna.recorder import Recorder
from atna.settings import AuditSettings
from atna.store.engine import Engine
from atna.store.outbox import GroupCommit, Outbox
from registry.actor import RegistryActor
from registry.feed import FeedActor, demographics_query, feed_v3
from registry.joined import Joined
from registry.settings import RegistrySettings
from registry.store.opening import open_registry
from registry.store.sql import SqlRegistryStore
from registry.store.tables import outbox
from schemas import wsdl
from wire.affinity_domain import Agreement
from wire.mllp import MllpLimits, serve_mllp
from wire.reloading import listener_context
from wire.running import run_listeners
from wire.service import admin_listener, http_listener, recorder, sending_records
from wire.settings import AffinityDomainSettings, LimitSettings, TlsSettings
from wire.soap_app import soap_app

PATH = "/registry"


@dataclass(frozen=True, slots=True)
class _Room:
    """What every process of a registry has."""

    engine: Engine
    outbox: Outbox
    store: SqlRegistryStore
    recorder: Recorder


def _open(registry: RegistrySettings, domain: AffinityDomainSettings, audit: AuditSettings) -> _Room:
    engine, reader = open_registry(registry.database_url, registry.read_database_url)
    waiting = Outbox(engine, outbox, audit.sinks, audit.max_outbox_rows)
    store = SqlRegistryStore(engine, waiting, GroupCommit(engine, outbox, audit.sinks), reader=reader)
    writer = recorder("registry", domain)
    return _Room(engine, waiting, store, writer)


def worker(
    registry: RegistrySettings,
    domain: AffinityDomainSettings,
    audit: AuditSettings,
    tls: TlsSettings,
    limits: LimitSettings,
    *,
    sockets: Mapping[str, socket.socket],
    started: Callable[[], None],
    stop: threading.Event,
) -> None:
    """Serve SOAP on ``sockets["soap"]``."""
    room = _open(registry, domain, audit)
    agreement = Agreement(domain)
    actor = RegistryActor(room.store, room.recorder, agreement, domain, registry)
    feed = feed_v3(room.engine, room.outbox, room.recorder, domain, registry)
    query = demographics_query(room.engine, room.outbox, room.recorder, domain, registry)
    app = soap_app(
        Joined([actor, feed, query]),
        path=PATH,
        wsdl=lambda address: wsdl("registry", address),
        limits=limits,
        max_request_bytes=registry.max_request_bytes,
        max_document_bytes=registry.max_request_bytes,
        max_inline_bytes=registry.max_request_bytes,
        action_required=lambda caller: domain.strictness_for(caller.node, caller.fingerprint) == "reject",
    )
    alerts = Alerts(room.recorder, room.store.record_alone)
    failed = alerts.handshake_failed
    soap = http_listener(
        app,
        sockets["soap"],
        table="registry.tls",
        tls=tls,
        limits=limits,
        workers=registry.workers,
        handshake_failed=failed,
    )
    agreement.watch(stop)
    try:
        run_listeners([soap], started, stop)
    finally:
        alerts.close()
        room.engine.dispose()


def single(
    registry: RegistrySettings,
    domain: AffinityDomainSettings,
    audit: AuditSettings,
    tls: TlsSettings,
    limits: LimitSettings,
    *,
    feed_tls: TlsSettings,
    sockets: Mapping[str, socket.socket],
    started: Callable[[], None],
    stop: threading.Event,
) -> None:
    """Serve the patient feed on ``sockets["feed"]``, the admin port on ``sockets["admin"]``, and send audit records."""
    room = _open(registry, domain, audit)
    feed = FeedActor(room.engine, room.outbox, room.recorder, domain, registry)
    context = listener_context(feed_tls, "registry.feed_tls")
    bounds = MllpLimits(
        max_message_bytes=registry.feed_max_message_bytes,
        max_connections=registry.feed_max_connections,
        threads=registry.feed_threads,
        idle_timeout_s=registry.feed_idle_timeout_s,
        message_timeout_s=registry.feed_message_timeout_s,
    )
    alerts = Alerts(room.recorder, room.store.record_alone)
    agreement = Agreement(domain)
    agreement.watch(stop)

    async def serve_feed(ending: asyncio.Event, ready: Callable[[], None]) -> None:
        await serve_mllp(
            feed.handle,
            sockets["feed"],
            limits=bounds,
            tls=context,
            stop=ending,
            started=ready,
            handshake_failed=alerts.handshake_failed,
        )

    checks = {"database": lambda: room.outbox.backlog() is not None, "outbox": lambda: not room.outbox.full()}
    notes = {"code_file": lambda: agreement.up_to_date}
    admin = admin_listener(sockets["admin"], checks, notes=notes, tls=tls, limits=limits)
    try:
        failed = alerts.handshake_failed
        record, outbox = room.store.record_alone, room.outbox
        with sending_records("registry", room.recorder, record, outbox, tls, stop, handshake_failed=failed):
            try:
                run_listeners([serve_feed, admin], started, stop)
            finally:
                alerts.close()
    finally:
        room.engine.dispose()
