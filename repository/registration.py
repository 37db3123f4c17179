"""From a judged submission to a registered one, crash by crash.

The order of what becomes durable: rows PENDING → objects → ITI-42 → rows AVAILABLE with the audit records, one commit →
the answer. Whatever dies in between, the question that settles it is asked of the registry: is this submission set
there? The registry never commits later than ``max_registration_s`` after it got a request, so a "no" is final once
``resolution.window`` has passed since ``Submission.since``; until then it is no answer, and everything is kept.

Every attempt to register a submission (a source that sends it again) has rows and objects of its own. So an attempt may
remove what it wrote without looking who else is at work, and the first whose registration is known wins.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from atna.message import Outcome
from ihe import vocabulary as v
from ihe.ebrs import RegistryResponse, registry_response
from ihe.errors import ErrorCode, RegistryError, Rejected, Severity
from ihe.xua import Caller
from repository.reading import verified
from repository.resolution import SEND_WITHIN, Resolution, finish, holds_set, is_ours, registered, resolve
from repository.room import AnswerLost, Refused, Room, StagedDocument, TooManyUploads, Unreachable
from repository.store.protocol import (
    Damaged,
    Document,
    KeyMissing,
    ObjectMissing,
    State,
    StoreUnavailable,
    Submission,
    Superseded,
)

__all__ = ["Answer", "Filing", "Incoming", "out_of_room", "register"]

TURNS: Final = 4
SEND_AGAIN: Final = "outcome unknown, send the same submission again"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Incoming:
    """A document and where its bytes are: ``data`` in memory, or ``staged`` in the store.

    A second entry with the same staged bytes gets a copy: its ``document`` has a key of its own.
    """

    document: Document
    data: bytes | None
    staged: StagedDocument | None = None


@dataclass(frozen=True, slots=True)
class Filing:
    """Everything of one request that the protocol needs. ``decision`` is the rule of the access policy."""

    submission: Submission
    incoming: tuple[Incoming, ...]
    xml: bytes
    caller: Caller
    decision: str | None = None
    earlier: Submission | None = None
    """The attempt this one takes the place of; it stands again if this one is refused."""

    @property
    def documents(self) -> tuple[Document, ...]:
        """The rows of this attempt."""
        return tuple(one.document for one in self.incoming)


@dataclass(frozen=True, slots=True)
class Answer:
    """rs:RegistryResponse as bytes, and its errors; no errors of severity Error means Success."""

    body: bytes
    errors: tuple[RegistryError, ...] = ()


def register(room: Room, filing: Filing) -> Answer:
    """Store the documents and register them, or say why not.

    Raises StoreUnavailable when nothing could be begun, Rejected when an earlier submission could not be looked at.
    """
    for _ in range(TURNS):
        standing = room.index.claim(filing.submission, filing.documents)
        if standing is None:
            return _attempt(room, filing)
        try:
            answer = _against(room, filing, standing)
        except StoreUnavailable as error:  # what is kept of the earlier submission stays as it was
            raise Rejected([RegistryError(out_of_room(error).code, f"{error}; {SEND_AGAIN}")]) from error
        if answer is not None:
            return answer
    return _refused(room, filing, [_unknown()])


# ------------------------------------------------------------------------------------- the set id is in use


def _against(room: Room, filing: Filing, standing: Submission) -> Answer | None:
    """What to answer when the submission set's unique id is in use; None: look again."""
    identical = standing.digest == filing.submission.digest
    if standing.state is State.REMOVED:
        return _after_removal(room, filing, standing)
    if standing.state is State.AVAILABLE:
        if identical and room.settings.identical_retry == "accept":
            return _repeated(room, filing, standing)
        return _refused(room, filing, [_duplicate(standing.unique_id)])
    if identical:
        return _retry(room, filing, standing)
    match resolve(room, standing):
        case Resolution.FOUND:
            return _refused(room, filing, [_duplicate(standing.unique_id)])
        case Resolution.ABSENT:
            return None
    text = (
        f"SubmissionSet.uniqueId {standing.unique_id}: outcome of an earlier submission with it is unknown, send again"
    )
    return _refused(room, filing, [RegistryError(ErrorCode.REGISTRY_NOT_AVAILABLE, text)])


