"""Addresses of databases: what the settings take is what can be opened, and nothing that is given is repeated."""

import pytest
from pydantic import BaseModel, ValidationError
from sqlalchemy import make_url

from atna.database_url import DatabaseUrl


class Section(BaseModel):
    url: DatabaseUrl


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:////srv/dossier/registry.db",
        "sqlite:///registry.db",
        "sqlite:////srv/with blank & ümlaut.db?timeout=5",
        "postgresql+psycopg://registry@db/registry",
        "postgresql://u:p/a#s%40s@db.example:5432/registry?connect_timeout=2",
        "postgresql+psycopg://u:p@[::1]:5432/registry",
        "postgresql+psycopg:///registry?host=/run/postgresql",
    ],
)
def test_an_address_that_can_be_opened_is_taken(url):
    make_url(url)
    assert Section(url=url).url == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "registry.db",
        "sqlite://",
        "sqlite:///",
        "sqlite:///:memory:",
        "sqlite://srv/registry.db",
        "mysql://u:hidden@db/registry",
        "postgresql+psycopg://u:hidden@word@db:5432/registry",
        "postgresql+psycopg://u:hidden@db:port/registry",
        "file:///srv/registry.db",
    ],
)
def test_an_address_that_cannot_is_refused_without_its_password(url):
    with pytest.raises(ValidationError) as caught:
        Section(url=url)
    assert "postgresql+psycopg://user:password@host/name" in caught.value.errors()[0]["msg"]
    assert "hidden" not in caught.value.errors()[0]["msg"]
