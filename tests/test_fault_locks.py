"""Many runs at once: one works, the others are told; and what a killed run left is safe while a child of it lives."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from fix_cli import RunCli
from fix_fault_phases import Gate, Pause
from fix_fault_run import Run, StartRun, eventually, only_line, state_of, whole_archives
from fix_plugin import InstallPlugin
from fix_repository import PlainRepository
from fix_vault import Vault

from borg_vault_plugin.borg import find_borg

pytest_plugins = ("fix_server", "fix_faults")

Recovers = Callable[[], list[str]]
WriteConfig = Callable[[str], Path]

# Starts a process that outlives the program, as one that a plugin cannot end would, and waits.
OUTLIVED = """
import subprocess
from pathlib import Path

@hookimpl
def collect_artifacts(snapshot, staging):
    child = subprocess.Popen(["sleep", "600"], pass_fds=snapshot.pass_fds, start_new_session=True)
    (staging.directory / "half").write_bytes(b"half of something")
    Path({place!r}).write_text(str(child.pid))
    with snapshot.connection() as connection:
        connection.execute("SELECT pg_sleep(600)")
    return []
"""


@pytest.fixture
def orphan(start: StartRun, install_plugin: InstallPlugin, write_config: WriteConfig, tmp_path: Path) -> Iterator[int]:
    """A child that still lives although the run that started it was killed."""
    place = tmp_path / "child"
    install_plugin(OUTLIVED.format(place=str(place)))
    write_config('plugins = ["badge"]\n')
    run = start("create")
    run.until(lambda: place.exists() and place.stat().st_size, "the child runs")
    run.popen.kill()
    run.popen.wait()
    write_config("")
    pid = int(place.read_text("utf-8"))
    yield pid
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def test_a_child_of_a_killed_run_keeps_others_from_sweeping(
    server: Vault, orphan: int, run_cli: RunCli, state: Path, recovers: Recovers
) -> None:
    (left,) = (state / "staging" / server.database).iterdir()
    before = sorted(left.rglob("*"))
    assert left / "set" / "half" in before
    for command in ("create", "prune"):
        assert "another run holds" in only_line(run_cli(command, exit_code=6))
    assert sorted(left.rglob("*")) == before
    os.kill(orphan, signal.SIGKILL)
    eventually(lambda: state_of(orphan) == "Z", "the child is gone")
    assert len(recovers()) == 1


@pytest.mark.parametrize("number", [2, 5])
def test_of_many_runs_at_once_exactly_one_works(
    number: int, gate: Gate, start: StartRun, repository: PlainRepository
) -> None:
    gate.shut()
    runs = [start("create") for _ in range(number)]
    eventually(lambda: len(ended(runs)) == number - 1, "all but one have ended")
    for run in ended(runs):
        assert "another run holds" in only_line(run.ended(6))
    (winner,) = [run for run in runs if run.popen.returncode is None]
    gate.open()
    winner.ended(0)
    assert len(repository.names()) == 1


def ended(runs: list[Run]) -> list[Run]:
    return [run for run in runs if run.popen.poll() is not None]


def test_two_hosts_that_back_up_into_one_repository_wait_for_each_other(
    gate: Gate, start: StartRun, repository: PlainRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate.shut()
    runs = []
    for host in ("one", "two"):
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / host))
        monkeypatch.setenv("BORG_BASE_DIR", str(tmp_path / f"borg-{host}"))
        runs.append(start("create", "--no-prune"))
        arrived(gate, runs[-1])
    gate.open()
    for run in runs:
        run.ended(0)
    assert len(whole_archives(repository, tmp_path)) == 2


def test_an_unfinished_archive_that_another_host_sweeps_away_fails_its_run(
    pause: Pause, repository: PlainRepository, run_cli: RunCli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paused = pause("comparing", "--no-prune")
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("XDG_STATE_HOME", str(tmp_path / "elsewhere"))
        made = run_cli("create", "--no-prune", "--json", exit_code=0).document["archive"]
    paused.go_on()
    assert "repository default" in only_line(paused.run.ended(5))
    assert whole_archives(repository, tmp_path) == [made]


# The way to a repository, which is lost as soon as Borg extracts.
LOST_WAY = """#!/bin/sh
tr '\\0' '\\n' <"/proc/$PPID/cmdline" | grep -qx extract && exit 255
shift 2
exec {borg} "$@"
"""


@pytest.mark.usefixtures("server")
def test_a_way_that_is_lost_in_a_drill_says_nothing_of_the_archive(
    repository: PlainRepository,
    write_config: WriteConfig,
    run_cli: RunCli,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    way = tmp_path / "way"
    way.write_text(LOST_WAY.format(borg=find_borg().program), "utf-8")
    way.chmod(0o755)
    monkeypatch.setenv("BORG_RSH", str(way))
    write_config(f'[repositories.default]\npath = "ssh://elsewhere{repository.path}"\n')
    run_cli("create", exit_code=0)
    assert "Connection closed by remote host" in only_line(run_cli("drill", exit_code=5))
    assert "drilled" not in run_cli("history", exit_code=0).stdout


def arrived(gate: Gate, run: Run) -> None:
    """Wait until a run is at the gate and another second has begun: Borg takes one archive a second of a name."""
    run.until(lambda: gate.has(run), "at the gate")
    now = int(time.time())
    eventually(lambda: int(time.time()) > now, "another second")
