"""Options several commands share, and the endpoints and certificates that follow from them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import typer
from pydantic import TypeAdapter, ValidationError

from dossier.console import CommandError
from dossier.settings import DEFAULT_BASE_PORT, DEFAULT_DATA, Settings, load, reachable
from ihe.datatypes import CX, parse_cx
from wire.settings import HttpUrl, TlsSettings

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
    "check_address",
    "check_texts",
    "load_settings",
    "read_identifier",
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


_NO_XML: Final = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What no XML document may hold (XML 1.0: 2.2, Char); lone surrogates are words that were no UTF-8."""


def check_texts(texts: Mapping[str, str | None]) -> None:
    """CommandError for a text, by its option, that no message could carry: it would be refused as unreadable."""
    for option, text in texts.items():
        found = _NO_XML.search(text or "")
        if found is not None:
            raise CommandError(f"{option}: the character U+{ord(found[0]):04X} cannot stand in a message", status=2)


def read_identifier(option: str, text: str) -> CX:
    """The identifier of a patient that an option gives; CommandError where it is none."""
    check_texts({option: text})
    try:
        return parse_cx(text)
    except ValueError as error:
        raise CommandError(f"{option}: {error}", status=2) from error


def check_address(option: str, url: str | None) -> None:
    """CommandError for an option that is given and no address."""
    try:
        TypeAdapter(HttpUrl | None).validate_python(url)
    except ValidationError as error:
        raise CommandError(f"{option} should be an address like https://host.example:8010/path", status=2) from error


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

        ``across``: the initiating gateway takes the place of registry and repository. CommandError for an option that
        is no address.
        """
        check_address("--registry-url", registry_url)
        check_address("--repository-url", repository_url)
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
