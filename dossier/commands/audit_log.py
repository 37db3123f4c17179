"""``dossier audit …``: the log by hand, in the audit service's own database.

verify      whether the records are still what they were
key         the key that signs the log
checkpoint  the last thing that was signed, to be kept elsewhere
retention   partitions whose time is over by the settings: looked at, or removed
export      a partition as a file, for the checker that needs nothing of ours (atna/audit_check.py)
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO, Final, TypeVar

import typer

from atna.audit_check import Checkpoint, parse_checkpoint, public_keys, public_pem
from dossier.commands.account import operator
from dossier.commands.existing import existing_database
from dossier.console import CommandError, note, print_json, print_table
from dossier.options import AsJson, BasePort, Config, Data, load_settings
from dossier.settings import Settings

if TYPE_CHECKING:
    from atna.record_repository.retention import Retired
    from atna.record_repository.signing import SigningKey
    from atna.record_repository.store.protocol import Due
    from atna.record_repository.store.records import RecordStore

__all__ = ["add_to"]

T = TypeVar("T")

Partition = Annotated[str | None, typer.Option("--partition", help="This partition alone, e.g. 2026-11.")]


def add_to(app: typer.Typer) -> None:
    """Put these commands under ``dossier audit``."""
    for command in (verify, key, checkpoint, export, retention):
        app.command()(command)


@contextmanager
def _database(settings: Settings) -> Iterator[None]:
    """The database is there, and what it refuses is told in a line."""
    # Not at the top: SQLAlchemy would make every other command slower to start.
    from atna.record_repository.store.protocol import StoreUnavailable
    from atna.store.engine import DatabaseRefused

    existing_database(settings.audit.database_url)
    try:
        yield
    except (DatabaseRefused, StoreUnavailable) as error:
        raise CommandError(str(error)) from error


@contextmanager
def _log(settings: Settings) -> "Iterator[RecordStore]":
    from atna.record_repository.store.records import RecordStore

    with _database(settings):
        store = RecordStore.open(settings.audit.database_url)
        try:
            yield store
        finally:
            store.close()


def verify(
    config: Config = None,
    data: Data = Path("var"),
    base_port: BasePort = 8000,
    partition: Partition = None,
    public_key: Annotated[
        list[Path] | None,
        typer.Option(help="PEM file of keys kept elsewhere: only what they signed counts. May be repeated."),
    ] = None,
    kept: Annotated[
        list[Path] | None,
        typer.Option("--checkpoint", help="A checkpoint kept elsewhere, which the log has to meet. May be repeated."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check every record, the chain over them, its partitions and what was signed; ends with 1 at the first fault."""
    from atna.record_repository.store.protocol import Trust

    settings = load_settings(config, data, base_port)
    keys = {name: one for path in public_key or () for name, one in _read(path, public_keys).items()}
    points = tuple(_read(path, parse_checkpoint) for path in kept or ())
    with _log(settings) as store:
        found = store.verify_chain(Trust(keys if public_key else None, points), partition=partition)
    if as_json:
        print_json({"holds": found.holds} | asdict(found) | {"head": found.head.hex()})
    if not found.holds:
        raise CommandError(f"the log does not hold: {_place(found.partition, found.fault_at)}{found.fault}")
    if not as_json:
        typer.echo(f"{found.records} records, the chain holds; {found.checkpoints} checkpoints")
    for text in found.notes:
        note(text)


def _place(partition: str | None, number: int | None) -> str:
    where = [f"partition {partition}"] if partition is not None else []
    where += [f"record {number}"] if number is not None else []
    return f"{', '.join(where)}: " if where else ""


