"""SOAP 1.2 envelopes with WS-Addressing 1.0 (ITI TF-2: Appendix V.3; SOAP 1.2 part 1: 5; WS-A SOAP Binding: 6).

Read      an Envelope: the one child of Body, Addressing, the other header elements; or a SoapFault that says why not
Write     bytes: an envelope around a body that is already serialised, or a fault
Headers   Action at most once; MessageID any URI, kept; To, From, ReplyTo may be missing; ReplyTo and FaultTo anonymous.
          A header with mustUnderstand that is neither WS-Addressing, wsse:Security, CorrelationTimeToLive (ITI-55) nor
          our own is refused by its name.
Fault     Sender = HTTP 400, all others 500; wsa subcodes use the action ``…/addressing/fault``, others ``…/soap/fault``
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final
from xml.sax.saxutils import escape, quoteattr

from ihe import vocabulary as v
from ihe.errors import FaultCode, SoapFault

CONTENT_TYPE: Final = "application/soap+xml"
FAULT_ACTION: Final = f"{v.WSA}/fault"
SOAP_FAULT_ACTION: Final = f"{v.WSA}/soap/fault"

ACTION_NOT_SUPPORTED: Final = f"{{{v.WSA}}}ActionNotSupported"
HEADER_REQUIRED: Final = f"{{{v.WSA}}}MessageAddressingHeaderRequired"
INVALID_HEADER: Final = f"{{{v.WSA}}}InvalidAddressingHeader"
ONLY_ANONYMOUS: Final = f"{{{v.WSA}}}OnlyAnonymousAddressSupported"

_ENVELOPE, _HEADER, _BODY = f"{{{v.SOAP12}}}Envelope", f"{{{v.SOAP12}}}Header", f"{{{v.SOAP12}}}Body"
_MUST_UNDERSTAND, _ROLE = f"{{{v.SOAP12}}}mustUnderstand", f"{{{v.SOAP12}}}role"
_OUR_ROLES: Final = frozenset(
    {"", f"{v.SOAP12}/role/next", f"{v.SOAP12}/role/ultimateReceiver"},
)
_WSA: Final = f"{{{v.WSA}}}"
MAX_ADDRESSING_CHARACTERS: Final = 4096
"""Of one addressing header: it is answered, logged and audited."""
_ONCE: Final = ("Action", "MessageID", "To", "From", "ReplyTo", "FaultTo")
_UNDERSTOOD: Final = frozenset(
    {
        *(_WSA + name for name in (*_ONCE, "RelatesTo")),
        f"{{{v.WSSE}}}Security",
        f"{{{v.XCPD}}}CorrelationTimeToLive",
    }
)
_PREFIXES: Final = {v.SOAP12: "s", v.WSA: "a"}
_LONGEST_QUOTE: Final = 200
"""Characters of a peer's own words repeated to it."""


class Soap11Sender(SoapFault):
    """A SOAP 1.1 message: its sender can read a SOAP 1.1 fault only (SOAP 1.2 part 1: Appendix A)."""

    def __init__(self) -> None:
        super().__init__(FaultCode.VERSION_MISMATCH, "this endpoint speaks SOAP 1.2 only")


@dataclass(frozen=True, slots=True)
class Addressing:
    """The WS-Addressing headers: texts without surrounding blanks, ``None`` where absent; ``relates_to`` in order."""

    action: str | None = None
    message_id: str | None = None
    to: str | None = None
    reply_to: str | None = None
    sender: str | None = None
    relates_to: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Envelope:
    """A message that was read: ``body`` is the only child of Body, ``headers`` are all but the WS-Addressing ones."""

    addressing: Addressing
    body: Any
    headers: tuple[Any, ...] = ()


