"""The one configuration of a Dossier: a TOML file, the environment, secrets from files; every fault told at once.

Where a value comes from, the first that has it wins: ``DOSSIER_SECTION__KEY`` in the environment,
``DOSSIER_SECTION__KEY_FILE`` (a file that holds the value: passwords in URLs stay out of environments), the TOML file,
the defaults made from the data directory and the base port. Lists and tables in the environment are JSON.
``[registry.tls]`` and its like override single keys of ``[tls]``; ``[registry.feed_tls]`` and ``[audit.syslog_tls]``,
each for one listener, override those of their service.

Units stand in the names: ``_s`` seconds, ``_bytes`` bytes.
"""

import json
import os
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource

from atna.settings import AuditSettings
from dossier.address import Address
from dossier.gateway_checks import gateway_faults
from gateway.settings import GatewaySettings
from registry.settings import RegistrySettings
from repository.settings import KEYS_WANTED, RepositorySettings
from wire.settings import AffinityDomainSettings, LimitSettings, TlsSettings

__all__ = [
    "DATAGRAMS",
    "LISTENERS",
    "Address",
    "AdminSettings",
    "Settings",
    "SettingsError",
    "load",
    "reachable",
    "room_arguments",
]

DEFAULT_BASE_PORT: Final = 8000
DEFAULT_DATA: Final = Path("var")
PREFIX: Final = "DOSSIER_"
NOT_SETTINGS: Final = frozenset({"DOSSIER_CONFIG", "DOSSIER_DATA", "DOSSIER_BASE_PORT", "DOSSIER_TRACE"})
"""Environment variables of the command line itself."""
NAMED: Final = frozenset({"affinity_domain.authority_names", "affinity_domain.partners"})
"""Tables whose keys are no words of ours: HL7 namespaces and subjects of certificates, where case counts."""
SERVICES: Final = ("registry", "repository", "gateway", "audit")
LISTENERS: Final[Mapping[str, tuple[str, str]]] = {
    "registry.feed": ("registry", "feed_tls"),
    "audit.syslog": ("audit", "syslog_tls"),
}
"""Listeners with TLS settings of their own: the service they belong to and the table in its section."""
LISTENING: Final = (
    ("registry.listen", "registry", "registry.tls"),
    ("registry.feed_listen", "registry.feed", "registry.feed_tls"),
    ("repository.listen", "repository", "repository.tls"),
    ("gateway.listen", "gateway", "gateway.tls"),
    ("audit.listen", "audit", "audit.tls"),
    ("audit.syslog_tls_listen", "audit.syslog", "audit.syslog_tls"),
    ("audit.syslog_udp_listen", "audit.syslog", "audit.syslog_tls"),
    ("admin.registry_listen", "registry", "registry.tls"),
    ("admin.repository_listen", "repository", "repository.tls"),
    ("admin.gateway_listen", "gateway", "gateway.tls"),
    ("admin.audit_listen", "audit", "audit.tls"),
)
"""Every address of the settings, whose TLS settings hold for it, and where an operator writes them."""
DATAGRAMS: Final = frozenset({"audit.syslog_udp_listen"})
"""UDP: in the clear whatever certificates there are, and with ports of its own."""
SENDERS: Final = ("registry", "repository", "gateway")
"""Services with an outbox."""
SQLITE_WORKERS: Final = 2
LATER: Final = ("xua",)


class SettingsError(Exception):
    """``faults``: one line each, beginning with the key's path, never with a value that could be a secret."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("; ".join(faults))
        self.faults = faults


class AdminSettings(BaseModel):
    """``[admin]``: where each service answers for its health, and how it logs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    registry_listen: str = "127.0.0.1:8019"
    repository_listen: str = "127.0.0.1:8029"
    gateway_listen: str = "127.0.0.1:8039"
    audit_listen: str = "127.0.0.1:8049"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["json", "text"] = "text"


