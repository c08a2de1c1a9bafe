"""Sample vaults are what they claim to be: read back from their files and checked with other libraries."""

from __future__ import annotations

import base64
import hashlib
import json
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import cbor2
import msgspec
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key
from hypothesis import given
from hypothesis import strategies as st

from borg_vault_plugin.sample import SampleVault, VaultShape, write_rows
from borg_vault_plugin.sample.envelope import cbor_head
from borg_vault_plugin.sample.readlog import tree_root
from borg_vault_plugin.sample.rows import jsonb_ordered, uuid7

Line = dict[str, Any]
Dump = dict[str, list[Line]]

ZERO = str(uuid.UUID(int=0))
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
AUDIT_VAULT = (
    "id record_id chain_key entry_type payload payload_hash previous_hash chain_position cose_sign1 signing_key_id"
    " actor_key_id actor_role actor_owner_id actor_oidc_iss actor_oidc_sub actor_oidc_synthesized created_at"
)
COLUMNS = {
    "audit_vault": AUDIT_VAULT,
    "vault_checkpoints": "id record_id chain_key chain_position payload_hash cose_sign1 signing_key_id created_at",
    "vault_signing_keys": "key_id public_key algorithm status activated_at retired_at retired_by",
    "org_admin_reads": "id org_id caller_key_id record_id filter_applied read_context export_batch_id read_at"
    " leaf_index leaf_hash cose_sign1",
    "org_admin_reads_checkpoints": "id org_id tree_size root_hash checkpoint_at log_id cose_sign1 signing_key_id"
    " witness_signature witness_key_id witness_cosigned_at",
    "vault_key_statements": "id kind subject_key_id endorser_key_id statement created_at",
}


def shape(era: Any, **changes: Any) -> VaultShape:
    return VaultShape(**{"era": era, "records": 23, "seed": 7, **changes})


def grown_vault(era: Any) -> SampleVault:
    vault = SampleVault(shape(era))
    vault.grow(None, entries=15, onto="youngest", rotate=True, records_updated=3)
    vault.grow(None, entries=40, onto="everywhere", rotate=False)
    vault.grow(None, entries=9, onto="youngest", rotate=True)
    return vault


def read_dump(directory: Path) -> Dump:
    files = sorted(directory.glob("*.ndjson"))
    return {file.stem: [json.loads(line) for line in file.read_text().splitlines()] for file in files}


def file_bytes(directory: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in directory.iterdir()}


@pytest.fixture(scope="module", params=["v1", "v2", "v1 grown", "v2 grown"])
def era_and_dump(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Dump]:
    era = request.param[:2]
    vault = grown_vault(era) if "grown" in request.param else SampleVault(shape(era))
    directory = tmp_path_factory.mktemp("dump")
    vault.write_ndjson(directory)
    return era, read_dump(directory)


class Opened:
    """An envelope taken apart with cbor2, each level checked to be the deterministic encoding of its content."""

    def __init__(self, text: str) -> None:
        self.raw = base64.b64decode(text, validate=True)
        tag = cbor2.loads(self.raw)
        assert tag.tag == 18
        self.protected, unprotected, self.payload, self.signature = tag.value
        assert dict(unprotected) == {}
        self.header = cbor2.loads(self.protected)
        self.content = cbor2.loads(self.payload)
        assert cbor2.dumps(tag, canonical=True) == self.raw
        assert cbor2.dumps(self.header, canonical=True) == self.protected
        assert cbor2.dumps(self.content, canonical=True) == self.payload

    @property
    def key_id(self) -> str:
        return str(self.header[4].hex())

    @property
    def claims(self) -> Any:
        return self.header[15]

    @property
    def link(self) -> Any:
        return self.header[-65537]

    @property
    def subject(self) -> tuple[str, bytes]:
        (subject,) = self.content["subject"]
        return subject["name"], subject["digest"]["sha256"]

    @property
    def predicate(self) -> Any:
        return self.content["predicate"]


def verify(envelope: Opened, spki: bytes) -> None:
    """Check a signature; ES256 ones must have the smaller s."""
    signed = cbor2.dumps(["Signature1", envelope.protected, b"", envelope.payload], canonical=True)
    key = load_der_public_key(spki)
    if isinstance(key, Ed25519PublicKey):
        assert envelope.header[1] == -8
        key.verify(envelope.signature, signed)
        return
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert envelope.header[1] == -7
    r, s = int.from_bytes(envelope.signature[:32]), int.from_bytes(envelope.signature[32:])
    assert s <= P256_ORDER // 2
    key.verify(encode_dss_signature(r, s), signed, ec.ECDSA(SHA256()))


