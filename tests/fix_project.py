"""A running Compose project: its containers, and the databases in them."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import psycopg
from fix_vault import Connection
from pytest_docker.plugin import Services

from borg_vault_plugin.sample import SampleVault

USER, DATABASE = "ledger", "ledger"
SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Project:
    """A running project; `password` is that of every service."""

    directory: Path
    name: str
    password: str
    sample: SampleVault
    compose: str
    """The command of Compose that works here."""
    services: Services

    def container(self, service: str) -> str:
        """Give the id of a service's container."""
        return self.run(f"ps --quiet {service}").strip()

    def run(self, words: str) -> str:
        """Run Compose on the project."""
        return said(f"{self.compose} -f {self.directory}/docker-compose.yml -p {self.name} {words}")

    def inspected(self, service: str) -> dict[str, Any]:
        """Give what Docker says about a service's container."""
        return cast(dict[str, Any], json.loads(said(f"docker inspect {self.container(service)}"))[0])

    def conninfo(self, service: str, database: str = DATABASE) -> str:
        """Give the way to a database, without the limits of its server."""
        network = self.inspected(service)["NetworkSettings"]
        published = network["Ports"].get("5432/tcp")
        host, port = (
            published[0].values() if published else (next(iter(network["Networks"].values()))["IPAddress"], 5432)
        )
        options = "-c statement_timeout=0 -c idle_in_transaction_session_timeout=0 -c TimeZone=UTC"
        return f"host={host} port={port} user={USER} password={self.password} dbname={database} options='{options}'"

    def connect(self, service: str, database: str = DATABASE) -> Connection:
        """Open an autocommit connection."""
        return psycopg.connect(self.conninfo(service, database), autocommit=True)

    def inside(self, service: str, script: str) -> str:
        """Run a script in a service's container."""
        done = ["docker", "exec", self.container(service), "sh", "-c", script]
        return subprocess.run(done, check=True, capture_output=True, text=True, timeout=SECONDS).stdout

    def left(self, service: str) -> str:
        """Give the client programs that run in a container, and the files in its memory."""
        running = "for file in /proc/[0-9]*/cmdline; do tr '\\0' ' ' <$file; echo; done 2>/dev/null"
        return self.inside(
            service, f"{running} | grep -E '^[^ ]*pg_(dump|restore)'; ls -A /dev/shm | grep -v Postgre; :"
        )

    def ready(self, service: str) -> None:
        """Wait until a server takes connections over TCP."""
        try:
            self.services.wait_until_responsive(lambda: self.answers(service), timeout=SECONDS, pause=0.1)
        except Exception as error:
            raise AssertionError(self.run(f"logs --no-color {service}")) from error

    def answers(self, service: str) -> bool:
        """Whether a server takes connections over TCP."""
        try:
            self.connect(service).close()
        except psycopg.OperationalError:
            return False
        return True


def said(command: str) -> str:
    """Run a command and give its standard output."""
    done = subprocess.run(command.split(), check=False, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stderr
    return done.stdout


def works(command: str) -> bool:
    """Whether a command ends well."""
    if shutil.which(command.split(maxsplit=1)[0]) is None:
        return False
    return subprocess.run(command.split(), check=False, capture_output=True, timeout=SECONDS).returncode == 0
