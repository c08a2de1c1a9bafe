"""Which database is meant: the bundled one or one outside, by DATABASE_URL and the .env of the Compose project."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fix_cli import RunCli

from borg_vault_plugin.compose import Project, leads_to, read_env, server_address
from borg_vault_plugin.database import source_from_url
from borg_vault_plugin.errors import ConfigError, SourceError

pytest_plugins = ("fix_server",)

OUTSIDE = "postgresql://app:hunter2@db.example:6432/ledger"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of a Compose project, on a machine without Docker."""
    monkeypatch.setenv("PATH", str(tmp_path))
    directory = tmp_path / "server"
    directory.mkdir()
    return directory


@pytest.fixture
def configured(project: Path, write_config: Callable[[str], Path]) -> Path:
    """A project that the configuration names."""
    write_config(f'label = "prod"\n[database.compose]\nproject_directory = "{project}"\n')
    return project


def declare(project: Path, line: str) -> None:
    (project / ".env").write_text(f"POSTGRES_USER=ledger\n{line}\nPOSTGRES_DB=ledger\n", "utf-8")


@pytest.mark.parametrize("host", ["postgres", "localhost", "127.0.0.1"])
def test_the_services_name_and_this_host_mean_the_bundled_database(host: str) -> None:
    assert leads_to(source_from_url(f"postgresql://app@{host}:5432/ledger"), "postgres")


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://app@postgres-prod.rds.example:5432/ledger",
        "postgresql://app@db.example/postgres",
        "postgresql://postgres@10.0.0.1/ledger",
        "postgresql://app@postgres,db.example/ledger",
        "postgresql://app@postgres/ledger?hostaddr=10.0.0.1",
        "postgresql://app@Postgres/ledger",
        "postgresql://app@[::1]/ledger",
        "postgresql://app@127.0.0.10/ledger",
        "postgresql:///ledger",
    ],
)
def test_any_other_host_is_outside(url: str) -> None:
    assert not leads_to(source_from_url(url), "postgres")


def test_only_the_name_of_the_configured_service_counts() -> None:
    source = source_from_url("postgresql://app@postgres:5432/ledger")
    assert not leads_to(source, "db")


