"""What the admin ports count: requests by transaction and result, and audit records that wait."""

import re
from urllib.request import Request, urlopen

from ihe import ebrs, soap
from ihe import vocabulary as v
from ihe.transactions import ITI_18

PATIENT = "METRICS-1^^^&1.3.6.1.4.1.21367.2011.2.5.9999&ISO"


def counted(server, result):
    with urlopen(f"{server.admin['registry']}/metrics") as answer:
        text = answer.read().decode()
    pattern = rf'^dossier_requests_total{{result="{result}",transaction="ITI-18"}} (\S+)$'
    found = re.search(pattern, text, re.MULTILINE)
    assert 'dossier_request_seconds_count{transaction="ITI-18"}' in text or not found
    return float(found.group(1)) if found else 0.0


def test_requests_are_counted_by_what_became_of_them(dossier_server):
    before = counted(dossier_server, "answered")
    parameters = {"$XDSDocumentEntryPatientId": f"'{PATIENT}'", "$XDSDocumentEntryStatus": f"('{v.APPROVED}')"}
    body = ebrs.adhoc_query_request("urn:uuid:14d4debf-8f97-4251-9a74-a90016b0af0d", parameters)
    envelope = soap.envelope(ITI_18.request_action, body, message_id="urn:uuid:0f2c1d1e-52b5-4f6a-a7b0-6a1d1c0b7f11")
    headers = {"Content-Type": "application/soap+xml; charset=UTF-8"}
    for _ in range(3):
        with urlopen(Request(dossier_server.registry, envelope, headers)) as answer:
            assert answer.status == 200
    assert counted(dossier_server, "answered") >= before + 3
