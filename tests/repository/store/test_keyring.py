"""Key-encryption keys: what a file of them may hold, and what happens while it changes."""

import os
from unittest.mock import Mock

import pytest
from prometheus_client import REGISTRY

from repository.store.keyring import FileKeyring, KeyFileWrong, StaticKeyring, new_line, open_keyring, read_keys
from repository.store.protocol import KeyMissing, StoreUnavailable

OBJECT = "0123456789abcdef0123456789abcdef"
DATA_KEY = b"d" * 32


def test_the_last_line_is_the_current_key():
    text = "# keys of the hospital\n" + new_line("first") + "\n" + new_line("second").strip() + "  # since May\n"
    assert list(read_keys(text)) == ["first", "second"]
    ring = StaticKeyring(read_keys(text))
    assert (ring.current, ring.names) == ("second", {"first", "second"})
    assert ring.unwrap(ring.wrap(DATA_KEY, OBJECT), OBJECT) == DATA_KEY


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "there is no key"),
        ("# nothing\n", "there is no key"),
        ("k1", "line 1: a line has the name of a key"),
        ("k1 abc= more", "line 1: a line has the name of a key"),
        ("k1 !!!", "line 1: a key is 32 random bytes"),
        ("\nk1 AAAA", "line 2: a key is 32 random bytes"),
        ("k/1 " + "A" * 44, "line 1: a line has the name of a key"),
        (2 * f"a {'A' * 43}=\n", "line 2: the name a stands there twice"),
    ],
)
def test_what_is_no_list_of_keys_is_refused_by_its_line_and_never_shown(text, fault):
    with pytest.raises(KeyFileWrong, match=fault) as refused:
        read_keys(text)
    assert "AAAA" not in str(refused.value)


def test_two_keys_are_two_keys():
    assert new_line("a") != new_line("a")


@pytest.mark.parametrize("name", ["", "a b", "-a", "x" * 65, "a\n"])
def test_a_name_is_plain(name):
    with pytest.raises(KeyFileWrong):
        new_line(name)


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "keys"
    file.write_text(new_line("k1"))
    return file


def test_a_key_that_is_added_is_used_at_once(path):
    ring = FileKeyring(path)
    old = ring.wrap(DATA_KEY, OBJECT)
    with path.open("a") as out:
        out.write(new_line("k2"))
    new = ring.wrap(DATA_KEY, OBJECT)
    assert (old.kek, new.kek, ring.current) == ("k1", "k2", "k2")
    assert ring.unwrap(old, OBJECT) == ring.unwrap(new, OBJECT) == DATA_KEY


def test_a_key_that_is_taken_out_is_gone(path):
    ring = FileKeyring(path)
    old = ring.wrap(DATA_KEY, OBJECT)
    with path.open("a") as out:
        out.write(new_line("k2"))
    assert ring.names == {"k1", "k2"}
    path.write_text(path.read_text().splitlines(keepends=True)[1] + new_line("k3"))
    with pytest.raises(KeyMissing, match="k1"):
        ring.unwrap(old, OBJECT)
    assert ring.names == {"k2", "k3"}


def stale():
    return REGISTRY.get_sample_value("dossier_keyring_stale")


def with_another_k1(path):
    path.write_text(new_line("k1") + new_line("k2"))


WRONG = {
    "nonsense": (lambda path: path.write_text("nonsense"), "line 1"),
    "emptied": (lambda path: path.write_text("# emptied\n"), "there is no key"),
    "gone": (lambda path: path.unlink(), "No such file"),
    "no text": (lambda path: path.write_bytes(b"\xff"), "not UTF-8"),
    "foreign": (lambda path: path.write_text(new_line("k2")), "none of the keys that were in use"),
    "another key of the name": (with_another_k1, "the key k1 is another one"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_file_that_went_wrong_leaves_what_there_is_readable_and_seals_nothing(path, wrong, caplog):
    ring, text = FileKeyring(path), path.read_text()
    old = ring.wrap(DATA_KEY, OBJECT)
    spoil, reason = WRONG[wrong]
    spoil(path)
    for _ in range(3):
        assert ring.unwrap(old, OBJECT) == DATA_KEY
        with pytest.raises(StoreUnavailable, match="cannot be sealed"):
            ring.wrap(DATA_KEY, OBJECT)
    assert (ring.usable(), ring.current, ring.names, stale()) == (False, "k1", {"k1"}, 1)
    (told,) = caplog.records
    assert (told.levelname, reason in told.getMessage()) == ("ERROR", True)
    path.write_text(text)
    assert (ring.usable(), stale()) == (True, 0)
    assert ring.unwrap(ring.wrap(DATA_KEY, OBJECT), OBJECT) == DATA_KEY


def test_each_change_of_a_wrong_file_is_told_once(path, caplog):
    ring = FileKeyring(path)
    for text in ("nonsense", "nonsense and more", "# nothing"):
        path.write_text(text)
        assert not ring.usable() and not ring.usable()
    assert [record.levelname for record in caplog.records] == ["ERROR"] * 3


def test_a_file_that_cannot_be_read_for_a_while_is_used_again_without_a_change(path, monkeypatch):
    ring, where = FileKeyring(path), type(path)
    with monkeypatch.context() as away:
        away.setattr(where, "stat", Mock(side_effect=PermissionError(13, "Permission denied")))
        assert not ring.usable()
    assert ring.usable()


def test_a_changed_mode_is_a_change(path, monkeypatch):
    ring = FileKeyring(path)
    path.chmod(0o000)
    with monkeypatch.context() as unreadable:  # nothing is unreadable for root
        unreadable.setattr(type(path), "read_text", Mock(side_effect=PermissionError(13, "Permission denied")))
        assert not ring.usable()


@pytest.mark.parametrize("wrong", ["nonsense", "emptied", "gone", "no text"])
def test_nothing_begins_with_a_file_that_cannot_be_used(path, wrong):
    WRONG[wrong][0](path)
    with pytest.raises(StoreUnavailable, match="file of key-encryption keys"):
        FileKeyring(path)


def test_a_restart_accepts_that_all_keys_were_exchanged(path):
    WRONG["foreign"][0](path)
    assert FileKeyring(path).wrap(DATA_KEY, OBJECT).kek == "k2"


def test_keys_come_from_a_file_or_a_text_or_not_at_all(path):
    assert open_keyring(None, None) is None
    assert open_keyring(path, None).current == "k1"
    assert open_keyring(None, f"text {'A' * 43}=").current == "text"
    assert os.fspath(path) not in repr(open_keyring(path, None).wrap(DATA_KEY, OBJECT))
