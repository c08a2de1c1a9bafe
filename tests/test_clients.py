"""PostgreSQL's client programs: the server's own major is found wherever it is, and what cannot serve is not taken."""

from __future__ import annotations

from pathlib import Path

import pytest
from fix_cli import RunCli
from fix_installation import installed
from fix_repository import PlainRepository
from fix_vault import Vault

from borg_vault_plugin.clients import Clients, find_clients, installed_clients
from borg_vault_plugin.cluster import embedded_distributions
from borg_vault_plugin.database import source_from_url
from borg_vault_plugin.errors import PreflightError

pytest_plugins = ("fix_server",)

SYSTEM = Path("/usr/lib/postgresql/15/bin")


@pytest.fixture(autouse=True)
def plain_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """A PATH in which no PostgreSQL comes first by accident, beside a system's PostgreSQL 15 to choose from."""
    if not (SYSTEM / "pg_dump").exists():
        pytest.skip("no system-15 PostgreSQL here")
    monkeypatch.setenv("PATH", "/usr/bin:/bin")


def put_in_path(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{directory}:/usr/bin:/bin")


def pretend(directory: Path, *programs: str, version: str = "pg_dump (PostgreSQL) 18.4") -> Path:
    """Make a directory of programs that say their version and do nothing."""
    directory.mkdir()
    for program in programs:
        (directory / program).write_text(f"#!/bin/sh\necho '{version}'\n", "utf-8")
        (directory / program).chmod(0o755)
    return directory


def test_what_is_installed_is_listed_once_each_and_says_whether_it_does_tls() -> None:
    found = installed_clients()
    assert len({clients.directory.resolve() for clients in found}) == len(found)
    told = {(clients.major, clients.tls) for clients in found}
    assert {(15, True), (16, False), (18, False)} <= told
    for clients in found:
        assert clients.version.startswith(f"{clients.major}.")
        assert clients.program("pg_restore").exists()
        assert ("(no TLS)" in str(clients)) != clients.tls


@pytest.mark.parametrize("major", [15, 16, 18])
def test_the_servers_own_major_is_preferred(major: int) -> None:
    assert find_clients(major).major == major


@pytest.mark.parametrize(("server", "client"), [(12, 15), (14, 15), (17, 18)])
def test_the_nearest_newer_major_comes_next(server: int, client: int) -> None:
    assert find_clients(server).major == client


def test_a_server_newer_than_every_client_is_refused_with_what_was_found() -> None:
    with pytest.raises(PreflightError) as refused:
        find_clients(99)
    said = str(refused.value)
    assert "no pg_dump that fits a PostgreSQL 99 server" in said
    for clients in installed_clients():
        assert f"{clients.version} in {clients.directory}" in said
    assert "install postgresql-client-99" in said


@pytest.mark.parametrize("major", [16, 18])
def test_a_client_without_tls_is_refused_where_tls_is_asked_for(major: int) -> None:
    with pytest.raises(PreflightError) as refused:
        find_clients(major, needs_tls=True)
    assert f"no pg_dump that fits a PostgreSQL {major} server: found 15." in str(refused.value)
    assert "(no TLS)" in str(refused.value)


def test_a_client_with_tls_is_found_where_tls_is_asked_for() -> None:
    assert find_clients(15, needs_tls=True).directory == SYSTEM


@pytest.mark.parametrize("major", [16, 18])
def test_the_embedded_client_does_no_tls_even_when_it_stands_in_path(
    major: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    (embedded,) = [found for found in embedded_distributions() if found.major == major]
    put_in_path(embedded.bin, monkeypatch)
    assert find_clients(major).directory == embedded.bin
    with pytest.raises(PreflightError, match="no TLS"):
        find_clients(major, needs_tls=True)


def test_a_client_in_path_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = pretend(tmp_path / "own", "pg_dump", "pg_restore")
    put_in_path(own, monkeypatch)
    assert find_clients(18, needs_tls=True) == Clients(own, 18, "18.4", tls=True)


def test_a_link_in_path_leads_to_where_the_programs_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = pretend(tmp_path / "own", "pg_dump", "pg_restore")
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "pg_dump").symlink_to(own / "pg_dump")
    put_in_path(tmp_path / "links", monkeypatch)
    assert find_clients(18).directory == own


def test_a_path_that_has_the_wrong_major_first_does_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_in_path(pretend(tmp_path / "own", "pg_dump", "pg_restore", version="pg_dump (PostgreSQL) 17.2"), monkeypatch)
    assert find_clients(15).directory == SYSTEM
    assert find_clients(17).directory == tmp_path / "own"


def test_a_beta_is_of_its_major(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_in_path(pretend(tmp_path / "own", "pg_dump", "pg_restore", version="pg_dump (PostgreSQL) 99beta1"), monkeypatch)
    assert find_clients(99) == Clients(tmp_path / "own", 99, "99beta1", tls=True)


BROKEN = {
    "pg_restore is missing": (("pg_dump",), "pg_dump (PostgreSQL) 99.1"),
    "it says something else": (("pg_dump", "pg_restore"), "please install a client first"),
    "it says nothing": (("pg_dump", "pg_restore"), ""),
}


@pytest.mark.parametrize("why", BROKEN)
def test_what_is_no_client_is_passed_over(why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs, version = BROKEN[why]
    put_in_path(pretend(tmp_path / "own", *programs, version=version), monkeypatch)
    assert tmp_path / "own" not in [clients.directory for clients in installed_clients()]
    with pytest.raises(PreflightError):
        find_clients(99)


def test_a_wrapper_that_picks_a_major_by_itself_is_never_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(tmp_path / "share", "pg_wrapper", "pg_restore", version="pg_dump (PostgreSQL) 99.1")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "pg_dump").symlink_to(tmp_path / "share" / "pg_wrapper")
    put_in_path(tmp_path / "bin", monkeypatch)
    with pytest.raises(PreflightError):
        find_clients(99)


URLS = {
    "postgresql://h/d": False,
    "postgresql://h/d?sslmode=prefer": False,
    "postgresql://h/d?sslmode=disable": False,
    "postgresql://h/d?sslmode=require": True,
    "postgresql://h/d?sslmode=verify-ca": True,
    "postgresql://h/d?sslmode=verify-full": True,
    "postgresql://h/d?sslmode=no-verify": True,
    "postgresql:///d?sslmode=require&host=/run/postgresql": False,
    "host=h dbname=d sslmode=require": True,
}


@pytest.mark.parametrize("url", URLS)
def test_a_url_says_whether_tls_is_asked_for(url: str) -> None:
    assert source_from_url(url).needs_tls is URLS[url]


@pytest.mark.parametrize("distribution", ["embedded-16"], indirect=True)
def test_a_newer_pg_dump_serves_with_a_warning(vault: Vault, repository: PlainRepository, tmp_path: Path) -> None:
    one = installed(tmp_path / "installation", embedded=("pginstall18",))
    environment = {
        "DATABASE_URL": vault.url,
        "BORG_REPO": str(repository.path),
        "BORG_PASSPHRASE": repository.passphrase,
    }
    warning = "borg-vault: pg_dump 18.4 for a PostgreSQL 16."
    said = one.run("create", "--no-prune", exit_code=0, env=environment, warning=warning)
    assert "install postgresql-client-16" in said.stderr
    assert len(said.stderr.splitlines()) == 1
    assert len(repository.names()) == 1


def test_a_run_without_a_client_of_the_servers_major_is_refused(
    latest_vault: Vault, repository: PlainRepository, tmp_path: Path
) -> None:
    one = installed(tmp_path / "installation")
    environment = {
        "DATABASE_URL": latest_vault.url, "BORG_REPO": str(repository.path), "BORG_PASSPHRASE": repository.passphrase
    }  # fmt: skip
    said = one.run("create", exit_code=7, env=environment)
    assert said.stderr.startswith("borg-vault: no pg_dump that fits a PostgreSQL 18 server: found 15.")
    assert "install postgresql-client-18" in said.stderr
    assert "snapshot of" not in said.stdout
    assert repository.names() == []


def test_what_the_environment_adds_to_a_url_reaches_pg_dump(
    server: Vault, repository: PlainRepository, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = server.cluster
    monkeypatch.setenv("DATABASE_URL", f"postgresql:///{server.database}")
    variables = {"HOST": cluster.socket_directory, "PORT": cluster.port, "USER": cluster.user}
    for name, value in {**variables, "PASSWORD": cluster.password}.items():
        monkeypatch.setenv(f"PG{name}", str(value))
    run_cli("create", "--no-prune", exit_code=0)
    assert len(repository.names()) == 1


def test_tls_that_the_environment_asks_for_counts_for_a_url_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGSSLMODE", "verify-full")
    assert source_from_url("postgresql://h/d").needs_tls
    assert "sslmode=verify-full" in source_from_url("postgresql://h/d").conninfo
    assert not source_from_url("postgresql://h/d?sslmode=prefer").needs_tls
