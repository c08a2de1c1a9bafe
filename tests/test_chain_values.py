"""Values in the chain survive exactly: every token of a payload is the one that PostgreSQL prints."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import psycopg
import pytest
from fix_ndjson import compacted, reference
from fix_vault import Connection, Vault, connect
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from borg_vault_plugin import Heads, exported_tables
from borg_vault_plugin.chain_export import TABLES, compact, export_table
from borg_vault_plugin.session import prepare_session

pytest_plugins = ("fix_server",)

INSERT = """
INSERT INTO audit_vault (id, record_id, entry_type, payload, payload_hash, chain_position, cose_sign1, actor_key_id,
    actor_role, actor_owner_id, created_at)
SELECT gen_random_uuid(), '00000000-0000-0000-0000-000000000000', 'ADDED', p::jsonb, 'ab', 1000 + n, '\\x',
    gen_random_uuid(), 'platform', gen_random_uuid(), '2026-05-02Z'
FROM unnest(%s::text[]) WITH ORDINALITY AS u(p, n)"""
STORED = "SELECT payload::text FROM audit_vault WHERE entry_type = 'ADDED' ORDER BY chain_position"
PLANES = [chr(plane << 16 | 0x1234) for plane in range(17)]

VALUES = {
    "backslashes": r'["\\", "a\\nb", "\\\\", "\\u0041", "C:\\temp\\"]',
    "quotes": r'{"a\"b": "\"", "\"": "say \"hi\"", "\\\"": "\\\\\""}',
    "control characters": json.dumps("".join(map(chr, [*range(1, 32), 127, 128, 0x85, 0xA0, 0x2028, 0x2029, 0xFEFF]))),
    "every plane": json.dumps(dict.fromkeys(PLANES, PLANES), ensure_ascii=False),
    "escaped planes": json.dumps(PLANES, ensure_ascii=True),
    "white space inside strings": '{" a , b " : " : \\t { } [ ] \\n" , "" : ""}',
    "integers beyond a float": "[9007199254740993, -9007199254740993, 123456789012345678901234567890]",
    "a number beyond a float": "1e400",
    "a tiny number": "1e-400",
    "trailing zeros": "[0.10, 1.0, 100, 1.50e2, 0.000, -0.0]",
    "nested nulls": '{"a": null, "b": [null, [null], {"c": null}]}',
    "empty things": '[{}, [], "", {"": {}}]',
    "scalars": "[true, false, null, 0]",
    "keys that a dump has too": '{"payload_hash": "x", "id": 1, "chain_key": ",\\"payload\\":{"}',
    "five megabytes": json.dumps({"a": 'wide " \\ ' * 500_000}),
    "a thousand levels of lists": "[" * 1001 + "]" * 1001,
    "three thousand levels of maps": '{"a": ' * 3000 + '" b "' + "}" * 3000,
}


@pytest.fixture
def connection(vault: Vault) -> Iterator[Connection]:
    """A prepared session in a vault, on each PostgreSQL."""
    with connect(vault.cluster.conninfo(vault.database)) as connection:
        prepare(connection)
        yield connection


def prepare(connection: Connection) -> None:
    from datetime import timedelta  # noqa: PLC0415 (the only use)

    prepare_session(connection, lock_timeout=timedelta(seconds=5))
    connection.execute("SET search_path = public, pg_catalog")


def exported(connection: Connection, name: str = "audit_vault", org: UUID | None = None) -> list[bytes]:
    (table,) = [table for table in TABLES if table.name == name]
    lines: list[bytes] = []
    assert export_table(connection, table, lines.append, org=org) == len(lines)
    return lines


def added(connection: Connection, payloads: list[str]) -> list[tuple[str, str]]:
    """Add entries and give, for each, the payload as PostgreSQL prints it and as it stands in its line."""
    with connection.transaction(force_rollback=True):
        connection.execute(INSERT, [payloads])
        stored = [text for (text,) in connection.execute(STORED).fetchall()]
        lines = [line.decode() for line in exported(connection) if b'"entry_type":"ADDED"' in line]
    assert len(stored) == len(lines) == len(payloads)
    return [(text, payload_of(line)) for text, line in zip(stored, lines, strict=True)]


def payload_of(line: str) -> str:
    """Give the text of a line's payload: what stands between the columns before and after it."""
    before, after = '"entry_type":"ADDED","payload":', ',"payload_hash":"ab","previous_hash":null,"chain_position":1'
    return line[line.index(before) + len(before) : line.rindex(after)]


@pytest.mark.parametrize("kind", VALUES)
def test_a_payload_survives_exactly(kind: str, connection: Connection) -> None:
    ((stored, printed),) = added(connection, [VALUES[kind]])
    assert printed == compacted(stored)


def test_a_line_is_one_line_of_utf8(connection: Connection) -> None:
    connection.execute(INSERT, [[text for kind, text in VALUES.items() if kind != "five megabytes"]])
    for line in exported(connection):
        assert line.count(b"\n") == 1
        assert line.endswith(b"}\n")
        line.decode("utf-8")


