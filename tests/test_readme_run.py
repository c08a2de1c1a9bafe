"""What README tells to type for the first backup, the first drill and the bad day is typed here, line by line."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from conftest import SMALL

from borg_vault_plugin.cluster import Cluster, Distribution, throwaway_cluster
from borg_vault_plugin.sample import SampleVault, VaultShape

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
SECTIONS = ("First backup", "First drill", "Restoring on the bad day")
SECONDS = 300.0


@pytest.fixture
def cluster_of_its_own(newest: Distribution) -> Iterator[Cluster]:
    """A server with a Server's database, which will be replaced."""
    with throwaway_cluster(newest, settings=SMALL) as cluster:
        with psycopg.connect(cluster.conninfo(), autocommit=True) as connection:
            connection.execute("CREATE DATABASE server")
        with psycopg.connect(cluster.conninfo("server")) as connection:
            SampleVault(VaultShape(records=3)).load(connection)
        yield cluster


def told(heading: str) -> list[str]:
    """Give what is to be typed below a heading, before its subsections."""
    found = re.search(rf"^## {heading}\n(.*?)^##", README, re.MULTILINE | re.DOTALL)
    assert found, heading
    return [line for block in re.findall(r"^```console\n(.*?)^```", found[1], re.MULTILINE | re.DOTALL)
            for line in re.findall(r"^\$ (.+)$", block, re.MULTILINE)]  # fmt: skip


def test_the_first_backup_the_first_drill_and_the_bad_day(cluster_of_its_own: Cluster, tmp_path: Path) -> None:
    places = {
        "postgresql://backup:…@db.example/server": f"'{cluster_of_its_own.url('server')}'",
        "/mnt/backups/server": str(tmp_path / "repository"),
        "BORG_PASSPHRASE=…": "BORG_PASSPHRASE=secret",
        "restore --swap": "restore --swap --yes",  # there is no terminal to ask on
        "REPOSITORY::prod-2026-05-26T01:33:27Z": '"$BORG_REPO::$(borg list --last 1 --format {archive})"',
    }
    script = "\n".join(line for heading in SECTIONS for line in told(heading))
    for placeholder, real in places.items():
        assert placeholder in script
        script = script.replace(placeholder, real)
    programs = f"{Path(sys.executable).parent}:{cluster_of_its_own.distribution.bin}"
    server = {
        "PGHOST": str(cluster_of_its_own.socket_directory),
        "PGUSER": "postgres",
        "PGPASSWORD": cluster_of_its_own.password,
    }
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        env=os.environ | server | {"PATH": f"{programs}:{os.environ['PATH']}"},
        cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    with psycopg.connect(cluster_of_its_own.conninfo("restored")) as connection:
        assert connection.execute("SELECT count(*) > 0 FROM audit_vault").fetchone() == (True,)
