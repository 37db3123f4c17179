"""``dossier store``: the document store by hand.

check      what the store can do, found out by doing it
sweep      what a crash left behind, settled by asking the registry
scrub      every document read back and verified
retention  documents whose time is over by the rules of the settings: looked at, or removed
keys       those that documents are sealed under
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from dossier.commands import keys
from dossier.commands.account import operator
from dossier.commands.existing import existing_database
from dossier.console import CommandError, note, print_json, print_table
from dossier.options import AsJson, BasePort, Config, Data, load_settings
from dossier.settings import Settings, room_arguments

__all__ = ["app"]

app = typer.Typer(help="The document store.", no_args_is_help=True)
app.add_typer(keys.app, name="keys")


@app.callback()
def _group() -> None:
    """The document store."""


def _repository(settings: Settings) -> dict[str, Any]:
    """What the functions of ``repository.app`` take that serve nobody; there has to be something to look at."""
    existing_database(settings.repository.database_url)
    arguments = room_arguments(settings, "repository")
    del arguments["limits"]
    return arguments


@contextmanager
def _asked() -> Iterator[None]:
    """A store or a database that refuses or does not answer ends the command with one line."""
    from atna.store.engine import DatabaseRefused
    from repository.store.protocol import StoreUnavailable

    try:
        yield
    except (StoreUnavailable, DatabaseRefused) as error:
        raise CommandError(str(error)) from error


_COLUMNS: Final = {"what": "what", "answer": "", "result": "result", "production": "production", "remedy": "to do"}
_ANSWERS: Final = {True: "ok", False: "no", None: "-"}


@app.command()
def check(config: Config = None, data: Data = Path("var"), base_port: BasePort = 8000, as_json: AsJson = False) -> None:
    """Try what the document store of the settings can do, and say what production still needs of it."""
    # Not at the top: the object store's client would make every other command slower to start.
    from repository.store.probe import probe

    settings = load_settings(config, data, base_port)
    with _asked():
        findings = probe(settings.repository)
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
    from repository.app import sweep_once

    arguments = _repository(load_settings(config, data, base_port))
    with _asked():
        report = sweep_once(**arguments, staging_age_s=0 if stopped else None, remove_orphans=remove_orphans)
    if as_json:
        print_json(asdict(report))
    else:
        for name, count in asdict(report).items():
            typer.echo(f"{name.replace('_', ' '):<16} {count}")
    if report.unanswered:
        raise typer.Exit(1)


@app.command()
def retention(
    config: Config = None,
    data: Data = Path("var"),
    base_port: BasePort = 8000,
    remove: Annotated[
        bool, typer.Option("--remove", help="Remove what is due; without it nothing is changed.")
    ] = False,
    listed: Annotated[bool, typer.Option("--list", help="Also the unique id of every document that is due.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show what the retention rules of the settings make an end of, or remove it; the services may run meanwhile."""
    from repository.app import retain
    from repository.retention import Fate, RegistrySilent

    settings = load_settings(config, data, base_port)
    if not settings.repository.retention:
        raise CommandError("there is no rule: the settings name them as [[repository.retention]]", status=2)
    arguments = _repository(settings)
    documents: list[dict[str, str]] = []

    def told(unique_id: str, fate: Fate) -> None:
        if listed and as_json:
            documents.append({"unique_id": unique_id, "fate": fate.value})
        elif listed:
            typer.echo(f"{fate.value:<10} {unique_id}")

    with _asked():
        try:
            report = retain(**arguments, remove=remove, operator=operator(), told=told)
        except RegistrySilent as error:
            text = "the registry does not say what is still registered; nothing more was removed"
            raise CommandError(text) from error
    rules = [{**asdict(rule), "oldest": _when(rule.oldest), "newest": _when(rule.newest)} for rule in report.rules]
    if as_json:
        told_of = {"documents": documents} if listed else {}
        print_json({"removed": remove, "rules": rules, "unclassified": report.unclassified, **told_of})
        return
    print_table({key: key for key in rules[0]}, rules)
    if report.unclassified:
        note(f"{report.unclassified} documents have no class here, so no rule reaches them")


def _when(microseconds: int | None) -> str | None:
    if microseconds is None:
        return None
    return datetime.fromtimestamp(microseconds // 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


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
    from repository.app import scrub_once
    from repository.scrub import ScrubBusy

    arguments = _repository(load_settings(config, data, base_port))
    with _asked():
        try:
            report = scrub_once(**arguments, bytes_per_s=None if rate is None else rate * 2**20, anew=anew)
        except ScrubBusy as error:
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
