"""Signing keys of the registry, parsed once, and the verification of signatures with them.

The algorithm follows from the kind of the key, never from what a header says; the header must merely agree.
Nothing that a dump holds makes these functions raise.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key
from nacl.bindings import crypto_sign_open
from nacl.exceptions import CryptoError

from borg_vault_plugin.chain.rows import RegistryRow
from borg_vault_plugin.chain.times import milliseconds

KeyKind = Literal["Ed25519", "P-256", "unsupported", "unparseable"]
Outcome = Literal["valid", "invalid", "wrong_algorithm", "unsupported"]

# The DER of an Ed25519 SubjectPublicKeyInfo is this, then the 32 bytes of the key (RFC 8410 section 4).
ED25519_SPKI = bytes.fromhex("302a300506032b6570032100")
# RFC 9053 section 2 (EdDSA -8, ES256 -7) and RFC 9864 section 2 (Ed25519 -19, ESP256 -9).
HEADER_ALGORITHMS: dict[KeyKind, tuple[int, int]] = {"Ed25519": (-8, -19), "P-256": (-7, -9)}
REGISTRY_ALGORITHMS: dict[KeyKind, str] = {"Ed25519": "ed25519", "P-256": "es256"}
LARGEST_SPKI_TEXT = 65_536
SIGNATURE_BYTES = 64
KEY_ID_DIGITS = 16
ES256 = ec.ECDSA(SHA256())


@dataclass(frozen=True, slots=True)
class RegistryKey:
    """One signing key with its validity window in milliseconds since 1970, both ends inclusive."""

    key_id: str
    kind: KeyKind
    spki: bytes
    """The public key as SubjectPublicKeyInfo, DER; empty when the column is no base64."""
    fingerprint: str
    """SHA-256 of the SPKI in hex; its first 16 digits should be the key id."""
    algorithm: object
    """What the registry says the algorithm is."""
    activated: int | None
    """None: no lower bound, or unreadable."""
    retired: int | None
    """None: no upper bound, or unreadable."""
    window_readable: bool

    @property
    def names_itself(self) -> bool:
        """Whether the key id is the beginning of the key's own fingerprint."""
        return len(self.key_id) == KEY_ID_DIGITS and self.fingerprint.startswith(self.key_id)

    @property
    def algorithm_agrees(self) -> bool:
        """Whether the registry's algorithm is that of the key itself."""
        expected = REGISTRY_ALGORITHMS.get(self.kind)
        return expected is None or (isinstance(self.algorithm, str) and self.algorithm.lower() == expected)


def registry_key(row: RegistryRow) -> RegistryKey | None:
    """Parse a row of the registry; None when it has no key id, so that nothing can refer to it."""
    if not isinstance(row.key_id, str):
        return None
    spki = _spki(row.public_key)
    activated, retired = milliseconds(row.activated_at), milliseconds(row.retired_at)
    return RegistryKey(
        key_id=row.key_id,
        kind=_kind(spki),
        spki=spki,
        fingerprint=hashlib.sha256(spki).hexdigest(),
        algorithm=row.algorithm,
        activated=activated,
        retired=retired,
        window_readable=(activated is not None or row.activated_at is None)
        and (retired is not None or row.retired_at is None),
    )


def verify_signature(key: RegistryKey, header_alg: object, to_be_signed: bytes, signature: bytes) -> Outcome:
    """Verify a signature: Ed25519 (RFC 8032 section 5.1.7), or ES256 as raw r || s (RFC 9053 section 2.1)."""
    if key.kind == "unsupported":
        return "unsupported"
    if key.kind == "unparseable":
        return "invalid"
    # A bool is no algorithm, though Python counts it among the integers.
    if header_alg.__class__ is not int or header_alg not in HEADER_ALGORITHMS[key.kind]:
        return "wrong_algorithm"
    if len(signature) != SIGNATURE_BYTES:
        return "invalid"
    genuine = _es256 if key.kind == "P-256" else _ed25519
    return "valid" if genuine(key, to_be_signed, signature) else "invalid"


def _ed25519(key: RegistryKey, message: bytes, signature: bytes) -> bool:
    try:
        crypto_sign_open(signature + message, key.spki[len(ED25519_SPKI) :])
    except (CryptoError, ValueError):
        return False
    return True


def _es256(key: RegistryKey, message: bytes, signature: bytes) -> bool:
    public = _p256(key.spki)
    if public is None:
        return False
    r, s = int.from_bytes(signature[:32]), int.from_bytes(signature[32:])
    try:
        public.verify(encode_dss_signature(r, s), message, ES256)
    except (InvalidSignature, ValueError):
        return False
    return True


def _spki(column: object) -> bytes:
    if not isinstance(column, str) or len(column) > LARGEST_SPKI_TEXT:
        return b""
    try:
        return base64.b64decode(column, validate=True)
    except (ValueError, binascii.Error):
        return b""


def _kind(spki: bytes) -> KeyKind:
    if spki.startswith(ED25519_SPKI) and len(spki) == len(ED25519_SPKI) + 32:
        return "Ed25519"
    try:
        load_der_public_key(spki)
    except UnsupportedAlgorithm:
        return "unsupported"
    except (ValueError, TypeError):
        return "unparseable"
    return "unsupported" if _p256(spki) is None else "P-256"


@lru_cache(maxsize=1024)
def _p256(spki: bytes) -> ec.EllipticCurvePublicKey | None:
    """Load a key that can be loaded; not kept in `RegistryKey`, which can be sent to another process."""
    key = load_der_public_key(spki)
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
        return key
    return None
