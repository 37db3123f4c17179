"""Posts batches of audit records to the feed of a Dossier audit service.

``POST …/records`` with octet-counted frames (RFC 5425) as body; 200 means every record of it is committed there.
"""

from http import HTTPStatus
from typing import Final

from wire.settings import TlsSettings
from wire.sink_client import SinkClient

__all__ = ["RecordsClient"]

MEDIA_TYPE: Final = "application/octet-stream"


class RecordsClient:
    """Call it with (sink, batch), from any thread; raises NotDelivered and BatchRefused as ``SinkClient`` does."""

    def __init__(self, tls: TlsSettings | None) -> None:
        self._client = SinkClient(tls)

    def __call__(self, sink: str, batch: bytes) -> None:
        self._client.post(sink, batch, MEDIA_TYPE, {HTTPStatus.OK})

    def close(self) -> None:
        """Close the connections it kept."""
        self._client.close()
