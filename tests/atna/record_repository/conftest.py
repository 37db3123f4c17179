"""The audit service on each engine, and a client of it."""

from contextlib import closing

import httpx2
import pytest

from tests.atna.record_repository.audit_service import Service


@pytest.fixture
def service(database_url):
    service = Service(database_url)
    yield service
    service.close()


@pytest.fixture
def http(service):
    with closing(httpx2.Client(base_url=service.base, timeout=20, trust_env=False)) as client:
        yield client
