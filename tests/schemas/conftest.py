"""Messages for the schema tests, and the published schemas where the conformance kit is at hand."""

from pathlib import Path

import pytest
from lxml import etree

PUBLISHED = Path(__file__).parents[2].parent / "shared" / "conformance" / "testkit"
LCM = "urn:oasis:names:tc:ebxml-regrep:xsd:lcm:3.0"
RIM = "urn:oasis:names:tc:ebxml-regrep:xsd:rim:3.0"


@pytest.fixture(scope="session")
def testkit():
    """The folder of the testkit; skips where it is not beside the checkout."""
    if not (PUBLISHED / "schema" / "v3").is_dir():
        pytest.skip(f"the published schemas are not at hand ({PUBLISHED})")
    return PUBLISHED


@pytest.fixture(scope="session")
def published(testkit):
    """Element -> faults by the published schemas."""
    schema = etree.XMLSchema(file=str(testkit / "schema" / "v3" / "XDS.b_DocumentRepository.xsd"))

    def faults(element):
        return [] if schema.validate(etree.fromstring(etree.tostring(element))) else [str(e) for e in schema.error_log]

    return faults


@pytest.fixture(scope="session")
def submit():
    """XML of the objects in a list -> lcm:SubmitObjectsRequest; rim is the default namespace inside."""

    def message(objects, attributes=""):
        return (
            f'<l:SubmitObjectsRequest xmlns:l="{LCM}" xmlns="{RIM}" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
            f' xmlns:rim="{RIM}" {attributes}><RegistryObjectList>{objects}</RegistryObjectList></l:SubmitObjectsRequest>'
        ).encode()

    return message


ENTRY = """
<ExtrinsicObject id="Document01" mimeType="text/plain" objectType="urn:uuid:7edca82f-054d-47f2-a032-9b2a5b5186c1">
  <Slot name="creationTime"><ValueList><Value>20260101</Value></ValueList></Slot>
  <Slot name="languageCode"><ValueList><Value>de-DE</Value></ValueList></Slot>
  <Name><LocalizedString xml:lang="de-DE" charset="UTF-8" value="Befund"/></Name>
  <Description><LocalizedString value="-"/></Description>
  <VersionInfo versionName="1"/>
  <Classification id="c1" classificationScheme="urn:uuid:f0306f51-975f-434e-a61c-c59651d33983"
      classifiedObject="Document01" nodeRepresentation="T1">
    <Slot name="codingScheme"><ValueList><Value>S</Value></ValueList></Slot>
    <Name><LocalizedString value="Type"/></Name>
  </Classification>
  <ExternalIdentifier id="e1" identificationScheme="urn:uuid:58a6f841-87b3-4a3e-92fd-a8ffeff98427"
      registryObject="Document01" value="P1^^^&amp;1.2.3&amp;ISO"><Name/></ExternalIdentifier>
</ExtrinsicObject>
<RegistryPackage id="Set01">
  <Classification id="c2" classifiedObject="Set01" classificationNode="urn:uuid:a54d6aa5-d40d-43f9-88c5-b4633d873bdd"/>
</RegistryPackage>
<Classification id="c3" classifiedObject="Set01" classificationNode="urn:uuid:a54d6aa5-d40d-43f9-88c5-b4633d873bdd"/>
<ObjectRef id="urn:uuid:58a6f841-87b3-4a3e-92fd-a8ffeff98427"/>
<Association id="a1" associationType="urn:oasis:names:tc:ebxml-regrep:AssociationType:HasMember"
    sourceObject="Set01" targetObject="Document01">
  <Slot name="SubmissionSetStatus"><ValueList><Value>Original</Value></ValueList></Slot>
</Association>
"""


@pytest.fixture(scope="session")
def entry():
    """Objects of a submission that satisfies every schema."""
    return ENTRY
