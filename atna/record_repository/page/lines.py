"""A record as one line of a list: when, what, with which outcome, who, about whom. Pure."""

from dataclasses import dataclass
from typing import Final

from atna.iti20_record_audit_event import SyslogError
from atna.message import AuditMessage, CodedValue, Participant, UnreadableError
from atna.record_repository.indexing import parse_patient, read
from atna.record_repository.page.codes import EMERGENCY
from atna.record_repository.page.languages import Texts
from atna.record_repository.page.shown import bounded, visible
from atna.record_repository.store.protocol import Stored
from atna.vocabulary import PERSON, ROLE_PATIENT

__all__ = ["Line", "OutcomeShown", "code_name", "is_emergency", "line", "message_of", "outcome_shown"]

MAX_READ_BYTES: Final = 4 * 2**20
"""A larger message is not read for a list: one line of it must not cost what the whole page may."""

MAX_SHOWN: Final = 3
LONGEST: Final = 120


@dataclass(frozen=True, slots=True)
class OutcomeShown:
    """``kind``: success, failed or unknown; ``symbol`` tells it without colour, ``text`` without a symbol."""

    kind: str
    symbol: str
    text: str


@dataclass(frozen=True, slots=True)
class Line:
    """One record in a list. ``code`` is the transaction or event, ``note`` what there is to say
    instead of content. ``patients`` are (id, authority).
    """

    number: int
    time: str
    event: str
    code: str
    action: str
    outcome: OutcomeShown
    purposes: tuple[str, ...] = ()
    who: tuple[str, ...] = ()
    patients: tuple[tuple[str, str], ...] = ()
    source: str = ""
    note: str = ""


def message_of(stored: Stored) -> AuditMessage | None:
    """The audit message of a record; ``None`` when it cannot be read."""
    if not stored.readable:
        return None
    try:
        return read(stored.message)
    except (SyslogError, UnreadableError):  # it was readable when it came; a check of the log tells what happened
        return None


def line(stored: Stored, texts: Texts) -> Line:
    """One record in a list."""
    time = texts.moment(stored.event_at or stored.received_at)
    unknown = outcome_shown(None, texts)
    if len(stored.message) > MAX_READ_BYTES:
        return Line(stored.number, time, texts("results.large"), "", "", unknown, note=texts("results.large"))
    message = message_of(stored)
    if message is None:
        return Line(stored.number, time, texts("results.unreadable"), "", "", unknown, note=texts("results.unreadable"))
    event = message.event
    code = event.type_codes[0] if event.type_codes else event.event_id
    purposes = [texts.named("purpose", purpose.code, purpose.text) for purpose in event.purposes_of_use]
    return Line(
        number=stored.number,
        time=time,
        event=_short(code_name(code, texts)),
        code=_short(code.code),
        action=texts.named("action", event.action) if event.action else "",
        outcome=outcome_shown(event.outcome, texts),
        purposes=tuple(_short(purpose) for purpose in purposes) if is_emergency(message) else (),
        who=_several([_called(participant) for participant in _askers(message)], texts),
        patients=_patients(message, texts),
        source=_short(message.source.source_id) if message.source is not None else "",
    )


def is_emergency(message: AuditMessage) -> bool:
    """Whether a purpose of use says that it was an emergency access."""
    return any(purpose.code in EMERGENCY for purpose in message.event.purposes_of_use)


def outcome_shown(outcome: int | None, texts: Texts) -> OutcomeShown:
    """An EventOutcomeIndicator for people."""
    if outcome is None:
        return OutcomeShown("unknown", "?", texts("outcome.unknown"))
    text = texts.named("outcome", outcome)
    return OutcomeShown("success", "✓", text) if outcome == 0 else OutcomeShown("failed", "✕", text)


def code_name(code: CodedValue, texts: Texts) -> str:
    """What a code is called in the language, else in the record."""
    return texts.named(f"code.{code.system}", code.code, code.display or code.text)


def _askers(message: AuditMessage) -> list[Participant]:
    """Who asked: a person where one is named, else the nodes that say they did."""
    asked = [participant for participant in message.participants if participant.is_requestor]
    people = [participant for participant in asked if participant.network_id is None]
    return people or asked


def _called(participant: Participant) -> str:
    return participant.user_name or participant.user_id or participant.network_id or ""


def _patients(message: AuditMessage, texts: Texts) -> tuple[tuple[str, str], ...]:
    """(id, authority) of the first few, each once; the last says how many more there are."""
    ids = [item.id for item in message.objects if (item.type_code, item.role) == (PERSON, ROLE_PATIENT) and item.id]
    each = [parse_patient(id_) for id_ in dict.fromkeys(ids)]
    shown = tuple((_short(patient.id), _short(patient.authority or "")) for patient in each[:MAX_SHOWN])
    return (*shown, (_more(len(each) - MAX_SHOWN, texts), "")) if len(each) > MAX_SHOWN else shown


def _several(values: list[str], texts: Texts) -> tuple[str, ...]:
    """The first few, each once, and how many more there are."""
    each = list(dict.fromkeys(value for value in values if value))
    shown = tuple(_short(value) for value in each[:MAX_SHOWN])
    return (*shown, _more(len(each) - MAX_SHOWN, texts)) if len(each) > MAX_SHOWN else shown


def _more(count: int, texts: Texts) -> str:
    return texts("results.more", count=texts.number(count))


def _short(text: str) -> str:
    return bounded(visible(text), LONGEST)
