"""Which community is which, and when it is left alone."""

import time

import pytest
from prometheus_client import REGISTRY

from gateway.communities import Communities, Open
from gateway.settings import GatewaySettings
from ihe.errors import FaultCode, SoapFault
from tests.gateway.test_breaker import Clock
from wire.client import NotSent, NotTried, OutcomeUnknown, PeerFault
from wire.settings import TlsSettings

METZ, TRIER = "urn:oid:1.2.250.1", "urn:oid:1.2.276.1"


def nobody(_address, _port, _reason):
    raise AssertionError


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def communities(clock):
    settings = GatewaySettings(
        communities=[{"home_community_id": METZ}, {"home_community_id": TRIER}], breaker_failures=2, breaker_pause_s=10
    )
    it = Communities(settings, TlsSettings(), nobody, clock=clock)
    yield it
    it.close()


def guarded(communities, home=METZ, left_s=15.0):
    return communities.guard(communities.by_home(home), time.monotonic() + left_s)


def fail(communities, error=None, left_s=15.0):
    with pytest.raises(type(error or OutcomeUnknown(""))), guarded(communities, left_s=left_s):
        raise error or OutcomeUnknown("silent")


def metric(name, **labels):
    return REGISTRY.get_sample_value(name, {"community": METZ, **labels}) or 0


@pytest.mark.parametrize("home", [METZ, "1.2.250.1", " urn:oid:1.2.250.1 ", "URN:OID:1.2.250.1"])
def test_a_home_is_known_in_every_spelling(communities, home):
    assert communities.by_home(home).home_community_id == METZ


@pytest.mark.parametrize("home", ["", "urn:oid:1.2.250.10", "1.2.250", "nonsense"])
def test_a_stranger_is_not(communities, home):
    assert communities.by_home(home) is None


def test_the_order_is_that_of_the_settings(communities):
    assert [one.home_community_id for one in communities.all()] == [METZ, TRIER]


def test_a_community_that_failed_too_often_is_left_alone_and_others_are_not(communities, clock):
    skipped = metric("dossier_community_calls_total", result="skipped")
    fail(communities)
    fail(communities, ValueError("nonsense"))
    assert metric("dossier_community_open") == 1
    fail(communities, Open("still"))
    assert metric("dossier_community_calls_total", result="skipped") == skipped + 1
    with guarded(communities, TRIER):
        pass
    clock.now = 10
    answered = metric("dossier_community_calls_total", result="answered")
    with guarded(communities):
        pass
    assert metric("dossier_community_open") == 0
    assert metric("dossier_community_calls_total", result="answered") == answered + 1


def test_a_fault_that_blames_the_sender_is_an_answer_one_that_blames_the_receiver_is_a_failure(communities):
    blamed, broken = (PeerFault(SoapFault(code, "no")) for code in (FaultCode.SENDER, FaultCode.RECEIVER))
    faults = metric("dossier_community_calls_total", result="fault")
    for error in (broken, blamed, broken, blamed):
        fail(communities, error)
    assert metric("dossier_community_open") == 0
    fail(communities, broken)
    fail(communities, broken)
    assert metric("dossier_community_open") == 1
    assert metric("dossier_community_calls_total", result="fault") == faults + 6


def test_an_answer_that_its_reader_gave_up_says_nothing(communities):
    def reading():
        with guarded(communities):
            yield 1

    for _ in range(5):
        pieces = reading()
        next(pieces)
        pieces.close()
    assert metric("dossier_community_open") == 0


def test_what_was_not_tried_for_want_of_time_or_connections_says_nothing(communities, clock):
    skipped = metric("dossier_community_calls_total", result="skipped")
    for _ in range(5):
        fail(communities, NotTried("no time is left for it"))
    assert metric("dossier_community_open") == 0
    fail(communities)
    fail(communities)
    assert metric("dossier_community_open") == 1
    clock.now = 10
    fail(communities, NotTried("no connection"))  # the one that tries gives its turn back
    with guarded(communities):
        pass
    assert metric("dossier_community_open") == 0
    assert metric("dossier_community_calls_total", result="skipped") == skipped + 6


@pytest.mark.parametrize("error", [OutcomeUnknown("late"), NotSent("late")], ids=["no answer", "no connection"])
def test_who_is_late_after_we_used_up_its_time_did_not_fail(communities, clock, error):
    """15 s are its own; it was asked when none of them was left, or as good as."""
    skipped = metric("dossier_community_calls_total", result="skipped")
    for _ in range(5):
        fail(communities, error, left_s=0.01)
    assert metric("dossier_community_open") == 0
    assert metric("dossier_community_calls_total", result="skipped") == skipped + 5
    fail(communities)
    fail(communities)
    clock.now = 10
    fail(communities, error, left_s=0.01)  # the one that tries gives its turn back
    with guarded(communities):
        pass
    assert metric("dossier_community_open") == 0


@pytest.mark.parametrize(
    ("error", "left_s"),
    [(OutcomeUnknown("hangs up"), 5.0), (ValueError("nonsense"), 0.01)],
)
def test_what_fails_before_its_time_is_over_or_is_wrong_is_a_failure_however_little_it_had(communities, error, left_s):
    for _ in range(2):
        fail(communities, error, left_s)
    assert metric("dossier_community_open") == 1