def _after_removal(room: Room, filing: Filing, standing: Submission) -> Answer | None:
    """Documents of the submission were removed since, so its answer no longer holds: the registry judges anew.

    It is asked first: while it still has the set, an answer lost on the way would look like a registration of ours.
    """
    asked = room.registry.ask(standing.unique_id, standing.patient_id)
    if asked.objects is None:
        text = "the registry cannot be asked about a submission whose documents were removed; send it again later"
        return _refused(room, filing, [RegistryError(ErrorCode.REGISTRY_NOT_AVAILABLE, text)], also=[asked.record])
    if holds_set(asked.objects, standing.unique_id):
        return _refused(room, filing, [_removed(standing.unique_id)], also=[asked.record])
    room.index.record_alone([asked.record])
    if room.index.claim(filing.submission, filing.documents, replacing=standing) is not None:
        return None
    return _attempt(room, filing)


def _retry(room: Room, filing: Filing, standing: Submission) -> Answer | None:
    """The same submission again, while the outcome of the first is unknown: finish it, or do it again."""
    asked = room.registry.ask(standing.unique_id, standing.patient_id)
    if asked.objects is None:
        return _refused(room, filing, [_unknown()], also=[asked.record])
    if not is_ours(room, standing, asked.objects):
        room.index.record_alone([asked.record])
        return _take_over(room, filing, standing)
    done = finish(room, standing, [asked.record])
    if done is not None:
        return _repeated(room, filing, done)
    # Registered, but no attempt has all its objects: the source has just brought them again.
    return _take_over(room, filing, standing, registered=True)


def _take_over(room: Room, filing: Filing, standing: Submission, *, registered: bool = False) -> Answer | None:
    if room.index.claim(filing.submission, filing.documents, replacing=standing) is not None:
        return None
    filing = replace(filing, earlier=standing)
    if not registered:
        return _attempt(room, filing)
    try:
        _store(room, filing, _Pulse(room, filing.submission))
    except StoreUnavailable as error:
        return _withdraw(room, filing, [out_of_room(error)], sent=False, late=not error.full)
    except Superseded:
        return _withdraw(room, filing, [_unknown()], sent=False)
    return _complete(room, filing, ())


def _repeated(room: Room, filing: Filing, standing: Submission) -> Answer:
    """Answer as the first was answered; this request is an import of its own in the audit trail."""
    if standing.state is State.REMOVED:
        return _refused(room, filing, [_removed(standing.unique_id)])
    room.index.record_alone([_provided(room, filing, Outcome.SUCCESS)])
    return Answer(standing.answer or registry_response(v.SUCCESS))


# ---------------------------------------------------------------------------------------------- one attempt


class _Pulse:
    """Moves ``since`` while an attempt is at work, so that no sweep takes it for one that died; raises Superseded."""

    def __init__(self, room: Room, submission: Submission) -> None:
        self._room: Final = room
        self._submission: Final = submission
        self._last = submission.since

    def beat(self) -> None:
        """Called between any two things that take time, and before ITI-42 is sent."""
        now = self._room.clock()
        if now - self._last > SEND_WITHIN:
            self._room.index.touch(self._submission, now)
            self._last = now


def _attempt(room: Room, filing: Filing) -> Answer:
    pulse = _Pulse(room, filing.submission)
    try:
        _store(room, filing, pulse)
        pulse.beat()
        response = room.registry.register(filing.xml, filing.caller)
    except StoreUnavailable as error:
        return _withdraw(room, filing, [out_of_room(error)], sent=False, late=not error.full)
    except Superseded:
        return _withdraw(room, filing, [_unknown()], sent=False)
    except Unreachable:
        text = "the registry cannot be reached; nothing was kept, send the submission again later"
        return _withdraw(room, filing, [RegistryError(ErrorCode.REGISTRY_NOT_AVAILABLE, text)], sent=True)
    except Refused as error:
        text = f"the registry could not read the submission: {error}"
        return _withdraw(room, filing, [RegistryError(ErrorCode.REPOSITORY_ERROR, text)], sent=True)
    except AnswerLost as error:
        _log.warning("registration of %s: answer lost: %s", filing.submission.unique_id, error)
        return _lost(room, filing)
    if response.status == v.SUCCESS:
        return _complete(room, filing, response.errors)
    duplicate = any(error.code == ErrorCode.DUPLICATE_UNIQUE_ID_IN_REGISTRY for error in response.errors)
    if duplicate and (filing.earlier is not None or _came_again(room, filing)):
        # The other attempt may have been the one that the registry took.
        return _lost(room, filing, refused=list(response.errors))
    return _withdraw(room, filing, _passed_on(response), sent=True)


