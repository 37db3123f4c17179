"""Key-encryption keys: what a file of them may hold, and what happens while it changes."""

import os

import pytest

from repository.store.keyring import STALE, FileKeyring, KeyFileWrong, StaticKeyring, new_line, open_keyring, read_keys
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


def test_a_key_that_is_taken_out_is_gone(path, caplog):
    ring = FileKeyring(path)
    old = ring.wrap(DATA_KEY, OBJECT)
    path.write_text(new_line("k2") + new_line("k3"))
    with pytest.raises(KeyMissing, match="k1"):
        ring.unwrap(old, OBJECT)
    assert ring.names == {"k2", "k3"}
    assert "the key k1, in use until now, is gone" in caplog.text


@pytest.mark.parametrize(
    "spoil", [lambda p: p.write_text("nonsense"), lambda p: p.unlink(), lambda p: p.write_bytes(b"\xff")]
)
def test_a_file_that_went_wrong_is_read_with_and_not_sealed_with(path, spoil, caplog):
    ring = FileKeyring(path)
    right = path.read_text()
    old = ring.wrap(DATA_KEY, OBJECT)
    assert (ring.check(), STALE._value.get()) == (True, 0)
    spoil(path)
    for _ in range(3):
        assert ring.unwrap(old, OBJECT) == DATA_KEY
        with pytest.raises(StoreUnavailable, match="cannot be used any more"):
            ring.wrap(DATA_KEY, OBJECT)
    assert (ring.check(), STALE._value.get()) == (False, 1)
    assert caplog.text.count("nothing is sealed until it is right again") == 1
    path.write_text(right)
    assert (ring.wrap(DATA_KEY, OBJECT).kek, ring.check(), STALE._value.get()) == ("k1", True, 0)
    spoil(path)
    with pytest.raises(StoreUnavailable, match="file of key-encryption keys"):
        FileKeyring(path)


def test_keys_come_from_a_file_or_a_text_or_not_at_all(path):
    assert open_keyring(None, None) is None
    assert open_keyring(path, None).current == "k1"
    assert open_keyring(None, f"text {'A' * 43}=").current == "text"
    assert os.fspath(path) not in repr(open_keyring(path, None).wrap(DATA_KEY, OBJECT))