def public_keys(dump: Dump) -> dict[str, bytes]:
    return {row["key_id"]: base64.b64decode(row["public_key"]) for row in dump["vault_signing_keys"]}


def chains(dump: Dump) -> dict[str, list[Line]]:
    found: dict[str, list[Line]] = {}
    for row in dump["audit_vault"]:
        found.setdefault(row["chain_key"], []).append(row)
    return found


def digest_of(row: Line) -> str:
    return hashlib.sha256(base64.b64decode(row["cose_sign1"])).hexdigest()


def test_files_of_each_era_have_their_columns_in_order(era_and_dump: tuple[str, Dump]) -> None:
    era, dump = era_and_dump
    expected = {name: columns.split() for name, columns in COLUMNS.items()}
    if era == "v1":
        del expected["vault_key_statements"]
        expected["vault_checkpoints"].remove("chain_key")
    assert {name: list(rows[0]) for name, rows in dump.items()} == expected
    assert all(list(row) == expected[name] for name, rows in dump.items() for row in rows)


def test_rows_come_in_the_order_of_a_dump(era_and_dump: tuple[str, Dump]) -> None:
    _, dump = era_and_dump
    last = "~"
    orders = {
        "audit_vault": lambda row: (row["record_id"] or last, row["chain_position"], row["chain_key"], row["id"]),
        "vault_checkpoints": lambda row: (row["record_id"], row["chain_position"], row["id"]),
        "vault_signing_keys": lambda row: (row["activated_at"], row["key_id"]),
        "org_admin_reads": lambda row: (row["org_id"], row["leaf_index"], row["id"]),
        "org_admin_reads_checkpoints": lambda row: (row["org_id"], row["tree_size"], row["id"]),
        "vault_key_statements": lambda row: (row["created_at"], row["id"]),
    }
    for name, rows in dump.items():
        assert rows == sorted(rows, key=orders[name]), name
        identifiers = [row.get("id") or row["key_id"] for row in rows]
        assert len(set(identifiers)) == len(rows), name


def test_entries_are_linked_bound_and_signed(era_and_dump: tuple[str, Dump]) -> None:
    _, dump = era_and_dump
    keys = public_keys(dump)
    for chain_key, rows in chains(dump).items():
        previous = None
        for position, row in enumerate(rows, start=1):
            envelope = Opened(row["cose_sign1"])
            assert row["chain_position"] == envelope.link[1] == position
            assert row["previous_hash"] == previous
            assert envelope.link[2] == (None if previous is None else bytes.fromhex(previous))
            assert row["payload_hash"] == digest_of(row)
            assert envelope.key_id == row["signing_key_id"]
            assert envelope.claims[2] == chain_key
            assert envelope.subject == ("record_id", hashlib.sha256(chain_key.encode()).digest())
            assert envelope.predicate == predicate_of(row)
            verify(envelope, keys[envelope.key_id])
            previous = row["payload_hash"]


def predicate_of(row: Line) -> dict[str, Any]:
    """Rebuild what must have been signed, from the row."""
    payload = row["payload"]
    if row["record_id"] is None:
        expected = {
            "org_id": payload.get("orgId"),
            "schema_type": payload["type"],
            "schema_version": str(payload["version"]),
            "manifest_digest": payload["manifestDigest"],
            "outcome": row["entry_type"].split("_", 1)[1],
        }
        return expected | ({"source": payload["source"]} if "source" in payload else {})
    expected = {"record_id": row["record_id"], "entry_type": row["entry_type"]}
    transition = payload.get("state_transition", payload)
    if "to" in transition:
        expected["state_transition"] = {"from": transition.get("from"), "to": transition["to"]}
    moved = {"from", "to", "state_transition", "traces", "on_behalf_of", "traceparent"}
    if rest := {name: value for name, value in payload.items() if name not in moved}:
        expected["payload"] = rest
    for name in ("traces", "on_behalf_of", "traceparent"):
        if name in payload:
            expected[name] = payload[name]
    return expected


