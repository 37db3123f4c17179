"""Data keys wrapped anew under the current key-encryption key; no document is touched, and services may run meanwhile.

What is wrapped under the current key is not looked at, so a rotation that was broken off goes on where it stopped.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from repository.store.protocol import Damaged, DocumentIndex, Envelope, KeyMissing, Keyring

__all__ = ["Rotation", "rotate"]

BATCH: Final = 500


@dataclass(frozen=True, slots=True)
class Rotation:
    """What one rotation did; counts of data keys.

    current   name of the key they are wrapped under now
    wrapped   wrapped anew
    missing   left as they were, since their key is not at hand: by its name
    damaged   object keys whose data key could not be opened by the key it names
    """

    current: str
    wrapped: int = 0
    missing: dict[str, int] = field(default_factory=dict)
    damaged: tuple[str, ...] = ()


def rotate(index: DocumentIndex, keyring: Keyring) -> Rotation:
    """Wrap every data key that is under another key. Raises StoreUnavailable; what was done stays done."""
    current, after, wrapped = keyring.current, "", 0
    missing: Counter[str] = Counter()
    damaged: list[str] = []
    while batch := index.sealed_otherwise(current, after, BATCH):
        changes: list[tuple[str, Envelope, Envelope]] = []
        for object_key, envelope in batch:
            try:
                changes.append((object_key, envelope, keyring.wrap(keyring.unwrap(envelope, object_key), object_key)))
            except KeyMissing:
                missing[envelope.kek] += 1
            except Damaged:
                damaged.append(object_key)
        wrapped += index.rewrap(changes)
        after = batch[-1][0]
    return Rotation(current, wrapped, dict(missing), tuple(damaged))
