"""One record in full, as lists of facts: what happened, where it stands, who took part, what it was about. Pure."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC
from typing import Final

from atna.iti20_record_audit_event import SyslogError, decode_message
from atna.message import AuditMessage, CodedValue, Participant, ParticipantObject
from atna.record_repository.page.languages import Texts, moment_of
from atna.record_repository.page.lines import OutcomeShown, code_name, is_emergency, message_of, outcome_shown
from atna.record_repository.page.shown import bounded, decoded, detail_text, visible
from atna.record_repository.store.overview import Place
from atna.record_repository.store.protocol import Stored
from atna.recorder import ENVIRONMENT_SYSTEM

__all__ = ["Fact", "RecordShown", "record_shown"]

MAX_ITEMS: Final = 200
MAX_VALUE: Final = 16 * 1024
MAX_RAW: Final = 64 * 1024
MAX_TITLE: Final = 200


@dataclass(frozen=True, slots=True)
class Fact:
    """``values`` under a ``label``; ``block``: text of several lines, shown as it stands; ``code``: no prose."""

    label: str
    values: tuple[str, ...]
    code: bool = False
    block: bool = False


@dataclass(frozen=True, slots=True)
class RecordShown:
    """The whole page of a record; lists are empty for one that cannot be read."""

    number: int
    readable: bool
    follows: bool
    title: str
    outcome: OutcomeShown
    emergency: bool
    event: tuple[Fact, ...]
    place: tuple[Fact, ...]
    source: tuple[Fact, ...]
    participants: tuple[tuple[Fact, ...], ...]
    objects: tuple[tuple[Fact, ...], ...]
    syslog: tuple[Fact, ...]
    raw: str
    size: int
    shown: int
    more_participants: int
    more_objects: int


def record_shown(stored: Stored, place: Place, texts: Texts) -> RecordShown:
    """Everything that the log knows of a record."""
    message = message_of(stored)
    event = message.event if message is not None else None
    participants = message.participants if message is not None else ()
    objects = message.objects if message is not None else ()
    first = (event.type_codes[0] if event.type_codes else event.event_id) if event is not None else None
    return RecordShown(
        number=stored.number,
        readable=message is not None,
        follows=place.follows,
        title=bounded(visible(code_name(first, texts)), MAX_TITLE)
        if first is not None
        else texts("results.unreadable"),
        outcome=outcome_shown(event.outcome if event is not None else None, texts),
        emergency=message is not None and is_emergency(message),
        event=tuple(_event(message, stored, texts)) if message is not None else _times(stored.event_at, texts),
        place=tuple(_place(place, texts)),
        source=tuple(_source(message, texts)) if message is not None else (),
        participants=tuple(tuple(_participant(each, texts)) for each in participants[:MAX_ITEMS]),
        objects=tuple(tuple(_object(each, texts)) for each in objects[:MAX_ITEMS]),
        syslog=tuple(_syslog(stored.message, texts)),
        raw=decoded(stored.message[:MAX_RAW]),
        size=len(stored.message),
        shown=min(len(stored.message), MAX_RAW),
        more_participants=max(0, len(participants) - MAX_ITEMS),
        more_objects=max(0, len(objects) - MAX_ITEMS),
    )


def _event(message: AuditMessage, stored: Stored, texts: Texts) -> Iterator[Fact]:
    event = message.event
    yield from _fact(texts("fact.event"), [_coded(event.event_id, texts)])
    yield from _fact(texts("fact.type"), [_coded(code, texts) for code in event.type_codes])
    yield from _number(texts("fact.action"), "action", event.action, texts)
    yield from _number(texts("fact.outcome"), "outcome", event.outcome, texts)
    yield from _fact(texts("fact.description"), [event.outcome_description])
    yield from _fact(texts("fact.purpose"), [_purpose(code, texts) for code in event.purposes_of_use])
    yield from _times(stored.event_at, texts)


def _times(microseconds: int, texts: Texts) -> tuple[Fact, ...]:
    if not microseconds:
        return ()
    utc = moment_of(microseconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    return (
        Fact(texts("fact.time"), (texts.moment(microseconds),)),
        Fact(texts("fact.time_utc"), (utc,), code=True),
    )


def _place(place: Place, texts: Texts) -> Iterator[Fact]:
    yield Fact(texts("fact.number"), (texts.number(place.number),))
    yield Fact(texts("fact.received"), (texts.moment(place.received_at),))
    yield from _fact(texts("fact.via"), [place.via])
    yield from _fact(texts("fact.partition"), [place.partition])
    again = texts.counted("fact.times", place.repeats) if place.repeats else texts("fact.never")
    yield Fact(texts("fact.repeats"), (again,))
    yield Fact(texts("fact.state"), (texts("fact.follows" if place.follows else "fact.broken"),))
    yield Fact(texts("fact.sha256"), (place.sha256.hex(),), code=True)
    yield Fact(texts("fact.link"), (place.link.hex(),), code=True)


def _source(message: AuditMessage, texts: Texts) -> Iterator[Fact]:
    source = message.source
    if source is None:
        return
    yield from _fact(texts("fact.source"), [source.source_id], code=True)
    yield from _fact(texts("fact.site"), [source.enterprise_site_id], code=True)
    kinds = [code for code in source.type_codes if code.system != ENVIRONMENT_SYSTEM]
    yield from _fact(texts("fact.source_type"), [_source_type(code, texts) for code in kinds])
    environments = [code_name(code, texts) for code in source.type_codes if code.system == ENVIRONMENT_SYSTEM]
    yield from _fact(texts("fact.environment"), environments)


def _participant(participant: Participant, texts: Texts) -> Iterator[Fact]:
    yield from _fact(texts("fact.name"), [participant.user_name])
    yield from _fact(texts("fact.user"), [participant.user_id], code=True)
    yield from _fact(texts("fact.alternative"), [participant.alternative_user_id], code=True)
    yield Fact(texts("fact.requestor"), (texts("fact.yes" if participant.is_requestor else "fact.no"),))
    yield from _fact(texts("fact.roles"), [_coded(role, texts) for role in participant.roles])
    if participant.network_id is not None:
        kind = participant.network_type
        named = texts.named("network", kind) if kind is not None else ""
        address = f"{participant.network_id} ({named})" if named else participant.network_id
        yield from _fact(texts("fact.network"), [address])


def _object(item: ParticipantObject, texts: Texts) -> Iterator[Fact]:
    yield from _number(texts("fact.object_type"), "object_type", item.type_code, texts)
    yield from _number(texts("fact.object_role"), "object_role", item.role, texts)
    yield from _fact(texts("fact.id"), [item.id], code=True)
    yield from _fact(texts("fact.id_type"), [_coded(item.id_type, texts)] if item.id_type is not None else [])
    yield from _number(texts("fact.life_cycle"), "life_cycle", item.life_cycle, texts)
    yield from _fact(texts("fact.sensitivity"), [item.sensitivity])
    yield from _fact(texts("fact.object_name"), [item.name])
    for detail in item.details[:MAX_ITEMS]:
        text = detail_text(detail.type, detail.value[:MAX_VALUE])
        label = texts.named("detail", detail.type)
        yield _bounded(Fact(bounded(visible(label), 120), (text,), block="\n" in text), len(detail.value), texts)
    if item.query is not None:
        query = Fact(texts("fact.query"), (decoded(item.query[:MAX_VALUE]),), code=True, block=True)
        yield _bounded(query, len(item.query), texts)


def _syslog(data: bytes, texts: Texts) -> Iterator[Fact]:
    try:
        syslog = decode_message(data)
    except SyslogError:
        return
    yield from _fact(texts("fact.sent"), [syslog.timestamp], code=True)
    yield from _fact(texts("fact.host"), [syslog.host], code=True)
    yield from _fact(texts("fact.application"), [syslog.app_name], code=True)
    yield from _fact(texts("fact.process"), [syslog.process_id], code=True)
    yield from _fact(texts("fact.message_id"), [syslog.message_id], code=True)


def _fact(label: str, values: Iterable[str | None], *, code: bool = False) -> Iterator[Fact]:
    """Nothing where there is nothing to tell."""
    given = tuple(bounded(visible(value), MAX_VALUE) for value in values if value)
    if given:
        yield Fact(label, given[:MAX_ITEMS], code=code)


def _number(label: str, group: str, code: int | str | None, texts: Texts) -> Iterator[Fact]:
    if code is not None:
        named = texts.named(group, code, "")
        yield from _fact(label, [f"{named} ({code})" if named else str(code)])


def _coded(code: CodedValue, texts: Texts) -> str:
    name = code_name(code, texts)
    own = ", ".join(part for part in (code.code, code.system) if part)
    return name if name == own else f"{name} ({own})"


def _purpose(code: CodedValue, texts: Texts) -> str:
    name = texts.named("purpose", code.code, code.display or code.text)
    own = ", ".join(part for part in (code.code, code.system) if part)
    return name if name == own else f"{name} ({own})"


def _source_type(code: CodedValue, texts: Texts) -> str:
    return f"{texts.named('source_type', code.code, code.display or code.text)} ({code.code})"


def _bounded(fact: Fact, size: int, texts: Texts) -> Fact:
    """The same, told that it was cut where it was."""
    return fact if size <= MAX_VALUE else Fact(fact.label, (*fact.values, texts("record.cut")), fact.code, block=True)
