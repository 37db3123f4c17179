"""The document store that the settings name."""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from repository.settings import Bucket, RepositorySettings, store_bucket, store_directory
from repository.store.directory import DirectoryStore
from repository.store.protocol import DocumentStore, StoreRefused
from repository.store.s3 import S3Store
from repository.store.s3_client import S3Client, S3Options

__all__ = ["anonymous_client", "answers", "bucket_client", "open_store"]

NO_KEY: Final = "0" * 32
"""A key that is asked for and never used."""


def open_store(settings: RepositorySettings, *, awaited: Callable[[], bool] = lambda: False) -> DocumentStore:
    """A directory or a bucket. An object store is not asked for anything yet; a directory is prepared.

    ``awaited`` tells whether there are documents that should lie there: then a directory that is not there is not made.
    The disk it lies on is not mounted, and what was stored below the mount point would vanish once it is.
    Raises ``StoreRefused``.
    """
    bucket = store_bucket(settings.store)
    if bucket is None:
        root = store_directory(settings.store)
        if not DirectoryStore.is_made(root) and awaited():
            raise StoreRefused(
                f"document store {root}: there is none, but the database knows documents that lie in it: "
                f"mount its disk, or mend repository.store; where they are lost, make the folder {root / 'objects'}"
            )
        return DirectoryStore(root, min_free_bytes=settings.min_free_bytes)
    return S3Store(bucket_client(settings, bucket), bucket.prefix, part_bytes=settings.upload_part_bytes)


def bucket_client(settings: RepositorySettings, bucket: Bucket, *, secret_key: str | None = None) -> S3Client:
    """Requests to the bucket; ``secret_key`` in place of the one of the settings."""
    return S3Client(_options(settings, bucket, secret_key))


def anonymous_client(settings: RepositorySettings, bucket: Bucket) -> S3Client:
    """Requests to the bucket without a key."""
    return S3Client(replace(_options(settings, bucket, None), access_key=None, secret_key=None))


def _options(settings: RepositorySettings, bucket: Bucket, secret_key: str | None) -> S3Options:
    own = None if settings.store_secret_key is None else settings.store_secret_key.get_secret_value()
    return S3Options(
        endpoint=bucket.endpoint,
        secure=bucket.secure,
        bucket=bucket.name,
        access_key=settings.store_access_key,
        secret_key=secret_key or own,
        region=settings.store_region,
        ca=settings.store_ca,
        connect_timeout_s=settings.store_connect_timeout_s,
        timeout_s=settings.store_timeout_s,
    )


def answers(store: DocumentStore, min_free_bytes: int) -> bool:
    """Whether the store can be asked and has room, as far as it knows; raises ``StoreUnavailable``."""
    if store.size(NO_KEY) is not None:
        return False
    free = store.free_bytes()
    return free is None or free > min_free_bytes
