"""One request, one answer, nothing sent again: for tests that look at the answer itself."""

from contextlib import contextmanager

from ihe import vocabulary as v
from ihe.ebrs import adhoc_query_request, read_adhoc_query_response, read_registry_response, retrieve_request
from ihe.errors import Severity
from ihe.transactions import ITI_18, ITI_41, ITI_42, ITI_43
from tests.builders import REPOSITORY
from tests.feed_server import adt
from tests.soak.ledger import Ledger
from tests.soak.source import FIND_DOCUMENTS, parts_of
from wire.client import SoapClient
from wire.mllp_client import MllpClient

__all__ = ["Plain", "plain"]


class Plain:
    """Each method gives the error codes of the answer, in order; none means Success. What succeeds is in the ledger."""

    def __init__(self, server, ledger, soap, mllp):
        self._server = server
        self._soap = soap
        self._mllp = mllp
        self.ledger = ledger
        self.texts = []

    def feed(self, control_id, patient):
        """ITI-8: MSA-1."""
        answer = self._mllp.send(adt("A04", patient, control=control_id)).decode()
        self.texts.append(answer)
        code = next(line.split("|")[1] for line in answer.split("\r") if line.startswith("MSA|"))
        if code == "AA":
            self.ledger.fed(control_id, patient)
        return code

    def provide(self, package):
        """ITI-41."""
        return self._submit(self._server.repository, ITI_41, package, parts_of(package))

    def register(self, package):
        """ITI-42."""
        return self._submit(self._server.registry, ITI_42, package, ())

    def _submit(self, url, transaction, package, parts):
        with self._soap.call(url, transaction, package.body, parts=parts) as answer:
            response = read_registry_response(answer.body)
        codes = self._codes(response)
        if not codes:
            self.ledger.stored(package.stored_set, package.documents, package.replaced)
        return codes

    def find(self, patient):
        """ITI-18 FindDocuments of what is approved."""
        parameters = {
            "$XDSDocumentEntryPatientId": f"'{patient}'",
            "$XDSDocumentEntryStatus": f"('{v.APPROVED}')",
        }
        request = adhoc_query_request(FIND_DOCUMENTS, parameters)
        with self._soap.call(self._server.registry, ITI_18, request) as answer:
            return self._codes(read_adhoc_query_response(answer.body))

    def retrieve(self, unique_id):
        """ITI-43."""
        request = retrieve_request([(REPOSITORY, unique_id)])
        with self._soap.call(self._server.repository, ITI_43, request) as answer:
            return self._codes(read_registry_response(answer.body.find(f"{{{v.RS}}}RegistryResponse")))

    def _codes(self, response):
        self.texts += [error.context for error in response.errors]
        return [str(error.code) for error in response.errors if error.severity is Severity.ERROR]


@contextmanager
def plain(server, timeout_s=60):
    """A ``Plain`` with a ledger of its own."""
    soap = SoapClient(None, timeout_s=timeout_s)
    with MllpClient(*server.feed, answer_timeout_s=timeout_s) as mllp:
        try:
            yield Plain(server, Ledger(), soap, mllp)
        finally:
            soap.close()
