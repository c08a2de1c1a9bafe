"""Verifying whole dumps: which files, in which order, by how many processes, and with what carried over."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fix_tamper import UNREGISTERED, Era, Tampered, codes, genuine, tampered

from borg_vault_plugin.chain.codes import Code
from borg_vault_plugin.chain.proved import Proved, proved
from borg_vault_plugin.chain.ranges import RANGE_BYTES
from borg_vault_plugin.chain.rows import MAX_DEPTH
from borg_vault_plugin.chain.tally import MOST_FINDINGS
from borg_vault_plugin.chain.verification import Verification, verify_directory
from borg_vault_plugin.progress import Advance
from borg_vault_plugin.sample import SampleVault, VaultShape, write_rows

ERAS: tuple[Era, ...] = ("v1", "v2")
FILES = sorted(genuine("v2", "Ed25519").tables())
LAST = (2, 5)


@pytest.fixture(scope="module")
def larger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A vault of several ranges; nobody changes its files, but makes a copy."""
    directory = tmp_path_factory.mktemp("larger")
    SampleVault(VaultShape(seed=7, records=900, filler_bytes=200)).write_ndjson(directory)
    assert (directory / "audit_vault.ndjson").stat().st_size > 4 * RANGE_BYTES
    return directory


@pytest.fixture
def dump(tmp_path: Path) -> Path:
    """The dump of a small genuine vault."""
    directory = tmp_path / "dump"
    write_rows(directory, genuine("v2", "Ed25519"))
    return directory


def reason(directory: Path, **options: Any) -> str:
    found = verify_directory(directory, **{"jobs": 1, **options})
    assert (found.verdict, found.findings, found.failure_count, found.anchored) == ("not_checked", (), 0, False)
    (text,) = found.reasons
    assert "\n" not in text
    return text


@pytest.mark.parametrize("name", FILES)
def test_every_file_must_be_there(name: str, dump: Path) -> None:
    (dump / f"{name}.ndjson").unlink()
    if name == "vault_key_statements":
        assert f"{name}.ndjson cannot be read: No such file" in reason(dump, era="v2")
    else:
        assert f"{name}.ndjson" in reason(dump)


def to_link(path: Path) -> None:
    path.rename(path.with_suffix(".elsewhere"))
    path.symlink_to(path.with_suffix(".elsewhere"))


def to_socket(path: Path) -> None:
    path.unlink()
    with socket.socket(socket.AF_UNIX) as listener:
        here = Path.cwd()
        os.chdir(path.parent)  # a socket's path must be short
        listener.bind(path.name)
        os.chdir(here)


def to_dangling_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def to_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def to_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


REPLACED: dict[str, tuple[Callable[[Path], object], str]] = {
    "link": (to_link, "is a symbolic link"),
    "dangling link": (to_dangling_link, "is a symbolic link"),
    "pipe": (to_pipe, "is no regular file"),
    "directory": (to_directory, "is no regular file"),
    "socket": (to_socket, "cannot be read"),
}


@pytest.mark.parametrize("kind", REPLACED)
@pytest.mark.parametrize("name", FILES)
def test_only_regular_files_are_read(name: str, kind: str, dump: Path) -> None:
    put, expected = REPLACED[kind]
    put(dump / f"{name}.ndjson")
    assert reason(dump).startswith(f"{name}.ndjson {expected}")


