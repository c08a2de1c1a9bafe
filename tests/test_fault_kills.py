"""Whatever is killed, and whenever: no archive that is not whole, nothing left running, and the next run clears up."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from fix_fault_phases import Gate, Pause
from fix_fault_proxy import CHAIN, DUMP, EXPORT, JOINING_DUMP, SURVEY, Proxy
from fix_fault_run import LeftClean, StartRun, eventually, only_line, whole_archives
from fix_plugin import InstallPlugin
from fix_repository import PlainRepository
from fix_vault import Vault

pytest_plugins = ("fix_server", "fix_faults")

Recovers = Callable[[], list[str]]
WriteConfig = Callable[[str], Path]

# Phases in which the program may be killed, and how many whole archives it has stored by then.
KILLED = {
    "dumping": 0,
    "verifying": 0,
    "storing": 0,
    "comparing": 0,
    "looking at what was renamed": 1,
}
INTERRUPTIONS = {signal.SIGINT: 130, signal.SIGTERM: 143}

# Ends its run by a signal, and sends another one as soon as the first of many files is taken away.
SIGNALLING = """
import os, signal, threading, time

def signal_twice(files):
    os.kill(os.getpid(), signal.SIGTERM)
    while len(os.listdir(files)) == 20_000:
        pass
    os.kill(os.getpid(), signal.SIGTERM)

@hookimpl
def collect_provisioning(staging):
    files = staging.directory / "files"
    files.mkdir()
    for number in range(20_000):
        (files / str(number)).touch()
    threading.Thread(target=signal_twice, args=(files,), daemon=True).start()
    yield
"""


@pytest.fixture
def lock_wait_by_default(gate: Gate, write_config: WriteConfig) -> None:
    """A configuration that does not say how long to wait for Borg's lock."""
    assert gate.place.exists()
    write_config('plugins = ["badge"]\n')


@pytest.mark.usefixtures("untouched_source")
@pytest.mark.parametrize("phase", KILLED)
def test_a_killed_run_leaves_only_whole_archives_and_no_process(phase: str, pause: Pause, recovers: Recovers) -> None:
    paused = pause(phase, "--no-prune")
    paused.run.signal(signal.SIGKILL)
    paused.run.ended(-signal.SIGKILL)
    paused.go_on()
    assert len(recovers()) == KILLED[phase] + 1


def test_a_checkpoint_that_a_killed_run_left_is_swept_away(
    pause: Pause, repository: PlainRepository, recovers: Recovers
) -> None:
    paused = pause("storing", "--no-prune", "--", "--checkpoint-interval=1")
    indexes = set(repository.path.glob("index.*"))
    due = time.monotonic() + 1
    eventually(lambda: time.monotonic() > due, "a checkpoint is due")
    paused.go_on()
    paused.run.until(lambda: set(repository.path.glob("index.*")) - indexes, "Borg has committed something")
    paused.culprit.stop()
    paused.run.signal(signal.SIGKILL)
    paused.run.ended(-signal.SIGKILL)
    (left,) = everything(repository)
    assert left.endswith(".partial.checkpoint")
    assert recovers() == everything(repository)


def everything(repository: PlainRepository) -> list[str]:
    """Give the names of all archives, those that Borg hides included."""
    return repository.borg("list", "--short", "--consider-checkpoints").decode().split()


@pytest.mark.usefixtures("server", "repository")
def test_a_second_signal_does_not_stop_the_cleaning(
    start: StartRun, install_plugin: InstallPlugin, write_config: WriteConfig, tmp_path: Path
) -> None:
    (tmp_path / "files").mkdir()
    install_plugin(SIGNALLING)
    write_config(
        f'label = "prod"\nplugins = ["badge"]\nstaging_directory = "{tmp_path}/staging"\n'
        f'[sets.provisioning]\npath = "{tmp_path}/files"\n'
    )
    said = start("create", "--set", "provisioning").ended(143)
    assert only_line(said) == "borg-vault: ended by SIGTERM; nothing is left behind"
    assert list((tmp_path / "staging").glob("*/*")) == []


