"""What the tests of restores ask for: a repository with archives of several nights, made once, and their database.

`rescue` is a test's own copy of both: of the two good archives `older` and `newer`, `newer` is what the database holds,
with a role that owns, one that may log in, a view and a large object; `suspect` was made last, of a tampered database.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import itertools
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fix_cli import COMMAND, SECONDS
from fix_repository import PASSPHRASE, PlainRepository
from fix_vault import Connection, Vault, connect, digests
from psycopg import sql

from borg_vault_plugin.archive import comment
from borg_vault_plugin.cluster import Cluster
from borg_vault_plugin.process import plain_environment
from borg_vault_plugin.sample import SampleVault

LABEL = "prod"
CONFIG = f'label = "{LABEL}"\n'
LATER = "2031-01-01T00:00:00"
numbers = itertools.count(1)
OWNER, LOGIN = 'owner "of" it', "app-login"
NEW_ENTRIES = 12
numbers = itertools.count(1)

OF_ITS_OWN = (
    f"""DO $$ BEGIN
    IF to_regrole('"owner ""of"" it"') IS NULL THEN
        CREATE ROLE "owner ""of"" it" NOLOGIN;
        CREATE ROLE "{LOGIN}" LOGIN PASSWORD 'made-up';
    END IF; END $$""",
    "CREATE TABLE notes AS SELECT 1 AS number, 'größe' AS word",
    'ALTER TABLE notes OWNER TO "owner ""of"" it"',
    f'GRANT SELECT ON notes TO "{LOGIN}"',
    "SELECT lo_from_bytea(0, 'a large object')",
)
# What an operator's worst day looks like: the tables are gone, although a trigger forbids it.
DROP_TABLES = (
    "ALTER EVENT TRIGGER audit_tables_stay DISABLE",
    "DROP SCHEMA public CASCADE",
    "DROP SCHEMA pgboss CASCADE",
    "CREATE SCHEMA public",
)
TAMPER = (
    "SET session_replication_role = replica",
    "UPDATE audit_vault SET actor_role = 'somebody else' WHERE id = (SELECT id FROM audit_vault ORDER BY id LIMIT 1)",
)


@dataclass(frozen=True, slots=True)
class Nights:
    """Archives of one database, and a database to be copied that is as `newer` has it."""

    cluster: Cluster
    place: Path
    sample: SampleVault
    template: str
    older: str
    newer: str
    suspect: str


@dataclass(frozen=True, slots=True)
class Rescue:
    """One test's own repository and database."""

    nights: Nights
    vault: Vault
    repository: PlainRepository
    state: Path

    @property
    def live(self) -> str:
        """The live database's name."""
        return self.vault.database

    def databases(self) -> set[str]:
        """Give the names of all databases that have to do with the live one."""
        with self.on_server() as connection:
            query = "SELECT datname FROM pg_database WHERE starts_with(datname, %s)"
            return {name for (name,) in connection.execute(query, [self.live]).fetchall()}

    def roles(self) -> set[str]:
        """Give the names of all roles."""
        with self.on_server() as connection:
            return {name for (name,) in connection.execute("SELECT rolname FROM pg_roles").fetchall()}

    def open(self, database: str) -> bool:
        """Whether a database takes connections."""
        with self.on_server() as connection:
            query = "SELECT datallowconn FROM pg_database WHERE datname = %s"
            row = connection.execute(query, [database]).fetchone()
        assert row is not None
        return bool(row[0])

    def digests(self, database: str | None = None) -> dict[str, tuple[Any, ...]]:
        """Give the content of every table."""
        return digests(self.vault.cluster.conninfo(database or self.live))

    @contextlib.contextmanager
    def untouched(self) -> Iterator[None]:
        """Check that what happens inside changes nothing on the server, and leaves no copy of the archive here."""
        before = self.databases(), self.roles(), self.digests(), self.open(self.live)
        yield
        assert (self.databases(), self.roles(), self.digests(), self.open(self.live)) == before
        assert list((self.state / "staging").glob("*/*")) == []

    @contextlib.contextmanager
    def without_roles(self) -> Iterator[None]:
        """Take the roles of the archive away, as on a server that never had them; afterwards they are there again."""
        renamed = {role: f"{role} away" for role in (OWNER, LOGIN)}
        for role, away in renamed.items():
            self.execute("ALTER ROLE {} RENAME TO {}", role, away)
        yield
        made = self.roles() & set(renamed)
        for name in self.databases() if made else ():
            self.execute("ALTER DATABASE {} ALLOW_CONNECTIONS true", name)
            with connect(self.vault.cluster.conninfo(name)) as connection:
                connection.execute(sql.SQL("DROP OWNED BY {}").format(sql.SQL(", ").join(map(sql.Identifier, made))))
        for role, away in renamed.items():
            self.execute("DROP ROLE IF EXISTS {}", role)
            self.execute("ALTER ROLE {} RENAME TO {}", away, role)

    def execute(self, template: str, *names: str) -> None:
        """Run a statement about these names beside the live database."""
        with self.on_server() as connection:
            text = template.format(*(sql.Identifier(name).as_string() for name in names))
            connection.execute(text.encode())

    def on_server(self) -> Connection:
        """Connect to a database beside the live one."""
        return connect(self.vault.cluster.conninfo())

    def store_altered(self, alter: Callable[[Path], None], *, sealed: bool = True, suffix: str = "") -> str:
        """Store `newer` once more with something altered, as the newest archive; if sealed, its manifest knows it."""
        directory = self.repository.extract(self.nights.newer, self.state.parent / f"altered-{next(numbers)}")
        alter(directory)
        if sealed:
            reseal(directory)
        name = f"{LABEL}-{LATER}Z{suffix}"
        digest = hashlib.sha256((directory / "manifest.json").read_bytes()).hexdigest()
        words = comment("good" if not suffix else "unverified", digest, "database")
        options = [f"--timestamp={LATER}", f"--comment={words}", "--files-cache=disabled"]
        paths = sorted(path.name for path in directory.iterdir())
        self.repository.borg("create", *options, f"::{name}", *paths, cwd=directory)
        return name

    def history(self, *happenings: str) -> list[dict[str, Any]]:
        """Give what history says, of these happenings."""
        lines = (self.state / "history.ndjson").read_text("utf-8").splitlines()
        return [event for event in map(json.loads, lines) if event["event"] in happenings]


