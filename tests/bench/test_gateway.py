"""The scripted community of ``python -m bench gateway`` answers as a community does, and no sooner than it is told to."""

import time
from contextlib import closing

from bench import gateway
from ihe.ebrs import adhoc_query_request, read_adhoc_query_response
from ihe.transactions import ITI_38
from ihe.vocabulary import SUCCESS
from wire.client import SoapClient


def test_a_slow_community():
    with gateway._slow(0) as url, closing(SoapClient(None)) as client:
        for _ in range(2):
            began = time.monotonic()
            with client.call(url, ITI_38, adhoc_query_request("urn:uuid:1", {})) as answer:
                found = read_adhoc_query_response(answer.body)
            assert time.monotonic() - began >= gateway.SLOW_S
            assert (found.status, len(found.object_refs)) == (SUCCESS, 1)
            (reference,) = answer.body.iter("{*}ObjectRef")
            assert reference.get("home") == f"{gateway.HOME}10"
