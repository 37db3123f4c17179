"""``POST /records``: batches of audit records from the outboxes of our services, acknowledged after the commit.

Request  frames of RFC 5425 (decimal octet count, blank, syslog message), one after the other
Answer   200 ``{"stored": n, "repeated": n, "unreadable": n}`` once every record is durable: equal bytes are one record
Errors   400 the frames cannot be followed, or a record is above the bound; nothing of the batch is kept
         503 the database does not take it: send the same batch again
"""

import json
import logging
from typing import Final

from atna.iti20_record_audit_event import FrameDecoder, FrameError
from atna.record_repository.indexing import index
from atna.record_repository.store.protocol import Records, StoreUnavailable
from wire.rest import RestHandler, RestRequest, RestResponse

__all__ = ["feed"]

BAD_REQUEST: Final = 400
UNAVAILABLE: Final = 503

_log = logging.getLogger(__name__)


def feed(records: Records, *, max_record_bytes: int) -> RestHandler:
    """The handler of the feed."""

    def handle(request: RestRequest) -> RestResponse:
        try:
            messages = _messages(request.body, max_record_bytes)
        except FrameError as error:
            return _told(BAD_REQUEST, {"error": str(error)})
        try:
            via = f"feed {request.caller.partner}"
            kept = records.keep([index(message) for message in messages], via=via)
        except StoreUnavailable:
            _log.exception("request %s: %d records not kept", request.request_id, len(messages))
            return _told(UNAVAILABLE, {"error": "the records are not kept; send them again"})
        if kept.unreadable:
            _log.warning("%d records of %s cannot be read; kept as they are", kept.unreadable, request.caller.partner)
        return _told(200, {"stored": kept.stored, "repeated": kept.repeated, "unreadable": kept.unreadable})

    return handle


def _messages(body: bytes, max_record_bytes: int) -> list[bytes]:
    decoder = FrameDecoder(max_record_bytes)
    messages = decoder.feed(body)
    decoder.finish()
    return messages


def _told(status: int, values: dict[str, object]) -> RestResponse:
    return RestResponse(status, json.dumps(values).encode())
