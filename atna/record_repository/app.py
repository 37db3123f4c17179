"""The audit service: joins the store, the feeds, ITI-81 and the page, and runs them on sockets bound for it.

``worker``   socket ``http``: feed of records, FHIR feed, ITI-81, check of the chain, page of the log;
             ``syslog_tls`` and ``syslog_udp``, each unless switched off: RFC 5425 and RFC 5426
``single``   socket ``admin``: health and metrics; records that the service starts and stops, signs checkpoints
``retention``  the retention rule by hand
``export``   a partition as a file, by hand
"""

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

from atna.alerts import Alerts
from atna.message import AuditMessage
from atna.node_events import application_activity
from atna.record_repository.checkpoints import Checkpoints
from atna.record_repository.export import Export
from atna.record_repository.feed import feed
from atna.record_repository.fhir_routes import fhir_routes
from atna.record_repository.indexing import index
from atna.record_repository.iti20_fhir_feed import fhir_feed
from atna.record_repository.iti81 import Reading, routes
from atna.record_repository.page.pages import LogPage, page_routes
from atna.record_repository.receiver import receive
from atna.record_repository.retention import Retention
from atna.record_repository.signing import SigningKey
from atna.record_repository.store.records import RecordStore
from atna.recorder import Recorder
from atna.settings import AuditSettings
from wire.http_server import check_plaintext
from wire.reloading import listener_context
from wire.rest import RestRoute, rest_app
from wire.running import Listener, run_listeners
from wire.service import admin_listener, http_listener
from wire.settings import AffinityDomainSettings, LimitSettings, TlsSettings
from wire.syslog import SyslogLimits

__all__ = ["audit_app", "export", "retention", "single", "worker"]

PROCESS_NAME: Final = "dossier-audit"
MICROSECONDS: Final = 1_000_000

_log = logging.getLogger(__name__)


def worker(
    *,
    audit: AuditSettings,
    domain: AffinityDomainSettings,
    tls: TlsSettings,
    limits: LimitSettings,
    syslog_tls: TlsSettings | None = None,
    sockets: Mapping[str, socket.socket],
    started: Callable[[], None],
    stop: threading.Event,
) -> None:
    """Serve the feed, ITI-81 and syslog until ``stop``."""
    store, recorder = RecordStore.open(audit.database_url), _recorder(domain)
    alerts = Alerts(recorder, lambda records: store.keep([index(record) for record in records]))
    try:
        app = audit_app(audit, domain, store, recorder, limits)
        failed = alerts.handshake_failed
        serve = http_listener(
            app,
            sockets["http"],
            table="audit.tls",
            tls=tls,
            limits=limits,
            workers=audit.workers,
            handshake_failed=failed,
        )
        listeners: list[Listener] = [serve]
        if "syslog_tls" in sockets or "syslog_udp" in sockets:
            listeners.append(
                _syslog(audit, store, tls=syslog_tls or tls, limits=limits, sockets=sockets, alerts=alerts)
            )
        run_listeners(listeners, started, stop)
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
    """Serve the admin port until ``stop``; record the start before and the stop after, and sign what is recorded."""
    store, recorder = RecordStore.open(audit.database_url), _recorder(domain)
    try:
        checkpoints = _checkpoints(store, audit)
        _keep(store, recorder, _activity(recorder, started=True))
        admin = admin_listener(sockets["admin"], {"database": store.answers}, tls=tls, limits=limits)
        with _beside(checkpoints, stop):
            run_listeners([admin], started, stop)
        _keep(store, recorder, _activity(recorder, started=False))
        if checkpoints is not None:
            checkpoints.write()
    finally:
        store.close()


@contextmanager
def retention(*, audit: AuditSettings, domain: AffinityDomainSettings) -> Iterator[Retention]:
    """The retention rule by hand, while the service runs or not. Raises DatabaseRefused, StoreUnavailable."""
    store = RecordStore.open(audit.database_url)
    try:
        yield Retention(store, _recorder(domain), audit.retention_days, int(time.time() * MICROSECONDS))
    finally:
        store.close()


