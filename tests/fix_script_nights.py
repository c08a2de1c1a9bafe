"""Seven nights of the Server's own backup script, made once; three of them brought in once, to be copied."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from fix_cli import COMMAND, SECONDS, RunCli
from fix_history import LABEL, WriteConfig
from fix_repository import PASSPHRASE, PlainRepository, announce
from fix_tarball import Form, ImportedNights, Operator, ScriptNight, ScriptNights, script_backup
from fix_vault import copied, digests

from borg_vault_plugin.cluster import Cluster
from borg_vault_plugin.process import plain_environment
from borg_vault_plugin.sample import SampleVault
from borg_vault_plugin.sample.plan import EPOCH, SECOND

FORMS: tuple[Form, ...] = ("old", "old", "old", "chart", "new", "new", "new")


@pytest.fixture(scope="session")
def script_nights(
    latest_cluster: Cluster, latest_template: SampleVault, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ScriptNights]:
    """A week of the script: three nights of an old one, one of the chart's, three of a newer one."""
    place = tmp_path_factory.mktemp("script")
    with copied(latest_cluster, "v2", latest_template) as vault:
        nights = []
        for number, form in enumerate(FORMS):
            with vault.connect() as connection:
                vault.sample.grow(connection, entries=6, rotate=number == 4, records_updated=1)
            time = EPOCH + timedelta(seconds=vault.sample.plan.end // SECOND, hours=1)
            tarball = script_backup(vault, place, time, form=form)
            nights.append(ScriptNight(tarball, time, digests(vault.cluster.conninfo(vault.database))))
        yield ScriptNights(vault, tuple(nights))


@pytest.fixture(scope="session")
def imported_nights(
    script_nights: ScriptNights, repository_template: Path, tmp_path_factory: pytest.TempPathFactory
) -> ImportedNights:
    """A night of each form of the script, brought in by the installed command, the newest tarball named first."""
    nights = tuple(script_nights.nights[place] for place in (0, 3, 6))
    place = tmp_path_factory.mktemp("imported")
    shutil.copytree(repository_template, place / "repository")
    config = place / "config.toml"
    config.write_text(LABEL, "utf-8")
    config.chmod(0o600)
    own = {
        "DATABASE_URL": script_nights.vault.url,
        "BORG_REPO": str(place / "repository"),
        "BORG_PASSPHRASE": PASSPHRASE,
        "BORG_BASE_DIR": str(place / "borg"),
        "BORG_VAULT_CONFIG": str(config),
        "XDG_STATE_HOME": str(place / "state"),
    }
    command: list[str | Path] = [COMMAND, "import", "--json", *(night.tarball for night in reversed(nights))]
    done = subprocess.run(
        command, env=plain_environment(own), check=False, capture_output=True, text=True, timeout=2 * SECONDS
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert not list((place / "state" / "borg-vault" / "staging").rglob("run-*"))
    return ImportedNights(
        script_nights, nights, place / "repository", place / "state" / "borg-vault", json.loads(done.stdout)
    )


@pytest.fixture
def convert(
    imported_nights: ImportedNights,
    run_cli: RunCli,
    write_config: WriteConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Operator:
    """An operator who came over, the test's own: repository, history, the tarballs, the Server."""
    shutil.copytree(imported_nights.repository, tmp_path / "repository")
    shutil.copytree(imported_nights.state, tmp_path / "xdg_state_home" / "borg-vault")
    repository = PlainRepository(tmp_path / "repository", tmp_path / "plain-borg")
    announce(monkeypatch, imported_nights.script.vault, repository)
    write_config(LABEL)
    return Operator(imported_nights.script, imported_nights.nights, repository, imported_nights.document, run_cli)


@pytest.fixture
def newcomer(
    script_nights: ScriptNights,
    repository: PlainRepository,
    run_cli: RunCli,
    write_config: WriteConfig,
    monkeypatch: pytest.MonkeyPatch,
) -> Operator:
    """An operator who is about to come over: an empty repository."""
    announce(monkeypatch, script_nights.vault, repository)
    write_config(LABEL)
    return Operator(script_nights, (), repository, {"files": []}, run_cli)
