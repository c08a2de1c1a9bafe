"""What a run shows while it works: bars on a terminal and nowhere else; as much or as little as was asked for."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from fix_cli import COMMAND, SECONDS, RunCommand
from fix_repository import PASSPHRASE, PlainRepository
from fix_vault import Vault

pytest_plugins = ("fix_server",)

CONTROL = re.compile(rb"[\x00-\x08\x0b-\x1f\x7f]")
ESCAPES = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]")
# Large enough that dumping and storing take a while, and quick to make.
LARGE = """
CREATE TABLE large (n integer, words text);
ALTER TABLE large ALTER words SET STORAGE EXTERNAL;
INSERT INTO large SELECT n, repeat(md5(n::text), 125) FROM generate_series(1, 10000) n"""


@contextlib.contextmanager
def terminal(columns: int) -> Iterator[tuple[int, list[bytes]]]:
    """Open a terminal: give its descriptor for a child, and a list that fills with what is written there."""
    reading, writing = pty.openpty()
    fcntl.ioctl(writing, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    seen: list[bytes] = []
    thread = threading.Thread(target=read_all, args=(reading, seen))
    thread.start()
    try:
        yield writing, seen
    finally:
        os.close(writing)
        thread.join(30)
        os.close(reading)


def read_all(descriptor: int, seen: list[bytes]) -> None:
    with contextlib.suppress(OSError):  # a terminal that nobody holds any more ends so
        while data := os.read(descriptor, 65536):
            seen.append(data)


def run_on_terminal(place: Path, *words: str, exit_code: int = 0) -> tuple[bytes, bytes]:
    """Run the command with stderr on a terminal and stdout in a file; give stdout, and what the terminal got."""
    environment = os.environ | {"TERM": "xterm-256color"}
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES"):
        environment.pop(name, None)
    with terminal(80) as (descriptor, seen), (place / "stdout").open("wb") as stdout:
        command = [str(COMMAND), *words]
        done = subprocess.run(
            command, check=False, env=environment, stdin=descriptor, stdout=stdout, stderr=descriptor, timeout=SECONDS
        )
    shown = b"".join(seen)
    assert done.returncode == exit_code, shown.decode("utf-8", "replace")
    return (place / "stdout").read_bytes(), shown


def test_a_terminal_of_80_columns_shows_steps_with_their_rate_and_the_time_that_remains(
    server: Vault, tmp_path: Path
) -> None:
    server.execute(LARGE)
    stdout, shown = run_on_terminal(tmp_path, "create", "--no-prune")
    bars = ESCAPES.sub(b"", shown).decode()
    for step in ("db.dump", "chain/audit_vault.ndjson", "store in default"):
        assert step in bars
    assert "━" in bars
    assert re.search(r"[\d.]+/[\d.]+ [kM]B", bars)
    assert re.search(r"[\d.]+ [kM]B/s", bars)
    assert re.search(r"\d:\d\d:\d\d", bars)
    assert "…" not in bars
    assert CONTROL.search(stdout) is None
    assert b"wrote db.dump" in stdout
    # The bars are gone at the end, so that the last thing on the terminal is the operator's own.
    assert not re.search(rb"store in default[^\x1b\r]*$", shown)


@pytest.mark.usefixtures("server")
def test_quiet_leaves_the_result_and_nothing_else(tmp_path: Path) -> None:
    stdout, shown = run_on_terminal(tmp_path, "-q", "create", "--no-prune")
    assert shown == b""
    said = stdout.decode()
    lines = [
        r"server-\d+-20.*",
        r"  1\d artifacts, .*",
        "  chain passed: .*",
        "  continuity: .*",
        "  default: .* stored, .*",
    ]
    assert re.match("\n".join([*lines, r"  [\d.]+ s\n$"]), said)


def test_an_error_on_a_terminal_is_one_plain_line(
    server: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", server.cluster.url("no-such-database"))
    _, shown = run_on_terminal(tmp_path, "create", exit_code=4)
    text = ESCAPES.sub(b"", shown).decode().replace("\r", "")
    assert text.count("\n") == 1
    assert text.startswith("borg-vault: ")
    assert "no-such-database" in text


@pytest.mark.usefixtures("server")
def test_without_a_terminal_no_variable_brings_bars_or_colours(
    run_command: RunCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "CLICOLOR_FORCE"):
        monkeypatch.setenv(variable, "1")
    said = run_command("create", "--dry-run", exit_code=0)
    assert CONTROL.search(said.stdout.encode()) is None


def test_verbose_shows_the_commands_and_no_secret(
    server: Vault, repository: PlainRepository, run_command: RunCommand
) -> None:
    said = run_command("-v", "create", "--no-prune", exit_code=0).stdout
    for command in ("pg_dump ", "pg_restore ", "borg --log-json", " create --json", " rename "):
        assert any(line.startswith("run: ") and command in line for line in said.splitlines()), command
    for secret in (server.cluster.password, PASSPHRASE):
        assert secret not in said
    assert "pgpass" not in said
    assert len(repository.names()) == 1


# What bash does at a prompt: it calls the function that was registered, with the words of the line.
COMPLETING = """
eval "$(borg-vault --show-completion)"
function=$(complete -p borg-vault | sed 's/.*-F \\([^ ]*\\) .*/\\1/')
for line in "$@"; do
    COMP_WORDS=($line) COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
    $function borg-vault
    echo "${COMPREPLY[@]}"
done
"""


def test_the_completion_script_for_bash_completes_commands_and_options() -> None:
    lines = ["borg-vault cr", "borg-vault config v", "borg-vault prune --dr"]
    environment = {**os.environ, "PATH": f"{COMMAND.parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "--norc", "-c", COMPLETING, "bash", *lines], check=False, capture_output=True, text=True,
        timeout=SECONDS, env=environment,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["create", "validate", "--dry-run"]


def test_completion_needs_neither_database_nor_configuration(
    run_command: RunCommand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BORG_VAULT_CONFIG", str(tmp_path / "missing.toml"))
    monkeypatch.setenv("_BORG_VAULT_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "borg-vault dump")
    monkeypatch.setenv("COMP_CWORD", "1")
    assert run_command(exit_code=0).stdout.split() == ["dump-chain"]
