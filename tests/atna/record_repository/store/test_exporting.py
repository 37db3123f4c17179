"""A partition as a file: whoever has the public key finds one record altered, removed, put in or moved."""

import io
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import atna.audit_check
from atna.audit_check import Fault, check
from atna.record_repository.indexing import index
from atna.record_repository.signing import SigningKey
from atna.record_repository.store.records import NotExported, RecordStore
from atna.record_repository.store.verifying import verifies
from tests.atna.conftest import Writer
from tests.atna.record_repository.store.test_partitions import DAY, Clock

PER_MONTH = 40


def filled(url, folder):
    """Three months; in each a checkpoint in the middle, and one later than its end. Gives store, key, writer."""
    clock, writer, key = Clock(), Writer(), SigningKey.made(folder / "key.pem")
    store = RecordStore.open(url, clock)
    for _ in range(3):
        for half in range(2):
            odd = [b"", b"junk\nrecord 1\n\xff\x00", b"\xc3\xbc <end 3\n"] if half else []
            batch = [writer.query(f"p{n}") for n in range(PER_MONTH // 2 - len(odd))]
            unlike = [one + b"%d" % int(clock.at) for one in odd]
            store.keep([index(one) for one in (*batch, *unlike)], via="syslog+tls CN=nöde")
            store.checkpoint(key)
        clock.at += 31 * DAY
    return store, key, writer


@pytest.fixture
def log(database_url, tmp_path):
    store, key, writer = filled(database_url, tmp_path)
    yield store, key, writer
    store.close()


def exported(store, name):
    out = io.BytesIO()
    store.export(name, out.write)
    return out.getvalue()


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    """(octets of the last partition, keys)."""
    folder = tmp_path_factory.mktemp("export")
    store, key, _ = filled(f"sqlite:///{folder}/audit.db", folder)
    octets = exported(store, "2027-01")
    store.close()
    return octets, {key.id: key.public}


def checked(octets, keys, **more):
    return check(io.BytesIO(octets), keys, verifies=verifies, **more)


def test_what_is_exported_holds_and_is_complete(log):
    store, key, _ = log
    for number, name in enumerate(("2026-11", "2026-12", "2027-01")):
        octets = exported(store, name)
        found = checked(octets, {key.id: key.public})
        assert (found.records, found.partition.first) == (PER_MONTH, number * PER_MONTH + 1)
        assert (found.signed_to, found.checkpoints) == (found.partition.last, 2)
    assert all(store.get(n).message in octets for n in range(2 * PER_MONTH + 1, 3 * PER_MONTH))


def test_what_is_not_there_is_said_and_nothing_is_written(log):
    out = io.BytesIO()
    with pytest.raises(NotExported, match=r"no partition 1999-01; there are: 2026-11, 2026-12, 2027-01"):
        log[0].export("1999-01", out.write)
    assert out.getvalue() == b""


def parts(octets):
    """What stands before the records, each record, what stands after."""
    head, _, rest = octets.partition(b"\nrecords 2027-01\n")
    records = []
    while rest.startswith(b"record "):
        line, _, _ = rest.partition(b"\n")
        via, message = (int(word) for word in line.split()[4:6])
        size = len(line) + 1 + via + message + 1
        records.append(rest[:size])
        rest = rest[size:]
    return head + b"\nrecords 2027-01\n", records, rest


def tampered(octets, kind, place, other):
    head, records, end = parts(octets)
    records = list(records)
    if kind == "removed":
        del records[place]
    elif kind == "inserted":
        records.insert(place, records[other])
    elif kind == "moved":
        records.insert(other, records.pop(place))
    else:
        line, _, body = records[place].partition(b"\n")
        records[place] = line + b"\n" + bytes([body[0] ^ 1]) + body[1:]
    return head + b"".join(records) + re.sub(rb"\d+", b"%d" % len(records), end)


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(["altered", "removed", "inserted", "moved"]),
    place=st.integers(0, PER_MONTH - 1),
    other=st.integers(0, PER_MONTH - 1),
)
def test_one_record_that_is_not_as_it_was_is_found(export, kind, place, other):
    octets, keys = export
    changed = tampered(octets, kind, place, other)
    if changed != octets:
        with pytest.raises(Fault):
            checked(changed, keys)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_no_bit_of_the_file_is_without_meaning(export, place, bit):
    octets, keys = export
    changed = bytearray(octets)
    changed[int(place * len(octets))] ^= 1 << bit
    with pytest.raises(Fault):
        checked(bytes(changed), keys)


def test_a_time_that_no_calendar_holds_is_a_fault_like_another(export):
    octets, keys = export
    changed = re.sub(rb"(?m)^(checkpoint (?:\S+ ){4})\d+", rb"\g<1>999999999999999999", octets, count=1)
    with pytest.raises(Fault, match="has a signature that does not hold"):
        checked(changed, keys)


@settings(max_examples=40, deadline=None)
@given(place=st.floats(0, 1, exclude_max=True))
def test_a_file_cut_off_anywhere_is_found(export, place):
    octets, keys = export
    with pytest.raises(Fault):
        checked(octets[: int(place * len(octets))], keys)


def test_what_follows_the_end_is_found(export):
    octets, keys = export
    with pytest.raises(Fault, match="follows the end"):
        checked(octets + b"record", keys)


def without_end(octets, keep):
    """The last records taken away with the checkpoints that sign them, everything else made right."""
    head, records, _ = parts(octets)
    line = records[keep - 1].split(b"\n", 1)[0].split()
    first = int(records[0].split()[1])
    last, link = first + keep - 1, line[3]
    head = re.sub(rb"(partition 2027-01 2 \d+) \d+ (\w+) \w+", rb"\1 %d \2 %s" % (last, link), head)
    lines = [one for one in head.splitlines(keepends=True) if not _signs_after(one, last)]
    return b"".join(lines) + b"".join(records[:keep]) + b"end %d\n" % keep


def _signs_after(line, last):
    return line.startswith(b"checkpoint") and int(line.split()[3]) > last


def last_checkpoint(octets):
    (*_, last) = re.findall(rb"checkpoint (\d+) (\S+) (\d+) (\w+) (\d+) (\w+) (\w+)", octets)
    return atna.audit_check.Checkpoint(
        *(int(last[0]), last[1].decode(), int(last[2]), bytes.fromhex(last[3].decode()), int(last[4])),
        *(last[5].decode(), bytes.fromhex(last[6].decode())),
    )


@pytest.mark.parametrize("order", [1, -1])
def test_of_two_checkpoints_of_one_record_each_has_to_be_met(export, order):
    octets, keys = export
    kept = last_checkpoint(octets)
    other = replace(kept, serial=kept.serial + 1, link=bytes(32))  # what was signed of a log that was written anew
    with pytest.raises(Fault, match="signs another link for this record"):
        checked(octets, keys, kept=[kept, other][::order])


@pytest.mark.parametrize("order", [1, -1])
def test_of_two_checkpoints_within_the_file_each_has_to_be_met(log, order):
    store, key, _ = log
    octets = exported(store, "2027-01")
    (line,) = [one for one in octets.splitlines(keepends=True) if one.startswith(b"checkpoint 5 ")]
    one = replace(last_checkpoint(line), link=bytes(32), serial=9)
    words = [*(str(n) for n in (one.serial, one.partition, one.number)), one.link.hex(), str(one.at), one.key_id]
    other = " ".join(["checkpoint", *words, key.sign(one.text).hex()]).encode() + b"\n"
    assert checked(octets, {key.id: key.public}).checkpoints == 2
    with pytest.raises(Fault, match="signs another link for this record"):
        checked(octets.replace(line, b"".join([line, other][::order])), {key.id: key.public})


def test_a_checkpoint_kept_of_a_record_before_the_first_is_found(export):
    octets, keys = export
    kept = last_checkpoint(octets)
    before = checked(octets, keys).partition.first - 1
    with pytest.raises(Fault, match=f"signs a record {before} that is not there"):
        checked(octets, keys, kept=[replace(kept, number=before)])


def test_an_end_taken_away_is_found_by_a_checkpoint_kept_elsewhere_alone(export):
    octets, keys = export
    shorter = without_end(octets, PER_MONTH - 3)
    found = checked(shorter, keys)
    assert (found.records, found.signed_to) == (PER_MONTH - 3, found.partition.first + PER_MONTH // 2 - 1)
    kept = last_checkpoint(octets)
    assert checked(octets, keys, kept=[kept]).records == PER_MONTH
    with pytest.raises(Fault, match="signs a record 120 that is not there"):
        checked(shorter, keys, kept=[kept])


def run_alone(folder, *arguments):
    """As an auditor has it: one file, no package of ours, nothing installed."""
    script = shutil.copy(atna.audit_check.__file__, folder / "audit_check.py")
    command = [sys.executable, "-I", "-S", script, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=60)


def test_the_script_alone_finds_a_partition_that_is_missing(log, tmp_path):
    store, key, _ = log
    names = ("2026-11", "2026-12", "2027-01")
    for name in names:
        (tmp_path / name).write_bytes(exported(store, name))
    (tmp_path / "public.pem").write_text(key.public_pem)
    (tmp_path / "kept").write_text(store.last_checkpoint().complete)
    done = run_alone(tmp_path, *names, "public.pem", "--checkpoint", "kept")
    assert (done.returncode, done.stderr) == (0, "")
    assert (
        "2027-01: holds: partition 2027-01, 40 records 81 to 120, 2 checkpoints, the last at record 120" in done.stdout
    )
    done = run_alone(tmp_path, names[0], names[2], "public.pem")
    assert (done.returncode, "one is missing or out of place" in done.stdout) == (1, True)
    done = run_alone(tmp_path, names[0], "public.pem", "--checkpoint", "kept")
    assert (done.returncode, "of partition 2027-01, which was not given" in done.stdout) == (1, True)


def test_the_script_alone_names_the_record_and_refuses_another_key(log, tmp_path):
    store, key, _ = log
    octets = exported(store, "2026-12").replace(b"p3^^^", b"p4^^^", 1)
    (tmp_path / "export").write_bytes(octets)
    (tmp_path / "public.pem").write_text(key.public_pem)
    (tmp_path / "other.pem").write_text(SigningKey.made(tmp_path / "other").public_pem)
    done = run_alone(tmp_path, "export", "public.pem")
    assert done.returncode == 1
    assert done.stdout == "export: DOES NOT HOLD: partition 2026-12: record 44: the record or its place was altered\n"
    done = run_alone(tmp_path, "export", "other.pem")
    assert (done.returncode, "signed by a key that is not listed" in done.stdout) == (1, True)
    for wrong in (["missing", "public.pem"], ["export", "export"], ["export"]):
        assert run_alone(tmp_path, *wrong).returncode == 2
    (tmp_path / "text").write_text("no export\n")
    assert run_alone(tmp_path, "text", "public.pem").returncode == 1


def test_the_checker_reads_no_more_than_the_library_needs():
    source = Path(atna.audit_check.__file__).read_text(encoding="utf-8")
    imported = set(re.findall(r"(?m)^(?:from|import) (\w+)", source))
    assert imported <= set(sys.stdlib_module_names)
