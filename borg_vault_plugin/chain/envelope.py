"""Signed envelopes: COSE_Sign1 (RFC 9052 section 4.2) around one CBOR item (RFC 8949).

Whatever the bytes are, decoding ends in bounded time and memory: only definite lengths, nothing nested deeper than
a readable row can be, no key twice in a map, and of all tags only those of large integers have a meaning.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from functools import cached_property
from io import BytesIO
from typing import Final, NoReturn

import cbor2
import msgspec

from borg_vault_plugin.chain.rows import MAX_DEPTH, Era

COSE_SIGN1_TAG = 18
# Labels of the protected header: RFC 9052 section 3.1, RFC 9597 (CWT claims), and two private ones.
ALGORITHM, CONTENT_TYPE, KEY_ID, CWT_CLAIMS, CHAIN, ACTOR = 1, 3, 4, 15, -65537, -65539
LARGEST_HEADER_BYTES = 16_384
DIGEST_BYTES = 32
UNSIGNED_KEY_ID = bytes(8)
SIGNATURE_CONTEXT = b"\x84\x6aSignature1"

# Tags with a meaning to the decoder: references into the document, patterns, times, fractions, sets and the like.
REFUSED_TAGS = (0, 1, 4, 5, 25, 28, 29, 30, 35, 36, 37, 100, 256, 258, 260, 261, 1004, 43000, 55799)
# Follows what must be a single item: no writer of a dump knows it, so nothing can hide behind that item.
_NONCE = secrets.token_bytes(16)
_GUARD: Final = b"\x50" + _NONCE


class Undecodable:
    """The value of bytes that are not exactly one acceptable CBOR item."""

    def __repr__(self) -> str:
        return "undecodable"


UNDECODABLE: Final = Undecodable()


class Envelope(msgspec.Struct, frozen=True, dict=True):
    """A COSE_Sign1, taken apart; header and content are not yet known to be what they should be."""

    protected: bytes
    payload: bytes
    signature: bytes
    header: dict[object, object]
    """The decoded protected header; empty when it is no map."""

    @cached_property
    def content(self) -> object:
        """The decoded payload."""
        return single_item(self.payload)

    @property
    def algorithm(self) -> object:
        """What the header says the algorithm is."""
        return self.header.get(ALGORITHM)

    @property
    def content_type(self) -> object:
        """What the header says the payload is."""
        return self.header.get(CONTENT_TYPE)

    @property
    def key_id(self) -> bytes | None:
        """The header's key id; None when there is none, or no bytes."""
        value = self.header.get(KEY_ID)
        return value if isinstance(value, bytes) else None

    @property
    def place(self) -> tuple[int, bytes | None] | None:
        """Position and previous digest of the chain claim; None when there is no well-typed claim."""
        claim = self.header.get(CHAIN)
        if not isinstance(claim, dict):
            return None
        position, previous = claim.get(1), claim.get(2, UNDECODABLE)
        if position.__class__ is not int:
            return None
        if previous is None or (isinstance(previous, bytes) and len(previous) == DIGEST_BYTES):
            return position, previous
        return None

    @property
    def actor(self) -> object:
        """The actor claim; None when there is none."""
        claims = self.header.get(CWT_CLAIMS)
        return claims.get(ACTOR) if isinstance(claims, dict) else None

    @property
    def predicate(self) -> dict[object, object] | None:
        """The predicate of the in-toto Statement; None when the payload is no such thing."""
        predicate = self.content.get("predicate") if isinstance(self.content, dict) else None
        return predicate if isinstance(predicate, dict) else None

    @property
    def subject_digest(self) -> bytes | None:
        """The SHA-256 that the Statement's only subject names; None when there is no such thing."""
        subjects = self.content.get("subject") if isinstance(self.content, dict) else None
        subject = subjects[0] if isinstance(subjects, list) and len(subjects) == 1 else None
        digests = subject.get("digest") if isinstance(subject, dict) else None
        digest = digests.get("sha256") if isinstance(digests, dict) else None
        return digest if isinstance(digest, bytes) else None


