"""The checks of a soak find what they look for: each kind of loss is made by hand after an undisturbed run."""

import hashlib
import random
import shutil
import sqlite3

import pytest

from tests.builders import new_oid
from tests.soak.plain import plain
from tests.soak.server import serving
from tests.soak.source import compose, patient_id
from tests.soak.stores import audit_faults, backlog, store_faults, waiting

PATIENT = patient_id("checks")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """(folder, ledger) of three documents, one of them in another repository."""
    folder, rng = tmp_path_factory.mktemp("undisturbed"), random.Random(1)
    with serving(folder) as server, plain(server) as client:
        assert client.feed(new_oid()[:40], PATIENT) == "AA"
        for provided in (True, True, False):
            package = compose(rng, PATIENT, [rng.randbytes(900)], provided=provided)
            assert (client.provide if provided else client.register)(package) == []
        while backlog(urls_in(folder)):
            pass
        assert server.stop() == 0
    return folder, client.ledger


def urls_in(folder):
    return {name: f"sqlite:///{folder}/{name}.db" for name in ("registry", "repository", "audit")}


def faults(folder, ledger):
    urls = urls_in(folder)
    return [*store_faults(urls, folder / "documents", ledger), *audit_faults(urls, ledger)]


@pytest.fixture
def damaged(undisturbed, tmp_path):
    """A copy to be damaged: ``damaged(database, sql…)`` or ``damaged(objects=…)``; the faults found afterwards."""
    folder, ledger = undisturbed
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)

    def damage(database=None, *statements, objects=None):
        if database:
            connection = sqlite3.connect(copy / f"{database}.db")
            with connection:
                for statement in statements:
                    connection.execute(statement)
            connection.close()
        if objects:
            objects([path for path in (copy / "documents" / "objects").rglob("*") if path.is_file()])
        return faults(copy, ledger)

    return damage


def test_nothing_is_wrong_when_nothing_was_done(undisturbed):
    assert faults(*undisturbed) == []
    assert waiting(urls_in(undisturbed[0])) == 0


@pytest.mark.parametrize(
    ("database", "statement", "told"),
    [
        ("repository", "DELETE FROM documents WHERE rowid = 1", "has no row"),
        ("repository", "UPDATE documents SET state = 'pending' WHERE rowid = 1", "is still pending"),
        ("repository", "UPDATE documents SET size = size + 1 WHERE rowid = 1", "differ in hash or size"),
        ("repository", "UPDATE documents SET unique_id = (SELECT max(unique_id) FROM documents)", "available 2 times"),
        ("registry", "DELETE FROM entry WHERE repository_unique_id LIKE '%9999'", "was acknowledged and has no entry"),
        ("registry", "UPDATE entry SET status = 2", "is deprecated"),
        ("registry", "UPDATE entry SET unique_id = (SELECT max(unique_id) FROM entry)", "stands in 3 entries"),
        ("registry", "UPDATE entry SET hash = 'x'", "is not the one that was acknowledged"),
        ("audit", "DELETE FROM record WHERE number = 3", "the chain is broken"),
        ("audit", "UPDATE record SET message = CAST(message || ' ' AS BLOB) WHERE number = 2", "the chain is broken"),
    ],
)
def test_a_damaged_row_is_found(damaged, database, statement, told):
    assert any(told in fault for fault in damaged(database, statement))


def test_a_lost_an_added_and_a_cut_object_are_found(damaged):
    def lose(files):
        files[0].unlink()
        files[1].write_bytes(b"short")
        files[0].with_name(hashlib.md5(b"other", usedforsecurity=False).hexdigest()).touch()

    found = damaged(objects=lose)
    for told in ("has no object", "has no row", "bytes, its row says"):
        assert any(told in fault for fault in found), told


@pytest.mark.parametrize("code", ["ITI-8", "ITI-41", "ITI-42"])
def test_an_acknowledged_request_without_its_record_is_found(undisturbed, damaged, code):
    altered = f"replace(CAST(message AS TEXT), '\"{code}\"', '\"ITI-0\"')"
    found = damaged("audit", f"UPDATE record SET message = CAST({altered} AS BLOB)")
    assert any(f"audit: {code} " in fault or f"{code} of" in fault for fault in found)


def test_what_was_acknowledged_elsewhere_is_missed(undisturbed):
    folder, ledger = undisturbed
    for kind, value in (("answered", "19010101000001"), ("feeds", "M-9")):
        getattr(ledger, kind).add(value)
    ledger.queries["19010101000001"] += 1
    ledger.asked["1.2.3"] = ledger.retrieved["1.2.3"] = 1
    found = faults(folder, ledger)
    assert len(found) == 3, found
