"""Preflight: what would make a run fail is said before its first byte, with names and numbers, and exit code 7."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from fix_artifacts import BackedUp, dump
from fix_cli import RunCli
from fix_installation import installed
from fix_repository import PlainRepository
from fix_vault import Vault, role, url_of

from borg_vault_plugin.borg import SEGMENT_BYTES, Repository, find_borg
from borg_vault_plugin.database import source_from_url
from borg_vault_plugin.errors import PreflightError
from borg_vault_plugin.preflight import FLOOR_BYTES, Estimate, check_repository_space, check_source, check_space
from borg_vault_plugin.sections import RepositorySettings

pytest_plugins = ("fix_server", "fix_backed_up")

MEGABYTE = 1_000_000


@contextmanager
def reader(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Let the program use a role that may read every table, as an operator grants it, and nothing more."""
    with role(vault, grant=False) as name:
        vault.execute(
            f"GRANT USAGE ON SCHEMA public, pgboss TO {name}",
            f"GRANT SELECT ON ALL TABLES IN SCHEMA public, pgboss TO {name}",
            f"GRANT SELECT ON ALL SEQUENCES IN SCHEMA public, pgboss TO {name}",
            "DROP POLICY own_org ON webhook_subscriptions",
            "ALTER TABLE webhook_subscriptions DISABLE ROW LEVEL SECURITY",
        )
        monkeypatch.setenv("DATABASE_URL", url_of(vault, name))
        yield name


def refusal(run_cli: RunCli, repository: PlainRepository, *words: str) -> str:
    """Give the one line that refuses a run; nothing was staged or stored."""
    said = run_cli("create", *words, exit_code=7)
    assert len(said.stderr.splitlines()) == 1
    assert "snapshot of" not in said.stdout
    assert "wrote " not in said.stdout
    assert repository.names() == []
    return said.stderr.removeprefix("borg-vault: ")


