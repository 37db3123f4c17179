"""``dossier db upgrade``: create the schemas, or check that this program can work with what is there."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import typer

from dossier.console import CommandError
from dossier.options import BasePort, Config, Data, load_settings
from dossier.services import SERVICES, make_folders
from dossier.settings import Settings

__all__ = ["app"]

app = typer.Typer(help="Databases.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Databases."""


# The stores are imported where they are opened: SQLAlchemy would make every other command slower to start.
def _registry(settings: Settings) -> None:
    from registry.store.opening import open_registry

    engine, _reader = open_registry(settings.registry.database_url)
    engine.dispose()


def _repository(settings: Settings) -> None:
    from repository.store.sql import open_index

    audit = settings.audit
    open_index(settings.repository.database_url, audit.sinks, audit.max_outbox_rows).close()


def _audit(settings: Settings) -> None:
    from atna.record_repository.store.records import RecordStore

    RecordStore.open(settings.audit.database_url).close()


OPENERS: Final[dict[str, Callable[[Settings], None]]] = {
    "registry": _registry,
    "repository": _repository,
    "audit": _audit,
}


@app.command()
def upgrade(config: Config = None, data: Data = Path("var"), base_port: BasePort = 8000) -> None:
    """Create what is missing in each service's database; refuse one that a newer program has written."""
    from atna.store.engine import DatabaseRefused

    settings = load_settings(config, data, base_port)
    make_folders(settings, list(SERVICES.values()))
    faults = []
    for name, opener in OPENERS.items():
        try:
            opener(settings)
        except DatabaseRefused as error:
            faults.append(f"{name}: {error}")
        except Exception as error:  # noqa: BLE001 - each driver has errors of its own for "it does not answer"
            faults.append(f"{name}: the database does not answer ({type(error).__name__})")
        else:
            typer.echo(f"{name}: ready")
    if faults:
        raise CommandError(*faults)
