"""Records as CSV for a spreadsheet: UTF-8 with BOM, semicolons, every value quoted, CRLF (else RFC 4180).

A value that a spreadsheet would take for a formula begins with an apostrophe: ``=``, ``+``, ``-``, ``@``, also after
blanks and in full width. Times are ISO 8601 with the offset of the page's time zone. Pure.
"""

import csv
import io
import re
from collections.abc import Iterable
from datetime import UTC, tzinfo
from typing import Final

from atna.message import AuditMessage
from atna.record_repository.page.languages import Texts, moment_of
from atna.record_repository.page.lines import code_name, message_of
from atna.record_repository.page.shown import bounded, visible
from atna.record_repository.store.protocol import Stored
from atna.vocabulary import PERSON, ROLE_PATIENT

__all__ = ["COLUMNS", "csv_head", "csv_rows"]

BOM: Final = "\ufeff"
MAX_CELL: Final = 32_000
"""Characters: a spreadsheet's cell takes 32,767."""

COLUMNS: Final = (
    "fact.number", "fact.time", "fact.time_utc", "fact.received", "fact.event", "csv.event_code", "fact.type",
    "csv.type_code", "fact.action", "csv.outcome_code", "fact.outcome", "fact.description", "fact.purpose",
    "fact.requestor", "record.participants", "results.patient", "record.objects", "fact.source", "fact.site",
)  # fmt: skip
"""Keys of the texts at the head of each column."""

_FORMULA: Final = re.compile(r"[\s\x00]*[=+\-@＝＋－＠\t\r]")


def csv_head(texts: Texts) -> bytes:
    """The first line."""
    return (BOM + _encoded([[texts(key) for key in COLUMNS]])).encode()


def csv_rows(records: Iterable[Stored], texts: Texts) -> bytes:
    """One line for each record."""
    return _encoded([_row(stored, texts) for stored in records]).encode()


def _row(stored: Stored, texts: Texts) -> list[str]:
    times = [
        _iso(stored.event_at, texts.zone) if stored.event_at else "",
        _iso(stored.event_at, UTC) if stored.event_at else "",
        _iso(stored.received_at, texts.zone),
    ]
    message = message_of(stored)
    content = [texts("results.unreadable")] if message is None else _content(message, texts)
    cells = [str(stored.number), *times, *content]
    return [_cell(value) for value in cells + [""] * (len(COLUMNS) - len(cells))]


def _iso(microseconds: int, zone: tzinfo) -> str:
    return moment_of(microseconds, zone).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _content(message: AuditMessage, texts: Texts) -> list[str]:
    event, source = message.event, message.source
    people = message.participants
    patients: list[str] = []
    others: list[str] = []
    for item in message.objects:
        (patients if (item.type_code, item.role) == (PERSON, ROLE_PATIENT) else others).append(item.id)
    return [
        code_name(event.event_id, texts),
        event.event_id.code,
        _joined(code_name(code, texts) for code in event.type_codes),
        _joined(code.code for code in event.type_codes),
        texts.named("action", event.action) if event.action else "",
        "" if event.outcome is None else str(event.outcome),
        texts.named("outcome", "unknown" if event.outcome is None else event.outcome),
        event.outcome_description or "",
        _joined(texts.named("purpose", code.code, code.text) for code in event.purposes_of_use),
        _joined(one.user_name or one.user_id for one in people if one.is_requestor),
        _joined(" ".join(filter(None, (one.user_id, one.user_name, one.network_id))) for one in people),
        _joined(patients),
        _joined(others),
        source.source_id if source is not None else "",
        (source.enterprise_site_id or "") if source is not None else "",
    ]


def _joined(values: Iterable[str]) -> str:
    return " | ".join(value for value in values if value)


def _cell(text: str) -> str:
    """One line, and no formula."""
    flat = bounded(visible(text).replace("\n", " "), MAX_CELL)
    return f"'{flat}" if _FORMULA.match(text) or _FORMULA.match(flat) else flat


def _encoded(rows: Iterable[Iterable[str]]) -> str:
    out = io.StringIO()
    csv.writer(out, delimiter=";", quoting=csv.QUOTE_ALL, lineterminator="\r\n").writerows(rows)
    return out.getvalue()
