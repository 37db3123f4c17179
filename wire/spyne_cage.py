"""spyne, and the only place that knows it: the table of operations, and the opening and closing of messages.

spyne holds one service class built from ``ihe.transactions.TRANSACTIONS``; each transaction is one of its method
descriptors, and a call runs through its descriptor. Messages do not pass spyne's protocol classes: these cost 60 µs a
call, log whole messages on error and know no WS-Addressing (docs/decisions/0003-spyne-caged.md). Whoever replaces
spyne keeps ``open_envelope`` and ``close_envelope`` and their tests.

Threads  ``Call.body`` and ``Call.headers`` belong to the thread that opened the envelope: lxml shares name tables
         between a parser and its trees, so another thread opens the bytes again instead.
"""

import importlib.util
import logging
import sys
import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

from ihe import vocabulary as v
from ihe.errors import FaultCode, SoapFault
from ihe.soap import (
    ACTION_NOT_SUPPORTED,
    HEADER_REQUIRED,
    Addressing,
    Envelope,
    fault_envelope,
    read_envelope,
    wrapping,
)
from ihe.transactions import TRANSACTIONS, Transaction
from schemas import Refusal, XmlRefused, parse_xml
from wire.limit_reached import LimitReached
from wire.messages import Handler, Reply, Request
from wire.settings import LimitSettings


def _make_importable() -> None:
    """Let released spyne 2.14 import on Python 3.12 and later, and without warnings on 3.11.

    Its bundled ``six`` finds modules by ``find_module``, which 3.12 removed; so the bundled module is executed by path,
    the ``moves`` it would offer are put where imports look first, and its import hook is taken off again.
    """
    found = importlib.util.find_spec("spyne")
    if found is None or not found.submodule_search_locations:
        return
    name, moves = "spyne.util.six", "spyne.util.six.moves"
    spec = importlib.util.spec_from_file_location(name, f"{found.submodule_search_locations[0]}/util/six.py")
    assert spec is not None
    assert spec.loader is not None
    six = importlib.util.module_from_spec(spec)
    sys.modules[name] = six
    spec.loader.exec_module(six)
    sys.meta_path.remove(six._importer)
    for known in [key for key in six._importer.known_modules if key.startswith(moves)]:
        try:
            sys.modules[known] = six._importer.load_module(known)
        except (ImportError, AttributeError):  # a move of something this Python or this machine does not have
            continue


def _silence() -> None:
    """Keep spyne quiet: it logs whole malformed messages (patient data) at ERROR."""
    logger = logging.getLogger("spyne")
    logger.setLevel(logging.CRITICAL + 1)
    logger.propagate = False
    logger.addHandler(logging.NullHandler())


_silence()
with warnings.catch_warnings():
    # bad string escapes, modules newer Pythons deprecate: known, harmless, not ours
    warnings.simplefilter("ignore")
    _make_importable()
    from spyne import AnyXml, Application, ServiceBase, rpc
    from spyne.protocol.soap import Soap12


def _operation(name: str) -> Any:
    """The body of a spyne method: the argument spyne calls context carries the actor's handler."""

    def method(handler: Handler, request: Request) -> Reply:
        return handler(request)

    method.__name__ = name
    return method


def _table() -> Mapping[Transaction, Any]:
    """Transaction to spyne method descriptor."""
    bare = rpc(AnyXml, _returns=AnyXml, _body_style="bare")
    names = {t: f"{t.code.replace('-', '_')}_{t.request_root.rpartition('}')[2]}" for t in TRANSACTIONS}
    service = type("XdsService", (ServiceBase,), {name: bare(_operation(name)) for name in names.values()})
    application = Application([service], tns=v.XDSB, in_protocol=Soap12(), out_protocol=Soap12())
    known = application.interface.service_method_map
    return {t: known[f"{{{v.XDSB}}}{name}"][0] for t, name in names.items()}


_OPERATIONS: Final = _table()


@dataclass(frozen=True, slots=True)
class Call:
    """A request whose transaction is known; ``action_missing`` tells that only the body's root named it."""

    transaction: Transaction
    addressing: Addressing
    body: Any
    headers: tuple[Any, ...]
    action_missing: bool = False

    def run(self, handler: Handler, request: Request) -> Reply:
        """Call the handler through the operation's descriptor."""
        reply: Reply = _OPERATIONS[self.transaction].function(handler, request)
        return reply


_SETTINGS: Final = {
    Refusal.SIZE: "max_envelope_bytes",
    Refusal.DEPTH: "max_envelope_depth",
    Refusal.MARKUP: "max_envelope_markup",
}


