"""Tasks side by side, each in a thread of its own: the first that fails or is late ends them all."""

from __future__ import annotations

import contextlib
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta

JOIN_SECONDS = 10.0
# Python's own 5 ms would keep a thread that only copies from its pipe, time after time, while another one works.
TURN_SECONDS = 0.0005

Outcome = tuple[str, object, BaseException | None]


class TaskFailedError(Exception):
    """One task raised: its name and, as the cause, what it raised."""

    def __init__(self, name: str, error: BaseException) -> None:
        super().__init__(f"{name}: {error}")
        self.name = name
        self.error = error


class TasksLateError(Exception):
    """Some tasks did not finish in time: their names."""

    def __init__(self, names: list[str]) -> None:
        super().__init__(", ".join(names))
        self.names = names


def side_by_side(
    tasks: Mapping[str, Callable[[], object]],
    *,
    timeout: timedelta,
    abandon: Callable[[], None],
    patience: float = JOIN_SECONDS,
) -> dict[str, object]:
    """Run every task and give what each returned, by its name.

    `abandon` is called at the end, good or bad, and must make every task that still runs fail within the seconds of
    `patience`; whoever does not is left behind.
    Raises TaskFailedError for the first that fails, TasksLateError.
    """
    outcomes: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
    # Daemons: a task that hangs must not keep the program from ending.
    threads = [
        threading.Thread(target=_run, args=(name, task, outcomes), name=name, daemon=True)
        for name, task in tasks.items()
    ]
    try:
        with _short_turns():
            for thread in threads:
                thread.start()
            return _gathered(outcomes, set(tasks), timeout)
    finally:
        abandon()
        deadline = time.monotonic() + patience
        for thread in threads:
            if thread.ident is not None:
                thread.join(max(0.0, deadline - time.monotonic()))


@contextlib.contextmanager
def _short_turns() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(TURN_SECONDS)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def _run(name: str, task: Callable[[], object], outcomes: queue.SimpleQueue[Outcome]) -> None:
    try:
        outcomes.put((name, task(), None))
    except BaseException as error:  # noqa: BLE001 - handed to the thread that waits
        outcomes.put((name, None, error))


def _gathered(outcomes: queue.SimpleQueue[Outcome], awaited: set[str], timeout: timedelta) -> dict[str, object]:
    deadline = time.monotonic() + timeout.total_seconds()
    results: dict[str, object] = {}
    while awaited:
        try:
            name, result, error = outcomes.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            raise TasksLateError(sorted(awaited)) from None
        if error is not None:
            raise TaskFailedError(name, error) from error
        awaited.discard(name)
        results[name] = result
    return results
