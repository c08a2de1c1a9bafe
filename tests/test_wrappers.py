"""The example of a script around `borg create`: plain `borg`, and a night or a drill that fails when a step does."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from fix_cli import RunCli, Said, checked
from fix_repository import PlainRepository
from fix_vault import Vault

pytest_plugins = ("fix_server",)

EXAMPLE = Path(__file__).parent.parent / "examples" / "wrappers"
SCRIPTS = ("nightly", "restore-drill")
SECONDS = 300.0


@pytest.fixture
def staged(server: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the example stages."""
    assert server.database
    monkeypatch.setenv("STAGED", str(tmp_path / "staged" / "set"))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    (tmp_path / "staged").mkdir()
    return tmp_path / "staged" / "set"


def run(script: str, *words: object, exit_code: int) -> Said:
    """Run a script of the example; a success writes nothing to standard error."""
    command = [str(EXAMPLE / script), *map(str, words)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=SECONDS)
    return checked(Said(done.stdout, done.stderr), done.returncode, exit_code)


def test_a_night_is_stored_confirmed_and_drilled(
    staged: Path, repository: PlainRepository, run_cli: RunCli, tmp_path: Path
) -> None:
    run("nightly", exit_code=0)
    (archive,) = run_cli("list", "--json", exit_code=0).document["archives"]
    assert (archive["verdict"], repository.names()) == ("good", [archive["name"]])
    assert archive["name"].startswith("vault-")
    evidence = tmp_path / "evidence"
    assert "PASSED" in run("restore-drill", "--evidence", evidence, exit_code=0).stdout
    assert (evidence / "drill.html").exists()
    assert staged.is_dir()


def test_a_set_that_cannot_be_staged_is_not_stored(
    staged: Path, repository: PlainRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://127.0.0.1:1/nothing")
    run("nightly", exit_code=4)
    assert not staged.exists()
    assert repository.names() == []
    assert "there is no archive yet" in run("restore-drill", exit_code=2).stderr


def test_an_archive_that_lacks_a_file_fails_the_night(
    staged: Path, repository: PlainRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lossy = tmp_path / "bin" / "borg"
    lossy.parent.mkdir()
    real = shutil.which("borg")
    lossy.write_text(f"#!/bin/sh\nrm -f '{staged}/roles.sql'\ncp '{staged}/SHA256SUMS' '{staged}/roles.sql'\n"
                     f'{real} "$@"\n', "utf-8")  # fmt: skip
    lossy.chmod(0o755)
    monkeypatch.setenv("PATH", f"{lossy.parent}:{os.environ['PATH']}")
    assert "SET_FILE_CHANGED" in run("nightly", exit_code=10).stdout
    assert len(repository.names()) == 1


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="no shellcheck here")
def test_the_scripts_are_shellcheck_clean() -> None:
    command = ["shellcheck", *(str(EXAMPLE / name) for name in SCRIPTS)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=SECONDS)
    assert (done.returncode, done.stdout) == (0, "")
