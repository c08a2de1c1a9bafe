"""Trees are compared with the definition, written down once more in the slowest way."""

from __future__ import annotations

import hashlib
from typing import Literal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from borg_vault_plugin.chain.tree import Tree, is_prefix, leaf_hash, node_hash, roots_at

Era = Literal["v1", "v2"]

ERAS = pytest.mark.parametrize("era", ["v1", "v2"])
LOGS = st.lists(st.binary(max_size=8), max_size=200)
# The well-known test vectors of Certificate Transparency: eight leaves, and the root over the first one to eight.
PUBLISHED_LEAVES = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
PUBLISHED_ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def definition_v2(envelopes: list[bytes]) -> bytes:
    """MTH of RFC 9162 section 2.1.1, word for word."""
    if len(envelopes) < 2:
        return sha256(b"\0" + envelopes[0] if envelopes else b"")
    k = 1
    while k * 2 < len(envelopes):
        k *= 2
    return sha256(b"\1" + definition_v2(envelopes[:k]) + definition_v2(envelopes[k:]))


def definition_v1(envelopes: list[bytes]) -> bytes:
    if not envelopes:
        return sha256(b"")
    level = [sha256(envelope).hex() for envelope in envelopes]
    while len(level) > 1:
        if len(level) % 2:
            level.append(level[-1])
        level = [sha256((level[at] + level[at + 1]).encode()).hex() for at in range(0, len(level), 2)]
    return bytes.fromhex(level[0])


def definition(era: Era, envelopes: list[bytes]) -> bytes:
    return definition_v2(envelopes) if era == "v2" else definition_v1(envelopes)


def digests(era: Era, envelopes: list[bytes]) -> list[bytes]:
    return [leaf_hash(era, envelope) for envelope in envelopes]


@ERAS
@given(LOGS)
@example([b"same"] * 200)
def test_the_root_is_that_of_the_definition(era: Era, envelopes: list[bytes]) -> None:
    size = len(envelopes)
    assert roots_at(era, digests(era, envelopes), [size]) == {size: definition(era, envelopes)}


@ERAS
def test_the_root_of_every_prefix_is_that_of_the_definition(era: Era) -> None:
    envelopes = [number.to_bytes(2) for number in range(200)]
    roots = roots_at(era, digests(era, envelopes), range(201))
    assert roots == {size: definition(era, envelopes[:size]) for size in range(201)}


@ERAS
@given(LOGS)
def test_asking_for_a_root_changes_nothing(era: Era, envelopes: list[bytes]) -> None:
    asked, unasked = Tree(era), Tree(era)
    for digest in digests(era, envelopes):
        asked.append(digest)
        unasked.append(digest)
        assert asked.root() == asked.root()
    assert (asked.root(), asked.size) == (unasked.root(), len(envelopes))


def test_published_roots() -> None:
    leaves = [leaf_hash("v2", bytes.fromhex(text)) for text in PUBLISHED_LEAVES]
    roots = roots_at("v2", leaves, range(1, 9))
    assert [roots[size].hex() for size in range(1, 9)] == PUBLISHED_ROOTS


@ERAS
@given(st.sets(st.integers(-5, 20) | st.integers(10**30, 10**31)))
def test_sizes_that_the_log_does_not_reach_have_no_root(era: Era, sizes: set[int]) -> None:
    assert set(roots_at(era, [bytes(32)] * 12, sizes)) == {size for size in sizes if 0 <= size <= 12}


@ERAS
@given(LOGS, st.data())
def test_a_log_knows_what_it_once_was(era: Era, envelopes: list[bytes], data: st.DataObject) -> None:
    size = data.draw(st.integers(0, len(envelopes)))
    leaves, root = digests(era, envelopes), definition(era, envelopes[:size])
    assert is_prefix(era, leaves, size, root)
    assert not is_prefix(era, leaves, size, bytes(32))
    assert not is_prefix(era, leaves, len(envelopes) + 1, root)


@given(st.integers(1, 199))
def test_eras_differ_from_one_leaf_on(size: int) -> None:
    envelopes = [number.to_bytes(2) for number in range(size)]
    assert definition("v1", envelopes) != definition("v2", envelopes)


def test_a_leaf_cannot_be_passed_off_as_a_node_in_v2() -> None:
    left, right = leaf_hash("v2", b"left"), leaf_hash("v2", b"right")
    assert leaf_hash("v2", b"\1" + left + right) != node_hash("v2", left, right)
