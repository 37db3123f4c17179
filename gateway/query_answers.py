"""What communities said to a query: judged one by one, then merged (ITI TF-2: 3.18.4.1.3, 3.38.4.1.3; TF-3: 4.2.4).

Objects stay the bytes their community sent, each with the namespaces it needs. What a community says is believed of
itself alone: an object with another home, or without one, is dropped and named in an error. What it says of its errors
is passed on as text, bounded in number and length.
"""

import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from lxml import etree

from ihe import vocabulary as v
from ihe.datatypes import normalise_oid_urn
from ihe.ebrs import RegistryResponse, adhoc_query_frame, read_registry_response
from ihe.errors import ErrorCode, RegistryError, Severity
from ihe.objects_as_bytes import with_home
from schemas import violations

__all__ = ["Merged", "Nonsense", "Said", "judged", "merged", "own", "stamped", "unavailable"]

MOST_ERRORS: Final = 20
"""Errors of one community that are passed on."""
LONGEST_CONTEXT: Final = 1000
LONGEST_WORD: Final = 256
MOST_NAMED: Final = 5
"""Dropped elements that an error names."""

_R: Final = f"{{{v.RIM}}}"
_LIST: Final = _R + "RegistryObjectList"
_OBJECTS: Final = frozenset(_R + name for name in ("ExtrinsicObject", "RegistryPackage", "Association", "ObjectRef"))
_WITH_HOME: Final = frozenset(_R + name for name in ("ExtrinsicObject", "RegistryPackage", "ObjectRef"))
"""Objects whose home is required in an answer of ITI-38; on the others it is looked at where it stands."""
_ERROR: Final = f"{{{v.RS}}}RegistryError"
_PLACE: Final = f"objects {uuid.uuid4()}"
_STATUSES: Final = frozenset({v.SUCCESS, v.PARTIAL_SUCCESS, v.FAILURE})


class Nonsense(Exception):  # noqa: N818 - says what happened
    """An answer that is none; the text says why and repeats no value of it."""


@dataclass(frozen=True, slots=True)
class Said:
    """What one community brings to the answer. ``good``: it answered the query, be it with nothing."""

    good: bool
    objects: tuple[bytes, ...] = ()
    errors: tuple[RegistryError, ...] = ()

    @property
    def status(self) -> str:
        """The status of these alone, as a record of the call tells it."""
        if not _failing(self.errors):
            return v.SUCCESS if self.good else v.FAILURE
        return v.PARTIAL_SUCCESS if self.good else v.FAILURE


def unavailable(home: str, reason: str) -> Said:
    """Nothing but XDSUnavailableCommunity; ``reason`` may hold words of the peer."""
    text = f"community {home} is not available: {_cut(reason, LONGEST_CONTEXT)}"
    return Said(good=False, errors=(RegistryError(ErrorCode.UNAVAILABLE_COMMUNITY, text, location=home),))


def judged(body: Any, home: str) -> Said:
    """The answer of the community with this home to ITI-38. Raises Nonsense."""
    wrong = violations(body)
    if wrong:
        raise Nonsense(f"its answer is not as the schema asks: {wrong[0]}")
    response = read_registry_response(body)
    if response.status not in _STATUSES:
        raise Nonsense("its answer has no known status")
    if response.status == v.FAILURE:
        return _failed(response, home)
    kept, dropped = _sorted(body, home)
    errors = (*_passed_on(response.errors, home), *dropped)
    if response.status == v.PARTIAL_SUCCESS and not _failing(response.errors):
        # What it lacks is not known, and what it holds is good nevertheless.
        text = f"community {home} answered PartialSuccess and did not say why"
        errors = (*errors, RegistryError(ErrorCode.REGISTRY_ERROR, text, location=home))
    return Said(good=bool(kept) or not dropped, objects=kept, errors=errors)


def own(body: Any, objects: bytes | None, home: str) -> Said:
    """The answer of this community's own registry to ITI-18, as ``stamped`` has it. Raises Nonsense."""
    response = read_registry_response(body)
    if response.status not in _STATUSES:
        raise Nonsense("its answer has no known status")
    if response.status == v.FAILURE:
        return _failed(response, home)
    if objects is not None:
        found: tuple[bytes, ...] = (with_home(objects, home),)
    else:
        _stamp(body, home)
        found = tuple(_text(child) for child in _children(body))
    return Said(good=True, objects=found, errors=_passed_on(response.errors, home))


