"""What others word (hooks, PostgreSQL, Borg, the command line) is told on one line each, and steers no terminal."""

from __future__ import annotations

import logging
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from fix_cli import SECONDS, RunCli, Said
from fix_hostile import ESCAPES, is_harmless
from fix_plugin import InstallPlugin
from fix_vault import Vault, role, url_of
from psycopg import sql

from borg_vault_plugin import narration
from borg_vault_plugin.redaction import remember_secret

pytest_plugins = ("fix_server",)

LINE = ESCAPES.removesuffix("\0")  # what an argument, a name of a table, a path can hold
CONFIG = 'label = "prod"\nplugins = ["badge"]\n'
SHOWN = "⟨U+001B⟩]0;owned⟨U+0007⟩"


def told(said: Said, *words: str) -> None:
    """Check that an error is told on one line, with these words, and nothing else is dangerous."""
    (line,) = (line for line in said.stderr.splitlines() if line.startswith("borg-vault: "))
    assert is_harmless(said.stdout + said.stderr), (said.stdout, said.stderr)
    assert len(said.stderr.splitlines()) == 1
    assert all(word in line for word in words), line


@pytest.mark.usefixtures("server", "repository")
def test_a_failing_hook_steers_no_terminal(
    run_cli: RunCli, install_plugin: InstallPlugin, write_config: Callable[[str], Path]
) -> None:
    write_config(CONFIG)
    install_plugin(f"@hookimpl\ndef collect_artifacts(snapshot, staging):\n    raise SourceError({ESCAPES!r})\n")
    for words in (("create",), ("-v", "create"), ("create", "--json")):
        told(run_cli(*words, exit_code=4), "hook badge", SHOWN)


@pytest.mark.usefixtures("server", "repository")
def test_the_findings_of_a_hook_steer_no_terminal(
    run_cli: RunCli, install_plugin: InstallPlugin, write_config: Callable[[str], Path]
) -> None:
    write_config(CONFIG)
    install_plugin(
        "from borg_vault_plugin import Finding\n"
        f"@hookimpl\ndef verify_staging(staging):\n    return [Finding({ESCAPES!r}, {ESCAPES!r}, {ESCAPES!r})]\n"
    )
    said = run_cli("create", "--no-prune", exit_code=10)
    assert is_harmless(said.stdout + said.stderr)
    assert SHOWN in said.stdout
    found = run_cli("create", "--no-prune", "--json", exit_code=10)
    assert is_harmless(found.stdout)
    assert ESCAPES in str(found.document["chain"]["findings"]).encode().decode("unicode_escape")
    (identity,) = {one["id"] for one in found.document["chain"]["findings"]}
    assert is_harmless(run_cli("accept", identity, "--reason", f"known{LINE}", exit_code=0).stdout)
    assert is_harmless(run_cli("history", exit_code=0).stdout)
    assert is_harmless(run_cli("history", "--json", exit_code=0).stdout)


def test_what_postgresql_says_steers_no_terminal(
    server: Vault, run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    with psycopg.connect(server.cluster.conninfo(server.database), autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE TABLE {} (n int)").format(sql.Identifier(LINE)))
    with role(server, grant=False) as name:
        server.execute(f"GRANT SELECT ON audit_vault TO {name}")
        monkeypatch.setenv("DATABASE_URL", url_of(server, name))
        told(run_cli("create", exit_code=7), "owned")
    monkeypatch.setenv("DATABASE_URL", server.url.replace(f"/{server.database}", "/no%1b%5b2J%0Athing"))
    told(run_cli("create", exit_code=3), "cannot be a label")
    monkeypatch.setenv("BORG_VAULT_CONFIG", "")
    monkeypatch.setenv("PGOPTIONS", "-c no.\x1b[2J")
    assert is_harmless(run_cli("config", "show", exit_code=0).stdout)


@pytest.mark.usefixtures("server")
def test_what_borg_says_steers_no_terminal(run_cli: RunCli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BORG_REPO", f"{tmp_path}/no{LINE}where")
    told(run_cli("list", exit_code=5), "cannot be listed", SHOWN)
    assert is_harmless(run_cli("doctor", exit_code=7).stdout)
    document = run_cli("list", "--json", exit_code=5)
    assert is_harmless(document.stdout)
    assert document.document["exit_code"] == 5


@pytest.mark.usefixtures("server", "repository")
@pytest.mark.parametrize(
    "words",
    [
        ("verify", f"prod{LINE}"),
        (f"ver{LINE}ify",),
        ("create", f"--{LINE}"),
        ("verify", "--trust-anchor", f"sha256:{LINE}"),
        ("restore", "--database", LINE, "--to", LINE),
        ("history", "add", LINE),
        ("export", LINE, LINE),
        ("import", LINE),
        ("accept", LINE, "--reason", "none"),
        ("accept", "none", "--reason", "\udcff"),
        ("create", "--", f"--comment={LINE}"),
        ("check", "--max-duration", LINE),
    ],
    ids=lambda words: words[0].encode("ascii", "replace").decode()[:10],
)  # fmt: skip
def test_a_hostile_argument_steers_no_terminal(words: tuple[str, ...], run_cli: RunCli) -> None:
    said = run_cli(*words, exit_code={"import": 4, "check": 2}.get(words[0], 2))
    assert is_harmless(said.stdout + said.stderr), said
    assert said.stderr.startswith("borg-vault: ")


def test_a_directory_whose_name_is_no_utf_8_can_be_verified(run_cli: RunCli, tmp_path: Path) -> None:
    directory = os.fsdecode(os.fsencode(tmp_path) + b"/d\xff\x1b[2J")
    os.mkdir(directory)  # noqa: PTH102 - a path as the system has it
    assert is_harmless(run_cli("verify", directory, exit_code=11).stderr)
    document = run_cli("verify", directory, "--json", exit_code=11)
    assert is_harmless(document.stdout)
    assert document.document["target"] == directory


def test_narration_is_one_line_each_and_a_warning_holds_no_secret(capfd: pytest.CaptureFixture[str]) -> None:
    narration.begin(quiet=False, verbose=True)
    remember_secret("sesame-sesame")
    logger = logging.getLogger("borg_vault_plugin.hostile")
    for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR):
        logger.log(level, "%s", f"open {ESCAPES}: sesame-sesame")
    out, err = capfd.readouterr()
    assert is_harmless(out + err)
    assert [len(text.splitlines()) for text in (out, err)] == [2, 2]
    assert "sesame" not in err


BARS = """
import time
from borg_vault_plugin import narration
narration.begin(quiet=False, verbose=False)
with narration.progress() as progress, progress("[/red]\\x1b]0;owned\\x07[bold]", 10) as advance:
    for done in range(10):
        advance(done)
        time.sleep(0.05)
"""


def test_a_bar_of_a_hostile_name_is_drawn_as_its_name() -> None:
    ours, theirs = pty.openpty()
    done = subprocess.run([sys.executable, "-c", BARS], check=False, stdout=theirs, stderr=theirs, timeout=SECONDS)
    drawn = os.read(ours, 1 << 16)
    os.close(theirs)
    os.close(ours)
    assert done.returncode == 0, drawn
    assert "[/red]⟨U+001B⟩]0;owned⟨U+0007⟩" in drawn.decode()
    assert b"\x1b]0;" not in drawn
