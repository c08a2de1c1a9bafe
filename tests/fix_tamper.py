"""A small genuine vault to bend in one place, and what a verification of it then reports.

Record 1 (and every odd one) has no checkpoint, so its last entry can be bent without anything else noticing.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import cbor2
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from borg_vault_plugin.chain.proved import Proved
from borg_vault_plugin.chain.verification import Past, Verification, verify_directory
from borg_vault_plugin.sample import RegisteredKey, Rows, SampleVault, VaultShape, write_rows
from borg_vault_plugin.sample.envelope import sealed
from borg_vault_plugin.sample.keys import Algorithm, SigningKey, fingerprint, signing_key

Era = Literal["v1", "v2"]
Header = dict[Any, Any]
Content = dict[str, Any]
Table = Literal["audit_vault", "vault_checkpoints", "vault_signing_keys"]

SEED = 7
UNREGISTERED = 99
CHAIN, CWT, ACTOR = -65537, 15, -65539


@dataclass
class Tampered:
    """The rows of a vault, to be changed; `jobs`, `anchors` and the like are for whoever verifies it."""

    rows: Rows
    era: Era
    algorithm: Algorithm

    def key(self, index: int) -> SigningKey:
        """Give one of the vault's keys by its number; UNREGISTERED is one that it has never had."""
        return signing_key(SEED, index, self.algorithm)

    @property
    def anchor(self) -> str:
        """The first key, as somebody would pin it."""
        return f"sha256:{fingerprint(self.key(0).spki)}"

    def place(self, record: int, position: int) -> int:
        """Find an entry of a record, both counted from 1 (0 is the platform's chain), in its table."""
        keys = list(dict.fromkeys(row.chain_key for row in self.rows.audit_vault))
        found = [n for n, row in enumerate(self.rows.audit_vault) if row.chain_key == keys[record]]
        return found[position - 1]

    def entry(self, record: int, position: int) -> Any:
        """Give an entry."""
        return self.rows.audit_vault[self.place(record, position)]

    def bend(self, record: int, position: int, **columns: Any) -> None:
        """Change columns of an entry, and nothing else."""
        self.bend_row("audit_vault", self.place(record, position), **columns)

    def bend_row(self, table: Table, place: int, **columns: Any) -> None:
        """Change columns of a row."""
        rows: list[Any] = getattr(self.rows, table)
        rows[place] = msgspec.structs.replace(rows[place], **columns)

    def put_envelope(self, record: int, position: int, envelope: bytes) -> None:
        """Give an entry another envelope and the hash of that."""
        self.bend(record, position, cose_sign1=envelope, payload_hash=hashlib.sha256(envelope).hexdigest())

    def reseal(self, record: int, position: int, change: Callable[[Header, Content], object], key: int = -1) -> None:
        """Have an entry signed anew with something changed in it, by its own key or another of the vault's."""
        row = self.entry(record, position)
        signer = self.signer(row) if key < 0 else self.key(key)
        self.put_envelope(record, position, resealed(row, change, signer))

    def reseal_checkpoint(self, place: int, change: Callable[[Header, Content], object]) -> None:
        """Have a checkpoint signed anew with something changed in it."""
        row = self.rows.vault_checkpoints[place]
        self.bend_row("vault_checkpoints", place, cose_sign1=resealed(row, change, self.signer(row)))

    def signer(self, row: Any) -> SigningKey:
        """Find the key that a row names."""
        return next(key for key in map(self.key, range(9)) if key.key_id == row.signing_key_id)

    def sign_with(self, record: int, position: int, key: SigningKey | None) -> None:
        """Have an entry signed by a key of anybody's, or by none."""
        row = self.entry(record, position)
        self.put_envelope(record, position, resealed(row, naming(key), key))
        self.bend(record, position, signing_key_id=None if key is None else key.key_id)

    def sign_checkpoint_with(self, place: int, key: SigningKey | None) -> None:
        """Have a checkpoint signed by a key of anybody's, or by none."""
        row = self.rows.vault_checkpoints[place]
        key_id = None if key is None else key.key_id
        self.bend_row("vault_checkpoints", place, cose_sign1=resealed(row, naming(key), key), signing_key_id=key_id)

    def register(self, key: SigningKey, **columns: Any) -> None:
        """Add a key to the registry, valid from the beginning."""
        first = self.rows.vault_signing_keys[0]
        row = RegisteredKey(
            key.key_id,
            base64_text(key.spki),
            columns.pop("algorithm", key.algorithm),
            "active",
            first.activated_at,
            None,
            None,
        )
        self.rows.vault_signing_keys.append(msgspec.structs.replace(row, **columns))

    def verify(self, directory: Path, *, carried: Proved | None = None, **options: Any) -> Verification:
        """Write the vault and verify it; what is `carried` need not be verified again."""
        write_rows(directory, self.rows)
        past = None if carried is None else Past(carried.secret, proved=carried)
        return verify_directory(directory, **{"jobs": 1, "past": past, **options})


def resealed(row: Any, change: Callable[[Header, Content], object], signer: SigningKey | None) -> bytes:
    """Sign a row's envelope anew."""
    protected, _, payload, _ = cbor2.loads(row.cose_sign1).value
    header, content = unfrozen(cbor2.loads(protected)), unfrozen(cbor2.loads(payload))
    change(header, content)
    return sealed(signer, cbor2.dumps(header, canonical=True), cbor2.dumps(content, canonical=True))


def naming(key: SigningKey | None) -> Callable[[Header, Content], object]:
    """Make the change that names a key in a header."""
    labels = {1: -8, 4: bytes(8)} if key is None else {1: key.cose_algorithm, 4: bytes.fromhex(key.key_id)}
    return lambda header, _: header.update(labels)


def unfrozen(value: Any) -> Any:
    """Make maps and lists that can be changed."""
    if isinstance(value, dict):
        return {name: unfrozen(item) for name, item in value.items()}
    return [unfrozen(item) for item in value] if isinstance(value, list | tuple) else value


def base64_text(data: bytes) -> str:
    """Write bytes as a dump does."""
    return str(msgspec.json.decode(msgspec.json.encode(data)))


def unsupported_key() -> SigningKey:
    """Make a key of a kind that nobody here can verify with."""
    private = Ed448PrivateKey.generate()
    spki = private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return SigningKey(fingerprint(spki)[:16], "Ed25519", -8, spki, lambda _message: b"\1" * 64)


@cache
def genuine(era: Era, algorithm: Algorithm, unsigned: int = 0) -> Rows:
    """Make the rows of a vault once; whoever bends them takes a copy."""
    shape = VaultShape(
        seed=SEED,
        era=era,
        records=6,
        reads_per_org=4,
        rotations=1,
        algorithms=(algorithm,),
        checkpoint_every=2,
        unsigned_entries=unsigned,
    )
    return SampleVault(shape).rows()


def tampered(era: Era, algorithm: Algorithm = "Ed25519", *, unsigned: int = 0) -> Tampered:
    """Give a genuine vault, to be bent."""
    return Tampered(copy.deepcopy(genuine(era, algorithm, unsigned)), era, algorithm)


def codes(verification: Verification) -> list[tuple[str, str]]:
    """Give code and place of each finding."""
    assert verification.verdict != "not_checked", verification.reasons
    return [(finding.code, finding.where) for finding in verification.findings]
