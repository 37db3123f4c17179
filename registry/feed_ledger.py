"""What both patient identity feeds do alike: take a message once, keep its answer with its records, forget old ones."""

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final

import structlog

from atna.message import AuditMessage
from atna.recorder import Recorder
from ihe.hl7v2 import AckCode, ErrorCode, Problem
from registry.store.patient_protocol import FeedMessageKey, FeedUnitOfWork, PatientStore
from registry.store.protocol import LostRace, StoreUnavailable

__all__ = ["FORGET_EVERY_S", "PATIENCE_S", "FeedLedger", "unavailable"]

_log = structlog.get_logger(__name__)

PATIENCE_S: Final = 10.0
"""How long a message that keeps losing races is tried again; its sender waits meanwhile."""
FORGET_EVERY_S: Final = 3600.0

Write = Callable[[FeedUnitOfWork, str], Sequence[AuditMessage]]
"""Does what a message asks, at a time of 14 digits; gives the audit records of what was done."""


class FeedLedger:
    """The store as a feed uses it. Thread safe.

    ``now`` gives seconds since 1970. ``answer_days``: how long answers are kept for repetitions.
    """

    def __init__(self, store: PatientStore, recorder: Recorder, now: Callable[[], float], answer_days: int) -> None:
        self._store = store
        self._recorder = recorder
        self._now = now
        self._answer_days = answer_days
        self._forget_at = 0.0

    def admit(self) -> None:
        """Raise StoreUnavailable where nothing more can be put on record."""
        if self._store.busy():
            raise StoreUnavailable("too many audit records wait to be delivered")

    def sent(self) -> str:
        """Now, as HL7 writes it in an answer."""
        return _digits(self._now()) + "+0000"

    def take(self, key: FeedMessageKey, answer: bytes, write: Write) -> bytes:
        """Write, remember and record in one transaction, run again while others are quicker; gives what is answered.

        A message that was taken before changes nothing and gets the answer it got then.
        """
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                with self._store.unit_of_work() as work:
                    earlier = work.answer_to(key)
                    if earlier is not None:
                        return earlier
                    now = _digits(self._now())
                    records = write(work, now)
                    work.remember(key, answer, now)
                    work.record([self._recorder.record(message) for message in records])
            except LostRace as error:
                if time.monotonic() > deadline:
                    raise StoreUnavailable("others write the same patients at the same time") from error
                continue
            return answer

    def put_on_record(self, messages: Sequence[AuditMessage]) -> None:
        """Record a message that changed nothing."""
        self._store.record_alone([self._recorder.record(message) for message in messages])

    def forget_old_answers(self) -> None:
        """Once an hour, after a message was answered."""
        now = self._now()
        if now < self._forget_at:
            return
        self._forget_at = now + FORGET_EVERY_S
        try:
            self._store.forget_answers(_digits(now - self._answer_days * 86_400))
        except (LostRace, StoreUnavailable) as error:  # the message itself is safe; the next hour tries again
            _log.warning("old feed answers not removed", reason=str(error))


def unavailable(error: StoreUnavailable) -> Problem:
    """What a sender is told of a store that takes nothing now."""
    reason = "no room is left in the database" if error.full else "the registry can't store now"
    text = f"{reason}; nothing was kept, send the message again"
    return Problem(AckCode.ERROR, ErrorCode.APPLICATION_INTERNAL_ERROR, text)


def _digits(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y%m%d%H%M%S")
