"""Rules about a submission as a whole and about every object alike (ITI TF-3: 4.2.1, 4.2.3.1; ITI TF-2: 3.42.4.1.3).

Each function yields every fault of its kind.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from ihe import vocabulary as v
from ihe.affinity_domain import AffinityDomain
from ihe.datatypes import is_language_tag, is_urn, loose_dtm, parse_cx
from ihe.errors import ErrorCode
from ihe.findings import Finding, finding, named, shortened
from ihe.registry_objects import LONG_NAME, Kind, LocalizedString, RegistryObject, Slot, SubmittedObjects
from ihe.rule_rows import KNOWN_SLOTS, PATIENT_ID, UNIQUE_ID

THE_SUBMISSION: Final = "the submission"
_LONGEST_VALUE: Final = 4096
_FREE_TEXT: Final = 1024
_MARKERS: Final = {v.NODE_SUBMISSION_SET: Kind.SUBMISSION_SET, v.NODE_FOLDER: Kind.FOLDER}
_LIMITED: Final = frozenset({v.NODE_LIMITED_ENTRY, v.NODE_LIMITED_SUBMISSION_SET, v.NODE_LIMITED_FOLDER})
_UPDATE_SLOTS: Final = ("PreviousVersion", "AssociationPropagation")


@dataclass(frozen=True, slots=True)
class Case:
    """A submission before its judge; ``by_id`` holds the first object of each id, ``on_demand`` means ITI-61.

    ``slots`` lists the slots of every object (0) and of its classifications (1, 2, ...), where there are any.
    """

    objects: SubmittedObjects
    domain: AffinityDomain
    on_demand: bool
    by_id: Mapping[str, RegistryObject]
    slots: tuple[tuple[RegistryObject, int, tuple[Slot, ...]], ...]


def case_of(objects: SubmittedObjects, domain: AffinityDomain, *, on_demand: bool = False) -> Case:
    """Gather what the rules look up."""
    by_id: dict[str, RegistryObject] = {}
    slots: list[tuple[RegistryObject, int, tuple[Slot, ...]]] = []
    for obj in objects.objects:
        if obj.id:
            by_id.setdefault(obj.id, obj)
        if obj.slots:
            slots.append((obj, 0, obj.slots))
        slots += [(obj, number, one.slots) for number, one in enumerate(obj.classifications, 1) if one.slots]
    return Case(objects, domain, on_demand, by_id, tuple(slots))


def one_submission_set(case: Case) -> Iterator[Finding]:
    """Exactly one SubmissionSet."""
    found = len(case.objects.of(Kind.SUBMISSION_SET))
    if found != 1:
        yield finding(THE_SUBMISSION, "SubmissionSet", f"found {found}; required is exactly one", "one_submission_set")


def packages_are_marked(case: Case) -> Iterator[Finding]:
    """Every RegistryPackage has one marker, nothing else has one, no classification classifies thin air."""
    rule = "packages_are_marked"
    for obj in case.objects.objects:
        if obj.kind is Kind.UNMARKED:
            wrong = f"needs one classificationNode, {v.NODE_SUBMISSION_SET} (SubmissionSet) or {v.NODE_FOLDER} (Folder)"
            yield finding(named(obj), "Classification", wrong, rule)
            continue
        for classification in obj.classifications:
            kind = _MARKERS.get(classification.node or "")
            if kind is not None and kind is not obj.kind:
                yield finding(named(obj), "Classification", f"carries the classificationNode of a {kind}", rule)
    for identifier in case.objects.stray:
        wrong = f"{shortened(identifier)!r} classifies no object of the submission"
        yield finding(THE_SUBMISSION, "Classification", wrong, rule)


def classifications_have_a_scheme(case: Case) -> Iterator[Finding]:
    """A Classification has a classificationScheme or a classificationNode, an ExternalIdentifier its scheme."""
    rule = "classifications_have_a_scheme"
    for obj in case.objects.objects:
        if any(not one.scheme and not one.node for one in obj.classifications):
            wrong = "has neither classificationScheme nor classificationNode; one of them is required"
            yield finding(named(obj), "Classification", wrong, rule)
        if any(not one.scheme for one in obj.external_identifiers):
            yield finding(named(obj), "ExternalIdentifier", "identificationScheme is missing", rule)


def ids_are_used_once(case: Case) -> Iterator[Finding]:
    """No two objects, classifications or identifiers of the request have one id."""
    seen: dict[str, str] = {}
    for obj in case.objects.objects:
        parts = [("Classification", one.id) for one in obj.classifications]
        parts += [("ExternalIdentifier", one.id) for one in obj.external_identifiers]
        for what, identifier in [(str(obj.kind), obj.id), *parts]:
            if not identifier:
                continue
            if identifier in seen:
                wrong = f"{shortened(identifier)!r} is the id of another {seen[identifier]} too; an id is used once"
                yield finding(named(obj), f"id of {what}", wrong, "ids_are_used_once")
            seen.setdefault(identifier, what)


def parts_name_their_owner(case: Case) -> Iterator[Finding]:
    """ClassifiedObject and registryObject are the id of the object around them."""
    rule = "parts_name_their_owner"
    for obj in case.objects.objects:
        for classification in obj.classifications:
            if (classification.classified_object or obj.id) != obj.id:
                yield finding(named(obj), "Classification", "classifiedObject must be the id of this object", rule)
        for identifier in obj.external_identifiers:
            if (identifier.registry_object or obj.id) != obj.id:
                yield finding(named(obj), "ExternalIdentifier", "registryObject must be the id of this object", rule)


def parts_are_of_the_right_type(case: Case) -> Iterator[Finding]:
    """ObjectType of a Classification or ExternalIdentifier is the one ebRIM fixes, or is left out (ITI TF-3: 4.2.1)."""
    for obj in case.objects.objects:
        for classification in obj.classifications:
            if classification.strange_type is not None:
                yield _of_strange_type(obj, "Classification", classification.strange_type, v.TYPE_CLASSIFICATION)
        for identifier in obj.external_identifiers:
            if identifier.strange_type is not None:
                yield _of_strange_type(obj, "ExternalIdentifier", identifier.strange_type, v.TYPE_EXTERNAL_IDENTIFIER)


def _of_strange_type(obj: RegistryObject, what: str, found: str, fixed: str) -> Finding:
    wrong = f"{shortened(found)!r} is not {fixed}; allowed is this, or none"
    return finding(named(obj), f"objectType of {what}", wrong, "parts_are_of_the_right_type", lenient=True)


def entries_are_of_the_right_type(case: Case) -> Iterator[Finding]:
    """Stable entries in ITI-42, on-demand entries in ITI-61."""
    expected, forbidden, transaction = (
        (v.ON_DEMAND, v.STABLE, "ITI-61") if case.on_demand else (v.STABLE, v.ON_DEMAND, "ITI-42")
    )
    for entry in case.objects.of(Kind.DOCUMENT_ENTRY):
        if entry.object_type == forbidden:
            wrong = f"{transaction} registers entries of type {expected} only"
            yield finding(named(entry), "objectType", wrong, "entries_are_of_the_right_type")


def metadata_is_not_limited(case: Case) -> Iterator[Finding]:
    """LimitedMetadata is for point-to-point sending, not for a registry."""
    for obj in case.objects.objects:
        if any(one.node in _LIMITED for one in obj.classifications):
            wrong = "is not allowed in a submission to a registry; send the whole metadata"
            yield finding(named(obj), "limitedMetadata", wrong, "metadata_is_not_limited")


def unique_ids_are_used_once(case: Case) -> Iterator[Finding]:
    """No uniqueId twice in the request, whatever the kinds."""
    seen: dict[str, RegistryObject] = {}
    for obj in case.objects.objects:
        unique_id = obj.identifier(UNIQUE_ID[obj.kind]) if obj.kind in UNIQUE_ID else None
        if not unique_id:
            continue
        if unique_id in seen:
            wrong = f"{shortened(unique_id)!r} is the uniqueId of {named(seen[unique_id])} too; it may be used once"
            code = ErrorCode.REGISTRY_DUPLICATE_UNIQUE_ID_IN_MESSAGE
            yield finding(named(obj), "uniqueId", wrong, "unique_ids_are_used_once", code=code)
        seen.setdefault(unique_id, obj)


Patient = tuple[RegistryObject, str]
"""An object and its patientId."""


def other_patients(case: Case) -> Iterator[tuple[Patient, Patient]]:
    """What is not of the patient of the SubmissionSet (of the first object where there is none), with what is."""
    with_patient = [
        (obj, patient)
        for obj in sorted(case.objects.objects, key=lambda one: one.kind is not Kind.SUBMISSION_SET)
        if obj.kind in PATIENT_ID and (patient := obj.identifier(PATIENT_ID[obj.kind]))
    ]
    for one in with_patient[1:]:
        if one[1] != with_patient[0][1]:
            yield one, with_patient[0]


def patient_ids_agree(case: Case) -> Iterator[Finding]:
    """SubmissionSet, entries and folders of a request are of one patient. The context holds the ids: it must."""
    for (obj, patient), (first, expected) in other_patients(case):
        wrong = f"{shortened(patient)!r} is not {shortened(expected)!r}, the patientId of {named(first)}"
        code = ErrorCode.PATIENT_ID_DOES_NOT_MATCH
        yield finding(named(obj), "patientId", wrong, "patient_ids_agree", code=code)


def matricules_are_right(case: Case) -> Iterator[Finding]:
    """Ids of the authority of matricules satisfy their check digits; no number stands in the text."""
    policy = case.domain.matricules
    for obj in case.objects.objects if policy.authorities else ():
        sent = [("patientId", obj.identifier(PATIENT_ID[obj.kind]))] if obj.kind in PATIENT_ID else []
        sent += [("sourcePatientId", text) for text in obj.slot("sourcePatientId") or ()]
        for attribute, text in sent:
            try:
                cx = parse_cx(text or "")
            except ValueError:
                continue  # the rows say so
            fault = policy.fault(cx.id, cx.authority)
            if fault is not None:
                wrong = f"the matricule is wrong: {fault}"
                yield finding(named(obj), attribute, wrong, "matricules_are_right", only_noted=not policy.strict)


def service_starts_before_it_stops(case: Case) -> Iterator[Finding]:
    """ServiceStartTime is not later than serviceStopTime."""
    for entry in case.objects.of(Kind.DOCUMENT_ENTRY):
        start, stop = entry.slot("serviceStartTime"), entry.slot("serviceStopTime")
        if not start or not stop:
            continue
        try:
            wrong = loose_dtm(start[0]).lower > loose_dtm(stop[0]).upper
        except ValueError:
            continue  # the rows say so
        if wrong:
            yield finding(
                named(entry),
                "serviceStartTime",
                "is later than serviceStopTime; allowed is a start before the stop",
                "service_starts_before_it_stops",
                lenient=True,
            )


def extra_slots_are_urns(case: Case) -> Iterator[Finding]:
    """A slot the framework does not define is named by a URN that is not IHE's (ITI TF-3: 4.2.3.1.6)."""
    rule = "extra_slots_are_urns"
    for obj in case.objects.objects:
        for slot in obj.slots:
            if slot.name in KNOWN_SLOTS[obj.kind]:
                continue
            where = f"slot {shortened(slot.name)!r}"
            if not slot.name.strip():
                yield finding(named(obj), "slot", "has no name", rule)
            elif slot.name.lower().startswith("urn:ihe:"):
                wrong = "is not defined for this object; names of extra slots must not begin with urn:ihe:"
                yield finding(named(obj), where, wrong, rule)
            elif not is_urn(slot.name):
                wrong = "is not defined for this object; names of extra slots must be URNs"
                yield finding(named(obj), where, wrong, rule, lenient=True)


