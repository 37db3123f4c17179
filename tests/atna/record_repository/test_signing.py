"""The key of the log: one file, for its owner alone, Ed25519 and nothing else."""

import os
import resource

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_public_key,
)

from atna.audit_check import public_keys
from atna.record_repository.signing import KeyFault, SigningKey
from atna.record_repository.store.verifying import verifies


def test_a_key_is_made_once_and_read_again(tmp_path):
    path = tmp_path / "folder" / "key.pem"
    made = SigningKey.made(path)
    assert path.stat().st_mode & 0o777 == 0o600
    read = SigningKey.there(path)
    assert (read.id, read.public) == (made.id, made.public)
    by_library = load_pem_public_key(made.public_pem.encode())
    assert by_library.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode() == made.public_pem
    assert public_keys(made.public_pem) == {made.id: made.public}
    assert verifies(made.public, b"text", made.sign("text"))
    with pytest.raises(KeyFault, match="File exists"):
        SigningKey.made(path)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o622])
def test_a_key_that_others_may_use_is_refused(tmp_path, mode):
    path = tmp_path / "key.pem"
    SigningKey.made(path)
    path.chmod(mode)
    with pytest.raises(KeyFault, match="chmod 600"):
        SigningKey.read(path)


def test_a_key_of_another_owner_may_be_readable_but_not_written_to(tmp_path, monkeypatch):
    path = tmp_path / "key.pem"
    SigningKey.made(path)
    monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)
    path.chmod(0o444)
    SigningKey.read(path)
    path.chmod(0o664)
    with pytest.raises(KeyFault):
        SigningKey.read(path)


def test_what_is_no_such_key_is_refused(tmp_path):
    with pytest.raises(KeyFault, match="is not there; make a key with dossier audit key --new"):
        SigningKey.there(tmp_path / "missing")
    other = generate_private_key(SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for pem, told in ((b"text", "should be a private key in PEM"), (other, "should be an Ed25519 key")):
        with pytest.raises(KeyFault, match=told):
            SigningKey.parsed(pem, "here")


def test_a_key_that_finds_no_room_leaves_no_file(tmp_path):
    path = tmp_path / "key.pem"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))  # a write beyond it fails as on a full disk
    try:
        with pytest.raises(KeyFault, match="cannot be made"):
            SigningKey.made(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not path.exists()
    SigningKey.made(path)
