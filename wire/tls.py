"""ITI-19 Authenticate Node: TLS contexts for both sides, and who the peer is (ITI TF-2: 3.19).

Floor     TLS 1.2 with the suites of BCP 195 (option "TLS 1.2 Floor using BCP195"), TLS 1.3 above it
Trust     the file named by ``ca`` and nothing else: authorities, or the peers' own certificates, either is enough.
          No host name is matched, no content of a certificate is asked for (3.19.6.1); OpenSSL itself still refuses
          a certificate whose extended key usage excludes its role.
Pinned    where ``peers`` lists some, a certificate from there has to be listed too; our own always counts as listed,
          for services of one house share one
Revoked   with ``revocation_list`` every authority from the peer up to the root has to have a list that is in force: an
          expired list says nothing of today, so nobody it speaks of gets in ("leaf": the peer's authority alone)
Resumed   a session whose certificates have expired since is refused as a full handshake would be (``wire.resumption``)
Refused   everything without a certificate from there, unless ``require_client_certificate`` is off; ``reason_of`` says
          in words for an operator why
"""

import hashlib
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from wire.last_words import TellingObject
from wire.resumption import look_again
from wire.settings import TlsSettings

__all__ = [
    "NotListed",
    "Peer",
    "TlsFault",
    "client_context",
    "handshake_fault",
    "listed",
    "own_peer",
    "peer_of",
    "reason_of",
    "said_by_peer",
    "server_context",
    "verification_reason",
]


class TlsFault(ValueError):  # noqa: N818 - a fault of the settings, not of the program
    """A certificate, key, authority or revocation file cannot be used; the text names the file and why."""


class NotListed(ssl.SSLError):
    """The peer's certificate is valid, but ``peers`` does not list it."""


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
    if not tls.peers:
        context.sslobject_class = TellingObject
    context.set_alpn_protocols(["http/1.1"])
    if tls.require_client_certificate:
        context.verify_mode = ssl.CERT_REQUIRED
    elif tls.ca is not None:
        context.verify_mode = ssl.CERT_OPTIONAL
    look_again(context, tls)
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
        chain = tls.revocation_check == "chain"
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_CHAIN if chain else ssl.VERIFY_CRL_CHECK_LEAF
    if tls.peers:
        _pin(context, listed(tls))
    return context


def listed(tls: TlsSettings) -> frozenset[str]:
    """Subjects and fingerprints that ``peers`` admits: those listed, proxies known by certificate, and our own."""
    own = () if tls.certificate is None else (own_peer(tls.certificate).fingerprint,)
    return frozenset((*tls.peers, *tls.proxies, *own))


def own_peer(path: Path) -> Peer:
    """What others see of us by the first certificate of the file at ``path``; raises TlsFault."""
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError) as error:
        raise TlsFault(f"certificate {path} cannot be read: {error}") from error
    return peer_of("", certificate.public_bytes(serialization.Encoding.DER))


def _pin(context: ssl.SSLContext, admitted: frozenset[str]) -> None:
    """Make the handshake itself fail for a peer that is not listed, so that no byte of it reaches an application."""

    def check(certificate: bytes | None) -> None:
        peer = peer_of("", certificate)
        if certificate and admitted.isdisjoint({peer.node, peer.fingerprint}):
            raise NotListed(1, peer.node or peer.fingerprint)

    class PinnedObject(TellingObject):
        def do_handshake(self) -> None:
            super().do_handshake()
            check(self.getpeercert(binary_form=True))

    class PinnedSocket(ssl.SSLSocket):
        def do_handshake(self, block: bool = False) -> None:
            super().do_handshake(block)
            check(self.getpeercert(binary_form=True))

    context.sslobject_class = PinnedObject
    context.sslsocket_class = PinnedSocket


