"""The clients of a soak: an ADT feed, a Document Source, a repository of somebody else, a Document Consumer.

A client that got no answer, or one that says "not now", sends the identical request again until it ends well: that is
what a real one does, and what must never lose or double anything.
"""

import hashlib
import random
import time
from dataclasses import dataclass, replace

from dossier.consumer import FIND_DOCUMENTS
from ihe import vocabulary as v
from ihe.ebrs import adhoc_query_request, read_adhoc_query_response, read_registry_response, retrieve_request
from ihe.errors import FaultCode, Severity
from ihe.registry_objects import Kind
from ihe.transactions import ITI_18, ITI_41, ITI_42, ITI_43
from tests.builders import (
    AUTHORITY,
    REPOSITORY,
    provide_and_register_xml,
    submission,
    submit_objects_request_xml,
    with_identifier,
    with_slot,
)
from tests.soak.ledger import Document, StoredSet
from wire.client import NotSent, OutcomeUnknown, OutPart, PeerFault, SoapClient
from wire.mllp_client import MllpFailed

__all__ = ["FIND_DOCUMENTS", "FOREIGN", "NOT_NOW", "Clients", "GivenUp", "Package", "compose", "parts_of", "patient_id"]

FOREIGN = "1.3.6.1.4.1.21367.2011.2.3.8888"
"""repositoryUniqueId of the entries we register by ITI-42 ourselves."""
NOT_NOW = frozenset({"XDSRegistryNotAvailable", "XDSRegistryBusy", "XDSRepositoryBusy"})
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 1.0
MANY_TRIES = 400


class Again(Exception):
    """No answer, or "not now": the identical request is sent again."""


class GivenUp(Exception):
    """It never ended well."""


@dataclass(frozen=True)
class Package:
    """One submission, the same bytes each time it is sent."""

    stored_set: StoredSet
    documents: tuple[Document, ...]
    body: bytes
    contents: tuple[bytes, ...] = ()
    replaced: str | None = None


def _oid(rng):
    return f"2.25.{rng.getrandbits(127)}"


def compose(rng, patient, contents, *, provided=True, replaces=None):
    """A submission of these documents; ``replaces`` is (unique id, entryUUID) of one that the first takes the place of."""
    where = REPOSITORY if provided else FOREIGN
    set_id, ids = _oid(rng), iter([_oid(rng) for _ in contents])

    def own_ids(entry):
        return with_slot("repositoryUniqueId", where)(with_identifier(v.ENTRY_UNIQUE_ID, next(ids))(entry))

    relations = () if replaces is None else ((v.RPLC, replaces[1]),)
    objects = submission(
        len(contents), patient=patient, contents=contents, entry=own_ids, unique_id=set_id, relations=relations
    )
    entries = objects.of(Kind.DOCUMENT_ENTRY)
    documents = tuple(
        Document(
            entry.identifier(v.ENTRY_UNIQUE_ID),
            patient,
            hashlib.sha1(content, usedforsecurity=False).hexdigest(),
            len(content),
            where,
            set_id,
        )
        for entry, content in zip(entries, contents, strict=True)
    )
    if provided:
        named = {entry.id: content for entry, content in zip(entries, contents, strict=True)}
        body = provide_and_register_xml(objects, named, content_ids={name: f"{name}@soak" for name in named})
    else:
        body, contents = submit_objects_request_xml(objects), ()
    replaced = None if replaces is None else replaces[0]
    return Package(StoredSet(set_id, patient, provided), documents, body, tuple(contents), replaced)


def parts_of(package):
    """The attachments of its documents."""
    return [
        OutPart(f"Document{number:02}@soak", "text/plain", lambda content=content: iter((content,)), len(content))
        for number, content in enumerate(package.contents, 1)
    ]


def patient_id(name):
    """A CX of the tests' assigning authority."""
    return f"{name}^^^&{AUTHORITY}&ISO"


class CountedClient(SoapClient):
    """Sends nothing twice by itself that may have left: who asks counts, and each request that came leaves a record."""

    def _answered(self, transport, post):
        return super()._answered(transport, replace(post, only_asks=False))


