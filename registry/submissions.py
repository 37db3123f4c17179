"""How a submission is answered, whichever it is: read, judged on what is stored, written, recorded; all in one.

``SUBMISSIONS`` has a row for each transaction whose request is an lcm:SubmitObjectsRequest.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from ihe import ebrs
from ihe import vocabulary as v
from ihe.errors import ErrorCode, RegistryError, Rejected
from ihe.transactions import ITI_42, ITI_57, ITI_61, ITI_92, Transaction
from registry import iti42_register_document_set_b as iti42
from registry import iti57_update_document_set as iti57
from registry import iti61_register_on_demand_document_entry as iti61
from registry import iti92_restricted_update_document_set as iti92
from registry.asked import SubmissionAsked, in_one_of_some_attempts
from registry.desk import Desk, new_uuid
from registry.store.protocol import Depositor, StoreUnavailable
from wire.messages import Reply, Request


@dataclass(frozen=True, slots=True)
class SubmissionRules:
    """What differs from one transaction to the next; see ``registry.iti42_register_document_set_b``."""

    read: Callable[..., Any]
    asked_about: Callable[..., Any]
    judge: Callable[..., Any]


SUBMISSIONS: Final[Mapping[Transaction, SubmissionRules]] = {
    ITI_42: SubmissionRules(iti42.read_submission, iti42.asked_about, iti42.judge),
    ITI_57: SubmissionRules(iti57.read_update, iti57.asked_about, iti57.judge),
    ITI_61: SubmissionRules(iti61.read_submission, iti42.asked_about, iti42.judge),
    ITI_92: SubmissionRules(iti92.read_restricted_update, iti92.asked_about, iti92.judge),
}


def answer(desk: Desk, request: Request) -> Reply:
    """Success, or Failure with every error found; all or nothing (ITI TF-2: 3.42.4.1.3)."""
    asked = SubmissionAsked(desk, request)
    try:
        asked.admit()
        _submit(asked, SUBMISSIONS[request.transaction])
    except (Rejected, StoreUnavailable) as refused:
        return Reply([ebrs.registry_response(v.FAILURE, asked.refused(refused))])
    return Reply([ebrs.registry_response(v.SUCCESS)])


def _submit(asked: SubmissionAsked, rules: SubmissionRules) -> None:
    desk, request = asked.desk, asked.request
    deadline = time.monotonic() + desk.settings.max_registration_s
    submission = rules.read(request.body, desk.domain, lenient=desk.is_lenient(request), new_uuid=new_uuid)
    asked.patient_id, asked.submission_set_id = submission.patient_id, submission.unique_id
    wanted = rules.asked_about(submission)
    sender = desk.sender_of(request)
    depositor = Depositor(sender.node, sender.organisation, sender.person)
    partner, on_the_way = desk.partner_of(request), asked.on_the_way()

    def register() -> None:
        with desk.store.unit_of_work() as work:
            registration = rules.judge(submission, work.facts_about(wanted), desk.today(), new_uuid)
            defects = (*on_the_way, *registration.defects)
            work.apply(replace(registration, depositor=depositor, partner=partner, defects=defects))
            work.record(asked.records())
            if time.monotonic() > deadline or desk.given_up(request):
                # A repository that heard nothing judges this submission lost from here on: it must not appear.
                raise Rejected((RegistryError(ErrorCode.REGISTRY_BUSY, "took too long; send it again"),))

    try:
        in_one_of_some_attempts(register)
    except Rejected as refused:
        raise Rejected(iti42.in_words_of_sender(refused.errors, submission)) from None
