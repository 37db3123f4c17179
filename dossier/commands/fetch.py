"""``dossier fetch``: documents out of the repository into files (ITI-43)."""

import hashlib
import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from dossier.console import CommandError, note, print_json, progress
from dossier.consumer import Entry, Retrieved, get_entries, retrieve, soap_client
from dossier.options import AsJson, BasePort, Config, Peers, RegistryUrl, RepositoryUrl, check_texts
from dossier.source import SUFFIXES
from ihe.datatypes import normalise_oid_urn
from wire.client import OutcomeUnknown, SoapClient

__all__ = ["fetch"]


def fetch(
    unique_ids: Annotated[list[str], typer.Argument(metavar="UNIQUE_ID...", help="As printed by submit and find.")],
    out: Annotated[Path, typer.Option("--out", file_okay=False, help="Folder for the files.")] = Path(),
    repository_id: Annotated[
        str | None, typer.Option("--repository-id", help="repositoryUniqueId; as the registry says, else our own.")
    ] = None,
    home: Annotated[
        str | None, typer.Option("--home", help="Home community id, as find --across prints it: through the gateway.")
    ] = None,
    registry_url: RegistryUrl = None,
    repository_url: RepositoryUrl = None,
    config: Config = None,
    base_port: BasePort = 8000,
    as_json: AsJson = False,
) -> None:
    """Fetch documents; each file appears whole and checked, or not at all."""
    check_texts({f"UNIQUE_ID {one!a}": one for one in unique_ids} | {"--repository-id": repository_id, "--home": home})
    peers = Peers.find(config, base_port, registry_url, repository_url, across=home is not None)
    home = None if home is None else normalise_oid_urn(home)
    _make(out)
    written = []
    try:
        with soap_client(peers.tls) as client:
            known = _known(client, peers.registry, unique_ids, home)
            own = peers.settings.repository.unique_id
            wanted = [(_repository(known.get(one), repository_id, own), one) for one in unique_ids]
            with retrieve(client, peers.repository, wanted, home) as (documents, errors):
                for document in documents:
                    row = _write(document, known.get(document.unique_id), out)
                    written.append(row)
                    if not as_json:
                        typer.echo(row["file"])
    except OutcomeUnknown as error:
        raise CommandError(f"{peers.repository}: {error}") from error
    if as_json:
        print_json(written)
    if errors:
        raise CommandError(*(f"{error.code}: {error.context}" for error in errors))


def _known(client: SoapClient, url: str, unique_ids: list[str], home: str | None) -> dict[str, Entry]:
    """What the registry says of them; without it the bytes cannot be checked, which is said and goes on."""
    try:
        entries = get_entries(client, url, unique_ids, home)
    except CommandError as error:
        note(f"the documents cannot be checked against the registry: {error}")
        return {}
    return {entry.unique_id: entry for entry in entries}


def _repository(entry: Entry | None, given: str | None, own: str) -> str:
    return given or (entry.repository_unique_id if entry else "") or own


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CommandError(f"{folder}: cannot be created: {error.strerror}", status=2) from error


def _write(document: Retrieved, entry: Entry | None, out: Path) -> dict[str, object]:
    """Write into a hidden file, check, sync, then give it its name."""
    target = out / _file_name(document)
    with progress(target.name, entry.size if entry else None) as advance:
        try:
            handle, temporary = tempfile.mkstemp(prefix=".fetch-", dir=out)
        except OSError as error:
            raise CommandError(f"{out}: cannot be written to: {error.strerror}", status=2) from error
        try:
            size, sha1 = _copy(document, handle, advance)
            _check(document, entry, size, sha1)
            Path(temporary).replace(target)
        except OSError as error:
            raise CommandError(f"{target}: cannot be written: {error.strerror}") from error
        finally:
            Path(temporary).unlink(missing_ok=True)
    return {
        "unique_id": document.unique_id,
        "file": str(target),
        "mime_type": document.mime_type,
        "size": size,
        "hash": sha1,
        "checked": bool(entry and entry.hash),
    }


def _copy(document: Retrieved, handle: int, advance: Callable[[int], None]) -> tuple[int, str]:
    digest = hashlib.sha1(usedforsecurity=False)
    size = 0
    with os.fdopen(handle, "wb") as file:
        for block in document.chunks:
            file.write(block)
            digest.update(block)
            size += len(block)
            advance(len(block))
        file.flush()
        os.fsync(file.fileno())
    return size, digest.hexdigest()


def _check(document: Retrieved, entry: Entry | None, size: int, sha1: str) -> None:
    if entry is None:
        return
    if entry.hash and entry.hash.lower() != sha1:
        raise CommandError(f"{document.unique_id}: damaged: its SHA-1 is not the one the registry has; nothing written")
    if entry.size is not None and entry.size != size:
        raise CommandError(f"{document.unique_id}: {size} bytes came instead of {entry.size}; nothing written")


def _file_name(document: Retrieved) -> str:
    """The unique id with what no file name should hold replaced, and the suffix of the mime type."""
    base = re.sub(r"[^A-Za-z0-9._-]+", "_", document.unique_id).strip("._")[:150] or "document"
    return base + SUFFIXES.get(document.mime_type.partition(";")[0].strip().lower(), ".bin")
