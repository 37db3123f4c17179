"""What each stored query answers by the model: entryUUIDs (ITI TF-2: 3.18.4.1.2.3.7; Metadata Update: MetadataLevel).

``level`` 1 shows of each logical object its latest version, 2 all of them; ``links`` are the statuses of associations
that are shown ($XDSAssociationStatus: True for Approved, False for Deprecated).
"""

from dataclasses import dataclass

from ihe import vocabulary as v
from ihe.registry_objects import Kind
from tests.registry.histories.model import RELATIONSHIPS

__all__ = ["Answers", "Question", "questions"]

ENTRY, FOLDER, SET, ASSOCIATION = Kind.DOCUMENT_ENTRY, Kind.FOLDER, Kind.SUBMISSION_SET, Kind.ASSOCIATION
TYPES = f"('{v.STABLE}','{v.ON_DEMAND}')"


@dataclass(frozen=True)
class Question:
    """A query by its UUID, its parameters, and the ids of the answer; ``patients``: whose objects the answer shows."""

    query: str
    parameters: dict
    ids: frozenset
    patients: frozenset = frozenset()


def statuses(chosen):
    """A list of statuses as a parameter."""
    names = {True: v.APPROVED, False: v.DEPRECATED}
    return "(" + ",".join(f"'{names[one]}'" for one in chosen) + ")"


