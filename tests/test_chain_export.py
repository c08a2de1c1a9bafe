"""The chain as NDJSON: which keys, in which order, printed how; two exports of one state are the same bytes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import psycopg
import pytest
from fix_cli import RunCli
from fix_ndjson import COLUMNS, reference
from fix_vault import Vault, new_database

pytest_plugins = ("fix_server",)

OLDER_FILES = list(COLUMNS)[:5]
ENTRY = """
INSERT INTO audit_vault (id, record_id, entry_type, payload, payload_hash, chain_position, cose_sign1, actor_key_id,
    actor_role, actor_owner_id, created_at)
VALUES ({id}, {record}, 'ADDED', '{payload}', 'ab', {position}, '\\x00ff', gen_random_uuid(), 'platform',
    gen_random_uuid(), '{time}')"""


class Dump:
    """`dump-chain` of one database."""

    def __init__(self, vault: Vault, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch, directory: Path) -> None:
        self.vault = vault
        self._run_cli = run_cli
        self._directory = directory
        monkeypatch.setenv("DATABASE_URL", vault.url)

    def files(self, *words: str) -> dict[str, list[bytes]]:
        """Give the lines of every file that is written, by its table."""
        document = self._run_cli("dump-chain", self._directory, *words, exit_code=0).document
        files = {path.stem: path.read_bytes().splitlines(keepends=True) for path in self._directory.iterdir()}
        assert document["counts"] == {name: len(files[name]) for name in document["counts"]}
        assert sorted(files) == sorted(document["counts"])
        return files


@pytest.fixture
def dump(vault: Vault, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Dump:
    """Dumps of the vault, on each PostgreSQL."""
    return Dump(vault, run_cli, monkeypatch, tmp_path / "chain")


@pytest.fixture
def latest_dump(latest_vault: Vault, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Dump:
    """Dumps of the vault on the newest PostgreSQL."""
    return Dump(latest_vault, run_cli, monkeypatch, tmp_path / "chain")


def add(vault: Vault, **changes: object) -> None:
    """Add an entry that is like no other."""
    values = {"id": "gen_random_uuid()", "record": "gen_random_uuid()", "payload": "{}", "position": 1}
    vault.execute(ENTRY.format(**values | {"time": "2026-05-02 00:00:00Z"} | changes))


def expected(vault: Vault, names: list[str], **left_out: tuple[str, ...]) -> dict[str, list[bytes]]:
    with vault.connect() as connection:
        return {name: reference(connection, name, without=left_out.get(name, ())) for name in names}


def test_the_second_era_is_printed_as_the_format_says(dump: Dump) -> None:
    assert dump.files() == expected(dump.vault, list(COLUMNS))


def test_the_first_era_has_five_files_and_no_chain_key_on_checkpoints(
    older_vault: Vault, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    files = Dump(older_vault, run_cli, monkeypatch, tmp_path / "chain").files()
    assert files == expected(older_vault, OLDER_FILES, vault_checkpoints=("chain_key",))


def test_two_exports_of_one_state_are_the_same_bytes(dump: Dump) -> None:
    first = dump.files()
    # The rows move to other places on disk; nothing else changes.
    dump.vault.execute(
        "SET session_replication_role = replica; UPDATE audit_vault SET id = id WHERE chain_position = 1"
    )
    dump.vault.execute("VACUUM FULL audit_vault")
    assert dump.files() == first


def test_rows_stand_in_a_total_order(dump: Dump) -> None:
    for number, (record, payload, position) in enumerate([
        ("NULL", '{"orgId": "b"}', 2), ("NULL", '{"orgId": "B"}', 2), ("NULL", '{"orgId": "a"}', 2), ("NULL", "{}", 2),
        ("NULL", "{}", 1), ("'ffffffff-0000-0000-0000-000000000000'", "{}", 2),
        ("'0fffffff-0000-0000-0000-000000000000'", "{}", 10), ("'0fffffff-0000-0000-0000-000000000000'", "{}", 9),
    ]):  # fmt: skip
        for twin in (9, 1):
            add(dump.vault, id=f"'{twin}0000000-0000-0000-0000-{number:012}'", record=record, payload=payload,
                position=position)  # fmt: skip
    lines = dump.files()["audit_vault"]
    assert lines == expected(dump.vault, ["audit_vault"])["audit_vault"]
    added = [entry for entry in map(json.loads, lines) if entry["entry_type"] == "ADDED"]
    keys = [(entry["chain_key"], entry["chain_position"], entry["id"][0]) for entry in added if not entry["record_id"]]
    assert keys == [
        *[("schema:__platform__", 1, twin) for twin in "19"],
        *[(f"schema:{org}", 2, twin) for org in ("B", "__platform__", "a", "b") for twin in "19"],
    ]
    assert json.loads(lines[0])["record_id"] == "00000000-0000-0000-0000-000000000000"
    assert json.loads(lines[-1])["record_id"] is None


@pytest.mark.parametrize(
    ("instant", "text"),
    [
        ("2026-05-03 00:00:00.999954887Z", "2026-05-03T00:00:00.999Z"),
        ("2026-05-03 00:00:59.999999Z", "2026-05-03T00:00:59.999Z"),
        ("2026-05-03 02:00:00.954887+02", "2026-05-03T00:00:00.954Z"),
        ("2026-05-03 00:00:00Z", "2026-05-03T00:00:00.000Z"),
        ("1969-12-31 23:59:59.999999Z", "1969-12-31T23:59:59.999Z"),
        ("1969-12-31 23:59:59.000001Z", "1969-12-31T23:59:59.000Z"),
        ("1888-01-01 00:00:00.0005Z", "1888-01-01T00:00:00.000Z"),
    ],
)
def test_instants_are_cut_to_milliseconds(instant: str, text: str, latest_dump: Dump) -> None:
    latest_dump.vault.execute("CREATE TABLE audit_vault_rest PARTITION OF audit_vault DEFAULT")
    add(latest_dump.vault, time=instant)
    entries = [json.loads(line) for line in latest_dump.files()["audit_vault"]]
    assert [entry["created_at"] for entry in entries if entry["entry_type"] == "ADDED"] == [text]


def test_columns_of_newer_servers_follow_as_row_to_json_gives_them(dump: Dump) -> None:
    before = dump.files()["vault_signing_keys"]
    dump.vault.execute(
        r"""ALTER TABLE vault_signing_keys
            ADD note json DEFAULT E'{ "b" :\n [1.50,\t"x\\n \\u00e9"] , "a":1e400,"a":-0 }',
            ADD weight numeric DEFAULT 123456789012345678901234567890.10,
            ADD raw bytea DEFAULT '\x00ff',
            ADD "at Noon" timestamptz DEFAULT '2026-05-01 12:00:00.954887Z',
            ADD gone int DEFAULT 1,
            ADD nothing text,
            ADD "quo""te" text DEFAULT E'a\n b'""",
        "ALTER TABLE vault_signing_keys DROP gone",
    )
    tail = (
        r',"note":{"b":[1.50,"x\n \u00e9"],"a":1e400,"a":-0},"weight":123456789012345678901234567890.10,"raw":"\\x00ff"'
        r',"at Noon":"2026-05-01T12:00:00.954887+00:00","nothing":null,"quo\"te":"a\n b"}' + "\n"
    )
    assert dump.files()["vault_signing_keys"] == [line.removesuffix(b"}\n") + tail.encode() for line in before]


def test_absent_tables_give_empty_files(dump: Dump) -> None:
    absent = ["org_admin_reads", "org_admin_reads_checkpoints", "vault_checkpoints"]
    dump.vault.execute(f"SET agledger.allow_audit_drop = 'on'; DROP TABLE {', '.join(absent)}")
    files = dump.files()
    for name in absent:
        assert files[name] == []
    assert len(files["audit_vault"]) > 0


def test_a_database_without_a_chain_is_no_servers(
    latest_database: str, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DATABASE_URL", latest_database)
    said = run_cli("dump-chain", tmp_path / "chain", exit_code=4)
    assert "there is no table public.audit_vault" in said.stderr
    assert list((tmp_path / "chain").iterdir()) == []


def test_an_empty_list_of_statements_is_not_a_missing_one(latest_dump: Dump) -> None:
    latest_dump.vault.execute(
        "INSERT INTO vault_key_statements VALUES (gen_random_uuid(), 'genesis', 'empty', NULL, '{}', '2026-05-01Z')"
    )
    lines = latest_dump.files()["vault_key_statements"]
    statements = [json.loads(line) for line in lines]
    assert [one["statement"] for one in statements if one["subject_key_id"] == "empty"] == [[]]
    assert lines == expected(latest_dump.vault, ["vault_key_statements"])["vault_key_statements"]


def test_an_organisations_dump_holds_its_records_and_the_whole_registry(dump: Dump) -> None:
    whole = {name: [json.loads(line) for line in lines] for name, lines in dump.files().items()}
    with dump.vault.connect() as connection:
        orgs = [str(org) for (org,) in connection.execute("SELECT id FROM orgs ORDER BY id").fetchall()]
        belongs = dict(connection.execute("SELECT id::text, org_id::text FROM records").fetchall())
    seen: list[Any] = []
    for org in orgs:
        part = {name: [json.loads(line) for line in lines] for name, lines in dump.files("--org", org).items()}
        chains = {f"schema:{org}"} | {record for record, owner in belongs.items() if owner == org}
        for name in ("audit_vault", "vault_checkpoints"):
            assert part[name] == [row for row in whole[name] if row["chain_key"] in chains], name
        for name in ("org_admin_reads", "org_admin_reads_checkpoints"):
            assert part[name] == [row for row in whole[name] if row["org_id"] == org], name
        for name in ("vault_signing_keys", "vault_key_statements"):
            assert part[name] == whole[name], name
        seen += part["audit_vault"]
    assert len(orgs) == 2
    assert seen
    assert not any(entry["record_id"] == "00000000-0000-0000-0000-000000000000" for entry in seen)


def test_a_dump_replaces_the_one_before_it(latest_dump: Dump) -> None:
    before = latest_dump.files()["audit_vault"]
    add(latest_dump.vault)
    assert len(latest_dump.files()["audit_vault"]) == len(before) + 1


def test_a_latin1_database_is_printed_in_utf8(
    latest_vault: Vault, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    options = "ENCODING 'LATIN1' LOCALE 'C'"
    with new_database(latest_vault.cluster, options=options) as name:
        latin = Vault(latest_vault.cluster, name, latest_vault.sample)
        with psycopg.connect(latest_vault.cluster.conninfo(name), autocommit=True) as connection:
            latest_vault.sample.load(connection)
        add(latin, payload='{"größe": "50 §½ \\u00e9"}')
        lines = Dump(latin, run_cli, monkeypatch, tmp_path / "chain").files()["audit_vault"]
    assert sum('"payload":{"größe":"50 §½ é"}'.encode() in line for line in lines) == 1