def test_entries_name_their_actor_and_second(era_and_dump: tuple[str, Dump]) -> None:
    _, dump = era_and_dump
    for row in dump["audit_vault"]:
        envelope = Opened(row["cose_sign1"])
        actor = envelope.claims[-65539]
        assert (uuid.UUID(bytes=actor[1]), actor[2], uuid.UUID(bytes=actor[3])) == (
            uuid.UUID(row["actor_key_id"]), row["actor_role"], uuid.UUID(row["actor_owner_id"]),
        )  # fmt: skip
        assert envelope.claims[6] == int(datetime.fromisoformat(row["created_at"]).timestamp())
        oidc = envelope.predicate.get("on_behalf_of", {"oidc": {"iss": None, "sub": None}})["oidc"]
        assert (row["actor_oidc_iss"], row["actor_oidc_sub"]) == (oidc["iss"], oidc["sub"])
        assert row["actor_oidc_synthesized"] == (oidc["iss"] is not None)


def test_keys_sign_only_within_their_windows(era_and_dump: tuple[str, Dump]) -> None:
    _, dump = era_and_dump
    windows = {row["key_id"]: (row["activated_at"], row["retired_at"] or "9") for row in dump["vault_signing_keys"]}
    used = set()
    for row in dump["audit_vault"] + dump["vault_checkpoints"]:
        earliest, latest = windows[row["signing_key_id"]]
        assert earliest <= row["created_at"] <= latest
        used.add(row["signing_key_id"])
    assert used == set(windows)
    assert [row["status"] for row in dump["vault_signing_keys"]] == ["retired"] * (len(windows) - 1) + ["active"]
    assert {row["algorithm"] for row in dump["vault_signing_keys"]} == {"Ed25519", "ES256"}


def test_keys_rotate_inside_chains(era_and_dump: tuple[str, Dump]) -> None:
    _, dump = era_and_dump
    records = {key: rows for key, rows in chains(dump).items() if key != ZERO and not key.startswith("schema:")}
    assert any(len({row["signing_key_id"] for row in rows}) > 1 for rows in records.values())


def test_platform_and_schema_chains_exist(era_and_dump: tuple[str, Dump]) -> None:
    _, dump = era_and_dump
    found = chains(dump)
    assert [row["payload"]["newKeyId"] for row in found[ZERO]] == [row["key_id"] for row in dump["vault_signing_keys"]]
    schemas = {key for key in found if key.startswith("schema:")}
    assert len(schemas) == 3
    assert "schema:__platform__" in schemas


def test_checkpoints_state_the_entry_at_their_position(era_and_dump: tuple[str, Dump]) -> None:
    era, dump = era_and_dump
    keys, entries = public_keys(dump), {(row["chain_key"], row["chain_position"]): row for row in dump["audit_vault"]}
    for row in dump["vault_checkpoints"]:
        chain_key = row["chain_key"] if era == "v2" else row["record_id"]
        position, envelope = row["chain_position"], Opened(row["cose_sign1"])
        assert row["payload_hash"] == entries[chain_key, position]["payload_hash"]
        assert envelope.link == {1: position, 2: None}
        assert envelope.claims[2] == row["record_id"]
        assert envelope.subject == ("record_id", hashlib.sha256(uuid.UUID(row["record_id"]).bytes).digest())
        assert envelope.predicate == {
            "count": position,
            "range": {"start": 1, "end": position},
            "chain_tip_hash": f"sha256:{row['payload_hash']}",
        }
        assert envelope.key_id == row["signing_key_id"]
        verify(envelope, keys[envelope.key_id])


def test_every_record_has_a_checkpoint_at_its_head(era_and_dump: tuple[str, Dump]) -> None:
    _, dump = era_and_dump
    heads = {key: len(rows) for key, rows in chains(dump).items() if not key.startswith("schema:")}
    stated = {row["record_id"]: row["chain_position"] for row in dump["vault_checkpoints"]}
    assert {key: stated[key] for key in heads} == heads


