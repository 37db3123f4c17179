"""What no single key of ``[gateway]`` shows: keys that need each other, rows that may stand once.

Judged on the settings as given, so that a fault of one key hides none of these: an operator mends all of them at once.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from ihe.datatypes import parse_cx
from wire.settings import peer_key

__all__ = ["DEFAULT_TRANSACTIONS", "community_faults", "gateway_faults", "patient_key", "rows", "validated"]

Given = Mapping[str, Any]
Fault = tuple[tuple[str | int, ...], str]
"""Where below the settings judged, and what is wrong there."""

DEFAULT_TRANSACTIONS: Final = ("ITI-38", "ITI-39", "ITI-55")


def community_faults(given: Given) -> Iterator[Fault]:
    """Of a row of ``[[gateway.communities]]``."""
    rule, patients = given.get("patient_id", "same"), given.get("patients")
    if rule == "discover" and not given.get("discovery_url"):
        yield (), "patient_id = discover asks ITI-55 of the community: it needs discovery_url"
    if rule == "discover" and "ITI-55" not in (given.get("transactions", DEFAULT_TRANSACTIONS) or ()):
        yield (), "patient_id = discover asks ITI-55 of the community: transactions has to list it"
    if rule == "table" and not patients:
        yield (), "patient_id = table needs patients, our identifiers with theirs"
    if rule in {"same", "discover"} and patients:
        yield (), "patients is of use only with patient_id = table"
    if isinstance(patients, Mapping):
        for number, pair in enumerate(patients.items(), 1):
            if not all(_is_cx(one) for one in pair):
                yield ("patients",), f"row {number} should be two identifiers like 7^^^&1.2.3&ISO, ours = theirs"
        for same in _rows_of_one_patient(patients):
            listed = ", ".join(map(str, same))
            yield ("patients",), f"rows {listed} are of the same patient of ours, written differently: keep one"
    if (given.get("certificate") is None) != (given.get("key") is None):
        yield (), "certificate and key belong together"


def _rows_of_one_patient(patients: Mapping[Any, Any]) -> Iterator[list[int]]:
    """Rows of which all but the last would be lost, by their numbers: an identifier has no place in a message."""
    numbers: dict[tuple[str, str], list[int]] = {}
    for number, ours in enumerate(patients, 1):
        if _is_cx(ours):
            numbers.setdefault(patient_key(ours), []).append(number)
    yield from (same for same in numbers.values() if len(same) > 1)


def patient_key(cx: str) -> tuple[str, str]:
    """(id, authority) of a CX, by which a row of ``patients`` is found. Raises ValueError."""
    read = parse_cx(cx)
    return read.id, read.authority


def _is_cx(text: Any) -> bool:
    try:
        return bool(parse_cx(text).authority)
    except (ValueError, AttributeError, TypeError):
        return False


def gateway_faults(given: Given) -> Iterator[Fault]:
    """Of ``[gateway]`` as a whole."""
    homes = Counter(_oid(row.get("home_community_id")) for row in rows(given, "communities"))
    repositories = Counter(_oid(row.get("unique_id")) for row in rows(given, "repositories"))
    twice = [f"urn:oid:{one}" for one, times in homes.items() if one and times > 1]
    twice += [one for one, times in repositories.items() if one and times > 1]
    if twice:
        yield (), f"listed more than once: {', '.join(sorted(twice))}"
    subjects = Counter(one for row in rows(given, "communities") for one in set(_subjects(row)))
    shared = sorted(one for one, times in subjects.items() if times > 1)
    if shared:
        yield (), f"named as subject of more than one community: {'; '.join(shared)}"


def rows(given: Given, name: str) -> list[Given]:
    """The tables of a list; what is no table is told of elsewhere."""
    found = given.get(name)
    listed = found if isinstance(found, Sequence) and not isinstance(found, str) else ()
    return [row if isinstance(row, Mapping) else _plain(row) for row in listed]


def _plain(row: Any) -> Given:
    """A row that was checked already."""
    return row.model_dump() if hasattr(row, "model_dump") else {}


def _subjects(row: Given) -> Iterator[str]:
    subjects = row.get("subjects")
    if isinstance(subjects, Sequence) and not isinstance(subjects, str):
        yield from (_spelled(one) for one in subjects if isinstance(one, str))


def _spelled(subject: str) -> str:
    """In the one spelling that callers are compared with; what is no subject is told of elsewhere."""
    try:
        return peer_key(subject)
    except ValueError:
        return subject


def _oid(value: Any) -> str:
    return value.strip().removeprefix("urn:oid:") if isinstance(value, str) else ""


def validated(data: Any, handler: Callable[[Any], Any], judge: Callable[[Given], Iterator[Fault]], title: str) -> Any:
    """What ``handler`` makes of ``data``; raises ValidationError with its faults and those of ``judge`` together."""
    more = list(judge(data)) if isinstance(data, Mapping) else []
    try:
        made = handler(data)
    except ValidationError as error:
        if not more:
            raise
        raise _joined(error, more, title) from error
    if more:
        raise _joined(None, more, title)
    return made


def _joined(error: ValidationError | None, more: list[Fault], title: str) -> ValidationError:
    found = [] if error is None else [(one["type"], one["loc"], one["msg"]) for one in error.errors()]
    # A place within patients would name one; ``community_faults`` tells of the row by its number.
    found = [one for one in found if one[1][:1] != ("patients",) or len(one[1]) == 1]
    found += [("value_error", where, what) for where, what in more]
    lines = [
        InitErrorDetails(type=PydanticCustomError(kind, "{said}", {"said": what}), loc=where, input=None)
        for kind, where, what in found
    ]
    return ValidationError.from_exception_data(title, lines)
