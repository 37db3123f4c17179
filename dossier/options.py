"""Options several commands share, and the endpoints and certificates that follow from them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from dossier.settings import DEFAULT_BASE_PORT, DEFAULT_DATA, Settings, load, reachable
from wire.settings import TlsSettings

__all__ = [
    "Across",
    "AsJson",
    "BasePort",
    "Config",
    "Data",
    "Patient",
    "Peers",
    "RegistryUrl",
    "RepositoryUrl",
    "load_settings",
]

Config = Annotated[
    Path | None,
    typer.Option("--config", envvar="DOSSIER_CONFIG", help="Settings file; ./dossier.toml when there is one."),
]
Data = Annotated[Path, typer.Option("--data", envvar="DOSSIER_DATA", help="Folder of the embedded defaults.")]
BasePort = Annotated[
    int,
    typer.Option("--base-port", envvar="DOSSIER_BASE_PORT", min=1, max=65000, help="Moves every default address."),
]
RegistryUrl = Annotated[str | None, typer.Option("--registry-url", help="Registry to speak to.")]
RepositoryUrl = Annotated[str | None, typer.Option("--repository-url", help="Repository to speak to.")]
Across = Annotated[
    bool, typer.Option("--across", help="Also in the communities of partners: through our initiating gateway.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Patient = Annotated[str, typer.Option("--patient", help="Patient identifier: 'ID^^^&OID&ISO'.")]


def load_settings(config: Path | None, data: Path = DEFAULT_DATA, base_port: int = DEFAULT_BASE_PORT) -> Settings:
    """The settings of a command; without ``--config`` those of ``./dossier.toml`` when that exists."""
    here = Path("dossier.toml")
    return load(config or (here if here.is_file() else None), data=data, base_port=base_port)


@dataclass(frozen=True, slots=True)
class Peers:
    """Where a client command sends what, and with which certificate."""

    registry: str
    repository: str
    feed: str
    audit: str
    tls: TlsSettings
    settings: Settings

    @classmethod
    def find(
        cls,
        config: Path | None,
        base_port: int,
        registry_url: str | None = None,
        repository_url: str | None = None,
        *,
        across: bool = False,
    ) -> "Peers":
        """From the options given, else the settings, else the defaults at the base port.

        ``across``: the initiating gateway takes the place of registry and repository.
        """
        settings = load_settings(config, base_port=base_port)
        gateway = _url(settings, "gateway", "/initiating")
        feed = "mllps" if settings.tls["registry.feed"].enabled else "mllp"
        return cls(
            registry=registry_url or (gateway if across else _url(settings, "registry", "/registry")),
            repository=repository_url or (gateway if across else _url(settings, "repository", "/repository")),
            feed=f"{feed}://{reachable(settings.registry.feed_listen)}",
            audit=_url(settings, "audit", ""),
            tls=settings.tls[""],
            settings=settings,
        )


def _url(settings: Settings, service: str, path: str) -> str:
    return f"{settings.scheme(service)}://{reachable(getattr(settings, service).listen)}{path}"
