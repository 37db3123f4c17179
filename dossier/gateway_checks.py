"""What ``[gateway]`` has to agree on with the rest of the settings: our own home, TLS, and where plain HTTP may go."""

from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from dossier.address import is_loopback
from gateway.consistency import rows
from wire.settings import AffinityDomainSettings, TlsSettings

__all__ = ["gateway_faults"]

PARTNER_URLS: Final = ("query_url", "retrieve_url", "discovery_url")


def gateway_faults(
    section: Mapping[str, Any], domain: AffinityDomainSettings | None, tls: TlsSettings | None
) -> Iterator[str]:
    """Lines for ``section`` as given; ``None`` for what is itself at fault and told of elsewhere."""
    for number, row in enumerate(rows(section, "communities")):
        path = f"gateway.communities.{number}"
        yield from _community(path, row, domain, tls)
        own = tls is None or tls.enabled or row.get("certificate") is not None
        for key in PARTNER_URLS:
            yield from _address(f"{path}.{key}", row.get(key), tls, own=own)
    for number, row in enumerate(rows(section, "repositories")):
        yield from _address(f"gateway.repositories.{number}.url", row.get("url"), tls)
    yield from _address("gateway.registry_url", section.get("registry_url"), tls)


def _community(
    path: str, row: Mapping[str, Any], domain: AffinityDomainSettings | None, tls: TlsSettings | None
) -> Iterator[str]:
    home = str(row.get("home_community_id")).strip().removeprefix("urn:oid:")
    if domain is not None and home == domain.home_community_id.removeprefix("urn:oid:"):
        yield f"{path}.home_community_id: is our own home community; list its repositories in gateway.repositories"
    if not row.get("subjects") and not any(row.get(key) for key in PARTNER_URLS):
        yield f"{path}: names neither an address to ask (query_url) nor subjects that may ask us"
    if tls is not None and not tls.enabled and row.get("ca") is not None and row.get("certificate") is None:
        yield f"{path}.ca: is of use only with a certificate of ours, here or in tls or gateway.tls"


def _address(path: str, url: Any, tls: TlsSettings | None, *, own: bool = True) -> Iterator[str]:
    """``own``: there is a certificate of ours to show, as a node has to (ITI TF-2: 3.19)."""
    if not isinstance(url, str) or tls is None:
        return
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return  # told of by the check of the key itself, or when it is called
    if parts.scheme == "http" and not is_loopback(host) and not tls.allow_plaintext:
        yield f"{path}: would be called in the clear; needs https:// or gateway.tls.allow_plaintext = true"
    if parts.scheme == "https" and not own:
        yield f"{path}: https:// needs certificate, key and ca in tls, gateway.tls, or the community"
