"""The affinity domain as the rules ask it: settings joined with the code file the operator keeps, or ours."""

from importlib import resources

from ihe.affinity_domain import AffinityDomain, affinity_domain, read_codes
from wire.settings import AffinityDomainSettings

__all__ = ["agreed_codes"]


def agreed_codes(domain: AffinityDomainSettings) -> AffinityDomain:
    """Read the operator's code file or the one shipped. Raises CodeFileError, OSError, UnicodeDecodeError."""
    if domain.codes is not None:
        text = domain.codes.read_text(encoding="utf-8")
    else:
        text = (resources.files("ihe") / "codes.csv").read_text(encoding="utf-8")
    return affinity_domain(domain.home_community_id, domain.assigning_authorities, read_codes(text), domain.matricules)
