"""How long one piece of work goes on asking a document store that does not answer."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from repository.store.protocol import ObjectLocked, StoreUnavailable

__all__ = ["MOST_UNANSWERED", "Patience"]

MOST_UNANSWERED: Final = 3
"""So many questions without an answer: whoever was asked is away, and nobody waits for each of a thousand objects."""

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Patience:
    """Of one request or one sweep; what it leaves undone the next sweep does."""

    unanswered: int = 0

    @property
    def over(self) -> bool:
        return self.unanswered >= MOST_UNANSWERED

    def deleted(self, delete: Callable[[], object], key: str) -> bool:
        """Whether the object is gone. A lock is an answer: what is kept by one holds up no other."""
        if self.over:
            return False
        try:
            delete()
        except ObjectLocked as error:
            _log.warning("object %s stays for now: %s", key, error)
        except StoreUnavailable as error:
            _log.warning("object %s could not be deleted: %s", key, error)
            self.unanswered += 1
        else:
            return True
        return False