def test_leaves_are_linked_and_signed(era_and_dump: tuple[str, Dump]) -> None:
    era, dump = era_and_dump
    keys = public_keys(dump)
    assert len(dump["org_admin_reads"]) >= 40
    for rows in by_org(dump, "org_admin_reads"):
        previous = None
        for index, row in enumerate(rows):
            envelope = Opened(row["cose_sign1"])
            prefix = b"\0" if era == "v2" else b""
            assert row["leaf_index"] == index
            assert row["leaf_hash"] == hashlib.sha256(prefix + envelope.raw).hexdigest()
            assert envelope.link == {1: index + 1, 2: None if previous is None else bytes.fromhex(previous)}
            assert envelope.subject == ("record_id", hashlib.sha256(uuid.UUID(row["record_id"]).bytes).digest())
            caller = hashlib.sha256(uuid.UUID(row["caller_key_id"]).bytes).hexdigest()[:32]
            assert envelope.predicate == {
                "record_id": row["record_id"],
                "reader_key_id": caller,
                "signed_checkpoint_ref": None,
                "traces": {"read_context": row["read_context"], "filter_applied": row["filter_applied"]},
            }
            verify(envelope, keys[envelope.key_id])
            previous = row["leaf_hash"]


def by_org(dump: Dump, table: str) -> Iterator[list[Line]]:
    for org in sorted({row["org_id"] for row in dump[table]}):
        yield [row for row in dump[table] if row["org_id"] == org]


def slow_root(era: str, leaves: list[bytes]) -> bytes:
    """Give the root as the definitions say it: RFC 9162 section 2.1.1, or the first era's pairs of hex text."""
    if len(leaves) < 2:
        return leaves[0] if leaves else hashlib.sha256(b"").digest()
    if era == "v2":
        split = 1
        while split * 2 < len(leaves):
            split *= 2
        return hashlib.sha256(b"\1" + slow_root(era, leaves[:split]) + slow_root(era, leaves[split:])).digest()
    even = leaves if len(leaves) % 2 == 0 else [*leaves, leaves[-1]]
    pairs = [(even[index].hex() + even[index + 1].hex()).encode() for index in range(0, len(even), 2)]
    return slow_root(era, [hashlib.sha256(pair).digest() for pair in pairs])


def test_tree_heads_state_the_root_of_their_leaves(era_and_dump: tuple[str, Dump]) -> None:
    era, dump = era_and_dump
    keys = public_keys(dump)
    for leaves, heads in zip(by_org(dump, "org_admin_reads"), by_org(dump, "org_admin_reads_checkpoints"), strict=True):
        digests = [bytes.fromhex(row["leaf_hash"]) for row in leaves]
        assert heads[-1]["tree_size"] == len(leaves)
        assert len(heads) >= 3
        for row in heads:
            root, size, envelope = (
                slow_root(era, digests[: row["tree_size"]]),
                row["tree_size"],
                Opened(row["cose_sign1"]),
            )
            assert row["root_hash"] == root.hex()
            assert row["log_id"] == row["org_id"] == envelope.claims[2]
            assert envelope.link == {1: size, 2: None}
            assert envelope.subject == ("org_admin_reads_root", root)
            assert envelope.predicate["count"] == size
            assert envelope.predicate["range"] == {"start": 0, "end": size - 1}
            assert envelope.predicate["chain_tip_hash"] == f"sha256:{row['root_hash']}"
            verify(envelope, keys[row["signing_key_id"]])


@given(st.sampled_from(["v1", "v2"]), st.lists(st.binary(min_size=32, max_size=32), max_size=40))
def test_tree_root_is_the_one_of_the_definition(era: Any, leaves: list[bytes]) -> None:
    assert tree_root(era, leaves) == slow_root(era, leaves)


def test_key_statements_admit_and_close_each_key(era_and_dump: tuple[str, Dump]) -> None:
    era, dump = era_and_dump
    if era == "v1":
        assert "vault_key_statements" not in dump
        return
    keys, registry = public_keys(dump), {row["key_id"]: row for row in dump["vault_signing_keys"]}
    for row in dump["vault_key_statements"]:
        subject, endorser = row["subject_key_id"], row["endorser_key_id"]
        signers = {"genesis": [subject], "succession": [endorser, subject], "closure": [endorser]}[row["kind"]]
        envelopes = [Opened(text) for text in row["statement"]]
        assert [envelope.key_id for envelope in envelopes] == signers
        assert len({envelope.payload for envelope in envelopes}) == 1
        for envelope in envelopes:
            assert set(envelope.header) == {1, 3, 4}
            verify(envelope, keys[envelope.key_id])
        check_statement(row, envelopes[0].content, keys, registry)
    kinds = [row["kind"] for row in dump["vault_key_statements"]]
    assert kinds == ["genesis"] + ["succession", "closure"] * (len(keys) - 1)
    assert all(a["created_at"] < b["created_at"] for a, b in pairwise(dump["vault_key_statements"]))


