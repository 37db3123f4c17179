"""ebRS 3.0 and XDS.b requests and responses to values and back (ITI TF-3: 4.2.4; TF-2: 3.18, 3.42, 3.43, 3.86).

Everything written declares its own namespaces, so that it can stand as the child of any soap:Body.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from xml.sax.saxutils import escape, quoteattr

from ihe import vocabulary as v
from ihe.datatypes import normalise_uuid
from ihe.ebrim import read_object_refs, read_submitted_objects
from ihe.errors import RegistryError, Severity
from ihe.registry_objects import RegistryObject

_ERROR: Final = f"{{{v.RS}}}RegistryError"
_SLOT, _VALUE, _ADHOC = f"{{{v.RIM}}}Slot", f"{{{v.RIM}}}Value", f"{{{v.RIM}}}AdhocQuery"
_OPTION: Final = f"{{{v.QUERY}}}ResponseOption"
_X: Final = f"{{{v.XDSB}}}"


@dataclass(frozen=True, slots=True)
class RegistryResponse:
    """rs:RegistryResponse: ``status`` is a URN of ``ihe.vocabulary``; ``errors`` include warnings."""

    status: str
    errors: tuple[RegistryError, ...] = ()


@dataclass(frozen=True, slots=True)
class QueryResponse:
    """query:AdhocQueryResponse with either full ``objects`` (LeafClass) or ``object_refs`` (ids)."""

    status: str
    errors: tuple[RegistryError, ...]
    objects: tuple[RegistryObject, ...]
    object_refs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class QueryRequest:
    """query:AdhocQueryRequest: ``parameters`` in message order, one pair per Slot with its Value texts as sent."""

    query_id: str
    return_type: str
    home: str | None
    parameters: tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(frozen=True, slots=True)
class DocumentRequest:
    """xdsb:DocumentRequest; ids as sent, ``home`` is ``None`` when absent."""

    repository_unique_id: str
    document_unique_id: str
    home: str | None = None


def error_list(errors: Sequence[RegistryError]) -> str:
    """rs:RegistryErrorList, or nothing without errors; the prefix ``rs`` must be declared around it."""
    if not errors:
        return ""
    worst = v.SEVERITY_ERROR if any(e.severity is Severity.ERROR for e in errors) else v.SEVERITY_WARNING
    rows = "".join(
        f"<rs:RegistryError errorCode={quoteattr(str(e.code))} codeContext={_attribute(e.context)}"
        f' severity="{e.severity.value}"' + (f" location={_attribute(e.location)}" if e.location else "") + "/>"
        for e in errors
    )
    return f'<rs:RegistryErrorList highestSeverity="{worst}">{rows}</rs:RegistryErrorList>'


def _attribute(text: str) -> str:
    # XML 1.0 has no place for control characters, not even escaped
    clean = "".join(c if c >= " " or c in "\t\n\r" else "?" for c in text)
    return quoteattr(clean, {"\n": "&#10;", "\r": "&#13;", "\t": "&#9;"})


def registry_response(status: str, errors: Sequence[RegistryError] = ()) -> bytes:
    """Serialise rs:RegistryResponse."""
    inner = error_list(errors)
    head = f'<rs:RegistryResponse xmlns:rs="{v.RS}" status="{status}"'
    return (f"{head}>{inner}</rs:RegistryResponse>" if inner else head + "/>").encode()


def read_registry_response(element: Any) -> RegistryResponse:
    """Read rs:RegistryResponse, or the RegistryResponse part of any answer derived from it."""
    return RegistryResponse(element.get("status", ""), _errors(element))


def _errors(element: Any) -> tuple[RegistryError, ...]:
    return tuple(
        RegistryError(
            row.get("errorCode", ""),
            row.get("codeContext", ""),
            Severity.WARNING if row.get("severity", "").endswith("Warning") else Severity.ERROR,
            row.get("location"),
        )
        for row in element.iter(_ERROR)
    )


def submit_objects_request(objects: Iterable[bytes]) -> bytes:
    """lcm:SubmitObjectsRequest around objects already written by ``ihe.ebrim.write_object``."""
    return b"".join(
        [
            f'<lcm:SubmitObjectsRequest xmlns:lcm="{v.LCM}"><rim:RegistryObjectList xmlns:rim="{v.RIM}">'.encode(),
            *objects,
            b"</rim:RegistryObjectList></lcm:SubmitObjectsRequest>",
        ]
    )


def remove_objects_request(entry_uuids: Iterable[str]) -> bytes:
    """lcm:RemoveObjectsRequest for objects named by their entryUUIDs."""
    refs = "".join(f"<rim:ObjectRef id={quoteattr(one)}/>" for one in entry_uuids)
    return (
        f'<lcm:RemoveObjectsRequest xmlns:lcm="{v.LCM}" xmlns:rim="{v.RIM}">'
        f"<rim:ObjectRefList>{refs}</rim:ObjectRefList></lcm:RemoveObjectsRequest>"
    ).encode()


def read_remove_objects_request(element: Any) -> tuple[str, ...]:
    """The ids of an lcm:RemoveObjectsRequest in message order, each once, as UUIDs are written."""
    refs = element.iterfind(f"{{{v.RIM}}}ObjectRefList/{{{v.RIM}}}ObjectRef")
    return tuple(dict.fromkeys(normalise_uuid(ref.get("id", "")) for ref in refs))


def adhoc_query_request(
    query_id: str,
    parameters: Mapping[str, str | Sequence[str]],
    return_type: str = "LeafClass",
    home: str | None = None,
) -> bytes:
    """query:AdhocQueryRequest; values are already coded (``'x'``, ``('a','b')``), more make several Values."""
    slots = "".join(
        f"<rim:Slot name={quoteattr(name)}><rim:ValueList>"
        + "".join(f"<rim:Value>{escape(text)}</rim:Value>" for text in ([value] if isinstance(value, str) else value))
        + "</rim:ValueList></rim:Slot>"
        for name, value in parameters.items()
    )
    at = f" home={quoteattr(home)}" if home else ""
    return (
        f'<query:AdhocQueryRequest xmlns:query="{v.QUERY}" xmlns:rim="{v.RIM}">'
        f'<query:ResponseOption returnComposedObjects="true" returnType="{return_type}"/>'
        f"<rim:AdhocQuery id={quoteattr(query_id)}{at}>{slots}</rim:AdhocQuery></query:AdhocQueryRequest>"
    ).encode()


def read_adhoc_query_request(element: Any) -> QueryRequest:
    """Read query:AdhocQueryRequest; a missing ResponseOption or returnType reads as ``LeafClass``."""
    option = element.find(_OPTION)
    query = element.find(_ADHOC)
    slots = () if query is None else query.findall(_SLOT)
    return QueryRequest(
        query_id=("" if query is None else query.get("id", "")).strip(),
        return_type=("LeafClass" if option is None else option.get("returnType", "LeafClass")).strip(),
        home=None if query is None else query.get("home"),
        parameters=tuple(
            (slot.get("name", "").strip(), tuple(value.text or "" for value in slot.iter(_VALUE))) for slot in slots
        ),
    )


def adhoc_query_response(status: str, errors: Sequence[RegistryError], objects: Iterable[bytes]) -> bytes:
    """query:AdhocQueryResponse with objects already written; the RegistryObjectList is there even when empty."""
    head, tail = adhoc_query_frame(status, errors)
    return b"".join([head, *objects, tail])


def adhoc_query_frame(status: str, errors: Sequence[RegistryError] = ()) -> tuple[bytes, bytes]:
    """What stands before and after the objects of an answer, for answers that are streamed."""
    head = (
        f'<query:AdhocQueryResponse xmlns:query="{v.QUERY}" xmlns:rs="{v.RS}" xmlns:rim="{v.RIM}" status="{status}">'
        f"{error_list(errors)}<rim:RegistryObjectList>"
    )
    return head.encode(), b"</rim:RegistryObjectList></query:AdhocQueryResponse>"


def read_adhoc_query_response(element: Any) -> QueryResponse:
    """Read query:AdhocQueryResponse."""
    return QueryResponse(
        element.get("status", ""),
        _errors(element),
        read_submitted_objects(element).objects,
        read_object_refs(element),
    )


def object_ref(entry_uuid: str, home: str | None = None) -> bytes:
    """rim:ObjectRef."""
    at = f" home={quoteattr(home)}" if home else ""
    return f'<rim:ObjectRef xmlns:rim="{v.RIM}" id={quoteattr(entry_uuid)}{at}/>'.encode()


def retrieve_request(documents: Iterable[tuple[str, str]], home: str | None = None) -> bytes:
    """xdsb:RetrieveDocumentSetRequest for pairs (repository_unique_id, document_unique_id), all of the same home."""
    root = "RetrieveDocumentSetRequest"
    return f'<xdsb:{root} xmlns:xdsb="{v.XDSB}">{_document_requests(documents, home)}</xdsb:{root}>'.encode()


def _document_requests(documents: Iterable[tuple[str, str]], home: str | None = None) -> str:
    at = f"<xdsb:HomeCommunityId>{escape(home)}</xdsb:HomeCommunityId>" if home else ""
    return "".join(
        f"<xdsb:DocumentRequest>{at}<xdsb:RepositoryUniqueId>{escape(repository)}</xdsb:RepositoryUniqueId>"
        f"<xdsb:DocumentUniqueId>{escape(document)}</xdsb:DocumentUniqueId></xdsb:DocumentRequest>"
        for repository, document in documents
    )


def retrieve_refusal(errors: Sequence[RegistryError]) -> bytes:
    """xdsb:RetrieveDocumentSetResponse without a document: Failure."""
    root, head = "xdsb:RetrieveDocumentSetResponse", registry_response(v.FAILURE, errors).decode()
    return f'<{root} xmlns:xdsb="{v.XDSB}">{head}</{root}>'.encode()


def remove_documents_request(documents: Iterable[tuple[str, str]]) -> bytes:
    """rmd:RemoveDocumentsRequest for pairs (repository_unique_id, document_unique_id)."""
    root, rows = "RemoveDocumentsRequest", _document_requests(documents)
    return f'<rmd:{root} xmlns:rmd="{v.RMD}" xmlns:xdsb="{v.XDSB}">{rows}</rmd:{root}>'.encode()


def read_document_requests(element: Any) -> tuple[DocumentRequest, ...]:
    """Read xdsb:RetrieveDocumentSetRequest or rmd:RemoveDocumentsRequest, in message order."""

    def text(row: Any, name: str) -> str | None:
        found = row.findtext(_X + name)
        return None if found is None else found.strip()

    return tuple(
        DocumentRequest(
            text(row, "RepositoryUniqueId") or "", text(row, "DocumentUniqueId") or "", text(row, "HomeCommunityId")
        )
        for row in element.findall(_X + "DocumentRequest")
    )
