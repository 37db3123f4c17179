"""One submission per way to break a rule, each breaking that rule alone."""

from dataclasses import dataclass, replace

from ihe import vocabulary as v
from ihe.errors import ErrorCode
from ihe.registry_objects import Kind, LocalizedString, Slot, SubmittedObjects
from tests import builders as b

METADATA = ErrorCode.REGISTRY_METADATA


@dataclass(frozen=True)
class Violation:
    """``rule`` found it; its context holds all of ``words``. ``by_setting``: only where a domain wants it checked."""

    rule: str
    objects: SubmittedObjects
    words: tuple[str, ...]
    lenient: bool = False
    code: str = METADATA
    on_demand: bool = False
    by_setting: bool = False


def entry(rule, change, *words, **more):
    return Violation(
        f"DocumentEntry.{rule}", b.submission(entry=change), ("DocumentEntry Document01", rule, *words), **more
    )


def sset(rule, change, *words, **more):
    words = ("SubmissionSet SubmissionSet01", rule, *words)
    return Violation(f"SubmissionSet.{rule}", b.submission(submission_set=change), words, **more)


def folder(rule, change, *words, **more):
    words = ("Folder Folder01", rule, *words)
    return Violation(f"Folder.{rule}", b.submission(0, 1, folder=change), words, **more)


def link(rule, association, *words, **more):
    return Violation(f"Association.{rule}", b.submission(extra=(association,)), ("Association", rule, *words), **more)


def whole(rule, objects, *words, **more):
    return Violation(rule, objects, words, **more)


def on_demand(*changes):
    base = [b.having(object_type=v.ON_DEMAND), *map(b.without_slot, ("creationTime", "hash", "size"))]
    return b.submission(entry=(*base, *changes))


SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
ENTRY = (
    entry("author", b.each_classification(v.ENTRY_AUTHOR, node_representation="x"), "author 1", "must be empty"),
    entry("author", b.with_author(v.ENTRY_AUTHOR, authorRole=("Attending",)), "author 1", "authorPerson"),
    entry("classCode", b.without_code(v.ENTRY_CLASS), "missing", "exactly one"),
    entry("classCode", b.with_classification(b.code(v.ENTRY_CLASS, "11502-2", b.LOINC)), "found 2", "exactly one"),
    entry("classCode", b.with_code(v.ENTRY_CLASS, "", b.LOINC), "nodeRepresentation"),
    entry("classCode", b.each_classification(v.ENTRY_CLASS, slots=()), "codingScheme", "exactly one"),
    entry("classCode", b.each_classification(v.ENTRY_CLASS, slots=(Slot("codingScheme", (b.LOINC, "1.2")),)), "2 values"),
    entry("classCode", b.with_code(v.ENTRY_CLASS, "11502-2", b.LOINC, None), "display name", lenient=True),
    entry("classCode", b.with_code(v.ENTRY_CLASS, "11502-2", b.LOINC, " "), "display name", lenient=True),
    entry("classCode", b.with_code(v.ENTRY_CLASS, "99999-9", b.LOINC), "99999-9", "allowed are", lenient=True),
    entry("classCode", b.with_code(v.ENTRY_CLASS, "11502-2", b.SNOMED), "11502-2", "allowed are", lenient=True),
    entry("confidentialityCode", b.without_code(v.ENTRY_CONFIDENTIALITY), "missing", "at least one"),
    entry("creationTime", b.without_slot("creationTime"), "missing"),
    entry("creationTime", b.with_slot("creationTime", "2024", "2025"), "found 2"),
    entry("creationTime", b.with_slot("creationTime", "20240230"), "calendar"),
    entry("creationTime", b.with_slot("creationTime", "20240229120000.5"), "no fraction", lenient=True),
    entry("creationTime", b.with_slot("creationTime", "20240229120000+0100"), "no zone", lenient=True),
    Violation("DocumentEntry.creationTime", on_demand(b.with_slot("creationTime", "2024")), ("not allowed",), on_demand=True),
    entry("documentAvailability", b.with_slot("documentAvailability", "Online"), v.AVAILABLE_ONLINE),
    entry("eventCodeList", b.with_code(v.ENTRY_EVENT, "none", b.LOCAL), "allowed are", "codes, listed for eventCodeList", lenient=True),
    entry("formatCode", b.without_code(v.ENTRY_FORMAT), "missing"),
    entry("hash", b.without_slot("hash"), "missing"),
    entry("hash", b.with_slot("hash", SHA256), "40 hexadecimal digits"),
    Violation("DocumentEntry.hash", on_demand(b.with_slot("hash", "0" * 40)), ("not allowed",), on_demand=True),
    entry("healthcareFacilityTypeCode", b.without_code(v.ENTRY_FACILITY_TYPE), "missing"),
    entry("homeCommunityId", b.having(home="urn:oid:here"), "urn:oid:"),
    entry("languageCode", b.without_slot("languageCode"), "missing"),
    entry("languageCode", b.with_slot("languageCode", "fr_LU"), "RFC 5646"),
    entry("legalAuthenticator", b.with_slot("legalAuthenticator", "^^Marcus"), "XCN"),
    entry("mimeType", b.having(mime_type=None), "missing"),
    entry("mimeType", b.having(mime_type="text"), "type/subtype", lenient=False),
    entry("mimeType", b.having(mime_type="application/x-none"), "application/x-none", "text/xml", lenient=True),
    entry("objectType", b.having(object_type=None), "missing"),
    entry("objectType", b.having(object_type="urn:uuid:10b545ea-725c-446d-9b95-8aeb444eddf3"), v.STABLE),
    entry("patientId", b.without_identifier(v.ENTRY_PATIENT_ID), "missing"),
    entry("patientId", b.each_identifier(v.ENTRY_PATIENT_ID, name=()), "XDSDocumentEntry.patientId"),
    entry("patientId", b.each_identifier(v.ENTRY_PATIENT_ID, name=b.text("patientId")), "XDSDocumentEntry.patientId"),
    entry("practiceSettingCode", b.without_code(v.ENTRY_PRACTICE_SETTING), "missing"),
    entry("referenceIdList", b.with_slot(v.REFERENCE_ID_LIST, "1^^^^local", "1^^^&1.2&ISO"), "value 2", "CXi"),
    entry("referenceIdList", b.with_slot(v.REFERENCE_ID_LIST, "1^^^&no oid&ISO^local"), "component 4", lenient=True),
    entry("repositoryUniqueId", b.without_slot("repositoryUniqueId"), "missing"),
    entry("repositoryUniqueId", b.with_slot("repositoryUniqueId", "our-repository"), "OID"),
    entry("serviceStartTime", b.with_slot("serviceStartTime", "yesterday"), "DTM"),
    entry("serviceStopTime", b.with_slot("serviceStopTime", "20241301"), "DTM"),
    entry("size", b.without_slot("size"), "missing"),
    entry("size", b.with_slot("size", "-1"), "digits only"),
    entry("size", b.with_slot("size", str(2**63)), "2^63"),
    Violation("DocumentEntry.size", on_demand(b.with_slot("size", "1")), ("not allowed",), on_demand=True),
    entry("sourcePatientId", b.without_slot("sourcePatientId"), "missing"),
    entry("sourcePatientId", b.with_slot("sourcePatientId", "P-4711"), "id^^^&OID&ISO"),
    entry("sourcePatientInfo", b.with_slot("sourcePatientInfo", "PID-8|F", "Doe^Jane"), "value 2", "PID-n"),
    entry("title", b.having(name=b.text("x" * 129)), "at most 128"),
    entry("typeCode", b.without_code(v.ENTRY_TYPE), "missing"),
    entry("uniqueId", b.without_identifier(v.ENTRY_UNIQUE_ID), "missing"),
    entry("uniqueId", b.with_identifier(v.ENTRY_UNIQUE_ID, " "), "missing"),
    entry("URI", b.with_slot("URI", "http://a", "http://b"), "at most one"),
    Violation(
        "DocumentEntry.entryUUID",
        b.submission(0, extra=(b.document_entry(None),)),
        ("DocumentEntry without id", "entryUUID", "missing"),
    ),
    entry("authorPerson", b.with_author(v.ENTRY_AUTHOR, authorPerson=("^^Marcus",), authorInstitution=("Lab",)), "XCN"),
    entry("authorPerson", b.with_author(v.ENTRY_AUTHOR, authorPerson=("^A", "^B")), "author 1", "at most one"),
    entry("authorInstitution", b.with_author(v.ENTRY_AUTHOR, authorPerson=("^A",), authorInstitution=("^L",)), "XON"),
    entry(
        "authorInstitution",
        b.with_author(v.ENTRY_AUTHOR, authorPerson=("^A",), authorInstitution=("Lab^^^^^^^^^77",)),
        "component 6",
        lenient=True,
    ),
    entry(
        "authorTelecommunication",
        b.with_author(v.ENTRY_AUTHOR, authorPerson=("^A",), authorTelecommunication=("^^PH^^352",)),
        "XTN",
    ),
)  # fmt: skip

