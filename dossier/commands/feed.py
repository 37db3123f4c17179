"""``dossier feed``: make patients known to the registry (ITI-8), one from options or many from a file."""

import csv
import json
import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Annotated, Final

import typer

from dossier.console import CommandError, note, print_json, progress
from dossier.options import AsJson, BasePort, Config, Peers
from ihe.datatypes import CX, parse_cx
from ihe.hl7v2 import Demographics, Identifier, ParseError, parse_acknowledgement
from ihe.hl7v2_print import print_feed
from wire.mllp_client import MllpClient, MllpFailed, feed_address
from wire.settings import TlsSettings
from wire.tls import TlsFault, client_context

__all__ = ["feed"]

COLUMNS: Final = ("patient", "family", "given", "birth", "sex")
ACCEPTED: Final = frozenset({"AA", "CA"})
_SEX: Final = frozenset("FMOUAN")
_DATE: Final = re.compile(r"\d{4}(\d{2}(\d{2})?)?")


@dataclass(frozen=True, slots=True)
class Person:
    """What a feed tells of a patient. ``birth`` is YYYY[MM[DD]], ``sex`` one of F M O U A N (HL7 table 0001)."""

    id: CX
    family: str | None = None
    given: str | None = None
    birth: str | None = None
    sex: str | None = None

    def faults(self) -> list[str]:
        """What is wrong with the demographics, in plain words."""
        out = []
        if self.birth is not None and not _DATE.fullmatch(self.birth):
            out.append("birth should be YYYYMMDD, YYYYMM or YYYY (dashes are removed)")
        if self.sex is not None and self.sex not in _SEX:
            out.append("sex should be one of F, M, O, U, A, N")
        return out


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
            help="CSV with a heading: patient, family, given, birth, sex. Run it again after a break and it goes on "
            "where it stopped.",
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
        person = _person(
            {"patient": patient, "family": family, "given": given, "birth": birth, "sex": sex}, "--patient"
        )
        with _client(url, peers.tls) as client:
            _send(client, person)
        result = {"fed": 1, "skipped": 0}
    else:
        assert file is not None
        with _client(url, peers.tls) as client:
            result = _feed_file(client, file)
    if as_json:
        print_json(result)
    else:
        typer.echo(f"{result['fed']} fed" + (f", {result['skipped']} already done" if result["skipped"] else ""))


def _person(row: dict[str, str | None], where: str) -> Person:
    values = {key: (value or "").strip() or None for key, value in row.items() if key in COLUMNS}
    if not values.get("patient"):
        raise CommandError(f"{where}: the patient identifier is missing", status=2)
    try:
        cx = parse_cx(values["patient"] or "")
    except ValueError as error:
        raise CommandError(f"{where}: {error}", status=2) from error
    birth = (values.get("birth") or "").replace("-", "") or None
    sex = (values.get("sex") or "").upper() or None
    person = Person(cx, values.get("family"), values.get("given"), birth, sex)
    if faults := person.faults():
        raise CommandError(*(f"{where}: {fault}" for fault in faults), status=2)
    return person


def _client(url: str, tls: TlsSettings) -> MllpClient:
    try:
        host, port, secured = feed_address(url)
        return MllpClient(host, port, tls=client_context(tls) if secured else None)
    except (TlsFault, ValueError) as error:
        raise CommandError(str(error), status=2) from error


def _send(client: MllpClient, person: Person, where: str = "the patient") -> None:
    message = print_feed(
        "A04",
        Identifier(person.id.id, None, person.id.authority, "ISO"),
        Demographics(person.family, person.given, person.birth, person.sex),
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


@dataclass(frozen=True, slots=True)
class _Journal:
    """``patients.csv.progress`` beside the file: up to which byte every row was acknowledged.

    Written after each answer, so a break costs at most one repetition, which a registry takes as the update it is.
    """

    path: Path
    size: int
    changed: int

    @classmethod
    def of(cls, file: Path) -> "_Journal":
        stat = file.stat()
        return cls(file.with_name(file.name + ".progress"), stat.st_size, stat.st_mtime_ns)

    def rows_done(self) -> int:
        try:
            found = json.loads(self.path.read_text(encoding="ascii"))
        except (OSError, ValueError):
            return 0
        if found.get("size") != self.size or found.get("changed") != self.changed:
            note(f"{self.path.name}: the file has changed since, beginning anew")
            return 0
        return int(found.get("rows", 0))

    def write(self, rows: int) -> None:
        new = self.path.with_name(self.path.name + ".new")
        new.write_text(json.dumps({"size": self.size, "changed": self.changed, "rows": rows}), encoding="ascii")
        new.replace(self.path)

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)


def _feed_file(client: MllpClient, file: Path) -> dict[str, int]:
    journal = _Journal.of(file)
    done = journal.rows_done()
    fed = 0
    with file.open(encoding="utf-8-sig", newline="") as lines, progress(file.name, journal.size) as advance:
        for number, (size, row) in enumerate(_rows(lines), start=1):
            advance(size)
            if number <= done:
                continue
            where = f"{file.name}, row {number}"
            _send(client, _person(row, where), where)
            fed += 1
            journal.write(number)
    journal.remove()
    return {"fed": fed, "skipped": done}


def _rows(lines: IO[str]) -> Iterator[tuple[int, dict[str, str | None]]]:
    reader = csv.DictReader(lines)
    heading = [name.strip().lower() for name in reader.fieldnames or ()]
    if "patient" not in heading:
        raise CommandError(f"the first line should name the columns: {', '.join(COLUMNS)}", status=2)
    reader.fieldnames = heading
    for row in reader:
        yield sum(len(value or "") + 1 for key, value in row.items() if key in heading), row
