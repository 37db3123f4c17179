"""How documents end, whoever decides it (ITI-86, a retention rule), crash by crash.

The order of what becomes durable: rows REMOVING, keys destroyed, submissions REMOVED and the audit records, one commit
→ objects deleted → rows forgotten. From the commit on nobody is given the document; whatever dies after it is finished
by the sweep, which deletes the object of every row REMOVING.
"""

import logging
from collections.abc import Sequence

from repository.room import Room
from repository.store.protocol import Document, StoreUnavailable

__all__ = ["take_away"]

_log = logging.getLogger(__name__)


def take_away(room: Room, documents: Sequence[Document], messages: Sequence[bytes]) -> tuple[Document, ...]:
    """Remove documents that are AVAILABLE; gives those whose bytes the store still holds, readable for who reads it.

    Raises ``Superseded`` when one is not AVAILABLE any more and StoreUnavailable when the index does not take it: then
    nothing was removed (or, where a database died while it answered, everything was, with its records).
    """
    room.index.remove([document.object_key for document in documents], messages, room.clock())
    gone = [document for document in documents if room.remove([document.object_key])]
    try:
        room.index.forget([document.object_key for document in gone])
    except StoreUnavailable as error:
        _log.warning("rows of removed documents are left to the sweep: %s", error)
    held = {document.object_key for document in gone}
    return tuple(document for document in documents if document.object_key not in held)
