"""What the tests of restores may ask for: `three_nights` is made once, `rescue` is a test's own copy of it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import SMALL
from fix_repository import announce, initialised
from fix_restore import CONFIG, NEW_ENTRIES, OF_ITS_OWN, TAMPER, Nights, Rescue, back_up, rescued, save
from fix_vault import Vault, template_of

from borg_vault_plugin.cluster import Distribution, throwaway_cluster

numbers = itertools.count(1)


@pytest.fixture(scope="session")
def three_nights(newest: Distribution, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nights]:
    """Three nights of one database, on a server of their own: restores make roles there."""
    place = tmp_path_factory.mktemp("nights")
    repository = initialised(place / "repository", place / "plain-borg")
    with throwaway_cluster(newest, settings=SMALL) as cluster:
        vault = Vault(cluster, "template_v2", template_of(cluster, "v2"))
        vault.execute(*OF_ITS_OWN)
        older = back_up(vault, repository, place)
        with vault.connect() as connection:
            vault.sample.grow(connection, entries=NEW_ENTRIES, rotate=True)
        newer = back_up(vault, repository, place)
        template = save(vault)
        vault.execute(*TAMPER)
        suspect = back_up(vault, repository, place, exit_code=10)
        yield Nights(cluster, place, vault.sample, template, older, newer, suspect)


@pytest.fixture
def rescue(
    three_nights: Nights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_config: Callable[[str], Path]
) -> Iterator[Rescue]:
    """A test's own repository, history and database; whatever is made of that is dropped afterwards."""
    with rescued(three_nights, tmp_path, f"live-{next(numbers)}") as rescue:
        write_config(CONFIG)
        announce(monkeypatch, rescue.vault, rescue.repository)
        yield rescue
