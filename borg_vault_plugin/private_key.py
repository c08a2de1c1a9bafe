"""Recognising private-key material, so that it never enters an archive; what was found is named, never shown."""

from __future__ import annotations

import base64
import binascii
import re

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_der_private_key, load_der_public_key

PEM = re.compile(r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----")
# Long enough for the smallest private key in DER (48 bytes: Ed25519 in PKCS#8).
BASE64 = re.compile(r"[A-Za-z0-9+/_-]{60,}={0,2}")


def private_key_in(text: str) -> str | None:
    """Say what private key a text holds, or None: PEM, DER in base64 (RFC 5958), a JWK with `d` (RFC 7517)."""
    if PEM.search(text):
        return "a private key in PEM"
    if any(_is_private_der(match[0]) for match in BASE64.finditer(text)):
        return "a private key in DER"
    return "a JWK with a private part" if _has_private_jwk(text) else None


def is_public_key(text: str) -> bool:
    """Say whether a text is a public key: SubjectPublicKeyInfo (RFC 5280, 4.1) in DER and base64."""
    try:
        load_der_public_key(base64.b64decode(text, validate=True))
    except (ValueError, UnsupportedAlgorithm):
        return False
    return True


def _is_private_der(text: str) -> bool:
    standard = text.rstrip("=").translate(str.maketrans("-_", "+/"))
    try:
        data = base64.b64decode(standard + "=" * (-len(standard) % 4))
        load_der_private_key(data, password=None)
    except TypeError:  # encrypted: a private key all the same
        return True
    except (ValueError, UnsupportedAlgorithm, binascii.Error):
        return False
    return True


def _has_private_jwk(text: str) -> bool:
    start = text.find("{")
    if start < 0:
        return False
    try:
        return _is_private_jwk(msgspec.json.decode(text[start : text.rfind("}") + 1]))
    except (msgspec.DecodeError, RecursionError):
        return False


def _is_private_jwk(value: object) -> bool:
    if isinstance(value, dict):
        return ("kty" in value and "d" in value) or any(map(_is_private_jwk, value.values()))
    return isinstance(value, list) and any(map(_is_private_jwk, value))
