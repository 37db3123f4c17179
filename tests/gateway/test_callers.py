import pytest

from gateway.callers import community_of, may_ask, may_consume
from gateway.settings import GatewaySettings
from ihe.xua import Caller

METZ = {
    "home_community_id": "1.2.250.1",
    "subjects": ["CN=gateway,O=Metz", "sha256:" + "ab" * 32],
    "transactions": ["ITI-38", "ITI-92"],
}
STRANGER = Caller("10.0.0.9", "CN=stranger", "sha256:" + "00" * 32)
BY_SUBJECT = Caller("10.0.0.1", "CN=gateway,O=Metz", "sha256:" + "11" * 32)
BY_FINGERPRINT = Caller("10.0.0.1", "CN=renamed", "sha256:" + "ab" * 32)
LOOPBACK = Caller("127.0.0.1")


def listing(*transactions, of=None):
    """What the domain lists, for everybody or for one name."""
    return lambda caller: transactions if of is None or of in (caller.node, caller.fingerprint) else ()


def settings(**more):
    return GatewaySettings(communities=[METZ], **more)


@pytest.mark.parametrize("caller", [BY_SUBJECT, BY_FINGERPRINT], ids=["subject", "fingerprint"])
def test_a_community_sends_what_is_exchanged_with_it_and_no_more(caller):
    assert community_of(caller, settings().communities).home_community_id == "urn:oid:1.2.250.1"
    allowed = {
        code: may_ask(settings(), caller, code, listing()).permit for code in ("ITI-38", "ITI-39", "ITI-55", "ITI-92")
    }
    assert allowed == {"ITI-38": True, "ITI-39": False, "ITI-55": False, "ITI-92": True}


@pytest.mark.parametrize(
    ("caller", "callers", "granted", "allowed"),
    [
        (STRANGER, "trusted", (), ["ITI-38", "ITI-39", "ITI-55"]),
        (STRANGER, "trusted", ("ITI-92",), ["ITI-38", "ITI-39", "ITI-55", "ITI-92"]),
        (STRANGER, "listed", (), []),
        (STRANGER, "listed", ("ITI-39",), ["ITI-39"]),
        (LOOPBACK, "listed", (), ["ITI-38", "ITI-39", "ITI-55", "ITI-92"]),
    ],
)
def test_a_caller_of_no_community(caller, callers, granted, allowed):
    found = [
        code
        for code in ("ITI-38", "ITI-39", "ITI-55", "ITI-92")
        if may_ask(settings(callers=callers), caller, code, listing(*granted)).permit
    ]
    assert (community_of(caller, settings().communities), found) == (None, allowed)


@pytest.mark.parametrize(("name", "allowed"), [(STRANGER.node, False), (STRANGER.fingerprint, True)])
def test_a_name_that_any_authority_could_give_passes_nothing_on(name, allowed):
    assert may_ask(settings(), STRANGER, "ITI-92", listing("ITI-92", of=name)).permit is allowed


@pytest.mark.parametrize(
    ("caller", "callers", "granted", "allowed"),
    [
        (STRANGER, "trusted", (), True),
        (STRANGER, "listed", (), False),
        (STRANGER, "listed", ("ITI-18",), True),
        (BY_SUBJECT, "trusted", (), False),
        (BY_FINGERPRINT, "trusted", (), False),
        (BY_SUBJECT, "trusted", ("ITI-18",), True),
        (LOOPBACK, "listed", (), True),
    ],
)
def test_who_may_ask_as_a_consumer_of_this_community(caller, callers, granted, allowed):
    assert may_consume(settings(callers=callers), caller, "ITI-18", listing(*granted)).permit is allowed
