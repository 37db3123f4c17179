"""Checks of messages: what passes, what is named, and that no value of a message is ever repeated."""

import threading

import pytest
from lxml import etree

from schemas import parse_xml, strict_violations, violations
from tests.growth import LINEAR, growth

LCM = "urn:oasis:names:tc:ebxml-regrep:xsd:lcm:3.0"
QUERY = "urn:oasis:names:tc:ebxml-regrep:xsd:query:3.0"
RIM = "urn:oasis:names:tc:ebxml-regrep:xsd:rim:3.0"
RS = "urn:oasis:names:tc:ebxml-regrep:xsd:rs:3.0"
XDSB = "urn:ihe:iti:xds-b:2007"
XOP = "http://www.w3.org/2004/08/xop/include"
SUCCESS = "urn:oasis:names:tc:ebxml-regrep:ResponseStatusType:Success"
PARTIAL = "urn:ihe:iti:2007:ResponseStatusType:PartialSuccess"
ERROR = "urn:oasis:names:tc:ebxml-regrep:ErrorSeverityType:Error"
LIST = "lcm:SubmitObjectsRequest/rim:RegistryObjectList"


def message(root, namespace, inner="", attributes=""):
    return parse_xml(
        f'<m:{root} xmlns:m="{namespace}" xmlns:rim="{RIM}" xmlns:rs="{RS}" xmlns:q="{QUERY}" xmlns:x="{XDSB}"'
        f' xmlns:xop="{XOP}" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" {attributes}>{inner}</m:{root}>'.encode()
    )


def query(inner, attributes=""):
    return message("AdhocQueryRequest", QUERY, inner, attributes)


OPTION = '<q:ResponseOption returnType="LeafClass" returnComposedObjects="true"/>'
ADHOC = (
    '<rim:AdhocQuery id="urn:uuid:14d4debf-8f97-4251-9a74-b7016b0af2f3"><rim:Slot name="$x"><rim:ValueList>'
    "<rim:Value>'v'</rim:Value></rim:ValueList></rim:Slot></rim:AdhocQuery>"
)
DOCUMENT = "<x:RepositoryUniqueId>1.2</x:RepositoryUniqueId><x:DocumentUniqueId>3.4</x:DocumentUniqueId>"
ERRORS = (
    f'<rs:RegistryErrorList highestSeverity="{ERROR}"><rs:RegistryError errorCode="XDSRegistryError" codeContext="c"'
    f' severity="{ERROR}" location=""/></rs:RegistryErrorList>'
)
LISTED = '<rim:RegistryObjectList><rim:ObjectRef id="urn:uuid:1"/></rim:RegistryObjectList>'
RESPONSE = f'<rs:RegistryResponse status="{SUCCESS}"/>'
ANSWERED = f"<x:DocumentResponse>{DOCUMENT}<x:mimeType>text/plain</x:mimeType><x:Document>QUJD</x:Document></x:DocumentResponse>"
PROVIDED = f'<l:SubmitObjectsRequest xmlns:l="{LCM}"><rim:RegistryObjectList/></l:SubmitObjectsRequest>'

RIGHT = {
    "query": query(OPTION + ADHOC),
    "retrieve": message("RetrieveDocumentSetRequest", XDSB, f"<x:DocumentRequest>{DOCUMENT}</x:DocumentRequest>" * 2),
    "provide": message("ProvideAndRegisterDocumentSetRequest", XDSB, PROVIDED + '<x:Document id="d">QUJD</x:Document>'),
    "provide nothing": message("ProvideAndRegisterDocumentSetRequest", XDSB, PROVIDED),
    "success": message("RegistryResponse", RS, "", f'status="{SUCCESS}"'),
    "errors": message("RegistryResponse", RS, ERRORS, f'status="{PARTIAL}"'),
    "found": message("AdhocQueryResponse", QUERY, ERRORS + LISTED, f'status="{SUCCESS}"'),
    "retrieved": message("RetrieveDocumentSetResponse", XDSB, RESPONSE + ANSWERED),
    "not retrieved": message("RetrieveDocumentSetResponse", XDSB, RESPONSE),
}


@pytest.mark.parametrize("name", RIGHT)
def test_right_messages_satisfy_both_and_the_published_schemas(name, published):
    assert (violations(RIGHT[name]), strict_violations(RIGHT[name]), published(RIGHT[name])) == ((), (), [])


@pytest.mark.parametrize("name", RIGHT)
def test_right_messages_satisfy_both(name):
    assert (violations(RIGHT[name]), strict_violations(RIGHT[name])) == ((), ())


