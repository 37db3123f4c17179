"""``dossier store``: the document store by hand.

``check`` finds out what the store can do; ``sweep`` settles what a crash left behind, by asking the registry; ``keys``
are those documents are sealed under.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Final

import typer

from dossier.commands import keys
from dossier.console import CommandError, note, print_json, print_table
from dossier.options import AsJson, BasePort, Config, Data, load_settings
from dossier.settings import room_arguments

__all__ = ["app"]

app = typer.Typer(help="The document store.", no_args_is_help=True)
app.add_typer(keys.app, name="keys")


@app.callback()
def _group() -> None:
    """The document store."""


_COLUMNS: Final = {"what": "what", "answer": "", "result": "result", "production": "production", "remedy": "to do"}
_ANSWERS: Final = {True: "ok", False: "no", None: "-"}


@app.command()
def check(config: Config = None, data: Data = Path("var"), base_port: BasePort = 8000, as_json: AsJson = False) -> None:
    """Try what the document store of the settings can do, and say what production still needs of it."""
    # Not at the top: the object store's client would make every other command slower to start.
    from repository.store.probe import probe
    from repository.store.protocol import StoreUnavailable

    settings = load_settings(config, data, base_port)
    try:
        findings = probe(settings.repository)
    except StoreUnavailable as error:
        raise CommandError(str(error)) from error
    missing = [found.what for found in findings if found.missing]
    if as_json:
        print_json({"findings": [asdict(found) | {"missing": found.missing} for found in findings], "missing": missing})
    else:
        rows = [
            asdict(found) | {"answer": _ANSWERS[found.holds], "production": "needed" if found.needed else "not needed"}
            for found in findings
        ]
        print_table(_COLUMNS, rows)
    if missing:
        raise CommandError(f"production needs what this store lacks: {', '.join(missing)}")
    note("the store has what production needs")


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
        report = sweep_once(**arguments, staging_age_s=0 if stopped else None)
    except (StoreUnavailable, DatabaseRefused) as error:
        raise CommandError(str(error)) from error
    if as_json:
        print_json(asdict(report))
        return
    for name, count in asdict(report).items():
        typer.echo(f"{name.replace('_', ' '):<16} {count}")
