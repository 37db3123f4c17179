"""A strict and a lenient Dossier on the wire, with the patient of the builders known to both."""

import pytest

from dossier.demo import serving
from tests.builders import PATIENT
from tests.scenarios.wire_peer import WirePeer


@pytest.fixture(scope="session")
def strict(dossier_server):
    """A peer of the Dossier of this test process, which refuses what deviates."""
    peer = WirePeer(dossier_server, lambda patient: dossier_server.run("feed", "--patient", patient))
    peer.feed(PATIENT)
    yield peer
    peer.close()


@pytest.fixture(scope="session")
def lenient(tmp_path_factory, run_command):
    """A peer of a Dossier of its own with strictness ``warn``."""
    data = tmp_path_factory.mktemp("lenient")
    config = data / "lenient.toml"
    config.write_text('[affinity_domain]\nstrictness = "warn"\n')
    with serving(data, config=config) as running:

        def feed(patient):
            status, _, err = run_command("feed", "--patient", patient, "--base-port", str(running.base_port))
            assert status == 0, err

        peer = WirePeer(running, feed, strict=False)
        feed(PATIENT)
        yield peer
        peer.close()
