"""The services of a Dossier: which processes each one needs, on which sockets, and the sockets themselves.

A service is some worker processes (its protocol over HTTP) and one single child for what there must be only one of:
patient feed, delivery of audit records, clean-up, and the admin port.
"""

import errno
import http.client
import itertools
import os
import socket
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final
from urllib.parse import unquote, urlsplit

from atna.record_repository.signing import KeyFault, SigningKey
from dossier.console import CommandError
from dossier.settings import DATAGRAMS, LISTENERS, Address, Settings, SettingsError, reachable
from dossier.supervisor import ChildPlan
from repository.store.keyring import FileKeyring
from repository.store.protocol import StoreUnavailable
from wire.forwarded import Forwarded
from wire.settings import TlsSettings
from wire.tls import TlsFault, client_context, server_context

__all__ = [
    "SERVICES",
    "Service",
    "bind_all",
    "check_certificates",
    "check_checkpoint_key",
    "check_folders",
    "check_keyring",
    "endpoints",
    "make_folders",
    "plans",
    "probe",
    "sqlite_file",
    "tls_tables",
]

BACKLOG: Final = 2048


@dataclass(frozen=True, slots=True)
class Service:
    """One actor's processes.

    ``module`` offers ``worker`` and ``single``; the two mappings go from a socket's name there to the settings key that
    holds its address. ``stop_order``: who asks ends before who is asked, so that what is under way
    can be finished; the audit service is last, to take what the others have still to deliver.
    """

    name: str
    module: str
    worker_sockets: Mapping[str, str]
    single_sockets: Mapping[str, str]
    stop_order: int = 0


SERVICES: Final[Mapping[str, Service]] = MappingProxyType(
    {
        service.name: service
        for service in (
            Service(
                "registry",
                "registry.app",
                {"soap": "registry.listen"},
                {"feed": "registry.feed_listen", "admin": "admin.registry_listen"},
                stop_order=2,
            ),
            Service(
                "repository",
                "repository.app",
                {"soap": "repository.listen"},
                {"admin": "admin.repository_listen"},
                stop_order=1,
            ),
            Service("gateway", "gateway.app", {"soap": "gateway.listen"}, {"admin": "admin.gateway_listen"}),
            Service(
                "audit",
                "atna.record_repository.app",
                {
                    "http": "audit.listen",
                    "syslog_tls": "audit.syslog_tls_listen",
                    "syslog_udp": "audit.syslog_udp_listen",
                },
                {"admin": "admin.audit_listen"},
                stop_order=3,
            ),
        )
    }
)


def address_of(settings: Settings, key: str) -> Address:
    """The address under ``section.key``."""
    return Address.parse(_text(settings, key))


def _text(settings: Settings, key: str) -> str:
    section, _, name = key.partition(".")
    text: str = getattr(getattr(settings, section), name)
    return text


def _keys(settings: Settings, service: Service) -> list[str]:
    """Of every listener that is not switched off."""
    keys = [*service.worker_sockets.values(), *service.single_sockets.values()]
    return [key for key in keys if _text(settings, key)]


def bind_all(settings: Settings, services: list[Service]) -> dict[str, socket.socket]:
    """Every listening socket by its settings key; CommandError with one line for each address that cannot be had."""
    bound: dict[str, socket.socket] = {}
    faults: list[str] = []
    for service in services:
        for key in _keys(settings, service):
            address = address_of(settings, key)
            try:
                bound[key] = _listen(address, socket.SOCK_DGRAM if key in DATAGRAMS else socket.SOCK_STREAM)
            except OSError as error:
                faults.append(f"{key}: cannot listen on {address}: {_reason(error)}")
    if faults:
        for sock in bound.values():
            sock.close()
        raise CommandError(*faults, status=2)
    return bound


def _listen(address: Address, kind: socket.SocketKind) -> socket.socket:
    family, _kind, protocol, _name, where = socket.getaddrinfo(
        address.host, address.port, type=kind, flags=socket.AI_PASSIVE
    )[0]
    sock = socket.socket(family, kind, protocol)
    try:
        if kind is socket.SOCK_STREAM:  # with it a second process could share a UDP port, and take half of what comes
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(where)
        if kind is socket.SOCK_STREAM:
            sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock


