"""What runs happen on: a Server with two nights of backups, made once and copied for every run.

A worker has a PostgreSQL cluster of its own, since runs kill it. A run has its own database, repository, Borg cache,
state and staging directories below `place`, which is removed afterwards with everything that was mounted there.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fix_cli import COMMAND
from fix_fault_run import eventually
from fix_repository import PASSPHRASE, PlainRepository, initialised
from fix_restore import OF_ITS_OWN
from fix_vault import Vault, connect, digests

from borg_vault_plugin.account import server_account
from borg_vault_plugin.cluster import Cluster, embedded_distributions, empty_cluster, throwaway_cluster
from borg_vault_plugin.errors import SourceError
from borg_vault_plugin.process import plain_environment
from borg_vault_plugin.sample import SampleVault, VaultShape

LABEL, TEMPLATE, NIGHTS = "prod", "nights", 2
KEEP = {"create": 2, "prune": 1}
"""How many archives retention leaves."""
COMMANDS: dict[str, tuple[str, ...]] = {
    "create": ("create",),
    "prune": ("prune", "--keep", "1"),
    "stage": ("stage", "{stage}"),
    "restore --swap": ("restore", "--swap", "--yes"),
    "drill": ("drill",),
}
STAGING = ("create", "stage")
SHAPE = VaultShape(seed=7, records=50, reads_per_org=20, rotations=1)
SMALL = {"max_connections": "80", "shared_buffers": "32MB"}
# What no compression makes smaller, so that a dump and storing it take a moment; as large as 4 MB in a dump.
PADDING = """CREATE TABLE padding AS
    SELECT n, decode(string_agg(md5(n || ' ' || m), ''), 'hex') AS bytes
      FROM generate_series(1, 64) n, generate_series(1, 2048) m GROUP BY n"""
# Borg wants one segment free before it compacts, which on a small disk are not its usual 500 MB.
SEGMENT_BYTES = 5 << 20
SINCE = "INSERT INTO notes VALUES (2, 'written since')"
CONFIG = """label = "{label}"
state_directory = "{state}"
staging_directory = "{staging}"
plugins = [{plugins}]
[database]
timeout = "{timeout}"
[repositories.default]
path = "{repository}"
lock_wait = "60s"
[sets.database]
keep = {keep}
"""
SECONDS = 150.0
Contents = dict[str, tuple[Any, ...]]
"""Rows and digest of every table."""


@dataclass(frozen=True, slots=True)
class Normal:
    """How a command goes when nothing happens to it."""

    seconds: float
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Nights:
    """What was made once: files in `place`, the server's among them, and the archives' names, oldest first."""

    place: Path
    password: str
    archives: tuple[str, ...]
    normal: Mapping[str, Normal]


@dataclass(frozen=True, slots=True)
class Site:
    """What one run has of its own; `vault` is the live database."""

    place: Path
    vault: Vault
    repository: PlainRepository

    @property
    def state(self) -> Path:
        """Where history and locks are."""
        return self.place / "state"

    @property
    def staging(self) -> Path:
        """Where runs make their private directories."""
        return self.place / "staging"

    @property
    def stage(self) -> Path:
        """The directory of `stage DIR`."""
        return self.place / "shelf" / "set"

    @property
    def history(self) -> Path:
        """The file of what happened."""
        return self.state / "history.ndjson"

    def environment(self, url: str | None = None) -> dict[str, str]:
        """Give the whole environment of the program."""
        own = {
            "DATABASE_URL": url or self.vault.url,
            "BORG_PASSPHRASE": PASSPHRASE,
            "BORG_BASE_DIR": str(self.place / "borg"),
            "BORG_VAULT_CONFIG": str(self.place / "config" / "borg-vault.toml"),
            "HOME": str(self.place / "home"),
            "XDG_STATE_HOME": str(self.place / "home"),
        }
        return plain_environment(own)

    def configure(self, *, plugins: str = "", timeout: str = "60s", state: Path | None = None) -> None:
        """Write the configuration."""
        config = self.place / "config" / "borg-vault.toml"
        config.parent.mkdir(exist_ok=True)
        places = {"state": state or self.state, "staging": self.staging, "repository": self.repository.path}
        config.write_text(
            CONFIG.format(label=LABEL, keep=KEEP["create"], plugins=plugins, timeout=timeout, **places), "utf-8"
        )
        config.chmod(0o600)

    def words(self, command: str) -> list[str]:
        """Give the words of a command; each step and each child has its line on standard output."""
        return ["-v", *(word.format(stage=self.stage) for word in COMMANDS[command])]

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run the program to its end, undisturbed."""
        return subprocess.run(
            [COMMAND, *words],
            env=self.environment(),
            check=False,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            stdin=subprocess.DEVNULL,
        )


