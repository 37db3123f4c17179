"""The codes that the page offers to search by (DICOM PS3.16 CID 400, 401; IHE), and those of an emergency access."""

from collections.abc import Mapping
from typing import Final

__all__ = ["EMERGENCY", "EVENTS", "EVENT_CHOICES", "TRANSACTIONS", "TYPES"]

DCM: Final = "DCM"
IHE: Final = "IHE Transactions"

TRANSACTIONS: Final = tuple(
    f"ITI-{number}" for number in (8, 18, 38, 39, 41, 42, 43, 44, 47, 51, 55, 57, 61, 62, 64, 81, 86, 92)
)
"""EventTypeCodes of transactions."""

EVENTS: Final = (
    "110100", "110101", "110106", "110107", "110110", "110112", "110113", "110114",
    "110102", "110103", "110104", "110105", "110108", "110109", "110111",
)  # fmt: skip
"""EventIDs; those the framework's transactions use stand first."""

TYPES: Final = (
    "110120", "110121", "110122", "110123", "110126", "110127", "110128", "110129",
    "110132", "110133", "110134", "110136", "110137",
)  # fmt: skip
"""EventTypeCodes that are no transactions."""

EVENT_CHOICES: Final[Mapping[str, tuple[str, tuple[str, str | None]]]] = {
    **{f"type:{code}": ("type", (code, IHE)) for code in TRANSACTIONS},
    **{f"event:{code}": ("event", (code, DCM)) for code in EVENTS},
    **{f"type:{code}": ("type", (code, DCM)) for code in TYPES},
}
"""What the form sends to what is searched."""

EMERGENCY: Final = frozenset({"EMERGENCY", "BTG", "ETREAT"})
"""Purposes of use of an emergency access: XSPA's, and break the glass and emergency treatment of HL7 v3."""