class Clients:
    """All requests go through here, and into the ledger. ``give_up_at`` (monotonic seconds) may be moved.

    ``not_now``: error codes after which the identical request is sent again.
    """

    def __init__(self, server, ledger, *, timeout_s=45.0, not_now=NOT_NOW):
        self.not_now = not_now
        self.server = server
        self.ledger = ledger
        self.give_up_at = float("inf")
        self._soap = CountedClient(None, timeout_s=timeout_s)
        self._marker = 0

    def close(self):
        self._soap.close()

    # -------------------------------------------------------------------------------------------- transactions

    def feed(self, mllp, control_id, patient, event="A04"):
        """ITI-8: the patient is known when this returns."""
        message = "\r".join(
            [
                f"MSH|^~\\&|ADT|SOAK|XDS|DOSSIER|20261122120000||ADT^{event}^ADT_A01|{control_id}|P|2.3.1",
                f"EVN|{event}|20261122120000",
                f"PID|||{patient}||Beispiel^Marie||19700101|F",
                "PV1||O\r",
            ]
        ).encode()

        def once():
            try:
                answer = mllp.send(message)
            except MllpFailed as error:
                raise Again(type(error).__name__) from error
            code = next((line.split("|")[1] for line in answer.decode().split("\r") if line.startswith("MSA|")), "?")
            if code == "AE" and "send the message again" in answer.decode():
                raise Again("AE")
            return None if code == "AA" else f"answered {code}"

        self._until_well("ITI-8", once)
        self.ledger.fed(control_id, patient)

    def provide(self, package):
        """ITI-41."""
        parts = parts_of(package)
        self._until_well("ITI-41", lambda: self._submit(self.server.repository, ITI_41, package, parts))
        self._stored(package)

    def register(self, package):
        """ITI-42, by the plain rule: an answer that was lost shows as a duplicate the next time."""
        tries = 0

        def once():
            nonlocal tries
            tries += 1
            wrong = self._submit(self.server.registry, ITI_42, package, ())
            return None if wrong == "XDSDuplicateUniqueIdInRegistry" and tries > 1 else wrong

        self._until_well("ITI-42", once)
        self._stored(package)

    def _stored(self, package):
        self.ledger.stored(package.stored_set, [replace(one) for one in package.documents], package.replaced)

    def _submit(self, url, transaction, package, parts):
        with self._call(url, transaction, package.body, parts) as answer:
            response = read_registry_response(answer.body)
        return self._verdict(response)

    def find(self, patient):
        """ITI-18 FindDocuments: entries by unique id, whatever their status."""
        marker = self._new_marker()
        parameters = {
            "$XDSDocumentEntryPatientId": f"'{patient}'",
            "$XDSDocumentEntryStatus": f"('{v.APPROVED}','{v.DEPRECATED}')",
            "$XDSDocumentEntryCreationTimeFrom": f"'{marker}'",
        }
        request = adhoc_query_request(FIND_DOCUMENTS, parameters)
        found = []

        def once():
            with self.ledger.lock:
                self.ledger.queries[marker] += 1
            with self._call(self.server.registry, ITI_18, request) as answer:
                response = read_adhoc_query_response(answer.body)
            found[:] = response.objects
            return self._verdict(response)

        self._until_well("ITI-18", once)
        with self.ledger.lock:
            self.ledger.answered.add(marker)
            self.ledger.acknowledged["ITI-18"] += 1
        return {one.identifier(v.ENTRY_UNIQUE_ID): one for one in found if one.kind is Kind.DOCUMENT_ENTRY}

    def _new_marker(self):
        """A creation time before every document's, different each time: how a query is recognised in the audit trail."""
        with self.ledger.lock:
            self._marker += 1
            seconds = self._marker
        days, rest = divmod(seconds, 86_400)
        year, day = divmod(days, 28)
        return f"{1901 + year:04}01{1 + day:02}{rest // 3600:02}{rest // 60 % 60:02}{rest % 60:02}"

    def retrieve(self, unique_ids):
        """ITI-43: (SHA-1, size) by unique id."""
        request = retrieve_request([(REPOSITORY, unique_id) for unique_id in unique_ids])
        got = {}

        def once():
            got.clear()
            with self.ledger.lock:
                self.ledger.asked.update(unique_ids)
            try:
                return self._retrieved(request, got)
            except OutcomeUnknown as error:
                raise Again("answer broke off") from error

        self._until_well("ITI-43", once)
        with self.ledger.lock:
            self.ledger.retrieved.update(list(got))
            self.ledger.acknowledged["ITI-43"] += 1
        return got

    def _retrieved(self, request, got):
        x = f"{{{v.XDSB}}}"
        with self._call(self.server.repository, ITI_43, request) as answer:
            response = read_registry_response(answer.body.find(f"{{{v.RS}}}RegistryResponse"))
            wrong = self._verdict(response)
            if wrong is not None:
                return wrong
            for row in answer.body.findall(x + "DocumentResponse"):
                digest, size = hashlib.sha1(usedforsecurity=False), 0
                for block in answer.part(row.find(x + "Document")):
                    digest.update(block)
                    size += len(block)
                got[row.findtext(x + "DocumentUniqueId")] = digest.hexdigest(), size
        return None

    # ------------------------------------------------------------------------------------------------- again

    def _verdict(self, response):
        """``None`` for Success; Again for "not now"; the first error otherwise."""
        if response.status == v.SUCCESS:
            return None
        real = [error for error in response.errors if error.severity is Severity.ERROR]
        codes = {str(error.code) for error in real}
        if codes and codes <= self.not_now:
            raise Again("+".join(sorted(codes)))
        if codes == {"XDSDuplicateUniqueIdInRegistry"}:
            return "XDSDuplicateUniqueIdInRegistry"
        return "; ".join(f"{error.code}: {error.context}" for error in real) or response.status

    def _call(self, url, transaction, body, parts=()):
        try:
            return self._soap.call(url, transaction, body, parts=parts)
        except (NotSent, OutcomeUnknown) as error:
            raise Again(type(error).__name__) from error
        except PeerFault as error:
            if error.fault.code is FaultCode.RECEIVER:
                raise Again("Receiver fault") from error
            raise

    def _until_well(self, transaction, once):
        """Run ``once`` until it returns ``None``; anything else it returns is an answer that should not have been."""
        pause, wrong = FIRST_PAUSE_S, 0
        for _ in range(MANY_TRIES):
            try:
                answer = once()
            except Again as error:
                reason = str(error)
            else:
                if answer is None:
                    return
                wrong += 1
                self.ledger.violation(f"{transaction} was answered {answer}")
                if wrong > 3:
                    break
                reason = answer
            self.ledger.retry(transaction, reason)
            if time.monotonic() > self.give_up_at:
                break
            time.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(2 * pause, LONGEST_PAUSE_S)
        raise GivenUp(transaction)
