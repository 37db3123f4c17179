"""The audit service: joins the store, the feed, ITI-81 and the page, and runs them on sockets that were bound for it.

``worker``   socket ``http``: feed of records, ITI-81, check of the chain, page of the log
``single``   socket ``admin``: health and metrics; records that the service starts and stops
"""

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from atna.alerts import Alerts
from atna.message import AuditMessage
from atna.node_events import application_activity
from atna.record_repository.feed import feed
from atna.record_repository.indexing import index
from atna.record_repository.iti81 import Reading, routes
from atna.record_repository.page.pages import LogPage, page_routes
from atna.record_repository.store.records import RecordStore
from atna.recorder import Recorder
from atna.settings import AuditSettings
from wire.admin import admin_app
from wire.http_server import serve_http, server_context
from wire.rest import RestRoute, rest_app
from wire.running import run_listeners
from wire.settings import AffinityDomainSettings, LimitSettings, TlsSettings

__all__ = ["audit_app", "single", "worker"]

PROCESS_NAME: Final = "dossier-audit"
MICROSECONDS: Final = 1_000_000


def worker(
    *,
    audit: AuditSettings,
    domain: AffinityDomainSettings,
    tls: TlsSettings,
    limits: LimitSettings,
    sockets: Mapping[str, socket.socket],
    started: Callable[[], None],
    stop: threading.Event,
) -> None:
    """Serve the feed and ITI-81 until ``stop``."""
    store, recorder = RecordStore.open(audit.database_url), _recorder(domain)
    alerts = Alerts(recorder, lambda records: store.keep([index(record) for record in records]))
    try:
        serve = partial(
            _serve,
            app=audit_app(audit, domain, store, recorder, limits),
            listener=sockets["http"],
            tls=tls,
            limits=limits,
            handshake_failed=alerts.handshake_failed,
        )
        run_listeners([serve], started, stop)
    finally:
        alerts.close()
        store.close()


def single(
    *,
    audit: AuditSettings,
    domain: AffinityDomainSettings,
    tls: TlsSettings,
    limits: LimitSettings,
    sockets: Mapping[str, socket.socket],
    started: Callable[[], None],
    stop: threading.Event,
) -> None:
    """Serve the admin port until ``stop``; record the start before and the stop after."""
    store, recorder = RecordStore.open(audit.database_url), _recorder(domain)
    try:
        _keep(store, recorder, _activity(recorder, started=True))
        app = admin_app({"database": store.answers})
        plain = TlsSettings(allow_plaintext=tls.allow_plaintext)
        serve = partial(_serve, app=app, listener=sockets["admin"], tls=plain, limits=limits)
        run_listeners([serve], started, stop)
        _keep(store, recorder, _activity(recorder, started=False))
    finally:
        store.close()


def audit_app(
    audit: AuditSettings,
    domain: AffinityDomainSettings,
    store: RecordStore,
    recorder: Recorder,
    limits: LimitSettings,
) -> Any:
    """The ASGI application of the audit service."""
    reading = Reading(store, recorder, audit.max_page, int(time.time() * MICROSECONDS))
    handler = feed(store, max_record_bytes=audit.max_record_bytes)
    shown = LogPage(store, recorder, domain, audit.zone, audit.max_export_rows, time.time)
    fed = RestRoute("POST", "/records", handler, audit.max_batch_bytes)
    return rest_app([fed, *routes(reading), *page_routes(shown)], limits=limits)


def _recorder(domain: AffinityDomainSettings) -> Recorder:
    host = socket.getfqdn()
    return Recorder(
        f"{PROCESS_NAME}@{host}", domain.home_community_id, PROCESS_NAME, host, environment=domain.environment
    )


def _activity(recorder: Recorder, *, started: bool) -> AuditMessage:
    return application_activity(
        started=started, application=PROCESS_NAME, process_id=recorder.process_id, address=recorder.host
    )


def _keep(store: RecordStore, recorder: Recorder, message: AuditMessage) -> None:
    store.keep([index(recorder.record(message))])


async def _serve(
    stop: asyncio.Event,
    started: Callable[[], None],
    *,
    app: Any,
    listener: socket.socket,
    tls: TlsSettings,
    limits: LimitSettings,
    handshake_failed: Callable[[str, str], None] | None = None,
) -> None:
    await serve_http(
        app,
        [listener],
        limits=limits,
        tls=server_context(tls) if tls.enabled else None,
        stop=stop,
        started=started,
        allow_plaintext=tls.allow_plaintext,
        handshake_failed=handshake_failed,
    )