MODELS: Final[Mapping[str, type[BaseModel]]] = {
    "affinity_domain": AffinityDomainSettings,
    "registry": RegistrySettings,
    "repository": RepositorySettings,
    "gateway": GatewaySettings,
    "audit": AuditSettings,
    "tls": TlsSettings,
    "admin": AdminSettings,
    "limits": LimitSettings,
}


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything, checked. ``tree`` is what it was made of, ready for JSON: children are given it and make the same."""

    affinity_domain: AffinityDomainSettings
    registry: RegistrySettings
    repository: RepositorySettings
    gateway: GatewaySettings
    audit: AuditSettings
    admin: AdminSettings
    limits: LimitSettings
    tls: Mapping[str, TlsSettings]
    """Overrides applied: of ``[tls]`` under ``""``, of each service under its name, of each of LISTENERS under its."""
    tree: Mapping[str, Any]

    @classmethod
    def from_tree(cls, tree: Mapping[str, Any]) -> "Settings":
        """Check a tree of sections; raises SettingsError with every fault found."""
        return _Composer(tree).compose()

    def scheme(self, service: str) -> str:
        """``https`` when the service has a certificate."""
        return "https" if self.tls[service].enabled else "http"


def load(
    path: Path | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    data: Path = DEFAULT_DATA,
    base_port: int = DEFAULT_BASE_PORT,
) -> Settings:
    """Read and check all settings; raises SettingsError. ``path`` may be ``None``: defaults and environment alone."""
    faults: list[str] = []
    from_file = _read_file(path, faults)
    from_environ = _read_environ(os.environ if environ is None else environ, faults)
    given = _merged(from_file, from_environ)
    tree = _merged(_defaults(given, data, base_port), given)
    try:
        settings = Settings.from_tree(tree)
    except SettingsError as error:
        faults += error.faults
    if faults:
        raise SettingsError(faults)
    return settings


def room_arguments(settings: Settings, service: str, function: str = "worker") -> dict[str, Any]:
    """The sections a room's ``worker`` or ``single`` is called with; a room never sees the whole."""
    shared = {"domain": settings.affinity_domain, "tls": settings.tls[service], "limits": settings.limits}
    own: dict[str, dict[str, Any]] = {
        "registry": {"registry": settings.registry, "audit": settings.audit},
        "repository": {"repository": settings.repository, "audit": settings.audit},
        "gateway": {"gateway": settings.gateway, "audit": settings.audit},
        "audit": {"audit": settings.audit},
    }
    listeners: dict[tuple[str, str], dict[str, Any]] = {
        ("registry", "single"): {"feed_tls": settings.tls["registry.feed"]},
        ("audit", "worker"): {"syslog_tls": settings.tls["audit.syslog"]},
    }
    return own[service] | shared | listeners.get((service, function), {})


def _read_file(path: Path | None, faults: list[str]) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))  # some editors begin every file with a mark
    except OSError as error:
        faults.append(f"{path}: cannot be read: {error.strerror}")
    except UnicodeDecodeError:
        faults.append(f"{path}: is not UTF-8 text")
    except tomllib.TOMLDecodeError as error:
        faults.append(f"{path}: is not TOML: {error}")
    except (ValueError, RecursionError):
        faults.append(f"{path}: is not TOML that can be read: a number is too long, or lists are nested too deeply")
    return {}


class _RegistryShape(RegistrySettings):
    tls: TlsSettings | None = None
    feed_tls: TlsSettings | None = None


class _RepositoryShape(RepositorySettings):
    tls: TlsSettings | None = None


class _GatewayShape(GatewaySettings):
    tls: TlsSettings | None = None


class _AuditShape(AuditSettings):
    tls: TlsSettings | None = None
    syslog_tls: TlsSettings | None = None


class _Shape(BaseSettings):
    """What the environment can name; only its field types are used, to tell lists and tables from text."""

    affinity_domain: AffinityDomainSettings | None = None
    registry: _RegistryShape | None = None
    repository: _RepositoryShape | None = None
    gateway: _GatewayShape | None = None
    audit: _AuditShape | None = None
    tls: TlsSettings | None = None
    admin: AdminSettings | None = None
    limits: LimitSettings | None = None


