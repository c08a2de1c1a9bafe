"""What somebody who has the vault's own keys can do to it: no signature fails, so that no verifier sees it in one dump.

Every damage works on the rows of a vault, whether they are written as files or loaded into a Server's database.
Records are counted from 1 and leaves from 0; what is damaged was there before the vault grew.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import cbor2
import msgspec
from fix_tamper import CHAIN, Content, Header, Tampered, resealed

from borg_vault_plugin.sample import SampleVault
from borg_vault_plugin.sample.keys import SigningKey
from borg_vault_plugin.sample.readlog import leaf_hash, tree_root

SPARE = 99


@dataclass
class Ledger(Tampered):
    """The rows of a sample vault, whatever it has grown to, in the hands of somebody who has its keys."""

    sample: SampleVault

    def key(self, index: int) -> SigningKey:
        """Give one of the vault's keys by its number."""
        return self.sample.plan.key(index)

    def length(self, record: int) -> int:
        """Give how many entries a record has."""
        key = self.entry(record, 1).chain_key
        return sum(row.chain_key == key for row in self.rows.audit_vault)

    def checkpoints(self, record: int) -> list[int]:
        """Give the places of a record's checkpoints in their table."""
        key = self.entry(record, 1).chain_key
        return [place for place, row in enumerate(self.rows.vault_checkpoints) if row.record_id == key]

    def leaves(self, org: int) -> list[int]:
        """Give the places of an org's leaves in their table."""
        return places(self.rows.org_admin_reads, self.sample.plan.org_id(org))

    def heads(self, org: int) -> list[int]:
        """Give the places of an org's tree heads in their table."""
        return places(self.rows.org_admin_reads_checkpoints, self.sample.plan.org_id(org))


def places(rows: Sequence[Any], org_id: str) -> list[int]:
    return [place for place, row in enumerate(rows) if row.org_id == org_id]


def ledger(sample: SampleVault) -> Ledger:
    """Give the rows of a vault as it is now."""
    return Ledger(copy.deepcopy(sample.rows()), sample.plan.shape.era, "Ed25519", sample)


def drop(rows: list[Any], unwanted: Callable[[Any], bool]) -> None:
    """Delete rows."""
    rows[:] = [row for row in rows if not unwanted(row)]


def cut(vault: Ledger, record: int = 3, *, to: int = 4) -> None:
    """Cut the tail of a chain, with every checkpoint that would miss it."""
    key = vault.entry(record, 1).chain_key
    drop(vault.rows.audit_vault, lambda row: row.chain_key == key and row.chain_position > to)
    drop(vault.rows.vault_checkpoints, lambda row: row.record_id == key and row.chain_position > to)


def delete(vault: Ledger, record: int = 2) -> None:
    """Delete a chain, with its checkpoints."""
    key = vault.entry(record, 1).chain_key
    drop(vault.rows.audit_vault, lambda row: row.chain_key == key)
    drop(vault.rows.vault_checkpoints, lambda row: row.record_id == key)


def cut_schemas(vault: Ledger) -> None:
    """Cut the tail of a chain that has no record."""
    key = max(row.chain_key for row in vault.rows.audit_vault if row.record_id is None)
    gone = [row for row in vault.rows.audit_vault if row.chain_key == key and row.chain_position > 1]
    drop(vault.rows.audit_vault, lambda row: row in gone)
    hashes = {row.payload_hash for row in gone}
    drop(vault.rows.vault_checkpoints, lambda row: row.payload_hash in hashes)


def rewrite(vault: Ledger, record: int = 4, *, position: int = 3) -> None:
    """Rewrite an old entry, and sign everything anew that follows from it."""
    payload = {**vault.entry(record, position).payload, "checks": ["all is well"]}

    def change(_: Header, content: Content) -> None:
        content["predicate"]["payload"]["checks"] = ["all is well"]

    vault.bend(record, position, payload=payload)
    vault.reseal(record, position, change)
    for later in range(position + 1, vault.length(record) + 1):
        relink(vault, record, later)
    for place in vault.checkpoints(record):
        vouch_anew(vault, record, place)


def relink(vault: Ledger, record: int, position: int) -> None:
    previous = vault.entry(record, position - 1).payload_hash
    vault.bend(record, position, previous_hash=previous)
    vault.reseal(record, position, lambda header, _: header[CHAIN].update({2: bytes.fromhex(previous)}))


