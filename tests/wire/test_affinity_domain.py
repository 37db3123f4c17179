"""The operator's code file under a running process: read again when it is right, left alone when it is not."""

import os
import threading
import time

import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from ihe.affinity_domain import COLUMNS, CodeFileError
from wire import affinity_domain
from wire.affinity_domain import SHIPPED, Agreement, agreed_codes
from wire.settings import AffinityDomainSettings

HEAD = ",".join(COLUMNS)
A, B = "typeCode,A,1.2,a,,", "typeCode,B,1.2,b,,"


def write(path, *lines):
    """Replace the file as an editor does."""
    new = path.with_suffix(".new")
    new.write_text("\n".join((HEAD, *lines, "")))
    new.replace(path)


def codes(agreement):
    return {code for code, _scheme in agreement().codes["typeCode"]}


@pytest.fixture
def path(tmp_path):
    one = tmp_path / "ours.csv"
    write(one, A)
    return one


@pytest.fixture
def agreement(path):
    yield Agreement(AffinityDomainSettings(codes=path))
    affinity_domain.BROKEN.set(0)


def test_the_shipped_file_and_its_name():
    here = agreed_codes(AffinityDomainSettings(assigning_authorities=("1.2",), matricule_authority="1.3"))
    assert here.code_file == SHIPPED
    assert here.accepts_authority("1.2")
    assert here.matricules.authorities == {"1.3"}


def test_a_changed_file_is_used_once_it_is_left_alone(agreement, path):
    before = agreement()
    write(path, B)
    agreement.look()
    assert codes(agreement) == {"A"}  # it may still be being written
    agreement.look()
    assert codes(agreement) == {"B"}
    assert (agreement().code_file, before.codes["typeCode"]) == ("ours.csv", {("A", "1.2")})


def test_a_file_being_written_is_not_read(agreement, path):
    for lines in ((), (A,), (A, B)):
        path.write_text("\n".join((HEAD, *lines, "")))
        os.utime(path, ns=(time.time_ns(), len(lines)))
        agreement.look()
        assert codes(agreement) == {"A"}
    agreement.look()
    assert codes(agreement) == {"A", "B"}


def looked(agreement):
    with capture_logs() as lines:
        agreement.look()
        agreement.look()
        agreement.look()
    return lines


def broken():
    return REGISTRY.get_sample_value("dossier_code_file_broken")


def test_a_broken_file_changes_nothing_and_is_told_once_with_every_fault(agreement, path):
    write(path, B, "typecode,C,1.2,c,,", "typeCode,D,,d,,")
    (line,) = looked(agreement)
    assert line["log_level"] == "error"
    assert line["file"] == str(path)
    assert [fault.partition(":")[0] for fault in line["faults"]] == [
        "line 3, column attribute",
        "line 4, column scheme",
    ]
    assert (codes(agreement), agreement.up_to_date, broken()) == ({"A"}, False, 1)
    write(path, B)
    (line,) = looked(agreement)
    assert (line["log_level"], line["codes"]) == ("info", {"typeCode": 1})
    assert (codes(agreement), agreement.up_to_date, broken()) == ({"B"}, True, 0)


def test_of_very_many_faults_some_are_logged_and_all_counted(agreement, path):
    write(path, *["typecode,C,1.2,c,,"] * 100)
    (line,) = looked(agreement)
    assert (len(line["faults"]), line["fault_count"]) == (20, 100)


def test_bytes_that_are_no_text_are_a_fault_with_their_line(agreement, path):
    path.write_bytes(f"{HEAD}\ntypeCode,Z,1.2,".encode() + b"\xff,,\n")
    (line,) = looked(agreement)
    assert line["faults"] == ["line 2: not UTF-8 text"]
    with pytest.raises(CodeFileError, match="line 2"):
        Agreement(AffinityDomainSettings(codes=path))


def test_a_file_that_is_gone_leaves_the_codes(agreement, path):
    path.unlink()
    (line,) = looked(agreement)
    assert "cannot be read" in line["faults"][0]
    assert codes(agreement) == {"A"}
    write(path, A, B)
    looked(agreement)
    assert codes(agreement) == {"A", "B"}


def test_nothing_is_logged_while_nothing_changes(agreement):
    assert looked(agreement) == []


def test_the_thread_looks_until_it_is_stopped(agreement, path, monkeypatch):
    monkeypatch.setattr(affinity_domain, "LOOK_EVERY_S", 0.01)
    stop = threading.Event()
    agreement.watch(stop)
    write(path, B)
    deadline = time.monotonic() + 5
    while codes(agreement) != {"B"}:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    stop.set()
    deadline = time.monotonic() + 5
    while any(one.name == "code file" for one in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_shipped_file_is_not_watched():
    Agreement(AffinityDomainSettings()).watch(threading.Event())
    assert not any(one.name == "code file" for one in threading.enumerate())


def test_readers_always_see_one_whole_agreement(agreement, path):
    """While it is swapped again and again, no reader sees codes of two files."""
    stop, seen = threading.Event(), set()

    def read():
        while not stop.is_set():
            now = agreement()
            seen.add((now.codes["typeCode"], tuple(now.agreed)))

    reader = threading.Thread(target=read)
    reader.start()
    for lines in [(A,), (B,)] * 20:
        write(path, *lines)
        agreement.look()
        agreement.look()
    stop.set()
    reader.join()
    assert seen <= {(frozenset({(one, "1.2")}), (("typeCode", one, "1.2"),)) for one in "AB"}
