"""Hostile dumps: whatever stands in a file, verification ends with a verdict, and never passes what it should not."""

from __future__ import annotations

import binascii
import contextlib
import copy
import tempfile
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cbor2
import msgspec
import pytest
from fix_tamper import CHAIN, CWT, Era, Tampered, base64_text, genuine, tampered
from hypothesis import given, settings
from hypothesis import strategies as st

from borg_vault_plugin.chain.checkpoints import NO_ENTRY, check_checkpoint
from borg_vault_plugin.chain.context import Context, context_of, registry_keys
from borg_vault_plugin.chain.entries import ChainState, binary, check_entry
from borg_vault_plugin.chain.envelope import Envelope, decode, single_item, to_be_signed
from borg_vault_plugin.chain.keys import registry_key, verify_signature
from borg_vault_plugin.chain.rows import (
    CheckpointRow,
    EntryRow,
    RegistryRow,
    UnreadableLineError,
    read_payload,
    read_row,
    row_decoder,
)
from borg_vault_plugin.chain.verification import verify_directory
from borg_vault_plugin.report import Finding
from borg_vault_plugin.sample import write_rows
from borg_vault_plugin.sample.rows import ndjson_line

ERAS = st.sampled_from(["v1", "v2"])
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3)
)
CBOR = st.recursive(
    SCALARS | st.binary(max_size=40) | st.floats() | st.sampled_from([cbor2.undefined, cbor2.CBORSimpleValue(99)]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.integers(-70_000, 20) | st.text(max_size=9), inner, max_size=4)
        | st.builds(cbor2.CBORTag, st.integers(50, 99), inner)
    ),
)
# Columns that no signature covers, or that are compared only when they are not null.
UNSIGNED_COLUMNS = {"id", "chain_key", "created_at"}
SIGNED_COLUMNS = sorted(set(EntryRow.__struct_fields__) - UNSIGNED_COLUMNS)
MAY_BE_NULL = {"actor_key_id", "actor_role", "actor_owner_id", "actor_oidc_synthesized"}


def context(era: Era) -> Context:
    lines = [ndjson_line(row) for row in genuine(era, "Ed25519").vault_signing_keys]
    return context_of(era, registry_keys(read_row(row_decoder(RegistryRow), line) for line in lines))


def last_line(era: Era) -> tuple[dict[str, Any], ChainState]:
    """Give the last entry of a record's chain, and what the entry before it left behind."""
    vault = tampered(era)
    row = msgspec.json.decode(ndjson_line(vault.entry(2, 5)))
    return row, ChainState(row["chain_key"], 4, row["previous_hash"], key_named=True)


def found(row: dict[str, Any], state: ChainState, era: Era) -> Finding | None:
    entry = read_row(row_decoder(EntryRow), msgspec.json.encode(row))
    after, finding = check_entry(entry, state, context(era))
    assert after.position == state.position + 1
    return finding


@given(ERAS, st.sampled_from(SIGNED_COLUMNS), JSON)
def test_no_other_value_passes_in_a_signed_column(era: Era, column: str, value: object) -> None:
    row, state = last_line(era)
    assert found(row, state, era) is None
    same = msgspec.json.encode(row[column]) == msgspec.json.encode(value)
    row[column] = value
    finding = found(row, state, era)
    assert (finding is None) == (same or (value is None and column in MAY_BE_NULL))


@given(ERAS, st.sampled_from(sorted(UNSIGNED_COLUMNS)), JSON)
def test_other_columns_make_nothing_crash(era: Era, column: str, value: object) -> None:
    row, state = last_line(era)
    found(row | {column: value}, state, era)


@given(ERAS, st.dictionaries(st.sampled_from(EntryRow.__struct_fields__), JSON))
def test_no_entry_makes_it_crash(era: Era, columns: dict[str, Any]) -> None:
    row, state = last_line(era)
    finding = found(columns, state, era)
    assert finding is not None
    found(row | columns, state, era)


@given(ERAS, st.dictionaries(st.sampled_from(CheckpointRow.__struct_fields__), JSON, min_size=1), JSON)
def test_no_checkpoint_makes_it_crash(era: Era, columns: dict[str, Any], entry_hash: object) -> None:
    row = msgspec.json.decode(ndjson_line(genuine(era, "Ed25519").vault_checkpoints[1]))
    changed = read_row(row_decoder(CheckpointRow), msgspec.json.encode(row | columns))
    for there in (NO_ENTRY, entry_hash, row["payload_hash"]):
        proof, finding = check_checkpoint(changed, there, context(era))
        assert (proof is None) == (finding is not None)


