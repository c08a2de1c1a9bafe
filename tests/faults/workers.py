"""Two workers that play a schedule side by side, each on a server of its own."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import queue
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from multiprocessing.queues import Queue
from pathlib import Path

from fix_fault_run import adopt_orphans

from faults.ground import COMMANDS, Nights, Normal, as_usual, ground_on, versions
from faults.play import Result, play
from faults.schedule import Case

WORKERS = 2
LOOK_SECONDS = 5.0

Versions = dict[str, str]


@dataclass(frozen=True, slots=True)
class Job:
    """A run to play or, without one, a command to be seen going as usual."""

    command: str
    case: Case | None = None
    normal: Normal | None = None


Done = Result | tuple[str, Normal] | Versions


def played(nights: Nights, cases: list[Case], tell: Callable[[Result], None]) -> tuple[list[Result], Versions]:
    """Play all runs, telling each when it is over; give them in the order of the schedule, and what they ran with.

    After Ctrl-C (or SIGTERM) the runs that have begun are played to their ends, and no others.
    """
    context = multiprocessing.get_context("spawn")
    jobs: Queue[Job | None] = context.Queue()
    done: Queue[Done] = context.Queue()
    places = [nights.place / f"worker-{number}" for number in range(min(WORKERS, len(cases)))]
    working = [context.Process(target=_work, args=(nights, place, jobs, done)) for place in places]
    for process in working:
        process.start()
    heard, queued = Heard(done, working, tell), 0
    commands = sorted({case.command for case in cases}, key=list(COMMANDS).index)
    try:
        for command in commands:
            jobs.put(Job(command))
        heard.until(lambda: len(heard.normal) == len(commands))
        for case in cases:
            jobs.put(Job(case.command, case, heard.normal[case.command]))
            queued += 1
        heard.until(lambda: len(heard.results) == len(cases))
    except KeyboardInterrupt:
        begun = queued - _left_out(jobs)
        heard.until(lambda: len(heard.results) == begun)
    finally:
        for _ in working:
            jobs.put(None)
        for process in working:
            process.join()
    return sorted(heard.results, key=lambda result: result.case.number), heard.made_with


@dataclass(slots=True)
class Heard:
    """What the workers have said so far."""

    said: Queue[Done]
    working: Sequence[BaseProcess]
    tell: Callable[[Result], None]
    normal: dict[str, Normal] = field(default_factory=dict)
    results: list[Result] = field(default_factory=list)
    made_with: Versions = field(default_factory=dict)

    def until(self, enough: Callable[[], bool]) -> None:
        """Listen until there is enough."""
        while not enough():
            match self._next():
                case Result() as result:
                    self.results.append(result)
                    self.tell(result)
                case (command, normal):
                    self.normal[command] = normal
                case dict() as made_with:
                    self.made_with = made_with

    def _next(self) -> Done:
        """Give what a worker says next, unless one of them has died."""
        while True:
            try:
                return self.said.get(timeout=LOOK_SECONDS)
            except queue.Empty:
                if not all(process.is_alive() for process in self.working):
                    raise RuntimeError("a worker has died: see what it said above") from None


def _left_out(jobs: Queue[Job | None]) -> int:
    """Take back what nobody has begun, and give how many runs that were."""
    count = 0
    with contextlib.suppress(queue.Empty):
        while True:
            job = jobs.get(timeout=1)
            count += job is not None and job.case is not None
    return count


def _work(nights: Nights, place: Path, jobs: Queue[Job | None], done: Queue[Done]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    adopt_orphans(adopt=True)
    os.umask(0o022)
    with ground_on(nights, place) as ground:
        done.put(versions(ground))
        while (job := jobs.get()) is not None:
            if job.case is None or job.normal is None:
                done.put((job.command, as_usual(ground, job.command)))
            else:
                done.put(play(ground, job.normal, job.case))
