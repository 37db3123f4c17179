"""A neighbour that is stopped or dead for a while: what it would have confirmed is asked again, nothing is lost."""

import random
import signal
import time
from contextlib import contextmanager

from tests.builders import new_oid
from tests.soak.plain import plain
from tests.soak.server import serving
from tests.soak.source import compose, patient_id
from tests.soak.stores import backlog, waiting
from tests.soak.test_full_disk import in_the_end

PATIENT = patient_id("outage")
SETTINGS = {
    "REGISTRY__MAX_REGISTRATION_S": "1",
    "REPOSITORY__MAX_REGISTRATION_S": "1",
    "REPOSITORY__REGISTRY_TIMEOUT_S": "2",
    "REPOSITORY__SWEEP_INTERVAL_S": "1",
}
NOT_AVAILABLE = ["XDSRegistryNotAvailable"]
# Busy: it came back, but later than a registration may take.
NOT_NOW = (NOT_AVAILABLE, ["XDSRegistryBusy"], [])


@contextmanager
def stand(tmp_path, **settings):
    with serving(tmp_path, **SETTINGS, **settings) as server, plain(server) as client:
        assert client.feed(new_oid()[:40], PATIENT) == "AA"
        urls = {name: f"sqlite:///{tmp_path}/{name}.db" for name in ("registry", "repository", "audit")}
        yield server, client, urls


def again(client, package, within_s=30):
    """The identical submission until it is taken; every answer before says "not now"."""
    deadline = time.monotonic() + within_s
    while (codes := client.provide(package)) and time.monotonic() < deadline:
        assert codes in NOT_NOW
        time.sleep(0.1)
    assert codes == []


@contextmanager
def stopped(server, child):
    assert server.signal(child, signal.SIGSTOP)
    try:
        yield
    finally:
        server.signal(child, signal.SIGCONT)


def test_the_registry_does_not_answer(tmp_path):
    """Asked for once, asked for again, then it wakes with both requests still in its sockets."""
    rng = random.Random(1)
    with stand(tmp_path) as (server, client, urls):
        packages = [compose(rng, PATIENT, [rng.randbytes(size)]) for size in (3000, 2**21)]
        with stopped(server, "registry-1"):
            for package in packages:
                assert client.provide(package) == NOT_AVAILABLE
            assert client.provide(packages[0]) == NOT_AVAILABLE
        for package in packages:
            again(client, package)
        in_the_end(server, client, urls, tmp_path / "documents")


def test_a_registration_that_wakes_up_too_late_is_given_up(tmp_path):
    """One of two workers hangs with the request; the other says "not there" for so long that this is final."""
    rng = random.Random(2)
    with stand(tmp_path, REGISTRY__WORKERS="2") as (server, client, urls):
        assert client.provide(compose(rng, PATIENT, [rng.randbytes(3000)])) == []
        for child in ("registry-1", "registry-2"):
            package = compose(rng, PATIENT, [rng.randbytes(3000)])
            with stopped(server, child):
                codes = client.provide(package)
                if codes:  # the connection that is kept open led to this one
                    until_settled(urls)
            if codes:
                break
        assert codes == NOT_AVAILABLE
        time.sleep(1)
        assert client.provide(package) == []
        in_the_end(server, client, urls, tmp_path / "documents")


def until_settled(urls, within_s=40):
    deadline = time.monotonic() + within_s
    while waiting(urls) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not waiting(urls)


def test_the_registry_dies_again_and_again(tmp_path):
    rng = random.Random(3)
    with stand(tmp_path) as (server, client, urls):
        package = compose(rng, PATIENT, [rng.randbytes(3000)])
        until = time.monotonic() + 5
        while time.monotonic() < until:
            server.signal("registry-1", signal.SIGKILL)
            time.sleep(0.3)
            assert client.provide(package) in NOT_NOW
        again(client, package)
        in_the_end(server, client, urls, tmp_path / "documents")


def test_the_audit_service_is_away(tmp_path):
    """Silent for a while, then dead again and again: the others work on, its records wait."""
    rng = random.Random(4)
    with stand(tmp_path) as (server, client, urls):
        for number in (signal.SIGSTOP, signal.SIGKILL):
            until = time.monotonic() + 4
            while time.monotonic() < until:
                server.signal("audit-1", number)
                assert client.provide(compose(rng, PATIENT, [rng.randbytes(3000)])) == []
                assert client.find(PATIENT) == []
            assert backlog(urls) > 0
            server.signal("audit-1", signal.SIGCONT)
        in_the_end(server, client, urls, tmp_path / "documents")
