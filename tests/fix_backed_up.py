"""A database of everything that is hard to back up: backed up on each PostgreSQL that is here, and restored by hand.

Making one takes longer than most tests, so it is made once and tests only look at it.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from conftest import SMALL
from fix_artifacts import BackedUp, Replayed, back_up, client, harden, psql, roles
from fix_vault import copied

from borg_vault_plugin.cluster import Cluster, Distribution, throwaway_cluster
from borg_vault_plugin.sample import SampleVault


@pytest.fixture(scope="session")
def backed_up(cluster: Cluster, template: SampleVault, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BackedUp]:
    """A database of everything that is hard, backed up."""
    directory = tmp_path_factory.mktemp("backed-up")
    with copied(cluster, "v2", template) as vault, roles(vault):
        harden(vault)
        yield back_up(vault, directory)


@pytest.fixture(scope="session")
def replayed(backed_up: BackedUp, distribution: Distribution) -> Iterator[Replayed]:
    """The archive's roles.sql, database.sql and db.dump, in this order, on a fresh cluster."""
    files, name = backed_up.directory, backed_up.vault.database
    with throwaway_cluster(distribution, settings=SMALL) as fresh:
        said = {
            "roles.sql": psql(fresh, files / "roles.sql"),
            "roles.sql, twice": psql(fresh, files / "roles.sql"),
            "database.sql": psql(fresh, files / "database.sql"),
            "db.dump": client(fresh, "pg_restore", "--exit-on-error", f"--dbname={name}", files / "db.dump")[1],
        }
        yield Replayed(backed_up, fresh, said)
