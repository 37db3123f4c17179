"""The one decision point."""

import pytest

from consent import EVERYTHING, Decision, Visibility, decide
from ihe.xua import Caller


@pytest.mark.parametrize("caller", [Caller("127.0.0.1"), Caller("10.0.0.7", "CN=lab,O=Hospital A", "sha256:00")])
@pytest.mark.parametrize("transaction", ["ITI-8", "ITI-18", "ITI-41", "ITI-42", "ITI-43"])
def test_a_trusted_node_may_do_everything_and_the_rule_says_so(caller, transaction):
    assert decide(caller, transaction) == Decision(permit=True, rule="permit-trusted-node", visibility=EVERYTHING)


def test_visibility_is_a_value():
    assert Visibility() == EVERYTHING
    with pytest.raises(AttributeError):
        EVERYTHING.everything = False
