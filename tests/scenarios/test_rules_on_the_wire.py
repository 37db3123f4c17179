"""Every violation of a rule as a real message to a running registry (ITI TF-3: 4.2; ITI TF-2: 3.42.4.1.3, 3.61.4.1.3).

ITI-61 where the rule is judged by the columns of On-Demand entries, ITI-42 everywhere else.
"""

import pytest

from ihe import vocabulary as v
from ihe.transactions import ITI_42, ITI_61
from tests import builders as b
from tests.ihe.rule_cases import VIOLATIONS, on_demand
from tests.scenarios.wire_peer import answer_names, set_id

SENT = [one for one in VIOLATIONS if not one.by_setting]
LENIENT = [one for one in SENT if one.lenient]
HARD = [one for one in SENT if not one.lenient]


def label(violation):
    return f"{violation.rule}: {violation.words[-1]}"


def sent(peer, violation):
    return peer.register(violation.objects, ITI_61 if violation.on_demand else ITI_42)


def refused(peer, violation):
    """Send it; it is refused by name and leaves nothing behind."""
    before = peer.rows()
    answer = sent(peer, violation)
    assert (answer.http_status, answer.status) == (200, "Failure")
    assert answer_names(answer, violation.code, *violation.words), answer.errors
    assert peer.rows() == before
    unique_id = set_id(violation.objects)
    if unique_id and " " not in unique_id:
        assert peer.contents(unique_id) == ()


def test_what_is_right_is_accepted_and_found(strict):
    objects = b.submission(2, 1)
    answer = strict.register(objects)
    assert (answer.http_status, answer.status, answer.errors) == (200, "Success", [])
    assert len(strict.contents(set_id(objects))) == 11  # a set, two entries, a folder, their seven links


def test_an_on_demand_entry_is_accepted_and_found(strict):
    objects = on_demand()
    answer = strict.register(objects, ITI_61)
    assert (answer.http_status, answer.status, answer.errors) == (200, "Success", [])
    assert answer.body.getroottree().findtext(f".//{{{v.WSA}}}Action") == ITI_61.response_action
    entry = strict.contents(set_id(objects))[1]
    assert (entry.object_type, entry.slot("hash"), entry.slot("size")) == (v.ON_DEMAND, None, None)


@pytest.mark.parametrize("violation", SENT, ids=label)
def test_each_violation_is_refused_by_name(strict, violation):
    refused(strict, violation)


@pytest.mark.parametrize("violation", HARD, ids=label)
def test_warn_refuses_what_changes_the_meaning(lenient, violation):
    refused(lenient, violation)


@pytest.mark.parametrize("violation", LENIENT, ids=label)
def test_warn_takes_what_only_deviates_and_remembers_it(lenient, violation):
    known = len(lenient.defects())
    answer = sent(lenient, violation)
    assert (answer.http_status, answer.status, answer.errors) == (200, "Success", [])
    kinds = [str(one.kind) for one in lenient.contents(set_id(violation.objects))]
    assert kinds[:2] == ["SubmissionSet", "DocumentEntry"]
    (code, context), *more = lenient.defects()[known:]
    assert more == []
    assert code == violation.code
    assert all(word in context for word in violation.words)


def test_there_are_lenient_and_hard_violations_to_send():
    assert len(LENIENT) > 10
    assert len(HARD) > 100
    assert any(one.on_demand for one in HARD)
