"""The checker that needs nothing but Python: its signatures against those of a library, its texts, its command."""

import hashlib

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from atna.audit_check import Checkpoint, ed25519_verifies, key_id, parse_checkpoint, public_keys

ORDER = 2**252 + 27742317777372353535851937790883648493
# RFC 8032, section 7.1: tests 1 and 3.
VECTORS = [
    (
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
]


@pytest.mark.parametrize(("public", "message", "signature"), VECTORS, ids=["empty", "two octets"])
def test_the_vectors_of_the_standard(public, message, signature):
    assert ed25519_verifies(*(bytes.fromhex(text) for text in (public, message, signature)))
    assert not ed25519_verifies(bytes.fromhex(public), bytes.fromhex(message) + b"x", bytes.fromhex(signature))


def library_verifies(public, message, signature):
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def raw(private):
    return private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


@settings(max_examples=40, deadline=None)
@given(st.binary(min_size=32, max_size=32), st.binary(max_size=200), st.integers(0, 64 * 8 - 1))
def test_it_says_what_the_library_says(seed, message, bit):
    private = Ed25519PrivateKey.from_private_bytes(seed)
    public, signature = raw(private), private.sign(message)
    assert ed25519_verifies(public, message, signature)
    altered = bytearray(signature)
    altered[bit // 8] ^= 1 << bit % 8
    assert not ed25519_verifies(public, message, bytes(altered))
    turned = bytearray(public)
    turned[bit // 16] ^= 1 << bit % 8
    assert ed25519_verifies(bytes(turned), message, signature) is library_verifies(bytes(turned), message, signature)


def test_a_signature_has_one_form():
    private = Ed25519PrivateKey.from_private_bytes(bytes(32))
    signature = private.sign(b"text")
    larger = int.from_bytes(signature[32:], "little") + ORDER
    assert not ed25519_verifies(raw(private), b"text", signature[:32] + larger.to_bytes(32, "little"))
    assert not ed25519_verifies(raw(private), b"text", signature[:63])
    assert not ed25519_verifies(b"\xff" * 32, b"text", signature)
    assert not ed25519_verifies(raw(private), b"text", b"\xff" * 32 + signature[32:])


def test_keys_of_a_file_are_named_by_their_hash():
    keys = [Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32) for n in (1, 2)]
    pem = "".join(
        key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode() for key in keys
    )
    assert public_keys(pem) == {hashlib.sha256(raw(key)).hexdigest()[:32]: raw(key) for key in keys}
    for text in ("", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----"):
        with pytest.raises(ValueError, match="key"):
            public_keys(text)


def test_a_checkpoint_kept_as_text_is_the_same_again():
    private = Ed25519PrivateKey.from_private_bytes(bytes(32))
    unsigned = Checkpoint(3, "2026-11", 7, b"\x01" * 32, 1_795_999_000_123_456, key_id(raw(private)))
    signed = Checkpoint(*list(vars(unsigned).values())[:-1], private.sign(unsigned.text.encode()))
    assert "time 2026-11-30T00:36:40.123456Z\n" in signed.text
    assert parse_checkpoint(signed.complete) == signed
    assert parse_checkpoint("\r\n" + signed.complete.replace("\n", "\r\n")) == signed
    for wrong in (signed.text, signed.complete.replace("serial 3", "serial x"), signed.complete + "more\n"):
        with pytest.raises(ValueError, match="checkpoint"):
            parse_checkpoint(wrong)
