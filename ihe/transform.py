"""From the words of the wire to those of the domain (ITI TF-3: 4.2.3), for objects that passed ``ihe.rules``."""

from ihe import vocabulary as v
from ihe.metadata import Association, Code, DocumentEntry, EntryType, Folder, SubmissionSet
from ihe.registry_objects import Classification, RegistryObject


def coding_scheme(classification: Classification) -> str:
    """Value of the codingScheme slot, empty when there is none."""
    return next((s.values[0] for s in classification.slots if s.name == "codingScheme" and s.values), "")


def codes(obj: RegistryObject, scheme: str) -> tuple[Code, ...]:
    """All codes of one classification scheme, in message order."""
    return tuple(Code(c.node_representation or "", coding_scheme(c)) for c in obj.coded(scheme))


def author_persons(obj: RegistryObject, scheme: str) -> tuple[str, ...]:
    """The authorPerson values of all authors, in message order."""
    return tuple(
        value
        for author in obj.coded(scheme)
        for slot in author.slots
        if slot.name == "authorPerson"
        for value in slot.values
    )


def _one(obj: RegistryObject, slot: str) -> str | None:
    values = obj.slot(slot)
    return values[0] if values else None


def _needed(value: str | None, what: str) -> str:
    if value is None:
        raise ValueError(f"{what} is missing: this object did not pass the rules")
    return value


def document_entry(obj: RegistryObject) -> DocumentEntry:
    """Turn a rim:ExtrinsicObject into a DocumentEntry; ids must be UUIDs already."""
    size = _one(obj, "size")
    return DocumentEntry(
        entry_uuid=_needed(obj.id, "id"),
        logical_id=_needed(obj.lid, "lid"),
        version=int(_needed(obj.version_name, "version")),
        object_type=EntryType(_needed(obj.object_type, "objectType")),
        unique_id=_needed(obj.identifier(v.ENTRY_UNIQUE_ID), "uniqueId"),
        patient_id=_needed(obj.identifier(v.ENTRY_PATIENT_ID), "patientId"),
        source_patient_id=_one(obj, "sourcePatientId"),
        mime_type=_needed(obj.mime_type, "mimeType"),
        class_code=codes(obj, v.ENTRY_CLASS)[0],
        type_code=codes(obj, v.ENTRY_TYPE)[0],
        format_code=codes(obj, v.ENTRY_FORMAT)[0],
        healthcare_facility_type_code=codes(obj, v.ENTRY_FACILITY_TYPE)[0],
        practice_setting_code=codes(obj, v.ENTRY_PRACTICE_SETTING)[0],
        confidentiality_codes=codes(obj, v.ENTRY_CONFIDENTIALITY),
        event_codes=codes(obj, v.ENTRY_EVENT),
        author_persons=author_persons(obj, v.ENTRY_AUTHOR),
        reference_ids=obj.slot(v.REFERENCE_ID_LIST) or (),
        creation_time=_one(obj, "creationTime"),
        service_start_time=_one(obj, "serviceStartTime"),
        service_stop_time=_one(obj, "serviceStopTime"),
        hash=_one(obj, "hash"),
        size=None if size is None else int(size),
        repository_unique_id=_needed(_one(obj, "repositoryUniqueId"), "repositoryUniqueId"),
        home_community_id=obj.home,
        document_availability=_one(obj, "documentAvailability") or v.AVAILABLE_ONLINE,
    )


def submission_set(obj: RegistryObject) -> SubmissionSet:
    """Turn a rim:RegistryPackage marked as SubmissionSet into one."""
    return SubmissionSet(
        entry_uuid=_needed(obj.id, "id"),
        unique_id=_needed(obj.identifier(v.SUBMISSION_SET_UNIQUE_ID), "uniqueId"),
        patient_id=_needed(obj.identifier(v.SUBMISSION_SET_PATIENT_ID), "patientId"),
        source_id=_needed(obj.identifier(v.SUBMISSION_SET_SOURCE_ID), "sourceId"),
        submission_time=_needed(_one(obj, "submissionTime"), "submissionTime"),
        content_type_code=codes(obj, v.SUBMISSION_SET_CONTENT_TYPE)[0],
        author_persons=author_persons(obj, v.SUBMISSION_SET_AUTHOR),
        home_community_id=obj.home,
    )


def folder(obj: RegistryObject) -> Folder:
    """Turn a rim:RegistryPackage marked as Folder into one."""
    return Folder(
        entry_uuid=_needed(obj.id, "id"),
        logical_id=_needed(obj.lid, "lid"),
        version=int(_needed(obj.version_name, "version")),
        unique_id=_needed(obj.identifier(v.FOLDER_UNIQUE_ID), "uniqueId"),
        patient_id=_needed(obj.identifier(v.FOLDER_PATIENT_ID), "patientId"),
        codes=codes(obj, v.FOLDER_CODE),
        home_community_id=obj.home,
    )


def association(obj: RegistryObject) -> Association:
    """Turn a rim:Association into one."""
    return Association(
        entry_uuid=_needed(obj.id, "id"),
        type=_needed(obj.type, "associationType"),
        source=_needed(obj.source, "sourceObject"),
        target=_needed(obj.target, "targetObject"),
    )