@given(st.dictionaries(st.sampled_from(RegistryRow.__struct_fields__), JSON), st.binary(max_size=120), st.binary())
def test_no_key_makes_it_crash(columns: dict[str, Any], spki: bytes, message: bytes) -> None:
    for public_key in (
        columns.get("public_key"),
        base64_text(spki),
        base64_text(bytes.fromhex("302a300506032b6570032100") + spki[:32]),
    ):
        row = read_row(
            row_decoder(RegistryRow), msgspec.json.encode(columns | {"public_key": public_key, "key_id": "k"})
        )
        key = registry_key(row)
        assert key is not None
        algorithms: list[object] = [-8, -7, -19, -9, None, "EdDSA", True, []]
        for algorithm in algorithms:
            assert verify_signature(key, algorithm, message, message[:64].ljust(64, b"\0")) != "valid"


@pytest.mark.parametrize("low_order", ["00" * 32, "01" + "00" * 31, "ec" + "ff" * 30 + "7f"])
def test_keys_of_low_order_sign_nothing(low_order: str) -> None:
    spki = bytes.fromhex("302a300506032b6570032100" + low_order)
    key = registry_key(RegistryRow(key_id="k", public_key=base64_text(spki)))
    assert key is not None
    for signature in (bytes(64), bytes.fromhex(low_order) + bytes(32)):
        assert verify_signature(key, -8, b"message", signature) == "invalid"


@given(ERAS, st.binary(max_size=300) | CBOR.map(cbor2.dumps))
def test_no_bytes_make_decoding_crash(era: Era, data: bytes) -> None:
    for envelope in (decode(data, era), decode(b"\xd2" + data, era), decode(b"\xd2\x84" + data, era)):
        if envelope is not None:
            look_at(envelope)


@given(st.lists(st.binary(max_size=60) | CBOR.map(cbor2.dumps) | st.sampled_from([b"\x81" * 300, b"\xa2" * 90])))
def test_what_was_decoded_before_changes_nothing(pieces: list[bytes]) -> None:
    """One decoder takes them all; each time it gives what a new one would."""
    for data in pieces:
        assert repr(single_item(data)) == repr(decoded_anew(data))


