"""``dossier feed``: make patients known to the registry (ITI-8), one from options or many from a file."""

import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import typer

from dossier.console import CommandError, print_json, progress
from dossier.options import AsJson, BasePort, Config, Peers, check_texts
from dossier.patients_csv import CsvRefused, Progress, check_patients, read_patient, read_patients
from ihe.hl7v2 import Demographics, Identifier, ParseError, parse_acknowledgement
from ihe.hl7v2_print import print_feed
from wire.mllp_client import MllpClient, MllpFailed, feed_address
from wire.settings import TlsSettings
from wire.tls import TlsFault, client_context

__all__ = ["feed"]

ACCEPTED: Final = frozenset({"AA", "CA"})


def feed(
    patient: Annotated[str | None, typer.Option("--patient", help="Patient identifier: 'ID^^^&OID&ISO'.")] = None,
    family: Annotated[str | None, typer.Option("--family")] = None,
    given: Annotated[str | None, typer.Option("--given")] = None,
    birth: Annotated[str | None, typer.Option("--birth", help="YYYYMMDD or YYYY-MM-DD.")] = None,
    sex: Annotated[str | None, typer.Option("--sex", help="F, M, O, U, A or N.")] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            "--file",
            exists=True,
            dir_okay=False,
            help="CSV in UTF-8 with a heading: patient (or id, authority), family, given, birth, sex. Run it again "
            "after a break and it goes on where it stopped.",
        ),
    ] = None,
    feed_url: Annotated[str | None, typer.Option("--feed-url", help="mllp://host:port of the registry.")] = None,
    config: Config = None,
    base_port: BasePort = 8000,
    as_json: AsJson = False,
) -> None:
    """Tell the registry of patients (ITI-8, ADT^A04)."""
    if (patient is None) == (file is None):
        raise CommandError("give either --patient or --file", status=2)
    peers = Peers.find(config, base_port)
    url = feed_url or peers.feed
    if patient is not None:
        told = {"patient": patient, "family": family, "given": given, "birth": birth, "sex": sex}
        check_texts({f"--{name}": text for name, text in told.items()})
        try:
            who = read_patient(told)
        except CsvRefused as refused:
            raise CommandError(*refused.faults, status=2) from refused
        with _client(url, peers.tls) as client:
            _send(client, *who)
        result = {"fed": 1, "skipped": 0}
    else:
        assert file is not None
        result = _feed_file(url, peers.tls, file)
    if as_json:
        print_json(result)
    else:
        typer.echo(f"{result['fed']} fed" + (f", {result['skipped']} already done" if result["skipped"] else ""))


def _client(url: str, tls: TlsSettings) -> MllpClient:
    try:
        host, port, secured = feed_address(url)
        return MllpClient(host, port, tls=client_context(tls) if secured else None)
    except (TlsFault, ValueError) as error:
        raise CommandError(str(error), status=2) from error


def _send(client: MllpClient, identifier: Identifier, demographics: Demographics, where: str = "the patient") -> None:
    message = print_feed(
        "A04",
        identifier,
        demographics,
        control_id=uuid.uuid4().hex[:20],
        time=datetime.now(UTC).strftime("%Y%m%d%H%M%S"),
        sender=("DOSSIER", "COMMANDLINE"),
    )
    try:
        answer = parse_acknowledgement(client.send(message))
    except MllpFailed as error:
        raise CommandError(str(error)) from error
    except ParseError as error:
        raise CommandError("the feed answered something that is no HL7 acknowledgement") from error
    if answer.code not in ACCEPTED:
        reason = f" ({answer.text})" if answer.text else ""
        raise CommandError(f"{where} was refused by the registry: {answer.code}{reason}")


def _feed_file(url: str, tls: TlsSettings, file: Path) -> dict[str, int]:
    """Nothing is sent from a file with a fault; after a break the first row without an answer comes next."""
    journal = Progress(file)
    fed = 0
    try:
        count = check_patients(file)
        after = journal.resume()
        journal.begin()
        with _client(url, tls) as client, progress(file.name, file.stat().st_size) as advance:
            share = file.stat().st_size // max(count, 1)
            for row in read_patients(file, after):
                _send(client, row.identifier, row.demographics, f"{file.name}, line {row.line}")
                journal.acknowledged(row)
                fed += 1
                advance(share)
    except CsvRefused as refused:
        raise CommandError(*(f"{file.name}: {fault}" for fault in refused.faults), status=2) from refused
    journal.finished()
    return {"fed": fed, "skipped": count - fed}