def decode(data: bytes, era: Era) -> Envelope | None:
    """Take an envelope apart; None when it is no tag 18 of [bstr, any, bstr, bstr] (RFC 9052 section 4.2).

    The second era allows only the shortest form of the tag.
    """
    if era == "v2" and not data.startswith(b"\xd2"):
        return None
    parts = _plain_parts(data) or _parts(data)
    if parts is None:
        return None
    protected, payload, signature = parts
    header = single_item(protected) if len(protected) <= LARGEST_HEADER_BYTES else None
    return Envelope(protected, payload, signature, header if isinstance(header, dict) else {})


def to_be_signed(envelope: Envelope) -> bytes:
    """Give the Sig_structure with empty external data (RFC 9052 section 4.4)."""
    protected, payload = envelope.protected, envelope.payload
    return b"".join((SIGNATURE_CONTEXT, _head(len(protected)), protected, b"\x40", _head(len(payload)), payload))


def single_item(data: bytes) -> object:
    """Decode bytes that are exactly one CBOR item; UNDECODABLE when they are anything else."""
    items = _loads(b"\x82" + data + _GUARD)
    if isinstance(items, list) and items[1] == _NONCE:
        item: object = items[0]
        return item
    return UNDECODABLE


def _refuse(*_arguments: object) -> NoReturn:
    raise cbor2.CBORDecodeError


_REFUSALS: dict[int, Callable[..., object]] = dict.fromkeys(REFUSED_TAGS, _refuse)


class _Decoding(threading.local):
    """Each thread's decoder: making one takes longer than decoding a header with it."""

    def __init__(self) -> None:
        self.decoder = cbor2.CBORDecoder(
            BytesIO(),
            max_depth=MAX_DEPTH + 10,
            allow_indefinite=False,
            allow_duplicate_keys=False,
            semantic_decoders=_REFUSALS,
        )


_decoding = _Decoding()


def _loads(data: bytes) -> object:
    decoder = _decoding.decoder
    decoder.fp = BytesIO(data)
    try:
        value: object = decoder.decode()
    except (cbor2.CBORError, ValueError, TypeError, RecursionError, OverflowError, MemoryError):
        return UNDECODABLE
    return value


def _parts(data: bytes) -> tuple[bytes, bytes, bytes] | None:
    tag = single_item(data)
    if not isinstance(tag, cbor2.CBORTag) or tag.tag != COSE_SIGN1_TAG:
        return None
    match tag.value:
        case [bytes(protected), _, bytes(payload), bytes(signature)]:
            return protected, payload, signature
        case _:
            return None


def _plain_parts(data: bytes) -> tuple[bytes, bytes, bytes] | None:
    """Take apart what writers make: the short tag, short lengths, an empty unprotected header."""
    if not data.startswith(b"\xd2\x84"):
        return None
    try:
        protected, at = _byte_string(data, 2)
        if data[at] != 0xA0:
            return None
        payload, at = _byte_string(data, at + 1)
        signature, at = _byte_string(data, at)
    except (IndexError, ValueError):
        return None
    return (protected, payload, signature) if at == len(data) else None


def _byte_string(data: bytes, at: int) -> tuple[bytes, int]:
    """Give a byte string of fewer than 2^16 bytes and where it ends."""
    first = data[at]
    if first == 0x58:
        start = at + 2
        length = data[at + 1]
    elif first == 0x59:
        start = at + 3
        length = data[at + 1] << 8 | data[at + 2]
    elif 0x40 <= first < 0x58:
        start = at + 1
        length = first - 0x40
    else:
        raise ValueError(first)
    end = start + length
    if end > len(data):
        raise ValueError(end)
    return data[start:end], end


def _head(length: int) -> bytes:
    """Give the shortest head of a byte string (RFC 8949 section 4.2.1)."""
    if length < 24:
        return bytes((0x40 | length,))
    if length < 0x100:
        return bytes((0x58, length))
    if length < 0x10000:
        return b"\x59" + length.to_bytes(2)
    return b"\x5a" + length.to_bytes(4)
