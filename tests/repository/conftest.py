"""The document stores that the crash protocol is tried on: each test that asks for ``place`` runs on every kind."""

import pytest

from repository.settings import store_directory
from repository.store.directory import DirectoryStore
from tests.object_store import minio, object_store, seaweedfs

__all__ = ["minio", "object_store", "seaweedfs"]


@pytest.fixture(scope="session")
def folder_of_documents(tmp_path_factory):
    """A store that lasts as long as the tests: to make one takes seconds."""
    return DirectoryStore(store_directory((tmp_path_factory.mktemp("documents") / "store").as_uri()))


@pytest.fixture
def directory_place(folder_of_documents):
    for stored in list(folder_of_documents.objects()):
        folder_of_documents.delete(stored.key)
    return {"store": folder_of_documents._objects.parent.as_uri()}


@pytest.fixture
def bucket_place(object_store):
    return object_store.values()


PLACES = ["directory_place", "bucket_place"]


@pytest.fixture(params=PLACES)
def place(request):
    """Settings of where documents lie: an empty store."""
    return request.getfixturevalue(request.param)
