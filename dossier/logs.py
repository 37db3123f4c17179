"""Log lines: one JSON object or one line of text each, on standard error, with no word about a patient.

Every line carries the environment (``test`` or ``production``), the process and its number. What comes through the
standard library's ``logging`` (our rooms, uvicorn, spyne) and through structlog is treated alike.
"""

import logging
import os
import re
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, Final

import structlog

from dossier.settings import AdminSettings

__all__ = ["redact", "set_up_logging"]

HIDDEN: Final = "[hidden]"
_PERSONAL: Final = ("patient", "patient_id", "source_patient_id", "name", "family", "given", "birth", "sex", "person")
_CONFIDENTIAL: Final = (
    "user",
    "user_name",
    "query",
    "body",
    "password",
    "secret",
    "assertion",
    "token",
    "authorization",
)
SECRET_KEYS: Final = frozenset(_PERSONAL + _CONFIDENTIAL)
# ITI TF-3: Table 4.2.3.1.7-2, CX, also when XML-escaped; and an HL7 segment that tells of a person.
_CX: Final = re.compile(r"[^\s'\"|,;(]+\^\^\^[^\s'\"|,;)]*")
_SQL: Final = re.compile(r"\[(?:parameters|SQL): .*?\](?=\s*(?:\n|\(Background|$))", re.DOTALL)
_SEGMENT: Final = re.compile(r"\b(?:PID|NK1|MRG|IN1|PD1)\|[^\r\n]*")
# Libraries that would tell every request, connection or malformed message.
QUIET: Final = {
    "uvicorn.access": logging.WARNING,
    "httpx2": logging.WARNING,
    "httpcore2": logging.WARNING,
    "spyne": logging.CRITICAL,
    "hl7": logging.ERROR,
    # It tells with a trace what it could not close; that the database is gone is told by whoever asked it.
    "sqlalchemy.pool": logging.CRITICAL,
}


def redact(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor: values under telling keys go, patient identifiers inside texts go."""
    for key, value in event.items():
        if key.lower() in SECRET_KEYS:
            event[key] = HIDDEN
        else:
            event[key] = _cleaned(value)
    return event


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        for pattern, mark in ((_CX, "^"), (_SEGMENT, "|"), (_SQL, "[")):
            if mark in value:
                value = pattern.sub(HIDDEN, value)
        return value
    if isinstance(value, Mapping):
        return {k: HIDDEN if str(k).lower() in SECRET_KEYS else _cleaned(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_cleaned(v) for v in value]
    return value


def set_up_logging(admin: AdminSettings, *, environment: str, process: str) -> None:
    """Send every log line of this process to standard error; may be called again."""
    who = {"environment": environment, "process": process, "pid": os.getpid()}

    def identify(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        return {**who, **event}

    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        identify,
        redact,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.ExtraAdder(), *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _renderer(admin)],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(admin.log_level.upper())
    for name, level in QUIET.items():
        logging.getLogger(name).setLevel(max(level, root.level))


def _renderer(admin: AdminSettings) -> Any:
    if admin.log_format == "json":
        return structlog.processors.JSONRenderer(sort_keys=False)
    return structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "process", "event"], bool_as_flag=False)
