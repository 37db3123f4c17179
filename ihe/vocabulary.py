"""Every UUID, URN and OID constant of Document Sharing (ITI TF-3: 4.2 and 4.3; ebRIM 3.0).

Namespaces first, then object types, classification schemes, identifier schemes, association types, status words.
"""

from typing import Final

# Namespaces on the wire
SOAP12: Final = "http://www.w3.org/2003/05/soap-envelope"
SOAP11: Final = "http://schemas.xmlsoap.org/soap/envelope/"
WSA: Final = "http://www.w3.org/2005/08/addressing"
WSA_ANONYMOUS: Final = "http://www.w3.org/2005/08/addressing/anonymous"
WSA_NONE: Final = "http://www.w3.org/2005/08/addressing/none"
WSSE: Final = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd"
XOP: Final = "http://www.w3.org/2004/08/xop/include"
XDSB: Final = "urn:ihe:iti:xds-b:2007"
RMD: Final = "urn:ihe:iti:rmd:2017"
LCM: Final = "urn:oasis:names:tc:ebxml-regrep:xsd:lcm:3.0"
QUERY: Final = "urn:oasis:names:tc:ebxml-regrep:xsd:query:3.0"
RIM: Final = "urn:oasis:names:tc:ebxml-regrep:xsd:rim:3.0"
RS: Final = "urn:oasis:names:tc:ebxml-regrep:xsd:rs:3.0"
HL7: Final = "urn:hl7-org:v3"
XCPD: Final = "urn:ihe:iti:xcpd:2009"
DOSSIER: Final = "urn:dossier:2026:soap"
"""Our own SOAP headers: who deposited, told by a repository to its registry."""

# Object types (ITI TF-3: 4.2.5.2)
STABLE: Final = "urn:uuid:7edca82f-054d-47f2-a032-9b2a5b5186c1"
ON_DEMAND: Final = "urn:uuid:34268e47-fdf5-41a6-ba33-82133c465248"
OBJECT_TYPE: Final = "urn:oasis:names:tc:ebxml-regrep:ObjectType:RegistryObject:"
TYPE_CLASSIFICATION: Final = OBJECT_TYPE + "Classification"
TYPE_EXTERNAL_IDENTIFIER: Final = OBJECT_TYPE + "ExternalIdentifier"
TYPE_REGISTRY_PACKAGE: Final = OBJECT_TYPE + "RegistryPackage"
TYPE_ASSOCIATION: Final = OBJECT_TYPE + "Association"

# Classification nodes that mark what a RegistryPackage is, and the limitedMetadata flag
NODE_SUBMISSION_SET: Final = "urn:uuid:a54d6aa5-d40d-43f9-88c5-b4633d873bdd"
NODE_FOLDER: Final = "urn:uuid:d9d542f3-6cc4-48b6-8870-ea235fbc94c2"
NODE_LIMITED_ENTRY: Final = "urn:uuid:ab9b591b-83ab-4d03-8f5d-f93b1fb92e85"
NODE_LIMITED_SUBMISSION_SET: Final = "urn:uuid:5003a9db-8d8d-49e6-bf0c-990e34ac7707"
NODE_LIMITED_FOLDER: Final = "urn:uuid:2c144a76-29a9-4b7c-af54-b25409fe7d03"

