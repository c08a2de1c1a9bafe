"""`make audit`: a vulnerability fails, and where nobody can be asked it says that nothing was audited."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fix_cli import SECONDS

SCRIPT = Path(__file__).parent.parent / ".ci" / "audit"
OURS = {"name": "borg-vault-plugin", "skip_reason": "distribution marked as editable"}
UNKNOWN = {"name": "cffi", "skip_reason": "Dependency not found on PyPI and could not be audited: cffi (2.1.1)"}
SOUND = {"name": "rich", "version": "14.0", "vulns": []}
WEAK = {"name": "typer", "version": "0.1", "vulns": [{"id": "PYSEC-1", "fix_versions": ["0.2"]}]}
Audit = Callable[[str], "subprocess.CompletedProcess[str]"]


@pytest.fixture
def audit(tmp_path: Path) -> Audit:
    """The script, in a project whose pip-audit answers as told."""
    (tmp_path / ".ci").mkdir()
    shutil.copy(SCRIPT, tmp_path / ".ci")
    programs = tmp_path / ".venv" / "bin"
    programs.mkdir(parents=True)
    (programs / "python").symlink_to(sys.executable)

    def run(answer: str) -> subprocess.CompletedProcess[str]:
        (programs / "pip-audit").write_text(f"#!/bin/sh\n{answer}\n", "utf-8")
        (programs / "pip-audit").chmod(0o755)
        command = [tmp_path / ".ci" / "audit"]
        return subprocess.run(command, check=False, capture_output=True, text=True, timeout=SECONDS)

    return run


def saying(*packages: dict[str, Any], exit_code: int = 0) -> str:
    return f"cat <<'END'\n{json.dumps({'dependencies': packages})}\nEND\nexit {exit_code}"


def test_a_vulnerability_fails_and_is_named(audit: Audit) -> None:
    done = audit(saying(OURS, SOUND, WEAK, exit_code=1))
    assert done.returncode == 1
    assert "audit: typer 0.1: PYSEC-1, fixed in 0.2" in done.stdout
    assert "audit: 2 packages looked up at pypi, 1 with known vulnerabilities" in done.stdout


def test_what_was_looked_up_and_what_was_not_is_told(audit: Audit) -> None:
    done = audit(saying(OURS, SOUND, UNKNOWN))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "audit: 1 packages looked up at pypi, none with a known vulnerability",
        "audit: NOT AUDITED, unknown there: cffi",
    ]


@pytest.mark.parametrize(
    "answer", [saying(OURS, UNKNOWN), "echo 'ConnectionError: nobody there' >&2\nexit 1"], ids=["unknown", "no network"]
)
def test_where_nobody_answers_nothing_was_audited(answer: str, audit: Audit) -> None:
    done = audit(answer)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("audit: NOTHING WAS AUDITED: no vulnerability service answers from here")
    assert len(done.stdout.splitlines()) == 1


def test_a_second_service_is_asked(audit: Audit) -> None:
    done = audit(f'case "$*" in *osv*) ;; *) exit 1 ;; esac\n{saying(WEAK)}')
    assert done.returncode == 1
    assert "looked up at osv" in done.stdout


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="no shellcheck here")
def test_the_script_passes_shellcheck() -> None:
    subprocess.run(["shellcheck", SCRIPT], check=True, timeout=SECONDS)
