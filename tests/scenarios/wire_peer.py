"""A source and consumer of one running Dossier: one kept connection for each actor, raw messages, answers as they come.

What a builder makes is written here as a peer may write it, also where our own writer would put it right.
"""

import http.client
import os
import sqlite3
from contextlib import closing
from urllib.parse import urlsplit

from ihe import vocabulary as v
from ihe.ebrim import write_object
from ihe.ebrs import adhoc_query_request, read_adhoc_query_response, submit_objects_request
from ihe.registry_objects import Kind
from ihe.transactions import ITI_18, ITI_41, ITI_42, ITI_43
from tests.builders import CONTENT, provide_and_register_xml
from tests.registry.rooms import FIND_DOCUMENTS, GET_SET_AND_CONTENTS
from tests.repository.stand import answered, envelope, multipart, retrieve_xml

PLAIN = "application/soap+xml; charset=UTF-8"
ANY_STATUS = f"('{v.APPROVED}','{v.DEPRECATED}')"
ANY_TYPE = f"('{v.STABLE}','{v.ON_DEMAND}')"
STORED = ("submission_set", "entry", "folder", "association", "unique_id_key", "object_key")


def _current_test():
    return os.environ.get("PYTEST_CURRENT_TEST", "").partition("[")[0]


class WirePeer:
    """Speaks to the registry and the repository of ``server``; ``feed`` is given a CX text at a time.

    ``strict``: every answer must pass the strict schema; not where a slot value of more than 256 characters was let in.
    """

    def __init__(self, server, feed, *, strict=True):
        self.feed = feed
        self._strict = strict
        self.data = server.data
        self._connections = {}
        self._asked_by = None
        self._registry = f"http://127.0.0.1:{server.base_port + 10}/registry"
        self._repository = f"http://127.0.0.1:{server.base_port + 20}/repository"

    def close(self):
        for connection in self._connections.values():
            connection.close()

    # ------------------------------------------------------------------------------------------ transactions

    def register(self, objects, transaction=ITI_42):
        """ITI-42 or ITI-61; the answer, whose body has passed the strict schema."""
        return self._send(self._registry, transaction, PLAIN, written(objects))

    def ask(self, body, transaction=ITI_18):
        """ITI-18 or ITI-51; ``body`` is a serialised AdhocQueryRequest."""
        return self._send(self._registry, transaction, PLAIN, body)

    def ask_without_action(self, body):
        """The same without WS-Addressing."""
        head = f'<s:Envelope xmlns:s="{v.SOAP12}"><s:Body>'.encode()
        return self._post(self._registry, PLAIN, head + body + b"</s:Body></s:Envelope>")

    def query(self, query_id, parameters, return_type="LeafClass"):
        """ITI-18 with coded ``parameters`` by name, ``$`` included; what was found, which must be a Success."""
        answer = self.ask(adhoc_query_request(query_id, parameters, return_type))
        assert answer.status == "Success", answer.errors
        return read_adhoc_query_response(answer.body)

    def provide(self, objects, documents=None, cids=None):
        """ITI-41; ``documents`` by entry id, by default as the builders make them; each as a part of its own."""
        if documents is None:
            entries = objects.of(Kind.DOCUMENT_ENTRY)
            documents = {one.id: CONTENT + b"%d" % number for number, one in enumerate(entries)}
        cids = cids or {symbol: f"{symbol}@source" for symbol in documents}
        root = envelope(ITI_41.request_action, provide_and_register_xml(objects, documents, content_ids=cids))
        return self._post(self._repository, *multipart(root, {cids[one]: data for one, data in documents.items()}))

    def retrieve(self, *documents):
        """ITI-43 of (repository, document) pairs."""
        root = envelope(ITI_43.request_action, retrieve_xml(*documents))
        return self._post(self._repository, *multipart(root, {}))

    # ------------------------------------------------------------------------------------------ what is stored

    def found(self, patient):
        """Ids of all entries of a patient."""
        parameters = {"$XDSDocumentEntryPatientId": f"'{patient}'", "$XDSDocumentEntryStatus": ANY_STATUS}
        return self.query(FIND_DOCUMENTS, parameters, "ObjectRef").object_refs

    def contents(self, submission_set_id):
        """What was registered with a SubmissionSet, by its uniqueId; On-Demand entries too."""
        parameters = {"$XDSSubmissionSetUniqueId": f"'{submission_set_id}'", "$XDSDocumentEntryType": ANY_TYPE}
        return self.query(GET_SET_AND_CONTENTS, parameters).objects

    def rows(self):
        """How many rows each table of registered objects has."""
        with closing(self._database("registry")) as database:
            return {table: database.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in STORED}

    def defects(self):
        """(code, context) of every defect that was let pass."""
        with closing(self._database("registry")) as database:
            return database.execute("SELECT code, context FROM defect").fetchall()

    def documents(self):
        """Unique ids of the documents the repository keeps."""
        with closing(self._database("repository")) as database:
            return {row[0] for row in database.execute("SELECT unique_id FROM documents")}

    def _database(self, name):
        return sqlite3.connect(f"file:{self.data}/{name}.db?mode=ro", uri=True)

    # ------------------------------------------------------------------------------------------ bytes

    def _send(self, url, transaction, content_type, body):
        return self._post(url, content_type, envelope(transaction.request_action, body))

    def _post(self, url, content_type, body):
        place = urlsplit(url)
        if url not in self._connections:
            self._connections[url] = http.client.HTTPConnection(place.hostname, place.port, timeout=30)
        connection = self._connections[url]
        if self._asked_by != _current_test():
            # Another test had its turn: the server may have closed the idle connection, or been killed and restarted.
            for one in self._connections.values():
                one.close()
            self._asked_by = _current_test()
        try:
            connection.request("POST", place.path, body, {"Content-Type": content_type})
            answer = connection.getresponse()
            data = answer.read()
        except (http.client.HTTPException, OSError):
            connection.close()
            raise
        return answered(answer.status, answer.getheader("content-type"), data, strict=self._strict)


