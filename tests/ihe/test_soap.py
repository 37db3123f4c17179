"""Envelopes, addressing and faults (ihe/soap.py)."""

import pytest

from ihe import soap
from ihe import vocabulary as v
from ihe.errors import FaultCode, SoapFault
from schemas import parse_xml

ACTION = '<a:Action s:mustUnderstand="1">urn:ihe:iti:2007:RegistryStoredQuery</a:Action>'
BODY = "<s:Body><q/></s:Body>"


def message(header: str = ACTION, body: str = BODY, envelope: str = v.SOAP12) -> str:
    return f'<s:Envelope xmlns:s="{envelope}" xmlns:a="{v.WSA}"><s:Header>{header}</s:Header>{body}</s:Envelope>'


def read(text: str) -> soap.Envelope:
    return soap.read_envelope(parse_xml(text.encode()))


def refused(text: str) -> SoapFault:
    with pytest.raises(SoapFault) as caught:
        read(text)
    return caught.value


def test_reads_every_addressing_header_and_keeps_the_rest():
    opened = read(
        message(
            ACTION
            + "<a:MessageID>\n urn:uuid:1 \n</a:MessageID><a:To>http://x/y</a:To><a:RelatesTo>r</a:RelatesTo>"
            + f"<a:From><a:Address>http://me</a:Address></a:From><a:ReplyTo><a:Address>{v.WSA_ANONYMOUS}</a:Address></a:ReplyTo>"
            + '<x:Other xmlns:x="urn:x"/>'
        )
    )
    assert opened.addressing == soap.Addressing(
        action="urn:ihe:iti:2007:RegistryStoredQuery",
        message_id="urn:uuid:1",
        to="http://x/y",
        reply_to=v.WSA_ANONYMOUS,
        sender="http://me",
        relates_to=("r",),
    )
    assert [header.tag for header in opened.headers] == ["{urn:x}Other"]
    assert opened.body.tag == "q"


def test_nothing_but_a_body_is_an_envelope():
    opened = read(f'<Envelope xmlns="{v.SOAP12}"><Body><q xmlns=""/></Body></Envelope>')
    assert opened.addressing == soap.Addressing()
    assert opened.headers == ()


def test_an_empty_action_is_a_missing_one():
    assert read(message("<a:Action> </a:Action>")).addressing.action is None


@pytest.mark.parametrize("name", ["Action", "MessageID", "To", "From", "ReplyTo", "FaultTo"])
def test_a_header_that_stands_twice_is_refused(name):
    block = f"<a:{name}><a:Address>{v.WSA_ANONYMOUS}</a:Address></a:{name}>"
    if name in ("Action", "MessageID", "To"):
        block = f"<a:{name}>urn:x</a:{name}>"
    fault = refused(message(block * 2))
    assert (fault.code, fault.subcode, fault.http_status) == (FaultCode.SENDER, soap.INVALID_HEADER, 400)


@pytest.mark.parametrize("name", ["ReplyTo", "FaultTo"])
@pytest.mark.parametrize("address", ["http://169.254.169.254/", v.WSA_NONE])
def test_answers_go_nowhere_else(name, address):
    fault = refused(
        message(f"{ACTION}<a:MessageID>m</a:MessageID><a:{name}><a:Address>{address}</a:Address></a:{name}>")
    )
    assert (fault.code, fault.subcode) == (FaultCode.SENDER, soap.ONLY_ANONYMOUS)
    assert fault.message_id == "m"


def test_an_endpoint_without_address_is_refused():
    assert refused(message(ACTION + "<a:ReplyTo/>")).subcode == soap.INVALID_HEADER


@pytest.mark.parametrize("flag", ["1", "true", " 1 "])
@pytest.mark.parametrize("role", ["", f' s:role="{v.SOAP12}/role/next"', f' s:role="{v.SOAP12}/role/ultimateReceiver"'])
def test_a_mandatory_header_nobody_knows_is_refused_by_name(flag, role):
    fault = refused(message(f'{ACTION}<x:Lock xmlns:x="urn:x" s:mustUnderstand="{flag}"{role}/>'))
    assert fault.code is FaultCode.MUST_UNDERSTAND
    assert fault.not_understood == ("{urn:x}Lock",)


@pytest.mark.parametrize(
    "header",
    [
        '<x:Lock xmlns:x="urn:x" s:mustUnderstand="0"/>',
        '<x:Lock xmlns:x="urn:x" s:mustUnderstand="false"/>',
        f'<x:Lock xmlns:x="urn:x" s:mustUnderstand="1" s:role="{v.SOAP12}/role/none"/>',
        '<x:Lock xmlns:x="urn:x" s:mustUnderstand="1" s:role="urn:somebody-else"/>',
        f'<w:Security xmlns:w="{v.WSSE}" s:mustUnderstand="1"/>',
        f'<d:Depositor xmlns:d="{v.DOSSIER}" s:mustUnderstand="1"/>',
        '<a:To s:mustUnderstand="true">http://x</a:To>',
    ],
)
def test_headers_that_are_optional_for_others_or_known(header):
    assert read(message(ACTION + header)).body.tag == "q"


def test_must_understand_that_is_no_boolean():
    assert refused(message(ACTION + '<x s:mustUnderstand="yes"/>')).code is FaultCode.SENDER


