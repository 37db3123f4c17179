"""Message variants a real server meets, SOAP and WS-*: raw bytes on a socket, numbered as in the list (SAML later)."""

import pytest

from ihe import vocabulary as v
from ihe.errors import FaultCode, SoapFault
from ihe.transactions import ITI_18, ITI_41, ITI_42
from schemas import parse_xml
from tests.wire.soap_peer import MTOM, QUERY, EchoActor, S, message, multipart, root_part, served

ACTION = f'<a:Action s:mustUnderstand="1">{ITI_18.request_action}</a:Action>'
ID = "<a:MessageID>urn:uuid:1</a:MessageID>"
SECURITY = f'<w:Security xmlns:w="{v.WSSE}" s:mustUnderstand="1"><w:UsernameToken/></w:Security>'
UNKNOWN = '<x:Lock xmlns:x="urn:x" s:mustUnderstand="{}"/>'


@pytest.fixture(params=["plain", "mtom"])
def post(request, endpoint):
    """Post an envelope in one of the two encodings and check that the answer comes in the same."""

    def send(envelope: bytes):
        mtom = request.param == "mtom"
        answer = endpoint.post(multipart(root_part(envelope)), MTOM) if mtom else endpoint.post(envelope)
        assert answer.mtom == (mtom and b"schemas.xmlsoap.org/soap/envelope" not in envelope)
        return answer

    return send


def accepted(answer, relates_to: str | None = "urn:uuid:1") -> None:
    assert (answer.status, answer.content.tag) == (200, ITI_18.response_root), answer.body
    assert answer.text("s:Header/a:RelatesTo") == relates_to
    action = answer.envelope.find("s:Header/a:Action", S)
    assert (action.text, action.get(f"{{{v.SOAP12}}}mustUnderstand")) == (ITI_18.response_action, "1")
    assert answer.text("s:Header/a:MessageID").startswith("urn:uuid:")


def refused(
    endpoint, answer, code: str, subcode: str | None = None, *, status: int = 400, relates_to: str | None = "urn:uuid:1"
) -> None:
    assert (answer.status, answer.fault) == (status, (code, subcode)), answer.body
    assert answer.text("s:Header/a:RelatesTo") == relates_to
    action = f"{v.WSA}/fault" if subcode and subcode != "FailedAuthentication" else f"{v.WSA}/soap/fault"
    assert answer.text("s:Header/a:Action") == action
    assert answer.envelope.find(".//s:Text", S).get("{http://www.w3.org/XML/1998/namespace}lang") == "en"
    assert b"Traceback" not in answer.body
    assert endpoint.actor.seen == []
    assert endpoint.alive()


# 17. Headers


@pytest.mark.parametrize(
    "header",
    [
        ID + ACTION,
        ACTION.replace('"1"', '"true"') + ID,
        ACTION.replace(' s:mustUnderstand="1"', "") + ID,
        '<x:Any xmlns:x="urn:x">1</x:Any>' + ID + ACTION + UNKNOWN.format("0"),
        ACTION + ID + UNKNOWN.format("false"),
        ACTION + ID + SECURITY,
        SECURITY.replace('"1"', '"true"') + ACTION + ID,
        ACTION + ID + UNKNOWN.format("1").replace("/>", f' s:role="{v.SOAP12}/role/none"/>'),
        ACTION.replace(">urn", ">\n  urn").replace("</a:A", "\n</a:A") + ID,
    ],
)
def test_variant_17_headers_in_any_order_and_number(post, header):
    accepted(post(message(None, QUERY, header=header)))


@pytest.mark.parametrize("flag", ["1", "true"])
def test_variant_17_mandatory_header_not_understood(endpoint, post, flag):
    answer = post(message(None, QUERY, header=ACTION + ID + UNKNOWN.format(flag)))
    refused(endpoint, answer, "MustUnderstand", status=500)
    block = answer.envelope.find("s:Header/s:NotUnderstood", S)
    prefix, _, local = block.get("qname").partition(":")
    assert (block.nsmap[prefix], local) == ("urn:x", "Lock")


# 18. Addressing


@pytest.mark.parametrize(
    "extra",
    [
        "",
        "<a:To>http://anything.example/</a:To>",
        f"<a:ReplyTo><a:Address>{v.WSA_ANONYMOUS}</a:Address></a:ReplyTo>",
        f'<a:ReplyTo s:mustUnderstand="1"><a:Address>\n{v.WSA_ANONYMOUS}\n</a:Address><a:ReferenceParameters/></a:ReplyTo>',
        "<a:From><a:Address>http://me.example</a:Address></a:From>",
        f"<a:FaultTo><a:Address>{v.WSA_ANONYMOUS}</a:Address></a:FaultTo>",
        "<a:RelatesTo>urn:uuid:0</a:RelatesTo><a:RelatesTo>urn:uuid:00</a:RelatesTo>",
    ],
)
def test_variant_18_optional_addressing(post, extra):
    accepted(post(message(None, QUERY, header=ACTION + ID + extra)))


