"""Whole domains on one machine that know each other: each a ``dossier serve all`` with an authority of its own.

Every domain has a certificate authority, a home, a repository id, a data directory and ports of its own, and speaks
TLS with client certificates alone. Only its gateway knows the authorities of the others: what a neighbour may call.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dossier.authority import Authority, write
from dossier.demo import free_base_port, serving
from tests.conftest import command
from wire.settings import TlsSettings

ROOT = "1.3.6.1.4.1.21367.2011"
AUTHORITY = f"{ROOT}.2.5.9999"
PEOPLE = ("server", "consumer", "auditor", "stranger")
DAYS = 30
START_S = 600
"""Dozens of processes at once, perhaps beside other tests: longer than any start takes that still comes to an end."""


@dataclass
class Domain:
    """One of them. ``knows`` maps the name of another domain to what its table says beside home and addresses."""

    name: str
    folder: Path
    number: int
    base_port: int
    knows: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def home(self) -> str:
        return f"urn:oid:{ROOT}.2.7.{7000 + self.number}"

    @property
    def repository_id(self) -> str:
        return f"{ROOT}.2.3.{7000 + self.number}"

    def url(self, offset: int, path: str) -> str:
        return f"https://localhost:{self.base_port + offset}/{path}"

    @property
    def registry(self) -> str:
        return self.url(10, "registry")

    @property
    def responding(self) -> str:
        return self.url(30, "responding")

    @property
    def initiating(self) -> str:
        return self.url(30, "initiating")

    def tls(self, who: str = "consumer", ca: Path | None = None) -> TlsSettings:
        """The settings of a client with a certificate of this domain's authority."""
        certs = self.folder / "certs"
        return TlsSettings(certificate=certs / f"{who}.pem", key=certs / f"{who}.key", ca=ca or certs / "ca.pem")

    def run(self, *words: str, who: str = "consumer", config: str | None = None) -> Any:
        """A command of this domain with --json; fails where it does."""
        status, out, err = self.tried(*words, "--json", who=who, config=config)
        assert status == 0, f"{self.name}: {words}: {err}"
        return json.loads(out)

    def tried(self, *words: str, who: str = "consumer", config: str | None = None) -> tuple[int, str, str]:
        """A command of this domain: status, output, errors."""
        file = self.folder / (config or f"{who}.toml")
        return command(*words, "--config", str(file), "--base-port", str(self.base_port))

    def audit(self, **criteria: str) -> list[dict[str, Any]]:
        """The rows of ``dossier audit`` as the security officer of this domain sees them."""
        words = [word for name, value in criteria.items() for word in (f"--{name}", value)]
        found: list[dict[str, Any]] = self.run("audit", "--limit", "1000", *words, who="auditor")
        return found


def make(folder: Path, names: Sequence[str]) -> dict[str, Domain]:
    """Domains with their certificates; nothing runs yet and nobody knows anybody."""
    domains = {}
    for number, name in enumerate(names):
        place = folder / name
        certs = place / "certs"
        certs.mkdir(parents=True)
        authority = Authority.make(f"Authority of {name}", DAYS, path_length=0)
        write(certs, "ca", [authority.certificate], authority.key)
        for who in PEOPLE:
            hosts = ["localhost", "127.0.0.1"] if who == "server" else []
            write(certs, who, *authority.issue(f"{who}.{name}", hosts))
        domains[name] = Domain(name, place, number, _base_port({one.base_port for one in domains.values()}))
    return domains


def _base_port(taken: set[int]) -> int:
    """One that no other of them will listen at: none of them does yet."""
    while True:
        found = free_base_port()
        if found not in taken:
            return found


def settle(domains: Mapping[str, Domain]) -> None:
    """Write ``dossier.toml`` of each domain, and the settings of its people as clients."""
    for domain in domains.values():
        certs = domain.folder / "certs"
        trusted = [certs / "ca.pem", *(domains[name].folder / "certs" / "ca.pem" for name in domain.knows)]
        (certs / "gateway_ca.pem").write_bytes(b"".join(path.read_bytes() for path in trusted))
        communities = "".join(_community(domain, domains[name], told) for name, told in domain.knows.items())
        (domain.folder / "dossier.toml").write_text(
            f'{_head(domain)}[affinity_domain.partners."CN=auditor.{domain.name}"]\ntransactions = ["ITI-81"]\n'
            # The gateway asks the registry who a patient is, with the certificate that all services share.
            f'[affinity_domain.partners."CN=server.{domain.name}"]\ntransactions = ["ITI-47"]\n'
            f'[repository]\nunique_id = "{domain.repository_id}"\n'
            f'[gateway.tls]\nca = "{certs / "gateway_ca.pem"}"\n'
            f"{tls_table(domain, 'server')}{communities}"
        )
        for who in PEOPLE[1:]:
            (domain.folder / f"{who}.toml").write_text(_head(domain) + tls_table(domain, who))


def _head(domain: Domain) -> str:
    return f'[affinity_domain]\nhome_community_id = "{domain.home}"\n'


def tls_table(domain: Domain, who: str) -> str:
    own = domain.tls(who)
    return f'[tls]\ncertificate = "{own.certificate}"\nkey = "{own.key}"\nca = "{own.ca}"\n'


def _community(domain: Domain, other: Domain, told: Mapping[str, Any]) -> str:
    row = {
        "home_community_id": other.home,
        "query_url": other.responding,
        "retrieve_url": other.responding,
        "discovery_url": other.responding,
        "ca": str(other.folder / "certs" / "ca.pem"),
        "certificate": str(domain.folder / "certs" / "server.pem"),
        "key": str(domain.folder / "certs" / "server.key"),
        "subjects": [f"CN=server.{other.name}"],
        "patient_id": "same",
    }
    lines = [f"{key} = {_toml(value)}" for key, value in (row | dict(told)).items()]
    return "[[gateway.communities]]\n" + "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(key)} = {_toml(one)}" for key, one in value.items()) + "}"
    return json.dumps(value)


@contextmanager
def served(domains: Mapping[str, Domain]) -> Iterator[Callable[[str], None]]:
    """All of them up; ended well, side by side, on the way out. Gives what ends one by name.

    Started one after the other: forty processes that start at once leave nothing to the tests beside them.
    """
    with ThreadPoolExecutor(len(domains)) as ending, ExitStack() as running:
        stacks = {name: ExitStack() for name in domains}

        def start(domain: Domain) -> None:
            config = domain.folder / "dossier.toml"
            house = serving(domain.folder, config=config, base_port=domain.base_port, start_s=START_S)
            stacks[domain.name].enter_context(house)

        running.callback(lambda: list(ending.map(lambda stack: stack.close(), stacks.values())))
        for domain in domains.values():
            start(domain)
        yield lambda name: stacks[name].close()