@dataclass(slots=True)
class Ground:
    """One worker's own: a running server, and what is copied for every run."""

    nights: Nights
    cluster: Cluster
    place: Path
    archived: Contents
    """What the newest archive's database holds."""
    live: Contents
    """What the live one holds: something was written since."""

    @contextlib.contextmanager
    def site(self, name: str) -> Iterator[Site]:
        """Copy everything for one run; nothing is left of it afterwards."""
        place = self.place / name
        site = Site(place, self.database(f"live_{name}"), PlainRepository(place / "repository", place / "plain"))
        try:
            for part in ("repository", "state", "borg"):
                shutil.copytree(self.nights.place / part, place / part)
            for part in ("shelf", "home", "staging"):
                (place / part).mkdir()
            _moved_here(place, self.nights.place)
            site.configure()
            yield site
        finally:
            self.drop(site.vault.database)
            subprocess.run(["rm", "-rf", place], check=True)

    def database(self, name: str) -> Vault:
        """Make the live database of one run."""
        with connect(self.cluster.conninfo()) as connection:
            connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{TEMPLATE}"'.encode())
        vault = Vault(self.cluster, name, SampleVault(SHAPE))
        vault.execute(SINCE)
        return vault

    def drop(self, name: str) -> None:
        """Drop a database, and what restores have made beside it."""
        with connect(self.cluster.conninfo()) as connection:
            for (one,) in connection.execute(
                "SELECT datname FROM pg_database WHERE datname ~ ('^' || %s || '(_|$)')", [name]
            ).fetchall():
                connection.execute(f'DROP DATABASE "{one}" WITH (FORCE)'.encode())

    def run_again(self) -> None:
        """Start the server again when it was killed."""
        if reachable(self.cluster):
            return
        self.cluster.stop(immediate=True)
        eventually(self._started, "the server runs again")

    def _started(self) -> bool:
        with contextlib.suppress(SourceError):  # processes of the one before are still at work
            self.cluster.start()
            return True
        return False


def reachable(cluster: Cluster) -> bool:
    """Say whether the server takes connections within ten seconds: after a crash it needs a moment."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if not Path(f"/proc/{cluster.pid}").exists() or _is_zombie(cluster.pid):
            return False
        with contextlib.suppress(Exception):
            connect(cluster.conninfo()).close()
            return True
        time.sleep(0.05)
    return False


def _is_zombie(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()[0] == "Z"
    return True


def _moved_here(place: Path, before: Path) -> None:
    """Let Borg know the copy by its new place, as it knew the original."""
    for path in (place / "borg").rglob("*"):
        if path.name in ("location", "config"):
            path.write_text(path.read_text("utf-8").replace(f"{before}/", f"{place}/"), "utf-8")


@contextlib.contextmanager
def nights_made(place: Path) -> Iterator[Nights]:
    """Make a Server, and two nights of backups; see how each command goes when nothing happens."""
    place.chmod(0o755)
    distribution = embedded_distributions()[-1]
    with throwaway_cluster(distribution, settings=SMALL) as cluster:
        sample = SampleVault(SHAPE)
        with connect(cluster.conninfo()) as connection:
            connection.execute(f'CREATE DATABASE "{TEMPLATE}" TEMPLATE template0'.encode())
        vault = Vault(cluster, TEMPLATE, sample)
        with vault.connect() as connection:
            sample.load(connection)
        vault.execute(*OF_ITS_OWN, PADDING)
        repository = initialised(place / "repository", place / "plain")
        repository.borg("config", "::", "max_segment_size", SEGMENT_BYTES)
        site = Site(place, vault, repository)
        for part in ("shelf", "home", "staging", "state"):
            (place / part).mkdir()
        site.configure()
        archives = tuple(_night(site) for _ in range(NIGHTS))
        password = cluster.password
        cluster.stop()
        shutil.copytree(cluster.data, place / "data")
    yield Nights(place, password, archives, {})


def _night(site: Site) -> str:
    done = site.run("create", "--no-prune", "--json")
    assert done.returncode == 0, done.stderr
    return str(json.loads(done.stdout)["archive"])


@contextlib.contextmanager
def ground_on(nights: Nights, place: Path) -> Iterator[Ground]:
    """Run a copy of the server, for one worker."""
    place.mkdir()
    with empty_cluster(embedded_distributions()[-1], server_account(), nights.password) as cluster:
        shutil.copytree(nights.place / "data", cluster.data, dirs_exist_ok=True)
        for path in (cluster.data, *cluster.data.rglob("*")):
            cluster.account.give(path)
        cluster.configure({"unix_socket_permissions": "0700"})
        cluster.start()
        ground = Ground(nights, cluster, place, digests(cluster.conninfo(TEMPLATE)), {})
        vault = ground.database("compared")
        ground.live = digests(cluster.conninfo(vault.database))
        ground.drop("compared")
        yield ground


def as_usual(ground: Ground, command: str) -> Normal:
    """See how a command goes when nothing happens to it."""
    with ground.site("usual") as site:
        begun = time.monotonic()
        done = site.run(*site.words(command))
        assert done.returncode == 0, (command, done.stdout[-2000:], done.stderr)
        return Normal(time.monotonic() - begun, tuple(done.stdout.splitlines()))


def versions(ground: Ground) -> dict[str, str]:
    """Give what the runs were made with."""
    borg = subprocess.run([COMMAND.with_name("borg"), "--version"], check=True, capture_output=True, text=True)
    return {
        "borg": borg.stdout.strip().removeprefix("borg "),
        "postgresql": str(ground.cluster.distribution.major),
        "python": ".".join(map(str, sys.version_info[:3])),
        "system": f"{os.uname().sysname} {os.uname().release}",
        "account": "root" if os.geteuid() == 0 else "not root",
    }