class _Environment(EnvSettingsSource):
    """``DOSSIER_SECTION__KEY`` as a tree; what is no JSON stays text, so that the check names it with the rest."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = {_spelled(name, str.lower): value for name, value in environ.items()}
        super().__init__(_Shape, env_prefix=PREFIX, env_nested_delimiter="__", case_sensitive=False)

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return self._environ

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        try:
            return super().decode_complex_value(field_name, field, value)
        except (ValueError, RecursionError):
            return value


def _read_environ(environ: Mapping[str, str], faults: list[str]) -> dict[str, Any]:
    values: dict[str, str] = {}
    ours = dict(_ours(environ))
    for name, value in ours.items():
        if not name.endswith("_FILE"):
            values[name] = value
            continue
        target = name.removesuffix("_FILE")
        if target in ours:
            faults.append(f"{name}: {target} is set as well; give one of them")
            continue
        try:
            values[target] = Path(value).read_text(encoding="utf-8").rstrip("\r\n")
        except OSError as error:
            # Without the path: what stands there by mistake may be the secret itself.
            faults.append(f"{name}: the file it names cannot be read: {error.strerror}")
        except ValueError:
            faults.append(f"{name}: the file it names cannot be read: it is no UTF-8 text")
    for name in sorted(values):
        section = name.removeprefix(PREFIX).lower().partition("__")[0]
        if section not in (*MODELS, *LATER):
            faults.append(f"{name}: no such section; known are {', '.join(MODELS)}")
    return _Environment(values)()


def _ours(environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for name, value in environ.items():
        if name.upper().startswith(PREFIX) and name.upper() not in NOT_SETTINGS:
            yield _spelled(name, str.upper), value


def _spelled(name: str, case: Callable[[str], str]) -> str:
    """A variable's name in capitals or small letters; a key of a ``NAMED`` table as it was written."""
    parts = name.split("__")
    table = ".".join(parts[:2])[len(PREFIX) :].lower()
    return "__".join(part if number == 2 and table in NAMED else case(part) for number, part in enumerate(parts))


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """``above`` over ``below``, table by table."""
    out = dict(below)
    for key, value in above.items():
        if isinstance(value, Mapping) and isinstance(out.get(key), Mapping):
            out[key] = _merged(out[key], value)
        else:
            out[key] = value
    return out


def _defaults(given: Mapping[str, Any], data: Path, base_port: int) -> dict[str, Any]:
    """What follows from the data directory, the base port, and whether there are certificates."""
    here = data.resolve()

    def address(offset: int) -> str:
        return f"127.0.0.1:{base_port + offset}"

    def url(service: str, offset: int, path: str) -> str:
        section = given.get(service)
        listen = section.get("listen") if isinstance(section, Mapping) else None
        return f"{_given_scheme(given, service)}://{reachable(listen or address(offset))}{path}"

    registry = given.get("registry")
    shared = {}
    repository = given.get("repository")
    named = repository.get("unique_id") if isinstance(repository, Mapping) else None
    own_repository = named or RepositorySettings.model_fields["unique_id"].default
    if isinstance(registry, Mapping) and "max_registration_s" in registry:
        shared["max_registration_s"] = registry["max_registration_s"]
    return {
        "registry": {
            "listen": address(10),
            "feed_listen": address(11),
            "database_url": f"sqlite:///{here / 'registry.db'}",
        },
        "repository": {
            "listen": address(20),
            "database_url": f"sqlite:///{here / 'repository.db'}",
            "store": (here / "documents").as_uri(),
            "registry_url": url("registry", 10, "/registry"),
            **shared,
        },
        "gateway": {
            "listen": address(30),
            "database_url": f"sqlite:///{here / 'gateway.db'}",
            "registry_url": url("registry", 10, "/registry"),
            "repositories": [{"unique_id": own_repository, "url": url("repository", 20, "/repository")}],
        },
        "audit": {
            "listen": address(40),
            "syslog_tls_listen": address(41),
            "syslog_udp_listen": address(42),
            "database_url": f"sqlite:///{here / 'audit.db'}",
            "sinks": [url("audit", 40, "/records")],
            # In production the operator says where it lies, so that he knows what to guard and to back up.
            **({} if _in_production(given) else {"checkpoint_key": str(here / "audit_checkpoint_key.pem")}),
        },
        "admin": {
            "registry_listen": address(19),
            "repository_listen": address(29),
            "gateway_listen": address(39),
            "audit_listen": address(49),
        },
    }


