"""Rules about associations, as far as the submission alone can tell (ITI TF-3: 4.2.2; ITI TF-2: 3.42.4.1.3).

An end that is a UUID and not in the submission is an object the registry must know; its kind is judged there, by the
same ``expected_ends``.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from ihe import vocabulary as v
from ihe.datatypes import is_symbolic
from ihe.errors import ErrorCode
from ihe.findings import Finding, finding, named, shortened
from ihe.registry_objects import Kind, RegistryObject
from ihe.structure_rules import Case

_ENTRY, _SET, _FOLDER, _ASSOCIATION = Kind.DOCUMENT_ENTRY, Kind.SUBMISSION_SET, Kind.FOLDER, Kind.ASSOCIATION


@dataclass(frozen=True, slots=True)
class Ends:
    """What may stand at the ends of an association.

    ``new_source``, ``new_target``: must be in the submission (True), must not be (False), may be either (None).
    """

    source: Kind
    target: Kind
    new_source: bool | None = None
    new_target: bool | None = None

    def fit_kinds(self, source: Kind | None, target: Kind | None) -> bool:
        """Whether these kinds may stand here; ``None`` is a kind not known yet."""
        return source in (None, self.source) and target in (None, self.target)

    def fit_places(self, *, new_source: bool, new_target: bool) -> bool:
        """Whether ends in the submission (True) or already registered (False) may stand here."""
        return self.new_source in (None, new_source) and self.new_target in (None, new_target)


# fmt: off
_ENDS: Final[Mapping[str, tuple[Ends, ...]]] = MappingProxyType({
    v.HAS_MEMBER: (
        Ends(_SET,    _ENTRY,       new_source=True),
        Ends(_SET,    _FOLDER,      new_source=True, new_target=True),
        Ends(_SET,    _ASSOCIATION, new_source=True, new_target=True),
        Ends(_FOLDER, _ENTRY),
    ),
    v.APND:           (Ends(_ENTRY, _ENTRY, new_source=True),),
    v.XFRM:           (Ends(_ENTRY, _ENTRY, new_source=True),),
    v.SIGNS:          (Ends(_ENTRY, _ENTRY, new_source=True),),
    v.RPLC:           (Ends(_ENTRY, _ENTRY, new_source=True, new_target=False),),
    v.XFRM_RPLC:      (Ends(_ENTRY, _ENTRY, new_source=True, new_target=False),),
    v.IS_SNAPSHOT_OF: (Ends(_ENTRY, _ENTRY, new_source=True, new_target=False),),
})
# fmt: on


def expected_ends(association_type: str) -> tuple[Ends, ...]:
    """The pairs of ends an association type allows in a registration, none for an unknown type."""
    return _ENDS.get(association_type, ())


def is_folder_membership(case: Case, association: RegistryObject) -> bool:
    """Whether this is a HasMember between a folder, new or registered, and an entry."""
    if association.type != v.HAS_MEMBER or not association.source or not association.target:
        return False
    source, target = case.by_id.get(association.source), case.by_id.get(association.target)
    if source is None:
        return target is None or target.kind is _ENTRY
    return source.kind is _FOLDER


def associations_are_of_a_known_type(case: Case) -> Iterator[Finding]:
    """AssociationType is one of those a registration may use."""
    for one in case.objects.of(_ASSOCIATION):
        if one.type and not expected_ends(one.type):
            wrong = f"{shortened(one.type)!r} cannot be registered; allowed are {', '.join(_ENDS)}"
            yield finding(named(one), "associationType", wrong, "associations_are_of_a_known_type")


def ends_are_of_the_right_kind(case: Case) -> Iterator[Finding]:
    """The kinds at both ends fit the type; a SubmissionSet is never a target, nothing is related to itself."""
    rule = "ends_are_of_the_right_kind"
    for one in case.objects.of(_ASSOCIATION):
        ends = expected_ends(one.type or "")
        if not ends or not one.source or not one.target:
            continue
        source, target = case.by_id.get(one.source), case.by_id.get(one.target)
        kinds = source.kind if source else None, target.kind if target else None
        allowed = ", ".join(f"{pair.source} to {pair.target}" for pair in ends)
        if one.source == one.target:
            yield finding(named(one), "targetObject", "is the sourceObject; nothing is associated with itself", rule)
        elif not any(pair.fit_kinds(*kinds) for pair in ends):
            wrong = f"leads from {kinds[0] or 'a registered object'} to {kinds[1] or 'a registered object'}"
            yield finding(named(one), "sourceObject and targetObject", f"{wrong}; allowed is {allowed}", rule)
        elif target is not None and target.kind is _ASSOCIATION and not is_folder_membership(case, target):
            wrong = "a SubmissionSet has as member, of all associations, only those of a folder with an entry"
            yield finding(named(one), "targetObject", wrong, rule)


def ends_can_be_found(case: Case) -> Iterator[Finding]:
    """Symbolic ids are defined here; what must be new is in the submission, what must be registered is not."""
    rule, code = "ends_can_be_found", ErrorCode.UNRESOLVED_REFERENCE
    for one in case.objects.of(_ASSOCIATION):
        unresolved = False
        for attribute, identifier in (("sourceObject", one.source), ("targetObject", one.target)):
            if identifier and is_symbolic(identifier) and identifier not in case.by_id:
                unresolved = True
                wrong = f"{shortened(identifier)!r} is the id of no object in the submission"
                yield finding(named(one), attribute, wrong, rule, code=code)
        if unresolved or not one.source or not one.target:
            continue
        source, target = case.by_id.get(one.source), case.by_id.get(one.target)
        ends = [
            pair
            for pair in expected_ends(one.type or "")
            if pair.fit_kinds(source.kind if source else None, target.kind if target else None)
        ]
        new = {"new_source": source is not None, "new_target": target is not None}
        if ends and not any(pair.fit_places(**new) for pair in ends):
            yield _misplaced(one, ends[0], rule, new_source=new["new_source"])


def _misplaced(one: RegistryObject, pair: Ends, rule: str, *, new_source: bool) -> Finding:
    if pair.new_source and not new_source:
        attribute, identifier, allowed = "sourceObject", one.source, "must be in this submission"
    else:
        attribute, identifier, allowed = "targetObject", one.target, "must be registered before, not in this submission"
    wrong = f"{shortened(identifier or '')!r} {allowed}"
    return finding(named(one), attribute, wrong, rule, code=ErrorCode.UNRESOLVED_REFERENCE)


def _memberships(case: Case) -> Iterator[RegistryObject]:
    """The HasMember associations whose source is a SubmissionSet of the request."""
    for one in case.objects.of(_ASSOCIATION):
        source = case.by_id.get(one.source or "")
        if one.type == v.HAS_MEMBER and source is not None and source.kind is _SET:
            yield one


def objects_are_members_once(case: Case) -> Iterator[Finding]:
    """Each entry, each folder and each folder membership is linked to the SubmissionSet by one HasMember."""
    if not case.objects.of(_SET):
        return  # nothing to be a member of: that is the fault
    times = Counter(one.target for one in _memberships(case))
    for obj in case.objects.objects:
        if obj.kind is _ASSOCIATION and is_folder_membership(case, obj):
            what = "membership of an entry in a folder"
        elif obj.kind in (_ENTRY, _FOLDER) and obj.id:
            what = str(obj.kind)
        else:
            continue
        found = times[obj.id] if obj.id else 0
        if found != 1:
            wrong = f"found {found}; each {what} needs exactly one HasMember association from the SubmissionSet"
            yield finding(named(obj), "SubmissionSet HasMember", wrong, "objects_are_members_once")


def submission_set_status_is_right(case: Case) -> Iterator[Finding]:
    """SubmissionSetStatus of a SubmissionSet's entry: Original when in the submission, Reference when not."""
    for one in _memberships(case):
        target = case.by_id.get(one.target or "")
        if not one.target or (target is None and is_symbolic(one.target)):
            continue
        if target is not None and target.kind is not _ENTRY:
            continue
        expected = "Original" if target is not None else "Reference"
        if one.slot("SubmissionSetStatus") != (expected,):
            place = "in this submission" if target is not None else "registered before"
            wrong = f"must be there once with the value {expected}: the entry is {place}"
            yield finding(named(one), "SubmissionSetStatus", wrong, "submission_set_status_is_right")


def nothing_is_appended_to_a_transformation(case: Case) -> Iterator[Finding]:
    """What is made from another document in this very request is no target of APND (ITI TF-3: 4.2.2.2)."""
    associations = case.objects.of(_ASSOCIATION)
    made = {one.source for one in associations if one.type == v.XFRM and one.source}
    for one in associations:
        if one.type == v.APND and one.target in made:
            wrong = f"{shortened(one.target)!r} is a transformation (XFRM); append to the document that it is made from"
            yield finding(named(one), "targetObject", wrong, "nothing_is_appended_to_a_transformation")


def memberships_carry_no_documentation(case: Case) -> Iterator[Finding]:
    """Documentation codes say why documents are related; a HasMember relates none (ITI TF-3: 4.2.2.2)."""
    for one in case.objects.of(_ASSOCIATION):
        if one.type == v.HAS_MEMBER and one.coded(v.ASSOCIATION_DOCUMENTATION):
            wrong = "is not allowed on HasMember; allowed on APND, XFRM, RPLC, XFRM_RPLC, signs and IsSnapshotOf"
            yield finding(named(one), "associationDocumentation", wrong, "memberships_carry_no_documentation")
