"""The search form: what was typed, read into ``Criteria``. Pure; every fault is told at its field.

============  ==================================  ==========================================================
field         value                               compared with
============  ==================================  ==========================================================
from, to      YYYY-MM-DD or YYYY-MM-DDTHH:MM      time of the event, both included; ``to`` may be empty: no end
patient       id, CX, or authority|id             patients of the record
person        text                                UserID, UserName
organisation  text                                AuditSourceID, AuditEnterpriseSiteID, UserID, UserName
event         ``type:…`` or ``event:…``           EventTypeCode, EventID
outcome       ``success``, ``failed`` or empty    0, or one of 4, 8, 12
use           ``emergency`` or empty              PurposeOfUse
after         places joined by commas             where each page before this one ended
============  ==================================  ==========================================================

An unknown field is refused: a filter that is overlooked shows more than was asked for.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final

from atna.record_repository.indexing import Patient, parse_patient
from atna.record_repository.page.codes import EMERGENCY, EVENT_CHOICES
from atna.record_repository.store.protocol import Criteria, Cursor

__all__ = ["EMERGENCIES", "FAILED", "Asked", "Fault", "FormError", "Search", "first_asked", "parse_search", "read_form"]

FAILED: Final = (4, 8, 12)
OUTCOMES: Final = {"": (), "success": (0,), "failed": FAILED}
EMERGENCIES: Final = tuple((code, None) for code in sorted(EMERGENCY))
USES: Final = {"": (), "emergency": EMERGENCIES}
DAYS: Final = 7
MAX_TEXT: Final = 256
MAX_PAGES: Final = 500
YEARS: Final = range(1970, 9999)
_DAY: Final = timedelta(days=1)
_SECOND: Final = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Asked:
    """The form as it was sent; ``""`` for what was left empty."""

    since: str = ""
    until: str = ""
    patient: str = ""
    person: str = ""
    organisation: str = ""
    event: str = ""
    outcome: str = ""
    use: str = ""
    after: str = ""

    def pairs(self, *, place: bool = True) -> list[tuple[str, str]]:
        """(field, value) of all that was given; without ``place`` the search alone, at its first page."""
        return [
            (_NAMES[field.name], getattr(self, field.name))
            for field in fields(self)
            if getattr(self, field.name) and (place or field.name != "after")
        ]

    @property
    def failed_only(self) -> list[tuple[str, str]]:
        """The pairs of the same search for what was refused or failed."""
        return replace(self, outcome="failed", use="", after="").pairs()

    @property
    def emergencies_only(self) -> list[tuple[str, str]]:
        """The pairs of the same search for emergency accesses."""
        return replace(self, outcome="", use="emergency", after="").pairs()

    @property
    def places(self) -> list[str]:
        """Where each page before this one ended."""
        return self.after.split(",") if self.after else []

    @property
    def page(self) -> int:
        """The number of this page, from 1."""
        return len(self.places) + 1


_NAMES: Final = {field.name: field.name for field in fields(Asked)} | {"since": "from", "until": "to"}
_ATTRIBUTES: Final = {name: attribute for attribute, name in _NAMES.items()}


@dataclass(frozen=True, slots=True)
class Fault:
    """A field and the key of the text that says what is wrong with it; field "" for the form as a whole."""

    field: str
    key: str


class FormError(ValueError):
    """The form cannot be searched by; ``faults`` has every one of them, and holds nothing that was typed."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__(", ".join(f"{fault.field or 'form'}: {fault.key}" for fault in faults))
        self.faults = faults


@dataclass(frozen=True, slots=True)
class Search:
    """What to look for, and behind which place. ``since`` is always given: microseconds since 1970."""

    criteria: Criteria
    since: int
    after: Cursor | None


def first_asked(now: datetime) -> Asked:
    """The last seven days, today among them; ``now`` is in the zone of the page."""
    return Asked(since=f"{now.date() - timedelta(days=DAYS - 1)}T00:00")


def read_form(pairs: Iterable[tuple[str, str]]) -> Asked:
    """What was typed; raises FormError for a field that is unknown or comes twice."""
    asked, seen = Asked(), set()
    for name, value in pairs:
        attribute = _ATTRIBUTES.get(name)
        if attribute is None or name in seen:
            raise FormError([Fault("", "error.unknown_field")])
        seen.add(name)
        asked = replace(asked, **{attribute: value.strip()})
    return asked


