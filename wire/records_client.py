"""Posts batches of audit records to the feed of a Dossier audit service.

``POST …/records`` with octet-counted frames (RFC 5425) as body; 200 means every record of it is committed there.
"""

from http import HTTPStatus
from typing import Final

import httpx2

from atna.sender import BatchRefused, NotDelivered
from wire.reloading import ReloadingClientContext
from wire.settings import TlsSettings
from wire.tls import handshake_fault, reason_of

__all__ = ["RecordsClient", "records_client"]

MEDIA_TYPE: Final = "application/octet-stream"
CONNECT_TIMEOUT_S: Final = 5.0
ANSWER_TIMEOUT_S: Final = 60.0

_REFUSALS: Final = {HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNPROCESSABLE_ENTITY}


class RecordsClient:
    """Call it with (sink, batch), from any thread; it keeps its connections until ``close``.

    Raises NotDelivered when the sink cannot be reached, is too slow or fails, BatchRefused when it answers that this
    batch is not acceptable. ``tls`` ``None`` or without certificate: plain HTTP sinks only.
    """

    def __init__(self, tls: TlsSettings | None) -> None:
        verify = ReloadingClientContext(tls) if tls is not None and tls.enabled else True
        timeout = httpx2.Timeout(ANSWER_TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
        self._client = httpx2.Client(verify=verify, timeout=timeout, trust_env=False, follow_redirects=False)

    def __call__(self, sink: str, batch: bytes) -> None:
        try:
            answer = self._client.post(sink, content=batch, headers={"content-type": MEDIA_TYPE})
        except httpx2.HTTPError as error:
            fault = handshake_fault(error)
            reason = type(error).__name__ if fault is None else reason_of(fault)
            raise NotDelivered(f"no answer ({reason})") from error
        if answer.status_code == HTTPStatus.OK:
            return
        refused = answer.status_code in _REFUSALS
        raise (BatchRefused if refused else NotDelivered)(f"answered {answer.status_code}")

    def close(self) -> None:
        """Close the connections it kept."""
        self._client.close()


def records_client(tls: TlsSettings | None) -> RecordsClient:
    """A client for all sinks of a service."""
    return RecordsClient(tls)
