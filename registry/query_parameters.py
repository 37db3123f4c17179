"""How parameters of a stored query are coded (ITI TF-2: 3.18.4.1.2.3.5), one function per coding.

Each reader takes the Value texts of one Slot and gives the values, or raises ``BadValueError`` with what is allowed.
``lenient`` also takes what is missing quotes or parentheses though its meaning is plain; ``Reading.sloppy`` tells.
"""

import re
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from typing import Final

from ihe import vocabulary as v
from ihe.datatypes import DTM, loose_dtm, normalise_oid, normalise_uuid, parse_cx
from ihe.metadata import AvailabilityStatus, Code, EntryType
from registry.criteria import Value

_QUOTED: Final = re.compile(r"\s*'((?:[^']|'')*)'\s*")
# Without quotes; what begins with one of another kind was meant to be quoted, and they are no part of the value.
_BARE: Final = re.compile(r"\s*([^'(),\s\"`\u2018-\u201f][^'(),]*?)\s*$")
_STATUSES: Final = {status.value: status for status in AvailabilityStatus}
_RELATIONSHIPS: Final = frozenset({v.APND, v.XFRM, v.RPLC, v.XFRM_RPLC, v.SIGNS, v.IS_SNAPSHOT_OF})
_TYPES: Final = {kind.value: kind for kind in EntryType}
_MOST_PATTERNS: Final = 100
_LONGEST_PATTERN: Final = 256


class BadValueError(ValueError):
    """A value that cannot be read; the text says what is allowed and never repeats the value."""


class TooManyError(BadValueError):
    """Several values where one is allowed."""


@dataclass(frozen=True, slots=True)
class Reading:
    """The values of one Slot; ``sloppy`` when leniency was needed."""

    values: tuple[Value, ...]
    sloppy: bool = False


Reader = Callable[[Sequence[str], bool], Reading]


def _only(texts: Sequence[str], several: str) -> str:
    """The Value of a parameter that has one; none at all is an empty value, and no value too many."""
    if not texts:
        raise BadValueError("has no value")
    if len(texts) > 1:
        raise TooManyError(several)
    return texts[0]


def _no_list(texts: Sequence[str], several: str) -> str:
    """The Value of a time or number: a list of them is too many, whatever it holds; an empty list is no value."""
    text = _only(texts, several)
    if text.strip().startswith("(") and text.strip(" '()"):
        raise TooManyError(several)
    return text


def _unquoted(text: str, lenient: bool) -> tuple[str, bool]:
    match = _QUOTED.fullmatch(text)
    if match:
        if not match.group(1).strip():
            raise BadValueError("the value is empty")
        return match.group(1).replace("''", "'"), False
    bare = _BARE.match(text)
    if lenient and bare:
        return bare.group(1), True
    raise BadValueError("write the value in single quotes, a quote inside it doubled: 'value'")


def one_text(texts: Sequence[str], lenient: bool) -> Reading:
    """A single string: ``'text'``.

    Parentheses around that one value are a defect that is always let pass: the NIST testkit writes patientId so in its
    tests of ITI-64, and it cannot mean anything else.
    """
    several = "one value only, in single quotes and without parentheses: 'value'"
    text = _only(texts, several)
    if text.strip().startswith("("):
        return Reading((_only([str(one) for one in many_texts(texts, lenient).values], several),), sloppy=True)
    value, sloppy = _unquoted(text, lenient)
    return Reading((value,), sloppy)


def _items(text: str, lenient: bool) -> tuple[list[str], bool]:
    """Values of one ``('a','b')``."""
    inner, sloppy = text.strip(), False
    if inner.startswith("(") and inner.endswith(")"):
        inner = inner[1:-1]
    elif lenient:
        sloppy = True
    else:
        raise BadValueError("write the values as a list: ('first','second'), also when there is one: ('only')")
    found: list[str] = []
    at = 0
    while True:
        match = _QUOTED.match(inner, at)
        if match:
            item, end, bare = match.group(1).replace("''", "'"), match.end(), False
        else:
            end = inner.find(",", at)
            end = len(inner) if end < 0 else end
            item, bare = _unquoted(inner[at:end], lenient)
        if not item.strip():
            raise BadValueError("the list is empty or has an empty value: write ('first','second')")
        found.append(item)
        sloppy = sloppy or bare
        if end >= len(inner):
            return found, sloppy
        if inner[end] != ",":
            raise BadValueError("put a comma between the values: ('first','second')")
        at = end + 1


def many_texts(texts: Sequence[str], lenient: bool) -> Reading:
    """A list: ``('a','b')``, in one Value or spread over several, each with its own parentheses."""
    values: list[str] = []
    sloppy = False
    for text in texts:
        items, loose = _items(text, lenient)
        values += items
        sloppy = sloppy or loose
    if not values:
        raise BadValueError("the list is empty: write ('first','second')")
    return Reading(tuple(dict.fromkeys(values)), sloppy)


def _patterns(read: Reading) -> Reading:
    """Each is compared with each person of a patient's documents, so there are bounds (length: ebRIM's LongName)."""
    if len(read.values) > _MOST_PATTERNS:
        raise BadValueError(f"holds {len(read.values)} patterns; allowed are at most {_MOST_PATTERNS}")
    if any(len(str(pattern)) > _LONGEST_PATTERN for pattern in read.values):
        raise BadValueError(f"holds a pattern of more than {_LONGEST_PATTERN} characters")
    return read


def one_pattern(texts: Sequence[str], lenient: bool) -> Reading:
    """A single string in which ``%`` stands for any text and ``_`` for one character."""
    return _patterns(one_text(texts, lenient))


