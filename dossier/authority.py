"""An authority to try TLS with, kept in a folder: certificates, a revocation list, intermediates. For tests only."""

import contextlib
import ipaddress
import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Final, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

__all__ = ["Authority", "KeyKind", "write", "write_lists"]

BACKDATED: Final = timedelta(minutes=5)
"""Clocks of test machines differ."""
EXPIRED_SINCE: Final = timedelta(days=1)

RSA_BITS: Final = 2048

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


class KeyKind(StrEnum):
    """RSA for the cipher suites that every peer has to know (ITI TF-2: 3.19.6.2), EC (P-256) where a handshake is to
    cost little: with its keys TLS 1.2 speaks ECDHE-ECDSA alone.
    """

    RSA = "rsa"
    EC = "ec"


def _new_key(kind: KeyKind) -> Key:
    if kind is KeyKind.RSA:
        return rsa.generate_private_key(65537, RSA_BITS)
    return ec.generate_private_key(ec.SECP256R1())


class Authority:
    """Signs certificates and a list of those that no longer count.

    ``chain`` goes behind each certificate it signs, so that a peer that knows the root alone can follow. The keys it
    makes are of the kind of its own.
    """

    def __init__(self, certificate: x509.Certificate, key: Key, chain: Sequence[x509.Certificate] = ()) -> None:
        self.certificate = certificate
        self.key = key
        self.chain = chain
        self._kind = KeyKind.RSA if isinstance(key, rsa.RSAPrivateKey) else KeyKind.EC
        self._end = certificate.not_valid_after_utc

    @classmethod
    def make(cls, name: str, days: int, *, path_length: int, kind: KeyKind = KeyKind.EC) -> Self:
        """A root, valid for ``days``."""
        key = _new_key(kind)
        begin = datetime.now(UTC) - BACKDATED
        subject = _authority_name(name)
        builder = _builder(subject, key.public_key(), subject, key, (begin, begin + timedelta(days=days)))
        return cls(_authority(builder, path_length).sign(key, hashes.SHA256()), key)

    @classmethod
    def read(cls, folder: Path, name: str, *, root: bool) -> Self:
        """The one whose NAME.pem and NAME.key are in the folder. Raises OSError, ValueError."""
        certificates = x509.load_pem_x509_certificates((folder / f"{name}.pem").read_bytes())
        key = serialization.load_pem_private_key((folder / f"{name}.key").read_bytes(), None)
        if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
            raise ValueError(f"{name}.key is not of this command")  # noqa: TRY004 - a fault of the file
        return cls(certificates[0], key, () if root else certificates[:1])

    def intermediate(self, name: str) -> "Authority":
        """An authority below this one."""
        key = _new_key(self._kind)
        builder = self._issued(_authority_name(name), key, datetime.now(UTC) - BACKDATED, self._end)
        certificate = _authority(builder, 0).sign(self.key, hashes.SHA256())
        return Authority(certificate, key, (certificate,))

    def issue(
        self, name: str, hosts: Sequence[str], *, expired: bool = False
    ) -> tuple[Sequence[x509.Certificate], Key]:
        """A certificate, with what goes behind it, for both ends of a connection: a server of this house calls others
        as a client. Without ``hosts`` it opens no port.
        """
        key = _new_key(self._kind)
        now = datetime.now(UTC)
        begin, end = now - BACKDATED, self._end
        if expired:
            begin, end = now - 2 * EXPIRED_SINCE, now - EXPIRED_SINCE
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = self._issued(subject, key, begin, end)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(_usage(signs_certificates=False), critical=True)
        usages = [ExtendedKeyUsageOID.CLIENT_AUTH, *([ExtendedKeyUsageOID.SERVER_AUTH] if hosts else [])]
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        if hosts:
            builder = builder.add_extension(x509.SubjectAlternativeName([_general(h) for h in hosts]), critical=False)
        return (builder.sign(self.key, hashes.SHA256()), *self.chain), key

    def _issued(self, subject: x509.Name, key: Key, begin: datetime, end: datetime) -> x509.CertificateBuilder:
        return _builder(subject, key.public_key(), self.certificate.subject, self.key, (begin, end))

    def revocation_list(self, serials: Sequence[int]) -> x509.CertificateRevocationList:
        """The list of these certificates, in force as long as the authority."""
        now = datetime.now(UTC)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.certificate.subject)
            .last_update(now - BACKDATED)
            .next_update(self._end)
        )
        for serial in serials:
            revoked = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now - BACKDATED)
            builder = builder.add_revoked_certificate(revoked.build())
        return builder.sign(self.key, hashes.SHA256())


def _authority_name(name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, name),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "For tests only"),
        ]
    )


def _builder(
    subject: x509.Name,
    key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey,
    issuer: x509.Name,
    signer: Key,
    valid: tuple[datetime, datetime],
) -> x509.CertificateBuilder:
    begin, end = valid
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )


def _authority(builder: x509.CertificateBuilder, path_length: int) -> x509.CertificateBuilder:
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
    return builder.add_extension(_usage(signs_certificates=True), critical=True)


def _general(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def write(out: Path, name: str, certificates: Sequence[x509.Certificate], key: Key) -> None:
    """NAME.pem and NAME.key, readable by their owner alone; a service that reads them sees each whole or not at all."""
    chain = b"".join(one.public_bytes(serialization.Encoding.PEM) for one in certificates)
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    _put(out / f"{name}.key", pem, 0o600)
    _put(out / f"{name}.pem", chain, 0o644)


def write_lists(path: Path, lists: Sequence[x509.CertificateRevocationList]) -> None:
    """All lists in one file, replaced as a whole."""
    _put(path, b"".join(one.public_bytes(serialization.Encoding.PEM) for one in lists), 0o644)


def _put(path: Path, data: bytes, mode: int) -> None:
    fresh = path.with_name(f"{path.name}.new")
    with contextlib.suppress(FileNotFoundError):
        fresh.unlink()
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
    fresh.replace(path)