def test_a_right_submission_satisfies_both(submit, entry):
    element = parse_xml(submit(entry))
    assert (violations(element), strict_violations(element)) == ((), ())


TOLERATED = [
    "<ExtrinsicObject/><RegistryPackage/><ObjectRef/><Classification/>",
    '<Association associationType="t" sourceObject="s" targetObject="t"/>',
    '<ExtrinsicObject><Slot name="s"/><Slot name="s"><ValueList/></Slot></ExtrinsicObject>',
    f'<ExtrinsicObject><Slot name="{"n" * 300}"><ValueList><Value>{"v" * 5000}</Value></ValueList></Slot></ExtrinsicObject>',
    """<RegistryPackage><Classification/><Slot name="s"/><Description/>
    <ExternalIdentifier identificationScheme="i" value="v"/><Name/><Classification/><VersionInfo/><Slot name="t"/>
    </RegistryPackage>""",
    '<ExtrinsicObject status="new" isOpaque="maybe" id="has blanks" xml:lang="de" xmlns:f="urn:f" f:colour="red"/>',
    """<ExtrinsicObject xsi:type="rim:ExtrinsicObjectType"><Slot name="s" xsi:type="rim:SlotType1"><ValueList>
    <Value xsi:type="rim:LongName">v</Value></ValueList></Slot></ExtrinsicObject>""",
    '<ObjectRef id="x"/><ExtrinsicObject/><ObjectRef id="y"/>',
]


@pytest.mark.parametrize("objects", TOLERATED, ids=range(len(TOLERATED)))
def test_what_the_rules_judge_is_none_of_the_schemas_business(objects, submit):
    element = parse_xml(submit(objects, 'xsi:schemaLocation="urn:a http://127.0.0.1:1/a.xsd"'))
    assert violations(element) == ()


@pytest.mark.parametrize("order", ["NDV", "NVD", "DNV", "DVN", "VND", "VDN"])
def test_texts_stand_in_any_order_but_once(order, submit):
    tags = {"N": "<Name/>", "D": "<Description/>", "V": "<VersionInfo/>"}
    between = '<Slot name="s"/>'
    objects = f"<RegistryPackage>{between}{between.join(tags[letter] for letter in order)}{between}"
    assert violations(parse_xml(submit(objects + "</RegistryPackage>"))) == ()
    for letter in order:
        twice = violations(parse_xml(submit(f"{objects}{tags[letter]}</RegistryPackage>")))
        assert len(twice) == 1
        assert twice[0] == f"{LIST}/rim:RegistryPackage/rim:{tags[letter][1:-2]}[2]: not expected here"


def test_requests_as_senders_write_them():
    assert violations(query(ADHOC)) == ()
    assert violations(query(ADHOC + "<q:ResponseOption returnType='leafclass' returnComposedObjects='yes'/>")) == ()
    assert violations(query(OPTION + ADHOC, 'maxResults="all" federated="no" id="1" comment="c"')) == ()
    swapped = "<x:DocumentUniqueId>3.4</x:DocumentUniqueId><x:RepositoryUniqueId>1.2</x:RepositoryUniqueId>"
    one = f"<x:DocumentRequest>{swapped}<x:HomeCommunityId>h</x:HomeCommunityId></x:DocumentRequest>"
    assert violations(message("RetrieveDocumentSetRequest", XDSB, one)) == ()


@pytest.mark.parametrize(
    "content",
    ["", "QUJD", "QUJ\r\n D", "QUJD!", '<xop:Include href="cid:a"/>', '\n <xop:Include href="cid:a"/>\n '],
)
def test_content_is_text_or_one_reference(content):
    inner = f'<x:Document id="d" xmlns:xm="http://www.w3.org/2005/05/xmlmime" xm:contentType="t">{content}</x:Document>'
    assert violations(message("ProvideAndRegisterDocumentSetRequest", XDSB, PROVIDED + inner)) == ()
    assert violations(message("ProvideAndRegisterDocumentSetRequest", XDSB, inner + PROVIDED)) == ()


