"""Runs of the installed command that a test looks into, stops and ends, and what must hold when they are over.

Every process of a run is known by one variable that the program hands on to its children, so that one which outlived
its parent is found, too. Whenever a test looks at a run's processes, no command line and no environment among them may
hold a secret; whenever a run is over, no process of it may be there, and no message may hold a secret or a traceback.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Protocol, TypeVar
from urllib.parse import urlsplit

import pytest
from fix_cli import COMMAND, Said, checked
from fix_repository import PlainRepository

Value = TypeVar("Value")

MARKER = "XDG_RUNTIME_DIR"  # one of the variables that every child of the program gets
SECONDS = 60.0
PAUSE_SECONDS = 0.01
PR_SET_CHILD_SUBREAPER = 36
PLAIN_NAME = re.compile(r".*-\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z")


def eventually(look: Callable[[], Value | None], awaited: str, *, seconds: float = SECONDS) -> Value:
    """Look again and again until there is something to see; fail when there is not in time."""
    deadline = time.monotonic() + seconds
    while not (seen := look()):
        assert time.monotonic() < deadline, f"still not: {awaited}"
        time.sleep(PAUSE_SECONDS)
    return seen


@dataclass(frozen=True, slots=True)
class Process:
    """One process of a run: its words and its environment as the kernel shows them."""

    pid: int
    words: tuple[str, ...]
    environment: bytes

    @property
    def is_program(self) -> bool:
        """Whether it is what it was started for: neither the program itself, just forked, nor setpriv before that."""
        return str(COMMAND) not in self.words[:4] and not self.words[0].endswith("setpriv")

    def was_called_with(self, beginnings: Iterable[str]) -> bool:
        """Say whether there is a word on its command line for each of these beginnings."""
        return all(any(word.startswith(beginning) for word in self.words) for beginning in beginnings)

    def stop(self) -> None:
        """Stop it, and wait until it has stopped."""
        os.kill(self.pid, signal.SIGSTOP)
        eventually(lambda: state_of(self.pid) in "TZ", f"process {self.pid} stopped")

    def go_on(self) -> None:
        """Let it go on, if it is still there."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        """Kill it."""
        os.kill(self.pid, signal.SIGKILL)

    def was_asked_to_end(self) -> bool:
        """Say whether a SIGTERM waits for it, as it does for one that was stopped."""
        try:
            status = Path(f"/proc/{self.pid}/status").read_text("utf-8")
        except OSError:
            return True
        waiting = re.findall(r"^(?:Shd|Sig)Pnd:\s*([0-9a-f]+)$", status, re.MULTILINE)
        return any(int(mask, 16) >> (signal.SIGTERM - 1) & 1 for mask in waiting)


def state_of(pid: int) -> str:
    """Give a process's state as /proc has it; Z when there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


def process(pid: int) -> Process | None:
    """Look at a process; None when it is gone, or was about to begin or to end."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[:-1]
        environment = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return None
    return Process(pid, tuple(os.fsdecode(word) for word in words), environment) if words and environment else None


def children_of(pid: int) -> Iterator[Process]:
    """List a process's children, whichever of its threads started them."""
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            yield from filter(None, map(process, map(int, task.read_text("utf-8").split())))


def processes_of(marker: str) -> Iterator[Process]:
    """Find every process that carries a marker in its environment, whoever its parent is."""
    variable = f"{MARKER}={marker}".encode()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            found = process(int(entry.name))
            if found and variable in found.environment.split(b"\0"):
                yield found


