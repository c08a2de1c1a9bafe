"""The runbook of those who come over from the script, end to end: seven nights in, one of ours, drills, and out."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from fix_artifacts import client
from fix_cli import SECONDS
from fix_tarball import Operator, unpacked
from fix_vault import digests, new_database

from borg_vault_plugin.config import load_settings

pytest_plugins = ("fix_server", "fix_script_nights")

EXAMPLE = Path(__file__).parent.parent / "examples" / "from_the_script"
needs_shellcheck = pytest.mark.skipif(shutil.which("shellcheck") is None, reason="no shellcheck here")


def move_over(*words: object) -> subprocess.CompletedProcess[str]:
    """Run the example as its reader would, with the program in PATH."""
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    command = [str(EXAMPLE / "move-over"), *(str(word) for word in words)]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=3 * SECONDS, env=environment)


def test_seven_nights_in_one_of_ours_two_drills_and_out_again(newcomer: Operator, tmp_path: Path) -> None:
    script, directory = newcomer.script, tmp_path / "backup"
    directory.mkdir()
    for tarball in script.tarballs:
        shutil.copy(tarball, directory)
    done = move_over(directory, tmp_path / "way back.tar.gz")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert "7 tarballs: 7 good" in done.stdout
    assert re.findall(r"^PASSED: (.*)$", done.stdout, re.MULTILINE) == [
        newcomer.repository.names()[place] for place in (0, -1)
    ]
    assert newcomer.repository.names()[:7] == [night.archive for night in script.nights]
    assert f"continuity passed: everything in {script.nights[-1].archive} is still there" in done.stdout
    dump = unpacked(tmp_path / "way back.tar.gz", tmp_path / "unpacked") / "db.dump"
    with new_database(script.vault.cluster) as name:
        client(script.vault.cluster, "pg_restore", "--no-owner", f"--dbname={name}", dump)
        assert digests(script.vault.cluster.conninfo(name)) == script.nights[-1].digests


def test_it_stops_at_a_tarball_that_is_damaged_and_says_which(newcomer: Operator, tmp_path: Path) -> None:
    (tmp_path / "backup-2026-06-12-013027.tar.gz").write_bytes(newcomer.script.tarballs[0].read_bytes()[:9000])
    done = move_over(tmp_path, tmp_path / "out.tar.gz")
    assert done.returncode == 4
    assert "backup-2026-06-12-013027.tar.gz is cut short or damaged" in done.stderr
    assert not (tmp_path / "out.tar.gz").exists()


def test_it_says_how_it_is_used() -> None:
    done = move_over()
    assert (done.returncode, done.stderr) == (2, "usage: move-over DIRECTORY-OF-TARBALLS WAY-BACK.tar.gz\n")


@needs_shellcheck
def test_the_script_is_clean() -> None:
    subprocess.run(["shellcheck", EXAMPLE / "move-over"], check=True, timeout=SECONDS)


def test_the_configuration_in_the_runbook_is_valid(tmp_path: Path) -> None:
    text = (EXAMPLE / "README.md").read_text("utf-8")
    (block,) = re.findall(r"^ *```toml\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL)
    path = tmp_path / "config.toml"
    path.write_text(re.sub(r"^ {3}", "", block, flags=re.MULTILINE), "utf-8")
    path.chmod(0o600)
    assert tomllib.loads(path.read_text("utf-8"))
    assert load_settings(path, {}).label == "prod"
