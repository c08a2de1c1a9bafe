"""Child processes: each has a timeout, dies with us, and is ended and reaped before its `with` closes.

The environment of a child is built from a list, never inherited: a secret that an operator exported for
one program is nobody else's business. `setpriv --pdeathsig` (util-linux) makes the kernel end the child when
the thread that started it dies, without the Python code between fork and exec that `preexec_fn` would run.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import logging
import os
import re
import shlex
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

logger = logging.getLogger(__name__)

# What any program may need and what holds no secret of ours. PATH: to find ssh; HOME: ssh and Borg keep files there.
PLAIN_VARIABLES = (
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "TMPDIR",
    "SSH_AUTH_SOCK",
    "XDG_RUNTIME_DIR",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
)
Kept = Callable[[subprocess.Popen[bytes]], AbstractContextManager[object]]
Feed = Callable[[IO[bytes]], None]
GRACE_SECONDS = 10.0
WIDE_BYTES = 1 << 20  # as much as Linux gives to everybody (pipe(7), pipe-max-size)


@dataclass(frozen=True, slots=True)
class Finished:
    """A child that ended: its exit status (negative: ended by that signal) and what it wrote."""

    returncode: int
    stdout: bytes
    stderr: bytes

    def last_words(self) -> str:
        """Give the line of stderr that says why it failed, for an error message."""
        return reason(self.stderr)


class TimeoutExpired(Exception):
    """A child was ended because it did not finish in time."""


def last_line(text: bytes) -> str:
    """Give the last line that is not blank, as text."""
    lines = [line.strip() for line in text.decode("utf-8", "replace").splitlines() if line.strip()]
    return lines[-1] if lines else "no message"


def reason(text: bytes) -> str:
    """Give the line of a program's output that says why it ended: the last that is an error, else the last."""
    telling = [line for line in text.splitlines() if re.search(rb"FATAL:|PANIC:|[Ee][Rr][Rr][Oo][Rr]:", line)]
    return last_line(telling[-1] if telling else text)


def plain_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Build a child's environment from the list of harmless variables, a UTF-8 locale, and `extra`."""
    kept = {name: os.environ[name] for name in PLAIN_VARIABLES if name in os.environ}
    return kept | {"LC_ALL": "C.UTF-8"} | dict(extra or {})


def dying_with_us(command: Sequence[str | Path]) -> list[str]:
    """Give the command that runs `command` and has the kernel end it when we die."""
    setpriv = shutil.which("setpriv")
    prefix = [setpriv, "--pdeathsig", "KILL", "--"] if setpriv else []
    return prefix + [str(word) for word in command]


class _Child(subprocess.Popen[bytes]):
    """A child that is ended, too, when an interruption comes while it is being started."""

    def __init__(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401 - what Popen takes
        before = _children()
        try:
            super().__init__(*arguments, **options)
        except BaseException:
            # It may be there already, and only its number be lost with what was interrupted.
            for pid in _children() - before:
                self.pid = pid
                end(self)
            raise


def _children() -> set[int]:
    """Give the children that this thread has started (proc(5): task/TID/children)."""
    with contextlib.suppress(OSError):
        return set(map(int, Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text("ascii").split()))
    return set()


@contextlib.contextmanager
def child(
    command: Sequence[str | Path],
    *,
    env: Mapping[str, str],
    stdin: int | IO[bytes] = subprocess.DEVNULL,
    stdout: int | IO[bytes] = subprocess.PIPE,
    stderr: int | IO[bytes] = subprocess.PIPE,
    cwd: Path | None = None,
    pass_fds: Iterable[int] = (),
    feed: Feed | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Start a child; on leaving it is gone: asked to stop, then killed, and reaped.

    A session of its own keeps a terminal's Ctrl-C from reaching it before we have decided what to do. `feed` writes its
    standard input in another thread, which stays open until the child has ended.
    """
    logger.debug("run: %s", shlex.join(str(word) for word in command))
    process = _Child(
        dying_with_us(command),
        env=dict(env),
        stdin=subprocess.PIPE if feed else stdin,
        stdout=stdout,
        stderr=stderr,
        cwd=cwd,
        pass_fds=tuple(pass_fds),
        start_new_session=True,
    )
    feeding = threading.Thread(target=_write, args=(feed, process.stdin), daemon=True) if feed else None
    try:
        if feeding is not None:
            feeding.start()
        yield process
    finally:
        end(process)
        if feeding is not None:
            feeding.join(GRACE_SECONDS)
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()


def _write(feed: Feed, stream: IO[bytes]) -> None:
    """Write a child's standard input; a child that has ended takes no more, and one that waits in vain sees its end."""
    try:
        feed(stream)
    except OSError:
        with contextlib.suppress(OSError):
            stream.close()


def widened(stream: IO[bytes]) -> IO[bytes]:
    """Give a child's output so that one read takes up to 1 MiB, and the child goes on writing meanwhile.

    For output that is large: every read may have to wait for the other threads of this program.
    """
    with contextlib.suppress(OSError):  # the user's pipes may already have all that they are given
        fcntl.fcntl(stream, fcntl.F_SETPIPE_SZ, WIDE_BYTES)
    return cast(IO[bytes], cast(io.BufferedReader, stream).raw)


def end(process: subprocess.Popen[bytes]) -> None:
    """End a child if it still runs: SIGTERM, ten seconds of grace, SIGKILL; reap it, and kill what it has left."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    with contextlib.suppress(OSError):  # there is no such group, or nobody left in it
        os.killpg(process.pid, signal.SIGKILL)


def run(
    command: Sequence[str | Path],
    *,
    env: Mapping[str, str],
    timeout: float,
    cwd: Path | None = None,
    pass_fds: Iterable[int] = (),
    on_message: Callable[[bytes], None] | None = None,
    kept: Kept = contextlib.nullcontext,
    feed: Feed | None = None,
) -> Finished:
    """Run a child to its end and give what it wrote.

    `timeout` is in seconds; `on_message` hears every line of its stderr at once, from another thread; `kept` is told of
    the child as long as it runs, so that somebody else can end it; `feed` writes its standard input.
    Raises TimeoutExpired when the child had to be ended, OSError when it cannot be started.
    """
    messages: list[bytes] = []
    with child(command, env=env, cwd=cwd, pass_fds=pass_fds, feed=feed) as process, kept(process):
        listening = threading.Thread(target=_listen, args=(process.stderr, messages, on_message), daemon=True)
        output: list[bytes] = []
        reading = threading.Thread(target=_listen, args=(process.stdout, output, None), daemon=True)
        # Their threads close them: to do it here could wait for whoever else may still hold the other end.
        process.stdout = process.stderr = None
        try:
            for thread in (listening, reading):
                thread.start()
            process.wait(timeout)
            for thread in (listening, reading):
                thread.join(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            raise TimeoutExpired(
                f"{Path(str(command[0])).name} did not finish within {timeout:.0f} s and was ended"
            ) from None
    return Finished(process.returncode, b"".join(output), b"".join(messages))


def _listen(stream: IO[bytes], lines: list[bytes], on_line: Callable[[bytes], None] | None) -> None:
    """Take every line from a stream; two pipes that are read one after the other can hang."""
    with stream:
        for line in stream:
            lines.append(line)
            if on_line is not None:
                on_line(line)


def ending(returncode: int) -> str:
    """Say how a child ended, in words."""
    if returncode >= 0:
        return f"exit code {returncode}"
    try:
        return f"ended by {signal.Signals(-returncode).name}"
    except ValueError:
        return f"ended by signal {-returncode}"