def _came_again(room: Room, filing: Filing) -> bool:
    """Whether the same submission took the place of this one meanwhile, and is not through yet."""
    mine = filing.submission
    try:
        standing = room.index.submission(mine.unique_id)
    except StoreUnavailable:  # the withdrawal finds the same, and leaves the rest to the sweep
        return False
    return (
        standing is not None
        and standing.state is State.PENDING
        and standing.attempt != mine.attempt
        and standing.digest == mine.digest
    )


def _passed_on(response: RegistryResponse) -> list[RegistryError]:
    """Errors and warnings as the registry gave them; a Failure without any gets one, the answer needs it."""
    if any(error.severity is Severity.ERROR for error in response.errors):
        return list(response.errors)
    text = "the registry answered Failure without saying why"
    return [*response.errors, RegistryError(ErrorCode.REPOSITORY_ERROR, text)]


def _store(room: Room, filing: Filing, pulse: _Pulse) -> None:
    """Write every object that is not in the store already; durable when it returns."""
    for one in filing.incoming:
        if one.staged is not None:
            one.staged.adopted = True
    for one in filing.incoming:
        if one.staged is None or one.staged.key != one.document.object_key:
            pulse.beat()
            upload = room.vault.begin(one.document.object_key, one.document.envelope)
            try:
                for block in _blocks(room, one):
                    upload.write(block)
                    pulse.beat()
                upload.finish()
            except BaseException:
                upload.abort()
                raise


def _blocks(room: Room, one: Incoming) -> Iterator[bytes]:
    return room.blocks(one.data, None) if one.staged is None else _copied(room, one.staged, one.document)


def _copied(room: Room, staged: StagedDocument, document: Document) -> Iterator[bytes]:
    """The uploaded bytes once more. What was read is compared with what had arrived: nobody looks at a copy again."""
    uploaded = replace(document, object_key=staged.key, envelope=staged.envelope)
    try:
        yield from verified(room.vault, uploaded)
    except (ObjectMissing, Damaged, KeyMissing) as error:
        raise StoreUnavailable("an uploaded document cannot be read back from the store") from error


def _complete(room: Room, filing: Filing, warnings: Sequence[RegistryError], also: Sequence[bytes] = ()) -> Answer:
    """Everything is registered: say so in one commit with the audit records."""
    body = registry_response(v.SUCCESS, warnings)
    messages = [*also, _provided(room, filing, Outcome.SUCCESS), registered(room, filing.submission, Outcome.SUCCESS)]
    try:
        standing = room.index.complete(filing.submission, body, [], room.clock(), anyway=messages)
    except (StoreUnavailable, Superseded) as error:
        _log.exception("registered, but the index of documents could not say so")
        code = ErrorCode.REPOSITORY_OUT_OF_RESOURCES if _is_full(error) else ErrorCode.REPOSITORY_ERROR
        return _failure([RegistryError(code, f"registered, but not yet available here; {SEND_AGAIN}")])
    if standing.attempt != filing.submission.attempt:
        return _superseded(room, filing, standing)
    if standing.state is State.REMOVED:
        return _repeated(room, filing, standing)
    return Answer(body, tuple(warnings))


def _superseded(room: Room, filing: Filing, standing: Submission) -> Answer:
    """Another attempt at the same submission was quicker: ours goes, its answer is ours."""
    gone = room.remove([document.object_key for document in filing.documents])
    try:
        room.index.abandon(filing.submission, [], left_at=None if gone else room.clock())
    except StoreUnavailable as error:
        _log.error("rows of a superseded attempt could not be removed, the sweep will do it: %s", error)
    return Answer(standing.answer or registry_response(v.SUCCESS))


