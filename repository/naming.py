"""What ITI-43 and ITI-86 answer alike of documents that are asked for by name."""

from collections.abc import Sequence

from ihe import vocabulary as v
from ihe.errors import ErrorCode, RegistryError
from ihe.findings import shortened

__all__ = ["foreign_repository", "status_of", "unknown_document"]


def foreign_repository(repository: str, own_id: str, unique_id: str) -> RegistryError:
    """A document of another repository is none of ours."""
    text = f"repository {shortened(repository)} is not this one, which is {own_id} (document {shortened(unique_id)})"
    return RegistryError(ErrorCode.UNKNOWN_REPOSITORY_ID, text)


def unknown_document(unique_id: str) -> RegistryError:
    """There is no such document here."""
    return RegistryError(ErrorCode.DOCUMENT_UNIQUE_ID, f"document {shortened(unique_id)} is not known here")


def status_of(errors: Sequence[RegistryError], done: Sequence[object]) -> str:
    """Success, PartialSuccess or Failure (ITI TF-2: 3.43.5)."""
    if not errors:
        return v.SUCCESS
    return v.PARTIAL_SUCCESS if done else v.FAILURE
