"""``dossier serve``: start one actor or all of them."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from dossier.logs import set_up_logging
from dossier.options import BasePort, Config, Data, load_settings
from dossier.services import (
    SERVICES,
    bind_all,
    check_certificates,
    check_checkpoint_key,
    check_keyring,
    endpoints,
    make_folders,
    plans,
    probe,
)
from dossier.supervisor import Supervisor

__all__ = ["serve"]


class ActorName(StrEnum):
    """What can be served."""

    ALL = "all"
    REGISTRY = "registry"
    REPOSITORY = "repository"
    AUDIT = "audit"
    GATEWAY = "gateway"


def serve(
    actor: Annotated[ActorName, typer.Argument(help="Which actor; each has processes of its own.")] = ActorName.ALL,
    config: Config = None,
    data: Data = Path("var"),
    base_port: BasePort = 8000,
    table: Annotated[bool, typer.Option("--table", help="Print the table of endpoints on standard error.")] = False,
) -> None:
    """Serve until SIGTERM or Ctrl-C; prints "ready" on standard output when every service answers."""
    settings = load_settings(config, data, base_port)
    check_certificates(settings)
    check_keyring(settings)
    services = [SERVICES[name] for name in SERVICES if actor in (ActorName.ALL, name)]
    set_up_logging(settings.admin, environment=settings.affinity_domain.environment, process="supervisor")
    make_folders(settings, services)
    if SERVICES["audit"] in services:
        check_checkpoint_key(settings)
    sockets = bind_all(settings, services)

    def ready() -> None:
        if table:
            for row in endpoints(settings, services):
                sys.stderr.write(f"{row['service']:<18} {row['address']:<48} {row['speaks']}\n")
            sys.stderr.flush()
        sys.stdout.write("ready\n")
        sys.stdout.flush()

    supervisor = Supervisor(
        plans(settings, services, sockets),
        on_ready=ready,
        probe=lambda: probe(settings, services),
        drain_s=settings.limits.drain_s + 5,
    )
    raise typer.Exit(supervisor.run())
