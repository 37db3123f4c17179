"""The S3 servers of the session."""

from tests.object_store import minio, object_store, seaweedfs

__all__ = ["minio", "object_store", "seaweedfs"]
