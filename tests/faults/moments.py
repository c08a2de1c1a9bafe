"""Runs that are watched from outside until their moment has come.

What a run does is read off its narration (with -v each step, and each child when it starts and ends, has its line on
standard output), off /proc and off the files that it makes. Nothing in the program was made for this.
"""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import TypeVar

from fix_cli import COMMAND
from fix_fault_run import Process, Run, eventually, finish, launched, state_of

from faults.ground import Ground, Normal, Site
from faults.schedule import Case

Seen = TypeVar("Seen")

LOOK_SECONDS = 0.002
LONGEST_SECONDS = 120.0
BEFORE = r"^database |, PostgreSQL \d+: "  # the proxy cuts by itself, once enough bytes have passed; so hangs a hook
BORG, CLIENT = r"run: \S+/borg --log-json", r"run: \S+/pg_(dump|restore) (?!--version)"


class NotHereError(Exception):
    """What a fault needs is not to be had on this machine, or not by this account."""


@dataclass(slots=True)
class Scene:
    """One run of the schedule while it is played: what it has, and the processes that were started."""

    case: Case
    ground: Ground
    site: Site
    normal: Normal
    dice: Random
    runs: list[Run] = field(default_factory=list)
    url: str | None = None
    """Through a proxy."""
    before: tuple[str, ...] = ()
    """Words in front of the program's own."""
    variables: dict[str, str] = field(default_factory=dict)
    moment: str = ""
    """When it happened, in words."""
    happened: str | None = None
    """What was done, also when something went wrong afterwards."""
    codes: frozenset[int] | None = None
    """How exactly this run must end, where more is known than of every run with this fault."""
    says: str = ""
    """What must be in its messages."""
    last_words: list[str] = field(default_factory=list)
    """What the first run wrote to standard error."""

    def begin(self) -> Run:
        """Start the command."""
        place = self.site.place / f"run-{len(self.runs)}"
        place.mkdir()
        command = ["env", "--default-signal=INT", *self.before, str(COMMAND), *self.site.words(self.case.command)]
        environment = self.site.environment(self.url) | self.variables
        with (place / "stdout").open("wb") as stdout, (place / "stderr").open("wb") as stderr:
            self.runs.append(
                launched(command, place, stdout, stderr, plugins=self.site.place / "site", env=environment)
            )
        return self.runs[-1]

    def await_moment(self, run: Run, pattern: str | None) -> bool:
        """Wait until it is time; False when the run ended before. A pattern says which lines of narration count."""
        if pattern is None and self.case.kind == "random":
            self._await_instant(run)
            return run.popen.poll() is None
        return self._await_line(run, pattern or "") and run.popen.poll() is None

    def _await_instant(self, run: Run) -> None:
        wait = self.normal.seconds * self.case.place
        self.moment = f"{wait:.2f} s after its start"
        deadline = time.monotonic() + wait
        while time.monotonic() < deadline and run.popen.poll() is None:
            time.sleep(LOOK_SECONDS)

    def _await_line(self, run: Run, pattern: str) -> bool:
        usual = sum(1 for line in self.normal.lines if re.search(pattern, line))
        number = int(self.case.place * usual) + 1

        def look() -> str | None:
            lines = run.stdout.read_text("utf-8").splitlines(keepends=True)
            counted = [line for line in lines if line.endswith("\n") and re.search(pattern, line)]
            return counted[number - 1] if len(counted) >= number else None

        line = self.soon(run, look)
        if line is None:
            return False
        self.moment = f"at line {number} of {usual}: {told(line)}"
        if pattern and pattern != BEFORE and self.case.kind == "random":
            delay = self.dice.uniform(0, 0.4)
            self.moment += f", and {delay:.2f} s"
            time.sleep(delay)
        return True

    def soon(self, run: Run, look: Callable[[], Seen | None]) -> Seen | None:
        """Look until there is something to see or the run has ended."""
        deadline = time.monotonic() + LONGEST_SECONDS
        while time.monotonic() < deadline:
            ended = run.popen.poll() is not None
            if (seen := look()) is not None:
                return seen
            if ended:
                return None
            time.sleep(LOOK_SECONDS)
        return None

    def child(self, run: Run, *programs: str) -> Process | None:
        """Wait for a child that runs one of these programs, and does not only tell its version."""

        def look() -> Process | None:
            found = [one for one in run.children() if Path(program_of(one)).name in programs]
            return next((one for one in found if "--version" not in one.words), None)

        return self.soon(run, look)

    def ended(self, run: Run) -> int:
        """Wait for a run's end and give its exit code; a run that does not end is asked to, as a service is."""
        deadline = time.monotonic() + LONGEST_SECONDS
        while run.popen.poll() is None:
            if time.monotonic() > deadline:
                run.signal(signal.SIGTERM)
                deadline += LONGEST_SECONDS
            time.sleep(0.01)
        return run.popen.returncode

    def finish(self) -> None:
        """Kill whatever is left of all runs."""
        for run in self.runs:
            finish(run)


Strike = Callable[[Run], str | None]
"""Does it to a run and says what it did, or gives None when it came too late."""
Fault = Callable[[Scene], AbstractContextManager[Strike]]
"""Prepares a run before it begins, gives what strikes at the moment, and puts things right before the next run."""


@contextmanager
def standing_still(run: Run) -> Iterator[bool]:
    """Stop the program, not its children, while something is done; gives whether it was still there to be stopped."""
    run.popen.send_signal(signal.SIGSTOP)
    if run.popen.returncode is None:
        eventually(lambda: state_of(run.pid) in "TXZ", "the program stands still, or has ended")
    try:
        yield run.popen.poll() is None
    finally:
        run.popen.send_signal(signal.SIGCONT)


def program_of(process: Process) -> str:
    """Give the program that a process runs; that of a script is the script."""
    first = process.words[0]
    return process.words[1] if "python" in Path(first).name and len(process.words) > 1 else first


def told(line: str) -> str:
    """Give a line of narration without what differs from run to run."""
    words = re.sub(r"\S*/(\S+)", r"\1", line.strip())
    return words if len(words) <= 60 else f"{words[:57]}..."


def backends(postmaster: int) -> Iterator[tuple[int, str]]:
    """List the processes in which a server works for its clients, each with its title."""
    for pid in children_of(postmaster):
        title = title_of(pid)
        if re.match(r"postgres: postgres \S+ ", title):
            yield pid, title


def children_of(pid: int) -> Iterable[int]:
    """List the numbers of a process's children."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += map(int, task.read_text("utf-8").split())
        except OSError:
            continue
    return found


def title_of(pid: int) -> str:
    """Give a process's command line as one text."""
    try:
        return os.fsdecode(Path(f"/proc/{pid}/cmdline").read_bytes()).replace("\0", " ").strip()
    except OSError:
        return ""
