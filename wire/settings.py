"""Settings that belong to every service: TLS, limits, and what the affinity domain agreed on.

Every model is frozen and refuses unknown keys. Units stand in the names: ``_bytes``, ``_s`` (seconds), ``_count``.
The affinity domain's settings live here, not in ihe/, because ihe/ reads no configuration.
"""

import ipaddress
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, Literal, Self
from urllib.parse import urlsplit

from cryptography import x509
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from atna.settings import PositiveSeconds
from ihe.matricule import MatriculePolicy
from ihe.transactions import TRANSACTIONS

__all__ = [
    "AffinityDomainSettings",
    "ExistingFile",
    "HomeCommunityId",
    "HttpUrl",
    "LimitSettings",
    "Oid",
    "PartnerKey",
    "PartnerSettings",
    "PositiveInt",
    "PositiveSeconds",
    "Strictness",
    "TlsSettings",
    "peer_key",
]

Strictness = Literal["reject", "warn"]

_KIB: Final = 2**10
_MIB: Final = 2**20
_OID: Final = re.compile(r"[0-2](\.(0|[1-9][0-9]*))+")
_AFTER_COMMA: Final = re.compile(r"(?<!\\),[ ]+")
_TRANSACTIONS: Final = frozenset({"ITI-8", "ITI-20", "ITI-64", "ITI-81", *(row.code for row in TRANSACTIONS)})
"""What the product speaks: SOAP, and HL7 v2, syslog and FHIR beside it."""
_HTTP: Final = re.compile(r"https?://[^/\s]+(/\S*)?")
_FINGERPRINT: Final = re.compile(r"sha256:[0-9a-f]{64}")

PositiveInt = Annotated[int, Field(gt=0)]


def _oid(text: str) -> str:
    stripped = text.strip().removeprefix("urn:oid:")
    if len(stripped) > 64 or _OID.fullmatch(stripped) is None:
        raise ValueError(f"{text!r} is no OID: digits and dots, at most 64 characters, no leading zeros")
    return stripped


def _home(text: str) -> str:
    return f"urn:oid:{_oid(text)}"


def _http_url(text: str) -> str:
    try:
        parts = urlsplit(text)
        right = _HTTP.fullmatch(text) is not None and parts.hostname and parts.port != 0
    except ValueError:  # brackets without an address, a port that is no number or none of TCP
        right = False
    if not right:
        raise ValueError("should be an address like https://host.example:8010/path")
    return text


def _file(path: Path) -> Path:
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    return path


Oid = Annotated[str, AfterValidator(_oid)]
HomeCommunityId = Annotated[str, AfterValidator(_home)]
ExistingFile = Annotated[Path, AfterValidator(_file)]
HttpUrl = Annotated[str, AfterValidator(_http_url)]


def peer_key(text: str) -> str:
    """``sha256:`` and 64 hex digits (colons and capitals allowed), or an RFC 4514 subject; brought to one spelling."""
    if text.lower().startswith("sha256:"):
        fingerprint = "sha256:" + text[7:].replace(":", "").strip().lower()
        if _FINGERPRINT.fullmatch(fingerprint) is None:
            raise ValueError(f"{text!r}: a fingerprint is sha256: and 64 hexadecimal digits")
        return fingerprint
    try:
        # openssl prints a blank after each comma, RFC 4514 has none
        return x509.Name.from_rfc4514_string(_AFTER_COMMA.sub(",", text.strip())).rfc4514_string()
    except ValueError as error:
        raise ValueError(f"{text!r} is neither sha256:<fingerprint> nor an RFC 4514 subject") from error


def _proxy(text: str) -> str:
    """An address or network (``10.1.2.0/24``) where the text is one, else a peer like any other."""
    try:
        return str(ipaddress.ip_network(text.strip(), strict=False))
    except ValueError:
        return peer_key(text)


def _listed(value: object) -> object:
    """One text where a list is asked for is a list of one."""
    return (value,) if isinstance(value, str) else value