@pytest.mark.parametrize("phase", ["dumping", "verifying"])
@pytest.mark.parametrize("interruption", INTERRUPTIONS)
def test_an_interruption_before_borg_leaves_nothing(
    interruption: signal.Signals, phase: str, pause: Pause, left_clean: LeftClean
) -> None:
    paused = pause(phase)
    paused.run.signal(interruption)
    said = paused.run.ended(INTERRUPTIONS[interruption])
    assert len(said.stderr.splitlines()) <= 1
    left_clean()


@pytest.mark.parametrize("phase", ["storing", "comparing"])
@pytest.mark.parametrize("interruption", INTERRUPTIONS)
def test_an_interruption_while_borg_works_leaves_no_plain_archive(
    interruption: signal.Signals, phase: str, pause: Pause, left_clean: LeftClean, repository: PlainRepository
) -> None:
    paused = pause(phase)
    paused.run.signal(interruption)
    eventually(paused.culprit.was_asked_to_end, "Borg is asked to end")
    paused.go_on()
    said = paused.run.ended(INTERRUPTIONS[interruption])
    assert len(said.stderr.splitlines()) <= 1
    left_clean(repository_too=False)
    assert [name for name in repository.names() if not name.endswith(".partial")] == []


def test_a_second_ctrl_c_ends_a_run_whose_borg_does_not_listen(pause: Pause, left_clean: LeftClean) -> None:
    paused = pause("beginning to store")
    paused.run.signal(signal.SIGINT)
    eventually(paused.culprit.was_asked_to_end, "Borg is asked to end")
    paused.run.signal(signal.SIGINT)
    paused.run.ended(130, seconds=8)
    left_clean()


def test_a_dump_whose_program_is_killed_is_no_backup(pause: Pause, left_clean: LeftClean) -> None:
    paused = pause("dumping")
    paused.culprit.kill()
    line = only_line(paused.run.ended(4))
    assert "hook database-dump: pg_dump of" in line
    assert "ended by SIGKILL" in line
    left_clean()


@pytest.mark.usefixtures("lock_wait_by_default")
def test_a_borg_that_is_killed_while_it_stores_keeps_nobody_waiting(pause: Pause, recovers: Recovers) -> None:
    paused = pause("storing")
    paused.culprit.kill()
    line = only_line(paused.run.ended(5))
    assert "repository default" in line
    assert "ended by SIGKILL: run it again" in line
    begun = time.monotonic()
    assert len(recovers()) == 1
    assert time.monotonic() - begun < 30


@pytest.mark.parametrize("phase", ["looking into the repository", "renaming"])
def test_a_borg_that_is_killed_before_the_archive_has_its_name_fails_the_repository(
    phase: str, pause: Pause, left_clean: LeftClean, repository: PlainRepository
) -> None:
    paused = pause(phase)
    paused.culprit.kill()
    line = only_line(paused.run.ended(5))
    assert "repository default" in line
    assert "ended by SIGKILL: run it again" in line
    left_clean(repository_too=False)
    assert [name for name in repository.names() if not name.endswith(".partial")] == []


def test_a_borg_that_is_killed_while_it_prunes_leaves_the_new_archive(
    pause: Pause, repository: PlainRepository, tmp_path: Path
) -> None:
    paused = pause("planning to prune")
    paused.culprit.kill()
    line = only_line(paused.run.ended(5))
    assert "repository default" in line
    assert "ended by SIGKILL: run it again" in line
    assert len(whole_archives(repository, tmp_path)) == 1


# Sessions that the server ends, by what they say, and what is held back meanwhile.
ENDED = {
    "dump": (DUMP, DUMP),
    "chain": (CHAIN, CHAIN),
    "survey": (SURVEY, SURVEY),
    "snapshot": (EXPORT, DUMP),
    "snapshot before the dump joins": (EXPORT, JOINING_DUMP),
}


@pytest.mark.parametrize("session", ENDED)
def test_a_session_that_the_server_ends_is_no_backup(
    session: str, server: Vault, proxy: Proxy, start: StartRun, left_clean: LeftClean
) -> None:
    sign, held = ENDED[session]
    proxy.hold(held)
    run = start("create")
    run.until(proxy.reached.is_set, "the answer is held back")
    assert server.value(f"SELECT pg_terminate_backend({proxy.backend(sign)}, 10000)") is True
    proxy.release()
    line = only_line(run.ended(4))
    assert "run again" in line
    assert "DATABASE_URL" not in line
    left_clean()
