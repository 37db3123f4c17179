"""The log of a running audit service by the command line: signed, checked with a key and a checkpoint kept elsewhere."""

import json
import shutil
import subprocess
import sys
import time

import pytest

from atna import audit_check
from atna.audit_check import parse_checkpoint
from atna.record_repository.indexing import index
from atna.record_repository.store.records import RecordStore


@pytest.fixture
def log(dossier_server, run_command):
    """A command on the log of the running service: exit status, output, errors."""

    def run(*arguments):
        return run_command("audit", *arguments, "--data", str(dossier_server.data))

    until = time.monotonic() + 30
    while run("checkpoint")[0] != 0:  # its own start is signed some seconds later
        assert time.monotonic() < until
        time.sleep(0.2)
    return run


@pytest.fixture
def key_file(log, tmp_path):
    status, pem, said = log("key")
    assert status == 0
    assert pem.startswith("-----BEGIN PUBLIC KEY-----")
    assert said.startswith("dossier: key ")
    path = tmp_path / "public.pem"
    path.write_text(pem)
    return path


def test_the_service_signs_its_log_and_the_key_kept_elsewhere_shows_it(log, key_file, tmp_path):
    kept = tmp_path / "kept.txt"
    kept.write_text(log("checkpoint")[1])
    status, out, said = log("verify", "--public-key", str(key_file), "--checkpoint", str(kept))
    assert (status, "the chain holds" in out) == (0, True), said
    found = json.loads(log("verify", "--public-key", str(key_file), "--json")[1])
    assert found["holds"]
    assert found["signed_to"] >= parse_checkpoint(kept.read_text()).number
    month = time.strftime("%Y-%m", time.gmtime())
    assert log("verify", "--partition", month)[0] == 0
    status, _, said = log("verify", "--partition", "1999-01")
    assert (status, said) == (1, "dossier: the log does not hold: partition 1999-01: there is no such partition\n")


def test_a_partition_goes_to_whoever_checks_it_with_python_alone(log, key_file, tmp_path):
    out, month = tmp_path / "export", time.strftime("%Y-%m", time.gmtime())
    status, said, _ = log("export", "--partition", month, "--out", str(out))
    assert (status, said.startswith(f"{out}: ")) == (0, True)
    assert out.stat().st_mode & 0o777 == 0o600
    script = shutil.copy(audit_check.__file__, tmp_path / "audit_check.py")
    done = subprocess.run([sys.executable, "-I", script, out, key_file], capture_output=True, text=True, timeout=60)
    assert (done.returncode, "holds: partition" in done.stdout) == (0, True), done.stdout + done.stderr
    assert log("export", "--partition", month, "--out", str(out))[0] == 2
    status, _, said = log("export", "--partition", "1999-01", "--out", str(tmp_path / "none"))
    assert (status, "there is no partition 1999-01; there are: " in said) == (2, True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["audit_check.py", "export", "public.pem"]


def test_what_lies_where_the_file_is_made_is_left_alone(log, tmp_path):
    out, month = tmp_path / "export", time.strftime("%Y-%m", time.gmtime())
    other, part = tmp_path / "other", tmp_path / "export.part"
    part.symlink_to(other)  # leads to where nothing is yet
    status, _, said = log("export", "--partition", month, "--out", str(out))
    assert (status, "cannot be written" in said) == (1, True)
    other.write_text("mine")
    assert log("export", "--partition", month, "--out", str(out))[0] == 2
    assert (other.read_text(), part.is_symlink(), out.exists()) == ("mine", True, False)


def test_every_key_that_ever_signed_is_listed(log, key_file):
    known = json.loads(log("key", "--known", "--json")[1])
    assert [one["public_key"] for one in known] == [key_file.read_text()]
    assert log("key", "--known")[1] == key_file.read_text()


def test_another_key_does_not_believe_it(log, run_command, tmp_path):
    status, pem, _ = run_command("audit", "key", "--new", str(tmp_path / "other.pem"))
    assert status == 0
    (tmp_path / "public.pem").write_text(pem)
    status, _, said = log("verify", "--public-key", str(tmp_path / "public.pem"))
    assert status == 1
    assert "is signed by a key that is not listed" in said
    assert run_command("audit", "key", "--new", str(tmp_path / "other.pem"))[0] == 2


@pytest.fixture
def old_log(run_command, tmp_path):
    """A log of 2020 with a rule of a year: what the command line says of it."""
    assert run_command("audit", "key", "--new", str(tmp_path / "key.pem"))[0] == 0
    url, config = f"sqlite:///{tmp_path}/audit.db", tmp_path / "dossier.toml"
    config.write_text(f'[audit]\ndatabase_url = "{url}"\nretention_days = 365\ncheckpoint_key = "{tmp_path}/key.pem"\n')
    for at in (1_590_000_000, 1_600_000_000):
        store = RecordStore.open(url, lambda at=at: at)
        store.keep([index(b"<85>1 - - - - - - %d" % number) for number in range(at, at + 600)])
        store.close()
    return lambda *arguments: run_command("audit", *arguments, "--config", str(config))


def test_what_is_due_is_looked_at_first_and_then_removed(old_log):
    status, out, said = old_log("retention")
    assert (status, said) == (0, "dossier: 1 partitions are due; --apply removes them\n")
    times = ["2020-05-20T18:40:00Z", "2020-05-20T18:40:00Z", "2020-09-13T12:26:40Z"]
    assert out.split("\t") == ["2020-05", "600", "16800", *times, "due\n"]
    assert json.loads(old_log("verify", "--json")[1])["records"] == 1200
    found = json.loads(old_log("retention", "--apply", "--json")[1])
    assert [(one["partition"], one["records"], one["state"]) for one in found["partitions"]] == [
        ("2020-05", 600, "removed")
    ]
    status, out, said = old_log("verify")
    assert (status, out.startswith("601 records, the chain holds")) == (0, True)
    assert "partition 2020-05: records 1 to 600 were removed: ended more than 365 days ago" in said
    # The record of the removal ended 2020-09: that one's time counts from now.
    assert json.loads(old_log("retention", "--json")[1])["partitions"] == []
    assert old_log("export", "--partition", "2020-05", "--out", "/nowhere/at/all")[0] != 0


def test_records_are_kept_for_ever_without_a_rule(log):
    status, _, said = log("retention", "--apply")
    assert (status, said) == (2, "dossier: audit.retention_days is not set: records are kept for ever\n")


def test_what_is_no_key_and_no_checkpoint_is_said(log, tmp_path):
    (tmp_path / "text").write_text("nothing of the kind")
    for option, told in (("--public-key", "no public key in PEM"), ("--checkpoint", "no checkpoint as")):
        status, _, said = log("verify", option, str(tmp_path / "text"))
        assert status == 2
        assert told in said
        assert log("verify", option, str(tmp_path / "missing"))[0] == 2
