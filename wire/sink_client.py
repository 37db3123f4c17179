"""Posts to the HTTP sinks of audit records, and what their answers mean to the sender."""

from collections.abc import Collection
from http import HTTPStatus
from typing import Final

import httpx2

from atna.sender import BatchRefused, NotDelivered
from wire.reloading import ReloadingClientContext
from wire.settings import TlsSettings
from wire.tls import handshake_fault, reason_of

__all__ = ["SinkClient"]

CONNECT_TIMEOUT_S: Final = 5.0
ANSWER_TIMEOUT_S: Final = 60.0

_REFUSALS: Final = {HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNPROCESSABLE_ENTITY}


class SinkClient:
    """May be used by any thread; keeps its connections until ``close``. A renewed certificate counts for the next one.

    ``tls`` ``None`` or without certificate: plain HTTP, or servers of public authorities that ask for none.
    """

    def __init__(self, tls: TlsSettings | None) -> None:
        verify = ReloadingClientContext(tls) if tls is not None and tls.enabled else True
        timeout = httpx2.Timeout(ANSWER_TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
        self._client = httpx2.Client(verify=verify, timeout=timeout, trust_env=False, follow_redirects=False)

    def post(self, url: str, body: bytes, media_type: str, done: Collection[int], *, taken: int = 0) -> None:
        """Return when the answer is one of ``done``.

        Raises NotDelivered when the sink cannot be reached, is too slow or fails, BatchRefused when it answers that
        this is not acceptable; ``taken`` goes with them.
        """
        try:
            answer = self._client.post(url, content=body, headers={"content-type": media_type})
        except httpx2.HTTPError as error:
            fault = handshake_fault(error)
            reason = type(error).__name__ if fault is None else reason_of(fault)
            raise NotDelivered(f"no answer ({reason})", taken=taken) from error
        if answer.status_code not in done:
            refused = answer.status_code in _REFUSALS
            raise (BatchRefused if refused else NotDelivered)(f"answered {answer.status_code}", taken=taken)

    def close(self) -> None:
        """Close the connections it kept."""
        self._client.close()
