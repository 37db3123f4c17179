"""One row per SOAP transaction (ITI TF-2: 3.NN; message names of ITI TF-2: Appendix V)."""

from dataclasses import dataclass
from typing import Final

from ihe.vocabulary import HL7, LCM, QUERY, RMD, RS, XDSB


@dataclass(frozen=True, slots=True)
class Transaction:
    """A SOAP transaction; roots are Clark names, ``mtom`` tells whether both messages travel as MTOM/XOP."""

    number: int
    name: str
    request_action: str
    response_action: str
    request_root: str
    response_root: str
    mtom: bool
    section: str

    @property
    def code(self) -> str:
        """The number as the framework writes it, e.g. ``ITI-42``."""
        return f"ITI-{self.number}"


def _row(
    number: int,
    name: str,
    action: str,
    request_root: str,
    response_root: str,
    *,
    mtom: bool,
    response_action: str | None = None,
) -> Transaction:
    answer = response_action or action + "Response"
    return Transaction(number, name, action, answer, request_root, response_root, mtom, f"ITI TF-2: 3.{number}")


def _feed_row(name: str, interaction: str) -> Transaction:
    """An interaction of ITI-44: actions are names of messages, the answer is always the accept acknowledgement."""
    answer = "MCCI_IN000002UV01"
    return Transaction(
        *(44, name, f"{HL7}:{interaction}", f"{HL7}:{answer}", f"{{{HL7}}}{interaction}", f"{{{HL7}}}{answer}"),
        mtom=False,
        section="ITI TF-2: 3.44",
    )


_REMOVE = f"{{{LCM}}}RemoveObjectsRequest"
_REGISTRY_RESPONSE = f"{{{RS}}}RegistryResponse"
_SUBMIT = f"{{{LCM}}}SubmitObjectsRequest"
_PROVIDE = f"{{{XDSB}}}ProvideAndRegisterDocumentSetRequest"
_REMOVE_DOCUMENTS = f"{{{RMD}}}RemoveDocumentsRequest"
_RETRIEVE, _RETRIEVED = f"{{{XDSB}}}RetrieveDocumentSetRequest", f"{{{XDSB}}}RetrieveDocumentSetResponse"
_ASK, _ANSWER = f"{{{QUERY}}}AdhocQueryRequest", f"{{{QUERY}}}AdhocQueryResponse"
_FIND, _FOUND = f"{{{HL7}}}PRPA_IN201305UV02", f"{{{HL7}}}PRPA_IN201306UV02"
_A = "urn:ihe:iti:2007:"
_A2010 = "urn:ihe:iti:2010:"

# fmt: off
ITI_41: Final = _row(41, "Provide and Register Document Set-b", _A + "ProvideAndRegisterDocumentSet-b", _PROVIDE, _REGISTRY_RESPONSE, mtom=True)  # noqa: E501
ITI_42: Final = _row(42, "Register Document Set-b", _A + "RegisterDocumentSet-b", _SUBMIT, _REGISTRY_RESPONSE, mtom=False)  # noqa: E501
ITI_43: Final = _row(43, "Retrieve Document Set", _A + "RetrieveDocumentSet", _RETRIEVE, _RETRIEVED, mtom=True)
ITI_18: Final = _row(18, "Registry Stored Query", _A + "RegistryStoredQuery", _ASK, _ANSWER, mtom=False)
ITI_38: Final = _row(38, "Cross Gateway Query", _A + "CrossGatewayQuery", _ASK, _ANSWER, mtom=False)
ITI_39: Final = _row(39, "Cross Gateway Retrieve", _A + "CrossGatewayRetrieve", _RETRIEVE, _RETRIEVED, mtom=True)
ITI_44_ADD: Final = _feed_row("Patient Identity Feed HL7 v3, add", "PRPA_IN201301UV02")
ITI_44_REVISE: Final = _feed_row("Patient Identity Feed HL7 v3, revise", "PRPA_IN201302UV02")
ITI_44_RESOLVE: Final = _feed_row("Patient Identity Feed HL7 v3, duplicates resolved", "PRPA_IN201304UV02")
ITI_51: Final = _row(51, "Multi-Patient Stored Query", "urn:ihe:iti:2009:MultiPatientStoredQuery", _ASK, _ANSWER, mtom=False)  # noqa: E501
ITI_47: Final = _row(47, "Patient Demographics Query HL7 v3", f"{HL7}:PRPA_IN201305UV02", _FIND, _FOUND, mtom=False, response_action=f"{HL7}:PRPA_IN201306UV02")  # noqa: E501
ITI_55: Final = _row(55, "Cross Gateway Patient Discovery", f"{HL7}:PRPA_IN201305UV02:CrossGatewayPatientDiscovery", _FIND, _FOUND, mtom=False, response_action=f"{HL7}:PRPA_IN201306UV02:CrossGatewayPatientDiscovery")  # noqa: E501
ITI_55_DEFERRED: Final = _row(55, "Cross Gateway Patient Discovery, deferred", f"{HL7}:PRPA_IN201305UV02:Deferred:CrossGatewayPatientDiscovery", _FIND, f"{{{HL7}}}MCCI_IN000002UV01", mtom=False, response_action=f"{HL7}:MCCI_IN000002UV01")  # noqa: E501
ITI_57: Final = _row(57, "Update Document Set", _A2010 + "UpdateDocumentSet", _SUBMIT, _REGISTRY_RESPONSE, mtom=False)
ITI_61: Final = _row(61, "Register On-Demand Document Entry", _A2010 + "RegisterOnDemandDocumentEntry", _SUBMIT, _REGISTRY_RESPONSE, mtom=False, response_action=_A2010 + "RegisterOnDemandDocumentResponse")  # noqa: E501
ITI_62: Final = _row(62, "Remove Metadata", _A2010 + "DeleteDocumentSet", _REMOVE, _REGISTRY_RESPONSE, mtom=False)
ITI_86: Final = _row(86, "Remove Documents", "urn:ihe:iti:2017:RemoveDocuments", _REMOVE_DOCUMENTS, _REGISTRY_RESPONSE, mtom=False)  # noqa: E501
ITI_92: Final = _row(92, "Restricted Update Document Set", "urn:ihe:iti:2018:RestrictedUpdateDocumentSet", _SUBMIT, _REGISTRY_RESPONSE, mtom=False)  # noqa: E501
# fmt: on

TRANSACTIONS: Final = (
    ITI_18,
    ITI_38,
    ITI_39,
    ITI_41,
    ITI_42,
    ITI_43,
    ITI_44_ADD,
    ITI_44_REVISE,
    ITI_44_RESOLVE,
    ITI_47,
    ITI_51,
    ITI_55,
    ITI_55_DEFERRED,
    ITI_57,
    ITI_61,
    ITI_62,
    ITI_86,
    ITI_92,
)