def check_statement(row: Line, content: Line, keys: dict[str, bytes], registry: dict[str, Line]) -> None:
    """Compare a statement's content with its columns and with the registry."""
    subject, closed = content["subject"], row["kind"] == "closure"
    key_id = row["subject_key_id"]
    assert content["typ"] == row["kind"]
    assert subject["kid"] == key_id == subject["spkiSha256"][:16]
    assert subject["spki"] == keys[key_id]
    assert hashlib.sha256(subject["spki"]).hexdigest() == subject["spkiSha256"]
    assert subject["activatedAt"][:23] + "Z" == registry[key_id]["activated_at"]
    assert ("retiredAt" in subject, "forced" in content) == (closed, closed)
    if closed:
        assert subject["retiredAt"][:23] + "Z" == registry[key_id]["retired_at"]
        assert subject["retiredAt"] <= row["created_at"]
    endorser = content.get("endorser")
    expected = row["endorser_key_id"] and hashlib.sha256(keys[row["endorser_key_id"]]).hexdigest()
    assert (endorser and endorser["spkiSha256"]) == expected


@pytest.mark.parametrize("era", ["v1", "v2"])
def test_same_seed_gives_same_bytes_with_any_number_of_processes(era: Any, tmp_path: Path) -> None:
    grown_vault(era).write_ndjson(tmp_path / "one")
    grown_vault(era).write_ndjson(tmp_path / "two", processes=2)
    write_rows(tmp_path / "rows", grown_vault(era).rows())
    assert file_bytes(tmp_path / "one") == file_bytes(tmp_path / "two") == file_bytes(tmp_path / "rows")
    SampleVault(shape(era, seed=8)).write_ndjson(tmp_path / "other")
    assert (tmp_path / "other/audit_vault.ndjson").read_bytes() != (tmp_path / "one/audit_vault.ndjson").read_bytes()


