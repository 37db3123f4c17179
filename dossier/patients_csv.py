"""The file of ``dossier feed --file patients.csv``: who is in it, what is wrong with it, how far a feed has come.

CSV (RFC 4180) in UTF-8, a byte order mark allowed, comma or semicolon as its first line has it. The first line names
the columns, in any order and case; others are ignored:

id, authority    the identifier and the OID of who assigned it; or both in one column ``patient``: ID^^^&OID&ISO
family, given    optional
birth            optional: YYYYMMDD, YYYYMM or YYYY, dashes allowed
sex              optional: F, M, O, U, A or N (HL7 table 0001)

Line numbers count from 1 and are where a row begins, as an editor shows them. Texts of faults never repeat a value.
"""

import contextlib
import csv
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TextIO

from ihe.datatypes import CX, is_oid, loose_dtm, normalise_oid, parse_cx
from ihe.hl7v2 import Demographics, Identifier

__all__ = ["COLUMNS", "CsvRefused", "PatientRow", "Progress", "check_patients", "read_patient", "read_patients"]

COLUMNS: Final = ("id", "authority", "family", "given", "birth", "sex")
MAX_FAULTS: Final = 20
"""More faults than this are counted, not told."""

_SEX: Final = frozenset("FMOUAN")
_BIRTH: Final = re.compile(r"[0-9]{4}([0-9]{2}([0-9]{2})?)?")


class CsvRefused(Exception):  # noqa: N818 - a refusal, worded for the user
    """The file can't be fed; ``faults`` are lines for the user, at least one."""

    def __init__(self, *faults: str) -> None:
        self.faults = faults
        super().__init__("; ".join(faults))


@dataclass(frozen=True, slots=True)
class PatientRow:
    """One patient. ``line`` is where its row begins, ``through`` its last line, ``digest`` of all lines up to that."""

    line: int
    through: int
    digest: str
    identifier: Identifier
    demographics: Demographics


def read_patient(values: Mapping[str, str | None]) -> tuple[Identifier, Demographics]:
    """A patient from its columns; CsvRefused with every fault."""
    told = {name: (values.get(name) or "").strip() or None for name in (*COLUMNS, "patient")}
    faults: list[str] = []
    cx = _identity(told, faults)
    birth = (told["birth"] or "").replace("-", "") or None
    if birth is not None:
        faults += _birth_faults(birth)
    sex = (told["sex"] or "").upper() or None
    if sex is not None and sex not in _SEX:
        faults.append("sex should be one of F, M, O, U, A, N")
    if cx is None or faults:
        raise CsvRefused(*faults)
    return Identifier(cx.id, None, cx.authority, "ISO"), Demographics(told["family"], told["given"], birth, sex)


def _birth_faults(birth: str) -> Iterator[str]:
    if not _BIRTH.fullmatch(birth):
        yield "birth should be YYYYMMDD, YYYYMM or YYYY"
        return
    try:
        loose_dtm(birth)
    except ValueError:
        yield "birth is no day of the calendar"


def _identity(told: Mapping[str, str | None], faults: list[str]) -> CX | None:
    if told["patient"] is not None:
        try:
            return parse_cx(told["patient"])
        except ValueError as error:
            faults.append(f"patient: {error}")
            return None
    authority = normalise_oid(told["authority"] or "")
    if told["id"] is None:
        faults.append("id is missing")
    if not is_oid(authority):
        faults.append("authority should be an OID, e.g. 1.3.6.1.4.1.21367.13.20.1000")
    return CX(told["id"], authority) if told["id"] is not None and is_oid(authority) else None


def check_patients(path: Path) -> int:
    """How many patients the file holds; CsvRefused with its faults, each with its line, before anything is sent."""
    faults: list[str] = []
    count = more = 0
    for found in _rows(path):
        count += 1
        if isinstance(found, PatientRow):
            continue
        room = MAX_FAULTS - len(faults)
        faults += found[:room]
        more += len(found[room:])
    if more:
        faults.append(f"and {more} more")
    if faults:
        raise CsvRefused(*faults)
    return count


def read_patients(path: Path, after_line: int = 0) -> Iterator[PatientRow]:
    """The patients in the order of the file, those up to ``after_line`` left out. CsvRefused at the first fault."""
    for found in _rows(path):
        if not isinstance(found, PatientRow):
            raise CsvRefused(*found)
        if found.through > after_line:
            yield found


