"""Emergency accesses of a search: looked for in the records themselves, the newest first, as far as a bound allows."""

from dataclasses import dataclass
from typing import Final

from atna.record_repository.page.lines import is_emergency, message_of
from atna.record_repository.store.protocol import Criteria, Records, Stored

__all__ = ["Emergencies", "emergencies"]

CHUNK: Final = 500
MAX_LOOKED_THROUGH: Final = 20_000
_MARK: Final = b"PurposeOfUse"


@dataclass(frozen=True, slots=True)
class Emergencies:
    """The newest of them, how many there are, and whether every record of the search was looked through."""

    newest: tuple[Stored, ...]
    total: int
    complete: bool


def emergencies(records: Records, criteria: Criteria, *, newest: int, most: int = MAX_LOOKED_THROUGH) -> Emergencies:
    """Look through the newest ``most`` records of the search."""
    found: list[Stored] = []
    total, after, left = 0, None, most
    while left > 0:
        limit = min(CHUNK, left)
        chunk = records.find(criteria, limit=limit, after=after)
        ones = [stored for stored in chunk if _is_one(stored)]
        total += len(ones)
        found += ones[: newest - len(found)]
        if len(chunk) < limit:
            return Emergencies(tuple(found), total, complete=True)
        left, after = left - limit, chunk[-1].cursor
    return Emergencies(tuple(found), total, complete=not records.find(criteria, limit=1, after=after))


def _is_one(stored: Stored) -> bool:
    if _MARK not in stored.message:
        return False
    message = message_of(stored)
    return message is not None and is_emergency(message)
