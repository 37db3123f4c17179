"""Who may do what: one decision point, asked by every actor."""

from consent.policy import (
    EVERYTHING,
    LISTED_PARTNERS_ONLY,
    PERMIT_LISTED_PARTNER,
    PERMIT_TRUSTED_NODE,
    RESTRICTED,
    Decision,
    Visibility,
    decide,
)

__all__ = [
    "EVERYTHING",
    "LISTED_PARTNERS_ONLY",
    "PERMIT_LISTED_PARTNER",
    "PERMIT_TRUSTED_NODE",
    "RESTRICTED",
    "Decision",
    "Visibility",
    "decide",
]