SUBMISSION_SET = (
    sset("author", b.each_classification(v.SUBMISSION_SET_AUTHOR, node_representation="x"), "must be empty"),
    sset("contentTypeCode", b.without_code(v.SUBMISSION_SET_CONTENT_TYPE), "missing"),
    sset("homeCommunityId", b.having(home="here"), "urn:oid:"),
    sset("intendedRecipient", b.with_slot("intendedRecipient", "||"), "at least one of the three"),
    sset("intendedRecipient", b.with_slot("intendedRecipient", "Lab|^Doe|^^Internet"), "component 4"),
    sset("objectType", b.having(object_type="RegistryPackage"), v.TYPE_REGISTRY_PACKAGE),
    sset("patientId", b.without_identifier(v.SUBMISSION_SET_PATIENT_ID), "missing"),
    sset("sourceId", b.without_identifier(v.SUBMISSION_SET_SOURCE_ID), "missing"),
    sset("sourceId", b.with_identifier(v.SUBMISSION_SET_SOURCE_ID, "129.6.58.92.1.1"), "first arc 0 to 2"),
    sset("submissionTime", b.without_slot("submissionTime"), "missing"),
    sset("title", b.having(name=b.text("x" * 257)), "at most 256"),
    sset("uniqueId", b.with_identifier(v.SUBMISSION_SET_UNIQUE_ID, "set 1"), "OID"),
    Violation(
        "SubmissionSet.entryUUID", b.submission(0, submission_set=b.having(id=None)), ("SubmissionSet without id",)
    ),
)

FOLDER = (
    folder("codeList", b.without_code(v.FOLDER_CODE), "at least one"),
    folder("homeCommunityId", b.having(home="here"), "urn:oid:"),
    folder("lastUpdateTime", b.with_slot("lastUpdateTime", "now"), "DTM"),
    folder("objectType", b.having(object_type="Folder"), v.TYPE_REGISTRY_PACKAGE),
    folder("patientId", b.without_identifier(v.FOLDER_PATIENT_ID), "missing"),
    folder("title", b.having(name=()), "missing"),
    folder("uniqueId", b.with_identifier(v.FOLDER_UNIQUE_ID, "1.02"), "OID"),
    Violation("Folder.entryUUID", b.submission(extra=(b.folder(None),)), ("Folder without id", "entryUUID")),
)

RPLC = b.association(v.RPLC, "Document01", b.new_uuid())
WHY = b.code(v.ASSOCIATION_DOCUMENTATION, "Additional_Information", b.LOCAL)
ASSOCIATION = (
    link("associationType", replace(RPLC, type=None), "missing"),
    link("associationDocumentation", b.with_classification(WHY, WHY)(RPLC), "at most one"),
    link("entryUUID", replace(RPLC, id="urn:uuid:4711"), "urn:uuid: and a UUID"),
    link("objectType", replace(RPLC, object_type="Association"), v.TYPE_ASSOCIATION),
    link("sourceObject", replace(RPLC, source=None), "missing"),
    link("targetObject", replace(RPLC, target=None), "missing"),
    link("targetObject", replace(RPLC, target="urn:uuid:4711"), "urn:uuid: and a UUID"),
)

