"""What the soaks of the suite need beside the services: an S3 server."""

from tests.object_store import object_store, seaweedfs

__all__ = ["object_store", "seaweedfs"]
