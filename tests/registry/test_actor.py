"""The actor around the transactions: what it answers when it may not, cannot, or fails (ITI TF-3: 4.2.4.1)."""

from dataclasses import replace

import pytest

from consent.policy import Decision
from ihe import ebrs
from ihe.transactions import ITI_18, ITI_42
from registry import asked as room_asked
from registry.store.protocol import LostRace, StoreUnavailable
from schemas import parse_xml, strict_violations
from tests.builders import PATIENT, submission, submit_objects_request_xml
from tests.registry.rooms import FIND_DOCUMENTS, RegistryRoom


@pytest.fixture
def house(tmp_path):
    one = RegistryRoom(f"sqlite:///{tmp_path}/registry.db")
    one.know()
    yield one
    one.close()


class Failing:
    """The room's store, except that every unit of work, or every look, ends in ``error``."""

    def __init__(self, store, error):
        self._store, self._error = store, error

    def __getattr__(self, name):
        return getattr(self._store, name)

    def unit_of_work(self):
        raise self._error

    def find(self, *_, **__):
        raise self._error


def body_of(transaction):
    if transaction is ITI_42:
        return submit_objects_request_xml(submission())
    approved = "('urn:oasis:names:tc:ebxml-regrep:StatusType:Approved')"
    parameters = {"$XDSDocumentEntryPatientId": f"'{PATIENT}'", "$XDSDocumentEntryStatus": approved}
    return ebrs.adhoc_query_request(FIND_DOCUMENTS, {**parameters, "$XDSDocumentEntryCreationTimeFrom": "2020"})


def answered(house, actor, transaction, body=None):
    """(code, context) of every error of an answer, which must be a Failure of the transaction's own kind."""
    request = house.request(transaction, body or body_of(transaction))
    return errors_of(actor.handlers[transaction](request), transaction)


def errors_of(reply, transaction):
    element = parse_xml(b"".join(reply.body))
    assert strict_violations(element) == ()
    assert element.tag.endswith("RegistryResponse" if transaction is ITI_42 else "AdhocQueryResponse")
    assert element.get("status").endswith("Failure")
    return [(str(one.code), one.context) for one in ebrs.read_registry_response(element).errors]


BOTH = pytest.mark.parametrize("transaction", [ITI_42, ITI_18], ids=lambda one: one.code)


@BOTH
@pytest.mark.parametrize(
    ("full", "code"), [(True, "XDSRegistryOutOfResources"), (False, "XDSRegistryError")], ids=["full", "away"]
)
def test_a_store_that_is_away_or_full_is_said_to_be(house, transaction, full, code):
    actor = replace(house.actor, store=Failing(house.store, StoreUnavailable("disk", full=full)))
    ((found, context),) = answered(house, actor, transaction)
    assert found == code
    assert "send it again later" in context
    (record,) = house.audited()
    assert record.event.outcome_description == code


def test_a_race_that_is_lost_again_and_again_is_answered_as_busy(house):
    actor = replace(house.actor, store=Failing(house.store, LostRace()))
    ((code, context),) = answered(house, actor, ITI_42)
    assert code == "XDSRegistryBusy"
    assert "send it again" in context


@BOTH
def test_what_is_not_permitted_is_refused_by_the_name_of_the_rule(house, transaction, monkeypatch):
    monkeypatch.setattr(room_asked, "decide", lambda *_: Decision(permit=False, rule="no-entry"))
    ((code, context),) = answered(house, house.actor, transaction)
    assert code == "XDSRegistryError"
    assert "no-entry" in context


@BOTH
def test_a_message_of_the_wrong_form_is_refused_in_the_words_of_its_transaction(house, transaction):
    body = body_of(transaction).replace(b"<rim:Slot ", b"<rim:Slott ").replace(b"</rim:Slot>", b"</rim:Slott>")
    found = answered(house, house.actor, transaction, body)
    code = "XDSRegistryMetadataError" if transaction is ITI_42 else "XDSRegistryError"
    assert {one for one, _ in found} == {code}


@BOTH
def test_our_own_defect_is_an_error_with_the_request_and_without_its_reason(house, transaction):
    request = house.request(transaction, body_of(transaction))
    reply = house.actor.failure(request, ValueError("a secret of the house"))
    ((code, context),) = errors_of(reply, transaction)
    assert code == "XDSRegistryError"
    assert request.request_id in context
    assert "secret" not in context
    full = house.actor.failure(request, StoreUnavailable("disk", full=True))
    assert errors_of(full, transaction)[0][0] == "XDSRegistryOutOfResources"
