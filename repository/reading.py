"""A document as it was provided, or none: what is read back is checked against the size and hash of its row."""

import hashlib
from collections.abc import Iterator

from repository.store.protocol import Damaged, Document
from repository.store.vault import Vault

__all__ = ["is_there", "verified"]


def verified(vault: Vault, document: Document) -> Iterator[bytes]:
    """The document's blocks, the last one only if size and SHA-1 of all are right.

    Raises Damaged, ObjectMissing, KeyMissing, StoreUnavailable; for the first block before any is given out.
    """
    sha1, size, held = hashlib.sha1(usedforsecurity=False), 0, b""
    for block in vault.open(document.object_key, document.envelope):
        if held:
            yield held
        sha1.update(block)
        size += len(block)
        if size > document.size:  # nothing that follows could make it right
            break
        held = block
    if size != document.size or sha1.hexdigest() != document.hash:
        raise Damaged("size or hash of the document")
    if held:
        yield held


def is_there(vault: Vault, document: Document) -> bool:
    """Whether there is an object of the right size. Raises StoreUnavailable."""
    return vault.size(document.object_key, document.envelope) == document.size
