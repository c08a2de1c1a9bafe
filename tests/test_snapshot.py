"""One instant: what other sessions, settings, policies and privileges can and cannot do to a backup."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from fix_cli import RunCli
from fix_plugin import InstallPlugin
from fix_repository import PlainRepository
from fix_vault import Vault, connect, digests, new_database, role, url_of

from borg_vault_plugin import export_registry
from borg_vault_plugin.database import source_from_url
from borg_vault_plugin.process import run
from borg_vault_plugin.sample.database import add_months
from borg_vault_plugin.sample.plan import HOUR
from borg_vault_plugin.session import prepare_session
from borg_vault_plugin.snapshot import open_snapshot

pytest_plugins = ("fix_server",)

WriteConfig = Callable[[str], Path]

SLOW_PLUGIN = """
@hookimpl
def collect_artifacts(snapshot, staging):
    with snapshot.connection() as connection, staging.write("slow.txt") as file:
        file.write(str(connection.execute("SELECT 1 FROM pg_sleep(0.6)").fetchone()[0]).encode())
    yield file.artifact()
"""
YEARS_OF_WRITING = 3 * 365 * 24 * HOUR
SETTINGS = {
    "TimeZone": "'Asia/Kathmandu'",
    "DateStyle": "'German, DMY'",
    "IntervalStyle": "'iso_8601'",
    "bytea_output": "'escape'",
    "extra_float_digits": "-15",
    "quote_all_identifiers": "on",
    "standard_conforming_strings": "off",
    "search_path": "pgboss",
    "default_transaction_read_only": "on",
    "client_encoding": "'LATIN1'",
}


def restore(vault: Vault, dump: Path, database: str) -> None:
    """Restore a dump with the server's own pg_restore."""
    command: list[str | Path] = [vault.cluster.programs / "pg_restore", "--exit-on-error", f"--dbname={database}", dump]
    done = run(command, env=vault.cluster.environment(database) | {"PATH": "/usr/bin:/bin"}, timeout=120)
    assert done.returncode == 0, done.stderr


def registry_csv(url: str) -> bytes:
    """Give the registry of a database as a run writes it."""
    written: list[bytes] = []
    with source_from_url(url).connect() as connection:
        prepare_session(connection, lock_timeout=timedelta(seconds=5))
        export_registry(connection, written.append)
    return b"".join(written)


@pytest.fixture
def slow_plugin(install_plugin: InstallPlugin, write_config: WriteConfig) -> None:
    """A hook that takes a while, so that something can happen meanwhile."""
    install_plugin(SLOW_PLUGIN)
    write_config('plugins = ["badge"]')


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A current directory of the test's own."""
    monkeypatch.chdir(tmp_path)


@contextmanager
def writing(vault: Vault) -> Iterator[Callable[[], int]]:
    """Append to the vault and rotate its keys all the time; give a function that counts the days so far."""
    done, begun = threading.Event(), threading.Event()
    days: list[int] = []
    failures: list[BaseException] = []
    last = vault.sample.plan.end + YEARS_OF_WRITING
    # A month that is added is a migration: a run starts over for one, but here one would follow at once.
    with vault.connect() as connection:
        add_months(connection, vault.sample.plan.end, last)

    def write() -> None:
        try:
            with vault.connect() as connection:
                while not done.is_set() and vault.sample.plan.end < last:
                    vault.sample.grow(connection, entries=6, rotate=len(days) % 2 == 0, records_updated=2)
                    days.append(1)
                    begun.set()
        except BaseException as error:  # noqa: BLE001 (told in the thread of the test)
            failures.append(error)
            begun.set()

    thread = threading.Thread(target=write)
    thread.start()
    try:
        assert begun.wait(30)
        yield lambda: len(days)
    finally:
        done.set()
        thread.join(30)
    assert failures == []