def open_envelope(
    data: bytes,
    transactions: Collection[Transaction],
    *,
    charset: str | None = None,
    action_required: bool = True,
    limits: LimitSettings,
) -> Call:
    """Read a request's envelope and find its transaction among ``transactions``: by wsa:Action, then by body root.

    Without wsa:Action the root decides, if ``action_required`` is false: the first of ``transactions`` that has this
    root. So an actor lists a plain registration or query before those that change or reach more with the same root.
    Raises SoapFault.
    """
    try:
        root = _parsed(data, charset, limits)
    except XmlRefused as refused:
        text = f"the message cannot be read as XML: {refused.reason}"
        setting = _SETTINGS.get(refused.kind)
        if setting is not None:
            raise LimitReached(setting, text, http_status=400) from refused
        raise SoapFault(FaultCode.SENDER, text) from refused
    opened = read_envelope(root)
    try:
        transaction = _transaction(opened, transactions, action_required)
    except SoapFault as fault:
        fault.message_id = opened.addressing.message_id
        raise
    return Call(
        transaction, opened.addressing, opened.body, opened.headers, action_missing=opened.addressing.action is None
    )


def named_call(
    data: bytes, transactions: Collection[Transaction], *, charset: str | None, limits: LimitSettings
) -> Call | None:
    """What a message that ``open_envelope`` refuses asks for by its wsa:Action and the root of its body, if they agree.

    For the record of the refusal alone: its headers are not judged, and are not given.
    """
    try:
        root = _parsed(data, charset, limits)
    except XmlRefused:
        return None
    action = root.findtext(f"{{{v.SOAP12}}}Header/{{{v.WSA}}}Action", "").strip()
    body = next(iter(root.findall(f"{{{v.SOAP12}}}Body/*")), None)
    if body is None:
        return None
    for transaction in transactions:
        if transaction.request_root == body.tag and action in ("", transaction.request_action):
            return Call(transaction, Addressing(action or None), body, (), action_missing=not action)
    return None


def _parsed(data: bytes, charset: str | None, limits: LimitSettings) -> Any:
    return parse_xml(
        data,
        max_bytes=limits.max_envelope_bytes,
        max_depth=limits.max_envelope_depth,
        max_markup=limits.max_envelope_markup,
        encoding=_encoding(data, charset),
    )


def _encoding(data: bytes, charset: str | None) -> str | None:
    """The encoding to believe when claims disagree: bytes that are valid UTF-8 are UTF-8, else what the header says.

    Servlet containers add ``charset=ISO-8859-1`` to UTF-8; text in an 8-bit encoding is not valid UTF-8 by chance.
    ``None`` leaves it to the byte order mark and the XML declaration. RFC 7303: 3.2 would believe the header always.
    """
    if data.isascii():
        return None
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return None if (charset or "").lower() in {"", "utf-8", "utf8"} else charset
    return "utf-8"


def _transaction(opened: Envelope, transactions: Collection[Transaction], action_required: bool) -> Transaction:
    action, root = opened.addressing.action, opened.body.tag
    if action is None:
        by_root = next((t for t in transactions if t.request_root == root), None)
        if action_required or by_root is None:
            raise SoapFault(FaultCode.SENDER, "the header wsa:Action is missing", subcode=HEADER_REQUIRED)
        return by_root
    for transaction in transactions:
        if transaction.request_action == action:
            if transaction.request_root != root:
                raise SoapFault(FaultCode.SENDER, f"{transaction.code} asks for {transaction.request_root} in the Body")
            return transaction
    raise SoapFault(FaultCode.SENDER, f"wsa:Action is not supported here: {action[:200]}", subcode=ACTION_NOT_SUPPORTED)


def close_envelope(
    outcome: Transaction | SoapFault, *, message_id: str, relates_to: str | None, extra_headers: bytes = b""
) -> tuple[bytes, bytes]:
    """What stands before and after the body's element of the answer; a fault is whole in the first of the two.

    ``message_id`` is the new id of the answer, ``relates_to`` the id of the request; ``extra_headers`` are serialised,
    a fault has none of them.
    """
    if isinstance(outcome, SoapFault):
        return fault_envelope(outcome, message_id=message_id, relates_to=relates_to), b""
    return wrapping(
        outcome.response_action,
        message_id=message_id,
        relates_to=relates_to,
        to=v.WSA_ANONYMOUS,
        extra_headers=extra_headers,
    )
