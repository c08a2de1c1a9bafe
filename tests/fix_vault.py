"""Databases of a Server: a small genuine vault, loaded once into each cluster and copied for each test.

`vault` runs a test once on each PostgreSQL that is here, `latest_vault` once on the newest.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import psycopg

from borg_vault_plugin.cluster import Cluster
from borg_vault_plugin.sample import SampleVault, VaultShape

Connection = psycopg.Connection[Any]
Era = Literal["v1", "v2"]

RECORDS = 12
role_numbers = itertools.count(1)
database_numbers = itertools.count(1)

# Content of every table, in any order of its rows (hashtextextended takes a row's text).
TABLES = """
SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'm') AND n.nspname IN ('public', 'pgboss') ORDER BY 1"""
DIGEST = "SELECT count(*), coalesce(sum(hashtextextended(t::text, 0)::numeric), 0) FROM {} t"


@dataclass(frozen=True, slots=True)
class Vault:
    """One database that holds a vault; `sample` is what was loaded, and can grow there."""

    cluster: Cluster
    database: str
    sample: SampleVault

    @property
    def url(self) -> str:
        """How a Server reaches it, password included."""
        return self.cluster.url(self.database)

    def connect(self) -> Connection:
        """Open an autocommit connection whose session prints times in UTC."""
        return connect(self.cluster.conninfo(self.database))

    def execute(self, *statements: str) -> None:
        """Change something in the database."""
        with self.connect() as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def value(self, query: str) -> Any:
        """Give the one value that a query returns."""
        with self.connect() as connection:
            row = connection.execute(query.encode()).fetchone()
        assert row is not None
        return row[0]


def connect(conninfo: str) -> Connection:
    """Open an autocommit connection whose session prints times in UTC."""
    return psycopg.connect(conninfo, autocommit=True, client_encoding="UTF8", options="-c TimeZone=UTC")


def digests(conninfo: str) -> dict[str, tuple[Any, ...]]:
    """Give the number of rows and a digest of every table and materialised view."""
    with connect(conninfo) as connection:
        names = [name for (name,) in connection.execute(TABLES).fetchall()]
        rows = {name: connection.execute(DIGEST.format(name).encode()).fetchone() for name in names}
    return {name: row for name, row in rows.items() if row is not None}


@contextlib.contextmanager
def role(vault: Vault, *, options: str = "", grant: bool = True) -> Iterator[str]:
    """Make a login role that may read everything in the vault, give its name, and drop it on leaving."""
    name = f"backup_{next(role_numbers)}"
    vault.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{vault.cluster.password}' {options}")
    if grant:
        vault.execute(f"GRANT pg_read_all_data TO {name}")
    try:
        yield name
    finally:
        vault.execute(f"DROP OWNED BY {name}", f"DROP ROLE {name}")


def url_of(vault: Vault, user: str) -> str:
    """Give the URL with which another role, of the same password, reaches the vault."""
    return vault.url.replace(f"//{vault.cluster.user}:", f"//{user}:")


def template_of(cluster: Cluster, era: Era) -> SampleVault:
    """Load a vault into a database that others are copied from."""
    sample = SampleVault(VaultShape(seed=7, era=era, records=RECORDS, reads_per_org=5, rotations=1))
    with connect(cluster.conninfo()) as connection:
        connection.execute(f"CREATE DATABASE template_{era} TEMPLATE template0".encode())
    with connect(cluster.conninfo(f"template_{era}")) as connection:
        sample.load(connection)
    return sample


@contextlib.contextmanager
def copied(cluster: Cluster, era: Era, sample: SampleVault) -> Iterator[Vault]:
    """Copy the template of an era; drop the copy on leaving."""
    with new_database(cluster, template=f"template_{era}") as name:
        yield Vault(cluster, name, copy.deepcopy(sample))


@contextlib.contextmanager
def new_database(cluster: Cluster, *, template: str = "template0", options: str = "") -> Iterator[str]:
    """Make a database and give its name; drop it on leaving, whoever is still connected."""
    name = f"server-{next(database_numbers)}"
    with connect(cluster.conninfo()) as connection:
        connection.execute(f'CREATE DATABASE "{name}" TEMPLATE {template} {options}'.encode())
    yield name
    with connect(cluster.conninfo()) as connection:
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())
