"""Standard output that takes nothing: what was to be done is done, and one line and the exit code say the rest."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from fix_cli import COMMAND, SECONDS, RunCommand, Said, checked
from fix_repository import PlainRepository
from fix_vault import Vault

pytest_plugins = ("fix_server",)

FULL = "standard output cannot be written: No space left on device: what was done is done, but not told there\n"


def told_to_a_full_disk(*words: str, exit_code: int) -> str:
    """Run the program with a standard output on a full disk, and give what it wrote to standard error."""
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run([COMMAND, *words], stdout=full, stderr=subprocess.PIPE, timeout=SECONDS, check=False)
    return checked(Said("", done.stderr.decode()), done.returncode, exit_code).stderr


@pytest.mark.parametrize("words", [("create",), ("create", "--json"), ("--quiet", "create")])
def test_a_backup_is_whole_although_nobody_could_be_told(
    server: Vault, repository: PlainRepository, words: tuple[str, ...]
) -> None:
    assert told_to_a_full_disk(*words, exit_code=1) == f"borg-vault: {FULL}"
    (archive,) = repository.archives()
    assert archive["name"].startswith(f"{server.database}-")
    assert archive["comment"].startswith("verdict=good")


@pytest.mark.parametrize("words", [("--version",), ("config", "show"), ("config", "schema")])
def test_what_only_prints_fails_with_one_line(words: tuple[str, ...]) -> None:
    assert told_to_a_full_disk(*words, exit_code=1) == f"borg-vault: {FULL}"


@pytest.mark.usefixtures("server", "repository")
def test_another_exit_code_stays() -> None:
    """A set without any backup is 13, whether or not that could be printed."""
    assert told_to_a_full_disk("status", "--json", exit_code=13).endswith(f"borg-vault: {FULL}")
    said = told_to_a_full_disk("restore", "no-such-archive", "--json", exit_code=2)
    assert "no-such-archive" in said
    assert said.endswith(f"borg-vault: {FULL}")


def test_a_reader_that_has_gone_is_one_line() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [COMMAND, "config", "show"], stdout=writing, stderr=subprocess.PIPE, timeout=SECONDS, check=False
    )
    os.close(writing)
    expected = "borg-vault: standard output cannot be written: Broken pipe: what was done is done, but not told there\n"
    assert (done.returncode, done.stderr.decode()) == (1, expected)


@pytest.mark.usefixtures("server")
def test_a_terminal_that_goes_away_takes_only_the_bars_with_it(repository: PlainRepository) -> None:
    """Somebody logs out while a night is under way: it ends as it would have."""
    ours, theirs = os.openpty()
    with subprocess.Popen([COMMAND, "create"], stdout=subprocess.PIPE, stderr=theirs, start_new_session=True) as run:
        os.close(theirs)
        assert run.stdout is not None
        first = run.stdout.readline()
        os.close(ours)
        said = run.communicate(timeout=SECONDS)[0]
    assert first.startswith(b"database ")
    assert run.returncode == 0
    assert b"\nstored " in said
    assert len(repository.archives()) == 1


@pytest.mark.usefixtures("server")
def test_without_any_standard_output_a_backup_is_made(repository: PlainRepository) -> None:
    """A daemon may have closed it: there is nothing to write to, which is no failure."""
    done = subprocess.run(
        ["sh", "-c", f"exec {COMMAND} create >&-"], stderr=subprocess.PIPE, timeout=SECONDS, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert len(repository.archives()) == 1


@pytest.mark.usefixtures("server", "repository")
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize(("words", "exit_code"), [("doctor", 7), ("config show", 0), ("status", 13), ("drill x", 2)])
def test_closed_streams_change_no_exit_code(words: str, exit_code: int, closed: str) -> None:
    """Neither a traceback, nor a child that writes into a file which has the number of a closed stream."""
    done = subprocess.run(
        ["sh", "-c", f"exec {COMMAND} {words} {closed}"], capture_output=True, timeout=SECONDS, check=False
    )
    assert done.returncode == exit_code
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("words", ["", "config"])
def test_a_missing_command_is_said(run_command: RunCommand, words: str) -> None:
    said = run_command(*words.split(), exit_code=2)
    assert said.stdout.strip().startswith("Usage: borg-vault")
    assert said.stderr == "borg-vault: a command is missing (see borg-vault --help)\n"


REFUSED = "No such file or directory: look who changed it, at its rights and at its disk, and run again\n"


@pytest.mark.usefixtures("server", "repository")
def test_what_the_system_refuses_is_one_line(run_command: RunCommand, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody had expected it: no traceback for what is no bug of ours, but with --verbose where it came from."""
    monkeypatch.setenv("BORG_REPO", "/proc/none/repository")
    said = run_command("init", exit_code=7)
    assert (said.stdout, said.stderr) == ("", f"borg-vault: /proc/none: {REFUSED}")
    verbose = run_command("--verbose", "init", exit_code=7)
    assert "Traceback" in verbose.stdout
    assert verbose.stderr == said.stderr


@pytest.mark.usefixtures("server", "repository")
@pytest.mark.parametrize("words", [("dump-chain", "/proc/none/there"), ("drill", "--evidence", "/proc/none/there")])
def test_a_place_that_cannot_be_written_is_told_before_anything_takes_long(
    run_command: RunCommand, words: tuple[str, ...]
) -> None:
    said = run_command(*words, exit_code=7).stderr
    assert said.startswith("borg-vault: /proc/none/there cannot be written: No such file or directory: ")
    assert said.endswith("choose another place\n")


@pytest.mark.usefixtures("server", "repository")
def test_a_run_that_fails_keeps_its_exit_code_although_nobody_could_be_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python would otherwise end with its own code, 120, since the narration is still on its way."""
    monkeypatch.setenv("BORG_REPO", "/proc/none/repository")
    first, second = told_to_a_full_disk("--verbose", "create", exit_code=5).splitlines(keepends=True)
    assert first.startswith("borg-vault: repository default")
    assert second == f"borg-vault: {FULL}"


@pytest.mark.usefixtures("server", "repository")
def test_beside_a_document_stands_nothing(run_command: RunCommand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BORG_REPO", "/proc/none/repository")
    assert run_command("--verbose", "create", "--json", exit_code=5).document["exit_code"] == 5