@pytest.mark.parametrize(
    "message_id", ["urn:uuid:1", "uuid:4F", "http://x.example/?a=1&amp;b=%20#c", "1234", "urn:üñ", "mid:&lt;a@b&gt;"]
)
def test_variant_18_message_id_is_echoed_exactly(post, message_id):
    accepted(
        post(message(ITI_18, QUERY, message_id=message_id)),
        message_id.replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">"),
    )


def test_variant_18_message_id_missing(post):
    accepted(post(message(None, QUERY, header=ACTION)), None)


@pytest.mark.parametrize("action", ["", "<a:Action/>", "<a:Action> </a:Action>"])
def test_variant_18_missing_action(endpoint, post, action):
    refused(endpoint, post(message(None, QUERY, header=action + ID)), "Sender", "MessageAddressingHeaderRequired")


def test_variant_18_no_header_at_all(endpoint, post):
    envelope = f'<s:Envelope xmlns:s="{v.SOAP12}"><s:Body>{QUERY}</s:Body></s:Envelope>'.encode()
    refused(endpoint, post(envelope), "Sender", "MessageAddressingHeaderRequired", relates_to=None)


def test_variant_18_missing_action_where_the_body_says_enough_and_the_sender_is_dealt_with_leniently(actor):
    with served(actor, action_required=lambda caller: caller.address != "127.0.0.1") as endpoint:
        accepted(endpoint.post(message(None, QUERY, header=ID)))
        answer = endpoint.post(message(None, "<unknown/>", header=ID))
        assert answer.fault == ("Sender", "MessageAddressingHeaderRequired")


@pytest.mark.parametrize(
    "action",
    ["urn:ihe:iti:2007:Unknown", ITI_18.request_action + "x", ITI_18.request_action.upper(), ITI_18.response_action],
)
def test_variant_18_unknown_action(endpoint, post, action):
    header = f'<a:Action s:mustUnderstand="1">{action}</a:Action>{ID}'
    refused(endpoint, post(message(None, QUERY, header=header)), "Sender", "ActionNotSupported")


def test_variant_18_an_action_of_another_actor(endpoint, actor, post, monkeypatch):
    without = {transaction: handler for transaction, handler in actor.handlers.items() if transaction is not ITI_42}
    monkeypatch.setattr(EchoActor, "handlers", without)
    submit = '<l:SubmitObjectsRequest xmlns:l="urn:oasis:names:tc:ebxml-regrep:xsd:lcm:3.0"/>'
    refused(endpoint, post(message(ITI_42, submit)), "Sender", "ActionNotSupported")


@pytest.mark.parametrize(
    "body",
    [
        '<q:AdhocQueryRequest xmlns:q="urn:other"/>',
        "<AdhocQueryRequest/>",
        '<l:SubmitObjectsRequest xmlns:l="urn:oasis:names:tc:ebxml-regrep:xsd:lcm:3.0"/>',
    ],
)
def test_variant_18_action_and_body_of_two_transactions(endpoint, post, body):
    refused(endpoint, post(message(ITI_18, body)), "Sender")


@pytest.mark.parametrize("name", ["Action", "MessageID", "To", "ReplyTo", "From", "FaultTo"])
def test_variant_18_duplicate_addressing_header(endpoint, post, name):
    simple = f"<a:{name}>urn:uuid:1</a:{name}>"
    block = (
        simple
        if name in ("Action", "MessageID", "To")
        else f"<a:{name}><a:Address>{v.WSA_ANONYMOUS}</a:Address></a:{name}>"
    )
    header = (ACTION if name != "Action" else "") + (ID if name != "MessageID" else "") + block * 2
    refused(endpoint, post(message(None, QUERY, header=header)), "Sender", "InvalidAddressingHeader")


# 19. ReplyTo somewhere else


@pytest.mark.parametrize("name", ["ReplyTo", "FaultTo"])
@pytest.mark.parametrize(
    "address", ["http://169.254.169.254/latest", "https://partner.example/async", v.WSA_NONE, "urn:x"]
)
def test_variant_19_answers_travel_back_only(endpoint, post, name, address):
    header = f"{ACTION}{ID}<a:{name}><a:Address>{address}</a:Address></a:{name}>"
    refused(endpoint, post(message(None, QUERY, header=header)), "Sender", "OnlyAnonymousAddressSupported")


