"""Messages of ITI-44 as a sender writes them, with the extras of real ones: other ids, addresses, xsi:type, contacts."""

from xml.sax.saxutils import quoteattr

OID = "1.3.6.1.4.1.21367.13.20.1000"
ADD, REVISE, RESOLVE = "PRPA_IN201301UV02", "PRPA_IN201302UV02", "PRPA_IN201304UV02"


def ii(extension, root=OID):
    return f"<id root={quoteattr(root)} extension={quoteattr(extension)}/>"


NAME = (
    '<name use="P"><given>Künstlername</given></name>'
    '<name use="L"><prefix>Dr.</prefix><given>Änne</given><given>Maria</given>'
    '<family qualifier="BR">Schmidt</family><family>van</family><family>Müller</family></name>'
)


def feed(
    name=ADD,
    ids=None,
    *,
    message_id='<id root="1.2.42.7" extension="M1"/>',
    person=NAME,
    sex='<administrativeGenderCode code="F" codeSystem="2.16.840.1.113883.5.1"/>',
    birth='<birthTime value="19700101"/>',
    prior="",
    interaction=None,
    sender="1.2.42.2",
    prefix="",
    registrations=1,
):
    """The body element; ``ids`` and ``prior`` are id elements, ``prefix`` a namespace prefix for all of them."""
    ids = ids if ids is not None else ii("PAT1")
    replaced = (
        '<replacementOf typeCode="RPLC"><priorRegistration classCode="REG" moodCode="EVN"><statusCode code="obsolete"/>'
        f'<subject1 typeCode="SBJ"><priorRegisteredRole classCode="PAT">{prior}</priorRegisteredRole></subject1>'
        "</priorRegistration></replacementOf>"
    )
    event = (
        '<subject typeCode="SUBJ"><registrationEvent classCode="REG" moodCode="EVN"><id nullFlavor="NA"/>'
        '<statusCode code="active"/><effectiveTime xsi:type="IVL_TS"><low value="20261122"/></effectiveTime>'
        f'<subject1 typeCode="SBJ"><patient classCode="PAT">{ids}<statusCode code="active"/>'
        f'<patientPerson classCode="PSN" determinerCode="INSTANCE">{person}'
        f'<telecom value="tel:+352-1"/>{sex}{birth}<addr><city>Luxembourg</city></addr>'
        f'<asOtherIDs classCode="CIT">{ii("OTHER")}</asOtherIDs></patientPerson>'
        f'<providerOrganization classCode="ORG" determinerCode="INSTANCE">{ii("ORG")}<name>Hospital</name>'
        '<contactParty classCode="CON"/></providerOrganization></patient></subject1>'
        '<custodian typeCode="CST"><assignedEntity classCode="ASSIGNED"><id root="1.2.42.2"/></assignedEntity>'
        f"</custodian>{replaced if prior else ''}</registrationEvent></subject>"
    )
    told = (
        "" if interaction == "" else f'<interactionId root="2.16.840.1.113883.1.6" extension="{interaction or name}"/>'
    )
    text = (
        f'<{name} xmlns="urn:hl7-org:v3" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" ITSVersion="XML_1.0">'
        f'{message_id}<creationTime value="20261122120000"/>{told}<processingCode code="P"/>'
        '<processingModeCode code="T"/><acceptAckCode code="AL"/>'
        '<receiver typeCode="RCV"><device classCode="DEV" determinerCode="INSTANCE"><id root="1.2.42.1"/></device></receiver>'
        f'<sender typeCode="SND"><device classCode="DEV" determinerCode="INSTANCE"><id root="{sender}"/></device></sender>'
        f'<controlActProcess classCode="CACT" moodCode="EVN"><code code="{name.replace("IN", "TE")}"/>'
        f"{event * registrations}</controlActProcess></{name}>"
    )
    if prefix:
        text = text.replace("xmlns=", f"xmlns:{prefix}=").replace("</", "\0").replace("<", f"<{prefix}:")
        text = text.replace("\0", f"</{prefix}:")
    return text.encode()
