"""Joins the parts of a repository process; the only place that picks the real ones.

``worker`` serves SOAP (ITI-41, ITI-43); ``single`` is what there must be only one of: the sweep, the sender of audit
records, the admin port. Both block until ``stop``. ``sweep_once`` is the sweep by hand.
"""

import asyncio
import logging
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from atna import events
from atna.alerts import Alerts
from atna.recorder import Recorder
from atna.sender import Sender
from atna.settings import AuditSettings
from repository import sweep
from repository.actor import RepositoryActor
from repository.records import Records
from repository.registry_client import RegistryClient
from repository.room import Room
from repository.scanner.choice import scanner_for
from repository.settings import RepositorySettings, store_directory
from repository.store.directory import DirectoryStore
from repository.store.sql import SqlIndex, open_index
from schemas import wsdl
from wire.admin import admin_app
from wire.client import SoapClient
from wire.http_server import serve_http
from wire.records_client import records_client
from wire.running import run_listeners
from wire.settings import AffinityDomainSettings, LimitSettings, TlsSettings
from wire.soap_app import soap_app
from wire.tls import server_context

__all__ = ["single", "sweep_once", "worker"]

PATH = "/repository"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Joined:
    """What every process of a repository has."""

    room: Room
    index: SqlIndex
    recorder: Recorder


@contextmanager
def _joined(
    repository: RepositorySettings, domain: AffinityDomainSettings, audit: AuditSettings, tls: TlsSettings
) -> Iterator[_Joined]:
    recorder = Recorder(
        f"repository {repository.unique_id}@{domain.home_community_id}",
        domain.home_community_id,
        "dossier-repository",
        socket.gethostname() or "localhost",
        environment=domain.environment,
    )
    store = DirectoryStore(store_directory(repository.store), min_free_bytes=repository.min_free_bytes)
    index = open_index(repository.database_url, audit.sinks, audit.max_outbox_rows)
    records = Records(recorder, repository.registry_url)
    client = SoapClient(tls, timeout_s=repository.registry_timeout_s)
    room = Room(
        settings=repository,
        store=store,
        index=index,
        registry=RegistryClient(
            client, repository.registry_url, records, max_registration_s=repository.max_registration_s
        ),
        records=records,
        clock=lambda: time.time_ns() // 1000,
        new_key=lambda: secrets.token_hex(16),
        scanner=scanner_for(repository),
    )
    try:
        yield _Joined(room, index, recorder)
    finally:
        client.close()
        index.close()


def worker(
    repository: RepositorySettings,
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
    with _joined(repository, domain, audit, tls) as joined:
        app = soap_app(
            RepositoryActor(joined.room),
            path=PATH,
            wsdl=lambda address: wsdl("repository", address),
            limits=limits,
            max_request_bytes=repository.max_request_bytes,
            max_document_bytes=repository.max_document_bytes,
            max_inline_bytes=repository.max_inline_bytes,
            upload_buffer_bytes=repository.upload_buffer_bytes,
            action_required=lambda caller: domain.strictness_for(caller.node, caller.fingerprint) == "reject",
        )
        context = server_context(tls) if tls.enabled else None
        alerts = Alerts(joined.recorder, joined.index.record_alone)

        async def serve(ending: asyncio.Event, ready: Callable[[], None]) -> None:
            await serve_http(
                app,
                [sockets["soap"]],
                limits=limits,
                tls=context,
                stop=ending,
                started=ready,
                allow_plaintext=tls.allow_plaintext,
                handshake_failed=alerts.handshake_failed,
            )

        try:
            run_listeners([serve], started, stop)
        finally:
            alerts.close()


def single(
    repository: RepositorySettings,
    domain: AffinityDomainSettings,
    audit: AuditSettings,
    tls: TlsSettings,
    limits: LimitSettings,
    *,
    sockets: Mapping[str, socket.socket],
    started: Callable[[], None],
    stop: threading.Event,
) -> None:
    """Sweep, send audit records, and serve the admin port on ``sockets["admin"]``."""
    with _joined(repository, domain, audit, tls) as joined:
        outbox = joined.index.outbox
        _note_activity(joined, started=True)
        if not joined.room.scanner.scans:
            _log.warning("documents are not scanned for malware (repository.scanner is none)")
        threads = [
            threading.Thread(target=Sender(outbox, records_client(tls)).run, args=(stop,), name="audit sender"),
            threading.Thread(target=sweep.run, args=(joined.room, stop), name="sweep"),
        ]
        for thread in threads:
            thread.start()

        async def serve_admin(ending: asyncio.Event, ready: Callable[[], None]) -> None:
            checks = {
                "database": joined.index.check,
                "store": lambda: (joined.room.store.free_bytes() or 0) > repository.min_free_bytes,
                "outbox": lambda: not outbox.full(),
            }
            # What has to be scanned cannot be taken without the scanner; but documents are given out all the same.
            notes = {"scanner": joined.room.scanner.check} if joined.room.scanner.scans else None
            app = admin_app(checks, notes)
            await serve_http(
                app,
                [sockets["admin"]],
                limits=limits,
                tls=None,
                stop=ending,
                started=ready,
                allow_plaintext=tls.allow_plaintext,
            )

        try:
            run_listeners([serve_admin], started, stop)
        finally:
            stop.set()
            _note_activity(joined, started=False)
            for thread in threads:
                thread.join()


def sweep_once(
    repository: RepositorySettings,
    domain: AffinityDomainSettings,
    audit: AuditSettings,
    tls: TlsSettings,
    *,
    staging_age_s: float | None = None,
) -> sweep.Report:
    """One whole sweep by hand, also while the services run. Raises StoreUnavailable, DatabaseRefused."""
    with _joined(repository, domain, audit, tls) as joined:
        return sweep.run_once(joined.room, staging_age_s=staging_age_s)


def _note_activity(joined: _Joined, *, started: bool) -> None:
    message = events.application_activity(
        started=started,
        application="repository",
        process_id=joined.recorder.process_id,
        address=joined.recorder.host,
    )
    joined.room.record_refusal([joined.recorder.record(message)])