# 20. Not this SOAP, not this XML


def test_variant_20_soap_11(endpoint, post):
    answer = post(message(ITI_18, QUERY).replace(v.SOAP12.encode(), v.SOAP11.encode()))
    assert answer.status == 500
    assert answer.headers["content-type"].startswith("text/xml")
    root = parse_xml(answer.body)
    assert root.tag == f"{{{v.SOAP11}}}Envelope"
    assert root.findtext(".//faultcode").endswith(":VersionMismatch")
    assert root.find(f".//{{{v.SOAP12}}}Upgrade") is not None
    assert endpoint.alive()


def test_variant_20_soap_11_as_its_own_content_type(endpoint):
    envelope = message(ITI_18, QUERY).replace(v.SOAP12.encode(), v.SOAP11.encode())
    answer = endpoint.post(envelope, "text/xml; charset=utf-8", 'SOAPAction: ""')
    assert answer.status == 500
    assert b"VersionMismatch" in answer.body


def test_variant_20_a_soap_nobody_knows(endpoint, post):
    answer = post(message(ITI_18, QUERY).replace(v.SOAP12.encode(), b"urn:soap:13"))
    refused(endpoint, answer, "VersionMismatch", status=500, relates_to=None)
    assert answer.envelope.find("s:Header/s:Upgrade/s:SupportedEnvelope", S) is not None


LAUGHS = (
    '<!DOCTYPE l [<!ENTITY a "aaaaaaaaaa">'
    + "".join(f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefgh", "bcdefghi", strict=True))
    + "]>"
)


@pytest.mark.parametrize(
    "doctype",
    [
        "<!DOCTYPE x>",
        '<!DOCTYPE x [<!ENTITY e "v">]>',
        '<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>',
        '<!DOCTYPE x SYSTEM "http://127.0.0.1:1/evil.dtd">',
        '<!DOCTYPE x [<!ENTITY % p SYSTEM "http://127.0.0.1:1/p"> %p;]>',
        LAUGHS,
    ],
)
def test_variant_20_dtd_and_entities(endpoint, post, doctype):
    body = QUERY.replace("/>", ">&i;</q:AdhocQueryRequest>" if doctype is LAUGHS else "/>")
    refused(endpoint, post(doctype.encode() + message(ITI_18, body)), "Sender", relates_to=None)


def test_variant_20_an_undeclared_entity(endpoint, post):
    refused(
        endpoint, post(message(ITI_18, QUERY.replace("/>", ">&e;</q:AdhocQueryRequest>"))), "Sender", relates_to=None
    )


@pytest.mark.parametrize("body", ["", "just text", QUERY * 2, QUERY + "<x/>"])
def test_variant_20_one_body_with_one_child(endpoint, post, body):
    refused(endpoint, post(message(ITI_18, body)), "Sender")


def test_variant_20_two_bodies(endpoint, post):
    envelope = message(ITI_18, QUERY).replace(b"</s:Envelope>", f"<s:Body>{QUERY}</s:Body></s:Envelope>".encode())
    refused(endpoint, post(envelope), "Sender", relates_to=None)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b" ",
        b"<",
        b"not xml",
        b"<a><b></a>",
        b"\x00\x01\x02",
        b"<a>\xff\xfe</a>",
        b"<a/><b/>",
        b"{}",
        b"<html/>",
        b"\xff\xfe<",
    ],
)
def test_variant_20_what_is_no_xml_or_no_soap(endpoint, post, data):
    refused(endpoint, post(data), "Sender", relates_to=None)


def test_variant_20_too_deep(endpoint, post):
    refused(endpoint, post(message(ITI_18, "<x>" * 5000 + "</x>" * 5000)), "Sender", relates_to=None)


def test_variant_20_many_attributes_and_elements(endpoint, post):
    refused(
        endpoint,
        post(message(ITI_18, QUERY.replace("/>", "><a/>" + "<b/>" * 600_000 + "</q:AdhocQueryRequest>"))),
        "Sender",
        relates_to=None,
    )


# 21. XML in all its clothes


