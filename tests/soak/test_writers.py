"""Many writers on the same few objects, for some seconds: the code of ``python -m tests.soak writers``."""

import pytest

from tests.postgres import new_database, postgres_server  # noqa: F401 - a fixture
from tests.soak.contending import Plan, contend
from tests.soak.server import databases


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_nothing_is_lost_or_doubled_among_many_writers(tmp_path, engine, request):
    settings = {"REGISTRY__WORKERS": "2"}
    if engine == "postgresql":
        server = request.getfixturevalue("postgres_server")
        settings |= databases(lambda _name: new_database(server))
    report = contend(Plan(seed=3, threads=16, seconds=5, settings=settings), tmp_path)
    told = "\n".join(report.lines())
    assert report.violations == [], told
    assert all(report.answers[f"ITI-{number}", "Success"] for number in (18, 42, 57, 62)), told