@pytest.mark.parametrize("onto", ["youngest", "everywhere"])
def test_growth_extends_chains_and_changes_nothing_before(onto: Any) -> None:
    vault = SampleVault(shape("v2"))
    before = vault.rows()
    vault.grow(None, entries=30, onto=onto)
    after = vault.rows()
    assert {row.id for row in before.audit_vault} < {row.id for row in after.audit_vault}
    old = {row.id: row for row in after.audit_vault}
    assert all(old[row.id] == row for row in before.audit_vault)
    on_records = [row for row in after.audit_vault if row.record_id is not None]
    assert len(on_records) - sum(row.record_id is not None for row in before.audit_vault) == 30
    latest = max(row.created_at for row in before.audit_vault)
    assert all(row.created_at > latest for row in set_difference(after.audit_vault, before.audit_vault))
    assert (
        after.org_admin_reads[: len(before.org_admin_reads) // 2]
        == before.org_admin_reads[: len(before.org_admin_reads) // 2]
    )


def set_difference(rows: list[Any], others: list[Any]) -> list[Any]:
    known = {row.id for row in others}
    return [row for row in rows if row.id not in known]


def test_youngest_growth_is_half_on_new_records() -> None:
    vault = SampleVault(shape("v2", records=100))
    known = {row.record_id for row in vault.rows().audit_vault}
    before = {row.id for row in vault.rows().audit_vault}
    vault.grow(None, entries=40, onto="youngest")
    new = [row for row in vault.rows().audit_vault if row.record_id and row.id not in before]
    fresh = [row for row in new if row.record_id not in known]
    assert (len(new), len(fresh), len({row.record_id for row in fresh})) == (40, 20, 4)
    assert len({row.record_id for row in new} - {row.record_id for row in fresh}) == 5


def test_a_day_cannot_start_in_the_past() -> None:
    vault = SampleVault(shape("v2"))
    with pytest.raises(ValueError, match="the day would start before 2026-"):
        vault.grow(None, entries=1, at=datetime(2026, 5, 2, tzinfo=UTC))
    vault.grow(None, entries=1, at=datetime(2030, 1, 1, tzinfo=UTC))
    assert max(row.created_at for row in vault.rows().audit_vault).startswith("2030-01-01T")


def test_files_are_compact_and_payload_keys_in_the_order_of_jsonb(tmp_path: Path) -> None:
    SampleVault(shape("v2", filler_bytes=33)).write_ndjson(tmp_path)
    for line in (tmp_path / "audit_vault.ndjson").read_text().splitlines():
        row = json.loads(line)
        assert json.dumps(row, separators=(",", ":"), ensure_ascii=False) == line
        assert list(ordered_paths(row["payload"])) == [True] * len(list(ordered_paths(row["payload"])))
        if row["record_id"] not in (None, ZERO):
            assert len(row["payload"]["filler"]) == 33


def ordered_paths(value: Any) -> Iterator[bool]:
    if isinstance(value, dict):
        yield list(value) == sorted(value, key=lambda name: (len(name.encode()), name.encode()))
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from ordered_paths(item)


def test_times_have_microseconds_which_a_dump_truncates(tmp_path: Path) -> None:
    vault = SampleVault(shape("v2"))
    vault.write_ndjson(tmp_path)
    written = [row["created_at"] for row in read_dump(tmp_path)["audit_vault"]]
    kept = [row.created_at for row in vault.rows().audit_vault]
    assert [text[:23] + "Z" for text in kept] == written
    assert any(not text.endswith("000Z") for text in kept)


def test_records_without_a_checkpoint_and_entries_without_a_signature(tmp_path: Path) -> None:
    vault = SampleVault(shape("v2", checkpoint_every=4, unsigned_entries=5, records=8))
    vault.write_ndjson(tmp_path)
    dump = read_dump(tmp_path)
    unsigned = [row for row in dump["audit_vault"] if row["signing_key_id"] is None and row["record_id"]]
    assert [row["chain_position"] for row in unsigned] == [1] * 5
    for row in unsigned:
        envelope = Opened(row["cose_sign1"])
        assert (envelope.header[1], envelope.key_id, envelope.signature) == (-8, "0" * 16, bytes(64))
        assert row["created_at"] < dump["vault_signing_keys"][0]["activated_at"]
    checkpointed = {row["record_id"] for row in dump["vault_checkpoints"]} & {
        row["record_id"] for row in dump["audit_vault"]
    }
    assert len(checkpointed - {ZERO}) == 2


def test_a_bent_row_is_written_as_it_is(tmp_path: Path) -> None:
    rows = SampleVault(shape("v2", records=1)).rows()
    rows.audit_vault[0] = msgspec.structs.replace(rows.audit_vault[0], created_at="long ago", chain_position=0)
    write_rows(tmp_path, rows)
    first = read_dump(tmp_path)["audit_vault"][0]
    assert (first["created_at"], first["chain_position"]) == ("long ago", 0)


def test_a_changed_envelope_does_not_verify(tmp_path: Path) -> None:
    SampleVault(shape("v2")).write_ndjson(tmp_path)
    dump = read_dump(tmp_path)
    row = dump["audit_vault"][-1]
    raw = bytearray(base64.b64decode(row["cose_sign1"]))
    raw[-1] ^= 1
    with pytest.raises(InvalidSignature):
        verify(Opened(base64.b64encode(raw).decode()), public_keys(dump)[row["signing_key_id"]])


@given(st.integers(min_value=0, max_value=2**32 - 1))
def test_cbor_head_is_the_shortest(value: int) -> None:
    assert cbor_head(0, value) == cbor2.dumps(value)


@given(st.integers(min_value=0, max_value=2**50), st.integers(min_value=0, max_value=2**50))
def test_identifiers_sort_like_their_instants(one: int, other: int) -> None:
    first, second = uuid7(one, "a"), uuid7(other, "b")
    assert uuid.UUID(first).version == 7
    assert uuid.UUID(first).variant == uuid.RFC_4122
    assert one == other or (one < other) == (first < second)


def test_jsonb_order_puts_the_shorter_key_first() -> None:
    value = {"bb": 1, "a": [{"zz": 1, "b": 2}], "é": 0, "ab": {}}
    ordered = jsonb_ordered(value)
    assert json.dumps(ordered, ensure_ascii=False) == '{"a": [{"b": 2, "zz": 1}], "ab": {}, "bb": 1, "é": 0}'


def test_step_decides_when_the_vault_ends() -> None:
    start = datetime(2026, 6, 1, tzinfo=UTC)
    rows = SampleVault(shape("v1", start=start, step=timedelta(seconds=2), records=5, entries_per_record=2)).rows()
    times = [row.created_at for row in rows.audit_vault if row.record_id not in (None, ZERO)]
    assert min(times) == "2026-06-01T00:00:00.000000Z"
    assert "2026-06-01T00:00:18" <= max(times) < "2026-06-01T00:00:20"
