"""The patient identity feed of a registry process: ITI-8 joined with its store, settings, clock and ids."""

import secrets
import time
from collections.abc import Callable

from atna.recorder import Recorder
from atna.store.engine import Engine
from atna.store.outbox import Outbox
from ihe.xua import Caller
from registry import iti8_merge
from registry import iti64_notify_xad_pid_link_change as iti64
from registry.desk import new_uuid
from registry.iti8_patient_identity_feed import FeedRules, PatientIdentityFeed
from registry.settings import RegistrySettings
from registry.store.patients import SqlPatientStore
from wire.settings import AffinityDomainSettings

__all__ = ["FeedActor", "feed_rules"]


def feed_rules(domain: AffinityDomainSettings, registry: RegistrySettings) -> FeedRules:
    """What the settings say about feeds."""
    return FeedRules(frozenset(domain.assigning_authorities), dict(domain.authority_names), registry.feed_other_events)


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
