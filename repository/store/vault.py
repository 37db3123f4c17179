"""Documents sealed on their way into a store: each under a data key of its own, AES-256-GCM by blocks.

What lies in the store is the blocks of a document one after the other, each ``PLAIN_BYTES`` (the last one less) and a
tag of 16 bytes. The nonce of a block is its number and whether it is the last; the additional data name the object. So
a block that was changed, moved, left out, cut off or taken from another object is refused, and no byte leaves that was
not checked. Nonces repeat in no object, since no two objects have one key. The construction is STREAM (Hoang,
Reyhanitabar, Rogaway, Vizár: Online Authenticated-Encryption and its Nonce-Reuse Misuse-Resistance, 2015).

Data keys are wrapped by a ``Keyring`` and kept in the index beside the row of their object, never in the store.
"""

import secrets
from collections.abc import Iterator
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from repository.store.protocol import Damaged, DocumentStore, Envelope, KeyMissing, Keyring, StoreUnavailable, Upload

__all__ = ["Vault", "plain_size", "sealed_size"]

PLAIN_BYTES: Final = 64 * 1024
TAG_BYTES: Final = 16
KEY_BYTES: Final = 32
_SEALED_BYTES: Final = PLAIN_BYTES + TAG_BYTES
_PURPOSE: Final = b"dossier document 1 "


def sealed_size(plain: int) -> int:
    """Bytes in the store of a document of this size; an empty document is one empty block."""
    return plain + TAG_BYTES * max(1, -(-plain // PLAIN_BYTES))


def plain_size(sealed: int) -> int | None:
    """The size of the document that has this many bytes in the store, None if no document has."""
    whole, rest = divmod(sealed, _SEALED_BYTES)
    if 0 < rest < TAG_BYTES or sealed < TAG_BYTES or (rest == TAG_BYTES and whole):
        return None
    return whole * PLAIN_BYTES + max(0, rest - TAG_BYTES)


class Vault:
    """A document store whose objects are sealed. ``sealing``: new ones too, not only those that are.

    An object without an envelope holds plain bytes, whatever the settings are now.
    """

    def __init__(self, store: DocumentStore, keyring: Keyring | None, *, sealing: bool = True) -> None:
        self._store: Final = store
        self._keyring: Final = keyring
        self._sealing: Final = sealing

    def new_envelope(self, object_key: str) -> Envelope | None:
        """A new data key for an object, wrapped; None where documents are not sealed."""
        if self._keyring is None or not self._sealing:
            return None
        return self._keyring.wrap(secrets.token_bytes(KEY_BYTES), object_key)

    def begin(self, object_key: str, envelope: Envelope | None) -> Upload:
        """Begin to write an object. Raises StoreUnavailable, also when its key is gone since it was made."""
        if envelope is None:
            return self._store.begin(object_key)
        try:
            seal = _Seal(self._key_of(object_key, envelope), object_key)
        except (KeyMissing, Damaged) as error:
            raise StoreUnavailable("the key of a document is not at hand") from error
        return _SealedUpload(self._store.begin(object_key), seal)

    def open(self, object_key: str, envelope: Envelope | None) -> Iterator[bytes]:
        """The document's blocks, each checked before it is given out.

        Raises ObjectMissing, KeyMissing and, for a first block that is not right, Damaged before any; Damaged later
        where a later block is not right or is missing; StoreUnavailable.
        """
        if envelope is None:
            return self._store.open(object_key)
        return self._opened(object_key, envelope)

    def _opened(self, object_key: str, envelope: Envelope) -> Iterator[bytes]:
        seal = _Seal(self._key_of(object_key, envelope), object_key)
        held = bytearray()
        for stored in self._store.open(object_key):
            held += stored
            # One byte more than whole blocks stays here: only then it is known that they are not the last.
            count = (len(held) - 1) // _SEALED_BYTES
            if count:
                with memoryview(held) as view:
                    blocks = [seal.open(view[n * _SEALED_BYTES :][:_SEALED_BYTES], last=False) for n in range(count)]
                del held[: count * _SEALED_BYTES]
                yield b"".join(blocks)
        last = seal.open(held, last=True)
        if last:
            yield last

    def size(self, object_key: str, envelope: Envelope | None) -> int | None:
        """Size of the document whose object is finished; None if there is none, or one that is no sealed document."""
        stored = self._store.size(object_key)
        return stored if stored is None or envelope is None else plain_size(stored)

    def _key_of(self, object_key: str, envelope: Envelope) -> bytes:
        if self._keyring is None:
            raise KeyMissing(envelope.kek)
        return self._keyring.unwrap(envelope, object_key)


class _Seal:
    """The blocks of one object in order, in one direction."""

    def __init__(self, data_key: bytes, object_key: str) -> None:
        self._cipher = AESGCM(data_key)
        self._named = _PURPOSE + object_key.encode()
        self._number = 0

    def _nonce(self, *, last: bool) -> bytes:
        nonce = self._number.to_bytes(11, "big") + bytes([last])
        self._number += 1
        return nonce

    def close(self, plain: bytes | memoryview, *, last: bool) -> bytes:
        return self._cipher.encrypt(self._nonce(last=last), plain, self._named)

    def open(self, sealed: bytes | bytearray | memoryview, *, last: bool) -> bytes:
        number = self._number
        try:
            return self._cipher.decrypt(self._nonce(last=last), sealed, self._named)
        except (InvalidTag, ValueError) as error:  # ValueError: shorter than a tag
            raise Damaged(f"block {number}") from error


class _SealedUpload:
    """Seals what is written. At least one byte is held back until the end: the last block is known only then."""

    def __init__(self, upload: Upload, seal: _Seal) -> None:
        self._upload = upload
        self._seal = seal
        self._held = bytearray()
        self._ended = False
        self._broken = False

    def write(self, block: bytes) -> None:
        self._held += block
        count = max(0, len(self._held) - 1) // PLAIN_BYTES
        if count:
            with memoryview(self._held) as view:
                for n in range(count):
                    self._pass_on(self._seal.close(view[n * PLAIN_BYTES :][:PLAIN_BYTES], last=False))
            del self._held[: count * PLAIN_BYTES]

    def finish(self) -> None:
        if not self._ended:
            self._ended = True
            self._pass_on(self._seal.close(bytes(self._held), last=True))
        if self._broken:
            raise StoreUnavailable("upload is broken")
        self._upload.finish()

    def _pass_on(self, sealed: bytes) -> None:
        """What the store may have taken in part is never made whole: its blocks could not be told apart."""
        if self._broken:
            raise StoreUnavailable("upload is broken")
        try:
            self._upload.write(sealed)
        except BaseException:
            self._broken = True
            raise

    def abort(self) -> None:
        self._upload.abort()
