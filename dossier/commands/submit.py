"""``dossier submit``: files into the repository (ITI-41)."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from dossier.console import CommandError, note, print_json, progress
from dossier.consumer import provide, soap_client
from dossier.options import AsJson, BasePort, Config, Patient, Peers, RepositoryUrl, check_texts, read_identifier
from dossier.source import Codebook, UnknownCode, Wishes, compose, measure
from ihe.datatypes import is_uuid, loose_dtm
from wire.affinity_domain import agreed_codes

__all__ = ["submit"]


def submit(
    files: Annotated[list[Path], typer.Argument(exists=True, dir_okay=False, readable=True, help="Documents.")],
    patient: Patient,
    type_code: Annotated[str, typer.Option("--type", help="typeCode, e.g. 11502-2 for a laboratory report.")],
    class_code: Annotated[str | None, typer.Option("--class", help="classCode; by the type when it is known.")] = None,
    format_code: Annotated[str | None, typer.Option("--format", help="formatCode; by class and mime type.")] = None,
    title: Annotated[str | None, typer.Option("--title", help="Default: the file's name.")] = None,
    author: Annotated[str | None, typer.Option("--author", help="'Given Family', 'Family, Given' or an XCN.")] = None,
    institution: Annotated[str | None, typer.Option("--institution", help="The author's organisation.")] = None,
    language: Annotated[str, typer.Option("--language", help="RFC 5646 tag.")] = "en",
    mime: Annotated[str | None, typer.Option("--mime", help="Mime type; by the file's suffix.")] = None,
    confidentiality: Annotated[str, typer.Option("--confidentiality", help="N, R or V.")] = "N",
    facility: Annotated[str | None, typer.Option("--facility", help="healthcareFacilityTypeCode.")] = None,
    practice: Annotated[str | None, typer.Option("--practice", help="practiceSettingCode.")] = None,
    created: Annotated[
        str | None, typer.Option("--created", help="YYYYMMDD[hhmmss], UTC; default: when the file last changed.")
    ] = None,
    comments: Annotated[str | None, typer.Option("--comments", help="Remarks kept with the entry.")] = None,
    replace: Annotated[
        str | None, typer.Option("--replace", metavar="ENTRY", help="entryUUID of the document that this one replaces.")
    ] = None,
    repository_url: RepositoryUrl = None,
    config: Config = None,
    base_port: BasePort = 8000,
    as_json: AsJson = False,
) -> None:
    """Submit documents of one patient as one submission set, and print their unique ids."""
    if replace is not None and len(files) != 1:
        raise CommandError("--replace takes one file: a document is replaced by a document", status=2)
    _refuse_streams(files)
    check_texts(
        {"--title": title, "--author": author, "--institution": institution}
        | {"--language": language, "--mime": mime, "--comments": comments}
        | {f"name of the file {number}, the title": file.stem for number, file in enumerate(files, 1) if not title}
    )
    patient_id = read_identifier("--patient", patient)
    peers = Peers.find(config, base_port, repository_url=repository_url)
    try:
        if created is not None:
            loose_dtm(created)
        wishes = Wishes(
            patient=patient_id,
            type_code=type_code,
            class_code=class_code,
            format_code=format_code,
            facility=facility,
            practice=practice,
            confidentiality=confidentiality,
            title=title,
            author=author,
            institution=institution,
            language=language,
            mime_type=mime,
            created=created,
            replace=_entry_uuid(replace),
            comments=comments,
        )
    except ValueError as error:
        raise CommandError(str(error), status=2) from error
    _print(_send(files, wishes, peers), as_json=as_json)


def _refuse_streams(files: list[Path]) -> None:
    """Size and hash stand before the bytes in the message, so a file is read twice; a pipe is empty by then."""
    for file in files:
        if not file.is_file():
            raise CommandError(f"{file}: is no regular file; write what it gives to one first", status=2)


def _entry_uuid(text: str | None) -> str | None:
    """Raises ValueError: the registry would look for an id of the submission itself."""
    if text is None:
        return None
    urn = "urn:uuid:" + text.strip().lower().removeprefix("urn:uuid:")
    if not is_uuid(urn):
        raise ValueError("--replace should be the entryUUID of a document, as dossier find --json prints it")
    return urn


def _send(files: list[Path], wishes: Wishes, peers: Peers) -> dict[str, object]:
    codes = Codebook(agreed_codes(peers.settings.affinity_domain))
    total = sum(file.stat().st_size for file in files)
    with progress("reading", total) as advance:
        documents = [measure(file, advance) for file in files]
    with progress("sending", total) as advance:
        try:
            submission = compose(documents, wishes, codes, now=datetime.now(UTC), advance=advance)
        except (UnknownCode, ValueError) as error:
            raise CommandError(str(error), status=2) from error
        with soap_client(peers.tls) as client:
            warnings = provide(client, peers.repository, submission.body, submission.parts)
    return {
        "submission_set": submission.submission_set_unique_id,
        "documents": list(submission.documents),
        "warnings": warnings,
    }


def _print(result: dict[str, object], *, as_json: bool) -> None:
    warnings, documents = result["warnings"], result["documents"]
    assert isinstance(warnings, list)
    assert isinstance(documents, list)
    if as_json:
        print_json(result)
        return
    for warning in warnings:
        note(f"warning: {warning}")
    for document in documents:
        typer.echo(document["unique_id"])
