"""How long certificates and revocation lists last: for the metrics, the log, and ``dossier config check``."""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from prometheus_client import Gauge

from wire.settings import TlsSettings

__all__ = ["EXPIRY", "authority_ends", "expiries", "list_ends", "soon"]

EXPIRY: Final = Gauge(
    "dossier_certificate_expiry_timestamp_seconds",
    "When the first certificate of a file, or the first revocation list, ends; seconds since 1970",
    ["tls", "file"],
    multiprocess_mode="livemin",
)
"""A moment and not what is left of it, so that it stays true between two changes of a file."""

SOON: Final[Mapping[str, timedelta]] = {
    "certificate": timedelta(days=30),
    "ca": timedelta(days=30),
    "revocation_list": timedelta(days=1),
}
"""When the log begins to warn; a revocation list often lasts a week alone."""
_CRL: Final = re.compile(rb"-----BEGIN X509 CRL-----.+?-----END X509 CRL-----", re.DOTALL)


def expiries(tls: TlsSettings) -> dict[str, datetime]:
    """When the first in each of the files named ends, UTC, by the setting; what cannot be read is left out.

    A newer revocation list replaces an older one of the same authority.
    """
    out: dict[str, datetime] = {}
    for kind, path in (("certificate", tls.certificate), ("ca", tls.ca), ("revocation_list", tls.revocation_list)):
        if path is None:
            continue
        try:
            ends = list(list_ends(path).values() if kind == "revocation_list" else _certificates(path))
        except (OSError, ValueError):
            continue  # OpenSSL, not this, decides what can be used
        if ends:
            out[kind] = min(ends)
    return out


def soon(tls: TlsSettings, now: datetime | None = None) -> Iterator[str]:
    """A line for each file of which something ends soon or has ended."""
    at = datetime.now(UTC) if now is None else now
    for kind, moment in expiries(tls).items():
        if moment - at < SOON[kind]:
            path = getattr(tls, kind)
            yield f"{kind} {path} {'expires' if moment > at else 'expired'} {moment:%Y-%m-%d %H:%M} UTC"


def _certificates(path: Path) -> Iterator[datetime]:
    for certificate in x509.load_pem_x509_certificates(path.read_bytes()):
        yield certificate.not_valid_after_utc


def list_ends(path: Path) -> dict[bytes, datetime]:
    """When the revocation lists of a file end, by issuer (DER). Raises OSError, ValueError."""
    latest: dict[bytes, datetime] = {}
    for block in _CRL.findall(path.read_bytes()):
        one = x509.load_pem_x509_crl(block)
        ends = one.next_update_utc
        if ends is not None:
            issuer = one.issuer.public_bytes()
            latest[issuer] = max(ends, latest.get(issuer, ends))
    return latest


def authority_ends(path: Path) -> dict[bytes, datetime]:
    """When the certificates of a file end, by subject (DER). Raises OSError, ValueError."""
    latest: dict[bytes, datetime] = {}
    for one in x509.load_pem_x509_certificates(path.read_bytes()):
        subject = one.subject.public_bytes()
        latest[subject] = max(one.not_valid_after_utc, latest.get(subject, one.not_valid_after_utc))
    return latest