def _in_production(given: Mapping[str, Any]) -> bool:
    domain = given.get("affinity_domain")
    return isinstance(domain, Mapping) and domain.get("environment") == "production"


def _given_scheme(given: Mapping[str, Any], service: str) -> str:
    tables = [given.get("tls"), (given.get(service) or {}).get("tls") if isinstance(given.get(service), dict) else None]
    return "https" if any(isinstance(table, Mapping) and table.get("certificate") for table in tables) else "http"


def reachable(listen: Any) -> str:
    """The address to call a service at that listens on every interface."""
    try:
        address = Address.parse(str(listen))
    except ValueError:
        return str(listen)
    everywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared with, not bound to
    return str(Address(everywhere.get(address.host, address.host), address.port))


class _Composer:
    """Checks the sections one by one, so that a fault in one hides none in another."""

    def __init__(self, tree: Mapping[str, Any]) -> None:
        self._tree = tree
        self._faults: list[str] = []

    def compose(self) -> Settings:
        self._check_names()
        raw = {name: self._table(name) for name in MODELS}
        tls_raw = {service: raw[service].pop("tls", {}) for service in SERVICES}
        own_raw = {name: raw[service].pop(table, {}) for name, (service, table) in LISTENERS.items()}
        parts = {name: self._section(name, model, raw[name]) for name, model in MODELS.items()}
        tls = {"": parts["tls"]}
        for service in SERVICES:
            tls[service] = self._override(f"{service}.tls", raw["tls"], tls_raw[service]) or parts["tls"]
        for name, (service, table) in LISTENERS.items():
            base = {**raw["tls"], **tls_raw[service]} if isinstance(tls_raw[service], Mapping) else raw["tls"]
            tls[name] = self._override(f"{service}.{table}", base, own_raw[name]) or tls[service]
        self._check_addresses(parts, tls)
        self._check_workers(parts)
        self._check_encryption(parts)
        self._check_sinks(parts, tls)
        self._check_gateway(raw["gateway"], parts, tls)
        if self._faults:
            raise SettingsError(self._faults)
        named = {name: part for name, part in parts.items() if name != "tls"}
        return Settings(**named, tls=tls, tree=json.loads(json.dumps(self._tree, default=_plain)))  # type: ignore[arg-type]

    def _check_names(self) -> None:
        for name in self._tree:
            if name in LATER:
                self._faults.append(f"{name}: not in this version")
            elif name not in MODELS:
                self._faults.append(f"{name}: no such section; known are {', '.join(MODELS)}")

    def _table(self, name: str) -> dict[str, Any]:
        value = self._tree.get(name, {})
        if isinstance(value, Mapping):
            return dict(value)
        self._faults.append(f"{name}: should be a table of settings")
        return {}

    def _section(self, path: str, model: type[BaseModel], values: Mapping[str, Any]) -> BaseModel | None:
        try:
            return model.model_validate(values)
        except ValidationError as error:
            self._faults += [_fault(path, model, one) for one in error.errors()]
            return None

    def _override(self, path: str, base: Mapping[str, Any], own: Any) -> BaseModel | None:
        """TLS settings of less than all; faults of keys they only inherit are told where those stand, alone."""
        if not own:
            return None
        if not isinstance(own, Mapping):
            self._faults.append(f"{path}: should be a table of settings")
            return None
        try:
            return TlsSettings.model_validate({**base, **own})
        except ValidationError as error:
            mine = [one for one in error.errors() if not one["loc"] or one["loc"][0] in own]
            self._faults += [_fault(path, TlsSettings, one) for one in mine]
            return None

    def _check_addresses(self, parts: Mapping[str, Any], tls: Mapping[str, Any]) -> None:
        taken: dict[tuple[Address, bool], str] = {}
        for path, table, text, plaintext_forbidden in _listens(parts, tls):
            try:
                address = Address.parse(text)
            except ValueError as error:
                self._faults.append(f"{path}: {error}")
                continue
            udp = path in DATAGRAMS
            if (address, udp) in taken:
                self._faults.append(f"{path}: {taken[address, udp]} has the same address")
            taken.setdefault((address, udp), path)
            if plaintext_forbidden and not address.loopback:
                remedy = f"{table}.allow_plaintext = true" if udp else "tls.allow_plaintext = true"
                if not udp and not path.startswith("admin."):
                    remedy = f"certificate, key and ca in tls or {table}, or {remedy}"
                self._faults.append(f"{path}: is not a loopback address and would speak in the clear; needs {remedy}")

    def _check_workers(self, parts: Mapping[str, Any]) -> None:
        """One writer at a time is all SQLite has: more processes only wait for each other."""
        for service in SERVICES:
            section = parts[service]
            if section is not None and section.database_url.startswith("sqlite") and section.workers > SQLITE_WORKERS:
                self._faults.append(f"{service}.workers: at most {SQLITE_WORKERS} with SQLite; PostgreSQL takes more")

    def _check_encryption(self, parts: Mapping[str, Any]) -> None:
        """In production documents are sealed unless somebody has decided otherwise, and said so."""
        domain, section = parts["affinity_domain"], parts["repository"]
        if domain is None or section is None or domain.environment != "production":
            return
        if section.encryption == "auto" and not section.has_keys:
            self._faults.append(f"repository.encryption: documents are sealed in production: {KEYS_WANTED}; or say off")

    def _check_gateway(self, given: Mapping[str, Any], parts: Mapping[str, Any], tls: Mapping[str, Any]) -> None:
        self._faults += gateway_faults(given, parts["affinity_domain"], tls["gateway"])

    def _check_sinks(self, parts: Mapping[str, Any], tls: Mapping[str, Any]) -> None:
        """Whoever sends by syslog over TLS shows a certificate (ITI TF-2: 3.19) and knows whom to trust."""
        audit = parts["audit"]
        if audit is None or not any(sink.startswith("tls:") for sink in audit.sinks):
            return
        for service in SENDERS:
            section = tls[service]
            if section is not None and not (section.enabled and section.ca is not None):
                self._faults.append(f"audit.sinks: tls:// needs certificate, key and ca in tls or {service}.tls")


