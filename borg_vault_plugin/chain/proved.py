"""What earlier archives hold of the chains: the heads that tonight's chains must lead through.

An entry's envelope holds the hash of the one before it, so whoever proved the hash of a head has proved every
envelope up to it. So a head serves twice: a chain that does not hold it any more was cut or rewritten, and below a
head whose signatures were verified then, tonight's can do without the signature operation. Nothing else is left out.
"""

from __future__ import annotations

import secrets
from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field

from borg_vault_plugin.chain.digests import DigestIndex, digest_of

DIGEST_BYTES = 32
UNKNOWN = bytes(DIGEST_BYTES)

Head = tuple[str, int, str | None]
"""Chain key, position, hash in hex; None where the stored hash was none."""


@dataclass(frozen=True, slots=True)
class ArchivedHeads:
    """The heads of all chains in one archive; a few bytes for each."""

    archive: str
    index: DigestIndex
    positions: array[int]
    hashes: bytearray

    def head(self, chain: int) -> tuple[int, str | None] | None:
        """Give position and hash of the head of the chain whose key has this digest."""
        for place in self.index.places(chain)[-1:]:
            start = place * DIGEST_BYTES
            found = bytes(self.hashes[start : start + DIGEST_BYTES])
            return self.positions[place], None if found == UNKNOWN else found.hex()
        return None


@dataclass(frozen=True, slots=True)
class Proved:
    """Heads of chains and single envelopes whose signatures an earlier good archive verified."""

    heads: ArchivedHeads
    envelopes: DigestIndex
    secret: bytes = field(repr=False)
    """With which the digests are made."""
    doubted: frozenset[int] = frozenset()
    """Digests of the keys of chains in which something had been found: their signatures are verified every time."""

    def head(self, chain: int) -> tuple[int, str] | None:
        """Give position and hash of the proved head of the chain whose key has this digest."""
        found = None if chain in self.doubted else self.heads.head(chain)
        return None if found is None or found[1] is None else (found[0], found[1])

    def __contains__(self, envelope_hash: object) -> bool:
        """Whether the signature of the envelope with this SHA-256, in hex, was verified."""
        return isinstance(envelope_hash, str) and bool(self.envelopes.places(digest_of(envelope_hash, self.secret)))


def archived_heads(archive: str, heads: Iterable[Head], secret: bytes) -> ArchivedHeads:
    """Remember the heads of an archive. Raises ValueError for a head that is none."""
    positions, hashes = array("q"), bytearray()

    def keys() -> Iterable[str]:
        for key, position, digest in heads:
            value = UNKNOWN if digest is None else bytes.fromhex(digest)
            if len(value) != DIGEST_BYTES or not 1 <= position < 1 << 63:
                raise ValueError(f"no head of a chain: position {position}, hash of {len(value)} bytes")
            positions.append(position)
            hashes.extend(value)
            yield key

    return ArchivedHeads(archive, DigestIndex(keys(), secret), positions, hashes)


def proved(heads: Iterable[Head], envelopes: Iterable[str] = ()) -> Proved:
    """Remember proved heads, and the SHA-256 of checkpoints' envelopes in hex. Raises ValueError."""
    secret = secrets.token_bytes(16)
    return Proved(archived_heads("", heads, secret), DigestIndex(envelopes, secret), secret)