def parse_search(asked: Asked, zone: tzinfo) -> Search:
    """What the form asks for; raises FormError with every fault of it."""
    faults: list[Fault] = []
    since = _moment(asked.since, "from", zone, faults)
    until = _moment(asked.until, "to", zone, faults) if asked.until else None
    if not asked.since:
        faults.append(Fault("from", "error.needed"))
    elif since is not None and until is not None and until <= since:
        faults.append(Fault("to", "error.turned"))
    texts = ("patient", "person", "organisation")
    faults += [Fault(name, "error.too_long") for name in texts if len(getattr(asked, name)) > MAX_TEXT]
    # No text of PostgreSQL holds it: the search would fail as if the database were gone.
    faults += [Fault(name, "error.no_text") for name in texts if "\0" in getattr(asked, name)]
    if asked.event and asked.event not in EVENT_CHOICES:
        faults.append(Fault("event", "error.no_choice"))
    if asked.outcome not in OUTCOMES:
        faults.append(Fault("outcome", "error.no_choice"))
    if asked.use not in USES:
        faults.append(Fault("use", "error.no_choice"))
    after = _place(asked, faults)
    if faults:
        raise FormError(faults)
    assert since is not None
    return Search(_criteria(asked, since, until), since, after)


def _criteria(asked: Asked, since: int, until: int | None) -> Criteria:
    kind, code = EVENT_CHOICES.get(asked.event, ("", ("", None)))
    return Criteria(
        since=since,
        before=until,
        patients=(_patient(asked.patient),) if asked.patient else (),
        users=(asked.person,) if asked.person else (),
        organisations=(asked.organisation,) if asked.organisation else (),
        events=(code,) if kind == "event" else (),
        types=(code,) if kind == "type" else (),
        outcomes=OUTCOMES[asked.outcome],
        purposes=USES[asked.use],
    )


def _patient(text: str) -> Patient:
    if "^" in text or "|" not in text:
        return parse_patient(text)
    authority, _, id_ = text.rpartition("|")
    return Patient(id_.strip(), authority.strip().removeprefix("urn:oid:") or None)


_MOMENT: Final = re.compile(r"(\d{4})-(\d\d)-(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d)(?:\.\d{1,6})?)?)?")


def _moment(text: str, field: str, zone: tzinfo, faults: list[Fault]) -> int | None:
    """Microseconds since 1970 of what was typed: its beginning for ``from``, for ``to`` the first one after it."""
    if not text:
        return None
    found = _MOMENT.fullmatch(text)
    if found is None:
        faults.append(Fault(field, "error.no_time"))
        return None
    year, month, day = (int(part) for part in found.groups()[:3])
    clock = [int(part) for part in found.groups()[3:] if part is not None]
    if year not in YEARS:
        faults.append(Fault(field, "error.out_of_range"))
        return None
    width = (_DAY, timedelta(minutes=1), _SECOND)[max(0, len(clock) - 1)]
    try:
        hour, minute, second = (*clock, 0, 0, 0)[:3]
        local = datetime(year, month, day, hour, minute, second)  # noqa: DTZ001 - the zone follows
    except ValueError:
        faults.append(Fault(field, "error.no_time"))
        return None
    moment = _beginning(local, zone) if field == "from" else _end(local, width, zone)
    return max(0, round(moment.timestamp()) * 1_000_000)


# An hour that the clocks go through twice belongs to the period whole: its first time begins it, its second ends it.
# One that they skip is the moment at which they do. Minutes are added in UTC: on the wall one more may be an hour more.


def _beginning(local: datetime, zone: tzinfo) -> datetime:
    return _shown(local, zone, fold=0) or _skipped(local, zone)


def _end(local: datetime, width: timedelta, zone: tzinfo) -> datetime:
    """The first moment behind what was typed: a day, which ends where the next begins, a minute or a second."""
    if width >= _DAY:
        return _beginning(local + width, zone)
    moment = _shown(local, zone, fold=1)
    return _skipped(local, zone) if moment is None else moment + width


def _shown(local: datetime, zone: tzinfo, *, fold: int) -> datetime | None:
    """When the clocks show this, with ``fold`` 1 for the last time; ``None`` if they never do."""
    moment = local.replace(tzinfo=zone, fold=fold).astimezone(UTC)
    return moment if moment.astimezone(zone).replace(tzinfo=None) == local else None


def _skipped(local: datetime, zone: tzinfo) -> datetime:
    """The moment, to the second, at which the clocks went past this."""
    early, late = (local.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (1, 0))
    before = early.astimezone(zone).utcoffset()
    while late - early > _SECOND:
        middle = early + (late - early) // _SECOND // 2 * _SECOND
        early, late = (middle, late) if middle.astimezone(zone).utcoffset() == before else (early, middle)
    return late


_PLACE: Final = re.compile(r"([0-9]{1,18})\.([0-9a-f]{64})")


def _place(asked: Asked, faults: list[Fault]) -> Cursor | None:
    found = [_PLACE.fullmatch(place) for place in asked.places]
    if not found:
        return None
    if None in found or asked.page > MAX_PAGES:
        faults.append(Fault("", "error.place"))
        return None
    last = found[-1]
    assert last is not None
    return Cursor(int(last[1]), bytes.fromhex(last[2]))