# Classification schemes of a DocumentEntry
ENTRY_AUTHOR: Final = "urn:uuid:93606bcf-9494-43ec-9b4e-a7748d1a838d"
ENTRY_CLASS: Final = "urn:uuid:41a5887f-8865-4c09-adf7-e362475b143a"
ENTRY_CONFIDENTIALITY: Final = "urn:uuid:f4f85eac-e6cb-4883-b524-f2705394840f"
ENTRY_EVENT: Final = "urn:uuid:2c6b8cb7-8b2a-4051-b291-b1ae6a575ef4"
ENTRY_FORMAT: Final = "urn:uuid:a09d5840-386c-46f2-b5ad-9c3699a4309d"
ENTRY_FACILITY_TYPE: Final = "urn:uuid:f33fb8ac-18af-42cc-ae0e-ed0b0bdb91e1"
ENTRY_PRACTICE_SETTING: Final = "urn:uuid:cccf5598-8b07-4b77-a05e-ae952c785ead"
ENTRY_TYPE: Final = "urn:uuid:f0306f51-975f-434e-a61c-c59651d33983"
# of a SubmissionSet, a Folder, an Association
SUBMISSION_SET_AUTHOR: Final = "urn:uuid:a7058bb9-b4e4-4307-ba5b-e3f0ab85e12d"
SUBMISSION_SET_CONTENT_TYPE: Final = "urn:uuid:aa543740-bdda-424e-8c96-df4873be8500"
FOLDER_CODE: Final = "urn:uuid:1ba97051-7806-41a8-a48b-8fce7af683c5"
ASSOCIATION_DOCUMENTATION: Final = "urn:uuid:abd807a3-4432-4053-87b4-fd82c643d1f3"

# External identifier schemes
ENTRY_PATIENT_ID: Final = "urn:uuid:58a6f841-87b3-4a3e-92fd-a8ffeff98427"
ENTRY_UNIQUE_ID: Final = "urn:uuid:2e82c1f6-a085-4c72-9da3-8640a32e42ab"
SUBMISSION_SET_PATIENT_ID: Final = "urn:uuid:6b5aea1a-874d-4603-a4bc-96a0a7b38446"
SUBMISSION_SET_SOURCE_ID: Final = "urn:uuid:554ac39e-e3fe-47fe-b233-965d2a147832"
SUBMISSION_SET_UNIQUE_ID: Final = "urn:uuid:96fdda7c-d067-4183-912e-bf5ee74998a8"
FOLDER_PATIENT_ID: Final = "urn:uuid:f64ffdf0-4b97-4e06-b79f-a52b38ec2f8a"
FOLDER_UNIQUE_ID: Final = "urn:uuid:75df8f67-9973-4fbe-a900-df66cefecc5a"

# Association types (ITI TF-3: 4.2.2)
HAS_MEMBER: Final = "urn:oasis:names:tc:ebxml-regrep:AssociationType:HasMember"
APND: Final = "urn:ihe:iti:2007:AssociationType:APND"
XFRM: Final = "urn:ihe:iti:2007:AssociationType:XFRM"
RPLC: Final = "urn:ihe:iti:2007:AssociationType:RPLC"
XFRM_RPLC: Final = "urn:ihe:iti:2007:AssociationType:XFRM_RPLC"
SIGNS: Final = "urn:ihe:iti:2007:AssociationType:signs"
IS_SNAPSHOT_OF: Final = "urn:ihe:iti:2010:AssociationType:IsSnapshotOf"
UPDATE_AVAILABILITY_STATUS: Final = "urn:ihe:iti:2010:AssociationType:UpdateAvailabilityStatus"
SUBMIT_ASSOCIATION: Final = "urn:ihe:iti:2010:AssociationType:SubmitAssociation"

# Status words
APPROVED: Final = "urn:oasis:names:tc:ebxml-regrep:StatusType:Approved"
DEPRECATED: Final = "urn:oasis:names:tc:ebxml-regrep:StatusType:Deprecated"
SUCCESS: Final = "urn:oasis:names:tc:ebxml-regrep:ResponseStatusType:Success"
FAILURE: Final = "urn:oasis:names:tc:ebxml-regrep:ResponseStatusType:Failure"
PARTIAL_SUCCESS: Final = "urn:ihe:iti:2007:ResponseStatusType:PartialSuccess"
SEVERITY_ERROR: Final = "urn:oasis:names:tc:ebxml-regrep:ErrorSeverityType:Error"
SEVERITY_WARNING: Final = "urn:oasis:names:tc:ebxml-regrep:ErrorSeverityType:Warning"
AVAILABLE_ONLINE: Final = "urn:ihe:iti:2010:DocumentAvailability:Online"
AVAILABLE_OFFLINE: Final = "urn:ihe:iti:2010:DocumentAvailability:Offline"
REFERENCE_ID_LIST: Final = "urn:ihe:iti:xds:2013:referenceIdList"
