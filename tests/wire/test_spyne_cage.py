"""What a replacement of spyne would have to do: open an envelope, close a reply or a fault (wire/spyne_cage.py)."""

import logging
import subprocess
import sys

import pytest

from ihe import vocabulary as v
from ihe.errors import FaultCode, SoapFault
from ihe.soap import ACTION_NOT_SUPPORTED, HEADER_REQUIRED
from ihe.transactions import ITI_18, ITI_41, ITI_42, ITI_43, TRANSACTIONS
from ihe.xua import Caller
from schemas import parse_xml
from tests.wire.soap_peer import QUERY, message
from wire.limit_reached import LimitReached
from wire.messages import Reply, Request
from wire.settings import LimitSettings
from wire.spyne_cage import close_envelope, open_envelope

LIMITS = LimitSettings(max_envelope_bytes=2**20, max_envelope_markup=1000)


def body(transaction) -> str:
    namespace, _, name = transaction.request_root.removeprefix("{").partition("}")
    return f'<b:{name} xmlns:b="{namespace}"/>'


@pytest.mark.parametrize("transaction", TRANSACTIONS, ids=lambda transaction: transaction.code)
def test_every_transaction_is_found_by_action_and_run_through_its_operation(transaction):
    call = open_envelope(message(transaction, body(transaction)), TRANSACTIONS, limits=LIMITS)
    assert (call.transaction, call.body.tag, call.action_missing) == (transaction, transaction.request_root, False)
    request = Request(transaction, call.body, Caller("::1"), "http://x", None, None, "1")
    seen = []

    def handler(given):
        seen.append(given)
        return Reply([b"<ok/>"])

    assert call.run(handler, request).body == [b"<ok/>"]
    assert seen == [request]


@pytest.mark.parametrize("transaction", TRANSACTIONS, ids=lambda transaction: transaction.code)
def test_without_action_the_root_decides_where_that_is_allowed(transaction):
    data = message(None, body(transaction))
    call = open_envelope(data, TRANSACTIONS, action_required=False, limits=LIMITS)
    plainest = next(one for one in TRANSACTIONS if one.request_root == transaction.request_root)
    assert (call.transaction, call.action_missing) == (plainest, True)
    with pytest.raises(SoapFault) as refused:
        open_envelope(data, TRANSACTIONS, limits=LIMITS)
    assert (refused.value.subcode, refused.value.message_id) == (HEADER_REQUIRED, "urn:uuid:1")


def test_what_changes_more_than_another_with_its_root_needs_its_action():
    by_root = {one.request_root: one for one in reversed(TRANSACTIONS)}
    assert {one.code for one in by_root.values()}.isdisjoint({"ITI-51", "ITI-57", "ITI-61", "ITI-92"})


def test_a_root_of_no_transaction_says_too_little():
    for transactions, root in (((ITI_42,), QUERY), (TRANSACTIONS, "<x/>")):
        with pytest.raises(SoapFault) as refused:
            open_envelope(message(None, root), transactions, action_required=False, limits=LIMITS)
        assert refused.value.subcode == HEADER_REQUIRED


def test_only_the_transactions_of_the_actor_are_known():
    with pytest.raises(SoapFault) as refused:
        open_envelope(message(ITI_41, body(ITI_41)), (ITI_18, ITI_42), limits=LIMITS)
    assert refused.value.subcode == ACTION_NOT_SUPPORTED
    assert ITI_41.request_action in refused.value.reason


@pytest.mark.parametrize(
    ("inside", "limits", "setting"),
    [
        (f"<a>{'x' * 1024}</a>", {"max_envelope_bytes": 1024}, "max_envelope_bytes"),
        ("<a>" * 9 + "</a>" * 9, {"max_envelope_depth": 8}, "max_envelope_depth"),
        ("<a/>" * 1000, {"max_envelope_markup": 1000}, "max_envelope_markup"),
    ],
)
def test_a_bound_that_is_reached_is_named(inside, limits, setting):
    with pytest.raises(LimitReached, match=rf"cannot be read as XML: .* \(setting {setting}\)") as refused:
        open_envelope(message(ITI_18, inside), TRANSACTIONS, limits=LimitSettings(**limits))
    fault = refused.value
    assert (fault.code, fault.limit, fault.http_status) == (FaultCode.SENDER, setting, 400)


def test_what_is_no_xml():
    with pytest.raises(SoapFault) as refused:
        open_envelope(b"<a", TRANSACTIONS, limits=LIMITS)
    assert (refused.value.code, isinstance(refused.value, LimitReached)) == (FaultCode.SENDER, False)


def test_a_reply_is_closed_around_its_body():
    head, tail = close_envelope(ITI_43, message_id="urn:uuid:2", relates_to="urn:x?a&b")
    root = parse_xml(head + b"<b/>" + tail)
    assert [child.tag.rpartition("}")[2] for child in root[0]] == ["Action", "MessageID", "RelatesTo", "To"]
    assert [child.text for child in root[0]] == [ITI_43.response_action, "urn:uuid:2", "urn:x?a&b", v.WSA_ANONYMOUS]
    assert root[1][0].tag == "b"


def test_a_fault_is_whole():
    fault = SoapFault(FaultCode.RECEIVER, "busy")
    head, tail = close_envelope(fault, message_id="urn:uuid:2", relates_to=None)
    assert tail == b""
    assert parse_xml(head).find(f".//{{{v.SOAP12}}}Value").text == "s:Receiver"


def test_spyne_says_nothing_to_the_log(capsys):
    for name in (
        "spyne",
        "spyne.protocol.xml.invalid",
        "spyne.protocol.soap.soap11.invalid",
        "spyne.application.server",
    ):
        logging.getLogger(name).error("a whole message")
    assert capsys.readouterr().err == ""
    assert not logging.getLogger("spyne").propagate


def test_spyne_imports_with_warnings_as_errors_and_leaves_no_import_hook():
    script = "import sys, wire.spyne_cage; assert not [f for f in sys.meta_path if 'Six' in type(f).__name__]"
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
