"""The bundled PostgreSQL: a Docker Compose service as the Server ships it, and whether it is the one that is meant.

Which database is meant is decided as the Server's own scripts do it: a DATABASE_URL whose host is the service's name,
localhost or 127.0.0.1, or none at all, means the bundled one; anything else is outside, and wins. A DATABASE_URL that
cannot be read is refused, since whatever was guessed could be the wrong database.
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import dotenv

from borg_vault_plugin import process
from borg_vault_plugin.container import Container, docker_environment
from borg_vault_plugin.database import Source, source_from_url
from borg_vault_plugin.errors import ConfigError, PreflightError, SourceError
from borg_vault_plugin.sections import ComposeSettings

HERE = ("localhost", "127.0.0.1")
EVERYWHERE = ("", "0.0.0.0", "::")  # noqa: S104 - what a port is published on; we only connect
DECLARED = re.compile(r"^\s*(?:export\s+)?DATABASE_URL\b", re.MULTILINE)
# The Server's installations, the older of which do not name them in COMPOSE_FILE, have the service in the second.
SERVER_FILES = ("docker-compose.yml", "docker-compose.postgres.yml", "docker-compose.prod.yml")
ONE_OFF = "com.docker.compose.oneoff"
ASKING_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Project:
    """A Compose project, its service, and the `.env` beside its files."""

    directory: Path
    service: str
    env: Mapping[str, str | None]

    def __str__(self) -> str:
        return f"service {self.service} of {self.directory}"


def chosen_source(settings: ComposeSettings, url: str | None) -> Source:
    """Say how to reach the database that is meant: the bundled one, or the one that a URL leads out to.

    `url` is what the configuration or the environment says; without it the `.env` of the project counts.
    Raises ConfigError, PreflightError when there is no Docker here, SourceError when there is no running container.
    """
    project = Project(settings.project_directory, settings.service, read_env(settings.project_directory))
    named, said_by = (url, "the database URL") if url else _declared(project)
    if not named:
        return bundled(project, None, "no DATABASE_URL is set")
    try:
        outside = source_from_url(named)
    except ConfigError as error:
        raise ConfigError(f"{said_by}: {error}") from None
    if leads_to(outside, project.service):
        return bundled(project, outside, f"{said_by} leads to {outside.parameters['host']}")
    chosen = f"the database is {outside.address}, where {said_by} leads, not the bundled {project}"
    return replace(outside, notices=(chosen, *outside.notices))


def leads_to(source: Source, service: str) -> bool:
    """Whether a URL's host is exactly one of those that mean the bundled service."""
    hosts = {source.parameters[name] for name in ("host", "hostaddr") if source.parameters.get(name)}
    return bool(hosts) and hosts <= {service, *HERE}


def read_env(directory: Path) -> dict[str, str | None]:
    """Read the `.env` of a project, which may be absent. Raises ConfigError when it declares a DATABASE_URL in vain.

    Who may write it may write the Compose files, too; so it is not asked whose it is.
    """
    path = directory / ".env"
    if not directory.is_dir():
        raise ConfigError(f"database.compose.project_directory: {directory} is no directory: name that of the project")
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    values = dotenv.dotenv_values(stream=io.StringIO(text))
    if DECLARED.search(text) and values.get("DATABASE_URL") is None:
        raise ConfigError(f"{path} declares a DATABASE_URL that cannot be read: mend that line")
    return values


def _declared(project: Project) -> tuple[str | None, str]:
    return project.env.get("DATABASE_URL"), f"DATABASE_URL in {project.directory / '.env'}"


def bundled(project: Project, named: Source | None, why: str) -> Source:
    """Find the container of the bundled service, and how to reach the server in it.

    User and password are those that the container was made with. Raises PreflightError, SourceError, ConfigError.
    """
    found = _running(project)
    container = Container(found["Id"], str(project))
    variables = dict(variable.partition("=")[::2] for variable in found["Config"]["Env"] or ())
    host, port = server_address(project, found, variables.get("PGPORT") or "5432")
    user = _variable(project, container, variables, "POSTGRES_USER") or "postgres"
    in_url = named.parameters.get("dbname") if named else None
    database = in_url or _variable(project, container, variables, "POSTGRES_DB") or user
    return Source(
        {"host": host, "port": port, "user": user, "dbname": database},
        _variable(project, container, variables, "POSTGRES_PASSWORD"),
        (f"the database is {database} in the bundled {project}, at {host}:{port}: {why}",),
        container=container,
    )