def _lost(room: Room, filing: Filing, refused: list[RegistryError] | None = None) -> Answer:
    """Ask at once. A "no" now is final only when the registry has ``refused`` this very attempt."""
    submission = filing.submission
    try:
        asked = room.registry.ask(submission.unique_id, submission.patient_id)
        if asked.objects is not None and is_ours(room, submission, asked.objects):
            _log.info("submission %s was found in the registry", submission.unique_id)
            return _complete(room, filing, (), [asked.record])
        if refused is not None and asked.objects is not None:
            return _withdraw(room, filing, refused, sent=True, also=[asked.record])
        messages = [
            asked.record,
            _provided(room, filing, Outcome.SERIOUS_FAILURE, _codes([_unknown()])),
            registered(room, submission, Outcome.MAJOR_FAILURE),
        ]
        room.index.told(submission, messages)
    except StoreUnavailable as error:
        _log.error("a submission without an outcome is left to the sweep: %s", error)
    return _failure([_unknown()])


def _withdraw(
    room: Room,
    filing: Filing,
    errors: list[RegistryError],
    *,
    sent: bool,
    also: Sequence[bytes] = (),
    late: bool = False,
) -> Answer:
    """Nothing of this attempt is registered, for certain: remove objects, then rows, and answer the errors.

    ``late``: the store did not answer, so an object may still appear; rows stay for the sweep, as REMOVING.
    """
    reason = _codes(errors)
    messages = [*also, _provided(room, filing, Outcome.SERIOUS_FAILURE, reason)]
    if sent:
        messages.append(registered(room, filing.submission, Outcome.SERIOUS_FAILURE, reason))
    gone = room.remove([document.object_key for document in filing.documents])
    left_at = None if gone and not late else room.clock()
    try:
        standing = room.index.abandon(filing.submission, messages, earlier=filing.earlier, left_at=left_at)
    except StoreUnavailable as error:
        _log.error("rows of a refused submission could not be removed, the sweep will do it: %s", error)
        return _failure(errors)
    if standing is not None and standing.state is State.AVAILABLE and standing.digest == filing.submission.digest:
        return Answer(standing.answer or registry_response(v.SUCCESS))
    return _failure(errors)


# ---------------------------------------------------------------------------------------- errors and records


def out_of_room(error: StoreUnavailable) -> RegistryError:
    """The error a source is told when store or database refuse, or there is too much to do."""
    code = ErrorCode.REPOSITORY_OUT_OF_RESOURCES if error.full else ErrorCode.REPOSITORY_ERROR
    if isinstance(error, TooManyUploads):
        code = ErrorCode.REPOSITORY_BUSY
    return RegistryError(code, f"{error}; nothing was kept")


def _is_full(error: Exception) -> bool:
    return isinstance(error, StoreUnavailable) and error.full


def _unknown() -> RegistryError:
    return RegistryError(ErrorCode.REGISTRY_NOT_AVAILABLE, SEND_AGAIN)


def _duplicate(unique_id: str) -> RegistryError:
    text = f"SubmissionSet.uniqueId {unique_id} was used by an earlier submission"
    return RegistryError(ErrorCode.DUPLICATE_UNIQUE_ID_IN_REGISTRY, text)


def _removed(unique_id: str) -> RegistryError:
    text = (
        f"SubmissionSet.uniqueId {unique_id} was used by an earlier submission, of which documents were removed; "
        "once its metadata is removed too (ITI-62) the submission is judged anew"
    )
    return RegistryError(ErrorCode.DUPLICATE_UNIQUE_ID_IN_REGISTRY, text)


def _codes(errors: Sequence[RegistryError]) -> str:
    return ",".join(sorted({str(error.code) for error in errors}))


def _failure(errors: Sequence[RegistryError]) -> Answer:
    return Answer(registry_response(v.FAILURE, errors), tuple(errors))


def _refused(room: Room, filing: Filing, errors: list[RegistryError], also: Sequence[bytes] = ()) -> Answer:
    """A refusal that leaves what stands alone; its records are committed by themselves."""
    room.index.record_alone([*also, _provided(room, filing, Outcome.SERIOUS_FAILURE, _codes(errors))])
    return _failure(errors)


def _provided(room: Room, filing: Filing, outcome: Outcome, reason: str | None = None) -> bytes:
    return room.records.provided(
        filing.submission.origin,
        patient_id=filing.submission.patient_id,
        submission_set_id=filing.submission.unique_id,
        outcome=outcome,
        reason=reason,
        decision=filing.decision,
    )