def read_envelope(root: Any, *, answer: bool = False) -> Envelope:
    """Read the root element of a request or an ``answer``, which may name endpoints: nothing is ever sent there.

    Raises SoapFault (VersionMismatch, Sender with a wsa subcode, MustUnderstand); its ``message_id`` is set as soon as
    the header could be read, so that the fault can say what it relates to.
    """
    header, body = _halves(root)
    ours = [block for block in header if (block.get(_ROLE) or "").strip() in _OUR_ROLES]
    message_id = _text(next((block for block in ours if block.tag == _WSA + "MessageID"), None))
    if message_id is not None and len(message_id) > MAX_ADDRESSING_CHARACTERS:
        message_id = None
    try:
        _refuse_not_understood(ours)
        addressing = _addressing(ours, answer=answer)
        child = _only_child(body)
    except SoapFault as fault:
        fault.message_id = message_id
        raise
    return Envelope(addressing, child, tuple(block for block in ours if not block.tag.startswith(_WSA)))


def _halves(root: Any) -> tuple[Any, Any]:
    """Header (or nothing) and Body; SOAP 1.2 part 1: 5.1 allows these two, in this order."""
    if root.tag != _ENVELOPE:
        if root.tag == f"{{{v.SOAP11}}}Envelope":
            raise Soap11Sender
        if root.tag.endswith("}Envelope"):
            raise SoapFault(FaultCode.VERSION_MISMATCH, "this endpoint speaks SOAP 1.2 only")
        raise SoapFault(FaultCode.SENDER, f"the message is no SOAP envelope but {_quoted(root.tag)}")
    children = list(root)
    header: Any = children.pop(0) if children and children[0].tag == _HEADER else ()
    if len(children) != 1 or children[0].tag != _BODY:
        raise SoapFault(FaultCode.SENDER, "a SOAP envelope holds an optional Header and then exactly one Body")
    return header, children[0]


def _only_child(body: Any) -> Any:
    if len(body) != 1:
        found = "nothing" if len(body) == 0 else f"{len(body)} elements"
        raise SoapFault(FaultCode.SENDER, f"the SOAP Body must hold exactly one element, it holds {found}")
    return body[0]


def _refuse_not_understood(blocks: Iterable[Any]) -> None:
    """SOAP 1.2 part 1: 2.4; our own header namespace counts as understood."""
    strangers = []
    for block in blocks:
        flag = (block.get(_MUST_UNDERSTAND) or "0").strip()
        if flag not in ("0", "1", "true", "false"):
            raise SoapFault(FaultCode.SENDER, f"mustUnderstand is no boolean on header {_quoted(block.tag)}")
        known = block.tag in _UNDERSTOOD or block.tag.startswith(f"{{{v.DOSSIER}}}")
        if flag in ("1", "true") and not known:
            strangers.append(block.tag)
    if strangers:
        names = ", ".join(_quoted(name) for name in strangers[:5])
        raise SoapFault(
            FaultCode.MUST_UNDERSTAND, f"mandatory header not understood: {names}", not_understood=tuple(strangers)
        )


def _addressing(blocks: list[Any], *, answer: bool) -> Addressing:
    found: dict[str, Any] = {}
    relates_to = []
    for block in blocks:
        name = block.tag.removeprefix(_WSA)
        if name == "RelatesTo" and block.tag.startswith(_WSA):
            relates_to.append(_text(block) or "")
        elif name in _ONCE and block.tag.startswith(_WSA):
            if name in found:
                raise SoapFault(
                    FaultCode.SENDER, f"the header wsa:{name} stands more than once", subcode=INVALID_HEADER
                )
            found[name] = block
            if len("".join(block.itertext())) > MAX_ADDRESSING_CHARACTERS:
                text = f"the header wsa:{name} is longer than {MAX_ADDRESSING_CHARACTERS} characters"
                raise SoapFault(FaultCode.SENDER, text, subcode=INVALID_HEADER)
    if answer:
        found.pop("ReplyTo", None)
    else:
        _anonymous(found.get("FaultTo"), "FaultTo")
    return Addressing(
        action=_text(found.get("Action")),
        message_id=_text(found.get("MessageID")),
        to=_text(found.get("To")),
        reply_to=_anonymous(found.get("ReplyTo"), "ReplyTo"),
        sender=_text(found["From"].find(_WSA + "Address")) if "From" in found else None,
        relates_to=tuple(relates_to),
    )


