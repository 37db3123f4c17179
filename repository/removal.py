"""How documents end, whoever decides it (ITI-86, a retention rule), crash by crash.

The order of what becomes durable: rows REMOVING, keys destroyed, submissions REMOVED and the audit records, one commit
→ objects deleted → rows forgotten. From the commit on nobody is given the document; whatever dies after it is finished
by the sweep, which deletes the object of every row REMOVING.
"""

import logging
from collections.abc import Iterable, Sequence

from atna.participants import DocumentReference
from repository.room import Room
from repository.store.protocol import Document, StoreUnavailable

__all__ = ["by_patient", "references", "take_away"]

_log = logging.getLogger(__name__)


def by_patient(documents: Iterable[Document]) -> dict[str | None, list[str]]:
    """Unique ids by the patient their first copy was stored with."""
    first: dict[str, str | None] = {}
    for document in documents:
        first.setdefault(document.unique_id, document.patient_id)
    found: dict[str | None, list[str]] = {}
    for unique_id, patient_id in first.items():
        found.setdefault(patient_id, []).append(unique_id)
    return found


def references(documents: Iterable[Document], repository: str) -> dict[str | None, list[DocumentReference]]:
    """What the audit records of each patient name, each document once."""
    found: dict[str | None, dict[DocumentReference, None]] = {}
    for document in documents:
        found.setdefault(document.patient_id, {})[DocumentReference(document.unique_id, repository)] = None
    return {patient_id: list(named) for patient_id, named in found.items()}


def take_away(room: Room, documents: Sequence[Document], messages: Sequence[bytes]) -> tuple[Document, ...]:
    """Remove documents that are AVAILABLE; gives those whose bytes the store still holds in plain.

    A sealed document is gone with its key, whatever becomes of its object.

    Raises ``Superseded`` when one is not AVAILABLE any more and StoreUnavailable when the index does not take it: then
    nothing was removed (or, where a database died while it answered, everything was, with its records).
    """
    room.index.remove([document.object_key for document in documents], messages, room.clock())
    gone = room.removed(document.object_key for document in documents)
    try:
        room.index.forget(gone)
    except StoreUnavailable as error:
        _log.warning("rows of removed documents are left to the sweep: %s", error)
    deleted = frozenset(gone)
    return tuple(one for one in documents if one.object_key not in deleted and one.envelope is None)
