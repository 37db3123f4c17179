"""``dossier find``: the documents of a patient (ITI-18 FindDocuments)."""

from dataclasses import asdict
from enum import StrEnum
from typing import Annotated

import typer

from dossier.console import CommandError, print_json, print_table
from dossier.consumer import find_entries, quoted, soap_client
from dossier.options import (
    Across,
    AsJson,
    BasePort,
    Config,
    Patient,
    Peers,
    RegistryUrl,
    check_texts,
    read_identifier,
)
from dossier.source import Codebook, UnknownCode, named_person
from ihe import vocabulary as v
from ihe.datatypes import DTM, print_cx, print_xcn
from wire.affinity_domain import agreed_codes

__all__ = ["find"]

COLUMNS = {
    "created": "created",
    "title": "title",
    "type_name": "type",
    "author": "author",
    "status": "status",
    "mime_type": "mime type",
    "size": "bytes",
    "unique_id": "unique id",
    "entry_uuid": "entry",
}
HOME = {"home": "community"}


class Status(StrEnum):
    """Which versions."""

    APPROVED = "approved"
    DEPRECATED = "deprecated"
    ALL = "all"


STATUSES = {
    Status.APPROVED: [v.APPROVED],
    Status.DEPRECATED: [v.DEPRECATED],
    Status.ALL: [v.APPROVED, v.DEPRECATED],
}


def find(
    patient: Patient,
    type_code: Annotated[list[str] | None, typer.Option("--type", help="typeCode; may be repeated.")] = None,
    class_code: Annotated[list[str] | None, typer.Option("--class", help="classCode; may be repeated.")] = None,
    since: Annotated[str | None, typer.Option("--from", help="Created at or after: YYYY[MM[DD[hhmmss]]], UTC.")] = None,
    until: Annotated[str | None, typer.Option("--to", help="Created before: YYYY[MM[DD[hhmmss]]], UTC.")] = None,
    author: Annotated[str | None, typer.Option("--author", help="Author or part of the name; % and _ count.")] = None,
    status: Annotated[Status, typer.Option("--status")] = Status.APPROVED,
    across: Across = False,
    registry_url: RegistryUrl = None,
    config: Config = None,
    base_port: BasePort = 8000,
    as_json: AsJson = False,
) -> None:
    """Find the documents of a patient."""
    check_texts({"--author": author})
    patient_id = read_identifier("--patient", patient)
    peers = Peers.find(config, base_port, registry_url=registry_url, across=across)
    codes = Codebook(agreed_codes(peers.settings.affinity_domain))
    try:
        parameters = {
            "$XDSDocumentEntryPatientId": quoted(print_cx(patient_id)),
            "$XDSDocumentEntryStatus": _list(STATUSES[status]),
        }
        for name, attribute, wanted in (
            ("$XDSDocumentEntryTypeCode", "typeCode", type_code),
            ("$XDSDocumentEntryClassCode", "classCode", class_code),
        ):
            if wanted:
                found = [codes.find(attribute, one) for one in wanted]
                parameters[name] = _list([f"{one.code}^^{one.scheme}" for one in found])
    except (UnknownCode, ValueError) as error:
        raise CommandError(str(error), status=2) from error
    for name, value in (("From", since), ("To", until)):
        if value is not None:
            parameters[f"$XDSDocumentEntryCreationTime{name}"] = quoted(_time(value))
    if author is not None:
        parameters["$XDSDocumentEntryAuthorPerson"] = _list(_patterns(author))
    with soap_client(peers.tls) as client:
        entries = find_entries(client, peers.registry, parameters)
    rows = [asdict(entry) for entry in sorted(entries, key=lambda entry: entry.created or "")]
    if as_json:
        print_json(rows)
    else:
        print_table(COLUMNS | HOME if across else COLUMNS, rows)


def _list(values: list[str]) -> str:
    return "(" + ",".join(quoted(value) for value in values) + ")"


def _patterns(author: str) -> list[str]:
    """The words as they are, and a name as ``dossier submit`` writes it: ``Anna Weber`` is kept as ``^Weber^Anna``."""
    patterns = [f"%{author}%"]
    if "^" not in author and (person := named_person(author)).given_name:
        patterns.append(f"%{print_xcn(person)}%")
    return patterns


def _time(text: str) -> str:
    digits = "".join(character for character in text if character not in "-:T ").removesuffix("Z")
    if not digits.isascii() or not digits.isdigit() or len(digits) not in {4, 6, 8, 10, 12, 14}:
        raise CommandError("times should be YYYY[MM[DD[hh[mm[ss]]]]], e.g. 20260312", status=2)
    try:
        return DTM(digits).text
    except ValueError as error:
        raise CommandError(f"{text}: {error}", status=2) from error
