"""``dossier patients``: merges of patients as the operator sees them, and the way back from one."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final

import typer

from dossier.commands.account import operator
from dossier.commands.existing import existing_database
from dossier.console import CommandError, print_json, print_table
from dossier.options import AsJson, BasePort, Config, Data, load_settings, read_identifier
from dossier.settings import Settings
from ihe.datatypes import CX, print_cx

__all__ = ["app"]

app = typer.Typer(help="Patients of the registry.", no_args_is_help=True)

COLUMNS: Final = {"subsumed": "subsumed", "surviving": "surviving", "merged": "merged", "undone": "undone"}


@app.callback()
def _group() -> None:
    """Patients of the registry."""


@app.command()
def merges(
    undone: Annotated[bool, typer.Option("--all", help="Also those that were undone.")] = False,
    config: Config = None,
    data: Data = Path("var"),
    base_port: BasePort = 8000,
    as_json: AsJson = False,
) -> None:
    """List who was merged into whom (ADT^A40, ITI-44), from the registry's database."""
    # Not at the top: SQLAlchemy would make every other command slower to start.
    from registry import operating

    settings = _settings(config, data, base_port)
    with _answering():
        found = operating.merges(settings.registry, undone=undone)
    rows = [
        {
            "subsumed": print_cx(CX(*one.subsumed)),
            "surviving": print_cx(CX(*one.surviving)),
            "merged": one.merged_at,
            "undone": one.undone_at,
        }
        for one in found
    ]
    if as_json:
        print_json(rows)
    else:
        print_table(COLUMNS, rows)


@app.command()
def unmerge(
    subsumed: Annotated[str, typer.Option("--subsumed", help="The id that was merged: 'ID^^^&OID&ISO'.")],
    config: Config = None,
    data: Data = Path("var"),
    base_port: BasePort = 8000,
    as_json: AsJson = False,
) -> None:
    """End a merge: both ids stand on their own again, each with the documents it came with."""
    from atna.recorder import Recorder
    from registry.operating import Operator
    from registry.store.patient_protocol import MergeRefused

    cx = read_identifier("--subsumed", subsumed)
    settings = _settings(config, data, base_port)
    domain = settings.affinity_domain
    host = socket.gethostname() or "localhost"
    home, environment = domain.home_community_id, domain.environment
    recorder = Recorder(f"registry@{home}", home, "dossier-operator", host, environment=environment)
    with _answering():
        try:
            surviving = Operator(operator(), recorder).unmerge(settings.registry, settings.audit, (cx.id, cx.authority))
        except MergeRefused as refused:
            raise CommandError(refused.reason) from refused
    if as_json:
        print_json({"subsumed": print_cx(cx), "surviving": print_cx(CX(*surviving))})
    else:
        typer.echo(f"{print_cx(cx)} stands on its own again; it was merged into {print_cx(CX(*surviving))}")


def _settings(config: Path | None, data: Path, base_port: int) -> Settings:
    settings = load_settings(config, data, base_port)
    existing_database(settings.registry.database_url)
    return settings


@contextmanager
def _answering() -> Iterator[None]:
    from atna.store.engine import DatabaseRefused

    try:
        yield
    except CommandError:
        raise
    except DatabaseRefused as error:
        raise CommandError(str(error)) from error
    except Exception as error:  # each driver has errors of its own for "it does not answer"
        raise CommandError(f"the registry's database does not answer ({type(error).__name__})") from error