def test_a_role_that_may_read_everything_is_not_refused(
    server: Vault, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    with reader(server, monkeypatch):
        run_cli("create", "--dry-run", exit_code=0)


def test_every_table_that_cannot_be_read_stands_in_one_line(
    server: Vault, repository: PlainRepository, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    with reader(server, monkeypatch) as name:
        server.execute(
            f"REVOKE SELECT ON orgs, pgboss.job, org_admin_reads FROM {name}",
            "ALTER TABLE records ENABLE ROW LEVEL SECURITY",
            "CREATE POLICY few ON records USING (false)",
        )
        for words in ([], ["--dry-run"]):
            said = refusal(run_cli, repository, *words)
            assert said == (
                f"role {name} cannot read everything: pgboss.job (no SELECT), public.org_admin_reads (no SELECT),"
                " public.orgs (no SELECT), public.records (row-level security): grant it pg_read_all_data,"
                " and BYPASSRLS where row-level security is in the way\n"
            )


def test_a_partition_that_cannot_be_read_is_named(
    server: Vault, repository: PlainRepository, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    partition = server.value(
        "SELECT min(inhrelid::regclass::text) FROM pg_inherits i WHERE inhparent = 'audit_vault'::regclass"
    )
    with reader(server, monkeypatch) as name:
        server.execute(f"REVOKE SELECT ON {partition} FROM {name}")
        assert f"public.{partition} (no SELECT)" in refusal(run_cli, repository)


def test_of_many_tables_the_first_five_and_a_number_are_told(
    server: Vault, repository: PlainRepository, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    with reader(server, monkeypatch) as name:
        server.execute(f"REVOKE SELECT ON ALL TABLES IN SCHEMA public FROM {name}")
        said = refusal(run_cli, repository)
    tables = server.value(
        "SELECT count(*) FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace"
    )
    assert said.count("(no SELECT)") == 5
    assert f" and {tables - 5} more: grant it" in said


def test_a_schema_that_the_role_may_not_use_is_not_called_row_level_security(
    server: Vault, repository: PlainRepository, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    with reader(server, monkeypatch) as name:
        server.execute(f"REVOKE USAGE ON SCHEMA pgboss FROM {name}")
        said = refusal(run_cli, repository)
    assert "pgboss.job (" in said
    assert "pgboss.job (row-level security)" not in said


def test_a_sequence_that_cannot_be_read_is_named(
    server: Vault, repository: PlainRepository, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    with reader(server, monkeypatch) as name:
        server.execute(f"REVOKE ALL ON SEQUENCE record_reference_seq FROM {name}")
        assert "public.record_reference_seq (no SELECT)" in refusal(run_cli, repository)


def test_a_large_object_that_cannot_be_read_is_told(
    server: Vault, repository: PlainRepository, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.execute("SELECT lo_from_bytea(0, 'x'::bytea)")
    with reader(server, monkeypatch):
        assert "large object" in refusal(run_cli, repository)


def test_the_table_that_a_migration_hides_is_found_before_a_repository_is_changed(
    server: Vault, repository: PlainRepository, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = f"{server.database}-2026-05-01T00:00:00Z.partial"
    repository.add(left)
    with reader(server, monkeypatch) as name:
        server.execute(f"REVOKE SELECT ON orgs FROM {name}")
        run_cli("create", exit_code=7)
    assert repository.names() == [left]


def test_space_is_told_in_numbers(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    with pytest.raises(PreflightError) as refused:
        check_space(tmp_path / "not" / "there", free + 5_000 * MEGABYTE, "staging")
    said = str(refused.value)
    assert said.startswith(f"staging in {tmp_path}/not/there needs about ")
    assert said.endswith(" there, or choose another place")
    missing = re.search(r": free ([0-9,]+) MB there", said)
    assert missing is not None
    assert 4_900 < int(missing[1].replace(",", "")) < 5_100  # others use the disk meanwhile
    assert not (tmp_path / "not").exists()


def test_a_place_with_room_is_not_refused(tmp_path: Path) -> None:
    check_space(tmp_path / "not" / "there", MEGABYTE, "staging")
    check_space(tmp_path, 0, "staging")


def test_a_path_that_leads_nowhere_is_looked_up_from_the_current_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    check_space(Path("not/there"), MEGABYTE, "staging")
    with pytest.raises(PreflightError, match="staging in not/there needs about"):
        check_space(Path("not/there"), 1 << 60, "staging")


def opened(path: Path | str) -> Repository:
    return Repository("nas", RepositorySettings(path=str(path)), find_borg(), "x")


def test_the_first_archive_needs_room_for_all_of_it_and_later_ones_for_a_tenth(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    estimate = Estimate(dump=free, chain=free)
    with pytest.raises(PreflightError, match=f"repository nas in {tmp_path}/repository needs about"):
        check_repository_space(opened(tmp_path / "repository"), estimate, is_first=True)
    check_repository_space(opened(tmp_path / "repository"), estimate, is_first=False)
    with pytest.raises(PreflightError, match="repository nas in"):
        check_repository_space(opened(tmp_path / "repository"), Estimate(dump=11 * free, chain=0), is_first=False)


def test_what_compacting_will_need_is_counted_too(repository: PlainRepository) -> None:
    stored = opened(repository.path).stored_bytes()
    assert stored == sum(path.stat().st_size for path in (repository.path / "data").rglob("*") if path.is_file())
    assert 0 < stored < SEGMENT_BYTES
    free = shutil.disk_usage(repository.path).free
    too_much = Estimate(dump=free - FLOOR_BYTES - stored // 2, chain=0)
    with pytest.raises(PreflightError):
        check_repository_space(opened(repository.path), replace(too_much, chain=100 * MEGABYTE), is_first=True)


@pytest.mark.parametrize("path", ["ssh://backup@nas/./vault.borg", "nas:vault.borg"])
def test_the_room_of_another_host_is_not_known(path: str) -> None:
    check_repository_space(opened(path), Estimate(dump=1 << 60, chain=1 << 60), is_first=True)


def test_an_estimate_counts_dump_chain_and_a_floor() -> None:
    estimate = Estimate(dump=100, chain=10)
    assert estimate.staged == 110 + FLOOR_BYTES
    assert estimate.by_path() == {"db.dump": 100, "chain/audit_vault.ndjson": 10}


def test_an_estimate_is_at_least_what_a_set_took(backed_up: BackedUp) -> None:
    estimate = check_source(source_from_url(backed_up.vault.url))
    sizes = {artifact["path"]: artifact["size"] for artifact in backed_up.document["artifacts"]}
    assert sum(sizes.values()) <= estimate.staged
    assert sizes["chain/audit_vault.ndjson"] <= estimate.chain + FLOOR_BYTES


def test_an_estimate_is_at_least_the_dump_of_a_table_of_bytes(latest_vault: Vault, tmp_path: Path) -> None:
    # In a dump bytes stand as hexadecimal digits, two for each.
    blob = "SELECT string_agg(sha256((n * 1000 + m)::text::bytea), '' ORDER BY m) FROM generate_series(1, 120) m"
    latest_vault.execute(f"CREATE TABLE blobs AS SELECT n, ({blob}) AS v FROM generate_series(1, 1500) n")
    path = dump(latest_vault.cluster, latest_vault.database, tmp_path / "db.dump")
    assert path.stat().st_size <= check_source(source_from_url(latest_vault.url)).dump


OLD = {
    "borg 1.2.4": "(borg 1.2.4)",
    "borg 1.1.18": "(borg 1.1.18)",
    "borg 2.0.0b25": "(borg 2.0.0b25)",
    "borg.exe 14.0": "(borg.exe 14.0)",
    "": "(says nothing)",
}


@pytest.mark.usefixtures("server")
def test_a_borg_of_another_release_is_refused(tmp_path: Path) -> None:
    one = installed(tmp_path / "installation", borg=False)
    for version, words in OLD.items():
        one.put("borg", f"echo '{version}'")
        said = one.run("create", exit_code=7, env={}).stderr
        assert said.startswith("borg-vault: Borg 1.4 is needed, found ")
        assert f"{one.path}/borg {words}" in said
        assert "pip install" in said
        assert len(said.splitlines()) == 1


@pytest.mark.usefixtures("server")
def test_without_borg_nothing_is_done(tmp_path: Path) -> None:
    said = installed(tmp_path / "installation", borg=False).run("create", exit_code=7, env={}).stderr
    assert "Borg 1.4 is needed, found none" in said


def test_the_borg_that_fits_is_taken_wherever_it_is(repository: PlainRepository, server: Vault, tmp_path: Path) -> None:
    one = installed(tmp_path / "installation", borg=False)
    one.put("borg", "echo 'borg 1.2.4'", beside_python=True)
    one.put("borg", f'exec {find_borg().program} "$@"')
    repository.add(f"{server.database}-2026-05-01T00:00:00Z")
    assert server.database in one.run("list", exit_code=0, env={}).stdout


@pytest.mark.usefixtures("server")
def test_a_borg_that_cannot_be_started_is_passed_over(tmp_path: Path) -> None:
    one = installed(tmp_path / "installation", borg=False)
    for content in ("#!/no/such/python\n", "neither a script nor a program", "#!/bin/sh\nexit 1\n"):
        for directory in (one.place / "bin", one.path):
            (directory / "borg").write_text(content, "utf-8")
            (directory / "borg").chmod(0o755)
        said = one.run("create", exit_code=7, env={}).stderr
        assert "Borg 1.4 is needed, found " in said
        assert f"{one.path}/borg" in said
        assert len(said.splitlines()) == 1


def test_a_borg_installed_with_the_program_is_known_without_being_started(monkeypatch: pytest.MonkeyPatch) -> None:
    borg = find_borg()
    monkeypatch.setattr("borg_vault_plugin.process.run", lambda *_, **__: pytest.fail("borg was started"))
    assert find_borg.__wrapped__() == borg


def test_a_borg_that_is_not_as_it_was_installed_is_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    one = installed(tmp_path / "installation", borg=False)
    one.put("borg", "echo 'borg 1.2.4'", beside_python=True)
    monkeypatch.setattr("sys.executable", str(one.place / "bin" / "python"))
    monkeypatch.setenv("PATH", str(one.path))
    with pytest.raises(PreflightError, match=r"bin/borg \(borg 1\.2\.4\)"):
        find_borg.__wrapped__()
