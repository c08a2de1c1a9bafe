"""Two nights of a small vault, made once: tests drill them, or bend copies of them."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fix_drill import Nights, Rehearse, staged
from fix_vault import copied

from borg_vault_plugin.cluster import Cluster
from borg_vault_plugin.recovery.drill import Drill, Extraction, Rehearsal, drill
from borg_vault_plugin.sample import SampleVault


@pytest.fixture(scope="session")
def nights(
    latest_cluster: Cluster, latest_template: SampleVault, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Nights]:
    """Two nights of a small vault on the newest PostgreSQL."""
    place = tmp_path_factory.mktemp("nights")
    with copied(latest_cluster, "v2", latest_template) as vault:
        first = staged(vault, place / "first")
        with vault.connect() as connection:
            vault.sample.grow(connection, entries=20, rotate=True, records_updated=3)
        yield Nights(vault, first, staged(vault, place / "second"))


@pytest.fixture
def second_night(nights: Nights, tmp_path: Path) -> Path:
    """A copy of the second night's set, to be bent."""
    return Path(shutil.copytree(nights.second, tmp_path / "second night"))


@pytest.fixture
def staging() -> Iterator[Path]:
    """Where drills make their servers; the account of a server can reach it. Nothing may be left there."""
    place = Path(tempfile.mkdtemp(prefix="drills-", dir="/tmp"))
    place.chmod(0o755)
    yield place
    left = [path.name for path in place.iterdir()]
    shutil.rmtree(place, ignore_errors=True)
    assert left == []


@pytest.fixture
def rehearse(staging: Path) -> Rehearse:
    """Drill of what is in a directory."""

    def run(directory: Path, **options: Any) -> Drill:
        done = drill(Extraction(directory.name, directory, 0.5), Rehearsal(staging, **options))
        assert [check.name for check in done.checks][:2] == ["files", "dump"]
        return done

    return run
