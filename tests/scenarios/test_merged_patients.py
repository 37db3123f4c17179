"""A merge, its end, and a link change against a whole server: messages over MLLP, submissions and queries over SOAP."""

import socket
import uuid

import pytest

from dossier.console import CommandError
from tests.feed_server import adt, ask, msa

AUTHORITY = "1.3.6.1.4.1.21367.13.20.1000"


def patient_id():
    return f"{uuid.uuid4().hex[:12]}^^^&{AUTHORITY}&ISO"


@pytest.fixture
def send(dossier_server):
    def one(message):
        with socket.create_connection(dossier_server.feed, timeout=20) as line:
            return msa(ask(line, message))

    return one


@pytest.fixture
def two(dossier_server, tmp_path):
    """Two patients with a document each."""
    pair = patient_id(), patient_id()
    for patient in pair:
        dossier_server.run("feed", "--patient", patient, "--family", "Muster")
        report = tmp_path / "report.txt"
        report.write_text(patient)
        dossier_server.run("submit", str(report), "--patient", patient, "--type", "11502-2", "--author", "Anna Weber")
    return pair


def found(server, patient):
    return len(server.run("find", "--patient", patient))


def test_merge_and_unmerge_by_message(dossier_server, send, two):
    gone, stays = two
    merge = adt("A40", pid3=stays, control=uuid.uuid4().hex[:20], extra=f"MRG|{gone}\r")
    assert send(merge)[0] == "AA"
    assert send(merge)[0] == "AA"
    assert (found(dossier_server, gone), found(dossier_server, stays)) == (0, 2)
    assert send(adt("A40", pid3=stays, control=uuid.uuid4().hex[:20], extra=f"MRG|{gone}\r"))[0] == "AE"
    assert send(adt("A37", pid3=stays, control=uuid.uuid4().hex[:20], extra=f"PID|||{gone}\r"))[0] == "AA"
    assert (found(dossier_server, gone), found(dossier_server, stays)) == (1, 1)


def test_the_operator_sees_merges_and_ends_one(dossier_server, send, two, run_command, tmp_path):
    gone, stays = two
    data = ("--data", str(dossier_server.data))
    send(adt("A40", pid3=stays, control=uuid.uuid4().hex[:20], extra=f"MRG|{gone}\r"))
    listed = dossier_server.run("patients", "merges", *data)
    assert [one["surviving"] for one in listed if one["subsumed"] == gone] == [stays]
    report = tmp_path / "late.txt"
    report.write_text("late")
    late = ("submit", str(report), "--patient", gone, "--type", "11502-2", "--author", "Anna Weber")
    with pytest.raises(CommandError, match="XDSUnknownPatientId"):
        dossier_server.run(*late)
    assert dossier_server.run("patients", "unmerge", "--subsumed", gone, *data)["surviving"] == stays
    assert gone not in [one["subsumed"] for one in dossier_server.run("patients", "merges", *data)]
    assert [
        one["undone"] for one in dossier_server.run("patients", "merges", "--all", *data) if one["subsumed"] == gone
    ]
    dossier_server.run(*late)
    assert (found(dossier_server, gone), found(dossier_server, stays)) == (2, 1)
    status, _out, err = run_command("patients", "unmerge", "--subsumed", gone, *data)
    assert status == 1 and "not merged" in err and gone not in err
    assert run_command("patients", "unmerge", "--subsumed", "nobody", *data)[0] == 2
    assert run_command("patients", "merges", "--data", str(tmp_path / "nothing"))[0] == 2
    assert "\t" in dossier_server.run_plain("patients", "merges", "--all", *data)
    assert "stands on its own" not in err


def test_a_link_change_by_message(dossier_server, send, two):
    previous, new = two
    control = uuid.uuid4().hex[:20]
    nothing = adt("A43", pid3=f"{new}~local^^^&1.9.9&ISO", control=control, version="2.5", extra=f"MRG|{previous}\r")
    assert send(nothing)[0] == "AA"
    assert (found(dossier_server, previous), found(dossier_server, new)) == (1, 1)
    moves = nothing.replace(b"local^^^&1.9.9&ISO", previous.encode()).replace(control.encode(), b"again")
    assert send(moves)[0] == "AA"
    assert (found(dossier_server, previous), found(dossier_server, new)) == (0, 2)
