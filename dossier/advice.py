"""What ``dossier config check`` advises: settings that are right each, and together do less than they say."""

import json
from collections.abc import Iterator
from typing import Final

from dossier.services import tls_tables
from dossier.settings import Settings
from wire.tls import own_peer

__all__ = ["advice"]

_NEEDED: Final = {
    "ITI-55": ("ITI-47", "who a patient is cannot be told to other communities, nor asked of them"),
    "ITI-92": ("ITI-92", "no update of another community is passed on"),
}
"""What is exchanged with a community, what the gateway then asks of the registry, and what is without it."""
_OBJECTS_OF_A_DOCUMENT: Final = 4
"""In a folder: the DocumentEntry, its two memberships, and that of the second in the SubmissionSet."""


def advice(settings: Settings) -> Iterator[str]:
    """Lines for the operator; raises TlsFault where the gateway's certificate cannot be read."""
    for table, tls in tls_tables(settings):
        if tls.enabled and not tls.require_client_certificate:
            yield f"{table}: require_client_certificate is false: whoever reaches the port may call, unknown"
    yield from _rights_of_the_gateway(settings)
    yield from _signing_of_the_log(settings)
    yield from _question_after_a_lost_answer(settings)


def _signing_of_the_log(settings: Settings) -> Iterator[str]:
    """No fault, for the same settings may serve machines without an audit service, where the key must not lie."""
    path = settings.audit.checkpoint_key
    if settings.affinity_domain.environment == "production" and (path is None or not path.exists()):
        lacking = "is not set" if path is None else f"{path} is not there"
        yield (
            f"audit.checkpoint_key: {lacking}, and in production dossier serve audit (or all) does not start without "
            "it; make a key with dossier audit key --new FILE"
        )


def _question_after_a_lost_answer(settings: Settings) -> Iterator[str]:
    needed = _OBJECTS_OF_A_DOCUMENT * settings.repository.max_documents
    if needed > settings.registry.max_leaf_results:
        yield (
            "repository.max_documents: a submission whose answer from the registry is lost is asked for whole, and a "
            f"registry with max_leaf_results = {settings.registry.max_leaf_results} does not answer that for so many "
            f"documents: what became of it stays unknown; set registry.max_leaf_results to {needed} or more"
        )


def _rights_of_the_gateway(settings: Settings) -> Iterator[str]:
    gateway, tls = settings.gateway, settings.tls["gateway"]
    if tls.certificate is None or not gateway.registry_url.startswith("https:"):
        return
    ourselves = own_peer(tls.certificate)
    granted = settings.affinity_domain.granted(ourselves.node, ourselves.fingerprint)
    key = json.dumps(ourselves.node or ourselves.fingerprint, ensure_ascii=False)  # TOML quotes as JSON does
    exchanged = {one for community in gateway.communities for one in community.transactions}
    for transaction, (needed, without) in _NEEDED.items():
        if transaction in exchanged and needed not in granted:
            yield (
                f"the gateway exchanges {transaction}, and as {key} it is no partner with {needed}: {without}; "
                f"list {needed} in affinity_domain.partners.{key} where the registry reads it"
            )
