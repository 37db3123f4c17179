"""The one decision point."""

import pytest

from consent import EVERYTHING, RESTRICTED, Decision, Visibility, decide
from ihe.xua import Caller

NODE = Caller("10.0.0.7", "CN=lab,O=Hospital A", "sha256:00")
MACHINE = Caller("127.0.0.1")


@pytest.mark.parametrize("caller", [MACHINE, Caller("::1"), NODE])
@pytest.mark.parametrize("transaction", ["ITI-8", "ITI-18", "ITI-41", "ITI-42", "ITI-43", "ITI-44"])
def test_a_trusted_node_may_put_in_and_get_out_and_the_rule_says_so(caller, transaction):
    assert decide(caller, transaction) == Decision(permit=True, rule="permit-trusted-node", visibility=EVERYTHING)


@pytest.mark.parametrize("transaction", sorted(RESTRICTED))
def test_what_changes_the_work_of_others_is_for_listed_partners(transaction):
    assert not decide(NODE, transaction).permit
    assert not decide(NODE, transaction, RESTRICTED - {transaction}).permit
    assert decide(NODE, transaction).rule == "listed-partners-only"
    assert decide(NODE, transaction, {transaction}) == Decision(permit=True, rule="permit-listed-partner")


def test_plaintext_loopback_may_do_everything_but_a_certificate_on_loopback_is_a_partner_like_others():
    assert decide(MACHINE, "ITI-62").permit
    assert not decide(Caller("127.0.0.1", "CN=lab", "sha256:00"), "ITI-62").permit
    assert not decide(Caller("127.0.0.1", None, "sha256:00"), "ITI-62").permit, "a certificate without a subject"
    assert not decide(Caller("10.0.0.7"), "ITI-62").permit


def test_a_part_of_a_transaction_can_be_restricted():
    assert not decide(NODE, "ITI-8", restricted=True).permit
    assert decide(NODE, "ITI-8", {"ITI-8"}, restricted=True).permit


def test_visibility_is_a_value():
    assert Visibility() == EVERYTHING
    with pytest.raises(AttributeError):
        EVERYTHING.everything = False