def _listens(parts: Mapping[str, Any], tls: Mapping[str, Any]) -> Iterator[tuple[str, str, str, bool]]:
    """(path, table of its TLS settings, address, whether it must be loopback) of every socket that will be bound."""
    for path, name, table in LISTENING:
        section, _, key = path.partition(".")
        address = getattr(parts[section], key) if parts[section] is not None else None
        if not address:
            continue
        certificates = tls[name]
        # TLS settings that are themselves at fault are told of there; here they count as present.
        plaintext = certificates is not None and certificates.allow_plaintext
        secured = certificates is None or certificates.enabled
        in_the_clear = section == "admin" or path in DATAGRAMS or not secured
        yield path, table, address, in_the_clear and not plaintext


SHAPES: Final[Mapping[str, str]] = {
    "tuple_type": 'should be a list: ["…", "…"], in the environment too',
    "dict_type": "should be a table; in the environment a JSON object",
    "model_type": "should be a table; in the environment a JSON object",
}
"""What pydantic calls by the names of Python's types."""


def _fault(section: str, model: type[BaseModel], error: Mapping[str, Any]) -> str:
    """One line: the key's path, what is allowed; never the value that was given."""
    path = ".".join([section, *(str(part) for part in error["loc"])])
    if error["type"] == "extra_forbidden":
        known = f"; [{section}] knows {', '.join(model.model_fields)}" if len(error["loc"]) == 1 else ""
        return f"{path}: no such setting{known}"
    message = SHAPES.get(error["type"]) or str(error["msg"]).removeprefix("Value error, ")
    return f"{path}: {message[:1].lower()}{message[1:]}"


def _plain(value: object) -> Any:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    return str(value)
