"""A Document Consumer, and the one place where a command's SOAP call becomes a value or a clear line.

ITI TF-2: 3.18 (stored queries), 3.43 (retrieve), 3.41 (the call a source makes).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from dossier.console import CommandError, note
from ihe import vocabulary as v
from ihe.ebrs import adhoc_query_request, read_adhoc_query_response, read_registry_response, retrieve_request
from ihe.errors import RegistryError, Severity
from ihe.registry_objects import Kind, RegistryObject
from ihe.transactions import ITI_18, ITI_41, ITI_43, Transaction
from wire.client import Answer, NotSent, OutcomeUnknown, OutPart, PeerFault, SoapClient
from wire.settings import TlsSettings
from wire.tls import TlsFault

__all__ = ["Entry", "Retrieved", "find_entries", "get_entries", "provide", "quoted", "retrieve", "soap_client"]

FIND_DOCUMENTS: Final = "urn:uuid:14d4debf-8f97-4251-9a74-a90016b0af0d"
GET_DOCUMENTS: Final = "urn:uuid:5c4f972b-d56b-40ac-a5fc-c8ca9b40b9d4"
_X: Final = f"{{{v.XDSB}}}"
STATUS_WORDS: Final = {v.APPROVED: "approved", v.DEPRECATED: "deprecated"}


@dataclass(frozen=True, slots=True)
class Entry:
    """What a person wants to see of a DocumentEntry."""

    unique_id: str
    entry_uuid: str
    repository_unique_id: str
    status: str
    title: str | None
    type_code: str | None
    type_name: str | None
    class_code: str | None
    format_code: str | None
    author: str | None
    institution: str | None
    created: str | None
    mime_type: str | None
    size: int | None
    hash: str | None
    home: str | None
    """The community it is of, as a gateway says; ``None`` in the answer of a registry."""

    @classmethod
    def of(cls, obj: RegistryObject) -> "Entry":
        """Read an object of a LeafClass answer."""
        types, classes, formats = (obj.coded(s) for s in (v.ENTRY_TYPE, v.ENTRY_CLASS, v.ENTRY_FORMAT))
        authors = obj.coded(v.ENTRY_AUTHOR)
        author_slots = {slot.name: slot.values for slot in authors[0].slots} if authors else {}
        size = _only(obj.slot("size"))
        return cls(
            unique_id=obj.identifier(v.ENTRY_UNIQUE_ID) or "",
            entry_uuid=obj.id or "",
            repository_unique_id=_only(obj.slot("repositoryUniqueId")) or "",
            status=STATUS_WORDS.get(obj.status or "", obj.status or ""),
            title=obj.name[0].value if obj.name else None,
            type_code=types[0].node_representation if types else None,
            type_name=types[0].name[0].value if types and types[0].name else None,
            class_code=classes[0].node_representation if classes else None,
            format_code=formats[0].node_representation if formats else None,
            author=_only(author_slots.get("authorPerson")),
            institution=_only(author_slots.get("authorInstitution")),
            created=_only(obj.slot("creationTime")),
            mime_type=obj.mime_type,
            size=int(size) if size and size.isdigit() else None,
            hash=_only(obj.slot("hash")),
            home=obj.home,
        )


@dataclass(frozen=True, slots=True)
class Retrieved:
    """One document of an ITI-43 answer; ``chunks`` may be iterated once, in the order of the answer."""

    unique_id: str
    mime_type: str
    chunks: Iterator[bytes]


def _only(values: Sequence[str] | None) -> str | None:
    return values[0] if values else None


def quoted(text: str) -> str:
    """A string of a stored query: in apostrophes, those inside doubled (ITI TF-2: 3.18.4.1.2.3.5)."""
    return "'" + text.replace("'", "''") + "'"


@contextmanager
def soap_client(tls: TlsSettings) -> Iterator[SoapClient]:
    """A client for one command; CommandError when its certificates cannot be used."""
    try:
        client = SoapClient(tls)
    except TlsFault as error:
        raise CommandError(f"tls: {error}", status=2) from error
    try:
        yield client
    finally:
        client.close()


def _any_of(texts: Iterable[str]) -> str:
    return "(" + ",".join(quoted(text) for text in texts) + ")"


def find_entries(client: SoapClient, url: str, parameters: Mapping[str, str]) -> list[Entry]:
    """FindDocuments with LeafClass; parameter values already coded."""
    return _query(client, url, FIND_DOCUMENTS, parameters)


def get_entries(client: SoapClient, url: str, unique_ids: Sequence[str], home: str | None = None) -> list[Entry]:
    """GetDocuments by unique id; ``home`` is the community to ask through a gateway."""
    return _query(client, url, GET_DOCUMENTS, {"$XDSDocumentEntryUniqueId": _any_of(unique_ids)}, home)


def _query(
    client: SoapClient, url: str, query_id: str, parameters: Mapping[str, str], home: str | None = None
) -> list[Entry]:
    with _call(client, url, ITI_18, adhoc_query_request(query_id, parameters, home=home)) as answer:
        response = read_adhoc_query_response(answer.body)
    if response.status == v.PARTIAL_SUCCESS:  # of a gateway: what there is, and who did not answer
        for error in response.errors:
            note(_line(error))
    else:
        _refused_if_failed(response.status, response.errors)
    return [Entry.of(obj) for obj in response.objects if obj.kind is Kind.DOCUMENT_ENTRY]


def provide(client: SoapClient, url: str, body: bytes, parts: Sequence[OutPart]) -> list[str]:
    """Send an ITI-41 submission; returns the warnings of its answer."""
    with _call(client, url, ITI_41, body, parts) as answer:
        response = read_registry_response(answer.body)
    _refused_if_failed(response.status, response.errors)
    return [_line(error) for error in response.errors]


@contextmanager
def retrieve(
    client: SoapClient, url: str, wanted: Sequence[tuple[str, str]], home: str | None = None
) -> Iterator[tuple[Iterator[Retrieved], tuple[RegistryError, ...]]]:
    """ITI-43 for pairs (repository unique id, document unique id): what came, in order, and the errors for the rest.

    Documents arrive while they are iterated; OutcomeUnknown when they break off.
    """
    with _call(client, url, ITI_43, retrieve_request(wanted, home)) as answer:
        response = answer.body.find(f"{{{v.RS}}}RegistryResponse")
        if response is None:
            raise CommandError(f"{url}: the answer is no RetrieveDocumentSetResponse")
        yield _retrieved(answer), read_registry_response(response).errors


def _retrieved(answer: Answer) -> Iterator[Retrieved]:
    for row in answer.body.findall(_X + "DocumentResponse"):
        content = row.find(_X + "Document")
        if content is not None:
            unique_id = (row.findtext(_X + "DocumentUniqueId") or "").strip()
            yield Retrieved(unique_id, (row.findtext(_X + "mimeType") or "").strip(), answer.part(content))


def _call(client: SoapClient, url: str, transaction: Transaction, body: bytes, parts: Sequence[OutPart] = ()) -> Answer:
    try:
        return client.call(url, transaction, body, parts=parts)
    except NotSent as error:
        raise CommandError(f"{url}: cannot be reached: {error}") from error
    except OutcomeUnknown as error:
        raise CommandError(f"{url}: no readable answer: {error}; whether it was done is not known") from error
    except PeerFault as error:
        raise CommandError(f"{url}: refused the message: {error}") from error


def _refused_if_failed(status: str, errors: Sequence[RegistryError]) -> None:
    if status == v.SUCCESS:
        return
    real = [error for error in errors if error.severity is Severity.ERROR]
    raise CommandError(*(_line(error) for error in real), *([] if real else [f"refused: {status}"]))


def _line(error: RegistryError) -> str:
    return f"{error.code}: {error.context}".replace("\n", " ")
