"""The read log: for each org the leaves that administrators' reads left, and the signed tree heads over them.

v2 hashes leaves and nodes as RFC 9162 section 2.1.1 does. v1 hashes a leaf's envelope as it is, a node as the
text of its two children's digests in hex, and pairs the last odd node of a level with itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from borg_vault_plugin.sample.envelope import PLATFORM, Claim, sealed_claim, statement, uuid_bytes
from borg_vault_plugin.sample.plan import SECOND, Era, Plan, utc_text
from borg_vault_plugin.sample.rows import Json, Read, TreeHead, uuid7

READ_CONTEXTS = ("record.view", "record.list", "audit.export")


def sha256(data: bytes) -> bytes:
    """Give the SHA-256 of bytes."""
    return hashlib.sha256(data).digest()


def leaf_hash(era: Era, envelope: bytes) -> bytes:
    """Give the digest of a leaf."""
    return sha256(b"\0" + envelope if era == "v2" else envelope)


def tree_root(era: Era, leaves: Sequence[bytes]) -> bytes:
    """Give the root over leaf digests, level by level.

    An odd last node goes up as it is in v2, which gives the tree of RFC 9162; v1 pairs it with itself.
    """
    level = list(leaves)
    while len(level) > 1:
        odd = level[-1:] if len(level) % 2 else []
        if era == "v1":
            level, odd = level + odd, []
        level = [node(era, left, right) for left, right in zip(level[::2], level[1::2], strict=False)] + odd
    return level[0] if level else sha256(b"")


def node(era: Era, left: bytes, right: bytes) -> bytes:
    """Give the digest of an inner node."""
    return sha256(b"\1" + left + right if era == "v2" else (left.hex() + right.hex()).encode())


def read_times(plan: Plan) -> list[int]:
    """Give the times of an org's reads: evenly over the first load, then a tenth as many on each day."""
    count = plan.shape.reads_per_org
    times = [plan.start + plan.span * (number + 1) // (count + 1) for number in range(count)]
    daily = -(-count // 10)
    for day in plan.days:
        times += [day.start + (day.end - SECOND - day.start) * (number + 1) // (daily + 1) for number in range(daily)]
    return times


def head_sizes(plan: Plan) -> list[int]:
    """Give the tree sizes at which heads are signed: within the first load, at its end, and after each day."""
    count = plan.shape.reads_per_org
    daily = -(-count // 10)
    ends = [count + daily * number for number in range(len(plan.days) + 1)]
    return sorted({-(-count // 3), -(-count * 2 // 3), *ends}) if count else []


def leaves(plan: Plan, org: int) -> list[Read]:
    """Give the leaves of an org, each linked to the one before it."""
    rows: list[Read] = []
    previous: bytes | None = None
    for index, instant in enumerate(read_times(plan)):
        rows.append(leaf(plan, org, index, instant, previous))
        previous = bytes.fromhex(rows[-1].leaf_hash)
    return rows


def leaf(plan: Plan, org: int, index: int, instant: int, previous: bytes | None) -> Read:
    """Sign that an org's administrator read a record."""
    reader, record_id = plan.administrators[org], plan.record_id(record_read(plan, org, index, instant))
    context, filters = READ_CONTEXTS[index % 3], f"state={'ACTIVE' if index % 2 else 'RECORDED'}"
    predicate: Json = {
        "record_id": record_id,
        "reader_key_id": sha256(uuid_bytes(reader.key_id)).hex()[:32],
        "signed_checkpoint_ref": None,
        "traces": {"read_context": context, "filter_applied": filters},
    }
    claim = Claim(record_id, instant // SECOND, reader, index + 1, previous)
    payload = statement("org-read", "record_id", sha256(uuid_bytes(record_id)), predicate)
    envelope = sealed_claim(plan.key_at(instant), claim, payload)
    return Read(
        id=uuid7(instant, plan.shape.seed, "read", org, index),
        org_id=plan.org_id(org),
        caller_key_id=reader.key_id,
        record_id=record_id,
        filter_applied=filters,
        read_context=context,
        export_batch_id=plan.random_id("batch", org, index // 9) if context == "audit.export" else None,
        read_at=utc_text(instant),
        leaf_index=index,
        leaf_hash=leaf_hash(plan.shape.era, envelope).hex(),
        cose_sign1=envelope,
    )


def record_read(plan: Plan, org: int, index: int, instant: int) -> int:
    """Choose a record of an org that existed at an instant; the org's first if there was none yet."""
    existing = min(plan.shape.records, max(0, instant - plan.start) // plan.step)
    chosen = int.from_bytes(plan.noise("record read", org, index)[:6]) % max(1, existing // plan.shape.orgs)
    return min(chosen * plan.shape.orgs + org, plan.shape.records - 1)


def tree_heads(plan: Plan, org: int, rows: Sequence[Read]) -> list[TreeHead]:
    """Give the signed heads over an org's leaves."""
    digests = [bytes.fromhex(row.leaf_hash) for row in rows]
    times = read_times(plan)
    return [tree_head(plan, org, digests[:size], times[size - 1] + 1) for size in head_sizes(plan)]


def tree_head(plan: Plan, org: int, digests: Sequence[bytes], instant: int) -> TreeHead:
    """Sign the root over some leaves; some heads carry a witness's signature, which nobody can check."""
    size, org_id, key = len(digests), plan.org_id(org), plan.key_at(instant)
    root = tree_root(plan.shape.era, digests)
    predicate: Json = {
        "count": size,
        "range": {"start": 0, "end": size - 1},
        "chain_tip_hash": f"sha256:{root.hex()}",
    }
    claim = Claim(org_id, instant // SECOND, PLATFORM, size, None)
    payload = statement("vault-checkpoint", "org_admin_reads_root", root, predicate)
    witness = plan.noise("witness", org, size) if size % 2 else None
    return TreeHead(
        id=uuid7(instant, plan.shape.seed, "tree head", org, size),
        org_id=org_id,
        tree_size=size,
        root_hash=root.hex(),
        checkpoint_at=utc_text(instant),
        log_id=org_id,
        cose_sign1=sealed_claim(key, claim, payload),
        signing_key_id=None if key is None else key.key_id,
        witness_signature=witness * 4 if witness else None,
        witness_key_id=witness.hex()[:16] if witness else None,
        witness_cosigned_at=utc_text(instant + 1) if witness else None,
    )