LONG = "x" * 257
OTHER_PATIENT = f"P-0815^^^&{b.AUTHORITY}&ISO"
SET_02 = b.submission_set("SubmissionSet02")
PACKAGE = b.changed(b.folder("Package"), (b.having(kind=Kind.UNMARKED), b.without_code(v.NODE_FOLDER)))
FIRST = b.each_classification
STRUCTURE = (
    whole("one_submission_set", SubmittedObjects(()), "SubmissionSet", "found 0"),
    whole("one_submission_set", b.submission(extra=(SET_02,)), "SubmissionSet", "found 2", "exactly one"),
    whole("packages_are_marked", b.submission(extra=(PACKAGE,)), "RegistryPackage Package"),
    whole("packages_are_marked", b.submission(entry=b.with_classification(b.marker(v.NODE_FOLDER))), "Document01", "Folder"),
    whole("packages_are_marked", replace(b.submission(), stray=("loose",)), "'loose'", "classifies no object"),
    whole("classifications_have_a_scheme", b.submission(entry=b.with_classification(b.marker(None))), "Document01"),
    whole("classifications_have_a_scheme", b.submission(entry=lambda one: replace(
        one, external_identifiers=(*one.external_identifiers, b.identifier(None, "1", "x")))), "identificationScheme"),
    whole("ids_are_used_once", b.submission(entry=(FIRST(v.ENTRY_CLASS, id="c"), FIRST(v.ENTRY_TYPE, id="c"))), "'c'", "Document01"),
    whole("ids_are_used_once", b.submission(entry=b.each_identifier(v.ENTRY_UNIQUE_ID, id="Document01")), "'Document01'"),
    whole("parts_name_their_owner", b.submission(entry=FIRST(v.ENTRY_CLASS, classified_object="Document02")), "classifiedObject"),
    whole("parts_name_their_owner", b.submission(entry=b.each_identifier(v.ENTRY_UNIQUE_ID, registry_object="x")), "registryObject"),
    whole("entries_are_of_the_right_type", on_demand(b.with_slot("creationTime", "2024"), b.with_slot("hash", "0" * 40), b.with_slot("size", "1")), "ITI-42", v.STABLE),
    whole("entries_are_of_the_right_type", on_demand(b.having(object_type=v.STABLE)), "ITI-61", v.ON_DEMAND, on_demand=True),
    whole("parts_are_of_the_right_type", b.submission(entry=FIRST(v.ENTRY_TYPE, strange_type="urn:x")), "Document01", "objectType of Classification", "'urn:x'", v.TYPE_CLASSIFICATION, lenient=True),
    whole("parts_are_of_the_right_type", b.submission(submission_set=b.each_identifier(v.SUBMISSION_SET_SOURCE_ID, strange_type="urn:x")), "SubmissionSet01", "objectType of ExternalIdentifier", v.TYPE_EXTERNAL_IDENTIFIER, lenient=True),
    whole("metadata_is_not_limited", b.submission(entry=b.with_classification(b.marker(v.NODE_LIMITED_ENTRY))), "limitedMetadata"),
    whole("slots_are_named_once", b.submission(entry=b.more_slots(Slot("size", ("22",)), Slot("size", ("22",))), contents=[b"x" * 22]), "'size'", lenient=True),
    whole("slots_are_named_once", b.submission(entry=FIRST(v.ENTRY_TYPE, slots=(Slot("codingScheme", (b.LOINC,)),) * 2)), "Classification", "'codingScheme'", lenient=True),
    whole("slots_hold_values", b.submission(entry=b.with_slot("URI")), "Document01", "'URI'", lenient=True),
    whole("slots_hold_values", b.submission(entry=b.with_slot("serviceStartTime", " ")), "'serviceStartTime'", lenient=True),
    whole("slot_values_are_short", b.submission(entry=b.with_slot("URI", LONG)), "'URI'", "257", "256", lenient=True),
    whole("slot_values_are_short", b.submission(entry=b.with_slot("URI", "x" * 4097)), "'URI'", "4097", "256"),
    whole("slot_values_are_short", b.submission(entry=b.with_author(v.ENTRY_AUTHOR, authorPerson=(f"^{LONG}",))), "'authorPerson'", "258", "256", lenient=True),
    whole("names_and_codes_are_short", b.submission(entry=b.with_identifier(v.ENTRY_UNIQUE_ID, LONG)), "ExternalIdentifier", "256"),
    whole("names_and_codes_are_short", b.submission(entry=FIRST(v.ENTRY_TYPE, id=LONG)), "id of Classification", "256"),
    whole("names_and_codes_are_short", b.submission(entry=b.with_slot("urn:example:" + LONG, "1")), "the name", "256"),
    whole("local_texts_fit", b.submission(entry=FIRST(v.ENTRY_TYPE, name=b.text("x" * 1025))), "Document01", "1025", "1024", lenient=True),
    whole("local_texts_fit", b.submission(association=b.having(name=b.text("x" * 4097))), "HasMember", "4097", "1024"),
    whole("languages_are_tags", b.submission(entry=b.having(name=(LocalizedString("x", "french!"),))), "Document01", "xml:lang", "french!"),
    whole("service_starts_before_it_stops", b.submission(entry=b.with_slot("serviceStartTime", "20240301")), "serviceStartTime", "serviceStopTime", lenient=True),
    whole("extra_slots_are_urns", b.submission(entry=b.with_slot("extra", "1")), "'extra'", "URN", lenient=True),
    whole("extra_slots_are_urns", b.submission(association=b.with_slot("urn:ihe:iti:2099:extra", "1")), "HasMember", "urn:ihe:"),
    whole("extra_slots_are_urns", b.submission(submission_set=b.with_slot(" ", "1")), "SubmissionSet01", "no name"),
    whole("nothing_is_updated", b.submission(entry=b.having(lid=b.new_uuid())), "lid", "ITI-57"),
    whole("nothing_is_updated", b.submission(association=b.with_slot("PreviousVersion", "1")), "'PreviousVersion'", "ITI-57"),
    whole("unique_ids_are_used_once", b.submission(entry=b.with_identifier(v.ENTRY_UNIQUE_ID, "2.25.1"), unique_id="2.25.1"), "DocumentEntry Document01", "2.25.1", "SubmissionSet01", code=ErrorCode.REGISTRY_DUPLICATE_UNIQUE_ID_IN_MESSAGE),
    whole("patient_ids_agree", b.submission(entry=b.with_identifier(v.ENTRY_PATIENT_ID, OTHER_PATIENT)), "DocumentEntry Document01", "P-0815", "P-4711", code=ErrorCode.PATIENT_ID_DOES_NOT_MATCH),
    whole("patient_ids_agree", b.submission(0, 1, folder=b.with_identifier(v.FOLDER_PATIENT_ID, OTHER_PATIENT)), "Folder Folder01", "patientId", code=ErrorCode.PATIENT_ID_DOES_NOT_MATCH),
    whole("matricules_are_right", b.submission(entry=b.with_slot("sourcePatientId", f"1893120105742^^^&{b.MATRICULES}&ISO")), "DocumentEntry Document01", "sourcePatientId", "Luhn", by_setting=True),
    whole("matricules_are_right", b.submission(0, patient=f"19751224330^^^&{b.MATRICULES}&ISO"), "SubmissionSet", "patientId", "11 digits", by_setting=True),
)  # fmt: skip