def test_files_may_be_below_chain_but_not_in_both_places(dump: Path, tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    write_rows(archive / "chain", genuine("v2", "Ed25519"))
    assert verify_directory(archive, jobs=1) == verify_directory(dump, jobs=1)
    (archive / "audit_vault.ndjson").touch()
    assert "there twice" in reason(archive)
    linked = tmp_path / "linked"
    linked.mkdir()
    (linked / "chain").symlink_to(dump)
    assert "symbolic link" in reason(linked)
    assert "no audit_vault.ndjson" in reason(tmp_path / "nowhere")


BROKEN: dict[str, Callable[[bytes], bytes]] = {
    "no JSON": lambda _: b"not JSON",
    "half a line": lambda line: line[: len(line) // 2],
    "no object": lambda _: b"[]",
    "two objects": lambda line: line + line,
    "NUL": lambda line: line.replace(b'"', b'"\0', 1),
    "no UTF-8": lambda line: line[:-1] + b',"more":"\xff"}',
    "UTF-16": lambda line: line.decode().encode("utf-16"),
    "deep": lambda line: line[:-1] + b',"more":' + b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1) + b"}",
    "deeper": lambda line: line[:-1] + b',"more":' + b"[" * 1_000_000,
    "infinite": lambda line: line[:-1] + b',"more":Infinity}',
}


@pytest.mark.parametrize("kind", BROKEN)
@pytest.mark.parametrize("name", FILES)
def test_a_line_that_cannot_be_read_leaves_no_verdict(name: str, kind: str, dump: Path) -> None:
    path = dump / f"{name}.ndjson"
    lines = path.read_bytes().splitlines()
    lines[1] = BROKEN[kind](lines[1])
    path.write_bytes(b"\n".join(lines) + b"\n")
    assert reason(dump).startswith(f"{name}.ndjson, line at byte {len(lines[0]) + 1}: ")


def test_a_line_without_end_does_not_fill_memory(dump: Path) -> None:
    with (dump / "org_admin_reads.ndjson").open("ab") as file:
        file.write(b'{"id":"')
        file.truncate(file.tell() + 200_000_000)
    assert "longer than" in reason(dump)


def test_many_brackets_inside_texts_are_not_deep(tmp_path: Path) -> None:
    vault = tampered("v2")
    vault.reseal(*LAST, lambda _, content: content["predicate"]["payload"].update(note="[{" * 2 * MAX_DEPTH + '"\\'))
    vault.bend(*LAST, payload=vault.entry(*LAST).payload | {"note": "[{" * 2 * MAX_DEPTH + '"\\'})
    assert codes(vault.verify(tmp_path)) == []


def test_a_payload_may_be_nested(tmp_path: Path) -> None:
    deep: Any = "bottom"
    for _ in range(MAX_DEPTH - 4):
        deep = [deep]
    vault = tampered("v2")
    vault.reseal(*LAST, lambda _, content: content["predicate"]["payload"].update(note=deep))
    vault.bend(*LAST, payload=vault.entry(*LAST).payload | {"note": deep})
    assert codes(vault.verify(tmp_path)) == []


def test_blank_lines_spaces_and_other_columns_do_not_matter(dump: Path) -> None:
    expected = verify_directory(dump, jobs=1)
    for path in dump.iterdir():
        lines = path.read_bytes().splitlines()
        path.write_bytes(b"\n \n" + b"\r\n\n".join(line[:-1] + b' , "zz" : [1.5e400] }' for line in lines))
    assert verify_directory(dump, jobs=1) == expected


def test_of_two_columns_of_one_name_the_last_counts(dump: Path) -> None:
    path = dump / "audit_vault.ndjson"
    lines = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([lines[0].replace(b"{", b'{"chain_position":7,', 1), *lines[1:]]))
    assert verify_directory(dump, jobs=1).verdict == "passed"
    path.write_bytes(b"\n".join([lines[0][:-1] + b',"chain_position":7}', *lines[1:]]))
    assert codes(verify_directory(dump, jobs=1))[0][0] == Code.CHAIN_POSITION_GAP


def test_the_era_follows_from_the_files_unless_it_is_told(dump: Path, tmp_path: Path) -> None:
    first = tmp_path / "first"
    write_rows(first, genuine("v1", "Ed25519"))
    assert [verify_directory(place, jobs=1).era for place in (first, dump)] == ["v1", "v2"]
    # Dumps of the two eras cannot be verified by the rules of the other one.
    (first / "vault_key_statements.ndjson").touch()
    assert codes(verify_directory(first, jobs=1))[0][0] == Code.TENANT_READ_LEAF_HASH_MISMATCH
    found = codes(verify_directory(dump, era="v1", jobs=1))
    assert {code for code, _ in found} == {Code.CHECKPOINT_ROW_MISSING, Code.TENANT_READ_LEAF_HASH_MISMATCH}


