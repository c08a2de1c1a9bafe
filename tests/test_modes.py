"""Whatever is written is for its owner alone, whatever the umask: files 0600, directories 0700, also while it lasts."""

from __future__ import annotations

import os
import stat
import subprocess
import tempfile
from pathlib import Path

import pytest
from fix_cli import COMMAND, SECONDS
from fix_history import Server
from fix_secrets import looking

pytest_plugins = ("fix_server", "fix_good_night")

BETWEEN_LOOKS = 0.02


class Modes:
    """The modes of all that was to be seen below some directories."""

    def __init__(self, *places: Path) -> None:
        self.places = places
        self.wrong: dict[str, str] = {}
        self.seen: set[str] = set()

    def look(self) -> None:
        """Look at everything that is there right now; what only its owner can reach counts as closed by that."""
        for place in self.places:
            for parent, directories, names in os.walk(place):
                for name in (*directories, *names):
                    self._note(Path(parent) / name)

    def _note(self, path: Path) -> None:
        try:
            mode = path.lstat().st_mode
        except OSError:
            return
        self.seen.add(path.name)
        open_to_others = stat.S_IMODE(mode) & 0o7077
        if open_to_others and not stat.S_ISLNK(mode) and not stat.S_ISSOCK(mode):
            self.wrong[str(path)] = stat.filemode(mode)


def test_whatever_the_umask_nobody_else_can_read_what_is_written(
    seasoned: Server, tmp_path: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    out.mkdir(mode=0o700)
    commands = (
        ("init", "--key-out", out / "key"),
        ("create", "--no-prune"),
        ("stage", out / "staged"),
        ("drill", "--evidence", out / "evidence"),
        ("restore", "--only", "chain", out / "chain"),
        ("export", "latest", out / "server.tar.gz"),
        ("dump-chain", out / "dumped"),
    )
    os.umask(0)
    with tempfile.TemporaryDirectory(prefix="bv-modes-") as temporary:
        monkeypatch.setenv("TMPDIR", temporary)
        modes = Modes(out, state, Path(temporary))
        with looking(modes.look, BETWEEN_LOOKS):
            for words in commands:
                command = [str(COMMAND), *map(str, words)]
                done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=SECONDS)
                assert done.returncode == 0, (words, done.stdout, done.stderr)
        modes.look()
    written = {"key", "manifest.json", "drill.html", "drill.json", "server.tar.gz", "audit_vault.ndjson"}
    transient = {".db.dump.partial", "db.dump", "history.ndjson", "pgpass"}
    assert written | transient <= modes.seen
    assert modes.wrong == {}
    assert seasoned.name in seasoned.repository.names()
