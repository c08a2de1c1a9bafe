"""The whole story of a restore: beside the live database, proven, and then under its name."""

from __future__ import annotations

import contextlib
import re
import shlex
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from fix_cli import RunCli
from fix_fault_run import eventually
from fix_repository import PlainRepository, announce
from fix_restore import CONFIG, DROP_TABLES, LOGIN, OWNER, Rescue
from fix_vault import Vault, connect, digests

from borg_vault_plugin.cluster import Cluster
from borg_vault_plugin.sample import SampleVault, VaultShape

pytest_plugins = ("fix_server", "fix_rescue")

KEYS = [
    "archive", "database", "server", "verdict", "checks", "roles_created", "roles_without_password", "swapped",
    "previous_database", "lost", "next",
]  # fmt: skip
CHECKS = ["files", "dump", "chain", "restore", "database", "registry", "export"]
TRIGGERS = """
SELECT array_agg(tgrelid::regclass || ' ' || tgname ORDER BY tgrelid::regclass::text, tgname)::text
       || (SELECT array_agg(evtname)::text FROM pg_event_trigger)
  FROM pg_trigger WHERE NOT tgisinternal"""
FACTS = """
SELECT to_jsonb(d) - 'oid' - 'datfrozenxid' - 'datminmxid' FROM pg_database d WHERE datname = current_database()"""
GRANTS = """
SELECT array_agg(concat_ws(' ', table_name, grantee, privilege_type) ORDER BY table_name, grantee, privilege_type)::text
  FROM information_schema.role_table_grants WHERE table_schema = 'public'"""


