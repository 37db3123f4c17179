"""For commands that look at what services keep: where nothing is kept, nothing is made, and that is said."""

from dossier.console import CommandError
from dossier.services import sqlite_file

__all__ = ["existing_database"]


def existing_database(url: str) -> None:
    """Return where there is a database, as far as a file can tell. Raises CommandError with exit code 2."""
    file = sqlite_file(url)
    if file is not None and not file.is_file():
        raise CommandError(f"{file}: there is no such database; --data or --config say where it is", status=2)
