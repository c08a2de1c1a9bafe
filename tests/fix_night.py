"""A night that borgmatic made with the example's configuration, and a test's own copy of what it left behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fix_borgmatic import NAMES, Site, installed, moved
from fix_repository import initialised
from fix_vault import copied

from borg_vault_plugin.cluster import Cluster
from borg_vault_plugin.sample import SampleVault


@pytest.fixture(scope="module")
def borgmatics_night(
    latest_cluster: Cluster, latest_template: SampleVault, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """One night of everything that borgmatic does, and nothing of it on standard error."""
    place = tmp_path_factory.mktemp("borgmatic")
    with copied(latest_cluster, "v2", latest_template) as vault:
        site = installed(place, vault.url)
        for name in NAMES:
            initialised(place / name, place / "plain-borg")
        site.borgmatic("create", "prune", "compact", "check", "--force", exit_code=0)
        yield site


@pytest.fixture
def site(borgmatics_night: Site, tmp_path: Path) -> Site:
    """A site that has one night behind it."""
    return moved(borgmatics_night, tmp_path / "site")