def test_an_unknown_wsa_header_is_not_understood():
    assert refused(message(ACTION + '<a:New s:mustUnderstand="1"/>')).not_understood == (f"{{{v.WSA}}}New",)


@pytest.mark.parametrize(
    "body", ["<s:Body/>", "<s:Body>text</s:Body>", "<s:Body><q/><q/></s:Body>", BODY * 2, "", BODY + "<x/>"]
)
def test_one_body_with_one_element(body):
    assert refused(message(body=body)).code is FaultCode.SENDER


def test_soap_11_gets_a_fault_it_can_read():
    fault = refused(message(envelope=v.SOAP11))
    assert (fault.code, fault.http_status, soap.media_type(fault)) == (FaultCode.VERSION_MISMATCH, 500, "text/xml")
    answer = parse_xml(soap.fault_envelope(fault, message_id="urn:uuid:2"))
    assert answer.tag == f"{{{v.SOAP11}}}Envelope"
    assert answer.findtext(".//faultcode") == "e:VersionMismatch"
    assert answer.find(f".//{{{v.SOAP12}}}SupportedEnvelope").get("qname") == "e:Envelope"


def test_another_soap_version_and_no_soap_at_all():
    fault = refused(message(envelope="urn:soap:13"))
    assert (fault.code, soap.media_type(fault)) == (FaultCode.VERSION_MISMATCH, "application/soap+xml")
    assert b"<s:Upgrade" in soap.fault_envelope(fault, message_id="m")
    assert refused("<html/>").code is FaultCode.SENDER


def test_an_envelope_reads_back():
    data = soap.envelope(
        "urn:a&b",
        b"<q/>",
        message_id="urn:uuid:2",
        relates_to="urn:x?a=1&b=<2>",
        to="http://x?a&b",
        reply_to=v.WSA_ANONYMOUS,
        extra_headers=b'<x xmlns="urn:x"/>',
    )
    opened = read(data.decode())
    assert opened.addressing == soap.Addressing(
        "urn:a&b", "urn:uuid:2", "http://x?a&b", v.WSA_ANONYMOUS, None, ("urn:x?a=1&b=<2>",)
    )
    assert opened.headers[0].tag == "{urn:x}x"
    action = parse_xml(data)[0][0]
    assert action.get(f"{{{v.SOAP12}}}mustUnderstand") == "1"


def test_a_fault_says_code_subcode_reason_and_what_it_relates_to():
    fault = SoapFault(FaultCode.SENDER, "no <such> action\x00", subcode=soap.ACTION_NOT_SUPPORTED, message_id="urn:m")
    opened = read(soap.fault_envelope(fault, message_id="urn:uuid:2").decode())
    assert opened.addressing.action == soap.FAULT_ACTION
    assert opened.addressing.relates_to == ("urn:m",)
    s = {"s": v.SOAP12}
    assert opened.body.findtext("s:Code/s:Value", namespaces=s) == "s:Sender"
    assert opened.body.findtext("s:Code/s:Subcode/s:Value", namespaces=s) == "a:ActionNotSupported"
    reason = opened.body.find("s:Reason/s:Text", namespaces=s)
    assert (reason.text, reason.get("{http://www.w3.org/XML/1998/namespace}lang")) == ("no <such> action ", "en")


def test_a_fault_reads_back_with_its_qualified_subcode():
    for subcode in (f"{{{v.WSSE}}}InvalidSecurityToken", soap.ONLY_ANONYMOUS, None):
        sent = SoapFault(FaultCode.SENDER, "why", subcode=subcode)
        opened = read(soap.fault_envelope(sent, message_id="m").decode())
        got = soap.read_fault(opened.body, 400)
        assert (got.code, got.subcode, got.reason, got.http_status) == (FaultCode.SENDER, subcode, "why", 400)
        assert opened.addressing.action == (
            soap.FAULT_ACTION if subcode == soap.ONLY_ANONYMOUS else soap.SOAP_FAULT_ACTION
        )


def test_what_is_no_fault_is_none():
    assert soap.read_fault(parse_xml(b"<q/>"), 200) is None


def test_headers_not_understood_are_named_in_the_fault():
    fault = refused(
        message(ACTION + '<x:Lock xmlns:x="urn:x?a&amp;b" s:mustUnderstand="1"/><bare s:mustUnderstand="1"/>')
    )
    header = parse_xml(soap.fault_envelope(fault, message_id="m"))[0]
    named = header.findall(f"{{{v.SOAP12}}}NotUnderstood")
    assert [(block.get("qname"), block.nsmap.get("n")) for block in named] == [("n:Lock", "urn:x?a&b"), ("bare", None)]


def test_a_long_word_of_the_peer_is_cut_short():
    assert len(refused("<" + "x" * 5000 + "/>").reason) < 300


@pytest.mark.parametrize("name", ["MessageID", "To", "Action"])
def test_an_addressing_header_without_end_is_refused_and_not_repeated(name):
    data = (
        '<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope" xmlns:a="http://www.w3.org/2005/08/addressing">'
        f"<s:Header><a:{name}>urn:{'x' * 5000}</a:{name}></s:Header><s:Body><x/></s:Body></s:Envelope>"
    )
    with pytest.raises(SoapFault) as refused:
        soap.read_envelope(parse_xml(data.encode()))
    assert "4096" in refused.value.reason
    assert refused.value.message_id is None
