"""What a resumed TLS session must still satisfy: OpenSSL looks at no certificate again when it resumes one.

There are no tickets, so a session of TLS 1.3 is not resumed at all. One of TLS 1.2 is found by its id, in the memory of
the context that made it: a file that is replaced makes a new context, so only what passes by itself is looked at here,
the end of a certificate, of its authority, and of the revocation lists.
"""

import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from cryptography import x509

from wire.certificate_expiry import authority_ends, list_ends
from wire.settings import TlsSettings

__all__ = ["look_again"]

_CERTIFICATE_EXPIRED: Final = 10
_LIST_EXPIRED: Final = 12


@dataclass(frozen=True, slots=True)
class _Terms:
    """Ends by subject or issuer (DER); ``chain``: every list must be in force, not the one of the issuer alone."""

    authorities: Mapping[bytes, datetime]
    lists: Mapping[bytes, datetime]
    chain: bool

    def broken(self, certificate: bytes, now: datetime) -> int | None:
        """The X509_V_ERR_… that a full handshake would end with; ``None``: it would succeed."""
        try:
            peer = x509.load_der_x509_certificate(certificate)
            issuer = peer.issuer.public_bytes()
        except ValueError:  # OpenSSL took it once, and what it says of its end is not known
            return _CERTIFICATE_EXPIRED
        if now > min(peer.not_valid_after_utc, self.authorities.get(issuer, now)):
            return _CERTIFICATE_EXPIRED
        lists = self.lists.values() if self.chain else [self.lists[issuer]] if issuer in self.lists else []
        return _LIST_EXPIRED if any(now > end for end in lists) else None


def look_again(context: ssl.SSLContext, tls: TlsSettings) -> None:
    """Give no tickets, and make the handshake of a resumed session fail where a full one would fail by now."""
    # Tickets that a syslog sender leaves unread would turn its close into a reset besides, before its last message.
    context.options |= ssl.OP_NO_TICKET
    context.num_tickets = 0
    lists, authorities = _ends(list_ends, tls.revocation_list), _ends(authority_ends, tls.ca)
    terms = _Terms(authorities, lists, tls.revocation_check == "chain")
    base: Any = context.sslobject_class

    class LookingAgain(base):  # type: ignore[misc]
        def do_handshake(self) -> None:
            super().do_handshake()
            certificate = self.getpeercert(binary_form=True) if self.session_reused else None
            code = terms.broken(certificate, datetime.now(UTC)) if certificate else None
            if code is not None:
                raise _refusal(code)

    context.sslobject_class = LookingAgain


def _ends(read: Callable[[Path], dict[bytes, datetime]], path: Path | None) -> dict[bytes, datetime]:
    """None where OpenSSL can use a file and we cannot read it: it decides who is served, as for the metrics."""
    try:
        return {} if path is None else read(path)
    except ValueError:
        return {}


def _refusal(code: int) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "a resumed session whose certificates no longer count")
    error.verify_code, error.verify_message = code, "certificates that no longer count"
    return error
