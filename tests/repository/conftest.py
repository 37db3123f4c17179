"""The document stores that the crash protocol is tried on: each test that asks for ``place`` runs on every kind."""

import pytest

from repository.settings import store_directory
from repository.store.directory import DirectoryStore

KINDS = ["directory"]


@pytest.fixture(scope="session", params=KINDS)
def kind_of_store(request, tmp_path_factory):
    """Address of a store that lasts as long as the tests: to make one takes seconds."""
    return (tmp_path_factory.mktemp("documents") / "store").as_uri()


@pytest.fixture
def place(kind_of_store):
    """Address of an empty store."""
    store = DirectoryStore(store_directory(kind_of_store))
    for stored in list(store.objects()):
        store.delete(stored.key)
    return kind_of_store
