"""``dossier demo``: see ``dossier.demo``."""

from pathlib import Path
from typing import Annotated

import typer

from dossier.demo import run

__all__ = ["demo"]


def demo(
    shared: Annotated[
        Path | None, typer.Option("--samples", file_okay=False, help="Folder with more sample documents.")
    ] = None,
) -> None:
    """Start everything, bring documents in and out again, show the audit trail, stop."""
    run(shared.resolve() if shared is not None and shared.is_dir() else None)
    typer.echo("demo: ok")
