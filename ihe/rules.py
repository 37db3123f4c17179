"""What is true of any submission, whatever the registry holds (ITI TF-3: 4.2; ITI TF-2: 3.42.4.1.3, 3.61.4.1.3).

Rows say presence and format of each attribute (``ihe.rule_rows``), named functions the rest
(``ihe.structure_rules``, ``ihe.association_rules``). All faults are found at once, in an order that depends on the
submission alone. Contexts name the object and the attribute, what is wrong and what is allowed; patient ids stand only
in those of XDSPatientIdDoesNotMatch, where the framework wants them.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from ihe import association_rules as a
from ihe import structure_rules as s
from ihe import update_rules as u
from ihe.affinity_domain import AffinityDomain
from ihe.association_rules import Ends, expected_ends
from ihe.datatypes import loose_dtm
from ihe.findings import Finding
from ihe.registry_objects import Kind, SubmittedObjects
from ihe.row_engine import Judge
from ihe.rule_rows import AUTHOR, OBJECT_ROWS, Row

__all__ = [
    "RESTRICTED_UPDATE_RULES",
    "RULES",
    "UPDATE_RULES",
    "Ends",
    "Finding",
    "RuleBook",
    "check",
    "expected_ends",
]

Rule = Callable[[s.Case], Iterator[Finding]]


@dataclass(frozen=True, slots=True)
class RuleBook:
    """All rules: rows per kind of object, rows of an author, functions in the order of their findings.

    ``renewed``: kinds that come as new versions of what is registered, under the codes of an earlier day.
    """

    rows: Mapping[Kind, tuple[Row, ...]]
    author_rows: tuple[Row, ...]
    functions: tuple[Rule, ...]
    renewed: frozenset[Kind] = frozenset()


_ANY_SUBMISSION: Final = (
    s.one_submission_set,
    s.packages_are_marked,
    s.ids_are_used_once,
    s.classifications_have_a_scheme,
    s.parts_name_their_owner,
    s.parts_are_of_the_right_type,
    s.metadata_is_not_limited,
    s.slots_are_named_once,
    s.slots_hold_values,
    s.slot_values_are_short,
    s.names_and_codes_are_short,
    s.local_texts_fit,
    s.languages_are_tags,
    s.extra_slots_are_urns,
    s.service_starts_before_it_stops,
    s.unique_ids_are_used_once,
    s.matricules_are_right,
    a.memberships_carry_no_documentation,
    a.nothing_is_appended_to_a_transformation,
)

RULES: Final = RuleBook(
    OBJECT_ROWS,
    AUTHOR,
    (
        *_ANY_SUBMISSION,
        s.patient_ids_agree,
        s.entries_are_of_the_right_type,
        s.nothing_is_updated,
        a.associations_are_of_a_known_type,
        a.ends_are_of_the_right_kind,
        a.ends_can_be_found,
        a.objects_are_members_once,
        a.submission_set_status_is_right,
    ),
)
"""ITI-42 and ITI-61."""

_VERSIONS: Final = frozenset({Kind.DOCUMENT_ENTRY, Kind.FOLDER})
UPDATE_RULES: Final = RuleBook(OBJECT_ROWS, AUTHOR, (*_ANY_SUBMISSION, *u.UPDATE_FUNCTIONS), _VERSIONS)
RESTRICTED_UPDATE_RULES: Final = RuleBook(OBJECT_ROWS, AUTHOR, (*_ANY_SUBMISSION, *u.RESTRICTED_FUNCTIONS), _VERSIONS)
"""ITI-57 and ITI-92."""


def check(
    objects: SubmittedObjects, domain: AffinityDomain, *, on_demand: bool | None = False, rules: RuleBook = RULES
) -> tuple[Finding, ...]:
    """Every fault of a submission that went through ``ihe.normalise.normalise``; none when it may be registered.

    ``on_demand`` judges by the columns of ITI-61 instead of ITI-42; ``None``: each entry by its own type. Codes are
    judged as of the day of submissionTime; those of a new version may be of any day.
    """
    case = s.case_of(objects, domain, on_demand=on_demand is True)
    judge = Judge(domain, rules.author_rows, on_demand, _day(objects))
    renewing = replace(judge, day=None)
    found = [one for rule in rules.functions for one in rule(case)]
    for obj in objects.objects:
        found += (renewing if obj.kind in rules.renewed else judge).object(obj, rules.rows[obj.kind])
    return tuple(found)


def _day(objects: SubmittedObjects) -> str | None:
    for one in objects.of(Kind.SUBMISSION_SET):
        for text in one.slot("submissionTime") or ():
            try:
                return loose_dtm(text).lower[:8]
            except ValueError:
                return None  # the row of submissionTime says so
    return None