def test_dropped_tables_are_back_and_proven(
    vault: Vault,
    repository: PlainRepository,
    run_cli: RunCli,
    write_config: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_config(CONFIG)
    announce(monkeypatch, vault, repository)
    archive = run_cli("create", "--json", exit_code=0).document["archive"]
    before = digests(vault.cluster.conninfo(vault.database)), vault.value(TRIGGERS), vault.value(GRANTS)
    vault.execute(*DROP_TABLES)
    said = run_cli("restore", "--swap", "--yes", exit_code=0).stdout
    assert f"PASSED: {archive} is {vault.database} on " in said
    assert (digests(vault.cluster.conninfo(vault.database)), vault.value(TRIGGERS), vault.value(GRANTS)) == before
    with pytest.raises(psycopg.errors.RaiseException):
        vault.execute("DELETE FROM audit_vault")
    drop(vault.cluster, found(r"what was there before is (\S+) now", said))


def test_a_restore_beside_touches_nothing_and_says_what_comes_next(rescue: Rescue, run_cli: RunCli) -> None:
    before = rescue.digests()
    document = run_cli("restore", "--json", exit_code=0).document
    assert list(document) == KEYS
    assert [check["name"] for check in document["checks"]] == CHECKS
    assert {check["verdict"] for check in document["checks"]} == {"passed"}
    assert document["archive"] == rescue.nights.newer
    assert re.fullmatch(f"{rescue.live}_restored_[0-9]{{14}}", document["database"])
    assert (document["verdict"], document["swapped"], document["previous_database"]) == ("passed", False, None)
    assert rescue.digests() == rescue.digests(document["database"]) == before
    (loss,) = document["lost"]
    assert (loss["entries"], loss["chains"], loss["keys"]) == (0, 0, 0)
    (event,) = rescue.history("restored")
    assert (event["archive"], event["database"], event["verdict"]) == (
        rescue.nights.newer, document["database"], "passed",
    )  # fmt: skip

    swap, drop_it = document["next"]
    assert drop_it["command"] == f'DROP DATABASE "{document["database"]}";'
    words = shlex.split(swap["command"])
    assert words[:4] == ["borg-vault", "restore", rescue.nights.newer, "--database"]
    rescue.vault.execute(*DROP_TABLES)
    swapped = run_cli(*words[1:], "--yes", "--json", exit_code=0).document
    assert (swapped["database"], swapped["swapped"]) == (rescue.live, True)
    assert next(check for check in swapped["checks"] if check["name"] == "restore")["verdict"] == "not_applicable"
    assert rescue.digests() == before
    assert rescue.databases() == {rescue.live, swapped["previous_database"]}
    assert not rescue.open(swapped["previous_database"])
    assert [event["where"] for event in rescue.history("swapped")] == [swapped["previous_database"]]
    assert rescue.history("rewound") == []


def test_a_database_that_is_not_there_any_more_comes_back(rescue: Rescue, run_cli: RunCli) -> None:
    before = rescue.digests()
    drop(rescue.vault.cluster, rescue.live)
    document = run_cli("restore", "--swap", "--yes", "--json", exit_code=0).document
    assert (document["database"], document["previous_database"], document["lost"]) == (rescue.live, None, [])
    assert rescue.digests() == before
    assert rescue.databases() == {rescue.live}


def test_roles_that_are_missing_are_made_without_login_and_the_summary_names_them(
    rescue: Rescue, run_cli: RunCli
) -> None:
    with rescue.without_roles():
        said = run_cli("restore", "--swap", "--yes", exit_code=0).stdout
        assert f"2 roles made, which cannot log in: {LOGIN}, {OWNER}" in said
        assert f"of these, give a password and LOGIN to: {LOGIN}" in said
        assert f"""ALTER ROLE "{LOGIN}" LOGIN PASSWORD '…';""" in said
        assert (
            rescue.vault.value("SELECT bool_or(rolcanlogin) FROM pg_roles WHERE rolname = ANY (ARRAY['app-login'])")
            is False
        )
        assert rescue.vault.value("SELECT pg_get_userbyid(relowner) FROM pg_class WHERE relname = 'notes'") == OWNER
        last = "\n".join(said.splitlines()[-4:])
        for words in ("archives do not contain", "encryption keys", "PROVISIONING_CONFIG_PATH", ".env"):
            assert words in last
        assert rescue.vault.value(f"SELECT has_table_privilege('{LOGIN}', 'notes', 'SELECT')") is True


def test_an_owner_who_is_no_superuser_gets_his_database_back(
    rescue: Rescue, run_cli: RunCli, write_config: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a managed server: a role that makes databases owns everything, and there are no event triggers."""
    cluster, owner, name = rescue.vault.cluster, "tenant", f"{rescue.live} of a tenant"
    rescue.execute(f"CREATE ROLE {owner} LOGIN CREATEDB PASSWORD '{cluster.password}'")
    rescue.execute(f"CREATE DATABASE {{}} OWNER {owner}", name)
    with connect(cluster.conninfo(name).replace(f"user={cluster.user}", f"user={owner}")) as connection:
        sample = SampleVault(VaultShape(records=3))
        sample.load(connection)
    monkeypatch.setenv("DATABASE_URL", cluster.url(name).replace(f"//{cluster.user}:", f"//{owner}:"))
    write_config('label = "tenant"\n')
    run_cli("create", exit_code=0)
    before = rescue.digests(name)
    Vault(cluster, name, sample).execute("DROP SCHEMA pgboss CASCADE")
    said = run_cli("restore", "--swap", "--yes", exit_code=0).stdout
    assert f" is {name} on " in said
    assert rescue.digests(name) == before
    drop(cluster, found(r"what was there before is (.*) now,", said))
    drop(cluster, name)
    rescue.execute(f"DROP ROLE {owner}")


def test_pools_that_are_connected_go_on_in_the_restored_database(rescue: Rescue, run_cli: RunCli) -> None:
    rescue.vault.execute("TRUNCATE notes", "INSERT INTO notes VALUES (0, 'after the disaster')")
    seen: list[tuple[float, int, float]] = []
    done = threading.Event()

    def hammer() -> None:
        while not done.is_set():
            begun = time.monotonic()
            with contextlib.suppress(psycopg.OperationalError), rescue.vault.connect() as connection:
                (row,) = connection.execute("SELECT number FROM notes").fetchall()
                seen.append((begun, row[0], time.monotonic()))

    def numbers(since: float) -> set[int]:
        return {number for begun, number, _ in seen if begun > since}

    threads = [threading.Thread(target=hammer, daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    eventually(lambda: 0 in numbers(0), "the pools are connected")
    run_cli("restore", "--swap", "--yes", exit_code=0)
    restored = time.monotonic()
    eventually(lambda: numbers(restored), "they are connected again")
    done.set()
    for thread in threads:
        thread.join()
    swapped = min(ended for _, number, ended in seen if number == 1)
    assert numbers(min(swapped, restored)) == {1}


@pytest.mark.parametrize("name", ['-x "quo"te; DROP DATABASE x', "größe 100 %s it's {0} \\ $$ " + "x" * 33])
def test_hostile_names_are_only_names(rescue: Rescue, run_cli: RunCli, name: str) -> None:
    document = run_cli("restore", f"--database={name}", "--json", exit_code=0).document
    try:
        assert document["database"] == name
        assert rescue.digests(name) == rescue.digests()
    finally:
        drop(rescue.vault.cluster, name)


def test_connection_limit_settings_and_comment_are_the_archived_ones(rescue: Rescue, run_cli: RunCli) -> None:
    quoted = f'"{rescue.live}"'
    rescue.vault.execute(
        f"ALTER DATABASE {quoted} CONNECTION LIMIT 17",
        f"ALTER DATABASE {quoted} SET work_mem = '5MB'",
        f"COMMENT ON DATABASE {quoted} IS 'it''s live'",
        f'ALTER DATABASE {quoted} OWNER TO "owner ""of"" it"',
        f"REVOKE CONNECT ON DATABASE {quoted} FROM PUBLIC",
    )
    run_cli("create", exit_code=0)
    before = rescue.vault.value(FACTS)
    run_cli("restore", "--swap", "--yes", exit_code=0)
    assert rescue.vault.value(FACTS) == before
    assert rescue.vault.value("SHOW work_mem") == "5MB"


def drop(cluster: Cluster, name: str) -> None:
    with connect(cluster.conninfo()) as connection:
        quoted = psycopg.sql.Identifier(name)
        connection.execute(psycopg.sql.SQL("DROP DATABASE {} WITH (FORCE)").format(quoted))


def found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    assert match is not None, text
    return match[1]
