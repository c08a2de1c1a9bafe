"""The program as a test calls it: in this process, or as the installed command. Every call states its exit code."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

COMMAND = Path(sys.executable).with_name("borg-vault")
SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Said:
    """What a run of the program wrote."""

    stdout: str
    stderr: str

    @property
    def document(self) -> Any:
        """The one JSON document on standard output."""
        return json.loads(self.stdout)


class RunCli(Protocol):
    """Runs the program in this process."""

    def __call__(self, *words: object, exit_code: int, warning: str | None = None) -> Said:
        """Run it and expect this exit code; a success writes nothing to standard error but the expected warning."""
        ...


class RunCommand(Protocol):
    """Runs the installed command."""

    def __call__(self, *words: object, exit_code: int, cwd: Path | None = None, pass_fds: Iterable[int] = ()) -> Said:
        """Run it and expect this exit code; a success writes nothing to standard error."""
        ...


def checked(said: Said, ended_with: object, exit_code: int, warning: str | None = None) -> Said:
    """Check how a run ended, and that one which went well kept standard error empty."""
    assert ended_with == exit_code, f"exit code {ended_with}, expected {exit_code}\n{said.stdout}\n{said.stderr}"
    if warning is not None:
        assert warning in said.stderr, said.stderr
    elif exit_code == 0:
        assert said.stderr == "", said.stderr
    return said