@pytest.mark.parametrize(
    "envelope",
    [
        (
            f'<Envelope xmlns="{v.SOAP12}"><Header><Action xmlns="{v.WSA}">{ITI_18.request_action}</Action><MessageID xmlns="{v.WSA}">urn:uuid:1</MessageID></Header>'
            f'<Body><AdhocQueryRequest xmlns="{v.QUERY}"/></Body></Envelope>'
        ),
        (
            f'<S-ENV.1:Envelope xmlns:S-ENV.1="{v.SOAP12}" xmlns:_="{v.WSA}" xmlns:é="{v.QUERY}"><S-ENV.1:Header><_:Action S-ENV.1:mustUnderstand="1">{ITI_18.request_action}</_:Action>'
            "<_:MessageID>urn:uuid:1</_:MessageID></S-ENV.1:Header><S-ENV.1:Body><é:AdhocQueryRequest/></S-ENV.1:Body></S-ENV.1:Envelope>"
        ),
    ],
)
def test_variant_21_default_namespace_and_unusual_prefixes(post, envelope):
    accepted(post(envelope.encode()))


@pytest.mark.parametrize(
    "body",
    [
        QUERY.replace(
            "/>",
            ' xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="q:AdhocQueryRequestType" xsi:schemaLocation="urn:x http://127.0.0.1:1/x.xsd"/>',
        ),
        f"<!-- before -->\n<?pi here?>{QUERY}<!-- after -->\n",
        QUERY.replace("/>", "><![CDATA[<&>]]></q:AdhocQueryRequest>"),
        f"\n\n   {QUERY}\n\t",
    ],
)
def test_variant_21_types_comments_cdata_pretty_printing(post, body):
    accepted(post(message(ITI_18, body)))


def test_variant_21_comments_and_instructions_anywhere(post):
    envelope = message(ITI_18, QUERY).decode()
    strewn = (
        "<?xml version='1.0'?><!-- a --><?b c?>" + envelope.replace("><", "><!-- d --><?e f?><") + "<!-- g --><?h?>"
    )
    accepted(post(strewn.encode()))


def test_variant_21_a_comment_within_a_value(post, actor):
    envelope = message(ITI_18, QUERY.replace("/>", ">'a<!-- x -->b'</q:AdhocQueryRequest>"))
    accepted(post(envelope.replace(b"urn:uuid:1<", b"urn:<!-- -->uuid:1<")))
    assert actor.seen[0].texts == "'ab'"


# What handlers say and do


def test_a_fault_of_the_handler_keeps_its_code_and_names_the_message(endpoint, actor, post):
    def refuse(_request):
        raise SoapFault(FaultCode.SENDER, "who are you?", subcode=f"{{{v.WSSE}}}FailedAuthentication")

    actor.before = refuse
    answer = post(message(ITI_18, QUERY))
    assert (answer.status, answer.fault) == (400, ("Sender", "FailedAuthentication"))
    assert answer.text("s:Header/a:RelatesTo") == "urn:uuid:1"
    value = answer.envelope.find(".//s:Subcode/s:Value", S)
    assert value.nsmap[value.text.partition(":")[0]] == v.WSSE


def test_a_defect_of_the_handler_is_the_actors_answer_and_leaves_no_trace_in_it(endpoint, actor, post, capsys):
    def break_down(_request):
        raise KeyError("Müller^Hans")

    actor.before = break_down
    answer = post(message(ITI_42, '<l:SubmitObjectsRequest xmlns:l="urn:oasis:names:tc:ebxml-regrep:xsd:lcm:3.0"/>'))
    assert answer.status == 200
    assert answer.content.get("status") == v.FAILURE
    assert actor.failures == ["KeyError"]
    logged = capsys.readouterr().out
    assert "soap.handler_failed" in logged
    assert "break_down" in logged
    assert "Müller" not in logged
    assert b"KeyError" not in answer.body


def test_a_defect_in_the_actors_excuse_is_a_receiver_fault(endpoint, actor, post, monkeypatch):
    def break_down(*_):
        raise RuntimeError("secret")

    actor.before = break_down
    monkeypatch.setattr(actor, "failure", break_down)
    answer = post(message(ITI_18, QUERY))
    assert (answer.status, answer.fault) == (500, ("Receiver", None))
    assert b"secret" not in answer.body
    monkeypatch.undo()
    actor.before = lambda _request: None
    assert endpoint.alive()


def test_the_handler_sees_the_address_headers_and_ids(endpoint, actor):
    header = f'{ACTION}{ID}<d:Depositor xmlns:d="{v.DOSSIER}" s:mustUnderstand="1">x</d:Depositor><a:ReplyTo><a:Address>{v.WSA_ANONYMOUS}</a:Address></a:ReplyTo>'
    endpoint.post(message(None, QUERY, header=header))
    seen = actor.seen[0]
    assert (seen.code, seen.message_id, seen.reply_to) == ("ITI-18", "urn:uuid:1", v.WSA_ANONYMOUS)
    assert seen.address == "http://localhost:8020/repository"
    assert seen.headers == (f"{{{v.DOSSIER}}}Depositor",)
    assert ITI_41 in actor.handlers
