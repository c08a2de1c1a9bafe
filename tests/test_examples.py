"""Every example runs: the third-party hook is installed as its reader would install it, and adds its artifact."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from borg_vault_plugin.sample import SampleVault, VaultShape

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.fixture
def installed_hook(tmp_path: Path) -> Path:
    """Install the example hook into a directory of its own."""
    target = tmp_path / "site"
    source = tmp_path / "settings_hook"
    source.mkdir()
    for file in (EXAMPLES / "settings_hook").iterdir():
        if file.is_file():
            (source / file.name).write_bytes(file.read_bytes())
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--target", target, source],
        check=True,
        timeout=120,
    )
    return target


def test_the_example_hook_adds_one_artifact_when_the_configuration_names_it(
    installed_hook: Path, latest_database: str, tmp_path: Path
) -> None:
    with psycopg.connect(latest_database) as connection:
        SampleVault(VaultShape(records=3)).load(connection)
    configuration = tmp_path / "config.toml"
    configuration.write_text(
        f'plugins = ["server-settings"]\n[repositories.local]\npath = "{tmp_path / "repository"}"\n'
    )
    configuration.chmod(0o600)
    variables = {"DATABASE_URL": latest_database, "BORG_PASSPHRASE": "example", "PYTHONPATH": str(installed_hook)}

    def run(*words: str) -> str:
        command = [str(Path(sys.executable).with_name("borg-vault")), "--config", str(configuration), *words]
        done = subprocess.run(
            command, env=os.environ | variables, capture_output=True, text=True, timeout=120, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    run("init")
    artifacts = {one["path"]: one["producer"] for one in json.loads(run("create", "--json"))["artifacts"]}
    assert artifacts["server-settings.csv"] == "server-settings"
    assert {"db.dump", "vault-public-keys.csv", "chain/audit_vault.ndjson"} < set(artifacts)