def _anonymous(endpoint: Any, name: str) -> str | None:
    """The address of an endpoint reference, which must be the connection itself: we call nobody back (SSRF)."""
    if endpoint is None:
        return None
    address = _text(endpoint.find(_WSA + "Address"))
    if address is None:
        raise SoapFault(FaultCode.SENDER, f"the header wsa:{name} has no wsa:Address", subcode=INVALID_HEADER)
    if address != v.WSA_ANONYMOUS:
        raise SoapFault(
            FaultCode.SENDER, f"wsa:{name} must be anonymous: answers travel back synchronously", subcode=ONLY_ANONYMOUS
        )
    return address


def _text(element: Any) -> str | None:
    if element is None:
        return None
    return (element.text or "").strip() or None


def _quoted(text: str) -> str:
    return text if len(text) <= _LONGEST_QUOTE else text[:_LONGEST_QUOTE] + "…"


def wrapping(
    action: str,
    *,
    message_id: str,
    relates_to: str | None = None,
    to: str | None = None,
    reply_to: str | None = None,
    extra_headers: bytes = b"",
) -> tuple[bytes, bytes]:
    """What stands before and after the body's element; for bodies that are streamed.

    ``extra_headers`` are serialised header elements that declare their own namespaces.
    """
    headers = (
        f'<s:Envelope xmlns:s="{v.SOAP12}" xmlns:a="{v.WSA}"><s:Header>'
        f'<a:Action s:mustUnderstand="1">{escape(action)}</a:Action><a:MessageID>{escape(message_id)}</a:MessageID>'
    )
    if relates_to is not None:
        headers += f"<a:RelatesTo>{escape(relates_to)}</a:RelatesTo>"
    if to is not None:
        headers += f"<a:To>{escape(to)}</a:To>"
    if reply_to is not None:
        headers += f"<a:ReplyTo><a:Address>{escape(reply_to)}</a:Address></a:ReplyTo>"
    return headers.encode() + extra_headers + b"</s:Header><s:Body>", b"</s:Body></s:Envelope>"


def envelope(
    action: str,
    body: bytes,
    *,
    message_id: str,
    relates_to: str | None = None,
    to: str | None = None,
    reply_to: str | None = None,
    extra_headers: bytes = b"",
) -> bytes:
    """A whole message around ``body``, one serialised element in UTF-8 that declares its own namespaces."""
    head, tail = wrapping(
        action,
        message_id=message_id,
        relates_to=relates_to,
        to=to,
        reply_to=reply_to,
        extra_headers=extra_headers,
    )
    return head + body + tail


def fault_envelope(fault: SoapFault, *, message_id: str, relates_to: str | None = None) -> bytes:
    """A SOAP 1.2 fault (SOAP 1.2 part 1: 5.4); ``relates_to`` defaults to what the fault itself knows.

    To a Soap11Sender it is a SOAP 1.1 fault, see ``media_type``.
    """
    if isinstance(fault, Soap11Sender):
        return _SOAP11_VERSION_MISMATCH.encode()
    action = FAULT_ACTION if (fault.subcode or "").startswith(_WSA) else SOAP_FAULT_ACTION
    extra = "".join(map(_not_understood_header, fault.not_understood))
    if fault.code is FaultCode.VERSION_MISMATCH:
        extra += _UPGRADE
    return envelope(
        action,
        _fault_element(fault).encode(),
        message_id=message_id,
        relates_to=relates_to or fault.message_id,
        extra_headers=extra.encode(),
    )


_UPGRADE: Final = (
    f'<s:Upgrade xmlns:s="{v.SOAP12}"><s:SupportedEnvelope qname="e:Envelope" xmlns:e="{v.SOAP12}"/></s:Upgrade>'
)


