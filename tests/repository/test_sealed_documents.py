"""Sealed documents over the wire: what is kept, who can read it, and what becomes of it when a key is lost."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ihe import vocabulary as v
from ihe.ebrim import read_submitted_objects
from ihe.registry_objects import Kind
from repository import sweep
from repository.rotation import rotate
from repository.store.keyring import FileKeyring, new_line
from repository.store.protocol import StoreUnavailable
from repository.store.vault import PLAIN_BYTES, TAG_BYTES, sealed_size
from schemas import parse_xml
from tests.builders import submission, with_identifier, with_slot
from tests.repository.stand import settings_for, stand, unique_ids, unknown_patient
from tests.repository.test_iti43_retrieve_document_set import await_records, path_of, raw_retrieve

ROOT = Path(__file__).resolve().parents[2]
SMALL = b"laboratory report of a patient"
LARGE = os.urandom(3_000_000)


@pytest.fixture
def keys(tmp_path):
    file = tmp_path / "keys"
    file.write_text(new_line("first"))
    return file


@pytest.fixture
def house(tmp_path, keys):
    with stand(tmp_path) as running:
        yield running


def stored(house, *datas):
    objects = submission(entries=len(datas), entry=(with_slot("hash"), with_slot("size")))
    answer = house.provide(objects, {f"Document{n:02}": data for n, data in enumerate(datas, 1)})
    assert answer.status == "Success"
    return unique_ids(objects)


def test_what_comes_out_is_what_went_in_and_what_lies_there_is_neither(house):
    small, large, empty = stored(house, SMALL, LARGE, b"")
    assert house.retrieve(large, small, empty).documents() == [(large, LARGE), (small, SMALL), (empty, b"")]
    assert SMALL not in path_of(house, small).read_bytes()
    assert path_of(house, large).stat().st_size == sealed_size(len(LARGE))
    house.assert_whole()
    assert {row.kek for row in house.rows().values()} == {"first"}


def test_size_and_hash_told_to_the_registry_are_those_of_the_document(house):
    stored(house, LARGE)
    (body,) = house.registry.held.values()
    (entry,) = read_submitted_objects(parse_xml(body)).of(Kind.DOCUMENT_ENTRY)
    assert entry.slot("size") == (str(len(LARGE)),)
    assert entry.slot("hash") == (hashlib.sha1(LARGE).hexdigest(),)


def test_one_staged_document_for_two_entries_has_two_objects_under_two_keys(house):
    objects = submission(entries=2, entry=(with_slot("hash"), with_slot("size")))
    content = {"Document01": LARGE, "Document02": LARGE}
    assert house.provide(objects, content).status == "Success"
    wrapped = [row.wrapped_key for row in house.rows().values()]
    assert len(set(wrapped)) == 2
    assert [data for _, data in house.retrieve(*unique_ids(objects)).documents()] == [LARGE, LARGE]


def with_another_key(house, path):
    """What stands in the row was never wrapped under the key of that name."""
    from repository.store.tables import documents

    with house.index._engine.begin() as connection:
        connection.execute(documents.update().values(wrapped_key=os.urandom(60)))


def spoil_first(house, path):
    data = bytearray(path.read_bytes())
    data[5] ^= 1
    path.write_bytes(data)


def cut_a_block(house, path):
    path.write_bytes(path.read_bytes()[PLAIN_BYTES + TAG_BYTES :] or b"")


@pytest.mark.parametrize("harm", [with_another_key, spoil_first, cut_a_block])
@pytest.mark.parametrize("data", [SMALL, LARGE], ids=len)
def test_what_cannot_be_opened_is_an_error_before_the_answer_begins(house, harm, data):
    (one,) = stored(house, data)
    harm(house, path_of(house, one))
    answer = house.retrieve(one)
    assert (answer.http_status, answer.status, answer.codes) == (200, "Failure", ["XDSRepositoryError"])
    assert f"document {one} is damaged" in answer.errors[0][1]
    assert answer.documents() == []


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=len)
def test_a_document_without_its_key_is_not_called_damaged(house, data):
    from repository.store.tables import documents

    (one,) = stored(house, data)
    with house.index._engine.begin() as connection:
        connection.execute(documents.update().values(kek="lost"))
    answer = house.retrieve(one)
    assert (answer.status, answer.codes, answer.documents()) == ("Failure", ["XDSRepositoryError"], [])
    assert answer.errors[0][1] == f"document {one} cannot be opened: its key is not in the key file of the repository"


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=len)
@pytest.mark.parametrize("text", ["# emptied\n", f"another {'A' * 43}=\n", f"first {'A' * 43}=\n"])
def test_with_a_wrong_key_file_nothing_is_taken_and_everything_given_out(house, keys, data, text):
    (one,), right = stored(house, data), keys.read_text()
    keys.write_text(text)
    objects = submission(entry=(with_slot("hash"), with_slot("size")))
    answer = house.provide(objects, {"Document01": data})
    assert (answer.status, answer.codes) == ("Failure", ["XDSRepositoryError"])
    assert "cannot be sealed" in answer.errors[0][1]
    assert house.retrieve(one).documents() == [(one, data)]
    house.assert_whole()
    keys.write_text(right)
    assert house.provide(objects, {"Document01": data}).status == "Success"
    assert house.index.key_counts() == {"first": 2}


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=len)
def test_exchanged_objects_are_an_error_before_the_answer_begins(house, data):
    one, two = stored(house, data, data)
    first, second = path_of(house, one), path_of(house, two)
    mine, others = first.read_bytes(), second.read_bytes()
    first.write_bytes(others)
    second.write_bytes(mine)
    answer = house.retrieve(one, two)
    assert (answer.status, answer.codes) == ("Failure", ["XDSRepositoryError"] * 2)


def test_a_later_bad_block_breaks_the_connection_before_any_of_its_bytes_leave(house):
    (one,) = stored(house, LARGE)
    path = path_of(house, one)
    data = bytearray(path.read_bytes())
    bad = len(LARGE) // PLAIN_BYTES - 2
    data[bad * (PLAIN_BYTES + TAG_BYTES) + 9] ^= 1
    path.write_bytes(data)
    got = raw_retrieve(house, one)
    assert LARGE[:PLAIN_BYTES][-500:] in got
    assert LARGE[bad * PLAIN_BYTES :][10:500] not in got
    assert not got.rstrip().endswith(b"--")
    await_records(house, [("ITI-43", 0), ("ITI-43", 8)])


def test_of_several_copies_the_one_that_can_be_opened_is_served(house, keys):
    same = (with_identifier(v.ENTRY_UNIQUE_ID, "1.2.3"), with_slot("hash"), with_slot("size"))
    for _ in range(2):
        house.provide(submission(entry=same), {"Document01": LARGE})
    oldest, _second = house.index.available(["1.2.3"])
    spoil_first(house, house.store._object(oldest.object_key))
    assert house.retrieve("1.2.3").documents() == [("1.2.3", LARGE)]


def test_keys_change_while_documents_come_and_go(house, keys):
    (one,) = stored(house, LARGE)
    with keys.open("a") as out:
        out.write(new_line("second"))
    (two,) = stored(house, SMALL)
    assert house.index.key_counts() == {"first": 1, "second": 1}
    before = path_of(house, one).stat()
    done = rotate(house.index, FileKeyring(keys))
    assert (done.current, done.wrapped, done.missing, done.damaged) == ("second", 1, {}, ())
    assert house.index.key_counts() == {"second": 2}
    assert path_of(house, one).stat() == before
    keys.write_text(keys.read_text().splitlines(keepends=True)[1])
    assert house.retrieve(one, two).documents() == [(one, LARGE), (two, SMALL)]
    assert rotate(house.index, FileKeyring(keys)).wrapped == 0


def test_a_rotation_tells_what_it_could_not_wrap(house, keys):
    stored(house, SMALL, SMALL)
    first, second = house.rows()
    with house.index._engine.begin() as connection:
        from repository.store.tables import documents

        connection.execute(documents.update().where(documents.c.object_key == first).values(kek="lost"))
        connection.execute(documents.update().where(documents.c.object_key == second).values(wrapped_key=b"x" * 60))
    with keys.open("a") as out:
        out.write(new_line("second"))
    done = rotate(house.index, FileKeyring(keys))
    assert (done.wrapped, done.missing, done.damaged) == (0, {"lost": 1}, (second,))


def test_refused_documents_leave_neither_object_nor_key(house):
    house.registry.script.append(unknown_patient())
    objects = submission(entry=(with_slot("hash"), with_slot("size")))
    assert house.provide(objects, {"Document01": LARGE}).status == "Failure"
    house.assert_nothing_kept()


def test_what_is_discarded_loses_its_key_before_its_object(house, monkeypatch):
    def away(_store, _key):
        raise StoreUnavailable("away")

    house.room.index.stage("a" * 32, 0, house.room.vault.new_envelope("a" * 32))
    monkeypatch.setattr(type(house.store), "delete", away)
    sweep.run_once(house.room)
    (row,) = house.rows().values()
    assert (row.state, row.kek, row.wrapped_key) == ("removing", None, None)


def test_keys_by_command(house, tmp_path, keys):
    stored(house, SMALL, LARGE)
    environment = os.environ | {
        "DOSSIER_REPOSITORY__DATABASE_URL": settings_for(tmp_path, "http://127.0.0.1:9/registry").database_url,
        "DOSSIER_REPOSITORY__KEYRING": str(keys),
    }

    def dossier(*arguments):
        command = [sys.executable, "-m", "dossier", "store", "keys", *arguments]
        return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=60)

    shown = dossier("show", "--json")
    assert [(one["name"], one["documents"], one["current"]) for one in json.loads(shown.stdout)] == [
        ("first", 2, True),
        (None, 0, False),
    ]
    made = dossier("new", str(keys), "--name", "second")
    assert (made.returncode, "second is the current one" in made.stdout) == (0, True)
    assert "2 data keys wrapped anew, all under second now" in dossier("rotate").stdout
    assert dossier("new", str(keys), "--name", "second").returncode == 2
    keys.write_text(new_line("third"))
    lost = dossier("show")
    assert lost.returncode == 1
    assert "NOT AT HAND" in lost.stdout
    assert dossier("rotate").returncode == 1
    assert house.index.key_counts() == {"second": 2}
