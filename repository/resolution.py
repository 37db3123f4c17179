"""What became of a submission whose outcome is unknown: the registry is asked, never guessed at.

A "no" of the registry is final once ``window`` has passed since ``Submission.since``: it never commits later.
"""

import logging
from collections.abc import Sequence
from dataclasses import replace
from enum import StrEnum
from typing import Final

from atna.message import Outcome
from ihe import vocabulary as v
from ihe.datatypes import normalise_oid
from ihe.ebrs import registry_response
from ihe.registry_objects import Kind, RegistryObject
from repository.reading import is_there
from repository.room import Room
from repository.store.protocol import Document, State, Submission

__all__ = ["SEND_WITHIN", "Resolution", "finish", "holds_set", "is_ours", "registered", "resolve", "window"]

SEND_WITHIN: Final = 5_000_000
"""ITI-42 is sent at most this long after ``Submission.since``, else ``since`` is moved first (microseconds)."""
MARGIN: Final = 5_000_000
"""For what lies between our sending and the registry's clock: connection, TLS, its queue (microseconds)."""

_log = logging.getLogger(__name__)


class Resolution(StrEnum):
    """What became of a submission whose outcome was unknown.

    FOUND     the registry has it; its documents are AVAILABLE now
    ABSENT    the registry does not have it and never will; everything of it is removed
    UNKNOWN   the registry does not say, or could still commit it
    DAMAGED   the registry has it, but no attempt has all its objects in the store
    """

    FOUND = "found"
    ABSENT = "absent"
    UNKNOWN = "unknown"
    DAMAGED = "damaged"


def window(room: Room) -> int:
    """Microseconds after ``Submission.since`` from which on a "not there" of the registry is final."""
    return int(room.settings.max_registration_s * 1_000_000) + SEND_WITHIN + MARGIN


def resolve(room: Room, standing: Submission) -> Resolution:
    """Ask the registry about a PENDING submission and act on the answer."""
    asked = room.registry.ask(standing.unique_id, standing.patient_id)
    if asked.objects is None:
        room.index.record_alone([asked.record])
        return Resolution.UNKNOWN
    if is_ours(room, standing, asked.objects):
        done = finish(room, standing, [asked.record])
        return Resolution.DAMAGED if done is None else Resolution.FOUND
    if room.clock() - standing.since < window(room):
        room.index.record_alone([asked.record])
        return Resolution.UNKNOWN
    messages = [asked.record]
    if not standing.told:  # nobody lived to write what became of the request
        messages.append(_provided_later(room, standing, Outcome.SERIOUS_FAILURE))
        messages.append(registered(room, standing, Outcome.SERIOUS_FAILURE))
    keys = [document.object_key for document in _waiting(room, standing)]
    if not room.index.release(standing, messages):
        return Resolution.UNKNOWN
    if room.remove(keys):
        room.index.forget(keys)
    return Resolution.ABSENT


def finish(room: Room, standing: Submission, messages: Sequence[bytes]) -> Submission | None:
    """The registry has it: the first attempt with all its objects becomes AVAILABLE; None if there is none."""
    attempt = _whole_attempt(room, standing)
    if attempt is None:
        _log.error("submission %s is registered, but its documents are not in the store", standing.unique_id)
        room.index.record_alone(messages)
        return None
    late = [_provided_later(room, standing, Outcome.SUCCESS), registered(room, standing, Outcome.SUCCESS)]
    winner = replace(standing, attempt=attempt)
    body = registry_response(v.SUCCESS)
    return room.index.complete(winner, body, late, room.clock(), anyway=messages)


def _whole_attempt(room: Room, standing: Submission) -> str | None:
    attempts: dict[str, list[Document]] = {standing.attempt: []}
    for document in _waiting(room, standing):
        attempts.setdefault(document.attempt, []).append(document)
    most = max(len(rows) for rows in attempts.values())
    for attempt, rows in attempts.items():
        if len(rows) == most and all(is_there(room.vault, row) for row in rows):
            return attempt
    return None


def holds_set(objects: Sequence[RegistryObject], unique_id: str) -> bool:
    """Whether a SubmissionSet of this unique id is among the objects."""
    sets = (o for o in objects if o.kind is Kind.SUBMISSION_SET)
    return any((o.identifier(v.SUBMISSION_SET_UNIQUE_ID) or "").strip() == unique_id for o in sets)


def is_ours(room: Room, standing: Submission, objects: Sequence[RegistryObject]) -> bool:
    """Whether what the registry holds under the set id is this submission: each document, with its hash, from here."""
    if not holds_set(objects, standing.unique_id):
        return False
    held = {
        (
            (o.identifier(v.ENTRY_UNIQUE_ID) or "").strip(),
            _alike(o.slot("hash")).lower(),
            normalise_oid(_alike(o.slot("repositoryUniqueId"))),
        )
        for o in objects
        if o.kind is Kind.DOCUMENT_ENTRY
    }
    rows = _waiting(room, standing)
    return all((row.unique_id, row.hash, room.settings.unique_id) in held for row in rows)


def _alike(values: Sequence[str] | None) -> str:
    """What stands in a slot, however a source wrote it (blanks, a value twice) and a registry left it."""
    return " ".join(dict.fromkeys(value.strip() for value in values or () if value.strip()))


def _waiting(room: Room, standing: Submission) -> tuple[Document, ...]:
    """Documents of a PENDING submission, of every attempt.

    Under the same set id others may be AVAILABLE: what ITI-86 left of a submission whose metadata is gone since, and
    the registry need not know them any more.
    """
    rows = room.index.documents_of(standing.unique_id)
    return tuple(document for document in rows if document.state is State.PENDING)


def _provided_later(room: Room, standing: Submission, outcome: Outcome) -> bytes:
    return room.records.provided(
        standing.origin, patient_id=standing.patient_id, submission_set_id=standing.unique_id, outcome=outcome
    )


def registered(room: Room, submission: Submission, outcome: Outcome, reason: str | None = None) -> bytes:
    """The record of ITI-42 for this submission."""
    return room.records.registered(
        patient_id=submission.patient_id, submission_set_id=submission.unique_id, outcome=outcome, reason=reason
    )