def test_pins_need_statements_and_must_be_pins(dump: Path, tmp_path: Path) -> None:
    write_rows(tmp_path / "first", genuine("v1", "Ed25519"))
    assert "cannot be pinned" in reason(tmp_path / "first", anchors=[tampered("v1").anchor])
    assert "anchor" in reason(dump, anchors=["sha256:1234"])


def test_an_empty_vault_is_no_pass(dump: Path) -> None:
    (dump / "audit_vault.ndjson").write_bytes(b"\n\n")
    found = verify_directory(dump, jobs=2)
    assert (found.verdict, codes(found)) == ("failed", [(Code.CHAIN_EMPTY, "audit_vault")])
    for path in dump.iterdir():
        path.write_bytes(b"")
    assert codes(verify_directory(dump, jobs=2)) == [(Code.CHAIN_EMPTY, "audit_vault")]


@pytest.mark.parametrize("era", ERAS)
def test_order_inside_a_chain_and_of_chains_does_not_matter(era: Era, tmp_path: Path) -> None:
    vault = tampered(era)
    expected = vault.verify(tmp_path / "ordered")
    rows = vault.rows.audit_vault
    keys = dict.fromkeys(reversed([row.chain_key for row in rows]))
    rows[:] = [row for key in keys for row in reversed(rows) if row.chain_key == key]
    assert vault.verify(tmp_path / "reversed") == expected


@pytest.mark.parametrize("era", ERAS)
def test_chains_of_schemas_may_be_mixed_with_each_other_and_come_early(era: Era, tmp_path: Path) -> None:
    vault = tampered(era)
    expected = vault.verify(tmp_path / "late")
    rows = vault.rows.audit_vault
    schemas = [row for row in rows if row.record_id is None]
    assert len({row.chain_key for row in schemas[:3]}) == 3
    rows[:] = [*schemas[5:], *(row for row in rows if row.record_id is not None), *schemas[:5]]
    assert vault.verify(tmp_path / "early") == expected


@pytest.mark.parametrize("era", ERAS)
def test_chain_keys_that_are_missing_are_rebuilt(era: Era, tmp_path: Path) -> None:
    vault = tampered(era)
    expected = vault.verify(tmp_path / "with")
    for place in range(len(vault.rows.audit_vault)):
        vault.bend_row("audit_vault", place, chain_key=None)
    assert vault.verify(tmp_path / "without") == expected


def test_chains_in_pieces_cannot_be_streamed_in_the_first_era(tmp_path: Path) -> None:
    vault = tampered("v1")
    vault.rows.audit_vault.insert(vault.place(1, 1), vault.rows.audit_vault.pop(vault.place(5, 5)))
    found = vault.verify(tmp_path)
    assert (found.verdict, found.findings) == ("not_checked", ())
    assert "not each in one piece" in found.reasons[0]


def test_a_walk_that_stops_keeps_what_was_found_before(tmp_path: Path) -> None:
    vault = tampered("v2")
    vault.bend(2, 5, payload={})
    vault.bend(4, 1, payload={})
    vault.bend(4, 3, cose_sign1=None)
    vault.bend(6, 5, payload={})
    expected = [Code.CHAIN_PAYLOAD_BINDING_MISMATCH, Code.UNSUPPORTED_FORMAT]
    found = vault.verify(tmp_path)
    assert [code for code, _ in codes(found)] == expected
    assert found.counts["audit_vault"] == len(vault.rows.audit_vault)
    vault.bend(4, 3, cose_sign1=b"anything")
    moved = vault.rows.audit_vault.pop(vault.place(2, 4))
    vault.rows.audit_vault.insert(vault.place(5, 1), moved)
    found = vault.verify(tmp_path)
    assert found.findings[-1].code == Code.UNSUPPORTED_FORMAT
    assert [code for code, _ in codes(found)].count(Code.CHAIN_PAYLOAD_BINDING_MISMATCH) == 1


