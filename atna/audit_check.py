"""Checks exported partitions of the audit log; needs nothing but Python: ``python audit_check.py EXPORT… PUBLIC_KEY``.

EXPORT is what ``dossier audit export`` wrote, one file or several; PUBLIC_KEY a PEM file of Ed25519 keys that was kept
apart from the log (``dossier audit key``). ``--checkpoint FILE`` (``dossier audit checkpoint``, kept apart as well) has
to be met by the log. Ends with 0 when everything holds, with 1 and the first fault when not, with 2 for wrong usage.

The rules of the log stand here and nowhere else; the audit service takes them from here. Numbers are 8 octets, big
endian; times are microseconds since 1970, UTC; H is SHA-256; a link is its 32 octets.

    link of a record          H("dossier record 2" previous number received_at H(message) via)
    start of a partition      H("dossier partition 2" last-link-of-the-one-before first-number name)
    in format 1 (before partitions): H(previous number received_at H(message)), and 32 zero octets at the start

An export is lines that end with LF, fields parted by one blank, links and signatures in hex:

    dossier audit export 1
    partition NAME FORMAT FIRST LAST START END STATE   of every partition; STATE: closed, open, removing, removed
    removal PARTITION AT KEY SIGNATURE RULE            after a partition that was removed; RULE: the rest of the line
    checkpoint SERIAL PARTITION NUMBER LINK AT KEY SIGNATURE
    records NAME                                       the partition whose records follow
    record NUMBER RECEIVED_AT LINK VIA-OCTETS OCTETS   then via ("-": none), the message, and LF
    end RECORDS
"""

from __future__ import annotations

import argparse
import hashlib
import re
import sys
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import BinaryIO, Final

__all__ = [
    "EXPORT_HEAD",
    "FIRST_LINK",
    "Checked",
    "Checkpoint",
    "Fault",
    "Partition",
    "Removal",
    "check",
    "ed25519_verifies",
    "follows",
    "instant",
    "key_id",
    "link_of",
    "parse_checkpoint",
    "partition_start",
    "public_keys",
    "public_pem",
    "signature_fault",
]

EXPORT_HEAD: Final = b"dossier audit export 1\n"
FIRST_LINK: Final = bytes(32)
FORMATS: Final = (1, 2)
STATES: Final = ("open", "closed", "removing", "removed")
_CHECKPOINT_HEAD: Final = "dossier audit checkpoint 1"
_REMOVAL_HEAD: Final = "dossier audit removal 1"
_LONGEST_LINE: Final = 4096
_MOST_OCTETS: Final = 2**31
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)  # noqa: UP017 - runs on any Python 3 an auditor may have
_ED25519_DER: Final = bytes.fromhex("302a300506032b6570032100")

Verifies = Callable[[bytes, bytes, bytes], bool]
"""(public key of 32 octets, signed bytes, signature) -> whether it is one."""


class Fault(Exception):  # noqa: N818 - what was found, not what went wrong
    """The first thing that does not hold, in words; ``at`` is the number of the record, if it is one."""

    def __init__(self, text: str, at: int | None = None, partition: str | None = None) -> None:
        super().__init__(text)
        self.text = text
        self.at = at
        self.partition = partition


@dataclass(frozen=True)
class Partition:
    """A partition as the log tells of it. ``last`` and ``end``: number and link of its last record so far."""

    name: str
    format: int
    first: int
    last: int
    start: bytes
    end: bytes
    state: str


@dataclass(frozen=True)
class Checkpoint:
    """Signed: the log has this link at this number. ``serial`` counts the checkpoints of a log from 1."""

    serial: int
    partition: str
    number: int
    link: bytes
    at: int
    key_id: str
    signature: bytes = b""

    @property
    def text(self) -> str:
        """What is signed, in UTF-8."""
        return (
            f"{_CHECKPOINT_HEAD}\nserial {self.serial}\npartition {self.partition}\nnumber {self.number}\n"
            f"link {self.link.hex()}\ntime {instant(self.at)}\nkey {self.key_id}\n"
        )

    @property
    def complete(self) -> str:
        """The text to be kept elsewhere, signature included."""
        return f"{self.text}signature {self.signature.hex()}\n"


