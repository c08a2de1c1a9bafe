"""Merkle trees over the leaves of a read log, in both eras.

v2 is the tree of RFC 9162 section 2.1.1: a leaf is SHA-256(0x00 || envelope), a node SHA-256(0x01 || left || right),
and a last node without a sibling goes up as it is. v1 hashes the envelope as it is and the two children's digests
as one text of 128 hex digits, and pairs a last node without a sibling with itself. No leaves at all give SHA-256("").
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable

from borg_vault_plugin.chain.rows import Era

EMPTY_ROOT = hashlib.sha256(b"").digest()


def leaf_hash(era: Era, envelope: bytes) -> bytes:
    """Give the digest of a leaf, 32 bytes (v2: RFC 9162 section 2.1.1)."""
    return hashlib.sha256(b"\0" + envelope if era == "v2" else envelope).digest()


def node_hash(era: Era, left: bytes, right: bytes) -> bytes:
    """Give the digest of an inner node, 32 bytes (v2: RFC 9162 section 2.1.1)."""
    return hashlib.sha256(b"\1" + left + right if era == "v2" else (left.hex() + right.hex()).encode()).digest()


class Tree:
    """A tree that grows leaf by leaf and tells its root at any time in O(log n).

    It holds the roots of the perfect subtrees that the leaves fill, largest first: one for each 1 in the binary
    form of the size.
    """

    def __init__(self, era: Era) -> None:
        self._era = era
        self._subtrees: list[tuple[int, bytes]] = []
        self.size = 0

    def append(self, leaf: bytes) -> None:
        """Add the digest of the next leaf."""
        self.size += 1
        height, digest = 0, leaf
        while self._subtrees and self._subtrees[-1][0] == height:
            digest = node_hash(self._era, self._subtrees.pop()[1], digest)
            height += 1
        self._subtrees.append((height, digest))

    def root(self) -> bytes:
        """Give the root over all leaves so far (v2: MTH of RFC 9162 section 2.1.1)."""
        if not self._subtrees:
            return EMPTY_ROOT
        (height, digest), *larger = reversed(self._subtrees)
        for left_height, left in larger:
            digest = node_hash(self._era, left, self._raised(digest, left_height - height))
            height = left_height + 1
        return digest

    def _raised(self, digest: bytes, levels: int) -> bytes:
        """Bring a node that has no sibling on some levels up to its next one."""
        if self._era == "v1":
            for _ in range(levels):
                digest = node_hash("v1", digest, digest)
        return digest


def roots_at(era: Era, leaves: Iterable[bytes], sizes: Collection[int]) -> dict[int, bytes]:
    """Give the roots over the first so many leaves, for each of the sizes that the log reaches.

    One pass over the leaves' digests, and O(log n) for each size.
    """
    wanted, tree = frozenset(sizes), Tree(era)
    roots = {0: tree.root()} if 0 in wanted else {}
    for leaf in leaves:
        tree.append(leaf)
        if tree.size in wanted:
            roots[tree.size] = tree.root()
    return roots


def is_prefix(era: Era, leaves: Iterable[bytes], size: int, root: bytes) -> bool:
    """Tell whether the tree of this size and root is what this log once was.

    The question that a consistency proof answers (RFC 9162 section 2.1.4), here with all leaves at hand.
    """
    return roots_at(era, leaves, [size]).get(size) == root