def vouch_anew(vault: Ledger, record: int, place: int) -> None:
    tip = vault.entry(record, vault.rows.vault_checkpoints[place].chain_position).payload_hash
    vault.bend_row("vault_checkpoints", place, payload_hash=tip)
    vault.reseal_checkpoint(place, lambda _, content: content["predicate"].update(chain_tip_hash=f"sha256:{tip}"))


def forget_reads(vault: Ledger, org: int = 0, *, kept: int = 4) -> None:
    """Cut the tail of a read log, with every tree head that would miss it."""
    org_id = vault.sample.plan.org_id(org)
    drop(vault.rows.org_admin_reads, lambda row: row.org_id == org_id and row.leaf_index >= kept)
    drop(vault.rows.org_admin_reads_checkpoints, lambda row: row.org_id == org_id and row.tree_size > kept)


def forget_every_read(vault: Ledger) -> None:
    """Delete a whole read log."""
    forget_reads(vault, kept=0)


def rewrite_reads(vault: Ledger, org: int = 0, *, leaf: int = 1) -> None:
    """Rewrite who read what, and sign everything anew that follows from it."""
    rows, previous = vault.rows.org_admin_reads, b""
    for index, place in enumerate(vault.leaves(org)):
        if index == leaf:
            rows[place] = msgspec.structs.replace(rows[place], filter_applied="nothing")
        if index >= leaf:
            rows[place] = read_anew(vault, rows[place], previous if index > leaf else None)
        previous = bytes.fromhex(rows[place].leaf_hash)
    for place in vault.heads(org):
        sum_up_anew(vault, org, place)


def read_anew(vault: Ledger, row: Any, previous: bytes | None) -> Any:
    def change(header: Header, content: Content) -> None:
        content["predicate"]["traces"]["filter_applied"] = row.filter_applied
        header[CHAIN].update({} if previous is None else {2: previous})

    envelope = resealed(row, change, signer_of(vault, row))
    return msgspec.structs.replace(row, cose_sign1=envelope, leaf_hash=leaf_hash(vault.era, envelope).hex())


def sum_up_anew(vault: Ledger, org: int, place: int) -> None:
    heads = vault.rows.org_admin_reads_checkpoints
    rows = [vault.rows.org_admin_reads[leaf] for leaf in vault.leaves(org)][: heads[place].tree_size]
    root = tree_root(vault.era, [bytes.fromhex(row.leaf_hash) for row in rows])

    def change(_: Header, content: Content) -> None:
        content["predicate"]["chain_tip_hash"] = f"sha256:{root.hex()}"
        content["subject"][0]["digest"]["sha256"] = root

    envelope = resealed(heads[place], change, vault.signer(heads[place]))
    heads[place] = msgspec.structs.replace(heads[place], root_hash=root.hex(), cose_sign1=envelope)


def signer_of(vault: Ledger, row: Any) -> SigningKey:
    """Find the key that a leaf's header names; it has no column for it."""
    named = cbor2.loads(cbor2.loads(row.cose_sign1).value[0])[4].hex()
    return next(key for key in map(vault.key, range(9)) if key.key_id == named)


def add_spare_key(vault: Ledger) -> None:
    """Register a key that signs nothing, so that whatever becomes of it bends nothing else."""
    vault.register(vault.key(SPARE))


def add_retired_key(vault: Ledger) -> None:
    """Register such a key, retired long ago."""
    since = vault.rows.vault_signing_keys[0].activated_at
    vault.register(vault.key(SPARE), status="retired", retired_at=since)


def change_key(**columns: object) -> Callable[[Ledger], None]:
    """Make the damage that changes columns of the spare key."""

    def change(vault: Ledger) -> None:
        vault.bend_row("vault_signing_keys", len(vault.rows.vault_signing_keys) - 1, **columns)

    return change


def exchange_key(vault: Ledger) -> None:
    """Put another public key under the spare key's name."""
    vault.bend_row("vault_signing_keys", -1, public_key=vault.rows.vault_signing_keys[0].public_key)


def remove_key(vault: Ledger) -> None:
    """Remove the spare key."""
    vault.rows.vault_signing_keys.pop()


def forget_statement(vault: Ledger) -> None:
    """Delete a signed statement about a key."""
    assert vault.rows.vault_key_statements is not None
    vault.rows.vault_key_statements.pop()
