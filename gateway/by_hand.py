"""What an operator asks communities by hand: who a patient of ours is there (ITI-55)."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from gateway.fan_out import Call
from gateway.patients import Unknown
from gateway.room import Room
from gateway.settings import Community
from gateway.store.protocol import StoreUnavailable
from ihe.hl7v3_answer import FoundPatient

__all__ = ["Said", "find_patient"]


@dataclass(frozen=True, slots=True)
class Said:
    """What a community said of a patient: who he is there, each with an identifier (CX), or why it is not known.

    ``problem`` is ``None`` where it answered; then no ``ids`` means that it does not know him. ``time_to_live_s`` is
    how long it said that this holds.
    """

    home: str
    ids: tuple[str, ...] = ()
    patients: tuple[FoundPatient, ...] = ()
    time_to_live_s: float | None = None
    problem: str | None = None


def find_patient(room: Room, patient_id: str, communities: Sequence[Community]) -> tuple[Said, ...]:
    """Ask each of them now, all at once; nothing is looked up in what is remembered, and nothing is kept of it."""
    begun = time.monotonic()
    calls = []
    for one in communities:
        deadline = begun + room.settings.deadline_of(one)
        calls.append(Call(partial(_ask, room, one, patient_id, deadline), deadline))
    answers = room.fan_out.ask(calls)
    silent = (Said(one.home_community_id, problem="no answer in time") for one in communities)
    return tuple(said or late for said, late in zip(answers, silent, strict=True))


def _ask(room: Room, community: Community, patient_id: str, deadline: float) -> Said:
    home = community.home_community_id
    try:
        found = room.patients.ask(community, patient_id, deadline)
    except Unknown as unknown:
        return Said(home, problem=unknown.reason)
    except StoreUnavailable as error:
        return Said(home, problem=str(error))
    return Said(home, found.ids, found.patients, found.time_to_live_s)