PartnerKey = Annotated[str, AfterValidator(peer_key)]
PartnerKeys = Annotated[tuple[PartnerKey, ...], BeforeValidator(_listed)]
Proxies = Annotated[tuple[Annotated[str, AfterValidator(_proxy)], ...], BeforeValidator(_listed)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TlsSettings(_Section):
    """``[tls]``: who we are and whom we trust (ITI TF-2: 3.19). All paths are PEM files, read again when they change.

    ``[<service>.tls]`` overrides single keys of it; ``[registry.feed_tls]`` and ``[audit.syslog_tls]`` those of theirs.

    certificate         our certificate, followed by its intermediates; without it we serve plain HTTP
    key                 its private key, unencrypted
    ca                  whom we trust, as server and as client: authorities, or the peers' own certificates
    require_client_certificate   a peer without a certificate from ``ca`` gets no connection
    minimum_version     "1.2" (the floor of BCP 195) or "1.3"
    peers               RFC 4514 subjects or ``sha256:`` fingerprints: of those ``ca`` vouches for these alone may call
                        us and be called by us; empty: all of them
    revocation_list     CRLs of the authorities that sign peers, any number in the file; once given, an authority
                        without one, or with one that has expired, has no valid certificates
    revocation_check    "chain": also for the authorities between a peer and the root; "leaf": for the peer alone
    proxies             addresses, networks, subjects or fingerprints of proxies that end TLS before us: from them, and
                        them alone, the header Client-Cert (RFC 9440) says who calls; what it holds is checked like a
                        peer's own certificate
    allow_plaintext     serve without TLS off loopback (a physically secured network only)
    """

    certificate: ExistingFile | None = None
    key: ExistingFile | None = None
    ca: ExistingFile | None = None
    require_client_certificate: bool = True
    minimum_version: Literal["1.2", "1.3"] = "1.2"
    peers: PartnerKeys = ()
    revocation_list: ExistingFile | None = None
    revocation_check: Literal["chain", "leaf"] = "chain"
    proxies: Proxies = ()
    allow_plaintext: bool = False

    @property
    def enabled(self) -> bool:
        """Whether services with these settings speak TLS."""
        return self.certificate is not None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.certificate is None) != (self.key is None):
            missing, present = ("key", "certificate") if self.key is None else ("certificate", "key")
            raise ValueError(f"{missing} is missing: {present} is of use only together with it")
        if self.enabled and self.require_client_certificate and self.ca is None:
            raise ValueError("ca is missing: name the file with the authorities that sign the peers' certificates")
        if self.revocation_list is not None and self.ca is None:
            raise ValueError("ca is missing: revocation_list says which of its certificates no longer count")
        if self.peers and not self.require_client_certificate:
            raise ValueError("peers: is of no use while require_client_certificate is false, which lets anybody in")
        if (self.peers or self.proxies) and self.ca is None:
            wanting = "peers" if self.peers else "proxies"
            raise ValueError(f"ca is missing: {wanting} names certificates, and ca is what they are checked with")
        return self


class LimitSettings(_Section):
    """``[limits]``: every bound on what a peer can make us hold, wait for or do. Per process unless said otherwise.

    HTTP head
        max_header_bytes, max_header_count   request line and headers; over it: 431 and the connection is closed
        header_timeout_s       from connection (or first byte of the next request) to the end of the head
        keep_alive_s           silence allowed between two requests of one connection
        tls_handshake_timeout_s
    Body
        body_idle_timeout_s    longest silence within a body
        minimum_rate_bytes_per_s, minimum_rate_grace_s   looked at whenever we have waited that long for a body:
                               slower than the rate over this time, and the body is given up
        max_decompression_ratio   a compressed body may grow by this factor (beyond the first MiB)
    MIME and XML
        max_parts, max_part_header_bytes, max_part_header_count   more parts than ``repository.max_documents``,
                               so that the repository can say what is too much
        max_envelope_bytes, max_envelope_depth   the SOAP envelope, after decompression and transfer decoding
        max_envelope_markup    elements and attributes of it: a document takes some 215 in ITI-41 and 42
                               and each takes up to 350 bytes of memory
    Answers
        answer_timeout_s       how long a peer may leave our answer unread before the connection is broken
    Load
        max_connections, max_concurrent_requests   beyond: not accepted (waits in the backlog), answered 503
        threads                worker threads for blocking work
        one_processor          a worker keeps to one processor, and moves when that is busy: see ``wire.processor``
        drain_s                how long running requests may take once the process is told to stop
    """

    max_header_bytes: Annotated[int, Field(ge=_KIB)] = 64 * _KIB
    max_header_count: PositiveInt = 100
    header_timeout_s: PositiveSeconds = 20
    keep_alive_s: PositiveSeconds = 75
    tls_handshake_timeout_s: PositiveSeconds = 10
    body_idle_timeout_s: PositiveSeconds = 30
    minimum_rate_bytes_per_s: Annotated[int, Field(ge=0)] = 1024
    minimum_rate_grace_s: PositiveSeconds = 60
    max_decompression_ratio: Annotated[int, Field(ge=2)] = 200
    max_parts: PositiveInt = 1100
    max_part_header_bytes: Annotated[int, Field(ge=256)] = 16 * _KIB
    max_part_header_count: PositiveInt = 32
    max_envelope_bytes: Annotated[int, Field(ge=_KIB)] = 64 * _MIB
    max_envelope_depth: Annotated[int, Field(ge=8)] = 64
    max_envelope_markup: Annotated[int, Field(ge=1000)] = 500_000
    answer_timeout_s: PositiveSeconds = 60
    max_connections: PositiveInt = 1000
    max_concurrent_requests: PositiveInt = 256
    threads: PositiveInt = 32
    one_processor: bool = True
    drain_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 30


