"""``dossier store``: the document store by hand.

``sweep`` settles what a crash left behind, by asking the registry; ``scrub`` reads every document back and verifies it;
``keys`` are those documents are sealed under.
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
    """Settle submissions without an outcome and remove what belongs to none; the services may run meanwhile.

    Ends with 1 when store or database did not answer all there was to ask: run it again.
    """
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
    else:
        for name, count in asdict(report).items():
            typer.echo(f"{name.replace('_', ' '):<16} {count}")
    if report.unanswered:
        raise typer.Exit(1)


@app.command()
def scrub(
    config: Config = None,
    data: Data = Path("var"),
    base_port: BasePort = 8000,
    rate: Annotated[
        float | None, typer.Option(min=0.001, help="MiB a second at most; default: the setting scrub_bytes_per_s.")
    ] = None,
    anew: Annotated[bool, typer.Option("--anew", help="From the first document, whatever was begun already.")] = False,
    as_json: AsJson = False,
) -> None:
    """Read every document back and verify it; goes on where it was broken off. The services may run meanwhile.

    Ends with 1 when a document is missing, damaged, or could not be read.
    """
    from atna.store.engine import DatabaseRefused
    from repository.app import scrub_once
    from repository.scrub import ScrubBusy
    from repository.store.protocol import StoreUnavailable

    settings = load_settings(config, data, base_port)
    arguments = room_arguments(settings, "repository")
    del arguments["limits"]
    try:
        report = scrub_once(**arguments, bytes_per_s=None if rate is None else rate * 2**20, anew=anew)
    except (StoreUnavailable, DatabaseRefused, ScrubBusy) as error:
        raise CommandError(str(error)) from error
    if as_json:
        print_json(asdict(report))
    else:
        typer.echo(f"verified         {report.verified} documents, {report.bytes} bytes")
        typer.echo(f"damaged          {len(report.damaged)}")
        typer.echo(f"unanswered       {len(report.unanswered)}")
        for one in (*report.damaged, *report.unanswered):
            more = ", another copy is whole" if one.other_copy else ""
            typer.echo(f"object {one.object_key}  document {one.unique_id}: {one.finding.value}{more}")
    if not report.right:
        raise typer.Exit(1)
