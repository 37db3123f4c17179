"""``dossier store keys``: the key-encryption keys of the document store, and what is sealed under which."""

import os
from dataclasses import asdict
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path
from typing import Annotated, Any

import typer

from dossier.commands.existing import existing_database
from dossier.console import CommandError, print_json
from dossier.options import AsJson, BasePort, Config, Data, load_settings
from dossier.settings import room_arguments

__all__ = ["app"]

app = typer.Typer(help="Key-encryption keys of the document store.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Key-encryption keys of the document store."""


@app.command()
def new(
    file: Annotated[Path, typer.Argument(help="The file of keys; made if there is none, for its owner alone.")],
    name: Annotated[str | None, typer.Option(help="The key's name; the default has today's date.")] = None,
) -> None:
    """Add a new key at the end of a file of keys: new documents are sealed under it from then on."""
    from repository.store.keyring import KeyFileWrong, new_line, read_keys

    try:
        present = file.read_text(encoding="utf-8") if file.exists() else ""
        line = new_line(name or _dated(set(read_keys(present)) if present.strip() else set()))
        read_keys(present + line)
        _append(file, ("\n" if present and not present.endswith("\n") else "") + line)
    except KeyFileWrong as error:
        raise CommandError(f"{file}: {error}", status=2) from error
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not UTF-8 text"
        raise CommandError(f"{file}: {reason}", status=2) from error
    typer.echo(f"{file}: key {line.split()[0]} is the current one; without this file no document can be read")


def _dated(taken: set[str]) -> str:
    day = datetime.now(UTC).strftime("%Y-%m-%d")
    return next(one for one in (day, *(f"{day}-{n}" for n in range(2, 1000))) if one not in taken)


def _append(file: Path, text: str) -> None:
    """Durable before it is told: documents may be sealed under this key a moment later.

    On a full disk the file is as it was: half a line would make all keys in it unusable at the next start.
    """
    handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with os.fdopen(handle, "ab", buffering=0) as out:
        before = os.fstat(handle).st_size
        try:
            _write_whole(out, text.encode())
        except OSError:
            out.truncate(before)
            if before == 0:
                file.unlink()
            raise


def _write_whole(out: FileIO, data: bytes) -> None:
    """An unbuffered write may take a part alone; the next one then says why."""
    while data:
        data = data[out.write(data) :]
    os.fsync(out.fileno())


@app.command()
def show(config: Config = None, data: Data = Path("var"), base_port: BasePort = 8000, as_json: AsJson = False) -> None:
    """How many documents are sealed under which key, and whether it is at hand."""
    from atna.store.engine import DatabaseRefused
    from repository.app import key_use
    from repository.store.protocol import StoreUnavailable

    try:
        use = key_use(**_arguments(config, data, base_port))
    except (StoreUnavailable, DatabaseRefused) as error:
        raise CommandError(str(error)) from error
    if as_json:
        print_json([asdict(one) for one in use])
    else:
        for one in use:
            typer.echo(f"{one.name or 'not sealed':<32} {one.documents:>10}  {_state(one)}".rstrip())
    if any(one.name is not None and one.documents and not one.at_hand for one in use):
        raise typer.Exit(1)


def _state(one: Any) -> str:
    if one.name is None:
        return ""
    return "current" if one.current else "at hand" if one.at_hand else "NOT AT HAND"


@app.command()
def rotate(
    config: Config = None, data: Data = Path("var"), base_port: BasePort = 8000, as_json: AsJson = False
) -> None:
    """Wrap all data keys under the current key; afterwards older keys can be taken out of the file."""
    from atna.store.engine import DatabaseRefused
    from repository.app import rotate_keys
    from repository.store.protocol import StoreUnavailable

    try:
        done = rotate_keys(**_arguments(config, data, base_port))
    except (StoreUnavailable, DatabaseRefused) as error:
        raise CommandError(str(error)) from error
    if done is None:
        raise CommandError("repository.keyring: there are no keys", status=2)
    if as_json:
        print_json(asdict(done))
    else:
        typer.echo(f"{done.wrapped} data keys wrapped anew, all under {done.current} now")
        for name, count in done.missing.items():
            typer.echo(f"{count} left under {name}, which is not at hand")
        for object_key in done.damaged:
            typer.echo(f"object {object_key}: its data key cannot be opened")
    if done.missing or done.damaged:
        raise typer.Exit(1)


def _arguments(config: Path | None, data: Path, base_port: int) -> dict[str, Any]:
    settings = load_settings(config, data, base_port)
    existing_database(settings.repository.database_url)
    arguments = room_arguments(settings, "repository")
    return {name: arguments[name] for name in ("repository", "audit")}
