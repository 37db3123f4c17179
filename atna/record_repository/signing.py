"""The key that checkpoints of the log are signed with: Ed25519, a file of its own in PEM (PKCS8), for its owner alone.

Whoever holds it and the database can write the log anew. It belongs to the account of the audit service; the public
half belongs elsewhere, with whoever checks the log.
"""

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from atna.audit_check import key_id, public_pem

__all__ = ["KeyFault", "SigningKey"]

_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_WRITABLE: Final = stat.S_IWGRP | stat.S_IWOTH


class KeyFault(Exception):  # noqa: N818 - a refusal, worded for whoever wrote the settings
    """The file cannot serve as a key; says why, never what stands in it."""


@dataclass(frozen=True, slots=True)
class SigningKey:
    """``id`` names its public half, ``public`` are the 32 octets of it."""

    id: str
    public: bytes
    _private: Ed25519PrivateKey

    @classmethod
    def read(cls, path: Path) -> "SigningKey":
        """The key of a file. Raises KeyFault."""
        try:
            with path.open("rb") as file:
                found = os.fstat(file.fileno())
                pem = file.read(65536)
        except OSError as error:
            raise KeyFault(f"{path}: cannot be read: {error.strerror}") from error
        # A secret that is mounted into a container belongs to somebody else, who closes the way to it instead.
        if found.st_mode & (_OTHERS if found.st_uid == os.geteuid() else _WRITABLE):
            raise KeyFault(f"{path}: others than its owner may use it (mode {found.st_mode & 0o777:o}); chmod 600 it")
        return cls.parsed(pem, str(path))

    @classmethod
    def parsed(cls, pem: bytes, where: str) -> "SigningKey":
        """The key of a PEM text. Raises KeyFault."""
        try:
            private = load_pem_private_key(pem, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise KeyFault(f"{where}: should be a private key in PEM (PKCS8) without a password") from error
        if not isinstance(private, Ed25519PrivateKey):
            raise KeyFault(f"{where}: should be an Ed25519 key; make one with: dossier audit key --new FILE")
        public = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        return cls(key_id(public), public, private)

    @classmethod
    def there(cls, path: Path) -> "SigningKey":
        """The key of a file that has to be there. Raises KeyFault."""
        if not os.access(path, os.F_OK):
            raise KeyFault(f"{path}: is not there; make a key with dossier audit key --new FILE")
        return cls.read(path)

    @classmethod
    def made(cls, path: Path) -> "SigningKey":
        """A new key in a new file, durable before it signs anything. Raises KeyFault, also where there is a file."""
        pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _fill(path, os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), pem)
        except OSError as error:
            raise KeyFault(f"{path}: cannot be made: {error.strerror}") from error
        return cls.parsed(pem, str(path))

    @property
    def public_pem(self) -> str:
        """What is given to whoever checks the log."""
        return public_pem(self.public)

    def sign(self, text: str) -> bytes:
        """The signature, 64 octets, of a text in UTF-8."""
        return self._private.sign(text.encode())


def _fill(path: Path, handle: int, pem: bytes) -> None:
    """Write a new file whole, or take it away again: the next attempt would find a file that is no key."""
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(pem)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        path.unlink()
        raise