def test_text_columns_survive_too(connection: Connection) -> None:
    words = '\\ " \t\r\n\x01\x1f\x7f é \U0001f600 \\N \\. {},[]'
    connection.execute("UPDATE vault_signing_keys SET public_key = %s, retired_by = NULL", [words])
    lines = exported(connection, "vault_signing_keys")
    assert lines == reference(connection, "vault_signing_keys")
    assert [json.loads(line)["public_key"] for line in lines] == [words] * len(lines)


def test_bytes_are_one_line_of_base64_whatever_their_length(connection: Connection) -> None:
    connection.execute("SET session_replication_role = replica")
    connection.execute(
        "UPDATE audit_vault v SET cose_sign1 = substring(decode(repeat('00ff10', 400), 'hex') FOR n::int)"
        " FROM (SELECT id, row_number() OVER () AS n FROM audit_vault) u WHERE u.id = v.id"
    )
    assert exported(connection) == reference(connection, "audit_vault")


def test_an_entry_of_no_record_belongs_to_its_organisation_or_the_platform(connection: Connection) -> None:
    connection.execute(INSERT, [['{"orgId": "o\\"1"}', '{"orgId": null}', "[]", '{"orgId": {"a": 1}}']])
    connection.execute(
        "SET session_replication_role = replica; UPDATE audit_vault SET record_id = NULL WHERE payload_hash = 'ab'"
    )
    entries = [json.loads(line) for line in exported(connection)]
    keys = [entry["chain_key"] for entry in entries if entry["entry_type"] == "ADDED"]
    assert keys == ['schema:o"1', "schema:__platform__", "schema:__platform__", 'schema:{"a": 1}']
    assert all(entry["record_id"] is None for entry in entries if entry["entry_type"] == "ADDED")


def test_heads_follow_entries_however_deep(connection: Connection) -> None:
    connection.execute(INSERT, [[VALUES["three thousand levels of maps"]]])
    heads: list[bytes] = []
    following = Heads(heads.append)
    for line in exported(connection):
        following.follow(line)
    following.finish()
    assert following.chains == len(heads) == len({json.loads(head)["chain_key"] for head in heads})
    assert json.loads(heads[0])["position"] == 1001


def test_every_file_of_the_format_is_exported(connection: Connection) -> None:
    assert [table.name for table in exported_tables(connection)] == [table.name for table in TABLES]


TEXT = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=12)
NUMBER = st.one_of(
    st.integers().map(str),
    st.integers(min_value=10**25, max_value=10**40).map(str),
    st.decimals(allow_nan=False, allow_infinity=False, places=4).map(lambda value: f"{value:f}"),
    st.tuples(st.integers(-99, 99), st.integers(-300, 400)).map(lambda pair: f"{pair[0]}e{pair[1]}"),
)
SPACE = st.sampled_from(["", " ", "\n", "\t ", "\r\n"])


def string(text: str) -> str:
    return json.dumps(text, ensure_ascii=len(text) % 2 == 0)


def bracketed(items: list[str], brackets: str, space: str) -> str:
    return brackets[0] + space + f"{space},{space}".join(items) + space + brackets[1]


JSON_TEXT = st.recursive(
    st.one_of(TEXT.map(string), NUMBER, st.sampled_from(["true", "false", "null"])),
    lambda inner: st.one_of(
        st.builds(bracketed, st.lists(inner, max_size=4), st.just("[]"), SPACE),
        st.builds(
            bracketed,
            st.lists(st.tuples(TEXT.map(string), inner).map(lambda pair: f"{pair[0]} : {pair[1]}"), max_size=4),
            st.just("{}"),
            SPACE,
        ),
    ),
    max_leaves=12,
)


@pytest.fixture
def scratch(latest_vault: Vault) -> Iterator[Connection]:
    """A prepared session in a vault of which only the platform's own entries are left, for speed."""
    latest_vault.execute("SET session_replication_role = replica; DELETE FROM audit_vault")
    with psycopg.connect(latest_vault.cluster.conninfo(latest_vault.database), autocommit=True) as connection:
        prepare(connection)
        yield connection


def exact(text: str) -> Any:
    return json.loads(text, parse_int=str, parse_float=str)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(JSON_TEXT, min_size=1, max_size=12))
def test_any_payload_is_postgresqls_text_without_white_space(scratch: Connection, payloads: list[str]) -> None:
    for stored, printed in added(scratch, payloads):
        assert printed == compacted(stored)
        assert exact(printed) == exact(stored)


@settings(max_examples=150, deadline=None)
@given(JSON_TEXT)
def test_compacting_takes_nothing_but_white_space(text: str) -> None:
    assert compact(text.encode()).decode() == compacted(text)
    assert compact(compact(text.encode())) == compact(text.encode())