def reseal(directory: Path) -> None:
    """Make manifest and checksums say what the files are."""
    manifest = json.loads((directory / "manifest.json").read_text("utf-8"))
    for artifact in manifest["artifacts"]:
        data = (directory / artifact["path"]).read_bytes()
        artifact |= {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (directory / "manifest.json").write_text(json.dumps(manifest), "utf-8")
    files = sorted(path for path in directory.rglob("*") if path.is_file() and path.name != "SHA256SUMS")
    lines = (
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(directory).as_posix()}\n" for path in files
    )
    (directory / "SHA256SUMS").write_text("".join(lines), "utf-8")


def save(vault: Vault) -> str:
    """Copy a database as it is, and give the copy's name."""
    name = f"{vault.database} saved"
    with connect(vault.cluster.conninfo()) as connection:
        connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{vault.database}"'.encode())
    return name


def back_up(vault: Vault, repository: PlainRepository, place: Path, *, exit_code: int = 0) -> str:
    """Run `create` with an environment of its own, and give the archive's name as the repository has it."""
    place.joinpath("config").mkdir(exist_ok=True)
    config = place / "config" / "borg-vault.toml"
    config.write_text(CONFIG, "utf-8")
    config.chmod(0o600)
    own = {
        "DATABASE_URL": vault.url,
        "BORG_REPO": str(repository.path),
        "BORG_PASSPHRASE": PASSPHRASE,
        "BORG_BASE_DIR": str(place / "borg"),
        "BORG_VAULT_CONFIG": str(config),
        "XDG_STATE_HOME": str(place / "state"),
    }
    command = [str(COMMAND), "create", "--json", "--no-prune"]
    done = subprocess.run(
        command, env=plain_environment(own), check=False, capture_output=True, text=True, timeout=SECONDS
    )
    assert done.returncode == exit_code, done.stderr
    name = json.loads(done.stdout)["archive"]
    return next(found for found in repository.names() if found.startswith(name))


@contextlib.contextmanager
def rescued(nights: Nights, tmp_path: Path, live: str) -> Iterator[Rescue]:
    """Copy what the nights have made; the live database gets this name."""
    shutil.copytree(nights.place / "repository", tmp_path / "repository")
    state = tmp_path / "xdg_state_home" / "borg-vault"
    shutil.copytree(nights.place / "state" / "borg-vault", state)
    quoted = sql.Identifier(live)
    with connect(nights.cluster.conninfo()) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(quoted, sql.Identifier(nights.template)))
    vault = Vault(nights.cluster, live, copy.deepcopy(nights.sample))
    repository = PlainRepository(tmp_path / "repository", tmp_path / "plain-borg")
    yield Rescue(nights, vault, repository, state)
    with connect(nights.cluster.conninfo()) as connection:
        query = "SELECT datname FROM pg_database WHERE starts_with(datname, %s) OR datname ~ '^definitions_'"
        for (name,) in connection.execute(query, [live]).fetchall():
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
