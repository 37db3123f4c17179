"""Queries for patients and answers as others write them, with extras of real ones: xsi:type, addresses, quantities."""

from xml.sax.saxutils import quoteattr

from tests.hl7v3_messages import OID, ii

FIND, FOUND = "PRPA_IN201305UV02", "PRPA_IN201306UV02"
XSI = 'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
NOBODY = "1.3.6.1.4.1.21367.13.20.9999"


def parameter(name, *values):
    """``values`` are what stands in value elements, or whole ones beginning with ``<value``."""
    inner = "".join(one if one.startswith("<value") else f"<value>{one}</value>" for one in values)
    return f"<{name}>{inner}<semanticsText>{name}</semanticsText></{name}>"


def by_id(*extensions, root=OID):
    """One livingSubjectId with its alternatives."""
    return parameter("livingSubjectId", *(ii(one, root).replace("<id ", "<value ") for one in extensions))


def by_name(family="Müller", given="Änne"):
    given = f"<given>{given}</given>" if given else ""
    return parameter("livingSubjectName", f'<value use="SRCH" xsi:type="PN">{given}<family>{family}</family></value>')


def by_birth(*values):
    return parameter("livingSubjectBirthTime", *(f"<value value={quoteattr(one)}/>" for one in values or ("19700101",)))


def by_sex(code="F"):
    return parameter("livingSubjectAdministrativeGender", f"<value code={quoteattr(code)}/>")


DEMOGRAPHICS = by_sex() + by_birth() + by_name()


def query(
    parameters=DEMOGRAPHICS,
    *,
    name=FIND,
    message_id='<id root="1.2.42.7" extension="Q1"/>',
    query_id='<queryId root="1.2.42.8" extension="7"/>',
    home=None,
    priority="I",
    interaction=None,
    quantity=None,
    queries=1,
):
    """The body element; ``parameters`` are the elements of parameterList."""
    agent = (
        '<asAgent classCode="AGNT"><representedOrganization classCode="ORG" determinerCode="INSTANCE">'
        f'<id root="{home}"/></representedOrganization></asAgent>'
    )
    asked = (
        f'<queryByParameter>{query_id}<statusCode code="new"/><responseModalityCode code="R"/>'
        f'<responsePriorityCode code="{priority}"/>{f"<initialQuantity value={quoteattr(quantity)}/>" if quantity else ""}'
        f"<parameterList>{parameters}</parameterList></queryByParameter>"
    )
    return (
        f'<{name} xmlns="urn:hl7-org:v3" {XSI} ITSVersion="XML_1.0">'
        f'{message_id}<creationTime value="20261122120000"/>'
        f'<interactionId root="2.16.840.1.113883.1.6" extension="{interaction or name}"/>'
        '<processingCode code="P"/><processingModeCode code="T"/><acceptAckCode code="AL"/>'
        '<receiver typeCode="RCV"><device classCode="DEV" determinerCode="INSTANCE"><id root="1.2.42.1"/></device></receiver>'
        '<sender typeCode="SND"><device classCode="DEV" determinerCode="INSTANCE"><id root="1.2.42.2"/>'
        f"{agent if home else ''}</device></sender>"
        f'<controlActProcess classCode="CACT" moodCode="EVN"><code code="PRPA_TE201305UV02"/>{asked * queries}'
        f"</controlActProcess></{name}>"
    ).encode()
