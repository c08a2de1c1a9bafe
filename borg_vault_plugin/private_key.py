"""Recognising private-key material, so that it never enters an archive; what was found is named, never shown."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Iterator

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_der_private_key, load_der_public_key

PEM = re.compile(r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----")
BASE64 = re.compile(r"[A-Za-z0-9+/_-]{60,}")
HEXADECIMAL = re.compile(r"\\x((?:[0-9a-fA-F]{2}){40,})")  # bytea as PostgreSQL prints it
SMALLEST_KEY_BYTES = 40  # Ed25519 in PKCS#8 has 48
HEADER_CHARACTERS = 8
LONGEST_TEXT = 90_000  # of a SEQUENCE whose length has two octets


def private_key_in(value: object) -> str | None:
    """Say what private key a value holds, or None: PEM, DER in base64 or hex (RFC 5958, 5915), a JWK (RFC 7517).

    Looks into mappings and lists, and into text that is JSON.
    """
    if isinstance(value, dict):
        if "kty" in value and "d" in value:
            return "a JWK with a private part"
        return _first(value.values())
    if isinstance(value, list):
        return _first(value)
    return _in_text(value) if isinstance(value, str) else None


def is_public_key(text: str) -> bool:
    """Say whether a text is a public key: SubjectPublicKeyInfo (RFC 5280, 4.1) in DER and base64."""
    try:
        load_der_public_key(base64.b64decode(text, validate=True))
    except (ValueError, UnsupportedAlgorithm):
        return False
    return True


def _first(values: Iterable[object]) -> str | None:
    return next((kind for value in values if (kind := private_key_in(value))), None)


def _in_text(text: str) -> str | None:
    if PEM.search(text):
        return "a private key in PEM"
    if any(map(_is_private_der, _der_candidates(text))):
        return "a private key in DER"
    return private_key_in(_json(text)) if "{" in text else None


def _der_candidates(text: str) -> Iterator[bytes]:
    """Give every piece of a text that could be DER: a SEQUENCE of a plausible length, wherever it begins."""
    for match in HEXADECIMAL.finditer(text):
        yield bytes.fromhex(match[1])
    # Lines are joined, as base64 is often broken; both alphabets count.
    joined = "".join(text.split()).translate(str.maketrans("-_", "+/"))
    for run in BASE64.finditer(joined):
        # The first byte of a SEQUENCE, 0x30, makes an M; a name may stand right before it.
        for start in (place for place, letter in enumerate(run[0]) if letter == "M"):
            yield from _sequence(run[0][start : start + LONGEST_TEXT])


def _sequence(text: str) -> Iterator[bytes]:
    if len(text) < HEADER_CHARACTERS:
        return
    header = base64.b64decode(text[:HEADER_CHARACTERS])
    if header[0] != 0x30:
        return
    octets = header[1] & 0x7F if header[1] & 0x80 else 0
    length = int.from_bytes(header[2 : 2 + octets]) if octets else header[1]
    whole = 2 + octets + length
    if SMALLEST_KEY_BYTES <= whole <= len(text) * 3 // 4 and octets <= 2:
        characters = -(-whole * 4 // 3)
        with_padding = text[:characters] + "=" * (-characters % 4)
        yield base64.b64decode(with_padding)[:whole]


def _is_private_der(data: bytes) -> bool:
    try:
        load_der_private_key(data, password=None)
    except TypeError:  # encrypted: a private key all the same
        return True
    except (ValueError, UnsupportedAlgorithm, binascii.Error):
        return False
    return True


def _json(text: str) -> object:
    try:
        return msgspec.json.decode(text[text.find("{") : text.rfind("}") + 1])
    except (msgspec.DecodeError, RecursionError):
        return None