@pytest.mark.usefixtures("configured")
def test_a_database_url_that_leads_outside_wins_and_needs_no_docker(
    run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", OUTSIDE)
    run_cli("config", "validate", exit_code=0)


def test_the_url_of_the_configuration_is_held_against_the_same_rule(
    run_cli: RunCli, project: Path, write_config: Callable[[str], Path]
) -> None:
    settings = f'url = "postgresql://db.example/ledger"\n[database.compose]\nproject_directory = "{project}"\n'
    write_config(f'label = "prod"\n[database]\n{settings}')
    run_cli("config", "validate", exit_code=0)
    write_config(f'label = "prod"\n[database]\n{settings.replace("db.example", "postgres")}')
    said = run_cli("config", "validate", exit_code=7)
    assert "database.compose needs the program docker, which is not here: install docker.io (Debian)" in said.stderr


def test_the_database_url_of_the_env_file_leads_outside_too(run_cli: RunCli, configured: Path) -> None:
    declare(configured, f"export DATABASE_URL='{OUTSIDE}'")
    run_cli("config", "validate", exit_code=0)


def test_the_environment_comes_before_the_env_file(
    run_cli: RunCli, configured: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    declare(configured, f"DATABASE_URL={OUTSIDE}")
    monkeypatch.setenv("DATABASE_URL", "postgresql://app@postgres:5432/ledger")
    said = run_cli("config", "validate", exit_code=7)
    assert "needs the program docker" in said.stderr


@pytest.mark.parametrize("line", ["", "DATABASE_URL=", "DATABASE_URL=''", "# DATABASE_URL=postgresql://db.example/x"])
def test_without_a_database_url_the_bundled_database_is_meant(run_cli: RunCli, configured: Path, line: str) -> None:
    declare(configured, line)
    said = run_cli("config", "validate", exit_code=7)
    assert "needs the program docker" in said.stderr


@pytest.mark.parametrize(
    "line", ["DATABASE_URL", 'DATABASE_URL="postgresql://app:hunter2@db.example/x', "DATABASE_URL 'x'"]
)
def test_a_declaration_that_cannot_be_read_is_refused_and_not_guessed(
    run_cli: RunCli, configured: Path, line: str
) -> None:
    declare(configured, line)
    said = run_cli("config", "validate", exit_code=3)
    assert said.stderr == f"borg-vault: {configured}/.env declares a DATABASE_URL that cannot be read: mend that line\n"


def test_a_declaration_that_is_no_url_is_refused_and_not_repeated(run_cli: RunCli, configured: Path) -> None:
    declare(configured, "DATABASE_URL=hunter2@db")
    said = run_cli("config", "validate", exit_code=3)
    assert f"DATABASE_URL in {configured}/.env: the database URL is not one that PostgreSQL understands" in said.stderr
    assert "hunter2" not in said.stderr


def test_reading_the_env_file_leaves_the_environment_alone(project: Path) -> None:
    declare(project, f"DATABASE_URL={OUTSIDE}\nOTHER=${{POSTGRES_USER}}-1")
    before = dict(os.environ)
    assert read_env(project)["OTHER"] == "ledger-1"
    assert dict(os.environ) == before


def test_a_project_needs_no_env_file(project: Path) -> None:
    assert read_env(project) == {}


def test_a_directory_that_is_not_there_is_refused(project: Path) -> None:
    with pytest.raises(ConfigError, match=r"project_directory: .*/nowhere is no directory: name that of the project"):
        read_env(project / "nowhere")


def test_what_was_chosen_is_told_before_anything_else(
    run_cli: RunCli, configured: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://app@127.0.0.2:1/ledger")
    said = run_cli("create", exit_code=3)  # there is no passphrase
    told = "the database is ledger on 127.0.0.2:1, where the database URL leads, not the bundled service postgres of"
    assert said.stdout.startswith(f"{told} {configured}\n")


@pytest.mark.usefixtures("configured")
def test_the_configuration_is_shown_with_its_references(run_cli: RunCli, project: Path) -> None:
    compose = run_cli("config", "show", exit_code=0).document["database"]["compose"]
    assert compose == {"project_directory": str(project), "service": "postgres"}


# What Docker says about a container's network, and where the server is then.
NETWORKS: dict[str, tuple[dict[str, Any], tuple[str, str]]] = {
    "published on this host": (
        {"Ports": {"5432/tcp": [{"HostIp": "127.0.0.1", "HostPort": "6000"}]}, "Networks": {}}, ("127.0.0.1", "6000"),
    ),
    "published everywhere": (
        {"Ports": {"5432/tcp": [{"HostIp": "0.0.0.0", "HostPort": "6000"}, {"HostIp": "::", "HostPort": "6000"}]}},  # noqa: S104
        ("127.0.0.1", "6000"),
    ),
    "published on IPv6 alone": ({"Ports": {"5432/tcp": [{"HostIp": "::", "HostPort": "6000"}]}}, ("127.0.0.1", "6000")),
    "published on another address": (
        {"Ports": {"5432/tcp": [{"HostIp": "192.0.2.1", "HostPort": "6000"}]}}, ("192.0.2.1", "6000"),
    ),
    "another port published": (
        {
            "Ports": {"8080/tcp": [{"HostIp": "127.0.0.1", "HostPort": "6000"}], "5432/tcp": None},
            "Networks": {"b": {"IPAddress": "192.0.2.2"}, "a": {"IPAddress": ""}},
        },
        ("192.0.2.2", "5432"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", NETWORKS)
def test_the_server_is_where_its_port_is_published_else_at_the_containers_address(kind: str, project: Path) -> None:
    network, place = NETWORKS[kind]
    assert server_address(Project(project, "postgres", {}), {"NetworkSettings": network}, "5432") == place


def test_a_container_without_port_and_address_is_told(project: Path) -> None:
    with pytest.raises(SourceError, match=r"publishes no port and has no address: publish 127.0.0.1:5432:5432 there"):
        server_address(Project(project, "postgres", {}), {"NetworkSettings": {"Ports": {}, "Networks": {}}}, "5432")
