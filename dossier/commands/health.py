"""``dossier health``: ask the admin port of a service whether it is ready, e.g. as the health check of a container.

Also ``python -m dossier.commands.health``: the same without loading the other commands, a third of the processor time,
which counts for what is asked every few seconds.
"""

import http.client
import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from dossier.console import CommandError, print_json
from dossier.options import AsJson, BasePort, Config, Data, load_settings
from dossier.settings import Address, AdminSettings, SettingsError, reachable

__all__ = ["health"]

SERVICES: Final = ("registry", "repository", "gateway", "audit")
TIMEOUT_S: Final = 8.0
"""More than the admin port gives a check (``wire.admin``), less than a container's health check usually may take."""
MAX_ANSWER_BYTES: Final = 64 * 2**10


class Whose(StrEnum):
    """Whom to ask."""

    ALL = "all"
    REGISTRY = "registry"
    REPOSITORY = "repository"
    GATEWAY = "gateway"
    AUDIT = "audit"


def health(
    actor: Annotated[Whose, typer.Argument(help="Which service; all of them by default.")] = Whose.ALL,
    live: Annotated[bool, typer.Option("--live", help="Ask only whether it answers at all, not its checks.")] = False,
    config: Config = None,
    data: Data = Path("var"),
    base_port: BasePort = 8000,
    as_json: AsJson = False,
) -> None:
    """Ask services on this machine for their health; ends with 0 when all are ready, else with 1."""
    try:
        admin = load_settings(config, data, base_port).admin
    except SettingsError as error:
        # 1 and not 2: a container's engine reserves 2 (https://docs.docker.com/reference/dockerfile/#healthcheck)
        raise CommandError(*(f"settings: {fault}" for fault in error.faults)) from error
    names = SERVICES if actor is Whose.ALL else (actor.value,)
    rows = [_asked(name, admin, "/health/live" if live else "/health/ready") for name in names]
    if as_json:
        print_json(rows)
    else:
        for row in rows:
            typer.echo(f"{row['service']}: {row['state']}")
    if any(not row["well"] for row in rows):
        raise typer.Exit(1)


def _asked(name: str, admin: AdminSettings, path: str) -> dict[str, Any]:
    """What a service says of itself; whatever goes wrong on the way is a service that is not well."""
    address = Address.parse(reachable(getattr(admin, f"{name}_listen")))
    connection = http.client.HTTPConnection(address.host, address.port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        status, told = answer.status, _told(answer.read(MAX_ANSWER_BYTES))
    except (OSError, http.client.HTTPException) as error:
        return {"service": name, "well": False, "state": f"does not answer on {address} ({type(error).__name__})"}
    finally:
        connection.close()
    well = status == http.HTTPStatus.OK and told.get("status") in {"live", "ready"}
    failed = [check for check, found in told.get("checks", {}).items() if found != "ok"]
    state = str(told.get("status", "no health answer")) + (f": {', '.join(failed)} failed" if failed else "")
    noted = [note for note, found in told.get("notes", {}).items() if found != "ok"]
    state += f"; to be seen to: {', '.join(noted)}" if noted else ""
    return {"service": name, "well": well, "state": state}


def _told(body: bytes) -> dict[str, Any]:
    try:
        told = json.loads(body)
    except ValueError:
        return {}
    sound = isinstance(told, dict) and all(isinstance(told.get(part, {}), dict) for part in ("checks", "notes"))
    return told if sound else {}


def _alone() -> None:
    try:
        typer.run(health)
    except CommandError as error:
        sys.stderr.writelines(f"dossier: {line}\n" for line in error.lines)
        sys.exit(error.status)


if __name__ == "__main__":
    _alone()