def _reason(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "the port is in use"
    if isinstance(error, socket.gaierror):
        return "the name has no address"
    return (error.strerror or type(error).__name__).lower()


def plans(settings: Settings, services: list[Service], sockets: Mapping[str, socket.socket]) -> list[ChildPlan]:
    """What the supervisor has to keep alive."""
    out: list[ChildPlan] = []
    places = itertools.count()
    for service in services:
        workers = getattr(getattr(settings, service.name), "workers", 1)
        names = [f"{service.name}-{number}" for number in range(1, workers + 1)]
        out += [_plan(name, service, "worker", sockets, settings, place=next(places)) for name in names]
        out.append(_plan(f"{service.name}-single", service, "single", sockets, settings))
    return out


def _plan(
    name: str,
    service: Service,
    function: str,
    sockets: Mapping[str, socket.socket],
    settings: Settings,
    *,
    place: int | None = None,
) -> ChildPlan:
    keys = service.worker_sockets if function == "worker" else service.single_sockets
    own = {socket_name: sockets[key] for socket_name, key in keys.items() if key in sockets}
    target = f"{service.module}:{function}"
    return ChildPlan(name, service.name, target, own, settings.tree, service.stop_order, place)


def probe(settings: Settings, services: list[Service]) -> bool:
    """Whether every service's admin port says it is alive."""
    for service in services:
        address = Address.parse(reachable(str(address_of(settings, service.single_sockets["admin"]))))
        connection = http.client.HTTPConnection(address.host, address.port, timeout=2)
        try:
            connection.request("GET", "/health/live")
            if connection.getresponse().status != http.HTTPStatus.OK:
                return False
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
    return True


def tls_tables(settings: Settings) -> Iterator[tuple[str, TlsSettings]]:
    """Settings that name files by their table: of each service, and of a listener where they differ from those."""
    tables = [(f"{service}.tls", settings.tls[service]) for service in SERVICES]
    tables += [
        (f"{service}.{table}", settings.tls[name])
        for name, (service, table) in LISTENERS.items()
        if settings.tls[name] != settings.tls[service]
    ]
    yield from ((table, tls) for table, tls in tables if tls.enabled or tls.proxies)


def check_certificates(settings: Settings) -> None:
    """Load every certificate, so that a wrong key or an unreadable file is told before anything starts."""
    faults = []
    for table, tls in tls_tables(settings):
        try:
            server_context(tls)
            Forwarded(tls)
        except TlsFault as error:
            faults.append(f"{table}: {error}")
    for number, community in enumerate(settings.gateway.communities):
        own = community.tls(settings.tls["gateway"])
        try:
            if own != settings.tls["gateway"] and own.enabled:
                client_context(own)
        except TlsFault as error:
            faults.append(f"gateway.communities.{number}: {error}")
    store_ca = settings.repository.store_ca
    if store_ca is not None:
        try:
            ssl.create_default_context(cafile=str(store_ca))
        except OSError:
            faults.append("repository.store_ca: cannot be read as certificates in PEM")
    if faults:
        raise SettingsError(faults)


def check_keyring(settings: Settings) -> None:
    """Read the file of key-encryption keys, for the same reason."""
    path = settings.repository.keyring
    if path is not None:
        try:
            FileKeyring(path)
        except StoreUnavailable as error:
            raise SettingsError([f"repository.keyring: {error}"]) from error


def check_checkpoint_key(settings: Settings, *, starting: bool = True) -> None:
    """Read the key that signs the audit log; when ``starting`` outside production, make it where there is none.

    Where the audit service is not about to start, a key that is not there is none of this machine's.
    """
    path, in_production = settings.audit.checkpoint_key, settings.affinity_domain.environment == "production"
    if path is None:
        if starting and in_production:
            wanted = "make a key with dossier audit key --new FILE, and name it as audit.checkpoint_key"
            raise SettingsError([f"audit.checkpoint_key: the audit log is signed in production: {wanted}"])
        return
    try:
        if os.access(path, os.F_OK) or (starting and in_production):
            SigningKey.there(path)
        elif starting:
            SigningKey.made(path)
    except KeyFault as error:
        raise SettingsError([f"audit.checkpoint_key: {error}"]) from error


def make_folders(settings: Settings, services: list[Service], *, stores: bool = True) -> None:
    """Create the folders of SQLite files and of the document store; CommandError when that fails.

    Without ``stores`` those of the databases alone: whoever only leads databases need not reach the documents.
    """
    for folder in _folders(settings, services, stores=stores):
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise CommandError(f"{folder}: cannot be created: {error.strerror}", status=2) from error


def check_folders(settings: Settings) -> None:
    """Tell of what lies where a folder or a database is wanted; unlike ``make_folders`` this makes nothing."""
    faults = []
    for folder in _folders(settings, list(SERVICES.values()), stores=True):
        lies = next((path for path in (folder, *folder.parents) if path.exists()), None)
        if lies is not None and not lies.is_dir():
            faults.append(f"{folder}: cannot be a folder: {lies} is none")
    for name in SERVICES:
        file = sqlite_file(settings.tree[name]["database_url"])
        if file is not None and file.is_dir():
            faults.append(f"{name}.database_url: {file} is a folder")
    if faults:
        raise SettingsError(list(dict.fromkeys(faults)))


def sqlite_file(url: str) -> Path | None:
    """The file of a ``sqlite:`` URL; ``None`` for another database or one in memory."""
    parts = urlsplit(url)
    path = unquote(parts.path).removeprefix("/")
    if not parts.scheme.startswith("sqlite") or path in {"", ":memory:"}:
        return None
    return Path(path)


def _folders(settings: Settings, services: list[Service], *, stores: bool) -> Iterator[Path]:
    for service in services:
        section = settings.tree[service.name]
        database, store = sqlite_file(section["database_url"]), urlsplit(section.get("store", ""))
        if database is not None:
            yield database.parent
        if stores and store.scheme == "file":
            yield Path(unquote(store.path))


def endpoints(settings: Settings, services: list[Service]) -> list[dict[str, str]]:
    """The endpoint table: service, address, what is spoken there."""
    registry, repository, gateway, audit = (settings.scheme(name) for name in SERVICES)
    feed = "mllps" if settings.tls["registry.feed"].enabled else "mllp"
    syslog = "tls" if settings.tls["audit.syslog"].enabled else "tcp"
    rows = {
        "registry": [
            ("registry", f"{registry}://{settings.registry.listen}/registry", "ITI-42, ITI-18, ITI-44, ITI-47 (?wsdl)"),
            ("patient feed", f"{feed}://{settings.registry.feed_listen}", "ITI-8"),
            ("registry admin", f"http://{settings.admin.registry_listen}", "/health/live /health/ready /metrics"),
        ],
        "repository": [
            ("repository", f"{repository}://{settings.repository.listen}/repository", "ITI-41, ITI-43, ITI-86 (?wsdl)"),
            ("repository admin", f"http://{settings.admin.repository_listen}", "/health/live /health/ready /metrics"),
        ],
        "gateway": [
            (
                "responding gateway",
                f"{gateway}://{settings.gateway.listen}/responding",
                "ITI-38, ITI-39, ITI-55 (?wsdl)",
            ),
            ("initiating gateway", f"{gateway}://{settings.gateway.listen}/initiating", "ITI-18, ITI-43 (?wsdl)"),
            ("gateway admin", f"http://{settings.admin.gateway_listen}", "/health/live /health/ready /metrics"),
        ],
        "audit": [
            ("audit", f"{audit}://{settings.audit.listen}/fhir/AuditEvent", "ITI-81"),
            ("audit log", f"{audit}://{settings.audit.listen}/log", "page for the security officer"),
            ("audit syslog", f"{syslog}://{settings.audit.syslog_tls_listen}", "ITI-20 (RFC 5425)"),
            ("audit syslog", f"udp://{settings.audit.syslog_udp_listen}", "ITI-20 (RFC 5426)"),
            ("audit admin", f"http://{settings.admin.audit_listen}", "/health/live /health/ready /metrics"),
        ],
    }
    return [
        {"service": service, "address": address, "speaks": speaks}
        for one in services
        for service, address, speaks in rows[one.name]
        if not address.endswith("://")
    ]