@pytest.mark.usefixtures("slow_plugin")
def test_a_backup_made_while_others_write_is_of_one_instant(
    server: Vault,
    repository: PlainRepository,
    run_cli: RunCli,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with writing(server) as days:
        before = days()
        document = run_cli("create", "--json", exit_code=0).document
        assert days() > before
    extracted = repository.extract(document["archive"], tmp_path / "extracted")
    with new_database(server.cluster) as name:
        restore(server, extracted / "db.dump", name)
        restored = Vault(server.cluster, name, server.sample)
        monkeypatch.setenv("DATABASE_URL", restored.url)
        dumped = run_cli("dump-chain", tmp_path / "chain", exit_code=0).document
        assert registry_csv(restored.url) == (extracted / "vault-public-keys.csv").read_bytes()
        counts = {table: restored.value(f"SELECT count(*) FROM {table}") for table in dumped["counts"]}
    assert dumped["counts"] == document["counts"] == counts
    for path in (extracted / "chain").iterdir():
        assert (tmp_path / "chain" / path.name).read_bytes() == path.read_bytes(), path.name


def test_a_hook_sees_the_instant_of_the_snapshot_and_nothing_later(latest_vault: Vault, tmp_path: Path) -> None:
    source = source_from_url(latest_vault.url)
    with open_snapshot(source, lock_timeout=timedelta(seconds=5), private=tmp_path) as snapshot:
        latest_vault.execute("INSERT INTO chain_restore_markers VALUES ('later', now(), NULL)")
        with snapshot.connection() as connection:
            assert connection.execute("SELECT count(*) FROM public.chain_restore_markers").fetchone() == (0,)
            with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
                connection.execute("DELETE FROM public.chain_restore_markers")


@pytest.mark.parametrize("command", ["TRUNCATE records, completions", "ALTER TABLE records ALTER version TYPE bigint"])
def test_what_snapshots_do_not_protect_from_has_to_wait(command: str, latest_vault: Vault, tmp_path: Path) -> None:
    source = source_from_url(latest_vault.url)
    latest_vault.execute("ALTER TABLE records DROP COLUMN is_amended")
    with (
        open_snapshot(source, lock_timeout=timedelta(seconds=5), private=tmp_path),
        latest_vault.connect() as other,
    ):
        other.execute("SET lock_timeout = '200ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            other.execute(command.encode())
    latest_vault.execute(command)


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize("command", [["create", "--no-prune"], ["dump-chain", "chain"]])
def test_a_locked_table_is_named(
    command: list[str],
    server: Vault,
    run_cli: RunCli,
    write_config: WriteConfig,
) -> None:
    write_config('[database]\nlock_timeout = "1s"')
    with server.connect() as migration, migration.transaction():
        migration.execute("LOCK TABLE vault_checkpoints IN ACCESS EXCLUSIVE MODE")
        said = run_cli(*command, exit_code=4).stderr
    assert "table public.vault_checkpoints: " in said
    assert "raise database.lock_timeout" in said


def test_a_table_that_the_role_may_not_read_is_named(
    server: Vault, repository: PlainRepository, run_cli: RunCli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with role(server, grant=False) as name:
        server.execute(
            f"GRANT USAGE ON SCHEMA public, pgboss TO {name}",
            f"GRANT SELECT ON ALL TABLES IN SCHEMA public, pgboss TO {name}",
            f"REVOKE SELECT ON org_admin_reads FROM {name}",
        )
        monkeypatch.setenv("DATABASE_URL", url_of(server, name))
        said = run_cli("create", exit_code=7).stderr
        assert "public.org_admin_reads (no SELECT)" in said
        assert "grant it pg_read_all_data" in said
        said = run_cli("dump-chain", tmp_path / "chain", exit_code=4).stderr
        assert "table public.org_admin_reads: " in said
        assert "grant SELECT on it to the backup's role" in said
    assert repository.names() == []


@pytest.mark.parametrize("table", ["audit_vault", "vault_signing_keys", "webhook_subscriptions"])
def test_a_policy_that_would_hide_rows_ends_the_run(
    table: str, server: Vault, repository: PlainRepository, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.execute("DROP POLICY own_org ON webhook_subscriptions")
    server.execute("ALTER TABLE webhook_subscriptions DISABLE ROW LEVEL SECURITY")
    server.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY", f"CREATE POLICY few ON {table} USING (false)")
    with role(server) as name:
        monkeypatch.setenv("DATABASE_URL", url_of(server, name))
        said = run_cli("create", exit_code=7).stderr
        assert f"public.{table} (row-level security)" in said
        assert "BYPASSRLS" in said
    assert repository.names() == []


@pytest.mark.parametrize("table", ["audit_vault", "vault_signing_keys"])
def test_a_policy_cannot_shorten_a_chain_dump(
    table: str, latest_vault: Vault, run_cli: RunCli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    latest_vault.execute(
        f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY", f"CREATE POLICY few ON {table} USING (false)"
    )
    with role(latest_vault) as name:
        monkeypatch.setenv("DATABASE_URL", url_of(latest_vault, name))
        said = run_cli("dump-chain", tmp_path / "chain", exit_code=4).stderr
    assert f'"{table}"' in said
    assert "BYPASSRLS" in said
    assert not (tmp_path / "chain" / f"{table}.ndjson").exists()


def test_a_role_that_bypasses_policies_exports_every_row(
    latest_vault: Vault, run_cli: RunCli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    latest_vault.execute("ALTER TABLE audit_vault ENABLE ROW LEVEL SECURITY")
    with role(latest_vault, options="BYPASSRLS") as name:
        monkeypatch.setenv("DATABASE_URL", url_of(latest_vault, name))
        counts = run_cli("dump-chain", tmp_path / "chain", exit_code=0).document["counts"]
    assert counts["audit_vault"] == latest_vault.value("SELECT count(*) FROM audit_vault")


@pytest.mark.usefixtures("slow_plugin")
@pytest.mark.parametrize("owner", ["ROLE", "DATABASE"])
def test_timeouts_of_the_role_or_the_database_do_no_harm(
    owner: str,
    server: Vault,
    run_cli: RunCli,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = ("statement_timeout", "idle_in_transaction_session_timeout", "transaction_timeout", "lock_timeout")
    with role(server, options="BYPASSRLS") as name:
        target = name if owner == "ROLE" else f'"{server.database}"'
        server.execute(*(f"ALTER {owner} {target} SET {timeout} = '400ms'" for timeout in names))
        monkeypatch.setenv("DATABASE_URL", url_of(server, name))
        document = run_cli("create", "--json", "--no-prune", exit_code=0).document
        with connect(server.cluster.conninfo()) as connection:
            connection.execute(f"ALTER {owner} {target} RESET ALL".encode())
    assert "slow.txt" in [artifact["path"] for artifact in document["artifacts"]]


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_setting_of_the_role_changes_no_byte_of_the_chain(
    setting: str, latest_vault: Vault, run_cli: RunCli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    latest_vault.execute(
        "ALTER TABLE vault_signing_keys ADD share float8 DEFAULT 0.1, ADD raw bytea DEFAULT '\\x00ff',"
        " ADD seen timestamptz DEFAULT '2026-05-01Z', ADD every interval DEFAULT '1 day 02:00',"
        " ADD word text DEFAULT 'é'"
    )
    with role(latest_vault) as name:
        monkeypatch.setenv("DATABASE_URL", url_of(latest_vault, name))
        run_cli("dump-chain", tmp_path / "before", exit_code=0)
        latest_vault.execute(f"ALTER ROLE {name} SET {setting} = {SETTINGS[setting]}")
        run_cli("dump-chain", tmp_path / "after", exit_code=0)
    for path in (tmp_path / "before").iterdir():
        assert (tmp_path / "after" / path.name).read_bytes() == path.read_bytes(), path.name


def test_a_snapshot_leaves_no_session_behind(server: Vault, run_cli: RunCli) -> None:
    run_cli("create", "--dry-run", exit_code=0)
    sessions = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{server.database}' AND pid <> pg_backend_pid()"
    assert server.value(sessions) == 0


def test_the_source_is_untouched(server: Vault, run_cli: RunCli) -> None:
    before = digests(server.cluster.conninfo(server.database))
    run_cli("create", "--no-prune", exit_code=0)
    assert digests(server.cluster.conninfo(server.database)) == before