S = "SECRET"
WRONG = {
    f'<ExtrinsicObject colour="{S}"/>': f"{LIST}/rim:ExtrinsicObject/@colour: attribute not allowed",
    f'<Association id="{S}" sourceObject="s" targetObject="t"/>': f"{LIST}/rim:Association: attribute associationType is missing",
    "<ExtrinsicObject/><ExtrinsicObject><Slot/></ExtrinsicObject>": f"{LIST}/rim:ExtrinsicObject[2]/rim:Slot: attribute name is missing",
    f"<ExtrinsicObject>{S}</ExtrinsicObject>": f"{LIST}/rim:ExtrinsicObject: no text allowed between elements",
    f'<ExtrinsicObject><Slot name="s"><Value>{S}</Value></Slot></ExtrinsicObject>': f"{LIST}/rim:ExtrinsicObject/rim:Slot/rim:Value: not expected here; allowed: rim:ValueList",
    f'<ExtrinsicObject><Slot name="s"><ValueList/><ValueList><Value>{S}</Value></ValueList></Slot></ExtrinsicObject>': f"{LIST}/rim:ExtrinsicObject/rim:Slot/rim:ValueList[2]: not expected here",
    f'<Extrinsic id="{S}"/>': f"{LIST}/rim:Extrinsic: not expected here; allowed: rim:ExtrinsicObject, rim:RegistryPackage, rim:Association, rim:Classification, rim:ObjectRef",
    f'<o:ExtrinsicObject xmlns:o="urn:{S}"/>': f"{LIST}/ExtrinsicObject of another namespace: not expected here; allowed: rim:ExtrinsicObject, rim:RegistryPackage, rim:Association, rim:Classification, rim:ObjectRef",
    f'<ExtrinsicObject><Slot name="s"><ValueList><Value>v<b>{S}</b></Value></ValueList></Slot></ExtrinsicObject>': f"{LIST}/rim:ExtrinsicObject/rim:Slot/rim:ValueList/rim:Value: no elements allowed inside",
    f'<ExtrinsicObject xsi:type="{S}"/>': f"{LIST}/rim:ExtrinsicObject/@xsi:type: xsi:type names no type known here",
    f'<ExtrinsicObject xsi:type="o:{S}"/>': f"{LIST}/rim:ExtrinsicObject/@xsi:type: not as the schema asks",
    '<ExtrinsicObject xsi:type="rim:ObjectRefType"/>': f"{LIST}/rim:ExtrinsicObject/@xsi:type: xsi:type names a type not allowed here",
    f'<ObjectRef id="{S}" xsi:nil="true"/>': f"{LIST}/rim:ObjectRef: not as the schema asks",
    f'<RegistryPackage><Name><LocalizedString value="v">{S}</LocalizedString></Name></RegistryPackage>': f"{LIST}/rim:RegistryPackage/rim:Name/rim:LocalizedString: must be empty",
    f'<RegistryPackage><Slot name="s"><ValueList><Value {S}="1">{S}</Value></ValueList></Slot></RegistryPackage>': f"{LIST}/rim:RegistryPackage/rim:Slot/rim:ValueList/rim:Value/@{S}: attribute not allowed",
    f"<Person><Name>{S}</Name></Person>": f"{LIST}/rim:Person: not expected here; allowed: rim:ExtrinsicObject, rim:RegistryPackage, rim:Association, rim:Classification, rim:ObjectRef",
}


@pytest.mark.parametrize("objects", WRONG, ids=range(len(WRONG)))
def test_each_fault_is_named_by_path_and_kind_alone(objects, submit):
    assert violations(parse_xml(submit(objects))) == (WRONG[objects],)


STRICTLY_WRONG = {
    f'<ObjectRef id="i" createReplica="{S}"/>': f"{LIST}/rim:ObjectRef/@createReplica: not a valid xs:boolean",
    "<ObjectRef/>": f"{LIST}/rim:ObjectRef: attribute id is missing",
    f'<RegistryPackage id="i" status="{S}"/>': f"{LIST}/rim:RegistryPackage/@status: not one of 'urn:oasis:names:tc:ebxml-regrep:StatusType:Approved', 'urn:oasis:names:tc:ebxml-regrep:StatusType:Deprecated'",
    f'<RegistryPackage id="i"><Slot name="{S * 50}"><ValueList/></Slot></RegistryPackage>': f"{LIST}/rim:RegistryPackage/rim:Slot/@name: longer than 256 characters",
    f'<RegistryPackage id="i"><Slot name="s"><ValueList><Value>{S * 50}</Value></ValueList></Slot></RegistryPackage>': f"{LIST}/rim:RegistryPackage/rim:Slot/rim:ValueList/rim:Value: longer than 256 characters",
    '<RegistryPackage id="i"><Slot name="s"/></RegistryPackage>': f"{LIST}/rim:RegistryPackage/rim:Slot: something is missing; allowed: rim:ValueList",
    '<RegistryPackage id="i"><Name/><Slot name="s"><ValueList/></Slot></RegistryPackage>': f"{LIST}/rim:RegistryPackage/rim:Slot: not expected here; allowed: rim:Description, rim:VersionInfo, rim:Classification, rim:ExternalIdentifier",
}


