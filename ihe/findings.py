"""What a rule has to say about a submission, and how it names the object it speaks of."""

import re
from dataclasses import dataclass
from typing import Final

from ihe.errors import ErrorCode, RegistryError
from ihe.registry_objects import Kind, RegistryObject

_LONGEST_ID: Final = 128
_NAMED: Final = re.compile(rf"\A({'|'.join(Kind)})( [^ ,]+(?= from ))? .+?, ", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault. ``lenient`` faults are decided by the strictness setting, the others refuse the submission.

    ``rule`` names the row (``DocumentEntry.creationTime``) or the function that found it. ``only_noted`` faults refuse
    nothing, whatever the strictness: a setting of their own says so.
    """

    error: RegistryError
    lenient: bool
    rule: str = ""
    only_noted: bool = False


def shortened(identifier: str) -> str:
    """An id for a message: as submitted, at most 128 characters."""
    return identifier if len(identifier) <= _LONGEST_ID else identifier[: _LONGEST_ID - 1] + "…"


def named(obj: RegistryObject) -> str:
    """The kind and the id of an object as submitted; without id its association type or nothing more."""
    if obj.id:
        return f"{obj.kind} {shortened(obj.id)}"
    if obj.kind is Kind.ASSOCIATION and obj.type:
        kind = obj.type.rpartition(":")[2]
        return f"Association {shortened(kind)} from {shortened(obj.source or 'nothing')}"
    return f"{obj.kind} without id"


def without_id(context: str) -> str:
    """The context of a finding without the id of its object: alike for one fault in whichever message it stands."""
    return _NAMED.sub(r"\1\2, ", context)


def finding(
    where: str,
    attribute: str,
    wrong: str,
    rule: str,
    *,
    code: ErrorCode = ErrorCode.REGISTRY_METADATA,
    lenient: bool = False,
    only_noted: bool = False,
) -> Finding:
    """``where`` is ``named(object)`` or the message; ``wrong`` says what is wrong and what is allowed."""
    return Finding(RegistryError(code, f"{where}, {attribute}: {wrong}"), lenient, rule, only_noted)
