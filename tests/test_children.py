"""Children with much to say, and threads side by side: large output comes in large pieces, and nobody waits long."""

from __future__ import annotations

import fcntl
import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import IO, cast

import pytest
from fix_fault_run import eventually

from borg_vault_plugin import process
from borg_vault_plugin.process import WIDE_BYTES, child, plain_environment, run, widened
from borg_vault_plugin.side_by_side import TURN_SECONDS, TaskFailedError, side_by_side

MINUTE = timedelta(minutes=1)
SIZE = 5 * WIDE_BYTES + 12_345


def test_a_large_output_comes_whole_through_a_pipe_of_one_mebibyte() -> None:
    """All of it, in pieces that are larger than a usual pipe is."""
    write = f"import sys; sys.stdout.buffer.write(bytes(range(256)) * 256 * {SIZE // 65536 + 1})"
    with child([sys.executable, "-c", write], env=plain_environment()) as writing:
        stream = widened(cast(IO[bytes], writing.stdout))
        assert fcntl.fcntl(stream, fcntl.F_GETPIPE_SZ) == WIDE_BYTES
        pieces = list(iter(lambda: stream.read(WIDE_BYTES), b""))
        assert writing.wait(30) == 0
    expected = bytes(range(256)) * 256 * (SIZE // 65536 + 1)
    assert hashlib.sha256(b"".join(pieces)).digest() == hashlib.sha256(expected).digest()


def test_a_file_in_place_of_a_pipe_is_read_all_the_same() -> None:
    """Where a pipe cannot be made larger, it is read as it is."""
    with open(__file__, "rb") as stream:  # noqa: PTH123 - a buffered reader is what a child's output is
        assert widened(stream).read(10) == b'"""Childre'


@pytest.mark.parametrize("script", ["sleep 60; echo done", "sleep 60 & wait", "trap '' TERM; sleep 60"])
def test_a_child_that_is_late_is_ended_with_all_that_it_started(script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A script's own children hold its output open: nobody waits for them."""
    monkeypatch.setattr(process, "GRACE_SECONDS", 0.5)
    started: list[subprocess.Popen[bytes]] = []

    @contextmanager
    def kept(one: subprocess.Popen[bytes]) -> Iterator[None]:
        started.append(one)
        yield

    begun = time.monotonic()
    with pytest.raises(process.TimeoutExpired, match=r"^bash did not finish within 1 s and was ended$"):
        run(
            ["bash", "-c", script],
            env=plain_environment(),
            timeout=1,
            kept=kept,
        )
    assert time.monotonic() - begun < 30
    eventually(lambda: not list(living(started[0].pid)), "all are gone")


# An interruption that comes when the child is there, and nobody has its number yet.
FORKED = """
import os, signal, sys
from _posixsubprocess import fork_exec
from pathlib import Path
from borg_vault_plugin.process import child, plain_environment

def interrupt(frame, event, function):
    if event == "c_return" and function is fork_exec:
        sys.setprofile(None)
        print("forked")
        signal.raise_signal(signal.SIGINT)

signal.signal(signal.SIGINT, signal.default_int_handler)
sys.setprofile(interrupt)
try:
    with child(["sleep", "60"], env=plain_environment()):
        print("started")
except KeyboardInterrupt:
    print("children:", Path(f"/proc/self/task/{os.getpid()}/children").read_text())
"""


def test_a_child_that_was_just_forked_is_ended_too() -> None:
    done = subprocess.run([sys.executable, "-c", FORKED], check=False, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "forked\nchildren: \n", "")


def living(group: int) -> Iterator[str]:
    """Give what is known of every process of a group that is not only waiting to be reaped."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            about = path.read_text("utf-8")
            state, _parent, its_group = about.rpartition(")")[2].split()[:3]
            if int(its_group) == group and state != "Z":
                yield about


def test_what_a_child_leaves_running_does_not_hold_us_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "GRACE_SECONDS", 0.5)
    begun = time.monotonic()
    done = run(["bash", "-c", "sleep 60 & echo $!"], env=plain_environment(), timeout=30)
    assert time.monotonic() - begun < 30
    os.kill(int(done.stdout), signal.SIGKILL)


def test_tasks_take_short_turns_and_the_program_its_own_again() -> None:
    """While tasks run side by side a thread waits half a millisecond for its turn, and nothing of that stays."""
    before = sys.getswitchinterval()
    found = side_by_side({"turns": sys.getswitchinterval}, timeout=MINUTE, abandon=lambda: None)
    assert found == {"turns": pytest.approx(TURN_SECONDS)}
    assert sys.getswitchinterval() == before


def test_turns_are_as_before_when_a_task_fails() -> None:
    """A failure does not leave short turns behind."""
    before = sys.getswitchinterval()

    def fail() -> None:
        raise ValueError("on purpose")

    with pytest.raises(TaskFailedError, match="on purpose"):
        side_by_side({"failing": fail}, timeout=MINUTE, abandon=lambda: None)
    assert sys.getswitchinterval() == before