@dataclass(frozen=True)
class Removal:
    """Signed: this partition was removed by this rule; its records are gone, its place in the chain is not."""

    partition: Partition
    rule: str
    at: int
    key_id: str
    signature: bytes = b""

    @property
    def text(self) -> str:
        """What is signed, in UTF-8."""
        one = self.partition
        return (
            f"{_REMOVAL_HEAD}\npartition {one.name}\nfirst {one.first}\nlast {one.last}\nstart {one.start.hex()}\n"
            f"end {one.end.hex()}\ntime {instant(self.at)}\nkey {self.key_id}\nrule {self.rule}\n"
        )


def link_of(form: int, previous: bytes, number: int, received_at: int, sha256: bytes, via: bytes) -> bytes:  # noqa: PLR0917
    """The link of a record."""
    place = previous + number.to_bytes(8, "big") + received_at.to_bytes(8, "big") + sha256
    return hashlib.sha256(place if form == 1 else b"dossier record 2" + place + via).digest()


def partition_start(previous: bytes, first: int, name: str) -> bytes:
    """The link a partition begins from."""
    return hashlib.sha256(b"dossier partition 2" + previous + first.to_bytes(8, "big") + name.encode()).digest()


def follows(before: Partition | None, one: Partition) -> str | None:
    """What is wrong with this partition's place after the one before; ``None`` when it is right."""
    if one.format not in FORMATS or (one.format == 1 and before is not None):
        return "its format is not one it can have"
    if one.first != (before.last + 1 if before is not None else 1) or one.last < one.first - 1:
        return "its first number does not follow from the partition before: one is missing or out of place"
    previous = before.end if before is not None else FIRST_LINK
    if one.start != (FIRST_LINK if one.format == 1 else partition_start(previous, one.first, one.name)):
        return "it does not begin where the partition before ends"
    return None


def instant(microseconds: int) -> str:
    """A time in words, UTC; one that no calendar holds stands as its number, and nobody has signed it."""
    try:
        moment = _EPOCH + timedelta(microseconds=microseconds)
    except OverflowError:
        return str(microseconds)
    return f"{moment:%Y-%m-%dT%H:%M:%S.%f}Z"


# ------------------------------------------------------------------------------------------- keys and signatures


def key_id(public: bytes) -> str:
    """The name of a public key: 32 hex digits of its SHA-256."""
    return hashlib.sha256(public).hexdigest()[:32]


def public_pem(public: bytes) -> str:
    """An Ed25519 public key of 32 octets in PEM."""
    body = b64encode(_ED25519_DER + public).decode()
    return f"-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----\n"


def public_keys(text: str) -> dict[str, bytes]:
    """Key id to 32 octets, of every Ed25519 public key in a PEM text. Raises ValueError."""
    found = {}
    for body in re.findall("-----BEGIN PUBLIC KEY-----(.*?)-----END PUBLIC KEY-----", text, re.DOTALL):
        der = b64decode("".join(body.split()), validate=True)
        if len(der) != 44 or not der.startswith(_ED25519_DER):
            raise ValueError("a key that is not an Ed25519 public key")
        found[key_id(der[12:])] = der[12:]
    if not found:
        raise ValueError("no public key in PEM (-----BEGIN PUBLIC KEY-----)")
    return found


def signature_fault(one: Checkpoint | Removal, keys: Mapping[str, bytes], verifies: Verifies) -> str | None:
    """What is wrong with the signature; ``None`` when a listed key made it."""
    public = keys.get(one.key_id)
    if public is None:
        return f"is signed by a key that is not listed ({one.key_id})"
    return None if verifies(public, one.text.encode(), one.signature) else "has a signature that does not hold"


def parse_checkpoint(text: str) -> Checkpoint:
    """A checkpoint that was kept elsewhere. Raises ValueError."""
    pattern = (
        _CHECKPOINT_HEAD + r"\nserial (\d{1,18})\npartition (\S{1,32})\nnumber (\d{1,18})\nlink ([0-9a-f]{64})\n"
        r"time (\S{27})\nkey ([0-9a-f]{32})\nsignature ([0-9a-f]{128})\n"
    )
    found = re.fullmatch(pattern, text.replace("\r\n", "\n").strip() + "\n")
    if found is None:
        raise ValueError("no checkpoint as dossier audit checkpoint prints it")
    serial, partition, number, link, time, key, signature = found.groups()
    at = datetime.strptime(time, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=timezone.utc)  # noqa: UP017 - as above
    microseconds = (at - _EPOCH) // timedelta(microseconds=1)
    return Checkpoint(
        *(int(serial), partition, int(number), bytes.fromhex(link), microseconds, key, bytes.fromhex(signature))
    )


