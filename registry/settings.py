"""``[registry]``: the Document Registry's own settings. Units stand in the names."""

from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from atna.database_url import DatabaseUrl
from atna.settings import PositiveSeconds

__all__ = ["OtherEvents", "RegistrySettings"]

OtherEvents = Literal["accept", "reject"]

_MIB: Final = 2**20

Count = Annotated[int, Field(gt=0)]


class RegistrySettings(BaseModel):
    """``listen`` and ``feed_listen`` are ``host:port``.

    listen                 SOAP: ITI-42, ITI-18, ITI-44, ITI-47 …
    workers                processes that serve SOAP; at most 2 with SQLite
    database_url           ``sqlite:////path/registry.db`` or ``postgresql+psycopg://…``
    read_database_url      stored queries ask this replica, the primary while it fails; ``None``: no replica
    max_leaf_results       objects in one LeafClass answer, above it XDSTooManyResults
    max_object_refs        references in one ObjectRef answer, likewise
    max_query_patients     patients that one Multi-Patient Query may name and find: each gets an audit record of its own
    max_found_patients     patients that one Patient Demographics Query may find: each gets an audit record of its own
    max_query_values       values of all parameters of one stored query
    max_registration_s     a registration not committed by then is given up, so nobody need wait longer for its fate
    max_request_bytes      one SOAP request
    feed_listen            HL7 v2 over MLLP: ITI-8
    feed_other_events      ADT events that mean nothing to a registry (A02, A03 …): answered AA or AR
    feed_max_message_bytes, feed_max_connections, feed_threads   bounds of the feed
    feed_idle_timeout_s    silence allowed between two messages of one connection
    feed_message_timeout_s from the first to the last byte of one message
    feed_answer_days       how long the answer to a message is kept for its repetition
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    listen: str = "127.0.0.1:8010"
    workers: Count = 1
    database_url: DatabaseUrl = "sqlite:///registry.db"
    read_database_url: DatabaseUrl | None = None
    max_leaf_results: Count = 10_000
    max_object_refs: Count = 100_000
    max_query_patients: Count = 1_000
    max_found_patients: Count = 20
    max_query_values: Annotated[int, Field(gt=0, le=30_000)] = 10_000
    max_registration_s: PositiveSeconds = 15
    max_request_bytes: Annotated[int, Field(ge=1024)] = 64 * _MIB
    feed_listen: str = "127.0.0.1:8011"
    feed_other_events: OtherEvents = "accept"
    feed_max_message_bytes: Annotated[int, Field(ge=1024)] = 4 * _MIB
    feed_max_connections: Count = 200
    feed_threads: Count = 8
    feed_idle_timeout_s: PositiveSeconds = 3600
    feed_message_timeout_s: PositiveSeconds = 60
    feed_answer_days: Count = 30
