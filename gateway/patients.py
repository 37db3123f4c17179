"""How a patient of ours is named in another community: as here, by the table of the settings, or discovered."""

from collections.abc import Sequence
from typing import Final

from gateway.consistency import patient_key
from gateway.discovery import Discovered, Discovery, Unknown, identifier_of
from gateway.settings import Community, GatewaySettings

__all__ = ["PatientMap", "Unknown"]


class PatientMap:
    """One for all threads of a process; ``discovery`` asks ITI-55 of communities with ``patient_id = discover``."""

    def __init__(self, settings: GatewaySettings, discovery: Discovery | None = None) -> None:
        self._tables: Final = {
            community.home_community_id: {patient_key(ours): theirs for ours, theirs in community.patients.items()}
            for community in settings.communities
        }
        self._discovery: Final = discovery

    def at(self, community: Community, patient_id: str, deadline: float, security: bytes = b"") -> Sequence[str]:
        """The identifiers (CX) to ask this community with; none: it does not know the patient, ask it nothing.

        ``patient_id`` is a CX, ``deadline`` the point of ``time.monotonic`` by which it must be known, ``security`` the
        asker's own header, passed on to whom is asked. Raises Unknown.
        """
        if community.patient_id == "table":
            theirs = self._tables[community.home_community_id].get(patient_key(patient_id))
            return () if theirs is None else (theirs,)
        if community.patient_id == "same":
            return (patient_id,)
        if self._discovery is None:
            raise Unknown("nothing is discovered here")
        return self._discovery.remembered(community, identifier_of(patient_id), deadline, security)

    def ask(self, community: Community, patient_id: str, deadline: float) -> Discovered:
        """ITI-55 now, whatever is remembered and however the settings name the patient there. Raises Unknown."""
        if self._discovery is None:
            raise Unknown("nothing is discovered here")
        return self._discovery.ask(community, identifier_of(patient_id), deadline)