def test_nothing_is_reported_beside_a_missing_envelope_in_the_first_era(tmp_path: Path) -> None:
    vault = tampered("v1")
    vault.bend(2, 5, payload={})
    vault.bend(4, 3, cose_sign1=None)
    assert [code for code, _ in codes(vault.verify(tmp_path))] == [Code.UNSUPPORTED_FORMAT]


def copied(source: Path, target: Path) -> Path:
    target.mkdir()
    for path in source.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    return target


def edited(directory: Path, table: str, place: int, change: Callable[[dict[str, Any]], object]) -> None:
    path = directory / f"{table}.ndjson"
    lines = path.read_bytes().splitlines(keepends=True)
    row = msgspec.json.decode(lines[place])
    change(row)
    lines[place] = msgspec.json.encode(row) + b"\n"
    path.write_bytes(b"".join(lines))


def spoilt(directory: Path) -> None:
    for place in (3, 1_000, 2_500, 4_499, -2):
        edited(directory, "audit_vault", place, lambda row: row.update(payload={"spoilt": True}))
    edited(directory, "vault_checkpoints", 500, lambda row: row.update(payload_hash="ab" * 32))


def swapped(directory: Path) -> None:
    path = directory / "audit_vault.ndjson"
    lines = path.read_bytes().splitlines(keepends=True)
    lines[1_000:1_100] = reversed(lines[1_000:1_100])
    path.write_bytes(b"".join(lines))


def in_pieces(directory: Path) -> None:
    spoilt(directory)
    path = directory / "audit_vault.ndjson"
    lines = path.read_bytes().splitlines(keepends=True)
    lines.insert(3_000, lines.pop(50))
    path.write_bytes(b"".join(lines))


def early_schema(directory: Path) -> None:
    spoilt(directory)
    path = directory / "audit_vault.ndjson"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[-1], *lines[:-1]]))


def lost(directory: Path) -> None:
    path = directory / "audit_vault.ndjson"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:500] + lines[900:]))


def unreadable(directory: Path) -> None:
    path = directory / "audit_vault.ndjson"
    lines = path.read_bytes().splitlines(keepends=True)
    for place in range(1_000, 4_000, 3):
        lines[place] = b"nothing\n"
    path.write_bytes(b"".join(lines))


def without_envelope(directory: Path) -> None:
    spoilt(directory)
    edited(directory, "audit_vault", 2_000, lambda row: row.update(cose_sign1=""))
    edited(directory, "audit_vault", 3_000, lambda row: row.update(cose_sign1=None))


def without_registry(directory: Path) -> None:
    (directory / "vault_signing_keys.ndjson").write_bytes(b"")


SPOILT: dict[str, tuple[Callable[[Path], object], int | None]] = {
    "genuine": (lambda _: None, 0),
    "spoilt": (spoilt, 6),
    "swapped": (swapped, None),
    "in pieces": (in_pieces, None),
    "early schema": (early_schema, 6),
    "lost": (lost, 84),
    "unreadable": (unreadable, 0),
    "without envelope": (without_envelope, 3),
    "without registry": (without_registry, None),
}


@pytest.mark.parametrize("kind", SPOILT)
def test_any_number_of_processes_reports_the_same(kind: str, larger: Path, tmp_path: Path) -> None:
    spoil, failures = SPOILT[kind]
    directory = copied(larger, tmp_path / "copy")
    spoil(directory)
    one, two = (verify_directory(directory, jobs=jobs) for jobs in (1, 2))
    assert one == two
    if failures is not None:
        assert one.failure_count == failures
    assert len(one.findings) == min(one.failure_count, MOST_FINDINGS)
    assert (one.verdict == "passed") == (kind == "genuine")


def test_failures_are_counted_beyond_those_that_are_listed(larger: Path, tmp_path: Path) -> None:
    directory = copied(larger, tmp_path / "copy")
    without_registry(directory)
    found = verify_directory(directory, jobs=2)
    entries, checkpoints = found.counts["audit_vault"], found.counts["vault_checkpoints"]
    assert found.failure_count >= entries + checkpoints
    assert len(found.findings) == MOST_FINDINGS
    assert {finding.code for finding in found.findings} == {Code.CHAIN_SIGNATURE_MISSING_KEY}


