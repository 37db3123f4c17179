"""``dossier store``: the document store by hand.

``sweep`` settles what a crash left behind, by asking the registry; ``keys`` are those documents are sealed under.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from dossier.commands import keys
from dossier.console import CommandError, print_json
from dossier.options import AsJson, BasePort, Config, Data, load_settings
from dossier.settings import room_arguments

__all__ = ["app"]

app = typer.Typer(help="The document store.", no_args_is_help=True)
app.add_typer(keys.app, name="keys")


@app.callback()
def _group() -> None:
    """The document store."""


@app.command()
def sweep(
    config: Config = None,
    data: Data = Path("var"),
    base_port: BasePort = 8000,
    stopped: Annotated[
        bool,
        typer.Option(
            "--stopped", help="The repository is not running: unfinished uploads are removed whatever their age."
        ),
    ] = False,
    remove_orphans: Annotated[
        int,
        typer.Option(
            min=0, help="Remove objects that no row of the database knows, if there are at most so many; first look!"
        ),
    ] = 0,
    as_json: AsJson = False,
) -> None:
    """Settle submissions without an outcome and remove what belongs to none; the services may run meanwhile."""
    # Not at the top: a whole repository would make every other command slower to start.
    from atna.store.engine import DatabaseRefused
    from repository.app import sweep_once
    from repository.store.protocol import StoreUnavailable

    settings = load_settings(config, data, base_port)
    arguments = room_arguments(settings, "repository")
    del arguments["limits"]
    try:
        report = sweep_once(**arguments, staging_age_s=0 if stopped else None, remove_orphans=remove_orphans)
    except (StoreUnavailable, DatabaseRefused) as error:
        raise CommandError(str(error)) from error
    if as_json:
        print_json(asdict(report))
        return
    for name, count in asdict(report).items():
        typer.echo(f"{name.replace('_', ' '):<16} {count}")