@dataclass
class Run:
    """One run of the installed command, in the background."""

    popen: subprocess.Popen[bytes]
    stdout: Path
    stderr: Path
    marker: str
    secrets: tuple[str, ...]
    _known: set[int] = field(default_factory=set)

    @property
    def pid(self) -> int:
        """Its process number."""
        return self.popen.pid

    def children(self) -> list[Process]:
        """List the programs that it runs right now; none of them shows a secret."""
        found = [one for one in children_of(self.pid) if one.is_program]
        self._known |= {one.pid for one in found}
        for one in found:
            shown = b"\n".join([*map(os.fsencode, one.words), one.environment])
            assert not self._betrayed(shown), f"a secret shows in {one.words}"
        return found

    def child(self, *beginnings: str) -> Process:
        """Wait for the child on whose command line words begin like this."""

        def look() -> Process | None:
            return next((one for one in self.children() if one.was_called_with(beginnings)), None)

        return self.until(look, f"a child called with {beginnings}")

    def until(self, look: Callable[[], Value | None], awaited: str) -> Value:
        """Look again and again until there is something to see; fail when the run ends before."""

        def watch() -> Value | None:
            seen = look()
            assert seen or self.popen.poll() is None, f"ended, but not: {awaited}: {self.said()}"
            return seen

        return eventually(watch, awaited)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the run itself, and to nothing that it started."""
        self.children()
        self.popen.send_signal(number)

    def said(self) -> Said:
        """Give what it wrote so far."""
        return Said(self.stdout.read_text("utf-8"), self.stderr.read_text("utf-8"))

    def ended(self, exit_code: int, *, seconds: float = SECONDS) -> Said:
        """Wait for its end; check its exit code, that nothing of it still runs, and that its messages are clean."""
        try:
            code = self.popen.wait(seconds)
        except subprocess.TimeoutExpired:
            pytest.fail(f"still runs after {seconds:.0f} s: {self.said()}")
        said = checked(self.said(), code, exit_code)
        eventually(lambda: not self.survivors(), "no process of the run survives it", seconds=5)
        assert not self._betrayed((said.stdout + said.stderr).encode())
        assert "Traceback" not in said.stderr
        return said

    def survivors(self) -> list[Process]:
        """List the processes that are left of it, reaping those that ended."""
        for pid in tuple(self._known):
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
            if not Path(f"/proc/{pid}").exists():
                self._known.discard(pid)
        return [*processes_of(self.marker), *(Process(pid, (), b"") for pid in self._known)]

    def _betrayed(self, text: bytes) -> bool:
        return any(secret.encode() in text for secret in self.secrets)


class StartRun(Protocol):
    """Starts runs."""

    def __call__(self, *words: object) -> Run:
        """Start the installed command in the environment of the test."""
        ...


def launched(
    command: list[str],
    place: Path,
    stdout: IO[bytes],
    stderr: IO[bytes],
    *,
    plugins: Path,
    env: Mapping[str, str] = os.environ,
) -> Run:
    """Start a command whose children can be told from all others by the marker in their environment."""
    environment = {**env, MARKER: str(place), "PYTHONPATH": str(plugins)}
    secrets = (urlsplit(env.get("DATABASE_URL", "")).password, env.get("BORG_PASSPHRASE"))
    popen = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, env=environment)
    run = Run(popen, place / "stdout", place / "stderr", str(place), tuple(one for one in secrets if one))
    eventually(lambda: "env" not in own_words(popen.pid)[:1], "the command runs")
    return run


def own_words(pid: int) -> list[str]:
    """Give the words of a process's command; none when it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text("utf-8").split("\0")[:-1]
    except OSError:
        return []


def finish(run: Run) -> None:
    """Kill what is left of a run that a failed test has abandoned."""
    for one in processes_of(run.marker):
        with contextlib.suppress(ProcessLookupError):
            one.kill()
    run.popen.wait(SECONDS)
    run.survivors()


def adopt_orphans(*, adopt: bool) -> None:
    """Become the parent of children whose parent was killed, so that they can be reaped here whoever is process 1."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, int(adopt), 0, 0, 0)


def only_line(said: Said) -> str:
    """Give the one line that a failed run says on standard error."""
    lines = said.stderr.splitlines()
    assert len(lines) == 1, said.stderr
    return lines[0]


def whole_archives(repository: PlainRepository, directory: Path) -> list[str]:
    """Give the names of all archives; the plainly named are checked with nothing but borg and sha256sum."""
    names = repository.names()
    for name in filter(PLAIN_NAME.fullmatch, names):
        extracted = repository.extract(name, directory / name.replace(":", ""))
        command = ["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"]
        done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=extracted)
        assert (done.returncode, done.stdout + done.stderr) == (0, ""), name
        listed = {line.split("  ", 1)[1] for line in (extracted / "SHA256SUMS").read_text("utf-8").splitlines()}
        there = {path.relative_to(extracted).as_posix() for path in extracted.rglob("*") if path.is_file()}
        assert there == listed | {"SHA256SUMS"}
    return names


class LeftClean(Protocol):
    """Checks what a run that failed has left."""

    def __call__(self, *, repository_too: bool = True) -> None:
        """Check that there is no staging, no lock and, unless it was at work there, that the repository is the same."""
        ...


def segments(repository: PlainRepository) -> dict[str, int]:
    """List the files that hold a repository's data, with their sizes."""
    return {path.name: path.stat().st_size for path in (repository.path / "data").glob("*/*")}


def staged(state: Path) -> list[Path]:
    """List what is in the staging directories of all runs."""
    return sorted((state / "staging").glob("*/*"))
