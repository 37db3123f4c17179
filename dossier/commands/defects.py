"""``dossier defects``: what strictness ``warn`` let pass, by partner."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Final

import typer

from dossier.commands.existing import existing_database
from dossier.console import CommandError, print_json, print_table
from dossier.options import AsJson, BasePort, Config, Data, load_settings

__all__ = ["defects"]

COLUMNS: Final = {
    "partner": "partner",
    "count": "times",
    "code": "code",
    "context": "what",
    "first": "first",
    "last": "last",
}


def defects(
    partner: Annotated[str | None, typer.Option("--partner", help="Certificate subject, or address.")] = None,
    config: Config = None,
    data: Data = Path("var"),
    base_port: BasePort = 8000,
    as_json: AsJson = False,
) -> None:
    """List what was accepted although it deviates (strictness "warn"), by partner, from the registry's database."""
    # Not at the top: SQLAlchemy would make every other command slower to start.
    from atna.store.engine import DatabaseRefused
    from registry.store.defects import read_defects

    url = load_settings(config, data, base_port).registry.database_url
    existing_database(url)
    try:
        rows = [asdict(one) for one in read_defects(url, partner)]
    except DatabaseRefused as error:
        raise CommandError(str(error)) from error
    except Exception as error:  # each driver has errors of its own for "it does not answer"
        raise CommandError(f"the registry's database does not answer ({type(error).__name__})") from error
    if as_json:
        print_json(rows)
    else:
        print_table(COLUMNS, rows)
