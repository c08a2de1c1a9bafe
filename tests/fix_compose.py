"""A Compose project with PostgreSQL in containers, as the Server ships it, and what it takes to do without.

The image is BORG_VAULT_TEST_IMAGE, which `.ci/docker` makes, else the official one. Service `postgres` publishes its
port on 127.0.0.1; `inside` publishes nothing and has its password from a file; `made` was never started; `idle` has no
container; of `two` there are two. The servers end statements and idle transactions much sooner than the bundled one.
"""

from __future__ import annotations

import copy
import itertools
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from fix_project import DATABASE, USER, Project, works
from psycopg import sql
from pytest_docker.plugin import Services

from borg_vault_plugin.sample import SampleVault, VaultShape

IMAGE = os.environ.get("BORG_VAULT_TEST_IMAGE", "postgres:18-alpine")
ROWS = 80_000
numbers = itertools.count(1)

COMPOSE = """
version: "3.8"
services:
  postgres: &postgresql
    image: ${IMAGE}
    environment: &environment
      POSTGRES_USER: ${POSTGRES_USER:-ledger}
      POSTGRES_PASSWORD: ${POSTGRES_PASSWORD}
      POSTGRES_DB: ${POSTGRES_DB:-ledger}
    ports: ["127.0.0.1::5432"]
    command: [postgres, -c, statement_timeout=200ms, -c, idle_in_transaction_session_timeout=200ms, -c, fsync=off]
    stop_signal: SIGINT
  inside:
    <<: *postgresql
    environment:
      POSTGRES_USER: ledger
      POSTGRES_PASSWORD_FILE: /run/password
    volumes: ["./password:/run/password:ro"]
    ports: []
  made: *postgresql
  idle: *postgresql
  two:
    image: ${IMAGE}
    entrypoint: [sleep, infinity]
    stop_signal: SIGKILL
"""


@pytest.fixture(scope="session")
def docker_compose_command() -> str:
    """Compose, where there are a daemon, the image, and one of Compose's commands; skips the test elsewhere."""
    if not works("docker version"):
        pytest.skip("no Docker daemon here: run the tests by `.ci/docker make test`")
    if not (works(f"docker image inspect {IMAGE}") or works(f"docker pull --quiet {IMAGE}")):
        pytest.skip(f"no image {IMAGE} here: run the tests by `.ci/docker make test`")
    for command in ("docker compose", "docker-compose"):
        if works(f"{command} version"):
            return command
    pytest.skip("no Docker Compose here: apt-get install docker-compose")


@pytest.fixture(scope="session")
def docker_compose_file(tmp_path_factory: pytest.TempPathFactory, docker_compose_project_name: str) -> str:
    """The files of the project."""
    directory, password = tmp_path_factory.mktemp("project"), secrets.token_hex(12)
    (directory / "docker-compose.yml").write_text(COMPOSE, "utf-8")
    (directory / "password").write_text(f"{password}\n", "utf-8")
    variables = {"IMAGE": IMAGE, "POSTGRES_PASSWORD": password, "COMPOSE_PROJECT_NAME": docker_compose_project_name}
    (directory / ".env").write_text("".join(f"{name}={value}\n" for name, value in variables.items()), "utf-8")
    return str(directory / "docker-compose.yml")


@pytest.fixture(scope="session")
def docker_setup(docker_compose_file: str) -> list[str]:
    """How the project is started. Compose reads the `.env` of the directory in which it is run, or the one named."""
    named = f"--project-directory {Path(docker_compose_file).parent}"
    return [
        f"{named} up --detach postgres inside",
        f"{named} up --no-start made",
        f"{named} up --detach --scale two=2 two",
    ]


@pytest.fixture(scope="session")
def docker_cleanup(docker_compose_file: str) -> list[str]:
    """How the project is removed."""
    return [f"--project-directory {Path(docker_compose_file).parent} down --volumes --timeout 1"]


@pytest.fixture(scope="session")
def project(
    docker_services: Services,
    docker_compose_command: str,
    docker_compose_file: str,
    docker_compose_project_name: str,
) -> Project:
    """The project, with a vault in the database of each service that runs."""
    directory = Path(docker_compose_file).parent
    sample = SampleVault(VaultShape(seed=7, era="v2", records=12, reads_per_org=5, rotations=1))
    password = (directory / "password").read_text("utf-8").strip()
    project = Project(directory, docker_compose_project_name, password, sample, docker_compose_command, docker_services)
    for service in ("postgres", "inside"):
        project.ready(service)
        with project.connect(service) as connection:
            copy.deepcopy(sample).load(connection)
            connection.execute("SELECT lo_from_bytea(0, 'a large object')")
            # Counting and dumping them takes longer than a statement may.
            connection.execute(
                f"CREATE TABLE lines AS SELECT n, repeat(md5(n::text), 8) FROM generate_series(1, {ROWS}) n"
            )
    return project


@pytest.fixture
def bundled_database(project: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A copy of the vault in service `postgres`, which DATABASE_URL names as the Server's own containers see it."""
    name = f"server_{next(numbers)}"
    with project.connect("postgres", "postgres") as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {DATABASE}".encode())
    monkeypatch.setenv("DATABASE_URL", f"postgresql://{USER}:outdated@postgres:5432/{name}")
    yield name
    with project.connect("postgres", "postgres") as connection:
        for (left,) in connection.execute(
            "SELECT datname FROM pg_database WHERE datname ~ %s", [f"^{name}"]
        ).fetchall():
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(left)))