def _slot(number: int, name: str) -> str:
    """How a context names a slot of an object (0) or of its classification with this number."""
    return f"Classification {number}, slot {shortened(name)!r}" if number else f"slot {shortened(name)!r}"


def slots_are_named_once(case: Case) -> Iterator[Finding]:
    """A slot name is used once inside one object (ebRIM 3.0: 2.5)."""
    for obj, number, slots in case.slots:
        names = [slot.name for slot in slots]
        if len(set(names)) == len(names):
            continue
        for name in dict.fromkeys(name for name in names if names.count(name) > 1):
            wrong = f"stands {names.count(name)} times; allowed is one slot with all values"
            yield finding(named(obj), _slot(number, name), wrong, "slots_are_named_once", lenient=True)


def slots_hold_values(case: Case) -> Iterator[Finding]:
    """A slot has at least one value and none of them is empty; an attribute without value is left out."""
    for obj, number, slots in case.slots:
        for slot in slots:
            if not slot.values or not all(map(str.strip, slot.values)):
                wrong = "holds no value or an empty one; leave out what has no value"
                yield finding(named(obj), _slot(number, slot.name), wrong, "slots_hold_values", lenient=True)


def slot_values_are_short(case: Case) -> Iterator[Finding]:
    """256 characters for a slot value (ebRIM LongName); strictness may allow up to 4096, never more.

    Not of a codingScheme: it is half of a code, and found by an index of the database, which takes no such texts.
    """
    for obj, number, slots in case.slots:
        for slot in slots:
            longest = max(map(len, slot.values), default=0)
            if longest > LONG_NAME:
                lenient = longest <= _LONGEST_VALUE and not (number and slot.name == "codingScheme")
                wrong = f"holds a value of {longest} characters; allowed are at most {LONG_NAME}"
                yield finding(named(obj), _slot(number, slot.name), wrong, "slot_values_are_short", lenient=lenient)


