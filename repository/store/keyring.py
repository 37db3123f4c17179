"""Key-encryption keys from a file the operator provides, one a line: ``NAME BASE64``. The last line is the current key.

A key is added at the end of the file and taken out when nothing is wrapped under it any more; running services see
both, since they look at the file again when it has changed. ``#`` begins a comment.

A file that went wrong while it was in use stops nobody from reading; but nothing new is sealed until it is right again:
what is sealed under a key that no file holds any more is lost with the last process that remembers it.
``dossier_keyring_stale`` is 1 meanwhile, and the log says why.
"""

import base64
import binascii
import logging
import re
import secrets
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from prometheus_client import Gauge

from repository.store.protocol import Damaged, Envelope, KeyMissing, StoreUnavailable

__all__ = ["FileKeyring", "KeyFileWrong", "StaticKeyring", "new_line", "open_keyring", "read_keys"]

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_PURPOSE: Final = b"dossier data key 1 "

_log = logging.getLogger(__name__)

STALE: Final = Gauge(
    "dossier_keyring_stale",
    "1 while the file of key-encryption keys cannot be used and no new document is sealed",
    multiprocess_mode="livemax",
)

_Signature = tuple[int, int, int, int]


class KeyFileWrong(ValueError):  # noqa: N818 - says what is wrong, by line; never what stands there
    """The text is no list of keys."""


def new_line(name: str) -> str:
    """A line with a new key of this name. Raises KeyFileWrong for what is no name."""
    if _NAME.fullmatch(name) is None:
        raise KeyFileWrong("a key's name has 1 to 64 letters, digits, dots, dashes or underscores")
    return f"{name} {base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()}\n"


def read_keys(text: str) -> dict[str, bytes]:
    """Name to 32 bytes, in the order of the lines. Raises KeyFileWrong."""
    keys: dict[str, bytes] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        if len(words) != 2 or _NAME.fullmatch(words[0]) is None:
            raise KeyFileWrong(f"line {number}: a line has the name of a key, a blank, and the key in base64")
        name, value = words
        if name in keys:
            raise KeyFileWrong(f"line {number}: the name {name} stands there twice")
        keys[name] = _decoded(value, number)
    if not keys:
        raise KeyFileWrong("there is no key; make one with: dossier store keys new FILE")
    return keys


def _decoded(value: str, number: int) -> bytes:
    try:
        key = base64.b64decode(value, validate=True)
    except binascii.Error:
        key = b""
    if len(key) != KEY_BYTES:
        raise KeyFileWrong(f"line {number}: a key is {KEY_BYTES} random bytes in base64")
    return key


