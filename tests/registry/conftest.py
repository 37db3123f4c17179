"""A registry on SQLite and one on PostgreSQL: what holds for one holds for the other."""

import pytest

from tests.postgres import postgres_server, postgres_url  # noqa: F401 - fixtures
from tests.registry.rooms import RegistryRoom


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request, tmp_path):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/registry.db"
    return request.getfixturevalue("postgres_url")


@pytest.fixture
def registry(database_url):
    room = RegistryRoom(database_url)
    room.know()
    yield room
    room.close()


@pytest.fixture
def lenient_registry(tmp_path):
    room = RegistryRoom(f"sqlite:///{tmp_path}/lenient.db", strictness="warn")
    room.know()
    yield room
    room.close()
