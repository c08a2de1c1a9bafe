"""The example of a weekly drill: its scripts and its cron lines do what they say; its units are among the timers."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from fix_cli import RunCli
from fix_vault import Vault

from borg_vault_plugin.recovery.drill_report import Drill

pytest_plugins = ("fix_server",)

EXAMPLE = Path(__file__).parent.parent / "examples" / "drill"
SCRIPTS = ("drill-or-alarm", "alarm-when-overdue")
SECONDS = 120.0
needs_shellcheck = pytest.mark.skipif(shutil.which("shellcheck") is None, reason="no shellcheck here")
WriteConfig = Callable[[str], Path]


def run(command: str, place: Path, *, exit_code: int, **environment: str) -> str:
    """Run a command line in a shell that finds the program, and give what was alarmed."""
    alarm = place / "alarm"
    path = f"{Path(sys.executable).parent}:{EXAMPLE}:{os.environ['PATH']}"
    variables = os.environ | {"PATH": path, "ALARM": f"cat > {shlex.quote(str(alarm))}"} | environment
    done = subprocess.run(
        ["sh", "-c", command], check=False, capture_output=True, text=True, timeout=SECONDS, env=variables
    )
    assert (done.returncode, done.stderr) == (exit_code, ""), done.stdout
    return alarm.read_text("utf-8") if alarm.exists() else ""


@pytest.mark.usefixtures("server")
def test_a_drill_that_passes_leaves_evidence_and_alarms_nobody(run_cli: RunCli, tmp_path: Path) -> None:
    run_cli("create", exit_code=0)
    assert run("drill-or-alarm", tmp_path, exit_code=0, EVIDENCE=str(tmp_path / "evidence")) == ""
    (evidence,) = (tmp_path / "evidence").iterdir()
    assert sorted(path.name for path in evidence.iterdir()) == ["drill.html", "drill.json", "history.ndjson"]
    assert json.loads((evidence / "drill.json").read_bytes())["verdict"] == "passed"


@pytest.mark.usefixtures("server")
def test_a_drill_that_cannot_be_made_is_alarmed_with_its_exit_code(tmp_path: Path) -> None:
    said = run("drill-or-alarm", tmp_path, exit_code=2, EVIDENCE=str(tmp_path / "evidence"))
    assert "exit code 2" in said
    assert "there is no good archive" in said


def test_a_drill_that_was_never_made_is_alarmed(
    server: Vault, run_cli: RunCli, tmp_path: Path, write_config: WriteConfig
) -> None:
    (tmp_path / "provisioning").mkdir()
    (tmp_path / "provisioning" / "orgs.yaml").write_text("orgs: []\n", "utf-8")
    write_config(
        "label = 'prod'\n[sets.database]\nmax_drill_age = '8d'\n[sets.keys]\nattest = 'true'\n"
        f"[sets.provisioning]\npath = '{tmp_path}/provisioning'\n"
    )
    run_cli("create", exit_code=0)
    run_cli("create", "--set", "provisioning", exit_code=0)
    run_cli("create", "--set", "keys", exit_code=0)
    key = tmp_path / "exported.key"
    run_cli("init", "--key-out", key, exit_code=0)
    key.unlink()
    assert "no drill has passed" in run("alarm-when-overdue", tmp_path, exit_code=13)
    run_cli("drill", exit_code=0)
    (tmp_path / "alarm").unlink()
    assert run("alarm-when-overdue", tmp_path, exit_code=0) == ""
    assert server.database


@needs_shellcheck
@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_are_clean(script: str) -> None:
    subprocess.run(["shellcheck", EXAMPLE / script], check=True, timeout=SECONDS)


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_ask_for_an_alarm(script: str) -> None:
    done = subprocess.run([EXAMPLE / script], check=False, capture_output=True, env={}, timeout=SECONDS)
    assert done.returncode == 2
    assert b"name the command that raises the alarm" in done.stderr


def test_cron_lines_run_the_scripts() -> None:
    lines = [line for line in (EXAMPLE / "crontab").read_text("utf-8").splitlines() if re.match(r"[\d*]", line)]
    assert {Path(line.split()[6]).name for line in lines} == set(SCRIPTS)
    assert all(re.fullmatch(r"(\S+ +){5}root  \S+", line) for line in lines)


def test_the_published_schema_is_that_of_the_document() -> None:
    published = json.loads((EXAMPLE / "drill.schema.json").read_bytes())
    assert published == msgspec.json.schema(Drill)
