"""The patients of a registry: feeds (ITI-8, ITI-44) and query (ITI-47) with their store, settings, clock and ids."""

import secrets
import time
import uuid
from collections.abc import Callable

from atna.recorder import Recorder
from atna.store.engine import Engine
from atna.store.outbox import Outbox
from ihe.xua import Caller
from registry import iti8_merge
from registry import iti64_notify_xad_pid_link_change as iti64
from registry.desk import new_uuid
from registry.iti8_patient_identity_feed import FeedRules, PatientIdentityFeed
from registry.iti44_patient_identity_feed_hl7v3 import PatientIdentityFeedV3
from registry.iti47_patient_demographics_query_hl7v3 import PatientDemographicsQuery
from registry.settings import RegistrySettings
from registry.store.patients import SqlPatientStore
from wire.settings import AffinityDomainSettings

__all__ = ["FeedActor", "demographics_query", "feed_rules", "feed_v3"]


def feed_rules(domain: AffinityDomainSettings, registry: RegistrySettings) -> FeedRules:
    """What the settings say about feeds."""
    authorities, names = frozenset(domain.assigning_authorities), dict(domain.authority_names)
    return FeedRules(authorities, names, registry.feed_other_events, domain.matricules)


class FeedActor:
    """``handle`` is the handler that ``wire.mllp.serve_mllp`` wants; thread safe. ``now``: seconds since 1970."""

    def __init__(  # noqa: PLR0917 - the parts, in the order of the room's app
        self,
        engine: Engine,
        audit: Outbox,
        recorder: Recorder,
        domain: AffinityDomainSettings,
        registry: RegistrySettings,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._feed = PatientIdentityFeed(
            SqlPatientStore(engine, audit),
            recorder,
            feed_rules(domain, registry),
            now=now,
            new_id=lambda: secrets.token_hex(10),
            answer_days=registry.feed_answer_days,
            handlings=iti8_merge.HANDLINGS
            | iti64.handlings(domain.home_community_id.removeprefix("urn:oid:"), new_uuid),
            granted=lambda caller: domain.granted(caller.node, caller.fingerprint),
        )

    def handle(self, data: bytes, caller: Caller) -> bytes:
        """One message in, its acknowledgement out."""
        return self._feed(data, caller)


def feed_v3(  # noqa: PLR0917 - the parts, in the order of the room's app
    engine: Engine,
    audit: Outbox,
    recorder: Recorder,
    domain: AffinityDomainSettings,
    registry: RegistrySettings,
    now: Callable[[], float] = time.time,
) -> PatientIdentityFeedV3:
    """ITI-44, for a worker's SOAP address."""
    return PatientIdentityFeedV3(
        SqlPatientStore(engine, audit),
        recorder,
        feed_rules(domain, registry),
        granted=lambda caller: domain.granted(caller.node, caller.fingerprint),
        now=now,
        new_id=lambda: str(uuid.uuid4()),
        answer_days=registry.feed_answer_days,
    )


def demographics_query(  # noqa: PLR0917 - the parts, in the order of the room's app
    engine: Engine,
    audit: Outbox,
    recorder: Recorder,
    domain: AffinityDomainSettings,
    registry: RegistrySettings,
    now: Callable[[], float] = time.time,
) -> PatientDemographicsQuery:
    """ITI-47, for a worker's SOAP address."""
    return PatientDemographicsQuery(
        SqlPatientStore(engine, audit),
        recorder,
        feed_rules(domain, registry),
        most=registry.max_found_patients,
        granted=lambda caller: domain.granted(caller.node, caller.fingerprint),
        now=now,
        new_id=lambda: str(uuid.uuid4()),
    )