def stamped(body: Any, objects: bytes | None, home: str) -> tuple[bytes, ...]:
    """The answer of our registry with our home on every object and reference, and as the location of every error.

    ``objects`` are those that are not in ``body``, as ``ihe.objects_as_bytes`` has cut them out.
    Associations have the home, too: every ebRIM object may, and a consumer that looks there finds it.
    """
    _stamp(body, home)
    listed = body.find(_LIST)
    if objects is None or listed is None:
        return (_text(body),)
    listed.text = _PLACE
    head, _, tail = _text(body).partition(_PLACE.encode())
    return head, with_home(objects, home), tail


def _stamp(body: Any, home: str) -> None:
    for child in _children(body):
        if child.tag in _OBJECTS:
            child.set("home", home)
    for error in body.iter(_ERROR):
        error.set("location", home)


def _children(body: Any) -> Iterator[Any]:
    found = body.find(_LIST)
    return iter(()) if found is None else found.iterchildren("*")


def _text(element: Any) -> bytes:
    text: bytes = etree.tostring(element, encoding="UTF-8", with_tail=False)
    return text


def _failed(response: RegistryResponse, home: str) -> Said:
    """A refusal; that nobody knows the patient there is an answer without objects (ITI TF-2: 3.18.4.1.3)."""
    if not _failing(response.errors):
        raise Nonsense("its answer is a Failure without an error")
    errors = _passed_on(response.errors, home)
    return Said(good=not _failing(errors), errors=errors)


def _failing(errors: Sequence[RegistryError]) -> bool:
    return any(error.severity is Severity.ERROR for error in errors)


def _passed_on(errors: Sequence[RegistryError], home: str) -> tuple[RegistryError, ...]:
    told = [error for error in errors if error.code.strip() != ErrorCode.UNKNOWN_PATIENT_ID]
    passed = [
        RegistryError(
            _cut(error.code, LONGEST_WORD).strip() or ErrorCode.REGISTRY_ERROR,
            _cut(error.context, LONGEST_CONTEXT) or "no context given",
            error.severity,
            _cut((error.location or "").strip(), LONGEST_WORD) or home,
        )
        for error in told[:MOST_ERRORS]
    ]
    rest = told[MOST_ERRORS:]
    if rest:
        worst = Severity.ERROR if _failing(rest) else Severity.WARNING
        text = f"community {home} reports {len(rest)} more"
        passed.append(RegistryError(ErrorCode.REGISTRY_ERROR, text, worst, home))
    return tuple(passed)


@dataclass(slots=True)
class _Dropped:
    """Elements that are left out for one reason."""

    code: ErrorCode
    why: str
    names: list[str] = field(default_factory=list)
    count: int = 0

    def add(self, element: Any) -> None:
        self.count += 1
        if len(self.names) < MOST_NAMED:
            self.names.append(f"{element.tag.rpartition('}')[2]} {_cut(element.get('id') or 'without id', 80)}")

    def error(self, home: str) -> RegistryError:
        more = f" and {self.count - len(self.names)} more" if self.count > len(self.names) else ""
        text = f"community {home} sent what {self.why}, which is left out: {', '.join(self.names)}{more}"
        return RegistryError(self.code, text, location=home)


def _sorted(body: Any, home: str) -> tuple[tuple[bytes, ...], tuple[RegistryError, ...]]:
    """Objects to keep, and errors for those that cannot be."""
    homeless = _Dropped(ErrorCode.MISSING_HOME_COMMUNITY_ID, "has no home")
    foreign = _Dropped(ErrorCode.REGISTRY_ERROR, "claims the home of another community")
    kept = []
    for child in _children(body):
        claimed = (child.get("home") or "").strip()
        if claimed:
            if claimed != home and normalise_oid_urn(claimed) != home:
                foreign.add(child)
                continue
            child.set("home", home)  # as it is written on the wire: a consumer asks with what it was given
        elif child.tag in _WITH_HOME:
            homeless.add(child)
            continue
        kept.append(_text(child))
    return tuple(kept), tuple(dropped.error(home) for dropped in (homeless, foreign) if dropped.count)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


@dataclass(frozen=True, slots=True)
class Merged:
    """The answer to the consumer."""

    status: str
    errors: tuple[RegistryError, ...]
    said: tuple[Said, ...]

    def pieces(self) -> Iterator[bytes]:
        """Serialised; in the order of the communities, and in theirs."""
        head, tail = adhoc_query_frame(self.status, self.errors)
        yield head
        for one in self.said:
            yield from one.objects
        yield tail


def merged(said: Iterable[Said]) -> Merged:
    """Success where nothing failed, PartialSuccess where something did, Failure where everything did."""
    all_said = tuple(said)
    errors = tuple(error for one in all_said for error in one.errors)
    if all(one.status == v.SUCCESS for one in all_said):
        status = v.SUCCESS
    else:
        status = v.PARTIAL_SUCCESS if any(one.good for one in all_said) else v.FAILURE
    return Merged(status, errors, all_said)
