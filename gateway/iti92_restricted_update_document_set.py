"""ITI-92 Restricted Update Document Set, passed on by a Responding Gateway (Restricted Metadata Update: 3.92).

Request  lcm:SubmitObjectsRequest, handed on whole to this community's registry; an @home in it is ours
Reply    the registry's, with our home as the location of every error
Errors   LocalPolicyRestrictionError (the caller does not list ITI-92), XDSUnknownCommunity, XDSRegistryMetadataError
         (not as the schema asks), XDSRegistryNotAvailable, XDSRegistryBusy; all that the registry says
Told     the registry learns who sent it, and until when it may be written (our own headers): what is not answered by
         then has not happened
"""

import time
from collections.abc import Sequence
from typing import Any

from lxml import etree

from atna.message import Outcome
from atna.participants import Parties
from gateway.callers import may_ask
from gateway.inquiry import OUTCOMES, codes_of, registry_silent
from gateway.passed_on import security_header
from gateway.room import Room
from ihe import ebrs
from ihe import vocabulary as v
from ihe.datatypes import normalise_oid_urn
from ihe.errors import ErrorCode, RegistryError, Rejected
from ihe.named import submission_named
from ihe.transactions import ITI_92
from schemas import violations
from wire.client import NotSent, OutcomeUnknown, PeerFault
from wire.messages import Reply, Request
from wire.own_headers import depositor_header, give_up_header

__all__ = ["answer"]


def answer(room: Room, request: Request) -> Reply:
    """Let our registry decide; recorded before the first byte leaves."""
    update = _Update(room, request)
    try:
        update.admit()
    except Rejected as refused:
        return update.refused(refused.errors)
    try:
        body = update.pass_on()
    except (NotSent, OutcomeUnknown, PeerFault) as error:
        return update.refused([registry_silent(error, room.home)], sent=Outcome.MAJOR_FAILURE)
    response = ebrs.read_registry_response(body)
    if response.status not in OUTCOMES:
        text = "the registry's answer has no known status"
        return update.refused([RegistryError(ErrorCode.REGISTRY_ERROR, text)], sent=Outcome.MAJOR_FAILURE)
    if response.status != v.SUCCESS:
        return update.refused(response.errors, sent=Outcome.SERIOUS_FAILURE)
    update.record(Outcome.SUCCESS, None, Outcome.SUCCESS)
    return Reply((etree.tostring(body, encoding="UTF-8", with_tail=False),))


class _Update:
    """One request, with what its records say of it."""

    def __init__(self, room: Room, request: Request) -> None:
        self._room, self._request = room, request
        self._decision = may_ask(room.settings, request.caller, ITI_92.code, room.granted)
        self._named = submission_named(request.body)

    def admit(self) -> None:
        """Raise Rejected for what may not be done, cannot be recorded, is in no right form or not for us."""
        if self._room.store.busy():
            text = "audit records wait for the audit service; send it again later"
            raise Rejected((RegistryError(ErrorCode.REGISTRY_BUSY, text),))
        if not self._decision.permit:
            text = f"ITI-92 is refused by rule {self._decision.rule}"
            raise Rejected((RegistryError(ErrorCode.LOCAL_POLICY_RESTRICTION, text),))
        wrong = violations(self._request.body)
        if wrong:
            raise Rejected(RegistryError(ErrorCode.REGISTRY_METADATA, text) for text in wrong)
        foreign = [element for element in self._request.body.iter(f"{{{v.RIM}}}*") if self._is_foreign(element)]
        if foreign:
            name = foreign[0].tag.rpartition("}")[2]
            text = f"{name} {foreign[0].get('id') or 'without id'}: home is not this community, {self._room.home}"
            raise Rejected((RegistryError(ErrorCode.UNKNOWN_COMMUNITY, text),))

    def _is_foreign(self, element: Any) -> bool:
        home = (element.get("home") or "").strip()
        return bool(home) and normalise_oid_urn(home) != self._room.home

    def pass_on(self) -> Any:
        """The body of the registry's answer. Raises what SoapClient.call raises."""
        within = self._room.settings.deadline_s
        headers = depositor_header(self._request.caller) + give_up_header(time.time() + within)
        with self._room.local.call(
            self._room.settings.registry_url,
            ITI_92,
            etree.tostring(self._request.body, encoding="UTF-8", with_tail=False),
            extra_headers=headers + security_header(self._request),
            deadline=time.monotonic() + within,
            max_bytes=self._room.settings.max_answer_bytes,
        ) as answered:
            return answered.body

    def refused(self, errors: Sequence[RegistryError], *, sent: Outcome | None = None) -> Reply:
        """Failure, recorded; our home is where it happened. ``sent`` is what became of the call to the registry."""
        located = [RegistryError(one.code, one.context, one.severity, self._room.home) for one in errors]
        self.record(Outcome.SERIOUS_FAILURE, codes_of(located), sent)
        return Reply((ebrs.registry_response(v.FAILURE, located),))

    def record(self, received: Outcome, reason: str | None, sent: Outcome | None) -> None:
        """Write the records of both sides. Raises StoreUnavailable."""
        records = self._room.records
        sides: list[tuple[Parties, Outcome, str | None]] = [
            (records.received(self._request), received, self._decision.rule)
        ]
        if sent is not None:
            sides.append((records.sent(self._room.settings.registry_url), sent, None))
        self._room.store.record_alone(
            [
                records.updated(
                    parties,
                    transaction=ITI_92,
                    patient_id=self._named.patient_id,
                    submission_set_id=self._named.unique_id,
                    outcome=outcome,
                    reason=reason,
                    decision=rule,
                    home_community_id=self._room.home,
                )
                for parties, outcome, rule in sides
            ]
        )
