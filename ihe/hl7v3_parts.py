"""What every HL7 v3 message is made of, read and printed alike: ids, devices, names, the wrapper (HL7 v3: MCCI).

Reading never raises: what is missing is ``None`` or empty. An element with nullFlavor says nothing.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol
from xml.sax.saxutils import escape, quoteattr

from lxml import etree

from ihe.hl7v2 import CONTROL, MAX_HEADER_FIELD, AckCode, Demographics, ErrorCode, Identifier, Problem
from ihe.vocabulary import HL7
from schemas import violations

__all__ = [
    "INTERACTIONS",
    "NS",
    "TABLE_0357",
    "Addressed",
    "Detail",
    "InstanceIdentifier",
    "demographics_of",
    "details_of",
    "devices_of",
    "identifiers_of",
    "instance_of",
    "name_part",
    "path",
    "print_detail",
    "print_id",
    "print_opening",
    "schema_problems",
    "sex_of",
    "time_of",
    "word",
]

INTERACTIONS: Final = "2.16.840.1.113883.1.6"
TABLE_0357: Final = "2.16.840.1.113883.12.357"
"""HL7 v2's table of error conditions, which ITI-45 uses too; so both feeds name a fault alike."""
NS: Final = {"h": HL7}

_XSI_TYPE: Final = "{http://www.w3.org/2001/XMLSchema-instance}type"
_TS: Final = re.compile(r"[0-9]{4,8}|([0-9]{9,14}|[0-9]{14}\.[0-9]+)([+-][0-9]{1,4})?")
_SEX: Final = {"UN": "O"}
"""AdministrativeGender to table 0001, which the registry keeps: undifferentiated is other; F and M are the same."""


@dataclass(frozen=True, slots=True)
class InstanceIdentifier:
    """II: ``root`` (OID or UUID) and ``extension``; at least one is there."""

    root: str | None
    extension: str | None = None

    def __str__(self) -> str:
        return "^".join(part for part in (self.root, self.extension) if part)


class Addressed(Protocol):
    """A message that is answered: the devices it came from and was for."""

    @property
    def sender(self) -> Sequence[InstanceIdentifier]: ...
    @property
    def receiver(self) -> Sequence[InstanceIdentifier]: ...


@dataclass(frozen=True, slots=True)
class Detail:
    """An acknowledgementDetail: ``code`` of ``system`` with its ``display``, ``text`` for a person, ``location``."""

    code: str
    text: str
    system: str = TABLE_0357
    display: str = ""
    location: str = ""


def details_of(problems: Iterable[Problem]) -> tuple[Detail, ...]:
    """Problems named by table 0357."""
    return tuple(Detail(str(one.code), one.text, TABLE_0357, one.code.text, one.location) for one in problems)


def schema_problems(body: Any) -> list[Problem]:
    """What the lenient schema finds in a message.

    Senders write xsi:type with names of HL7's own schemas; the few elements read here have one type each, so these
    attributes are taken off ``body``.
    """
    etree.strip_attributes(body, _XSI_TYPE)
    return [Problem(AckCode.ERROR, ErrorCode.DATA_TYPE_ERROR, text) for text in violations(body)]


# ------------------------------------------------------------------------------------------ reading


def path(names: str) -> str:
    """``a/b`` as lxml finds it with ``NS``."""
    return "/".join(f"h:{name}" for name in names.split("/"))


def _says_nothing(element: Any) -> bool:
    """Whether an element is null, whatever else stands in it (HL7 v3 data types: nullFlavor)."""
    return bool((element.get("nullFlavor") or "").strip())


def word(element: Any, attribute: str) -> str | None:
    """An attribute without blanks around it; ``None`` when absent, empty, null or with control characters in it."""
    value = "" if element is None or _says_nothing(element) else (element.get(attribute) or "").strip()
    return None if not value or CONTROL.search(value) else value


def instance_of(element: Any) -> InstanceIdentifier | None:
    """An II; ``None`` where it says nothing."""
    root, extension = word(element, "root"), word(element, "extension")
    return InstanceIdentifier(root, extension) if root or extension else None


def devices_of(parties: Iterable[Any]) -> tuple[InstanceIdentifier, ...]:
    """The ids of the devices of senders or receivers."""
    found = (instance_of(one) for party in parties for one in party.findall("h:device/h:id", NS))
    return tuple(one for one in found if one is not None)