def names_and_codes_are_short(case: Case) -> Iterator[Finding]:
    """256 characters for ids, slot names, codes and identifiers (ebRIM LongName)."""
    rule = "names_and_codes_are_short"
    for obj in case.objects.objects:
        for attribute, texts in (
            ("id", (obj.id, obj.lid)),
            ("mimeType", (obj.mime_type,)),
            ("homeCommunityId", (obj.home,)),
            ("sourceObject, targetObject or associationType", (obj.source, obj.target, obj.type)),
            ("code", [one.node_representation for one in obj.classifications]),
            ("id of Classification", [one.id for one in obj.classifications]),
            ("id of ExternalIdentifier", [one.id for one in obj.external_identifiers]),
            ("ExternalIdentifier", [one.value for one in obj.external_identifiers]),
        ):
            longest = max(map(len, filter(None, texts)), default=0)
            if longest > LONG_NAME:
                wrong = f"has {longest} characters; allowed are at most {LONG_NAME}"
                yield finding(named(obj), attribute, wrong, rule)
    for obj, number, slots in case.slots:
        for slot in slots:
            if len(slot.name) > LONG_NAME:
                wrong = f"the name has {len(slot.name)} characters; allowed are at most {LONG_NAME}"
                yield finding(named(obj), _slot(number, slot.name), wrong, rule)