_SOAP11_VERSION_MISMATCH: Final = (
    f'<e:Envelope xmlns:e="{v.SOAP11}"><e:Header>{_UPGRADE}</e:Header><e:Body><e:Fault>'
    "<faultcode>e:VersionMismatch</faultcode><faultstring>this endpoint speaks SOAP 1.2 only</faultstring>"
    "</e:Fault></e:Body></e:Envelope>"
)


def media_type(fault: SoapFault) -> str:
    """Of what ``fault_envelope`` gives for this fault."""
    return "text/xml" if isinstance(fault, Soap11Sender) else CONTENT_TYPE


def _not_understood_header(name: str) -> str:
    namespace, local = _split(name)
    if not namespace:
        return f"<s:NotUnderstood qname={quoteattr(local)}/>"
    return f'<s:NotUnderstood qname="n:{escape(local)}" xmlns:n={quoteattr(namespace)}/>'


def _fault_element(fault: SoapFault) -> str:
    subcode = ""
    if fault.subcode is not None:
        namespace, local = _split(fault.subcode)
        prefix = _PREFIXES.get(namespace, "f")
        declared = "" if namespace in _PREFIXES else f" xmlns:f={quoteattr(namespace)}"
        subcode = f"<s:Subcode><s:Value{declared}>{prefix}:{escape(local)}</s:Value></s:Subcode>"
    reason = escape(_printable(fault.reason))
    return (
        f"<s:Fault><s:Code><s:Value>s:{fault.code}</s:Value>{subcode}</s:Code>"
        f'<s:Reason><s:Text xml:lang="en">{reason}</s:Text></s:Reason></s:Fault>'
    )


def _split(name: str) -> tuple[str, str]:
    """Clark name to namespace (may be empty) and local name."""
    namespace, _, local = name.rpartition("}")
    return namespace.removeprefix("{"), local


def _printable(text: str) -> str:
    """Without what XML cannot hold: a reason may quote a header line of the peer."""
    return "".join(c if c >= " " and not "\ud800" <= c <= "\udfff" and c not in "\ufffe\uffff" else " " for c in text)


def read_fault(body: Any, http_status: int) -> SoapFault | None:
    """The fault of an answer, ``None`` if its body is none; an unknown code is read as Receiver."""
    if body.tag != f"{{{v.SOAP12}}}Fault":
        return None
    s = f"{{{v.SOAP12}}}"
    code = _text(body.find(f"{s}Code/{s}Value")) or ""
    reason = _text(body.find(f"{s}Reason/{s}Text")) or "no reason given"
    subcode = body.find(f"{s}Code/{s}Subcode/{s}Value")
    known = {str(word): word for word in FaultCode}
    return SoapFault(
        known.get(code.rpartition(":")[2], FaultCode.RECEIVER),
        reason,
        subcode=_resolved(subcode) if subcode is not None else None,
        http_status=http_status,
    )


def read_soap11_fault(root: Any, http_status: int) -> SoapFault | None:
    """The fault of a SOAP 1.1 envelope, which a peer answers whose port speaks that alone; ``None`` if it is none."""
    fault = root.find(f"{{{v.SOAP11}}}Body/{{{v.SOAP11}}}Fault") if root.tag == f"{{{v.SOAP11}}}Envelope" else None
    if fault is None:
        return None
    sender = (_text(fault.find("faultcode")) or "").rpartition(":")[2].startswith("Client")
    code = FaultCode.SENDER if sender else FaultCode.RECEIVER
    reason = _text(fault.find("faultstring")) or "no reason given"
    return SoapFault(code, f"{reason} (SOAP 1.1)", http_status=http_status)


def _resolved(value: Any) -> str | None:
    """A QName in element text as a Clark name."""
    text = _text(value)
    if text is None:
        return None
    prefix, _, local = text.rpartition(":")
    namespace = value.nsmap.get(prefix or None)
    return f"{{{namespace}}}{local}" if namespace else local