def _load_own(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    def refuse_password() -> str:
        raise TlsFault(f"key {key} is encrypted; give it unencrypted, readable by the service alone")

    try:
        context.load_cert_chain(certificate, key, password=refuse_password)
    except ssl.SSLError as error:
        reason = "they do not belong together" if error.reason == "KEY_VALUES_MISMATCH" else "they are not PEM"
        raise TlsFault(f"certificate {certificate} and key {key} cannot be used: {reason}") from error
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


_FOREIGN: Final = "certificate of a foreign authority"
_VERIFICATION: Final[Mapping[int, str]] = {
    2: _FOREIGN,
    3: "no revocation list of an authority of the certificate",
    9: "certificate not yet valid",
    10: "certificate expired",
    11: "revocation list not yet in force",
    12: "revocation list expired",
    18: "self-signed certificate that is not installed",
    19: _FOREIGN,
    20: _FOREIGN,
    21: _FOREIGN,
    23: "certificate revoked",
    26: "certificate made for another purpose",
    33: "no revocation list of an authority of the certificate",
}
"""X509_V_ERR_… of OpenSSL (x509_vfy.h) in words; others are told in OpenSSL's own."""

_HANDSHAKE: Final[Mapping[str, str]] = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "no certificate",
    "UNSUPPORTED_PROTOCOL": "protocol too old",
    "VERSION_TOO_LOW": "protocol too old",
    "TLSV1_ALERT_PROTOCOL_VERSION": "protocol version refused by the peer",
    "WRONG_VERSION_NUMBER": "no TLS was spoken",
    "HTTP_REQUEST": "plain HTTP on a TLS port",
    "HTTPS_PROXY_REQUEST": "plain HTTP on a TLS port",
    "NO_SHARED_CIPHER": "no cipher suite in common",
    "UNEXPECTED_EOF_WHILE_READING": "broken off by the peer",
}
_ALERTS: Final = ("SSLV3_ALERT_", "TLSV1_ALERT_", "TLSV13_ALERT_")
"""Reasons of OpenSSL that begin so are what the peer says of us."""


def reason_of(error: BaseException) -> str:
    """Why a handshake failed, in a few words for log and audit; nothing the peer could have written stands in them.

    The subject of a certificate that is valid and not listed is told: who signed it vouches for it.
    """
    if isinstance(error, NotListed):
        return f"not listed in peers: {error.strerror}"
    if isinstance(error, ssl.SSLCertVerificationError):
        return verification_reason(error.verify_code, error.verify_message)
    if isinstance(error, ssl.SSLEOFError | ConnectionResetError | BrokenPipeError):
        return "broken off by the peer"
    if isinstance(error, ssl.SSLError):
        reason = str(error.reason or "TLS error")
        words = reason.lower().replace("_", " ")
        alert = next((prefix for prefix in _ALERTS if reason.startswith(prefix)), None)
        if reason not in _HANDSHAKE and alert is not None:
            return f"refused by the peer: {words[len(alert) :]}"
        return _HANDSHAKE.get(reason, words)
    if isinstance(error, TimeoutError | ConnectionAbortedError):  # asyncio aborts a handshake that takes too long
        return "time-out"
    return getattr(error, "strerror", None) or type(error).__name__


def said_by_peer(error: ssl.SSLError) -> bool:
    """Whether the peer ended the handshake, by an alert or by hanging up, and not we."""
    return isinstance(error, ssl.SSLEOFError) or str(getattr(error, "reason", "")).startswith(_ALERTS)


def handshake_fault(error: BaseException) -> ssl.SSLError | None:
    """The failure of TLS below what an HTTP library made of it; ``None`` when it was something else."""
    seen: BaseException | None = error
    while seen is not None and not isinstance(seen, ssl.SSLError):
        seen = seen.__cause__ or seen.__context__
    return seen


def verification_reason(code: int, otherwise: str) -> str:
    """The words for a code of OpenSSL's verification; ``otherwise`` are OpenSSL's own."""
    return _VERIFICATION.get(code, otherwise)
