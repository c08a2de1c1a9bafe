"""Running a command and seeing what it takes: time, processor, memory of its whole tree of processes, files.

Twenty times a second the tree is walked through /proc. Memory is PSS: a page that three processes share counts a third
in each. The peak of the program itself is the kernel's own high-water mark of its resident set. Processor time is what
the kernel accounts to the ended tree, and beside it what the PostgreSQL server spent.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from borg_vault_plugin import process

TICK_SECONDS = 0.05
FILES_EVERY_TICKS = 4
LONGEST_SECONDS = 4 * 3600.0
REAP_SECONDS = 10.0
PR_SET_CHILD_SUBREAPER = 36
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
KILOBYTE = 1024
LAST_LINES = 12


class Cost(msgspec.Struct, frozen=True):
    """What a command took: seconds and bytes."""

    seconds: float
    cpu_seconds: float
    """Of the program and everything that it started."""
    server_cpu_seconds: float
    """Of the PostgreSQL server on its behalf."""
    program_bytes: int
    """The program's own largest resident set."""
    children_bytes: int
    """The largest sum over the processes below it."""
    tree_bytes: int
    """The largest sum over all of them."""
    temporary_bytes: int
    """The most that lay in its working directory at once."""

    def then(self, following: Cost) -> Cost:
        """Give the cost of two commands that ran one after the other."""
        return Cost(
            self.seconds + following.seconds,
            self.cpu_seconds + following.cpu_seconds,
            self.server_cpu_seconds + following.server_cpu_seconds,
            max(self.program_bytes, following.program_bytes),
            max(self.children_bytes, following.children_bytes),
            max(self.tree_bytes, following.tree_bytes),
            max(self.temporary_bytes, following.temporary_bytes),
        )


@dataclass(slots=True)
class Watch:
    """What was seen of a tree of processes so far."""

    pid: int
    directory: Path
    own: int = 0
    children: int = 0
    tree: int = 0
    temporary: int = 0
    seen: set[int] = field(default_factory=set)

    def look(self, tick: int) -> None:
        """Walk the tree once."""
        below = [pid for pid in descendants(self.pid) if pid != self.pid]
        self.seen.update(below)
        self.own = max(self.own, status_bytes(self.pid, "VmHWM"))
        children = sum(map(shared_bytes, below))
        self.children = max(self.children, children)
        self.tree = max(self.tree, children + shared_bytes(self.pid))
        if tick % FILES_EVERY_TICKS == 0:
            self.temporary = max(self.temporary, directory_bytes(self.directory))


@contextlib.contextmanager
def adopting_orphans() -> Iterator[None]:
    """Have processes whose parent ends become ours: only who reaps a process learns what it took."""
    kernel = ctypes.CDLL(None)
    kernel.prctl(PR_SET_CHILD_SUBREAPER, 1)
    try:
        yield
    finally:
        kernel.prctl(PR_SET_CHILD_SUBREAPER, 0)


def measured(
    command: Sequence[str | Path], *, env: Mapping[str, str], directory: Path, server: int | None = None
) -> tuple[bytes, Cost]:
    """Run a command in a directory to its end; give what it printed, and its cost.

    `server` is the process of a PostgreSQL server that works for it. Raises RuntimeError when the command fails.
    """
    os.sync()
    aside, server_cpu, cpu = _backends(server), _server_cpu(server), _reaped_cpu()
    output, errors = directory.with_suffix(".stdout"), directory.with_suffix(".stderr")
    with output.open("wb") as stdout, errors.open("wb") as stderr:
        begun = time.monotonic()
        with process.child(command, env=env, stdout=stdout, stderr=stderr, cwd=directory) as child:
            watch = Watch(child.pid, directory)
            with _watching(watch):
                child.wait(LONGEST_SECONDS)
                seconds = time.monotonic() - begun
    if child.returncode:
        said = (errors.read_text() or output.read_text()).strip().splitlines()[-LAST_LINES:]
        raise RuntimeError("\n".join([f"{Path(str(command[0])).name}: {process.ending(child.returncode)}", *said]))
    _reap(watch.seen)
    _until_alone(server, aside)
    cost = Cost(
        seconds=round(seconds, 3),
        cpu_seconds=round(_reaped_cpu() - cpu, 3),
        server_cpu_seconds=round(_server_cpu(server) - server_cpu, 3),
        program_bytes=watch.own,
        children_bytes=watch.children,
        tree_bytes=max(watch.tree, watch.own),
        temporary_bytes=max(watch.temporary, directory_bytes(directory)),
    )
    return output.read_bytes(), cost


def directory_bytes(directory: Path) -> int:
    """Give what the files below a directory take on disk."""
    total = 0
    for parent, _, names in os.walk(directory):
        for name in names:
            with contextlib.suppress(OSError):
                total += Path(parent, name).lstat().st_blocks * 512
    return total


def descendants(pid: int) -> Iterator[int]:
    """Give a process and all below it, as far as they still are there."""
    yield pid
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):
                for child in (task / "children").read_text().split():
                    yield from descendants(int(child))


def status_bytes(pid: int, name: str) -> int:
    """Give a size from a process's status; 0 when it is gone."""
    return _kilobytes(f"/proc/{pid}/status", name) * KILOBYTE


def shared_bytes(pid: int) -> int:
    """Give a process's share of the memory that it uses; 0 when it is gone."""
    return _kilobytes(f"/proc/{pid}/smaps_rollup", "Pss") * KILOBYTE


def _kilobytes(path: str, name: str) -> int:
    with contextlib.suppress(OSError):
        for line in Path(path).read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1])
    return 0


@contextlib.contextmanager
def _watching(watch: Watch) -> Iterator[None]:
    over = threading.Event()

    def look() -> None:
        tick = 0
        while not over.wait(TICK_SECONDS):
            watch.look(tick)
            tick += 1

    watch.look(0)
    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _reap(pids: set[int]) -> None:
    """Wait for what a command left running for a moment, such as the server of its worker processes."""
    deadline = time.monotonic() + REAP_SECONDS
    for pid in pids:
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(pid, os.WNOHANG) == (0, 0) and time.monotonic() < deadline:
                time.sleep(0.01)


def _reaped_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _server_cpu(server: int | None) -> float:
    """Give what a server and its backends that have ended used."""
    if server is None:
        return 0.0
    fields = Path(f"/proc/{server}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / CLOCK_TICKS


def _backends(server: int | None) -> set[int]:
    return set() if server is None else set(descendants(server))


def _until_alone(server: int | None, aside: set[int]) -> None:
    """Wait until the backends of a command have ended, for their time is counted then."""
    deadline = time.monotonic() + REAP_SECONDS
    while _backends(server) - aside and time.monotonic() < deadline:
        time.sleep(0.01)
