"""Several actors at one address."""

import pytest

from ihe.transactions import ITI_18, ITI_42, ITI_44_ADD
from registry.joined import Joined


class One:
    def __init__(self, name, *transactions):
        self.name = name
        self.handlers = dict.fromkeys(transactions, name)

    def stage(self, request_id, wanted):
        return f"{self.name} {request_id} {wanted}"

    def failure(self, request, error):
        return f"{self.name} {error}"


class Asked:
    def __init__(self, transaction):
        self.transaction = transaction


def test_each_answers_for_its_own():
    joined = Joined([One("a", ITI_42, ITI_18), One("b", ITI_44_ADD)])
    assert list(joined.handlers.items()) == [(ITI_42, "a"), (ITI_18, "a"), (ITI_44_ADD, "b")]
    assert joined.stage("r", 7) == "a r 7"
    assert joined.failure(Asked(ITI_44_ADD), "e") == "b e"
    assert joined.failure(Asked(ITI_18), "e") == "a e"


def test_two_for_one_transaction_is_a_mistake_of_ours():
    with pytest.raises(ValueError, match="two actors"):
        Joined([One("a", ITI_42), One("b", ITI_42)])
