"""Who may do what: one decision point, asked by every actor."""

from consent.policy import EVERYTHING, PERMIT_TRUSTED_NODE, Decision, Visibility, decide

__all__ = ["EVERYTHING", "PERMIT_TRUSTED_NODE", "Decision", "Visibility", "decide"]