class Answers:
    """All of one level and one choice of association statuses."""

    def __init__(self, model, level, links):
        self.model, self.level, self.shown = model, level, links
        self.common = {"MetadataLevel": str(level), "XDSAssociationStatus": statuses(links)}

    def _current(self, found):
        return [one for one in found if self.level == 2 or self.model.is_latest(one)]

    def _links(self, **ends):
        return [one for one in self.model.links(approved=False, **ends) if one.approved in self.shown]

    def _touching(self, ids):
        return {one.id for one in self._links() if one.source in ids or one.target in ids}

    def _question(self, query, parameters, ids, *, of=()):
        patients = frozenset(self.model.owner(self.model.things[one]) for one in of)
        return Question(query, {**parameters, **self.common}, frozenset(ids), patients)

    def _members(self, uuid, kind):
        """(link, member) of a package."""
        pairs = ((one, self.model.things[one.target]) for one in self._links(source=uuid, types=(v.HAS_MEMBER,)))
        return [(link, one) for link, one in pairs if one.kind is kind]

    # -------------------------------------------------------------------------------------------- of a patient

    def find_documents(self, patient, chosen, *, on_demand):
        found = [o for o in self._current(self.model.of_patient(patient, ENTRY)) if o.approved in chosen]
        parameters = {"XDSDocumentEntryPatientId": f"'{patient}'", "XDSDocumentEntryStatus": statuses(chosen)}
        if on_demand:
            parameters["XDSDocumentEntryType"] = TYPES
        ids = [one.id for one in found if on_demand or not one.on_demand]
        return self._question("14d4debf-8f97-4251-9a74-a90016b0af0d", parameters, ids)

    def find_folders(self, patient, chosen):
        found = [o.id for o in self._current(self.model.of_patient(patient, FOLDER)) if o.approved in chosen]
        parameters = {"XDSFolderPatientId": f"'{patient}'", "XDSFolderStatus": statuses(chosen)}
        return self._question("958f3006-baad-4929-a4de-ff1114824431", parameters, found)

    def get_all(self, patient, chosen=(True, False)):
        kinds = ("XDSDocumentEntryStatus", "XDSSubmissionSetStatus", "XDSFolderStatus")
        parameters = {"patientId": f"'{patient}'", "XDSDocumentEntryType": TYPES}
        parameters |= dict.fromkeys(kinds, statuses(chosen))
        found = self._current(self.model.of_patient(patient, ENTRY, FOLDER, SET))
        ids = {one.id for one in found if one.approved in chosen}
        return self._question("10b545ea-725c-446d-9b95-8aeb444eddf3", parameters, ids | self._touching(ids))

    def find_submission_sets(self, patient):
        found = [one.id for one in self.model.of_patient(patient, SET)]
        parameters = {"XDSSubmissionSetPatientId": f"'{patient}'", "XDSSubmissionSetStatus": statuses((True, False))}
        return self._question("f26abbcb-ac74-4422-8a30-edb644bbc1a9", parameters, found)

    # --------------------------------------------------------------------------------------------- of an object

    def get_documents(self, **selector):
        """By ``unique_id``, ``lid`` or ``id``; by its id an old version is shown at level 1, too."""
        ((attribute, value),) = selector.items()
        found = [one for one in self.model.of(ENTRY) if getattr(one, attribute) == value]
        found = found if attribute == "id" else self._current(found)
        name = {"unique_id": "UniqueId", "lid": "LogicalID", "id": "EntryUUID"}[attribute]
        parameters = {f"XDSDocumentEntry{name}": f"('{value}')"}
        ids = [one.id for one in found]
        return self._question("5c4f972b-d56b-40ac-a5fc-c8ca9b40b9d4", parameters, ids, of=ids)

    def get_folders(self, **selector):
        ((attribute, value),) = selector.items()
        found = self._current(one for one in self.model.of(FOLDER) if getattr(one, attribute) == value)
        name = {"unique_id": "UniqueId", "lid": "LogicalID"}[attribute]
        ids = [one.id for one in found]
        return self._question("5737b14c-8a1a-4539-b659-e03a34a5e1e4", {f"XDSFolder{name}": f"('{value}')"}, ids, of=ids)

    def get_associations(self, uuid):
        return self._question("a7ae438b-4bc2-4642-93e9-be891f7bb155", {"uuid": f"('{uuid}')"}, self._touching({uuid}))

    def get_documents_and_associations(self, uuid):
        ids = {uuid} | self._touching({uuid})
        parameters = {"XDSDocumentEntryEntryUUID": f"('{uuid}')"}
        return self._question("bab9529a-4a10-40b3-a01f-f68a615d247a", parameters, ids, of=(uuid,))

    def get_submission_sets(self, uuid):
        members = [o for o in self._links(target=uuid, types=(v.HAS_MEMBER,)) if self.model.is_of_set(o)]
        sets = {one.source for one in members}
        ids = sets | {one.id for one in members}
        return self._question("51224314-5390-4169-9b91-b1980040715a", {"uuid": f"('{uuid}')"}, ids, of=sets)

    def get_submission_set_and_contents(self, uuid):
        shown = [(link, one) for link, one in self._members(uuid, ENTRY) if self._current([one])]
        shown += [(link, one) for link, one in self._members(uuid, FOLDER) if self._current([one])]
        objects = {one.id for _, one in shown}
        linked = [
            (link, one)
            for link, one in self._members(uuid, ASSOCIATION)
            if one.approved in self.shown and one.source in objects and one.target in objects
        ]
        ids = {uuid} | {end.id for pair in (*shown, *linked) for end in pair}
        parameters = {"XDSSubmissionSetEntryUUID": f"'{uuid}'", "XDSDocumentEntryType": TYPES}
        return self._question("e8e3cb2c-e39c-46b9-99e4-c12f57260b83", parameters, ids, of={uuid, *objects})

    def get_folder_and_contents(self, uuid):
        shown = [(link, one) for link, one in self._members(uuid, ENTRY) if self._current([one])]
        ids = {uuid} | {end.id for pair in shown for end in pair}
        parameters = {"XDSFolderEntryUUID": f"'{uuid}'", "XDSDocumentEntryType": TYPES}
        of = {uuid, *(one.id for _, one in shown)}
        return self._question("b909a503-523d-4517-8acf-8e5834dfc4c7", parameters, ids, of=of)

    def get_folders_for_document(self, uuid):
        sources = {one.source for one in self._links(target=uuid, types=(v.HAS_MEMBER,))}
        found = [one.id for one in self._current(self.model.of(FOLDER)) if one.id in sources]
        return self._question("10cae35a-c7f9-4cf5-b61e-fc3278ffb578", {"XDSDocumentEntryEntryUUID": f"'{uuid}'"}, found)

    def get_related_documents(self, uuid):
        links = [one for one in self._links(types=RELATIONSHIPS) if uuid in (one.source, one.target)]
        # The entry asked for is shown although it is an old version; the other end only when it is to be shown.
        links = [
            one
            for one in links
            if all(end == uuid or self._current([self.model.things[end]]) for end in (one.source, one.target))
        ]
        ids = {end for one in links for end in (one.id, one.source, one.target)}
        listed = ",".join(f"'{one}'" for one in RELATIONSHIPS)
        parameters = {"XDSDocumentEntryEntryUUID": f"'{uuid}'", "AssociationTypes": f"({listed})"}
        parameters["XDSDocumentEntryType"] = TYPES
        return self._question("d90e5407-b356-4d91-a89f-873917b4b0e6", parameters, ids)


def questions(answers, patients, chosen):
    """Everything asked of the patients and of the objects ``chosen``, one of each kind at most."""
    for patient in patients:
        for status in ((True,), (False,), (True, False)):
            yield answers.find_documents(patient, status, on_demand=status != (False,))
        yield answers.find_folders(patient, (True,))
        yield answers.find_submission_sets(patient)
        yield answers.get_all(patient)
    for one in chosen:
        yield answers.get_associations(one.id)
        if one.kind in (ENTRY, FOLDER):
            yield answers.get_submission_sets(one.id)
        if one.kind is ENTRY:
            yield answers.get_documents(id=one.id)
            yield answers.get_documents(lid=one.lid)
            yield answers.get_documents(unique_id=one.unique_id)
            yield answers.get_documents_and_associations(one.id)
            yield answers.get_folders_for_document(one.id)
            yield answers.get_related_documents(one.id)
        elif one.kind is FOLDER:
            yield answers.get_folders(lid=one.lid)
            yield answers.get_folders(unique_id=one.unique_id)
            yield answers.get_folder_and_contents(one.id)
        elif one.kind is SET:
            yield answers.get_submission_set_and_contents(one.id)
