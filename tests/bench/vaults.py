"""The databases that are backed up and restored: sample vaults in servers of our own, and the days they grow by."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from borg_vault_plugin.chain.ranges import processors
from borg_vault_plugin.cluster import Cluster, embedded_distributions, throwaway_cluster
from borg_vault_plugin.sample import SampleVault, VaultShape
from borg_vault_plugin.sample.plan import Onto

NAME = "vault"
ENTRIES_PER_RECORD, CHECKPOINT_EVERY = 5, 10
GROWTH = 100  # a hundredth of the entries is new every night, a hundredth of the records changed
# A server of an operator's: it is not interrupted by its own upkeep, which happens between the measurements.
SETTINGS = {
    "autovacuum": "off",
    "shared_buffers": "256MB",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "1h",
}


@dataclass(slots=True)
class Source:
    """The server with the vault, and the one that it is restored to."""

    cluster: Cluster
    fresh: Cluster

    @property
    def environment(self) -> dict[str, str]:
        """The environment in which PostgreSQL's clients find the vault."""
        return self.cluster.environment(NAME)

    @property
    def major(self) -> int:
        """The major version of both servers."""
        return self.cluster.distribution.major

    def program(self, name: str) -> Path:
        """Give one of PostgreSQL's clients, of the server's own major version."""
        return self.cluster.distribution.bin / name

    def load(self, entries: int) -> SampleVault:
        """Make a vault of so many entries and keep it as a template; the vault knows how to grow."""
        records = max(1, entries // ENTRIES_PER_RECORD)
        shape = VaultShape(records=records, entries_per_record=ENTRIES_PER_RECORD, checkpoint_every=CHECKPOINT_EVERY)
        vault = SampleVault(shape)
        _recreate(self.cluster, template_name(entries), "template0")
        with psycopg.connect(self.cluster.conninfo(template_name(entries))) as connection:
            vault.load(connection, processes=processors())
        self._settle(template_name(entries))
        return vault

    def forget(self, entries: int) -> None:
        """Drop a template, and the vault."""
        _drop(self.cluster, NAME)
        _drop(self.cluster, template_name(entries))

    def begin(self, entries: int, vault: SampleVault) -> SampleVault:
        """Put a template's copy where the contenders look for it; give the vault that grows with it."""
        _recreate(self.cluster, NAME, template_name(entries))
        self._settle(NAME)
        return copy.deepcopy(vault)

    def grow(self, vault: SampleVault, entries: int, onto: Onto) -> None:
        """Let a day pass."""
        changed = max(1, vault.plan.records // GROWTH)
        with psycopg.connect(self.cluster.conninfo(NAME)) as connection:
            vault.grow(connection, entries=max(1, entries // GROWTH), onto=onto, records_updated=changed)
        self._settle(NAME)

    def facts(self) -> dict[str, int]:
        """Count what is in the vault."""
        with psycopg.connect(self.cluster.conninfo(NAME)) as connection:
            query = "SELECT (SELECT count(*) FROM audit_vault), pg_database_size(current_database())"
            entries, size = connection.execute(query).fetchone() or (0, 0)
        return {"entries": entries, "database_bytes": size}

    def empty_database(self) -> None:
        """Have an empty database of the vault's name, and no other, in the fresh server."""
        self.no_database()
        _recreate(self.fresh, NAME, "template0")

    def no_database(self) -> None:
        """Drop all databases of the fresh server."""
        with psycopg.connect(self.fresh.conninfo()) as connection:
            query = "SELECT datname FROM pg_database WHERE NOT datistemplate AND datname <> 'postgres'"
            names = [name for (name,) in connection.execute(query).fetchall()]
        for name in names:
            _drop(self.fresh, name)

    def restored_entries(self) -> int:
        """Count the entries in the only database of the fresh server."""
        with psycopg.connect(self.fresh.conninfo()) as connection:
            query = "SELECT datname FROM pg_database WHERE NOT datistemplate AND datname <> 'postgres'"
            (name,) = connection.execute(query).fetchone() or ("",)
        with psycopg.connect(self.fresh.conninfo(name)) as connection:
            (count,) = connection.execute("SELECT count(*) FROM audit_vault").fetchone() or (0,)
        return int(count)

    def _settle(self, name: str) -> None:
        """Do the upkeep that would otherwise fall to whoever comes first, and read everything once."""
        with psycopg.connect(self.cluster.conninfo(name), autocommit=True) as connection:
            connection.execute("VACUUM (ANALYZE)")
            connection.execute("CHECKPOINT")


def template_name(entries: int) -> str:
    """Name the template of vaults of this size."""
    return f"{NAME}_{entries}"


@contextlib.contextmanager
def servers(parent: Path) -> Iterator[Source]:
    """Run a server with the vault, and a fresh one of the same major version that has its roles."""
    distribution = embedded_distributions()[-1]
    with (
        throwaway_cluster(distribution, parent=parent, settings=SETTINGS) as cluster,
        throwaway_cluster(distribution, parent=parent, settings=SETTINGS) as fresh,
    ):
        with psycopg.connect(fresh.conninfo(), autocommit=True) as connection:
            connection.execute("CREATE ROLE agledger_app NOLOGIN")
        yield Source(cluster, fresh)


def _recreate(cluster: Cluster, name: str, template: str) -> None:
    _drop(cluster, name)
    with psycopg.connect(cluster.conninfo(), autocommit=True) as connection:
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY")
        connection.execute(statement.format(sql.Identifier(name), sql.Identifier(template)))


def _drop(cluster: Cluster, name: str) -> None:
    with psycopg.connect(cluster.conninfo(), autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