class StaticKeyring:
    """``repository.store.protocol.Keyring`` of keys that stay as they are; the last one is current."""

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        self._ciphers = {name: AESGCM(key) for name, key in keys.items()}
        self._current = list(keys)[-1]

    @property
    def current(self) -> str:
        """The name of the key for new documents."""
        return self._current

    @property
    def names(self) -> frozenset[str]:
        """Keys that are at hand."""
        return frozenset(self._ciphers)

    def usable(self) -> bool:
        """Always: they stay as they are."""
        return True

    def wrap(self, data_key: bytes, object_key: str) -> Envelope:
        """Wrap a data key; the nonce is random, the additional data name key and object."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        sealed = self._ciphers[self._current].encrypt(nonce, data_key, _bound(self._current, object_key))
        return Envelope(self._current, nonce + sealed)

    def unwrap(self, envelope: Envelope, object_key: str) -> bytes:
        """The data key."""
        cipher = self._ciphers.get(envelope.kek)
        if cipher is None:
            raise KeyMissing(envelope.kek)
        nonce, sealed = envelope.wrapped[:NONCE_BYTES], envelope.wrapped[NONCE_BYTES:]
        try:
            return cipher.decrypt(nonce, sealed, _bound(envelope.kek, object_key))
        except (InvalidTag, ValueError) as error:
            raise Damaged(f"the data key was not wrapped for this object by the key {envelope.kek}") from error


def _bound(kek: str, object_key: str) -> bytes:
    return _PURPOSE + kek.encode() + b" " + object_key.encode()


class FileKeyring:
    """The keys of a file, read again whenever it has changed.

    A file that cannot be used any more, or that is another one (see ``_unlike``), leaves the keys in use for reading;
    ``wrap`` is refused until the file is right again. Who means to exchange all keys at once restarts the services.
    Raises StoreUnavailable where the file cannot be used at first.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._fault: str | None = None
        self._told: tuple[_Signature | None, str] | None = None
        try:
            self._seen = self._signature()
            self._found = self._read()
        except KeyFileWrong as error:
            raise StoreUnavailable(f"file of key-encryption keys: {error}") from error
        self._keys = StaticKeyring(self._found)
        STALE.set(0)

    @property
    def current(self) -> str:
        """The name of the key for new documents."""
        return self._look()[0].current

    @property
    def names(self) -> frozenset[str]:
        """Keys that are at hand."""
        return self._look()[0].names

    def usable(self) -> bool:
        """Whether new documents can be sealed."""
        return self._look()[1] is None

    def wrap(self, data_key: bytes, object_key: str) -> Envelope:
        """Wrap under the key that is the last one in the file now. Raises StoreUnavailable while that is not known."""
        keys, fault = self._look()
        if fault is not None:
            raise StoreUnavailable("documents cannot be sealed, the file of key-encryption keys cannot be used")
        return keys.wrap(data_key, object_key)

    def unwrap(self, envelope: Envelope, object_key: str) -> bytes:
        """The data key."""
        return self._look()[0].unwrap(envelope, object_key)

    def _look(self) -> tuple[StaticKeyring, str | None]:
        """The keys in use, and why none of them may seal."""
        with self._lock:
            seen: _Signature | None = None
            try:
                seen = self._signature()
                if seen != self._seen:
                    self._take(seen)
                elif self._fault is not None:
                    self._mend()
            except KeyFileWrong as error:
                self._refuse(seen, str(error))
            return self._keys, self._fault

    def _take(self, seen: _Signature) -> None:
        found = self._read()
        differs = _unlike(self._found, found)
        if differs is not None:
            raise KeyFileWrong(differs)
        self._seen, self._found, self._keys = seen, found, StaticKeyring(found)
        if self._fault is not None:
            self._mend()

    def _mend(self) -> None:
        self._fault = self._told = None
        STALE.set(0)
        _log.info("the file of key-encryption keys can be used again; new documents are sealed")

    def _refuse(self, seen: _Signature | None, reason: str) -> None:
        """Said once for each change of the file; it is read again each time, since it may be a disk that is away."""
        self._fault = reason
        STALE.set(1)
        if self._told != (seen, reason):
            self._told = (seen, reason)
            _log.error(
                "the file of key-encryption keys cannot be used: %s; no new document is sealed, those before stay "
                "readable until the services end",
                reason,
            )

    def _signature(self) -> _Signature:
        """What changes when the file is written, replaced, or its mode is."""
        try:
            found = self._path.stat()
        except OSError as error:
            raise KeyFileWrong(error.strerror or type(error).__name__) from error
        return found.st_mtime_ns, found.st_size, found.st_ino, found.st_ctime_ns

    def _read(self) -> dict[str, bytes]:
        try:
            return read_keys(self._path.read_text(encoding="utf-8"))
        except OSError as error:
            raise KeyFileWrong(error.strerror or type(error).__name__) from error
        except UnicodeDecodeError as error:
            raise KeyFileWrong("it is not UTF-8 text") from error


def _unlike(before: Mapping[str, bytes], after: Mapping[str, bytes]) -> str | None:
    """Why a file is not the one that was in use; None where keys were only added, or some of them taken out.

    A rotation has a time in which the old and the new key stand in the file together. Where none of the keys stayed,
    somebody put another file there, and all documents would be unreadable at once.
    """
    exchanged = sorted(name for name, key in after.items() if before.get(name, key) != key)
    if exchanged:
        return f"the key {exchanged[0]} is another one than it was"
    if not set(before) & set(after):
        return "it holds none of the keys that were in use (to exchange them all at once, restart the services)"
    return None


def open_keyring(path: Path | None, text: str | None) -> FileKeyring | StaticKeyring | None:
    """The keys of a file, or of a text; None where neither is given. Raises StoreUnavailable, KeyFileWrong."""
    if path is not None:
        return FileKeyring(path)
    return None if text is None else StaticKeyring(read_keys(text))
