"""The soak at its smallest: the code of ``python -m tests.soak``, a handful of kills."""

import pytest

from tests.postgres import new_database, postgres_server  # noqa: F401 - a fixture
from tests.soak.server import databases
from tests.soak.soaking import Plan, soak

SETTINGS = {
    # How long a "no" of the registry is no answer yet follows from this, and with it how long a sweep has to wait.
    "REGISTRY__MAX_REGISTRATION_S": "3",
    "REPOSITORY__MAX_REGISTRATION_S": "3",
    "REPOSITORY__REGISTRY_TIMEOUT_S": "5",
}


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_nothing_acknowledged_is_lost_when_processes_are_killed(tmp_path, engine, request):
    settings = dict(SETTINGS)
    if engine == "postgresql":
        server = request.getfixturevalue("postgres_server")
        settings |= databases(lambda _name: new_database(server))
    kinds = ("registry-1", "repository-1", "audit-1", "everything")
    report = soak(Plan(seed=7, kills=1, seconds=8, kinds=kinds, large_bytes=2**21, settings=settings), tmp_path)
    told = "\n".join(report.lines())
    assert report.violations == [], told
    assert all(report.kills[kind] == 1 for kind in kinds), told
    assert all(report.acknowledged.get(f"ITI-{number}") for number in (8, 18, 41, 42, 43)), told
