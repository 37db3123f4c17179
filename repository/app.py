"""Joins the parts of a repository process; the only place that picks the real ones.

``worker`` serves SOAP (ITI-41, ITI-43, ITI-86); ``single`` is what there must be only one of: the sweep, the scrub, the
sender of audit records, the admin port. Both block until ``stop``. ``sweep_once`` and ``scrub_once`` are those by hand,
``retain`` the retention rules, ``key_use`` and ``rotate_keys`` are the key-encryption keys.
"""

import logging
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Final

from atna.alerts import Alerts
from atna.recorder import Recorder
from atna.settings import AuditSettings
from repository import retention, scrub, sweep
from repository.actor import RepositoryActor
from repository.records import Records
from repository.registry_client import RegistryClient
from repository.room import Room
from repository.rotation import Rotation, rotate
from repository.scanner.choice import scanner_for
from repository.settings import RepositorySettings
from repository.store.keyring import FileKeyring, StaticKeyring, open_keyring
from repository.store.opening import answers, open_store
from repository.store.protocol import StoreUnavailable
from repository.store.scrub_book import ScrubBook
from repository.store.sql import SqlIndex, open_index
from schemas import wsdl
from wire.admin import Check
from wire.client import SoapClient
from wire.running import run_listeners
from wire.service import admin_listener, http_listener, recorder, sending_records
from wire.settings import AffinityDomainSettings, LimitSettings, TlsSettings
from wire.soap_app import soap_app

__all__ = ["KeyUse", "key_use", "retain", "rotate_keys", "scrub_once", "single", "sweep_once", "worker"]

PATH = "/repository"
KEYS_EVERY_S: Final = 2.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Joined:
    """What every process of a repository has."""

    room: Room
    index: SqlIndex
    recorder: Recorder
    alerts: Alerts


@contextmanager
def _joined(
    repository: RepositorySettings, domain: AffinityDomainSettings, audit: AuditSettings, tls: TlsSettings
) -> Iterator[_Joined]:
    writer = recorder("repository", domain, unique_id=repository.unique_id)
    with closing(open_index(repository.database_url, audit.sinks, audit.max_outbox_rows)) as index:
        store = open_store(repository, awaited=lambda: bool(ScrubBook(index).next("", 1)))
        records = Records(writer, repository.registry_url)
        alerts = Alerts(writer, index.record_alone)
        client = SoapClient(tls, timeout_s=repository.registry_timeout_s, handshake_failed=alerts.handshake_failed)
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
            keyring=_keyring(repository),
            sealing=repository.encryption != "off",
            granted=lambda caller: domain.granted(caller.node, caller.fingerprint),
            scanner=scanner_for(repository),
        )
        try:
            yield _Joined(room, index, writer, alerts)
        finally:
            client.close()
            alerts.close()


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
        failed = joined.alerts.handshake_failed
        soap = http_listener(
            app,
            sockets["soap"],
            table="repository.tls",
            tls=tls,
            limits=limits,
            workers=repository.workers,
            handshake_failed=failed,
        )
        with _keys_watched(joined.room, stop):
            run_listeners([soap], started, stop)


@contextmanager
def _keys_watched(room: Room, stop: threading.Event) -> Iterator[None]:
    """Look at the key file also while nobody calls. Sets ``stop`` on the way out.

    A process that had slept through a whole rotation would find none of its keys in the file.
    """

    def watch() -> None:
        while not stop.wait(KEYS_EVERY_S):
            if room.keyring is not None:
                room.keyring.usable()

    thread = threading.Thread(target=watch, name="key file")
    if room.keyring is not None:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        if thread.is_alive():
            thread.join()