def written(objects):
    """lcm:SubmitObjectsRequest with every fault of ``objects``: objectType as it stands, stray classifications too."""
    strays = [
        f'<rim:Classification xmlns:rim="{v.RIM}" id="{one}" classifiedObject="thin air" '
        f'classificationNode="{v.NODE_FOLDER}"/>'.encode()
        for one in objects.stray
    ]
    return submit_objects_request([*(_as_it_is(one) for one in objects.objects), *strays])


def _as_it_is(obj):
    data = _parts_as_they_are("Classification", v.TYPE_CLASSIFICATION, obj.classifications, write_object(obj))
    data = _parts_as_they_are("ExternalIdentifier", v.TYPE_EXTERNAL_IDENTIFIER, obj.external_identifiers, data)
    if obj.object_type is None or b"objectType=" not in data.partition(b">")[0]:
        return data
    before, _, rest = data.partition(b'objectType="')
    return before + b'objectType="' + obj.object_type.encode() + b'"' + rest.partition(b'"')[2]


def _parts_as_they_are(tag, fixed, parts, data):
    before, *written = data.split(f"<rim:{tag} ".encode())
    for number, part in enumerate(parts):
        written[number] = written[number].replace(fixed.encode(), (part.strange_type or fixed).encode(), 1)
    return f"<rim:{tag} ".encode().join([before, *written])


def answer_names(answer, code, *words):
    """Whether one error of the answer has this code and names all of these words."""
    return any(found == code and all(word in context for word in words) for found, context in answer.errors)


def set_id(objects):
    """uniqueId of the SubmissionSet, None when there is none."""
    return next((one.identifier(v.SUBMISSION_SET_UNIQUE_ID) for one in objects.of(Kind.SUBMISSION_SET)), None)
