"""Key-encryption keys from a file the operator provides, one a line: ``NAME BASE64``. The last line is the current key.

A key is added at the end of the file and taken out when nothing is wrapped under it any more; running services see
both, since they look at the file again when it has changed. ``#`` begins a comment.
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
_Signature = tuple[int, int, int]
_NOTHING: Final[_Signature] = (0, 0, 0)

_log = logging.getLogger(__name__)

STALE: Final = Gauge(
    "dossier_keyring_stale",
    "1 while the file of key-encryption keys cannot be used and nothing is sealed",
    multiprocess_mode="livemax",
)


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

    A file that went wrong leaves the keys in use for what is sealed already; nothing new is sealed until it is right
    again, for the key might stand in no file any more. The log says why, ``dossier_keyring_stale`` is 1.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._seen: _Signature | None = None
        self._fault: str | None = None
        self._keys: StaticKeyring
        self._read(_signature(path))

    @property
    def current(self) -> str:
        """The name of the key for new documents."""
        return self._look().current

    @property
    def names(self) -> frozenset[str]:
        """Keys that are at hand."""
        return self._look().names

    def check(self) -> bool:
        """Whether the file can be used as it is now."""
        self._look()
        return self._fault is None

    def wrap(self, data_key: bytes, object_key: str) -> Envelope:
        """Wrap under the key that is the last one in the file now. Raises StoreUnavailable while that is not known."""
        keys = self._look()
        if self._fault is not None:
            raise StoreUnavailable("the file of key-encryption keys cannot be used any more")
        return keys.wrap(data_key, object_key)

    def unwrap(self, envelope: Envelope, object_key: str) -> bytes:
        """The data key."""
        return self._look().unwrap(envelope, object_key)

    def _look(self) -> StaticKeyring:
        """Raises StoreUnavailable if there was never a file that could be read."""
        with self._lock:
            seen = _signature(self._path)
            if seen != self._seen or self._fault is not None:
                self._read(seen)
            return self._keys

    def _read(self, seen: _Signature | None) -> None:
        try:
            keys = StaticKeyring(read_keys(self._path.read_text(encoding="utf-8")))
        except (OSError, UnicodeDecodeError, KeyFileWrong) as error:
            reason = str(error.strerror) if isinstance(error, OSError) else str(error)
            if self._seen is None:
                raise StoreUnavailable(f"file of key-encryption keys: {reason}") from error
            if self._fault != reason:
                _log.error("file of key-encryption keys: %s; nothing is sealed until it is right again", reason)
            self._fault = reason
        else:
            if self._seen is not None:
                self._compare(keys)
            self._keys, self._fault = keys, None
        self._seen = seen or _NOTHING
        STALE.set(self._fault is not None)

    def _compare(self, keys: StaticKeyring) -> None:
        """A key may be taken out when nothing is sealed under it; of the current one that is rarely true."""
        if self._keys.current not in keys.names:
            _log.error(
                "file of key-encryption keys: the key %s, in use until now, is gone; what it sealed cannot be read",
                self._keys.current,
            )


def _signature(path: Path) -> _Signature | None:
    """What changes with the file; ``None`` where it cannot even be found."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def open_keyring(path: Path | None, text: str | None) -> FileKeyring | StaticKeyring | None:
    """The keys of a file, or of a text; None where neither is given. Raises StoreUnavailable, KeyFileWrong."""
    if path is not None:
        return FileKeyring(path)
    return None if text is None else StaticKeyring(read_keys(text))
