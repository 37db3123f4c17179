"""Codes of audit messages: DICOM PS3.16 CID 400 to 402, RFC 3881, IHE (ITI TF-2: 3.20)."""

from typing import Final

from atna.message import CodedValue


def dcm(code: str, text: str) -> CodedValue:
    """A code of DICOM PS3.16."""
    return CodedValue(code, "DCM", text)


def rfc3881(code: str, text: str) -> CodedValue:
    """A number of RFC 3881, as a code."""
    return CodedValue(code, "RFC-3881", text)


def transaction(code: str, name: str) -> CodedValue:
    """EventTypeCode of a transaction: ITI-NN and its name."""
    return CodedValue(code, "IHE Transactions", name)


# EventID (DICOM PS3.16 CID 400)
APPLICATION_ACTIVITY: Final = dcm("110100", "Application Activity")
AUDIT_LOG_USED: Final = dcm("110101", "Audit Log Used")
EXPORT: Final = dcm("110106", "Export")
IMPORT: Final = dcm("110107", "Import")
PATIENT_RECORD: Final = dcm("110110", "Patient Record")
QUERY: Final = dcm("110112", "Query")
SECURITY_ALERT: Final = dcm("110113", "Security Alert")

# EventTypeCode (DICOM PS3.16 CID 401)
APPLICATION_START: Final = dcm("110120", "Application Start")
APPLICATION_STOP: Final = dcm("110121", "Application Stop")
NODE_AUTHENTICATION: Final = dcm("110126", "Node Authentication")
MALWARE: Final = CodedValue("malware", "urn:dossier:security-alert", "Malware in a document")
"""Ours: none of the types of a Security Alert (DICOM PS3.16 CID 403, which may be extended) is about content."""

# RoleIDCode (DICOM PS3.16 CID 402)
APPLICATION: Final = dcm("110150", "Application")
APPLICATION_LAUNCHER: Final = dcm("110151", "Application Launcher")
DESTINATION: Final = dcm("110152", "Destination Role ID")
SOURCE: Final = dcm("110153", "Source Role ID")

# ParticipantObjectIDTypeCode
PATIENT_NUMBER: Final = rfc3881("2", "Patient Number")
REPORT_NUMBER: Final = rfc3881("9", "Report Number")
URI: Final = rfc3881("12", "URI")
SUBMISSION_SET: Final = CodedValue(
    "urn:uuid:a54d6aa5-d40d-43f9-88c5-b4633d873bdd", "IHE XDS Metadata", "submission set classificationNode"
)
OBJECT_REFERENCE: Final = CodedValue("urn:ihe:iti:2017:ObjectRef", "IHE XDS Metadata", "registry object reference")

# ParticipantObjectTypeCode, ParticipantObjectTypeCodeRole, ParticipantObjectDataLifeCycle
PERSON: Final = 1
SYSTEM: Final = 2
ROLE_PATIENT: Final = 1
ROLE_REPORT: Final = 3
ROLE_SECURITY_RESOURCE: Final = 13
ROLE_JOB: Final = 20
ROLE_QUERY: Final = 24
ORIGINATION: Final = 1
LOGICAL_DELETION: Final = 14
PERMANENT_ERASURE: Final = 15
