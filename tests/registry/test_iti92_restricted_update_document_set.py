"""ITI-92, registry side: new versions of entries, with what they may not change (Restricted Metadata Update: 3.92)."""

import pytest

from ihe import vocabulary as v
from ihe.transactions import ITI_57, ITI_92
from ihe.xua import Caller
from tests.builders import (
    AUTHORITY,
    CONFIDENTIALITY,
    having,
    new_oid,
    new_uuid,
    submission,
    with_code,
    with_identifier,
    with_slot,
)
from tests.registry.rooms import APPROVED, DEPRECATED, codes_of
from tests.updates import brings, new_association, new_status, new_version, resent, update

OTHER = f"P-0815^^^&{AUTHORITY}&ISO"
RESTRICTED = with_code(v.ENTRY_CONFIDENTIALITY, "R", CONFIDENTIALITY)


@pytest.fixture
def entry(registry):
    registry.accept(submission(folders=1))
    (found,) = registry.find().objects
    return found


def refused(registry, objects):
    response = registry.submit(objects, transaction=ITI_92)
    assert response.status.endswith("Failure")
    assert [o.version_name for o in registry.find(status=f"({APPROVED},{DEPRECATED})").objects] == ["1"]
    return codes_of(response)


def test_a_code_is_changed(registry, entry):
    registry.accept(new_version(entry, RESTRICTED), ITI_92)
    (latest,) = registry.find().objects
    assert (latest.lid, latest.version_name) == (entry.id, "2")
    assert [one.node_representation for one in latest.coded(v.ENTRY_CONFIDENTIALITY)] == ["R"]


def test_a_deprecated_entry_is_updated_and_stays_deprecated(registry, entry):
    registry.accept(update(new_status(entry.id)), ITI_57)
    registry.accept(new_version(entry, RESTRICTED), ITI_92)
    found = registry.find(status=f"({DEPRECATED})", MetadataLevel="2").objects
    assert [(o.version_name, o.status) for o in found] == [("1", v.DEPRECATED), ("2", v.DEPRECATED)]
    assert registry.find().objects == ()


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (with_identifier(v.ENTRY_UNIQUE_ID, new_oid()), "XDSMetadataIdentifierError"),
        (with_slot("sourcePatientId", "other^^^&1.3.4.5&ISO"), "UnmodifiableMetadataError"),
        (with_slot("repositoryUniqueId", "1.2.3.4.5"), "UnmodifiableMetadataError"),
        (with_slot("documentAvailability", v.AVAILABLE_OFFLINE), "UnmodifiableMetadataError"),
        (with_slot("hash", "0" * 40), "UnmodifiableMetadataError"),
        (having(object_type=v.ON_DEMAND), "UnmodifiableMetadataError"),
        (having(lid=None), "XDSInvalidRequestException"),
        (having(lid=new_uuid()), "XDSMetadataVersionError"),
    ],
)
def test_what_may_not_change(registry, entry, change, code):
    assert code in refused(registry, new_version(entry, change))


def test_the_patient_may_not_change(registry, entry):
    registry.know(OTHER)
    objects = new_version(entry, with_identifier(v.ENTRY_PATIENT_ID, OTHER), patient=OTHER)
    assert refused(registry, objects) == {"XDSPatientIDReconciliationError"}


@pytest.mark.parametrize("slots", [{"propagation": "no"}, {"status": None}, {"previous": "first"}])
def test_an_annotation_that_is_missing_or_bad(registry, entry, slots):
    assert refused(registry, new_version(entry, **slots)) == {"XDSMetadataAnnotationError"}


def test_without_its_membership_an_entry_is_no_update(registry, entry):
    assert refused(registry, update(resent(entry, "New01"))) == {"XDSMetadataAnnotationError"}


def test_another_previous_version(registry, entry):
    assert refused(registry, new_version(entry, RESTRICTED, previous="2")) == {"XDSMetadataVersionError"}


def test_status_and_associations_are_for_others(registry, entry):
    objects = update(resent(entry, "A"), brings("A"), new_status(entry.id))
    assert refused(registry, objects) == {"XDSInvalidRequestException", "XDSMetadataUpdateOperationError"}
    objects = update(resent(entry, "A"), brings("A"), *new_association(v.APND, entry.id, new_uuid()))
    assert "XDSInvalidRequestException" in refused(registry, objects)
    assert refused(registry, update()) == {"XDSInvalidRequestException"}


def test_a_partner_that_is_not_listed_is_told_the_policy(registry, entry):
    stranger = Caller("10.0.0.9", "CN=lab", "sha256:00")
    response = registry.submit(new_version(entry, RESTRICTED), transaction=ITI_92, caller=stranger)
    assert codes_of(response) == {"LocalPolicyRestrictionError"}
    assert registry.audited()[-1].event.outcome == 8
