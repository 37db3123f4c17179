"""[repository] settings: defaults, and faults that say what is allowed."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from repository.settings import RepositorySettings, store_directory
from wire.settings import LimitSettings


def test_defaults_are_those_of_the_contract():
    settings = RepositorySettings()
    assert (settings.listen, settings.workers) == ("127.0.0.1:8020", 1)
    assert settings.unique_id == "1.3.6.1.4.1.21367.2011.2.3.9999"
    assert settings.max_document_bytes == 2 * 2**30
    assert settings.max_request_bytes == 3 * 2**30
    assert settings.max_inline_bytes == settings.upload_buffer_bytes == 32 * 2**20
    assert (settings.max_documents, settings.max_uploads) == (1000, 64)
    assert (settings.scanner, settings.scanner_required, settings.media_check) == ("none", True, "warn")
    assert settings.max_scans < LimitSettings().threads
    assert settings.identical_retry == "accept"
    assert settings.max_registration_s < settings.registry_timeout_s


@pytest.mark.parametrize(
    ("key", "value", "word"),
    [
        ("store", "s3+https://host/bucket", "not in this version"),
        ("store", "/var/lib", "file:///"),
        ("store", "file://host/var", "absolute path"),
        ("store", "file:///var?x", "%3F"),
        ("registry_url", "registry:8010", "https://"),
        ("unique_id", "abc", "OID"),
        ("identical_retry", "maybe", "accept"),
        ("workers", 0, "greater than 0"),
        ("max_documents", 0, "greater than 0"),
        ("max_uploads", 0, "greater than 0"),
        ("scanner", "clamav", "clamd://HOST:PORT"),
        ("media_check", "maybe", "refuse"),
        ("scan_timeout_s", 0, "greater than 0"),
        ("unknown", 1, "not permitted"),
    ],
)
def test_faults_say_what_is_allowed(key, value, word):
    with pytest.raises(ValidationError) as refused:
        RepositorySettings(**{key: value})
    assert word in str(refused.value)


def test_the_directory_of_a_store():
    assert store_directory("file:///a%20b/c") == Path("/a b/c")
    assert RepositorySettings(unique_id="urn:oid:1.2.3").unique_id == "1.2.3"
