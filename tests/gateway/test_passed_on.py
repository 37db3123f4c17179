"""The caller's security header goes on as it came."""

from lxml import etree

from gateway.passed_on import security_header
from ihe import vocabulary as v
from ihe.soap import envelope, read_envelope
from ihe.transactions import ITI_18
from ihe.xua import Caller
from schemas import parse_xml
from wire.messages import Request

SAML = "urn:oasis:names:tc:SAML:2.0:assertion"
INSIDE = (
    '<saml:Assertion ID="_1" IssueInstant="2026-11-22T10:00:00Z" Version="2.0">\n  <saml:Issuer>CN=\u00c9tat &amp; Co'
    '</saml:Issuer>\r\n<saml:Attribute Name="a&#10;b"  xml:lang="fr"><saml:AttributeValue xsi:type="xs:string">'
    "x</saml:AttributeValue><saml:Empty></saml:Empty></saml:Attribute></saml:Assertion>"
)
SECURITY = f'<w:Security xmlns:w="{v.WSSE}" s:mustUnderstand="1">{INSIDE}</w:Security>'
MESSAGE = (
    f'<s:Envelope xmlns:s="{v.SOAP12}" xmlns:saml="{SAML}" xmlns:xs="http://www.w3.org/2001/XMLSchema" '
    f'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><s:Header><other xmlns="urn:x"/>{SECURITY}\n</s:Header>'
    "<s:Body><b/></s:Body></s:Envelope>"
).encode()


def request(message):
    opened = read_envelope(parse_xml(message))
    caller = Caller("127.0.0.1")
    return Request(ITI_18, opened.body, caller, "http://x/", None, None, "r", opened.headers)


def canonical(message):
    """What a signature over the assertion is made of."""
    assertion = next(parse_xml(message).iter(f"{{{SAML}}}Assertion"))
    return etree.tostring(assertion, method="c14n", exclusive=True, inclusive_ns_prefixes=["xs"])


def test_what_is_signed_is_the_same_in_the_message_sent_on():
    header = security_header(request(MESSAGE))
    sent = envelope("urn:a", b"<b/>", message_id="urn:m", extra_headers=header)
    assert canonical(sent) == canonical(MESSAGE)
    (again,) = read_envelope(parse_xml(sent)).headers
    assert again.tag == f"{{{v.WSSE}}}Security"
    assert again.get(f"{{{v.SOAP12}}}mustUnderstand") == "1"


def test_without_one_nothing_is_added():
    message = MESSAGE.replace(SECURITY.encode(), b"")
    assert security_header(request(message)) == b""