def _transaction_names(names: frozenset[str]) -> frozenset[str]:
    strange = sorted(names - _TRANSACTIONS)
    if strange:
        spoken = sorted(_TRANSACTIONS, key=lambda name: int(name.removeprefix("ITI-")))
        raise ValueError(f"no transaction spoken here is called {', '.join(strange)}: take {', '.join(spoken)}")
    return names


class PartnerSettings(_Section):
    """One partner of ``[affinity_domain.partners]``.

    strictness     overrides the domain's; ``None``: the domain's
    transactions   what the partner may do beyond what every trusted node may, e.g. ``["ITI-57", "ITI-62"]``
    """

    strictness: Strictness | None = None
    transactions: Annotated[frozenset[str], AfterValidator(_transaction_names)] = frozenset()


class AffinityDomainSettings(_Section):
    """``[affinity_domain]``: what the members of the affinity domain agreed on.

    home_community_id       ``urn:oid:`` is added when missing
    assigning_authorities   OIDs of the patient identity domains; empty: any
    codes                   path of the code file; ``None``: the file shipped with the product
    unknown_patient         ITI-18 for a patient nobody fed: an ``empty`` answer or the ``error`` XDSUnknownPatientId
    strictness              what deviates without changing meaning is refused (``reject``) or recorded (``warn``)
    authority_names         namespace of a CX (HD.1) to the OID it stands for
    partners                by RFC 4514 subject or ``sha256:`` fingerprint of the peer's certificate
    matricule_authority     OIDs whose ids are Luxembourg matricules; empty: none are checked
    matricule               a wrong one is refused (``strict``), recorded as a defect (``warn``) or not looked at
                            (``off``); ``None``: strict in production, else warn
    environment             shown in every page, log line and audit record
    """

    home_community_id: HomeCommunityId = "urn:oid:1.3.6.1.4.1.21367.2011.2.7.9999"
    assigning_authorities: tuple[Oid, ...] = ()
    codes: ExistingFile | None = None
    unknown_patient: Literal["empty", "error"] = "empty"
    strictness: Strictness = "reject"
    authority_names: Mapping[str, Oid] = Field(default_factory=dict)
    partners: Mapping[PartnerKey, PartnerSettings] = Field(default_factory=dict)
    matricule_authority: Annotated[tuple[Oid, ...], BeforeValidator(_listed)] = ()
    matricule: Literal["strict", "warn", "off"] | None = None
    environment: Literal["test", "production"] = "test"

    @model_validator(mode="after")
    def _matricules_have_an_authority(self) -> Self:
        if self.matricule in {"strict", "warn"} and not self.matricule_authority:
            raise ValueError("matricule_authority is missing: matricule says how to treat the ids of its OID")
        return self

    @property
    def matricules(self) -> MatriculePolicy:
        """What is to be checked, and how strictly."""
        if self.matricule == "off":
            return MatriculePolicy()
        strict = self.matricule == "strict" or (self.matricule is None and self.environment == "production")
        return MatriculePolicy(frozenset(self.matricule_authority), strict)

    def partner(self, node: str | None, fingerprint: str | None) -> PartnerSettings | None:
        """The partner's settings by what its certificate says; the fingerprint, being exact, is asked first."""
        for key in (fingerprint, node):
            if key is not None and key in self.partners:
                return self.partners[key]
        return None

    def granted(self, node: str | None, fingerprint: str | None) -> frozenset[str]:
        """The transactions listed for a peer beyond what every trusted node may do."""
        partner = self.partner(node, fingerprint)
        return frozenset() if partner is None else partner.transactions

    def strictness_for(self, node: str | None, fingerprint: str | None) -> Strictness:
        """``reject`` or ``warn`` for a peer: its own setting, else the domain's."""
        partner = self.partner(node, fingerprint)
        return self.strictness if partner is None or partner.strictness is None else partner.strictness
