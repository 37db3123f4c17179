"""How a patient of ours is named in another community."""

from collections.abc import Sequence
from typing import Final

from gateway.settings import Community, GatewaySettings
from ihe.datatypes import parse_cx

__all__ = ["PatientMap", "Unknown"]


class Unknown(Exception):  # noqa: N818 - says what happened
    """It could not be told how the patient is named there; ``reason`` is fit for the asker and names no patient."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class PatientMap:
    """One for all threads of a process."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._tables: Final = {
            community.home_community_id: {_key(ours): theirs for ours, theirs in community.patients.items()}
            for community in settings.communities
        }

    def at(self, community: Community, patient_id: str, deadline: float) -> Sequence[str]:
        """The identifiers (CX) to ask this community with; none: it does not know the patient, ask it nothing.

        ``patient_id`` is a CX, ``deadline`` the point of ``time.monotonic`` by which it must be known. Raises Unknown.
        """
        del deadline
        if community.patient_id == "table":
            theirs = self._tables[community.home_community_id].get(_key(patient_id))
            return () if theirs is None else (theirs,)
        return (patient_id,)


def _key(cx: str) -> tuple[str, str]:
    read = parse_cx(cx)
    return read.id, read.authority
