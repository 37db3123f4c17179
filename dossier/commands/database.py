"""``dossier db upgrade`` and ``dossier db status``: the schema of each service's database, and the way to the next."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import typer

from dossier.console import CommandError, print_json, print_table
from dossier.options import AsJson, BasePort, Config, Data, load_settings
from dossier.services import SERVICES, make_folders
from dossier.settings import Settings

__all__ = ["app"]

T = TypeVar("T")

app = typer.Typer(help="Databases.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Databases."""


@dataclass(frozen=True, slots=True)
class Room:
    """A service's database: how to look at it, and how to lead it to this program's version.

    Both give the version found and the one needed; ``status`` also whether an upgrade has something left to do.
    """

    name: str
    status: Callable[[], tuple[int | None, int, bool]]
    upgrade: Callable[[], tuple[int | None, int]]


# The stores are imported where they are opened: SQLAlchemy would make every other command slower to start.
def _rooms(settings: Settings) -> Iterator[Room]:
    import atna.record_repository.store.migrations as audit_migrations
    import atna.record_repository.store.tables as audit_tables
    import gateway.store.migrations as gateway_migrations
    import gateway.store.tables as gateway_tables
    import registry.store.migrations as registry_migrations
    import registry.store.tables as registry_tables
    import repository.store.migrations as repository_migrations
    import repository.store.tables as repository_tables
    from atna.record_repository.store.reindexing import reindex, waits_for_index
    from atna.store.migrating import schema_of, upgrade
    from registry.store.opening import open_registry

    def room(name: str, url: str, metadata: Any, folder: Path) -> Room:
        def status() -> tuple[int | None, int, bool]:
            schema = schema_of(url, metadata)
            current = schema.found == schema.needed
            return schema.found, schema.needed, name == "audit" and current and waits_for_index(url)

        def lead() -> tuple[int | None, int]:
            schema = upgrade(url, metadata, folder)
            if name == "registry":
                open_registry(url)[0].dispose()  # the first compression dictionary of a new one
            if name == "audit":
                reindex(url)
            return schema.found, schema.needed

        return Room(name, status, lead)

    yield room("registry", settings.registry.database_url, registry_tables.metadata, registry_migrations.FOLDER)
    yield room("repository", settings.repository.database_url, repository_tables.metadata, repository_migrations.FOLDER)
    yield room("gateway", settings.gateway.database_url, gateway_tables.metadata, gateway_migrations.FOLDER)
    yield room("audit", settings.audit.database_url, audit_tables.metadata, audit_migrations.FOLDER)


def _asked(room: Room, work: Callable[[], T], faults: list[str]) -> T | None:
    from atna.store.engine import DatabaseRefused

    try:
        return work()
    except DatabaseRefused as error:
        faults.append(f"{room.name}: {error}")
    except Exception as error:  # noqa: BLE001 - each driver has errors of its own for "it does not answer"
        faults.append(f"{room.name}: the database does not answer ({type(error).__name__})")
    return None


@app.command()
def upgrade(config: Config = None, data: Data = Path("var"), base_port: BasePort = 8000) -> None:
    """Lead each service's database to this program's version, or create it; stop the services first, and back up."""
    settings = load_settings(config, data, base_port)
    make_folders(settings, list(SERVICES.values()), stores=False)
    faults: list[str] = []
    for room in _rooms(settings):
        done = _asked(room, room.upgrade, faults)
        if done is not None:
            typer.echo(f"{room.name}: {_steps(*done)}")
    if faults:
        raise CommandError(*faults)


def _steps(found: int | None, needed: int) -> str:
    if found is None:
        return f"created with version {needed}"
    return f"version {needed}, nothing to do" if found == needed else f"version {found} → {needed}"


UNFINISHED: Final = "not indexed yet: run dossier db upgrade again"
COLUMNS: Final = {"database": "database", "found": "version", "needed": "needed", "state": "state"}


@app.command()
def status(
    config: Config = None, data: Data = Path("var"), base_port: BasePort = 8000, as_json: AsJson = False
) -> None:
    """Show the version of each service's database and the one this program needs; ends with 1 where they differ."""
    settings = load_settings(config, data, base_port)
    faults: list[str] = []
    rows = []
    for room in _rooms(settings):
        schema = _asked(room, room.status, faults)
        if schema is not None:
            found, needed, unfinished = schema
            state = UNFINISHED if unfinished else _state(found, needed)
            rows.append({"database": room.name, "found": found, "needed": needed, "state": state})
    if as_json:
        print_json(rows)
    else:
        print_table(COLUMNS, rows)
    if faults:
        raise CommandError(*faults)
    if any(row["found"] != row["needed"] or row["state"] == UNFINISHED for row in rows):
        raise typer.Exit(1)


def _state(found: int | None, needed: int) -> str:
    if found is None:
        return "empty: made at the first start, or by db upgrade"
    if found == needed:
        return "ready"
    return "older: run dossier db upgrade" if found < needed else "newer: start the newer program"