def _variable(project: Project, container: Container, variables: Mapping[str, str], name: str) -> str | None:
    """Give what the image was told: by a variable, by a file in the container, or by what Compose made of `.env`."""
    if variables.get(name):
        return variables[name]
    if not variables.get(f"{name}_FILE"):
        return project.env.get(name)
    told = _docker("exec", container.id, "cat", variables[f"{name}_FILE"])
    if told.returncode:
        raise SourceError(f"{project}: {name}_FILE cannot be read in the container: {told.last_words()}")
    return told.stdout.decode().rstrip("\n")


def server_address(project: Project, found: Mapping[str, Any], port: str) -> tuple[str, str]:
    """Give where the server's port is published or, failing that, the container's own address."""
    network = found["NetworkSettings"]
    for published in (network.get("Ports") or {}).get(f"{port}/tcp") or ():
        host = published["HostIp"]
        return "127.0.0.1" if host in EVERYWHERE else host, published["HostPort"]
    for name in sorted(network.get("Networks") or {}):
        if network["Networks"][name]["IPAddress"]:
            return network["Networks"][name]["IPAddress"], port
    raise SourceError(f"{project} publishes no port and has no address: publish 127.0.0.1:{port}:{port} there")


def _running(project: Project) -> Mapping[str, Any]:
    """Give what Docker says about the one running container of the service."""
    names = _container_ids(project)
    inspected: list[Mapping[str, Any]] = (
        json.loads(_docker("inspect", "--type=container", *names).stdout or b"[]") if names else []
    )
    services = [one for one in inspected if (one["Config"]["Labels"] or {}).get(ONE_OFF) != "True"]
    running = [one for one in services if one["State"]["Status"] == "running"]
    if len(running) > 1:
        raise SourceError(f"{project} has {len(running)} running containers: a database has one: stop the others")
    if not running:
        states = ", ".join(one["State"]["Status"] for one in services)
        raise SourceError(
            f"{project} {f'is not running ({states})' if states else 'has no container'}: start it there with"
            f" `docker compose up --detach {project.service}`"
        )
    (found,) = running
    return found


def _container_ids(project: Project) -> list[str]:
    command = [*_compose(), *_files(project), "ps", "--all", "--quiet", project.service]
    asked = _run(command, cwd=project.directory)
    if b"no such service" in asked.stderr.lower():
        raise ConfigError(f"database.compose.service: {project.directory} has no service {project.service!r}: name it")
    if asked.returncode:
        raise SourceError(f"{project}: {' '.join(command[:2])} failed: {asked.last_words()}")
    return asked.stdout.decode().split()


def _files(project: Project) -> list[str]:
    if os.environ.get("COMPOSE_FILE") or project.env.get("COMPOSE_FILE"):
        return []
    if not (project.directory / SERVER_FILES[1]).exists():
        return []
    return [f"--file={name}" for name in SERVER_FILES if (project.directory / name).exists()]


def _compose() -> list[str]:
    """Give the command of Compose: Docker's plugin, else the program. Raises PreflightError, SourceError."""
    if shutil.which("docker") is None:
        raise PreflightError("database.compose needs the program docker, which is not here: install docker.io (Debian)")
    asked = _docker("version", "--format={{.Server.Version}}")
    if asked.returncode:
        said = asked.last_words()
        advice = (
            "let this user into the group docker" if "permission denied" in said else "start it, or mend DOCKER_HOST"
        )
        raise SourceError(f"Docker's daemon does not answer: {said}: {advice}")
    if _docker("compose", "version").returncode == 0:
        return ["docker", "compose"]
    if shutil.which("docker-compose") is not None:
        return ["docker-compose"]
    raise PreflightError(
        "database.compose needs Docker Compose, which is not here: install docker-compose-plugin (Docker's packages) or"
        " docker-compose (Debian)"
    )


def _docker(*words: str) -> process.Finished:
    return _run(["docker", *words])


def _run(command: Sequence[str], cwd: Path | None = None) -> process.Finished:
    try:
        return process.run(command, env=docker_environment(), timeout=ASKING_SECONDS, cwd=cwd)
    except (OSError, process.TimeoutExpired) as error:
        raise SourceError(f"{' '.join(command[:2])}: {error}") from error
