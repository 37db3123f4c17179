"""What a request is about, as far as it can be told of one that is refused: for its audit record alone.

Nothing is checked and nothing raised: a request may be refused before or because it could not be read. An id is the
text as sent, without blanks around it, at most 256 characters of it.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from ihe import vocabulary as v
from ihe.datatypes import parse_cx, print_cx

__all__ = ["NamedQuery", "NamedSubmission", "query_named", "submission_named"]

LONGEST: Final = 256
MOST_PATIENTS: Final = 100

_IDENTIFIER: Final = f"{{{v.RIM}}}ExternalIdentifier"
_QUERY: Final = f"{{{v.RIM}}}AdhocQuery"
_SLOT: Final = f"{{{v.RIM}}}Slot"
_VALUE: Final = f"{{{v.RIM}}}Value"
_QUOTED: Final = re.compile(r"'([^']{1,256})'")


@dataclass(frozen=True, slots=True)
class NamedSubmission:
    """patientId and uniqueId of the SubmissionSet; absent is ``None``."""

    patient_id: str | None
    unique_id: str | None


@dataclass(frozen=True, slots=True)
class NamedQuery:
    """id of the stored query, home, and the patients its parameters name, as CX text."""

    query_id: str | None
    home: str | None
    patient_ids: tuple[str, ...]


def submission_named(request: Any) -> NamedSubmission:
    """Of a request that holds registry objects (ITI-41, 42, 57, 61, 92)."""
    found: dict[str, str] = {}
    for identifier in request.iter(_IDENTIFIER):
        value = (identifier.get("value") or "").strip()[:LONGEST]
        if value:
            found.setdefault((identifier.get("identificationScheme") or "").strip().lower(), value)
    return NamedSubmission(found.get(v.SUBMISSION_SET_PATIENT_ID), found.get(v.SUBMISSION_SET_UNIQUE_ID))


def query_named(request: Any) -> NamedQuery:
    """Of an AdhocQueryRequest (ITI-18, 51)."""
    query = next(request.iter(_QUERY), None)
    if query is None:
        return NamedQuery(None, None, ())
    patients = tuple(islice(dict.fromkeys(_patients(query)), MOST_PATIENTS))
    return NamedQuery((query.get("id") or "").strip()[:LONGEST] or None, query.get("home"), patients)


def _patients(query: Any) -> Iterator[str]:
    for slot in query.iter(_SLOT):
        if (slot.get("name") or "").strip().lower().endswith("patientid"):
            for value in slot.iter(_VALUE):
                text = (value.text or "").strip()
                for one in _QUOTED.findall(text) or [text[:LONGEST]]:
                    try:
                        yield print_cx(parse_cx(one))
                    except ValueError:
                        continue