UUID = b.new_uuid()
UNRESOLVED = ErrorCode.UNRESOLVED_REFERENCE
TYPES = "associations_are_of_a_known_type"
KINDS = "ends_are_of_the_right_kind"
FOUND = "ends_can_be_found"


def linked(*associations, entries=1, folders=0):
    return b.submission(entries, folders, members=False, extra=associations)


ASSOCIATIONS = (
    whole(TYPES, linked(b.association("RPLC", "Document01", UUID)), "'RPLC'", v.RPLC),
    whole(TYPES, linked(b.association(v.UPDATE_AVAILABILITY_STATUS, "SubmissionSet01", UUID)), "cannot be registered"),
    whole(KINDS, linked(b.association(v.RPLC, "SubmissionSet01", UUID)), "SubmissionSet to a registered", "DocumentEntry to DocumentEntry"),
    whole(KINDS, linked(b.association(v.APND, "Document01", "Folder01"), folders=1), "DocumentEntry to Folder"),
    whole(KINDS, linked(b.association(v.APND, "Document01", "SubmissionSet01")), "DocumentEntry to SubmissionSet"),
    whole(KINDS, linked(b.has_member("Document01", "SubmissionSet01")), "DocumentEntry to SubmissionSet"),
    whole(KINDS, linked(b.has_member(UUID, "SubmissionSet01")), "a registered object to SubmissionSet"),
    whole(KINDS, linked(b.association(v.APND, "Document01", "Document01")), "nothing is associated with itself"),
    whole(KINDS, linked(b.association(v.RPLC, "Document01", UUID, "r"), b.has_member("SubmissionSet01", "r")), "of a folder with an entry"),
    whole(
        "nothing_is_appended_to_a_transformation",
        linked(b.association(v.XFRM, "Document02", "Document01"), b.association(v.APND, "Document03", "Document02"), entries=3),
        "APND from Document03", "'Document02'", "transformation",
    ),
    whole(FOUND, linked(b.association(v.RPLC, "Document01", "Document99")), "targetObject", "'Document99'", code=UNRESOLVED),
    whole(FOUND, linked(b.association(v.APND, "Document99", UUID)), "sourceObject", "'Document99'", code=UNRESOLVED),
    whole(FOUND, linked(b.association(v.APND, UUID, "Document01")), "sourceObject", "must be in this submission", code=UNRESOLVED),
    whole(FOUND, linked(b.has_member("SubmissionSet01", "Document99", status="Reference")), "'Document99'", code=UNRESOLVED),
    *[
        whole(FOUND, linked(b.association(kind, "Document01", "Document02"), entries=2), "'Document02'", "registered before", code=UNRESOLVED)
        for kind in (v.RPLC, v.XFRM_RPLC, v.IS_SNAPSHOT_OF)
    ],
    whole(FOUND, linked(b.has_member(UUID, "Folder01"), folders=1), "sourceObject", "must be in this submission", code=UNRESOLVED),
    whole("objects_are_members_once", linked(b.document_entry("Document09")), "Document09", "found 0", "exactly one HasMember"),
    whole("objects_are_members_once", linked(b.folder("Folder09")), "Folder09", "found 0"),
    whole("objects_are_members_once", linked(b.has_member("SubmissionSet01", "Document01", status="Original")), "found 2"),
    whole("objects_are_members_once", linked(b.has_member("Folder01", "Document01", "link"), folders=1), "Association link", "found 0"),
    whole("objects_are_members_once", linked(b.has_member(UUID, "Document01", "link")), "Association link", "found 0"),
    whole("objects_are_members_once", linked(b.has_member(UUID, b.new_uuid())), f"HasMember from {UUID}", "found 0"),
    whole("submission_set_status_is_right", b.submission(association=b.without_slot("SubmissionSetStatus")), "SubmissionSetStatus", "Original"),
    whole("submission_set_status_is_right", b.submission(association=b.with_slot("SubmissionSetStatus", "Reference")), "Original"),
    whole("submission_set_status_is_right", b.submission(association=b.with_slot("SubmissionSetStatus", "Original", "Original")), "once"),
    whole("submission_set_status_is_right", linked(b.has_member("SubmissionSet01", UUID)), "Reference"),
    whole("submission_set_status_is_right", linked(b.has_member("SubmissionSet01", UUID, status="Original")), "Reference"),
    whole("memberships_carry_no_documentation", b.submission(association=b.with_classification(WHY)), "associationDocumentation", "RPLC"),
)  # fmt: skip

VIOLATIONS = (*ENTRY, *SUBMISSION_SET, *FOLDER, *ASSOCIATION, *STRUCTURE, *ASSOCIATIONS)