def decoded_anew(data: bytes) -> object:
    """Decode bytes that are exactly one item with a decoder that has seen nothing yet."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(single_item, data).result()


def read_strictly(text: str) -> bytes | None:
    """Read base64 as RFC 4648 section 4 has it."""
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError:
        return None


NEARLY_BASE64 = st.builds(
    lambda data, at, other: base64_text(data)[:at] + other + base64_text(data)[at:],
    st.binary(max_size=12), st.integers(0, 18), st.text('AZaz09+/=-_ \n\t"\\\u00e9', max_size=3),
)  # fmt: skip


@given(NEARLY_BASE64 | st.text(max_size=9))
@settings(max_examples=2000)
def test_a_base64_column_is_read_strictly(text: str) -> None:
    assert binary(text) == read_strictly(text)


@given(JSON.filter(lambda value: not isinstance(value, str)))
def test_what_is_no_text_is_no_base64(value: object) -> None:
    assert binary(value) is None


@given(ERAS, CBOR, CBOR, st.binary(max_size=70))
def test_no_envelope_makes_it_crash(era: Era, header: object, content: object, signature: bytes) -> None:
    data = cbor2.dumps(cbor2.CBORTag(18, [cbor2.dumps(header), {}, cbor2.dumps(content), signature]))
    envelope = decode(data, era)
    assert envelope is not None
    look_at(envelope)


def look_at(envelope: Envelope) -> None:
    assert isinstance(to_be_signed(envelope), bytes)
    assert isinstance(envelope.header, dict)
    assert envelope.key_id is None or isinstance(envelope.key_id, bytes)
    assert envelope.place is None or isinstance(envelope.place[0], int)
    assert envelope.predicate is None or isinstance(envelope.predicate, dict)
    assert envelope.subject_digest is None or isinstance(envelope.subject_digest, bytes)
    assert repr((envelope.algorithm, envelope.content_type, envelope.actor, envelope.content))


@given(ERAS, st.sampled_from([1, 3, 4, CWT, CHAIN]), CBOR, st.sampled_from(["_type", "subject", "predicate"]), CBOR)
@settings(max_examples=60)
def test_no_signed_value_makes_it_crash(era: Era, label: int, value: object, name: str, other: object) -> None:
    for change in (lambda header, _: header.update({label: value}), lambda _, content: content.update({name: other})):
        vault = tampered(era)
        vault.reseal(2, 5, change)
        row, state = msgspec.json.decode(ndjson_line(vault.entry(2, 5))), last_line(era)[1]
        found(row, state, era)


HOSTILE = {
    "arrays in arrays": b"\x81" * 2_000_000,
    "maps in maps": b"\xa1\x00" * 1_000_000,
    "tags on tags": b"\xc1" * 2_000_000,
    "a long array": b"\x9b\x7f" + b"\xff" * 7,
    "a long map": b"\xbb\x7f" + b"\xff" * 7,
    "long bytes": b"\x5b\x7f" + b"\xff" * 7,
    "long text": b"\x7b\x7f" + b"\xff" * 7,
    "endless bytes": b"\x5f" + b"\x41a" * 1000,
    "a value that holds itself": b"\xd8\x1c\x81\xd8\x1d\x00",
    "a reference": b"\xd9\x01\x00\x82\x63abc\xd8\x19\x00",
    "a pattern": b"\xd8\x23\x66(a+)+$",
    "a large exponent": b"\xc4\x82\x1b\x7f" + b"\xff" * 7 + b"\x01",
    "a rational without value": b"\xd8\x1e\x82\x01\x00",
    "an address": b"\xd9\x01\x04\x40",
    "a time": b"\xc1\xfb\x7f\xf0" + bytes(6),
    "a key twice": b"\xa2\x01\x01\x01\x02",
    "a key that is a map": b"\xa1\xa1\x01\x01\x01",
    "a key that is no number": b"\xa1\xf9\x7e\x00\x01",
    "text that is none": b"\x62\xff\xff",
    "nothing": b"",
    "two items": b"\xa0\xa0",
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_cbor_ends_soon_and_fills_no_memory(kind: str) -> None:
    item = HOSTILE[kind]
    wrapped = [
        item,
        b"\xd2" + item,
        b"\xd2\x84" + item,
        cbor2.dumps(cbor2.CBORTag(18, [item, {}, item, b"s"])),
        b"\xd2\x84\x40" + item + b"\x40\x40",
    ]
    tracemalloc.start()
    started = time.process_time()
    for data in wrapped:
        envelope = decode(data, "v2")
        if envelope is not None:
            look_at(envelope)
    assert time.process_time() - started < 5
    assert tracemalloc.get_traced_memory()[1] < 100_000_000
    tracemalloc.stop()


@given(st.binary(max_size=200) | JSON.map(msgspec.json.encode))
def test_no_line_makes_reading_crash(line: bytes) -> None:
    with contextlib.suppress(UnreadableLineError):
        row = read_row(row_decoder(EntryRow), line)
        read_payload(row.payload)


@given(ERAS, st.data())
@settings(max_examples=80, deadline=None)
def test_a_file_with_one_byte_changed_is_verified_to_a_verdict(era: Era, data: st.DataObject) -> None:
    rows = genuine(era, "Ed25519")
    with tempfile.TemporaryDirectory() as place:
        write_rows(Path(place), rows)
        path = Path(place) / f"{data.draw(st.sampled_from(sorted(rows.tables())))}.ndjson"
        content = bytearray(path.read_bytes())
        at = data.draw(st.integers(0, len(content) - 1))
        content[at] = data.draw(st.integers(0, 255))
        path.write_bytes(content)
        result = verify_directory(Path(place), era=era, jobs=1)
    assert result.verdict in ("passed", "failed", "not_checked")
    assert (result.verdict == "failed") == bool(result.findings)
    assert (result.verdict == "not_checked") == bool(result.reasons)


@given(ERAS, st.permutations(range(5)), st.sets(st.integers(0, 4), min_size=1, max_size=4))
@settings(max_examples=40, deadline=None)
def test_no_part_of_a_checkpointed_chain_passes_for_the_whole(era: Era, order: list[int], kept: set[int]) -> None:
    vault = tampered(era)
    start = vault.place(1, 1)
    rows = vault.rows.audit_vault[start : start + 5]
    with tempfile.TemporaryDirectory() as place:
        vault.rows.audit_vault[start : start + 5] = [rows[number] for number in order if number in kept]
        assert vault.verify(Path(place)).verdict == "failed"
        vault.rows.audit_vault[start : start + len(kept)] = [rows[number] for number in order]
        assert vault.verify(Path(place)).verdict == "passed"


@pytest.mark.parametrize("table", ["audit_vault", "vault_checkpoints", "vault_signing_keys"])
@pytest.mark.parametrize("era", ["v1", "v2"])
def test_a_row_that_is_there_twice_does_no_harm_where_it_says_nothing_new(era: Era, table: str, tmp_path: Path) -> None:
    vault = tampered(era)
    rows = getattr(vault.rows, table)
    rows.insert(3 if table == "audit_vault" else 1, copy.copy(rows[2 if table == "audit_vault" else 0]))
    assert vault.verify(tmp_path).verdict == ("failed" if table == "audit_vault" else "passed")


def test_findings_show_hostile_values_on_one_short_line(tmp_path: Path) -> None:
    vault: Tampered = tampered("v2")
    vault.bend(2, 5, payload_hash="\x1b[31m\n" + "x" * 10_000, chain_key="\u202e\n" * 500)
    result = vault.verify(tmp_path)
    assert result.verdict == "failed"
    for finding in result.findings:
        for text in (finding.where, finding.detail):
            assert text.isprintable()
            assert len(text) < 600
