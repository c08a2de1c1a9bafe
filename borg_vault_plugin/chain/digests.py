"""Finding something by a text among very many, in a few bytes for each.

Keys are hashed with a secret of this run, so whoever wrote a dump cannot have prepared keys that collide in it.
"""

from __future__ import annotations

import hashlib
from array import array
from bisect import bisect_left
from collections.abc import Iterable


def digest_of(key: str, secret: bytes) -> int:
    """Give 64 bits that stand for a key as long as `secret` is the same."""
    data = key.encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8, key=secret).digest())


class DigestIndex:
    """Tells at which places, counted from 0, a key stood among the keys that it was made from."""

    def __init__(self, keys: Iterable[str], secret: bytes) -> None:
        found = array("Q", (digest_of(key, secret) for key in keys))
        self._places = array("L", sorted(range(len(found)), key=found.__getitem__))
        self._digests = array("Q", (found[place] for place in self._places))

    def __len__(self) -> int:
        return len(self._places)

    def places(self, digest: int) -> list[int]:
        """Give the places of the key with this digest, in their order; hardly ever another key's is among them."""
        first = last = bisect_left(self._digests, digest)
        while last < len(self._digests) and self._digests[last] == digest:
            last += 1
        return self._places[first:last].tolist()

    def absent(self, digests: Iterable[int]) -> list[int]:
        """Give the places whose keys have none of these digests, in their order."""
        known = frozenset(digests)
        pairs = zip(self._places, self._digests, strict=True)
        return sorted(place for place, digest in pairs if digest not in known)


def first_repeated(digests: Iterable[int]) -> int | None:
    """Give the first place whose digest stood somewhere before it; None if all are different."""
    seen: set[int] = set()
    for place, digest in enumerate(digests):
        if digest in seen:
            return place
        seen.add(digest)
    return None