@pytest.mark.parametrize("objects", STRICTLY_WRONG, ids=range(len(STRICTLY_WRONG)))
def test_the_strict_schema_asks_more(objects, submit):
    element = parse_xml(submit(objects))
    assert violations(element) == ()
    assert strict_violations(element) == (STRICTLY_WRONG[objects],)


def test_long_names_of_unknown_elements_are_cut(submit):
    (text,) = violations(parse_xml(submit(f"<{'n' * 500}/>")))
    assert text.startswith(f"{LIST}/rim:{'n' * 60}: ")


def test_a_value_that_imitates_the_parsers_own_words_is_not_repeated(submit):
    forged = f"' is not an element of the set {{{S}}}. x"
    (text,) = strict_violations(parse_xml(submit(f'<RegistryPackage id="i" status="{forged}"/>')))
    assert S not in text
    assert "StatusType:Approved" in text


def test_answers_strictly():
    assert strict_violations(message("RegistryResponse", RS, "", 'status="Success"')) == (
        f"rs:RegistryResponse/@status: not one of '{SUCCESS}', '{SUCCESS.replace('Success', 'Failure')}', '{PARTIAL}'",
    )
    no_list = message("AdhocQueryResponse", QUERY, "", f'status="{SUCCESS}"')
    assert strict_violations(no_list)[0].startswith("query:AdhocQueryResponse: something is missing; allowed:")
    no_base64 = message("RetrieveDocumentSetResponse", XDSB, RESPONSE + ANSWERED.replace("QUJD", S + "!"))
    assert strict_violations(no_base64) == (
        "xdsb:RetrieveDocumentSetResponse/xdsb:DocumentResponse/xdsb:Document: not a valid xs:base64Binary",
    )


def test_answers_of_others():
    inside = message("RegistryResponse", RS, ERRORS.replace("/></", f"><a>{S}</a></rs:RegistryError></"), "status=''")
    assert violations(inside) == (
        "rs:RegistryResponse/rs:RegistryErrorList/rs:RegistryError: no elements allowed inside",
    )
    assert violations(message("AdhocQueryResponse", QUERY, LISTED + ERRORS, 'status="Success"')) == ()
    assert violations(message("AdhocQueryResponse", QUERY, "", 'status="Success"')) == ()
    new = "<x:NewDocumentUniqueId>n</x:NewDocumentUniqueId><x:NewRepositoryUniqueId>n</x:NewRepositoryUniqueId>"
    answered = ANSWERED.replace("<x:mimeType>", new + "<x:mimeType>").replace("QUJD", '<xop:Include href="cid:a"/>')
    assert violations(message("RetrieveDocumentSetResponse", XDSB, RESPONSE + answered)) == ()


@pytest.mark.parametrize(
    "element", [message("SubmitObjectsRequest", XDSB), message("Name", RIM), message("a", "urn:b")]
)
def test_only_known_roots_are_messages(element):
    (text,) = violations(element)
    assert text.endswith(": not a message known here")


def test_at_most_ten_faults_are_told(submit):
    assert len(violations(parse_xml(submit("<ExtrinsicObject><a/></ExtrinsicObject>" * 50)))) == 10


def test_a_body_inside_an_envelope_is_checked_where_it_stands(submit, entry):
    inner = submit(entry.replace("<ObjectRef", '<ObjectRef xsi:type="far:ObjectRefType"') + "<b/>").decode()
    envelope = parse_xml(f'<e xmlns:far="{RIM}"><h/><body>\n{inner}</body><t/></e>'.encode())
    assert [text.partition(":")[2].partition(";")[0] for text in violations(envelope[1][0])] == [
        "SubmitObjectsRequest/rim:RegistryObjectList/rim:b: not expected here"
    ]
    assert envelope[1][0].getparent() is envelope[1]


@pytest.mark.parametrize(
    "objects",
    [
        lambda n: "<ExtrinsicObject><a/></ExtrinsicObject>" * n,
        lambda n: "<ExtrinsicObject a=''/>" * n,
        lambda n: f"<ExtrinsicObject>{'<Slot/>' * n}</ExtrinsicObject>",
        lambda n: "<ExtrinsicObject " + " ".join(f"a{one}=''" for one in range(n)) + "/>",
        lambda n: "<a/>" * n,
    ],
    ids=range(5),
)
def test_a_flood_of_faults_costs_no_more_than_its_size(objects, submit):
    def check(element):
        assert 1 <= len(violations(element)) <= 10

    assert growth(lambda n: parse_xml(submit(objects(n))), check, 8_000) < LINEAR


