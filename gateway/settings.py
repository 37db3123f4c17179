"""``[gateway]``: the cross-community gateways' own settings. Units stand in the names."""

from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ModelWrapValidatorHandler, model_validator

from atna.database_url import DatabaseUrl
from gateway.consistency import DEFAULT_TRANSACTIONS, community_faults, gateway_faults, validated
from wire.settings import (
    ExistingFile,
    HomeCommunityId,
    HttpUrl,
    Oid,
    PartnerKey,
    PositiveInt,
    PositiveSeconds,
    TlsSettings,
)

__all__ = ["Community", "GatewaySettings", "PatientIdRule", "RepositoryAddress"]

PatientIdRule = Literal["discover", "same", "table"]

_MIB: Final = 2**20

Waiting = Annotated[float, Field(ge=0, allow_inf_nan=False)]


Exchanged = Literal["ITI-38", "ITI-39", "ITI-55", "ITI-92"]


class RepositoryAddress(BaseModel):
    """``[[gateway.repositories]]``: a repository of this community, and where it answers ITI-43."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    unique_id: Oid
    url: HttpUrl


class Community(BaseModel):
    """``[[gateway.communities]]``: a community of partners and its gateway.

    home_community_id      its id, ``urn:oid:`` or the bare OID
    query_url              where its responding gateway answers ITI-38
    retrieve_url           where it answers ITI-39; without it, at query_url
    discovery_url          where it answers ITI-55
    patient_id             how our patient is named there: ``discover`` asks ITI-55, ``same`` uses our identifier,
                           ``table`` looks into ``patients``
    patients               for ``table``: our identifier to theirs, both as CX (``7^^^&1.2.3&ISO``)
    send_patient_id        ``discover`` tells it our identifier of the patient, too, not his name, birth and sex alone
    deadline_s             what it may take for one answer; without it, ``gateway.deadline_s``
    certificate, key, ca   what we show to it and whom we trust there; without them those of the gateway
    transactions           what is exchanged with it, both ways: what we send to it and what it may send us
    subjects               its nodes, as they call us: RFC 4514 subject or ``sha256:`` fingerprint of the certificate
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    home_community_id: HomeCommunityId
    query_url: HttpUrl | None = None
    retrieve_url: HttpUrl | None = None
    discovery_url: HttpUrl | None = None
    patient_id: PatientIdRule = "same"
    patients: dict[str, str] = Field(default_factory=dict)
    send_patient_id: bool = False
    deadline_s: PositiveSeconds | None = None
    certificate: ExistingFile | None = None
    key: ExistingFile | None = None
    ca: ExistingFile | None = None
    transactions: tuple[Exchanged, ...] = DEFAULT_TRANSACTIONS
    subjects: tuple[PartnerKey, ...] = ()

    @model_validator(mode="wrap")
    @classmethod
    def _consistent(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        made: Self = validated(data, handler, community_faults, cls.__name__)
        return made

    @property
    def retrieving_url(self) -> str | None:
        """Where ITI-39 is sent to."""
        return self.retrieve_url or self.query_url

    def tls(self, gateway: TlsSettings) -> TlsSettings:
        """What holds for calls to this community, where it differs from the rest of the gateway."""
        own = self.own_files
        return gateway.model_copy(update=own) if own else gateway

    @property
    def own_files(self) -> dict[str, Path]:
        """The settings of TLS whose files hold for this community alone."""
        return {name: path for name in ("certificate", "key", "ca") if (path := getattr(self, name)) is not None}


class GatewaySettings(BaseModel):
    """``[gateway]``.

    listen                where both gateways listen: ``/responding`` and ``/initiating``
    workers               processes that answer
    database_url          of its own database: the audit outbox, correlations of patients
    registry_url          of this community's registry (ITI-18, ITI-47)
    repositories          of this community: unique_id and url
    communities           partners: see Community
    callers               who may send ITI-38, 39 and 55, and as a consumer ITI-18 and 43: every ``trusted`` node, or
                          only nodes that are ``listed``, as subjects of a community or as partners of the domain
    deadline_s            what one community may take, unless it has its own, and all of them together
                          (for ITI-39 our own repositories get 0.6 of it, so that who asks still hears of the others)
    spool_bytes           documents up to this size are read to their end before the answer begins
    spool_directory       where they are kept meanwhile; without it, the system's directory for temporary files
    spool_total_bytes     all such documents of one process; what finds no room is streamed
    stream_s              how long an answer with larger documents may take in all
    max_retrieve_documents  one ITI-39 or ITI-43: documents that are asked for, each as often as it is
    max_answer_bytes      envelope of an answer of a community
    max_calls             calls to communities at once, of one process
    breaker_failures      so many in a row, and a community is not asked for breaker_pause_s; then one call tries again
    max_request_bytes     envelope of a request
    max_discovered        patients in one answer of ours to ITI-55; where more match, none of them is told
    time_to_live_s        how long others may remember what we answered to ITI-55 (CorrelationTimeToLive); 0: not said
    remember_s            how long we remember what a community answered without saying for how long; 0: not at all
    max_remember_s        how long we remember it at most, whatever it says
    remember_nobody_s     how long we remember that a community knows a patient not
    several               a community that finds several patients for one of ours: ``refuse`` asks it nothing and says
                          so, ``all`` asks it for the documents of each of them
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    listen: str = "127.0.0.1:8030"
    workers: PositiveInt = 1
    database_url: DatabaseUrl = "sqlite:///var/gateway.db"
    registry_url: HttpUrl = "http://127.0.0.1:8010/registry"
    repositories: tuple[RepositoryAddress, ...] = ()
    communities: tuple[Community, ...] = ()
    callers: Literal["trusted", "listed"] = "trusted"
    deadline_s: PositiveSeconds = 15.0
    spool_bytes: PositiveInt = 16 * _MIB
    spool_directory: Path | None = None
    spool_total_bytes: PositiveInt = 512 * _MIB
    stream_s: PositiveSeconds = 3600.0
    max_retrieve_documents: PositiveInt = 1000
    max_answer_bytes: PositiveInt = 32 * _MIB
    max_calls: PositiveInt = 128
    breaker_failures: PositiveInt = 5
    breaker_pause_s: PositiveSeconds = 30.0
    max_request_bytes: PositiveInt = 4 * _MIB
    max_inline_bytes: PositiveInt = 32 * _MIB
    max_discovered: PositiveInt = 1
    time_to_live_s: Waiting = 0
    remember_s: Waiting = 0
    max_remember_s: Waiting = 86_400
    remember_nobody_s: Waiting = 60
    several: Literal["refuse", "all"] = "refuse"

    @model_validator(mode="wrap")
    @classmethod
    def _once_each(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        made: Self = validated(data, handler, gateway_faults, cls.__name__)
        return made

    def own_tables(self) -> dict[str, str]:
        """What settings of TLS that hold for one community alone are called in log, metrics and checks, by its home."""
        numbered = enumerate(self.communities)
        return {one.home_community_id: f"gateway.communities.{number}" for number, one in numbered if one.own_files}

    def deadline_of(self, community: Community) -> float:
        """What this community may take for one answer, in seconds; never more than all may take."""
        return min(community.deadline_s or self.deadline_s, self.deadline_s)