def local_texts_fit(case: Case) -> Iterator[Finding]:
    """1024 characters for display names and other texts that no attribute bounds (ebRIM FreeFormText); strictness may
    allow up to 4096, never more. Comments are unbounded by the framework, titles have bounds of their own.
    """
    for obj in case.objects.objects:
        texts = [*obj.name, *obj.description] if obj.kind is Kind.ASSOCIATION else []
        longest = max((len(text.value) for text in (*texts, *_texts_of_parts(obj))), default=0)
        if longest > _FREE_TEXT:
            wrong = f"has {longest} characters; allowed are at most {_FREE_TEXT}"
            lenient = longest <= _LONGEST_VALUE
            yield finding(named(obj), "LocalizedString", wrong, "local_texts_fit", lenient=lenient)


def languages_are_tags(case: Case) -> Iterator[Finding]:
    """xml:lang of a text is an xs:language: an answer with another one is valid for nobody who looks."""
    for obj in case.objects.objects:
        for text in (*obj.name, *obj.description, *_texts_of_parts(obj)):
            if text.lang is not None and not is_language_tag(text.lang):
                wrong = f"{shortened(text.lang)!r} is not an RFC 5646 language tag such as fr or de-LU"
                yield finding(named(obj), "xml:lang", wrong, "languages_are_tags")


def _texts_of_parts(obj: RegistryObject) -> Iterator[LocalizedString]:
    for part in obj.classifications:
        yield from part.name
        yield from part.description
    for one in obj.external_identifiers:
        yield from one.name


def nothing_is_updated(case: Case) -> Iterator[Finding]:
    """A registration brings new objects; a submitted lid other than the id, or update slots, belong in ITI-57."""
    rule = "nothing_is_updated"
    for obj in case.objects.objects:
        if obj.lid and obj.lid != obj.id:
            wrong = "differs from the id; a new object has none, or its own id. New versions are sent with ITI-57"
            yield finding(named(obj), "lid", wrong, rule)
        for name in _UPDATE_SLOTS if obj.kind is Kind.ASSOCIATION else ():
            if obj.slot(name) is not None:
                yield finding(named(obj), f"slot {name!r}", "is for updates; they are sent with ITI-57", rule)
