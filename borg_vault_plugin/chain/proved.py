"""What an earlier verification proved, so that tonight's can do without the signatures below it.

An entry's envelope holds the hash of the one before it, so whoever proved the hash of a head has proved every
envelope up to it. Everything else about these entries is checked again; only the signature operation is left out.
"""

from __future__ import annotations

import secrets
from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field

from borg_vault_plugin.chain.digests import DigestIndex, digest_of

DIGEST_BYTES = 32


@dataclass(frozen=True, slots=True)
class Proved:
    """Heads of chains and single envelopes whose signatures an earlier good archive verified; a few bytes for each."""

    heads: DigestIndex
    positions: array[int]
    hashes: bytearray
    envelopes: DigestIndex
    secret: bytes = field(repr=False)
    """With which the digests are made."""

    def head(self, chain: int) -> tuple[int, str] | None:
        """Give position and hash of the proved head of the chain whose key has this digest."""
        for place in self.heads.places(chain)[-1:]:
            start = place * DIGEST_BYTES
            return self.positions[place], self.hashes[start : start + DIGEST_BYTES].hex()
        return None

    def __contains__(self, envelope_hash: object) -> bool:
        """Whether the signature of the envelope with this SHA-256, in hex, was verified."""
        return isinstance(envelope_hash, str) and bool(self.envelopes.places(digest_of(envelope_hash, self.secret)))


def proved(heads: Iterable[tuple[str, int, str]], envelopes: Iterable[str] = ()) -> Proved:
    """Remember proved heads as (chain key, position, hash in hex), and the SHA-256 of checkpoints' envelopes in hex.

    Raises ValueError for a head that is none.
    """
    secret, positions, hashes = secrets.token_bytes(16), array("q"), bytearray()

    def keys() -> Iterable[str]:
        for key, position, digest in heads:
            value = bytes.fromhex(digest)
            if len(value) != DIGEST_BYTES or position < 1:
                raise ValueError(f"no head of a chain: position {position}, hash of {len(value)} bytes")
            positions.append(position)
            hashes.extend(value)
            yield key

    return Proved(DigestIndex(keys(), secret), positions, hashes, DigestIndex(envelopes, secret), secret)
