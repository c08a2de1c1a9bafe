"""A pg_dump that is cut short, polluted, incomplete or stuck is found out, whatever its exit code says."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from fix_cli import RunCli
from fix_fault_run import LeftClean, StartRun, only_line
from fix_vault import Vault

from borg_vault_plugin import SourceError, check_dump
from borg_vault_plugin.clients import Clients
from borg_vault_plugin.cluster import Distribution
from borg_vault_plugin.database import source_from_url
from borg_vault_plugin.snapshot import DumpedTable, open_snapshot

pytest_plugins = ("fix_server", "fix_faults")

WriteConfig = Callable[[str], Path]
CUTS = 40

# What a program called pg_dump does with the real one, and the words that tell about it.
PG_DUMPS = {
    "it is cut short": ('"$real" "$@" | head -c 100000', "db.dump is not whole"),
    "its last byte is missing": ('"$real" "$@" | head -c -1', "db.dump is not whole"),
    "it stops after its first bytes": ('"$real" "$@" | head -c 11', "db.dump is not whole"),
    "it says nothing": ("exit 0", "db.dump does not begin as a dump of pg_dump does"),
    "something speaks before it": ('echo "Last login: Monday"; exec "$real" "$@"', "db.dump does not begin as a dump"),
    "something speaks in the middle of it": (
        '"$real" "$@" | { dd bs=1000 count=60 iflag=fullblock status=none; echo "You have mail."; cat; }',
        "db.dump is not whole",
    ),
    "it fails half-way": ('"$real" "$@" | head -c 100000; exit 1', "pg_dump of"),
    "it fails at its end": ('"$real" "$@"; echo "pg_dump: error: no" >&2; exit 1', "pg_dump: error: no"),
    "it kills itself": ('"$real" "$@" | head -c 100000; kill -KILL $$', "ended by SIGKILL"),
    "it leaves a table out": (
        'exec "$real" --exclude-table=records "$@"',
        "db.dump does not hold table public.records",
    ),
    "it leaves rows out": ('exec "$real" --exclude-table-data=orgs "$@"', "db.dump does not hold table public.orgs"),
    "it dumps in another format": ('exec "$real" "$@" --format=plain', "db.dump does not begin as a dump"),
}
PG_RESTORES = {
    "it fails": ("echo 'pg_restore: error: out of luck' >&2; exit 1", "pg_restore: error: out of luck"),
    "it crashes": ("kill -SEGV $$", "gave up: ended by SIGSEGV"),
    "it is killed": ("kill -KILL $$", "was ended by SIGKILL: run again"),
}
HANGING = {
    "pg_dump at once": ("pg_dump", "exec sleep 1000"),
    "pg_dump at its end": ("pg_dump", '"$real" "$@"; exec sleep 1000 >&-'),
    "pg_restore": ("pg_restore", "exec sleep 1000"),
}


class Programs:
    """A directory that stands first in PATH, with PostgreSQL's programs in it."""

    def __init__(self, directory: Path, real: Path) -> None:
        directory.mkdir()
        self.directory, self.real = directory, real
        for name in ("pg_dump", "pg_restore"):
            self.replace(name, 'exec "$real" "$@"')

    def replace(self, name: str, body: str) -> None:
        """Put a shell script there, which gives the real program's version and then does as it likes."""
        script = self.directory / name
        lines = ["#!/bin/sh", f"real='{self.real / name}'", '[ "$1" = --version ] && exec "$real" --version', body]
        script.write_text("\n".join(lines) + "\n", "utf-8")
        script.chmod(0o755)


@pytest.fixture
def programs(newest: Distribution, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    """Programs of the test's own, which are found before all others."""
    programs = Programs(tmp_path / "programs", newest.bin)
    monkeypatch.setenv("PATH", f"{programs.directory}{os.pathsep}{os.environ['PATH']}")
    return programs


@pytest.fixture
def refused(server: Vault, programs: Programs, run_cli: RunCli, left_clean: LeftClean) -> Callable[[str, str], str]:
    """A run with a program replaced; it fails and leaves nothing. Gives the line that it says."""

    def run(name: str, body: str) -> str:
        assert server.database
        programs.replace(name, body)
        line = only_line(run_cli("create", exit_code=4))
        left_clean()
        return line

    return run


@pytest.mark.parametrize("wrong", PG_DUMPS)
def test_a_dump_that_is_not_whole_is_no_backup(wrong: str, refused: Callable[[str, str], str]) -> None:
    body, words = PG_DUMPS[wrong]
    line = refused("pg_dump", body)
    assert line.startswith("borg-vault: hook database-dump: ")
    assert words in line


@pytest.mark.parametrize("wrong", PG_RESTORES)
def test_a_dump_that_cannot_be_read_to_its_end_is_no_backup(wrong: str, refused: Callable[[str, str], str]) -> None:
    body, words = PG_RESTORES[wrong]
    assert words in refused("pg_restore", body)


@pytest.mark.parametrize("hanging", HANGING)
def test_a_program_that_hangs_is_ended_after_the_timeout(
    hanging: str, programs: Programs, start: StartRun, write_config: WriteConfig, left_clean: LeftClean
) -> None:
    write_config('[database]\ntimeout = "1s"\n')
    programs.replace(*HANGING[hanging])
    line = only_line(start("create").ended(4))
    assert "hook database-dump did not finish within" in line
    assert "raise database.timeout" in line
    left_clean()


@pytest.mark.usefixtures("server")
def test_programs_in_path_that_do_their_work_are_as_good_as_any(programs: Programs, run_cli: RunCli) -> None:
    said = run_cli("-v", "create", "--dry-run", exit_code=0)
    assert str(programs.directory) in said.stdout


@pytest.fixture
def dumped(latest_vault: Vault, tmp_path: Path) -> tuple[bytes, Clients, tuple[DumpedTable, ...]]:
    """A whole dump, with what read it and which tables are in it."""
    with (
        open_snapshot(
            source_from_url(latest_vault.url), lock_timeout=timedelta(seconds=5), private=tmp_path
        ) as snapshot,
        snapshot.client_output("pg_dump", ["--format=custom", "--compress=0"]) as output,
    ):
        return output.read(), snapshot.clients, snapshot.tables


def test_a_dump_is_not_whole_wherever_it_is_cut(
    dumped: tuple[bytes, Clients, tuple[DumpedTable, ...]], tmp_path: Path
) -> None:
    whole, clients, tables = dumped
    path = tmp_path / "db.dump"
    path.write_bytes(whole)
    check_dump(path, clients, tables)
    for number in range(CUTS):
        with path.open("r+b") as file:
            file.truncate(len(whole) * (CUTS - number) // CUTS - 1)
        with pytest.raises(SourceError, match=r"is not whole|does not begin"):
            check_dump(path, clients, tables)
