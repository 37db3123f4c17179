"""Sealed documents: bytes out are bytes in, and whatever was done to what lies in the store is noticed."""

import os
from unittest.mock import Mock

import pytest

from repository.store.directory import DirectoryStore
from repository.store.keyring import StaticKeyring
from repository.store.memory import MemoryStore
from repository.store.protocol import Damaged, Envelope, KeyMissing, ObjectMissing, StoreUnavailable
from repository.store.vault import PLAIN_BYTES, TAG_BYTES, Vault, plain_size, sealed_size

KEY = "0123456789abcdef0123456789abcdef"
OTHER = "f" * 32
B = PLAIN_BYTES
SIZES = [0, 1, 15, 16, 17, B - 1, B, B + 1, 2 * B - 1, 2 * B, 2 * B + 1, 5 * B + 4321]


def keyring(*names):
    return StaticKeyring({name: name.encode().ljust(32, b".") for name in names})


@pytest.fixture
def store():
    return MemoryStore()


@pytest.fixture
def vault(store):
    return Vault(store, keyring("k1"))


def put(vault, data, key=KEY, piece=10_000):
    envelope = vault.new_envelope(key)
    upload = vault.begin(key, envelope)
    for start in range(0, len(data), piece):
        upload.write(data[start : start + piece])
    upload.finish()
    return envelope


def raw(store, key=KEY):
    return b"".join(store.open(key))


def laid(store, data, key=KEY):
    """Put these bytes in the place of the object."""
    store.delete(key)
    upload = store.begin(key)
    upload.write(data)
    upload.finish()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("piece", [999, B, 3 * B])
def test_bytes_out_are_bytes_in(store, vault, size, piece):
    data = os.urandom(size)
    envelope = put(vault, data, piece=piece)
    assert b"".join(vault.open(KEY, envelope)) == data
    assert vault.size(KEY, envelope) == size
    assert store.size(KEY) == sealed_size(size)


def test_a_directory_holds_sealed_documents_too(tmp_path):
    vault, data = Vault(DirectoryStore(tmp_path), keyring("k1")), os.urandom(700_001)
    envelope = put(vault, data)
    assert b"".join(vault.open(KEY, envelope)) == data
    assert vault.size(KEY, envelope) == len(data)


def test_what_lies_in_the_store_tells_nothing(store, vault):
    put(vault, b"patient " * 20_000)
    assert b"patient" not in raw(store)
    assert raw(store)[:16] != raw(store)[B + TAG_BYTES :][:16]


def test_two_objects_of_one_document_have_nothing_in_common(store, vault):
    one, two = put(vault, b"same" * 100), put(vault, b"same" * 100, OTHER)
    assert one.wrapped != two.wrapped
    assert raw(store) != raw(store, OTHER)


def test_only_sizes_that_sealing_makes_are_sizes_of_documents():
    sizes = {sealed_size(plain): plain for plain in range(3 * B)}
    assert all(plain_size(sealed) == sizes.get(sealed) for sealed in range(3 * (B + TAG_BYTES)))


def changed(data, at):
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def swapped(data):
    whole = B + TAG_BYTES
    return data[whole : 2 * whole] + data[:whole] + data[2 * whole :]