def identifiers_of(elements: Iterable[Any]) -> tuple[Identifier, ...]:
    """Ids with an extension, as CX would hold them: a root alone names no patient of an authority."""
    found = (instance_of(one) for one in elements)
    return tuple(
        Identifier(one.extension, universal_id=one.root, universal_id_type="ISO")
        for one in found
        if one is not None and one.extension is not None
    )


def demographics_of(person: Any) -> Demographics:
    """What a patientPerson tells: the legal name, else the first; birth time and sex as the registry keeps them."""
    if person is None:
        return Demographics()
    names = [name for name in person.findall("h:name", NS) if not _says_nothing(name)]
    legal = [name for name in names if "L" in (name.get("use") or "").split()]
    name = (legal or names or [None])[0]
    birth = word(person.find("h:birthTime", NS), "value")
    return Demographics(
        family=name_part(name, "family", " "),
        given=name_part(name, "given", None),
        birth=_cut(birth),
        sex=sex_of(person.find("h:administrativeGenderCode", NS)),
    )


def sex_of(element: Any) -> str | None:
    """A code of AdministrativeGender in the words of table 0001."""
    code = word(element, "code")
    return _cut(_SEX.get(code.upper(), code)) if code is not None else None


def time_of(text: str | None) -> str | None:
    """A point in time as HL7 TS writes it; ``None`` for anything else a feed may have told."""
    return text if text is not None and _TS.fullmatch(text) else None


def name_part(name: Any, part: str, joined_with: str | None) -> str | None:
    """The parts of a name that carry no qualifier (birth name, initial …), all of them or the first."""
    parts = [] if name is None else [one for one in name.findall(f"h:{part}", NS) if not _says_nothing(one)]
    plain = [one for one in parts if not one.get("qualifier")] or parts
    texts = [" ".join("".join(one.itertext()).split()) for one in plain]
    texts = [text for text in texts if text]
    if not texts:
        return None
    return _cut(CONTROL.sub("", texts[0] if joined_with is None else joined_with.join(texts)))


def _cut(text: str | None) -> str | None:
    return text[:MAX_HEADER_FIELD] if text else None


# ------------------------------------------------------------------------------------------ writing


def print_opening(
    interaction: str,
    *,
    message_id: str,
    time: str,
    sender: Sequence[InstanceIdentifier],
    receiver: Sequence[InstanceIdentifier],
    agent: str = "",
    accept_ack: str = "NE",
) -> str:
    """A message from its start tag to its sender; ``agent`` stands in the sender's device behind its ids.

    ``message_id`` is the root of our own id (a UUID), ``time`` our creationTime (HL7 TS).
    """
    return (
        f'<{interaction} xmlns="{HL7}" ITSVersion="XML_1.0"><id root={quoteattr(message_id)}/>'
        f'<creationTime value={quoteattr(time)}/><interactionId root="{INTERACTIONS}" extension="{interaction}"/>'
        f'<processingCode code="P"/><processingModeCode code="T"/><acceptAckCode code="{accept_ack}"/>'
        f"{_party('receiver', 'RCV', receiver)}{_party('sender', 'SND', sender, agent)}"
    )


def _party(name: str, type_code: str, ids: Sequence[InstanceIdentifier], agent: str = "") -> str:
    listed = "".join(map(print_id, ids)) or print_id(None)
    device = f'<device classCode="DEV" determinerCode="INSTANCE">{listed}{agent}</device>'
    return f'<{name} typeCode="{type_code}">{device}</{name}>'


def print_id(one: InstanceIdentifier | None, name: str = "id") -> str:
    """An II; without one an element that says so."""
    if one is None:
        return f'<{name} nullFlavor="NI"/>'
    parts = {"root": one.root, "extension": one.extension}
    written = "".join(f" {key}={quoteattr(value)}" for key, value in parts.items() if value is not None)
    return f"<{name}{written}/>"


def print_detail(detail: Detail) -> str:
    """An acknowledgementDetail of severity error."""
    location = f"<location>{escape(detail.location)}</location>" if detail.location else ""
    system = f" codeSystem={quoteattr(detail.system)}" if detail.system else ""
    display = f" displayName={quoteattr(detail.display)}" if detail.display else ""
    return (
        f'<acknowledgementDetail typeCode="E"><code code={quoteattr(detail.code)}'
        f"{system}{display}/><text>{escape(detail.text)}</text>{location}"
        "</acknowledgementDetail>"
    )