def _tell_of_missing_keys(room: Room) -> None:
    """One line for each key that documents are sealed under and that is not at hand: a wrong file begins so."""
    known = room.keyring.names if room.keyring is not None else frozenset()
    try:
        counts = room.index.key_counts()
    except StoreUnavailable:
        return  # told by whatever needs the database
    for name in sorted(one for one in counts if one is not None and one not in known):
        _log.error("key %s is not in the key file; documents that cannot be read without it: %s", name, counts[name])


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
    """Sweep, scrub, send audit records, and serve the admin port on ``sockets["admin"]``."""
    with _joined(repository, domain, audit, tls) as joined:
        outbox = joined.index.outbox
        if not joined.room.scanner.scans:
            _log.warning("documents are not scanned for malware (repository.scanner is none)")
        threads = [
            threading.Thread(target=sweep.run, args=(joined.room, stop), name="sweep"),
            threading.Thread(target=scrub.run, args=(joined.room, ScrubBook(joined.index), stop), name="scrub"),
            threading.Thread(target=_tell_of_missing_keys, args=(joined.room,), name="missing keys"),
        ]
        checks = {
            "database": joined.index.check,
            "store": lambda: answers(joined.room.store, repository.min_free_bytes),
            "outbox": lambda: not outbox.full(),
        }
        admin = admin_listener(sockets["admin"], checks, notes=_notes(joined.room), tls=tls, limits=limits)
        record, failed = joined.room.record_refusal, joined.alerts.handshake_failed
        with (
            _keys_watched(joined.room, stop),
            sending_records("repository", joined.recorder, record, outbox, tls, stop, handshake_failed=failed),
        ):
            for thread in threads:
                thread.start()
            try:
                run_listeners([admin], started, stop)
            finally:
                stop.set()
                for thread in threads:
                    thread.join()


def _notes(room: Room) -> dict[str, Check]:
    """Without scanner or key file nothing can be taken; but documents are given out all the same."""
    notes: dict[str, Check] = {}
    if room.scanner.scans:
        notes["scanner"] = room.scanner.check
    if room.keyring is not None and room.sealing:
        notes["keyring"] = room.keyring.usable
    return notes


def sweep_once(
    repository: RepositorySettings,
    domain: AffinityDomainSettings,
    audit: AuditSettings,
    tls: TlsSettings,
    *,
    staging_age_s: float | None = None,
    remove_orphans: int = 0,
) -> sweep.Report:
    """One whole sweep by hand, also while the services run. Raises StoreUnavailable, DatabaseRefused."""
    with _joined(repository, domain, audit, tls) as joined:
        return sweep.run_once(joined.room, staging_age_s=staging_age_s, remove_orphans=remove_orphans)


def scrub_once(
    repository: RepositorySettings,
    domain: AffinityDomainSettings,
    audit: AuditSettings,
    tls: TlsSettings,
    *,
    bytes_per_s: float | None = None,
    anew: bool = False,
) -> scrub.Report:
    """A pass over all documents by hand, or the rest of one that was begun, also while the services run.

    Raises StoreUnavailable, DatabaseRefused, ScrubBusy.
    """
    with _joined(repository, domain, audit, tls) as joined:
        return scrub.run_pass(joined.room, ScrubBook(joined.index), bytes_per_s=bytes_per_s, anew=anew)


@dataclass(frozen=True, slots=True)
class KeyUse:
    """A key-encryption key, and how many documents are sealed under it; None names documents that are not sealed."""

    name: str | None
    documents: int
    at_hand: bool
    current: bool


def key_use(repository: RepositorySettings, audit: AuditSettings) -> tuple[KeyUse, ...]:
    """Every key that is at hand or in use. Raises StoreUnavailable, DatabaseRefused."""
    keyring = _keyring(repository)
    index = open_index(repository.database_url, audit.sinks, audit.max_outbox_rows)
    try:
        counts = index.key_counts()
    finally:
        index.close()
    known = keyring.names if keyring is not None else frozenset()
    current = keyring.current if keyring is not None and repository.encryption != "off" else None
    names = sorted({name for name in counts if name is not None} | known)
    sealed = tuple(KeyUse(name, counts.get(name, 0), name in known, name == current) for name in names)
    return (*sealed, KeyUse(None, counts.get(None, 0), at_hand=True, current=current is None))


def rotate_keys(repository: RepositorySettings, audit: AuditSettings) -> Rotation | None:
    """Wrap all data keys under the current key; None without keys. Raises StoreUnavailable, DatabaseRefused."""
    keyring = _keyring(repository)
    if keyring is None:
        return None
    index = open_index(repository.database_url, audit.sinks, audit.max_outbox_rows)
    try:
        return rotate(index, keyring)
    finally:
        index.close()


def _keyring(repository: RepositorySettings) -> FileKeyring | StaticKeyring | None:
    return open_keyring(repository.keyring, repository.keys.get_secret_value() if repository.keys else None)


def retain(
    repository: RepositorySettings,
    domain: AffinityDomainSettings,
    audit: AuditSettings,
    tls: TlsSettings,
    *,
    remove: bool,
    operator: str,
    told: Callable[[str, retention.Fate], None],
) -> retention.Report:
    """The retention rules by hand. Raises RegistrySilent, StoreUnavailable, DatabaseRefused."""
    with _joined(repository, domain, audit, tls) as joined:
        return retention.run(joined.room, remove=remove, operator=operator, told=told)