def _read(path: Path, parse: Callable[[str], T]) -> T:
    try:
        return parse(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CommandError(f"{path}: cannot be read: {error.strerror}", status=2) from error
    except ValueError as error:
        raise CommandError(f"{path}: {error}", status=2) from error


def key(
    config: Config = None,
    data: Data = Path("var"),
    base_port: BasePort = 8000,
    new: Annotated[Path | None, typer.Option("--new", help="Make a key in a new file, for its owner alone.")] = None,
    known: Annotated[bool, typer.Option("--known", help="Every key the log says it was signed with.")] = False,
    as_json: AsJson = False,
) -> None:
    """Print the public key that the log is signed with, to be kept elsewhere; its id goes to standard error."""
    if known:
        _known_keys(load_settings(config, data, base_port), as_json=as_json)
        return
    found = _signing_key(load_settings(config, data, base_port)) if new is None else _new_key(new)
    if as_json:
        print_json({"id": found.id, "public_key": found.public_pem})
        return
    typer.echo(found.public_pem, nl=False)
    note(f"key {found.id}" + (f"; name {new} as audit.checkpoint_key" if new is not None else ""))


def _known_keys(settings: Settings, *, as_json: bool) -> None:
    with _log(settings) as store:
        keys = store.known_keys()
    if as_json:
        print_json([{"id": name, "public_key": public_pem(public)} for name, public in keys.items()])
        return
    for name, public in keys.items():
        typer.echo(public_pem(public), nl=False)
        note(f"key {name}")


def _signing_key(settings: Settings) -> "SigningKey":
    from atna.record_repository.signing import KeyFault, SigningKey

    path = settings.audit.checkpoint_key
    try:
        if path is not None:
            return SigningKey.there(path)
    except KeyFault as error:
        raise CommandError(f"audit.checkpoint_key: {error}", status=2) from error
    raise CommandError("audit.checkpoint_key is not set; make a key with dossier audit key --new FILE", status=2)


def _new_key(path: Path) -> "SigningKey":
    from atna.record_repository.signing import KeyFault, SigningKey

    try:
        return SigningKey.made(path)
    except KeyFault as error:
        raise CommandError(str(error), status=2) from error


def checkpoint(
    config: Config = None, data: Data = Path("var"), base_port: BasePort = 8000, as_json: AsJson = False
) -> None:
    """Print the last checkpoint, to be kept elsewhere: what it signs cannot be taken back from then on."""
    with _log(load_settings(config, data, base_port)) as store:
        found = store.last_checkpoint()
    if found is None:
        raise CommandError("nothing is signed yet")
    if as_json:
        print_json(_plain(found))
    else:
        typer.echo(found.complete, nl=False)


def export(
    out: Annotated[Path, typer.Option("--out", help="The file to write; it must not be there yet.")],
    partition: Annotated[str, typer.Option("--partition", help="Which one, e.g. 2026-11.")],
    config: Config = None,
    data: Data = Path("var"),
    base_port: BasePort = 8000,
    as_json: AsJson = False,
) -> None:
    """Write a partition to a file, records untouched; python audit_check.py FILE PUBLIC_KEY checks it anywhere."""
    from atna.record_repository import app as room
    from atna.record_repository.store.records import NotExported

    settings = load_settings(config, data, base_port)
    audit, domain = settings.audit, settings.affinity_domain
    try:
        with _database(settings), room.export(audit=audit, domain=domain) as job, _whole(out) as file:
            count = job.write(partition, operator(), file.write)
    except NotExported as error:
        raise CommandError(str(error), status=2) from error
    if as_json:
        print_json({"partition": partition, "records": count, "bytes": out.stat().st_size, "file": str(out)})
    else:
        typer.echo(f"{out}: {count} records of partition {partition}")


_COLUMNS: Final = {
    "partition": "partition",
    "records": "records",
    "octets": "bytes",
    "received_first": "first received",
    "received_last": "last received",
    "ended": "ended",
    "state": "state",
}


def retention(
    config: Config = None,
    data: Data = Path("var"),
    base_port: BasePort = 8000,
    apply: Annotated[bool, typer.Option("--apply", help="Remove what is due; without it nothing is changed.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show which partitions ended more than audit.retention_days ago, or remove them; the service may run meanwhile."""
    from atna.record_repository import app as room

    settings = load_settings(config, data, base_port)
    with _database(settings), room.retention(audit=settings.audit, domain=settings.affinity_domain) as job:
        rows = [_due(one) for one in job.due()]
        if not rows and settings.audit.retention_days is None:
            raise CommandError("audit.retention_days is not set: records are kept for ever", status=2)
        if apply and rows:
            gone = job.apply(_signing_key(settings), operator())
            rows = [_due(one.due) | {"state": "removed"} for one in _told(gone)]
    if as_json:
        print_json({"removed": apply, "partitions": rows})
    else:
        print_table(_COLUMNS, rows)
        note(f"{len(rows)} partitions {'removed' if apply else 'are due; --apply removes them'}")


def _told(gone: "Iterator[Retired]") -> "Iterator[Retired]":
    from atna.record_repository.retention import NotWhole

    try:
        yield from gone
    except NotWhole as error:
        raise CommandError(str(error)) from error


def _due(one: "Due") -> dict[str, object]:
    return {
        "partition": one.partition.name,
        "records": one.records,
        "octets": one.octets,
        "received_first": _when(one.received_first),
        "received_last": _when(one.received_last),
        "ended": _when(one.partition.closed_at),
        "state": "due" if one.partition.rule is None else "half removed",
    }


def _when(microseconds: int | None) -> str | None:
    if microseconds is None:
        return None
    return datetime.fromtimestamp(microseconds // 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@contextmanager
def _whole(out: Path) -> Iterator[BinaryIO]:
    """A new file with patients' data: for its owner alone, under another name until it is whole."""
    part = out.with_name(f"{out.name}.part")
    for path in (out, part):
        if path.exists():
            raise CommandError(f"{path}: is there already", status=2)
    try:
        # A file or a link that was put there meanwhile keeps its own mode, or leads elsewhere: it is not written to.
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            with os.fdopen(descriptor, "wb", buffering=2**20) as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            part.rename(out)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise CommandError(f"{out}: cannot be written: {error.strerror}") from error


def _plain(one: Checkpoint) -> dict[str, object]:
    return asdict(one) | {"link": one.link.hex(), "signature": one.signature.hex(), "text": one.complete}