# Ed25519 as RFC 8032 (section 5.1) has it, verification alone: everything here is public, so nothing need be hidden by
# constant time. Points are extended coordinates (X, Y, Z, T) with x = X/Z, y = Y/Z, xy = T/Z.
_P: Final = 2**255 - 19
_L: Final = 2**252 + 27742317777372353535851937790883648493
_D: Final = -121665 * pow(121666, _P - 2, _P) % _P
_ROOT: Final = pow(2, (_P - 1) // 4, _P)
_Point = tuple[int, int, int, int]
_ZERO: Final[_Point] = (0, 1, 1, 0)


def _add(p: _Point, q: _Point) -> _Point:
    a, b = (p[1] - p[0]) * (q[1] - q[0]) % _P, (p[1] + p[0]) * (q[1] + q[0]) % _P
    c, d = 2 * p[3] * q[3] * _D % _P, 2 * p[2] * q[2] % _P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % _P, g * h % _P, f * g % _P, e * h % _P


def _times(number: int, point: _Point) -> _Point:
    out = _ZERO
    while number:
        if number & 1:
            out = _add(out, point)
        point = _add(point, point)
        number >>= 1
    return out


def _point(octets: bytes) -> _Point | None:
    """Section 5.1.3; ``None`` for what is no point."""
    y = int.from_bytes(octets, "little")
    sign, y = y >> 255, y & (2**255 - 1)
    if y >= _P:
        return None
    square = (y * y - 1) * pow(_D * y * y + 1, _P - 2, _P) % _P
    x = pow(square, (_P + 3) // 8, _P)
    if (x * x - square) % _P:
        x = x * _ROOT % _P
    if (x * x - square) % _P or (x == 0 and sign):
        return None
    if x & 1 != sign:
        x = _P - x
    return x, y, 1, x * y % _P


_BASE: Final = _point((4 * pow(5, _P - 2, _P) % _P).to_bytes(32, "little"))


def ed25519_verifies(public: bytes, message: bytes, signature: bytes) -> bool:
    """Whether this is a signature of the message by this key (RFC 8032: 5.1.7)."""
    if len(public) != 32 or len(signature) != 64:
        return False
    a, r, s = _point(public), _point(signature[:32]), int.from_bytes(signature[32:], "little")
    if a is None or r is None or s >= _L or _BASE is None:
        return False
    h = int.from_bytes(hashlib.sha512(signature[:32] + public + message).digest(), "little") % _L
    left, right = _times(s, _BASE), _add(r, _times(h, a))
    same_x = (left[0] * right[2] - right[0] * left[2]) % _P == 0
    return same_x and (left[1] * right[2] - right[1] * left[2]) % _P == 0


# ------------------------------------------------------------------------------------------------- an export


@dataclass
class Checked:
    """What holds: the partition, its records, and up to which number (and when) a checkpoint signs them."""

    partition: Partition
    records: int = 0
    signed_to: int = 0
    signed_at: int | None = None
    checkpoints: int = 0
    partitions: list[Partition] = field(default_factory=list)


class _Reader:
    """Lines and counted octets of a file; a Fault where it ends early or says what no export says."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._back: list[str] | None = None

    def line(self) -> list[str]:
        if self._back is not None:
            words, self._back = self._back, None
            return words
        line = self._file.readline(_LONGEST_LINE)
        if not line.endswith(b"\n"):
            raise Fault("the file ends in the middle, or has a line that is no line of an export")
        return line[:-1].decode("utf-8", errors="replace").split(" ")

    def back(self, words: list[str]) -> None:
        self._back = words

    def octets(self, count: int) -> bytes:
        found = self._file.read(count)
        if len(found) != count:
            raise Fault("the file ends in the middle of a record")
        return found


def check(
    file: BinaryIO,
    keys: Mapping[str, bytes],
    *,
    kept: Iterable[Checkpoint] = (),
    verifies: Verifies = ed25519_verifies,
) -> Checked:
    """Read one export to its end. Raises Fault."""
    reader = _Reader(file)
    if file.read(len(EXPORT_HEAD)) != EXPORT_HEAD:
        raise Fault("this is no export of an audit log")
    partitions, removals, checkpoints = _table(reader)
    _fits(partitions, removals, keys, verifies)
    _words, name = _named(reader.line(), "records", 1)
    mine = next((one for one in partitions if one.name == name), None)
    if mine is None:
        raise Fault("the records are of a partition that is not in the table", partition=name)
    checked = Checked(mine, partitions=partitions)
    _signed(checkpoints, partitions, keys, verifies)
    within = [one for one in checkpoints if one.partition == name]
    elsewhere = [one for one in kept if one.partition == name]
    _records(reader, checked, within, elsewhere)
    for one in (*within, *elsewhere):
        if not mine.first <= one.number <= mine.last:
            raise Fault(f"checkpoint {one.serial} signs a record {one.number} that is not there", one.number, name)
    if file.read(1):
        raise Fault("something follows the end of the export")
    if not checked.signed_to:
        raise Fault("nothing of this partition is signed by a key that is listed", partition=name)
    return checked


def _named(words: list[str], name: str, fields: int) -> list[str]:
    if words[0] != name or len(words) != fields + 1:
        raise Fault(f"a line of the file should begin with {name} and have {fields} fields after it")
    return words


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise Fault("a line of the file has no number where one should stand")
    return int(text)


def _hex(text: str, octets: int) -> bytes:
    if re.fullmatch(f"[0-9a-f]{{{2 * octets}}}", text) is None:
        raise Fault("a line of the file has no hex digits where they should stand")
    return bytes.fromhex(text)


def _table(reader: _Reader) -> tuple[list[Partition], dict[str, Removal], list[Checkpoint]]:
    partitions: list[Partition] = []
    removals: dict[str, Removal] = {}
    checkpoints: list[Checkpoint] = []
    while True:
        words = reader.line()
        if words[0] == "partition":
            _named(words, "partition", 7)
            form, first, last = (_number(word) for word in words[2:5])
            partitions.append(Partition(words[1], form, first, last, _hex(words[5], 32), _hex(words[6], 32), words[7]))
        elif words[0] == "removal" and len(words) > 5 and partitions and partitions[-1].name == words[1]:
            at, signature = _number(words[2]), _hex(words[4], 64)
            removals[words[1]] = Removal(partitions[-1], " ".join(words[5:]), at, words[3], signature)
        elif words[0] == "checkpoint":
            _named(words, "checkpoint", 7)
            serial, number, at = _number(words[1]), _number(words[3]), _number(words[5])
            checkpoints.append(
                Checkpoint(serial, words[2], number, _hex(words[4], 32), at, words[6], _hex(words[7], 64))
            )
        else:
            reader.back(words)
            return partitions, removals, checkpoints


def _fits(
    partitions: Sequence[Partition],
    removals: Mapping[str, Removal],
    keys: Mapping[str, bytes],
    verifies: Verifies,
) -> None:
    before = None
    for one in partitions:
        fault = follows(before, one)
        if fault is not None:
            raise Fault(fault, partition=one.name)
        if one.state not in STATES or (one.state == "open" and one is not partitions[-1]):
            raise Fault("its state is not one it can have", partition=one.name)
        if one.state in {"removing", "removed"}:
            removal = removals.get(one.name)
            fault = "is not signed" if removal is None else signature_fault(removal, keys, verifies)
            if fault is not None:
                raise Fault(f"its removal {fault}", partition=one.name)
        before = one


def _signed(
    checkpoints: Sequence[Checkpoint],
    partitions: Sequence[Partition],
    keys: Mapping[str, bytes],
    verifies: Verifies,
) -> None:
    ends = {one.name: one for one in partitions}
    for one in checkpoints:
        fault = signature_fault(one, keys, verifies)
        if fault is None and one.partition not in ends:
            fault = "is of a partition that is not in the table"
        if fault is None and one.number == ends[one.partition].last and one.link != ends[one.partition].end:
            fault = "signs another last link than the partition has"
        if fault is not None:
            raise Fault(f"checkpoint {one.serial} {fault}", one.number, one.partition)


def _records(
    reader: _Reader,
    checked: Checked,
    within: Sequence[Checkpoint],
    elsewhere: Sequence[Checkpoint],
) -> None:
    mine = checked.partition
    number, link = mine.first - 1, mine.start
    signed = {one.number: one for one in within}
    met: dict[int, list[Checkpoint]] = {}
    for one in (*within, *elsewhere):  # several of one record: what they sign has to be the same
        met.setdefault(one.number, []).append(one)
    for number, received_at, said, via, message in _each(reader, checked):
        expected = mine.first + checked.records
        if number != expected:
            raise Fault("a record is missing" if number > expected else "a record is out of place", expected, mine.name)
        link = link_of(mine.format, link, number, received_at, hashlib.sha256(message).digest(), via)
        if link != said:
            raise Fault("the record or its place was altered", number, mine.name)
        checked.records += 1
        for one in met.get(number, ()):
            if one.link != link:
                raise Fault(f"checkpoint {one.serial} signs another link for this record", number, mine.name)
        if number in signed:
            checked.signed_to, checked.signed_at = number, signed[number].at
            checked.checkpoints += 1
    if (number, link) != (mine.last, mine.end):
        raise Fault("the records do not end with the last link of the partition", number + 1, mine.name)


def _each(reader: _Reader, checked: Checked) -> Iterator[tuple[int, int, bytes, bytes, bytes]]:
    while True:
        words = reader.line()
        if words[0] == "end":
            if _number(_named(words, "end", 1)[1]) != checked.records:
                raise Fault(
                    "the file says of another number of records than it holds", partition=checked.partition.name
                )
            return
        _named(words, "record", 5)
        via_octets = 0 if words[4] == "-" else _number(words[4])
        octets = _number(words[5])
        if max(via_octets, octets) > _MOST_OCTETS:
            raise Fault("a record is said to be larger than any", _number(words[1]), checked.partition.name)
        via, message = reader.octets(via_octets), reader.octets(octets)
        if reader.octets(1) != b"\n":
            raise Fault("a record is longer or shorter than it says", _number(words[1]), checked.partition.name)
        yield _number(words[1]), _number(words[2]), _hex(words[3], 32), via, message


def _main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Check exported partitions of an audit log.")
    parser.add_argument("exports", nargs="+", type=Path, metavar="EXPORT", help="in the order of their partitions")
    parser.add_argument("public_key", type=Path, metavar="PUBLIC_KEY", help="PEM file of one key or more")
    parser.add_argument("--checkpoint", type=Path, action="append", default=[], help="kept elsewhere; may be repeated")
    asked = parser.parse_args(arguments)
    try:
        keys = public_keys(asked.public_key.read_text(encoding="utf-8"))
        kept = [parse_checkpoint(path.read_text(encoding="utf-8")) for path in asked.checkpoint]
        wrong = next((one for one in kept if signature_fault(one, keys, ed25519_verifies)), None)
        if wrong is not None:
            sys.stderr.write(f"checkpoint {wrong.serial} {signature_fault(wrong, keys, ed25519_verifies)}\n")
            return 2
        return _all(asked.exports, keys, kept)
    except (OSError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 2


def _all(exports: Sequence[Path], keys: Mapping[str, bytes], kept: Sequence[Checkpoint]) -> int:
    before: Partition | None = None
    met: set[str] = set()
    for path in exports:
        try:
            with path.open("rb") as file:
                checked = check(file, keys, kept=kept)
            if before is not None:
                _follow(before, checked.partition)
        except Fault as fault:
            place = f"partition {fault.partition}: " if fault.partition else ""
            record = f"record {fault.at}: " if fault.at is not None else ""
            sys.stdout.write(f"{path}: DOES NOT HOLD: {place}{record}{fault.text}\n")
            return 1
        before = checked.partition
        met.add(before.name)
        sys.stdout.write(f"{path}: {_told(checked)}\n")
    missing = [one for one in kept if one.partition not in met]
    if missing:
        sys.stdout.write(
            f"checkpoint {missing[0].serial} is of partition {missing[0].partition}, which was not given\n"
        )
        return 1
    return 0


def _follow(before: Partition, one: Partition) -> None:
    fault = follows(before, one)
    if fault is not None:
        raise Fault(fault, partition=one.name)


def _told(checked: Checked) -> str:
    one = checked.partition
    after = one.last - checked.signed_to
    unsigned = f"; {after} records after it: whether more were there cannot be told" if after else ""
    signed_at = instant(checked.signed_at or 0)
    return (
        f"holds: partition {one.name}, {checked.records} records {one.first} to {one.last}, {checked.checkpoints} "
        f"checkpoints, the last at record {checked.signed_to} ({signed_at}){unsigned}"
    )


if __name__ == "__main__":
    raise SystemExit(_main())