def test_a_large_submission_is_checked_object_by_object(submit, entry):
    copies = 300
    element = parse_xml(submit(entry * copies, "comment='c'"))
    assert (violations(element), strict_violations(element)) == ((), ())
    lists = element[0]
    lists[5 * 200].set("colour", S)
    assert violations(element) == (f"{LIST}/rim:ExtrinsicObject[201]/@colour: attribute not allowed",)
    element.set("colour", S)
    assert violations(element)[0] == "lcm:SubmitObjectsRequest/@colour: attribute not allowed"


def test_a_large_removal_is_checked_reference_by_reference():
    references = [f'<rim:ObjectRef id="urn:uuid:{number}"/>' for number in range(8000)]
    place = "lcm:RemoveObjectsRequest/rim:ObjectRefList"

    def found(*more):
        inner = "".join(references + list(more))
        return violations(message("RemoveObjectsRequest", LCM, f"<rim:ObjectRefList>{inner}</rim:ObjectRefList>"))

    assert found() == ()
    assert found(f'<rim:ObjectRef id="i" colour="{S}"/>') == (
        f"{place}/rim:ObjectRef[8001]/@colour: attribute not allowed",
    )
    assert found("<rim:Association/>") == (f"{place}/rim:Association: not expected here",)


def test_a_large_provide_and_register_is_checked_whole(submit, entry):
    inner = submit(entry * 300).decode()
    for document, faults in (('<x:Document id="d">QUJD</x:Document>', 0), ("<x:Document>QUJD</x:Document>", 1)):
        element = message("ProvideAndRegisterDocumentSetRequest", XDSB, inner + document)
        assert len(violations(element)) == len(strict_violations(element)) == faults


def test_an_element_may_wander_to_another_thread(submit, entry):
    elements = [parse_xml(submit(entry)), parse_xml(submit("<ExtrinsicObject colour='c'/>"))]
    found = []
    thread = threading.Thread(target=lambda: found.extend(violations(element) for element in elements))
    thread.start()
    thread.join()
    assert [len(texts) for texts in found] == [0, 1]


def test_comments_do_not_confuse_the_path(submit):
    element = etree.fromstring(submit("<!-- a --><ExtrinsicObject/><!-- b --><ExtrinsicObject colour='c'/>" * 4000))
    assert violations(element)[0] == f"{LIST}/rim:ExtrinsicObject[2]/@colour: attribute not allowed"


def test_many_threads_check_at_once(submit, entry):
    right, wrong = submit(entry), submit('<ExtrinsicObject id="i" colour="c"/>')
    faults = []

    def work():
        for _ in range(50):
            if violations(parse_xml(right)) or strict_violations(parse_xml(right)):
                faults.append("right")
            if len(violations(parse_xml(wrong))) != 1 or len(strict_violations(parse_xml(wrong))) != 1:
                faults.append("wrong")

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []


HL7 = "urn:hl7-org:v3"


def test_hl7_v3_takes_any_element_and_checks_what_is_read():
    """Senders add elements of their own to these messages; what a registry reads is checked wherever it stands."""
    inner = '<m:local><m:deeper><m:birthTime value="19700101"/></m:deeper></m:local><o:x xmlns:o="urn:o"/>'
    assert violations(message("PRPA_IN201301UV02", HL7, inner)) == ()
    wrong = f'<m:a><m:birthTime value="1970-SECRET"/></m:a><m:id root="{"SECRET" * 60}"/>'
    found = violations(message("PRPA_IN201302UV02", HL7, wrong))
    assert found == (
        "hl7:PRPA_IN201302UV02/hl7:a/hl7:birthTime/@value: not written in the form its type asks for",
        "hl7:PRPA_IN201302UV02/hl7:id/@root: longer than 256 characters",
    )
    assert violations(message("PRPA_IN201309UV02", HL7)) == ("hl7:PRPA_IN201309UV02: not a message known here",)


@pytest.mark.parametrize("value", ["1970", "197001", "19700131", "1970013112", "19700131121500.123+0100", " 1970 "])
def test_hl7_v3_times_of_every_precision(value):
    assert violations(message("PRPA_IN201301UV02", HL7, f'<m:birthTime value="{value}"/>')) == ()