DAMAGE = {
    "first byte": lambda data: changed(data, 0),
    "tag of the first block": lambda data: changed(data, B + 3),
    "first blocks exchanged": swapped,
    "first block left out": lambda data: data[B + TAG_BYTES :],
    "empty": lambda data: b"",
    "shorter than a tag": lambda data: data[:15],
}
LATER_DAMAGE = {
    "last byte": lambda data: changed(data, len(data) - 1),
    "last block left out": lambda data: data[: 3 * (B + TAG_BYTES)],
    "cut within the last block": lambda data: data[:-1],
    "a byte more": lambda data: data + b"x",
    "third block": lambda data: changed(data, 2 * (B + TAG_BYTES) + 7),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_bad_beginning_is_noticed_before_any_byte_leaves(store, vault, damage):
    envelope = put(vault, os.urandom(3 * B + 100))
    laid(store, DAMAGE[damage](raw(store)))
    with pytest.raises(Damaged):
        next(iter(vault.open(KEY, envelope)))


@pytest.mark.parametrize("damage", LATER_DAMAGE)
def test_of_a_bad_block_no_byte_leaves(store, vault, damage):
    data = os.urandom(3 * B + 100)
    envelope = put(vault, data)
    laid(store, LATER_DAMAGE[damage](raw(store)))
    given = []
    with pytest.raises(Damaged):
        given.extend(vault.open(KEY, envelope))
    out = b"".join(given)
    assert data.startswith(out)
    assert len(out) % B == 0 and len(out) < len(data)


def test_an_object_in_the_place_of_another_is_refused_even_with_its_key(store):
    vault = Vault(store, keyring("k1"))
    envelope = put(vault, b"one")
    put(vault, b"two", OTHER)
    laid(store, raw(store), OTHER)
    with pytest.raises(Damaged):
        list(vault.open(OTHER, envelope))


def test_a_row_in_the_place_of_another_is_refused(store, vault):
    put(vault, b"one")
    foreign = vault.new_envelope(OTHER)
    with pytest.raises(Damaged, match="not wrapped for this object"):
        list(vault.open(KEY, foreign))


def test_without_its_key_a_document_is_not_read(store, vault):
    envelope = put(vault, b"one")
    for without in (Vault(store, keyring("k2")), Vault(store, None)):
        with pytest.raises(KeyMissing, match="k1"):
            list(without.open(KEY, envelope))
        with pytest.raises(StoreUnavailable, match="not at hand"):
            without.begin(OTHER, envelope)


def test_another_key_of_the_same_name_opens_nothing(store, vault):
    envelope = put(vault, b"one")
    with pytest.raises(Damaged):
        list(Vault(store, StaticKeyring({"k1": bytes(32)})).open(KEY, envelope))


def test_a_wrapped_key_that_is_cut_off_is_damage(store, vault):
    envelope = put(vault, b"one")
    with pytest.raises(Damaged):
        list(vault.open(KEY, Envelope("k1", envelope.wrapped[:5])))


def test_plain_bytes_stay_readable_and_new_ones_are_plain_where_sealing_is_off(store):
    off = Vault(store, keyring("k1"), sealing=False)
    assert put(off, b"plain") is None
    assert raw(store) == b"plain"
    on = Vault(store, keyring("k1"))
    assert (b"".join(on.open(KEY, None)), on.size(KEY, None)) == (b"plain", 5)
    sealed = put(on, b"sealed", OTHER)
    assert b"".join(off.open(OTHER, sealed)) == b"sealed"


def test_a_missing_object_is_missing(vault):
    envelope = vault.new_envelope(KEY)
    assert vault.size(KEY, envelope) is None
    with pytest.raises(ObjectMissing):
        list(vault.open(KEY, envelope))


def test_finish_twice_is_finishing_once_and_abort_leaves_nothing(store, vault):
    envelope = vault.new_envelope(KEY)
    upload = vault.begin(KEY, envelope)
    upload.write(b"x" * (B + 1))
    upload.finish()
    upload.finish()
    assert b"".join(vault.open(KEY, envelope)) == b"x" * (B + 1)
    upload.abort()
    assert list(store.objects()) == []


@pytest.mark.parametrize("size", [10, B + 10])
def test_an_upload_whose_write_failed_is_never_finished(store, vault, size):
    upload = vault.begin(KEY, vault.new_envelope(KEY))
    real, upload._upload.write = upload._upload.write, Mock(side_effect=StoreUnavailable("away"))
    for step in (lambda: upload.write(b"x" * size), upload.finish, upload.finish):
        if step == upload.finish or size > B:
            with pytest.raises(StoreUnavailable):
                step()
            upload._upload.write = real
        else:
            step()
    assert store.size(KEY) is None
    upload.abort()
    assert list(store.objects()) == []
