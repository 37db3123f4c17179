"""[repository] settings: defaults, and faults that say what is allowed."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from repository.settings import Bucket, RepositorySettings, store_bucket, store_directory
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
        ("store", "s3+https://host/bucket", "store_access_key and store_secret_key"),
        ("store", "s3://host/bucket", "s3+https://host"),
        ("store", "s3+https://key:secret@host/bucket", "settings of their own"),
        ("store", "s3+https://host", "s3+https://host[:port]/bucket"),
        ("store", "s3+https://host/Bucket", "s3+https://host[:port]/bucket"),
        ("store", "s3+https://host/buck..et", "should name a bucket"),
        ("store", "s3+https://host/10.0.0.1", "should name a bucket"),
        ("store", "s3+https://host/bucket?x=1", "s3+https://host[:port]/bucket"),
        ("store", "s3+https://host/bucket/../other", "s3+https://host[:port]/bucket"),
        ("store", "s3+https://host:99999/bucket", "port"),
        ("store", "s3+http://s3.example.org/bucket", "loopback"),
        ("store", "s3+http://10.0.0.1:9000/bucket", "loopback"),
        ("upload_part_bytes", 5 * 2**20 - 1, "greater than or equal to"),
        ("store", "/var/lib", "file:///"),
        ("store", "file://host/var", "absolute path"),
        ("store", "file:///var?x", "%3F"),
        ("registry_url", "registry:8010", "https://"),
        ("unique_id", "abc", "OID"),
        ("identical_retry", "maybe", "accept"),
        ("remove_registered", "maybe", "accept"),
        ("max_retrieve_documents", 0, "greater than 0"),
        ("workers", 0, "greater than 0"),
        ("max_documents", 0, "greater than 0"),
        ("max_uploads", 0, "greater than 0"),
        ("scanner", "clamav", "clamd://HOST:PORT"),
        ("media_check", "maybe", "refuse"),
        ("scan_timeout_s", 0, "greater than 0"),
        ("staging_age_s", 1e13, "less than or equal to 3153600000"),
        ("sweep_interval_s", 1e10, "less than or equal to 3153600000"),
        ("unknown", 1, "not permitted"),
    ],
)
def test_faults_say_what_is_allowed(key, value, word):
    with pytest.raises(ValidationError) as refused:
        RepositorySettings(**{key: value})
    assert word in str(refused.value)


RULE = {"class_code": "11502-2^^2.16.840.1.113883.6.1", "days": 3650}


def test_a_retention_rule_keeps_what_is_registered_and_counts_from_creation():
    (rule,) = RepositorySettings(retention=[RULE]).retention
    assert (rule.after, rule.registered) == ("creation", "keep")
    assert rule.name == "class 11502-2^^2.16.840.1.113883.6.1: 3650 days after creation"
    (rule,) = RepositorySettings(retention=[RULE | {"class_code": " c^^urn:oid:1.2 ", "after": "stored"}]).retention
    assert rule.class_code == "c^^1.2"


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"class_code": "11502-2"}, "code and its scheme"),
        ({"class_code": "^^1.2"}, "code and its scheme"),
        ({"class_code": "a^^b^^c"}, "code and its scheme"),
        ({"days": 0}, "greater than 0"),
        ({"days": 10**6}, "less than or equal"),
        ({"after": "today"}, "creation"),
        ({"registered": "yes"}, "keep"),
        ({"class": "x"}, "not permitted"),
    ],
)
def test_faults_of_a_rule_say_what_is_allowed(change, word):
    with pytest.raises(ValidationError) as refused:
        RepositorySettings(retention=[RULE | change])
    assert word in str(refused.value)


def test_one_class_has_one_rule():
    with pytest.raises(ValidationError, match="more than one rule for class 11502-2"):
        RepositorySettings(retention=[RULE, RULE | {"days": 1}])


def test_the_directory_of_a_store():
    assert store_directory("file:///a%20b/c") == Path("/a b/c")
    assert RepositorySettings(unique_id="urn:oid:1.2.3").unique_id == "1.2.3"


KEYS = {"store_access_key": "access", "store_secret_key": "hidden"}


@pytest.mark.parametrize(
    ("url", "bucket"),
    [
        ("s3+https://s3.example.org/documents", Bucket("s3.example.org", True, "documents", "")),
        ("s3+https://s3.example.org:9443/documents/a/b/", Bucket("s3.example.org:9443", True, "documents", "a/b/")),
        ("s3+http://127.0.0.1:9000/documents", Bucket("127.0.0.1:9000", False, "documents", "")),
        ("s3+http://[::1]:9000/documents", Bucket("[::1]:9000", False, "documents", "")),
        ("s3+http://localhost/documents/x", Bucket("localhost", False, "documents", "x/")),
    ],
)
def test_the_bucket_of_a_store(url, bucket):
    assert store_bucket(RepositorySettings(store=url, **KEYS).store) == bucket
    assert store_bucket("file:///x") is None


def test_parts_have_to_hold_the_largest_document():
    with pytest.raises(ValidationError, match="upload_part_bytes is too small"):
        RepositorySettings(store="s3+https://host/bucket", max_document_bytes=2**40, **KEYS)


def test_the_secret_of_the_store_is_never_shown():
    settings = RepositorySettings(store="s3+https://host/bucket", **KEYS)
    assert "hidden" not in repr(settings)
