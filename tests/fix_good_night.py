"""A good night that is made once, and Servers that have it behind them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from fix_cli import RunCli
from fix_history import LABEL, GoodNight, Server, WriteConfig, backed_up
from fix_repository import PlainRepository, announce
from fix_vault import Vault, copied

from borg_vault_plugin.cluster import Cluster
from borg_vault_plugin.sample import SampleVault


@pytest.fixture(scope="session")
def good_night(
    latest_cluster: Cluster,
    latest_template: SampleVault,
    repository_template: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> GoodNight:
    """A good night, to be copied."""
    place = tmp_path_factory.mktemp("good-night")
    shutil.copytree(repository_template, place / "repository")
    with copied(latest_cluster, "v2", latest_template) as vault:
        document = backed_up(vault, place)
    assert (document["verdict"], document["continuity"]["verdict"]) == ("good", "not_applicable")
    return GoodNight(place / "repository", place / "state" / "borg-vault", document)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Where runs of the test keep history, locks, evidence and staging."""
    return tmp_path / "xdg_state_home" / "borg-vault"


@pytest.fixture
def memory(good_night: GoodNight, state: Path, tmp_path: Path) -> PlainRepository:
    """What the good night left behind, the test's own: its repository, and what this host remembers."""
    shutil.copytree(good_night.repository, tmp_path / "repository")
    shutil.copytree(good_night.state, state)
    return PlainRepository(tmp_path / "repository", tmp_path / "plain-borg")


@pytest.fixture
def told(
    latest_vault: Vault, memory: PlainRepository, write_config: WriteConfig, monkeypatch: pytest.MonkeyPatch
) -> Vault:
    """The Server's database, with everything that a backup needs to know."""
    announce(monkeypatch, latest_vault, memory)
    write_config(LABEL)
    return latest_vault


@pytest.fixture
def seasoned(good_night: GoodNight, told: Vault, memory: PlainRepository, run_cli: RunCli) -> Server:
    """A Server with a good night behind it, the test's own."""
    return Server(told, memory, good_night.document, run_cli)