def test_progress_is_told_up_to_the_end(larger: Path) -> None:
    steps: list[tuple[str, int | None]] = []
    done: list[int] = []

    @contextlib.contextmanager
    def progress(name: str, total: int | None = None) -> Iterator[Advance]:
        steps.append((name, total))
        yield done.append

    verify_directory(larger, jobs=2, progress=progress)
    size = (larger / "audit_vault.ndjson").stat().st_size
    assert steps == [("verify", size)]
    assert done == sorted(done)
    assert len(done) > 3
    assert done[-1] == size


def heads(vault: Tampered) -> list[tuple[str, int, str]]:
    last = {row.chain_key: row for row in vault.rows.audit_vault}
    return [(key, row.chain_position, row.payload_hash) for key, row in last.items()]


def everything(vault: Tampered) -> Proved:
    envelopes = [hashlib.sha256(row.cose_sign1).hexdigest() for row in vault.rows.vault_checkpoints]
    return proved(heads(vault), envelopes)


def numbers(found: Verification) -> tuple[str, int, int]:
    return found.verdict, found.signatures_checked, found.signatures_carried


@pytest.mark.parametrize("era", ERAS)
def test_what_is_proved_is_not_verified_again(era: Era, tmp_path: Path) -> None:
    vault = tampered(era)
    full = vault.verify(tmp_path)
    carried = vault.verify(tmp_path, carried=everything(vault))
    signed = len(vault.rows.audit_vault) + len(vault.rows.vault_checkpoints)
    assert numbers(carried) == ("passed", full.signatures_checked - signed, signed)
    assert replace(carried, signatures_checked=full.signatures_checked, signatures_carried=0) == full


def test_only_what_came_after_the_proved_head_is_verified(tmp_path: Path) -> None:
    vault = tampered("v2")
    entry = vault.entry(2, 3)
    total = vault.verify(tmp_path).signatures_checked
    found = vault.verify(tmp_path, carried=proved([(entry.chain_key, 3, entry.payload_hash)]))
    assert numbers(found) == ("passed", total - 3, 3)


@pytest.mark.parametrize("head", [(5, "ab" * 32), (6, "ab" * 32), (10**12, "ab" * 32)])
def test_a_head_that_is_not_there_proves_nothing(head: tuple[int, str], tmp_path: Path) -> None:
    vault = tampered("v2")
    full = vault.verify(tmp_path)
    keys = {row.chain_key for row in vault.rows.audit_vault}
    assert vault.verify(tmp_path, carried=proved((key, *head) for key in keys)) == full


def test_a_chain_that_is_out_of_order_is_verified_in_full(tmp_path: Path) -> None:
    vault = tampered("v2")
    first, second = vault.place(2, 1), vault.place(2, 2)
    rows = vault.rows.audit_vault
    rows[first], rows[second] = rows[second], rows[first]
    carried = vault.verify(tmp_path, carried=everything(vault))
    assert (carried.verdict, carried.signatures_carried > 0) == ("passed", True)


def forged(vault: Tampered) -> None:
    """Have somebody without the vault's keys rewrite an entry, its hash, and the column that names it."""
    key = vault.key(UNREGISTERED)
    signer = vault.entry(2, 4)
    vault.sign_with(2, 4, key)
    vault.bend(2, 4, signing_key_id=signer.signing_key_id)
    vault.bend(2, 5, previous_hash=vault.entry(2, 4).payload_hash)


def unsealed(vault: Tampered) -> None:
    row = vault.entry(2, 5)
    vault.put_envelope(2, 5, row.cose_sign1[:-64] + bytes(64))


def keyless(vault: Tampered) -> None:
    vault.bend(2, 5, signing_key_id=None)


def repainted(vault: Tampered) -> None:
    vault.bend(2, 5, payload={})


def emptied(vault: Tampered) -> None:
    vault.rows.vault_signing_keys.clear()


