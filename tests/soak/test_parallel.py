"""Many submissions at the same moment: each is taken the first time it is sent."""

import random
import threading

from tests.soak.ledger import Ledger
from tests.soak.server import serving
from tests.soak.source import Clients, compose, patient_id
from tests.soak.stores import store_faults
from tests.soak.writers import fetch, look
from wire.mllp_client import MllpClient

MANY, SIZE = 50, 2**20
PATIENT = patient_id("parallel")


def test_fifty_documents_of_one_mebibyte_at_once(tmp_path):
    rng, ledger = random.Random(1), Ledger()
    with serving(tmp_path) as server:
        clients = Clients(server, ledger, timeout_s=120)
        with MllpClient(*server.feed) as mllp:
            clients.feed(mllp, "parallel-1", PATIENT)
        packages = [compose(rng, PATIENT, [rng.randbytes(SIZE)]) for _ in range(MANY)]
        together = threading.Barrier(MANY)

        def send(package):
            together.wait()
            clients.provide(package)

        threads = [threading.Thread(target=send, args=(package,)) for package in packages]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert ledger.again == {}
        assert len(ledger.documents) == MANY
        look(clients, ledger, PATIENT)
        for start in range(0, MANY, 10):
            fetch(clients, ledger, list(ledger.documents)[start : start + 10])
        clients.close()
        assert server.stop() == 0
    urls = {name: f"sqlite:///{tmp_path}/{name}.db" for name in ("registry", "repository")}
    assert [*ledger.violations, *store_faults(urls, tmp_path / "documents", ledger)] == []
