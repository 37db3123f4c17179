"""A registration as rows of the tables, in the order in which foreign keys want them."""

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Table

from ihe import vocabulary as v
from ihe.datatypes import DTM
from ihe.metadata import Association, DocumentEntry, EntryType, Folder
from ihe.registry_objects import Kind, RegistryObject
from registry.store import codes as c
from registry.store import tables as t
from registry.store.fragments import Codec, fragment_of
from registry.store.keys import KeyMaker
from registry.store.protocol import Defect, Registration

Row = dict[str, Any]


def _bounds(name: str, text: str | None) -> Row:
    if text is None:
        return {f"{name}_low": None, f"{name}_high": None}
    time = DTM(text)
    return {f"{name}_low": time.lower, f"{name}_high": time.upper}


def level_of(entry: DocumentEntry) -> str:
    """The strictest HL7 confidentiality level among the codes; N when none of them is a level."""
    found = {code.code for code in entry.confidentiality_codes}
    return next((level for level in c.LEVELS if level in found), "N")


class Rows:
    """The rows of one registration; keys are made here, the database is not asked for any."""

    def __init__(self, registration: Registration, codec: Codec, keys: KeyMaker) -> None:
        self._r = registration
        self._codec = codec
        self._keys = keys
        self._set_key = keys()
        self._entries = [(keys(), entry, obj) for entry, obj in registration.entries]
        self._folders = [(keys(), folder, obj) for folder, obj in registration.folders]

    def all(self) -> Iterator[tuple[Table, list[Row]]]:
        """Tables with their rows, parents before children; lists may be empty."""
        yield t.object_key, self._object_keys()
        yield t.submission_set, [self._submission_set()]
        persons = dict.fromkeys(self._r.submission_set[0].author_persons)
        yield t.submission_set_author, [{"submission_set_key": self._set_key, "person": p} for p in persons]
        yield t.entry, [self._entry(key, entry, obj) for key, entry, obj in self._entries]
        yield t.entry_code, [row for key, entry, _ in self._entries for row in _codes(key, entry)]
        yield t.entry_author, self._side("person", lambda entry: entry.author_persons)
        yield t.entry_reference, self._side("reference", lambda entry: entry.reference_ids)
        yield t.folder, [self._folder(key, folder, obj) for key, folder, obj in self._folders]
        yield (
            t.folder_code,
            [
                {"folder_key": key, "code": code.code, "scheme": code.scheme}
                for key, folder, _ in self._folders
                for code in dict.fromkeys(folder.codes)
            ],
        )
        yield t.association, [self._association(association, obj) for association, obj in self._r.associations]
        yield t.defect, defect_rows(self._r.partner, self._r.now, self._r.defects)

    def unique_ids(self) -> list[Row]:
        """One row per uniqueId of the registration; entries that share one (same bytes) make one row."""
        rows: dict[str, Row] = {}
        chosen = self._r.submission_set[0]
        rows[chosen.unique_id] = _use(chosen.unique_id, Kind.SUBMISSION_SET)
        for folder, _ in self._r.folders:
            rows[folder.unique_id] = _use(folder.unique_id, Kind.FOLDER)
        for entry, _ in self._r.entries:
            rows[entry.unique_id] = _use(entry.unique_id, Kind.DOCUMENT_ENTRY) | {
                "object_type": c.ENTRY_TYPE[entry.object_type],
                "hash": entry.hash,
                "size": entry.size,
            }
        return list(rows.values())

    def _object_keys(self) -> list[Row]:
        kinds = [(self._r.submission_set[0].entry_uuid, Kind.SUBMISSION_SET)]
        kinds += [(entry.entry_uuid, Kind.DOCUMENT_ENTRY) for entry, _ in self._r.entries]
        kinds += [(folder.entry_uuid, Kind.FOLDER) for folder, _ in self._r.folders]
        kinds += [(association.entry_uuid, Kind.ASSOCIATION) for association, _ in self._r.associations]
        return [{"entry_uuid": uuid, "kind": c.KIND[kind], "patient_key": self._r.patient_key} for uuid, kind in kinds]

    def _kept(self, obj: RegistryObject) -> Row:
        return {"dictionary": self._codec.number, "fragment": self._codec.compressed(fragment_of(obj))}

    def _status(self, entry_uuid: str) -> int:
        return c.DEPRECATED if entry_uuid in self._r.born_deprecated else c.APPROVED

    def _depositor(self, entry_uuid: str | None = None) -> Row:
        who = self._r.depositors.get(entry_uuid or "", self._r.depositor)
        return {
            "registered_at": self._r.now,
            "depositor_node": who.node,
            "depositor_organisation": who.organisation,
            "depositor_person": who.person,
        }

    def _submission_set(self) -> Row:
        value, obj = self._r.submission_set
        return {
            "submission_set_key": self._set_key,
            "patient_key": self._r.patient_key,
            "entry_uuid": value.entry_uuid,
            "unique_id": value.unique_id,
            "status": c.APPROVED,
            "source_id": value.source_id,
            **_bounds("submission", value.submission_time),
            "content_type_code": value.content_type_code.code,
            "content_type_scheme": value.content_type_code.scheme,
            "home": value.home_community_id,
            **self._depositor(),
            **self._kept(obj),
        }

    def _entry(self, key: int, entry: DocumentEntry, obj: RegistryObject) -> Row:
        return {
            "entry_key": key,
            "patient_key": self._r.patient_key,
            "submission_set_key": self._set_key,
            "entry_uuid": entry.entry_uuid,
            "logical_id": entry.logical_id,
            "version": entry.version,
            "superseded": 0,
            "unique_id": entry.unique_id,
            "status": self._status(entry.entry_uuid),
            "object_type": c.ENTRY_TYPE[entry.object_type],
            "class_code": entry.class_code.code,
            "class_scheme": entry.class_code.scheme,
            "type_code": entry.type_code.code,
            "type_scheme": entry.type_code.scheme,
            "format_code": entry.format_code.code,
            "format_scheme": entry.format_code.scheme,
            "facility_code": entry.healthcare_facility_type_code.code,
            "facility_scheme": entry.healthcare_facility_type_code.scheme,
            "practice_code": entry.practice_setting_code.code,
            "practice_scheme": entry.practice_setting_code.scheme,
            "level": level_of(entry),
            **_bounds("creation", entry.creation_time if entry.object_type is EntryType.STABLE else None),
            **_bounds("service_start", entry.service_start_time),
            **_bounds("service_stop", entry.service_stop_time),
            "availability": c.AVAILABILITY.get(entry.document_availability, c.AVAILABILITY[v.AVAILABLE_ONLINE]),
            "mime_type": entry.mime_type,
            "source_patient_id": entry.source_patient_id,
            "hash": entry.hash,
            "size": entry.size,
            "repository_unique_id": entry.repository_unique_id,
            "home": entry.home_community_id,
            **self._depositor(entry.entry_uuid),
            **self._kept(obj),
        }

    def _side(self, column: str, values: Any) -> list[Row]:
        return [
            {"entry_key": key, column: value}
            for key, entry, _ in self._entries
            for value in dict.fromkeys(values(entry))
        ]

    def _folder(self, key: int, folder: Folder, obj: RegistryObject) -> Row:
        return {
            "folder_key": key,
            "patient_key": self._r.patient_key,
            "submission_set_key": self._set_key,
            "entry_uuid": folder.entry_uuid,
            "logical_id": folder.logical_id,
            "version": folder.version,
            "superseded": 0,
            "unique_id": folder.unique_id,
            "status": self._status(folder.entry_uuid),
            "last_update_time": self._r.now,
            "home": folder.home_community_id,
            **self._kept(obj),
        }

    def _association(self, association: Association, obj: RegistryObject) -> Row:
        return {
            "association_key": self._keys(),
            "patient_key": self._r.patient_key,
            "submission_set_key": self._set_key,
            "entry_uuid": association.entry_uuid,
            "type": c.ASSOCIATION[association.type],
            "source": association.source,
            "target": association.target,
            "status": c.APPROVED,
            **self._kept(obj),
        }


def defect_rows(partner: str, found_at: str, defects: Sequence[Defect]) -> list[Row]:
    """What ``warn`` let pass of a partner's request."""
    common = {"found_at": found_at, "partner": partner}
    return [{**common, "code": one.code, "context": one.context} for one in defects]


def _codes(key: int, entry: DocumentEntry) -> list[Row]:
    pairs = [(c.EVENT, code) for code in entry.event_codes]
    pairs += [(c.CONFIDENTIALITY, code) for code in entry.confidentiality_codes]
    return [
        {"entry_key": key, "attribute": attribute, "code": code.code, "scheme": code.scheme}
        for attribute, code in dict.fromkeys(pairs)
    ]


def _use(unique_id: str, kind: Kind) -> Row:
    return {"unique_id": unique_id, "kind": c.KIND[kind], "object_type": None, "hash": None, "size": None}