@pytest.mark.parametrize("bend", [forged, unsealed, keyless, repainted, emptied])
@pytest.mark.parametrize("era", ERAS)
def test_what_is_bent_is_found_whatever_was_proved(
    era: Era, bend: Callable[[Tampered], object], tmp_path: Path
) -> None:
    vault = tampered(era)
    known = everything(vault)
    bend(vault)
    assert vault.verify(tmp_path, carried=known).verdict == "failed"


def test_another_key_under_the_same_name_carries_nothing(tmp_path: Path) -> None:
    vault = tampered("v2")
    known, other = everything(vault), msgspec.json.encode(vault.key(UNREGISTERED).spki)
    for place in range(len(vault.rows.vault_signing_keys)):
        vault.bend_row("vault_signing_keys", place, public_key=msgspec.json.decode(other))
    found = vault.verify(tmp_path, carried=known)
    assert (found.verdict, found.signatures_carried) == ("failed", 0)


@pytest.mark.parametrize("head", [("k", 0, "ab" * 32), ("k", 1, "ab"), ("k", 1, "zz" * 32)])
def test_what_is_no_head_is_refused(head: tuple[str, int, str]) -> None:
    with pytest.raises(ValueError, match=r"head|hexadecimal"):
        proved([head])


def test_one_long_chain_in_any_order(tmp_path: Path) -> None:
    shape = VaultShape(seed=7, records=1, entries_per_record=2_000, step=timedelta(seconds=1))
    SampleVault(shape).write_ndjson(tmp_path)
    path = tmp_path / "audit_vault.ndjson"
    expected = verify_directory(tmp_path, jobs=2)
    assert (expected.verdict, expected.counts["audit_vault"]) == ("passed", 2_012)
    lines = path.read_bytes().splitlines(keepends=True)
    lines[3:2_003] = reversed(lines[3:2_003])
    path.write_bytes(b"".join(lines))
    assert verify_directory(tmp_path, jobs=2) == expected


STALLED = """
import contextlib, sys, time
from pathlib import Path
from borg_vault_plugin.chain.verification import verify_directory

def stall(done):
    print(done, flush=True)
    time.sleep(600)

verify_directory(Path(sys.argv[1]), jobs=2, progress=lambda name, total: contextlib.nullcontext(stall))
"""


def children_of(process: int) -> list[int]:
    parents: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, parent = path.read_text().rpartition(")")[2].split()[:2]
            if state != "Z":
                parents[int(path.parent.name)] = int(parent)
    found = [child for child, parent in parents.items() if parent == process]
    return found + [grandchild for child in found for grandchild in children_of(child)]


def alive(processes: list[int]) -> list[int]:
    return [one for one in processes if Path(f"/proc/{one}/stat").exists() and " Z " not in proc_stat(one)]


def proc_stat(process: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{process}/stat").read_text()
    return " Z "


def test_a_killed_run_leaves_no_process_behind(larger: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", STALLED, str(larger)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as run:
        assert run.stdout is not None
        assert run.stdout.readline()
        children = children_of(run.pid)
        assert len(children) >= 3
        run.kill()
    deadline = time.monotonic() + 60
    while (left := alive(children)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not left


@pytest.mark.parametrize(("size", "jobs", "begun"), [(2, 2, True), (1, 2, False), (2, 1, False)])
def test_what_processes_are_forked_from_is_begun_early_with_everything_imported_and_only_if_it_is_needed(
    size: int, jobs: int, *, begun: bool
) -> None:
    program = (
        "import glob, pathlib, time, borg_vault_plugin.cli\n"
        "from borg_vault_plugin.chain.ranges import RANGE_BYTES, begin_processes\n"
        f"begin_processes({size} * RANGE_BYTES, {jobs})\n"
        "time.sleep(1)  # until they run what they were forked for\n"
        "for children in glob.glob('/proc/self/task/*/children'):\n"
        "    for child in pathlib.Path(children).read_text().split():\n"
        "        print(pathlib.Path(f'/proc/{child}/cmdline').read_text())\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    assert ("multiprocessing.forkserver" in done.stdout) is begun
    assert ("'borg_vault_plugin.chain.walk'" in done.stdout) is begun
    assert ("'borg_vault_plugin.cli'" in done.stdout) is begun