def many_patterns(texts: Sequence[str], lenient: bool) -> Reading:
    """A list of such strings."""
    return _patterns(many_texts(texts, lenient))


def many_oids(texts: Sequence[str], lenient: bool) -> Reading:
    """A list of OIDs, each written as at registration: without blanks around it and without ``urn:oid:``."""
    read = many_texts(texts, lenient)
    return Reading(tuple(normalise_oid(str(t)) for t in read.values), read.sloppy)


def one_oid(texts: Sequence[str], lenient: bool) -> Reading:
    """A single OID, written as at registration."""
    read = one_text(texts, lenient)
    return Reading(tuple(normalise_oid(str(t)) for t in read.values), read.sloppy)


def many_identifiers(texts: Sequence[str], lenient: bool) -> Reading:
    """A list of uniqueIds of documents: opaque, without blanks around them."""
    read = many_texts(texts, lenient)
    return Reading(tuple(str(t).strip() for t in read.values), read.sloppy)


def one_identifier(texts: Sequence[str], lenient: bool) -> Reading:
    """A single uniqueId of a document."""
    read = one_text(texts, lenient)
    return Reading(tuple(str(t).strip() for t in read.values), read.sloppy)


def codes(texts: Sequence[str], lenient: bool) -> Reading:
    """A list of codes: ``('code^^scheme')``; ``urn:oid:`` before a scheme is removed, as at registration."""
    read = many_texts(texts, lenient)
    found: list[Value] = []
    for text in read.values:
        parts = [part.strip() for part in str(text).split("^")]
        if len(parts) != 3 or parts[1] or not parts[0] or not parts[2]:
            raise BadValueError("write each code with its coding scheme: ('code^^scheme')")
        found.append(Code(parts[0], normalise_oid(parts[2])))
    return Reading(tuple(found), read.sloppy)


def statuses(texts: Sequence[str], lenient: bool) -> Reading:
    """A list of status URNs; what is not understood is left out (ITI TF-2: 3.18.4.1.2.3.7)."""
    read = many_texts(texts, lenient)
    return Reading(tuple(_STATUSES[str(t).strip()] for t in read.values if str(t).strip() in _STATUSES), read.sloppy)


def entry_types(texts: Sequence[str], lenient: bool) -> Reading:
    """A list of DocumentEntry object types, letters in any case; unknown ones are left out."""
    read = many_texts(texts, lenient)
    known = [_TYPES.get(normalise_uuid(str(t))) for t in read.values]
    return Reading(tuple(kind for kind in known if kind is not None), read.sloppy)


def availabilities(texts: Sequence[str], lenient: bool) -> Reading:
    """A list of documentAvailability URNs; unknown ones are left out."""
    read = many_texts(texts, lenient)
    known = (v.AVAILABLE_ONLINE, v.AVAILABLE_OFFLINE)
    return _among(known, read)


def association_types(texts: Sequence[str], lenient: bool) -> Reading:
    """A list of association type URNs; unknown ones are left out."""
    read = many_texts(texts, lenient)
    return _among(_RELATIONSHIPS, read)


def _among(known: Container[str], read: Reading) -> Reading:
    return Reading(tuple(text for one in read.values if (text := str(one).strip()) in known), read.sloppy)


def time(texts: Sequence[str], lenient: bool) -> Reading:
    """A DTM, bare or in single quotes; becomes the first instant it names, 14 digits. Leniency reads a zone too."""
    only = _no_list(texts, "one time only, without parentheses: YYYY[MM[DD[hh[mm[ss]]]]]")
    match = _QUOTED.fullmatch(only)
    text = (match.group(1) if match else only).strip()
    try:
        return Reading((DTM(text).lower,))
    except ValueError as reason:
        if lenient and (loose := _loose_time(text)) is not None:
            return Reading((loose,), sloppy=True)
        raise BadValueError(f"write the time as YYYY[MM[DD[hh[mm[ss]]]]] in UTC: {reason}") from reason


def _loose_time(text: str) -> str | None:
    try:
        return loose_dtm(text).lower
    except ValueError:
        return None


def metadata_level(texts: Sequence[str], lenient: bool) -> Reading:  # noqa: ARG001 - one signature for every coding
    """Bare 1 or 2 (XDS Metadata Update); quotes around it do no harm."""
    text = _no_list(texts, "one number only, without parentheses: 1 or 2").strip().strip("'").strip()
    if text not in ("1", "2"):
        raise BadValueError("write 1 for the latest versions, 2 for all versions")
    return Reading((text,))


def patient(texts: Sequence[str], lenient: bool) -> Reading:
    """``'id^^^&OID&ISO'``."""
    return _patients(one_text(texts, lenient), "'id^^^&OID&ISO'")


def many_patients(texts: Sequence[str], lenient: bool) -> Reading:
    """A list of them (ITI-51)."""
    return _patients(many_texts(texts, lenient), "('id^^^&OID&ISO')")


def _patients(read: Reading, form: str) -> Reading:
    try:
        return Reading(tuple(dict.fromkeys(parse_cx(str(text)) for text in read.values)), read.sloppy)
    except ValueError as reason:
        raise BadValueError(f"write the patient id as {form}: {reason}") from reason


def entry_uuids(texts: Sequence[str], lenient: bool) -> Reading:
    """A list of ``urn:uuid:`` ids; letters in any case."""
    read = many_texts(texts, lenient)
    return Reading(tuple(str(t).strip().lower() for t in read.values), read.sloppy)


def one_entry_uuid(texts: Sequence[str], lenient: bool) -> Reading:
    """A single ``urn:uuid:`` id; letters in any case."""
    read = one_text(texts, lenient)
    return Reading((str(read.values[0]).strip().lower(),), read.sloppy)
