"""Who may read the audit log: ITI-81, the check of the chain, the page of the security officer.

On plaintext loopback, which is one machine of one operator, everybody; else the partners whose settings list it:

    [affinity_domain.partners."CN=security officer"]
    transactions = ["ITI-81"]

``[affinity_domain.partners]`` is keyed by the RFC 4514 subject or the ``sha256:`` fingerprint of the certificate.
"""

from typing import Final

from consent.policy import Decision, decide
from ihe.xua import Caller
from wire.settings import AffinityDomainSettings

__all__ = ["ITI_81", "reading_decision"]

ITI_81: Final = "ITI-81"


def reading_decision(caller: Caller, domain: AffinityDomainSettings) -> Decision:
    """Whether ``caller`` may read the log, and the rule that said so; the rule belongs into the audit record."""
    return decide(caller, ITI_81, domain.granted(caller.node, caller.fingerprint), restricted=True)