@contextmanager
def export(*, audit: AuditSettings, domain: AffinityDomainSettings) -> Iterator[Export]:
    """Partitions handed over by hand, while the service runs or not. Raises DatabaseRefused, StoreUnavailable."""
    store = RecordStore.open(audit.database_url)
    try:
        yield Export(store, _recorder(domain))
    finally:
        store.close()


def _checkpoints(store: RecordStore, audit: AuditSettings) -> Checkpoints | None:
    if audit.checkpoint_key is None:
        _log.warning("the audit log is not signed (audit.checkpoint_key is not set)")
        return None
    key = SigningKey.read(audit.checkpoint_key)
    return Checkpoints(store, key, records=audit.checkpoint_records, interval_s=audit.checkpoint_interval_s)


@contextmanager
def _beside(checkpoints: Checkpoints | None, stop: threading.Event) -> Iterator[None]:
    """The thread of the checkpoints, ended whichever way the block ends."""
    if checkpoints is None:
        yield
        return
    thread = threading.Thread(target=checkpoints.run, args=(stop,), name="checkpoints")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def audit_app(
    audit: AuditSettings,
    domain: AffinityDomainSettings,
    store: RecordStore,
    recorder: Recorder,
    limits: LimitSettings,
) -> Any:
    """The ASGI application of the audit service."""
    reading = Reading(store, recorder, domain, audit.max_page, int(time.time() * MICROSECONDS))
    handler = feed(store, max_record_bytes=audit.max_record_bytes)
    shown = LogPage(store, recorder, domain, audit.zone, audit.max_export_rows, time.time)
    return rest_app(
        [
            RestRoute("POST", "/records", handler, audit.max_batch_bytes, limit="max_batch_bytes"),
            *fhir_routes([*routes(reading), *fhir_feed(store, max_fhir_bytes=audit.max_fhir_bytes)]),
            *page_routes(shown),
        ],
        limits=limits,
    )


def _syslog(
    audit: AuditSettings,
    store: RecordStore,
    *,
    tls: TlsSettings,
    limits: LimitSettings,
    sockets: Mapping[str, socket.socket],
    alerts: Alerts,
) -> Listener:
    streams, datagrams = sockets.get("syslog_tls"), sockets.get("syslog_udp")
    if not tls.allow_plaintext:
        clear = (None if tls.enabled else streams, datagrams)
        check_plaintext([one for one in clear if one is not None])
    return partial(
        receive,
        records=store,
        streams=streams,
        datagrams=datagrams,
        max_waiting_bytes=audit.syslog_max_waiting_bytes,
        limits=SyslogLimits(
            max_message_bytes=audit.max_record_bytes,
            max_connections=audit.syslog_max_connections,
            idle_timeout_s=audit.syslog_idle_timeout_s,
            message_timeout_s=audit.syslog_message_timeout_s,
            handshake_timeout_s=limits.tls_handshake_timeout_s,
            confirm_timeout_s=audit.syslog_confirm_timeout_s,
            drain_s=limits.drain_s,
        ),
        tls=listener_context(tls, "audit.syslog_tls"),
        handshake_failed=alerts.handshake_failed,
    )


def _recorder(domain: AffinityDomainSettings) -> Recorder:
    host = socket.gethostname() or "localhost"
    return Recorder(
        f"{PROCESS_NAME}@{host}", domain.home_community_id, PROCESS_NAME, host, environment=domain.environment
    )


def _activity(recorder: Recorder, *, started: bool) -> AuditMessage:
    return application_activity(
        started=started, application=PROCESS_NAME, process_id=recorder.process_id, address=recorder.host
    )


def _keep(store: RecordStore, recorder: Recorder, message: AuditMessage) -> None:
    store.keep([index(recorder.record(message))])
