"""Signing keys made from a seed: the same seed, index and algorithm give the same key on every run.

Both kinds sign deterministically (Ed25519: RFC 8032; ES256: the nonce of RFC 6979), so a vault has one
possible byte sequence. ES256 signatures are raw r || s with the smaller of the two valid s.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from nacl.bindings import crypto_sign, crypto_sign_seed_keypair

Algorithm = Literal["Ed25519", "ES256"]

# The DER of an Ed25519 SubjectPublicKeyInfo is this, then the 32 bytes of the key (RFC 8410 section 4).
ED25519_SPKI_PREFIX = bytes.fromhex("302a300506032b6570032100")
# The order of the group of P-256 (FIPS 186-4, D.1.2.3).
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key of the vault with its public names."""

    key_id: str
    """16 hex digits: the first 8 bytes of the SHA-256 of the SPKI."""
    algorithm: Algorithm
    cose_algorithm: int
    """-8 for EdDSA, -7 for ES256 (RFC 9053 section 2)."""
    spki: bytes
    """The public key as SubjectPublicKeyInfo, DER."""
    sign: Callable[[bytes], bytes]
    """Give the 64-byte signature of a message."""


@lru_cache(maxsize=256)
def signing_key(seed: int, index: int, algorithm: Algorithm) -> SigningKey:
    """Make the vault's key number `index`, counted from 0 in order of activation."""
    secret = hashlib.sha256(f"signing key {seed} {index} {algorithm}".encode()).digest()
    return ed25519_key(secret) if algorithm == "Ed25519" else es256_key(secret)


def ed25519_key(secret: bytes) -> SigningKey:
    """Make an Ed25519 key from 32 secret bytes."""
    public, private = crypto_sign_seed_keypair(secret)

    def sign(message: bytes) -> bytes:
        return crypto_sign(message, private)[:64]

    spki = ED25519_SPKI_PREFIX + public
    return SigningKey(fingerprint(spki)[:16], "Ed25519", -8, spki, sign)


def es256_key(secret: bytes) -> SigningKey:
    """Make a P-256 key from 32 secret bytes."""
    private = ec.derive_private_key(1 + int.from_bytes(secret) % (P256_ORDER - 1), ec.SECP256R1())
    scheme = ec.ECDSA(SHA256(), deterministic_signing=True)

    def sign(message: bytes) -> bytes:
        r, s = decode_dss_signature(private.sign(message, scheme))
        return r.to_bytes(32) + min(s, P256_ORDER - s).to_bytes(32)

    spki = private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return SigningKey(fingerprint(spki)[:16], "ES256", -7, spki, sign)


def fingerprint(spki: bytes) -> str:
    """Give the SHA-256 of a public key's DER in hex."""
    return hashlib.sha256(spki).hexdigest()