def _rows(path: Path) -> Iterator[PatientRow | tuple[str, ...]]:
    """Each row as a patient or as its faults; CsvRefused for what spoils the whole file."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = _Lines(file)
            reader = csv.reader(lines, delimiter=lines.delimiter, strict=True)
            heading = _heading(next(reader, []))
            before = reader.line_num
            for fields in reader:
                line, before = before + 1, reader.line_num
                if not any(field.strip() for field in fields):
                    continue
                yield _row(dict(zip(heading, fields, strict=False)), line, before, lines.digest())
    except UnicodeDecodeError as error:
        raise CsvRefused(f"the file is not UTF-8 (byte {error.start}); save it as CSV UTF-8") from error
    except csv.Error as error:
        raise CsvRefused(f"line {lines.number}: {error}") from error
    except OSError as error:
        raise CsvRefused(f"{path}: {error.strerror}") from error


def _heading(fields: list[str]) -> list[str]:
    names = [field.strip().lower() for field in fields]
    if len(set(names)) != len(names):
        raise CsvRefused("line 1: a column is named twice")
    if "patient" not in names and not {"id", "authority"} <= set(names):
        raise CsvRefused(f"line 1 should name the columns: {', '.join(COLUMNS)}")
    return names


def _row(values: dict[str, str | None], line: int, through: int, digest: str) -> PatientRow | tuple[str, ...]:
    try:
        return PatientRow(line, through, digest, *read_patient(values))
    except CsvRefused as refused:
        return tuple(f"line {line}: {fault}" for fault in refused.faults)


class _Lines:
    """The lines of a file on their way to the CSV reader, counted and digested."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._first: str | None = file.readline()
        self._sha256 = hashlib.sha256()
        self.number = 0
        self.delimiter = ";" if self._first.count(";") > self._first.count(",") else ","

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        line, self._first = (self._file.readline() if self._first is None else self._first), None
        if not line:
            raise StopIteration
        self.number += 1
        self._sha256.update(line.encode())
        return line

    def digest(self) -> str:
        """Of every line handed out so far, hex."""
        return self._sha256.hexdigest()


class Progress:
    """``patients.csv.progress``, beside the file: the last line that was acknowledged, and a digest of all before it.

    Written after each answer, so that a break costs one repetition at most; a registry takes that as the update it is.
    Lines may be added to the file meanwhile; where a line already fed was changed, the feed is not resumed.
    """

    def __init__(self, path: Path) -> None:
        self._csv = path
        self.path: Final = path.with_name(path.name + ".progress")

    def resume(self) -> int:
        """The line to go on after, 0 to begin. CsvRefused when what was fed is no longer what the file says."""
        try:
            known: Any = json.loads(self.path.read_text(encoding="ascii"))
            line, digest = int(known["line"]), str(known["sha256"])
        except FileNotFoundError:
            return 0
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise CsvRefused(f"{self.path.name} can't be read; remove it to begin anew") from error
        for found in _rows(self._csv):
            if isinstance(found, PatientRow) and found.through == line and found.digest == digest:
                return line
        raise CsvRefused(f"the file was changed at or before line {line}; remove {self.path.name} to begin anew")

    def acknowledged(self, row: PatientRow) -> None:
        """The registry has taken this row and all before it."""
        self._keep(row.through, row.digest)

    def begin(self) -> None:
        """Find out whether anything can be kept here, before the first patient is sent. CsvRefused."""
        if not self.path.exists():
            self._keep(0, "")
            self.finished()

    def _keep(self, line: int, sha256: str) -> None:
        new = self.path.with_name(self.path.name + ".new")
        try:
            new.write_text(json.dumps({"line": line, "sha256": sha256}), encoding="ascii")
            new.replace(self.path)
        except OSError as error:
            with contextlib.suppress(OSError):
                new.unlink(missing_ok=True)
            where = f"{self.path}: cannot be written: {error.strerror}"
            raise CsvRefused(
                f"{where}; how far the feed came is kept beside the file: move it where there is room"
            ) from error

    def finished(self) -> None:
        """Every row was taken: a later run begins anew."""
        self.path.unlink(missing_ok=True)
