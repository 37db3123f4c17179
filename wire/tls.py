"""ITI-19 Authenticate Node: TLS contexts for both sides, and who the peer is (ITI TF-2: 3.19).

Floor     TLS 1.2 with the suites of BCP 195 (option "TLS 1.2 Floor using BCP195"), TLS 1.3 above it
Trust     the file named by ``ca`` and nothing else: authorities, or the peers' own certificates, either is enough.
          No host name is matched, no content of a certificate is asked for (3.19.6.1); OpenSSL itself still refuses
          a certificate whose extended key usage excludes its role.
Refused   everything without a certificate from there, unless ``require_client_certificate`` is off
"""

import hashlib
import ssl
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import Final

from cryptography import x509

from wire.settings import TlsSettings

__all__ = ["Peer", "TlsFault", "client_context", "peer_of", "server_context"]


class TlsFault(ValueError):  # noqa: N818 - a fault of the settings, not of the program
    """A certificate, key, authority or revocation file cannot be used; the text names the file and why."""


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end of a connection.

    ``address`` is the IP address ("" when unknown); ``node`` the RFC 4514 subject of the peer's certificate and
    ``fingerprint`` ``sha256:`` and the hex digest of it. Both are ``None`` where no certificate was given.
    """

    address: str
    node: str | None = None
    fingerprint: str | None = None


_BCP195: Final = (
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-CHACHA20-POLY1305",
    "DHE-RSA-AES256-GCM-SHA384",
    "DHE-RSA-AES128-GCM-SHA256",
)
"""TLS 1.2: forward secrecy and AEAD only. The two DHE suites are mandatory to support for the BCP195 option."""


def server_context(tls: TlsSettings) -> ssl.SSLContext:
    """The context of a listener. Raises TlsFault; a ``TlsSettings`` without certificate is a mistake of the caller."""
    context = _context(ssl.PROTOCOL_TLS_SERVER, tls)
    # Without parameters OpenSSL offers no DHE suite ("no shared cipher"); the group is ffdhe2048 of RFC 7919.
    with as_file(files("wire") / "ffdhe2048.pem") as parameters:
        context.load_dh_params(str(parameters))
    context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_alpn_protocols(["http/1.1"])
    if tls.require_client_certificate:
        context.verify_mode = ssl.CERT_REQUIRED
    elif tls.ca is not None:
        context.verify_mode = ssl.CERT_OPTIONAL
    return context


def client_context(tls: TlsSettings) -> ssl.SSLContext:
    """The context for calling another node: our certificate, and the same trust as the server has. Raises TlsFault."""
    context = _context(ssl.PROTOCOL_TLS_CLIENT, tls)
    context.check_hostname = False  # ITI TF-2: 3.19.6.1: a node is known by its certificate, not by its host name
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def _context(protocol: int, tls: TlsSettings) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    minimum = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
    context.minimum_version = minimum[tls.minimum_version]
    context.set_ciphers(":".join(_BCP195))
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    if tls.certificate is not None and tls.key is not None:
        _load_own(context, tls.certificate, tls.key)
    if tls.ca is not None:
        _load_trusted(context, tls.ca, "ca")
        # any certificate of the file counts by itself, so that peers' own certificates can be installed there
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    if tls.revocation_list is not None:
        _load_trusted(context, tls.revocation_list, "revocation_list")
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    return context


def _load_own(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    def refuse_password() -> str:
        raise TlsFault(f"key {key} is encrypted; give it unencrypted, readable by the service alone")

    try:
        context.load_cert_chain(certificate, key, password=refuse_password)
    except ssl.SSLError as error:
        reason = "they do not belong together" if error.reason == "KEY_VALUES_MISMATCH" else "they are not PEM"
        raise TlsFault(f"certificate {certificate} and key {key} cannot be used: {reason} ({error.reason})") from error
    except OSError as error:
        raise TlsFault(f"certificate {certificate} or key {key} cannot be read: {error.strerror}") from error


def _load_trusted(context: ssl.SSLContext, path: Path, name: str) -> None:
    try:
        context.load_verify_locations(path)
    except ssl.SSLError as error:
        raise TlsFault(f"{name} {path} holds nothing that can be used: {error.reason}") from error
    except OSError as error:
        raise TlsFault(f"{name} {path} cannot be read: {error.strerror}") from error


def peer_of(address: str, certificate: bytes | None) -> Peer:
    """The peer by its address and its certificate in DER (``None``: none was given).

    A subject that cannot be read leaves ``node`` ``None``; the fingerprint is there in any case.
    """
    if not certificate:
        return Peer(address)
    fingerprint = f"sha256:{hashlib.sha256(certificate).hexdigest()}"
    try:
        node = x509.load_der_x509_certificate(certificate).subject.rfc4514_string()
    except ValueError:
        node = None
    return Peer(address, node or None, fingerprint)
